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
use config::snapshot::Snapshot;
use k8s_openapi::api::core::v1::Service;

use crate::allocator::{self, Assignment};
use crate::claim::{self, Claim, Family, Standing};
use crate::refusal::Refusal;

/// What the plan depends on besides the snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlanOptions {
    /// The load balancer class served (KEP-1959); `None` serves the Services without one.
    pub lb_class: Option<String>,
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
    let mut assignments = allocator::allocate(&snapshot.pools, &claims);
    for claim in &claims {
        let mut assignment = assignments.remove(&claim.service).unwrap_or_default();
        if snapshot.saved.is_some() {
            assignment.ips.retain(|ip| claim.committed.contains(ip));
        }
        if let Some(service) = snapshot.services.get(&claim.service) {
            tell(&mut plan.report, snapshot, service, claim, &assignment);
        }
        plan.services.insert(claim.service.clone(), planned(claim, assignment));
    }
    plan.pools = usage(&snapshot.pools, &plan.services);
    plan
}

fn planned(claim: &Claim, assignment: Assignment) -> Planned {
    let Assignment { ips, pool, protocol, refusal, .. } = assignment;
    let live = ips.iter().copied().filter(|ip| claim.committed.contains(ip)).collect();
    let committed = ips == claim.committed;
    Planned { ips, pool, protocol, refusal, live, committed }
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
    if !assignment.orphaned.is_empty() {
        let problem = Problem::warning(object, FieldPath::root(), orphaned(&assignment.orphaned));
        report.problems.push(snapshot.placed(problem));
    }
    let status = ServiceStatus { ips: assignment.ips.clone(), pool: assignment.pool.clone() };
    report.services.insert(claim.service.clone(), status);
}

fn orphaned(ips: &[IpAddr]) -> String {
    format!(
        "address {} is in no pool any more; the Service keeps it and nobody else gets it; put it back into a pool, \
         or ask for another with annotation metallb.io/loadBalancerIPs",
        ips.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(" and ")
    )
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
