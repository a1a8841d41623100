//! What letters are good for where heartbeats are blocked, and what they must not do.

use super::*;

/// Nodes whose heartbeats have always been blocked, after the time that letters need.
fn blocked(count: usize, seed: u64) -> (Net, IpAddr, usize) {
    let mut net = Net::new(count, seed);
    (net.udp, net.api) = (false, true);
    net.run(30_000);
    let vip = vips()[0];
    let owners = net.owners(vip);
    assert_eq!(owners.len(), 1, "seed {seed}: {owners:?}");
    (net, vip, owners[0])
}

fn owners(net: &Net) -> Vec<Vec<usize>> {
    vips().into_iter().map(|vip| net.owners(vip)).collect()
}

#[test]
fn nobody_writes_where_heartbeats_arrive_and_few_where_a_node_is_gone() {
    let (mut net, ..) = settled(3, 1);
    net.api = true;
    net.loss = 50;
    net.run(60_000);
    assert_eq!(net.written, 0);
    net.loss = 0;
    net.kill(0);
    net.run(130_000);
    net.written = 0;
    net.run(60_000);
    assert!(net.written <= 6, "{} letters a minute", net.written);
}

#[test]
fn members_that_never_heard_each_other_agree_on_owners_and_say_what_is_wrong() {
    for seed in 1..6 {
        let (mut net, ..) = blocked(3, seed);
        let before = owners(&net);
        for _ in 0..30_000 {
            net.step();
            assert_eq!(owners(&net), before, "seed {seed} at {} ms", net.ms);
        }
        for node in &net.nodes {
            assert_eq!(node.members.blocked().len(), 2, "seed {seed}");
        }
    }
}

#[test]
fn an_owner_known_by_letter_that_dies_is_replaced_by_one() {
    for seed in 1..6 {
        let (mut net, vip, owner) = blocked(4, seed);
        net.kill(owner);
        let took = net.until_moved(vip, owner);
        assert!(took <= 5000, "seed {seed}: {took} ms");
        net.run(10_000);
        for _ in 0..10_000 {
            net.step();
            assert_eq!(net.owners(vip).len(), 1, "seed {seed} at {} ms", net.ms);
        }
    }
}

#[test]
fn without_an_api_server_blocked_heartbeats_move_nothing() {
    let (mut net, ..) = blocked(3, 7);
    net.api = false;
    let before = owners(&net);
    for _ in 0..60_000 {
        net.step();
        assert_eq!(owners(&net), before, "at {} ms", net.ms);
    }
}

#[test]
fn heartbeats_that_are_let_through_again_are_what_counts() {
    let (mut net, vip, owner) = blocked(3, 8);
    net.udp = true;
    net.run(15_000);
    assert!(net.nodes.iter().all(|node| node.members.blocked().is_empty()));
    let owner = net.owners(vip).first().copied().unwrap_or(owner);
    net.kill(owner);
    let took = net.until_moved(vip, owner);
    assert!(took <= 125, "{took} ms");
}

#[test]
fn letters_between_the_halves_of_a_lan_leave_each_its_owner() {
    let (mut net, vip, owner) = settled(4, 9);
    net.api = true;
    let half = [owner, (owner + 1) % 4];
    for (from, to) in (0..4).flat_map(|from| (0..4).map(move |to| (from, to))) {
        net.open[from][to] = half.contains(&from) == half.contains(&to);
    }
    net.run(20_000);
    for _ in 0..60_000 {
        net.step();
        let owners = net.owners(vip);
        let inside = owners.iter().filter(|at| half.contains(at)).count();
        assert_eq!((inside, owners.len()), (1, 2), "{owners:?} at {} ms", net.ms);
    }
}

#[test]
fn a_node_that_only_the_api_server_reaches_takes_nothing() {
    let mut net = Net::new(3, 10);
    (net.gateway, net.api) = (true, true);
    (0..3).for_each(|at| net.tell(at));
    net.run(12_000);
    let vip = vips()[0];
    let lost = net.owners(vip)[0];
    (0..3).for_each(|at| (net.open[lost][at], net.open[at][lost]) = (at == lost, at == lost));
    net.run(1000);
    for _ in 0..60_000 {
        net.step();
        let owners = net.owners(vip);
        assert!(owners.len() == 1 && owners[0] != lost, "{owners:?} at {} ms", net.ms);
    }
}

#[test]
fn a_letter_counts_once_and_only_after_an_older_one() {
    let now = Instant::now();
    let mut members = Members::new("a", 1, Profile::DEFAULT, now);
    let letter = |seq| Beat { node: "b".into(), boot: 5, seq, interval: 5000, misses: 4, ..Beat::default() };
    for (seq, alive) in [(7, 0), (7, 0), (6, 0), (8, 1)] {
        members.on_letter(letter(seq), now);
        assert_eq!(members.alive().count(), alive, "seq {seq}");
    }
    let later = now + Duration::from_mins(5);
    while members.poll(later).is_some() {}
    assert_eq!(members.alive().count(), 0);
    members.on_letter(letter(8), later);
    assert_eq!(members.alive().count(), 0, "what stands there for ever proves nothing");
}

/// As [`every_part_of_the_network_ends_with_one_owner`], where it ends with heartbeats blocked.
#[test]
fn every_schedule_that_ends_with_blocked_heartbeats_ends_with_one_owner() {
    for seed in 1..=15 {
        let count = 2 + usize::try_from(seed % 3).unwrap();
        let mut net = Net::new(count, seed);
        net.api = true;
        for _ in 0..10 {
            let at = net.pick();
            match net.below(6) {
                0 => net.kill(at),
                1 | 2 if !net.nodes[at].runs => net.start(at),
                3 => net.nodes[at].stalled_until = net.ms + net.below(600),
                4 => net.udp = !net.udp,
                5 => net.loss = net.below(50),
                _ => {}
            }
            let pause = net.below(2000);
            net.run(pause);
        }
        (net.udp, net.loss) = (false, 0);
        net.run(45_000);
        for vip in vips() {
            let expected = usize::from(net.nodes.iter().any(|node| node.runs));
            assert_eq!(net.owners(vip).len(), expected, "seed {seed}: {:?} own {vip}", net.owners(vip));
        }
    }
}
