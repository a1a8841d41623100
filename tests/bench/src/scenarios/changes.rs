//! Scenario 9: a Service's endpoint moves while others are asked.
//!
//! One after the other, since a large fleet of nginx alone fills a core for a while: a peer is started, asked at a
//! fixed rate in peace, then asked at the same rate while the endpoint of a site that nobody else asks for moves from
//! address to address, never back: old workers linger, and an address of old would be answered by them. A change counts
//! as served when a new connection gets an answer of the new endpoint.

use std::net::IpAddr;
use std::time::Duration;

use super::{Bench, generators, memory, millis};
use crate::error::{BenchError, Result};
use crate::fleet::{Fleet, Site};
use crate::load::Outcome;
use crate::peers::{Kind, Logging, Peer, Watch, Way, ask};
use crate::process::{Background, wait_until};
use crate::report::{Column, Figures, Row, Table};
use crate::stats::Spread;

/// Requests per second meanwhile, on this many connections.
const RATE: &str = "1000";
const CONNECTIONS: &str = "32";
/// Changes in a round.
const CHANGES: u8 = 4;
/// How long is waited before each change: a reload that comes on the heels of another may be lost.
const SETTLING: Duration = Duration::from_secs(1);
/// How long a change may take; nginx needs most of it for a large fleet.
const PATIENCE: Duration = Duration::from_mins(2);
/// How long is waited after the last change, for what it did to connections.
const AFTERMATH: Duration = Duration::from_secs(1);

/// A table for the small and one for the large fleet.
pub(super) fn run(bench: &Bench) -> impl Iterator<Item = Table> + '_ {
    bench.effort.fleets.into_iter().map(move |size| table(bench, size))
}

fn table(bench: &Bench, size: usize) -> Table {
    let fleet = Fleet::new(size, bench.upstream_port);
    let mut rows: Vec<(Kind, Way, Row)> = Vec::new();
    for (kind, _) in &bench.programs.0 {
        match kind {
            // It stores its configuration as a whole; a reload is not what its users are told to do.
            Kind::Caddy => {}
            Kind::Haproxy => {
                rows.push((*kind, Way::Reload, Row::new(&"HAProxy, reload")));
                rows.push((*kind, Way::Runtime, Row::new(&"HAProxy, runtime API")));
            }
            Kind::Nginx => rows.push((*kind, Way::Reload, Row::new(&"nginx, reload"))),
            Kind::Ferrogate => rows.push((*kind, Way::Reload, Row::new(kind))),
        }
    }
    for _ in 0..bench.effort.rounds.min(3) {
        for (kind, way, row) in &mut rows {
            eprintln!("  {size} Ingresses: {}", row.name);
            row.push(cell(bench, *kind, *way, &fleet));
        }
    }
    let columns = vec![
        Column::compared("served after, ms", 1),
        Column::compared("slowest, ms", 1),
        Column::alone("p99 in peace, ms", 2),
        Column::compared("p99 meanwhile, ms", 2),
        Column::alone("failed requests", 0),
        Column::alone("closed connections", 0),
        Column::compared("RSS MiB before", 0),
        Column::compared("RSS MiB after", 0),
        Column::compared("start to first answer, ms", 0),
    ];
    let note = format!(
        "An endpoint moves {CHANGES} times in a round; served after: median from the moment everything is written and \
         told until a new connection is answered by the new endpoint (asked every millisecond). Meanwhile {RATE} \
         requests/s on {CONNECTIONS} kept connections (open loop); failed and closed are what happened to those."
    );
    let rows = rows.into_iter().map(|(_, _, row)| row).collect();
    Table { title: format!("9. Changes with {size} TLS Ingresses"), note, columns, rows }
}

fn cell(bench: &Bench, kind: Kind, way: Way, fleet: &Fleet) -> Result<Figures> {
    let peer = &bench.start(kind, fleet, Logging::Off)?;
    let [rss_before, _] = memory(peer)?;
    let mut peace = traffic(bench, peer, fleet);
    let peace = generators::outcome(peace.args(["--seconds", &bench.effort.seconds.to_string()]))?;
    let mut meanwhile = traffic(bench, peer, fleet);
    meanwhile.args(["--seconds", "600", "--until-stdin-closes"]);
    let traffic = Background::start_piped(meanwhile)?;
    let mut times = Vec::new();
    for number in 1..=CHANGES {
        std::thread::sleep(SETTLING);
        let time = change(peer, way, fleet, &fleet.sites[1].moved(number))?;
        times.push(time.as_secs_f64() * 1000.0);
    }
    std::thread::sleep(AFTERMATH);
    let outcome = generators::read_outcome(traffic.finish()?)?;
    let [rss_after, _] = memory(peer)?;
    Ok(figures(times, &peace, &outcome, [rss_before, rss_after], peer.start))
}

fn figures(times: Vec<f64>, peace: &Outcome, outcome: &Outcome, rss: [f64; 2], start: Duration) -> Figures {
    let times = Spread::of(times);
    let count = |count: u64| Some(f64::from(u32::try_from(count).unwrap_or(u32::MAX)));
    vec![
        times.map(|times| times.median),
        times.map(|times| times.max),
        millis(peace.p99),
        millis(outcome.p99),
        count(outcome.failed + outcome.refused + outcome.unfinished),
        count(outcome.closed),
        Some(rss[0]),
        Some(rss[1]),
        Some(start.as_secs_f64() * 1000.0),
    ]
}

fn traffic(bench: &Bench, peer: &Peer, fleet: &Fleet) -> std::process::Command {
    let mut command = generators::own(bench, "run", peer.place.http, fleet.asked());
    command.args(["--rate", RATE, "--connections", CONNECTIONS]);
    command
}

/// Makes a change and returns how long it took to be served.
fn change(peer: &Peer, way: Way, fleet: &Fleet, site: &Site) -> Result<Duration> {
    let wanted: IpAddr = site.endpoint.ip();
    peer.tell(way, fleet, site)?;
    let watch = Watch::start();
    let served = wait_until(PATIENCE, || {
        // A refused connection is not the new answer either.
        Ok(ask(peer.place.http, &site.host).is_ok_and(|seen| seen.endpoint == Some(wanted)))
    })?;
    let late = || BenchError::Late { what: "the new answer".to_owned(), seconds: PATIENCE.as_secs() };
    served.then(|| watch.elapsed()).ok_or_else(late)
}
