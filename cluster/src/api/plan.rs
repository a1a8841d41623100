//! What has to be written: reports compared with the statuses that the API server shows.
//!
//! ```text
//! Snapshot: statuses as they are ──┐
//! Reports: statuses as wanted ─────┼─ outbox::settle ─> one apply per object that differs, events it brings
//! ```
//!
//! One apply per Service says all of it: addresses, condition and pool annotation; the status subresource takes
//! annotations too, so that no right to change a Service itself is needed. A Service that is to get an address which
//! another still shows waits until that one has given it up.
//!
//! A Service that is no `LoadBalancer` any more gets an apply that names nothing, by which server-side apply drops what
//! we own and nothing else (KEP-555).
//!
//! Pure. Who writes: [`super::writer`].

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use config::diagnostic::Problem;
use config::object::{Kind, ObjectName, ObjectRef};
use config::pool::PoolName;
use config::report::{Event, Events, IngressAddress, Report, SecretWrite, ServiceStatus};
use config::shared::SharedMap;
use config::snapshot::{Objects, Snapshot};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Secret, Service};
use k8s_openapi::api::networking::v1::Ingress;
use serde_json::{Value, json};

use crate::memory::Memory;
use crate::outbox::{self, Presence};

/// Where a Service says which pool its addresses come from, as MetalLB does.
const POOL_ANNOTATION: &str = "metallb.io/ip-allocated-from-pool";
/// The condition of a Service that says whether it has its addresses, and why not.
pub(super) const CONDITION: &str = "ferrogate.io/Assigned";

/// How something is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// A status, by server-side apply.
    Status,
    /// An object that is to be new.
    Create,
    /// An object, by a merge patch that names the version it is for.
    Merge,
}

/// One status or Secret to write.
#[derive(Clone, PartialEq)]
pub(super) struct StatusWrite {
    pub(super) object: ObjectRef,
    pub(super) how: How,
    /// What the object is to say; two equal ones mean the same, whenever they were planned.
    pub(super) wanted: Wanted,
    /// The object to apply, or what is to change.
    pub(super) body: Value,
    /// What is told once it is written.
    pub(super) events: Vec<Event>,
}

impl fmt::Debug for StatusWrite {
    /// Without the body, which may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StatusWrite")
            .field("object", &self.object)
            .field("wanted", &self.wanted)
            .finish_non_exhaustive()
    }
}

/// What an object's status is to say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Of a Secret.
    secret: Option<Box<SecretWrite>>,
    ips: Vec<IpAddr>,
    /// Of an Ingress.
    shown: Vec<IngressAddress>,
    pool: Option<PoolName>,
    condition: Option<Condition>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Condition {
    status: &'static str,
    reason: String,
    message: String,
}

/// What follows from comparing.
#[derive(Clone, Debug, Default)]
pub(super) struct Plan {
    pub(super) writes: Vec<StatusWrite>,
    /// Statuses that were not accepted.
    pub(super) refusals: Vec<Problem>,
}

/// Compares again and again; what neither changed nor was left to do is not looked at, and the plan is that of comparing
/// everything.
#[derive(Debug, Default)]
pub(super) struct Planner {
    services: Objects<Service>,
    ingresses: Objects<Ingress>,
    /// Statuses of Services and events, by report.
    wanted: [(SharedMap<ObjectName, ServiceStatus>, Events); 3],
    /// Statuses of Ingresses, by report.
    shown: [SharedMap<ObjectName, Vec<IngressAddress>>; 3],
    /// Who shows an address.
    holders: SharedMap<(IpAddr, ObjectName), ()>,
    /// Services that may not be as wanted.
    open: BTreeSet<ObjectName>,
    /// Ingresses that may not be as wanted.
    open_ingresses: BTreeSet<ObjectName>,
}

