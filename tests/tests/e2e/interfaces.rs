//! On which interfaces a VIP is announced, and how fast.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

use ferrogate_tests::appliance::Builder;
use ferrogate_tests::folder::Folder;
use ferrogate_tests::manifests::{load_balancer, pool};
use ferrogate_tests::netns::Lan;
use ferrogate_tests::skip_unless_root;
use ferrogate_tests::wait::{Stopwatch, until};

#[tokio::test(flavor = "multi_thread")]
async fn interfaces_are_chosen_by_expression_and_left_out_by_name() {
    skip_unless_root!();
    for (arguments, expected) in [
        (&["--interface", "eth[0-9]+"][..], "eth0,eth1"),
        (&["--interface", "eth[0-9]+", "--exclude-interface", "eth1"], "eth0"),
        (&["--interface", "eth.+", "--exclude-interface", "eth[02]"], "eth1"),
    ] {
        let (lan, folder) = (Lan::new(), Folder::new());
        lan.node.ip("link add eth1 type veth peer name other").expect("an interface can be made");
        lan.node.ip("link set eth1 up").expect("it can be put up");
        lan.node.ip("link set other up").expect("it can be put up");
        folder.write("pool.yaml", &pool(&["10.77.0.100/32"]));
        folder.write("vip.yaml", &load_balancer("lan", "edge"));
        let builder = Builder::new(folder.path()).inside(lan.node.name()).with(&["--roles", "speaker"]).with(arguments);
        let appliance = builder.start().await;
        until(expected, async || {
            let vips = appliance.api("vips").await;
            let found = vips.iter().any(|vip| vip["interface"] == expected);
            if found { Ok(()) } else { Err(format!("{arguments:?}: {vips:?}")) }
        })
        .await;
    }
}

/// The address that a gratuitous ARP or a question before an address is given is about.
fn unasked(frame: &[u8]) -> Option<[u8; 4]> {
    let is_broadcast_arp = frame.first() == Some(&0xff) && frame.get(12..14) == Some(&[8, 6]);
    let target = frame.get(38..42)?.try_into().ok()?;
    let sender = frame.get(28..32)?;
    (is_broadcast_arp && (sender == target || sender == [0; 4])).then_some(target)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_frames_are_sent_in_a_second_than_the_switch_allows() {
    const LIMIT: usize = 20;
    const SECONDS: u64 = 5;
    skip_unless_root!();
    let (lan, folder) = (Lan::new(), Folder::new());
    let mut services = String::new();
    for index in 0..60 {
        let _ = write!(services, "---\n{}", load_balancer("lan", &format!("edge-{index}")));
    }
    folder.write("pool.yaml", &pool(&["10.77.0.100-10.77.0.199"]));
    folder.write("vips.yaml", &services);
    let mut wire = lan.listen();
    let limit = LIMIT.to_string();
    let builder = Builder::new(folder.path()).inside(lan.node.name());
    let _appliance = builder.with(&["--roles", "speaker", "--garp-rate", &limit]).start().await;
    until("the first frame", async || wire.frame().as_deref().and_then(unasked).ok_or("none yet")).await;
    let (watch, mut frames, mut about) = (Stopwatch::start(), 0, BTreeSet::new());
    while watch.elapsed() < Duration::from_secs(SECONDS) {
        let found = wire.frame().as_deref().and_then(unasked);
        frames += usize::from(found.is_some());
        about.extend(found);
    }
    let seconds = usize::try_from(watch.elapsed().as_secs() + 1).expect("some seconds");
    assert!(frames <= LIMIT * seconds, "{frames} frames in {:?}", watch.elapsed());
    assert!(frames >= LIMIT, "it goes on at that pace: {frames} frames about {} addresses", about.len());
}
