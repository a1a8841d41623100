//! Addresses inside a pool that are not ours to give: those of nodes, and the first and last of a subnet.
//!
//! Only what is *given* heeds them: a Service that holds such an address keeps it, with a warning. So it does no harm
//! that subnets are what one node sees: who writes is the leader, the next leader finds the address committed, and a
//! different view of the LAN moves nothing.
//!
//! Pure. Where subnets come from: [`crate::io`].

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use config::snapshot::Objects;
use ipnet::Ipv4Net;
use k8s_openapi::api::core::v1::Node;

use crate::arp::MacAddr;

/// Whose each such address is.
pub type Reserved = BTreeMap<IpAddr, Holder>;

/// Whose an address is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// The node of this name.
    Node(Arc<str>),
    /// The subnet itself: its first address.
    Network(Ipv4Net),
    /// Everybody in the subnet: its last address (RFC 919 §7).
    Broadcast(Ipv4Net),
    /// A station on the LAN that answered for it; see [`crate::probe`].
    Station(MacAddr),
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(name) => write!(f, "an address of node {name}"),
            Self::Network(subnet) => write!(f, "the network address of the LAN {subnet}"),
            Self::Station(mac) => write!(f, "in use on the LAN by {mac}, which is none of our nodes"),
            Self::Broadcast(subnet) => write!(f, "the broadcast address of the LAN {subnet}"),
        }
    }
}

/// The addresses that nodes have and those that no host of `subnets` may have.
///
/// A subnet of one or two addresses has no address of either kind (RFC 3021).
#[must_use]
pub fn reserved(nodes: &Objects<Node>, subnets: &[Ipv4Net]) -> Reserved {
    let mut reserved = Reserved::new();
    for subnet in subnets.iter().map(Ipv4Net::trunc).filter(|subnet| subnet.prefix_len() < 31) {
        reserved.insert(subnet.network().into(), Holder::Network(subnet));
        reserved.insert(subnet.broadcast().into(), Holder::Broadcast(subnet));
    }
    for (name, node) in nodes.iter() {
        let addresses = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
        for ip in addresses.filter_map(|address| address.address.parse::<IpAddr>().ok()) {
            reserved.insert(ip.to_canonical(), Holder::Node(Arc::clone(&name.name)));
        }
    }
    reserved
}
