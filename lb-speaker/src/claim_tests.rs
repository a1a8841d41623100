//! What Services ask for, row by row.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{LoadBalancerIngress, LoadBalancerStatus, ServicePort, ServiceStatus};

use super::*;
use Family::{IPv4, IPv6};

fn service(spec: ServiceSpec, annotations: &[(&str, &str)]) -> Service {
    let mut service = Service { spec: Some(spec), ..Service::default() };
    let annotations = annotations.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    service.metadata.annotations = Some(annotations.collect());
    service
}

fn balanced() -> ServiceSpec {
    ServiceSpec { type_: Some("LoadBalancer".into()), ..ServiceSpec::default() }
}

fn claimed(spec: ServiceSpec, annotations: &[(&str, &str)]) -> Claim {
    match read(&ObjectName::new("default", "web"), &service(spec, annotations), None) {
        Standing::Claims(claim) => *claim,
        other => panic!("{other:?}"),
    }
}

fn texts(texts: &[&str]) -> Option<Vec<String>> {
    (!texts.is_empty()).then(|| texts.iter().map(|text| (*text).to_owned()).collect())
}

#[test]
fn only_load_balancers_of_our_class_are_ours() {
    let name = ObjectName::new("default", "web");
    let of = |class: Option<&str>, type_: &str| ServiceSpec {
        type_: Some(type_.to_owned()),
        load_balancer_class: class.map(str::to_owned),
        ..ServiceSpec::default()
    };
    for (class, type_, served, expected) in [
        (None, "LoadBalancer", None, "claims"),
        (Some("x"), "LoadBalancer", None, "foreign"),
        (Some("x"), "LoadBalancer", Some("x"), "claims"),
        (None, "LoadBalancer", Some("x"), "foreign"),
        (None, "ClusterIP", None, "unbalanced"),
    ] {
        let standing = match read(&name, &service(of(class, type_), &[]), served) {
            Standing::Foreign => "foreign",
            Standing::Unbalanced => "unbalanced",
            Standing::Claims(_) => "claims",
        };
        assert_eq!(standing, expected, "{type_} of class {class:?} where {served:?} is served");
    }
}

#[test]
fn families_come_from_the_cluster_or_else_from_the_manifest() {
    for (cluster_ips, families, policy, expected) in [
        (&[][..], &[][..], None, Families::Single(IPv4)),
        (&[], &["IPv6"], None, Families::Single(IPv6)),
        (&[], &["IPv6", "IPv4"], None, Families::RequireDual(IPv6)),
        (&[], &[], Some("PreferDualStack"), Families::PreferDual(IPv4)),
        (&[], &["IPv6"], Some("PreferDualStack"), Families::PreferDual(IPv6)),
        (&[], &[], Some("RequireDualStack"), Families::RequireDual(IPv4)),
        (&["10.0.0.1"], &[], None, Families::Single(IPv4)),
        (&["10.0.0.1"], &[], Some("PreferDualStack"), Families::Single(IPv4)),
        (&["fd00::1"], &[], None, Families::Single(IPv6)),
        (&["fd00::1", "10.0.0.1"], &[], Some("PreferDualStack"), Families::PreferDual(IPv6)),
        (&["10.0.0.1", "fd00::1"], &[], Some("RequireDualStack"), Families::RequireDual(IPv4)),
    ] {
        let spec = ServiceSpec {
            cluster_ips: texts(cluster_ips),
            ip_families: texts(families),
            ip_family_policy: policy.map(str::to_owned),
            ..balanced()
        };
        let claim = claimed(spec, &[]);
        assert_eq!((claim.families, claim.fault), (expected, None), "{cluster_ips:?} {families:?} {policy:?}");
    }
}

