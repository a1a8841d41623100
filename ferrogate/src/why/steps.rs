//! The way of a Service to its clients, step by step, and where it ends.
//!
//! ```text
//! service ──> assign ──> elect ──> announce ──> moves ──────> heard ──> serve
//! it asks     it has     one node  that node    connections   nobody    somebody
//!             addresses  owns them says so      outlive that  objects   answers
//! ```
//!
//! Pure: a function of what the running instance shows of itself. A step after one that is wrong is looked at all the
//! same where it can be, since two things may be wrong at once.

use config::diagnostic::Problem;
use config::object::{Kind, ObjectName, ObjectRef};
use config::report::{Event, Report, VipEntry, VipState};
use config::snapshot::Snapshot;
use k8s_openapi::api::core::v1::Service;
use serde::Serialize;

/// How far one step got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    /// As it should be.
    Ok,
    /// Not as it should be; the text says what and what to do.
    Wrong,
    /// It cannot be said from here.
    Unknown,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Step {
    /// Its name.
    #[serde(rename = "step")]
    pub(crate) name: &'static str,
    /// How far it got.
    pub(crate) state: State,
    /// What was found, for people.
    pub(crate) text: String,
}

/// The whole way of one Service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Why {
    /// `namespace/name`.
    pub(crate) service: String,
    /// Whether no step is wrong.
    pub(crate) healthy: bool,
    /// The steps, in their order, up to where the next makes no sense.
    pub(crate) steps: Vec<Step>,
}

/// What the running instance knows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known<'a> {
    /// The objects.
    pub(crate) snapshot: Option<&'a Snapshot>,
    /// The addresses of Services.
    pub(crate) vips: &'a [VipEntry],
    /// What is told of objects now.
    pub(crate) report: Option<&'a Report>,
    /// What is wrong.
    pub(crate) problems: &'a [Problem],
    /// The name of this node.
    pub(crate) node: &'a str,
}

/// Walks the way of the Service `name`.
pub(crate) fn explain(name: &ObjectName, known: Known<'_>) -> Why {
    let steps = walk(name, known);
    let healthy = steps.iter().all(|step| step.state != State::Wrong);
    Why { service: name.to_string(), healthy, steps }
}

fn walk(name: &ObjectName, known: Known<'_>) -> Vec<Step> {
    let Some(snapshot) = known.snapshot else {
        return vec![step("service", State::Unknown, "no objects were read yet; see /readyz for what is missing")];
    };
    let Some(service) = snapshot.services.get(name) else {
        return vec![step("service", State::Wrong, format!("there is no Service {name}; check namespace and name"))];
    };
    let entry = known.vips.iter().find(|vip| *vip.namespace == *name.namespace && *vip.service == *name.name);
    let Some(entry) = entry else { return vec![unasked(service)] };
    let mut steps = vec![step("service", State::Ok, "of type LoadBalancer, and ours to serve"), assign(entry)];
    if entry.ips.is_empty() {
        return steps;
    }
    steps.extend([elect(entry, known.node), announce(entry, known.node)]);
    steps.extend(moves(entry));
    steps.extend(heard(name, entry, known));
    steps.push(serve(name, snapshot));
    steps
}

fn step(name: &'static str, state: State, text: impl Into<String>) -> Step {
    Step { name, state, text: text.into() }
}

/// Why a Service that exists has no entry.
fn unasked(service: &Service) -> Step {
    let spec = service.spec.as_ref();
    let kind = spec.and_then(|spec| spec.type_.as_deref()).unwrap_or("ClusterIP");
    let class = spec.and_then(|spec| spec.load_balancer_class.as_deref());
    let text = match (kind, class) {
        ("LoadBalancer", Some(class)) => format!(
            "its loadBalancerClass is {class}, which this instance does not serve; drop it, or start the speaker with \
             --lb-class {class}"
        ),
        ("LoadBalancer", None) => {
            "this instance does not serve Services without a loadBalancerClass (it was started with --lb-class), or \
             runs no speaker"
                .to_owned()
        }
        (kind, _) => format!("it is of type {kind}; only Services of type LoadBalancer get addresses"),
    };
    step("service", State::Wrong, text)
}

fn assign(entry: &VipEntry) -> Step {
    let ips: Vec<String> = entry.ips.iter().map(ToString::to_string).collect();
    let pool = entry.pool.as_ref().map(|pool| format!(", from pool {pool}")).unwrap_or_default();
    if ips.is_empty() {
        return step("assign", State::Wrong, reason(entry));
    }
    step("assign", State::Ok, format!("{}{pool}", ips.join(" and ")))
}

fn elect(entry: &VipEntry, node: &str) -> Step {
    let why = wanted(entry);
    match (&entry.node, entry.state) {
        (Some(owner), _) if owner == node => step("elect", State::Ok, format!("this node, {owner}, owns it{why}")),
        (Some(owner), _) => step("elect", State::Ok, format!("node {owner} owns it{why}")),
        (None, _) => step("elect", State::Unknown, "no node is known to own it"),
    }
}

