use std::sync::LazyLock;

use config::object::{Kind, ObjectRef};
use config::report::{Event, IngressAddress};
use k8s_openapi::api::core::v1::{Node, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::certs::generate_default;

const NOW: Timestamp = Timestamp::constant(1_790_000_000, 0);

fn default_certificate() -> &'static Arc<Certificate> {
    static DEFAULT: LazyLock<Arc<Certificate>> = LazyLock::new(|| Arc::new(generate_default(NOW).unwrap()));
    &DEFAULT
}

fn options() -> CompileOptions {
    CompileOptions {
        ingress_class: "ferrogate".into(),
        controller: "ferrogate.io/ingress-controller".into(),
        watch_without_class: false,
        publish: Publish::UsualService,
        loopback_endpoints: false,
        node: Some("n1".into()),
        external_names: true,
        config_map: config::object::ObjectName::new("ingress-nginx", "ingress-nginx-controller"),
        streams: StreamMaps::default(),
    }
}

/// Adds an object, read from JSON, to its kind in a snapshot.
fn add(snapshot: &mut Snapshot, kind: Kind, name: &str, mut object: Value) {
    let namespace = if kind.is_namespaced() { "shop" } else { "" };
    let key = ObjectName::new(namespace, name);
    object["metadata"]["name"] = name.into();
    object["metadata"]["namespace"] = namespace.into();
    macro_rules! insert {
        ($field:ident, $type:ty) => {{
            let object: $type = serde_json::from_value(object).unwrap();
            drop(Arc::make_mut(&mut snapshot.$field).insert(key, Arc::new(object)))
        }};
    }
    match kind {
        Kind::Ingress => insert!(ingresses, Ingress),
        Kind::IngressClass => insert!(ingress_classes, IngressClass),
        Kind::Service => insert!(services, Service),
        Kind::EndpointSlice => insert!(endpoint_slices, EndpointSlice),
        Kind::Secret => insert!(secrets, Secret),
        Kind::Node => insert!(nodes, Node),
        Kind::ClusterIssuer | Kind::ConfigMap | Kind::Issuer | Kind::Namespace => unreachable!("not used here"),
    }
}

/// A snapshot with our class and the Services `web` and `api`, each with one endpoint.
fn snapshot() -> Snapshot {
    let mut snapshot = Snapshot::default();
    add(
        &mut snapshot,
        Kind::IngressClass,
        "ferrogate",
        json!({ "spec": { "controller": "ferrogate.io/ingress-controller" } }),
    );
    for (service, last) in [("web", 1), ("api", 2)] {
        add(&mut snapshot, Kind::Service, service, json!({ "spec": { "ports": [{ "name": "http", "port": 80 }] } }));
        endpoints(&mut snapshot, service, &[last]);
    }
    snapshot
}

fn endpoints(snapshot: &mut Snapshot, service: &str, last: &[u8]) {
    let endpoints: Vec<_> = last.iter().map(|last| json!({ "addresses": [format!("192.0.2.{last}")] })).collect();
    let slice = json!({
        "metadata": { "labels": { "kubernetes.io/service-name": service } },
        "addressType": "IPv4",
        "ports": [{ "name": "http", "port": 8080 }],
        "endpoints": endpoints,
    });
    add(snapshot, Kind::EndpointSlice, service, slice);
}

fn backend(service: &str) -> Value {
    json!({ "service": { "name": service, "port": { "number": 80 } } })
}

fn rule(host: &str, path: &str, service: &str) -> Value {
    let path = json!({ "path": path, "pathType": "Prefix", "backend": backend(service) });
    json!({ "host": host, "http": { "paths": [path] } })
}

/// An Ingress of our class with these rules.
fn ours(rules: &[Value]) -> Value {
    json!({ "spec": { "ingressClassName": "ferrogate", "rules": rules } })
}

fn run(snapshot: &Snapshot) -> Compiled {
    compile(snapshot, &Answers::new(), &options(), default_certificate(), None, NOW)
}

/// The Ingress and Service that answer, `web -> api`.
fn answer(compiled: &Compiled, host: &str, path: &str) -> Option<String> {
    let route = compiled.table.find(host, path)?;
    Some(format!("{} -> {}", route.ingress.name, route.service().name))
}

/// Object, field and message of each problem.
fn problems(compiled: &Compiled) -> Vec<String> {
    let show = |problem: &config::diagnostic::Problem| {
        format!("{} {}: {}", problem.object.as_ref().unwrap(), problem.field, problem.message)
    };
    compiled.report.problems.iter().map(show).collect()
}

