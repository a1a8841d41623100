//! One worker: a thread, its runtime, its sockets, its proxy.
//!
//! A connection is accepted, served and closed by one worker; nothing that a request touches is shared with another
//! thread but the route table, the load of an endpoint and the counters.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use config::challenge::ALPN;
use futures_util::future::join_all;
use pingora_core::apps::{HttpServerApp, ServerApp};
use pingora_core::protocols::l4::socket::SocketAddr as PeerAddr;
use pingora_proxy::HttpProxy;
use socket2::Socket;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::access_writer::Log;
use super::conn::Home;
use super::listen::Scheme;
use super::proxied::{self, HeaderError, Proxied};
use super::proxy::{self, Gateway};
use super::streams::Keeper;
use super::tls::{Door, Opened};
use super::wire::{Limits, Luggage, Wire};
use super::{Timeouts, drain, gate_loop, relay};
use crate::endpoints::Endpoints;
use crate::front::Front;
use crate::metrics::IngressMetrics;
use crate::proxy_protocol::Header;
use crate::routes::RouteTable;

/// What an HTTP/2 client sends first (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How long to wait when the system cannot accept, as for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);
/// How long a client may take to notice that we closed.
pub(super) const FAREWELL: Duration = Duration::from_secs(2);

/// What a worker needs to start.
pub(super) struct Seat {
    /// Its number, from 0.
    pub(super) index: usize,
    /// Its socket of each listener.
    pub(super) sockets: Vec<(Scheme, SocketAddr, Socket)>,
    pub(super) tls: Arc<Door>,
    pub(super) table: Arc<ArcSwap<RouteTable>>,
    pub(super) streams: Keeper,
    pub(super) gateway: Gateway,
    /// Idle connections to endpoints that it keeps.
    pub(super) pool: usize,
    pub(super) log: Arc<Log>,
    pub(super) metrics: Arc<IngressMetrics>,
    pub(super) timeouts: Arc<Timeouts>,
    pub(super) drain_timeout: Duration,
    pub(super) drain: CancellationToken,
    /// Told once it accepts.
    pub(super) ready: oneshot::Sender<()>,
}

/// A running worker.
pub(super) struct Worker {
    pub(super) index: usize,
    /// Resolves when the worker has ended, by an error if it panicked.
    pub(super) ended: oneshot::Receiver<()>,
    pub(super) thread: std::thread::JoinHandle<()>,
}

/// What the connections of one worker share.
pub(super) struct Site {
    pub(super) app: Arc<HttpProxy<Gateway>>,
    /// Becomes true when the drain begins.
    pub(super) shutdown: watch::Receiver<bool>,
    pub(super) timeouts: Arc<Timeouts>,
    pub(super) metrics: Arc<IngressMetrics>,
    pub(super) log: Arc<Log>,
    table: Arc<ArcSwap<RouteTable>>,
    tls: Arc<Door>,
    /// The zero of the clock that endpoints are told.
    epoch: Instant,
}

impl Seat {
    /// Starts the worker on a thread of its own.
    pub(super) fn start(self) -> io::Result<Worker> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (end, ended) = oneshot::channel();
        let index = self.index;
        let thread = std::thread::Builder::new().name(format!("ingress-{index}")).spawn(move || {
            runtime.block_on(self.serve());
            drop(runtime);
            // Nobody waits if the control task is gone.
            let _ = end.send(());
        })?;
        Ok(Worker { index, ended, thread })
    }

    /// Accepts until the drain, then finishes what is under way.
    async fn serve(self) {
        let (announce, shutdown) = watch::channel(false);
        let (draining, epoch) = (self.gateway.draining(), self.gateway.epoch());
        let site = Arc::new(Site {
            app: Arc::new(proxy::http_proxy(self.gateway, &self.timeouts, self.pool)),
            shutdown,
            timeouts: self.timeouts,
            metrics: self.metrics,
            log: self.log,
            table: self.table,
            tls: self.tls,
            epoch,
        });
        let Some(listeners) = listen(self.index, self.sockets) else { return };
        // Nobody waits if the control task is gone.
        let _ = self.ready.send(());
        let loops = listeners
            .into_iter()
            .map(|(scheme, address, listener)| accept(&site, scheme, address, listener, &self.drain));
        let begin = begin_drain(&site, &self.drain, &draining, announce);
        let streams = self.streams.keep(self.drain.clone());
        let (mut connections, announce, streams) = tokio::join!(join_all(loops), begin, streams);
        connections.push(streams);
        finish(connections, self.drain_timeout).await;
        drop(announce);
        site.log.flush();
    }
}

