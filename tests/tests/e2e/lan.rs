//! What another machine on the LAN sees of a VIP: a veth cable between two network namespaces.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use ferrogate_tests::appliance::{Appliance, Builder};
use ferrogate_tests::client::Target;
use ferrogate_tests::folder::Folder;
use ferrogate_tests::manifests::{INGRESS_CLASS, Ingress, backend, load_balancer, pool};
use ferrogate_tests::netns::{Lan, Wire};
use ferrogate_tests::skip_unless_root;
use ferrogate_tests::upstream::{Reply, Upstream};
use ferrogate_tests::wait::{Stopwatch, until};
use pnet::packet::Packet;
use pnet::packet::arp::{ArpHardwareTypes, ArpOperations, ArpPacket, MutableArpPacket};
use pnet::packet::ethernet::{EtherTypes, EthernetPacket, MutableEthernetPacket};
use pnet::util::MacAddr;
use rustix::process::Signal;

const VIP: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 100);
const OTHER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 101);
const PEER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
const HOST: &str = "lan.example";
/// Longer than any answer takes, short enough to wait for silence.
const QUIET: Duration = Duration::from_millis(700);

/// A LAN whose node announces [`VIP`] and routes [`HOST`] to an echo of its own.
struct Scene {
    // Fields are dropped in this order: the process before the namespace it lives in.
    appliance: Appliance,
    wire: Wire,
    lan: Lan,
    folder: Folder,
}

impl Scene {
    async fn start() -> Self {
        let (lan, folder) = (Lan::new(), Folder::new());
        let echo = SocketAddr::from((Ipv4Addr::new(127, 0, 0, 77), 7777));
        folder.write("class.yaml", INGRESS_CLASS);
        folder.write("pool.yaml", &pool(&["10.77.0.100/32"]));
        folder.write("vip.yaml", &load_balancer("lan", "edge"));
        folder.write("web.yaml", &backend("lan", "web", &[echo]));
        folder.write("ingress.yaml", &Ingress::new("lan", "web").rule(HOST, "/", "web").yaml());
        let wire = lan.listen();
        let appliance = Builder::new(folder.path()).inside(lan.node.name()).with(&["--with-echo"]).start().await;
        until("the announcement", async || {
            let vips = appliance.api("vips").await;
            let announced = vips.iter().any(|vip| vip["state"] == "announcing" && vip["interface"] == "eth0");
            if announced { Ok(()) } else { Err(format!("{vips:?}")) }
        })
        .await;
        Self { appliance, wire, lan, folder }
    }

    /// The peer asks over HTTP, through the VIP.
    async fn http(&self) -> std::io::Result<u16> {
        let target = Target::plain((VIP, 80).into()).from(Some(self.lan.peer.name()));
        target.get(HOST, "/").await.map(|response| response.status)
    }
}

/// An ARP packet as the peer sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Arp {
    to: MacAddr,
    from: MacAddr,
    reply: bool,
    sender: (MacAddr, Ipv4Addr),
    target: (MacAddr, Ipv4Addr),
}

impl Arp {
    fn decode(frame: &[u8]) -> Option<Self> {
        let ethernet = EthernetPacket::new(frame).filter(|frame| frame.get_ethertype() == EtherTypes::Arp)?;
        let arp = ArpPacket::new(ethernet.payload())?;
        assert_eq!((arp.get_hw_addr_len(), arp.get_proto_addr_len()), (6, 4), "{frame:?}");
        Some(Self {
            to: ethernet.get_destination(),
            from: ethernet.get_source(),
            reply: arp.get_operation() == ArpOperations::Reply,
            sender: (arp.get_sender_hw_addr(), arp.get_sender_proto_addr()),
            target: (arp.get_target_hw_addr(), arp.get_target_proto_addr()),
        })
    }

    fn is_gratuitous_for(&self, ip: Ipv4Addr) -> bool {
        self.to == MacAddr::broadcast() && self.sender.1 == ip && self.target.1 == ip
    }
}

/// Every ARP packet heard until `enough` says so or `limit` is over.
fn hear(wire: &mut Wire, limit: Duration, mut enough: impl FnMut(&[Arp]) -> bool) -> Vec<Arp> {
    let (watch, mut heard) = (Stopwatch::start(), Vec::new());
    while watch.elapsed() < limit && !enough(&heard) {
        heard.extend(wire.frame().as_deref().and_then(Arp::decode));
    }
    heard
}

