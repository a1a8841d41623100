//! A network of members in simulated time, one millisecond a step: every choice comes from the seed, which a failure
//! names.

mod heard;
mod letters;
mod moves;

use super::*;
use crate::election;
use crate::heartbeat::Claim;

/// Random schedules run by [`every_part_of_the_network_ends_with_one_owner`]; `FERROGATE_SCHEDULES` changes it.
const SCHEDULES: u64 = 100;

struct Node {
    members: Members,
    name: Arc<str>,
    runs: bool,
    stalled_until: u64,
    inbox: Vec<(u64, Mail)>,
}

#[derive(Clone)]
enum Mail {
    Beat(Beat),
    Letter(Beat),
    Answer(IpAddr, [u8; 6]),
    Gateway,
}

struct Net {
    epoch: Instant,
    ms: u64,
    boots: u64,
    random: u64,
    nodes: Vec<Node>,
    /// Whether frames get from one to another.
    open: Vec<Vec<bool>>,
    /// Whether heartbeats are let through.
    udp: bool,
    /// Per mille of frames lost.
    loss: u64,
    gateway: bool,
    sent: u64,
    /// Who answers for a VIP when that is asked for: as it should be, nobody, or a stranger too.
    lan: Lan,
    /// Whether there is an API server, and the letters that it holds.
    api: bool,
    letters: BTreeMap<usize, Beat>,
    written: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Lan {
    Fine,
    Silent(IpAddr),
    Doubled(IpAddr, [u8; 6]),
}

impl Net {
    fn new(count: usize, seed: u64) -> Self {
        let mut net = Self {
            epoch: Instant::now(),
            ms: 0,
            boots: 0,
            random: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1,
            nodes: Vec::new(),
            open: vec![vec![true; count]; count],
            udp: true,
            loss: 0,
            gateway: false,
            sent: 0,
            lan: Lan::Fine,
            api: false,
            letters: BTreeMap::new(),
            written: 0,
        };
        for at in 0..count {
            let name: Arc<str> = format!("n{at}").into();
            let members = net.boot(&name);
            net.nodes.push(Node { members, name, runs: true, stalled_until: 0, inbox: Vec::new() });
        }
        for at in 0..count {
            net.tell(at);
        }
        net
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) % bound
    }

    fn pick(&mut self) -> usize {
        let count = self.nodes.len() as u64;
        usize::try_from(self.below(count)).unwrap()
    }

    fn now(&self) -> Instant {
        self.epoch + Duration::from_millis(self.ms)
    }

    fn boot(&mut self, name: &str) -> Members {
        self.boots += 1;
        Members::new(name, self.boots, Profile::DEFAULT, self.now())
    }

    fn tell(&mut self, at: usize) {
        let vips = vips().into_iter().map(|vip| (vip, Eligible::default())).collect();
        let configured = self.nodes.iter().map(|node| Arc::clone(&node.name)).collect();
        let macs = vec![mac(at)];
        let world = World { vips, configured, macs, gateway: self.gateway, ..World::default() };
        let now = self.now();
        self.nodes[at].members.set_world(world, now);
    }

    fn kill(&mut self, at: usize) {
        self.nodes[at].runs = false;
        self.nodes[at].inbox.clear();
    }

    fn start(&mut self, at: usize) {
        let name = Arc::clone(&self.nodes[at].name);
        self.nodes[at].members = self.boot(&name);
        self.nodes[at].runs = true;
        self.tell(at);
    }

    fn answers(&self, at: usize) -> bool {
        self.nodes[at].runs && self.ms >= self.nodes[at].stalled_until
    }

    fn owners(&self, vip: IpAddr) -> Vec<usize> {
        (0..self.nodes.len())
            .filter(|at| self.answers(*at) && self.nodes[*at].members.mine.contains_key(&vip))
            .collect()
    }

    fn step(&mut self) {
        self.ms += 1;
        let now = self.now();
        for at in 0..self.nodes.len() {
            if !self.answers(at) {
                continue;
            }
            let node = &mut self.nodes[at];
            let ms = self.ms;
            let (due, later) = std::mem::take(&mut node.inbox).into_iter().partition(|(when, _)| *when <= ms);
            node.inbox = later;
            let due: Vec<(u64, Mail)> = due;
            let idle = due.is_empty() && node.members.next_deadline(now) > now;
            for (_, mail) in due {
                match mail {
                    Mail::Beat(beat) => node.members.on_beat(beat, now),
                    Mail::Letter(beat) => node.members.on_letter(beat, now),
                    Mail::Answer(vip, mac) => node.members.on_answer(vip, mac, now),
                    Mail::Gateway => node.members.on_gateway(now),
                }
            }
            while !idle && let Some(action) = self.nodes[at].members.poll(now) {
                self.act(at, action);
            }
        }
    }

