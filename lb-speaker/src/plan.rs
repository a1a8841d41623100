//! The plan of a snapshot: every Service's addresses, what to write back, what may be announced.
//!
//! Two phases: an address is announced only once it stands in the Service's status, so that what was announced is
//! never given to somebody else by a restart.
//!
//! Pure. Who gets what: [`crate::allocator`]. What to do about it: [`crate::io`].

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use config::diagnostic::{Problem, Severity};
use config::object::{FieldPath, Kind, ObjectName, ObjectRef};
use config::pool::{AddressRange, Pool, PoolConfig, PoolName, Protocol};
use config::report::{Event, Report, ServiceStatus};
use config::settings::DEFAULT_CONFIG_MAP;
use config::snapshot::Snapshot;
use ipnet::Ipv4Net;
use k8s_openapi::api::core::v1::Service;

use crate::allocator::{self, Assignment, OrphanPolicy, Terms};
use crate::arp::MacAddr;
use crate::claim::{self, Claim, Family, Standing};
use crate::refusal::Refusal;
use crate::reserved::{self, Holder, Reserved};
use crate::stale;

/// What the plan depends on besides the snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanOptions {
    /// The load balancer class served (KEP-1959); `None` serves the Services without one.
    pub lb_class: Option<String>,
    /// What becomes of addresses whose pool was edited away.
    pub orphans: OrphanPolicy,
    /// Whether addresses of nodes, and the first and last of a subnet, may be given.
    pub reserved: ReservedPolicy,
    /// The subnets this node is in, as far as they lead to a LAN.
    pub subnets: Vec<Ipv4Net>,
    /// Addresses that stations on the LAN answered for; nobody is given one, whatever the policy.
    pub taken: BTreeMap<IpAddr, MacAddr>,
    /// The `ConfigMap` with the pools, which is told of addresses that no pool has any more.
    pub config_map: ObjectName,
}

impl Default for PlanOptions {
    fn default() -> Self {
        Self {
            lb_class: None,
            orphans: OrphanPolicy::default(),
            reserved: ReservedPolicy::default(),
            subnets: Vec::new(),
            taken: BTreeMap::new(),
            config_map: ObjectName::new(DEFAULT_CONFIG_MAP.0, DEFAULT_CONFIG_MAP.1),
        }
    }
}

/// Whether addresses are given that others on the LAN have by right; see [`crate::reserved`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReservedPolicy {
    /// Never.
    #[default]
    Refuse,
    /// As any other.
    Give,
}

/// What follows from one snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// What to write back.
    pub report: Report,
    /// Every Service that wants addresses.
    pub services: BTreeMap<ObjectName, Planned>,
    /// Every pool, in written order.
    pub pools: Vec<PoolUsage>,
    /// Addresses that are held and that no pool has any more.
    pub orphaned: BTreeMap<ObjectName, Vec<IpAddr>>,
}

/// What one Service gets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Planned {
    /// Its addresses, at most one per family.
    pub ips: Vec<IpAddr>,
    /// The pool they come from.
    pub pool: Option<PoolName>,
    /// How that pool is announced; `None` when its addresses are in no pool any more, which is announced as before.
    pub protocol: Option<Protocol>,
    /// What it did not get, and why.
    pub refusal: Option<Refusal>,
    /// Those of its addresses that stand in its status and may therefore be announced.
    pub live: Vec<IpAddr>,
    /// Whether its status says just this.
    pub committed: bool,
    /// Addresses it is to have if nobody on the LAN has them; see [`crate::probation`].
    pub probing: Vec<IpAddr>,
}

/// How full a pool is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolUsage {
    /// The pool.
    pub name: PoolName,
    /// IPv4 addresses that may be given, and that are.
    pub ipv4: Usage,
    /// IPv6 addresses that may be given, and that are.
    pub ipv6: Usage,
}

/// How many addresses there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// In the pool.
    pub total: u128,
    /// Given to a Service.
    pub in_use: u64,
}

