//! What has to be written: reports compared with what is remembered.
//!
//! ```text
//! Memory (committed) ─┐
//! Reports (wanted) ───┼─> settle ─> Memory to write next, refusals
//! presence of objects ┘
//! ```
//!
//! Last line of defence of "no address twice": an address that another Service holds is handed on only if the same
//! report takes it from that Service, shares it, or the Service is gone for certain. A Service whose manifest cannot
//! be read right now is not gone.
//!
//! Pure. The domains decide who gets what; `dir` writes it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use config::diagnostic::Problem;
use config::object::{FieldPath, Kind, ObjectName, ObjectRef};
use config::report::{Event, Report, ServiceStatus};

use crate::memory::Memory;

/// How long the address of a Service that vanished is kept for its return, unless somebody else takes it: some
/// editors delete a file before they write it anew.
pub const FORGET_AFTER: Duration = Duration::from_secs(10);

/// What we know of an object's existence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It is in the snapshot.
    Present,
    /// It is not there, but part of the source cannot be read.
    Unknown,
    /// It is not there, and everything was read.
    Absent,
}

/// What [`settle`] decided.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// The memory to write; equal to the old one when there is nothing to write.
    pub memory: Memory,
    /// Statuses that were not accepted.
    pub refusals: Vec<Problem>,
}

/// Applies `reports` to `memory`.
///
/// Service statuses count only in a report computed from the snapshot of generation `oldest` or a later one, which
/// has to show everything committed since: an older one may give an address away again.
#[must_use]
pub fn settle(memory: &Memory, reports: &[&Report], oldest: u64, presence: impl Fn(&ObjectRef) -> Presence) -> Settled {
    let mut settled = Settled { memory: memory.clone(), refusals: Vec::new() };
    for report in reports {
        if report.generation >= oldest {
            settle_services(&mut settled, report, &presence);
        }
        settle_ingresses(&mut settled.memory, report, &presence);
    }
    settled.memory.ingresses.retain(|name, _| presence(&ingress(name)) != Presence::Absent);
    settled
}

fn settle_services(settled: &mut Settled, report: &Report, presence: &impl Fn(&ObjectRef) -> Presence) {
    let wishes: BTreeMap<&ObjectName, &ServiceStatus> = (report.services.iter())
        .filter(|(name, wanted)| settled.memory.services.get(*name).unwrap_or(&ServiceStatus::default()) != *wanted)
        .filter(|(name, _)| presence(&service(name)) == Presence::Present)
        .collect();
    let refused = refused(&settled.memory, report, &wishes, presence);
    let granted = wishes.into_iter().filter(|(name, _)| !refused.contains_key(*name));
    let granted: BTreeMap<&ObjectName, &ServiceStatus> = granted.collect();
    let given: BTreeSet<IpAddr> = granted.values().flat_map(|status| &status.ips).copied().collect();
    settled.memory.services.retain(|name, status| {
        let taken = status.ips.iter().any(|ip| given.contains(ip));
        !(taken && presence(&service(name)) == Presence::Absent)
    });
    for (name, wanted) in granted {
        if wanted.ips.is_empty() {
            settled.memory.services.remove(name);
        } else {
            settled.memory.services.insert(name.clone(), wanted.clone());
        }
    }
    settled.refusals.extend(refused.into_values());
}

/// The wishes that would give away an address somebody holds on to. Whoever is refused holds on to what it has, so
/// one refusal may bring another.
fn refused(
    memory: &Memory,
    report: &Report,
    wishes: &BTreeMap<&ObjectName, &ServiceStatus>,
    presence: &impl Fn(&ObjectRef) -> Presence,
) -> BTreeMap<ObjectName, Problem> {
    let holders = holders(memory);
    let mut refused = BTreeMap::new();
    loop {
        let before = refused.len();
        for (name, wanted) in wishes {
            let own = memory.services.get(*name).map_or(&[][..], |status| &status.ips);
            let new = wanted.ips.iter().filter(|ip| !own.contains(ip));
            let held = new.flat_map(|ip| holders.get(ip).into_iter().flatten().map(move |holder| (*ip, *holder)));
            let holds_on = |holder: &ObjectName| {
                let spoken_for = report.services.contains_key(holder) && !refused.contains_key(holder);
                !spoken_for && presence(&service(holder)) != Presence::Absent
            };
            if let Some((ip, rival)) = held.into_iter().find(|(_, holder)| holder != name && holds_on(holder))
                && !refused.contains_key(*name)
            {
                refused.insert((*name).clone(), refusal(name, ip, rival, presence(&service(rival))));
            }
        }
        if refused.len() == before {
            return refused;
        }
    }
}