impl Planner {
    /// Compares; the first report is the speaker's, and there are three at most.
    ///
    /// Reports older than snapshot `oldest` give no addresses: they may not know what was given since.
    pub(super) fn plan(
        &mut self,
        snapshot: &Snapshot,
        reports: &[&Report],
        oldest: u64,
        presence: impl Fn(&ObjectRef) -> Presence,
        now: Timestamp,
    ) -> Plan {
        self.take_in(snapshot, reports);
        let concerned = self.concerned(reports, oldest);
        let memory = memory(snapshot, &concerned);
        let excerpts: Vec<Report> = reports.iter().map(|report| excerpt(report, &concerned)).collect();
        let settled = outbox::settle(&memory, &excerpts.iter().collect::<Vec<_>>(), oldest, presence);
        let leaving = leaving(&memory, &settled.memory);
        let mut waiting = Vec::new();
        let mut plan = Plan { writes: Vec::new(), refusals: settled.refusals };
        let mut done = self.open.clone();
        for (report, full) in excerpts.iter().zip(reports).filter(|(report, _)| report.generation >= oldest) {
            for (name, status) in &report.services {
                let Some(service) = snapshot.services.get(name) else { continue };
                let object = ObjectRef::new(Kind::Service, name.clone());
                let told: Vec<&Event> = full.events.of(&object).iter().filter(|it| is_about_assignment(it)).collect();
                let Some(write) = service_write(name, service, status, &told, now) else { continue };
                done.remove(name);
                if !accepted(&settled.memory, name, status) {
                    continue;
                }
                // Its own address may be leaving another whom it shared it with; only what it gains has to be free.
                let own = memory.services.get(name).map_or(&[][..], |status| &status.ips);
                let awaited = status.ips.iter().copied().filter(|ip| !own.contains(ip) && leaving.contains(ip));
                let awaited: Vec<IpAddr> = awaited.collect();
                if awaited.is_empty() {
                    plan.writes.push(write);
                } else {
                    waiting.push(Waiting { name, service, status, awaited });
                }
            }
        }
        if plan.writes.is_empty() {
            plan.writes.extend(break_a_circle(&waiting, now));
        }
        // Without a speaker nothing is known of Services: its report stays that of no snapshot, older than all.
        if let Some(speaker) = reports.first().filter(|report| report.generation >= oldest) {
            let services = self.open.iter().filter_map(|name| Some((name, snapshot.services.get(name)?)));
            let released: Vec<StatusWrite> =
                services.filter_map(|(name, service)| release(name, service, speaker)).collect();
            done.retain(|name| !released.iter().any(|write| write.object.name == *name));
            plan.writes.extend(released);
        }
        let counts = |report: &&Report| report.generation >= oldest;
        if reports.first().is_none_or(counts) && reports.iter().all(|it| counts(it) || it.services.is_empty()) {
            self.open.retain(|name| !done.contains(name));
        }
        let secrets = reports.iter().flat_map(|report| &report.secrets);
        plan.writes.extend(secrets.filter_map(|(name, wanted)| secret_write(name, snapshot.secrets.get(name), wanted)));
        plan.writes.extend(self.ingress_writes(snapshot, reports));
        plan
    }

    /// Notes what differs from the time before.
    fn take_in(&mut self, snapshot: &Snapshot, reports: &[&Report]) {
        for change in snapshot.services.changes(&self.services, Arc::ptr_eq) {
            for ip in change.before.into_iter().flat_map(|service| service_ips(service)) {
                self.holders.remove(&(ip, change.key.clone()));
            }
            for ip in change.after.into_iter().flat_map(|service| service_ips(service)) {
                self.holders.insert((ip, change.key.clone()), ());
            }
            self.open.insert(change.key.clone());
        }
        self.services = Arc::clone(&snapshot.services);
        let changed = snapshot.ingresses.changes(&self.ingresses, Arc::ptr_eq).map(|change| change.key.clone());
        self.open_ingresses.extend(changed);
        self.ingresses = Arc::clone(&snapshot.ingresses);
        for ((statuses, events), report) in self.wanted.iter_mut().zip(reports) {
            self.open.extend(report.services.changes(statuses, PartialEq::eq).map(|change| change.key.clone()));
            let told = report.events.changes(events).filter(|(object, ..)| object.kind == Kind::Service);
            self.open.extend(told.map(|(object, ..)| object.name.clone()));
            (*statuses, *events) = (report.services.clone(), report.events.clone());
        }
        for (shown, report) in self.shown.iter_mut().zip(reports) {
            self.open_ingresses.extend(report.ingresses.changes(shown, PartialEq::eq).map(|change| change.key.clone()));
            *shown = report.ingresses.clone();
        }
    }

