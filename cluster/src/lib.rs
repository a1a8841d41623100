//! How objects come in and reports go out.
//!
//! ```text
//! folder ─> dir ─┬─> mirror ─> watch: Snapshot ─> the cores
//!    state folder└─< outbox <─ watch: Report   <──┘
//! API server: api, with the same two ends
//! ```
//!
//! A [`Cluster`] is the seam: complete snapshots one way, whole reports the other. Everyone computes, one writes: the
//! leader. What is written comes back in the next snapshot, and only then counts.

mod api;
pub mod debounce;
mod dir;
pub mod lease;
mod load;
pub mod memory;
mod metrics;
pub mod mirror;
pub mod outbox;
mod thread;

use std::sync::Arc;
use std::time::Instant;

use config::report::Report;
use config::snapshot::Snapshot;
use tokio::sync::{oneshot, watch};

pub use api::{Access, ApiError, ApiOptions, Letterbox, Mode, Timing, WriteBudget};
pub use dir::{DirError, DirOptions, StateError};
pub use load::{Loaded, load, texts};
pub use metrics::ClusterMetrics;

/// Whether this process writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Leadership {
    /// It writes what is reported.
    Leader,
    /// Another process writes; this one takes over when that one ends.
    Follower,
}

/// Where each domain reports.
#[derive(Debug)]
pub struct Reports {
    /// Addresses of Services.
    pub speaker: watch::Sender<Arc<Report>>,
    /// Addresses of Ingresses.
    pub ingress: watch::Sender<Arc<Report>>,
    /// Certificates.
    pub acme: watch::Sender<Arc<Report>>,
}

/// A running source. It ends with the token given to its constructor; [`Self::stopped`] waits for that.
#[derive(Debug)]
pub struct Cluster {
    /// The newest snapshot; `None` until everything was read once.
    pub snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
    /// Where reports go.
    pub reports: Reports,
    /// Whether this process writes them.
    pub leadership: watch::Receiver<Leadership>,
    /// The secret that speakers sign heartbeats with; `None` until it was found, and for ever where nobody asked for it.
    pub heartbeat_key: watch::Receiver<Option<Arc<str>>>,
    /// When the API server answered anything last; `None` before, and for ever without one.
    pub answered: watch::Receiver<Option<Instant>>,
    /// What the speakers of all nodes write to each other by way of the API server.
    pub letters: Letters,
    stopped: oneshot::Receiver<()>,
}

/// What the speakers of all nodes write to each other by way of the API server; what is in a letter is their business.
/// Nobody else's arrive where nobody asked for a [`Letterbox`].
#[derive(Debug)]
pub struct Letters {
    /// The newest of this node; each that is sent here is shown to the others, and theirs are fetched.
    pub outgoing: watch::Sender<Arc<[u8]>>,
    /// Those of the others, as they were when ours was shown last.
    pub incoming: watch::Receiver<Arc<Vec<Arc<[u8]>>>>,
}

impl Default for Reports {
    fn default() -> Self {
        let channel = || watch::Sender::new(Arc::default());
        Self { speaker: channel(), ingress: channel(), acme: channel() }
    }
}

impl Cluster {
    /// Waits until everything reported before the shutdown is written and the right to write given back.
    pub async fn stopped(self) {
        // The sender never sends; it is dropped when the source has ended.
        let _ = self.stopped.await;
    }
}
