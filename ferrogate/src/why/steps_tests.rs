//! What is said of Services in every state.

use std::collections::BTreeMap;
use std::sync::Arc;

use config::diagnostic::Severity;
use config::object::FieldPath;
use k8s_openapi::api::core::v1::ServiceSpec;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};

use super::*;

fn service(kind: &str, class: Option<&str>) -> Service {
    let selector = Some(BTreeMap::from([("app".to_owned(), "web".to_owned())]));
    let (type_, load_balancer_class) = (Some(kind.to_owned()), class.map(str::to_owned));
    Service {
        spec: Some(ServiceSpec { type_, load_balancer_class, selector, ..ServiceSpec::default() }),
        ..Service::default()
    }
}

fn snapshot(service: Service, endpoints: usize) -> Snapshot {
    let name = ObjectName::new("default", "web");
    let mut slice = EndpointSlice { endpoints: vec![Endpoint::default(); endpoints], ..EndpointSlice::default() };
    slice.metadata.labels = Some(BTreeMap::from([("kubernetes.io/service-name".to_owned(), "web".to_owned())]));
    Snapshot {
        services: Arc::new([(name, Arc::new(service))].into()),
        endpoint_slices: Arc::new([(ObjectName::new("default", "web-1"), Arc::new(slice))].into()),
        ..Snapshot::default()
    }
}

fn entry(state: VipState, node: Option<&str>, reason: Option<&str>) -> VipEntry {
    let has = state != VipState::Pending;
    VipEntry {
        namespace: "default".into(),
        service: "web".into(),
        ips: if has { vec!["192.0.2.10".parse().unwrap()] } else { Vec::new() },
        pool: has.then(|| "lan".into()),
        state,
        reason: reason.map(str::to_owned),
        node: node.map(str::to_owned),
        interface: (state == VipState::Announcing).then(|| "eth0".into()),
        moving: config::report::VipMoves::default(),
    }
}

/// The steps as `name state: text`.
fn shown(snapshot: &Snapshot, vips: &[VipEntry], events: &[Event], problems: &[Problem]) -> (bool, Vec<String>) {
    let report = Report { local_events: events.iter().cloned().collect(), ..Report::default() };
    let known = Known { snapshot: Some(snapshot), vips, report: Some(&report), problems, node: "node-1" };
    let why = explain(&ObjectName::new("default", "web"), known);
    (why.healthy, why.steps.iter().map(|it| format!("{} {:?}: {}", it.name, it.state, it.text)).collect())
}

#[test]
fn a_service_that_works_is_followed_to_its_endpoints() {
    let vips = [entry(VipState::Announcing, Some("node-1"), None)];
    let (healthy, steps) = shown(&snapshot(service("LoadBalancer", None), 2), &vips, &[], &[]);
    assert!(healthy, "{steps:?}");
    for (at, expected) in [
        "service Ok: of type LoadBalancer, and ours to serve",
        "assign Ok: 192.0.2.10, from pool lan",
        "elect Ok: this node, node-1, owns it",
        "announce Ok: on eth0",
        "heard Ok: nobody else on the LAN claims it",
        "serve Ok: 2 ready endpoints",
    ]
    .iter()
    .enumerate()
    {
        assert!(steps[at].starts_with(expected), "{steps:?}");
    }
}

#[test]
fn what_is_wrong_is_said_at_its_step() {
    let good = service("LoadBalancer", None);
    let announcing = entry(VipState::Announcing, Some("node-1"), None);
    let no_subnet = "no interface is on a subnet with 192.0.2.10";
    for (service, vip, endpoints, expected) in [
        (service("ClusterIP", None), None, 1, "service Wrong: it is of type ClusterIP"),
        (service("LoadBalancer", Some("x.io/y")), None, 1, "service Wrong: its loadBalancerClass is x.io/y"),
        (good.clone(), None, 1, "service Wrong: this instance does not serve Services without"),
        (good.clone(), Some(entry(VipState::Pending, None, Some("pool full"))), 1, "assign Wrong: pool full"),
        (good.clone(), Some(entry(VipState::Assigned, None, Some(no_subnet))), 1, "announce Wrong: no interface"),
        (good.clone(), Some(announcing.clone()), 0, "serve Wrong: no endpoint of it is ready"),
    ] {
        let vips: Vec<VipEntry> = vip.into_iter().collect();
        let (healthy, steps) = shown(&snapshot(service, endpoints), &vips, &[], &[]);
        assert!(!healthy && steps.iter().any(|step| step.starts_with(expected)), "{expected}: {steps:?}");
        assert_eq!(steps.iter().filter(|step| step.contains(" Wrong: ")).count(), 1, "{steps:?}");
    }
}