    /// The Services that may not be as wanted, and who shows an address that one of these is to get.
    fn concerned(&self, reports: &[&Report], oldest: u64) -> BTreeSet<ObjectName> {
        if !is_heard(reports, oldest) {
            return BTreeSet::new();
        }
        let wanted = |name| reports.iter().filter_map(move |report| report.services.get(name));
        let gained = self.open.iter().flat_map(wanted).flat_map(|status| &status.ips);
        let holders = gained.flat_map(|ip| {
            let all = self.holders.iter_from(move |(held, _)| held < ip);
            all.take_while(move |((held, _), ())| held == ip).map(|((_, holder), ())| holder)
        });
        holders.chain(&self.open).cloned().collect()
    }

    fn ingress_writes(&mut self, snapshot: &Snapshot, reports: &[&Report]) -> Vec<StatusWrite> {
        let write = |name: &ObjectName| {
            let wanted = reports.iter().filter_map(|report| report.ingresses.get(name));
            let writes = wanted.filter_map(|wanted| ingress_write(name, snapshot.ingresses.get(name)?, wanted));
            writes.collect::<Vec<StatusWrite>>()
        };
        let writes: Vec<StatusWrite> = self.open_ingresses.iter().flat_map(write).collect();
        self.open_ingresses = writes.iter().map(|write| write.object.name.clone()).collect();
        writes
    }
}

/// Whether any report speaks of Services; without a speaker none ever does.
fn is_heard(reports: &[&Report], oldest: u64) -> bool {
    reports.iter().any(|report| !report.services.is_empty())
        || reports.first().is_some_and(|speaker| speaker.generation >= oldest)
}

/// Whether a Service shows what it was to say.
pub(super) fn is_shown(snapshot: &Snapshot, object: &ObjectRef, wanted: &Wanted) -> bool {
    let service = (object.kind == Kind::Service).then(|| snapshot.services.get(&object.name)).flatten();
    service.is_some_and(|service| {
        let condition = observed_condition(service).map(|(condition, _)| condition);
        service_ips(service) == wanted.ips && condition == wanted.condition
    })
}

/// Statuses as they are, in the shape that `settle` knows.
fn memory(snapshot: &Snapshot, concerned: &BTreeSet<ObjectName>) -> Memory {
    let mut memory = Memory::default();
    for (name, service) in concerned.iter().filter_map(|name| Some((name, snapshot.services.get(name)?))) {
        let ips = service_ips(service);
        if !ips.is_empty() {
            memory.services.insert(name.clone(), ServiceStatus { ips, pool: pool(service) });
        }
    }
    memory
}

/// What a report says of these Services.
fn excerpt(report: &Report, concerned: &BTreeSet<ObjectName>) -> Report {
    let statuses = concerned.iter().filter_map(|name| Some((name.clone(), report.services.get(name)?.clone())));
    Report { generation: report.generation, services: statuses.collect(), ..Report::default() }
}

/// Whether `settle` let the status pass.
fn accepted(settled: &Memory, name: &ObjectName, status: &ServiceStatus) -> bool {
    settled.services.get(name).unwrap_or(&ServiceStatus::default()).ips == status.ips
}

/// The addresses that somebody still shows and is to lose.
fn leaving(before: &Memory, after: &Memory) -> BTreeSet<IpAddr> {
    let lost = before.services.iter().flat_map(|(name, held)| {
        let kept = after.services.get(name).map_or(&[][..], |status| &status.ips);
        held.ips.iter().filter(|ip| !kept.contains(ip))
    });
    lost.copied().collect()
}

/// A Service that is to get what another still shows.
struct Waiting<'a> {
    name: &'a ObjectName,
    service: &'a Service,
    status: &'a ServiceStatus,
    awaited: Vec<IpAddr>,
}

