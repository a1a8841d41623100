//! What Ingresses show, with the real binary.

use std::time::Duration;

use ferrogate_tests::appliance::Builder;
use ferrogate_tests::wait::{PATIENCE, throughout, until, within};
use serde_json::{Value, json};

use crate::harness::{World, ingress};
use crate::scene::class;

/// Waits until `shop/web` shows these entries; none at all is as good as an empty list.
async fn shows(world: &World, expected: &[Value]) {
    until("what the Ingress shows", async || {
        let web = world.server.get("Ingress", "shop", "web").expect("it is there");
        let entries = web["status"]["loadBalancer"]["ingress"].as_array().cloned().unwrap_or_default();
        if entries == expected { Ok(()) } else { Err(web["status"].to_string()) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ingress_shows_the_published_addresses_as_long_as_it_is_ours() {
    let world = World::new();
    world.put(&class());
    world.put(&ingress("web"));
    let config = world.server.kubeconfig(world.folder.path()).expect("a writable folder");
    let builder = |addresses: &str| {
        Builder::cluster(&config).with(&["--roles", "ingress", "--publish-address", addresses, "--node-name", "only"])
    };
    let writes = || world.server.faults().count(&["patch", "update"], "ingresses/status");
    let published = [json!({ "ip": "192.0.2.7" }), json!({ "hostname": "edge.example.net" })];
    let first = builder("192.0.2.7,edge.example.net").start().await;
    shows(&world, &published).await;
    throughout(Duration::from_millis(700), "one write", async || if writes() == 1 { Ok(()) } else { Err(writes()) })
        .await;
    drop(first);

    // Another process with the same addresses writes nothing, one with others what is new.
    let mut again = builder("192.0.2.7,edge.example.net").start().await;
    let lease = || world.server.get("Lease", "metallb-system", "ferrogate-ingress").unwrap_or_default();
    let before = lease()["spec"]["holderIdentity"].clone();
    // Of one that was killed, the Lease has to end first.
    within(PATIENCE * 3, "another leader", async || {
        if lease()["spec"]["holderIdentity"] == before { Err(before.to_string()) } else { Ok(()) }
    })
    .await;
    throughout(Duration::from_millis(700), "no write", async || if writes() == 1 { Ok(()) } else { Err(writes()) })
        .await;
    again.process().signal(rustix::process::Signal::TERM);
    again.process().end().await;
    let _moved = builder("2001:db8::7").start().await;
    shows(&world, &[json!({ "ip": "2001:db8::7" })]).await;

    let mut theirs = ingress("web");
    theirs["spec"]["ingressClassName"] = json!("another");
    world.put(&theirs);
    shows(&world, &[]).await;
}
