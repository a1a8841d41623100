//! What heartbeats cost a node of 3, 50 or 500: datagrams, bytes and CPU time, by simulated members; see `--help`.

#![expect(clippy::disallowed_methods, reason = "it measures time")]
#![expect(clippy::print_stdout, reason = "its output is its purpose")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use lb_speaker::heartbeat::{Beat, Keyring};
use lb_speaker::members::{Action, Eligible, Members, Profile, World};

/// Measures what heartbeats cost one node, at rest: every member of a LAN without loss is simulated, one of them is
/// counted.
///
/// CPU time is that of the core, signing and checking included; the kernel's share of each datagram comes on top.
#[derive(Debug, Parser)]
#[command(name = "tests/bench/members")]
struct Cli {
    /// Numbers of members
    #[arg(default_values_t = [3, 50, 500])]
    members: Vec<usize>,
    /// VIPs that they share
    #[arg(long, default_value_t = 100)]
    vips: u32,
    /// Seconds that are counted
    #[arg(long, default_value_t = 5)]
    seconds: u64,
}

/// Everything of the member that is counted.
#[derive(Default)]
struct Count {
    out: u64,
    out_bytes: u64,
    received: u64,
    received_bytes: u64,
    cpu: Duration,
}

struct Net {
    begun: Instant,
    ms: u64,
    names: Vec<Arc<str>>,
    members: Vec<Members>,
    /// What arrives with the next millisecond.
    mail: Vec<Vec<Arc<Beat>>>,
    keys: Keyring,
    count: Count,
}

impl Net {
    fn new(count: usize, vips: u32) -> Self {
        let begun = Instant::now();
        let names: Vec<Arc<str>> = (0..count).map(|at| format!("node-{at:03}.example.com").into()).collect();
        let first = u32::from(Ipv4Addr::new(192, 0, 2, 0));
        let vips = (0..vips).map(|at| (IpAddr::from(Ipv4Addr::from(first + at)), Eligible::default()));
        let world = World {
            vips: vips.collect::<BTreeMap<_, _>>(),
            configured: names.iter().cloned().collect::<BTreeSet<_>>(),
            ..World::default()
        };
        let mut members = Vec::new();
        for (at, name) in names.iter().enumerate() {
            let mut member = Members::new(name, 1, Profile::DEFAULT, begun);
            let [.., high, low] = at.to_be_bytes();
            member.set_world(World { macs: vec![[2, 0, 0, 0, high, low]], ..world.clone() }, begun);
            members.push(member);
        }
        let keys = Keyring::new("a secret", "bench").expect("a secret");
        Self { begun, ms: 0, mail: vec![Vec::new(); count], names, members, keys, count: Count::default() }
    }

    /// One millisecond of all members; the first of them is the one that is counted.
    fn step(&mut self) {
        self.ms += 1;
        let now = self.begun + Duration::from_millis(self.ms);
        let arrived: Vec<Vec<Arc<Beat>>> = self.mail.iter_mut().map(std::mem::take).collect();
        for (at, beats) in arrived.into_iter().enumerate() {
            if beats.is_empty() && self.members[at].next_deadline(now) > now {
                continue;
            }
            let sealed: Vec<Vec<u8>> =
                if at == 0 { beats.iter().map(|beat| self.keys.seal(beat)).collect() } else { Vec::new() };
            let begun = Instant::now();
            if at == 0 {
                for bytes in &sealed {
                    self.members[0].on_beat(self.keys.open(bytes).expect("signed by our key"), now);
                }
            } else {
                for beat in &beats {
                    self.members[at].on_beat((**beat).clone(), now);
                }
            }
            let actions: Vec<Action> = std::iter::from_fn(|| self.members[at].poll(now)).collect();
            let signed: Vec<usize> = actions.iter().filter(|_| at == 0).filter_map(|it| self.size(it)).collect();
            let took = begun.elapsed();
            if at == 0 {
                self.count.cpu += took;
                self.count.received += sealed.len() as u64;
                self.count.received_bytes += sealed.iter().map(|bytes| bytes.len() as u64).sum::<u64>();
            }
            let mut signed = signed.into_iter();
            for action in actions {
                let Action::Send(to, beat) = action else { continue };
                let size = signed.next().unwrap_or_default() as u64;
                self.post(at, to.as_deref(), &Arc::new(*beat), size);
            }
        }
    }

    fn size(&self, action: &Action) -> Option<usize> {
        if let Action::Send(_, beat) = action { Some(self.keys.seal(beat).len()) } else { None }
    }

    fn post(&mut self, from: usize, to: Option<&str>, beat: &Arc<Beat>, size: u64) {
        let targets: Vec<usize> = match to {
            Some(name) => self.names.iter().position(|it| **it == *name).into_iter().collect(),
            None => (0..self.names.len()).filter(|at| *at != from).collect(),
        };
        if from == 0 {
            self.count.out += targets.len() as u64;
            self.count.out_bytes += size * targets.len() as u64;
        }
        for at in targets {
            self.mail[at].push(Arc::clone(beat));
        }
    }

    fn run(&mut self, long: Duration) {
        (0..long.as_millis()).for_each(|_| self.step());
    }
}

fn main() {
    let cli = Cli::parse();
    println!("{} VIPs, profile default; of one member, a second:\n", cli.vips);
    println!("| members | its VIPs | datagrams out | in | KiB out | in | CPU ms |");
    println!("|---:|---:|---:|---:|---:|---:|---:|");
    for count in cli.members {
        let mut net = Net::new(count, cli.vips);
        // Everybody has to know everybody, and every VIP to have its owner.
        net.run(Duration::from_secs(4));
        net.count = Count::default();
        net.run(Duration::from_secs(cli.seconds));
        let owned: usize = net.members.iter().map(|member| member.owned().len()).sum();
        assert_eq!(owned, usize::try_from(cli.vips).expect("a number"), "each VIP has one owner");
        let a_second = |total: u64| total / cli.seconds;
        println!(
            "| {count} | {} | {} | {} | {:.1} | {:.1} | {:.2} |",
            net.members[0].owned().len(),
            a_second(net.count.out),
            a_second(net.count.received),
            kib(a_second(net.count.out_bytes)),
            kib(a_second(net.count.received_bytes)),
            net.count.cpu.as_secs_f64() * 1000.0 / Duration::from_secs(cli.seconds).as_secs_f64(),
        );
    }
}

fn kib(bytes: u64) -> f64 {
    f64::from(u32::try_from(bytes).unwrap_or(u32::MAX)) / 1024.0
}
