//! Who does not hear this node, in words.
//!
//! | what others tell in their heartbeats            | what is said                                             |
//! |-------------------------------------------------|----------------------------------------------------------|
//! | none of them hears ours, and we hear theirs     | nobody hears this node: of the node                      |
//! | they are there and we do not hear theirs        | whose heartbeats are blocked: of the node                |
//! | some do not hear ours                           | these do not hear this node: of the node                 |
//! | a VIP of ours is not answered when they ask ARP | nobody, or these, get an answer: of the Service          |
//! | somebody else answers for it                    | which node's kernel, or which strange device: the same   |
//!
//! Pure. How it is found out: [`crate::members::testing`].

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::arp::MacAddr;
use crate::members::View;

/// What is wrong with how others hear the heartbeats of `node`.
#[must_use]
pub fn of_node(node: &str, view: &View) -> Option<String> {
    let deaf = &view.deaf_to_us;
    if deaf.is_empty() {
        return None;
    }
    let others = view.alive.iter().filter(|name| &***name != node).count();
    Some(if deaf.len() >= others {
        format!(
            "no other node hears node {node}: {} say so in heartbeats that arrive here; what this node sends is lost, so \
             others announce its addresses; look for a firewall that drops UDP from it, and at its switch port",
            listed(deaf)
        )
    } else {
        format!(
            "the heartbeats of node {node} do not reach {}, whose heartbeats reach it; look for a firewall between them",
            listed(deaf)
        )
    })
}

/// That heartbeats of others do not arrive though they are there; `patience` is how soon they were missed otherwise.
#[must_use]
pub fn of_others(node: &str, view: &View, port: u16, patience: Duration) -> Option<String> {
    let blocked = &view.blocked;
    (!blocked.is_empty()).then(|| {
        format!(
            "node {node} does not hear the heartbeats of {}, though they are there, as ARP or letters by way of the API \
             server tell: let UDP port {port} pass between them; until then a failure is noticed after seconds instead of \
             {} ms",
            listed(blocked),
            patience.as_millis()
        )
    })
}

/// What is wrong with how others find `vip`, which `node` announces; `from` says from where.
#[must_use]
pub fn of_vip(vip: IpAddr, node: &str, from: &str, view: &View) -> Vec<String> {
    let (mut unanswered, mut strangers) = (BTreeSet::new(), BTreeMap::<[u8; 6], BTreeSet<Arc<str>>>::new());
    for (by, finding) in view.complaints.get(&vip).into_iter().flatten() {
        match finding.answered_by {
            None => drop(unanswered.insert(Arc::clone(by))),
            Some(mac) => drop(strangers.entry(mac).or_default().insert(Arc::clone(by))),
        }
    }
    let silence = (!unanswered.is_empty()).then(|| not_answered(vip, node, from, &unanswered, &view.testers));
    let strange = strangers.iter().map(|(mac, by)| answered_by(*mac, vip, node, by, view));
    silence.into_iter().chain(strange).collect()
}

fn not_answered(vip: IpAddr, node: &str, from: &str, by: &BTreeSet<Arc<str>>, testers: &BTreeSet<Arc<str>>) -> String {
    if testers.is_subset(by) {
        return format!(
            "nobody hears node {node} announce {vip}{from}: {} asked the LAN for it and got no answer, though heartbeats \
             arrive; look for port security, spoofing protection or ARP inspection at its switch port or hypervisor",
            listed(by)
        );
    }
    format!(
        "{} asked the LAN for {vip}, which node {node} announces{from}, and got no answer; others do: look at what is \
         between them",
        listed(by)
    )
}

fn answered_by(mac: [u8; 6], vip: IpAddr, node: &str, by: &BTreeSet<Arc<str>>, view: &View) -> String {
    let (by, mac) = (listed(by), MacAddr::from(mac));
    match view.macs.get(&mac.octets()) {
        Some(other) => format!(
            "node {other} ({mac}) answers for {vip}, which node {node} announces, when {by} asks: its kernel does so \
             where kube-proxy runs in IPVS mode without strictARP, or where the address was added by hand; set \
             ipvs.strictARP to true, or the sysctl net.ipv4.conf.all.arp_ignore to 1"
        ),
        None => format!(
            "{mac} answers for {vip}, which node {node} announces, when {by} asks; find that device and change its address"
        ),
    }
}

