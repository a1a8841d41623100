//! What the API server demands of a Service.
//!
//! Source: `k8s.io/kubernetes/pkg/apis/core/validation`, `ValidateService`.

use std::collections::HashMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::check::Check;
use crate::names;
use crate::object::FieldPath;

pub(super) const PROTOCOLS: [&str; 3] = ["TCP", "UDP", "SCTP"];

pub(super) fn service(check: &mut Check, service: &mut Service) {
    let at = FieldPath::of(["spec"]);
    let Some(spec) = &service.spec else {
        return check.error(at, "a Service needs a spec with ports");
    };
    let kind = spec.type_.as_deref().unwrap_or("ClusterIP");
    check.one_of(at.key("type"), Some(kind), &["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"]);
    words(check, &at, spec);
    addresses(check, &at, spec, kind);
    kind_only(check, &at, spec, kind);
    ports(check, &at, spec, kind);
    for (key, value) in spec.selector.iter().flatten() {
        check.form(at.key("selector").key(key), names::qualified(key).and_then(|()| names::label_value(value)));
    }
}

fn words(check: &mut Check, at: &FieldPath, spec: &ServiceSpec) {
    let families = ["IPv4", "IPv6"];
    check.one_of(at.key("sessionAffinity"), spec.session_affinity.as_deref(), &["None", "ClientIP"]);
    check.one_of(at.key("externalTrafficPolicy"), spec.external_traffic_policy.as_deref(), &["Cluster", "Local"]);
    check.one_of(at.key("internalTrafficPolicy"), spec.internal_traffic_policy.as_deref(), &["Cluster", "Local"]);
    let policies = ["SingleStack", "PreferDualStack", "RequireDualStack"];
    check.one_of(at.key("ipFamilyPolicy"), spec.ip_family_policy.as_deref(), &policies);
    let written = spec.ip_families.as_deref().unwrap_or_default();
    for (index, family) in written.iter().enumerate() {
        let at = at.key("ipFamilies").index(index);
        check.one_of(at.clone(), Some(family), &families);
        if index > 0 && written[0] == *family {
            check.error(at, format!("{family} stands here a second time"));
        }
    }
}

fn addresses(check: &mut Check, at: &FieldPath, spec: &ServiceSpec, kind: &str) {
    let mut cluster = |at: FieldPath, text: &str| {
        if !matches!(text, "" | "None") && text.parse::<IpAddr>().is_err() {
            check.error(
                at,
                format!("{text:?} is not an IP address; leave it out, or write None for a headless Service"),
            );
        }
    };
    if let Some(ip) = &spec.cluster_ip {
        cluster(at.key("clusterIP"), ip);
    }
    for (index, ip) in spec.cluster_ips.iter().flatten().enumerate() {
        cluster(at.key("clusterIPs").index(index), ip);
    }
    for (index, ip) in spec.external_ips.iter().flatten().enumerate() {
        if ip.parse::<IpAddr>().is_err() {
            check.error(at.key("externalIPs").index(index), format!("{ip:?} is not an IP address"));
        }
    }
    for (index, range) in spec.load_balancer_source_ranges.iter().flatten().enumerate() {
        if range.trim().parse::<ipnet::IpNet>().is_err() {
            let at = at.key("loadBalancerSourceRanges").index(index);
            check.error(at, format!("{range:?} is not a prefix; write it like 192.0.2.0/24"));
        }
    }
    if kind == "ExternalName" {
        let name = spec.external_name.as_deref().unwrap_or_default();
        check.form(at.key("externalName"), names::subdomain(name.strip_suffix('.').unwrap_or(name)));
    }
}

/// Fields that only some types of Service may have.
fn kind_only(check: &mut Check, at: &FieldPath, spec: &ServiceSpec, kind: &str) {
    let load_balancer = kind == "LoadBalancer";
    if let Some(class) = &spec.load_balancer_class {
        check.form(at.key("loadBalancerClass"), names::qualified(class));
        if !load_balancer {
            check.error(at.key("loadBalancerClass"), "only a Service of type LoadBalancer has a class; remove it");
        }
    }
    if spec.allocate_load_balancer_node_ports.is_some() && !load_balancer {
        check.error(at.key("allocateLoadBalancerNodePorts"), "only for a Service of type LoadBalancer; remove it");
    }
    let external = load_balancer || kind == "NodePort" || spec.external_ips.as_ref().is_some_and(|ips| !ips.is_empty());
    if spec.external_traffic_policy.is_some() && !external {
        check.error(at.key("externalTrafficPolicy"), "only for a Service of type LoadBalancer or NodePort; remove it");
    }
    let headless = spec.cluster_ip.as_deref() == Some("None");
    if headless && matches!(kind, "LoadBalancer" | "NodePort") {
        check.error(at.key("clusterIP"), format!("a Service of type {kind} cannot be headless; remove the line"));
    }
}

fn ports(check: &mut Check, at: &FieldPath, spec: &ServiceSpec, kind: &str) {
    let at = at.key("ports");
    let ports = spec.ports.as_deref().unwrap_or_default();
    if ports.is_empty() && kind != "ExternalName" && spec.cluster_ip.as_deref() != Some("None") {
        check.error(at.clone(), "a Service needs at least one port");
    }
    let (mut named, mut numbered) = (HashMap::new(), HashMap::new());
    for (index, port) in ports.iter().enumerate() {
        let at = at.index(index);
        one_port(check, &at, port);
        match port.name.as_deref().unwrap_or_default() {
            "" if ports.len() > 1 => check.error(at.key("name"), "with several ports each needs a name"),
            "" => {}
            name => {
                check.form(at.key("name"), names::label(name));
                if let Some(first) = named.insert(name, index) {
                    check.error(at.key("name"), format!("port {first} has the name {name:?} too"));
                }
            }
        }
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        if let Some(first) = numbered.insert((protocol, port.port), index) {
            check.error(at.key("port"), format!("port {first} is {protocol} {} too", port.port));
        }
    }
}

fn one_port(check: &mut Check, at: &FieldPath, port: &ServicePort) {
    check.port_number(at.key("port"), port.port);
    check.one_of(at.key("protocol"), port.protocol.as_deref(), &PROTOCOLS);
    match &port.target_port {
        Some(IntOrString::Int(number)) => check.port_number(at.key("targetPort"), *number),
        Some(IntOrString::String(name)) => check.form(at.key("targetPort"), names::port(name)),
        None => {}
    }
    if let Some(node_port) = port.node_port.filter(|port| *port != 0) {
        check.port_number(at.key("nodePort"), node_port);
    }
    if let Some(protocol) = &port.app_protocol {
        check.form(at.key("appProtocol"), names::qualified(protocol));
    }
}