#[test]
fn a_request_that_makes_no_sense_is_told_at_its_field() {
    let with_ip = |ip: &str| ServiceSpec { load_balancer_ip: Some(ip.into()), ..balanced() };
    let cluster = |ip: &str, policy: Option<&str>| ServiceSpec {
        cluster_ip: Some(ip.into()),
        ip_family_policy: policy.map(str::to_owned),
        ..balanced()
    };
    let ask = "metallb.io/loadBalancerIPs";
    for (spec, annotations, field, message) in [
        (with_ip("192.0.2.1"), &[(ask, "192.0.2.1")][..], "spec.loadBalancerIP", "both spec.loadBalancerIP and"),
        (with_ip("here"), &[], "spec.loadBalancerIP", "\"here\" is not an IP address"),
        (with_ip("fd00::1"), &[], "spec.loadBalancerIP", "does not match the ipFamily of the service"),
        (
            balanced(),
            &[(ask, "192.0.2.1,192.0.2.2")],
            "metadata.annotations[metallb.io/loadBalancerIPs]",
            "more than one IPv4",
        ),
        (cluster("None", None), &[], "spec.clusterIP", "headless"),
        (cluster("ten", None), &[], "spec.clusterIP", "not a cluster IP"),
        (
            cluster("10.0.0.1", Some("RequireDualStack")),
            &[],
            "spec.ipFamilyPolicy",
            "RequireDualStack with one cluster IP",
        ),
    ] {
        let fault = claimed(spec, annotations).fault.unwrap();
        assert_eq!(fault.field().to_string(), field, "{fault}");
        assert!(fault.to_string().contains(message), "{fault}");
    }
}

#[test]
fn annotations_are_read_under_each_prefix_and_the_newest_wins() {
    for prefix in PREFIXES {
        let annotations = [
            (format!("{prefix}/loadBalancerIPs"), "192.0.2.7"),
            (format!("{prefix}/address-pool"), "edge"),
            (format!("{prefix}/allow-shared-ip"), "k"),
        ];
        let annotations: Vec<(&str, &str)> = annotations.iter().map(|(key, value)| (key.as_str(), *value)).collect();
        let claim = claimed(balanced(), &annotations);
        assert_eq!(claim.asked, ["192.0.2.7".parse::<IpAddr>().unwrap()]);
        assert_eq!(claim.pool.as_deref(), Some("edge"));
        assert_eq!(claim.sharing.unwrap().key, "k");
    }
    let both = [("metallb.universe.tf/address-pool", "old"), ("metallb.io/address-pool", "new")];
    assert_eq!(claimed(balanced(), &both).pool.as_deref(), Some("new"));
}

#[test]
fn ports_and_policy_are_what_sharers_compare() {
    let port = |number, protocol: Option<&str>| ServicePort {
        port: number,
        protocol: protocol.map(str::to_owned),
        ..ServicePort::default()
    };
    let selector = BTreeMap::from([("app".to_owned(), "web".to_owned())]);
    let spec = ServiceSpec {
        ports: Some(vec![port(80, None), port(53, Some("UDP"))]),
        external_traffic_policy: Some("Local".into()),
        selector: Some(selector.clone()),
        ..balanced()
    };
    let claim = claimed(spec, &[(SHARE_UNDER_METALLB, "k")]);
    let shown: Vec<String> = claim.ports.iter().map(|port| format!("{}/{}", port.protocol, port.number)).collect();
    assert_eq!(shown, ["tcp/80", "udp/53"]);
    assert_eq!(claim.sharing.unwrap().traffic, Traffic::Local(selector));
}

const SHARE_UNDER_METALLB: &str = "metallb.io/allow-shared-ip";

#[test]
fn the_status_counts_once_per_family() {
    let entry = |ip: &str| LoadBalancerIngress { ip: Some(ip.into()), ..LoadBalancerIngress::default() };
    let ingress = vec![entry("192.0.2.1"), entry("nonsense"), entry("192.0.2.2"), entry("fd00::1")];
    let load_balancer = Some(LoadBalancerStatus { ingress: Some(ingress) });
    let status = Some(ServiceStatus { load_balancer, ..ServiceStatus::default() });
    let held = committed(&Service { status, ..Service::default() });
    assert_eq!(held, ["192.0.2.1".parse::<IpAddr>().unwrap(), "fd00::1".parse().unwrap()]);
}
