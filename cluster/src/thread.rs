//! The thread that a source runs in, with a runtime of its own.
//!
//! Whether it can be opened is told to who starts it; that it has ended, to who waits in [`Cluster::stopped`].

use std::io;
use std::sync::Arc;
use std::time::Instant;

use config::report::Report;
use config::snapshot::Snapshot;
use tokio::runtime::Runtime;
use tokio::sync::{oneshot, watch};
use tracing::error;

use crate::{Cluster, Leadership, Letters, Reports};

/// The other ends of a [`Cluster`].
#[derive(Debug)]
pub(crate) struct Outputs {
    /// Where snapshots go.
    pub(crate) snapshots: watch::Sender<Option<Arc<Snapshot>>>,
    /// Where it is told whether we write.
    pub(crate) leadership: watch::Sender<Leadership>,
    /// Where the secret of heartbeats goes.
    pub(crate) heartbeat_key: watch::Sender<Option<Arc<str>>>,
    /// When the API server answered last.
    pub(crate) answered: watch::Sender<Option<Instant>>,
    /// The letter to show to the speakers of other nodes; empty while there is none.
    pub(crate) outgoing: watch::Receiver<Arc<[u8]>>,
    /// Where theirs go.
    pub(crate) incoming: watch::Sender<Arc<Vec<Arc<[u8]>>>>,
}

/// What the domains report: speaker, ingress, certificates.
pub(crate) type Inputs = [watch::Receiver<Arc<Report>>; 3];

/// Starts a source: `open` makes what runs until shutdown, or says why it cannot.
///
/// Both futures live in the thread, so neither has to be [`Send`]. `failed` says that there is no thread.
pub(crate) async fn start<Open, Opening, Running, Error>(
    open: Open,
    failed: fn(io::Error) -> Error,
) -> Result<Cluster, Error>
where
    Open: FnOnce(Outputs, Inputs) -> Opening + Send + 'static,
    Opening: Future<Output = Result<Running, Error>>,
    Running: Future<Output = ()>,
    Error: std::error::Error + Send + 'static,
{
    let (snapshots, snapshots_out) = watch::channel(None);
    let (leadership, leadership_out) = watch::channel(Leadership::Follower);
    let (heartbeat_key, heartbeat_key_out) = watch::channel(None);
    let (answered, answered_out) = watch::channel(None);
    let (outgoing_in, outgoing) = watch::channel(Arc::default());
    let (incoming, incoming_out) = watch::channel(Arc::default());
    let reports = Reports::default();
    let inputs = [&reports.speaker, &reports.ingress, &reports.acme].map(watch::Sender::subscribe);
    let (opened, has_opened) = oneshot::channel();
    let (running, stopped) = oneshot::channel::<()>();
    let opening = move || open(Outputs { snapshots, leadership, heartbeat_key, answered, outgoing, incoming }, inputs);
    let body = move || {
        // Dropped when the thread ends, however it ends.
        let _running = running;
        match runtime() {
            Ok(runtime) => runtime.block_on(run(opening, opened)),
            // Nobody waits any more: then nobody needs to know.
            Err(failure) => drop(opened.send(Err(failed(failure)))),
        }
    };
    std::thread::Builder::new().name("cluster".into()).spawn(body).map_err(failed)?;
    has_opened.await.unwrap_or_else(|_| Err(failed(io::Error::other("it ended at once"))))?;
    let (snapshots, leadership, heartbeat_key) = (snapshots_out, leadership_out, heartbeat_key_out);
    let (letters, answered) = (Letters { outgoing: outgoing_in, incoming: incoming_out }, answered_out);
    Ok(Cluster { snapshots, reports, leadership, heartbeat_key, answered, letters, stopped })
}

fn runtime() -> io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

async fn run<Opening, Running, Error>(open: impl FnOnce() -> Opening, opened: oneshot::Sender<Result<(), Error>>)
where
    Opening: Future<Output = Result<Running, Error>>,
    Running: Future<Output = ()>,
    Error: std::error::Error,
{
    match open().await {
        Ok(running) => {
            if opened.send(Ok(())).is_ok() {
                running.await;
            }
        }
        Err(failure) => {
            if let Err(Err(failure)) = opened.send(Err(failure)) {
                error!(error = %failure, "cannot open the source of objects");
            }
        }
    }
}
