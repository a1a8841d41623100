//! From a snapshot to the one table that answers everything, and to what we report.
//!
//! ```text
//! Snapshot ─> class: which Ingresses are ours ─> plan: each read once ─┬─> hosts: routes per host ─┐
//!             backends: Service ports to endpoints ────────────────────┘                          ├─> RouteTable, Report
//!             tls: Secrets to certificates, a certificate per name ───────────────────────────────┘
//! ```
//!
//! One bad object spoils itself only: a rule without a backend answers 503, a broken Secret leaves its last good
//! certificate in use, and each says so in the report, at its field.
//!
//! When several Ingresses define one host, they are merged in this order: oldest `creationTimestamp` first (those
//! without one, as manifests are, come last), ties by *descending* `namespace/name`, as ingress-nginx does it. The
//! first rule for a path and path type is used, a later one is reported; the default backend of a host is that of the
//! first Ingress that defines it. Nothing depends on the order in which objects arrive.
//!
//! [`Compiled`] remembers what it was made of. Given to the next call, whatever has the same inputs is taken over by
//! pointer, so one changed object among 10 000 costs one host.
//!
//! Pure; the time and the default certificate are arguments.

mod backends;
mod class;
mod finding;
mod hosts;
mod identities;
mod material;
mod plan;
mod publish;
mod tls;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use config::object::{Kind, ObjectName, ObjectRef};
use config::report::{CertificateEntry, Event, Report, RouteEntry};
use config::snapshot::Snapshot;
use jiff::Timestamp;

use crate::backend::topology::Locality;
use crate::backend::{Forbidden, Standpoint};
use crate::certs::Certificate;
use crate::host::HostMatch;
use crate::resolve::Answers;
use crate::routes::RouteTable;
use crate::summary;

use backends::{Backends, HeldBackends};
use class::Classes;
use finding::{Finding, Placed, place};
use hosts::HeldHosts;
use identities::{HeldIdentities, Identities};
use material::Material;
use plan::IngressPlan;
use publish::Published;
use tls::HeldSecrets;

pub use publish::Publish;

/// What the operator chose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompileOptions {
    /// Our value of the annotation `kubernetes.io/ingress.class`.
    pub ingress_class: String,
    /// The `spec.controller` of the classes that are ours.
    pub controller: String,
    /// Whether Ingresses without a class are ours.
    pub watch_without_class: bool,
    /// Which addresses Ingresses show; those of a load balancer are refused as endpoints.
    pub publish: Publish,
    /// Whether endpoints may be loopback addresses.
    pub loopback_endpoints: bool,
    /// The Node we run on, for the hints of `EndpointSlices`; `None` to ignore them.
    pub node: Option<Arc<str>>,
    /// Whether Services of type `ExternalName` are served.
    pub external_names: bool,
}

/// A table, and what is to be told about it.
#[derive(Debug)]
pub struct Compiled {
    /// Answers every request and handshake.
    pub table: Arc<RouteTable>,
    /// Status, events and problems.
    pub report: Report,
    /// Every rule, by host and precedence.
    pub routes: Vec<RouteEntry>,
    /// Every certificate that some name is shown, by Secret; the generated one last.
    pub certificates: Vec<CertificateEntry>,
    /// The names that DNS is to be asked for.
    pub names: BTreeSet<Arc<str>>,
    memory: Memory,
}

/// What a table was made of, for the next one.
#[derive(Debug, Default)]
struct Memory {
    plans: HashMap<ObjectName, Arc<IngressPlan>>,
    materials: HashMap<ObjectName, Arc<Material>>,
    backends: HeldBackends,
    hosts: HeldHosts,
    secrets: HeldSecrets,
    identities: HeldIdentities,
    placed: Placed,
    /// Ingresses that were ours and still show our addresses.
    left: BTreeSet<ObjectName>,
}

