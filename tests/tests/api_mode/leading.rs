//! Who writes.

use std::time::Duration;

use cluster::{Leadership, lease};
use ferrogate_tests::api_server::failure::Failure;
use ferrogate_tests::api_server::faults::{Fault, Match};
use ferrogate_tests::wait::{PATIENCE, until};

use crate::harness::{World, name, service};

#[tokio::test(flavor = "multi_thread")]
async fn of_two_processes_one_writes_and_the_other_takes_over_at_once_when_it_stops() {
    let world = World::new();
    // Longer than this test has patience: whoever waits for the end of the Lease waits in vain.
    let long = lease::Timing { term: PATIENCE * 5, renew_deadline: PATIENCE * 4, retry: Duration::from_millis(100) };
    let options = |identity: &str| {
        let mut options = world.options(identity);
        options.timing.lease = long;
        options
    };
    let first = world.speaker_with(options("first")).await;
    first.leads().await;
    let second = world.speaker_with(options("second")).await;
    second.sees("a snapshot", |_| true).await;
    for index in 0..50 {
        world.put(&service(&format!("s{index}")));
    }
    world.assigned(50).await;
    assert_eq!(*second.cluster.leadership.borrow(), Leadership::Follower);
    assert_eq!(world.status_writes(), 50);
    first.stop().await;
    second.leads().await;
    world.put(&service("late"));
    world.assigned(51).await;
    assert_eq!(world.status_writes(), 51, "what the first had written was not written again");
    let lease = world.server.get("Lease", "metallb-system", "ferrogate").unwrap();
    assert_eq!((&lease["spec"]["holderIdentity"], &lease["spec"]["leaseTransitions"]), (&"second".into(), &1.into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_cannot_renew_stops_and_leads_again_when_it_can() {
    let world = World::new();
    let process = world.speaker("only").await;
    process.leads().await;
    let broken = Fault::Refuse(Failure::new(500, "etcd is away"));
    world.server.faults().inject(Match { verb: "", resource: "leases" }, broken, usize::MAX);
    until("it to stop", async || match *process.cluster.leadership.borrow() {
        Leadership::Follower => Ok(()),
        Leadership::Leader => Err("still leading"),
    })
    .await;
    world.put(&service("web"));
    process.sees("news", |snapshot| snapshot.services.contains_key(&name("web"))).await;
    assert_eq!(world.status_writes(), 0);
    world.server.faults().clear();
    world.assigned(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_killed_in_mid_write_leaves_no_address_twice() {
    let world = World::new();
    let first = world.speaker("first").await;
    first.leads().await;
    let second = world.speaker("second").await;
    second.sees("a snapshot", |_| true).await;
    // Its last renewals and writes fail: as far as anybody can tell it is dead.
    for index in 0..200 {
        world.put(&service(&format!("s{index}")));
    }
    until("some writes", async || if world.status_writes() > 20 { Ok(()) } else { Err(world.status_writes()) }).await;
    let dead = Failure::new(401, "dead");
    world.server.faults().inject(Match { verb: "update", resource: "leases" }, Fault::Refuse(dead.clone()), 1);
    first.shutdown.cancel();
    world.assigned(200).await;
    second.leads().await;
}
