//! Nodes on a switch that share one VIP, and the client that asks for it.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use ferrogate_tests::appliance::{Appliance, Builder};
use ferrogate_tests::folder::Folder;
use ferrogate_tests::manifests::{load_balancer, pool};
use ferrogate_tests::outage::{Claims, Echo, Probe, Seen};
use ferrogate_tests::switch::{Switch, node_address};
use ferrogate_tests::wait::until;

/// The VIP that is shared.
pub(crate) const VIP: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 100);
/// For how long two nodes may answer for one VIP: the way of one heartbeat, and a busy machine.
pub(crate) const DOUBLED: Duration = Duration::from_millis(400);
/// For how long a client may be cut off when a node dies: four heartbeats, the questions, and a busy machine.
pub(crate) const OUTAGE: Duration = Duration::from_millis(1500);

/// Nodes that share [`VIP`]; fields are dropped in this order: processes before the namespaces they live in.
pub(crate) struct Scene {
    pub(crate) nodes: Vec<Appliance>,
    _echoes: Vec<Echo>,
    builders: Vec<Builder>,
    pub(crate) switch: Switch,
    pub(crate) folder: Folder,
}

impl Scene {
    /// Starts `count` nodes and waits until all of them agree on the owner.
    pub(crate) async fn start(count: usize) -> Self {
        Self::with(count, &[]).await
    }

    /// The same with more arguments for each.
    pub(crate) async fn with(count: usize, arguments: &[&str]) -> Self {
        Self::on(Switch::new(count), count, arguments).await
    }

    /// The same on a switch, of whose nodes only the first `count` are started.
    pub(crate) async fn on(switch: Switch, count: usize, arguments: &[&str]) -> Self {
        let folder = Folder::new();
        folder.write("pool.yaml", &pool(&["10.78.0.100/32"]));
        folder.write("vip.yaml", &load_balancer("lan", "edge"));
        let scene = Self::begun(switch, folder, count, arguments).await;
        scene.settled(&(0..count).collect::<Vec<_>>()).await;
        scene
    }

    /// The same on a LAN and with manifests that the test makes; nobody need agree about an owner yet.
    pub(crate) async fn prepared(count: usize, arguments: &[&str], prepare: impl FnOnce(&Switch, &Folder)) -> Self {
        let (switch, folder) = (Switch::new(count), Folder::new());
        prepare(&switch, &folder);
        Self::begun(switch, folder, count, arguments).await
    }

    async fn begun(switch: Switch, folder: Folder, count: usize, arguments: &[&str]) -> Self {
        // Outside of the folder's manifests by its name.
        folder.write("key.txt", "a secret that all nodes of this test share\n");
        let echo = |(at, namespace)| Echo::start(namespace, u8::try_from(at).expect("a few nodes"), VIP);
        let echoes = switch.nodes.iter().enumerate().map(echo).collect();
        let all = switch.nodes.len();
        let builders = (0..all).map(|at| builder(at, all, &switch, &folder, arguments)).collect();
        let mut scene = Self { nodes: Vec::new(), _echoes: echoes, builders, switch, folder };
        scene.nodes = scene.builders.iter().take(count).map(Builder::spawn).collect();
        for node in &mut scene.nodes {
            node.ready().await;
        }
        scene
    }

    /// Waits until these nodes name the same owner, one of them; its number.
    pub(crate) async fn settled(&self, nodes: &[usize]) -> usize {
        until("agreement about the owner", async || {
            let mut named = Vec::new();
            for at in nodes {
                named.push(self.owner_by(*at).await);
            }
            match named.first() {
                Some(Some(owner)) if named.iter().all(|it| *it == Some(*owner)) && nodes.contains(owner) => Ok(*owner),
                _ => Err(format!("{named:?}")),
            }
        })
        .await
    }

    /// Who owns the VIP, as this node sees it.
    pub(crate) async fn owner_by(&self, node: usize) -> Option<usize> {
        let vips = self.nodes[node].api("vips").await;
        let name = vips.first()?["node"].as_str()?.to_owned();
        name.strip_prefix('n')?.parse::<usize>().ok().map(|number| number - 1)
    }

    /// Starts the next node of the switch.
    pub(crate) fn join(&mut self) {
        self.nodes.push(self.builders[self.nodes.len()].spawn());
    }

    /// Waits until a problem of this node, if `is_there`, says this.
    pub(crate) async fn tells(&self, node: usize, expected: &str, is_there: bool) {
        until(expected, async || {
            let problems = self.nodes[node].problems().await;
            let found = problems.iter().any(|it| it["message"].as_str().is_some_and(|text| text.contains(expected)));
            if found == is_there { Ok(()) } else { Err(format!("{problems:?}")) }
        })
        .await;
    }

    /// What `ferrogate why` says on this node, with its status.
    pub(crate) fn why(&self, node: usize) -> (Option<i32>, String) {
        let mut command = self.switch.nodes[node].command(&ferrogate_tests::binary::path().display().to_string());
        let output = command.args(["why", "svc", "lan/edge"]).output().expect("the binary can be run");
        (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    }

    /// Starts a node anew.
    pub(crate) fn restart(&mut self, node: usize) {
        self.nodes[node] = self.builders[node].spawn();
    }

    /// Lets the client ask for a moment, does `fault`, and goes on until another node than `owner` has answered and a
    /// while longer.
    pub(crate) async fn watch(&mut self, what: &str, fault: impl AsyncFnOnce(&mut Self)) -> (Seen, Duration) {
        self.watch_for(Duration::from_millis(1500), what, fault).await
    }

    /// The same with another while.
    pub(crate) async fn watch_for(
        &mut self,
        long: Duration,
        what: &str,
        fault: impl AsyncFnOnce(&mut Self),
    ) -> (Seen, Duration) {
        let (probe, claims) = (Probe::start(&self.switch.client, VIP), Claims::start(&self.switch.client, VIP));
        tokio::time::sleep(Duration::from_millis(500)).await;
        let moment = now();
        fault(self).await;
        tokio::time::sleep(long).await;
        let (seen, doubled) = (probe.end().since(moment), claims.doubled());
        println!("{what}: {seen:?}, two owners for {doubled:?}");
        (seen, doubled)
    }
}

/// The moment of a fault.
#[expect(clippy::disallowed_methods, reason = "it measures time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

fn builder(at: usize, count: usize, switch: &Switch, folder: &Folder, arguments: &[&str]) -> Builder {
    let mut all = vec!["--node-name".to_owned(), format!("n{}", at + 1)];
    all.extend(["--heartbeat-key-file".to_owned(), folder.path().join("key.txt").display().to_string()]);
    for peer in (0..count).filter(|peer| *peer != at) {
        all.extend(["--peer".to_owned(), format!("n{}={}", peer + 1, node_address(peer))]);
    }
    all.extend(arguments.iter().map(|argument| (*argument).to_owned()));
    Builder::new(folder.path()).inside(switch.nodes[at].name()).with(&all)
}