/// Plans a whole snapshot.
///
/// In one that was saved on disk only what stands in a status counts: what was given to others since then is not known,
/// so nothing is given.
#[must_use]
pub fn plan(snapshot: &Snapshot, options: &PlanOptions) -> Plan {
    let mut plan = Plan::default();
    plan.report.generation = snapshot.generation;
    let mut claims = Vec::new();
    for (name, service) in snapshot.services.iter() {
        match claim::read(name, service, options.lb_class.as_deref()) {
            Standing::Foreign => {}
            Standing::Unbalanced if claim::committed(service).is_empty() => {}
            Standing::Unbalanced => drop(plan.report.services.insert(name.clone(), ServiceStatus::default())),
            Standing::Claims(claim) if snapshot.saved.is_some() && claim.committed.is_empty() => {}
            Standing::Claims(claim) => claims.push(*claim),
        }
    }
    let mut reserved = match options.reserved {
        ReservedPolicy::Refuse => reserved::reserved(&snapshot.nodes, &options.subnets),
        ReservedPolicy::Give => Reserved::new(),
    };
    reserved.extend(options.taken.iter().map(|(ip, mac)| (*ip, Holder::Station(*mac))));
    let terms = Terms { config: &snapshot.pools, orphans: orphans(snapshot, options), reserved: &reserved };
    let mut assignments = allocator::allocate(terms, &claims);
    for claim in &claims {
        let mut assignment = assignments.remove(&claim.service).unwrap_or_default();
        if snapshot.saved.is_some() {
            assignment.ips.retain(|ip| claim.committed.contains(ip));
        }
        if !assignment.orphaned.is_empty() {
            plan.orphaned.insert(claim.service.clone(), assignment.orphaned.clone());
        }
        if let Some(service) = snapshot.services.get(&claim.service) {
            tell(&mut plan.report, snapshot, service, claim, &assignment);
            warn(&mut plan.report, snapshot, service, claim, &assignment, &reserved);
        }
        plan.services.insert(claim.service.clone(), planned(claim, assignment));
    }
    plan.pools = usage(&snapshot.pools, &plan.services);
    plan.report.events.extend(orphans_event(&plan.orphaned, snapshot, options));
    plan.report.events.extend(stale::event(snapshot, &options.config_map));
    plan
}

/// What becomes of orphans: where no pools are known, or the newest are not, nobody is robbed of an address.
fn orphans(snapshot: &Snapshot, options: &PlanOptions) -> OrphanPolicy {
    let unknown = snapshot.pools_stale || snapshot.pools.pools.is_empty() || snapshot.saved.is_some();
    if unknown { OrphanPolicy::Keep } else { options.orphans }
}

/// How many Services an event names at most.
const NAMED: usize = 5;

/// Tells the `ConfigMap` which Services hold addresses that it does not list any more.
fn orphans_event(
    orphaned: &BTreeMap<ObjectName, Vec<IpAddr>>,
    snapshot: &Snapshot,
    options: &PlanOptions,
) -> Option<Event> {
    if orphaned.is_empty() || !snapshot.config_maps.contains_key(&options.config_map) {
        return None;
    }
    let named = orphaned.iter().take(NAMED).map(|(name, ips)| format!("{name} {}", joined(ips)));
    let more = match orphaned.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" (and {more} more)"),
    };
    let named = named.collect::<Vec<_>>().join(", ");
    let message = format!(
        "addresses in no pool any more are kept by their Services: {named}{more}; put them back into a pool, or start \
         the speaker with --orphan-policy reassign"
    );
    let object = ObjectRef::new(Kind::ConfigMap, options.config_map.clone());
    Some(Event { object, severity: Some(Severity::Warning), reason: "AddressesOrphaned", message })
}

fn planned(claim: &Claim, assignment: Assignment) -> Planned {
    let Assignment { ips, pool, protocol, refusal, .. } = assignment;
    let live = ips.iter().copied().filter(|ip| claim.committed.contains(ip)).collect();
    let committed = ips == claim.committed;
    Planned { ips, pool, protocol, refusal, live, committed, probing: Vec::new() }
}

/// Adds to the report what `assignment` means for its Service: status, events, problems.
fn tell(report: &mut Report, snapshot: &Snapshot, service: &Service, claim: &Claim, assignment: &Assignment) {
    let object = ObjectRef::new(Kind::Service, claim.service.clone());
    let event = |severity, reason, message| Event { object: object.clone(), severity, reason, message };
    if !assignment.ips.is_empty() {
        report.events.push(event(None, "IPAllocated", format!("Assigned IP {}", quoted(&assignment.ips))));
    }
    if let Some(refusal) = &assignment.refusal {
        let reason = refusal.event_reason();
        let message = match reason {
            "AllocationFailed" => format!("Failed to allocate IP for {:?}: {refusal}", claim.service.to_string()),
            _ => refusal.to_string(),
        };
        report.events.push(event(Some(Severity::Warning), reason, message));
        let field = refusal.field(|name| claim::annotation_key(service, name));
        let problem = Problem::error(object.clone(), field, refusal);
        report.problems.push(snapshot.placed(problem));
    }
    let status = ServiceStatus { ips: assignment.ips.clone(), pool: assignment.pool.clone() };
    report.services.insert(claim.service.clone(), status);
}

