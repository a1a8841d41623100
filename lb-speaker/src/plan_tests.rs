//! From a snapshot to what is written back.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{
    LoadBalancerIngress, LoadBalancerStatus, Node, NodeAddress, NodeStatus, ServiceSpec, ServiceStatus as KubeStatus,
};
use proptest::prelude::*;

use config::diagnostic::Severity;
use config::object::Kind;
use config::pool::{AddressRange, Pool, PoolConfig};
use k8s_openapi::api::core::v1::Service;

use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn pool(name: &str, protocol: Protocol, first: &str, last: &str) -> Pool {
    Pool::new(PoolName::new(name).unwrap(), protocol, vec![AddressRange::new(ip(first), ip(last)).unwrap()])
}

fn service(type_: &str, held: &[&str]) -> Service {
    let entry = |ip: &&str| LoadBalancerIngress { ip: Some((*ip).to_owned()), ..LoadBalancerIngress::default() };
    let load_balancer = Some(LoadBalancerStatus { ingress: Some(held.iter().map(entry).collect()) });
    Service {
        spec: Some(ServiceSpec { type_: Some(type_.to_owned()), ..ServiceSpec::default() }),
        status: Some(KubeStatus { load_balancer, ..KubeStatus::default() }),
        ..Service::default()
    }
}

fn asking(mut service: Service, address: &str) -> Service {
    service.spec.as_mut().unwrap().load_balancer_ip = Some(address.to_owned());
    service
}

fn snapshot(pools: Vec<Pool>, services: Vec<(&str, Service)>) -> Snapshot {
    let named = services.into_iter().map(|(name, service)| (ObjectName::new("default", name), Arc::new(service)));
    Snapshot {
        generation: 7,
        pools: Arc::new(PoolConfig { pools, ..PoolConfig::default() }),
        services: Arc::new(named.collect()),
        ..Snapshot::default()
    }
}

fn planned(snapshot: &Snapshot) -> Plan {
    plan(snapshot, &PlanOptions::default())
}

/// The snapshot once the report stands in every status.
fn after_writing(snapshot: &Snapshot, report: &Report) -> Snapshot {
    let mut services = (*snapshot.services).clone();
    for (name, wanted) in &report.services {
        let held: Vec<String> = wanted.ips.iter().map(ToString::to_string).collect();
        let held: Vec<&str> = held.iter().map(String::as_str).collect();
        let mut written = (*services[name]).clone();
        written.status = service("LoadBalancer", &held).status;
        services.insert(name.clone(), Arc::new(written));
    }
    Snapshot { services: Arc::new(services), ..snapshot.clone() }
}

fn lan() -> Pool {
    pool("lan", Protocol::Layer2, "192.0.2.1", "192.0.2.3")
}

#[test]
fn an_address_may_be_announced_once_it_stands_in_the_status() {
    let before = snapshot(vec![lan()], vec![("web", service("LoadBalancer", &[]))]);
    let name = ObjectName::new("default", "web");
    let first = planned(&before);
    let web = &first.services[&name];
    assert_eq!((&web.ips, &web.live, web.committed), (&vec![ip("192.0.2.1")], &vec![], false));
    assert_eq!(first.report.generation, 7);
    let second = planned(&after_writing(&before, &first.report));
    let web = &second.services[&name];
    assert_eq!((&web.live, web.committed), (&vec![ip("192.0.2.1")], true));
}

#[test]
fn what_is_given_and_refused_is_told_in_metallbs_words() {
    let asks = asking(service("LoadBalancer", &[]), "203.0.113.9");
    let report = planned(&snapshot(vec![lan()], vec![("a", service("LoadBalancer", &[])), ("b", asks)])).report;
    let told: Vec<(&str, &str)> = report.events.iter().map(|event| (event.reason, event.message.as_str())).collect();
    assert_eq!(told[0], ("IPAllocated", "Assigned IP [\"192.0.2.1\"]"));
    assert_eq!(told[1].0, "AllocationFailed");
    assert!(
        told[1].1.starts_with("Failed to allocate IP for \"default/b\": [\"203.0.113.9\"] is not allowed in config")
    );
    let problem = &report.problems[0];
    assert_eq!((problem.severity, problem.field.to_string()), (Severity::Error, "spec.loadBalancerIP".to_owned()));
    assert!(report.services[&ObjectName::new("default", "b")].ips.is_empty());
}

