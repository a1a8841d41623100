//! Who may write: the process that holds `STATE/lock`.
//!
//! The kernel releases the lock when its holder ends, however it ends. A lock holds an open file and not a name: if
//! somebody removes the state folder and makes it anew, the old lock is worth nothing, which [`Lock::is_valid`] tells.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The right to write; given back when dropped.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
    path: PathBuf,
}

impl Lock {
    /// Takes the lock in `folder` in the name of `identity`; `None` while another process has it.
    pub(super) fn take(folder: &Path, identity: &str) -> io::Result<Option<Self>> {
        let path = folder.join("lock");
        let mut file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        // Who leads is for people to read; on a full disk we lead all the same.
        let _ = file.set_len(0).and_then(|()| writeln!(file, "{identity} {}", std::process::id()));
        let lock = Self { file, path };
        Ok(lock.is_valid().then_some(lock))
    }

    /// Whether the file we hold is still the one that others would try.
    pub(super) fn is_valid(&self) -> bool {
        let identity = |found: fs::Metadata| (found.dev(), found.ino());
        let (held, named) = (self.file.metadata().map(identity), fs::metadata(&self.path).map(identity));
        matches!((held, named), (Ok(held), Ok(named)) if held == named)
    }
}

/// Who holds the lock, as it says of itself.
pub(super) fn holder(folder: &Path) -> Option<String> {
    let text = fs::read_to_string(folder.join("lock")).ok()?;
    let holder = text.trim();
    (!holder.is_empty()).then(|| holder.to_owned())
}