/// `node a`, `nodes a and b`, `nodes a, b and 3 more`.
fn listed(names: &BTreeSet<Arc<str>>) -> String {
    const NAMED: usize = 5;
    let mut words: Vec<String> = names.iter().take(NAMED).map(ToString::to_string).collect();
    if names.len() > NAMED {
        words.push(format!("{} more", names.len() - NAMED));
    }
    match words.split_last() {
        Some((only, [])) => format!("node {only}"),
        Some((end, others)) => format!("nodes {} and {end}", others.join(", ")),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heartbeat::Finding;

    fn names(names: &[&str]) -> BTreeSet<Arc<str>> {
        names.iter().map(|name| Arc::from(*name)).collect()
    }

    #[test]
    fn a_node_that_is_not_heard_is_told_from_one_that_some_do_not_hear() {
        let alive = names(&["a", "b", "c"]);
        for (deaf, expected) in [
            (&[][..], None),
            (&["b", "c"], Some("no other node hears node a: nodes b and c say so")),
            (&["c"], Some("the heartbeats of node a do not reach node c")),
        ] {
            let view = View { alive: alive.clone(), deaf_to_us: names(deaf), ..View::default() };
            let said = of_node("a", &view);
            assert!(
                said.as_deref().map_or(expected.is_none(), |it| expected.is_some_and(|e| it.starts_with(e))),
                "{said:?}"
            );
        }
    }

    #[test]
    fn who_does_not_find_a_vip_and_who_answers_for_it_are_named() {
        let (vip, stranger): (IpAddr, _) = ("192.0.2.1".parse().unwrap(), [2, 0, 0, 0, 0, 9]);
        let finding = |answered_by| Finding { vip, answered_by };
        for (complaints, expected) in [
            (vec![], vec![]),
            (
                vec![("b", None), ("c", None)],
                vec!["nobody hears node a announce 192.0.2.1 from x: nodes b and c asked"],
            ),
            (vec![("c", None)], vec!["node c asked the LAN for 192.0.2.1"]),
            (vec![("b", Some([2, 0, 0, 0, 0, 3]))], vec!["node c (02:00:00:00:00:03) answers for 192.0.2.1"]),
            (vec![("b", Some(stranger)), ("c", None)], vec!["node c asked the LAN", "02:00:00:00:00:09 answers for"]),
        ] {
            let complaints: BTreeMap<_, _> =
                complaints.into_iter().map(|(by, mac)| (Arc::from(by), finding(mac))).collect();
            let view = View {
                testers: names(&["b", "c"]),
                macs: [([2, 0, 0, 0, 0, 3], Arc::from("c"))].into(),
                complaints: [(vip, complaints)].into(),
                ..View::default()
            };
            let said = of_vip(vip, "a", " from x", &view);
            assert_eq!(said.len(), expected.len(), "{said:?}");
            assert!(said.iter().zip(&expected).all(|(it, start)| it.starts_with(start)), "{said:?}");
        }
    }

    #[test]
    fn whose_heartbeats_are_blocked_is_said_with_the_port() {
        let view = View { blocked: names(&["b", "c"]), ..View::default() };
        let said = of_others("a", &view, 7947, Duration::from_millis(100)).unwrap();
        assert!(said.starts_with("node a does not hear the heartbeats of nodes b and c"), "{said}");
        assert!(said.contains("UDP port 7947") && said.ends_with("instead of 100 ms"), "{said}");
        assert_eq!(of_others("a", &View::default(), 7947, Duration::ZERO), None);
    }

    #[test]
    fn many_nodes_are_counted() {
        assert_eq!(listed(&names(&["a", "b", "c", "d", "e", "f", "g"])), "nodes a, b, c, d, e and 2 more");
    }
}