#[track_caller]
fn assert_problem(compiled: &Compiled, start: &str, word: &str) {
    let problems = problems(compiled);
    assert!(
        problems.iter().any(|text| text.starts_with(start) && text.contains(word)),
        "{start} .. {word} in {problems:#?}"
    );
}

/// A TLS Secret for these names.
fn tls_secret(names: &[&str]) -> Value {
    let key = rcgen::KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let certificate = rcgen::CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
    json!({ "stringData": { "tls.crt": certificate.pem(), "tls.key": key.serialize_pem() } })
}

#[test]
fn an_ingress_routes_to_ready_endpoints() {
    let mut snapshot = snapshot();
    add(
        &mut snapshot,
        Kind::Ingress,
        "shop",
        ours(&[rule("shop.example", "/", "web"), rule("shop.example", "/api", "api")]),
    );
    let compiled = run(&snapshot);
    assert_eq!(problems(&compiled), Vec::<String>::new());
    assert_eq!(answer(&compiled, "shop.example", "/x").as_deref(), Some("shop -> web"));
    assert_eq!(answer(&compiled, "shop.example", "/api/x").as_deref(), Some("shop -> api"));
    assert_eq!(answer(&compiled, "other.example", "/"), None);
    let route = compiled.table.find("shop.example", "/").unwrap();
    assert_eq!(route.endpoints.list()[0].addr, "192.0.2.1:8080".parse().unwrap());
    let shown = compiled.routes.to_vec();
    let shown: Vec<_> = shown.iter().map(|entry| (&*entry.path, &*entry.backend, entry.endpoints)).collect();
    assert_eq!(shown, [("/api", "shop/api:80", 1), ("/", "shop/web:80", 1)]);
}

#[test]
fn classes_decide_whose_an_ingress_is() {
    let annotated = |class: &str| json!({ "annotations": { "kubernetes.io/ingress.class": class } });
    let default = json!({ "annotations": { "ingressclass.kubernetes.io/is-default-class": "true" } });
    for (metadata, class, default_is_ours, adopt, expected) in [
        (json!({}), Some("ferrogate"), false, false, true),
        (json!({}), Some("nginx"), false, true, false),
        (json!({}), Some("gone"), true, true, false),
        (annotated("nginx"), Some("ferrogate"), false, false, true),
        (annotated("ferrogate"), Some("nginx"), false, false, false),
        (annotated("ferrogate"), None, false, false, true),
        (annotated("nginx"), None, true, true, false),
        (json!({}), None, false, false, false),
        (json!({}), None, true, false, true),
        (json!({}), None, false, true, true),
    ] {
        let mut snapshot = snapshot();
        let ours_metadata = if default_is_ours { default.clone() } else { json!({}) };
        let controller = json!({ "controller": "ferrogate.io/ingress-controller" });
        add(&mut snapshot, Kind::IngressClass, "ferrogate", json!({ "metadata": ours_metadata, "spec": controller }));
        add(&mut snapshot, Kind::IngressClass, "nginx", json!({ "spec": { "controller": "k8s.io/ingress-nginx" } }));
        let mut spec = json!({ "rules": [rule("a.example", "/", "web")] });
        if let Some(class) = class {
            spec["ingressClassName"] = class.into();
        }
        add(&mut snapshot, Kind::Ingress, "shop", json!({ "metadata": metadata, "spec": spec }));
        let options = CompileOptions { watch_without_class: adopt, ..options() };
        let compiled = compile(&snapshot, &Answers::new(), &options, default_certificate(), None, NOW);
        assert_eq!(
            compiled.table.find("a.example", "/").is_some(),
            expected,
            "{metadata} {class:?} {default_is_ours} {adopt}"
        );
        assert_eq!(problems(&compiled).len(), usize::from(class == Some("gone")), "{class:?}");
    }
}

#[test]
fn a_default_backend_receives_what_its_ingress_does_not_route() {
    let mut snapshot = snapshot();
    let mut with_default = ours(&[rule("a.example", "/only", "web")]);
    with_default["spec"]["defaultBackend"] = backend("api");
    add(&mut snapshot, Kind::Ingress, "hosts", with_default);
    add(&mut snapshot, Kind::Ingress, "plain", ours(&[rule("b.example", "/only", "web")]));
    let catch_all = json!({ "spec": { "ingressClassName": "ferrogate", "defaultBackend": backend("web") } });
    add(&mut snapshot, Kind::Ingress, "rest", catch_all.clone());
    add(&mut snapshot, Kind::Ingress, "loser", catch_all);
    let compiled = run(&snapshot);
    for (host, path, expected) in [
        ("a.example", "/only", Some("hosts -> web")),
        ("a.example", "/x", Some("hosts -> api")),
        ("b.example", "/x", None),
        ("unknown.example", "/x", Some("rest -> web")),
    ] {
        assert_eq!(answer(&compiled, host, path).as_deref(), expected, "{host}{path}");
    }
    assert_problem(&compiled, "Ingress shop/loser spec.defaultBackend", "shop/rest");
}

