//! What members are told of the cluster: which VIPs are to be owned, by whom, and where peers are.
//!
//! ```text
//! snapshot ─> candidates ─┐
//! plan (what is live)  ───┼─> World ─> members
//! layout (what fails here)┘
//! ```
//!
//! Pure. Who of the candidates owns a VIP: [`crate::members`].

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use config::pool::Protocol;
use config::snapshot::Snapshot;
use k8s_openapi::api::core::v1::Node;

use crate::candidates::Candidates;
use crate::members::{Eligible, World};
use crate::plan::Plan;
use crate::reach::Layout;

/// Everything that members depend on, except for what only the shell knows.
///
/// `layout` says where this node could announce; what it cannot announce, it cannot own.
#[must_use]
pub fn world(snapshot: &Snapshot, plan: &Plan, layout: &Layout) -> World {
    let vips = vips(snapshot, plan);
    let fails = |vip: &&IpAddr| !matches!(layout.verdicts.get(*vip), Some(Ok(_)));
    let unable: BTreeSet<IpAddr> = vips.keys().filter(fails).copied().collect();
    let saved = snapshot.saved.is_some();
    let (generation, unready) = (snapshot.generation, unready(snapshot));
    World { vips, unable, generation, unready, stale: (saved, false), ..World::default() }
}

/// Every VIP that is announced by ARP or NDP, and who may own it.
fn vips(snapshot: &Snapshot, plan: &Plan) -> BTreeMap<IpAddr, Eligible> {
    let candidates = Candidates::of(snapshot);
    let mut vips: BTreeMap<IpAddr, Eligible> = BTreeMap::new();
    for (name, planned) in plan.services.iter().filter(|(_, planned)| planned.protocol != Some(Protocol::Bgp)) {
        let Some(service) = snapshot.services.get(name) else { continue };
        for vip in planned.live.iter().filter(|vip| !vip.is_loopback()) {
            let eligible = candidates.eligible(name, service);
            match vips.entry(*vip) {
                std::collections::btree_map::Entry::Vacant(entry) => drop(entry.insert(eligible)),
                std::collections::btree_map::Entry::Occupied(mut entry) => entry.get_mut().share(eligible),
            }
        }
    }
    vips
}

/// The nodes that are down, as far as the API knows: those that are not ready.
fn unready(snapshot: &Snapshot) -> BTreeSet<Arc<str>> {
    let is_unready = |node: &&Arc<Node>| {
        let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref()).into_iter().flatten();
        conditions.into_iter().any(|it| it.type_ == "Ready" && it.status != "True")
    };
    let unready = snapshot.nodes.values().filter(is_unready);
    unready.filter_map(|node| node.metadata.name.as_deref()).map(Arc::from).collect()
}

/// The addresses of every node within the cluster.
#[must_use]
pub fn node_addresses(snapshot: &Snapshot) -> BTreeMap<Arc<str>, Vec<IpAddr>> {
    let nodes = snapshot.nodes.values().filter_map(|node| {
        let addresses = node.status.as_ref().and_then(|status| status.addresses.as_ref()).into_iter().flatten();
        let internal = addresses.filter(|address| address.type_ == "InternalIP");
        let found = internal.filter_map(|address| address.address.parse().ok()).collect();
        Some((Arc::from(node.metadata.name.as_deref()?), found))
    });
    nodes.collect()
}

#[cfg(test)]
mod tests {
    use config::object::ObjectName;
    use k8s_openapi::api::core::v1::{NodeAddress, NodeCondition, NodeStatus, Service};

    use super::*;
    use crate::plan::Planned;
    use crate::reach::Silence;

    fn plan(services: &[(&str, &str, Option<Protocol>)]) -> (Snapshot, Plan) {
        let (mut snapshot, mut plan) = (Snapshot::default(), Plan::default());
        let mut objects = BTreeMap::new();
        for (name, vip, protocol) in services {
            let name = ObjectName::new("shop", *name);
            let planned = Planned { live: vec![vip.parse().unwrap()], protocol: *protocol, ..Planned::default() };
            plan.services.insert(name.clone(), planned);
            objects.insert(name, Arc::new(Service::default()));
        }
        snapshot.services = Arc::new(objects.into_iter().collect());
        (snapshot, plan)
    }

    #[test]
    fn what_is_announced_by_arp_is_to_be_owned_and_what_fails_here_is_owned_elsewhere() {
        let (snapshot, plan) = plan(&[
            ("a", "192.0.2.1", Some(Protocol::Layer2)),
            ("b", "192.0.2.2", None),
            ("c", "192.0.2.3", Some(Protocol::Bgp)),
            ("d", "127.0.0.9", Some(Protocol::Layer2)),
        ]);
        let (fine, down) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let mut layout = Layout::default();
        layout.verdicts.insert(fine, Ok(vec!["eth0".to_owned()]));
        layout.verdicts.insert(down, Err(Silence::Down { names: vec!["eth0".to_owned()] }));
        let world = world(&snapshot, &plan, &layout);
        assert_eq!(world.vips.keys().copied().collect::<Vec<_>>(), [fine, down]);
        assert_eq!(world.unable, [down].into());
    }

    #[test]
    fn a_node_is_down_when_its_condition_says_so() {
        let node = |name: &str, ready: Option<&str>| {
            let mut node = Node::default();
            node.metadata.name = Some(name.to_owned());
            let condition = |status: &str| {
                let (type_, status) = ("Ready".to_owned(), status.to_owned());
                vec![NodeCondition { type_, status, ..NodeCondition::default() }]
            };
            node.status = Some(NodeStatus { conditions: ready.map(condition), ..NodeStatus::default() });
            (ObjectName::new("", name), Arc::new(node))
        };
        let nodes = [node("a", Some("True")), node("b", Some("False")), node("c", Some("Unknown")), node("d", None)];
        let snapshot = Snapshot { nodes: Arc::new(nodes.into()), ..Snapshot::default() };
        assert_eq!(unready(&snapshot), ["b", "c"].map(Arc::from).into());
    }

    #[test]
    fn a_node_is_reached_at_its_internal_addresses() {
        let address = |type_: &str, address: &str| NodeAddress { type_: type_.to_owned(), address: address.to_owned() };
        let addresses = [
            ("Hostname", "n"),
            ("InternalIP", "192.0.2.7"),
            ("InternalIP", "2001:db8::7"),
            ("ExternalIP", "198.51.100.7"),
        ];
        let addresses = addresses.map(|(type_, text)| address(type_, text)).to_vec();
        let mut node = Node::default();
        node.metadata.name = Some("n".to_owned());
        node.status = Some(NodeStatus { addresses: Some(addresses), ..NodeStatus::default() });
        let nodes = Arc::new([(ObjectName::new("", "n"), Arc::new(node))].into());
        let snapshot = Snapshot { nodes, ..Snapshot::default() };
        let found = node_addresses(&snapshot);
        assert_eq!(found["n"], ["192.0.2.7".parse::<IpAddr>().unwrap(), "2001:db8::7".parse().unwrap()]);
    }
}
