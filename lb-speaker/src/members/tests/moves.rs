//! VIPs that move on purpose.

use super::*;
use crate::members::moving::MoveError;

/// All members are told that only these may own the VIPs.
fn admit(net: &mut Net, nodes: &[usize]) {
    let admitted: BTreeSet<Arc<str>> = nodes.iter().map(|at| Arc::clone(&net.nodes[*at].name)).collect();
    let eligible = Eligible { nodes: Some(Arc::new(admitted)), preferred: None };
    for at in 0..net.nodes.len() {
        let vips = vips().into_iter().map(|vip| (vip, eligible.clone())).collect();
        let configured = net.nodes.iter().map(|node| Arc::clone(&node.name)).collect();
        let (world, now) = (World { vips, configured, macs: vec![mac(at)], ..World::default() }, net.now());
        net.nodes[at].members.set_world(world, now);
    }
}

fn wish(net: &mut Net, asked: usize, vip: IpAddr, node: Option<usize>) -> Result<(), MoveError> {
    let (node, now, stamp) = (node.map(|at| Arc::clone(&net.nodes[at].name)), net.now(), net.ms);
    net.nodes[asked].members.wish(vip, node.as_deref(), stamp, now)
}

#[test]
fn an_owner_that_is_no_candidate_any_more_is_followed_without_a_gap() {
    for seed in 0..6 {
        let (mut net, vip, owner) = settled(3, seed);
        let rest: Vec<usize> = (0..3).filter(|at| *at != owner).collect();
        net.loss = 20;
        admit(&mut net, &rest);
        let begun = net.ms;
        while net.nodes[owner].members.mine.contains_key(&vip) {
            net.step();
            assert!(!net.owners(vip).is_empty(), "seed {seed}: nobody owns it after {} ms", net.ms - begun);
            assert!(net.ms < begun + 1000, "seed {seed}: it is still not taken");
        }
        assert_eq!(net.owners(vip).len(), 1, "seed {seed}");
    }
}

#[test]
fn an_owner_that_nobody_can_follow_stays_and_says_so() {
    let (mut net, vip, owner) = settled(2, 4);
    net.kill(1 - owner);
    admit(&mut net, &[1 - owner]);
    net.run(5000);
    assert_eq!(net.owners(vip), [owner]);
    assert!(net.nodes[owner].members.view().stranded.contains(&vip));
    net.start(1 - owner);
    admit(&mut net, &[1 - owner]);
    net.run(2000);
    assert_eq!(net.owners(vip), [1 - owner], "the candidate takes it as soon as there is one");
}

#[test]
fn a_vip_that_nobody_can_serve_is_nobodys() {
    let (mut net, vip, _) = settled(2, 4);
    admit(&mut net, &[]);
    net.run(10);
    assert_eq!(net.owners(vip), [] as [usize; 0]);
}

#[test]
fn a_wish_moves_a_vip_whoever_is_asked_and_outlives_who_was_asked() {
    let (mut net, vip, owner) = settled(3, 2);
    let (to, asked) = ((owner + 1) % 3, (owner + 2) % 3);
    wish(&mut net, asked, vip, Some(to)).unwrap();
    let took = net.until_moved(vip, owner);
    net.run(50);
    assert!(took <= 100 && net.owners(vip) == [to], "{took} ms");
    net.kill(asked);
    net.run(1000);
    net.start(asked);
    net.run(12_000);
    assert_eq!(net.owners(vip), [to], "it is not taken back");
    for at in 0..3 {
        let wishes = net.nodes[at].members.view().wishes;
        assert_eq!(wishes, [(vip, Arc::clone(&net.nodes[to].name))].into(), "n{at} knows");
    }
    wish(&mut net, asked, vip, None).unwrap();
    // Who lost another VIP meanwhile waits before it takes any.
    net.run(12_000);
    assert_eq!(net.owners(vip), [owner], "it goes where it was without a wish");
}

