//! Addresses that somebody else on the LAN has: not given, said of whom, and what becomes of them later.

use std::net::Ipv4Addr;
use std::time::Duration;

use ferrogate_tests::api_server::ApiServer;
use ferrogate_tests::appliance::{Appliance, Builder};
use ferrogate_tests::binary;
use ferrogate_tests::folder::Folder;
use ferrogate_tests::manifests::{load_balancer, pool};
use ferrogate_tests::netns::{Lan, Wire};
use ferrogate_tests::skip_unless_root;
use ferrogate_tests::wait::{Stopwatch, throughout, until};
use serde_json::{Value, json};

const TAKEN: &str = "10.77.0.100";
const FREE: &str = "10.77.0.101";
const TAKEN6: &str = "2001:db8:77::100";
const FREE6: &str = "2001:db8:77::101";

/// A LAN whose other machine has [`TAKEN`] and [`TAKEN6`].
struct Scene {
    lan: Lan,
    folder: Folder,
    wire: Wire,
}

impl Scene {
    fn new() -> Self {
        let lan = Lan::new();
        for (namespace, addresses) in [(&lan.node, &["2001:db8:77::1"][..]), (&lan.peer, &[TAKEN, TAKEN6])] {
            for address in addresses {
                let plen = if address.contains(':') { "64 dev eth0 nodad" } else { "24 dev eth0" };
                namespace.ip(&format!("addr add {address}/{plen}")).expect("an address can be added");
            }
        }
        let wire = lan.listen();
        Self { lan, folder: Folder::new(), wire }
    }

    async fn start(&self, ranges: &[&str], service: &str) -> Appliance {
        self.folder.write("pool.yaml", &pool(ranges));
        self.folder.write("vip.yaml", service);
        Builder::new(self.folder.path()).inside(self.lan.node.name()).with(&["--roles", "speaker"]).start().await
    }

    /// The hardware address of the machine that has the addresses.
    fn mac(&self) -> String {
        self.wire.mac().map(|byte| format!("{byte:02x}")).join(":")
    }
}

/// The one Service as the admin API shows it, once `enough` says so.
async fn vip(appliance: &Appliance, what: &str, enough: impl Fn(&Value) -> bool) -> Value {
    until(what, async || {
        let vips = appliance.api("vips").await;
        vips.iter().find(|vip| enough(vip)).cloned().ok_or_else(|| format!("{vips:?}"))
    })
    .await
}