#[test]
fn a_service_that_wants_no_address_any_more_is_cleared_and_others_left_alone() {
    let mut foreign = service("LoadBalancer", &["192.0.2.1"]);
    foreign.spec.as_mut().unwrap().load_balancer_class = Some("other".into());
    let services = vec![
        ("cleared", service("ClusterIP", &["192.0.2.2"])),
        ("foreign", foreign),
        ("plain", service("ClusterIP", &[])),
    ];
    let report = planned(&snapshot(vec![lan()], services)).report;
    assert_eq!(report.services, [(ObjectName::new("default", "cleared"), ServiceStatus::default())].into());
}

#[test]
fn an_orphan_is_kept_with_a_warning() {
    let plan = planned(&snapshot(vec![lan()], vec![("web", service("LoadBalancer", &["198.51.100.1"]))]));
    let web = &plan.services[&ObjectName::new("default", "web")];
    assert_eq!((&web.live, &web.pool), (&vec![ip("198.51.100.1")], &None));
    let problem = &plan.report.problems[0];
    assert_eq!(problem.severity, Severity::Warning);
    assert!(problem.message.contains("198.51.100.1 is in no pool any more"), "{problem}");
}

#[test]
fn a_saved_snapshot_keeps_what_was_committed_and_gives_nothing() {
    let mut dual = service("LoadBalancer", &["192.0.2.1"]);
    dual.spec.get_or_insert_default().ip_family_policy = Some("PreferDualStack".into());
    let services = vec![("held", dual), ("newcomer", service("LoadBalancer", &[]))];
    let mut saved = snapshot(vec![lan()], services);
    assert_eq!(planned(&saved).services.len(), 2, "live, both get an address");
    saved.saved = Some(std::time::SystemTime::UNIX_EPOCH);
    let plan = planned(&saved);
    let held = &plan.services[&ObjectName::new("default", "held")];
    assert_eq!((held.ips.as_slice(), held.live.as_slice()), (&[ip("192.0.2.1")][..], &[ip("192.0.2.1")][..]));
    assert_eq!((plan.services.len(), plan.report.services.len()), (1, 1), "{plan:?}");
}

#[test]
fn an_orphan_is_told_to_the_config_map_and_renumbered_only_where_pools_are_known() {
    let held = || vec![("web", service("LoadBalancer", &["198.51.100.1"]))];
    let name = ObjectName::new("default", "web");
    let config_map = PlanOptions::default().config_map;
    let mut before = snapshot(vec![lan()], held());
    before.config_maps = Arc::new([(config_map.clone(), Arc::default())].into());
    let told = planned(&before).report.events;
    let event = told.iter().find(|event| event.object.kind == Kind::ConfigMap).unwrap();
    assert!(event.message.contains("default/web 198.51.100.1"), "{}", event.message);
    let options = PlanOptions { orphans: OrphanPolicy::Reassign, ..PlanOptions::default() };
    let plan = super::plan(&before, &options);
    assert_eq!(plan.services[&name].ips, [ip("192.0.2.1")]);
    let reasons: Vec<&str> = plan.report.events.iter().map(|event| event.reason).collect();
    assert_eq!(reasons, ["IPAllocated", "ClearAssignment"]);
    let stale = Snapshot { pools_stale: true, ..before };
    for unknown in [stale, snapshot(vec![], held())] {
        assert_eq!(super::plan(&unknown, &options).services[&name].ips, [ip("198.51.100.1")]);
    }
}

