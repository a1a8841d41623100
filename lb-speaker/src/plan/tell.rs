//! What a plan has to tell: statuses, events, problems.

use std::collections::BTreeMap;
use std::net::IpAddr;

use config::diagnostic::{Problem, Severity};
use config::object::{FieldPath, Kind, ObjectName, ObjectRef};
use config::report::Event;
use config::snapshot::Snapshot;

use crate::allocator::Assignment;
use crate::claim::{self, Claim, Reading};
use crate::refusal::quoted;
use crate::reserved::Holder;

/// How many Services an event names at most.
const NAMED: usize = 5;

/// What is to be told about one Service.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) events: Vec<Event>,
    /// Without their places.
    pub(super) problems: Vec<Problem>,
}

impl Told {
    /// What `assignment` means for its Service; `shared` are those of its addresses that others have by right.
    pub(super) fn of(reading: &Reading, claim: &Claim, assignment: &Assignment, shared: &[(IpAddr, Holder)]) -> Self {
        let mut told = Self::default();
        told.tell(reading, claim, assignment, shared);
        told
    }

    fn tell(&mut self, reading: &Reading, claim: &Claim, assignment: &Assignment, shared: &[(IpAddr, Holder)]) {
        let object = ObjectRef::new(Kind::Service, claim.service.clone());
        if let Some(lacking) = &assignment.lacking {
            self.event(&object, None, "AdditionalAssignFailed", lacking.to_string());
        }
        if !assignment.ips.is_empty() {
            self.event(&object, None, "IPAllocated", format!("Assigned IP {}", quoted(&assignment.ips)));
        }
        if let Some(refusal) = &assignment.refusal {
            let reason = refusal.event_reason();
            let message = match reason {
                "AllocationFailed" => format!("Failed to allocate IP for {:?}: {refusal}", claim.service.to_string()),
                _ => refusal.to_string(),
            };
            self.event(&object, Some(Severity::Warning), reason, message);
            let field = refusal.field(|annotation| annotation.of(&reading.object).map(|(key, _)| key));
            self.problems.push(Problem::error(object.clone(), field, refusal));
        }
        self.tell_lost(&object, claim, assignment);
        for (old, new) in claim::deprecated(&reading.object) {
            let message = format!("annotation {old} is deprecated; write {new} instead");
            self.event(&object, Some(Severity::Warning), "deprecatedAnnotation", message);
        }
        self.warn(&object, assignment, shared);
    }

    fn tell_lost(&mut self, object: &ObjectRef, claim: &Claim, assignment: &Assignment) {
        let lost: Vec<IpAddr> = claim.committed.iter().copied().filter(|ip| !assignment.ips.contains(ip)).collect();
        if !lost.is_empty() {
            let message = format!("current IP {} cannot be kept, clearing it", quoted(&lost));
            self.event(object, None, "ClearAssignment", message);
        }
    }

    /// Adds what is odd about a Service without being in its way.
    fn warn(&mut self, object: &ObjectRef, assignment: &Assignment, shared: &[(IpAddr, Holder)]) {
        let warning = |message| Problem::warning(object.clone(), FieldPath::root(), message);
        if !assignment.orphaned.is_empty() {
            self.problems.push(warning(orphaned(&assignment.orphaned)));
        }
        self.problems.extend(shared.iter().map(|(ip, holder)| warning(shared_with(*ip, holder))));
    }

    fn event(&mut self, object: &ObjectRef, severity: Option<Severity>, reason: &'static str, message: String) {
        self.events.push(Event { object: object.clone(), severity, reason, message });
    }
}

fn shared_with(ip: IpAddr, holder: &Holder) -> String {
    format!("address {ip} is also {holder}; ask for another with annotation metallb.io/loadBalancerIPs")
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

/// Tells the `ConfigMap` which Services hold addresses that it does not list any more.
pub(super) fn orphans_event(
    orphaned: &BTreeMap<ObjectName, Vec<IpAddr>>,
    snapshot: &Snapshot,
    config_map: &ObjectName,
) -> Option<Event> {
    if orphaned.is_empty() || !snapshot.config_maps.contains_key(config_map) {
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
    let object = ObjectRef::new(Kind::ConfigMap, config_map.clone());
    Some(Event { object, severity: Some(Severity::Warning), reason: "AddressesOrphaned", message })
}
