//! A VIP moves on purpose: no question is lost, and no connection.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use ferrogate_tests::manifests::{INGRESS_CLASS, Ingress, backend, load_balancer, pool};
use ferrogate_tests::outage::Probe;
use ferrogate_tests::skip_unless_root;
use ferrogate_tests::wait::until;
use rustix::process::Signal;

use crate::clients::{self, BACKEND, Clients, Way};
use crate::scene::{Scene, VIP, now};

const VIP6: Ipv6Addr = Ipv6Addr::new(0xfd78, 0, 0, 0, 0, 0, 0, 0x100);
/// For how long nodes linger here: long enough to be seen, short enough to be waited for.
const LINGER: [&str; 2] = ["--linger", "6s"];

/// Nodes that share a VIP of each family, both of which shall be on `n1`, with an ingress and other servers on each.
async fn stage(count: usize) -> Scene {
    let arguments = [&LINGER[..], &["--http", "[::]:80"]].concat();
    let scene = Scene::prepared(count, &arguments, |switch, folder| {
        let all = [&switch.client].into_iter().chain(&switch.nodes).enumerate();
        for (at, namespace) in all {
            let host = if at == 0 { 2 } else { 10 + at };
            namespace.ip(&format!("addr add fd78::{host}/64 dev eth0 nodad")).expect("an address can be added");
        }
        for (at, namespace) in switch.nodes.iter().enumerate() {
            clients::serve(namespace, u8::try_from(at).expect("a few nodes"));
        }
        folder.write("pool.yaml", &pool(&["10.78.0.100/32", "fd78::100/128"]));
        folder.write("vip.yaml", &preferring("n1"));
        folder.write("class.yaml", INGRESS_CLASS);
        folder.write("shop.yaml", &backend("lan", "shop", &[BACKEND]));
        folder.write("ingress.yaml", &Ingress::new("lan", "shop").rule("shop.test", "/", "shop").yaml());
    })
    .await;
    owned_by(&scene, 0).await;
    scene
}

/// Both Services, which prefer this node.
fn preferring(node: &str) -> String {
    let annotate = |text: String| {
        text.replace("spec:\n", &format!("  annotations: {{ferrogate.io/preferred-node: {node}}}\nspec:\n"))
    };
    let v6 = load_balancer("lan", "edge6").replace("spec:\n", "spec:\n  ipFamilies: [IPv6]\n");
    [annotate(load_balancer("lan", "edge")), annotate(v6)].join("---\n")
}

/// Waits until every node that runs says that this one owns both VIPs.
async fn owned_by(scene: &Scene, owner: usize) {
    let expected = format!("n{}", owner + 1);
    until("the VIPs to be where they should", async || {
        let vips = scene.nodes[owner].api("vips").await;
        let owners: Vec<&str> = vips.iter().filter_map(|vip| vip["node"].as_str()).collect();
        if owners == [&expected, &expected] { Ok(()) } else { Err(format!("{vips:?}")) }
    })
    .await;
}

/// Twenty tunnels and some others, of both families.
fn connections() -> Vec<(IpAddr, Way, usize)> {
    let (v4, v6) = (VIP.into(), VIP6.into());
    vec![(v4, Way::Tunnel, 20), (v6, Way::Tunnel, 10), (v4, Way::Plain, 5), (v6, Way::Plain, 5)]
}

/// Moves the VIPs while clients talk, by `how`, and asserts that nobody noticed.
async fn unnoticed(scene: &mut Scene, what: &str, from: usize, to: usize, how: impl AsyncFnOnce(&mut Scene)) {
    let number = |at: usize| u8::try_from(at).expect("a few nodes");
    let talking = Clients::start(&scene.switch.client, number(from), &connections());
    let probe = Probe::start(&scene.switch.client, VIP);
    tokio::time::sleep(Duration::from_millis(500)).await;
    let moment = now();
    how(scene).await;
    owned_by(scene, to).await;
    let took = moment.elapsed();
    // Long enough for every connection to say something, and for TCP to try again if it had to.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let seen = probe.end().since(moment);
    for (vip, way, _) in connections() {
        let served = clients::open(&scene.switch.client, vip, way).expect("a new connection is served").1;
        assert_eq!(served, number(to), "{what}: a new connection, {way:?} to {vip}");
    }
    let (answered, broken) = talking.end();
    println!("{what}: {took:?}, {answered} answers on {} connections, {seen:?}", 40 - broken.len());
    assert!(broken.is_empty(), "{what}: {broken:?}");
    assert_eq!(seen.lost, 0, "{what}: {seen:?}");
}

/// Waits until no kernel is told any more to send anything on.
async fn quiet(scene: &Scene) {
    until("nothing to be sent on", async || {
        for namespace in &scene.switch.nodes {
            let output = namespace.command("nft").args(["list", "tables"]).output().expect("nft can be run");
            if output.stdout != b"" {
                return Err(String::from_utf8_lossy(&output.stdout).into_owned());
            }
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_connection_breaks_when_its_node_is_upgraded() {
    skip_unless_root!();
    let mut scene = stage(2).await;
    unnoticed(&mut scene, "SIGTERM", 0, 1, async |scene| scene.nodes[0].process().signal(Signal::TERM)).await;
    assert_eq!(scene.nodes[0].process().end().await.code(), Some(0), "it ends once its clients have");
    quiet(&scene).await;
    // It comes back, is warm after ten seconds, and takes its VIPs from a living owner.
    let back = async |scene: &mut Scene| {
        scene.restart(0);
        scene.nodes[0].ready().await;
    };
    unnoticed(&mut scene, "return", 1, 0, back).await;
    quiet(&scene).await;
}