#[test]
fn the_last_word_counts_even_if_the_clock_of_who_said_it_is_late() {
    let (mut net, vip, owner) = settled(3, 2);
    let (first, second) = ((owner + 1) % 3, (owner + 2) % 3);
    wish(&mut net, owner, vip, Some(first)).unwrap();
    net.run(200);
    let (name, now) = (Arc::clone(&net.nodes[second].name), net.now());
    net.nodes[first].members.wish(vip, Some(&name), 1, now).unwrap();
    net.run(2000);
    assert_eq!(net.owners(vip), [second]);
}

#[test]
fn a_wish_that_cannot_be_met_is_refused_with_its_reason() {
    let (mut net, vip, owner) = settled(3, 2);
    let other = (owner + 1) % 3;
    let unknown: IpAddr = "203.0.113.9".parse().unwrap();
    assert!(matches!(wish(&mut net, owner, unknown, None), Err(MoveError::NoService { .. })));
    net.kill(other);
    net.run(1000);
    let refused = wish(&mut net, owner, vip, Some(other)).unwrap_err();
    assert!(matches!(&refused, MoveError::NoMember { alive, .. } if alive.len() == 2), "{refused}");
    admit(&mut net, &[owner, other]);
    let refused = wish(&mut net, owner, vip, Some((owner + 2) % 3)).unwrap_err();
    assert!(matches!(refused, MoveError::NoCandidate { .. }), "{refused}");
    net.run(3000);
    assert_eq!(net.owners(vip), [owner], "nothing moved");
}

#[test]
fn who_handed_over_lingers_for_a_while_and_not_when_it_is_dead() {
    for dies in [false, true] {
        let (mut net, vip, owner) = settled(2, 3);
        let (new, now) = (1 - owner, net.now());
        for node in &mut net.nodes {
            node.members.set_hand_over(Duration::from_secs(5), true);
        }
        net.nodes[owner].members.leave(now);
        net.until_moved(vip, owner);
        let lingerers = |net: &Net| net.nodes[new].members.facts().lingerers.get(&vip).map_or(0, BTreeSet::len);
        assert_eq!(lingerers(&net), 1, "with the claim");
        net.run(3000);
        assert_eq!(lingerers(&net), 1, "and for a while");
        assert!(net.nodes[owner].members.view().lingering.contains(&vip), "the new owner needs it");
        if dies {
            net.kill(owner);
            net.run(150);
        } else {
            net.run(4000);
            assert!(net.nodes[owner].members.view().lingering.is_empty());
        }
        assert_eq!(lingerers(&net), 0, "dies: {dies}");
    }
}

#[test]
fn a_node_that_returns_takes_ten_vips_a_second_and_no_more() {
    let mut net = Net::new(2, 5);
    let vips: Vec<IpAddr> = (1..=40).map(|last| IpAddr::from([192, 0, 2, last])).collect();
    let first = Arc::clone(&net.nodes[0].name);
    let tell = |net: &mut Net, at: usize| {
        let eligible = Eligible { nodes: None, preferred: Some(Arc::clone(&first)) };
        let vips = vips.iter().map(|vip| (*vip, eligible.clone())).collect();
        let configured = net.nodes.iter().map(|node| Arc::clone(&node.name)).collect();
        let (world, now) = (World { vips, configured, macs: vec![mac(at)], ..World::default() }, net.now());
        net.nodes[at].members.set_world(world, now);
    };
    for at in 0..2 {
        tell(&mut net, at);
    }
    net.run(15_000);
    net.kill(0);
    net.run(1000);
    assert_eq!(net.nodes[1].members.owned().len(), 40, "all are taken over");
    net.start(0);
    tell(&mut net, 0);
    let mut counts = Vec::new();
    while counts.last() != Some(&40) {
        net.step();
        counts.push(net.nodes[0].members.owned().len());
        assert!(vips.iter().all(|vip| !net.owners(*vip).is_empty()), "each has an owner all the time");
        assert!(counts.len() < 30_000, "it takes all of them in the end");
    }
    let most = counts.windows(1000).map(|second| second[999] - second[0]).max();
    assert!(most.is_some_and(|most| (1..=10).contains(&most)), "{most:?} within a second");
    assert!(counts[9000] == 0, "not before it is warm");
}
