//! Nodes of a cluster that share one VIP: the API server goes away, heartbeats are blocked, kube-proxy sets traps.
//!
//! The API server is beside the client on the switch. What kube-proxy does in IPVS mode is done by hand: the VIP is on
//! an interface `kube-ipvs0` of every node, so that its packets are delivered wherever they arrive.

use std::net::Ipv4Addr;
use std::time::Duration;

use ferrogate_tests::api_server::ApiServer;
use ferrogate_tests::appliance::{Appliance, Builder};
use ferrogate_tests::outage::{Claims, Echo, Probe, Seen};
use ferrogate_tests::skip_unless_root;
use ferrogate_tests::switch::{Cut, Switch, node_address};
use ferrogate_tests::wait::{until, within};
use serde_json::{Value, json};

use crate::scene::{DOUBLED, OUTAGE, VIP, now};

/// Letters take a few seconds each way, and a member is known by them after two.
const LETTERS: Duration = Duration::from_mins(1);

/// Fields are dropped in this order: processes before the namespaces they live in.
struct Cluster {
    nodes: Vec<Appliance>,
    _echoes: Vec<Echo>,
    server: ApiServer,
    switch: Switch,
    _folder: tempfile::TempDir,
}

impl Cluster {
    /// Starts `count` nodes with `strictARP`; `before` cuts what is cut from the beginning.
    async fn start(count: usize, before: impl Fn(&mut Switch)) -> Self {
        let mut switch = Switch::new(count);
        let server = ApiServer::start_at(&switch.client, Ipv4Addr::new(10, 78, 0, 2)).expect("a free port");
        let folder = tempfile::tempdir().expect("a temporary folder");
        let kubeconfig = server.kubeconfig(folder.path()).expect("a writable folder");
        let put = |object: &Value| drop(server.put(object).expect("a kind it serves"));
        let pools = "address-pools:\n- name: edge\n  protocol: layer2\n  addresses: [10.78.0.100/32]\n";
        put(&json!({ "apiVersion": "v1", "kind": "ConfigMap", "data": { "config": pools },
            "metadata": { "namespace": "metallb-system", "name": "config" } }));
        put(&json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "namespace": "shop", "name": "edge" },
            "spec": { "type": "LoadBalancer", "ports": [{ "port": 80, "protocol": "TCP", "targetPort": 8080 }] } }));
        let echo = |(at, namespace)| Echo::start(namespace, u8::try_from(at).expect("a few nodes"), VIP);
        let echoes = switch.nodes.iter().enumerate().map(echo).collect();
        for (at, namespace) in switch.nodes.iter().enumerate() {
            let node = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": format!("n{}", at + 1) } });
            put(&node);
            let mut node = server.get("Node", "", &format!("n{}", at + 1)).expect("it was put");
            node["status"] = json!({
                "addresses": [{ "type": "InternalIP", "address": node_address(at).to_string() }],
                "conditions": [{ "type": "Ready", "status": "True" }],
            });
            server.put_status(&node).expect("it was put");
            namespace.ip("link add kube-ipvs0 type veth peer name nowhere").expect("an interface can be made");
            namespace.ip(&format!("addr add {VIP}/32 dev kube-ipvs0")).expect("an address can be added");
        }
        set_arp_ignore(&switch, "1");
        before(&mut switch);
        let builder = |(at, namespace): (usize, &ferrogate_tests::netns::Namespace)| {
            let name = format!("n{}", at + 1);
            let arguments = ["--node-name", &name, "--roles", "speaker"];
            Builder::cluster(&kubeconfig).inside(namespace.name()).with(&arguments).spawn()
        };
        let nodes = switch.nodes.iter().enumerate().map(builder).collect();
        let mut cluster = Self { nodes, _echoes: echoes, server, switch, _folder: folder };
        for node in &mut cluster.nodes {
            node.ready_within(LETTERS).await;
        }
        cluster
    }

    /// Waits until exactly one of these nodes announces the VIP; its number.
    async fn settled(&self, nodes: &[usize]) -> usize {
        within(LETTERS, "one owner", async || {
            let mut owners = Vec::new();
            for at in nodes {
                let vips = self.nodes[*at].api("vips").await;
                owners.extend(vips.iter().any(|vip| vip["state"] == "announcing").then_some(*at));
            }
            if owners.len() == 1 { Ok(owners[0]) } else { Err(format!("{owners:?}")) }
        })
        .await
    }

    /// Lets the client ask while `fault` is done and for a while longer.
    async fn watch(&mut self, what: &str, long: Duration, fault: impl AsyncFnOnce(&mut Self)) -> (Seen, Duration) {
        let (probe, claims) = (Probe::start(&self.switch.client, VIP), Claims::start(&self.switch.client, VIP));
        tokio::time::sleep(Duration::from_millis(500)).await;
        let moment = now();
        fault(self).await;
        tokio::time::sleep(long).await;
        let seen = probe.end().since(moment);
        let doubled = claims.doubled();
        println!("{what}: {seen:?}, two owners for {doubled:?}");
        (seen, doubled)
    }

    async fn tells(&self, node: usize, expected: &str, is_there: bool) {
        within(LETTERS, expected, async || {
            let problems = self.nodes[node].problems().await;
            let found = problems.iter().any(|it| it["message"].as_str().is_some_and(|text| text.contains(expected)));
            if found == is_there { Ok(()) } else { Err(format!("{problems:?}")) }
        })
        .await;
    }
}

