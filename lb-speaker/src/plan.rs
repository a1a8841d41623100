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

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use config::diagnostic::Problem;
use config::object::{Kind, ObjectName, ObjectRef};
use config::pool::{PoolConfig, PoolName, Protocol};
use config::report::{Report, ServiceStatus};
use config::settings::DEFAULT_CONFIG_MAP;
use config::shared::SharedMap;
use config::snapshot::Snapshot;

use crate::allocator::{self, Assignment, OrphanPolicy, Terms};
use crate::arp::MacAddr;
use crate::claim::{self, AllReadings, Claim, Reading, Readings, Standing};
use crate::refusal::Refusal;
use crate::reserved::{self, Holder, Lan, Reserved};
use crate::stale;
use tell::Told;
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
    pub services: SharedMap<ObjectName, Planned>,
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

/// Plans snapshot after snapshot; what did not change is neither read nor told again, and the plan is that of [`plan`].
#[derive(Debug, Default)]
pub struct Planner {
    readings: Readings,
    /// What each Service got, and what follows from it.
    results: SharedMap<ObjectName, Arc<Outcome>>,
    /// The Services that there is a problem with.
    troubled: BTreeSet<ObjectName>,
    /// The Services whose status is to be cleared.
    cleared: BTreeSet<ObjectName>,
    /// What pools and their use were last reckoned from.
    reckoned: Option<(Arc<PoolConfig>, Reserved)>,
    plan: Plan,
}

