//! The state folder: what would otherwise be in an API server.
//!
//! | file | what |
//! |------|------|
//! | `services.json` | committed statuses ([`Memory`]), versioned |
//! | `address-config.yaml` | text of the last valid address configuration |
//! | `secrets/` | certificates that we obtained, as Secret manifests |
//! | `lock` | held by the leader, and says who that is |
//!
//! The folder has mode 0700, files 0600. A file that cannot be understood is set aside as `services.json.corrupt-1`
//! (or the next free number), never overwritten; one of a newer program is not touched at all.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::memory::{DecodeError, Memory};

use super::atomic;

/// The name of the file of statuses.
const STATUSES: &str = "services.json";
/// The name of the file with the last valid address configuration.
const CONFIG: &str = "address-config.yaml";

/// Why the state folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The folder cannot be made or looked into.
    #[error("cannot use the state folder {}: {source}; make it writable or name another with --state", path.display())]
    Folder {
        /// The folder as the operator named it.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file is not what we wrote.
    #[error("cannot use {}: {source}", path.display())]
    Decode {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: DecodeError,
    },
}

impl StateError {
    /// Whether a newer program wrote the state.
    pub(super) const fn is_newer(&self) -> bool {
        matches!(self, Self::Decode { source: DecodeError::Newer { .. }, .. })
    }
}

/// A state folder.
#[derive(Clone, Debug)]
pub(super) struct Store {
    folder: PathBuf,
}

/// Tells versions of a file apart without reading it: inode, size, and change time in nanoseconds.
pub(super) type Signature = (u64, u64, i64, i64);

impl Store {
    /// Makes the folder if it is not there.
    pub(super) fn open(folder: &Path) -> Result<Self, StateError> {
        let store = Self { folder: folder.to_owned() };
        store.make()?;
        Ok(store)
    }

    /// Makes the folder, if somebody removed it, and says which one it is.
    pub(super) fn make(&self) -> Result<(u64, u64), StateError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&self.folder);
        let identity = made.and_then(|()| fs::metadata(&self.folder)).map(|found| (found.dev(), found.ino()));
        identity.map_err(|source| StateError::Folder { path: self.folder.clone(), source })
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The statuses; empty if there are none yet.
    pub(super) fn read(&self) -> Result<Memory, StateError> {
        let path = self.folder.join(STATUSES);
        let text = match fs::read(&path) {
            Ok(bytes) => String::from_utf8(bytes).map_err(|error| DecodeError::Damaged(error.to_string())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Memory::default()),
            Err(source) => return Err(StateError::Read { path, source }),
        };
        let memory = text.and_then(|text| Memory::decode(&text));
        memory.map_err(|source| StateError::Decode { path, source })
    }

    /// Which version of the statuses is there; `None` if there is none.
    pub(super) fn signature(&self) -> Option<Signature> {
        let found = fs::metadata(self.folder.join(STATUSES)).ok()?;
        Some((found.ino(), found.size(), found.ctime(), found.ctime_nsec()))
    }

    /// Writes the statuses; when this returns they outlive a power cut.
    pub(super) fn write(&self, memory: &Memory) -> Result<(), StateError> {
        self.replace(STATUSES, &memory.encode())
    }

    /// The text of the last valid address configuration, if one was kept and can be read.
    pub(super) fn read_config(&self) -> Option<Arc<str>> {
        fs::read_to_string(self.folder.join(CONFIG)).ok().map(Arc::from)
    }

    /// Keeps the text of the last valid address configuration.
    pub(super) fn write_config(&self, text: &str) -> Result<(), StateError> {
        self.replace(CONFIG, text)
    }

    fn replace(&self, name: &str, text: &str) -> Result<(), StateError> {
        let written = atomic::replace(&self.folder, name, text);
        written.map_err(|source| StateError::Write { path: self.folder.join(name), source })
    }

    /// Removes half-written files of a process that was killed.
    pub(super) fn clean(&self) -> Result<(), StateError> {
        let cleaned = [STATUSES, CONFIG].into_iter().try_for_each(|name| atomic::clean(&self.folder, name));
        cleaned.map_err(|source| StateError::Folder { path: self.folder.clone(), source })
    }

    /// Moves damaged statuses out of the way, and says to where.
    pub(super) fn set_aside(&self) -> Result<PathBuf, StateError> {
        let path = self.folder.join(STATUSES);
        let free = (1_u32..).map(|number| self.folder.join(format!("{STATUSES}.corrupt-{number}")));
        let aside = free.into_iter().find(|path| !path.exists()).unwrap_or_else(|| path.with_extension("corrupt"));
        fs::rename(&path, &aside).map_err(|source| StateError::Write { path, source })?;
        Ok(aside)
    }
}