#[test]
fn the_oldest_ingress_wins_a_path_and_the_loser_is_told() {
    let mut snapshot = snapshot();
    let at = |time: &str, service: &str| {
        let mut ingress = ours(&[rule("a.example", "/", service)]);
        ingress["metadata"] = json!({ "creationTimestamp": time });
        ingress
    };
    add(&mut snapshot, Kind::Ingress, "zz", at("2024-02-01T00:00:00Z", "web"));
    add(&mut snapshot, Kind::Ingress, "aa", at("2024-01-01T00:00:00Z", "api"));
    let compiled = run(&snapshot);
    assert_eq!(answer(&compiled, "a.example", "/").as_deref(), Some("aa -> api"));
    assert_problem(&compiled, "Ingress shop/zz spec.rules[0].http.paths[0]: ", "Ingress shop/aa");

    add(&mut snapshot, Kind::Ingress, "aa", at("2024-02-01T00:00:00Z", "api"));
    assert_eq!(answer(&run(&snapshot), "a.example", "/").as_deref(), Some("zz -> web"), "ties go by descending name");
}

#[test]
fn a_rule_that_cannot_be_served_says_so_at_its_field() {
    let mut snapshot = snapshot();
    endpoints(&mut snapshot, "api", &[]);
    let resource = json!({ "resource": { "kind": "Bucket", "name": "b", "apiGroup": "x" } });
    let odd_port = json!({ "service": { "name": "web", "port": { "number": 81 } } });
    let paths: Vec<_> = [backend("nope"), odd_port, resource, backend("api")]
        .into_iter()
        .enumerate()
        .map(|(at, backend)| json!({ "path": format!("/{at}"), "pathType": "Exact", "backend": backend }))
        .chain([json!({ "path": "relative", "pathType": "Prefix", "backend": backend("web") })])
        .collect();
    let bad_host = rule("a..b", "/", "web");
    add(
        &mut snapshot,
        Kind::Ingress,
        "shop",
        ours(&[json!({ "host": "a.example", "http": { "paths": paths } }), bad_host]),
    );
    let compiled = run(&snapshot);
    let at = |rest: &str| format!("Ingress shop/shop spec.rules[0].http.paths{rest}: ");
    assert_problem(&compiled, &at("[0].backend.service.name"), "does not exist");
    assert_problem(&compiled, &at("[1].backend.service.port"), "no TCP port 81; it has 80 (http)");
    assert_problem(&compiled, &at("[2].backend.resource"), "Bucket");
    assert_problem(&compiled, &at("[3].backend.service.name"), "no ready endpoint");
    assert_problem(&compiled, &at("[4].path"), "begin with");
    assert_problem(&compiled, "Ingress shop/shop spec.rules[1].host: ", "DNS name");
    assert_eq!(compiled.report.events.iter().filter(|event| event.severity.is_some()).count(), 6);
    for path in ["/0", "/1", "/2", "/3"] {
        assert!(compiled.table.find("a.example", path).unwrap().problem().is_some(), "{path} answers 503");
    }
    assert!(compiled.table.find("a.example", "/4").is_none());
}

