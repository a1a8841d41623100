//! Rows to snapshots, plans to rows.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use config::legacy;
use config::object::{Kind, ObjectName};
use config::snapshot::Snapshot;
use k8s_openapi::api::core::v1::{
    LoadBalancerIngress, LoadBalancerStatus, Namespace, Node, NodeAddress, NodeStatus, Service, ServicePort,
    ServiceSpec, ServiceStatus,
};
use lb_speaker::allocator::OrphanPolicy;
use lb_speaker::plan::{Plan, PlanOptions, plan};
use lb_speaker::reserved::Lan;

/// One row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case<'a> {
    /// What it shows.
    pub(crate) sentence: &'a str,
    /// Text of the `ConfigMap`.
    pub(crate) config: &'a str,
    /// Names (in namespace `default` unless they have one) and words.
    pub(crate) services: &'a [(&'a str, &'a str)],
    /// What each gets.
    pub(crate) expected: &'a [&'a str],
}

/// Checks rows with the usual options.
pub(crate) fn check(cases: &[Case<'_>]) {
    check_under(&PlanOptions::default(), cases);
}

/// Checks rows where a LAN is known: `192.0.2.0/30` with a gateway at .2, and `2001:db8::/64`.
pub(crate) fn check_on_lan(cases: &[Case<'_>]) {
    let subnets = ["192.0.2.1/30", "2001:db8::1/64"].map(|subnet| subnet.parse().unwrap()).to_vec();
    let lan = Lan { subnets, gateways: vec!["192.0.2.2".parse().unwrap()], is_chosen_by_name: false };
    check_under(&PlanOptions { lan, ..PlanOptions::default() }, cases);
}

/// Checks rows where one class is served.
pub(crate) fn check_class(class: &str, cases: &[Case<'_>]) {
    check_under(&PlanOptions { lb_class: Some(class.to_owned()), ..PlanOptions::default() }, cases);
}

/// Checks rows with `--orphan-policy reassign`.
pub(crate) fn check_reassigning(cases: &[Case<'_>]) {
    check_under(&PlanOptions { orphans: OrphanPolicy::Reassign, ..PlanOptions::default() }, cases);
}

fn check_under(options: &PlanOptions, cases: &[Case<'_>]) {
    for case in cases {
        let snapshot = snapshot(case, options);
        let planned = plan(&snapshot, options);
        for (expected, (name, _)) in case.expected.iter().zip(case.services) {
            let found = outcome(&planned, name);
            let (what, told) = expected.split_once(" !").unwrap_or((expected, ""));
            let (got, why) = found.split_once(" !").unwrap_or((&found, ""));
            let as_expected = what == got && told.is_empty() == why.is_empty() && why.contains(told);
            assert!(as_expected, "{}:\n  expected {expected}\n  found    {found}", case.sentence);
        }
        assert_eq!(case.expected.len(), case.services.len(), "{}", case.sentence);
    }
}

fn snapshot(case: &Case<'_>, options: &PlanOptions) -> Snapshot {
    let reading = legacy::parse_text(&"row".into(), &case.config.into());
    let pools = reading.config.unwrap_or_else(|| panic!("{}: {:?}", case.sentence, reading.problems));
    let services = case.services.iter().map(|(name, words)| (full_name(name), Arc::new(service_of(words))));
    let address = NodeAddress { type_: "InternalIP".to_owned(), address: "192.0.2.1".to_owned() };
    let status = NodeStatus { addresses: Some(vec![address]), ..NodeStatus::default() };
    let node = Node { status: Some(status), ..Node::default() };
    let mut namespace = Namespace::default();
    namespace.metadata.labels = Some(BTreeMap::from([("team".to_owned(), "red".to_owned())]));
    let nodes = (!options.lan.subnets.is_empty()).then(|| (ObjectName::cluster("n1"), Arc::new(node)));
    Snapshot {
        pools: Arc::new(pools),
        services: Arc::new(services.collect()),
        nodes: Arc::new(nodes.into_iter().collect()),
        namespaces: Arc::new([(ObjectName::cluster("red"), Arc::new(namespace))].into()),
        ..Snapshot::default()
    }
}

fn full_name(name: &str) -> ObjectName {
    let (namespace, name) = name.split_once('/').unwrap_or(("default", name));
    ObjectName::new(namespace, name)
}

fn service_of(words: &str) -> Service {
    let mut service = Service::default();
    let mut spec = ServiceSpec { type_: Some("LoadBalancer".to_owned()), ..ServiceSpec::default() };
    let mut annotations = BTreeMap::new();
    let mut ports = Vec::new();
    let mut cluster = "10.0.0.1";
    for word in words.split_whitespace() {
        let Some((key, value)) = word.split_once('=') else {
            ports.push(port(word));
            continue;
        };
        let (prefix, key) = key.strip_prefix("old:").map_or(("metallb.io", key), |key| ("metallb.universe.tf", key));
        let text = Some(value.to_owned());
        let mut annotate =
            |name: &str| drop(annotations.insert(format!("{prefix}/{name}"), value.replace(",,", " , ")));
        match key {
            "held" => service.status = Some(status(value)),
            "ip" => spec.load_balancer_ip = text,
            "ips" => annotate("loadBalancerIPs"),
            "pool" => annotate("address-pool"),
            "share" => annotate("allow-shared-ip"),
            "cluster" => cluster = value,
            "policy" => spec.ip_family_policy = text,
            "type" => spec.type_ = text,
            "class" => spec.load_balancer_class = text,
            "nodeports" => spec.allocate_load_balancer_node_ports = Some(value == "true"),
            "app" => service.metadata.labels = Some(BTreeMap::from([("app".to_owned(), value.to_owned())])),
            "local" => {
                spec.external_traffic_policy = Some("Local".to_owned());
                spec.selector = Some(BTreeMap::from([("app".to_owned(), value.to_owned())]));
            }
            other => panic!("unknown word {other}"),
        }
    }
    if ports.is_empty() {
        ports.push(port("tcp/80"));
    }
    let cluster: Vec<String> = cluster.split(',').map(str::to_owned).collect();
    (spec.cluster_ip, spec.cluster_ips, spec.ports) = (cluster.first().cloned(), Some(cluster), Some(ports));
    service.metadata.annotations = Some(annotations);
    service.spec = Some(spec);
    service
}

fn port(word: &str) -> ServicePort {
    let (protocol, number) = word.split_once('/').unwrap_or_else(|| panic!("{word} is no port"));
    ServicePort { protocol: Some(protocol.to_uppercase()), port: number.parse().unwrap(), ..ServicePort::default() }
}

fn status(held: &str) -> ServiceStatus {
    let entry = |ip: &str| LoadBalancerIngress { ip: Some(ip.to_owned()), ..LoadBalancerIngress::default() };
    let load_balancer = Some(LoadBalancerStatus { ingress: Some(held.split(',').map(entry).collect()) });
    ServiceStatus { load_balancer, ..ServiceStatus::default() }
}

/// What a Service gets and is told, in the words of a row.
fn outcome(plan: &Plan, shown: &str) -> String {
    let name = full_name(shown);
    let Some(planned) = plan.services.get(&name) else {
        let is_cleared = plan.report.services.get(&name).is_some_and(|status| status.ips.is_empty());
        return format!("{shown} {}", if is_cleared { "cleared" } else { "untouched" });
    };
    let ips = planned.ips.iter().map(IpAddr::to_string).collect::<Vec<_>>().join("+");
    let ips = if ips.is_empty() { "-" } else { &ips };
    let of_it = |object: &config::object::ObjectRef| object.kind == Kind::Service && object.name == name;
    let complaint = |reason: &str| !["IPAllocated", "ClearAssignment", "deprecatedAnnotation"].contains(&reason);
    let told = plan.report.events.iter().find(|event| of_it(&event.object) && complaint(event.reason));
    assert_eq!(plan.report.services[&name].ips, planned.ips, "what is planned is what is written");
    told.map_or_else(|| format!("{shown} {ips}"), |event| format!("{shown} {ips} !{}", event.message))
}
