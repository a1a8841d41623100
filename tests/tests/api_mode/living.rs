//! Addresses with the real binary: what it gave stays, whatever happens to it, to the pool or to the Service.

use std::time::Duration;

use ferrogate_tests::api_server::failure::Failure;

use ferrogate_tests::api_server::faults::{Fault, Match};
use ferrogate_tests::appliance::Builder;
use ferrogate_tests::wait::{PATIENCE, throughout, until, within};
use serde_json::json;

use crate::harness::{World, pools, service};
use crate::scene::{Addresses, addresses, appliance, keeps, settled};

/// Long enough for a wrong write to be seen: a change is planned within milliseconds.
const A_WHILE: Duration = Duration::from_millis(1500);

/// Nothing changes for a while.
async fn stays(world: &World, known: &Addresses) {
    throughout(A_WHILE, "addresses", async || {
        let now = addresses(world);
        if now == *known { Ok(()) } else { Err(format!("{now:?} instead of {known:?}")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pending_service_gets_an_address_gives_it_back_with_its_type_and_gets_one_again() {
    let world = World::new();
    world.put(&pools("10.0.0.1/32"));
    let _appliance = appliance(&world, "only").await;
    world.put(&service("web"));
    let first = settled(&world, &Addresses::new(), 1).await;

    let mut inner = service("web");
    inner["spec"]["type"] = json!("ClusterIP");
    inner["metadata"]["annotations"] = json!({ "example.com/of": "somebody else" });
    world.put(&inner);
    until("nothing of ours left, and what is another's", async || {
        let web = world.server.get("Service", "shop", "web").map_err(|failure| failure.message)?;
        let conditions = web["status"]["conditions"].as_array().map_or(0, Vec::len);
        let clear = world.ips("web").is_empty() && conditions == 0;
        let others = web["metadata"]["annotations"] == json!({ "example.com/of": "somebody else" });
        if clear && others { Ok(()) } else { Err(web.to_string()) }
    })
    .await;
    until("the event", async || {
        let events = world.server.all("Event");
        events.into_iter().find(|event| event["reason"] == "ClearAssignment").ok_or("no ClearAssignment")
    })
    .await;

    world.put(&service("other"));
    let other = settled(&world, &Addresses::new(), 1).await;
    assert_eq!(other.get("other"), first.get("web"), "what was given back may be given");
    world.put(&service("web"));
    stays(&world, &other).await;
    world.server.delete("Service", "shop", "other").unwrap();
    assert_eq!(settled(&world, &Addresses::new(), 1).await, first, "the pool has one address");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_is_widened_edited_removed_and_restored_and_no_address_moves() {
    let world = World::new();
    world.put(&pools("10.0.0.1/32"));
    let _appliance = appliance(&world, "only").await;
    world.put(&service("a"));
    let one = settled(&world, &Addresses::new(), 1).await;
    world.put(&service("b"));
    stays(&world, &one).await;
    world.put(&pools("10.0.0.1-10.0.0.2"));
    let two = settled(&world, &one, 2).await;
    world.put(&pools("10.0.0.9-10.0.0.3"));
    stays(&world, &two).await;
    world.server.delete("ConfigMap", "metallb-system", "config").unwrap();
    world.put(&service("c"));
    stays(&world, &two).await;
    world.put(&pools("10.0.0.0/28"));
    let three = settled(&world, &two, 3).await;
    stays(&world, &three).await;
}

/// The newest event of this reason.
async fn told(world: &World, reason: &str) -> serde_json::Value {
    until(reason, async || world.server.all("Event").into_iter().find(|it| it["reason"] == reason).ok_or("none")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_whose_pool_is_edited_away_is_kept_and_told_or_reassigned_as_the_operator_wishes() {
    let world = World::new();
    world.put(&pools("10.0.0.1/32"));
    world.put(&service("web"));
    let mut keeps_them = appliance(&world, "keep").await;
    let held = settled(&world, &Addresses::new(), 1).await;
    world.put(&pools("10.0.1.0/28"));
    let orphaned = told(&world, "AddressesOrphaned").await;
    assert_eq!(orphaned["involvedObject"]["kind"], "ConfigMap", "{orphaned}");
    stays(&world, &held).await;
    keeps_them.process().signal(rustix::process::Signal::TERM);
    keeps_them.process().end().await;
    let config = world.server.kubeconfig(world.folder.path()).expect("a writable folder");
    let _reassigns =
        Builder::cluster(&config).with(&["--node-name", "re", "--orphan-policy", "reassign"]).start().await;
    until("another address", async || match &world.ips("web")[..] {
        [ip] if ip == "10.0.1.0" => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    assert_eq!(told(&world, "ClearAssignment").await["involvedObject"]["name"], "web");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_of_another_class_is_left_alone() {
    let world = World::new();
    for (name, class) in [("ours", "example.com/lan"), ("theirs", "example.com/other")] {
        let mut classed = service(name);
        classed["spec"]["loadBalancerClass"] = json!(class);
        world.put(&classed);
    }
    world.put(&service("any"));
    let config = world.server.kubeconfig(world.folder.path()).expect("a writable folder");
    let mut of_class =
        Builder::cluster(&config).with(&["--node-name", "n1", "--lb-class", "example.com/lan"]).start().await;
    let known = settled(&world, &Addresses::new(), 1).await;
    assert!(known.contains_key("ours"), "{known:?}");
    stays(&world, &known).await;
    of_class.process().signal(rustix::process::Signal::TERM);
    of_class.process().end().await;
    let _of_none = appliance(&world, "n2").await;
    let both = settled(&world, &known, 2).await;
    assert!(both.contains_key("any"), "{both:?}");
    stays(&world, &both).await;
    let theirs = world.server.get("Service", "shop", "theirs").expect("it is there");
    assert_eq!(theirs["status"]["conditions"].as_array().map_or(0, Vec::len), 0, "{theirs}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_keeps_every_address_and_serves_who_came_meanwhile() {
    let world = World::new();
    world.put(&pools("10.0.0.0/28"));
    let mut first = appliance(&world, "first").await;
    for (before, name) in ["z", "m", "b"].into_iter().enumerate() {
        world.put(&service(name));
        settled(&world, &Addresses::new(), before + 1).await;
    }
    let before = settled(&world, &Addresses::new(), 3).await;
    first.process().kill();
    world.put(&service("a-newcomer"));
    let _second = appliance(&world, "second").await;
    settled(&world, &before, 4).await;
}

/// What must not be lost: an address that was shown before the kill, by whomever it was written.
#[tokio::test(flavor = "multi_thread")]
async fn of_three_processes_the_one_that_writes_is_killed_and_no_address_is_lost_or_given_twice() {
    const SERVICES: usize = 60;
    let world = World::new();
    let mut processes = Vec::new();
    for name in ["one", "two", "three"] {
        processes.push((name, appliance(&world, name).await));
    }
    let holder = || {
        let lease = world.server.get("Lease", "metallb-system", "ferrogate").unwrap_or_default();
        let holder = lease["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned();
        processes.iter().position(|(name, _)| holder.starts_with(&format!("{name}_")))
    };
    let leader = until("a leader", async || holder().ok_or("nobody leads")).await;
    // However long it takes to put them there, most of them wait for their address then.
    let busy = Failure { retry_after: Some(1), ..Failure::new(429, "wait until all are there") };
    let status = Match { verb: "patch", resource: "services/status" };
    world.server.faults().inject(status, Fault::Refuse(busy), usize::MAX);
    for index in 0..SERVICES {
        world.put(&service(&format!("s{index}")));
    }
    world.server.faults().clear();
    until("the first addresses", async || {
        let count = addresses(&world).len();
        if count > 4 { Ok(()) } else { Err(count) }
    })
    .await;
    processes[leader].1.process().kill();
    let known = addresses(&world);
    assert!(known.len() < SERVICES, "it was not killed in mid-write");

    let all = settled(&world, &known, SERVICES).await;
    let holder = || {
        let lease = world.server.get("Lease", "metallb-system", "ferrogate").unwrap_or_default();
        lease["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned()
    };
    assert!(!holder().starts_with(&format!("{}_", processes[leader].0)), "another has taken over");
    within(PATIENCE, "all three agree", async || {
        for (name, process) in processes.iter().enumerate().filter(|(index, _)| *index != leader) {
            let seen = process.1.addresses().await.into_iter().filter(|(_, ip)| !ip.is_empty()).count();
            if seen != SERVICES {
                return Err(format!("process {name} knows {seen}"));
            }
        }
        Ok(())
    })
    .await;
    keeps(&all, &addresses(&world));
}
