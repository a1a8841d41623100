//! The speaker measured on a LAN of two network namespaces.
//!
//! ```text
//!  namespace node                         namespace peer
//!  ferrogate speaker, 1000 VIPs  <─veth─> ask (one question at a time), storm (foreign ARP)
//! ```
//!
//! `ask` and `storm` are processes of their own, the first scheduled in real time, so that what it measures is the
//! answer and not its own waiting.
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

pub mod frames;
pub mod peer;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ferrogate_tests::appliance::{Appliance, Builder};
use ferrogate_tests::folder::Folder;
use ferrogate_tests::manifests::{load_balancer, pool};
use ferrogate_tests::netns::{Lan, Wire};

use crate::speaker::peer::Latency;

/// VIPs that are announced.
const VIPS: u32 = 1000;
/// The first of them.
const FIRST: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 0);
/// Foreign ARP packets a second in a storm.
const STORM: u32 = 10_000;
/// How long CPU time is counted.
const SPAN: Duration = Duration::from_secs(10);
/// Questions of one series.
const QUESTIONS: u32 = 5000;

/// Measures everything; the tables, in Markdown.
pub async fn measure() -> Result<String, String> {
    let (lan, folder) = (Lan::new(), Folder::new());
    let last = Ipv4Addr::from_bits(FIRST.to_bits() + VIPS - 1);
    folder.write("pool.yaml", &pool(&[&format!("{FIRST}-{last}")]));
    let arguments = ["--roles", "speaker", "--log-level", "warn"];
    let appliance = Builder::new(folder.path()).inside(lan.node.name()).with(&arguments).start().await;
    let mut wire = lan.listen();
    let services: Vec<String> = (0..VIPS).map(|number| load_balancer("bench", &format!("s{number}"))).collect();
    let written = Instant::now();
    folder.write("services.yaml", &services.join("---\n"));
    let announced = announcement(&mut wire, written)?;
    let mut text = format!(
        "| {VIPS} new Services | ms |\n| --- | ---: |\n| file written to first announcement | {} |\n\
         | file written to last VIP announced | {} |\n\n",
        announced.first.as_millis(),
        announced.last.as_millis()
    );
    quiet(&mut wire);
    drop(wire);
    text.push_str("| ARP answer, µs | p50 | p99 | p99.9 | max | lost |\n| --- | ---: | ---: | ---: | ---: | ---: |\n");
    series(&mut text, "machine as it is", &lan)?;
    let hogs = Hogs::start()?;
    series(&mut text, &format!("{} busy loops beside", hogs.0.len()), &lan)?;
    drop(hogs);
    let storm = start_storm(&lan)?;
    series(&mut text, &format!("{STORM} foreign ARP/s"), &lan)?;
    drop(storm);
    text.push_str("\n| CPU of the process, % of a core | |\n| --- | ---: |\n");
    let _ = writeln!(text, "| nothing happens | {:.2} |", cpu(&appliance)?);
    let storm = start_storm(&lan)?;
    let _ = writeln!(text, "| {STORM} foreign ARP/s | {:.2} |", cpu(&appliance)?);
    drop(storm);
    Ok(text)
}

/// When VIPs were announced, counted from the change.
struct Announced {
    first: Duration,
    last: Duration,
}

/// Listens until every VIP was announced.
fn announcement(wire: &mut Wire, since: Instant) -> Result<Announced, String> {
    let (mut heard, mut first) = (BTreeSet::new(), None);
    while since.elapsed() < Duration::from_mins(2) {
        let Some(ip) = wire.frame().as_deref().and_then(frames::announced) else { continue };
        first.get_or_insert_with(|| since.elapsed());
        heard.insert(ip);
        if heard.len() == VIPS as usize {
            return Ok(Announced { first: first.unwrap_or_default(), last: since.elapsed() });
        }
    }
    Err(format!("only {} of {VIPS} VIPs were announced", heard.len()))
}

/// Waits until nothing was announced for two seconds: the burst is over.
fn quiet(wire: &mut Wire) {
    let (start, mut last) = (Instant::now(), Instant::now());
    while last.elapsed() < Duration::from_secs(2) && start.elapsed() < Duration::from_mins(2) {
        if wire.frame().as_deref().and_then(frames::announced).is_some() {
            last = Instant::now();
        }
    }
}

/// One series of questions as a row.
fn series(text: &mut String, name: &str, lan: &Lan) -> Result<(), String> {
    let mut command = lan.peer.command("chrt");
    command.args(["-f", "4"]).arg(this()?).args(["ask", &FIRST.to_string()]);
    command.args([VIPS.to_string(), QUESTIONS.to_string()]);
    let output = command.output().map_err(|error| format!("{command:?} cannot be run: {error}"))?;
    let answer = String::from_utf8_lossy(&output.stdout);
    let latency: Latency = serde_json::from_str(&answer)
        .map_err(|error| format!("{error}: {answer}{}", String::from_utf8_lossy(&output.stderr)))?;
    let Latency { p50, p99, p999, max, lost } = latency;
    let _ = writeln!(text, "| {name} | {p50} | {p99} | {p999} | {max} | {lost} |");
    Ok(())
}

fn start_storm(lan: &Lan) -> Result<Running, String> {
    let mut command = lan.peer.command(&this()?);
    Running::start(command.args(["storm", &STORM.to_string()]))
}

/// Processes that do nothing but that.
struct Hogs(Vec<Running>);

impl Hogs {
    /// Two for each processor.
    fn start() -> Result<Self, String> {
        let count = 2 * std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let hog = |_| Running::start(Command::new("sh").args(["-c", "while :; do :; done"]));
        (0..count).map(hog).collect::<Result<_, _>>().map(Self)
    }
}

/// A child process; killed on drop.
struct Running(Child);

impl Running {
    fn start(command: &mut Command) -> Result<Self, String> {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        child.map(Self).map_err(|error| format!("{command:?} cannot be run: {error}"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to kill.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The share of a core that the appliance takes over [`SPAN`].
fn cpu(appliance: &Appliance) -> Result<f64, String> {
    let read = || crate::measure::cpu(appliance.id()).map(|cpu| cpu.peer).map_err(|error| error.to_string());
    let (before, start) = (read()?, Instant::now());
    std::thread::sleep(SPAN);
    Ok(read()?.saturating_sub(before).as_secs_f64() / start.elapsed().as_secs_f64() * 100.0)
}

fn this() -> Result<String, String> {
    let path = std::env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?;
    Ok(path.display().to_string())
}
