//! One system on its own switch, and what is done to it.

use std::fmt;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use ferrogate_tests::appliance::{Appliance, Builder, Process};
use ferrogate_tests::folder::Folder;
use ferrogate_tests::manifests::{load_balancer, pool};
use ferrogate_tests::outage::{Claims, Echo, Probe, Seen, owner};
use ferrogate_tests::switch::{Cut, Switch, node_address, second_address};
use rustix::process::Signal;

const VIP: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 100);
pub(crate) const NODES: usize = 3;
/// How long a system may take to have an owner.
const PATIENCE: Duration = Duration::from_secs(30);
/// For how long a node has to answer until it counts as the owner.
const STEADY: Duration = Duration::from_millis(400);
/// How long is watched after another node has answered.
const AFTERWARDS: Duration = Duration::from_millis(300);
/// How long a node that is mended is left alone, so that it takes part again.
const REST: Duration = Duration::from_millis(900);

/// What keeps the VIP.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum System {
    /// With this profile; and whether heartbeats have a second network.
    Ferrogate(&'static str, bool),
    /// With this time between adverts, in seconds as its configuration writes them.
    Keepalived(&'static str),
}

impl System {
    /// Of so many trials, those that it takes part in: some take seconds.
    pub(crate) fn takes_part(self, trial: usize, fault: Fault) -> bool {
        match self {
            Self::Ferrogate(_, second) => !second || matches!(fault, Fault::Cut(_, Cut::Cable)),
            Self::Keepalived("1") => trial.is_multiple_of(5),
            Self::Keepalived(_) => trial.is_multiple_of(2),
        }
    }

    /// The longest time that a take-over may take.
    fn limit(self) -> Duration {
        Duration::from_secs(if self == Self::Keepalived("1") { 6 } else { 2 })
    }
}

impl fmt::Display for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ferrogate(profile, false) => write!(f, "Ferrogate, profile {profile}"),
            Self::Ferrogate(profile, true) => write!(f, "Ferrogate, profile {profile}, second path"),
            Self::Keepalived(advert) => write!(f, "keepalived, adverts every {advert} s"),
        }
    }
}

/// What happens to the owner.
#[derive(Clone, Copy)]
pub(crate) enum Fault {
    Cut(&'static str, Cut),
    Kill(&'static str),
    Signal(&'static str, Signal),
}

impl Fault {
    pub(crate) const ALL: [Self; 6] = [
        Self::Cut("port goes silent", Cut::Silent),
        Self::Cut("cable pulled", Cut::Cable),
        Self::Kill("kill -9"),
        Self::Signal("SIGTERM", Signal::TERM),
        Self::Cut("deaf: hears nothing", Cut::Deaf),
        Self::Cut("mute: is not heard", Cut::Mute),
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Cut(name, _) | Self::Kill(name) | Self::Signal(name, _) => name,
        }
    }
}

/// What is done to all nodes for a while, and must move nothing.
#[derive(Clone, Copy)]
pub(crate) enum Trouble {
    None,
    Loss(u8),
    Busy(usize),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("nothing"),
            Self::Loss(percent) => write!(f, "{percent} % of frames lost each way"),
            Self::Busy(count) => write!(f, "{count} busy loops"),
        }
    }
}