    fn act(&mut self, from: usize, action: Action) {
        match action {
            Action::Send(to, beat) => {
                for at in (0..self.nodes.len()).filter(|at| *at != from) {
                    if to.as_ref().is_none_or(|to| *to == self.nodes[at].name) {
                        self.sent += 1;
                        if self.udp {
                            self.post(from, at, Mail::Beat((*beat).clone()));
                        }
                    }
                }
            }
            Action::Post(beat) => {
                self.written += 1;
                if self.api {
                    self.letters.insert(from, *beat);
                    let due = self.ms + 5 + self.below(100);
                    let others = self.letters.iter().filter(|(at, _)| **at != from);
                    let others = others.map(|(_, beat)| (due, Mail::Letter(beat.clone())));
                    self.nodes[from].inbox.extend(others);
                }
            }
            Action::Ask(vip) if self.lan == Lan::Silent(vip) => {}
            Action::Ask(vip) => {
                if let Lan::Doubled(doubled, mac) = self.lan
                    && doubled == vip
                {
                    self.nodes[from].inbox.push((self.ms + 1, Mail::Answer(vip, mac)));
                }
                for at in self.owners(vip) {
                    if at != from && self.open[from][at] && self.below(1000) >= self.loss {
                        self.post(at, from, Mail::Answer(vip, mac(at)));
                    }
                }
            }
            // Its answers come the way of everything else: not at all to who is deaf.
            Action::AskGateway => {
                if (0..self.nodes.len()).any(|at| at != from && self.open[at][from]) {
                    self.nodes[from].inbox.push((self.ms + 1, Mail::Gateway));
                }
            }
            Action::Flood(_) | Action::Gain(_) | Action::Lose(_) | Action::Refresh(_) => {}
        }
    }

    fn post(&mut self, from: usize, to: usize, mail: Mail) {
        if self.open[from][to] && self.nodes[to].runs && self.below(1000) >= self.loss {
            let at = self.ms + 1 + self.below(3);
            self.nodes[to].inbox.push((at, mail));
        }
    }

    fn run(&mut self, ms: u64) {
        for _ in 0..ms {
            self.step();
        }
    }

    /// Runs until somebody other than `old` owns `vip`; the time that took.
    fn until_moved(&mut self, vip: IpAddr, old: usize) -> u64 {
        let begun = self.ms;
        while self.owners(vip).iter().all(|at| *at == old) {
            self.step();
            assert!(self.ms < begun + 10_000, "nobody takes {vip} over from {old}");
        }
        self.ms - begun
    }

    /// Every part of the network, as the nodes in it that run.
    fn parts(&self) -> Vec<Vec<usize>> {
        let mut parts: Vec<Vec<usize>> = Vec::new();
        for at in (0..self.nodes.len()).filter(|at| self.answers(*at)) {
            match parts.iter_mut().find(|part| self.open[part[0]][at]) {
                Some(part) => part.push(at),
                None => parts.push(vec![at]),
            }
        }
        parts
    }
}

fn mac(at: usize) -> [u8; 6] {
    [2, 0, 0, 0, 0, u8::try_from(at).unwrap()]
}

fn vips() -> Vec<IpAddr> {
    ["192.0.2.1", "192.0.2.2", "2001:db8::1"].map(|vip| vip.parse().unwrap()).to_vec()
}

/// A settled network, one VIP of it and that VIP's owner.
fn settled(count: usize, seed: u64) -> (Net, IpAddr, usize) {
    let mut net = Net::new(count, seed);
    net.run(12_000);
    let vip = vips()[0];
    let owners = net.owners(vip);
    assert_eq!(owners.len(), 1, "seed {seed}");
    (net, vip, owners[0])
}

#[test]
fn a_settled_network_agrees_with_the_ranking() {
    for count in [2, 3, 5, 9] {
        let (net, ..) = settled(count, 7);
        let names: Vec<&str> = net.nodes.iter().map(|node| &*node.name).collect();
        for vip in vips() {
            let owners: Vec<&str> = net.owners(vip).iter().map(|at| names[*at]).collect();
            assert_eq!(owners, [election::owner(vip, &names).unwrap()], "{count} nodes");
        }
    }
}

