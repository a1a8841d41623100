//! `ferrogate why`: what an operator is told of a Service that is not reached.

use ferrogate_tests::appliance::Builder;
use ferrogate_tests::binary;
use ferrogate_tests::folder::Folder;
use ferrogate_tests::manifests::{load_balancer, pool};
use ferrogate_tests::netns::Lan;
use ferrogate_tests::skip_unless_root;
use ferrogate_tests::wait::until;

/// Asks inside the node; the status and what was said.
fn why(lan: &Lan, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = lan.node.command(&binary::path().display().to_string());
    let output = command.args(["why", "svc"]).args(arguments).output().expect("the binary can be run");
    (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

/// Waits until the answer has this status and says this.
async fn says(lan: &Lan, status: i32, expected: &str) {
    until(expected, async || {
        let (code, text) = why(lan, &["lan/edge"]);
        if code == Some(status) && text.contains(expected) { Ok(()) } else { Err(format!("{code:?}: {text}")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kube_proxy_in_ipvs_mode_does_no_harm_where_the_speaker_may_set_arp_ignore() {
    skip_unless_root!();
    let (lan, folder) = (Lan::new(), Folder::new());
    folder.write("pool.yaml", &pool(&["10.77.0.100/32"]));
    folder.write("vip.yaml", &load_balancer("lan", "edge"));
    let appliance = Builder::new(folder.path()).inside(lan.node.name()).with(&["--roles", "speaker"]).start().await;
    says(&lan, 0, "ok      announce  on eth0").await;
    // As kube-proxy has it; the kind of the interface does not matter.
    lan.node.ip("link add kube-ipvs0 type veth peer name nowhere").expect("an interface can be made");
    says(&lan, 0, "ok      heard").await;
    let setting = || lan.node.enter(|| std::fs::read_to_string("/proc/sys/net/ipv4/conf/eth0/arp_ignore"));
    assert_eq!(setting().expect("it can be read").trim(), "1");
    let problems = appliance.problems().await;
    assert!(problems.iter().all(|it| it["severity"] != "error"), "{problems:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_step_that_a_service_does_not_get_past_is_named() {
    skip_unless_root!();
    let (lan, folder) = (Lan::new(), Folder::new());
    folder.write("vip.yaml", &load_balancer("lan", "edge"));
    let _appliance = Builder::new(folder.path()).inside(lan.node.name()).with(&["--roles", "speaker"]).start().await;
    says(&lan, 1, "WRONG   assign    no available IPs: there is no address pool").await;
    folder.write("pool.yaml", &pool(&["10.77.0.100/32"]));
    says(&lan, 0, "ok      announce  on eth0").await;
    lan.node.ip("link set eth0 down").expect("the interface can be put down");
    says(&lan, 1, "WRONG   announce  interface eth0 is down or has no carrier").await;
    let (status, text) = why(&lan, &["lan/other"]);
    assert!(status == Some(1) && text.contains("there is no Service lan/other"), "{text}");
    let (status, text) = why(&lan, &["lan/edge", "--output", "json"]);
    let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!((status, &json["healthy"]), (Some(1), &serde_json::Value::from(false)), "{text}");
}