/// Where somebody wants it, and who.
fn wanted(entry: &VipEntry) -> String {
    let Some(wanted) = &entry.moving.wanted_node else { return String::new() };
    let command = entry.moving.wanted_by == Some("move");
    let who = if command { "`ferrogate move`" } else { "its annotation preferred-node" };
    let back = if command { "; --auto takes that back" } else { "" };
    if entry.node.as_ref() == Some(wanted) {
        format!(", where {who} put it{back}")
    } else {
        format!("; {who} wants it on {wanted}, which takes it as soon as it can{back}")
    }
}

/// What becomes of connections when it moves, where there is something to say.
fn moves(entry: &VipEntry) -> Option<Step> {
    let on = &entry.moving.connections_on;
    if !on.is_empty() {
        let text = format!("connections from before it came here are sent on to {}", on.join(" and "));
        return Some(step("moves", State::Ok, text));
    }
    let why = entry.moving.connections_end.as_ref()?;
    Some(step("moves", State::Unknown, format!("open connections end when it moves to this node: {why}")))
}

fn announce(entry: &VipEntry, node: &str) -> Step {
    match (entry.state, &entry.node) {
        (VipState::Announcing, _) => {
            let on = entry.interface.as_deref().unwrap_or_default();
            let besides = entry.reason.as_ref().map(|reason| format!("; {reason}")).unwrap_or_default();
            let state = if besides.is_empty() { State::Ok } else { State::Wrong };
            step("announce", state, format!("on {on}{besides}"))
        }
        (_, Some(owner)) if owner != node => {
            step("announce", State::Unknown, format!("ask node {owner}, which announces it: ferrogate why there"))
        }
        (VipState::Assigned | VipState::Pending, _) => step("announce", State::Wrong, reason(entry)),
    }
}

fn reason(entry: &VipEntry) -> String {
    entry.reason.clone().unwrap_or_else(|| "no reason is known; this is a bug".to_owned())
}

/// What others on the LAN, or the kernel of this node, do against it.
fn heard(name: &ObjectName, entry: &VipEntry, known: Known<'_>) -> Vec<Step> {
    let this = ObjectRef::new(Kind::Service, name.clone());
    let node = ObjectRef::new(Kind::Node, ObjectName::cluster(known.node));
    let events =
        |of: &ObjectRef| known.report.map(|report| [report.events.of(of), report.local_events.of(of)].concat());
    let told: Vec<Event> = [&this, &node].into_iter().filter_map(events).flatten().collect();
    let told = told.iter().filter(|event| HEARD.contains(&event.reason));
    let trapped =
        known.problems.iter().filter(|problem| problem.object.as_ref().is_some_and(|it| it.kind == Kind::Node));
    let trapped = trapped.filter(|_| entry.state == VipState::Announcing);
    let texts: Vec<&str> =
        told.map(|event| event.message.as_str()).chain(trapped.map(|problem| problem.message.as_str())).collect();
    // What is told of a node is an event and a problem.
    let texts: std::collections::BTreeSet<&str> = texts.into_iter().collect();
    if texts.is_empty() {
        let text = "nobody else on the LAN claims it, as far as was heard; the settings of this node do not hide it";
        return vec![step("heard", State::Ok, text)];
    }
    texts.into_iter().map(|text| step("heard", State::Wrong, text)).collect()
}

/// Reasons of events that tell what was heard of an address on the LAN.
const HEARD: [&str; 2] = ["AddressConflict", "NotHeard"];

fn serve(name: &ObjectName, snapshot: &Snapshot) -> Step {
    let slices = snapshot.endpoint_slices.iter().filter(|(slice, object)| {
        let labels = object.metadata.labels.as_ref();
        let service = labels.and_then(|labels| labels.get("kubernetes.io/service-name"));
        slice.namespace == name.namespace && service.is_some_and(|service| **service == *name.name)
    });
    let endpoints = slices.flat_map(|(_, slice)| slice.endpoints.iter());
    let ready = endpoints.filter(|it| it.conditions.as_ref().and_then(|it| it.ready).unwrap_or(true)).count();
    match ready {
        0 if is_served_here(snapshot, name) => step("serve", State::Ok, "the ingress of this appliance answers"),
        0 => {
            let text = "no endpoint of it is ready: clients reach the node, and nobody answers; look at its Pods";
            step("serve", State::Wrong, text)
        }
        ready => step("serve", State::Ok, crate::problems::plural(ready, "ready endpoint")),
    }
}

/// Whether a Service without endpoints is meant to be: one without a selector, whose addresses lead to our listeners.
fn is_served_here(snapshot: &Snapshot, name: &ObjectName) -> bool {
    let spec = snapshot.services.get(name).and_then(|service| service.spec.as_ref());
    spec.is_some_and(|spec| spec.selector.as_ref().is_none_or(std::collections::BTreeMap::is_empty))
}

#[cfg(test)]
#[path = "steps_tests.rs"]
mod tests;