#[test]
fn a_dead_owner_is_replaced_within_the_bound() {
    for seed in 0..6 {
        for count in [2, 3, 5] {
            let (mut net, vip, owner) = settled(count, seed);
            let phase = net.below(25);
            net.run(phase);
            net.kill(owner);
            let took = net.until_moved(vip, owner);
            // One interval times four, ten to ask, one way for beats.
            assert!(took <= 125, "seed {seed}, {count} nodes: {took} ms");
        }
    }
}

/// Where a beat has no room for all whom its sender hears.
#[test]
fn a_crowd_hears_itself_both_ways_and_replaces_a_dead_owner_within_the_bound() {
    let (mut net, vip, owner) = settled(CROWD + 4, 11);
    let names: Vec<&str> = net.nodes.iter().map(|node| &*node.name).collect();
    assert_eq!(names[owner], election::owner(vip, &names).unwrap());
    for node in &net.nodes {
        assert_eq!((node.members.one_way().count(), node.members.alive().count()), (0, CROWD + 3), "{}", node.name);
        assert!(node.members.deaf_to_us().is_empty());
    }
    net.kill(owner);
    let took = net.until_moved(vip, owner);
    // Who is no neighbour of the owner hears of its silence from one, and asks for itself.
    assert!(took <= 200, "{took} ms");
    assert_eq!(net.owners(vip).len(), 1);
}

#[test]
fn the_death_of_owner_and_successor_costs_one_rank_more() {
    let (mut net, vip, owner) = settled(4, 3);
    let names: Vec<&str> = net.nodes.iter().map(|node| &*node.name).collect();
    let second = election::ranking(vip, &names)[1].to_owned();
    let second = net.nodes.iter().position(|node| *node.name == *second).unwrap();
    net.kill(owner);
    net.kill(second);
    let took = net.until_moved(vip, owner);
    assert!(took <= 160, "{took} ms");
}

#[test]
fn a_leaving_owner_is_followed_without_a_gap() {
    for seed in 0..6 {
        let (mut net, vip, owner) = settled(3, seed);
        net.loss = 20;
        let now = net.now();
        net.nodes[owner].members.leave(now);
        let begun = net.ms;
        while !net.nodes[owner].members.owned().is_empty() {
            net.step();
            assert!(!net.owners(vip).is_empty(), "seed {seed}: nobody owns it after {} ms", net.ms - begun);
            assert!(net.ms < begun + 1000, "seed {seed}: it is still not taken");
        }
        assert_eq!(net.owners(vip).len(), 1, "seed {seed}");
    }
}

#[test]
fn an_owner_that_was_stopped_finds_that_others_took_over() {
    let (mut net, vip, owner) = settled(3, 5);
    net.nodes[owner].stalled_until = net.ms + 5000;
    let took = net.until_moved(vip, owner);
    assert!(took <= 125, "{took} ms");
    net.run(5000 - took);
    for _ in 0..1000 {
        net.step();
        assert_eq!(net.owners(vip).len(), 1, "at {} ms", net.ms);
    }
}

#[test]
fn blocked_heartbeats_move_nothing() {
    let (mut net, ..) = settled(3, 6);
    let before: Vec<_> = vips().into_iter().map(|vip| net.owners(vip)).collect();
    net.udp = false;
    for _ in 0..5000 {
        net.step();
        let after: Vec<_> = vips().into_iter().map(|vip| net.owners(vip)).collect();
        assert_eq!(after, before, "at {} ms", net.ms);
    }
    assert!(net.nodes.iter().any(|node| node.members.tally().false_alarms > 0), "the alarm was raised");
}

#[test]
fn an_owner_that_hears_nobody_gives_up_and_is_replaced() {
    for seed in 0..6 {
        let mut net = Net::new(3, seed);
        net.gateway = true;
        (0..3).for_each(|at| net.tell(at));
        net.run(12_000);
        let vip = vips()[0];
        let owner = net.owners(vip)[0];
        (0..3).for_each(|at| net.open[at][owner] = at == owner);
        let took = net.until_moved(vip, owner);
        assert!(took <= 150, "seed {seed}: {took} ms");
        net.run(100);
        let owners = net.owners(vip);
        assert!(owners.len() == 1 && owners[0] != owner, "seed {seed}: {owners:?}, it was {owner}");
        assert!(net.nodes[owner].members.isolated(), "seed {seed}");
    }
}

