//! Pools whose addresses no node can announce.

use std::net::IpAddr;

use config::diagnostic::Problem;
use config::object::{FieldPath, Kind, ObjectName, ObjectRef};
use config::pool::{AddressRange, Pool, Protocol};
use config::settings::CONFIG_MAP_KEY;
use config::snapshot::Snapshot;
use ipnet::IpNet;

use crate::claim::Family;
use crate::reserved::Lan;

/// Warns of the entries of layer 2 pools that lie outside every subnet of the nodes: nobody on a LAN would ask for such
/// an address.
///
/// Other nodes are known by their addresses only; their subnets are taken to be as large as those of this node. Where no
/// subnet of a family is known, nothing is said about it.
pub(super) fn outside(snapshot: &Snapshot, lan: &Lan, config_map: &ObjectName) -> Vec<Problem> {
    if lan.is_chosen_by_name {
        return Vec::new();
    }
    let subnets = subnets(snapshot, lan);
    let layer2 = snapshot.pools.pools.iter().filter(|pool| pool.protocol == Protocol::Layer2);
    let entries = layer2.flat_map(|pool| pool.ranges.iter().map(move |range| (pool, range)));
    let outside = entries.filter(|(_, range)| !range.first().is_loopback() && is_outside(range, &subnets));
    outside.map(|(pool, range)| snapshot.placed(warning(config_map, pool, range, &subnets))).collect()
}

fn subnets(snapshot: &Snapshot, lan: &Lan) -> Vec<IpNet> {
    let addresses =
        snapshot.nodes.values().flat_map(|node| node.status.iter().flat_map(|it| it.addresses.iter().flatten()));
    let addresses: Vec<IpAddr> = addresses.filter_map(|address| address.address.parse().ok()).collect();
    let own = lan.subnets.iter().filter(|subnet| !is_link_local(subnet));
    let alike = own.clone().flat_map(|subnet| {
        let alike = addresses.iter().filter(|ip| Family::of(**ip) == Family::of(subnet.addr()));
        alike.filter_map(|ip| IpNet::new(*ip, subnet.prefix_len()).ok())
    });
    let mut all: Vec<IpNet> = own.copied().chain(alike).map(|subnet| subnet.trunc()).collect();
    all.sort_unstable();
    all.dedup();
    all
}

fn is_link_local(subnet: &IpNet) -> bool {
    matches!(subnet, IpNet::V6(subnet) if subnet.addr().is_unicast_link_local())
}

fn is_outside(range: &AddressRange, subnets: &[IpNet]) -> bool {
    let mut alike = subnets.iter().filter(|subnet| Family::of(subnet.addr()) == Family::of(range.first())).peekable();
    let known = alike.peek().is_some();
    let whole = |subnet: &IpNet| AddressRange::new(subnet.network(), subnet.broadcast());
    known && !alike.any(|subnet| whole(subnet).is_some_and(|subnet| subnet.overlaps(range)))
}

fn warning(config_map: &ObjectName, pool: &Pool, range: &AddressRange, subnets: &[IpNet]) -> Problem {
    let family = Family::of(range.first());
    let alike = subnets.iter().filter(|subnet| Family::of(subnet.addr()) == family);
    let alike = alike.take(4).map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let message = format!(
        "{range} of pool {} lies outside every subnet of the nodes ({alike}), so nobody on the LAN asks for it; use \
         addresses of these, or route them to a node and name the interface with --interface",
        pool.name
    );
    let object = ObjectRef::new(Kind::ConfigMap, config_map.clone());
    Problem::warning(object, FieldPath::of(["data", CONFIG_MAP_KEY]), message)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use config::pool::{PoolConfig, PoolName};
    use k8s_openapi::api::core::v1::{Node, NodeAddress, NodeStatus};

    use super::*;

    fn warned(ranges: &[(&str, &str)], protocol: Protocol, subnets: &[&str], node: &str) -> Vec<String> {
        let range = |(first, last): &(&str, &str)| AddressRange::new(first.parse().unwrap(), last.parse().unwrap());
        let ranges = ranges.iter().map(|it| range(it).unwrap()).collect();
        let pool = Pool::new(PoolName::new("lan").unwrap(), protocol, ranges);
        let address = NodeAddress { type_: "InternalIP".into(), address: node.into() };
        let status = NodeStatus { addresses: Some(vec![address]), ..NodeStatus::default() };
        let node = Node { status: Some(status), ..Node::default() };
        let snapshot = Snapshot {
            pools: Arc::new(PoolConfig { pools: vec![pool], ..PoolConfig::default() }),
            nodes: Arc::new([(ObjectName::cluster("n1"), Arc::new(node))].into()),
            ..Snapshot::default()
        };
        let lan = Lan { subnets: subnets.iter().map(|it| it.parse().unwrap()).collect(), ..Lan::default() };
        let problems = outside(&snapshot, &lan, &ObjectName::new("metallb-system", "config"));
        problems.into_iter().map(|problem| problem.message).collect()
    }

    #[test]
    fn a_pool_outside_every_subnet_of_the_nodes_is_warned_of() {
        let (far, near) = (("198.51.100.1", "198.51.100.9"), ("192.0.2.64", "192.0.2.95"));
        let six = ("fd00::1", "fd00::9");
        for (what, ranges, protocol, subnets, node, expected) in [
            ("outside", &[far][..], Protocol::Layer2, &["192.0.2.7/24"][..], "192.0.2.7", 1),
            ("one entry of two", &[near, far], Protocol::Layer2, &["192.0.2.7/24"], "192.0.2.7", 1),
            ("inside", &[near], Protocol::Layer2, &["192.0.2.7/24"], "192.0.2.7", 0),
            ("in part", &[("192.0.1.0", "192.0.2.9")], Protocol::Layer2, &["192.0.2.7/24"], "192.0.2.7", 0),
            ("in another node's subnet", &[far], Protocol::Layer2, &["192.0.2.7/24"], "198.51.100.200", 0),
            ("no subnet is known", &[far], Protocol::Layer2, &[], "192.0.2.7", 0),
            ("no subnet of the family is known", &[six], Protocol::Layer2, &["192.0.2.7/24"], "192.0.2.7", 0),
            ("only link-local", &[six], Protocol::Layer2, &["fe80::1/64"], "192.0.2.7", 0),
            ("IPv6", &[six], Protocol::Layer2, &["2001:db8::1/64"], "192.0.2.7", 1),
            ("BGP routes it", &[far], Protocol::Bgp, &["192.0.2.7/24"], "192.0.2.7", 0),
            ("this machine only", &[("127.0.10.1", "127.0.10.9")], Protocol::Layer2, &["192.0.2.7/24"], "192.0.2.7", 0),
        ] {
            let warned = warned(ranges, protocol, subnets, node);
            assert_eq!(warned.len(), expected, "{what}: {warned:?}");
            assert!(warned.iter().all(|it| it.contains("of pool lan lies outside")), "{warned:?}");
        }
    }
}
