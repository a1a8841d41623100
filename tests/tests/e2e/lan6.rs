//! What another machine on the LAN sees of an IPv6 VIP: stations on a switch that snoops MLD.

use std::net::{Ipv6Addr, SocketAddr};
use std::time::Duration;

use ferrogate_tests::appliance::{Appliance, Builder};
use ferrogate_tests::client::Target;
use ferrogate_tests::folder::Folder;
use ferrogate_tests::manifests::{INGRESS_CLASS, Ingress, backend, load_balancer, pool};
use ferrogate_tests::netns::Wire;
use ferrogate_tests::skip_unless_root;
use ferrogate_tests::snooping::SnoopingSwitch;
use ferrogate_tests::wait::{Stopwatch, until};
use pnet::packet::icmpv6::{Icmpv6Packet, checksum};
use rustix::process::Signal;

const VIP: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x78, 0, 0, 0, 0x1234, 0x5678);
/// The group for questions about [`VIP`], and its hardware address.
const GROUP: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff34, 0x5678);
const GROUP_MAC: [u8; 6] = [0x33, 0x33, 0xff, 0x34, 0x56, 0x78];
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const OTHER: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x78, 0, 0, 0, 0x1234, 0x5679);
/// The station that asks.
const PEER: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x78, 0, 0, 0, 0, 2);
const HOST: &str = "lan.example";
const NODE: usize = 0;
const CLIENT: usize = 1;
/// Longer than any answer takes, short enough to wait for silence.
const QUIET: Duration = Duration::from_millis(700);
const LIMIT: Duration = Duration::from_secs(8);

/// A node that announces [`VIP`] and routes [`HOST`] to an echo of its own.
struct Scene {
    // Fields are dropped in this order: the process before the namespace it lives in.
    appliance: Appliance,
    wire: Wire,
    switch: SnoopingSwitch,
    folder: Folder,
}

impl Scene {
    async fn start() -> Self {
        let (switch, folder) = (SnoopingSwitch::new(2), Folder::new());
        let echo = SocketAddr::from(([127, 0, 0, 77], 7777));
        folder.write("class.yaml", INGRESS_CLASS);
        folder.write("pool.yaml", &pool(&[&format!("{VIP}/128")]));
        folder.write("vip.yaml", &ipv6(&load_balancer("lan", "edge")));
        folder.write("web.yaml", &backend("lan", "web", &[echo]));
        folder.write("ingress.yaml", &Ingress::new("lan", "web").rule(HOST, "/", "web").yaml());
        let wire = switch.listen(CLIENT);
        let arguments = ["--with-echo", "--http", "[::]:80", "--https", "[::]:443"];
        let appliance = Builder::new(folder.path()).inside(switch.stations[NODE].name()).with(&arguments).start().await;
        let scene = Self { appliance, wire, switch, folder };
        scene.announces().await;
        scene
    }

    async fn announces(&self) {
        until("the announcement", async || {
            let vips = self.appliance.api("vips").await;
            let announced = vips.iter().any(|vip| vip["state"] == "announcing" && vip["interface"] == "eth0");
            if announced { Ok(()) } else { Err(format!("{vips:?}")) }
        })
        .await;
    }

