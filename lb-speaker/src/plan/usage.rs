//! How full the pools are.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use config::object::ObjectName;
use config::pool::{AddressRange, Pool, PoolConfig, PoolName};
use config::shared::SharedMap;

use super::Planned;
use crate::claim::Family;
use crate::reserved::{self, Reserved};

/// How full a pool is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolUsage {
    /// The pool.
    pub name: PoolName,
    /// IPv4 addresses that may be given, and that are.
    pub ipv4: Usage,
    /// IPv6 addresses that may be given, and that are.
    pub ipv6: Usage,
    /// Services whose addresses are from here.
    pub services: u64,
}

/// How many addresses there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// In the pool, without those that are others' by right and that no Service holds all the same.
    pub total: u128,
    /// Given to a Service.
    pub in_use: u64,
}

pub(super) fn usage(
    config: &PoolConfig,
    services: &SharedMap<ObjectName, Planned>,
    reserved: &Reserved,
) -> Vec<PoolUsage> {
    let given: BTreeSet<IpAddr> = services.values().flat_map(|planned| planned.ips.iter().copied()).collect();
    let mut served: BTreeMap<&PoolName, u64> = BTreeMap::new();
    for pool in services.values().filter_map(|planned| planned.pool.as_ref()) {
        *served.entry(pool).or_default() += 1;
    }
    let usage = |pool: &Pool| {
        let services = served.get(&pool.name).copied().unwrap_or(0);
        PoolUsage { services, ..pool_usage(pool, &given, reserved) }
    };
    config.pools.iter().map(usage).collect()
}

fn pool_usage(pool: &Pool, given: &BTreeSet<IpAddr>, reserved: &Reserved) -> PoolUsage {
    let (mut ipv4, mut ipv6) = (Usage::default(), Usage::default());
    for range in &pool.ranges {
        let usage = if Family::of(range.first()) == Family::IPv4 { &mut ipv4 } else { &mut ipv6 };
        let avoided = if pool.avoid_buggy_ips { buggy_addresses(range) } else { 0 };
        let spared = reserved::barred_in(reserved, pool, range).filter(|(ip, _)| !given.contains(ip)).count() as u128;
        usage.total = usage.total.saturating_add(range.len() - avoided - spared);
        usage.in_use += given.range(range.first()..=range.last()).filter(|ip| pool.allows(**ip)).count() as u64;
    }
    PoolUsage { name: pool.name.clone(), ipv4, ipv6, services: 0 }
}

/// How many addresses of a range end in .0 or .255.
fn buggy_addresses(range: &AddressRange) -> u128 {
    let (IpAddr::V4(first), IpAddr::V4(last)) = (range.first(), range.last()) else { return 0 };
    // Of the addresses below `end`: two for each whole block of 256, one more for the .0 of a block that is begun.
    let below = |end: u64| (end / 256) * 2 + u64::from(!end.is_multiple_of(256));
    u128::from(below(u64::from(last.to_bits()) + 1) - below(u64::from(first.to_bits())))
}
