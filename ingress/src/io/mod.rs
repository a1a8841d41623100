//! The data plane: listeners, workers and the proxy, and the task that swaps the route table.
//!
//! ```text
//!  snapshots ─> control: compile ─> ArcSwap<RouteTable> ───────┐ loaded once per request
//!                                                              v
//!  SO_REUSEPORT ─> worker 0: accept ─> TLS ─> head gate ─> HttpProxy 0 ─> its own upstream pool
//!                  worker 1: accept ─> TLS ─> head gate ─> HttpProxy 1 ─> its own upstream pool
//! ```
//!
//! Each worker is a thread with a single-threaded runtime, its own sockets for every listener and its own
//! `HttpProxy`, so that a connection lives and dies on one core. HTTP/1.1 passes the strict gate request by request
//! (`gate_loop`) before Pingora sees a byte of it; HTTP/2 is taken by Pingora whole and checked in its hooks
//! (`proxy`). Decisions are made by the pure modules of this crate.

#![expect(clippy::disallowed_methods, reason = "io reads the clock")]

mod access_writer;
mod auth;
mod challenge;
mod conn;
mod control;
mod dial;
mod drain;
mod encode;
mod exchange;
mod gate_loop;
mod guard;
mod listen;
mod message;
mod pace;
mod proxied;
mod proxy;
mod relay;
mod resolve;
mod response;
mod streams;
mod tapped;
mod tls;
mod transport;
mod upstream;
mod wire;
mod worker;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use config::challenge::Challenges;
use config::report::{Certificates, Report, Routes};
use config::snapshot::Snapshot;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::access::AccessLog;
use crate::compile::{CompileOptions, Compiled};
use crate::metrics::IngressMetrics;

pub use tls::install_crypto_provider;

/// What the data plane is told once, at start.
#[derive(Clone, Debug)]
pub struct IngressOptions {
    /// Addresses for cleartext HTTP.
    pub http: Vec<SocketAddr>,
    /// Addresses for HTTPS.
    pub https: Vec<SocketAddr>,
    /// Number of worker threads; 0 means one per core.
    pub workers: usize,
    /// How long requests may go on after shutdown was asked for.
    pub drain_timeout: Duration,
    /// Whether and how each request is logged.
    pub access_log: AccessLog,
    /// How snapshots become route tables.
    pub compile: CompileOptions,
    /// Who is asked for the names of `ExternalName` Services; nobody for those of `/etc/resolv.conf`.
    pub dns_servers: Vec<SocketAddr>,
}

/// How the data plane is wired to the rest.
#[derive(Debug)]
pub struct IngressPorts {
    /// All objects; `None` until the source has listed everything once.
    pub snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
    /// Questions of a CA that wait for an answer.
    pub challenges: watch::Receiver<Arc<Challenges>>,
    /// What we want written.
    pub reports: watch::Sender<Arc<Report>>,
    /// The routes being served.
    pub routes: watch::Sender<Arc<Routes>>,
    /// The table in force, for who wants it explained.
    pub tables: watch::Sender<Option<Arc<Compiled>>>,
    /// The certificates being served.
    pub certificates: watch::Sender<Certificates>,
    /// Counters, registered by the caller.
    pub metrics: Arc<IngressMetrics>,
    /// Told once the first table is in place and all workers accept; dropped if that never happens.
    pub ready: oneshot::Sender<()>,
    /// Cancelled when connections shall be drained.
    pub shutdown: CancellationToken,
}

/// Every deadline of the data plane. The defaults are the ones to use; tests shorten them.
#[derive(Clone, Debug)]
pub struct Timeouts {
    /// For a whole TLS handshake, and for the preface of HTTP/2.
    pub handshake: Duration,
    /// For a whole request head, from its first byte.
    pub head: Duration,
    /// For the first byte of a request on an open connection, HTTP/2 without streams included.
    pub idle: Duration,
    /// For the next byte of a request body.
    pub body: Duration,
    /// How much waiting for a request body is looked at together: fewer than [`MIN_BODY_RATE`] bytes for each second
    /// of it end the request.
    pub body_window: Duration,
    /// For a client to take what is written to it.
    pub send: Duration,
    /// For an endpoint to accept a connection.
    pub connect: Duration,
    /// For the next byte of an endpoint's answer, and for it to take what is written to it.
    pub upstream: Duration,
    /// How long an unused connection to an endpoint is kept.
    pub upstream_idle: Duration,
    /// For the next byte in either direction of an upgraded connection.
    pub tunnel: Duration,
    /// How long a TCP stream may be silent in both directions.
    pub stream: Duration,
    /// How long a UDP session may be.
    pub datagram: Duration,
    /// How long after the start of a drain an idle connection may still send a request, which is then answered with
    /// `Connection: close`; shortens the race between our close and the client's next request.
    pub drain_idle: Duration,
}