    /// The other station asks over HTTP, through the VIP.
    async fn serves(&self) {
        let client = self.switch.stations[CLIENT].name();
        until("HTTP through the VIP", async || {
            let answer = Target::plain((VIP, 80).into()).from(Some(client)).get(HOST, "/").await;
            match answer.map(|response| response.status) {
                Ok(200) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    }
}

/// A Service manifest that wants IPv6.
fn ipv6(service: &str) -> String {
    format!("{service}  ipFamilyPolicy: SingleStack\n  ipFamilies: [IPv6]\n")
}

/// A neighbour advertisement as a station sees it; a checksum or hop limit that is wrong is not one.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Advertisement {
    to: [u8; 6],
    from: [u8; 6],
    receiver: Ipv6Addr,
    target: Ipv6Addr,
    solicited: bool,
    overriding: bool,
    mac: Option<[u8; 6]>,
}

impl Advertisement {
    fn decode(frame: &[u8]) -> Option<Self> {
        let mac = |at: usize| <[u8; 6]>::try_from(frame.get(at..at + 6)?).ok();
        let ip = |at: usize| <[u8; 16]>::try_from(frame.get(at..at + 16)?).ok().map(Ipv6Addr::from);
        if frame.get(12..14)? != [0x86, 0xdd] || *frame.get(20)? != 58 || *frame.get(54)? != 136 {
            return None;
        }
        assert_eq!(frame[21], 255, "the hop limit of {frame:?}");
        let length = usize::from(u16::from_be_bytes([frame[18], frame[19]]));
        let message = Icmpv6Packet::new(&frame[54..54 + length])?;
        assert_eq!(checksum(&message, &ip(22)?, &ip(38)?), message.get_checksum(), "{frame:?}");
        Some(Self {
            to: mac(0)?,
            from: mac(6)?,
            receiver: ip(38)?,
            target: ip(62)?,
            solicited: frame[58] & 0x40 != 0,
            overriding: frame[58] & 0x20 != 0,
            mac: mac(80).filter(|_| frame.get(78..80) == Some(&[2, 1])),
        })
    }

    fn is_unsolicited(&self) -> bool {
        self.target == VIP && self.receiver == ALL_NODES && !self.solicited && self.overriding
    }
}

/// Every advertisement heard until `enough` says so or `limit` is over.
fn hear(wire: &mut Wire, limit: Duration, mut enough: impl FnMut(&[Advertisement]) -> bool) -> Vec<Advertisement> {
    let (watch, mut heard) = (Stopwatch::start(), Vec::new());
    while watch.elapsed() < limit && !enough(&heard) {
        heard.extend(wire.frame().as_deref().and_then(Advertisement::decode));
    }
    heard
}

/// How a station asks.
#[derive(Clone, Copy, Debug)]
struct Question {
    /// The hardware address it is sent to.
    to: [u8; 6],
    sender: Ipv6Addr,
    receiver: Ipv6Addr,
    target: Ipv6Addr,
    hop_limit: u8,
}

const USUAL: Question = Question { to: GROUP_MAC, sender: PEER, receiver: GROUP, target: VIP, hop_limit: 255 };

impl Question {
    fn frame(&self, mac: [u8; 6]) -> Vec<u8> {
        let mut message = [&[135, 0, 0, 0, 0, 0, 0, 0], &self.target.octets()[..]].concat();
        if !self.sender.is_unspecified() {
            message.extend([1, 1]);
            message.extend(mac);
        }
        let sum = checksum(&Icmpv6Packet::new(&message).expect("a message"), &self.sender, &self.receiver);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        let length = u16::try_from(message.len()).expect("a short message").to_be_bytes();
        let header = [0x60, 0, 0, 0, length[0], length[1], 58, self.hop_limit];
        let (sender, receiver) = (self.sender.octets(), self.receiver.octets());
        [&self.to[..], &mac, &[0x86, 0xdd], &header, &sender, &receiver, &message].concat()
    }

    /// Asks; what comes back within `limit`.
    fn ask(&self, wire: &mut Wire, limit: Duration) -> Option<Advertisement> {
        wire.forget();
        let frame = self.frame(wire.mac());
        wire.send(&frame);
        let (target, everybody) = (self.target, self.sender.is_unspecified());
        let answers = |heard: &Advertisement| heard.target == target && heard.solicited != everybody;
        hear(wire, limit, |heard| heard.iter().any(answers)).into_iter().find(answers)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_behind_a_snooping_switch_reaches_an_ipv6_vip() {
    skip_unless_root!();
    let scene = Scene::start().await;
    until("the group reported to the switch", async || {
        if scene.switch.has_group(NODE, &GROUP.to_string()) { Ok(()) } else { Err("not reported") }
    })
    .await;
    scene.serves().await;
    let secure = Target::tls((VIP, 443).into(), HOST).from(Some(scene.switch.stations[CLIENT].name()));
    assert_eq!(secure.get(HOST, "/").await.expect("HTTPS answers through the VIP").status, 200);
    let metrics = scene.appliance.metrics().await;
    let vip = VIP.to_string();
    assert_eq!(metrics.sum("metallb_speaker_announced", &[("service", "lan/edge"), ("ip", &vip)]), Some(1.0));
    for name in ["requests_received", "responses_sent", "gratuitous_sent"] {
        assert!(metrics.sum(&format!("metallb_layer2_{name}"), &[("ip", &vip)]) >= Some(1.0), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_checks_and_probes_for_duplicates_are_answered_and_nothing_else_is() {
    skip_unless_root!();
    let mut scene = Scene::start().await;
    let wire = &mut scene.wire;
    let mine = wire.mac();
    let answer = USUAL.ask(wire, LIMIT).expect("an answer to a question to the group");
    let node = answer.from;
    assert_eq!((answer.to, answer.receiver, answer.mac), (mine, PEER, Some(node)));
    // What a neighbour sends before it believes that the VIP is gone: to the one station, at the address itself.
    let check = Question { to: node, receiver: VIP, ..USUAL };
    let answer = check.ask(wire, LIMIT).expect("an answer to a reachability check");
    assert_eq!((answer.to, answer.mac), (mine, Some(node)));
    // Who wants to take the address for its own learns that it is taken (RFC 4862 §5.4.3).
    let probe = Question { sender: Ipv6Addr::UNSPECIFIED, ..USUAL };
    let answer = probe.ask(wire, LIMIT).expect("an answer to a probe for a duplicate");
    assert_eq!((answer.receiver, answer.overriding, answer.mac), (ALL_NODES, true, Some(node)));
    let elsewhere = Question { target: OTHER, to: node, receiver: OTHER, ..USUAL };
    assert_eq!(elsewhere.ask(wire, QUIET), None, "nobody has that address");
    let routed = Question { hop_limit: 254, ..USUAL };
    assert_eq!(routed.ask(wire, QUIET), None, "it came through a router");
    let dropped =
        scene.appliance.metrics().await.sum("ferrogate_speaker_frames_dropped_total", &[("reason", "hop_limit")]);
    assert_eq!(dropped, Some(1.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ipv6_vip_is_announced_again_when_the_link_or_the_hardware_address_changes_and_not_by_a_resync() {
    skip_unless_root!();
    let mut scene = Scene::start().await;
    let repeated = |heard: &[Advertisement]| heard.iter().filter(|heard| heard.is_unsolicited()).count() >= 3;
    let heard = hear(&mut scene.wire, LIMIT, repeated);
    assert!(repeated(&heard), "{heard:?}");
    assert!(
        heard.iter().filter(|heard| heard.is_unsolicited()).all(|heard| heard.mac == Some(heard.from)),
        "{heard:?}"
    );
    // The last of the burst comes 2.5 s after the first.
    hear(&mut scene.wire, Duration::from_secs(4), |_| false);
    scene.folder.write("web2.yaml", &backend("lan", "web2", &[SocketAddr::from(([127, 0, 0, 78], 7777))]));
    let again = |heard: &[Advertisement]| heard.iter().any(Advertisement::is_unsolicited);
    let heard = hear(&mut scene.wire, Duration::from_secs(2), again);
    assert!(!again(&heard), "another object is no reason to announce: {heard:?}");
    let station = &scene.switch.stations[NODE];
    for change in ["down", "address 02:78:00:00:00:01", "down"] {
        station.ip(&format!("link set eth0 {change}")).expect("the interface can be changed");
        station.ip("link set eth0 up").expect("the interface can be put up");
        let heard = hear(&mut scene.wire, LIMIT, again);
        assert!(again(&heard), "after {change}: {heard:?}");
    }
    // The switch learns a moment after the link is up who listens to the group; whoever resolves an address asks again.
    let mut answer = None;
    until("an answer", async || USUAL.ask(&mut scene.wire, QUIET).map(|it| answer = Some(it)).ok_or("silence")).await;
    assert_eq!(answer.and_then(|it| it.mac), Some([2, 0x78, 0, 0, 0, 1]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interface_that_is_laid_anew_answers_for_the_ipv6_vip_again() {
    skip_unless_root!();
    let mut scene = Scene::start().await;
    scene.switch.unplug(NODE).expect("a cable can be pulled");
    until("the VIP without an interface", async || {
        let vips = scene.appliance.api("vips").await;
        if vips.iter().all(|vip| vip["state"] != "announcing") { Ok(()) } else { Err(format!("{vips:?}")) }
    })
    .await;
    scene.switch.plug(NODE).expect("a cable can be laid");
    scene.announces().await;
    until("an answer", async || USUAL.ask(&mut scene.wire, QUIET).ok_or("silence")).await;
    scene.serves().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_leaves_no_ipv6_vip_behind() {
    skip_unless_root!();
    let mut scene = Scene::start().await;
    let addresses = || {
        let shown = scene.switch.stations[NODE].ip("-6 addr show").expect("the interfaces can be listed").stdout;
        String::from_utf8_lossy(&shown).into_owned()
    };
    let shown = addresses();
    assert!(shown.contains(&format!("{VIP}/128")) && shown.contains("deprecated"), "{shown}");
    scene.appliance.process().signal(Signal::TERM);
    assert_eq!(scene.appliance.process().end().await.code(), Some(0), "{}", scene.appliance.log());
    assert!(!addresses().contains(&VIP.to_string()), "the VIP is still an address of the node");
    assert_eq!(USUAL.ask(&mut scene.wire, QUIET), None, "nobody answers after the end");
}
