//! Faults of the API server that nobody but the source and the writer has to bear. Which fault has its test where:
//! the table of this suite.

use std::time::Duration;

use cluster::Leadership;
use ferrogate_tests::api_server::failure::Failure;
use ferrogate_tests::api_server::faults::{Fault, Match};
use ferrogate_tests::wait::{throughout, until};

use crate::harness::{World, name, service};

/// Any request there is.
const ANY: Match = Match { verb: "", resource: "" };
/// Several times the longest wait between two attempts.
const HOURS: Duration = Duration::from_secs(5);

/// The one address of each of these, to compare later.
fn held(world: &World, names: &[&str]) -> Vec<Vec<String>> {
    names.iter().map(|name| world.ips(name)).collect()
}

/// What must not be lost: an address that was given, and a Service that comes meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn inner_errors_on_every_request_delay_an_address_and_move_none() {
    let world = World::new();
    world.put(&service("web"));
    let process = world.speaker("a").await;
    world.assigned(1).await;
    let before = held(&world, &["web"]);
    world.server.faults().inject(ANY, Fault::Refuse(Failure::new(500, "etcdserver: request timed out")), 30);
    world.server.drop_watches();
    world.put(&service("late"));
    world.assigned(2).await;
    assert_eq!(held(&world, &["web"]), before);
    let known = |it: &config::snapshot::Snapshot| it.services.contains_key(&name("late")) && it.problems.is_empty();
    process.sees("everything, and no problem", known).await;
}

/// What must not be lost: the right to write, and the order of things.
#[tokio::test(flavor = "multi_thread")]
async fn answers_that_come_late_delay_an_address_and_cost_no_leadership() {
    let world = World::new();
    let process = world.speaker("a").await;
    process.leads().await;
    world.server.faults().inject(ANY, Fault::Delay(Duration::from_millis(300)), usize::MAX);
    for index in 0..20 {
        world.put(&service(&format!("s{index}")));
    }
    world.assigned(20).await;
    assert_eq!(world.status_writes(), 20, "patience, not repetition");
    assert_eq!(*process.cluster.leadership.borrow(), Leadership::Leader);
}

/// What must not be lost: that no two Services get one address, though nobody knows whether a write arrived.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_is_never_answered_is_made_again() {
    let world = World::new();
    let process = world.speaker("a").await;
    process.leads().await;
    // Longer than a write may take.
    let silence = Fault::Delay(Duration::from_secs(6));
    world.server.faults().inject(Match { verb: "patch", resource: "services/status" }, silence, 2);
    for name in ["one", "two", "three"] {
        world.put(&service(name));
    }
    world.assigned(3).await;
    assert_eq!(*process.cluster.leadership.borrow(), Leadership::Leader);
}

/// What must not be lost: an address, and that it was given. What must not happen: another one, another Lease, or the same
/// event as two objects.
#[tokio::test(flavor = "multi_thread")]
async fn writes_that_are_stored_though_their_answers_are_lost_are_made_and_told_once() {
    let names = ["one", "two", "three", "four", "five"];
    let world = World::new();
    let process = world.speaker("a").await;
    process.leads().await;
    for (verb, resource, times) in [("patch", "services/status", 3), ("create", "events", 3), ("update", "leases", 2)] {
        world.server.faults().inject(Match { verb, resource }, Fault::LoseAnswer, times);
    }
    for name in names {
        world.put(&service(name));
    }
    let mut first = vec![Vec::new(); names.len()];
    let mut told = || {
        for (known, now) in first.iter_mut().zip(held(&world, &names)) {
            assert!(known.is_empty() || *known == now, "{now:?} instead of {known:?}");
            *known = now;
        }
        let events = world.server.all("Event");
        let of = |name: &str| events.iter().filter(|it| it["involvedObject"]["name"] == name).count();
        names.map(of)
    };
    until("an event of each", async || match told() {
        counts if counts.iter().all(|count| *count > 0) => Ok(()),
        counts => Err(format!("{counts:?}")),
    })
    .await;
    world.assigned(names.len()).await;
    throughout(Duration::from_secs(2), "one event of each", async || match told() {
        counts if counts == [1; 5] => Ok(()),
        counts => Err(format!("{counts:?}")),
    })
    .await;
    let counts: Vec<_> = world.server.all("Event").into_iter().map(|it| it["count"].clone()).collect();
    assert!(counts.iter().all(|count| *count == 1), "{counts:?}");
    assert_eq!(*process.cluster.leadership.borrow(), Leadership::Leader);
    let lease = world.server.get("Lease", "metallb-system", "ferrogate").unwrap();
    assert_eq!(lease["spec"]["leaseTransitions"], 0);
}

/// What must not be lost: the right to write, when a token is replaced under a running process.
#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_token_costs_no_write() {
    let world = World::new();
    let process = world.speaker("a").await;
    process.leads().await;
    world.put(&service("before"));
    world.assigned(1).await;
    world.server.rotate_token("second");
    std::fs::write(world.folder.path().join("token"), "second").unwrap();
    world.put(&service("after"));
    world.assigned(2).await;
    assert_eq!(*process.cluster.leadership.borrow(), Leadership::Leader, "one refusal costs no Lease");
}

/// What must not be lost: what was known while nobody can be asked, what was given, and what came and went meanwhile,
/// though the server has forgotten how, and takes another token.
#[tokio::test(flavor = "multi_thread")]
async fn after_hours_without_api_server_everything_is_as_it_is_there() {
    let mut world = World::new();
    world.put(&service("stays"));
    world.put(&service("goes"));
    let process = world.speaker("a").await;
    world.assigned(2).await;
    let before = held(&world, &["stays"]);
    world.server.go_away();
    process.sees("the problem", |snapshot| !snapshot.problems.is_empty()).await;
    throughout(HOURS, "what was known", async || match process.snapshot() {
        Some(it) if it.services.len() == 2 + world.own() && it.problems.len() == 1 => Ok(()),
        other => Err(format!("{:?}", other.map(|it| (it.services.len(), it.problems.clone())))),
    })
    .await;
    until("it to cease to lead", async || match *process.cluster.leadership.borrow() {
        Leadership::Follower => Ok(()),
        Leadership::Leader => Err("still leading"),
    })
    .await;
    world.server.delete("Service", "shop", "goes").unwrap();
    world.put(&service("new"));
    world.server.compact();
    world.server.rotate_token("second");
    std::fs::write(world.folder.path().join("token"), "second").unwrap();
    world.server.come_back().await.unwrap();
    let known = |it: &config::snapshot::Snapshot| {
        it.services.contains_key(&name("new")) && !it.services.contains_key(&name("goes")) && it.problems.is_empty()
    };
    process.sees("what is there now", known).await;
    world.assigned(2).await;
    assert_eq!(held(&world, &["stays"]), before);
    process.stop().await;
}