/// Sets the sysctl that `strictARP` sets, on all nodes.
fn set_arp_ignore(switch: &Switch, to: &'static str) {
    for namespace in &switch.nodes {
        let path = "/proc/sys/net/ipv4/conf/all/arp_ignore";
        namespace.enter(move || std::fs::write(path, to)).expect("root may set it");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_api_server_a_dead_owner_is_replaced_as_ever() {
    skip_unless_root!();
    let mut cluster = Cluster::start(3, |_| ()).await;
    let owner = cluster.settled(&[0, 1, 2]).await;
    let away = async |cluster: &mut Cluster| cluster.server.go_away();
    let (seen, doubled) = cluster.watch("API away", Duration::from_secs(2), away).await;
    assert_eq!((seen.moved, doubled), (None, Duration::ZERO), "{seen:?}");
    let kill = async |cluster: &mut Cluster| cluster.nodes[owner].process().kill();
    let (seen, doubled) = cluster.watch("kill -9, API away", Duration::from_millis(1500), kill).await;
    assert!(seen.moved.is_some_and(|moved| moved < OUTAGE), "{seen:?}");
    assert!(seen.outage < OUTAGE && doubled <= DOUBLED, "{seen:?} {doubled:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_heartbeats_are_blocked_speakers_write_letters_agree_and_say_so() {
    skip_unless_root!();
    let block = |switch: &mut Switch| (0..3).for_each(|at| switch.cut(at, Cut::Udp(7947)));
    let mut cluster = Cluster::start(3, block).await;
    for node in 0..3 {
        cluster.tells(node, "let UDP port 7947 pass between them", true).await;
        let blocked = cluster.nodes[node].metrics().await.sum("ferrogate_speaker_members_blocked", &[]);
        assert!(blocked.is_some_and(|blocked| blocked >= 1.0), "{blocked:?}");
    }
    until("the event", async || {
        let told = cluster.server.all("Event").into_iter().any(|event| event["reason"] == "HeartbeatPathBroken");
        if told { Ok(()) } else { Err("none") }
    })
    .await;
    let owner = cluster.settled(&[0, 1, 2]).await;
    let kill = async |cluster: &mut Cluster| cluster.nodes[owner].process().kill();
    let (seen, _) = cluster.watch("kill -9, heartbeats blocked", Duration::from_secs(8), kill).await;
    assert!(seen.moved.is_some_and(|moved| moved < Duration::from_secs(8)), "{seen:?}");
    let rest: Vec<usize> = (0..3).filter(|at| *at != owner).collect();
    cluster.settled(&rest).await;
    (0..3).for_each(|at| cluster.switch.heal(at));
    for node in rest {
        cluster.tells(node, "let UDP port 7947 pass between them", false).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kube_proxy_in_ipvs_mode_without_strict_arp_is_named_with_the_node_that_answers() {
    skip_unless_root!();
    let cluster = Cluster::start(3, |_| ()).await;
    let owner = cluster.settled(&[0, 1, 2]).await;
    set_arp_ignore(&cluster.switch, "0");
    cluster.tells(owner, "kube-proxy runs in IPVS mode without strictARP", true).await;
    cluster.tells(owner, "its kernel does so where kube-proxy runs in IPVS mode without strictARP", true).await;
    set_arp_ignore(&cluster.switch, "1");
    cluster.tells(owner, "its kernel does so", false).await;
}
