//! The proxies that are compared, each configured for the same work and running.
//!
//! One worker each, TLS 1.2 and 1.3 with tickets, kept connections to the endpoints, the request headers that an
//! ingress sets, bodies streamed and not spooled. Where a default would have cost a peer (spooling to disk, a limit of
//! 1000 requests to a connection), it is set to what suits that peer best.

mod caddy;
mod ferrogate;
mod haproxy;
mod nginx;
mod probe;

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use clap::ValueEnum;
use ferrogate_tests::loopback;

use crate::error::{BenchError, Result, folder, read};
use crate::fleet::{Fleet, Site};
use crate::process::{Background, wait_until};

pub use probe::{Seen, Watch, ask};

/// How long a peer may take to serve its first request; nginx reads 10 000 certificates in its own time.
const PATIENCE: Duration = Duration::from_mins(3);

/// Which proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum)]
pub enum Kind {
    /// Ours
    Ferrogate,
    /// nginx
    Nginx,
    /// HAProxy
    Haproxy,
    /// Caddy
    Caddy,
}

impl Kind {
    /// All of them, ours first.
    pub const ALL: [Self; 4] = [Self::Ferrogate, Self::Nginx, Self::Haproxy, Self::Caddy];
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ferrogate => "Ferrogate",
            Self::Nginx => "nginx",
            Self::Haproxy => "HAProxy",
            Self::Caddy => "Caddy",
        })
    }
}

/// Where the programs are.
#[derive(Clone, Debug)]
pub struct Programs(pub Vec<(Kind, PathBuf)>);

/// How a peer is set up, besides the fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Logging {
    /// No access log.
    Off,
    /// One line per request into a file.
    On,
}

/// Where one peer lives.
#[derive(Clone, Debug)]
pub struct Place {
    /// Its configuration and whatever it writes.
    pub folder: PathBuf,
    /// Where it accepts HTTP.
    pub http: SocketAddr,
    /// Where it accepts HTTPS.
    pub https: SocketAddr,
    /// Where it answers its operator, if it does by TCP.
    pub admin: SocketAddr,
    /// Whether it writes an access log.
    pub logging: Logging,
}

/// A running proxy; ended on drop.
#[derive(Debug)]
pub struct Peer {
    /// Which.
    pub kind: Kind,
    /// Where.
    pub place: Place,
    /// How long it took to serve its first request.
    pub start: Duration,
    process: Background,
}

impl Peer {
    /// Configures and starts it, and waits until it serves the last host of the fleet.
    pub fn start(kind: Kind, program: &Path, fleet: &Fleet, parent: &Path, logging: Logging) -> Result<Self> {
        let name = format!("{kind}-{}-{}", fleet.sites.len(), if logging == Logging::On { "log" } else { "quiet" });
        let ip = loopback::address();
        let port = || loopback::port(ip);
        let (http, https, admin) = (port(), port(), port());
        let place = Place { folder: folder(parent.join(name.to_lowercase()))?, http, https, admin, logging };
        let command = configure(kind, program, &place, fleet)?;
        let watch = probe::Watch::start();
        let process = Background::start(command, &place.output())?;
        let mut peer = Self { kind, place, start: Duration::ZERO, process };
        let last = &fleet.sites[fleet.sites.len() - 1];
        peer.wait_for(&last.host)?;
        peer.start = watch.elapsed();
        Ok(peer)
    }

    /// The id of its first process.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Whether it still runs; what it last wrote, if not.
    pub fn check(&mut self) -> Result<()> {
        let Some(status) = self.process.ended()? else { return Ok(()) };
        let output = read(self.place.output())?;
        let tail = output.lines().rev().take(10).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n");
        Err(BenchError::Failed { program: self.kind.to_string(), status: status.to_string(), output: tail })
    }

    /// How many lines it has logged.
    pub fn log_lines(&self) -> Result<u64> {
        let path = match self.kind {
            Kind::Nginx => nginx::access_log(&self.place),
            Kind::Ferrogate | Kind::Haproxy | Kind::Caddy => self.place.output(),
        };
        let bytes = std::fs::read(&path).map_err(|source| BenchError::File { path, source })?;
        Ok(bytes.iter().map(|byte| u64::from(*byte == b'\n')).sum())
    }

    fn wait_for(&mut self, host: &str) -> Result<()> {
        let served = wait_until(PATIENCE, || {
            self.check()?;
            Ok(ask(self.place.http, host).is_ok_and(|seen| seen.status == 200))
        })?;
        let what = format!("the first answer of {}", self.kind);
        if served { Ok(()) } else { Err(BenchError::Late { what, seconds: PATIENCE.as_secs() }) }
    }

    /// Tells it that a site's endpoint has moved, as its operator would: writes what has to be written, then says so.
    pub fn tell(&self, way: Way, fleet: &Fleet, site: &Site) -> Result<()> {
        match (self.kind, way) {
            (Kind::Ferrogate, _) => ferrogate::tell(&self.place, site),
            (Kind::Nginx, _) => nginx::tell(&self.place, site, &self.process),
            (Kind::Haproxy, Way::Reload) => haproxy::reload(&self.place, fleet, site, &self.process),
            (Kind::Haproxy, Way::Runtime) => haproxy::set_server(&self.place, site),
            (Kind::Caddy, _) => Ok(()),
        }
    }
}

/// How a change is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// By its configuration.
    Reload,
    /// By HAProxy's runtime API, which can do this change but not every one.
    Runtime,
}

impl Place {
    /// Where its output goes, access log included.
    #[must_use]
    pub fn output(&self) -> PathBuf {
        self.folder.join("output.log")
    }
}

fn configure(kind: Kind, program: &Path, place: &Place, fleet: &Fleet) -> Result<Command> {
    match kind {
        Kind::Ferrogate => ferrogate::configure(program, place, fleet),
        Kind::Nginx => nginx::configure(program, place, fleet),
        Kind::Haproxy => haproxy::configure(program, place, fleet),
        Kind::Caddy => caddy::configure(program, place, fleet),
    }
}

/// An address for tests of the texts.
#[cfg(test)]
fn example() -> (tempfile::TempDir, Place, Fleet) {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
    let place =
        Place { folder: folder.path().to_owned(), http: at(1), https: at(2), admin: at(3), logging: Logging::Off };
    (folder, place, Fleet::new(3, 8080))
}
