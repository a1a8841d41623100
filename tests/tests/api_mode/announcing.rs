//! Three nodes on a LAN, each with the real binary, and an API server that they reach over it.
//!
//! ```text
//!  n1 10.78.0.11   n2 10.78.0.12   n3 10.78.0.13    client 10.78.0.2, beside it the API server
//!        └──────────────┴─────── switch ─┴────────────────┘
//! ```
//!
//! kube-proxy's part is played by the test: every node takes what is sent to the VIP, and leaves ARP to the speaker.

#![expect(clippy::disallowed_methods, reason = "it measures time")]

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use ferrogate_tests::api_server::ApiServer;
use ferrogate_tests::appliance::{Appliance, Builder};
use ferrogate_tests::outage::{Echo, Probe, Seen, claimants};
use ferrogate_tests::skip_unless_root;
use ferrogate_tests::switch::{Switch, node_address};
use ferrogate_tests::wait::until;
use serde_json::{Value, json};

use crate::harness::{World, pools, service, slice};

const VIP: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 100);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 2);
const NODES: usize = 3;
/// For how long a client may be cut off: four heartbeats, the questions, and a busy machine.
const OUTAGE: Duration = Duration::from_secs(3);

/// Fields are dropped in this order: processes before the namespaces they live in.
struct Scene {
    nodes: Vec<Appliance>,
    _echoes: Vec<Echo>,
    world: World,
    switch: Switch,
}

fn name(node: usize) -> String {
    format!("n{}", node + 1)
}

/// A Node as a kubelet registers it.
fn node(at: usize) -> Value {
    json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": name(at) },
        "status": { "addresses": [{ "type": "InternalIP", "address": node_address(at) }] } })
}

impl Scene {
    async fn start() -> Self {
        let switch = Switch::new(NODES);
        let world = World::of(ApiServer::start_at(&switch.client, SERVER).expect("a free port"));
        world.put(&pools(&format!("{VIP}/32")));
        for at in 0..NODES {
            world.put(&node(at));
            let mut found = world.server.get("Node", "", &name(at)).expect("it was put");
            found["status"] = node(at)["status"].clone();
            world.server.put_status(&found).expect("it is there");
            switch.nodes[at].ip(&format!("addr add {VIP}/32 dev lo")).expect("root may");
            let quiet = switch.nodes[at].command("sysctl").args(["-qw", "net.ipv4.conf.all.arp_ignore=1"]).status();
            assert!(quiet.is_ok_and(|status| status.success()), "root may set it");
        }
        let echo = |(at, namespace)| Echo::start(namespace, u8::try_from(at).expect("a few nodes"), VIP);
        let echoes = switch.nodes.iter().enumerate().map(echo).collect();
        let config = world.server.kubeconfig(world.folder.path()).expect("a writable folder");
        let start = |at: usize| {
            let arguments = ["--node-name", &name(at), "--roles", "speaker"];
            Builder::cluster(&config).inside(switch.nodes[at].name()).with(&arguments).spawn()
        };
        let mut nodes: Vec<Appliance> = (0..NODES).map(start).collect();
        for node in &mut nodes {
            node.ready().await;
        }
        Self { nodes, _echoes: echoes, world, switch }
    }

    /// Waits until these nodes name the same owner of the VIP, one of them; its number.
    async fn settled(&self, nodes: &[usize]) -> usize {
        until("agreement about the owner", async || {
            let mut named = Vec::new();
            for at in nodes {
                let vips = self.nodes[*at].api("vips").await;
                named.push(vips.first().and_then(|vip| Some(vip["node"].as_str()?.to_owned())));
            }
            let owner = nodes.iter().copied().find(|at| named[0].as_deref() == Some(&name(*at)));
            owner.filter(|_| named.iter().all(|it| *it == named[0])).ok_or(format!("{named:?}"))
        })
        .await
    }

