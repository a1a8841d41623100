//! The speaker at work.
//!
//! ```text
//! snapshots ──> plan ──────┐
//! links (netlink) ─────────┼──> layout ──> lo (deliver), groups ──> thread (responder) <──> packet sockets
//! privilege ───────────────┘       │                                  ^ Gain, Lose
//!                                  ├──> world ──> heartbeat thread (heartbeats) <──> UDP, answers by ARP and NDP
//!                                  │                                  │ View
//!                                  └────> report, entries, metrics <──┘
//! ```
//!
//! The control plane is this one task; frames and heartbeats are handled by threads of their own, so that nothing here
//! delays an answer or a take-over: neither the API nor this task is on its path.

#![expect(clippy::disallowed_methods, reason = "io reads the clock")]

mod asker;
mod deliver;
mod echo;
mod forwarder;
mod groups;
mod heartbeats;
#[cfg(test)]
mod lan_tests;
mod line;
mod links;
mod mail;
mod prober;
mod responder;
mod routes;
mod settings;
mod socket;
mod speaker;
mod sysctl;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use config::report::{Report, VipEntry};
use config::snapshot::Snapshot;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::choice::Choice;
use crate::member_metrics::MemberMetrics;
use crate::members::Profile;
pub use crate::members::moving::MoveError;
use crate::metrics::SpeakerMetrics;
use crate::plan::PlanOptions;
use crate::rate::Rate;

/// How the speaker is to work.
#[derive(Clone, Debug)]
pub struct SpeakerOptions {
    /// The name of this node.
    pub node: String,
    /// Interfaces to announce on.
    pub interfaces: Choice,
    /// How packets for a VIP find their listener on this machine.
    pub deliver: Delivery,
    /// How fast frames are sent unasked.
    pub rate: Rate,
    /// Whether ping is answered for VIPs that the kernel does not answer for.
    pub answer_ping: bool,
    /// What the plan depends on.
    pub plan: PlanOptions,
    /// With whom VIPs are shared.
    pub company: Company,
}

/// With whom VIPs are shared.
#[derive(Clone, Debug)]
pub struct Company {
    /// Who the others are.
    pub peers: Peers,
    /// The UDP port of heartbeats, of all members.
    pub port: u16,
    /// What tells this group of members from others that have the same key.
    pub name: String,
    /// How fast failures are found.
    pub profile: Profile,
    /// For how long connections are served after their VIP has moved away; zero lets them end.
    pub linger: Duration,
}

/// Who the other members are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peers {
    /// There are none, and no port is opened.
    None,
    /// The nodes of the cluster, at their internal addresses.
    Nodes,
    /// These, and whoever is heard on the announcing interfaces with our key.
    Named(BTreeMap<Arc<str>, Vec<SocketAddr>>),
}

/// How packets for a VIP find their listener on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// kube-proxy or the like redirects them; nothing to do.
    Kernel,
    /// The VIP is added to `lo`, so that local listeners get them.
    Loopback,
}

/// What an operator wants of a VIP.
#[derive(Debug)]
pub struct MoveOrder {
    /// The VIP.
    pub vip: IpAddr,
    /// The node that shall have it; `None` for whichever comes first.
    pub node: Option<String>,
    /// Told whether it is going to happen, or why not.
    pub answer: oneshot::Sender<Result<(), MoveError>>,
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
    /// What is counted of members.
    pub member_metrics: Arc<MemberMetrics>,
    /// The secrets that heartbeats are signed with, one a line, the first of them signs; `None` until they are known.
    pub keys: watch::Receiver<Option<Arc<str>>>,
    /// What operators want of VIPs.
    pub moves: mpsc::Receiver<MoveOrder>,
    /// When the API server answered last; `None` before it did, and for ever where there is none.
    pub answered: watch::Receiver<Option<Instant>>,
    /// Where letters to the speakers of other nodes go.
    pub post: watch::Sender<Arc<[u8]>>,
    /// Their letters.
    pub mail: watch::Receiver<Arc<Vec<Arc<[u8]>>>>,
    /// Asks to hand every VIP over to other members.
    pub leave: CancellationToken,
    /// Told once they have them, or nobody could take them.
    pub left: CancellationToken,
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
    /// The heartbeats could not be started.
    #[error("cannot open UDP port {port} for heartbeats; choose another with --heartbeat-port, the same on all nodes")]
    Heartbeats {
        /// The port.
        port: u16,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A thread ended.
    #[error("a thread of the speaker ended unexpectedly; this is a bug")]
    ThreadEnded,
}

/// Gives addresses and announces them until told to shut down; then stops answering and takes VIPs off `lo`.
///
/// Without the right to open raw sockets it says so once and does everything else.
pub async fn run(options: SpeakerOptions, ports: SpeakerPorts) -> Result<(), SpeakerError> {
    speaker::Speaker::start(options, ports)?.run().await
}
