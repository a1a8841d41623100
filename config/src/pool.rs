//! Address pools: the values of MetalLB's `config` ConfigMap, checked.
//!
//! The text format is read by `legacy`; what stands here cannot be wrong: ranges run forward within one family, no
//! two pools overlap, names are not empty. Source: MetalLB v0.12 `internal/config`.

mod bgp;
mod selector;

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

pub use bgp::{BfdProfile, BgpAdvertisement, Community, Password, Peer};
pub use selector::{LabelSelector, Labels, Operator, Requirement, ServiceAllocation};

/// The name of a pool; never empty.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PoolName(Arc<str>);

impl PoolName {
    /// Takes any text but the empty one, as MetalLB does.
    #[must_use]
    pub fn new(name: &str) -> Option<Self> {
        (!name.is_empty()).then(|| Self(name.into()))
    }

    /// The name as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PoolName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How the addresses of a pool are made known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// ARP and NDP on the LAN.
    Layer2,
    /// Routes to BGP peers.
    Bgp,
}

impl Protocol {
    /// The word in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Layer2 => "layer2",
            Self::Bgp => "bgp",
        }
    }
}

/// An inclusive range of addresses of one family, never backward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AddressRange {
    first: IpAddr,
    last: IpAddr,
}

impl AddressRange {
    /// A range of two addresses; `None` when they differ in family or run backward.
    #[must_use]
    pub fn new(first: IpAddr, last: IpAddr) -> Option<Self> {
        (first.is_ipv4() == last.is_ipv4() && first <= last).then_some(Self { first, last })
    }

    /// Its lowest address.
    #[must_use]
    pub const fn first(&self) -> IpAddr {
        self.first
    }

    /// Its highest address.
    #[must_use]
    pub const fn last(&self) -> IpAddr {
        self.last
    }

    /// Whether `ip` lies in it.
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.first.is_ipv4() == ip.is_ipv4() && self.first <= ip && ip <= self.last
    }

    /// Whether the two share an address.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.contains(other.first) || other.contains(self.first)
    }

    /// How many addresses it holds; `u128::MAX` for all of IPv6.
    #[must_use]
    pub fn len(&self) -> u128 {
        (to_bits(self.last) - to_bits(self.first)).saturating_add(1)
    }

    /// Never: a range holds at least one address.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        false
    }

    /// The address `offset` places above the first; `None` past the end.
    #[must_use]
    pub fn nth(&self, offset: u128) -> Option<IpAddr> {
        let bits = to_bits(self.first).checked_add(offset)?;
        (bits <= to_bits(self.last)).then(|| from_bits(bits, self.first.is_ipv4()))
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

fn to_bits(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u128::from(ip.to_bits()),
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

fn from_bits(bits: u128, v4: bool) -> IpAddr {
    match u32::try_from(bits) {
        Ok(bits) if v4 => IpAddr::V4(bits.into()),
        _ => IpAddr::V6(bits.into()),
    }
}

/// One pool of addresses to give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Its name, unique in the configuration.
    pub name: PoolName,
    /// How its addresses are made known.
    pub protocol: Protocol,
    /// Its addresses in written order, which is the order of allocation.
    pub ranges: Vec<AddressRange>,
    /// Whether a Service that asks for nothing may get an address from here.
    pub auto_assign: bool,
    /// Whether IPv4 addresses ending in .0 and .255 are left out.
    pub avoid_buggy_ips: bool,
    /// Whether addresses are given that others on the LAN have by right: of nodes, of gateways, of the LAN itself.
    pub allow_reserved: bool,
    /// Which Services it is kept for; `None` for all alike.
    pub allocation: Option<ServiceAllocation>,
    /// How a BGP pool is advertised; empty for layer 2.
    pub advertisements: Vec<BgpAdvertisement>,
}

impl Pool {
    /// A pool that says nothing but this.
    #[must_use]
    pub const fn new(name: PoolName, protocol: Protocol, ranges: Vec<AddressRange>) -> Self {
        Self {
            name,
            protocol,
            ranges,
            auto_assign: true,
            avoid_buggy_ips: false,
            allow_reserved: false,
            allocation: None,
            advertisements: Vec::new(),
        }
    }

    /// Whether `ip` may be given from this pool.
    #[must_use]
    pub fn allows(&self, ip: IpAddr) -> bool {
        self.ranges.iter().any(|range| range.contains(ip)) && !(self.avoid_buggy_ips && is_buggy(ip))
    }
}

/// Whether old routers take an address for a network or broadcast address: IPv4 ending in .0 or .255.
#[must_use]
pub const fn is_buggy(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V4(ip) if matches!(ip.octets()[3], 0 | 255))
}

/// A whole address configuration that is valid.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PoolConfig {
    /// Pools in written order, which is the order of allocation; no two overlap.
    pub pools: Vec<Pool>,
    /// BGP peers.
    pub peers: Vec<Peer>,
    /// BFD profiles by their order.
    pub bfd_profiles: Vec<BfdProfile>,
    /// BGP communities by alias.
    pub communities: BTreeMap<String, Community>,
}

impl PoolConfig {
    /// The pool of that name.
    #[must_use]
    pub fn pool(&self, name: &str) -> Option<&Pool> {
        self.pools.iter().find(|pool| pool.name.as_str() == name)
    }

    /// The pool that may give `ip`.
    #[must_use]
    pub fn pool_of(&self, ip: IpAddr) -> Option<&Pool> {
        self.pools.iter().find(|pool| pool.allows(ip))
    }
}

#[cfg(test)]
mod tests;
