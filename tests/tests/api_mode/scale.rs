//! How much memory and time ten thousand objects take.
//!
//! The process that is measured is this test program once more, so that the API server's memory is not counted.

#![expect(clippy::disallowed_methods, reason = "a measurement reads the clock")]

use std::io::{BufRead, BufReader};
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ferrogate_tests::appliance::{Appliance, Builder};
use ferrogate_tests::wait::{PATIENCE, Stopwatch, within};
use lb_speaker::plan::{PlanOptions, plan};
use serde_json::{Value, json};

use crate::harness::{World, ingress, name, service, slice};
use crate::scene::{HOST, backend, class};

const SERVICES: usize = 10_000;
const CHANGES: usize = 20;
/// In kB.
const LIMIT: u64 = 400_000;
/// Tells the program that it is to be measured, and where the kubeconfig is.
const MEASURED: &str = "FERROGATE_MEASURED";
/// The annotation that carries the number of a change.
const PROBE: &str = "example.com/probe";

/// The process measured; killed when the test ends.
struct Measured(Child);

impl Drop for Measured {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_services_and_ingresses_stay_under_400_megabytes() {
    if std::env::var_os(MEASURED).is_some() {
        return;
    }
    let world = World::new();
    world.put(&class());
    fill(&world);
    measure_source(&world).await;
    measure_binary(&world).await;
}

/// What a large cluster holds; every Service has its address, and shows it as we would.
fn fill(world: &World) {
    let next = AtomicUsize::new(0);
    let put = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= SERVICES {
                return;
            }
            let name = format!("s{index}");
            let create = |object: &Value| world.server.create(object).expect("there is none of that name");
            let mut service = typical_service(&name);
            // Behind those that the server gives by itself.
            let ip = address([10, 96, 128, 0], index);
            (service["spec"]["clusterIP"], service["spec"]["clusterIPs"]) = (json!(ip), json!([ip]));
            world.server.put_status(&held(create(&service), index)).expect("nobody else writes it");
            let mut routed = typical(ingress(&format!("i{index}")));
            routed["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]["name"] = json!(name);
            create(&routed);
            for part in 0..2 {
                create(&typical(big_slice(&format!("{name}-{part}"), &name)));
            }
        }
    };
    std::thread::scope(|scope| (0..8).for_each(|_| drop(scope.spawn(put))));
}

/// So many addresses after the first.
fn address(first: [u8; 4], index: usize) -> Ipv4Addr {
    Ipv4Addr::from(u32::from_be_bytes(first) + u32::try_from(index).expect("ten thousand"))
}

/// A Service with its address, as the leader would have left it.
fn held(mut object: Value, index: usize) -> Value {
    let ip = address([10, 0, 0, 0], index);
    object["status"] = json!({
        "loadBalancer": { "ingress": [{ "ip": ip, "ipMode": "VIP" }] },
        "conditions": [{ "type": "ferrogate.io/Assigned", "status": "True", "reason": "IPAllocated",
            "message": format!("Assigned IP [\"{ip}\"]"), "lastTransitionTime": "2026-01-01T00:00:00Z" }],
    });
    object
}