#[test]
fn the_old_annotation_prefix_is_heeded_and_deprecated() {
    let annotated = |pairs: &[(&str, &str)]| {
        let mut service = service("LoadBalancer", &[]);
        let owned = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        service.metadata.annotations = Some(owned.collect());
        service
    };
    let old = ("metallb.universe.tf/loadBalancerIPs", "192.0.2.2");
    let (new, own) = (("metallb.io/loadBalancerIPs", "192.0.2.3"), ("ferrogate.io/loadBalancerIPs", "192.0.2.3"));
    for (pairs, given, warned) in [
        (vec![old], "192.0.2.2", true),
        (vec![old, new], "192.0.2.3", true),
        (vec![new], "192.0.2.3", false),
        (vec![own], "192.0.2.3", false),
    ] {
        let plan = planned(&snapshot(vec![lan()], vec![("web", annotated(&pairs))]));
        assert_eq!(plan.services[&ObjectName::new("default", "web")].ips, [ip(given)], "{pairs:?}");
        let told = plan.report.events.iter().filter(|event| event.reason == "deprecatedAnnotation").count();
        assert_eq!(told, usize::from(warned), "{pairs:?}");
    }
}

#[test]
fn node_ports_and_status_of_others_do_not_matter() {
    let mut without_node_ports = service("LoadBalancer", &["192.0.2.2"]);
    without_node_ports.spec.as_mut().unwrap().allocate_load_balancer_node_ports = Some(false);
    let with = planned(&snapshot(vec![lan()], vec![("web", service("LoadBalancer", &["192.0.2.2"]))]));
    assert_eq!(planned(&snapshot(vec![lan()], vec![("web", without_node_ports)])), with);
}

#[test]
fn addresses_of_nodes_and_the_ends_of_the_lan_are_given_only_if_told_so() {
    let address = |type_: &str, address: &str| NodeAddress { type_: type_.into(), address: address.into() };
    let addresses = Some(vec![address("InternalIP", "192.0.2.2"), address("Hostname", "n1")]);
    let status = Some(NodeStatus { addresses, ..NodeStatus::default() });
    let node = Node { status, ..Node::default() };
    let edge = pool("edge", Protocol::Layer2, "192.0.2.0", "192.0.2.3");
    let mut before =
        snapshot(vec![edge], vec![("a", service("LoadBalancer", &[])), ("b", service("LoadBalancer", &[]))]);
    before.nodes = Arc::new([(ObjectName::cluster("n1"), Arc::new(node))].into());
    let lan = Lan { subnets: vec!["192.0.2.1/30".parse().unwrap()], ..Lan::default() };
    for (reserved, expected) in [
        (ReservedPolicy::Refuse, vec![vec![ip("192.0.2.1")], vec![]]),
        (ReservedPolicy::Give, vec![vec![ip("192.0.2.0")], vec![ip("192.0.2.1")]]),
    ] {
        let options = PlanOptions { reserved, lan: lan.clone(), ..PlanOptions::default() };
        let ips: Vec<_> = super::plan(&before, &options).services.values().map(|it| it.ips.clone()).collect();
        assert_eq!(ips, expected, "{reserved:?}");
    }
    let options = PlanOptions { lan, ..PlanOptions::default() };
    let kept = super::plan(
        &after_writing(
            &before,
            &super::plan(&before, &PlanOptions { reserved: ReservedPolicy::Give, ..options.clone() }).report,
        ),
        &options,
    );
    assert!(kept.services.values().all(|it| it.committed), "who holds one keeps it");
    assert!(kept.report.problems.iter().any(|problem| problem.message.contains("is also the network address")));
}

#[test]
fn usage_counts_what_may_be_given() {
    let avoiding = Pool { avoid_buggy_ips: true, ..pool("big", Protocol::Layer2, "10.0.0.255", "10.0.3.0") };
    let one = Pool { avoid_buggy_ips: true, ..pool("one", Protocol::Layer2, "10.9.0.0", "10.9.0.0") };
    let six = pool("six", Protocol::Bgp, "fd00::", "fd00::ff");
    let web = asking(service("LoadBalancer", &[]), "10.0.1.7");
    let pools = planned(&snapshot(vec![avoiding, one, six], vec![("web", web)])).pools;
    let shown: Vec<_> = pools.iter().map(|it| (it.ipv4.total, it.ipv4.in_use, it.ipv6.total)).collect();
    assert_eq!(shown, [(508, 1, 0), (0, 0, 0), (0, 0, 256)]);
}