/// Who held each address before this report.
fn holders(memory: &Memory) -> BTreeMap<IpAddr, Vec<&ObjectName>> {
    let mut holders: BTreeMap<IpAddr, Vec<&ObjectName>> = BTreeMap::new();
    for (name, status) in &memory.services {
        for ip in &status.ips {
            holders.entry(*ip).or_default().push(name);
        }
    }
    holders
}

fn refusal(name: &ObjectName, ip: IpAddr, rival: &ObjectName, presence: Presence) -> Problem {
    let why = match presence {
        Presence::Present | Presence::Absent => "delete that Service, or make it a LoadBalancer again",
        Presence::Unknown => "mend the manifests that cannot be read, for it may still be in one of them",
    };
    let message = format!("{ip} is not given, since it still belongs to Service {rival}; {why}");
    Problem::error(service(name), FieldPath::root(), message)
}

fn settle_ingresses(memory: &mut Memory, report: &Report, presence: &impl Fn(&ObjectRef) -> Presence) {
    for (name, ips) in &report.ingresses {
        if ips.is_empty() {
            memory.ingresses.remove(name);
        } else if presence(&ingress(name)) == Presence::Present && memory.ingresses.get(name) != Some(ips) {
            memory.ingresses.insert(name.clone(), ips.clone());
        }
    }
}

fn service(name: &ObjectName) -> ObjectRef {
    ObjectRef::new(Kind::Service, name.clone())
}

fn ingress(name: &ObjectName) -> ObjectRef {
    ObjectRef::new(Kind::Ingress, name.clone())
}

/// Since when each remembered Service has been gone.
#[derive(Clone, Debug, Default)]
pub struct Absences(BTreeMap<ObjectName, Instant>);

impl Absences {
    /// Looks who is gone at `now`, and starts counting.
    pub fn observe(&mut self, memory: &Memory, presence: impl Fn(&ObjectRef) -> Presence, now: Instant) {
        let gone = memory.services.keys().filter(|name| presence(&service(name)) == Presence::Absent);
        self.0 = gone.map(|name| (name.clone(), self.0.get(name).copied().unwrap_or(now))).collect();
    }

    /// When the next Service is to be forgotten.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.0.values().min().map(|since| *since + FORGET_AFTER)
    }

    /// `memory` without the Services that have been gone for [`FORGET_AFTER`].
    #[must_use]
    pub fn forget(&self, memory: &Memory, now: Instant) -> Memory {
        let long_gone = |name: &ObjectName| self.0.get(name).is_some_and(|since| *since + FORGET_AFTER <= now);
        let mut memory = memory.clone();
        memory.services.retain(|name, _| !long_gone(name));
        memory
    }
}

/// Tells events that are new from those that still hold.
#[derive(Clone, Debug, Default)]
pub struct Transitions(BTreeSet<Event>);

impl Transitions {
    /// The events in `reports` that did not hold when this was called last.
    pub fn news<'a>(&mut self, reports: &[&'a Report]) -> Vec<&'a Event> {
        let holding: BTreeSet<&Event> =
            reports.iter().flat_map(|report| report.events.iter().chain(report.local_events.iter())).collect();
        let news = holding.iter().copied().filter(|event| !self.0.contains(*event)).collect();
        self.0 = holding.into_iter().cloned().collect();
        news
    }
}

#[cfg(test)]
#[path = "outbox_tests.rs"]
mod tests;