#[test]
fn each_name_is_shown_its_certificate() {
    let mut snapshot = snapshot();
    let mut ingress =
        ours(&[rule("a.example", "/", "web"), rule("b.wild.example", "/", "web"), rule("c.example", "/", "web")]);
    ingress["spec"]["tls"] = json!([
        { "hosts": ["a.example", "extra.example", "not-covered.example"], "secretName": "listed" },
        { "secretName": "wild" },
        { "hosts": ["c.example"], "secretName": "gone" },
    ]);
    add(&mut snapshot, Kind::Ingress, "shop", ingress);
    add(&mut snapshot, Kind::Secret, "listed", tls_secret(&["a.example", "extra.example"]));
    add(&mut snapshot, Kind::Secret, "wild", tls_secret(&["*.wild.example"]));
    let compiled = run(&snapshot);
    let held = |name: &str| compiled.memory.secrets.all[&ObjectName::new("shop", name)].good.clone().unwrap();
    for (sni, expected) in [
        ("a.example", held("listed")),
        ("extra.example", held("listed")),
        ("b.wild.example", held("wild")),
        ("other.wild.example", Arc::clone(default_certificate())),
        ("c.example", Arc::clone(default_certificate())),
        ("not-covered.example", Arc::clone(default_certificate())),
    ] {
        assert!(Arc::ptr_eq(compiled.table.certs().resolve(Some(sni), &[]), &expected.key), "{sni}");
    }
    assert_problem(&compiled, "Ingress shop/shop spec.tls[0].hosts[2]: ", "a.example, extra.example");
    assert_problem(&compiled, "Ingress shop/shop spec.tls[2].secretName: ", "does not exist");
    let secrets: Vec<_> =
        compiled.certificates.to_vec().iter().map(|entry| entry.secret.as_ref().map(ToString::to_string)).collect();
    assert_eq!(secrets, [Some("shop/listed".to_owned()), Some("shop/wild".to_owned()), None]);
}

#[test]
fn a_certificate_outlives_its_secret_while_it_is_named() {
    let mut snapshot = snapshot();
    let mut ingress = ours(&[rule("a.example", "/", "web")]);
    ingress["spec"]["tls"] = json!([{ "hosts": ["a.example"], "secretName": "tls" }]);
    add(&mut snapshot, Kind::Ingress, "shop", ingress);
    add(&mut snapshot, Kind::Secret, "tls", tls_secret(&["a.example"]));
    let first = run(&snapshot);
    let good = Arc::clone(first.table.certs().resolve(Some("a.example"), &[]));
    let next = |snapshot: &Snapshot, previous: &Compiled| {
        let compiled = compile(snapshot, &Answers::new(), &options(), default_certificate(), Some(previous), NOW);
        assert!(Arc::ptr_eq(compiled.table.certs().resolve(Some("a.example"), &[]), &good));
        compiled
    };

    let mut broken = tls_secret(&["a.example"]);
    broken["stringData"]["tls.key"] = "nonsense".into();
    add(&mut snapshot, Kind::Secret, "tls", broken);
    let second = next(&snapshot, &first);
    assert_problem(&second, "Secret shop/tls data[tls.key]: ", "last good certificate");

    Arc::make_mut(&mut snapshot.secrets).clear();
    let third = next(&snapshot, &second);
    assert_problem(&third, "Ingress shop/shop spec.tls[0].secretName: ", "last good certificate");

    add(&mut snapshot, Kind::Secret, "tls", tls_secret(&["a.example"]));
    let renewed = compile(&snapshot, &Answers::new(), &options(), default_certificate(), Some(&third), NOW);
    assert!(!Arc::ptr_eq(renewed.table.certs().resolve(Some("a.example"), &[]), &good));
    assert_eq!(problems(&renewed), Vec::<String>::new());
}

#[test]
fn an_ingress_of_ours_is_scheduled_for_sync_and_no_other() {
    let mut snapshot = snapshot();
    add(&mut snapshot, Kind::Ingress, "shop", ours(&[rule("a.example", "/", "web")]));
    let mut other = ours(&[rule("b.example", "/", "web")]);
    other["spec"]["ingressClassName"] = "another".into();
    add(&mut snapshot, Kind::Ingress, "other", other);
    let object = ObjectRef::new(Kind::Ingress, ObjectName::new("shop", "shop"));
    let expected = Event { object, severity: None, reason: "Sync", message: "Scheduled for sync".to_owned() };
    let told: Vec<Event> = run(&snapshot).report.events.iter().filter(|it| it.reason == "Sync").cloned().collect();
    assert_eq!(told, [expected]);
}

#[test]
fn the_addresses_of_our_service_are_published_and_never_asked() {
    let mut snapshot = snapshot();
    let status = json!({ "loadBalancer": { "ingress": [{ "ip": "192.0.2.9" }, { "ip": "192.0.2.1" }] } });
    add(&mut snapshot, Kind::Service, "front", json!({ "spec": { "type": "LoadBalancer" }, "status": status }));
    add(&mut snapshot, Kind::Ingress, "shop", ours(&[rule("a.example", "/", "web")]));
    let options = CompileOptions { publish: Publish::Service(ObjectName::new("shop", "front")), ..options() };
    let compiled = compile(&snapshot, &Answers::new(), &options, default_certificate(), None, NOW);
    let expected: Vec<IngressAddress> = vec!["192.0.2.1".parse().unwrap(), "192.0.2.9".parse().unwrap()];
    assert_eq!(compiled.report.ingresses[&ObjectName::new("shop", "shop")], expected);
    assert!(compiled.table.find("a.example", "/").unwrap().endpoints.list().is_empty());
    assert_problem(&compiled, "Ingress shop/shop spec.rules[0].http.paths[0].backend: ", "192.0.2.1");
}

