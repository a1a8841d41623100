//! How long a VIP is dark when its owner dies: Ferrogate beside keepalived, in one run; `tests/bench/failover` starts it.
//!
//! Three nodes and a client on one switch. A trial asks a thousand times a second, does one fault to the node that
//! answers, and notes the longest time between two answers. Trials of all systems take turns, so that a noisy machine
//! hits all of them alike.

#![expect(clippy::disallowed_methods, reason = "it measures time")]
#![expect(clippy::print_stdout, reason = "its output is its purpose")]

use std::fmt;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use ferrogate_tests::appliance::{Appliance, Builder, Process};
use ferrogate_tests::folder::Folder;
use ferrogate_tests::manifests::{load_balancer, pool};
use ferrogate_tests::outage::{Claims, Echo, Probe, Seen, owner};
use ferrogate_tests::switch::{Cut, Switch, node_address};
use rustix::process::Signal;

const VIP: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 100);
const NODES: usize = 3;
/// How long a system may take to have an owner.
const PATIENCE: Duration = Duration::from_secs(30);

/// What keeps the VIP.
#[derive(Clone, Copy)]
enum System {
    Ferrogate(&'static str),
    /// With this time between adverts, in seconds as its configuration writes them.
    Keepalived(&'static str),
}

impl fmt::Display for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ferrogate(profile) => write!(f, "Ferrogate, profile {profile}"),
            Self::Keepalived(advert) => write!(f, "keepalived, adverts every {advert} s"),
        }
    }
}

/// What happens to the owner.
#[derive(Clone, Copy)]
enum Fault {
    Cut(&'static str, Cut),
    Signal(&'static str, Signal),
}

impl Fault {
    const fn name(self) -> &'static str {
        match self {
            Self::Cut(name, _) | Self::Signal(name, _) => name,
        }
    }
}

const FAULTS: [Fault; 5] = [
    Fault::Cut("port goes silent", Cut::Silent),
    Fault::Cut("cable pulled", Cut::Cable),
    Fault::Cut("deaf: hears nothing", Cut::Deaf),
    Fault::Cut("mute: is not heard", Cut::Mute),
    Fault::Signal("SIGTERM", Signal::TERM),
];

/// One system on its own switch.
struct Scene {
    system: System,
    // Processes end before the namespaces they live in.
    nodes: Vec<Running>,
    _echoes: Vec<Echo>,
    switch: Switch,
    folder: Folder,
}

enum Running {
    Ferrogate(Appliance),
    Keepalived(Process),
}

impl Running {
    const fn process(&mut self) -> &mut Process {
        match self {
            Self::Ferrogate(appliance) => appliance.process(),
            Self::Keepalived(process) => process,
        }
    }
}

impl Scene {
    fn start(system: System) -> Self {
        let (switch, folder) = (Switch::new(NODES), Folder::new());
        folder.write("pool.yaml", &pool(&["10.78.0.100/32"]));
        folder.write("vip.yaml", &load_balancer("lan", "edge"));
        folder.write("key.txt", "a secret that all nodes share\n");
        let echo = |(at, namespace)| Echo::start(namespace, u8::try_from(at).expect("a few nodes"), VIP);
        let echoes = switch.nodes.iter().enumerate().map(echo).collect();
        let mut scene = Self { system, nodes: Vec::new(), _echoes: echoes, switch, folder };
        scene.nodes = (0..NODES).map(|at| scene.spawn(at)).collect();
        scene
    }

    fn spawn(&self, at: usize) -> Running {
        let namespace = &self.switch.nodes[at];
        match self.system {
            System::Ferrogate(profile) => {
                let key = self.folder.path().join("key.txt").display().to_string();
                let mut all = vec!["--node-name".to_owned(), format!("n{at}"), "--failover-profile".to_owned()];
                all.extend([profile.to_owned(), "--heartbeat-key-file".to_owned(), key]);
                for peer in (0..NODES).filter(|peer| *peer != at) {
                    all.extend(["--peer".to_owned(), format!("n{peer}={}", node_address(peer))]);
                }
                Running::Ferrogate(Builder::new(self.folder.path()).inside(namespace.name()).with(&all).spawn())
            }
            System::Keepalived(advert) => {
                let folder = self.folder.path();
                self.folder.write(&format!("keepalived-{at}.conf"), &configuration(at, advert));
                let mut command = namespace.command("keepalived");
                command.args(["--dont-fork", "--vrrp", "--log-console", "--use-file"]);
                command.arg(folder.join(format!("keepalived-{at}.conf")));
                for (flag, name) in [("--pid", "main"), ("--vrrp_pid", "vrrp")] {
                    let file = folder.join(format!("{name}-{at}.pid"));
                    // A stale one would stop its restart.
                    let _ = std::fs::remove_file(&file);
                    command.arg(flag).arg(file);
                }
                Running::Keepalived(Process::start(command))
            }
        }
    }

