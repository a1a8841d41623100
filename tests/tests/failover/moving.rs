//! A VIP moves on purpose: no question is lost, and no connection.

use std::net::{IpAddr, Ipv6Addr};
use std::process::Output;
use std::time::Duration;

use ferrogate_tests::manifests::{INGRESS_CLASS, Ingress, backend, load_balancer, pool};
use ferrogate_tests::outage::Probe;
use ferrogate_tests::wait::until;
use ferrogate_tests::{binary, skip_unless_root};
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

/// `ferrogate` on this node, with its output.
async fn command(scene: &Scene, node: usize, arguments: &[&str]) -> Output {
    let mut command = scene.switch.nodes[node].command(&binary::path().display().to_string());
    command.args(arguments);
    tokio::task::spawn_blocking(move || command.output()).await.expect("no panic").expect("it can be run")
}

/// What it prints when it does as told.
async fn done(scene: &Scene, node: usize, arguments: &[&str]) -> String {
    let output = command(scene, node, arguments).await;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{arguments:?}: {}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vip_is_moved_by_command_and_given_back() {
    skip_unless_root!();
    let mut scene = stage(3).await;
    // Any node may be asked, and either name will do.
    let moved = async |scene: &mut Scene| {
        let told = done(scene, 1, &["move", "10.78.0.100", "n3"]).await;
        assert!(told.starts_with("10.78.0.100 is announced from node n3"), "{told}");
        done(scene, 2, &["move", "lan/edge6", "n3"]).await;
    };
    unnoticed(&mut scene, "move", 0, 2, moved).await;
    let why = done(&scene, 2, &["why", "svc", "lan/edge"]).await;
    assert!(why.contains("this node, n3, owns it, where `ferrogate move` put it"), "{why}");
    assert!(why.contains("connections from before it came here are sent on to n1"), "{why}");
    quiet(&scene).await;
    for (arguments, reason) in [
        (["move", "10.78.0.100", "n9"], "no speaker is heard on node n9"),
        (["move", "10.78.0.9", "n1"], "no Service has the address 10.78.0.9"),
        (["move", "lan/none", "n1"], "no Service lan/none has an address"),
    ] {
        let output = command(&scene, 0, &arguments).await;
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(1) && told.contains(reason), "{arguments:?}: {told}");
    }
    let back = async |scene: &mut Scene| {
        done(scene, 0, &["move", "10.78.0.100", "--auto"]).await;
        done(scene, 0, &["move", "lan/edge6", "--auto"]).await;
    };
    unnoticed(&mut scene, "give back", 2, 0, back).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vip_follows_its_annotation() {
    skip_unless_root!();
    let mut scene = stage(2).await;
    // The second node is warm by then.
    tokio::time::sleep(Duration::from_secs(10)).await;
    let annotate = async |scene: &mut Scene| scene.folder.write("vip.yaml", &preferring("n2"));
    unnoticed(&mut scene, "annotation", 0, 1, annotate).await;
}

/// Two nodes as the cluster knows them, of which these are excluded from load balancers.
fn nodes(excluded: &[&str]) -> String {
    let node = |name: &str| {
        let label = if excluded.contains(&name) {
            "  labels: {node.kubernetes.io/exclude-from-external-load-balancers: \"\"}\n"
        } else {
            ""
        };
        format!("apiVersion: v1\nkind: Node\nmetadata:\n  name: {name}\n{label}")
    };
    [node("n1"), node("n2")].join("---\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_node_hands_over_and_the_last_one_keeps_what_it_has() {
    skip_unless_root!();
    let mut scene = stage(2).await;
    scene.folder.write("nodes.yaml", &nodes(&[]));
    let drain = async |scene: &mut Scene| scene.folder.write("nodes.yaml", &nodes(&["n1"]));
    unnoticed(&mut scene, "drain", 0, 1, drain).await;
    let refused = command(&scene, 1, &["move", "10.78.0.100", "n1"]).await;
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(told.contains("node n1 is no candidate"), "{told}");
    // With nobody left the addresses are announced all the same, and somebody says so.
    scene.folder.write("nodes.yaml", &nodes(&["n1", "n2"]));
    until("a word about it", async || {
        let problems = scene.nodes[1].problems().await;
        let said =
            problems.iter().any(|it| it["message"].as_str().is_some_and(|it| it.contains("every node is labelled")));
        if said { Ok(()) } else { Err(format!("{problems:?}")) }
    })
    .await;
    clients::open(&scene.switch.client, VIP.into(), Way::Plain).expect("somebody serves");
}

/// The plain endpoint of a Service, which is on this node.
fn endpoint_on(node: &str) -> String {
    ferrogate_tests::manifests::endpoints("lan", "edge", &["192.0.2.1:7".parse().expect("an address")])
        .replace("- addresses: [192.0.2.1]\n", &format!("- addresses: [192.0.2.1]\n  nodeName: {node}\n"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vip_of_policy_local_follows_its_endpoint() {
    skip_unless_root!();
    let scene = Scene::prepared(2, &LINGER, |switch, folder| {
        for (at, namespace) in switch.nodes.iter().enumerate() {
            clients::serve(namespace, u8::try_from(at).expect("a few nodes"));
        }
        folder.write("pool.yaml", &pool(&["10.78.0.100/32"]));
        let local = load_balancer("lan", "edge").replace("spec:\n", "spec:\n  externalTrafficPolicy: Local\n");
        folder.write("vip.yaml", &local);
        folder.write("nodes.yaml", &nodes(&[]));
        folder.write("endpoint.yaml", &endpoint_on("n1"));
    })
    .await;
    let both = [0, 1];
    until("the node with the endpoint to own it", async || match scene.settled(&both).await {
        0 => Ok(()),
        other => Err(other.to_string()),
    })
    .await;
    let talking = Clients::start(&scene.switch.client, 0, &[(VIP.into(), Way::Plain, 5)]);
    let (probe, moment) = (Probe::start(&scene.switch.client, VIP), now());
    scene.folder.write("endpoint.yaml", &endpoint_on("n2"));
    until("it to follow its endpoint", async || match scene.settled(&both).await {
        1 => Ok(()),
        other => Err(other.to_string()),
    })
    .await;
    assert_eq!(clients::open(&scene.switch.client, VIP.into(), Way::Plain).expect("it is served").1, 1);
    let seen = probe.end().since(moment);
    assert_eq!((talking.end().1, seen.lost), (Vec::new(), 0), "{seen:?}");
}
