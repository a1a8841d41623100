//! What goes out.

use std::time::Duration;

use cluster::{ApiOptions, WriteBudget};
use config::object::{Kind, ObjectRef};
use config::report::{Event, Report};
use ferrogate_tests::api_server::failure::Failure;
use ferrogate_tests::api_server::faults::{Fault, Match};
use ferrogate_tests::wait::{PATIENCE, Stopwatch, throughout, until, within};
use serde_json::json;

use crate::harness::{World, ingress, name, pools, service};

const STATUS: Match = Match { verb: "patch", resource: "services/status" };

/// So many statuses and events are written, and no more.
async fn written(world: &World, statuses: usize, events: usize) {
    let counts = || (world.status_writes(), world.event_writes());
    let check = || if counts() == (statuses, events) { Ok(()) } else { Err(format!("{:?}", counts())) };
    // A thousand of them take their time on a busy machine.
    within(PATIENCE * 9, "the writes", async || check()).await;
    throughout(Duration::from_millis(700), "silence", async || check()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_gets_its_address_its_pool_and_its_reason_in_one_write() {
    let world = World::new();
    world.put(&service("web"));
    let process = world.speaker("a").await;
    world.assigned(1).await;
    let web = world.server.get("Service", "shop", "web").unwrap();
    assert_eq!(web["status"]["loadBalancer"]["ingress"], json!([{ "ip": "10.0.0.0", "ipMode": "VIP" }]));
    assert_eq!(web["metadata"]["annotations"]["metallb.io/ip-allocated-from-pool"], "lan");
    let condition = &web["status"]["conditions"][0];
    assert_eq!((&condition["type"], &condition["status"]), (&json!("ferrogate.io/Assigned"), &json!("True")));
    let told = async || world.server.all("Event").into_iter().find(|it| it["reason"] == "IPAllocated").ok_or("none");
    let event = until("the event", told).await;
    assert_eq!((&event["reason"], &event["message"]), (&json!("IPAllocated"), &json!("Assigned IP [\"10.0.0.0\"]")));
    assert_eq!(event["involvedObject"]["uid"], web["metadata"]["uid"]);
    written(&world, 1, 1).await;

    let mut inner = service("web");
    inner["spec"]["type"] = json!("ClusterIP");
    world.put(&inner);
    // The server takes the address away itself; the condition is ours to take away.
    let cleared = async || {
        let web = world.server.get("Service", "shop", "web").unwrap();
        let conditions = web["status"]["conditions"].as_array().map_or(0, Vec::len);
        let clear = world.ips("web").is_empty() && conditions == 0 && web["metadata"]["annotations"].is_null();
        if clear { Ok(()) } else { Err(web.to_string()) }
    };
    until("nothing of ours left", cleared).await;
    world.put(&service("web"));
    world.assigned(1).await;
    process.stop().await;
}

/// What must not be lost: the one address there is, for who has it and is told of last.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_gets_an_address_before_all_that_were_given_are_known() {
    let world = World::new();
    world.put(&pools("10.0.0.1/32"));
    // More than a page of newcomers come first.
    for index in 0..510 {
        let mut newcomer = service(&format!("a{index}"));
        newcomer["spec"]["allocateLoadBalancerNodePorts"] = json!(false);
        world.put(&newcomer);
    }
    world.put(&service("zz"));
    let mut holder = world.server.get("Service", "shop", "zz").unwrap();
    holder["status"] = json!({ "loadBalancer": { "ingress": [{ "ip": "10.0.0.1" }] } });
    world.server.put_status(&holder).unwrap();
    let by_pages = Fault::Refuse(Failure::new(422, "sendInitialEvents is forbidden"));
    world.server.faults().inject(Match { verb: "watch", resource: "services" }, by_pages, 2);
    let slowly = Fault::Delay(Duration::from_millis(500));
    world.server.faults().inject(Match { verb: "list", resource: "services" }, slowly, 8);
    let process = world.speaker("a").await;
    within(PATIENCE * 9, "all to be told", async || {
        let all = world.server.all("Service");
        let told = all.iter().filter(|it| it["status"]["conditions"][0]["type"] == "ferrogate.io/Assigned").count();
        let holds = |it: &&serde_json::Value| !it["status"]["loadBalancer"]["ingress"][0].is_null();
        let holders: Vec<_> = all.iter().filter(holds).map(|it| it["metadata"]["name"].clone()).collect();
        assert_eq!(holders, ["zz"]);
        if told == 511 { Ok(()) } else { Err(told) }
    })
    .await;
    assert_eq!(world.ips("zz"), ["10.0.0.1"]);
    assert!(world.server.faults().count(&["list"], "services") >= 2);
    drop(process);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_waits_says_why() {
    let world = World::new();
    world.put(&pools("10.0.0.1/32"));
    world.put(&service("a"));
    world.put(&service("b"));
    let process = world.speaker("a").await;
    world.assigned(1).await;
    let waiting = async || {
        let b = world.server.get("Service", "shop", "b").unwrap();
        let condition = b["status"]["conditions"][0].clone();
        if condition["status"] == "False" { Ok(condition) } else { Err(b.to_string()) }
    };
    let condition = until("the reason", waiting).await;
    assert_eq!(condition["reason"], "AllocationFailed");
    written(&world, 2, 2).await;
    world.put(&pools("10.0.0.1-10.0.0.2"));
    world.assigned(2).await;
    written(&world, 3, 3).await;
    drop(process);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_new_services_cost_a_thousand_writes_and_a_restart_none() {
    let world = World::new();
    for index in 0..1000 {
        world.put(&service(&format!("s{index}")));
    }
    let process = world.speaker("a").await;
    world.assigned(1000).await;
    written(&world, 1000, 1000).await;
    process.stop().await;
    let again = world.speaker("b").await;
    again.leads().await;
    written(&world, 1000, 1000).await;
}

/// A node to which a thousand VIPs move at once tells of them little by little, and of those that move on not at all.
#[tokio::test(flavor = "multi_thread")]
async fn a_takeover_of_a_thousand_addresses_is_no_storm_of_events() {
    const BUDGET: WriteBudget = WriteBudget { per_second: 20, burst: 40 };
    let world = World::new();
    let leader = world.speaker("leader").await;
    leader.leads().await;
    let node = world.process_with(ApiOptions { writes: BUDGET, ..world.options("node") }).await;
    node.sees("a snapshot", |_| true).await;
    let announcing = |names: std::ops::Range<usize>| {
        let event = |index| Event {
            object: ObjectRef::new(Kind::Service, name(&format!("s{index}"))),
            severity: None,
            reason: "nodeAssigned",
            message: "announcing from node \"n2\" with protocol \"layer2\"".to_owned(),
        };
        let report = Report { local_events: names.map(event).collect(), ..Report::default() };
        node.cluster.reports.speaker.send_replace(report.into());
    };
    let watch = Stopwatch::start();
    announcing(0..1000);
    let told = async |count: usize| {
        until("events", async || if world.event_writes() >= count { Ok(()) } else { Err(world.event_writes()) }).await;
    };
    told(40).await;
    // Half of what it may write: so many at once, then so many a second.
    let allowed = 21 + 10 * watch.elapsed().as_millis() / 1000;
    assert!((world.event_writes() as u128) <= allowed, "{} after {:?}", world.event_writes(), watch.elapsed());
    announcing(990..1000);
    let last = |it: &serde_json::Value| it["involvedObject"]["name"].as_str().is_some_and(|name| name >= "s990");
    until("the last ten", async || match world.server.all("Event").iter().filter(|it| last(it)).count() {
        10 => Ok(()),
        count => Err(count),
    })
    .await;
    // What was on its way is told too.
    let count = world.event_writes();
    assert!(count < 500, "{count} though only ten were still to be told");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conflict_and_a_busy_server_only_delay() {
    let world = World::new();
    let process = world.speaker("a").await;
    process.leads().await;
    world.server.faults().inject(STATUS, Fault::Refuse(Failure::new(409, "conflict")), 2);
    world.put(&service("web"));
    world.assigned(1).await;
    assert_eq!(world.status_writes(), 3);
    let busy = Failure { retry_after: Some(1), ..Failure::new(429, "slow down") };
    world.server.faults().inject(STATUS, Fault::Refuse(busy), 1);
    world.put(&service("api"));
    world.assigned(2).await;
    let writes: Vec<_> = world
        .server
        .faults()
        .requests()
        .into_iter()
        .filter(|it| it.resource == "services/status")
        .map(|it| it.at)
        .collect();
    assert_eq!(writes.len(), 5);
    assert!(writes[4] - writes[3] >= Duration::from_secs(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_that_may_not_be_written_is_a_problem_until_it_may() {
    let world = World::new();
    world.server.faults().inject(STATUS, Fault::Refuse(Failure::new(403, "forbidden")), usize::MAX);
    world.put(&service("web"));
    let process = world.speaker("a").await;
    let told = |it: &config::snapshot::Snapshot| it.problems.iter().any(|it| it.message.contains("cannot be written"));
    process.sees("the problem", told).await;
    world.server.faults().clear();
    world.assigned(1).await;
    process.sees("it mended", |snapshot| !told(snapshot)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_elses_change_is_mended_without_a_fight() {
    let world = World::new();
    world.put(&service("web"));
    let process = world.speaker("a").await;
    world.assigned(1).await;
    written(&world, 1, 1).await;
    for _ in 0..3 {
        let mut web = world.server.get("Service", "shop", "web").unwrap();
        web["status"]["conditions"] = json!([]);
        world.server.put_status(&web).unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let mended = async || {
        let web = world.server.get("Service", "shop", "web").unwrap();
        if web["status"]["conditions"][0]["reason"] == "IPAllocated" { Ok(()) } else { Err(web.to_string()) }
    };
    until("the condition back", mended).await;
    assert!(world.status_writes() <= 4);
    drop(process);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ingress_is_answered_and_its_events_are_told_once() {
    let world = World::new();
    world.put(&ingress("web"));
    let process = world.watcher().await;
    process.leads().await;
    let object = ObjectRef::new(Kind::Ingress, name("web"));
    let event = Event { object, severity: None, reason: "Sync", message: "Scheduled for sync".into() };
    let report = |process: &crate::harness::Process| {
        process.report_ingress(|report| {
            report.ingresses.insert(name("web"), vec!["10.0.0.7".parse().unwrap()]);
            report.events.push(event.clone());
        });
    };
    report(&process);
    let shown = async || {
        let web = world.server.get("Ingress", "shop", "web").unwrap();
        let entries = web["status"]["loadBalancer"]["ingress"].clone();
        if entries == json!([{ "ip": "10.0.0.7" }]) { Ok(()) } else { Err(web.to_string()) }
    };
    until("the address", shown).await;
    until("the event", async || if world.event_writes() == 1 { Ok(()) } else { Err("none") }).await;
    report(&process);
    written(&world, 0, 1).await;
    assert_eq!(world.server.faults().count(&["patch"], "ingresses/status"), 1);
}

/// What must not be lost: who announces, though it is not the one that writes; nor is it told twice.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_does_not_lead_tells_itself_what_only_it_knows_and_nothing_else() {
    let world = World::new();
    world.put(&service("web"));
    let leader = world.speaker("leader").await;
    world.assigned(1).await;
    let node = world.watcher().await;
    node.sees("a snapshot", |_| true).await;
    let event = |reason, message: &str| Event {
        object: ObjectRef::new(Kind::Service, name("web")),
        severity: None,
        reason,
        message: message.to_owned(),
    };
    let announcing = event("nodeAssigned", "announcing from node \"n2\" with protocol \"layer2\"");
    let report = |events: Vec<Event>| {
        let (local, all): (Vec<Event>, Vec<Event>) = events.into_iter().partition(|it| it.reason == "nodeAssigned");
        let (events, local_events) = (all.into_iter().collect(), local.into_iter().collect());
        node.cluster.reports.speaker.send_replace(Report { events, local_events, ..Report::default() }.into());
    };
    report(vec![event("deprecatedAnnotation", "the leader's to tell"), announcing.clone()]);
    let told = || {
        let all = world.server.all("Event").into_iter().filter(|it| it["involvedObject"]["name"] == "web");
        let mut told: Vec<_> = all.map(|it| (it["reason"].to_string(), it["count"].to_string())).collect();
        told.sort();
        told
    };
    let expected = [("IPAllocated", 1), ("nodeAssigned", 1)].map(|(it, count)| (format!("{it:?}"), count.to_string()));
    let check = async || if told() == expected { Ok(()) } else { Err(format!("{:?}", told())) };
    until("both events", check).await;
    report(vec![announcing.clone(), event("deprecatedAnnotation", "the leader's to tell")]);
    throughout(Duration::from_millis(700), "each once", check).await;
    // What the leader was to tell is over before this node leads: what it said before is not said again.
    report(vec![announcing.clone()]);
    leader.stop().await;
    node.leads().await;
    throughout(Duration::from_millis(700), "each once", check).await;
    node.stop().await;
    let again = world.watcher().await;
    again.leads().await;
    let report = Report { local_events: [announcing].into_iter().collect(), ..Report::default() };
    again.cluster.reports.speaker.send_replace(report.into());
    throughout(Duration::from_millis(700), "each once", check).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_configuration_is_told_on_its_config_map() {
    let world = World::new();
    let process = world.speaker("a").await;
    process.leads().await;
    world.put(&pools("10.0.0.9-10.0.0.1"));
    let told = async || world.server.all("Event").into_iter().find(|it| it["reason"] == "ConfigStale").ok_or("none");
    let event = until("the event", told).await;
    assert_eq!((&event["type"], &event["involvedObject"]["kind"]), (&json!("Warning"), &json!("ConfigMap")));
    assert_eq!(event["metadata"]["namespace"], "metallb-system");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_is_away_delays_a_status_and_blocks_nothing() {
    let mut world = World::new();
    let process = world.speaker("a").await;
    process.leads().await;
    world.server.go_away();
    world.server.put(&service("web")).unwrap();
    world.server.come_back().await.unwrap();
    world.assigned(1).await;
    assert_eq!(world.status_writes(), 1);
    process.stop().await;
}
