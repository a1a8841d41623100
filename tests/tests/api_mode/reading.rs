//! What comes in.

use std::sync::Arc;
use std::time::Duration;

use config::object::{Kind, ObjectName};
use ferrogate_tests::api_server::failure::Failure;
use ferrogate_tests::api_server::faults::{Fault, Match};
use ferrogate_tests::wait::{throughout, until};
use serde_json::json;

use crate::harness::{World, ingress, name, pools, service, slice};

fn on(verb: &'static str, resource: &'static str) -> Match {
    Match { verb, resource }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_snapshot_has_everything_and_what_does_not_change_is_shared() {
    let world = World::new();
    let mut web = service("web");
    web["metadata"]["annotations"] = json!({ "kubectl.kubernetes.io/last-applied-configuration": "{}" });
    world.put(&web);
    world.put(&ingress("web"));
    world.put(&slice("web-1", "web"));
    world.put(
        &json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": "n1" }, "status": { "images": [{}] } }),
    );
    world.put(&json!({ "apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata": { "namespace": "shop", "name": "no" } }));
    world.put(&json!({ "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": { "namespace": "shop", "name": "cert" }, "data": { "tls.crt": "", "tls.key": "", "big": "" } }));
    world
        .put(&json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "namespace": "shop", "name": "other" } }));
    let process = world.watcher().await;
    let first = process.sees("a snapshot", |_| true).await;
    let counts = [first.services.len(), first.ingresses.len(), first.endpoint_slices.len(), first.nodes.len()];
    assert_eq!(
        (counts, first.secrets.len(), first.config_maps.len()),
        ([1 + world.own(), 1, 1 + world.own(), 1], 1, 1)
    );
    assert_eq!((first.pools.pools.len(), first.problems.len()), (1, 0), "{:?}", first.problems);
    let meta = &first.services[&name("web")].metadata;
    assert!(meta.managed_fields.is_none() && meta.annotations.is_none(), "{meta:?}");
    assert_eq!(first.secrets[&name("cert")].data.as_ref().map(std::collections::BTreeMap::len), Some(2));

    world.put(&service("api"));
    let second = process.sees("the new Service", |snapshot| snapshot.services.contains_key(&name("api"))).await;
    assert!(Arc::ptr_eq(&first.ingresses, &second.ingresses) && Arc::ptr_eq(&first.pools, &second.pools));
    assert!(Arc::ptr_eq(&first.services[&name("web")], &second.services[&name("web")]));
    world.server.delete("Service", "shop", "web").unwrap();
    process.sees("it gone", |snapshot| !snapshot.services.contains_key(&name("web"))).await;
    process.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_streaming_lists_pages_are_read() {
    let world = World::new();
    for index in 0..1100 {
        world.put(&slice(&format!("s{index}"), "web"));
    }
    world.server.faults().inject(
        on("watch", ""),
        Fault::Refuse(Failure::new(422, "sendInitialEvents is forbidden")),
        Kind::ALL.len(),
    );
    let process = world.watcher().await;
    process.sees("all slices", |snapshot| snapshot.endpoint_slices.len() == 1100 + world.own()).await;
    assert_eq!(world.server.faults().count(&["list"], "endpointslices"), 3);
    world.put(&slice("one-more", "web"));
    process.sees("a change", |snapshot| snapshot.endpoint_slices.len() == 1101 + world.own()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_410_gone_everything_is_listed_once_and_nothing_flickers() {
    let world = World::new();
    for index in 0..20 {
        world.put(&service(&format!("s{index}")));
    }
    let process = world.watcher().await;
    process.sees("all", |snapshot| snapshot.services.len() == 20 + world.own()).await;
    let mut snapshots = process.cluster.snapshots.clone();
    let fewest = tokio::spawn(async move {
        let mut fewest = usize::MAX;
        while snapshots.changed().await.is_ok() {
            fewest = fewest.min(snapshots.borrow_and_update().as_ref().map_or(0, |it| it.services.len()));
        }
        fewest
    });
    // The next watches are refused for as long as it takes to change something and forget how.
    world.server.faults().inject(on("watch", "services"), Fault::Refuse(Failure::new(503, "busy")), 3);
    world.server.drop_watches();
    world.server.delete("Service", "shop", "s7").unwrap();
    world.put(&service("new"));
    world.server.compact();
    let seen = process.sees("the difference", |snapshot| snapshot.services.contains_key(&name("new"))).await;
    process.sees("the deletion", |snapshot| !snapshot.services.contains_key(&name("s7"))).await;
    assert!(seen.services.len() >= 20);
    process.stop().await;
    assert_eq!(fewest.await.unwrap(), 20 + world.own(), "no snapshot lacked what was there");
}

/// What must not be lost: where a watch of a kind that never changes stands, though the server forgets its past.
#[tokio::test(flavor = "multi_thread")]
async fn a_watch_that_heard_nothing_but_bookmarks_resumes_from_the_last() {
    let world = World::new();
    if world.server.real().is_some() {
        println!("skipped: a real server tells a bookmark once a minute");
        return;
    }
    let process = world.watcher().await;
    process.sees("a snapshot", |_| true).await;
    let faults = world.server.faults();
    for index in 0..20 {
        world.put(&service(&format!("s{index}")));
    }
    // The first may have been under way before.
    let told = faults.bookmarks("ingressclasses");
    until("bookmarks", async || if faults.bookmarks("ingressclasses") > told + 1 { Ok(()) } else { Err("none") }).await;
    world.server.compact();
    let before = faults.count(&["watch"], "ingressclasses");
    world.server.drop_watches();
    until("another watch", async || match faults.count(&["watch"], "ingressclasses") {
        now if now > before => Ok(()),
        now => Err(now),
    })
    .await;
    let class = json!({ "apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": { "name": "late" },
        "spec": { "controller": "ferrogate.io/ingress-controller" } });
    world.put(&class);
    process.sees("the class", |snapshot| snapshot.ingress_classes.len() == 1).await;
    assert_eq!(faults.count(&["watch"], "ingressclasses"), before + 1, "it went on where it was and listed nothing");
    assert_eq!(faults.count(&["list"], "ingressclasses"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_that_drops_during_a_hundred_changes_loses_none_and_lists_nothing_again() {
    let world = World::new();
    let process = world.watcher().await;
    process.sees("a snapshot", |_| true).await;
    let streams = |world: &World| world.server.faults().count(&["watch"], "services");
    let first = streams(&world);
    for index in 0..100 {
        world.put(&service(&format!("s{index}")));
        if index % 10 == 5 {
            world.server.drop_watches();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    process.sees("all", |snapshot| snapshot.services.len() == 100 + world.own()).await;
    assert!(streams(&world) > first);
    assert_eq!(world.server.faults().count(&["list"], "services"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_that_falls_silent_is_healed() {
    let world = World::new();
    let process = world.watcher().await;
    process.sees("a snapshot", |_| true).await;
    world.server.faults().inject(on("watch", "services"), Fault::StaleWatch, 1);
    world.server.drop_watches();
    let rewatched = async || match world.server.faults().count(&["watch"], "services") {
        2.. => Ok(()),
        _ => Err("not yet"),
    };
    until("the stale watch", rewatched).await;
    world.put(&service("web"));
    process.sees("the Service", |snapshot| snapshot.services.contains_key(&name("web"))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kind_that_the_server_does_not_know_keeps_nobody_waiting_and_is_read_once_it_does() {
    let world = World::new();
    let unknown = || Fault::Refuse(Failure::new(404, "the server could not find the requested resource"));
    for verb in ["list", "watch"] {
        for resource in ["issuers", "clusterissuers"] {
            world.server.faults().inject(on(verb, resource), unknown(), 2);
        }
    }
    let process = world.watcher().await;
    let first = process.sees("a snapshot", |_| true).await;
    assert!(first.problems.is_empty() && first.issuers.is_empty(), "{:?}", first.problems);
    let issuer = |kind: &str, meta: serde_json::Value| json!({ "apiVersion": "cert-manager.io/v1", "kind": kind, "metadata": meta, "spec": { "acme": { "server": "https://x/" } } });
    world.put(&issuer("Issuer", json!({ "name": "le", "namespace": "shop" })));
    world.put(&issuer("ClusterIssuer", json!({ "name": "le" })));
    let seen = process.sees("both", |snapshot| snapshot.issuers.len() + snapshot.cluster_issuers.len() == 2).await;
    assert!(seen.cluster_issuers.contains_key(&ObjectName::cluster("le")));
    world.server.delete("Issuer", "shop", "le").unwrap();
    process.sees("one", |snapshot| snapshot.issuers.is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_asked_earlier_than_the_server_allows() {
    let world = World::new();
    let busy = Failure { retry_after: Some(2), ..Failure::new(429, "too many requests") };
    world.server.faults().inject(on("watch", "ingresses"), Fault::Refuse(busy), 1);
    let process = world.watcher().await;
    process.sees("a snapshot", |_| true).await;
    let asked: Vec<_> =
        world.server.faults().requests().into_iter().filter(|it| it.resource == "ingresses").map(|it| it.at).collect();
    assert!(asked[1] - asked[0] >= Duration::from_secs(2), "{:?}", asked[1] - asked[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kind_that_may_not_be_read_is_shown_and_keeps_nobody_waiting() {
    let world = World::new();
    world.put(&service("web"));
    let forbidden = Fault::Refuse(Failure::new(403, "nodes is forbidden"));
    world.server.faults().inject(on("", "nodes"), forbidden, usize::MAX);
    let process = world.watcher().await;
    let told = |problems: &[config::diagnostic::Problem]| problems.iter().any(|it| it.message.contains("kind Node"));
    let snapshot = process.sees("a snapshot", |_| true).await;
    assert!(snapshot.services.contains_key(&name("web")) && told(&snapshot.problems), "{:?}", snapshot.problems);
    world.server.faults().clear();
    process.sees("it mended", |snapshot| !told(&snapshot.problems)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_goes_away_takes_nothing_with_it_and_is_found_again() {
    let mut world = World::new();
    world.put(&service("web"));
    let process = world.watcher().await;
    let before = process.sees("a snapshot", |_| true).await;
    world.server.go_away();
    let during = process.sees("the problem", |snapshot| !snapshot.problems.is_empty()).await;
    assert_eq!(during.problems.len(), 1, "one server, one problem: {:?}", during.problems);
    assert!(Arc::ptr_eq(&before.services, &during.services));
    world.server.put(&service("api")).unwrap();
    world.server.come_back().await.unwrap();
    let after = process.sees("the change", |it| it.services.contains_key(&name("api")) && it.problems.is_empty()).await;
    assert!(Arc::ptr_eq(&before.services[&name("web")], &after.services[&name("web")]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_token_is_read_anew() {
    let world = World::new();
    let process = world.watcher().await;
    process.sees("a snapshot", |_| true).await;
    world.server.rotate_token("second");
    std::fs::write(world.folder.path().join("token"), "second").unwrap();
    world.server.drop_watches();
    world.put(&service("web"));
    process.sees("a change", |snapshot| snapshot.services.contains_key(&name("web"))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_object_keeps_its_last_good_version_and_harms_no_other() {
    let world = World::new();
    world.put(&service("web"));
    let process = world.watcher().await;
    let before = process.sees("a snapshot", |_| true).await;
    world.server.garble("Service", "shop", "web", "/spec/ports/0/port", json!("many"));
    world.put(&service("api"));
    let after = process.sees("the other", |it| it.services.contains_key(&name("api")) && !it.problems.is_empty()).await;
    assert!(Arc::ptr_eq(&before.services[&name("web")], &after.services[&name("web")]));
    world.server.mend("Service", "shop", "web");
    process.sees("it mended", |snapshot| snapshot.problems.is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_address_configuration_leaves_the_last_good_one_in_use() {
    let world = World::new();
    let process = world.watcher().await;
    let good = process.sees("pools", |snapshot| snapshot.pools.pools.len() == 1).await;
    world.put(&pools("10.0.0.9-10.0.0.1"));
    let stale = process.sees("staleness", |snapshot| snapshot.pools_stale).await;
    assert!(Arc::ptr_eq(&good.pools, &stale.pools) && stale.problems.len() == 1, "{:?}", stale.problems);
    world.put(&pools("10.0.1.0/24"));
    process.sees("the new one", |snapshot| !snapshot.pools_stale && snapshot.pools != good.pools).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changes_nothing_makes_no_snapshot() {
    let world = World::new();
    world.put(&json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": "n1" } }));
    let beat = |time: &str| {
        let mut node = world.server.get("Node", "", "n1").unwrap();
        node["status"]["conditions"] = json!([{ "type": "Ready", "status": "True", "lastHeartbeatTime": time }]);
        world.server.put_status(&node).unwrap()
    };
    let old = beat("2026-01-01T00:00:00Z");
    let process = world.watcher().await;
    let first = process.sees("a snapshot", |snapshot| snapshot.nodes.len() == 1).await;
    let new = beat("2026-01-01T00:05:00Z");
    assert_ne!(old["metadata"]["resourceVersion"], new["metadata"]["resourceVersion"], "something is told");
    throughout(Duration::from_millis(300), "the snapshot stays", async || match process.snapshot() {
        Some(now) if Arc::ptr_eq(&now, &first) => Ok(()),
        _ => Err("another snapshot"),
    })
    .await;
}