/// One system on its own switch.
pub(crate) struct Scene {
    pub(crate) system: System,
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
    pub(crate) fn start(system: System) -> Self {
        let (switch, folder) = (Switch::new(NODES), Folder::new());
        if matches!(system, System::Ferrogate(_, true)) {
            switch.add_second();
        }
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
            System::Ferrogate(profile, second) => {
                let key = self.folder.path().join("key.txt").display().to_string();
                let mut all = vec!["--node-name".to_owned(), format!("n{at}"), "--failover-profile".to_owned()];
                all.extend([profile.to_owned(), "--heartbeat-key-file".to_owned(), key]);
                // Nothing else is to be measured, or to take part of the CPU.
                all.extend(["--roles".to_owned(), "speaker".to_owned()]);
                for peer in (0..NODES).filter(|peer| *peer != at) {
                    all.extend(["--peer".to_owned(), format!("n{peer}={}", node_address(peer))]);
                    if second {
                        all.extend(["--peer".to_owned(), format!("n{peer}={}", second_address(peer))]);
                    }
                }
                Running::Ferrogate(Builder::new(self.folder.path()).inside(namespace.name()).with(&all).spawn())
            }
            System::Keepalived(advert) => {
                self.folder.write(&format!("keepalived-{at}.conf"), &configuration(at, advert));
                let mut command = namespace.command("keepalived");
                command.args(["--dont-fork", "--vrrp", "--log-console", "--use-file"]);
                command.arg(self.folder.path().join(format!("keepalived-{at}.conf")));
                for (flag, name) in [("--pid", "main"), ("--vrrp_pid", "vrrp")] {
                    let file = self.pid_file(name, at);
                    // A stale one would stop its restart.
                    let _ = std::fs::remove_file(&file);
                    command.arg(flag).arg(file);
                }
                Running::Keepalived(Process::start(command))
            }
        }
    }

    fn pid_file(&self, name: &str, at: usize) -> PathBuf {
        self.folder.path().join(format!("{name}-{at}.pid"))
    }

    /// Kills all processes of a node, as a crash of all of them would: keepalived's children end well otherwise.
    fn kill(&mut self, at: usize) {
        if let System::Keepalived(_) = self.system
            && let Ok(child) = std::fs::read_to_string(self.pid_file("vrrp", at))
        {
            let killed = Command::new("kill").args(["-9", child.trim()]).status();
            assert!(killed.is_ok_and(|status| status.success()), "the child of keepalived can be killed");
        }
        self.nodes[at].process().kill();
    }

    /// Waits until one node has answered for a while.
    fn settled(&self) -> usize {
        let begun = Instant::now();
        let (mut last, mut since) = (None, Instant::now());
        while begun.elapsed() < PATIENCE {
            let now = owner(&self.switch.client, VIP);
            if now.is_none() || now != last {
                (last, since) = (now, Instant::now());
            }
            if let Some(owner) = last.filter(|_| since.elapsed() > STEADY) {
                return owner.into();
            }
            sleep(Duration::from_millis(20));
        }
        panic!("{}: nobody answers for long", self.system);
    }

    /// Does one fault; what a client saw, and how long two nodes answered.
    pub(crate) fn trial(&mut self, fault: Fault) -> (Seen, Duration) {
        let (probe, claims) = (Probe::start(&self.switch.client, VIP), Claims::start(&self.switch.client, VIP));
        // Not in step with anybody's timer.
        let phase = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().subsec_micros() % 100;
        sleep(Duration::from_millis(u64::from(phase)));
        let at = self.settled();
        let moment = Instant::now();
        match fault {
            Fault::Cut(_, cut) => self.switch.cut(at, cut),
            Fault::Kill(_) => self.kill(at),
            Fault::Signal(_, signal) => self.nodes[at].process().signal(signal),
        }
        while moment.elapsed() < self.system.limit() {
            if owner(&self.switch.client, VIP).is_some_and(|now| usize::from(now) != at) {
                break;
            }
            sleep(Duration::from_millis(10));
        }
        sleep(AFTERWARDS);
        let seen = probe.end().since(moment);
        let doubled = claims.doubled();
        self.mend(fault, at);
        (seen, doubled)
    }

    fn mend(&mut self, fault: Fault, at: usize) {
        if let Fault::Cut(..) = fault {
            self.switch.heal(at);
        } else {
            let deadline = Instant::now() + PATIENCE;
            while self.nodes[at].process().ended().is_none() && Instant::now() < deadline {
                sleep(Duration::from_millis(20));
            }
            // What a killed keepalived left behind; there may be nothing.
            if let System::Keepalived(_) = self.system {
                let _ = self.switch.nodes[at].ip(&format!("addr del {VIP}/24 dev eth0"));
            }
            self.nodes[at] = self.spawn(at);
            sleep(REST);
        }
        sleep(REST);
    }

    /// How often another node answered during a trouble in which none died.
    pub(crate) fn changes(&mut self, trouble: Trouble, long: Duration) -> usize {
        // A node that was mended takes back what is its own by now, which is no fault.
        self.settled();
        if let Trouble::Loss(percent) = trouble {
            (0..NODES).for_each(|at| self.switch.cut(at, Cut::Loss(percent)));
        }
        let probe = Probe::start(&self.switch.client, VIP);
        sleep(long);
        let changes = probe.end().changes();
        if let Trouble::Loss(_) = trouble {
            (0..NODES).for_each(|at| self.switch.heal(at));
        }
        changes
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
