//! The speaker on a real LAN: two network namespaces and a cable. Needs root; says so when it skips.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use config::object::ObjectName;
use config::pool::{AddressRange, Pool, PoolConfig, PoolName, Protocol};
use config::report::{Report, VipEntry, VipState};
use config::snapshot::Snapshot;
use k8s_openapi::api::core::v1::{LoadBalancerIngress, LoadBalancerStatus, Service, ServiceSpec, ServiceStatus};
use rustix::thread::{CapabilitySet, CapabilitySets, LinkNameSpaceType, move_into_link_name_space, set_capabilities};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::socket::{Kind, PacketSocket, SNAP_LEN, readable, wait};
use super::{Company, Delivery, Peers, SpeakerOptions, SpeakerPorts, deliver, run};
use crate::arp::{self, BROADCAST, DropReason, Frame, MacAddr, Operation, ZERO};
use crate::choice::Choice;
use crate::filter::Instruction;
use crate::member_metrics::MemberMetrics;
use crate::members::Profile;
use crate::metrics::SpeakerMetrics;
use crate::plan::PlanOptions;
use crate::rate::Rate;

const VIP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
const PEER_IP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
/// A filter that keeps every frame.
const EVERYTHING: Instruction = Instruction { code: 6, if_true: 0, if_false: 0, operand: crate::filter::SNAP_LEN };
/// Far longer than anything here takes; reaching it is a failure.
const PATIENCE: Duration = Duration::from_secs(8);

/// Two namespaces, `eth0` of one wired to `eth0` of the other; gone when dropped.
struct Lan {
    node: String,
    peer: String,
}

fn ip(arguments: &str) -> Result<String, String> {
    let output = Command::new("ip").args(arguments.split(' ')).output().map_err(|error| error.to_string())?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

impl Lan {
    /// `None`, and why, where namespaces are not to be had.
    fn new() -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let id = format!("fg-arp-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let lan = Self { node: format!("{id}-node"), peer: format!("{id}-peer") };
        for namespace in [&lan.node, &lan.peer] {
            if let Err(why) = ip(&format!("netns add {namespace}")) {
                eprintln!("skipped: network namespaces need root and iproute2: {why}");
                return None;
            }
            ip(&format!("-n {namespace} link set lo up")).unwrap();
        }
        lan.plug();
        Some(lan)
    }

    /// Makes the cable and gives both ends their addresses.
    fn plug(&self) {
        let (node, peer) = (&self.node, &self.peer);
        ip(&format!("link add eth0 netns {node} type veth peer name eth0 netns {peer}")).unwrap();
        for (namespace, address) in [(node, "192.0.2.1/24"), (peer, "192.0.2.2/24")] {
            ip(&format!("-n {namespace} addr add {address} dev eth0")).unwrap();
            ip(&format!("-n {namespace} link set eth0 up")).unwrap();
        }
    }

    fn node_mac(&self) -> MacAddr {
        let line = ip(&format!("-n {} -o link show eth0", self.node)).unwrap();
        let mac = line.split("link/ether ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
        mac.parse().unwrap()
    }

    fn listen(&self) -> Peer {
        let line = ip(&format!("-n {} -o link show eth0", self.peer)).unwrap();
        let index = line.split(':').next().unwrap().parse().unwrap();
        let mac = line.split("link/ether ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap().parse().unwrap();
        let socket = inside(&self.peer, move || PacketSocket::open(index, Kind::Arp).unwrap()).join().unwrap();
        socket.filter(&[EVERYTHING]).unwrap();
        Peer { socket, mac }
    }

    /// The VIPs on the node's `lo`.
    fn delivered(&self) -> bool {
        ip(&format!("-n {} -4 addr show dev lo", self.node)).unwrap().contains(&format!("{VIP}/32"))
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        for namespace in [&self.node, &self.peer] {
            let exists = std::path::Path::new("/run/netns").join(namespace).exists();
            if exists && let Err(why) = ip(&format!("netns del {namespace}")) {
                eprintln!("namespace {namespace} is left behind: {why}");
            }
        }
    }
}

/// Runs `work` on a thread inside a network namespace.
fn inside<T: Send + 'static>(namespace: &str, work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    let enter = entrance(namespace);
    std::thread::spawn(move || {
        enter();
        work()
    })
}

/// What brings the calling thread into a network namespace.
fn entrance(namespace: &str) -> impl FnOnce() + Send + 'static {
    let file = File::open(format!("/run/netns/{namespace}")).unwrap();
    move || move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap()
}

/// Takes all privileges from the calling thread.
fn renounce() {
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none }).unwrap();
}

/// The other end of the cable.
struct Peer {
    socket: PacketSocket,
    mac: MacAddr,
}

