//! A start while the API server is away.

use std::time::Duration;

use cluster::{ApiOptions, Cluster, Timing};
use config::diagnostic::Problem;
use ferrogate_tests::api_server::failure::Failure;
use ferrogate_tests::api_server::faults::{Fault, Match};
use ferrogate_tests::wait::{throughout, until};
use tokio_util::sync::CancellationToken;

use crate::harness::{Process, World, ingress, name, service, slice};

async fn start(world: &World) -> Process {
    let options = world.options("cached");
    let timing = Timing { save: Duration::from_millis(50), ..options.timing };
    let options = ApiOptions { cache: Some(world.folder.path().join("cache")), timing, ..options };
    let shutdown = CancellationToken::new();
    let cluster = Cluster::api(options, shutdown.clone()).await.expect("a valid kubeconfig");
    Process { cluster, shutdown }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_without_api_server_uses_what_was_saved_and_the_live_state_replaces_it_whole() {
    let mut world = World::new();
    world.put(&service("web"));
    world.put(&ingress("web"));
    world.put(&slice("web-1", "web"));
    let first = start(&world).await;
    let before = first.sees("a snapshot", |snapshot| snapshot.services.len() == 1 + world.own()).await;
    first.leads().await;
    first.stop().await;
    let writes = world.status_writes();

    world.server.go_away();
    let again = start(&world).await;
    let cached = again.sees("the saved state", |snapshot| snapshot.saved.is_some()).await;
    assert_eq!((&cached.services, &cached.ingresses), (&before.services, &before.ingresses));
    assert_eq!((&cached.endpoint_slices, &cached.pools), (&before.endpoint_slices, &before.pools));
    assert!(cached.problems.iter().any(|it| it.message.contains("saved on disk")), "{:?}", cached.problems);
    throughout(Duration::from_millis(300), "nobody leads", async || match *again.cluster.leadership.borrow() {
        cluster::Leadership::Follower => Ok(()),
        cluster::Leadership::Leader => Err("leads"),
    })
    .await;

    world.server.delete("Service", "shop", "web").unwrap();
    world.server.put(&service("api")).unwrap();
    world.server.come_back().await.unwrap();
    let live = again.sees("the live state", |snapshot| snapshot.saved.is_none()).await;
    assert!(live.services.contains_key(&name("api")) && !live.services.contains_key(&name("web")));
    assert!(live.generation > cached.generation);
    assert_eq!(world.status_writes(), writes);
    again.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_corrupt_file_is_named_and_replaced_and_keeps_nobody_from_starting() {
    let world = World::new();
    let folder = world.folder.path().join("cache");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("snapshot"), "no head").unwrap();
    let process = start(&world).await;
    let named = |problems: &[config::diagnostic::Problem]| problems.iter().any(|it| it.message.contains("is damaged"));
    process.sees("the problem", |snapshot| named(&snapshot.problems)).await;
    until("a good file", async || {
        let text = std::fs::read_to_string(folder.join("snapshot")).unwrap_or_default();
        if text.starts_with("{\"format\":1") { Ok(()) } else { Err(text) }
    })
    .await;
    process.sees("it mended", |snapshot| !named(&snapshot.problems)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_state_of_another_cluster_is_refused() {
    let (one, mut other) = (World::new(), World::new());
    one.put(&service("web"));
    let process = start(&one).await;
    process.sees("a snapshot", |snapshot| snapshot.services.len() == 1 + one.own()).await;
    process.stop().await;
    let (from, to) = (one.folder.path().join("cache"), other.folder.path().join("cache"));
    std::fs::create_dir(&to).unwrap();
    std::fs::copy(from.join("snapshot"), to.join("snapshot")).unwrap();
    other.server.go_away();
    let process = start(&other).await;
    throughout(Duration::from_secs(1), "nothing is published", async || match process.snapshot() {
        None => Ok(()),
        Some(_) => Err("a snapshot"),
    })
    .await;
    other.server.come_back().await.unwrap();
    process.sees("the live state", |snapshot| snapshot.services.len() == other.own()).await;
}

/// What must not be lost: the truth. Old routes are no better than none when they are another cluster's.
#[tokio::test(flavor = "multi_thread")]
async fn another_cluster_at_the_same_address_ends_the_saved_state_before_it_has_told_everything() {
    let mut world = World::new();
    world.put(&service("web"));
    let first = start(&world).await;
    first.sees("a snapshot", |snapshot| snapshot.services.contains_key(&name("web"))).await;
    first.stop().await;

    world.server.go_away();
    let again = start(&world).await;
    again.sees("the saved state", |snapshot| snapshot.services.contains_key(&name("web"))).await;
    world.server.become_another().unwrap();
    let busy = Fault::Refuse(Failure::new(503, "busy"));
    world.server.faults().inject(Match { verb: "", resource: "services" }, busy, usize::MAX);
    world.put(&service("new"));
    world.server.come_back().await.unwrap();
    let told = |problems: &[Problem]| problems.iter().any(|it| it.message.contains("is of another cluster"));
    let nothing = again.sees("the end of the old state", |snapshot| snapshot.services.is_empty()).await;
    assert!(nothing.saved.is_some() && nothing.namespaces.is_empty() && told(&nothing.problems), "{nothing:?}");
    world.server.faults().clear();
    let live = again.sees("the new cluster", |snapshot| snapshot.services.contains_key(&name("new"))).await;
    assert!(live.saved.is_none() && live.generation > nothing.generation);
    until("its own state on disk", async || {
        let text = std::fs::read_to_string(world.folder.path().join("cache/snapshot")).unwrap_or_default();
        if text.contains("\"new\"") && !text.contains("\"web\"") { Ok(()) } else { Err("not yet") }
    })
    .await;
    again.sees("no problem", |snapshot| !told(&snapshot.problems)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_namespace_can_be_all_that_is_read() {
    let world = World::new();
    world.put(&service("web"));
    world.put(&serde_json::json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "elsewhere" } }));
    let mut elsewhere = service("other");
    elsewhere["metadata"]["namespace"] = serde_json::json!("elsewhere");
    world.put(&elsewhere);
    let options = ApiOptions { watch_namespace: Some("shop".into()), ..world.options("narrow") };
    let shutdown = CancellationToken::new();
    let process = Process { cluster: Cluster::api(options, shutdown.clone()).await.unwrap(), shutdown };
    let seen = process.sees("a snapshot", |_| true).await;
    assert_eq!(seen.services.keys().collect::<Vec<_>>(), [&name("web")]);
    assert_eq!(seen.pools.pools.len(), 1, "the address configuration is read wherever it is");
}
