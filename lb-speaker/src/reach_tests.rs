//! Which VIP on which interface, and what is said of those on none.

use std::net::Ipv4Addr;

use config::object::ObjectName;
use config::pool::PoolName;

use super::*;
use crate::arp::MacAddr;

const VIP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);

fn link(index: u32, name: &str, subnet: &str) -> Link {
    Link {
        index,
        name: name.to_owned(),
        mac: MacAddr(2, 0, 0, 0, 0, 1),
        ready: true,
        unfit: None,
        kind: None,
        subnets: vec![subnet.parse().unwrap()],
    }
}

fn links() -> Vec<Link> {
    vec![
        Link { unfit: Some(Unfit::Loopback), ..link(1, "lo", "127.0.0.1/8") },
        link(2, "eth0", "192.0.2.1/24"),
        link(3, "eth1", "198.51.100.1/24"),
        Link { kind: Some("veth".into()), ..link(4, "veth1", "203.0.113.1/24") },
        Link { unfit: Some(Unfit::Member), ..link(5, "port0", "192.0.2.3/24") },
        link(6, "same", "192.0.2.10/32"),
    ]
}

fn planned(ip: IpAddr) -> Planned {
    let (protocol, pool) = (Some(Protocol::Layer2), PoolName::new("lan"));
    Planned { ips: vec![ip], pool, protocol, live: vec![ip], committed: true, refusal: None, probing: vec![] }
}

fn plan_of(planned: Planned) -> Plan {
    Plan { services: [(ObjectName::new("default", "web"), planned)].into(), ..Plan::default() }
}

fn chosen(only: &[&str], except: &[&str]) -> Choice {
    let all = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect();
    Choice { only: all(only), except: all(except) }
}

const ANY: Choice = Choice { only: Vec::new(), except: Vec::new() };
const HERE: Standpoint<'_> = Standpoint { choice: &ANY, no_socket: None };

/// The one entry of a plan: `interface` or `state: reason`.
fn shown(planned: Planned, links: &[Link], from: Standpoint<'_>) -> String {
    let plan = plan_of(planned);
    let entry = entries(&plan, &layout(&plan, links, from), "n").remove(0);
    match (entry.state, entry.interface, entry.reason) {
        (VipState::Announcing, Some(interface), None) => interface,
        (state, _, reason) => format!("{state:?}: {}", reason.unwrap_or_default()),
    }
}

#[test]
fn a_vip_goes_to_the_interface_on_its_subnet_or_to_those_named() {
    let other = Ipv4Addr::new(203, 0, 113, 5);
    for (vip, names, expected) in [
        (VIP, ANY, "eth0"),
        (VIP, chosen(&["eth1"], &[]), "eth1"),
        (VIP, chosen(&["eth[0-9]"], &[]), "eth0,eth1"),
        (VIP, chosen(&["eth[0-9]"], &["eth0"]), "eth1"),
        (VIP, chosen(&["eth0", "eth1", "eth9"], &[]), "eth0,eth1"),
        (VIP, chosen(&["eth9"], &[]), "Assigned: interface eth9 does not exist (yet)"),
        (VIP, chosen(&["lo"], &[]), "Assigned: interface lo cannot announce: it is a loopback interface"),
        (
            VIP,
            chosen(&[], &["eth.*"]),
            "Assigned: no interface is on a subnet with 192.0.2.10; name the interface to announce it on with --interface (eth0 was left out: --exclude-interface says so)",
        ),
        (
            other,
            ANY,
            "Assigned: no interface is on a subnet with 203.0.113.5; name the interface to announce it on with --interface (veth1 (veth) was left out: it is virtual)",
        ),
    ] {
        let from = Standpoint { choice: &names, ..HERE };
        assert_eq!(shown(planned(IpAddr::V4(vip)), &links(), from), expected);
    }
}

