//! What members find out about who hears them.

use super::*;

/// What `owner` is told of `vip`, by how many.
fn complaints(net: &Net, owner: usize, vip: IpAddr) -> Vec<Option<[u8; 6]>> {
    let complaints = net.nodes[owner].members.complaints();
    complaints.get(&vip).into_iter().flatten().map(|(_, finding)| finding.answered_by).collect()
}

/// Every VIP is asked for in turn, three times until it is told, and that takes a beat to arrive.
const FOUND: u64 = 20_000;

#[test]
fn a_vip_that_the_lan_does_not_answer_is_told_to_its_owner_until_it_is() {
    let (mut net, vip, owner) = settled(3, 1);
    assert!(net.nodes.iter().all(|node| node.members.complaints().is_empty()));
    net.lan = Lan::Silent(vip);
    net.run(FOUND);
    assert_eq!(complaints(&net, owner, vip), [None, None], "both others say so");
    assert_eq!(net.nodes[owner].members.view().testers.len(), 2);
    assert_eq!(net.owners(vip), [owner], "and nothing moves for it");
    net.lan = Lan::Fine;
    net.run(3000);
    assert_eq!(complaints(&net, owner, vip), []);
}

#[test]
fn who_else_answers_for_a_vip_is_told_to_its_owner() {
    let (mut net, vip, owner) = settled(3, 2);
    let stranger = [2, 9, 9, 9, 9, 9];
    net.lan = Lan::Doubled(vip, stranger);
    net.run(FOUND);
    assert_eq!(complaints(&net, owner, vip), [Some(stranger); 2]);
    net.lan = Lan::Fine;
    net.run(3000);
    assert_eq!(complaints(&net, owner, vip), []);
}

#[test]
fn a_member_that_nobody_hears_knows_it_and_a_lossy_network_alarms_nobody() {
    let (mut net, _, owner) = settled(3, 3);
    net.loss = 50;
    for _ in 0..60_000 {
        net.step();
        assert!(net.nodes.iter().all(|node| node.members.deaf_to_us().is_empty()), "at {} ms", net.ms);
    }
    net.loss = 0;
    (0..3).for_each(|at| net.open[owner][at] = at == owner);
    net.run(9000);
    let deaf = net.nodes[owner].members.deaf_to_us();
    assert_eq!(deaf.len(), 2, "{deaf:?}");
    (0..3).for_each(|at| net.open[owner][at] = true);
    net.run(3000);
    assert!(net.nodes.iter().all(|node| node.members.deaf_to_us().is_empty()));
}