    /// Waits until one node has answered for a second.
    fn settled(&self) -> usize {
        let begun = Instant::now();
        let (mut last, mut since) = (None, Instant::now());
        while begun.elapsed() < PATIENCE {
            let now = owner(&self.switch.client, VIP);
            if now.is_none() || now != last {
                (last, since) = (now, Instant::now());
            }
            if let Some(owner) = last.filter(|_| since.elapsed() > Duration::from_secs(1)) {
                return owner.into();
            }
            sleep(Duration::from_millis(20));
        }
        panic!("{}: nobody answers for long", self.system);
    }

    fn trial(&mut self, fault: Fault) -> (Seen, Duration) {
        let owner = self.settled();
        let (probe, claims) = (Probe::start(&self.switch.client, VIP), Claims::start(&self.switch.client, VIP));
        // Not in step with anybody's timer.
        let phase = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().subsec_micros() % 100;
        sleep(Duration::from_millis(300 + u64::from(phase)));
        let moment = Instant::now();
        match fault {
            Fault::Cut(_, cut) => self.switch.cut(owner, cut),
            Fault::Signal(_, signal) => self.nodes[owner].process().signal(signal),
        }
        sleep(Duration::from_secs(if matches!(self.system, System::Keepalived("1")) { 5 } else { 2 }));
        let seen = probe.end().since(moment);
        let doubled = claims.doubled();
        match fault {
            Fault::Cut(..) => self.switch.heal(owner),
            Fault::Signal(..) => {
                let deadline = Instant::now() + PATIENCE;
                while self.nodes[owner].process().ended().is_none() && Instant::now() < deadline {
                    sleep(Duration::from_millis(20));
                }
                self.nodes[owner] = self.spawn(owner);
                sleep(Duration::from_secs(2));
            }
        }
        (seen, doubled)
    }
}

/// All nodes alike, and what was taken over stays there.
fn configuration(at: usize, advert: &str) -> String {
    let version = if advert.contains('.') { 3 } else { 2 };
    let priority = 100 + at;
    format!(
        "global_defs {{\n  vrrp_version {version}\n}}\nvrrp_instance edge {{\n  state BACKUP\n  nopreempt\n  interface \
         eth0\n  virtual_router_id 78\n  priority {priority}\n  advert_int {advert}\n  virtual_ipaddress {{\n    {VIP}/24 \
         dev eth0\n  }}\n}}\n"
    )
}

fn main() {
    if let Some(why) = ferrogate_tests::netns::unavailable() {
        eprintln!("{why}");
        std::process::exit(2);
    }
    let trials: usize = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(20);
    let mut systems = vec![System::Ferrogate("default"), System::Ferrogate("fast")];
    let has_keepalived = Command::new("keepalived").arg("--version").output().is_ok();
    if has_keepalived {
        systems.extend([System::Keepalived("1"), System::Keepalived("0.1"), System::Keepalived("0.01")]);
    } else {
        eprintln!("keepalived is not installed, so there is nothing to compare with");
    }
    println!("{trials} trials each; milliseconds as a client sees them; build: {}\n", build());
    println!("| fault | system | outage min | median | p95 | max | lost of 1000/s, median | two owners, max |");
    println!("|---|---|---|---|---|---|---|---|");
    let mut scenes: Vec<Scene> = systems.iter().map(|system| Scene::start(*system)).collect();
    for fault in FAULTS {
        let mut results: Vec<Vec<(Seen, Duration)>> = vec![Vec::new(); scenes.len()];
        for trial in 0..trials {
            // keepalived with its usual adverts takes seconds a trial: a fifth of them tell enough.
            for (scene, results) in scenes.iter_mut().zip(&mut results) {
                if !matches!(scene.system, System::Keepalived("1")) || trial % 5 == 0 {
                    results.push(scene.trial(fault));
                }
            }
        }
        for (scene, results) in scenes.iter().zip(&results) {
            println!("| {} | {} | {} |", fault.name(), scene.system, row(results));
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
    let doubled = results.iter().map(|(_, doubled)| doubled.as_millis()).max().unwrap_or_default();
    let at = |all: &[u128], share: usize| all[(all.len() - 1) * share / 100];
    let never = results.iter().filter(|(seen, _)| seen.moved.is_none()).count();
    let never = if never == 0 { String::new() } else { format!(" ({never} of {} not taken over)", results.len()) };
    format!(
        "{} | **{}** | {} | {}{never} | {} | {doubled}",
        outages[0],
        at(&outages, 50),
        at(&outages, 95),
        at(&outages, 100),
        at(&lost, 50)
    )
}

fn build() -> &'static str {
    let path = ferrogate_tests::binary::path();
    if Path::new(&path).components().any(|part| part.as_os_str() == "release") { "release" } else { "development" }
}
