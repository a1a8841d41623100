//! Scenario 3: a new TLS connection for every request.

use super::{Bench, generators, memory, millis, per_request};
use crate::error::{BenchError, Result};
use crate::load::Outcome;
use crate::measure;
use crate::peers::{Logging, Peer};
use crate::report::{Column, Figures, Table};

/// Connections at a time in the closed loop.
const CONNECTIONS: &str = "16";
/// New connections per second when latency is measured: what every peer can do on one core.
const RATE: f64 = 1000.0;
/// The share of handshakes that has to be of the kind asked for; the first to each host cannot resume.
const PURITY: f64 = 0.9;

/// What a table is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Full,
    Resumed,
}

impl Kind {
    const fn flag(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Resumed => "resumed",
        }
    }
}

/// One table for full and one for resumed handshakes.
pub(super) fn run(bench: &Bench) -> Vec<Table> {
    [Kind::Full, Kind::Resumed].into_iter().map(|kind| table(bench, kind)).collect()
}

fn table(bench: &Bench, kind: Kind) -> Table {
    let rows = bench.rounds(bench.start_all(Logging::Off), |peer| cell(bench, peer, kind));
    let columns = vec![
        Column::compared("connections/s", 0),
        Column::compared("CPU µs/connection", 0),
        Column::compared("p50 ms", 2),
        Column::compared("p99 ms", 2),
        Column::compared("p99.9 ms", 2),
        Column::compared("RSS MiB", 1),
        Column::compared("PSS MiB", 1),
        Column::alone("others on the core", 2),
    ];
    let note = format!(
        "Connect, {} handshake (TLS 1.3, X25519, ECDSA P-256; the client trusts blindly), one request, close; 32 hosts. \
         Throughput and CPU with {CONNECTIONS} at a time; latency of all of it at {RATE:.0} connections/s (open loop).",
        kind.flag()
    );
    Table { title: format!("3. New TLS connection per request, {}", kind.flag()), note, columns, rows }
}

fn cell(bench: &Bench, peer: &Peer, kind: Kind) -> Result<Figures> {
    let run = |more: &[&str]| {
        let mut command = generators::own(bench, "run", peer.place.https, bench.fleet.asked());
        command.args(["--tls", "--fresh", kind.flag(), "--seconds", &bench.effort.seconds.to_string()]).args(more);
        usable(generators::outcome(&mut command)?, kind)
    };
    let before = measure::cpu(peer.id())?;
    let full = run(&["--connections", CONNECTIONS])?;
    let used = measure::cpu(peer.id())?.since(before);
    let timed = run(&["--rate", &RATE.to_string()])?;
    let [rss, pss] = memory(peer)?;
    let [p50, p99, p999] = [timed.p50, timed.p99, timed.p999].map(millis);
    let cpu = per_request(used.peer, full.requests);
    Ok(vec![Some(full.rate()), cpu, p50, p99, p999, Some(rss), Some(pss), Some(used.foreign())])
}

/// The outcome, if its handshakes were of the kind asked for.
fn usable(outcome: Outcome, kind: Kind) -> Result<Outcome> {
    #[expect(clippy::cast_precision_loss, reason = "no run makes 2^52 handshakes")]
    let resumed = outcome.resumed as f64 / outcome.handshakes.max(1) as f64;
    let share = if kind == Kind::Resumed { resumed } else { 1.0 - resumed };
    if share >= PURITY {
        return Ok(outcome);
    }
    Err(BenchError::Dirty(format!("only {:.0} % of handshakes were {}", share * 100.0, kind.flag())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handshakes_of_the_wrong_kind_do_not_count() {
        let outcome = Outcome { requests: 100, handshakes: 100, resumed: 97, ..Outcome::default() };
        assert!(usable(outcome.clone(), Kind::Resumed).is_ok());
        assert_eq!(usable(outcome, Kind::Full).unwrap_err().to_string(), "only 3 % of handshakes were full");
    }
}