proptest! {
    #[test]
    fn writing_the_report_back_changes_nothing(kinds in prop::collection::vec((0..4, 0..6_u8), 0..9)) {
        let services = kinds.iter().map(|(kind, held)| match kind {
            0 => service("ClusterIP", &["192.0.2.2"]),
            1 => asking(service("LoadBalancer", &[]), &format!("192.0.2.{held}")),
            2 => service("LoadBalancer", &[&format!("192.0.2.{held}")]),
            _ => service("LoadBalancer", &[]),
        });
        let names = ["a", "b", "c", "d", "e", "f", "g", "h", "i"];
        let before = snapshot(vec![lan()], names.into_iter().zip(services).collect());
        let first = planned(&before);
        let second = planned(&after_writing(&before, &first.report));
        for (name, wanted) in &first.report.services {
            prop_assert_eq!(&second.report.services.get(name).cloned().unwrap_or_default(), wanted);
        }
        prop_assert!(second.services.values().all(|planned| planned.committed));
    }
}

/// A step in the life of a cluster: a Service that comes, changes or goes, or another configuration.
#[derive(Clone, Debug)]
enum Edit {
    Service(u8, &'static str, Vec<u8>, Option<u8>),
    NoService(u8),
    Pools(u8),
    Taken(Option<u8>),
}

fn edit() -> impl Strategy<Value = Edit> {
    let types = prop_oneof![3 => Just("LoadBalancer"), 1 => Just("ClusterIP")];
    let held = proptest::collection::vec(1_u8..6, 0..2);
    prop_oneof![
        5 => (0_u8..5, types, held, proptest::option::of(1_u8..6)).prop_map(|(a, b, c, d)| Edit::Service(a, b, c, d)),
        1 => (0_u8..5).prop_map(Edit::NoService),
        1 => (0_u8..3).prop_map(Edit::Pools),
        1 => proptest::option::of(1_u8..6).prop_map(Edit::Taken),
    ]
}

fn make(edit: &Edit, snapshot: &mut Snapshot, options: &mut PlanOptions) {
    let address = |last: u8| format!("192.0.2.{last}");
    let name = |number: u8| ObjectName::new("default", format!("s{number}"));
    match edit {
        Edit::Service(number, type_, held, asked) => {
            let held: Vec<String> = held.iter().map(|last| address(*last)).collect();
            let made = service(type_, &held.iter().map(String::as_str).collect::<Vec<_>>());
            let made = asked.map_or(made.clone(), |last| asking(made, &address(last)));
            Arc::make_mut(&mut snapshot.services).insert(name(*number), Arc::new(made));
        }
        Edit::NoService(number) => drop(Arc::make_mut(&mut snapshot.services).remove(&name(*number))),
        Edit::Pools(which) => {
            let pools = [vec![lan()], vec![pool("lan", Protocol::Layer2, "192.0.2.1", "192.0.2.1")], Vec::new()];
            let pools = pools[usize::from(*which)].clone();
            snapshot.pools = Arc::new(PoolConfig { pools, ..PoolConfig::default() });
        }
        Edit::Taken(last) => {
            let mac = "02:00:00:00:00:01".parse().unwrap();
            options.taken = last.iter().map(|last| (ip(&address(*last)), mac)).collect();
        }
    }
}

proptest! {
    #[test]
    fn planning_step_by_step_equals_planning_afresh(edits in proptest::collection::vec(edit(), 1..20)) {
        let (mut snapshot, mut options) = (snapshot(vec![lan()], Vec::new()), PlanOptions::default());
        let mut planner = Planner::default();
        for edit in &edits {
            make(edit, &mut snapshot, &mut options);
            prop_assert_eq!(planner.plan(&snapshot, &options), plan(&snapshot, &options), "{:?}", edits);
        }
    }
}
