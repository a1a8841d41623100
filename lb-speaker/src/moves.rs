//! What people are told of VIPs that move: in the list of VIPs, and as problems.
//!
//! Pure. What moves them: [`crate::members::moving`]. What becomes of connections: [`crate::forward`].

use std::net::IpAddr;
use std::sync::Arc;

use config::diagnostic::Problem;
use config::object::{FieldPath, Kind, ObjectName, ObjectRef};
use config::report::{VipEntry, VipMoves};
use config::snapshot::Snapshot;

use crate::candidates;
use crate::forward::Obstacle;
use crate::members::View;
use crate::plan::Plan;

/// What is known of moves.
#[derive(Debug)]
pub struct Known<'a, F> {
    /// What members do.
    pub members: &'a View,
    /// The node that an annotation puts first for a VIP.
    pub annotated: F,
    /// Why connections end when their VIP moves to this node.
    pub obstacle: Option<&'a Obstacle>,
}

/// Completes the list with what is known of moves.
pub fn tell(entries: &mut [VipEntry], known: &Known<'_, impl Fn(IpAddr) -> Option<Arc<str>>>) {
    for entry in entries {
        let find = |of: &dyn Fn(IpAddr) -> Option<Arc<str>>| entry.ips.iter().find_map(|ip| of(*ip));
        let command = find(&|ip| known.members.wishes.get(&ip).cloned()).map(|node| (node, "move"));
        let wanted = command.or_else(|| find(&known.annotated).map(|node| (node, "annotation")));
        let senders = entry.ips.iter().filter_map(|ip| known.members.sent_on.get(ip)).flatten();
        let mut on: Vec<String> = senders.map(ToString::to_string).collect();
        on.sort_unstable();
        on.dedup();
        entry.moving = VipMoves {
            wanted_node: wanted.as_ref().map(|(node, _)| node.to_string()),
            wanted_by: wanted.map(|(_, by)| by),
            connections_on: on,
            connections_end: known.obstacle.map(ToString::to_string),
        };
    }
}

/// What is wrong with VIPs that this node keeps though it is no candidate for them: no node is left without a word.
#[must_use]
pub fn stranded(plan: &Plan, members: &View, node: &str) -> Vec<Problem> {
    let problem = |(name, ip): (&ObjectName, IpAddr)| {
        let text = format!(
            "{ip} is still announced from node {node}, which is no candidate for it any more (excluded from load \
             balancers, without network, or without a ready endpoint), because no other node can take it"
        );
        Problem::warning(ObjectRef::new(Kind::Service, name.clone()), FieldPath::root(), text)
    };
    let live = plan.services.iter().flat_map(|(name, planned)| planned.live.iter().map(move |ip| (name, *ip)));
    live.filter(|(_, ip)| members.stranded.contains(ip)).map(problem).collect()
}

/// That no node may announce anything by what the cluster says of them, so that all of them may all the same.
#[must_use]
pub fn excluded(snapshot: &Snapshot) -> Option<Problem> {
    let first = snapshot.nodes.keys().next().filter(|_| !candidates::any_usable(snapshot))?;
    let text = format!(
        "every node is labelled {} or without network; addresses are announced all the same, since nobody else could. \
         Take the label off one of them",
        candidates::EXCLUDE
    );
    Some(Problem::warning(ObjectRef::new(Kind::Node, first.clone()), FieldPath::root(), text))
}

#[cfg(test)]
mod tests {
    use config::report::VipState;

    use crate::plan::Planned;

    use super::*;

    fn vip() -> IpAddr {
        "192.0.2.10".parse().unwrap()
    }

    fn told(members: &View, annotated: Option<&str>, obstacle: Option<&Obstacle>) -> VipMoves {
        let mut entries = vec![VipEntry {
            namespace: "shop".to_owned(),
            service: "web".to_owned(),
            ips: vec![vip()],
            pool: None,
            state: VipState::Announcing,
            reason: None,
            node: None,
            interface: None,
            moving: VipMoves::default(),
        }];
        tell(&mut entries, &Known { members, annotated: |_| annotated.map(Arc::from), obstacle });
        entries.remove(0).moving
    }

    #[test]
    fn a_command_counts_more_than_an_annotation() {
        let wished = View { wishes: [(vip(), "b".into())].into(), ..View::default() };
        for (members, annotated, expected) in [
            (&View::default(), None, None),
            (&View::default(), Some("a"), Some(("a", "annotation"))),
            (&wished, Some("a"), Some(("b", "move"))),
        ] {
            let moves = told(members, annotated, None);
            assert_eq!(moves.wanted_node.as_deref().zip(moves.wanted_by), expected);
        }
    }

    #[test]
    fn where_connections_go_or_why_they_end_is_told() {
        let members = View { sent_on: [(vip(), ["b".into(), "a".into()].into())].into(), ..View::default() };
        let moves = told(&members, None, Some(&Obstacle::Capability));
        assert_eq!(moves.connections_on, ["a", "b"]);
        assert!(moves.connections_end.is_some_and(|why| why.contains("CAP_NET_ADMIN")));
    }

    #[test]
    fn that_every_node_is_excluded_is_a_problem_and_that_one_is_not() {
        let node = |name: &str, excluded: bool| {
            let mut node = k8s_openapi::api::core::v1::Node::default();
            node.metadata.name = Some(name.to_owned());
            node.metadata.labels = excluded.then(|| [(candidates::EXCLUDE.to_owned(), String::new())].into());
            (ObjectName::cluster(name), Arc::new(node))
        };
        for (second, expected) in [(true, true), (false, false)] {
            let nodes = Arc::new([node("a", true), node("b", second)].into_iter().collect());
            assert_eq!(excluded(&Snapshot { nodes, ..Snapshot::default() }).is_some(), expected);
        }
        assert!(excluded(&Snapshot::default()).is_none(), "where no nodes are known, nothing is wrong with them");
    }

    #[test]
    fn a_vip_that_stays_for_want_of_another_node_is_a_problem_of_its_service() {
        let mut plan = Plan::default();
        let name = ObjectName::new("shop", "web");
        plan.services.insert(name.clone(), Planned { live: vec![vip()], ..Planned::default() });
        assert!(stranded(&plan, &View::default(), "n1").is_empty());
        let problems = stranded(&plan, &View { stranded: [vip()].into(), ..View::default() }, "n1");
        assert_eq!(problems.len(), 1);
        assert_eq!(problems[0].object, Some(ObjectRef::new(Kind::Service, name)));
    }
}
