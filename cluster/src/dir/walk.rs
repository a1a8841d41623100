//! Finds the manifest files below a folder.
//!
//! Hidden names are passed over: they are swap and lock files of editors, and the `..data` folders behind a mounted
//! `ConfigMap`, whose files are reached through the links beside them. Symbolic links are followed; a folder that is
//! reached twice is read once, so that loops end.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::read::Signature;

/// Device and inode: which folder a name stands for.
pub(super) type Identity = (u64, u64);

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Manifest files; an error for a link that leads nowhere.
    pub(super) files: BTreeMap<PathBuf, Result<Signature, io::Error>>,
    /// Folders that cannot be listed.
    pub(super) failed: Vec<(PathBuf, io::Error)>,
}

/// Lists the manifests below `root`, except in the folder `excluded`; which folder `root` is.
pub(super) fn walk(root: &Path, excluded: Option<Identity>) -> (Found, Option<Identity>) {
    let mut found = Found::default();
    let mut visited: HashSet<Identity> = excluded.into_iter().collect();
    let identity = match fs::metadata(root) {
        Ok(metadata) => (metadata.dev(), metadata.ino()),
        Err(error) => {
            found.failed.push((root.to_owned(), error));
            return (found, None);
        }
    };
    visited.insert(identity);
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        match list(&folder) {
            Ok(entries) => {
                let inner = entries.into_iter().filter_map(|path| look(path, &mut visited, &mut found));
                let mut inner: Vec<PathBuf> = inner.collect();
                inner.reverse();
                folders.append(&mut inner);
            }
            // Deleted since its name was read.
            Err(error) if error.kind() == io::ErrorKind::NotFound && folder != root => {}
            Err(error) => found.failed.push((folder, error)),
        }
    }
    let readable = found.failed.iter().all(|(path, _)| path != root);
    (found, readable.then_some(identity))
}

/// The entries of a folder that are not hidden, in the order of their names.
fn list(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if !is_hidden(entry.file_name().as_encoded_bytes()) {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}

/// Takes in one entry; a folder to look into, if it is one that was not seen yet.
fn look(path: PathBuf, visited: &mut HashSet<Identity>, found: &mut Found) -> Option<PathBuf> {
    let metadata = match fs::metadata(&path) {
        Ok(metadata) => metadata,
        Err(error) => {
            // A name that is gone altogether was deleted since it was read; a link that leads nowhere still has one.
            if is_manifest(&path) && fs::symlink_metadata(&path).is_ok() {
                found.files.insert(path, Err(error));
            }
            return None;
        }
    };
    if metadata.is_dir() {
        return visited.insert((metadata.dev(), metadata.ino())).then_some(path);
    }
    if is_manifest(&path) {
        found.files.insert(path, Ok(Signature::of(&metadata)));
    }
    None
}

/// Editors and tools mark their own files so: `.pools.yaml.swp`, `#pools.yaml#`, `~$pools.yaml`.
const fn is_hidden(name: &[u8]) -> bool {
    matches!(name, [b'.' | b'#' | b'~', ..])
}

fn is_manifest(path: &Path) -> bool {
    path.extension().is_some_and(|extension| ["yaml", "yml", "json"].iter().any(|known| extension == *known))
}