/// Asks `ferrogate why` inside the node; its status and what it said.
fn why(lan: &Lan, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = lan.node.command(&binary::path().display().to_string());
    let output = command.args(["why", "svc"]).args(arguments).output().expect("the binary can be run");
    (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_somebody_has_is_passed_over() {
    skip_unless_root!();
    for (taken, free, ipv6) in [(TAKEN, FREE, ""), (TAKEN6, FREE6, "  ipFamilies: [IPv6]\n")] {
        let scene = Scene::new();
        let service = format!("{}{ipv6}", load_balancer("lan", "edge"));
        let appliance = scene.start(&[&format!("{taken}-{free}")], &service).await;
        let vip = vip(&appliance, "an address", |vip| vip["state"] == "announcing").await;
        assert_eq!(vip["ips"], serde_json::json!([free]));
        assert!(!appliance.log().contains(&format!("Assigned IP [\"{taken}\"]")), "{}", appliance.log());
        assert_eq!(why(&scene.lan, &["lan/edge"]).1.lines().next(), Some("Service lan/edge"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_can_only_have_a_taken_address_waits_and_says_who_has_it() {
    skip_unless_root!();
    let asking = |address: &str| {
        load_balancer("lan", "edge").replace(
            "  name: edge\n",
            &format!("  name: edge\n  annotations:\n    metallb.io/loadBalancerIPs: {address}\n"),
        )
    };
    let range = format!("{TAKEN}-{FREE}");
    // Asked for; and the only one of its pool.
    for (range, service) in [(range, asking(TAKEN)), (format!("{TAKEN}/32"), load_balancer("lan", "edge"))] {
        let scene = Scene::new();
        let appliance = scene.start(&[&range], &service).await;
        let mac = scene.mac();
        let says_who = |vip: &Value| vip["reason"].as_str().is_some_and(|reason| reason.contains(&mac));
        let vip = vip(&appliance, "the reason", says_who).await;
        assert_eq!((&vip["state"], &vip["ips"]), (&Value::from("pending"), &serde_json::json!([])), "{vip}");
        let (status, text) = why(&scene.lan, &["lan/edge"]);
        assert_eq!(status, Some(1), "{text}");
        assert!(text.contains("WRONG   assign") && text.contains(&mac), "{text}");
        assert!(appliance.log().contains("AllocationFailed"), "{}", appliance.log());
        // It is asked about no more for a while, and goes on being passed over.
        throughout(Duration::from_secs(2), "the wait", async || {
            let vips = appliance.api("vips").await;
            if vips.iter().all(says_who) { Ok(()) } else { Err(format!("{vips:?}")) }
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_cluster_the_condition_of_the_service_names_who_has_the_last_address() {
    skip_unless_root!();
    let scene = Scene::new();
    let server = ApiServer::start_inside(&scene.lan.node).expect("a free loopback port");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let kubeconfig = server.kubeconfig(folder.path()).expect("a writable folder");
    let put = |object: &Value| drop(server.put(object).expect("a kind it serves"));
    let pools = |range: &str| {
        let text = format!("address-pools:\n- name: lan\n  protocol: layer2\n  addresses: [{range}]\n");
        json!({ "apiVersion": "v1", "kind": "ConfigMap", "data": { "config": text },
            "metadata": { "namespace": "metallb-system", "name": "config" } })
    };
    put(&pools(&format!("{TAKEN}/32")));
    put(&json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "namespace": "shop", "name": "edge" },
        "spec": { "type": "LoadBalancer", "ports": [{ "port": 80, "protocol": "TCP", "targetPort": 8080 }] } }));
    let builder = Builder::cluster(&kubeconfig).inside(scene.lan.node.name());
    let _appliance = builder.with(&["--roles", "speaker"]).start().await;
    let says = async |status: &str, expected: &str| {
        until(expected, async || {
            let service = server.get("Service", "shop", "edge").map_err(|failure| failure.message)?;
            let conditions = service["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let is_it = |it: &Value| {
                it["status"] == status && it["message"].as_str().is_some_and(|text| text.contains(expected))
            };
            if conditions.iter().any(is_it) { Ok(()) } else { Err(service["status"].to_string()) }
        })
        .await;
    };
    says("False", &scene.mac()).await;
    put(&pools(&format!("{TAKEN}-{FREE}")));
    says("True", FREE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_address_is_given_after_three_questions_and_a_committed_one_without() {
    skip_unless_root!();
    let mut scene = Scene::new();
    let state = tempfile::tempdir().expect("a temporary folder");
    scene.folder.write("pool.yaml", &pool(&[&format!("{FREE}/32")]));
    scene.folder.write("vip.yaml", &load_balancer("lan", "edge"));
    let builder = Builder::new(scene.folder.path()).inside(scene.lan.node.name()).state(state.path());
    let builder = builder.with(&["--roles", "speaker"]);
    for (start, expected) in [("first", 3), ("second", 0)] {
        scene.wire.forget();
        let mut appliance = builder.start().await;
        vip(&appliance, "the announcement", |vip| vip["state"] == "announcing").await;
        let (watch, mut questions) = (Stopwatch::start(), 0);
        while watch.elapsed() < Duration::from_millis(300) {
            questions += usize::from(scene.wire.frame().as_deref().is_some_and(is_question));
        }
        assert_eq!(questions, expected, "at the {start} start");
        appliance.process().signal(rustix::process::Signal::TERM);
        appliance.process().end().await;
    }
}

/// Whether a frame asks about [`FREE`] without claiming it.
fn is_question(frame: &[u8]) -> bool {
    let free: Ipv4Addr = FREE.parse().expect("an address");
    frame.get(12..14) == Some(&[8, 6])
        && frame.get(28..32) == Some(&[0; 4])
        && frame.get(38..42) == Some(&free.octets())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_claims_an_announced_address_is_told_from_us_by_both_hardware_addresses() {
    skip_unless_root!();
    let mut scene = Scene::new();
    let appliance = scene.start(&[&format!("{FREE}/32")], &load_balancer("lan", "edge")).await;
    vip(&appliance, "the announcement", |vip| vip["state"] == "announcing").await;
    assert_eq!(why(&scene.lan, &["lan/edge", "--output", "json"]).0, Some(0));
    let (mac, free) = (scene.wire.mac(), FREE.parse::<Ipv4Addr>().expect("an address").octets());
    let claim = [&[0xff; 6][..], &mac, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1], &mac, &free, &[0; 6], &free].concat();
    scene.wire.send(&claim);
    let problem = until("the problem", async || {
        let problems = appliance.problems().await;
        let found = problems.iter().find(|it| it["message"].as_str().is_some_and(|text| text.contains("also claims")));
        found.cloned().ok_or_else(|| format!("{problems:?}"))
    })
    .await;
    let message = problem["message"].as_str().unwrap_or_default().to_owned();
    let shown = scene.lan.node.ip("-o link show eth0").expect("the interface can be shown").stdout;
    let shown = String::from_utf8_lossy(&shown).into_owned();
    let ours = shown.split("link/ether ").nth(1).and_then(|rest| rest.split(' ').next()).expect("a hardware address");
    assert!(message.contains(&scene.mac()) && message.contains(ours), "{message}");
    let conflicts = appliance.metrics().await.sum("ferrogate_speaker_conflicts_total", &[("ip", FREE)]);
    assert_eq!(conflicts, Some(1.0));
    let (status, text) = why(&scene.lan, &["lan/edge"]);
    assert!(status == Some(1) && text.contains("WRONG   heard") && text.contains("also claims"), "{text}");
}

#[tokio::test]
async fn why_says_when_nobody_answers() {
    let output = std::process::Command::new(binary::path())
        .args(["why", "svc", "a/b", "--admin", "127.0.0.1:1"])
        .output()
        .expect("the binary can be run");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("cannot ask the instance at 127.0.0.1:1"), "{text}");
}
