//! Who is not heard: found out by the other nodes, and told where the operator looks.

use ferrogate_tests::skip_unless_root;
use ferrogate_tests::switch::Cut;
use ferrogate_tests::wait::until;

use crate::scene::{Scene, VIP};

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_frames_are_lost_says_that_nobody_hears_it() {
    skip_unless_root!();
    let mut scene = Scene::start(3).await;
    let owner = scene.settled(&[0, 1, 2]).await;
    let (seen, _) = scene.watch("mute", async |scene| scene.switch.cut(owner, Cut::Mute)).await;
    assert!(seen.moved.is_some(), "{seen:?}");
    scene.tells(owner, "no other node hears node", true).await;
    let (status, text) = scene.why(owner);
    assert!(status == Some(1) && text.contains("WRONG   heard") && text.contains("no other node hears"), "{text}");
    until("the event", async || {
        let log = scene.nodes[owner].log();
        if log.contains("NotHeard") { Ok(()) } else { Err(log) }
    })
    .await;
    scene.switch.heal(owner);
    scene.tells(owner, "no other node hears node", false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vip_whose_announcements_a_switch_drops_is_told_by_its_owner() {
    skip_unless_root!();
    let mut scene = Scene::start(3).await;
    let owner = scene.settled(&[0, 1, 2]).await;
    let before = scene.nodes[owner].problems().await;
    assert!(before.iter().all(|it| it["severity"] != "warning" || it["object"] != "Service lan/edge"), "{before:?}");
    scene.switch.cut(owner, Cut::Arp(VIP));
    let expected = format!("nobody hears node n{} announce {VIP}", owner + 1);
    scene.tells(owner, &expected, true).await;
    let (status, text) = scene.why(owner);
    assert!(status == Some(1) && text.contains("WRONG   heard") && text.contains(&expected), "{text}");
    assert_eq!(scene.settled(&[0, 1, 2]).await, owner, "its heartbeats arrive, so that it stays");
    scene.switch.heal(owner);
    scene.tells(owner, &expected, false).await;
    until("nothing wrong", async || match scene.why(owner) {
        (Some(0), _) => Ok(()),
        (_, text) => Err(text),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_with_the_same_address_is_told_by_the_owner_though_it_never_claims_it() {
    skip_unless_root!();
    let scene = Scene::start(2).await;
    let owner = scene.settled(&[0, 1]).await;
    // It answers who asks, and says nothing by itself.
    scene.switch.client.ip(&format!("addr add {VIP}/32 dev eth0")).expect("an address can be added");
    scene.tells(owner, "find that device and change its address", true).await;
    scene.switch.client.ip(&format!("addr del {VIP}/32 dev eth0")).expect("it can be removed");
    scene.tells(owner, "find that device and change its address", false).await;
    assert_eq!(scene.settled(&[0, 1]).await, owner);
}