impl Peer {
    /// Waits for a frame that `matches`; what else came is thrown away.
    fn hear(&self, what: &str, matches: impl Fn(&Frame) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(frame) = self.next(deadline)
                && matches(&frame)
            {
                return;
            }
        }
        panic!("{what} was not heard within {PATIENCE:?}");
    }

    fn next(&self, deadline: Instant) -> Option<Frame> {
        wait(&mut [readable(self.socket.as_raw_fd())], Some(deadline.saturating_duration_since(Instant::now())))
            .unwrap();
        let mut buffer = [0; SNAP_LEN];
        // A link that went down is an error once.
        let received = self.socket.recv(&mut buffer).ok().flatten()?;
        arp::decode(&buffer[..received.len]).ok()
    }

    fn hear_both_forms(&self, mac: MacAddr) {
        self.hear("the request form", |frame| *frame == arp::announcement(mac, VIP));
        self.hear("the reply form", |frame| *frame == arp::announcement_reply(mac, VIP));
    }

    fn ask(&self, target_ip: Ipv4Addr, sender_ip: Ipv4Addr) {
        self.socket.send(&arp::encode(&self.question(target_ip, sender_ip))).unwrap();
    }

    fn question(&self, target_ip: Ipv4Addr, sender_ip: Ipv4Addr) -> Frame {
        Frame {
            destination: BROADCAST,
            source: self.mac,
            operation: Operation::Request,
            sender_mac: self.mac,
            sender_ip,
            target_mac: ZERO,
            target_ip,
        }
    }

    /// Throws away what has come so far, then waits for what may still be on its way.
    fn silence(&self, quiet: Duration) -> Vec<Frame> {
        let deadline = Instant::now() + quiet;
        std::iter::from_fn(|| if Instant::now() < deadline { Some(self.next(deadline)) } else { None })
            .flatten()
            .collect()
    }
}

/// A speaker at work in a namespace.
struct Node {
    vips: watch::Receiver<Arc<Vec<VipEntry>>>,
    reports: watch::Receiver<Arc<Report>>,
    snapshots: watch::Sender<Option<Arc<Snapshot>>>,
    shutdown: CancellationToken,
    crash: CancellationToken,
    metrics: Arc<SpeakerMetrics>,
    thread: JoinHandle<()>,
}

impl Node {
    fn start(lan: &Lan, interfaces: &[&str], deliver: Delivery) -> Self {
        Self::start_after(entrance(&lan.node), interfaces, deliver)
    }