/// What the Ingress `shop` is to show; `-` if nothing is said.
fn shown(compiled: &Compiled) -> String {
    let shown = compiled.report.ingresses.get(&ObjectName::new("shop", "shop"));
    shown.map_or("-".into(), |all| all.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
}

#[test]
fn what_a_service_publishes_depends_on_its_type() {
    let status = json!({ "loadBalancer": { "ingress": [{ "ip": "192.0.2.9" }, { "hostname": "lb.example" }] } });
    for (spec, expected) in [
        (json!({ "type": "LoadBalancer", "externalIPs": ["192.0.2.8"] }), "192.0.2.8 192.0.2.9 lb.example"),
        (
            json!({ "type": "ClusterIP", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1", "fd00::1"] }),
            "10.0.0.1 fd00::1",
        ),
        (json!({ "clusterIP": "10.0.0.1" }), "10.0.0.1"),
        (json!({ "type": "ClusterIP", "clusterIP": "None", "clusterIPs": ["None"] }), ""),
        (json!({ "type": "NodePort", "clusterIP": "10.0.0.1", "externalIPs": ["192.0.2.8"] }), "192.0.2.8"),
        (json!({ "type": "NodePort", "clusterIP": "10.0.0.1" }), "10.0.0.1"),
        (json!({ "type": "ExternalName", "externalName": "Edge.example." }), "edge.example"),
    ] {
        let mut snapshot = snapshot();
        add(&mut snapshot, Kind::Ingress, "shop", ours(&[rule("a.example", "/", "web")]));
        add(&mut snapshot, Kind::Service, "front", json!({ "spec": spec, "status": status }));
        let options = CompileOptions { publish: Publish::Service(ObjectName::new("shop", "front")), ..options() };
        assert_eq!(
            shown(&compile(&snapshot, &Answers::new(), &options, default_certificate(), None, NOW)),
            expected,
            "{spec}"
        );
    }
}

#[test]
fn addresses_that_are_given_are_shown_once_and_may_be_asked() {
    let mut snapshot = snapshot();
    add(&mut snapshot, Kind::Ingress, "shop", ours(&[rule("a.example", "/", "web")]));
    let given = ["lb.example", "192.0.2.1", "192.0.2.1"].map(|text| text.parse().unwrap()).to_vec();
    let options = CompileOptions { publish: Publish::Addresses(given), ..options() };
    let compiled = compile(&snapshot, &Answers::new(), &options, default_certificate(), None, NOW);
    assert_eq!(shown(&compiled), "192.0.2.1 lb.example");
    assert_eq!(compiled.table.find("a.example", "/").unwrap().endpoints.list().len(), 1, "a node has endpoints too");
}

#[test]
fn an_ingress_that_is_no_longer_ours_loses_the_addresses_we_wrote_and_no_others() {
    let options = CompileOptions { publish: Publish::Addresses(vec!["192.0.2.9".parse().unwrap()]), ..options() };
    let ingress = |class: &str, shown: &str| {
        let mut ingress = ours(&[rule("a.example", "/", "web")]);
        ingress["spec"]["ingressClassName"] = class.into();
        let entries: Vec<_> = shown.split_whitespace().map(|ip| json!({ "ip": ip })).collect();
        ingress["status"] = json!({ "loadBalancer": { "ingress": entries } });
        ingress
    };
    let mut snapshot = snapshot();
    add(&mut snapshot, Kind::IngressClass, "other", json!({ "spec": { "controller": "example.com/other" } }));
    for (was, shows, expected) in [
        ("ferrogate", "192.0.2.9", ""),
        ("ferrogate", "192.0.2.8", "-"),
        ("ferrogate", "192.0.2.9 192.0.2.8", "-"),
        ("ferrogate", "", "-"),
        // Others may share our addresses.
        ("other", "192.0.2.9", "-"),
    ] {
        let mut compiled = None;
        for (class, shows) in [(was, "192.0.2.9"), ("other", shows), ("other", shows)] {
            add(&mut snapshot, Kind::Ingress, "shop", ingress(class, shows));
            compiled =
                Some(compile(&snapshot, &Answers::new(), &options, default_certificate(), compiled.as_ref(), NOW));
        }
        let mut compiled = compiled.unwrap();
        assert_eq!(shown(&compiled), expected, "was {was}, shows {shows:?}");
        // Once it was cleared, whoever writes the same again means it.
        for shows in ["", "192.0.2.9"] {
            add(&mut snapshot, Kind::Ingress, "shop", ingress("other", shows));
            compiled = compile(&snapshot, &Answers::new(), &options, default_certificate(), Some(&compiled), NOW);
            assert_eq!(shown(&compiled), "-", "shows {shows:?} after it was cleared");
        }
    }
}

#[test]
fn the_usual_service_is_published_without_being_named() {
    let mut snapshot = snapshot();
    let status = json!({ "loadBalancer": { "ingress": [{ "ip": "192.0.2.9" }] } });
    add(&mut snapshot, Kind::Service, "front", json!({ "spec": { "type": "LoadBalancer" }, "status": status }));
    add(&mut snapshot, Kind::Ingress, "shop", ours(&[rule("a.example", "/", "web")]));
    assert!(run(&snapshot).report.ingresses.is_empty());
    let (namespace, name) = config::settings::PUBLISH_SERVICE;
    let services = Arc::make_mut(&mut snapshot.services);
    let service = services.remove(&ObjectName::new("shop", "front")).unwrap();
    services.insert(ObjectName::new(namespace, name), service);
    let expected: Vec<IngressAddress> = vec!["192.0.2.9".parse().unwrap()];
    assert_eq!(run(&snapshot).report.ingresses[&ObjectName::new("shop", "shop")], expected);
}

#[test]
fn what_did_not_change_is_taken_over() {
    let mut snapshot = snapshot();
    add(&mut snapshot, Kind::Ingress, "one", ours(&[rule("one.example", "/", "web")]));
    add(&mut snapshot, Kind::Ingress, "two", ours(&[rule("two.example", "/", "api")]));
    let before = run(&snapshot);
    let busy = before.table.find("two.example", "/").unwrap().endpoints.list()[0].load.enter();
    endpoints(&mut snapshot, "api", &[2, 3]);
    let after = compile(&snapshot, &Answers::new(), &options(), default_certificate(), Some(&before), NOW);
    let route = |compiled: &Compiled, host| Arc::clone(compiled.table.find(host, "/").unwrap());
    assert!(Arc::ptr_eq(&route(&before, "one.example"), &route(&after, "one.example")));
    let two = route(&after, "two.example");
    assert_eq!(two.endpoints.list().iter().map(|endpoint| endpoint.load.in_flight()).collect::<Vec<_>>(), [1, 0]);
    drop(busy);
}

/// Gives the Service `web` an endpoint in each of the zones `a` and `b`, the last number of its address counting up.
fn zoned_endpoints(snapshot: &mut Snapshot, conditions: &Value) {
    let endpoint = |last: u8, zone: &str| {
        json!({
            "addresses": [format!("192.0.2.{last}")],
            "conditions": conditions,
            "hints": { "forZones": [{ "name": zone }] },
        })
    };
    let slice = json!({
        "metadata": { "labels": { "kubernetes.io/service-name": "web" } },
        "addressType": "IPv4",
        "ports": [{ "name": "http", "port": 8080 }],
        "endpoints": [endpoint(1, "a"), endpoint(2, "b")],
    });
    add(snapshot, Kind::EndpointSlice, "web", slice);
}

fn in_zone(snapshot: &mut Snapshot, zone: &str) {
    add(snapshot, Kind::Node, "n1", json!({ "metadata": { "labels": { "topology.kubernetes.io/zone": zone } } }));
}

#[test]
fn a_change_of_our_zone_is_a_change_of_endpoints() {
    let mut snapshot = snapshot();
    add(&mut snapshot, Kind::Ingress, "shop", ours(&[rule("a.example", "/", "web")]));
    let leaving = json!({ "ready": false, "serving": true, "terminating": true });
    for conditions in [json!({}), leaving] {
        zoned_endpoints(&mut snapshot, &conditions);
        let mut compiled = run(&snapshot);
        for (zone, expected) in [("b", &[2_u8][..]), ("a", &[1]), ("c", &[1, 2]), ("", &[1, 2])] {
            in_zone(&mut snapshot, zone);
            compiled = compile(&snapshot, &Answers::new(), &options(), default_certificate(), Some(&compiled), NOW);
            let route = Arc::clone(compiled.table.find("a.example", "/").unwrap());
            let found: Vec<_> = route.endpoints.list().iter().map(|endpoint| endpoint.addr.to_string()).collect();
            let expected: Vec<_> = expected.iter().map(|last| format!("192.0.2.{last}:8080")).collect();
            assert_eq!(found, expected, "in zone {zone:?}, {conditions}");
        }
        in_zone(&mut snapshot, "b");
        let blind = CompileOptions { node: None, ..options() };
        let compiled = compile(&snapshot, &Answers::new(), &blind, default_certificate(), None, NOW);
        assert_eq!(compiled.table.find("a.example", "/").unwrap().endpoints.list().len(), 2);
    }
}

/// A source that counts how often it is asked.
#[derive(Debug, Default)]
struct Counting(std::sync::atomic::AtomicU32);

impl config::snapshot::Origin for Counting {
    fn locate(&self, _: &config::object::FieldPath) -> Option<config::diagnostic::Place> {
        let line = self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
        Some(config::diagnostic::Place { file: "shop.yaml".into(), line, column: 1 })
    }
}

#[test]
fn a_source_is_asked_for_a_place_once() {
    let mut snapshot = snapshot();
    add(&mut snapshot, Kind::Ingress, "shop", ours(&[rule("a.example", "/", "nope")]));
    let object = ObjectRef::new(Kind::Ingress, ObjectName::new("shop", "shop"));
    let origin: Arc<dyn config::snapshot::Origin> = Arc::new(Counting::default());
    snapshot.origins = Arc::new([(object, origin)].into());
    let first = run(&snapshot);
    let second = compile(&snapshot, &Answers::new(), &options(), default_certificate(), Some(&first), NOW);
    assert_eq!(first.report.problems[0].place.as_ref().map(|place| place.line), Some(1));
    assert_eq!(first.report.problems, second.report.problems);
}

/// A step in the life of a cluster: what to add, replace or remove.
#[derive(Clone, Debug)]
enum Change {
    Ingress(u8, Vec<(u8, u8, u8)>, Option<u8>),
    NoIngress(u8),
    Endpoints(u8, Vec<u8>),
    Service(u8, bool),
    /// One of two certificates comes to be in a Secret.
    Secret(u8, bool),
    /// Our class is there or not.
    Class(bool),
}

/// Certificates for all of `a.example` and `*.example`.
fn some_certificates() -> &'static [Value; 2] {
    static MADE: LazyLock<[Value; 2]> = LazyLock::new(|| [(); 2].map(|()| tls_secret(&["a.example", "*.example"])));
    &MADE
}

const SERVICES: [&str; 3] = ["web", "api", "nope"];

fn change() -> impl Strategy<Value = Change> {
    let rules = proptest::collection::vec((0_u8..4, 0_u8..4, 0_u8..3), 0..4);
    prop_oneof![
        4 => (0_u8..5, rules, proptest::option::of(0_u8..3)).prop_map(|(name, rules, default)| Change::Ingress(name, rules, default)),
        1 => (0_u8..5).prop_map(Change::NoIngress),
        2 => (0_u8..3, proptest::collection::vec(1_u8..5, 0..3)).prop_map(|(service, last)| Change::Endpoints(service, last)),
        1 => (0_u8..3, any::<bool>()).prop_map(|(service, exists)| Change::Service(service, exists)),
        2 => (0_u8..2, any::<bool>()).prop_map(|(secret, which)| Change::Secret(secret, which)),
        1 => any::<bool>().prop_map(Change::Class),
    ]
}

fn apply(snapshot: &mut Snapshot, change: &Change) {
    let service_of = |service: u8| SERVICES[usize::from(service)];
    match change {
        Change::Ingress(name, rules, default) => {
            let hosts = ["", "a.example", "*.example", "b.a.example"];
            let paths = ["/", "/x", "/x/", "/x/y"];
            let rules: Vec<_> = rules
                .iter()
                .map(|(host, path, service)| {
                    rule(hosts[usize::from(*host)], paths[usize::from(*path)], service_of(*service))
                })
                .collect();
            let mut ingress = ours(&rules);
            if let Some(service) = default {
                ingress["spec"]["defaultBackend"] = backend(service_of(*service));
            }
            ingress["spec"]["tls"] = json!([{ "hosts": ["a.example"], "secretName": format!("tls{}", name % 2) }]);
            let annotations = match name {
                1 => json!({ "ferrogate.io/server-alias": "c.example" }),
                2 => json!({ "ferrogate.io/from-to-www-redirect": "true" }),
                3 => json!({ "ferrogate.io/canary": "true", "ferrogate.io/canary-weight": "50" }),
                4 => json!({ "ferrogate.io/auth-type": "basic", "ferrogate.io/auth-secret": "tls0" }),
                _ => json!({}),
            };
            // Some are of one age.
            let created = format!("2024-01-0{}T00:00:00Z", 1 + name % 2);
            ingress["metadata"] = json!({ "creationTimestamp": created, "annotations": annotations });
            add(snapshot, Kind::Ingress, &format!("i{name}"), ingress);
        }
        Change::NoIngress(name) => {
            Arc::make_mut(&mut snapshot.ingresses).remove(&ObjectName::new("shop", format!("i{name}")));
        }
        Change::Endpoints(service, last) => endpoints(snapshot, service_of(*service), last),
        Change::Service(service, true) => {
            let ports = json!([{ "name": "http", "port": 80 }]);
            add(snapshot, Kind::Service, service_of(*service), json!({ "spec": { "ports": ports } }));
        }
        Change::Secret(secret, which) => {
            let object = some_certificates()[usize::from(*which)].clone();
            add(snapshot, Kind::Secret, &format!("tls{secret}"), object);
        }
        Change::Class(true) => {
            let class = json!({ "spec": { "controller": "ferrogate.io/ingress-controller" } });
            add(snapshot, Kind::IngressClass, "ferrogate", class);
        }
        Change::Class(false) => {
            Arc::make_mut(&mut snapshot.ingress_classes).remove(&ObjectName::cluster("ferrogate"));
        }
        Change::Service(service, false) => {
            Arc::make_mut(&mut snapshot.services).remove(&ObjectName::new("shop", service_of(*service)));
        }
    }
}

/// All that can be seen of a table.
fn seen(compiled: &Compiled) -> impl PartialEq + std::fmt::Debug + use<> {
    let hosts = ["a.example", "c.example", "b.a.example", "www.a.example", "x.y"];
    let asked: Vec<_> = hosts
        .iter()
        .flat_map(|host| ["/", "/x", "/x/", "/x/y", "/x/y/z", "/z"].map(|path| answer(compiled, host, path)))
        .collect();
    let shown = ["a.example", "c.example", "www.a.example", "x.y"].map(|name| {
        let key = compiled.table.certs().resolve(Some(name), &[]);
        key.cert.iter().map(|it| it.to_vec()).collect::<Vec<_>>()
    });
    let counted: BTreeSet<_> = compiled.routes.ingresses.keys().cloned().collect();
    let listed = compiled.routes.to_vec();
    assert_eq!(counted, listed.iter().map(|route| route.ingress.clone()).collect(), "who has routes");
    assert_eq!(compiled.routes.len, listed.len());
    let certificates = compiled.certificates.to_vec();
    let Report { ingresses, events, problems, .. } = compiled.report.clone();
    (asked, shown, listed, certificates, problems, events, ingresses)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn compiling_step_by_step_equals_compiling_afresh(changes in proptest::collection::vec(change(), 1..12)) {
        let mut snapshot = snapshot();
        let mut compiled = run(&snapshot);
        for change in &changes {
            apply(&mut snapshot, change);
            compiled = compile(&snapshot, &Answers::new(), &options(), default_certificate(), Some(&compiled), NOW);
            prop_assert_eq!(seen(&compiled), seen(&run(&snapshot)), "{:?}", changes);
        }
    }

    #[test]
    fn the_order_in_which_objects_arrive_makes_no_difference(
        changes in proptest::collection::btree_map(0_u8..5, proptest::collection::vec((0_u8..4, 0_u8..4, 0_u8..3), 0..4), 0..5),
        shuffled in Just(vec![0_u8, 1, 2, 3, 4]).prop_shuffle(),
    ) {
        let after = |order: &[u8]| {
            let mut snapshot = snapshot();
            let mut compiled = run(&snapshot);
            for (name, rules) in order.iter().filter_map(|name| changes.get_key_value(name)) {
                apply(&mut snapshot, &Change::Ingress(*name, rules.clone(), None));
                compiled = compile(&snapshot, &Answers::new(), &options(), default_certificate(), Some(&compiled), NOW);
            }
            compiled
        };
        prop_assert_eq!(seen(&after(&[0, 1, 2, 3, 4])), seen(&after(&shuffled)));
    }
}
