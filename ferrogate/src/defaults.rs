//! Defaults that depend on who and where we are: ports, the state folder, the node's name.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

/// The host name, for a node that was given no other.
pub(crate) fn node_name(given: Option<&str>) -> Arc<str> {
    let host = || fs::read_to_string("/proc/sys/kernel/hostname").map(|name| name.trim().to_owned());
    given.map_or_else(|| host().unwrap_or_else(|_| "localhost".to_owned()).into(), Into::into)
}

/// Whether we are the superuser.
pub(crate) fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// The addresses given, or every address on `port` if this process may have it and on `otherwise` if not.
pub(crate) fn listeners(given: &[SocketAddr], port: u16, otherwise: u16) -> Vec<SocketAddr> {
    if !given.is_empty() {
        return given.to_vec();
    }
    let port = if may_bind(port) { port } else { otherwise };
    vec![(Ipv4Addr::UNSPECIFIED, port).into()]
}

/// Whether the kernel lets us have a port; one that is in use counts as ours to have, so that the failure to bind it
/// is told instead of hidden by another port.
fn may_bind(port: u16) -> bool {
    let refused = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).err();
    refused.is_none_or(|error| error.kind() != io::ErrorKind::PermissionDenied)
}

/// Where the state of a folder of manifests is kept, if nothing else is said: one folder for each of them.
///
/// `None` when there is no home to keep it in.
pub(crate) fn state_dir(manifests: &Path) -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = if is_root() {
        PathBuf::from("/var/lib")
    } else {
        absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")))?
    };
    Some(base.join("ferrogate").join(slug(manifests)))
}

/// A file name for a path: its last part, for people, and a digest of the whole, so that no two share one.
fn slug(path: &Path) -> String {
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let name: String = path
        .file_name()
        .map(|name| {
            name.to_string_lossy().chars().filter(|char| char.is_ascii_alphanumeric() || *char == '-').collect()
        })
        .unwrap_or_default();
    let digest = Sha256::digest(path.as_os_str().as_encoded_bytes());
    let [a, b, c, d, ..] = <[u8; 32]>::from(digest);
    format!("{}-{a:02x}{b:02x}{c:02x}{d:02x}", if name.is_empty() { "manifests" } else { &name })
}

/// Creates `dir` if needed and proves that a file can be written there.
pub(crate) fn prove_writable(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let probe = dir.join(format!(".probe-{}", std::process::id()));
    fs::write(&probe, b"")?;
    fs::remove_file(probe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slug_tells_paths_of_one_name_apart_and_does_not_change() {
        let (one, other) = (slug(Path::new("/nowhere/a/quickstart")), slug(Path::new("/nowhere/b/quickstart")));
        assert_eq!(one, "quickstart-28005549");
        assert_ne!(one, other);
        assert!(slug(Path::new("/")).starts_with("manifests-"));
    }

    #[test]
    fn given_addresses_are_taken_as_they_are() {
        let given = ["127.0.0.1:1".parse().unwrap()];
        assert_eq!(listeners(&given, 80, 8080), given);
    }
}
