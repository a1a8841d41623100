//! Running the load generators.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::Command;

use super::{Bench, scratch, written};
use crate::error::{BenchError, Result, clean, write};
use crate::fleet::PATHS;
use crate::histogram::Histogram;
use crate::load::Outcome;
use crate::process::{Background, LOAD_CORE, pinned, run};
use crate::tools::{Load, parse_h2load, parse_h2load_log, parse_wrk};

/// Connections of the small scenarios.
pub(super) const CONNECTIONS: usize = 64;

/// One run of wrk over kept connections; over TLS, with the first host as server name.
pub(super) fn wrk(bench: &Bench, address: SocketAddr, tls: bool, seconds: u32) -> Result<Load> {
    let hosts = bench.fleet.asked();
    let hosts = if tls { &hosts[..1] } else { &hosts };
    let script = scratch(bench)?.join("wrk.lua");
    write(&script, lua(address, hosts))?;
    let url = format!("{}://{}:{}/", if tls { "https" } else { "http" }, hosts[0], address.port());
    let mut command = pinned(LOAD_CORE, "wrk");
    command.args(["-t1", &format!("-c{CONNECTIONS}"), &format!("-d{seconds}s"), "-s"]).arg(script).arg(url);
    let output = run(&mut command)?;
    parse_wrk(&output).ok_or(BenchError::Output { program: "wrk".to_owned(), what: "result", output })
}

/// Requests for all hosts and paths in turn, made beforehand; and the address, which no resolver knows.
fn lua(address: SocketAddr, hosts: &[&str]) -> String {
    let mut text = format!(
        "function wrk.resolve(host, service)\n  wrk.addrs = wrk.lookup(\"{}\", service)\nend\n\
         local requests, number = {{}}, 0\nfunction init(args)\n",
        address.ip()
    );
    for path in PATHS {
        for host in hosts {
            let _ =
                writeln!(text, "  requests[#requests + 1] = wrk.format(\"GET\", \"{path}\", {{Host = \"{host}\"}})");
        }
    }
    text + "end\nfunction request()\n  number = number % #requests + 1\n  return requests[number]\nend\n"
}

/// One run of h2load: 16 connections with 32 streams each, for the first host.
pub(super) fn h2load(bench: &Bench, address: SocketAddr, seconds: u32) -> Result<Load> {
    h2load_with(bench, address, seconds, &[])
}

/// The same at a fixed rate; the latencies are h2load's, from the moment of sending.
pub(super) fn h2load_at(bench: &Bench, address: SocketAddr, seconds: u32, rate: f64) -> Result<(Load, Histogram)> {
    let log = scratch(bench)?.join("h2load.log");
    match std::fs::remove_file(&log) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let rps = format!("{:.1}", rate / 16.0);
    let load = h2load_with(bench, address, seconds, &["--rps", &rps, "--log-file", &log.display().to_string()])?;
    let mut histogram = Histogram::default();
    for micros in parse_h2load_log(&written(log)?).flatten() {
        histogram.record(std::time::Duration::from_micros(micros));
    }
    Ok((load, histogram))
}

fn h2load_with(bench: &Bench, address: SocketAddr, seconds: u32, more: &[&str]) -> Result<Load> {
    let host = &bench.fleet.sites[0].host;
    let mut command = pinned(LOAD_CORE, "h2load");
    command.args(["-t1", "-c16", "-m32", "-D", &seconds.to_string(), "--connect-to", &address.to_string()]);
    command.args(more).args(PATHS.map(|path| format!("https://{host}{path}")));
    let output = run(&mut command)?;
    parse_h2load(&output).ok_or(BenchError::Output { program: "h2load".to_owned(), what: "result", output })
}

/// Arguments of our own generator that most runs share.
pub(super) fn own<'a>(
    bench: &Bench,
    verb: &str,
    address: SocketAddr,
    hosts: impl IntoIterator<Item = &'a str>,
) -> Command {
    let hosts: Vec<&str> = hosts.into_iter().collect();
    let mut command = bench.load();
    command.args([verb, "--target", &address.to_string(), "--hosts", &hosts.join(",")]);
    command
}

/// Runs it to its end; an error if the run had any.
pub(super) fn outcome(command: &mut Command) -> Result<Outcome> {
    let outcome = read_outcome(run(command)?)?;
    clean(&outcome.errors())?;
    Ok(outcome)
}

/// Reads what it printed, errors included.
pub(super) fn read_outcome(output: String) -> Result<Outcome> {
    serde_json::from_str(&output).map_err(|_| BenchError::Output {
        program: "load".to_owned(),
        what: "outcome",
        output,
    })
}

/// The first line that a program in the background prints.
pub(super) fn first_line(program: &mut Background) -> Result<String> {
    let mut line = String::new();
    BufReader::new(program.output()?).read_line(&mut line)?;
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_host_and_path_is_asked_for() {
        let text = lua(SocketAddr::from(([127, 1, 2, 3], 80)), &["a.test", "b.test"]);
        assert_eq!(text.matches("wrk.format").count(), 2 * PATHS.len());
        assert!(text.contains("wrk.lookup(\"127.1.2.3\", service)"), "{text}");
    }
}