#[test]
fn a_service_of_another_node_is_asked_for_there() {
    let vips = [entry(VipState::Assigned, Some("node-2"), Some("node node-2 announces it"))];
    let (healthy, steps) = shown(&snapshot(service("LoadBalancer", None), 1), &vips, &[], &[]);
    assert!(healthy, "{steps:?}");
    assert!(steps.contains(&"elect Ok: node node-2 owns it".to_owned()), "{steps:?}");
    assert!(steps.iter().any(|step| step.starts_with("announce Unknown: ask node node-2")), "{steps:?}");
}

#[test]
fn who_else_claims_the_address_and_what_hides_it_are_said() {
    let vips = [entry(VipState::Announcing, Some("node-1"), None)];
    let object = ObjectRef::new(Kind::Service, ObjectName::new("default", "web"));
    let message = "02:00:00:00:00:09 also claims 192.0.2.10".to_owned();
    let event = Event { object: object.clone(), severity: Some(Severity::Warning), reason: "AddressConflict", message };
    let other = Event { reason: "nodeAssigned", ..event.clone() };
    let node = ObjectRef::new(Kind::Node, ObjectName::cluster("node-1"));
    let trap = Problem::warning(node, FieldPath::root(), "kube-proxy runs in IPVS mode without strictARP");
    let (healthy, steps) = shown(&snapshot(service("LoadBalancer", None), 1), &vips, &[other, event], &[trap]);
    assert!(!healthy);
    let heard: Vec<&String> = steps.iter().filter(|step| step.starts_with("heard Wrong: ")).collect();
    assert_eq!(heard.len(), 2, "{steps:?}");
    assert!(heard[0].contains("also claims") && heard[1].contains("strictARP"), "{heard:?}");
}

#[test]
fn a_service_that_does_not_exist_and_objects_that_were_not_read_are_told_apart() {
    let known = Known { snapshot: None, vips: &[], report: None, problems: &[], node: "node-1" };
    let name = ObjectName::new("default", "other");
    assert_eq!(explain(&name, known).steps[0].state, State::Unknown);
    let empty = Snapshot::default();
    let why = explain(&name, Known { snapshot: Some(&empty), ..known });
    assert!(!why.healthy && why.steps[0].text.contains("there is no Service default/other"), "{why:?}");
}

#[test]
fn who_moved_it_where_and_what_becomes_of_connections_is_said() {
    let (owned, elsewhere) = ((VipState::Announcing, "node-1"), (VipState::Assigned, "node-2"));
    for ((state, owner), by, expected) in [
        (owned, "move", "elect Ok: this node, node-1, owns it, where `ferrogate move` put it; --auto takes that back"),
        (owned, "annotation", "elect Ok: this node, node-1, owns it, where its annotation preferred-node put it"),
        (
            elsewhere,
            "move",
            "elect Ok: node node-2 owns it; `ferrogate move` wants it on node-1, which takes it as soon as it can; --auto takes that back",
        ),
    ] {
        let mut vip = entry(state, Some(owner), None);
        (vip.moving.wanted_node, vip.moving.wanted_by) = (Some("node-1".to_owned()), Some(by));
        let (_, steps) = shown(&snapshot(service("LoadBalancer", None), 1), &[vip], &[], &[]);
        assert!(steps.contains(&expected.to_owned()), "{steps:?}");
    }
    let mut vip = entry(VipState::Announcing, Some("node-1"), None);
    vip.moving.connections_end = Some("that needs root or the capability CAP_NET_ADMIN".to_owned());
    let (healthy, steps) = shown(&snapshot(service("LoadBalancer", None), 1), std::slice::from_ref(&vip), &[], &[]);
    assert!(healthy && steps.iter().any(|it| it.starts_with("moves Unknown: ") && it.ends_with("CAP_NET_ADMIN")));
    vip.moving.connections_on = vec!["node-2".to_owned()];
    let (_, steps) = shown(&snapshot(service("LoadBalancer", None), 1), &[vip], &[], &[]);
    assert!(steps.contains(&"moves Ok: connections from before it came here are sent on to node-2".to_owned()));
}
