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
use ferrogate_tests::load::{Load, Request};
use ferrogate_tests::netns::Lan;
use ferrogate_tests::skip_unless_root;
use ferrogate_tests::upstream::{Reply, Upstream};
use ferrogate_tests::wait::{throughout, until};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{World, ingress, pools, service, slice};
use crate::scene::class;

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

/// The shop's route to a backend at the peer, and a pool of the LAN, on a server inside the node's namespace.
fn lan_world(lan: &Lan, backend: &Upstream) -> World {
    let world = World::of(ApiServer::start_inside(&lan.node).expect("a free loopback port"));
    let mut endpoints = slice("web-1", "web");
    endpoints["endpoints"][0]["addresses"] = json!(["10.77.0.2"]);
    endpoints["ports"][0]["port"] = json!(backend.address.port());
    for object in [pools("10.77.0.100-10.77.0.109"), class(), service("web"), ingress("web"), endpoints] {
        world.put(&object);
    }
    world
}

fn backend_at(lan: &Lan) -> Upstream {
    Upstream::start_inside(&lan.peer, Ipv4Addr::new(10, 77, 0, 2), |_| Reply::Text("from the backend".into()))
}

/// What must not be lost: a request from the LAN, through a VIP for which the LAN asks anew all the time.
#[tokio::test(flavor = "multi_thread")]
async fn a_minute_without_api_server_costs_no_request_through_a_vip() {
    skip_unless_root!();
    let lan = Lan::new();
    let backend = backend_at(&lan);
    let mut world = lan_world(&lan, &backend);
    // What kube-proxy does with a VIP, in short: the node takes what is sent to it, and leaves ARP to the speaker.
    lan.node.ip(&format!("addr add {VIP}/32 dev lo")).unwrap();
    let quiet = lan.node.command("sysctl").args(["-qw", "net.ipv4.conf.all.arp_ignore=1"]).status();
    assert!(quiet.is_ok_and(|status| status.success()), "root may set it");
    let config = world.server.kubeconfig(world.folder.path()).unwrap();
    let appliance = Builder::cluster(&config).inside(lan.node.name()).start().await;
    let target = Target::plain((VIP.parse::<Ipv4Addr>().unwrap(), 80).into()).from(Some(lan.peer.name()));
    until("an answer through the VIP", async || match target.get("web.example.com", "/").await {
        Ok(response) if response.text() == "from the backend" => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    let load = Load::start(&[Request { target, host: "web.example.com".to_owned(), path: "/".to_owned() }]);
    load.more(50).await;
    world.server.go_away();
    for _ in 0..60 {
        lan.peer.ip("neigh flush dev eth0").unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let vips = appliance.api("vips").await;
        assert!(vips.iter().any(|vip| vip["ips"] == json!([VIP]) && vip["state"] == "announcing"), "{vips:?}");
    }
    load.more(50).await;
    let tally = load.finish().await;
    assert_eq!(tally.unexpected(&["from the backend"]), Vec::<String>::new());
    world.server.come_back().await.unwrap();
    world.put(&service("late"));
    world.assigned(2).await;
    assert_eq!(world.ips("web"), [VIP]);
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
    let backend = backend_at(&lan);
    let mut world = lan_world(&lan, &backend);
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

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_told_beforehand_without_a_write() {
    let world = World::new();
    for (name, ip) in [("kept", "10.0.0.1"), ("far", "10.0.9.9")] {
        world.put(&service(name));
        let mut held = world.server.get("Service", "shop", name).unwrap();
        held["status"] = json!({ "loadBalancer": { "ingress": [{ "ip": ip }] } });
        world.server.put_status(&held).unwrap();
    }
    let change = json!({ "apiVersion": "v1", "kind": "List", "items": [pools("10.0.0.0/30"), service("new")] });
    let path = world.folder.path().join("change.json");
    std::fs::write(&path, change.to_string()).unwrap();
    let config = world.server.kubeconfig(world.folder.path()).unwrap();
    let mut before = (world.server.all("Service"), world.server.all("ConfigMap"));
    let asked = world.server.faults().requests().len();
    let check = |arguments: &[&str]| {
        let mut command = Command::new(binary::path());
        command.args(["check", "--against-cluster", "--kubeconfig"]).arg(&config).args(arguments).output().unwrap()
    };
    let change = path.to_str().unwrap();
    for (policy, effect, message) in [
        ("keep", "orphaned", "keeps 10.0.9.9, which no pool has any more"),
        ("reassign", "renumbered", "gets 10.0.0.0 of pool lan instead of 10.0.9.9"),
    ] {
        let output = check(&["--orphan-policy", policy, "--output", "json", change]);
        let value: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
        let effects = value["effects"].as_array().unwrap();
        let told: Vec<_> = effects.iter().map(|it| [&it["service"], &it["effect"], &it["message"]]).collect();
        assert_eq!(told[0], ["far", effect, message].map(Value::from).each_ref(), "{policy}");
        assert_eq!((told.len(), &told[1][..2]), (2, &[&json!("new"), &json!("served")][..]), "{policy}");
        assert_eq!(output.status.code(), Some(3), "{policy}");
    }
    let pools = world.folder.path().join("pools.json");
    std::fs::write(&pools, self::pools("10.0.0.0/15").to_string()).unwrap();
    // As kubectl: what `KUBECONFIG` lists is merged, and a file that is missing is passed over.
    let list = std::env::join_paths([world.folder.path().join("missing"), config.clone()]).unwrap();
    let found = |path: &std::path::Path| {
        let mut command = Command::new(binary::path());
        command.args(["check", "--against-cluster"]).arg(path).env("KUBECONFIG", &list);
        command.env_remove("KUBERNETES_SERVICE_HOST").output().unwrap()
    };
    let wider = found(&pools);
    assert!(String::from_utf8_lossy(&wider.stdout).ends_with("in the cluster: no Service changes\n"), "{wider:?}");
    assert_eq!(wider.status.code(), Some(0));
    // What somebody set by hand stays with an apply that does not know of it.
    let mut by_hand = world.server.get("Service", "shop", "kept").unwrap();
    by_hand["metadata"]["annotations"]["metallb.io/loadBalancerIPs"] = json!("10.0.0.1");
    world.put(&by_hand);
    before.0 = world.server.all("Service");
    let manifest = world.folder.path().join("kept.json");
    let mut kept = service("kept");
    for (asked, said) in
        [(None, "no Service changes"), (Some("10.0.0.2"), "gets 10.0.0.2 of pool lan instead of 10.0.0.1")]
    {
        if let Some(asked) = asked {
            kept["metadata"]["annotations"] = json!({ "metallb.io/loadBalancerIPs": asked });
        }
        std::fs::write(&manifest, kept.to_string()).unwrap();
        let told = found(&manifest);
        assert!(String::from_utf8_lossy(&told.stdout).contains(said), "{asked:?}: {told:?}");
    }
    let requests = world.server.faults().requests();
    // A pool may be kept for namespaces of some labels.
    let read = ["services", "nodes", "configmaps", "namespaces"];
    let is_read = |verb: &str, resource: &str| matches!(verb, "list" | "watch") && read.contains(&resource);
    let others: Vec<_> = requests[asked..].iter().filter(|it| !is_read(it.verb, &it.resource)).collect();
    assert!(others.is_empty() && requests.len() > asked, "{others:?}");
    assert_eq!((world.server.all("Service"), world.server.all("ConfigMap")), before);
}