/// What must not be lost: an address, though nothing is written that stands there already.
async fn measure_binary(world: &World) {
    let Some(_red) = backend(world, "red").await else { return };
    let Some(blue) = backend(world, "blue").await else { return };
    let mut probe = ingress("web");
    probe["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]["name"] = json!("red");
    world.put(&probe);
    let config = world.server.kubeconfig(world.folder.path()).expect("a writable folder");
    let (watch, written) = (Stopwatch::start(), world.status_writes());
    let mut appliance = Builder::cluster(&config).with(&["--node-name", "only"]).spawn();
    appliance.ready_within(PATIENCE * 9).await;
    println!("the program: ready after {:?}; {} kB", watch.elapsed(), memory(&mut appliance, "VmRSS:"));
    appliance.answers(HOST, "/", 200, "red").await;

    let watch = Stopwatch::start();
    let mut moved = slice("red-1", "red");
    moved["endpoints"][0]["addresses"] = json!([blue.address.ip().to_string()]);
    moved["ports"][0]["port"] = json!(blue.address.port());
    world.put(&moved);
    appliance.answers(HOST, "/", 200, "blue").await;
    println!("the program: another endpoint answers after {:?}", watch.elapsed());
    let watch = Stopwatch::start();
    let mut late = service("late");
    late["spec"]["allocateLoadBalancerNodePorts"] = json!(false);
    world.put(&late);
    within(PATIENCE * 3, "the address of a newcomer", async || match world.ips("late")[..] {
        [_] => Ok(()),
        _ => Err("none"),
    })
    .await;
    println!("the program: a newcomer has its address after {:?}", watch.elapsed());
    assert_eq!(world.status_writes() - written, 1, "one newcomer, one write");
    assert_eq!(world.ips("s9999"), ["10.0.39.15"]);
    let (now, most) = (memory(&mut appliance, "VmRSS:"), memory(&mut appliance, "VmHWM:"));
    println!("the program: {now} kB, {most} kB at most");
    assert!(now < LIMIT, "{now} kB");
}

/// A line of the kernel's about the memory of the program, in kB.
fn memory(appliance: &mut Appliance, what: &str) -> u64 {
    memory_of(&appliance.process().proc(), what)
}

/// The source alone, in a process that plans as the speaker does.
async fn measure_source(world: &World) {
    let config = world.server.kubeconfig(world.folder.path()).expect("a writable folder");
    let watch = Stopwatch::start();
    let child = Command::new(std::env::current_exe().expect("we have a path"))
        .args(["--exact", "scale::measured", "--nocapture", "--test-threads", "1"])
        .env(MEASURED, config)
        .stdout(Stdio::piped())
        .spawn()
        .expect("it can be started again");
    let mut child = Measured(child);
    let mut lines = BufReader::new(child.0.stdout.take().expect("it is piped")).lines().map_while(Result::ok);
    let mut next = |what: &str| {
        let found = lines.find_map(|line| Some(line.split_once(what)?.1.trim().to_owned()));
        found.unwrap_or_else(|| panic!("the measured process ended before {what:?}"))
    };
    let ready = next("measured ready");
    println!("first snapshot after {:?}; resident {ready} kB", watch.elapsed());
    let (mut seen, mut planned) = (Vec::new(), Vec::new());
    for change in 0..CHANGES {
        let mut web = typical_service("s5000");
        web["metadata"]["annotations"][PROBE] = json!(change.to_string());
        tokio::time::sleep(Duration::from_millis(200)).await;
        let began = moment();
        world.put(&web);
        let text = next(&format!("measured change {change} "));
        let (at, after) = text.split_once(' ').expect("two moments");
        seen.push(at.parse::<u128>().expect("microseconds").saturating_sub(began));
        planned.push(after.parse::<u128>().expect("microseconds").saturating_sub(began));
    }
    seen.sort_unstable();
    planned.sort_unstable();
    let millis = |micros: &[u128]| format!("median {} µs, worst {} µs", micros[CHANGES / 2], micros[CHANGES - 1]);
    println!("one change: snapshot {}; plan made {}", millis(&seen), millis(&planned));
    let resident: u64 = next("measured after").parse().expect("kB");
    println!("resident after {CHANGES} changes {resident} kB");
    assert!(resident < LIMIT, "{resident} kB");
}

/// The process that is measured.
#[tokio::test(flavor = "multi_thread")]
async fn measured() {
    let Some(path) = std::env::var_os(MEASURED) else { return };
    let access = cluster::Access::Kubeconfig { paths: vec![path.into()], context: None };
    let config_map = config::object::ObjectName::new("metallb-system", "config");
    let options = cluster::ApiOptions::new(access, config_map, "measured");
    let cluster = cluster::Cluster::api(options, tokio_util::sync::CancellationToken::new()).await.unwrap();
    let mut snapshots = cluster.snapshots.clone();
    let mut ready = false;
    let mut last = String::new();
    while snapshots.changed().await.is_ok() {
        let Some(snapshot) = snapshots.borrow_and_update().clone() else { continue };
        let seen = moment();
        drop(plan(&snapshot, &PlanOptions::default()));
        let planned = moment();
        if !std::mem::replace(&mut ready, true) {
            println!("measured ready {}", resident());
        }
        let probe = snapshot.services.get(&name("s5000")).and_then(|it| it.metadata.annotations.as_ref()?.get(PROBE));
        if let Some(probe) = probe.filter(|probe| **probe != last) {
            println!("measured change {probe} {seen} {planned}");
            if probe == &(CHANGES - 1).to_string() {
                println!("measured after {}", resident());
            }
            last.clone_from(probe);
        }
    }
}

/// A Service with what real ones carry around; ten thousand have no room in the range of node ports.
fn typical_service(name: &str) -> Value {
    let mut object = service(name);
    object["spec"]["allocateLoadBalancerNodePorts"] = json!(false);
    object["metadata"]["annotations"]["metallb.io/ip-allocated-from-pool"] = json!("lan");
    typical(object)
}

/// An object with what real ones carry around.
fn typical(mut object: Value) -> Value {
    let applied = object.to_string();
    object["metadata"]["labels"]["app.kubernetes.io/managed-by"] = json!("Helm");
    object["metadata"]["labels"]["app.kubernetes.io/name"] = json!("a-typical-application");
    object["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"] = json!(applied);
    object
}

fn big_slice(name: &str, service: &str) -> Value {
    let mut object = slice(name, service);
    let endpoint = |index: u8| {
        json!({ "addresses": [format!("10.1.2.{index}")], "nodeName": "worker-1.example.com", "zone": "zone-a",
            "conditions": { "ready": true, "serving": true, "terminating": false },
            "targetRef": { "kind": "Pod", "name": format!("a-pod-of-the-application-{index}"), "namespace": "shop",
                "uid": "b8e0ba0c-3a0e-4c2a-9d5b-5d6c2f5a6b7c" } })
    };
    object["endpoints"] = (1..=3).map(endpoint).collect();
    object
}

/// Microseconds, comparable between processes of one machine.
fn moment() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970").as_micros()
}

/// Our own memory in kB.
fn resident() -> u64 {
    memory_of(Path::new("/proc/self"), "VmRSS:")
}

fn memory_of(process: &Path, what: &str) -> u64 {
    let status = std::fs::read_to_string(process.join("status")).expect("a proc filesystem");
    let line = status.lines().find_map(|line| line.strip_prefix(what)).expect("a size");
    line.trim().trim_end_matches("kB").trim().parse().expect("a number")
}