/// Adds what is odd about a Service without being in its way.
fn warn(
    report: &mut Report,
    snapshot: &Snapshot,
    service: &Service,
    claim: &Claim,
    assignment: &Assignment,
    reserved: &Reserved,
) {
    let object = ObjectRef::new(Kind::Service, claim.service.clone());
    let event = |severity, reason, message| Event { object: object.clone(), severity, reason, message };
    let lost: Vec<IpAddr> = claim.committed.iter().copied().filter(|ip| !assignment.ips.contains(ip)).collect();
    if !lost.is_empty() {
        let message = format!("current IP {} cannot be kept, clearing it", quoted(&lost));
        report.events.push(event(None, "ClearAssignment", message));
    }
    for (old, new) in claim::deprecated(service) {
        let message = format!("annotation {old} is deprecated; write {new} instead");
        report.events.push(event(Some(Severity::Warning), "deprecatedAnnotation", message));
    }
    if !assignment.orphaned.is_empty() {
        let problem = Problem::warning(object.clone(), FieldPath::root(), orphaned(&assignment.orphaned));
        report.problems.push(snapshot.placed(problem));
    }
    for (ip, holder) in assignment.ips.iter().filter_map(|ip| Some((ip, reserved.get(ip)?))) {
        let message =
            format!("address {ip} is also {holder}; ask for another with annotation metallb.io/loadBalancerIPs");
        report.problems.push(snapshot.placed(Problem::warning(object.clone(), FieldPath::root(), message)));
    }
}

fn orphaned(ips: &[IpAddr]) -> String {
    format!(
        "address {} is in no pool any more; the Service keeps it and nobody else gets it; put it back into a pool, \
         or ask for another with annotation metallb.io/loadBalancerIPs",
        joined(ips)
    )
}

fn joined(ips: &[IpAddr]) -> String {
    ips.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(" and ")
}

/// As Go's `%q` shows a list: `["192.0.2.1" "2001:db8::1"]`.
fn quoted(ips: &[IpAddr]) -> String {
    format!("[{}]", ips.iter().map(|ip| format!("\"{ip}\"")).collect::<Vec<_>>().join(" "))
}

fn usage(config: &PoolConfig, services: &BTreeMap<ObjectName, Planned>) -> Vec<PoolUsage> {
    let given: BTreeSet<IpAddr> = services.values().flat_map(|planned| planned.ips.iter().copied()).collect();
    config.pools.iter().map(|pool| pool_usage(pool, &given)).collect()
}

fn pool_usage(pool: &Pool, given: &BTreeSet<IpAddr>) -> PoolUsage {
    let (mut ipv4, mut ipv6) = (Usage::default(), Usage::default());
    for range in &pool.ranges {
        let usage = if Family::of(range.first()) == Family::IPv4 { &mut ipv4 } else { &mut ipv6 };
        let avoided = if pool.avoid_buggy_ips { buggy_addresses(range) } else { 0 };
        usage.total = usage.total.saturating_add(range.len() - avoided);
        usage.in_use += given.range(range.first()..=range.last()).filter(|ip| pool.allows(**ip)).count() as u64;
    }
    PoolUsage { name: pool.name.clone(), ipv4, ipv6 }
}

/// How many addresses of a range end in .0 or .255.
fn buggy_addresses(range: &AddressRange) -> u128 {
    let (IpAddr::V4(first), IpAddr::V4(last)) = (range.first(), range.last()) else { return 0 };
    // Of the addresses below `end`: two for each whole block of 256, one more for the .0 of a block that is begun.
    let below = |end: u64| (end / 256) * 2 + u64::from(!end.is_multiple_of(256));
    u128::from(below(u64::from(last.to_bits()) + 1) - below(u64::from(first.to_bits())))
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