/// The slowest request body that is accepted, in bytes per second of waiting for it.
pub const MIN_BODY_RATE: u64 = 240;

impl Default for Timeouts {
    /// ingress-nginx's defaults where it has them (5 s connect, 60 s send, read, idle), else the goals of our
    /// hardening rules.
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            head: Duration::from_secs(10),
            idle: Duration::from_mins(1),
            body: Duration::from_mins(1),
            body_window: Duration::from_secs(20),
            send: Duration::from_mins(1),
            connect: Duration::from_secs(5),
            upstream: Duration::from_mins(1),
            upstream_idle: Duration::from_mins(1),
            tunnel: Duration::from_hours(1),
            stream: Duration::from_mins(10),
            datagram: Duration::from_mins(1),
            drain_idle: Duration::from_millis(500),
        }
    }
}

/// Why the data plane could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum IngressError {
    /// A listener could not be opened.
    #[error(transparent)]
    Listen(#[from] listen::ListenError),
    /// TLS could not be set up.
    #[error("TLS cannot be set up; this is a fault of this build")]
    Tls(#[source] rustls::Error),
    /// The certificate for clients without a name we know could not be made.
    #[error(transparent)]
    DefaultCertificate(#[from] crate::certs::GenerateError),
    /// A worker's thread or runtime could not be made.
    #[error("worker {worker} cannot be started; raise the limits on threads and open files (ulimit -u, -n)")]
    Worker {
        /// Its number, from 0.
        worker: usize,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A worker ended by itself.
    #[error("worker {worker} ended unexpectedly; this is a bug, please report the log lines before this one")]
    WorkerLost {
        /// Its number, from 0.
        worker: usize,
    },
    /// The first snapshot could not be compiled.
    #[error("the routes could not be compiled; this is a bug, please report the log lines before this one")]
    Compile,
    /// The snapshots ended before shutdown was asked for.
    #[error("the source of snapshots ended; see its own message for the reason")]
    SourceLost,
}

pub use listen::ListenError;

/// The data plane with its sockets bound, before the first connection is accepted.
#[derive(Debug)]
pub struct Ingress {
    options: IngressOptions,
    timeouts: Timeouts,
    listeners: Vec<listen::Listener>,
}

impl Ingress {
    /// Binds every socket of every worker, so that a bad address is one clear error at start.
    pub fn bind(options: IngressOptions, timeouts: Timeouts) -> Result<Self, IngressError> {
        let workers = worker_count(options.workers);
        let listeners = listen::bind_all(&options.http, &options.https, workers)?;
        Ok(Self { options: IngressOptions { workers, ..options }, timeouts, listeners })
    }

    /// The bound addresses for cleartext HTTP, with the ports that the system chose for port 0.
    #[must_use]
    pub fn http(&self) -> Vec<SocketAddr> {
        self.addresses(listen::Scheme::Http)
    }

    /// The bound addresses for HTTPS, with the ports that the system chose for port 0.
    #[must_use]
    pub fn https(&self) -> Vec<SocketAddr> {
        self.addresses(listen::Scheme::Https)
    }

    fn addresses(&self, scheme: listen::Scheme) -> Vec<SocketAddr> {
        self.listeners.iter().filter(|listener| listener.scheme == scheme).map(|listener| listener.address).collect()
    }

    /// Serves until shutdown is asked for; returns after the drain.
    pub async fn run(self, ports: IngressPorts) -> Result<(), IngressError> {
        control::run(self.options, self.timeouts, self.listeners, ports).await
    }
}

/// Binds and serves until shutdown is asked for; returns after the drain.
pub async fn run(options: IngressOptions, ports: IngressPorts) -> Result<(), IngressError> {
    Ingress::bind(options, Timeouts::default())?.run(ports).await
}

/// One worker per core unless told otherwise.
fn worker_count(asked: usize) -> usize {
    match asked {
        0 => std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get),
        workers => workers,
    }
}