/// Who answers when the peer asks for `ip`.
fn ask(wire: &mut Wire, ip: Ipv4Addr, limit: Duration) -> Option<Arp> {
    let mine = MacAddr::from(wire.mac());
    let mut buffer = [0; 42];
    let mut ethernet = MutableEthernetPacket::new(&mut buffer).expect("a header fits");
    ethernet.set_destination(MacAddr::broadcast());
    ethernet.set_source(mine);
    ethernet.set_ethertype(EtherTypes::Arp);
    let mut arp = MutableArpPacket::new(&mut buffer[14..]).expect("an ARP packet fits");
    arp.set_hardware_type(ArpHardwareTypes::Ethernet);
    arp.set_protocol_type(EtherTypes::Ipv4);
    arp.set_hw_addr_len(6);
    arp.set_proto_addr_len(4);
    arp.set_operation(ArpOperations::Request);
    arp.set_sender_hw_addr(mine);
    arp.set_sender_proto_addr(PEER);
    arp.set_target_proto_addr(ip);
    wire.forget();
    wire.send(&buffer);
    let answers = |arp: &Arp| arp.reply && arp.sender.1 == ip && arp.to == mine;
    hear(wire, limit, |heard| heard.iter().any(answers)).into_iter().find(answers)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lan_hears_of_a_vip_in_both_forms_again_and_again() {
    skip_unless_root!();
    let mut scene = Scene::start().await;
    let is_repeated = |heard: &[Arp]| {
        let of = |reply| heard.iter().filter(|arp| arp.is_gratuitous_for(VIP) && arp.reply == reply).count();
        of(true) >= 2 && of(false) >= 2
    };
    let heard = hear(&mut scene.wire, Duration::from_secs(5), is_repeated);
    assert!(is_repeated(&heard), "{heard:?}");
    let macs: BTreeSet<_> =
        heard.iter().filter(|arp| arp.sender.1 == VIP).map(|arp| (arp.from, arp.sender.0)).collect();
    assert_eq!(macs.len(), 1, "one node announces: {heard:?}");
    assert!(macs.iter().all(|(frame, arp)| frame == arp), "{heard:?}");
    assert!(heard.iter().all(|arp| arp.sender.1 != OTHER), "{heard:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn arp_is_answered_for_the_vip_and_for_nothing_else() {
    skip_unless_root!();
    let mut scene = Scene::start().await;
    let answer = ask(&mut scene.wire, VIP, Duration::from_secs(2)).expect("an answer for the VIP");
    assert_eq!(answer.from, answer.sender.0);
    assert_eq!(answer.target, (MacAddr::from(scene.wire.mac()), PEER));
    assert_eq!(ask(&mut scene.wire, OTHER, QUIET), None, "nobody has that address");
    let metrics = scene.appliance.metrics().await;
    let vip = VIP.to_string();
    let count = |name| metrics.sum(name, &[("ip", vip.as_str())]).unwrap_or_default();
    assert!(count("metallb_layer2_requests_received") >= 1.0);
    assert!(count("metallb_layer2_responses_sent") >= 1.0);
    assert!(count("metallb_layer2_gratuitous_sent") >= 2.0);
    assert_eq!(metrics.sum("metallb_speaker_announced", &[("service", "lan/edge"), ("ip", &vip)]), Some(1.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_on_the_lan_reaches_http_and_https_through_the_vip() {
    skip_unless_root!();
    let scene = Scene::start().await;
    assert_eq!(scene.http().await.ok(), Some(200));
    let secure = Target::tls((VIP, 443).into(), HOST).from(Some(scene.lan.peer.name()));
    let response = secure.get(HOST, "/").await.expect("HTTPS answers through the VIP");
    assert_eq!(response.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vip_that_is_taken_away_falls_silent() {
    skip_unless_root!();
    let mut scene = Scene::start().await;
    assert!(ask(&mut scene.wire, VIP, Duration::from_secs(2)).is_some());
    scene.folder.remove("vip.yaml");
    until("no VIP", async || {
        let vips = scene.appliance.api("vips").await;
        if vips.is_empty() { Ok(()) } else { Err(format!("{vips:?}")) }
    })
    .await;
    until("silence", async || ask(&mut scene.wire, VIP, QUIET).map_or(Ok(()), |answer| Err(format!("{answer:?}"))))
        .await;
    scene.folder.write("vip.yaml", &load_balancer("lan", "edge"));
    until("an answer", async || ask(&mut scene.wire, VIP, QUIET).ok_or("silence")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interface_that_comes_back_is_announced_on_again() {
    skip_unless_root!();
    let mut scene = Scene::start().await;
    hear(&mut scene.wire, Duration::from_secs(7), |_| false);
    for down in ["link set eth0 down", "link set eth0 address 02:77:00:00:00:01"] {
        scene.lan.node.ip(down).expect("the interface can be changed");
        scene.lan.node.ip("link set eth0 up").expect("the interface can be put up");
        let again = |heard: &[Arp]| heard.iter().any(|arp| arp.is_gratuitous_for(VIP));
        let heard = hear(&mut scene.wire, Duration::from_secs(5), again);
        assert!(again(&heard), "after {down}: {heard:?}");
        assert!(ask(&mut scene.wire, VIP, Duration::from_secs(2)).is_some(), "after {down}");
        until("HTTP through the VIP", async || match scene.http().await {
            Ok(200) => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
    }
    let new = ask(&mut scene.wire, VIP, Duration::from_secs(2)).expect("an answer");
    assert_eq!(new.sender.0.to_string(), "02:77:00:00:00:01", "the new hardware address is announced");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interface_that_did_not_exist_at_the_start_is_used_when_it_comes() {
    skip_unless_root!();
    let scene = Scene::start().await;
    scene.lan.node.ip("link del eth0").expect("a cable can be cut");
    until("the VIP without an interface", async || {
        let vips = scene.appliance.api("vips").await;
        if vips.iter().all(|vip| vip["state"] != "announcing") { Ok(()) } else { Err(format!("{vips:?}")) }
    })
    .await;
    let peer = scene.lan.peer.name();
    scene.lan.node.ip(&format!("link add eth0 type veth peer name eth0 netns {peer}")).expect("a cable can be laid");
    for (namespace, address) in [(&scene.lan.node, "10.77.0.1/24"), (&scene.lan.peer, "10.77.0.2/24")] {
        namespace.ip(&format!("addr add {address} dev eth0")).expect("an address can be added");
        namespace.ip("link set eth0 up").expect("an interface can be put up");
    }
    let mut wire = scene.lan.listen();
    until("an answer", async || ask(&mut wire, VIP, QUIET).ok_or("silence")).await;
    until("HTTP through the VIP", async || match scene.http().await {
        Ok(200) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_ends_with_success_and_leaves_no_vip_behind() {
    skip_unless_root!();
    let mut scene = Scene::start().await;
    scene.appliance.process().signal(Signal::HUP);
    assert_eq!(scene.http().await.ok(), Some(200), "SIGHUP does no harm");
    scene.appliance.process().signal(Signal::TERM);
    assert_eq!(scene.appliance.process().end().await.code(), Some(0), "{}", scene.appliance.log());
    let addresses = scene.lan.node.ip("-4 addr show").expect("the interfaces can be listed").stdout;
    let addresses = String::from_utf8_lossy(&addresses);
    assert!(!addresses.contains(&VIP.to_string()), "the VIP is still an address of the node:\n{addresses}");
    assert_eq!(ask(&mut scene.wire, VIP, QUIET), None, "nobody answers after the end");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_through_the_vip_are_finished_before_it_ends() {
    skip_unless_root!();
    let mut scene = Scene::start().await;
    let web = Upstream::start_inside(&scene.lan.node, Ipv4Addr::new(127, 0, 0, 78), |request| match request.target() {
        "/slow" => Reply::Slow(Duration::from_secs(2), "slow".to_owned()),
        _ => Reply::Text("quick".to_owned()),
    });
    scene.folder.write("web.yaml", &backend("lan", "web", &[web.address]));
    let target = Target::plain((VIP, 80).into()).from(Some(scene.lan.peer.name()));
    until("the new backend", async || {
        let text = target.get(HOST, "/").await.map_err(|error| error.to_string())?.text();
        if text == "quick" { Ok(()) } else { Err(text) }
    })
    .await;
    let request = tokio::spawn(async move { target.get(HOST, "/slow").await });
    let arrived = |web: &Upstream| web.seen().iter().any(|request| request.target() == "/slow");
    until("the request at the backend", async || if arrived(&web) { Ok(()) } else { Err("not yet") }).await;
    scene.appliance.process().signal(Signal::TERM);
    let response = request.await.expect("a client does not panic").expect("a request under way is answered");
    assert_eq!((response.status, response.text().as_str()), (200, "slow"));
    assert_eq!(scene.appliance.process().end().await.code(), Some(0));
}