#[test]
fn an_ipv6_vip_goes_to_the_interface_on_its_subnet() {
    let mut links = links();
    links[1].subnets.push("2001:db8:0:1::1/64".parse().unwrap());
    links[2].subnets.push("2001:db8:0:2::1/64".parse().unwrap());
    links[2].subnets.push("2001:db8:0:3::10/128".parse().unwrap());
    for (vip, expected) in [
        ("2001:db8:0:1::10", "eth0"),
        ("2001:db8:0:2::10", "eth1"),
        ("2001:db8:0:3::10", "Assigned: no interface is on a subnet with 2001:db8:0:3::10"),
    ] {
        let shown = shown(planned(vip.parse().unwrap()), &links, HERE);
        assert!(shown.starts_with(expected), "{shown}");
    }
}

#[test]
fn every_silence_has_its_reason() {
    let vip = IpAddr::V4(VIP);
    let down: Vec<Link> = links().into_iter().map(|link| Link { ready: false, ..link }).collect();
    let bgp = Planned { protocol: Some(Protocol::Bgp), ..planned(vip) };
    let uncommitted = Planned { live: vec![], ..planned(vip) };
    let no_socket = Standpoint { no_socket: Some("run as root"), ..HERE };
    for (planned, links, from, expected) in [
        (bgp, links(), HERE, "BGP announcing is not built yet"),
        (uncommitted, links(), HERE, "waiting for the address to be written"),
        (
            planned("127.0.0.10".parse().unwrap()),
            links(),
            no_socket,
            "loopback address: reachable on this machine only",
        ),
        (planned("::1".parse().unwrap()), links(), HERE, "loopback address: reachable on this machine only"),
        (planned("2001:db8::1".parse().unwrap()), links(), HERE, "no interface is on a subnet with 2001:db8::1"),
        (planned("fe80::1".parse().unwrap()), links(), HERE, "link-local address"),
        (planned(vip), links(), no_socket, "not announced: run as root"),
        (planned(vip), down, HERE, "interface eth0 is down or has no carrier"),
    ] {
        let shown = shown(planned, &links, from);
        assert!(shown.starts_with("Assigned: ") && shown.contains(expected), "{shown}");
    }
}

#[test]
fn an_interface_that_is_down_keeps_its_vips_for_when_it_is_up() {
    let down: Vec<Link> = links().into_iter().map(|link| Link { ready: false, ..link }).collect();
    let layout = layout(&plan_of(planned(IpAddr::V4(VIP))), &down, HERE);
    assert_eq!(layout.ports, BTreeMap::from([(2, BTreeSet::from([IpAddr::V4(VIP)]))]));
}

#[test]
fn only_the_owner_announces() {
    let (vip, plan) = (IpAddr::V4(VIP), plan_of(planned(IpAddr::V4(VIP))));
    let nobody = View::default();
    let ours = View { owned: [vip].into(), ..View::default() };
    let theirs = View { owners: [(vip, "c".into())].into(), ..View::default() };
    let cut_off = View { isolated: true, ..View::default() };
    for (view, node, reason) in [
        (ours, Some("n"), None),
        (theirs, Some("c"), Some("node c announces it")),
        (nobody, None, Some("nobody announces it yet")),
        (cut_off, None, Some("this node hears no other node")),
    ] {
        let mut layout = layout(&plan, &links(), HERE);
        elect(&mut layout, &view);
        let entry = entries(&plan, &layout, "n").remove(0);
        assert_eq!(entry.node.as_deref(), node, "{view:?}");
        assert_eq!(entry.reason.is_some(), reason.is_some(), "{view:?}");
        assert!(entry.reason.unwrap_or_default().starts_with(reason.unwrap_or_default()), "{view:?}");
        assert!(layout.ports.values().any(|vips| vips.contains(&vip)), "others are ready to take it over");
    }
}

#[test]
fn sharers_are_each_announced_once_their_own_status_has_the_address() {
    let vip = IpAddr::V4(VIP);
    let waiting = Planned { live: vec![], committed: false, ..planned(vip) };
    let mut plan = plan_of(waiting);
    plan.services.insert(ObjectName::new("default", "z"), planned(vip));
    let states: Vec<VipState> = entries(&plan, &layout(&plan, &links(), HERE), "n").iter().map(|it| it.state).collect();
    assert_eq!(states, [VipState::Assigned, VipState::Announcing]);
}