/// What one Service got, and what follows from it.
#[derive(Debug)]
struct Outcome {
    reading: Arc<Reading>,
    assignment: Assignment,
    /// Those of its addresses that others have by right.
    shared: Vec<(IpAddr, Holder)>,
    /// Without their places.
    problems: Vec<Problem>,
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
        let readings = self.readings.update(&snapshot.services, options.lb_class.as_deref()).clone();
        let reserved = reserved(snapshot, &readings, options);
        let claims: Vec<(&Arc<Reading>, &Claim)> =
            readings.values().filter_map(|reading| Some((reading, claim(reading, snapshot)?))).collect();
        let terms = Terms {
            config: &snapshot.pools,
            orphans: orphans(snapshot, options),
            reserved: &reserved,
            namespaces: &snapshot.namespaces,
        };
        let asking: Vec<&Claim> = claims.iter().map(|(_, claim)| *claim).collect();
        let assignments = allocator::allocate(terms, &asking);
        let mut has_moved = self.forget(&claims);
        self.plan.orphaned.clear();
        for ((reading, claim), mut assignment) in claims.into_iter().zip(assignments) {
            if snapshot.saved.is_some() {
                assignment.ips.retain(|ip| claim.committed.contains(ip));
            }
            if !assignment.orphaned.is_empty() {
                self.plan.orphaned.insert(claim.service.clone(), assignment.orphaned.clone());
            }
            has_moved |= self.settle(reading, claim, assignment, &reserved);
        }
        self.clear(&readings);
        self.reckon(snapshot, reserved, has_moved);
        self.tell(snapshot, options);
        self.plan.clone()
    }

    /// Lets go of who wants nothing any more; whether there was anybody.
    fn forget(&mut self, claims: &[(&Arc<Reading>, &Claim)]) -> bool {
        let mut asking = claims.iter().map(|(_, claim)| &claim.service).peekable();
        let is_gone = |name: &&ObjectName| {
            while asking.next_if(|service| *service < *name).is_some() {}
            asking.peek() != Some(name)
        };
        let gone: Vec<ObjectName> = self.results.keys().filter(is_gone).cloned().collect();
        for name in &gone {
            self.results.remove(name);
            self.troubled.remove(name);
            self.plan.services.remove(name);
            self.plan.report.services.remove(name);
            self.plan.report.events.set(&ObjectRef::new(Kind::Service, name.clone()), Vec::new());
        }
        !gone.is_empty()
    }

    /// Takes in what one Service gets; whether that is something else than before.
    fn settle(&mut self, reading: &Arc<Reading>, claim: &Claim, assignment: Assignment, reserved: &Reserved) -> bool {
        let name = &claim.service;
        let shared = assignment.ips.iter().filter_map(|ip| Some((*ip, reserved.get(ip)?.clone())));
        let shared: Vec<(IpAddr, Holder)> = if reserved.is_empty() { Vec::new() } else { shared.collect() };
        let before = self.results.get(name);
        let is_same = |before: &&Arc<Outcome>| {
            Arc::ptr_eq(&before.reading, reading) && before.assignment == assignment && before.shared == shared
        };
        if before.as_ref().is_some_and(is_same) {
            return false;
        }
        let has_moved = before.is_none_or(|before| before.assignment != assignment);
        let Told { events, problems } = Told::of(reading, claim, &assignment, &shared);
        let status = ServiceStatus { ips: assignment.ips.clone(), pool: assignment.pool.clone() };
        self.plan.report.events.set(&ObjectRef::new(Kind::Service, name.clone()), events);
        self.plan.report.services.insert(name.clone(), status);
        self.plan.services.insert(name.clone(), planned(claim, &assignment));
        if problems.is_empty() {
            self.troubled.remove(name);
        } else {
            self.troubled.insert(name.clone());
        }
        let outcome = Outcome { reading: Arc::clone(reading), assignment, shared, problems };
        self.results.insert(name.clone(), Arc::new(outcome));
        has_moved
    }

    /// Clears the status of who has addresses and wants none.
    fn clear(&mut self, readings: &AllReadings) {
        let cleared = readings.values().filter(|reading| is_to_be_cleared(reading));
        let cleared: BTreeSet<ObjectName> = cleared.map(|reading| reading.name.clone()).collect();
        for name in self.cleared.difference(&cleared).filter(|name| !self.results.contains_key(*name)) {
            self.plan.report.services.remove(name);
        }
        for name in cleared.difference(&self.cleared) {
            self.plan.report.services.insert(name.clone(), ServiceStatus::default());
        }
        self.cleared = cleared;
    }

    /// Reckons how full the pools are, if that may have changed.
    fn reckon(&mut self, snapshot: &Snapshot, reserved: Reserved, has_moved: bool) {
        let is_same =
            |(pools, held): &(Arc<PoolConfig>, Reserved)| Arc::ptr_eq(pools, &snapshot.pools) && *held == reserved;
        if has_moved || !self.reckoned.as_ref().is_some_and(is_same) {
            self.plan.pools = usage::usage(&snapshot.pools, &self.plan.services, &reserved);
            self.reckoned = Some((Arc::clone(&snapshot.pools), reserved));
        }
    }

    /// Tells what concerns no single Service, and puts problems in their places.
    fn tell(&mut self, snapshot: &Snapshot, options: &PlanOptions) {
        let of_all = tell::orphans_event(&self.plan.orphaned, snapshot, &options.config_map);
        let of_all = of_all.into_iter().chain(stale::event(snapshot, &options.config_map)).collect();
        let report = &mut self.plan.report;
        report.generation = snapshot.generation;
        report.events.set(&ObjectRef::new(Kind::ConfigMap, options.config_map.clone()), of_all);
        let troubled = self.troubled.iter().filter_map(|name| self.results.get(name));
        let placed = troubled.flat_map(|it| &it.problems).map(|problem| snapshot.placed(problem.clone()));
        let outside = outside::outside(snapshot, &options.lan, &options.config_map);
        let problems: Vec<Problem> = placed.chain(outside).collect();
        if *report.problems != problems {
            report.problems = Arc::new(problems);
        }
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

fn reserved(snapshot: &Snapshot, readings: &AllReadings, options: &PlanOptions) -> Reserved {
    let mut reserved = match options.reserved {
        ReservedPolicy::Refuse => reserved::reserved(&snapshot.nodes, &options.lan),
        ReservedPolicy::Give => Reserved::new(),
    };
    reserved.extend(options.taken.iter().map(|(ip, mac)| (*ip, Holder::Station(*mac))));
    for reading in readings.values().filter(|reading| matches!(reading.result, Standing::Foreign)) {
        let held = claim::committed(&reading.object).into_iter();
        reserved.extend(held.map(|ip| (ip, Holder::Service(reading.name.clone()))));
    }
    reserved
}

/// What becomes of orphans: where no pools are known, or the newest are not, nobody is robbed of an address.
fn orphans(snapshot: &Snapshot, options: &PlanOptions) -> OrphanPolicy {
    let unknown = snapshot.pools_stale || snapshot.pools.pools.is_empty() || snapshot.saved.is_some();
    if unknown { OrphanPolicy::Keep } else { options.orphans }
}

fn planned(claim: &Claim, assignment: &Assignment) -> Planned {
    let Assignment { ips, pool, protocol, refusal, .. } = assignment.clone();
    let live = ips.iter().copied().filter(|ip| claim.committed.contains(ip)).collect();
    let committed = ips == claim.committed;
    Planned { ips, pool, protocol, refusal, live, committed, probing: Vec::new() }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
