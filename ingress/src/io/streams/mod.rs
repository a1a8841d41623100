//! Ports that are not for HTTP: opened and closed as the settings say.
//!
//! ```text
//! watch: Streams ─> keep: a task per port and address ─> tcp: bytes both ways │ udp: a session per client
//! ```
//!
//! Every worker has a socket of its own for every port, as for HTTP. A port that is closed takes nobody new; TCP
//! connections through it go on until they end. A port that cannot be opened is tried again.

mod active;
mod tcp;
mod udp;

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::Timeouts;
use super::listen;
use crate::front::Front;
use crate::metrics::IngressMetrics;
use crate::routes::RouteTable;
use crate::streams::{Carrier, Stream, Streams};

/// How long until a port is tried again.
const RETRY: Duration = Duration::from_secs(2);

/// What the streams of one worker share.
pub(super) struct Keeper {
    /// The worker.
    pub(super) worker: usize,
    /// The addresses to listen on.
    pub(super) ips: Vec<IpAddr>,
    pub(super) streams: watch::Receiver<Arc<Streams>>,
    pub(super) table: Arc<arc_swap::ArcSwap<RouteTable>>,
    pub(super) timeouts: Arc<Timeouts>,
    pub(super) metrics: Arc<IngressMetrics>,
    /// The zero of the clock that endpoints are told.
    pub(super) epoch: Instant,
}

/// The addresses that streams are accepted on: those of the listeners for HTTP.
pub(super) fn addresses(listeners: impl IntoIterator<Item = SocketAddr>) -> Vec<IpAddr> {
    let mut ips: Vec<IpAddr> = listeners.into_iter().map(|address| address.ip()).collect();
    ips.sort();
    ips.dedup();
    if ips.is_empty() { vec![Ipv4Addr::UNSPECIFIED.into()] } else { ips }
}

impl Keeper {
    /// Opens and closes ports until the drain; gives back what is under way.
    pub(super) async fn keep(self, drain: CancellationToken) -> JoinSet<()> {
        let keeper = Arc::new(self);
        let mut streams = keeper.streams.clone();
        let mut open: BTreeMap<(Carrier, u16), DropGuard> = BTreeMap::new();
        let mut tasks = JoinSet::new();
        let mut is_told = false;
        loop {
            let wanted = Arc::clone(&streams.borrow_and_update());
            open.retain(|port, _| wanted.0.contains_key(port));
            let missing: Vec<_> = wanted.0.keys().filter(|port| !open.contains_key(*port)).copied().collect();
            let mut failed = None;
            for (carrier, port) in missing {
                let stop = CancellationToken::new();
                match keeper.open(carrier, port, &stop, &mut tasks) {
                    Ok(()) => drop(open.insert((carrier, port), stop.drop_guard())),
                    Err(error) => failed = Some((carrier, port, error)),
                }
            }
            if let Some((carrier, port, error)) = &failed
                && keeper.worker == 0
                && !is_told
            {
                let carrier = carrier.as_str();
                tracing::error!(carrier, port, %error, "cannot open the port of a stream; it is tried again and again");
            }
            is_told = failed.is_some();
            tokio::select! {
                () = drain.cancelled() => return tasks,
                () = tokio::time::sleep(RETRY), if failed.is_some() => {}
                changed = streams.changed() => if changed.is_err() { return tasks },
                Some(_) = tasks.join_next() => {}
            }
        }
    }

    /// Opens a port on every address, or on none.
    fn open(
        self: &Arc<Self>,
        carrier: Carrier,
        port: u16,
        stop: &CancellationToken,
        tasks: &mut JoinSet<()>,
    ) -> io::Result<()> {
        let bind = |ip: &IpAddr| listen::stream_socket(carrier, SocketAddr::new(*ip, port));
        let sockets = self.ips.iter().map(bind).collect::<io::Result<Vec<_>>>()?;
        for socket in sockets {
            let (keeper, stop) = (Arc::clone(self), stop.clone());
            match carrier {
                Carrier::Tcp => {
                    let listener = TcpListener::from_std(socket.into())?;
                    tasks.spawn(tcp::accept(keeper, port, listener, stop));
                }
                Carrier::Udp => {
                    let socket = UdpSocket::from_std(socket.into())?;
                    tasks.spawn(udp::serve(keeper, port, socket, stop));
                }
            }
        }
        Ok(())
    }

    /// Where a port leads now.
    fn stream(&self, carrier: Carrier, port: u16) -> Option<Arc<Stream>> {
        self.streams.borrow().0.get(&(carrier, port)).cloned()
    }

    fn front(&self) -> Arc<Front> {
        Arc::clone(self.table.load().front())
    }

    /// Milliseconds on the clock that endpoints are told.
    fn now(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}
