//! The plan of a snapshot: every Service's addresses, what to write back, what may be announced.
//!
//! ```text
//! Snapshot ─> Readings: what each Service asks ─> allocate ─> Planned, Report
//! nodes, LAN ─> Reserved ────────────────────────────┘
//! ```
//!
//! Two phases: an address is announced only once it stands in the Service's status, so that what was announced is
//! never given to somebody else by a restart.
//!
//! Pure. Who gets what: [`crate::allocator`]. What to do about it: [`crate::io`].

mod outside;
mod tell;
mod usage;

use std::collections::BTreeMap;
use std::net::IpAddr;

use config::object::ObjectName;
use config::pool::{PoolName, Protocol};
use config::report::{Report, ServiceStatus};
use config::settings::DEFAULT_CONFIG_MAP;
use config::snapshot::Snapshot;

use crate::allocator::{self, Assignment, OrphanPolicy, Terms};
use crate::arp::MacAddr;
use crate::claim::{self, Claim, Reading, Readings, Standing};
use crate::refusal::Refusal;
use crate::reserved::{self, Holder, Lan, Reserved};
use crate::stale;
use tell::Teller;
pub use usage::{PoolUsage, Usage};

/// What the plan depends on besides the snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanOptions {
    /// The load balancer class served (KEP-1959); `None` serves the Services without one.
    pub lb_class: Option<String>,
    /// What becomes of addresses whose pool was edited away.
    pub orphans: OrphanPolicy,
    /// Whether addresses of nodes, and the first and last of a subnet, may be given.
    pub reserved: ReservedPolicy,
    /// The network as this node sees it; empty when that is not known.
    pub lan: Lan,
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
            lan: Lan::default(),
            taken: BTreeMap::new(),
            config_map: ObjectName::new(DEFAULT_CONFIG_MAP.0, DEFAULT_CONFIG_MAP.1),
        }
    }
}

/// Whether addresses are given that others on the LAN have by right, whatever a pool says; see [`crate::reserved`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReservedPolicy {
    /// Never.
    #[default]
    Refuse,
    /// As any other, in every pool.
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

/// Plans snapshot after snapshot; what did not change is not read again, and the plan is that of [`plan`].
#[derive(Debug, Default)]
pub struct Planner {
    readings: Readings,
}

/// Plans a whole snapshot.
///
/// In one that was saved on disk only what stands in a status counts: what was given to others since then is not known,
/// so nothing is given.
#[must_use]
pub fn plan(snapshot: &Snapshot, options: &PlanOptions) -> Plan {
    Planner::default().plan(snapshot, options)
}

impl Planner {
    /// The plan of a snapshot.
    #[must_use]
    pub fn plan(&mut self, snapshot: &Snapshot, options: &PlanOptions) -> Plan {
        let readings = self.readings.update(&snapshot.services, options.lb_class.as_deref());
        let reserved = reserved(snapshot, readings, options);
        let claims: Vec<(&Reading, &Claim)> =
            readings.iter().filter_map(|reading| Some((reading, claim(reading, snapshot)?))).collect();
        let terms = Terms {
            config: &snapshot.pools,
            orphans: orphans(snapshot, options),
            reserved: &reserved,
            namespaces: &snapshot.namespaces,
        };
        let asking: Vec<&Claim> = claims.iter().map(|(_, claim)| *claim).collect();
        let assignments = allocator::allocate(terms, &asking);
        let mut plan = assemble(snapshot, &reserved, claims.into_iter().zip(assignments));
        let cleared = readings.iter().filter(|reading| is_to_be_cleared(reading));
        plan.report.services.extend(cleared.map(|reading| (reading.name.clone(), ServiceStatus::default())));
        plan.report.events.extend(tell::orphans_event(&plan.orphaned, snapshot, &options.config_map));
        plan.report.events.extend(stale::event(snapshot, &options.config_map));
        plan.report.problems.extend(outside::outside(snapshot, &options.lan, &options.config_map));
        plan
    }
}

/// The claim that counts.
fn claim<'a>(reading: &'a Reading, snapshot: &Snapshot) -> Option<&'a Claim> {
    match &reading.result {
        Standing::Claims(claim) if snapshot.saved.is_some() && claim.committed.is_empty() => None,
        Standing::Claims(claim) => Some(claim),
        Standing::Foreign | Standing::Unbalanced => None,
    }
}

fn is_to_be_cleared(reading: &Reading) -> bool {
    matches!(reading.result, Standing::Unbalanced) && !claim::committed(&reading.object).is_empty()
}

fn reserved(snapshot: &Snapshot, readings: &[Reading], options: &PlanOptions) -> Reserved {
    let mut reserved = match options.reserved {
        ReservedPolicy::Refuse => reserved::reserved(&snapshot.nodes, &options.lan),
        ReservedPolicy::Give => Reserved::new(),
    };
    reserved.extend(options.taken.iter().map(|(ip, mac)| (*ip, Holder::Station(*mac))));
    for reading in readings.iter().filter(|reading| matches!(reading.result, Standing::Foreign)) {
        let held = claim::committed(&reading.object).into_iter();
        reserved.extend(held.map(|ip| (ip, Holder::Service(reading.name.clone()))));
    }
    reserved
}

fn assemble<'a>(
    snapshot: &Snapshot,
    reserved: &Reserved,
    assigned: impl Iterator<Item = ((&'a Reading, &'a Claim), Assignment)>,
) -> Plan {
    let (mut statuses, mut services, mut orphaned) = (Vec::new(), Vec::new(), BTreeMap::new());
    let mut teller = Teller::new(snapshot, reserved);
    for ((reading, claim), mut assignment) in assigned {
        if snapshot.saved.is_some() {
            assignment.ips.retain(|ip| claim.committed.contains(ip));
        }
        if !assignment.orphaned.is_empty() {
            orphaned.insert(claim.service.clone(), assignment.orphaned.clone());
        }
        teller.tell(reading, claim, &assignment);
        let status = ServiceStatus { ips: assignment.ips.clone(), pool: assignment.pool.clone() };
        statuses.push((claim.service.clone(), status));
        services.push((claim.service.clone(), planned(claim, assignment)));
    }
    let Teller { events, problems, .. } = teller;
    let services: BTreeMap<ObjectName, Planned> = services.into_iter().collect();
    let report = Report {
        generation: snapshot.generation,
        services: statuses.into_iter().collect(),
        events,
        problems,
        ..Report::default()
    };
    let pools = usage::usage(&snapshot.pools, &services, reserved);
    Plan { report, services, pools, orphaned }
}

/// What becomes of orphans: where no pools are known, or the newest are not, nobody is robbed of an address.
fn orphans(snapshot: &Snapshot, options: &PlanOptions) -> OrphanPolicy {
    let unknown = snapshot.pools_stale || snapshot.pools.pools.is_empty() || snapshot.saved.is_some();
    if unknown { OrphanPolicy::Keep } else { options.orphans }
}

fn planned(claim: &Claim, assignment: Assignment) -> Planned {
    let Assignment { ips, pool, protocol, refusal, .. } = assignment;
    let live = ips.iter().copied().filter(|ip| claim.committed.contains(ip)).collect();
    let committed = ips == claim.committed;
    Planned { ips, pool, protocol, refusal, live, committed, probing: Vec::new() }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
