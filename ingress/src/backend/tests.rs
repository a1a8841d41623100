use serde_json::json;

use super::*;

fn service(spec: &serde_json::Value) -> Service {
    serde_json::from_value(json!({ "metadata": { "namespace": "shop", "name": "web" }, "spec": spec })).unwrap()
}

fn web() -> Service {
    service(&json!({ "ports": [
        { "name": "http", "port": 80, "targetPort": "web" },
        { "name": "admin", "port": 90, "targetPort": 9000 },
        { "name": "dns", "port": 53, "protocol": "UDP" },
    ]}))
}

/// A slice with ports `http` and `admin`; each endpoint an address and its conditions.
fn slice(http: u16, endpoints: &[(&str, serde_json::Value)]) -> Arc<EndpointSlice> {
    let endpoints: Vec<_> =
        endpoints.iter().map(|(addr, conditions)| json!({ "addresses": [addr], "conditions": conditions })).collect();
    let family = if endpoints.iter().any(|endpoint| endpoint.to_string().contains("::")) { "IPv6" } else { "IPv4" };
    let ports = json!([{ "name": "http", "port": http }, { "name": "admin", "port": 9000 }]);
    Arc::new(serde_json::from_value(json!({ "addressType": family, "endpoints": endpoints, "ports": ports })).unwrap())
}

fn resolved(service: Option<&Service>, port: &PortRef, slices: &[&Arc<EndpointSlice>]) -> Endpoints {
    resolve(&ObjectName::new("shop", "web"), port, service, slices, &Standpoint::default(), None)
}

fn shown(endpoints: &Endpoints) -> Vec<String> {
    endpoints.list().iter().map(|endpoint| endpoint.addr.to_string()).collect()
}

fn http() -> PortRef {
    PortRef::Name("http".into())
}

#[test]
fn a_port_is_found_by_number_name_or_target() {
    for (port, expected) in [
        (PortRef::Number(80), Some("http")),
        (http(), Some("http")),
        (PortRef::Number(9000), Some("admin")),
        (PortRef::Name("web".into()), Some("http")),
        (PortRef::Number(53), None),
        (PortRef::Name("nope".into()), None),
    ] {
        let service = web();
        assert_eq!(service_port(&service, &port).and_then(|port| port.name.as_deref()), expected, "{port}");
    }
}

#[test]
fn each_slice_has_its_own_target_port_and_an_address_counts_once() {
    let ready = json!({ "ready": true });
    let one = slice(8080, &[("192.0.2.1", ready.clone()), ("192.0.2.2", json!({}))]);
    let other = slice(8081, &[("192.0.2.3", ready.clone())]);
    let again = slice(8080, &[("192.0.2.1", ready.clone())]);
    let v6 = slice(8080, &[("2001:db8::1", ready)]);
    let endpoints = resolved(Some(&web()), &http(), &[&one, &other, &again, &v6]);
    assert_eq!(shown(&endpoints), ["192.0.2.1:8080", "192.0.2.2:8080", "192.0.2.3:8081", "[2001:db8::1]:8080"]);
}

#[test]
fn those_that_leave_but_serve_are_used_only_if_none_is_ready() {
    let leaving = ("192.0.2.1", json!({ "ready": false, "serving": true, "terminating": true }));
    let broken = ("192.0.2.2", json!({ "ready": false, "serving": false, "terminating": true }));
    let starting = ("192.0.2.3", json!({ "ready": false, "serving": true }));
    let ready = ("192.0.2.4", json!({ "ready": true }));
    let slice_of = |endpoints: &[(&str, serde_json::Value)]| slice(8080, endpoints);
    for (endpoints, expected) in [
        (slice_of(&[leaving.clone(), broken.clone(), starting.clone()]), vec!["192.0.2.1:8080"]),
        (slice_of(&[leaving, ready]), vec!["192.0.2.4:8080"]),
        (slice_of(&[broken, starting]), vec![]),
    ] {
        assert_eq!(shown(&resolved(Some(&web()), &http(), &[&endpoints])), expected);
    }
}

#[test]
fn an_address_that_leads_nowhere_or_back_is_refused() {
    let addrs = ["127.0.0.1", "0.0.0.0", "169.254.169.254", "224.0.0.1", "255.255.255.255", "192.0.2.10", "192.0.2.1"];
    let slice = slice(8080, &addrs.map(|addr| (addr, json!({}))));
    let slice6 =
        self::slice(8080, &["::1", "::", "fe80::1", "ff02::1", "::ffff:127.0.0.1"].map(|addr| (addr, json!({}))));
    let own: BTreeSet<IpAddr> = ["192.0.2.10".parse().unwrap()].into();
    let here = |allow_loopback| Standpoint {
        forbidden: Forbidden { allow_loopback, own: own.clone() },
        ..Standpoint::default()
    };
    let name = ObjectName::new("shop", "web");
    let endpoints = resolve(&name, &http(), Some(&web()), &[&slice, &slice6], &here(false), None);
    assert_eq!(shown(&endpoints), ["192.0.2.1:8080"]);
    assert_eq!(endpoints.refused().len(), 10, "{:?}", endpoints.refused());

    let loopback = resolve(&name, &http(), Some(&web()), &[&slice], &here(true), None);
    assert_eq!(shown(&loopback), ["127.0.0.1:8080", "192.0.2.1:8080"]);
}

#[test]
fn a_service_may_stand_for_its_endpoints() {
    let name = ObjectName::new("shop", "web");
    for (spec, expected) in [
        (
            json!({ "clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1", "fd00::1"] }),
            &["10.96.0.1:80", "[fd00::1]:80"][..],
        ),
        (json!({ "clusterIP": "10.96.0.1" }), &["10.96.0.1:80"]),
        (json!({ "clusterIP": "None", "clusterIPs": ["None"] }), &[]),
    ] {
        let mut spec = spec;
        spec["ports"] = json!([{ "name": "http", "port": 80, "targetPort": 8080, "appProtocol": "kubernetes.io/h2c" }]);
        let service = service(&spec);
        let endpoints = by_service(&name, &http(), Some(&service), &Standpoint::default(), None);
        assert_eq!(shown(&endpoints), expected);
        assert_eq!(endpoints.protocol(), Some(Protocol::Grpc));
    }
}

#[test]
fn a_backend_that_cannot_be_served_says_why() {
    for (service, port, word) in [
        (None, http(), "does not exist"),
        (Some(web()), PortRef::Number(81), "80 (http), 90 (admin)"),
        (Some(web()), PortRef::Unset, "names no port"),
        (Some(web()), http(), "no ready endpoint"),
    ] {
        let endpoints = resolved(service.as_ref(), &port, &[]);
        let problem = endpoints.problem().unwrap().to_string();
        assert!(problem.contains(word), "{problem} should say {word}");
    }
}
