//! Scenario 8: what an idle kept connection costs, and whether many of them slow an active one.

use super::{Bench, generators, memory, millis};
use crate::error::{BenchError, Result};
use crate::peers::{Kind, Logging};
use crate::process::{Background, open_files};
use crate::report::{Column, Figures, Row, Table};

/// Requests per second on other connections meanwhile.
const RATE: &str = "500";

/// One table without and one with TLS.
pub(super) fn run(bench: &Bench) -> Vec<Table> {
    [false, true].into_iter().map(|tls| table(bench, tls)).collect()
}

fn table(bench: &Bench, tls: bool) -> Table {
    let mut rows: Vec<Row> = bench.programs.0.iter().map(|(kind, _)| Row::new(kind)).collect();
    for _ in 0..bench.effort.rounds {
        for (row, (kind, _)) in rows.iter_mut().zip(&bench.programs.0) {
            row.push(cell(bench, *kind, tls));
        }
    }
    let columns = vec![
        Column::compared("idle process, PSS MiB", 1),
        Column::compared("with connections, PSS MiB", 1),
        Column::compared("KiB/connection", 2),
        Column::compared("active p50 ms", 2),
        Column::compared("active p99 ms", 2),
    ];
    let note = format!(
        "{} connections over {}, one request on each, then nothing; a fresh process in every round. The kernel's socket \
         buffers are not counted. Active: {RATE} requests/s on 64 other connections meanwhile (open loop).",
        count(bench),
        if tls { "TLS 1.3" } else { "TCP" }
    );
    let title = format!("8. Idle connections over {}", if tls { "https" } else { "http" });
    Table { title, note, columns, rows }
}

/// As many as asked for, or as there are descriptors for: HAProxy reserves two to each.
fn count(bench: &Bench) -> u32 {
    bench.effort.idle.min((open_files() / 2).saturating_sub(300))
}

fn cell(bench: &Bench, kind: Kind, tls: bool) -> Result<Figures> {
    let peer = &bench.start(kind, &bench.fleet, Logging::Off)?;
    let address = if tls { peer.place.https } else { peer.place.http };
    let [_, before] = memory(peer)?;
    let mut hold = generators::own(bench, "hold", address, bench.fleet.asked());
    hold.args(["--connections", &count(bench).to_string()]).args(tls.then_some("--tls"));
    let mut holder = Background::start_piped(hold)?;
    let said = generators::first_line(&mut holder)?;
    if !said.starts_with("{\"held\"") {
        return Err(BenchError::Dirty(format!("{} connections could not be held", count(bench))));
    }
    let [_, after] = memory(peer)?;
    let mut active = generators::own(bench, "run", address, bench.fleet.asked());
    active.args(["--rate", RATE, "--seconds", &bench.effort.seconds.to_string()]).args(tls.then_some("--tls"));
    let outcome = generators::outcome(&mut active)?;
    holder.finish()?;
    let each = (after - before) * 1024.0 / f64::from(count(bench));
    Ok(vec![Some(before), Some(after), Some(each), millis(outcome.p50), millis(outcome.p99)])
}
