//! Addresses inside a pool that are not ours to give: those of nodes and gateways, those that a subnet keeps for
//! itself, and those that stations on the LAN or Services of another load balancer have.
//!
//! Only what is *given* heeds them: a Service that holds such an address keeps it, with a warning. So it does no harm
//! that subnets are what one node sees: who writes is the leader, the next leader finds the address committed, and a
//! different view of the LAN moves nothing.
//!
//! Pure. Where subnets and gateways come from: [`crate::io`].

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use config::object::ObjectName;
use config::pool::{AddressRange, Pool, is_buggy};
use config::snapshot::Objects;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use k8s_openapi::api::core::v1::Node;

use crate::arp::MacAddr;

/// The network as this node sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lan {
    /// The subnets this node is in, as far as they lead to a LAN; each with the node's own address in it.
    pub subnets: Vec<IpNet>,
    /// The routers it sends through.
    pub gateways: Vec<IpAddr>,
    /// Whether interfaces to announce on were named, so that VIPs need not be in one of the subnets.
    pub is_chosen_by_name: bool,
}

/// Whose each such address is.
pub type Reserved = BTreeMap<IpAddr, Holder>;

/// Whose an address is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// The node of this name.
    Node(Arc<str>),
    /// A router on the LAN.
    Gateway,
    /// The subnet itself: its first address.
    Network(Ipv4Net),
    /// Everybody in the subnet: its last address (RFC 919 §7).
    Broadcast(Ipv4Net),
    /// A station on the LAN that answered for it; see [`crate::probe`].
    Station(MacAddr),
    /// Any router of the subnet: its first address (RFC 4291 §2.6.1).
    Routers(Ipv6Net),
    /// Whoever provides a standard service in the subnet: one of 128 addresses (RFC 2526 §2).
    Anycast(Ipv6Net),
    /// A Service that another load balancer serves.
    Service(ObjectName),
}

impl Holder {
    /// Whether nobody may waive it: two stations would answer for one address.
    #[must_use]
    pub const fn is_absolute(&self) -> bool {
        matches!(self, Self::Station(_) | Self::Service(_))
    }

    /// How to have it all the same, as the end of a sentence.
    pub(crate) const fn waiver(&self) -> &'static str {
        if self.is_absolute() { "" } else { ", or give its pool allow-reserved-addresses: true" }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(name) => write!(f, "an address of node {name}"),
            Self::Gateway => f.write_str("the address of a gateway"),
            Self::Network(subnet) => write!(f, "the network address of the LAN {subnet}"),
            Self::Station(mac) => write!(f, "in use on the LAN by {mac}, which is none of our nodes"),
            Self::Broadcast(subnet) => write!(f, "the broadcast address of the LAN {subnet}"),
            Self::Routers(subnet) => write!(f, "the anycast address of the routers in {subnet}"),
            Self::Anycast(subnet) => write!(f, "a reserved anycast address of the LAN {subnet}"),
            Self::Service(name) => write!(f, "an address of Service {name}, which another load balancer serves"),
        }
    }
}

/// Who keeps `pool` from giving `ip`.
pub(crate) fn bar<'a>(reserved: &'a Reserved, ip: IpAddr, pool: &Pool) -> Option<&'a Holder> {
    reserved.get(&ip).filter(|holder| holder.is_absolute() || !pool.allow_reserved)
}

/// What others keep `pool` from giving.
pub(crate) fn barred<'a>(reserved: &'a Reserved, pool: &'a Pool) -> impl Iterator<Item = (IpAddr, &'a Holder)> {
    pool.ranges.iter().flat_map(move |range| barred_in(reserved, pool, range))
}