#[test]
fn an_owner_that_nobody_hears_is_replaced_and_stops() {
    let (mut net, vip, owner) = settled(3, 8);
    (0..3).for_each(|at| net.open[owner][at] = at == owner);
    let took = net.until_moved(vip, owner);
    assert!(took <= 125, "{took} ms");
    net.run(10);
    assert_eq!(net.owners(vip).len(), 1, "the old owner hears of it");
}

#[test]
fn five_in_a_hundred_frames_lost_move_nothing() {
    for seed in 0..3 {
        let (mut net, ..) = settled(3, seed);
        let before: Vec<_> = vips().into_iter().map(|vip| net.owners(vip)).collect();
        net.loss = 50;
        for _ in 0..60_000 {
            net.step();
            let after: Vec<_> = vips().into_iter().map(|vip| net.owners(vip)).collect();
            assert_eq!(after, before, "seed {seed} at {} ms", net.ms);
        }
    }
}

#[test]
fn an_old_beat_says_nothing_new() {
    let now = Instant::now();
    let mut members = Members::new("a", 1, Profile::DEFAULT, now);
    let claim = Claim { vip: vips()[0], epoch: 9 };
    let beat = Beat { node: "b".into(), boot: 5, seq: 7, misses: 4, owned: Some(vec![claim]), ..Beat::default() };
    members.on_beat(beat.clone(), now);
    assert_eq!(members.owner(claim.vip), Some("b"));
    for (boot, seq) in [(5, 7), (5, 6), (4, 99)] {
        members.on_beat(Beat { boot, seq, owned: Some(Vec::new()), ..beat.clone() }, now);
        assert_eq!(members.owner(claim.vip), Some("b"), "boot {boot}, seq {seq}");
    }
    members.on_beat(Beat { seq: 8, owned: Some(Vec::new()), ..beat }, now);
    assert_eq!(members.owner(claim.vip), None);
}

#[test]
fn the_number_of_members_does_not_make_beats_many() {
    for count in [3, 12] {
        let (mut net, ..) = settled(count, 1);
        net.sent = 0;
        net.run(4000);
        let per_node_second = net.sent / 4 / count as u64;
        let bound = 2 * NEIGHBOURS as u64 * 40 + 2 * count as u64;
        assert!(per_node_second <= bound, "{count} members: {per_node_second} beats a second each");
    }
}

/// Two seconds of kills, restarts, stalls, partitions, one-way links and loss; then the network stands still, in one
/// or two parts. From then on each part has exactly one owner of each VIP once the bound has passed.
#[test]
fn every_part_of_the_network_ends_with_one_owner() {
    let schedules = std::env::var("FERROGATE_SCHEDULES").ok().and_then(|text| text.parse().ok()).unwrap_or(SCHEDULES);
    for seed in 1..=schedules {
        let count = 2 + usize::try_from(seed % 4).unwrap();
        let mut net = Net::new(count, seed);
        for _ in 0..12 {
            let (at, other) = (net.pick(), net.pick());
            match net.below(8) {
                0 => net.kill(at),
                1 | 2 if !net.nodes[at].runs => net.start(at),
                3 => net.nodes[at].stalled_until = net.ms + net.below(600),
                4 => net.open[at][other] = at == other,
                5 => net.open.iter_mut().flatten().for_each(|open| *open = true),
                6 => net.loss = net.below(50),
                7 => (0..count).for_each(|it| (net.open[at][it], net.open[it][at]) = (it == at, it == at)),
                _ => {}
            }
            let pause = net.below(350);
            net.run(pause);
        }
        let left: Vec<bool> = (0..count).map(|_| net.below(3) > 0).collect();
        for (from, to) in (0..count).flat_map(|from| (0..count).map(move |to| (from, to))) {
            net.open[from][to] = left[from] == left[to];
        }
        net.loss = net.below(10);
        net.run(6000);
        for _ in 0..100 {
            net.step();
            for part in net.parts() {
                for vip in vips() {
                    let owners: Vec<usize> = net.owners(vip).into_iter().filter(|at| part.contains(at)).collect();
                    assert_eq!(owners.len(), 1, "seed {seed}: {owners:?} own {vip} in part {part:?} at {} ms", net.ms);
                }
            }
        }
    }
}
