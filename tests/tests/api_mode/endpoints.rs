//! Endpoints in a cluster, with the real binary: what a tenant writes decides who is asked, within bounds.

use std::collections::BTreeSet;

use ferrogate_tests::appliance::{Appliance, Builder};
use ferrogate_tests::dns::Dns;
use ferrogate_tests::upstream::{Reply, Upstream};
use ferrogate_tests::wait::until;
use serde_json::{Value, json};

use crate::harness::{World, ingress, slice};
use crate::scene::{HOST, appliance, class, own_address};

/// Backends on an address that endpoints may have; `None`, after saying so, where there is none.
async fn pods(names: &[&str]) -> Option<Vec<Upstream>> {
    let Some(ip) = own_address() else {
        println!("skipped: this machine has no address that an endpoint may have");
        return None;
    };
    let mut pods = Vec::new();
    for name in names {
        let text = (*name).to_owned();
        pods.push(Upstream::start_on(ip, move |_| Reply::Text(text.clone())).await);
    }
    Some(pods)
}

/// A Service `shop/web` whose port 80 is called `http`, with more in its `spec`.
fn service(more: &Value) -> Value {
    let mut service = json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "namespace": "shop", "name": "web" },
        "spec": { "ports": [{ "name": "http", "port": 80, "protocol": "TCP", "targetPort": "web" }] } });
    for (key, value) in more.as_object().into_iter().flatten() {
        service["spec"][key] = value.clone();
    }
    service
}

/// A slice of its own for an endpoint, since each has its own port number.
fn endpoint(name: &str, pod: &Upstream, more: &Value) -> Value {
    let mut slice = slice(name, "web");
    slice["ports"] = json!([{ "name": "http", "port": pod.address.port(), "protocol": "TCP" }]);
    slice["endpoints"][0]["addresses"] = json!([pod.address.ip().to_string()]);
    for (key, value) in more.as_object().into_iter().flatten() {
        slice["endpoints"][0][key] = value.clone();
    }
    slice
}

async fn answered_by(appliance: &Appliance, names: &[&str]) {
    let expected: BTreeSet<_> = names.iter().map(ToString::to_string).collect();
    until(&format!("answers of {names:?}"), async || {
        let mut seen = BTreeSet::new();
        for _ in 0..48 {
            let response = appliance.get(HOST, "/").await.map_err(|error| error.to_string())?;
            seen.insert(if response.status == 200 { response.text() } else { response.status.to_string() });
        }
        if seen == expected { Ok(()) } else { Err(format!("{seen:?}")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slices_decide_who_is_asked_as_they_come_and_go() {
    let Some(pods) = pods(&["one", "two"]).await else { return };
    let world = World::new();
    for object in [class(), ingress("web"), service(&json!({ "clusterIP": "None" }))] {
        world.put(&object);
    }
    let conditions = |ready: bool, serving: bool, terminating: bool| json!({ "conditions": { "ready": ready, "serving": serving, "terminating": terminating } });
    let appliance = appliance(&world, "n1").await;
    answered_by(&appliance, &["503"]).await;
    world.put(&endpoint("web-1", &pods[0], &conditions(true, true, false)));
    answered_by(&appliance, &["one"]).await;
    world.put(&endpoint("web-2", &pods[1], &json!({})));
    world.put(&endpoint("web-3", &pods[1], &json!({})));
    answered_by(&appliance, &["one", "two"]).await;
    assert_eq!(appliance.api("routes").await[0]["endpoints"], 2, "an address in two slices is one endpoint");
    world.put(&endpoint("web-1", &pods[0], &conditions(false, true, true)));
    answered_by(&appliance, &["two"]).await;
    for name in ["web-2", "web-3"] {
        world.server.delete("EndpointSlice", "shop", name).expect("it is there");
    }
    answered_by(&appliance, &["one"]).await;
    world.put(&service(&json!({ "clusterIP": "None", "publishNotReadyAddresses": true })));
    world.put(&endpoint("web-1", &pods[0], &conditions(true, false, true)));
    answered_by(&appliance, &["one"]).await;
    world.put(&endpoint("web-1", &pods[0], &conditions(false, false, true)));
    answered_by(&appliance, &["503"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hints_are_followed_by_the_zone_that_the_node_has_in_the_cluster() {
    let Some(pods) = pods(&["near", "far"]).await else { return };
    let world = World::new();
    let zone = |zone: &str| json!({ "hints": { "forZones": [{ "name": zone }] } });
    let node = |zone: &str| {
        json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": "n1",
            "labels": { "topology.kubernetes.io/zone": zone } } })
    };
    for object in [
        class(),
        ingress("web"),
        node("a"),
        service(&json!({ "clusterIP": "None", "trafficDistribution": "PreferClose" })),
        endpoint("web-1", &pods[0], &zone("a")),
        endpoint("web-2", &pods[1], &zone("b")),
    ] {
        world.put(&object);
    }
    let close = appliance(&world, "n1").await;
    answered_by(&close, &["near"]).await;
    world.put(&node("b"));
    answered_by(&close, &["far"]).await;
    drop(close);
    let config = world.server.kubeconfig(world.folder.path()).expect("a writable folder");
    let flags = ["--node-name", "n1", "--enable-topology-aware-routing=false"];
    let blind = Builder::cluster(&config).with(&flags).start().await;
    answered_by(&blind, &["far", "near"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_s_external_name_leads_nowhere_unless_the_operator_says_so() {
    let Some(pods) = pods(&["out there"]).await else { return };
    let world = World::new();
    let dns = Dns::start().await;
    dns.set_addresses("db.example.net", &[pods[0].address.ip()]);
    // A real server wants no cluster IP here and keeps the ports.
    let external = json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "namespace": "shop", "name": "web" },
        "spec": { "type": "ExternalName", "externalName": "db.example.net", "ports": [{ "name": "http", "port": 80,
            "protocol": "TCP", "targetPort": pods[0].address.port() }] } });
    for object in [class(), ingress("web"), external] {
        world.put(&object);
    }
    let config = world.server.kubeconfig(world.folder.path()).expect("a writable folder");
    let server = dns.address.to_string();
    let start = |flags: &[&str]| Builder::cluster(&config).with(&["--dns-server", &server]).with(flags);
    let careful = start(&["--node-name", "careful"]).start().await;
    answered_by(&careful, &["503"]).await;
    assert_eq!(dns.asked("db.example.net"), 0);
    drop(careful);
    let open = start(&["--node-name", "open", "--disable-svc-external-name=false"]).start().await;
    answered_by(&open, &["out there"]).await;
    // What only listens on this machine is out of reach, whatever the name says.
    dns.set_addresses("db.example.net", &["127.0.0.1".parse().expect("an address")]);
    answered_by(&open, &["503"]).await;
}
