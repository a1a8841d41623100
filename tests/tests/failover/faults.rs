//! The owner dies or is cut off.

use std::time::Duration;

use ferrogate_tests::skip_unless_root;
use ferrogate_tests::switch::Cut;
use rustix::process::Signal;

use crate::scene::{DOUBLED, OUTAGE, Scene};

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_owner_is_replaced_and_nothing_is_lost() {
    skip_unless_root!();
    let mut scene = Scene::start(3).await;
    let owner = scene.settled(&[0, 1, 2]).await;
    let (seen, doubled) = scene.watch("kill -9", async |scene| scene.nodes[owner].process().kill()).await;
    assert!(seen.moved.is_some_and(|moved| moved < OUTAGE), "{seen:?}");
    assert!(seen.outage < OUTAGE && doubled <= DOUBLED, "{seen:?} {doubled:?}");
    let rest: Vec<usize> = (0..3).filter(|at| *at != owner).collect();
    scene.settled(&rest).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_owner_is_replaced() {
    skip_unless_root!();
    for (what, cut) in
        [("port goes silent", Cut::Silent), ("cable pulled", Cut::Cable), ("deaf", Cut::Deaf), ("mute", Cut::Mute)]
    {
        let mut scene = Scene::start(3).await;
        let owner = scene.settled(&[0, 1, 2]).await;
        let (seen, doubled) = scene.watch(what, async |scene| scene.switch.cut(owner, cut)).await;
        assert!(seen.moved.is_some_and(|moved| moved < OUTAGE), "{what}: {seen:?}");
        assert!(seen.outage < OUTAGE && doubled <= DOUBLED, "{what}: {seen:?} {doubled:?}");
        let rest: Vec<usize> = (0..3).filter(|at| *at != owner).collect();
        let new = scene.settled(&rest).await;
        let (_, doubled) = scene.watch("healed", async |scene| scene.switch.heal(owner)).await;
        assert!(doubled <= DOUBLED, "{what}: {doubled:?}");
        assert_eq!(scene.settled(&[0, 1, 2]).await, new, "{what}: it is not taken back at once");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leaving_owner_hands_over_without_losing_a_question() {
    skip_unless_root!();
    let mut scene = Scene::start(3).await;
    let owner = scene.settled(&[0, 1, 2]).await;
    let (seen, doubled) = scene.watch("SIGTERM", async |scene| scene.nodes[owner].process().signal(Signal::TERM)).await;
    assert_eq!(seen.lost, 0, "{seen:?}");
    assert!(
        seen.moved.is_some_and(|moved| moved < Duration::from_secs(1)) && doubled <= DOUBLED,
        "{seen:?} {doubled:?}"
    );
    assert_eq!(scene.nodes[owner].process().end().await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_is_stopped_for_five_seconds_finds_a_new_one() {
    skip_unless_root!();
    let mut scene = Scene::start(3).await;
    let owner = scene.settled(&[0, 1, 2]).await;
    let (seen, _) = scene.watch("SIGSTOP", async |scene| scene.nodes[owner].process().signal(Signal::STOP)).await;
    assert!(seen.moved.is_some_and(|moved| moved < OUTAGE) && seen.outage < OUTAGE, "{seen:?}");
    tokio::time::sleep(Duration::from_secs(3)).await;
    let (seen, doubled) = scene.watch("SIGCONT", async |scene| scene.nodes[owner].process().signal(Signal::CONT)).await;
    assert!(seen.outage < OUTAGE && doubled <= DOUBLED, "{seen:?} {doubled:?}");
    assert_ne!(scene.settled(&[0, 1, 2]).await, owner, "what was taken over stays there");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_comes_back_takes_nothing_at_once() {
    skip_unless_root!();
    let mut scene = Scene::start(2).await;
    let owner = scene.settled(&[0, 1]).await;
    scene.nodes[owner].process().kill();
    scene.settled(&[1 - owner]).await;
    let (seen, doubled) = scene.watch("rejoin", async |scene| scene.restart(owner)).await;
    assert_eq!((seen.moved, doubled), (None, Duration::ZERO), "{seen:?}");
    scene.nodes[owner].ready().await;
    assert_eq!(scene.settled(&[0, 1]).await, 1 - owner);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_half_of_a_lan_has_an_owner_and_one_stays_when_it_is_whole_again() {
    skip_unless_root!();
    let mut scene = Scene::start(4).await;
    let owner = scene.settled(&[0, 1, 2, 3]).await;
    let beside = (owner + 1) % 4;
    let rest: Vec<usize> = (0..4).filter(|at| ![owner, beside].contains(at)).collect();
    let halve =
        async |scene: &mut Scene| [owner, beside].into_iter().for_each(|at| scene.switch.cut(at, Cut::OtherHalf));
    let (seen, doubled) = scene.watch("halved", halve).await;
    assert!(seen.moved.is_some_and(|moved| moved < OUTAGE) && doubled <= DOUBLED, "{seen:?} {doubled:?}");
    let new = scene.settled(&rest).await;
    assert_eq!(scene.settled(&[owner, beside]).await, owner, "its half keeps its owner");
    let heal = async |scene: &mut Scene| [owner, beside].into_iter().for_each(|at| scene.switch.heal(at));
    let (seen, doubled) = scene.watch("whole again", heal).await;
    assert!(seen.outage < OUTAGE && doubled <= DOUBLED, "{seen:?} {doubled:?}");
    assert_eq!(scene.settled(&[0, 1, 2, 3]).await, new, "the higher epoch stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn blocked_heartbeats_move_nothing() {
    skip_unless_root!();
    let mut scene = Scene::start(2).await;
    let owner = scene.settled(&[0, 1]).await;
    let block = async |scene: &mut Scene| scene.switch.cut(owner, Cut::Udp(7947));
    let (seen, doubled) = scene.watch("UDP blocked", block).await;
    assert_eq!((seen.moved, doubled), (None, Duration::ZERO), "{seen:?}");
    let alarms = scene.nodes[1 - owner].metrics().await.sum("ferrogate_speaker_false_alarms_total", &[]);
    assert!(alarms.is_some_and(|alarms| alarms >= 1.0), "it says so: {alarms:?}");
}
