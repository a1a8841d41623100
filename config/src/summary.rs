//! A configuration as `ferrogate check --output json` shows it: stable, and without secrets.

use std::net::IpAddr;

use serde::Serialize;

use crate::diagnostic::Problem;
use crate::pool::{Peer, Pool, PoolConfig};

/// Everything that `check` found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Pools in written order.
    pub pools: Vec<PoolSummary>,
    /// BGP peers in written order.
    pub peers: Vec<PeerSummary>,
    /// What is wrong.
    pub problems: Vec<Problem>,
}

/// One pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PoolSummary {
    /// Its name.
    pub name: String,
    /// `layer2` or `bgp`.
    pub protocol: &'static str,
    /// One `first-last` per written entry, in written order.
    pub ranges: Vec<String>,
    /// Whether a Service that asks for nothing may get an address from here.
    pub auto_assign: bool,
    /// Whether IPv4 addresses ending in .0 and .255 are left out.
    pub avoid_buggy_ips: bool,
}

/// One BGP peer; its password is never shown, only that there is one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PeerSummary {
    /// Our AS number.
    pub my_asn: u32,
    /// The peer's AS number.
    pub peer_asn: u32,
    /// The peer's address.
    pub address: IpAddr,
    /// The peer's TCP port.
    pub port: u16,
    /// The address we speak from.
    pub source_address: Option<IpAddr>,
    /// The router id we claim.
    pub router_id: Option<IpAddr>,
    /// Hold time in seconds.
    pub hold_time: u16,
    /// Keepalive interval in seconds, if one is written.
    pub keepalive_time: Option<u16>,
    /// Whether the session is protected by a password.
    pub password: bool,
    /// How many node selectors it has; 0 means all nodes.
    pub node_selectors: usize,
    /// Whether an eBGP peer may be more than one hop away.
    pub ebgp_multihop: bool,
    /// The BFD profile of the session.
    pub bfd_profile: Option<String>,
}

impl Summary {
    /// Sums up a configuration and what was found on the way to it.
    #[must_use]
    pub fn new(config: &PoolConfig, problems: Vec<Problem>) -> Self {
        Self { problems, ..Self::from(config) }
    }
}

impl From<&PoolConfig> for Summary {
    fn from(config: &PoolConfig) -> Self {
        let pools = config.pools.iter().map(PoolSummary::from).collect();
        let peers = config.peers.iter().map(PeerSummary::from).collect();
        Self { pools, peers, problems: Vec::new() }
    }
}

impl From<&Pool> for PoolSummary {
    fn from(pool: &Pool) -> Self {
        Self {
            name: pool.name.to_string(),
            protocol: pool.protocol.as_str(),
            ranges: pool.ranges.iter().map(ToString::to_string).collect(),
            auto_assign: pool.auto_assign,
            avoid_buggy_ips: pool.avoid_buggy_ips,
        }
    }
}

impl From<&Peer> for PeerSummary {
    fn from(peer: &Peer) -> Self {
        Self {
            my_asn: peer.my_asn,
            peer_asn: peer.peer_asn,
            address: peer.address,
            port: peer.port,
            source_address: peer.source_address,
            router_id: peer.router_id,
            hold_time: peer.hold_time,
            keepalive_time: peer.keepalive_time,
            password: !peer.password.expose().is_empty(),
            node_selectors: peer.node_selectors.len(),
            ebgp_multihop: peer.ebgp_multihop,
            bfd_profile: peer.bfd_profile.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::legacy;

    #[test]
    fn a_summary_has_the_documented_form_and_no_secret() {
        let text = "\
address-pools: [{name: a, protocol: layer2, addresses: [10.0.0.0/30, 10.1.0.1-10.1.0.1], avoid-buggy-ips: true}]
peers: [{my-asn: 1, peer-asn: 2, peer-address: 10.0.0.1, password: hush}]
";
        let config = legacy::parse_text(&"c".into(), &text.into()).config.unwrap();
        let expected = serde_json::json!({
            "pools": [{
                "name": "a", "protocol": "layer2", "ranges": ["10.0.0.0-10.0.0.3", "10.1.0.1-10.1.0.1"],
                "auto_assign": true, "avoid_buggy_ips": true,
            }],
            "peers": [{
                "my_asn": 1, "peer_asn": 2, "address": "10.0.0.1", "port": 179, "source_address": null,
                "router_id": null, "hold_time": 90, "keepalive_time": null, "password": true, "node_selectors": 0,
                "ebgp_multihop": false, "bfd_profile": null,
            }],
            "problems": [],
        });
        assert_eq!(serde_json::to_value(Summary::from(&config)).unwrap(), expected);
    }
}
