//! How much memory and time ten thousand objects take.
//!
//! The process that is measured is this test program once more, so that the API server's memory is not counted.

#![expect(clippy::disallowed_methods, reason = "a measurement reads the clock")]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ferrogate_tests::wait::Stopwatch;
use lb_speaker::plan::{PlanOptions, plan};
use serde_json::{Value, json};

use crate::harness::{World, ingress, name, service, slice};

const SERVICES: usize = 10_000;
const CHANGES: usize = 20;
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
async fn ten_thousand_services_stay_under_400_megabytes() {
    if std::env::var_os(MEASURED).is_some() {
        return;
    }
    let world = World::new();
    for index in 0..SERVICES {
        world.put(&typical(service(&format!("s{index}"))));
        world.put(&typical(ingress(&format!("i{index}"))));
        for part in 0..2 {
            world.put(&typical(big_slice(&format!("s{index}-{part}"), &format!("s{index}"))));
        }
    }
    let config = world.server.kubeconfig(world.folder.path()).unwrap();
    let watch = Stopwatch::start();
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "scale::measured", "--nocapture", "--test-threads", "1"])
        .env(MEASURED, config)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut child = Measured(child);
    let mut lines = BufReader::new(child.0.stdout.take().unwrap()).lines().map_while(Result::ok);
    let mut next = |what: &str| {
        let found = lines.find_map(|line| Some(line.split_once(what)?.1.trim().to_owned()));
        found.unwrap_or_else(|| panic!("the measured process ended before {what:?}"))
    };
    let ready = next("measured ready");
    println!("first snapshot after {:?}; resident {ready} kB", watch.elapsed());
    let (mut seen, mut planned) = (Vec::new(), Vec::new());
    for change in 0..CHANGES {
        let mut web = typical(service("s5000"));
        web["metadata"]["annotations"][PROBE] = json!(change.to_string());
        tokio::time::sleep(Duration::from_millis(200)).await;
        let began = moment();
        world.put(&web);
        let text = next(&format!("measured change {change} "));
        let (at, after) = text.split_once(' ').unwrap();
        seen.push(at.parse::<u128>().unwrap().saturating_sub(began));
        planned.push(after.parse::<u128>().unwrap().saturating_sub(began));
    }
    seen.sort_unstable();
    planned.sort_unstable();
    let millis = |micros: &[u128]| format!("median {} µs, worst {} µs", micros[CHANGES / 2], micros[CHANGES - 1]);
    println!("one change: snapshot {}; plan made {}", millis(&seen), millis(&planned));
    let resident: u64 = next("measured after").parse().unwrap();
    println!("resident after {CHANGES} changes {resident} kB");
    assert!(resident < 400_000, "{resident} kB");
}

/// The process that is measured.
#[tokio::test(flavor = "multi_thread")]
async fn measured() {
    let Some(path) = std::env::var_os(MEASURED) else { return };
    let access = cluster::Access::Kubeconfig { path: path.into(), context: None };
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

/// Resident memory in kB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("a proc filesystem");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a resident size");
    line.trim().trim_end_matches("kB").trim().parse().expect("a number")
}
