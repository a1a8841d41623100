//! From a snapshot to what is written back.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{LoadBalancerIngress, LoadBalancerStatus, ServiceSpec, ServiceStatus as KubeStatus};
use proptest::prelude::*;

use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn pool(name: &str, protocol: Protocol, first: &str, last: &str) -> Pool {
    Pool {
        name: PoolName::new(name).unwrap(),
        protocol,
        ranges: vec![AddressRange::new(ip(first), ip(last)).unwrap()],
        auto_assign: true,
        avoid_buggy_ips: false,
        advertisements: Vec::new(),
    }
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
    assert_eq!(report.services, BTreeMap::from([(ObjectName::new("default", "cleared"), ServiceStatus::default())]));
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
