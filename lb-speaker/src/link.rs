//! The network interfaces of a machine, as far as announcing is concerned.
//!
//! Pure. Where they come from: [`crate::io`]. Which VIP goes on which: [`crate::reach`].

use std::net::IpAddr;

use ipnet::IpNet;

use crate::arp::MacAddr;

/// One network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The kernel's number for it; a new one each time it is created.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its hardware address.
    pub mac: MacAddr,
    /// Whether frames can be sent: up and with a carrier.
    pub ready: bool,
    /// Why it can never announce.
    pub unfit: Option<Unfit>,
    /// What kind of virtual interface it is, in the kernel's word; `None` for hardware.
    pub kind: Option<String>,
    /// Its subnets, with its own address in each; link-local ones are not in here.
    pub subnets: Vec<IpNet>,
}

/// Why an interface can never announce.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// `lo`.
    #[error("it is a loopback interface")]
    Loopback,
    /// It has no Ethernet address or no broadcast.
    #[error("it is not an Ethernet interface")]
    NotEthernet,
    /// ARP is switched off.
    #[error("ARP is switched off there (NOARP)")]
    NoArp,
    /// Its frames belong to a bridge or bond.
    #[error("it is a member of a bridge or bond; name that instead")]
    Member,
}

/// Kinds of interface that lead to no LAN: to containers, tunnels, nowhere. Bridges, bonds, VLANs and macvlans do.
const VIRTUAL: [&str; 24] = [
    "amt",
    "bareudp",
    "dummy",
    "erspan",
    "geneve",
    "gre",
    "gretap",
    "ifb",
    "ip6erspan",
    "ip6gre",
    "ip6gretap",
    "ip6tnl",
    "ipip",
    "netdevsim",
    "netkit",
    "nlmon",
    "sit",
    "tun",
    "veth",
    "vti",
    "vti6",
    "vxlan",
    "wireguard",
    "xfrm",
];

/// The subnets that lead to a LAN.
#[must_use]
pub fn subnets(links: &[Link]) -> Vec<IpNet> {
    let lan = links.iter().filter(|link| link.unfit.is_none() && !link.is_virtual());
    lan.flat_map(|link| link.subnets.iter().copied()).collect()
}

impl Link {
    /// Whether it leads to no LAN, by its kind.
    #[must_use]
    pub fn is_virtual(&self) -> bool {
        self.kind.as_deref().is_some_and(|kind| VIRTUAL.contains(&kind))
    }

    /// Whether `vip` is in one of its subnets; a subnet of one address has room for its owner only.
    #[must_use]
    pub fn holds(&self, vip: IpAddr) -> bool {
        self.subnets.iter().any(|subnet| subnet.prefix_len() < subnet.max_prefix_len() && subnet.contains(&vip))
    }
}