    /// Starts it on a thread that did `prepare` first.
    fn start_after(prepare: impl FnOnce() + Send + 'static, interfaces: &[&str], deliver: Delivery) -> Self {
        let (snapshots, from_source) = watch::channel(Some(snapshot(Some(VIP))));
        let (report_to, reports) = watch::channel(Arc::new(Report::default()));
        let (vips_to, vips) = watch::channel(Arc::default());
        let (shutdown, crash) = (CancellationToken::new(), CancellationToken::new());
        let (ready, is_ready) = oneshot::channel();
        let only = interfaces.iter().map(|name| name.parse().unwrap()).collect();
        let interfaces = Choice { only, except: Vec::new() };
        let (name, linger) = ("a/b".into(), Duration::ZERO);
        let company = Company { peers: Peers::None, port: 0, name, profile: Profile::DEFAULT, linger };
        let options = SpeakerOptions {
            node: "node".into(),
            interfaces,
            deliver,
            rate: Rate::default(),
            answer_ping: false,
            plan: PlanOptions::default(),
            company,
        };
        let metrics = SpeakerMetrics::register(&prometheus::Registry::new()).unwrap();
        let ports = SpeakerPorts {
            snapshots: from_source,
            reports: report_to,
            vips: vips_to,
            metrics: Arc::clone(&metrics),
            leader: watch::channel(true).1,
            member_metrics: MemberMetrics::register(&prometheus::Registry::new()).unwrap(),
            keys: watch::channel(None).1,
            moves: mpsc::channel(1).1,
            answered: watch::channel(None).1,
            post: watch::Sender::new(Arc::default()),
            mail: watch::channel(Arc::default()).1,
            leave: CancellationToken::new(),
            left: CancellationToken::new(),
            ready,
            shutdown: shutdown.clone(),
        };
        let crashed = crash.clone();
        let thread = std::thread::spawn(move || {
            prepare();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                tokio::select! {
                    () = crashed.cancelled() => {}
                    done = run(options, ports) => done.unwrap(),
                }
            });
        });
        is_ready.blocking_recv().expect("the speaker gets ready");
        Self { vips, reports, snapshots, shutdown, crash, metrics, thread }
    }

    fn await_state(&self, what: &str, matches: impl Fn(&VipEntry) -> bool) -> VipEntry {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let entry = self.vips.borrow().first().cloned();
            match entry {
                Some(entry) if matches(&entry) => return entry,
                entry => assert!(Instant::now() < deadline, "not {what} within {PATIENCE:?}: {entry:?}"),
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn stop(self) {
        self.shutdown.cancel();
        self.thread.join().unwrap();
    }

    /// Ends without a chance to clean up.
    fn crash(self) {
        self.crash.cancel();
        self.thread.join().unwrap();
    }
}

/// One Service, its address committed or not.
fn snapshot(committed: Option<Ipv4Addr>) -> Arc<Snapshot> {
    let range = AddressRange::new(IpAddr::V4(VIP), IpAddr::V4(VIP)).unwrap();
    let pool = Pool::new(PoolName::new("lan").unwrap(), Protocol::Layer2, vec![range]);
    let entry = |ip: Ipv4Addr| LoadBalancerIngress { ip: Some(ip.to_string()), ..LoadBalancerIngress::default() };
    let load_balancer = Some(LoadBalancerStatus { ingress: committed.map(|ip| vec![entry(ip)]) });
    let service = Service {
        spec: Some(ServiceSpec { type_: Some("LoadBalancer".into()), ..ServiceSpec::default() }),
        status: Some(ServiceStatus { load_balancer, ..ServiceStatus::default() }),
        ..Service::default()
    };
    Arc::new(Snapshot {
        pools: Arc::new(PoolConfig { pools: vec![pool], ..PoolConfig::default() }),
        services: Arc::new([(ObjectName::new("default", "web"), Arc::new(service))].into()),
        ..Snapshot::default()
    })
}

#[test]
fn a_vip_is_announced_in_both_forms_and_answered_for_and_nothing_else_is() {
    let Some(lan) = Lan::new() else { return };
    let (peer, mac) = (lan.listen(), lan.node_mac());
    let node = Node::start(&lan, &["eth0"], Delivery::Kernel);
    peer.hear_both_forms(mac);
    for asker in [PEER_IP, Ipv4Addr::UNSPECIFIED] {
        peer.ask(VIP, asker);
        peer.hear("the answer", |frame| *frame == arp::answer(mac, VIP, peer.mac, asker));
    }
    let other = Ipv4Addr::new(192, 0, 2, 11);
    peer.ask(other, PEER_IP);
    peer.ask(VIP, PEER_IP);
    // Answers keep the order of questions, so there was none for the other address before this one.
    peer.hear("the answer", |frame| {
        assert_ne!(frame.sender_ip, other);
        *frame == arp::answer(mac, VIP, peer.mac, PEER_IP)
    });
    let entry = node.await_state("announcing", |entry| entry.state == VipState::Announcing);
    assert_eq!((entry.node.as_deref(), entry.interface.as_deref()), (Some("node"), Some("eth0")));
    assert!(node.reports.borrow().local_events.iter().any(|event| event.reason == "nodeAssigned"));
    node.stop();
    peer.silence(Duration::from_millis(50));
    peer.ask(VIP, PEER_IP);
    assert!(peer.silence(Duration::from_millis(200)).iter().all(|frame| frame.sender_ip != VIP));
}

#[test]
fn a_question_from_another_vlan_is_not_answered() {
    let Some(lan) = Lan::new() else { return };
    let (peer, mac) = (lan.listen(), lan.node_mac());
    let node = Node::start(&lan, &["eth0"], Delivery::Kernel);
    peer.hear_both_forms(mac);
    let untagged = arp::encode(&peer.question(VIP, Ipv4Addr::new(192, 0, 2, 77)));
    let mut tagged = untagged[..12].to_vec();
    tagged.extend([0x81, 0x00, 0x00, 0x05]);
    tagged.extend(&untagged[12..]);
    peer.socket.send(&tagged).unwrap();
    peer.ask(VIP, PEER_IP);
    peer.hear("the answer to the untagged question", |frame| {
        assert_ne!(frame.target_ip, Ipv4Addr::new(192, 0, 2, 77));
        *frame == arp::answer(mac, VIP, peer.mac, PEER_IP)
    });
    assert_eq!(node.metrics.dropped(DropReason::VlanTagged).get(), 1);
    let counters = node.metrics.vip(VIP.into());
    assert_eq!((counters.requests.get(), counters.responses.get()), (1, 1));
    assert!(counters.gratuitous.get() >= 2);
    node.stop();
}

#[test]
fn an_address_is_announced_only_once_it_is_committed() {
    let Some(lan) = Lan::new() else { return };
    let (peer, mac) = (lan.listen(), lan.node_mac());
    let node = Node::start(&lan, &["eth0"], Delivery::Kernel);
    peer.hear_both_forms(mac);
    node.snapshots.send_replace(Some(snapshot(None)));
    let entry = node.await_state("assigned", |entry| entry.state == VipState::Assigned);
    assert_eq!(entry.ips, [IpAddr::V4(VIP)]);
    peer.silence(Duration::from_millis(50));
    peer.ask(VIP, PEER_IP);
    assert!(peer.silence(Duration::from_millis(200)).iter().all(|frame| frame.sender_ip != VIP));
    node.snapshots.send_replace(Some(snapshot(Some(VIP))));
    peer.hear_both_forms(mac);
    node.stop();
}

#[test]
fn a_new_mac_a_link_that_comes_up_and_a_new_interface_are_announced() {
    let Some(lan) = Lan::new() else { return };
    let peer = lan.listen();
    let node = Node::start(&lan, &["eth0"], Delivery::Kernel);
    peer.hear_both_forms(lan.node_mac());
    let new = MacAddr(2, 0, 0, 0, 0, 0x77);
    ip(&format!("-n {} link set eth0 address {new}", lan.node)).unwrap();
    peer.hear_both_forms(new);
    for (end, other) in [(&lan.node, "its own"), (&lan.peer, "the carrier's")] {
        ip(&format!("-n {end} link set eth0 down")).unwrap();
        let entry = node.await_state("down", |entry| entry.state == VipState::Assigned);
        assert!(entry.reason.unwrap().contains("eth0 is down or has no carrier"), "{other}");
        ip(&format!("-n {end} link set eth0 up")).unwrap();
        peer.hear_both_forms(new);
    }
    ip(&format!("-n {} link del eth0", lan.node)).unwrap();
    let entry = node.await_state("without an interface", |entry| entry.state == VipState::Assigned);
    assert!(entry.reason.unwrap().contains("eth0 does not exist"));
    lan.plug();
    lan.listen().hear_both_forms(lan.node_mac());
    node.stop();
}

#[test]
fn a_foreign_claim_is_contested_and_told() {
    let Some(lan) = Lan::new() else { return };
    let (peer, mac) = (lan.listen(), lan.node_mac());
    let node = Node::start(&lan, &["eth0"], Delivery::Kernel);
    peer.hear_both_forms(mac);
    peer.socket.send(&arp::encode(&arp::announcement(peer.mac, VIP))).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while !node.reports.borrow().local_events.iter().any(|event| event.reason == "AddressConflict") {
        assert!(Instant::now() < deadline, "no conflict within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
    let problems = node.reports.borrow().problems.clone();
    assert!(problems[0].message.contains(&format!("{} also claims {VIP}", peer.mac)), "{problems:?}");
    node.stop();
}

#[test]
fn a_vip_is_on_lo_while_it_is_owned_and_soon_gone_after_a_crash() {
    let Some(lan) = Lan::new() else { return };
    let start = || Node::start(&lan, &["eth0"], Delivery::Loopback);
    let node = start();
    assert!(lan.delivered(), "ready means delivered");
    node.stop();
    assert!(!lan.delivered(), "a stop takes it off at once");
    start().crash();
    assert!(lan.delivered(), "a crash leaves it for its lifetime");
    // Who comes back within the lifetime takes it over, and takes it off in the end.
    let node = start();
    std::thread::sleep(deliver::RENEWAL + Duration::from_millis(500));
    assert!(lan.delivered());
    node.crash();
    std::thread::sleep(deliver::LIFETIME + Duration::from_secs(2));
    assert!(!lan.delivered(), "and then it is gone");
}

#[test]
fn an_address_that_somebody_else_manages_is_never_touched() {
    let Some(lan) = Lan::new() else { return };
    ip(&format!("-n {} addr add {VIP}/32 dev lo", lan.node)).unwrap();
    let node = Node::start(&lan, &["eth0"], Delivery::Loopback);
    node.await_state("announcing", |entry| entry.state == VipState::Announcing);
    let shown = ip(&format!("-n {} -4 addr show dev lo", lan.node)).unwrap();
    assert!(shown.contains("valid_lft forever"), "{shown}");
    node.stop();
    assert!(lan.delivered());
}

#[test]
fn without_a_named_interface_a_virtual_one_is_left_out_and_said_so() {
    let Some(lan) = Lan::new() else { return };
    let node = Node::start(&lan, &[], Delivery::Kernel);
    let entry = node.await_state("assigned", |entry| entry.state == VipState::Assigned);
    assert!(entry.reason.unwrap().contains("eth0 (veth) was left out"));
    node.stop();
}

#[test]
fn without_privileges_addresses_are_given_and_the_reason_is_said() {
    for deliver in [Delivery::Kernel, Delivery::Loopback] {
        let node = Node::start_after(renounce, &[], deliver);
        let entry = node.await_state("assigned", |entry| entry.state == VipState::Assigned);
        assert_eq!(entry.ips, [IpAddr::V4(VIP)]);
        let reason = entry.reason.unwrap();
        assert!(reason.contains("raw sockets need root or the capability CAP_NET_RAW"), "{reason}");
        node.stop();
    }
}