    /// Waits until all nodes name this one as the owner, it answers alone, and says so.
    async fn owned_by(&self, node: usize) {
        until("the owner", async || match self.settled(&[0, 1, 2]).await {
            owner if owner == node => Ok(()),
            owner => Err(owner),
        })
        .await;
        assert_eq!(claimants(&self.switch.client, VIP), [self.mac(node)].into());
        self.told(node).await;
    }

    /// The hardware address of a node.
    fn mac(&self, node: usize) -> [u8; 6] {
        self.switch.nodes[node].enter(|| ferrogate_tests::netns::Wire::open().mac())
    }

    /// Waits until `nodeAssigned` of the Service names this node.
    async fn told(&self, node: usize) {
        let message = format!("announcing from node {:?} with protocol \"layer2\"", name(node));
        until("nodeAssigned of the owner", async || {
            let events = self.world.server.all("Event");
            let told: Vec<_> = events.iter().filter(|it| it["reason"] == "nodeAssigned").collect();
            if told.iter().any(|it| it["message"] == message) { Ok(()) } else { Err(format!("{told:?}")) }
        })
        .await;
    }

    /// Lets the client ask while a node is killed; what it saw.
    async fn kill(&mut self, node: usize) -> Seen {
        let probe = Probe::start(&self.switch.client, VIP);
        tokio::time::sleep(Duration::from_millis(500)).await;
        let moment = Instant::now();
        self.nodes[node].process().kill();
        tokio::time::sleep(OUTAGE).await;
        let seen = probe.end().since(moment);
        println!("killed: {seen:?}");
        seen
    }
}

fn others(node: usize) -> Vec<usize> {
    (0..NODES).filter(|at| *at != node).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_of_policy_local_is_announced_where_its_endpoint_is_and_follows_it() {
    skip_unless_root!();
    let scene = Scene::start().await;
    let mut local = service("web");
    local["spec"]["externalTrafficPolicy"] = json!("Local");
    scene.world.put(&local);
    scene.world.assigned(1).await;
    for node in [1, 2, 0] {
        let mut endpoints = slice("web-1", "web");
        endpoints["endpoints"][0]["nodeName"] = json!(name(node));
        scene.world.put(&endpoints);
        scene.owned_by(node).await;
    }
}

/// What must not be lost: the address of a Service, whoever dies, whether or not there is an API server to be told.
#[tokio::test(flavor = "multi_thread")]
async fn of_three_nodes_one_answers_and_says_so_and_when_it_is_killed_another_does() {
    skip_unless_root!();
    let mut scene = Scene::start().await;
    scene.world.put(&service("web"));
    scene.world.assigned(1).await;
    assert_eq!(scene.world.ips("web"), [VIP.to_string()]);
    let first = scene.settled(&[0, 1, 2]).await;
    let answers =
        |scene: &Scene, node: usize| assert_eq!(claimants(&scene.switch.client, VIP), [scene.mac(node)].into());
    answers(&scene, first);
    scene.told(first).await;

    let seen = scene.kill(first).await;
    assert!(seen.moved.is_some_and(|moved| moved < OUTAGE) && seen.outage < OUTAGE, "{seen:?}");
    let rest = others(first);
    let second = scene.settled(&rest).await;
    answers(&scene, second);
    scene.told(second).await;
    let writes = scene.world.status_writes();

    scene.world.server.go_away();
    let seen = scene.kill(second).await;
    assert!(seen.moved.is_some_and(|moved| moved < OUTAGE) && seen.outage < OUTAGE, "without API server: {seen:?}");
    let last = rest.into_iter().find(|at| *at != second).expect("of three");
    assert_eq!(scene.settled(&[last]).await, last);
    answers(&scene, last);
    scene.world.server.come_back().await.expect("its port is free");
    scene.told(last).await;
    assert_eq!(scene.world.ips("web"), [VIP.to_string()]);
    assert_eq!(scene.world.status_writes(), writes, "who announces is no reason to write a status");
    let mine = scene.world.server.all("Event").into_iter().filter(|it| it["reason"] == "nodeAssigned");
    assert!(mine.clone().count() <= NODES, "{:?}", mine.collect::<Vec<_>>());
}
