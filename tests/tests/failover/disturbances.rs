//! What must not make a VIP move, or must move it without a gap: lossy and slow networks, nodes that come, changes of
//! interfaces and keys, a machine without time.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ferrogate_tests::skip_unless_root;
use ferrogate_tests::switch::{Cut, Switch, second_address};
use ferrogate_tests::wait::until;
use rustix::process::Signal;

use crate::scene::{DOUBLED, OUTAGE, Scene, VIP};

/// How long nothing may happen.
const A_WHILE: Duration = Duration::from_secs(8);

/// Times that each node declared another lost, as it is counted.
async fn losses(scene: &Scene) -> Vec<Option<String>> {
    let mut all = Vec::new();
    for node in &scene.nodes {
        let lost = node.metrics().await.sum("ferrogate_speaker_members_lost_total", &[]);
        all.push(lost.map(|lost| lost.to_string()));
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn of_five_in_a_hundred_frames_lost_each_way_nobody_dies() {
    skip_unless_root!();
    let mut scene = Scene::start(3).await;
    let before = losses(&scene).await;
    let lossy = async |scene: &mut Scene| (0..3).for_each(|at| scene.switch.cut(at, Cut::Loss(5)));
    let (seen, doubled) = scene.watch_for(A_WHILE, "5 % lost", lossy).await;
    // One that is warm by now may have taken what is its own; that is a hand-over.
    assert_eq!(losses(&scene).await, before, "{seen:?}");
    assert!(doubled <= DOUBLED, "{doubled:?}");
    scene.settled(&[0, 1, 2]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_joins_takes_nothing_at_once_and_takes_over_when_the_owner_dies() {
    skip_unless_root!();
    let mut scene = Scene::on(Switch::new(2), 1, &[]).await;
    assert_eq!(scene.settled(&[0]).await, 0);
    let (seen, doubled) = scene.watch("join", async |scene| scene.join()).await;
    assert_eq!((seen.moved, doubled), (None, Duration::ZERO), "{seen:?}");
    scene.nodes[1].ready().await;
    assert_eq!(scene.settled(&[0, 1]).await, 0);
    let (seen, doubled) = scene.watch("kill -9", async |scene| scene.nodes[0].process().kill()).await;
    assert!(seen.moved.is_some_and(|moved| moved < OUTAGE) && doubled <= DOUBLED, "{seen:?} {doubled:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_gets_no_time_for_moments_keeps_its_vip_or_loses_it_to_one() {
    skip_unless_root!();
    let mut scene = Scene::start(3).await;
    let owner = scene.settled(&[0, 1, 2]).await;
    // Stopped for less than four beats, again and again: late, and never gone.
    let slow = async |scene: &mut Scene| {
        for _ in 0..40 {
            scene.nodes[owner].process().signal(Signal::STOP);
            tokio::time::sleep(Duration::from_millis(40)).await;
            scene.nodes[owner].process().signal(Signal::CONT);
            tokio::time::sleep(Duration::from_millis(40)).await;
        }
    };
    let (seen, doubled) = scene.watch("slow node", slow).await;
    assert!(seen.outage < OUTAGE && doubled <= DOUBLED, "{seen:?} {doubled:?}");
    scene.settled(&[0, 1, 2]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interface_that_is_removed_moves_the_vip_and_one_that_is_added_again_is_used() {
    skip_unless_root!();
    let mut scene = Scene::start(2).await;
    let owner = scene.settled(&[0, 1]).await;
    let replace = async |scene: &mut Scene| {
        scene.switch.replace(owner, tokio::time::sleep(Duration::from_secs(1))).await;
    };
    let (seen, doubled) = scene.watch("interface removed and added", replace).await;
    assert!(seen.moved.is_some_and(|moved| moved < OUTAGE), "{seen:?}");
    assert!(seen.outage < OUTAGE && doubled <= DOUBLED, "{seen:?} {doubled:?}");
    let new = scene.settled(&[0, 1]).await;
    assert_eq!(new, 1 - owner, "it is not taken back at once");
    let (seen, _) = scene.watch("kill -9", async |scene| scene.nodes[new].process().kill()).await;
    assert!(seen.moved.is_some_and(|moved| moved < OUTAGE), "the new interface announces: {seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_hardware_address_is_announced_at_once() {
    skip_unless_root!();
    let mut scene = Scene::start(2).await;
    let owner = scene.settled(&[0, 1]).await;
    let change = async |scene: &mut Scene| {
        let changed = scene.switch.nodes[owner].ip("link set eth0 address 02:78:00:00:00:99");
        changed.expect("an address can be changed while the interface is up");
    };
    let (seen, doubled) = scene.watch("new MAC", change).await;
    assert!(seen.outage < OUTAGE && doubled <= DOUBLED, "{seen:?} {doubled:?}");
    assert_eq!(scene.settled(&[0, 1]).await, owner, "it stays where it is");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_replaced_by_way_of_two_and_nothing_moves() {
    skip_unless_root!();
    let mut scene = Scene::start(2).await;
    let owner = scene.settled(&[0, 1]).await;
    let (old, new) = ("a secret that all nodes of this test share", "the one that follows it");
    let before = losses(&scene).await;
    let rotate = async |scene: &mut Scene| {
        for keys in [format!("{old}\n{new}\n"), format!("{new}\n{old}\n"), format!("{new}\n")] {
            let changes = |scene: &Scene| -> Vec<usize> {
                scene.nodes.iter().map(|node| node.log().matches("heartbeat key changed").count()).collect()
            };
            let before = changes(scene);
            scene.folder.write("key.txt", &keys);
            until("both have read it", async || {
                let now = changes(scene);
                if now.iter().zip(&before).all(|(now, before)| now > before) { Ok(()) } else { Err(format!("{now:?}")) }
            })
            .await;
        }
    };
    let (seen, doubled) = scene.watch("two keys, then one", rotate).await;
    assert_eq!((seen.moved, doubled), (None, Duration::ZERO), "{seen:?}");
    assert_eq!(losses(&scene).await, before, "nobody was missed");
    let (seen, _) = scene.watch("kill -9", async |scene| scene.nodes[owner].process().kill()).await;
    assert!(seen.moved.is_some_and(|moved| moved < OUTAGE), "the new key serves: {seen:?}");
}

/// With a path of their own the heartbeats say at once that the announcing interface has no carrier.
#[tokio::test(flavor = "multi_thread")]
async fn carrier_that_is_lost_is_told_by_the_second_path() {
    skip_unless_root!();
    let switch = Switch::new(3);
    switch.add_second();
    let second: Vec<String> = (0..3).map(|at| format!("--peer=n{}={}", at + 1, second_address(at))).collect();
    let second: Vec<&str> = second.iter().map(String::as_str).collect();
    let mut scene = Scene::on(switch, 3, &second).await;
    let owner = scene.settled(&[0, 1, 2]).await;
    let before = losses(&scene).await;
    let (seen, doubled) =
        scene.watch("cable pulled, second path", async |scene| scene.switch.cut(owner, Cut::Cable)).await;
    assert!(seen.moved.is_some_and(|moved| moved < OUTAGE) && doubled <= DOUBLED, "{seen:?} {doubled:?}");
    assert_eq!(losses(&scene).await, before, "nobody had to be missed for it");
    let rest: Vec<usize> = (0..3).filter(|at| *at != owner).collect();
    scene.settled(&rest).await;
}

/// Busy loops that end with this.
struct Hogs(Vec<Child>);

impl Hogs {
    fn start(count: usize) -> Self {
        let hog = || {
            let mut command = Command::new("sh");
            command.args(["-c", "while :; do :; done"]).stdin(Stdio::null()).spawn().expect("a shell can be started")
        };
        Self((0..count).map(|_| hog()).collect())
    }
}

impl Drop for Hogs {
    fn drop(&mut self) {
        for hog in &mut self.0 {
            // One that ended by itself hogs nothing.
            let _ = hog.kill();
            let _ = hog.wait();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_six_busy_loops_nobody_dies() {
    skip_unless_root!();
    let mut scene = Scene::start(3).await;
    let before = losses(&scene).await;
    let mut hogs = None;
    let busy = async |_: &mut Scene| hogs = Some(Hogs::start(6));
    let (seen, doubled) = scene.watch_for(A_WHILE, "six busy loops", busy).await;
    drop(hogs);
    assert_eq!(losses(&scene).await, before, "{seen:?}");
    assert!(doubled <= DOUBLED, "{doubled:?}");
    scene.settled(&[0, 1, 2]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_claims_the_vip_is_named_and_answered_and_nothing_moves() {
    skip_unless_root!();
    let mut scene = Scene::start(2).await;
    let owner = scene.settled(&[0, 1]).await;
    let mut wire = scene.switch.client.enter(ferrogate_tests::netns::Wire::open);
    let (mac, vip) = ([2, 66, 0, 0, 0, 1], VIP.octets());
    let claim = [&[0xff; 6][..], &mac, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1], &mac, &vip, &[0; 6], &vip].concat();
    let (seen, doubled) = scene.watch("a claim by another device", async |_| wire.send(&claim)).await;
    assert!(seen.moved.is_none() && seen.outage < OUTAGE && doubled == Duration::ZERO, "{seen:?} {doubled:?}");
    scene.tells(owner, "02:42:00:00:00:01 also claims", true).await;
    let conflicts = scene.nodes[owner].metrics().await.sum("ferrogate_speaker_conflicts_total", &[]);
    assert_eq!(conflicts, Some(1.0));
}

/// The Service of the scene with policy Local, its one endpoint on this node.
fn local(node: usize) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata:\n  namespace: lan\n  name: edge\nspec:\n  type: LoadBalancer\n  \
         externalTrafficPolicy: Local\n  selector: {{app: edge}}\n  ports:\n  - name: http\n    port: 80\n    targetPort: \
         8080\n---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  namespace: lan\n  name: edge-1\n  \
         labels: {{kubernetes.io/service-name: edge}}\naddressType: IPv4\nendpoints:\n- addresses: [10.78.0.{}]\n  \
         nodeName: n{}\n  conditions: {{ready: true}}\nports:\n- {{name: http, port: 8080, protocol: TCP}}\n",
        11 + node,
        node + 1
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn with_policy_local_the_vip_follows_the_endpoint() {
    skip_unless_root!();
    let mut scene = Scene::start(3).await;
    for node in [2, 0, 1] {
        let place = async |scene: &mut Scene| scene.folder.write("vip.yaml", &local(node));
        let (seen, doubled) = scene.watch("endpoint moves", place).await;
        assert!(seen.outage < OUTAGE && doubled <= DOUBLED, "{seen:?} {doubled:?}");
        until("the owner", async || {
            let owner = scene.owner_by(node).await;
            if owner == Some(node) { Ok(()) } else { Err(format!("{owner:?}")) }
        })
        .await;
    }
}
