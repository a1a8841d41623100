//! The real binary on an API server.

use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::time::Duration;

use ferrogate_tests::api_server::ApiServer;
use ferrogate_tests::api_server::failure::Failure;
use ferrogate_tests::api_server::faults::{Fault, Match};
use ferrogate_tests::appliance::{Appliance, Builder};
use ferrogate_tests::binary;
use ferrogate_tests::client::Target;
use ferrogate_tests::netns::Lan;
use ferrogate_tests::skip_unless_root;
use ferrogate_tests::upstream::{Reply, Upstream};
use ferrogate_tests::wait::{throughout, until};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{World, ingress, pools, service, slice};

const VIP: &str = "10.77.0.100";

#[tokio::test(flavor = "multi_thread")]
async fn the_appliance_takes_its_lease_and_gives_it_back() {
    let world = World::new();
    let config = world.server.kubeconfig(world.folder.path()).unwrap();
    let any = "127.0.0.1:0";
    let mut appliance = Command::new(binary::path())
        .args(["run", "--roles", "ingress", "--http", any, "--https", any, "--admin", any, "--kubeconfig"])
        .arg(config)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let holder = async |held: bool| {
        until("the lease", async || {
            let lease = world.server.get("Lease", "metallb-system", "ferrogate-ingress");
            let holder = lease.map(|it| it["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned());
            match holder {
                Ok(holder) if holder.is_empty() != held => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    };
    holder(true).await;
    let process = rustix::process::Pid::from_child(&appliance);
    rustix::process::kill_process(process, rustix::process::Signal::TERM).unwrap();
    holder(false).await;
    assert!(appliance.wait().unwrap().success());
}

/// The addresses that a Service is shown with; `None` if it is not shown.
async fn shown(appliance: &Appliance, service: &str) -> Option<Vec<Value>> {
    let vips = appliance.api("vips").await;
    let found = vips.into_iter().find(|vip| vip["service"] == service)?;
    Some(found["ips"].as_array().cloned().unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_without_api_server_serves_routes_and_keeps_committed_addresses_and_gives_no_other() {
    skip_unless_root!();
    let lan = Lan::new();
    let mut world = World::of(lan.node.enter(ApiServer::start).expect("a free loopback port"));
    if world.server.skips("a server in a namespace of its own: a real one is asked from outside") {
        return;
    }
    let backend =
        Upstream::start_inside(&lan.peer, Ipv4Addr::new(10, 77, 0, 2), |_| Reply::Text("from the backend".into()));
    world.put(&pools("10.77.0.100-10.77.0.109"));
    world.put(
        &json!({ "apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": { "name": "ferrogate" },
        "spec": { "controller": "ferrogate.io/ingress-controller" } }),
    );
    let mut endpoints = slice("web-1", "web");
    endpoints["endpoints"][0]["addresses"] = json!(["10.77.0.2"]);
    endpoints["ports"][0]["port"] = json!(backend.address.port());
    for object in [service("web"), ingress("web"), endpoints] {
        world.put(&object);
    }
    let config = world.server.kubeconfig(world.folder.path()).unwrap();
    let cache = world.folder.path().join("cache").display().to_string();
    let builder = Builder::cluster(&config).inside(lan.node.name()).with(&["--cache", &cache]);
    let asks = || Target::plain((Ipv4Addr::new(10, 77, 0, 1), 80).into()).from(Some(lan.peer.name()));
    let answered = async || {
        until("an answer through the route", async || match asks().get("web.example.com", "/").await {
            Ok(response) if response.text() == "from the backend" => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
    };

    let mut first = builder.start().await;
    answered().await;
    world.assigned(1).await;
    assert_eq!(world.ips("web"), [VIP]);
    // The address of a newcomer is planned and never committed: its status cannot be written.
    let refused = Fault::Refuse(Failure::new(503, "busy"));
    world.server.faults().inject(Match { verb: "patch", resource: "services/status" }, refused, usize::MAX);
    world.put(&service("late"));
    until("the newcomer's plan", async || match shown(&first, "late").await {
        Some(ips) if ips.len() == 1 => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;

    world.server.go_away();
    first.process().signal(Signal::TERM);
    first.process().end().await;
    let again = builder.start().await;
    answered().await;
    throughout(Duration::from_secs(1), "only what was committed is shown", async || {
        let seen = (shown(&again, "web").await, shown(&again, "late").await.unwrap_or_default());
        if seen == (Some(vec![json!(VIP)]), Vec::new()) { Ok(()) } else { Err(format!("{seen:?}")) }
    })
    .await;
    assert!(backend.connections() > 0);
}
