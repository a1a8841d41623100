//! The objects: what real ones carry around, in numbers.

use std::sync::Arc;

use config::legacy;
use config::object::ObjectName;
use config::snapshot::{Objects, Snapshot};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// The namespace of all of them.
pub const NAMESPACE: &str = "shop";
/// The address configuration: one pool that is large enough.
pub const POOLS: &str = "address-pools:\n- {name: lan, protocol: layer2, addresses: [10.0.0.0/15]}\n";

/// A Service, with this address in its status if there is one, and a mark that tells versions apart.
#[must_use]
pub fn service(number: usize, held: Option<String>, mark: usize) -> Value {
    let ingress: Vec<Value> = held.into_iter().map(|ip| json!({ "ip": ip, "ipMode": "VIP" })).collect();
    typical(json!({ "apiVersion": "v1", "kind": "Service", "metadata": metadata("s", number, mark),
        "spec": { "type": "LoadBalancer", "clusterIP": "10.96.0.10", "clusterIPs": ["10.96.0.10"],
            "externalTrafficPolicy": "Cluster", "selector": { "app": format!("s{number}") },
            "ports": [{ "name": "http", "port": 80, "protocol": "TCP", "targetPort": 8080 }] },
        "status": { "loadBalancer": { "ingress": ingress } } }))
}

/// An Ingress with a host of its own and two paths.
#[must_use]
pub fn ingress(number: usize, mark: usize) -> Value {
    let backend = json!({ "service": { "name": format!("s{number}"), "port": { "name": "http" } } });
    let path = |path: &str| json!({ "path": path, "pathType": "Prefix", "backend": backend });
    typical(json!({ "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": metadata("i", number, mark),
        "spec": { "ingressClassName": "ferrogate", "rules": [{ "host": format!("i{number}.example.com"),
            "http": { "paths": [path("/"), path(&format!("/v{mark}"))] } }] } }))
}

/// One of the slices of a Service, with three endpoints.
#[must_use]
pub fn slice(number: usize, part: usize, mark: usize) -> Value {
    let endpoint = |index: usize| {
        json!({ "addresses": [format!("10.{}.{}.{index}", 128 + part, mark % 250)], "nodeName": "worker-1.example.com",
            "zone": "zone-a", "conditions": { "ready": true, "serving": true, "terminating": false },
            "targetRef": { "kind": "Pod", "name": format!("a-pod-of-the-application-{index}"), "namespace": NAMESPACE,
                "uid": "b8e0ba0c-3a0e-4c2a-9d5b-5d6c2f5a6b7c" } })
    };
    let mut object = typical(json!({ "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "addressType": "IPv4", "metadata": metadata("s", number, mark),
        "endpoints": (1..=3).map(endpoint).collect::<Vec<_>>(),
        "ports": [{ "name": "http", "port": 8080, "protocol": "TCP" }] }));
    object["metadata"]["name"] = json!(format!("s{number:05}-{part}"));
    object["metadata"]["labels"]["kubernetes.io/service-name"] = json!(format!("s{number}"));
    object
}

/// The `ConfigMap` with [`POOLS`].
#[must_use]
pub fn config_map() -> Value {
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "namespace": "metallb-system", "name": "config" },
        "data": { "config": POOLS } })
}

/// The class of the Ingresses.
#[must_use]
pub fn ingress_class() -> Value {
    json!({ "apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": { "name": "ferrogate" },
        "spec": { "controller": "ferrogate.io/ingress-controller" } })
}

/// The annotation that carries the mark.
pub const MARK: &str = "example.com/mark";

fn metadata(prefix: &str, number: usize, mark: usize) -> Value {
    json!({ "namespace": NAMESPACE, "name": format!("{prefix}{number}"), "annotations": { MARK: mark.to_string() },
        "labels": { "app.kubernetes.io/managed-by": "Helm", "app.kubernetes.io/name": "a-typical-application" } })
}

/// Adds what `kubectl apply` leaves behind.
fn typical(mut object: Value) -> Value {
    let applied = object.to_string();
    object["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"] = json!(applied);
    object
}

/// The address of a Service, if it has been given one.
#[must_use]
pub fn address(number: usize) -> String {
    format!("10.0.{}.{}", number / 256, number % 256)
}

/// A snapshot of `count` Services and Ingresses and twice as many slices, as a source makes it.
#[must_use]
pub fn snapshot(count: usize, held: bool) -> Snapshot {
    let pools = legacy::parse_text(&"pools".into(), &POOLS.into()).config.unwrap_or_default();
    let services = (0..count).map(|number| service(number, held.then(|| address(number)), 0));
    let slices = (0..count).flat_map(|number| [slice(number, 0, 0), slice(number, 1, 0)]);
    Snapshot {
        generation: 1,
        pools: Arc::new(pools),
        services: objects(services),
        ingresses: objects((0..count).map(|number| ingress(number, 0))),
        endpoint_slices: objects(slices),
        ingress_classes: objects([ingress_class()].into_iter()),
        ..Snapshot::default()
    }
}

/// Reads one object, without what a source strips off.
#[must_use]
pub fn typed<T: DeserializeOwned>(mut object: Value) -> (ObjectName, Arc<T>) {
    if let Some(annotations) = object["metadata"]["annotations"].as_object_mut() {
        annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    }
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
    let name = ObjectName::new(text("namespace"), text("name"));
    (name, Arc::new(serde_json::from_value(object).expect("an object of its kind")))
}

fn objects<T: DeserializeOwned>(objects: impl Iterator<Item = Value>) -> Objects<T> {
    Arc::new(objects.map(typed).collect())
}

/// Replaces one object, as a source does: the map of its kind is copied, all other objects are shared.
pub fn replace<T: DeserializeOwned>(objects: &mut Objects<T>, object: Value) {
    let (name, object) = typed(object);
    let mut changed = (**objects).clone();
    changed.insert(name, object);
    *objects = Arc::new(changed);
}
