//! A folder of manifests as the source, and a state folder in place of an API server's memory.
//!
//! ```text
//! manifests/ ─ watch: hint ─> debounce ─> scan ─> mirror ──> Snapshot ──> the cores
//!                                                    ^                        │
//! state/ <── keeper: atomic, under a lock <── outbox ┴──────── Reports <──────┘
//! ```
//!
//! All of it runs in one thread of its own, so that a slow disk delays nobody else.

pub(crate) mod atomic;
mod keeper;
mod lock;
pub(crate) mod read;
pub(crate) mod scan;
mod secrets;
mod state;
mod task;
mod walk;
mod watch;

#[cfg(test)]
mod tests;

use std::io;
use std::path::PathBuf;

use config::object::ObjectName;
use tokio_util::sync::CancellationToken;

pub use state::StateError;

use crate::{Cluster, thread};
use task::Task;

/// What to read, and where to remember.
#[derive(Clone, Debug)]
pub struct DirOptions {
    /// The folder of manifests; problems name files as it is named here.
    pub manifests: PathBuf,
    /// The state folder, made if need be; `None` remembers as long as the process lives.
    pub state: Option<PathBuf>,
    /// The `ConfigMap` that holds the address configuration.
    pub config_map: ObjectName,
    /// What this process calls itself to others on the same state folder.
    pub identity: String,
}

/// Why a folder cannot be used as a source.
#[derive(Debug, thiserror::Error)]
pub enum DirError {
    /// The folder of manifests cannot be listed.
    #[error("cannot read the manifests in {}: {source}; make this folder or name another with --manifests", path.display())]
    Manifests {
        /// The folder as the operator named it.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The state folder cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// No thread could be started.
    #[error("cannot start the thread that reads manifests: {0}")]
    Thread(#[source] io::Error),
}

impl Cluster {
    /// Reads a folder until `shutdown`.
    ///
    /// The first snapshot follows when everything was read once. Only what makes the start pointless is an error;
    /// whatever goes wrong later is a problem in a snapshot.
    pub async fn dir(options: DirOptions, shutdown: CancellationToken) -> Result<Self, DirError> {
        let open = async move |outputs, inputs| Ok(Task::open(options, outputs, inputs, shutdown)?.run());
        thread::start(open, DirError::Thread).await
    }
}