/// If all wait for one another, the first that others wait for gives up what it has before it gets anything new.
fn break_a_circle(waiting: &[Waiting<'_>], now: Timestamp) -> Option<StatusWrite> {
    let awaited: BTreeSet<IpAddr> = waiting.iter().flat_map(|it| &it.awaited).copied().collect();
    let first = waiting.iter().find(|it| service_ips(it.service).iter().any(|ip| awaited.contains(ip)))?;
    let ips = first.status.ips.iter().copied().filter(|ip| !first.awaited.contains(ip)).collect();
    let status = ServiceStatus { ips, pool: None };
    service_write(first.name, first.service, &status, &[], now)
}

/// Whether an event is told by the condition too, which then remembers that it was told.
pub(super) fn is_about_assignment(event: &Event) -> bool {
    let reasons = ["IPAllocated", "AllocationFailed", "AdditionalAssignFailed", "LoadBalancerFailed"];
    event.object.kind == Kind::Service && reasons.contains(&event.reason)
}

fn service_write(
    name: &ObjectName,
    service: &Service,
    status: &ServiceStatus,
    events: &[&Event],
    now: Timestamp,
) -> Option<StatusWrite> {
    let condition = condition(status, events);
    let wanted = Wanted { ips: status.ips.clone(), pool: status.pool.clone(), condition, ..Wanted::default() };
    let observed = observed_condition(service);
    let moved = service_ips(service) != wanted.ips;
    let said = observed.as_ref().map(|(condition, _)| condition) == wanted.condition.as_ref();
    let labelled = wanted.pool.is_none() || pool(service) == wanted.pool;
    if !moved && said && labelled {
        return None;
    }
    let is_news = |event: &&&Event| match event.reason {
        "IPAllocated" => moved,
        _ => !said,
    };
    let lost: Vec<IpAddr> = service_ips(service).into_iter().filter(|ip| !wanted.ips.contains(ip)).collect();
    let quoted: Vec<String> = lost.iter().map(|ip| format!("\"{ip}\"")).collect();
    let cleared = (!lost.is_empty()).then(|| clear_assignment(name, format!("Took back IP [{}]", quoted.join(" "))));
    let since = observed.filter(|(old, _)| wanted.condition.as_ref().is_some_and(|new| new.status == old.status));
    let since = since.and_then(|(_, since)| since).unwrap_or(now);
    Some(StatusWrite {
        object: ObjectRef::new(Kind::Service, name.clone()),
        how: How::Status,
        body: service_body(name, service, &wanted, since),
        wanted,
        events: cleared.into_iter().chain(events.iter().filter(is_news).map(|event| (*event).clone())).collect(),
    })
}

/// Drops what we said of a Service that is no `LoadBalancer` any more. The server clears its addresses itself; the
/// condition tells that there is something of ours, and had some.
fn release(name: &ObjectName, service: &Service, speaker: &Report) -> Option<StatusWrite> {
    let balanced = service.spec.as_ref().is_some_and(|spec| spec.type_.as_deref() == Some("LoadBalancer"));
    if balanced || speaker.services.contains_key(name) {
        return None;
    }
    let (condition, _) = observed_condition(service)?;
    let message = "Took back the IP of a Service that is no LoadBalancer any more".to_owned();
    let events = (condition.status == "True").then(|| clear_assignment(name, message));
    Some(StatusWrite {
        object: ObjectRef::new(Kind::Service, name.clone()),
        how: How::Status,
        wanted: Wanted::default(),
        body: bare_body(name, service),
        events: events.into_iter().collect(),
    })
}

/// What is told when addresses are taken back, with `MetalLB`'s reason.
fn clear_assignment(name: &ObjectName, message: String) -> Event {
    let object = ObjectRef::new(Kind::Service, name.clone());
    Event { object, severity: None, reason: "ClearAssignment", message }
}

/// The object and nothing about it.
fn bare_body(name: &ObjectName, service: &Service) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        // A Service of that name that is not the one we know gets nothing.
        "metadata": { "namespace": &*name.namespace, "name": &*name.name, "uid": service.metadata.uid },
    })
}

fn service_body(name: &ObjectName, service: &Service, wanted: &Wanted, since: Timestamp) -> Value {
    let ips: Vec<Value> = wanted.ips.iter().map(|ip| json!({ "ip": ip, "ipMode": "VIP" })).collect();
    let mut body = bare_body(name, service);
    body["status"] = json!({ "loadBalancer": { "ingress": ips } });
    if let Some(pool) = &wanted.pool {
        body["metadata"]["annotations"] = json!({ POOL_ANNOTATION: pool.as_str() });
    }
    if let Some(Condition { status, reason, message }) = &wanted.condition {
        body["status"]["conditions"] = json!([{
            "type": CONDITION, "status": status, "reason": reason, "message": message,
            "lastTransitionTime": since.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        }]);
    }
    body
}

