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
//! [`Compiled`] remembers what it was made of. Given to the next call, what differs between the two snapshots is found by
//! pointer, and only the Ingresses, hosts and names that this touches are looked at: one changed object among 10 000
//! costs one host. The result is that of compiling afresh.
//!
//! Pure; the time and the default certificate are arguments.

mod backends;
mod class;
mod finding;
mod found;
mod global;
mod hosts;
mod identities;
mod material;
mod pairs;
mod plan;
mod publish;
mod step;
mod streams;
mod tls;

use std::collections::BTreeSet;
use std::sync::Arc;

use config::object::ObjectName;
use config::report::{Certificates, Report, Routes};
use config::shared::SharedMap;
use config::snapshot::Snapshot;
use jiff::Timestamp;

use crate::backend::topology::Locality;
use crate::backend::{Forbidden, Standpoint};
use crate::certs::Certificate;
use crate::host::HostMatch;
use crate::resolve::Answers;
use crate::routes::RouteTable;
use crate::streams::Streams;

use backends::HeldBackends;
use found::Findings;
use global::HeldGlobal;
use hosts::HeldHost;
use identities::HeldIdentities;
use material::Material;
use pairs::Pairs;
use plan::IngressPlan;
use publish::{HeldStatus, Published};
use streams::HeldStreams;
use tls::HeldSecrets;

pub use publish::Publish;
pub use streams::StreamMaps;

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
    /// The `ConfigMap` of the global settings.
    pub config_map: ObjectName,
    /// Which `ConfigMap`s say where ports lead that are not for HTTP.
    pub streams: StreamMaps,
}

/// A table, and what is to be told about it.
#[derive(Debug)]
pub struct Compiled {
    /// Answers every request and handshake.
    pub table: Arc<RouteTable>,
    /// Status, events and problems.
    pub report: Report,
    /// Every rule, by host and precedence.
    pub routes: Routes,
    /// Every certificate that some name is shown, by Secret; the generated one last.
    pub certificates: Certificates,
    /// Where ports lead that are not for HTTP.
    pub streams: Arc<Streams>,
    /// The names that DNS is to be asked for.
    pub names: BTreeSet<Arc<str>>,
    memory: Memory,
}

impl Compiled {
    /// Whether an Ingress is served by us.
    #[must_use]
    pub fn serves(&self, ingress: &ObjectName) -> bool {
        self.memory.plans.contains_key(ingress)
    }

    /// The annotations of an Ingress that are for an ingress controller.
    #[must_use]
    pub fn annotations(&self, ingress: &ObjectName) -> std::collections::BTreeMap<String, String> {
        self.memory.plans.get(ingress).map(|plan| plan.written()).unwrap_or_default()
    }
}

/// The Ingresses that are ours, read.
type Plans = SharedMap<ObjectName, Arc<IngressPlan>>;

/// What a table was made of, for the next one.
#[derive(Clone, Debug, Default)]
struct Memory {
    /// The snapshot it is of.
    seen: Snapshot,
    /// The options it was made with; `None` if it was not made.
    options: Option<CompileOptions>,
    plans: Plans,
    /// What annotations name; an Ingress that names nothing is not listed.
    materials: SharedMap<ObjectName, Arc<Material>>,
    /// The Ingresses that name a Secret.
    named_by: Pairs<ObjectName, ObjectName>,
    /// The Ingresses that speak of a host.
    spoken_of_by: Pairs<HostMatch, ObjectName>,
    /// The Ingresses that may have a certificate for a host.
    certified_by: Pairs<HostMatch, ObjectName>,
    backends: HeldBackends,
    hosts: SharedMap<HostMatch, Arc<HeldHost>>,
    secrets: HeldSecrets,
    identities: HeldIdentities,
    found: Findings,
    status: HeldStatus,
    global: HeldGlobal,
    streams: HeldStreams,
}

/// Compiles a snapshot; `default` is shown to clients that ask for no name we have a certificate for.
///
/// Certificates are judged at `now`; `answers` are what DNS has said about [`Compiled::names`]. `previous` saves work and
/// keeps certificates whose Secret broke or went away.
#[must_use]
pub fn compile(
    snapshot: &Snapshot,
    answers: &Answers,
    options: &CompileOptions,
    default: &Arc<Certificate>,
    previous: Option<&Compiled>,
    now: Timestamp,
) -> Compiled {
    let mut general = Vec::new();
    let published = Published::new(snapshot, &options.publish, &mut general);
    let here = standpoint(snapshot, options, published.as_ref());
    let mut step = step::Step::new(snapshot, options, previous, now);
    step.read_settings(&mut general);
    step.read_ingresses();
    step.judge_ingresses();
    let certs = step.choose_certificates(default);
    let (changes, names) = step.merge_hosts(answers, here, &mut general);
    step.set_status(published.as_ref());
    let front = step.front();
    let events = step.tell(general);
    let table = match previous {
        Some(previous) => previous.table.with(changes, Arc::clone(&certs)),
        None => RouteTable::empty(Arc::clone(&certs)).with(changes, Arc::clone(&certs)),
    };
    step.finish(Arc::new(table.meeting(front)), events, names)
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

#[cfg(test)]
mod tests;