/// The same for one of its ranges.
pub(crate) fn barred_in<'a>(
    reserved: &'a Reserved,
    pool: &'a Pool,
    range: &AddressRange,
) -> impl Iterator<Item = (IpAddr, &'a Holder)> + use<'a> {
    let within = reserved.range(range.first()..=range.last());
    let given = within.filter(|(_, holder)| holder.is_absolute() || !pool.allow_reserved).map(|(ip, it)| (*ip, it));
    given.filter(|(ip, _)| !(pool.avoid_buggy_ips && is_buggy(*ip)))
}

/// The addresses that nodes and gateways have and those that no host of the subnets may have.
///
/// A subnet of one or two addresses has none of the latter (RFC 3021, RFC 6164).
#[must_use]
pub fn reserved(nodes: &Objects<Node>, lan: &Lan) -> Reserved {
    let mut reserved = Reserved::new();
    for subnet in lan.subnets.iter().map(IpNet::trunc) {
        match subnet {
            IpNet::V4(subnet) if subnet.prefix_len() < 31 => {
                reserved.insert(subnet.network().into(), Holder::Network(subnet));
                reserved.insert(subnet.broadcast().into(), Holder::Broadcast(subnet));
            }
            IpNet::V6(subnet) if subnet.prefix_len() < 120 && !subnet.network().is_unicast_link_local() => {
                reserved.extend(anycast(subnet).map(|ip| (IpAddr::V6(ip), Holder::Anycast(subnet))));
                reserved.insert(subnet.network().into(), Holder::Routers(subnet));
            }
            IpNet::V4(_) | IpNet::V6(_) => {}
        }
    }
    reserved.extend(lan.gateways.iter().map(|ip| (ip.to_canonical(), Holder::Gateway)));
    for (name, node) in nodes.iter() {
        let addresses = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
        for ip in addresses.filter_map(|address| address.address.parse::<IpAddr>().ok()) {
            reserved.insert(ip.to_canonical(), Holder::Node(Arc::clone(&name.name)));
        }
    }
    reserved
}

/// The 128 reserved anycast addresses of a subnet. Where interface identifiers have 64 bits they are EUI-64 with the
/// bit for "universal" cleared, so that no hardware address makes one of them.
fn anycast(subnet: Ipv6Net) -> impl Iterator<Item = Ipv6Addr> {
    let last = subnet.broadcast().to_bits();
    let last = if subnet.prefix_len() == 64 { last & !(1 << 57) } else { last };
    (0..128).map(move |id| Ipv6Addr::from_bits(last - id))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(subnet: &str, ip: &str) -> Option<String> {
        let lan = Lan {
            subnets: vec![subnet.parse().unwrap()],
            gateways: vec!["192.0.2.254".parse().unwrap()],
            ..Lan::default()
        };
        reserved(&Objects::default(), &lan).get(&ip.parse::<IpAddr>().unwrap()).map(ToString::to_string)
    }

    #[test]
    fn each_subnet_keeps_its_own_addresses() {
        for (subnet, ip, expected) in [
            ("192.0.2.7/28", "192.0.2.0", Some("the network address of the LAN 192.0.2.0/28")),
            ("192.0.2.7/28", "192.0.2.15", Some("the broadcast address of the LAN 192.0.2.0/28")),
            ("192.0.2.7/28", "192.0.2.7", None),
            ("192.0.2.7/28", "192.0.2.254", Some("the address of a gateway")),
            ("192.168.97.1/20", "192.168.97.255", None),
            ("192.0.2.6/31", "192.0.2.6", None),
            ("2001:db8::7/64", "2001:db8::", Some("the anycast address of the routers in 2001:db8::/64")),
            (
                "2001:db8::7/64",
                "2001:db8::fdff:ffff:ffff:ffff",
                Some("a reserved anycast address of the LAN 2001:db8::/64"),
            ),
            (
                "2001:db8::7/64",
                "2001:db8::fdff:ffff:ffff:ff80",
                Some("a reserved anycast address of the LAN 2001:db8::/64"),
            ),
            ("2001:db8::7/64", "2001:db8::fdff:ffff:ffff:ff7f", None),
            ("2001:db8::7/64", "2001:db8::ffff:ffff:ffff:ffff", None),
            ("2001:db8::7/112", "2001:db8::ffff", Some("a reserved anycast address of the LAN 2001:db8::/112")),
            ("2001:db8::7/127", "2001:db8::6", None),
            ("fe80::7/64", "fe80::", None),
        ] {
            assert_eq!(held(subnet, ip).as_deref(), expected, "{ip} in {subnet}");
        }
    }
}