/// What to say of a Service: the gravest that was told, for one with addresses that it has them.
fn condition(status: &ServiceStatus, events: &[&Event]) -> Option<Condition> {
    let has = !status.ips.is_empty();
    let event = events.iter().max_by_key(|event| event.severity.is_some());
    let event = event.filter(|event| has || event.severity.is_some())?;
    let status = if has { "True" } else { "False" };
    Some(Condition { status, reason: event.reason.to_owned(), message: event.message.clone() })
}

fn observed_condition(service: &Service) -> Option<(Condition, Option<Timestamp>)> {
    let conditions = service.status.as_ref()?.conditions.as_ref()?;
    let found = conditions.iter().find(|condition| condition.type_ == CONDITION)?;
    let status = if found.status == "True" { "True" } else { "False" };
    let condition = Condition { status, reason: found.reason.clone(), message: found.message.clone() };
    Some((condition, Some(found.last_transition_time.0)))
}

/// The addresses that a Service shows; an entry without one, such as a host name, counts as none.
fn service_ips(service: &Service) -> Vec<IpAddr> {
    let entries = service.status.as_ref().and_then(|status| status.load_balancer.as_ref()?.ingress.as_ref());
    entries.into_iter().flatten().filter_map(|entry| entry.ip.as_ref()?.parse().ok()).collect()
}

fn pool(service: &Service) -> Option<PoolName> {
    PoolName::new(service.metadata.annotations.as_ref()?.get(POOL_ANNOTATION)?)
}

/// A Secret is written only in place of the very version that the wish was made for.
fn secret_write(name: &ObjectName, found: Option<&Arc<Secret>>, wanted: &SecretWrite) -> Option<StatusWrite> {
    let found = found.map(AsRef::as_ref);
    if found.is_some_and(|found| wanted.is_done(found)) || !wanted.may_replace(found) {
        return None;
    }
    let (how, body) = match found {
        None => {
            let mut body = serde_json::to_value(wanted.object(name, None)).ok()?;
            (body["apiVersion"], body["kind"]) = (json!("v1"), json!("Secret"));
            (How::Create, body)
        }
        Some(found) => {
            let object = serde_json::to_value(wanted.object(name, None)).ok()?;
            let mut data = object["data"].clone();
            // A merge patch removes what it calls null.
            for gone in found.data.iter().flat_map(|data| data.keys()).filter(|key| !wanted.data.contains_key(*key)) {
                data[gone] = Value::Null;
            }
            let meta = json!({
                "uid": found.metadata.uid, "resourceVersion": found.metadata.resource_version,
                "labels": wanted.labels, "annotations": wanted.annotations,
            });
            (How::Merge, json!({ "metadata": meta, "data": data }))
        }
    };
    let object = ObjectRef::new(Kind::Secret, name.clone());
    let wanted = Wanted { secret: Some(Box::new(wanted.clone())), ..Wanted::default() };
    Some(StatusWrite { object, how, wanted, body, events: Vec::new() })
}

fn ingress_write(name: &ObjectName, ingress: &Ingress, wanted: &[IngressAddress]) -> Option<StatusWrite> {
    let wanted: BTreeSet<&IngressAddress> = wanted.iter().collect();
    if IngressAddress::shown(ingress).is_some_and(|shown| shown.iter().eq(wanted.iter().copied())) {
        return None;
    }
    let entries: Vec<Value> = wanted.iter().map(|address| ingress_entry(address)).collect();
    let body = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
        "metadata": { "namespace": &*name.namespace, "name": &*name.name, "uid": ingress.metadata.uid },
        "status": { "loadBalancer": { "ingress": entries } },
    });
    let wanted = Wanted { shown: wanted.into_iter().cloned().collect(), ..Wanted::default() };
    let object = ObjectRef::new(Kind::Ingress, name.clone());
    Some(StatusWrite { object, how: How::Status, wanted, body, events: Vec::new() })
}

fn ingress_entry(address: &IngressAddress) -> Value {
    match address {
        IngressAddress::Ip(ip) => json!({ "ip": ip }),
        IngressAddress::Hostname(name) => json!({ "hostname": &**name }),
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
