//! Why a Service does not get an address: `MetalLB`'s words, which people search for, and what to do.

use std::net::IpAddr;

use config::object::FieldPath;
use config::pool::PoolName;

use crate::claim::{ASK_ADDRESSES, ASK_POOL, Annotation, Families, Family, Fault};
use crate::reserved::Holder;
use crate::tenancy::Rule;

/// Why a Service does not get (all) the addresses it wants.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each field is what the message shows")]
pub enum Refusal {
    /// Its request makes no sense.
    #[error(transparent)]
    Fault(Fault),
    /// It asks for an address outside all pools.
    #[error("[{:?}] is not allowed in config; ask for an address of a pool, or add it to one", ip.to_string())]
    NotAllowed { ip: IpAddr },
    /// It asks for an address that its pool avoids.
    #[error(
        "[{:?}] is not allowed in config: pool {:?} leaves out addresses ending in .0 and .255 (avoid-buggy-ips); \
         ask for another", ip.to_string(), pool.as_str()
    )]
    Avoided { ip: IpAddr, pool: PoolName },
    /// It asks for an address that somebody else on the LAN has by right.
    #[error(
        "[{:?}] is not allowed in config: it is {holder}; ask for another{}", ip.to_string(), holder.waiver()
    )]
    Reserved { ip: IpAddr, holder: Holder },
    /// It asks for a pool that does not exist.
    #[error("unknown pool {pool:?}; {}", known_pools(known))]
    UnknownPool { pool: String, known: Vec<PoolName> },
    /// It asks for a pool, and for an address of another.
    #[error(
        "requested loadBalancer IP(s) {} is not compatible with requested address pool {}: it is in pool {}; \
         drop one of the two annotations", quoted(ips), asked.as_str(), actual.as_str()
    )]
    OtherPool { ips: Vec<IpAddr>, asked: PoolName, actual: PoolName },
    /// It asks for a pool, or an address of it, that is kept for others.
    #[error(
        "pool {} not compatible for ip assignment: its service-allocation is for other namespaces or Services; \
         ask for another pool, or add this one to it", pool.as_str()
    )]
    NotForIt { pool: PoolName },
    /// It asks for addresses of two pools.
    #[error("requested loadBalancer IP(s) {} are in two pools; ask for two addresses of one pool", quoted(ips))]
    TwoPools { ips: Vec<IpAddr> },
    /// It asks for an address that others have.
    #[error(transparent)]
    InUse(Rule),
    /// There is no pool at all.
    #[error("no available IPs: there is no address pool; define one in the ConfigMap metallb-system/config")]
    NoPools,
    /// No pool that gives addresses unasked has one left.
    #[error("no available IPs{} in {}{}; widen a pool or free an address", of(*families), among(pools), besides(spared.as_ref()))]
    Exhausted { pools: Vec<PoolName>, families: Families, spared: Option<Spared> },
    /// The asked pool has none left.
    #[error(
        "no available IPs{} in pool {:?}{}; widen it, free an address or ask for another pool", of(*families),
        names(pools), besides(spared.as_ref())
    )]
    PoolExhausted { pools: Vec<PoolName>, families: Families, spared: Option<Spared> },
    /// It has one address and must have two.
    #[error(
        "no available IPs: RequireDualStack needs an {} address from the pool of {held}; \
         add {0} addresses to that pool", family.as_str()
    )]
    NoSecond { held: IpAddr, family: Family },
}

/// Addresses that are free and given to nobody, since they are others' by right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spared {
    /// The lowest of them.
    pub ip: IpAddr,
    /// Whose it is.
    pub holder: Holder,
    /// How many there are besides.
    pub more: usize,
}

/// A second address that a Service would like and does not need.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot assign additional IP in PreferDualStack: no available IPs of family {}{}", family.as_str(), in_pool(pool.as_ref()))]
pub struct Lacking {
    /// Of which family.
    pub family: Family,
    /// From which pool it would come; `None` where the first address is in none any more.
    pub pool: Option<PoolName>,
}

impl Refusal {
    /// The field of the Service that asks for what cannot be had; `key_of` is the full key of an annotation it has.
    #[must_use]
    pub fn field(&self, key_of: impl Fn(Annotation) -> Option<&'static str>) -> FieldPath {
        let annotation = |it| key_of(it).map(|key| FieldPath::of(["metadata", "annotations"]).key(key));
        match self {
            Self::Fault(fault) => fault.field(),
            Self::NotAllowed { .. }
            | Self::Avoided { .. }
            | Self::Reserved { .. }
            | Self::TwoPools { .. }
            | Self::InUse(_) => annotation(ASK_ADDRESSES).unwrap_or_else(|| FieldPath::of(["spec", "loadBalancerIP"])),
            Self::UnknownPool { .. } | Self::OtherPool { .. } | Self::PoolExhausted { .. } => {
                annotation(ASK_POOL).unwrap_or_else(FieldPath::root)
            }
            Self::NotForIt { .. } => {
                let asked = annotation(ASK_POOL).or_else(|| annotation(ASK_ADDRESSES));
                asked.unwrap_or_else(|| FieldPath::of(["spec", "loadBalancerIP"]))
            }
            Self::NoPools | Self::Exhausted { .. } => FieldPath::of(["spec", "type"]),
            Self::NoSecond { .. } => FieldPath::of(["spec", "ipFamilyPolicy"]),
        }
    }

    /// The reason of the Event that tells of it.
    #[must_use]
    pub const fn event_reason(&self) -> &'static str {
        match self {
            Self::Fault(_) => "LoadBalancerFailed",
            Self::NoSecond { .. } => "AdditionalAssignFailed",
            _ => "AllocationFailed",
        }
    }
}

/// As Go's `%q` shows a list: `["192.0.2.1" "2001:db8::1"]`.
pub(crate) fn quoted(ips: &[IpAddr]) -> String {
    format!("[{}]", ips.iter().map(|ip| format!("\"{ip}\"")).collect::<Vec<_>>().join(" "))
}

fn in_pool(pool: Option<&PoolName>) -> String {
    pool.map(|pool| format!(" in pool {:?}", pool.as_str())).unwrap_or_default()
}

fn besides(spared: Option<&Spared>) -> String {
    let Some(Spared { ip, holder, more }) = spared else { return String::new() };
    let others = if *more == 0 { String::new() } else { format!(", and {more} more are reserved") };
    format!(" ({ip} is not given: it is {holder}{others})")
}

fn of(families: Families) -> String {
    match families {
        Families::Single(family) => format!(" of family {}", family.as_str()),
        Families::PreferDual(_) => String::new(),
        Families::RequireDual(_) => " of both families".to_owned(),
    }
}

fn names(pools: &[PoolName]) -> String {
    pools.iter().map(PoolName::as_str).collect::<Vec<_>>().join(", ")
}

fn among(pools: &[PoolName]) -> String {
    match pools {
        [] => "any pool: all have auto-assign off, so a Service must ask for a pool".to_owned(),
        [pool] => format!("pool {:?}", pool.as_str()),
        [..] => format!("pools {}", names(pools)),
    }
}

fn known_pools(known: &[PoolName]) -> String {
    if known.is_empty() { "there is no pool at all".to_owned() } else { format!("the pools are {}", names(known)) }
}
