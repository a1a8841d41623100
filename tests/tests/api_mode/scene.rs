//! The scene of the tests with the real binary: a shop in a cluster.

use std::collections::BTreeMap;

use ferrogate_tests::appliance::{Appliance, Builder};
use ferrogate_tests::client::Target;
use ferrogate_tests::load::{Load, Request};
pub(crate) use ferrogate_tests::source::own_address;
use ferrogate_tests::upstream::{Reply, Upstream};
use ferrogate_tests::wait::{PATIENCE, within};
use serde_json::{Value, json};

use crate::harness::{World, slice};

/// The host of the shop.
pub(crate) const HOST: &str = "web.example.com";

/// Service name to address, for those that have one.
pub(crate) type Addresses = BTreeMap<String, String>;

/// Starts the binary as a process of this name.
pub(crate) async fn appliance(world: &World, name: &str) -> Appliance {
    let config = world.server.kubeconfig(world.folder.path()).expect("a writable folder");
    Builder::cluster(&config).with(&["--node-name", name]).start().await
}

/// The addresses that Services show, no two of which are the same.
pub(crate) fn addresses(world: &World) -> Addresses {
    let mut owners = BTreeMap::new();
    let mut shown = Addresses::new();
    for service in world.server.all("Service") {
        let name = service["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        for entry in service["status"]["loadBalancer"]["ingress"].as_array().into_iter().flatten() {
            let ip = entry["ip"].as_str().unwrap_or_default().to_owned();
            let other = owners.insert(ip.clone(), name.clone());
            assert_eq!(other, None, "{ip} belongs to {name} too");
            shown.insert(name.clone(), ip);
        }
    }
    shown
}

/// Waits until so many Services show an address; none that `known` lists may have lost or changed its own meanwhile.
pub(crate) async fn settled(world: &World, known: &Addresses, count: usize) -> Addresses {
    within(PATIENCE * 3, &format!("{count} addresses"), async || {
        let now = addresses(world);
        keeps(known, &now);
        if now.len() == count { Ok(now) } else { Err(format!("{} of {count}", now.len())) }
    })
    .await
}

/// Whoever had an address has it still.
pub(crate) fn keeps(known: &Addresses, now: &Addresses) {
    for (name, ip) in known {
        assert_eq!(now.get(name), Some(ip), "the address of {name}");
    }
}

/// Our class.
pub(crate) fn class() -> Value {
    json!({ "apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": { "name": "ferrogate" },
        "spec": { "controller": "ferrogate.io/ingress-controller" } })
}

/// A backend that answers with its name, and its Service with one endpoint.
///
/// `None`, after saying so, where this machine has no address but loopback ones, which no endpoint may have. What is
/// sent to an address of its own never leaves the machine.
pub(crate) async fn backend(world: &World, name: &str) -> Option<Upstream> {
    let Some(ip) = own_address() else {
        println!("skipped: this machine has no address that an endpoint may have");
        return None;
    };
    let text = name.to_owned();
    let upstream = Upstream::start_on(ip, move |_| Reply::Text(text.clone())).await;
    world.put(&json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "namespace": "shop", "name": name },
        "spec": { "type": "ClusterIP", "clusterIP": "10.96.0.11", "clusterIPs": ["10.96.0.11"],
            "ports": [{ "port": 80, "protocol": "TCP", "targetPort": 8080 }] } }));
    let mut endpoints = slice(&format!("{name}-1"), name);
    endpoints["endpoints"][0]["addresses"] = json!([ip.to_string()]);
    endpoints["ports"][0]["port"] = json!(upstream.address.port());
    world.put(&endpoints);
    Some(upstream)
}

/// Steady requests for the shop.
pub(crate) fn load(appliance: &Appliance) -> Load {
    let target = Target::plain(appliance.http);
    Load::start(&[Request { target, host: HOST.to_owned(), path: "/".to_owned() }])
}
