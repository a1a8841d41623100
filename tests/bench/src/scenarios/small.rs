//! Scenarios 1, 2, 4 and 10: small answers over kept connections.

use super::{Bench, generators, memory, millis, per, per_request};
use crate::error::{BenchError, Result, clean};
use crate::fleet::PATHS;
use crate::measure;
use crate::peers::{Kind, Logging, Peer};
use crate::report::{Column, Figures, Row, Table};
use crate::tools::Load;

/// The share of nginx's greatest rate at which latency is measured.
const SHARE: f64 = 0.6;
/// Beyond this the generator itself, which shares its core with the upstream, would be what is measured.
const MAX_RATE: f64 = 15_000.0;

/// What is spoken to the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    /// HTTP/1.1.
    Http,
    /// HTTP/1.1 over TLS 1.3.
    Https,
    /// HTTP/2 over TLS 1.3.
    Http2,
}

impl Protocol {
    const fn title(self) -> &'static str {
        match self {
            Self::Http => "1. HTTP/1.1, kept connections, 1 KiB",
            Self::Https => "2. HTTP/1.1 over TLS 1.3, kept connections, 1 KiB",
            Self::Http2 => "4. HTTP/2 over TLS 1.3, 16 connections with 32 streams each, 1 KiB",
        }
    }

    const fn generator(self) -> &'static str {
        match self {
            Self::Http => "wrk, 64 connections, 32 hosts",
            Self::Https => "wrk, 64 connections, one host",
            Self::Http2 => "h2load, one host",
        }
    }
}

/// Throughput, then latency at a rate that is the same for all.
pub(super) fn run(bench: &Bench, protocol: Protocol) -> Vec<Table> {
    let peers = bench.start_all(Logging::Off);
    let rate = fixed_rate(bench, protocol, &peers);
    let rows = bench.rounds(peers, |peer| cell(bench, protocol, peer, rate));
    let note = format!(
        "{}. Throughput and CPU at full load; latency at {rate:.0} requests/s, counted from {}.",
        protocol.generator(),
        if protocol == Protocol::Http2 { "sending (h2load)" } else { "the moment a request was due (open loop)" },
    );
    let columns = vec![
        Column::compared("requests/s", 0),
        Column::compared("CPU µs/request", 1),
        Column::compared("p50 ms", 2),
        Column::compared("p99 ms", 2),
        Column::compared("p99.9 ms", 2),
        Column::compared("RSS MiB", 1),
        Column::compared("PSS MiB", 1),
        Column::alone("others on the core", 2),
    ];
    vec![Table { title: protocol.title().to_owned(), note, columns, rows }]
}

/// Scenario 10: the same peer with and without its access log, in one round.
pub(super) fn run_logging(bench: &Bench) -> Vec<Table> {
    let quiet = bench.start_all(Logging::Off);
    let rows = bench.rounds(bench.start_all(Logging::On), |peer| {
        let partner = quiet.iter().filter_map(|(_, other)| other.as_ref()).find(|other| other.kind == peer.kind);
        let missing = || BenchError::Dirty("it did not start without its log".to_owned());
        let without = load(bench, Protocol::Http, partner.ok_or_else(missing)?)?;
        let lines = peer.log_lines()?;
        let with = load(bench, Protocol::Http, peer)?;
        let lines = per(peer.log_lines()?.saturating_sub(lines), with.requests);
        let extra = with.cpu.zip(without.cpu).map(|(with, without)| with - without);
        Ok(vec![Some(with.rate), with.cpu, without.cpu, extra, lines])
    });
    let columns = vec![
        Column::compared("requests/s", 0),
        Column::compared("CPU µs/request", 1),
        Column::alone("without log", 1),
        Column::alone("extra", 1),
        Column::alone("lines/request", 2),
    ];
    let note =
        "Scenario 1 with one line per request written to a file, beside the same peer without. Metrics are on in \
                Ferrogate, always; the peers have none of that kind."
            .to_owned();
    vec![Table { title: "10. Access log on".to_owned(), note, columns, rows }]
}

/// Throughput and what it cost.
struct Full {
    requests: u64,
    rate: f64,
    cpu: Option<f64>,
    foreign: f64,
}

fn load(bench: &Bench, protocol: Protocol, peer: &Peer) -> Result<Full> {
    let before = measure::cpu(peer.id())?;
    let load = throughput(bench, protocol, peer, bench.effort.seconds)?;
    let used = measure::cpu(peer.id())?.since(before);
    clean(&load.errors)?;
    Ok(Full {
        requests: load.requests,
        rate: load.rate,
        cpu: per_request(used.peer, load.requests),
        foreign: used.foreign(),
    })
}

fn throughput(bench: &Bench, protocol: Protocol, peer: &Peer, seconds: u32) -> Result<Load> {
    match protocol {
        Protocol::Http => generators::wrk(bench, peer.place.http, false, seconds),
        Protocol::Https => generators::wrk(bench, peer.place.https, true, seconds),
        Protocol::Http2 => generators::h2load(bench, peer.place.https, seconds),
    }
}

/// Warms every peer up and derives the rate for latencies from what nginx did, or else the slowest but Caddy.
fn fixed_rate(bench: &Bench, protocol: Protocol, peers: &[(Row, Option<Peer>)]) -> f64 {
    let mut slowest = f64::INFINITY;
    let mut of_nginx = None;
    for peer in peers.iter().filter_map(|(_, peer)| peer.as_ref()) {
        // What fails here fails again in its first round, and is reported there.
        let Ok(load) = throughput(bench, protocol, peer, 1) else { continue };
        match peer.kind {
            Kind::Nginx => of_nginx = Some(load.rate),
            Kind::Caddy => {}
            Kind::Ferrogate | Kind::Haproxy => slowest = slowest.min(load.rate),
        }
    }
    let rate = SHARE * of_nginx.unwrap_or(slowest);
    (rate.min(MAX_RATE) / 100.0).floor().max(1.0) * 100.0
}

fn cell(bench: &Bench, protocol: Protocol, peer: &Peer, rate: f64) -> Result<Figures> {
    let full = load(bench, protocol, peer)?;
    let [p50, p99, p999] = latency(bench, protocol, peer, rate)?.map(millis);
    let [rss, pss] = memory(peer)?;
    Ok(vec![Some(full.rate), full.cpu, p50, p99, p999, Some(rss), Some(pss), Some(full.foreign)])
}

fn latency(bench: &Bench, protocol: Protocol, peer: &Peer, rate: f64) -> Result<[Option<u64>; 3]> {
    if protocol == Protocol::Http2 {
        let (load, histogram) = generators::h2load_at(bench, peer.place.https, bench.effort.seconds, rate)?;
        clean(&load.errors)?;
        return Ok([500, 990, 999].map(|permille| histogram.permille(permille)));
    }
    let tls = protocol == Protocol::Https;
    let address = if tls { peer.place.https } else { peer.place.http };
    let mut command = generators::own(bench, "run", address, bench.fleet.asked());
    command.args(["--paths", &PATHS.join(","), "--rate", &rate.to_string()]);
    command.args(["--seconds", &bench.effort.seconds.to_string()]).args(tls.then_some("--tls"));
    let outcome = generators::outcome(&mut command)?;
    Ok([outcome.p50, outcome.p99, outcome.p999])
}