/// Compiles a snapshot; `default` is shown to clients that ask for no name we have a certificate for.
///
/// Certificates are judged at `now`; `answers` are what DNS has said about [`Compiled::names`]. `previous` saves work and keeps certificates whose Secret broke or went away.
#[must_use]
pub fn compile(
    snapshot: &Snapshot,
    answers: &Answers,
    options: &CompileOptions,
    default: &Arc<Certificate>,
    previous: Option<&Compiled>,
    now: Timestamp,
) -> Compiled {
    let nothing = Memory::default();
    let memory = previous.map_or(&nothing, |previous| &previous.memory);
    let mut findings = Vec::new();

    let published = Published::new(snapshot, &options.publish, &mut findings);
    let mut identities = Identities::new(snapshot, &memory.identities);
    let plans = plans(snapshot, options, memory, &mut identities, &mut findings);
    let here = standpoint(snapshot, options, published.as_ref());
    let mut backends = Backends::new(snapshot, answers, here, &memory.backends);
    let materials = materials(&plans, snapshot, memory);
    findings.extend(materials.values().flat_map(|material| material.findings.iter().cloned()));
    let hosts = hosts::build(&plans, &materials, &mut backends, &memory.hosts, &mut findings);
    let (certs, secrets) = tls::build(&plans, snapshot, default, &memory.secrets, now, &mut findings);

    let (backends, names) = backends.finish();
    let certs = Arc::new(certs);
    let table = match previous {
        Some(previous) => previous.table.with(hosts::changes(&hosts, &memory.hosts), Arc::clone(&certs)),
        None => RouteTable::empty(Arc::clone(&certs)).with(hosts::changes(&hosts, &memory.hosts), Arc::clone(&certs)),
    };
    let status = published.map(|published| published.status(snapshot, &plans, memory));
    let (ingresses, left) = status.unwrap_or_default();
    findings.sort();
    findings.dedup();
    let (problems, placed) = place(&findings, snapshot, &memory.placed);
    Compiled {
        table: Arc::new(table),
        report: Report {
            generation: snapshot.generation,
            ingresses,
            events: findings.iter().map(Finding::event).chain(plans.iter().map(|plan| scheduled(plan))).collect(),
            problems,
            ..Report::default()
        },
        routes: summary::routes(by_precedence(&hosts).into_values().flat_map(|host| host.table.routes())),
        certificates: summary::certificates(&certs),
        names,
        memory: Memory {
            plans: plans.into_iter().map(|plan| (plan.name.clone(), plan)).collect(),
            materials,
            backends,
            hosts,
            secrets,
            identities: identities.into_held(),
            placed,
            left,
        },
    }
}

/// The Ingresses that are ours, read, in the order in which they are merged.
fn plans(
    snapshot: &Snapshot,
    options: &CompileOptions,
    memory: &Memory,
    identities: &mut Identities<'_>,
    findings: &mut Vec<Finding>,
) -> Vec<Arc<IngressPlan>> {
    let classes = Classes::new(&snapshot.ingress_classes, options);
    let mut plans = Vec::new();
    for (name, ingress) in snapshot.ingresses.iter() {
        match classes.owns(name, ingress) {
            Ok(true) => plans.push(IngressPlan::of(name, ingress, identities, memory.plans.get(name))),
            Ok(false) => {}
            Err(finding) => findings.push(finding),
        }
    }
    plans.sort_by(|one, other| one.rank().cmp(&other.rank()));
    findings.extend(plans.iter().flat_map(|plan| plan.findings.iter().cloned()));
    plans
}

/// What the annotations of each Ingress name; an Ingress that names nothing is not listed.
fn materials(plans: &[Arc<IngressPlan>], snapshot: &Snapshot, memory: &Memory) -> HashMap<ObjectName, Arc<Material>> {
    let nothing = Arc::default();
    let material = |plan: &Arc<IngressPlan>| {
        let previous = memory.plans.get(&plan.name).zip(memory.materials.get(&plan.name));
        let material = Material::of(plan, snapshot, previous, &nothing);
        (!Arc::ptr_eq(&material, &nothing)).then(|| (plan.name.clone(), material))
    };
    plans.iter().filter_map(material).collect()
}

/// That an Ingress is ours, in the words of ingress-nginx: `kubectl describe` says at a glance who serves it.
fn scheduled(plan: &IngressPlan) -> Event {
    let object = ObjectRef::new(Kind::Ingress, plan.name.clone());
    Event { object, severity: None, reason: "Sync", message: "Scheduled for sync".to_owned() }
}

fn standpoint(snapshot: &Snapshot, options: &CompileOptions, published: Option<&Published>) -> Standpoint {
    Standpoint {
        forbidden: Forbidden {
            allow_loopback: options.loopback_endpoints,
            own: published.map(|published| published.own.clone()).unwrap_or_default(),
        },
        external_names: options.external_names,
        locality: options.node.as_ref().map(|node| Locality::of(node, snapshot)).unwrap_or_default(),
    }
}

/// The hosts in the order in which they are asked.
fn by_precedence(hosts: &HeldHosts) -> BTreeMap<&HostMatch, &hosts::HeldHost> {
    hosts.iter().collect()
}

#[cfg(test)]
mod tests;
