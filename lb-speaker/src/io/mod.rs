//! The speaker at work.
//!
//! ```text
//! snapshots ──> plan ──────┐
//! links (netlink) ─────────┼──> layout ──> lo (deliver), groups ──> thread (responder) <──> packet sockets
//! privilege ───────────────┘       └────> report, entries, metrics
//! ```
//!
//! The control plane is this one task; frames are handled by a thread of their own, so that nothing here delays an
//! answer.

#![expect(clippy::disallowed_methods, reason = "io reads the clock")]

mod deliver;
mod echo;
mod groups;
#[cfg(test)]
mod lan_tests;
mod line;
mod links;
mod prober;
mod responder;
mod routes;
mod settings;
mod socket;
mod speaker;

use std::sync::Arc;

use config::report::{Report, VipEntry};
use config::snapshot::Snapshot;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::metrics::SpeakerMetrics;
use crate::plan::PlanOptions;
use crate::rate::Rate;

/// How the speaker is to work.
#[derive(Clone, Debug)]
pub struct SpeakerOptions {
    /// The name of this node.
    pub node: String,
    /// Interfaces to announce on; empty to choose by subnet.
    pub interfaces: Vec<String>,
    /// How packets for a VIP find their listener on this machine.
    pub deliver: Delivery,
    /// How fast frames are sent unasked.
    pub rate: Rate,
    /// Whether ping is answered for VIPs that the kernel does not answer for.
    pub answer_ping: bool,
    /// What the plan depends on.
    pub plan: PlanOptions,
}

/// How packets for a VIP find their listener on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// kube-proxy or the like redirects them; nothing to do.
    Kernel,
    /// The VIP is added to `lo`, so that local listeners get them.
    Loopback,
}

/// What the speaker is wired to.
#[derive(Debug)]
pub struct SpeakerPorts {
    /// Where snapshots come from; `None` until the first.
    pub snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
    /// Where the report goes.
    pub reports: watch::Sender<Arc<Report>>,
    /// Where the state of all VIPs goes.
    pub vips: watch::Sender<Arc<Vec<VipEntry>>>,
    /// What is counted.
    pub metrics: Arc<SpeakerMetrics>,
    /// Whether this process writes what is reported; only then are addresses probed before they are given.
    pub leader: watch::Receiver<bool>,
    /// Told once the first snapshot is dealt with and sockets are open.
    pub ready: oneshot::Sender<()>,
    /// Ends the speaker.
    pub shutdown: CancellationToken,
}

/// Why the speaker cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum SpeakerError {
    /// The thread that answers ARP and Neighbor Discovery could not be started.
    #[error("cannot start the thread that answers ARP and Neighbor Discovery; raise the limit of threads")]
    Thread(#[source] std::io::Error),
    /// The kernel does not tell about interfaces.
    #[error("cannot open a netlink socket; allow AF_NETLINK in the sandbox this runs in")]
    Netlink(#[source] std::io::Error),
    /// That thread ended.
    #[error("the thread that answers ARP and Neighbor Discovery ended unexpectedly; this is a bug")]
    ThreadEnded,
}

/// Gives addresses and announces them until told to shut down; then stops answering and takes VIPs off `lo`.
///
/// Without the right to open raw sockets it says so once and does everything else.
pub async fn run(options: SpeakerOptions, ports: SpeakerPorts) -> Result<(), SpeakerError> {
    speaker::Speaker::start(options, ports)?.run().await
}
