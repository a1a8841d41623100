//! How long a VIP is dark when its owner dies: Ferrogate beside keepalived, in one run; `tests/bench/failover` starts it.
//!
//! Three nodes and a client on one switch, for each system. A trial asks a thousand times a second, does one fault to
//! the node that answers, and notes the longest time between two answers. Trials of all systems take turns, so that a
//! noisy machine hits all of them alike. Then nothing is done to any node, and answers of other nodes are counted while
//! frames are lost and while the machine is busy.

#![expect(clippy::disallowed_methods, reason = "it measures time")]
#![expect(clippy::print_stdout, reason = "its output is its purpose")]

mod scene;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ferrogate_tests::outage::Seen;

use crate::scene::{Fault, Scene, System, Trouble};

/// How long a node that came back may take until it has taken back what is its own.
const CALM: Duration = Duration::from_secs(15);

fn main() {
    if let Some(why) = ferrogate_tests::netns::unavailable() {
        eprintln!("{why}");
        std::process::exit(2);
    }
    let number = |at: usize| std::env::args().nth(at).and_then(|text| text.parse::<u64>().ok());
    let (trials, seconds) = (number(1).unwrap_or(20), number(2).unwrap_or(60));
    let trials = usize::try_from(trials).expect("a number of trials");
    let mut systems =
        vec![System::Ferrogate("default", false), System::Ferrogate("default", true), System::Ferrogate("fast", false)];
    if Command::new("keepalived").arg("--version").stderr(Stdio::null()).stdout(Stdio::null()).status().is_ok() {
        systems.extend([System::Keepalived("1"), System::Keepalived("0.1"), System::Keepalived("0.01")]);
    } else {
        eprintln!("keepalived is not installed, so there is nothing to compare with");
    }
    let mut scenes: Vec<Scene> = systems.iter().map(|system| Scene::start(*system)).collect();
    println!("Milliseconds as a client sees them; {} build.\n", build());
    println!(
        "| fault | system | trials | outage min | p50 | p95 | max | lost of 1000/s, p50 | moved, p50 | two owners, max |"
    );
    println!("|---|---|---:|---:|---:|---:|---:|---:|---:|---:|");
    for fault in Fault::ALL {
        let mut results: Vec<Vec<(Seen, Duration)>> = vec![Vec::new(); scenes.len()];
        for trial in 0..trials {
            for (scene, results) in scenes.iter_mut().zip(&mut results) {
                if scene.system.takes_part(trial, fault) {
                    results.push(scene.trial(fault));
                }
            }
        }
        for (scene, results) in scenes.iter().zip(&results).filter(|(_, results)| !results.is_empty()) {
            println!("| {} | {} | {} |", fault.name(), scene.system, row(results));
        }
    }
    println!("\nAnswers of another node while nothing was done to any, in {seconds} s:\n");
    println!("| meanwhile | system | changes of owner |");
    println!("|---|---|---:|");
    std::thread::sleep(CALM);
    for trouble in [Trouble::None, Trouble::Loss(5), Trouble::Busy(6)] {
        let hogs = Hogs::start(if let Trouble::Busy(count) = trouble { count } else { 0 });
        let long = Duration::from_secs(seconds);
        let waiting = scenes.iter_mut().map(|scene| (scene.system, scene));
        std::thread::scope(|scope| {
            let running: Vec<_> =
                waiting.map(|(system, scene)| (system, scope.spawn(move || scene.changes(trouble, long)))).collect();
            for (system, running) in running {
                println!("| {trouble} | {system} | {} |", running.join().expect("a scene does not panic"));
            }
        });
        drop(hogs);
    }
}

/// Busy loops that end with this.
struct Hogs(Vec<Child>);

impl Hogs {
    fn start(count: usize) -> Self {
        let hog = || Command::new("sh").args(["-c", "while :; do :; done"]).stdin(Stdio::null()).spawn();
        Self((0..count).map(|_| hog().expect("a shell can be started")).collect())
    }
}

impl Drop for Hogs {
    fn drop(&mut self) {
        for hog in &mut self.0 {
            // One that ended by itself hogs nothing.
            let _ = hog.kill();
            let _ = hog.wait();
        }
    }
}

fn row(results: &[(Seen, Duration)]) -> String {
    let sorted = |pick: fn(&(Seen, Duration)) -> u128| {
        let mut all: Vec<u128> = results.iter().map(pick).collect();
        all.sort_unstable();
        all
    };
    let outages = sorted(|(seen, _)| seen.outage.as_millis());
    let lost = sorted(|(seen, _)| seen.lost as u128);
    let mut moved: Vec<u128> = results.iter().filter_map(|(seen, _)| Some(seen.moved?.as_millis())).collect();
    moved.sort_unstable();
    let doubled = results.iter().map(|(_, doubled)| doubled.as_millis()).max().unwrap_or_default();
    let at =
        |all: &[u128], share: usize| all.get(all.len().saturating_sub(1) * share / 100).copied().unwrap_or_default();
    let never = results.len() - moved.len();
    let never = if never == 0 { String::new() } else { format!(" ({never} not taken over)") };
    format!(
        "{} | {} | **{}** | {} | **{}**{never} | {} | {} | {doubled}",
        results.len(),
        outages[0],
        at(&outages, 50),
        at(&outages, 95),
        at(&outages, 100),
        at(&lost, 50),
        at(&moved, 50)
    )
}

fn build() -> &'static str {
    let path = ferrogate_tests::binary::path();
    if Path::new(&path).components().any(|part| part.as_os_str() == "release") { "release" } else { "development" }
}
