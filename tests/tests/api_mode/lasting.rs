//! Routes with the real binary: no request fails, whatever the API server does or says.

use std::time::Duration;

use ferrogate_tests::wait::{throughout, until};
use serde_json::{Value, json};

use crate::harness::{World, ingress, pools, service};
use crate::scene::{Addresses, HOST, addresses, appliance, backend, class, keeps, load, settled};

/// How long the API server is away.
const AWAY: Duration = Duration::from_mins(1);

/// The shop's Ingress, to this Service.
fn shop(to: &str) -> Value {
    let mut object = ingress("web");
    object["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]["name"] = json!(to);
    object
}

/// What must not be lost: every route and every address. What may wait: news.
#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_is_away_costs_no_request_and_no_address() {
    let mut world = World::new();
    let Some(_red) = backend(&world, "red").await else { return };
    world.put(&class());
    world.put(&shop("red"));
    world.put(&service("vip"));
    let appliance = appliance(&world, "only").await;
    appliance.answers(HOST, "/", 200, "red").await;
    let known = settled(&world, &Addresses::new(), 1).await;
    let planned = appliance.addresses().await;

    let load = load(&appliance);
    load.more(100).await;
    world.server.go_away();
    throughout(AWAY, "the plan", async || {
        let now = appliance.addresses().await;
        if now == planned { Ok(()) } else { Err(format!("{now:?}")) }
    })
    .await;
    load.more(100).await;
    world.put(&service("late"));
    world.server.come_back().await.unwrap();
    settled(&world, &known, 2).await;
    let tally = load.finish().await;
    assert_eq!(tally.unexpected(&["red"]), Vec::<String>::new());
    assert!(tally.total() > 1000, "{} requests are too few to tell", tally.total());
}

/// What must not be lost: a request, and the last version.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_versions_that_race_the_one_that_is_stored_is_served() {
    let world = World::new();
    let Some(_red) = backend(&world, "red").await else { return };
    let Some(_blue) = backend(&world, "blue").await else { return };
    world.put(&class());
    world.put(&shop("red"));
    let appliance = appliance(&world, "only").await;
    appliance.answers(HOST, "/", 200, "red").await;
    let load = load(&appliance);
    std::thread::scope(|scope| {
        for name in ["red", "blue"] {
            let world = &world;
            scope.spawn(move || {
                for _ in 0..50 {
                    // The real server may refuse one of two that come at the same moment.
                    let _ = world.server.put(&shop(name));
                }
            });
        }
    });
    let stored = world.server.get("Ingress", "shop", "web").unwrap();
    let stored = stored["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]["name"].clone();
    appliance.answers(HOST, "/", 200, stored.as_str().unwrap()).await;
    let tally = load.finish().await;
    assert_eq!(tally.unexpected(&["red", "blue"]), Vec::<String>::new());
    let scheduled = async || {
        let all = world.server.all("Event").into_iter().filter(|event| event["reason"] == "Sync");
        let told: Vec<_> = all.map(|event| (event["involvedObject"]["name"].clone(), event["count"].clone())).collect();
        if told.is_empty() { Err("no Sync") } else { Ok(told) }
    };
    assert_eq!(until("the event", scheduled).await, [(json!("web"), json!(1))], "once, however often it is edited");
}

/// What must not be lost: anything of the good objects, whatever stands beside them.
#[tokio::test(flavor = "multi_thread")]
async fn malformed_objects_harm_no_other() {
    let world = World::new();
    let Some(_red) = backend(&world, "red").await else { return };
    world.put(&class());
    world.put(&shop("red"));
    let appliance = appliance(&world, "only").await;
    appliance.answers(HOST, "/", 200, "red").await;
    let load = load(&appliance);

    let mut annotated = ingress("annotated");
    annotated["metadata"]["annotations"] = json!({ "nginx.ingress.kubernetes.io/proxy-read-timeout": "1e999" });
    let mut greedy = service("greedy");
    greedy["metadata"]["annotations"] = json!({ "metallb.universe.tf/address-pool": "none\n such" });
    let secret = json!({ "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": { "namespace": "shop", "name": "garbage" }, "data": { "tls.crt": "Z2FyYmFnZQ==", "tls.key": "AAAA" } });
    let mut secure = ingress("secure");
    secure["spec"]["tls"] = json!([{ "secretName": "garbage", "hosts": ["secure.example.com"] }]);
    for object in [&annotated, &greedy, &secret, &secure, &ingress("nowhere")] {
        world.put(object);
    }
    for (kind, object, pointer) in
        [("Service", service("port"), "/spec/ports/0/port"), ("Ingress", ingress("rules"), "/spec/rules")]
    {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        world.server.garble(kind, "shop", name, pointer, json!("none"));
        world.put(&object);
    }
    world.put(&service("good"));
    let known = settled(&world, &Addresses::new(), 1).await;
    assert!(known.contains_key("good"), "{known:?}");
    until("the problems", async || {
        let problems = appliance.problems().await;
        let objects = [
            "Ingress shop/annotated",
            "Service shop/greedy",
            "Ingress shop/secure",
            "Service shop/port",
            "Ingress shop/rules",
        ];
        let missing: Vec<&str> =
            objects.into_iter().filter(|object| !problems.iter().any(|problem| problem["object"] == *object)).collect();
        if missing.is_empty() { Ok(()) } else { Err(format!("nothing said of {missing:?}: {problems:?}")) }
    })
    .await;
    load.more(100).await;
    assert_eq!(load.finish().await.unexpected(&["red"]), Vec::<String>::new());
}

/// What must not be lost: the last good address configuration, until there is a better one.
#[tokio::test(flavor = "multi_thread")]
async fn a_config_map_of_a_megabyte_is_refused_or_taken_as_a_whole() {
    let world = World::new();
    let appliance = appliance(&world, "only").await;
    world.put(&service("a"));
    let known = settled(&world, &Addresses::new(), 1).await;
    let size = 1024 * 1024 - 1024;
    let of_size = |line: &dyn Fn(usize) -> String| {
        let mut object = pools("10.0.0.0/16");
        let mut text = object["data"]["config"].as_str().unwrap_or_default().to_owned();
        for index in 0.. {
            let line = line(index);
            if text.len() + line.len() > size {
                break;
            }
            text.push_str(&line);
        }
        object["data"]["config"] = json!(text);
        object
    };
    world.put(&of_size(&|index| format!("unknown-{index}: true\n")));
    until("the refusal", async || {
        let problems = appliance.problems().await;
        if problems.iter().any(|it| it["object"] == "ConfigMap metallb-system/config") {
            Ok(())
        } else {
            Err(format!("{problems:?}"))
        }
    })
    .await;
    world.put(&service("b"));
    let known = settled(&world, &known, 2).await;
    world.put(&of_size(&|index| format!("# {index}\n")));
    until("no problem", async || {
        let problems = appliance.problems().await;
        if problems.is_empty() { Ok(()) } else { Err(format!("{problems:?}")) }
    })
    .await;
    world.put(&service("c"));
    settled(&world, &known, 3).await;
    keeps(&known, &addresses(&world));
}
