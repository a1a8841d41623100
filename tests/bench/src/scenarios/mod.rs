//! The kinds of work, by their numbers.
//!
//! | number | work | where |
//! |---|---|---|
//! | 1, 2, 4 | small answers over kept connections: HTTP/1.1, over TLS 1.3, HTTP/2 | [`small`] |
//! | 3 | a new TLS connection for every request | [`handshakes`] |
//! | 5 | large bodies | [`bodies`] |
//! | 8 | idle connections | [`idle`] |
//! | 9 | changes of the configuration under traffic | [`changes`] |
//! | 10 | the access log | [`small`] |
//! | 6, 7, 11, 12 | wait for a feature | [`missing`] |

mod bodies;
mod changes;
mod generators;
mod handshakes;
mod idle;
mod small;

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::error::{Result, folder, read};
use crate::fleet::Fleet;
use crate::measure;
use crate::peers::{Kind, Logging, Peer, Programs};
use crate::process::{Background, LOAD_CORE, pinned};
use crate::report::{Figures, Row, Table};

/// All numbers.
pub const ALL: [u8; 12] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];

/// How long and how much.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// How often every peer runs.
    pub rounds: usize,
    /// Seconds of load in a run.
    pub seconds: u32,
    /// Ingresses.
    pub sites: usize,
    /// Ingresses of scenario 9: a small fleet and a large one.
    pub fleets: [usize; 2],
    /// Idle connections of scenario 8.
    pub idle: u32,
    /// Bytes of a large body in scenario 5.
    pub large: u64,
}

impl Effort {
    /// What figures are published with.
    pub const FULL: Self =
        Self { rounds: 5, seconds: 5, sites: 1000, fleets: [1000, 10_000], idle: 10_000, large: 100 << 20 };
    /// Enough to see that everything works.
    pub const QUICK: Self = Self { rounds: 1, seconds: 1, sites: 100, fleets: [100, 200], idle: 200, large: 4 << 20 };
}

/// Running peers with their rows; none for one that did not start.
type Peers = Vec<(Row, Option<Peer>)>;

/// What all scenarios use.
#[derive(Debug)]
pub struct Bench {
    /// How long and how much.
    pub effort: Effort,
    /// The proxies.
    pub programs: Programs,
    /// Where everything is written.
    pub folder: PathBuf,
    /// Where `load` and `upstream` are.
    pub tools: PathBuf,
    /// The fleet of all scenarios but 9.
    pub fleet: Fleet,
    upstream_port: u16,
    _upstream: Background,
}

impl Bench {
    /// Starts the upstream and makes the fleet.
    pub fn new(effort: Effort, programs: Programs, folder: PathBuf, tools: PathBuf) -> Result<Self> {
        let mut upstream = Background::start_piped(pinned(LOAD_CORE, tools.join("upstream")))?;
        let upstream_port = generators::first_line(&mut upstream)?.trim().parse().unwrap_or(0);
        let fleet = Fleet::new(effort.sites, upstream_port);
        Ok(Self { effort, programs, folder, tools, fleet, upstream_port, _upstream: upstream })
    }

    /// Runs a scenario.
    #[must_use]
    pub fn run(&self, scenario: u8) -> Vec<Table> {
        match scenario {
            1 => small::run(self, small::Protocol::Http),
            2 => small::run(self, small::Protocol::Https),
            3 => handshakes::run(self),
            4 => small::run(self, small::Protocol::Http2),
            5 => bodies::run(self),
            8 => idle::run(self),
            9 => changes::run(self),
            10 => small::run_logging(self),
            _ => Vec::new(),
        }
    }

    /// The program `load`, on its core.
    fn load(&self) -> Command {
        pinned(LOAD_CORE, self.tools.join("load"))
    }

    /// Starts a peer.
    fn start(&self, kind: Kind, fleet: &Fleet, logging: Logging) -> Result<Peer> {
        let program = self.programs.0.iter().find(|(other, _)| *other == kind).map(|(_, path)| path.as_path());
        Peer::start(kind, program.unwrap_or_else(|| "".as_ref()), fleet, &self.folder, logging)
    }

    /// Starts all peers; one that does not start has a row that says so.
    fn start_all(&self, logging: Logging) -> Peers {
        let start = |(kind, _): &(Kind, PathBuf)| {
            let mut row = Row::new(kind);
            let peer = self.start(*kind, &self.fleet, logging).map_err(|error| row.push(Err(error))).ok();
            (row, peer)
        };
        self.programs.0.iter().map(start).collect()
    }

    /// Lets every peer run once in every round, each round beginning with another, and returns the rows.
    fn rounds(&self, mut peers: Peers, mut run: impl FnMut(&mut Peer) -> Result<Figures>) -> Vec<Row> {
        for round in 0..self.effort.rounds {
            for turn in 0..peers.len() {
                let index = (round + turn) % peers.len();
                if let (row, Some(peer)) = &mut peers[index] {
                    row.push(peer.check().and_then(|()| run(peer)));
                }
            }
        }
        peers.into_iter().map(|(row, _)| row).collect()
    }
}

/// Resident and proportional memory, in MiB.
fn memory(peer: &Peer) -> Result<[f64; 2]> {
    let memory = measure::memory(peer.id())?;
    #[expect(clippy::cast_precision_loss, reason = "no process has 2^52 KiB")]
    let mib = |kib: u64| kib as f64 / 1024.0;
    Ok([mib(memory.rss), mib(memory.pss)])
}

/// Microseconds as milliseconds.
fn millis(micros: Option<u64>) -> Option<f64> {
    micros.map(|micros| Duration::from_micros(micros).as_secs_f64() * 1000.0)
}

/// CPU time per request, in microseconds.
fn per_request(cpu: Duration, requests: u64) -> Option<f64> {
    per(u64::try_from(cpu.as_micros()).unwrap_or(u64::MAX), requests)
}

/// So much for each of so many.
fn per(amount: u64, count: u64) -> Option<f64> {
    #[expect(clippy::cast_precision_loss, reason = "no run makes 2^52 of anything")]
    (count > 0).then(|| amount as f64 / count as f64)
}

/// Why a scenario is not built yet.
#[must_use]
pub const fn missing(scenario: u8) -> Option<(&'static str, &'static str)> {
    match scenario {
        6 => Some(("gRPC unary", "HTTP/2 to endpoints, chosen per Service")),
        7 => Some(("WebSocket messages", "nothing of the proxy, but a generator that speaks WebSocket")),
        11 => Some(("PROXY protocol and forwarded headers", "PROXY protocol on listeners")),
        12 => Some(("rate limit, auth and rewrite on", "these annotations")),
        _ => None,
    }
}

/// A folder for the files of a scenario's generators.
fn scratch(bench: &Bench) -> Result<PathBuf> {
    folder(bench.folder.join("generators"))
}

/// Reads a file that a generator wrote.
fn written(path: PathBuf) -> Result<String> {
    read(path)
}