/// Registers the sockets with this worker's runtime.
fn listen(worker: usize, sockets: Vec<(Scheme, SocketAddr, Socket)>) -> Option<Vec<(Scheme, SocketAddr, TcpListener)>> {
    let register = |(scheme, address, socket): (Scheme, SocketAddr, Socket)| {
        Ok((scheme, address, TcpListener::from_std(socket.into())?))
    };
    let listeners: io::Result<_> = sockets.into_iter().map(register).collect();
    listeners.inspect_err(|error| tracing::error!(worker, %error, "cannot register the listeners")).ok()
}

/// Tells everybody of this worker that the drain has begun.
async fn begin_drain(
    site: &Site,
    drain: &CancellationToken,
    draining: &AtomicBool,
    announce: watch::Sender<bool>,
) -> watch::Sender<bool> {
    drain.cancelled().await;
    draining.store(true, Ordering::Relaxed);
    announce.send_replace(true);
    site.app.http_cleanup().await;
    announce
}

/// Waits for the connections to end, and ends them when the time is up.
async fn finish(connections: Vec<JoinSet<()>>, limit: Duration) {
    let mut left: usize = 0;
    let all = async {
        for mut set in connections {
            left = set.len();
            while set.join_next().await.is_some() {
                left = set.len();
            }
        }
    };
    if timeout(limit, all).await.is_err() {
        tracing::warn!(connections = left, limit = ?limit, "the drain took too long; ending what is left");
    }
}

/// Accepts on one listener until the drain; gives back the connections under way.
async fn accept(
    site: &Arc<Site>,
    scheme: Scheme,
    address: SocketAddr,
    listener: TcpListener,
    drain: &CancellationToken,
) -> JoinSet<()> {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = drain.cancelled() => break,
            Some(ended) = connections.join_next() => note_end(&ended),
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => drop(connections.spawn(Arc::clone(site).serve(stream, peer, scheme, address))),
                Err(error) => site.note_accept_error(&error).await,
            },
        }
    }
    drain::close(listener, |stream, peer| {
        drop(connections.spawn(Arc::clone(site).serve(stream, peer, scheme, address)));
    })
    .await;
    connections
}

/// A panic ends one connection and no more; it is counted where a request was lost to it.
fn note_end(ended: &Result<(), JoinError>) {
    if ended.as_ref().is_err_and(JoinError::is_panic) {
        tracing::error!("a connection ended by a panic; this is a bug, please report the lines before this one");
    }
}

impl Site {
    async fn note_accept_error(&self, error: &io::Error) {
        if error.kind() == io::ErrorKind::ConnectionAborted {
            return;
        }
        self.metrics.accept_errors.inc();
        tracing::warn!(%error, "cannot accept a connection; raise the limit on open files (ulimit -n)");
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }

    /// Serves one connection from its first byte to its end.
    async fn serve(self: Arc<Self>, mut stream: TcpStream, peer: SocketAddr, scheme: Scheme, local: SocketAddr) {
        self.metrics.accepted.inc();
        let _open = Open::new(&self.metrics);
        let Ok(proxied) = self.proxied(&mut stream, peer).await else {
            return self.metrics.refused("proxy_header");
        };
        let peer = proxied.as_ref().map_or(peer, |(source, _)| *source);
        let local = proxied.as_ref().map_or(local, |(_, proxied)| proxied.destination);
        let (peer, local) = (PeerAddr::Inet(peer), PeerAddr::Inet(local));
        let limits = Limits { send: self.timeouts.send, body_window: self.timeouts.body_window };
        let (mut wire, visitor) = match scheme {
            Scheme::Http => (Wire::tcp(stream, peer, local, limits), None),
            Scheme::Https => match timeout(self.timeouts.handshake, self.tls.open(stream)).await {
                // The handshake was all that the CA wanted (RFC 8737 §3).
                Ok(Ok(Opened::Tls(stream, _))) if stream.get_ref().1.alpn_protocol() == Some(ALPN) => return,
                Ok(Ok(Opened::Tls(stream, visitor))) => (Wire::tls(*stream, peer, local, limits), visitor),
                Ok(Ok(Opened::Passed(stream, begun, endpoints))) => {
                    return self.pass_on(stream, &begun, &endpoints).await;
                }
                Ok(Err(_)) | Err(_) => return self.metrics.handshake_failures.inc(),
            },
        };
        let proxied = proxied.map(|(_, proxied)| proxied);
        if visitor.is_some() || proxied.is_some() {
            wire.set_luggage(Luggage { visitor, proxied });
        }
        if wire.is_h2() {
            self.serve_h2(Box::new(wire)).await;
        } else {
            gate_loop::serve(&self, Box::new(wire)).await;
        }
    }

    /// Lets an endpoint end the client's TLS.
    async fn pass_on(&self, stream: TcpStream, begun: &[u8], endpoints: &Endpoints) {
        let now = u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX);
        let (connect, idle) = (self.timeouts.connect, self.timeouts.tunnel);
        if let Err(error) = relay::pass(stream, begun, endpoints, now, connect, idle).await {
            tracing::debug!(backend = %endpoints.key(), %error, "a connection that was passed on has ended");
        }
    }

    /// How clients are met now.
    pub(super) fn front(&self) -> Arc<Front> {
        Arc::clone(self.table.load().front())
    }

    /// Whose connection it is and where it was made to, as a PROXY header of a trusted peer says; `None` if it is the
    /// peer's own, or says nothing that counts.
    async fn proxied(
        &self,
        stream: &mut TcpStream,
        peer: SocketAddr,
    ) -> Result<Option<(SocketAddr, Proxied)>, HeaderError> {
        let front = self.front();
        let trust = &front.global.trust;
        let Some(patience) = trust.proxy_protocol else { return Ok(None) };
        Ok(match proxied::read(stream, patience).await? {
            Header::Proxied { source, destination } if trust.is_proxy(peer.ip()) => {
                Some((source, Proxied { direct: peer, destination }))
            }
            Header::Proxied { .. } | Header::Local => None,
        })
    }

    /// Hands an HTTP/2 connection to Pingora once the client has said what it agreed to say.
    async fn serve_h2(&self, mut wire: Box<Wire>) {
        let preface = async {
            while wire.pending().len() < PREFACE.len() && PREFACE.starts_with(wire.pending()) {
                if std::future::poll_fn(|cx| wire.poll_fill(cx)).await? == 0 {
                    break;
                }
            }
            io::Result::Ok(())
        };
        let arrived = timeout(self.timeouts.handshake, preface).await;
        if !matches!(arrived, Ok(Ok(()))) || !wire.pending().starts_with(PREFACE) {
            return self.metrics.refused("h2_preface");
        }
        wire.make_raw();
        let home = Arc::new(Home::default());
        let _ = self.app.process_new(Box::new(home.lend(wire)), &self.shutdown).await;
        if let Some(wire) = home.take() {
            wire.close(FAREWELL).await;
        }
    }
}

/// Counts an open connection while it lives.
struct Open<'a>(&'a IngressMetrics);

impl<'a> Open<'a> {
    fn new(metrics: &'a IngressMetrics) -> Self {
        metrics.connections.inc();
        Self(metrics)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.connections.dec();
    }
}
