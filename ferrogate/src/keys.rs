//! The file with the secret that heartbeats are signed with, read again whenever it changes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// How often it is looked at: a key is changed in steps of minutes.
const PAUSE: Duration = Duration::from_secs(2);

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeyError {
    /// It cannot be read.
    #[error("cannot read the heartbeat key {}: {source}; name another with --heartbeat-key-file", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Nothing is in it.
    #[error("the heartbeat key {} is empty; fill it, say with: head -c 32 /dev/urandom | base64", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// There are peers and no key.
    #[error(
        "heartbeats to the nodes named with --peer need a secret that all share; name its file with --heartbeat-key-file"
    )]
    Missing,
}

/// Reads the file once.
pub(crate) fn read(path: &Path) -> Result<Arc<str>, KeyError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| KeyError::Unreadable { path: path.to_owned(), source })?;
    if text.trim().is_empty() {
        return Err(KeyError::Empty { path: path.to_owned() });
    }
    Ok(text.into())
}

/// Follows the file until `stop`; what cannot be read changes nothing.
pub(crate) async fn follow(path: PathBuf, keys: watch::Sender<Option<Arc<str>>>, stop: CancellationToken) {
    let mut troubled = false;
    while stop.run_until_cancelled(tokio::time::sleep(PAUSE)).await.is_some() {
        match read(&path) {
            Ok(text) => {
                troubled = false;
                let changed = keys.send_if_modified(|known| {
                    let changed = known.as_deref() != Some(&*text);
                    *known = Some(text);
                    changed
                });
                if changed {
                    info!(path = %path.display(), "heartbeat key changed");
                }
            }
            Err(error) if !troubled => {
                troubled = true;
                warn!(%error, "the heartbeat key before stays in use");
            }
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_cannot_be_used_is_refused() {
        let refused = read(Path::new("/nowhere/key")).unwrap_err().to_string();
        assert!(refused.starts_with("cannot read the heartbeat key /nowhere/key"), "{refused}");
        let refused = read(Path::new("/dev/null")).unwrap_err().to_string();
        assert!(refused.starts_with("the heartbeat key /dev/null is empty"), "{refused}");
    }
}
