//! Scenario 5: large bodies, down and up.

use super::{Bench, generators, memory, millis, per_request};
use crate::error::Result;
use crate::measure;
use crate::peers::{Logging, Peer};
use crate::report::{Column, Figures, Table};

/// The smaller body.
const MEDIUM: u64 = 1 << 20;

/// Where the body goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Down,
    Up,
}

/// A table for each size and direction.
pub(super) fn run(bench: &Bench) -> Vec<Table> {
    let cases = [(MEDIUM, Direction::Down), (MEDIUM, Direction::Up)];
    let large = [(bench.effort.large, Direction::Down), (bench.effort.large, Direction::Up)];
    cases.into_iter().chain(large).map(|(size, direction)| table(bench, size, direction)).collect()
}

fn table(bench: &Bench, size: u64, direction: Direction) -> Table {
    let connections = if size > MEDIUM { 2 } else { 8 };
    let rows = bench.rounds(bench.start_all(Logging::Off), |peer| cell(bench, peer, size, direction, connections));
    let columns = vec![
        Column::compared("MiB/s", 0),
        Column::compared("CPU µs/MiB", 1),
        Column::compared("p50 ms", 2),
        Column::compared("p99 ms", 2),
        Column::compared("RSS MiB", 1),
        Column::compared("PSS MiB", 1),
        Column::alone("others on the core", 2),
    ];
    let way = if direction == Direction::Down { "down" } else { "up" };
    let note = format!(
        "HTTP/1.1 without TLS, {connections} connections, each asking again as soon as it is answered; the latency is \
         that of such a loop. nginx neither spools to disk nor buffers requests."
    );
    Table { title: format!("5. {} MiB bodies, {way}", size >> 20), note, columns, rows }
}

fn cell(bench: &Bench, peer: &Peer, size: u64, direction: Direction, connections: u32) -> Result<Figures> {
    let mut command = generators::own(bench, "run", peer.place.http, bench.fleet.asked());
    command.args(["--connections", &connections.to_string(), "--seconds", &bench.effort.seconds.to_string()]);
    match direction {
        Direction::Down => command.args(["--paths", &format!("/bytes/{size}")]),
        Direction::Up => command.args(["--upload", &size.to_string()]),
    };
    let before = measure::cpu(peer.id())?;
    let outcome = generators::outcome(&mut command)?;
    let used = measure::cpu(peer.id())?.since(before);
    let mib = u32::try_from(size >> 20).unwrap_or(u32::MAX);
    let [rss, pss] = memory(peer)?;
    Ok(vec![
        Some(outcome.rate() * f64::from(mib)),
        per_request(used.peer, outcome.requests * u64::from(mib)),
        millis(outcome.p50),
        millis(outcome.p99),
        Some(rss),
        Some(pss),
        Some(used.foreign()),
    ])
}
