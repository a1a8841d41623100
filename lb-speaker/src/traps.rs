//! Settings of a node that make a VIP fail although everything is announced as it should be.
//!
//! | trap | what happens |
//! |---|---|
//! | kube-proxy in IPVS mode without `strictARP` | it puts every load balancer address on `kube-ipvs0`; the kernel of *every* node then answers ARP for all of them, whoever owns them |
//! | `rp_filter` strict, with several LANs | requests that came in on one interface and would be answered by another are dropped without a trace |
//! | `disable_ipv6` | an IPv6 VIP is announced, and its packets are dropped |
//!
//! Pure. Where the settings come from: [`crate::io`]. Source: the kernel's `Documentation/networking/ip-sysctl.rst`;
//! kubernetes/kubernetes pull request 75295 (`strictARP`).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// What the kernel of this node is set to, as far as it concerns VIPs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Whether the interface on which kube-proxy keeps addresses in IPVS mode is there.
    pub ipvs: bool,
    /// The settings of each interface by its name; those for all of them under `all`.
    pub interfaces: BTreeMap<String, InterfaceSettings>,
}

/// Settings of one interface; `None` for what cannot be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InterfaceSettings {
    /// `net.ipv4.conf.NAME.arp_ignore`.
    pub arp_ignore: Option<u32>,
    /// `net.ipv4.conf.NAME.rp_filter`: 1 is strict, 2 loose.
    pub rp_filter: Option<u32>,
    /// `net.ipv6.conf.NAME.disable_ipv6`.
    pub disable_ipv6: Option<u32>,
}

/// A setting that makes VIPs fail, for an operator to read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[expect(missing_docs, reason = "each field is what the message shows")]
pub enum Trap {
    /// Every node answers for every VIP.
    #[error(
        "kube-proxy runs in IPVS mode without strictARP: this node's kernel answers ARP on {interface} for the addresses \
         of all nodes; set ipvs.strictARP to true in kube-proxy's configuration, or the sysctls \
         net.ipv4.conf.all.arp_ignore to 1 and net.ipv4.conf.all.arp_announce to 2"
    )]
    LooseArp { interface: String },
    /// Requests are dropped for where they came in.
    #[error(
        "rp_filter is strict on {interface}, and this node has other LANs: requests from clients whose way back leads \
         through another interface are dropped; set the sysctl net.ipv4.conf.{interface}.rp_filter to 2"
    )]
    StrictReversePath { interface: String },
    /// IPv6 packets are dropped.
    #[error(
        "IPv6 is switched off on {interface}: {vip} is announced there and its packets are dropped; set the sysctl \
         net.ipv6.conf.{interface}.disable_ipv6 to 0"
    )]
    NoIpv6 { interface: String, vip: IpAddr },
}

/// The traps for VIPs that are announced on these interfaces, by their names; `lans` is how many interfaces of the node
/// lead to a LAN.
#[must_use]
pub fn traps(settings: &Settings, announced: &BTreeMap<String, BTreeSet<IpAddr>>, lans: usize) -> Vec<Trap> {
    let mut traps = Vec::new();
    let all = settings.interfaces.get("all").copied().unwrap_or_default();
    for (interface, vips) in announced.iter().filter(|(_, vips)| !vips.is_empty()) {
        let Some(its) = settings.interfaces.get(interface) else { continue };
        let has_ipv4 = vips.iter().any(IpAddr::is_ipv4);
        // The kernel takes the greater of both.
        if has_ipv4 && settings.ipvs && all.arp_ignore.max(its.arp_ignore) == Some(0) {
            traps.push(Trap::LooseArp { interface: interface.clone() });
        }
        if has_ipv4 && lans > 1 && all.rp_filter.max(its.rp_filter) == Some(1) {
            traps.push(Trap::StrictReversePath { interface: interface.clone() });
        }
        let ipv6 = vips.iter().find(|vip| vip.is_ipv6()).filter(|_| its.disable_ipv6 == Some(1));
        traps.extend(ipv6.map(|vip| Trap::NoIpv6 { interface: interface.clone(), vip: *vip }));
    }
    traps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(ipvs: bool, all: [u32; 3], its: [u32; 3]) -> Settings {
        let one = |[arp_ignore, rp_filter, disable_ipv6]: [u32; 3]| InterfaceSettings {
            arp_ignore: Some(arp_ignore),
            rp_filter: Some(rp_filter),
            disable_ipv6: Some(disable_ipv6),
        };
        Settings { ipvs, interfaces: BTreeMap::from([("all".to_owned(), one(all)), ("eth0".to_owned(), one(its))]) }
    }

    #[test]
    fn each_trap_is_seen_where_it_does_harm_and_nowhere_else() {
        let (v4, v6) = ("192.0.2.10", "2001:db8::10");
        for (settings, vips, lans, expected) in [
            (settings(true, [0, 0, 0], [0, 0, 0]), vec![v4], 1, "without strictARP"),
            (settings(true, [1, 0, 0], [0, 0, 0]), vec![v4], 1, ""),
            (settings(true, [0, 0, 0], [1, 0, 0]), vec![v4], 1, ""),
            (settings(true, [0, 0, 0], [0, 0, 0]), vec![v6], 1, ""),
            (settings(false, [0, 0, 0], [0, 0, 0]), vec![v4], 1, ""),
            (settings(false, [0, 0, 0], [0, 1, 0]), vec![v4], 2, "rp_filter is strict on eth0"),
            (settings(false, [0, 1, 0], [0, 0, 0]), vec![v4], 2, "rp_filter is strict on eth0"),
            (settings(false, [0, 2, 0], [0, 1, 0]), vec![v4], 2, ""),
            (settings(false, [0, 1, 0], [0, 1, 0]), vec![v4], 1, ""),
            (settings(false, [0, 0, 0], [0, 0, 1]), vec![v4, v6], 1, "IPv6 is switched off on eth0: 2001:db8::10"),
            (settings(false, [0, 0, 0], [0, 0, 1]), vec![v4], 1, ""),
            (Settings { ipvs: true, ..Settings::default() }, vec![v4], 2, ""),
        ] {
            let vips = vips.iter().map(|vip| vip.parse().unwrap()).collect();
            let found = traps(&settings, &BTreeMap::from([("eth0".to_owned(), vips)]), lans);
            let text = found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
            assert!(if expected.is_empty() { found.is_empty() } else { found.len() == 1 }, "{text}");
            assert!(text.contains(expected), "{text:?} does not say {expected:?}");
        }
        assert_eq!(
            traps(&settings(true, [0; 3], [0; 3]), &BTreeMap::from([("eth0".to_owned(), BTreeSet::new())]), 1),
            []
        );
    }
}
