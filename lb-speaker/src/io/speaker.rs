//! The control task: whenever something changed, derives everything anew and applies the difference.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use config::diagnostic::{Problem, Severity};
use config::object::{FieldPath, Kind, ObjectName, ObjectRef};
use config::report::{Event, Events, Report, VipEntry, VipState};
use config::snapshot::Snapshot;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::MissedTickBehavior;

use super::asker::Line;
use super::deliver::{self, Deliverer};
use super::echo::{self, Echo};
use super::forwarder::Forwarder;
use super::groups::Groups;
use super::heartbeats::{Heartbeats, Identity, Told, Ways};
use super::line::Sockets;
use super::links::Links;
use super::prober::{Inquiry, Prober};
use super::responder::{Notice, Port, Responder};
use super::settings;
use super::socket::PacketSocket;
use super::sysctl::ArpIgnore;
use super::{Company, Delivery, Peers, SpeakerError, SpeakerOptions, SpeakerPorts};
use crate::announcer::DEFEND_INTERVAL;
use crate::arp::{MacAddr, ZERO};
use crate::forward::{self, Obstacle};
use crate::hearing;
use crate::heartbeat::Keyring;
use crate::link::{self, Link};
use crate::members::{View, World};
use crate::metrics::Announced;
use crate::moves;
use crate::plan::{Plan, Planner};
use crate::probation;
use crate::probe::Findings;
use crate::reach::{self, Layout, Silence, Standpoint};
use crate::reserved::Lan;
use crate::traps;
use crate::world;

/// How often it is looked whether anybody is still connected.
const GLANCE: std::time::Duration = std::time::Duration::from_millis(250);
/// When the view of the API is so old that others rank before us.
const STALE: std::time::Duration = std::time::Duration::from_secs(30);
/// When it is so old that others take over from us, if theirs is not.
const OUTDATED: std::time::Duration = std::time::Duration::from_mins(10);
/// How long others may take to take over, at least.
const LEAVING: std::time::Duration = std::time::Duration::from_millis(500);

/// The speaker's state: what it was told, and what it has open.
pub(super) struct Speaker {
    options: SpeakerOptions,
    ports: SpeakerPorts,
    ready: Option<oneshot::Sender<()>>,
    links: Links,
    deliverer: Option<Deliverer>,
    groups: Groups,
    prober: Prober,
    /// Answers ping, where that is wanted and nobody else does.
    echo: Option<Echo>,
    arp_ignore: ArpIgnore,
    /// Whether VIPs may be on `lo` before they are ours, since the kernel does not answer for them.
    strict: bool,
    /// Ends before the thread that it tells what to announce.
    heartbeats: Heartbeats,
    members: watch::Receiver<Arc<View>>,
    /// Why connections end when their VIP moves here.
    obstacle: Option<Obstacle>,
    /// The nodes that annotations put first.
    preferred: BTreeMap<IpAddr, Arc<str>>,
    leaving: Leaving,
    responder: Responder,
    notices: mpsc::Receiver<Notice>,
    /// Why there are no raw sockets; `None` when there are.
    no_socket: Option<String>,
    /// The interfaces that the responder has a socket for.
    open: BTreeSet<u32>,
    /// Those of them whose socket is of no use any more; opened anew with the timer, lest it fail again at once.
    lost: BTreeSet<u32>,
    found: Vec<Link>,
    gateways: Vec<IpAddr>,
    snapshot: Option<Arc<Snapshot>>,
    planner: Planner,
    plan: Plan,
    /// Where everything could be announced.
    layout: Layout,
    /// What is told of the network.
    local: Local,
    /// Who else claims our VIPs, and when that was heard last.
    rivals: BTreeMap<IpAddr, (MacAddr, Instant)>,
    /// Named interfaces that were said to be missing.
    missing: BTreeSet<String>,
    /// Whether a socket could not be opened, which may work later.
    retry: bool,
    /// When we were started.
    started: Instant,
    /// How old the members were told our view of the API is.
    stale: (bool, bool),
}

/// What only this node can tell.
#[derive(Debug, Default)]
struct Local {
    events: Events,
    problems: Vec<Problem>,
}

/// How far handing over has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaving {
    No,
    /// Others are asked to take over, until then at most.
    Until(Instant),
    Done,
}

impl Leaving {
    /// Waits until no more is to be expected.
    async fn over(self) {
        match self {
            Self::Until(moment) => tokio::time::sleep_until(moment.into()).await,
            Self::No | Self::Done => std::future::pending().await,
        }
    }
}

/// What woke the task.
enum Woken {
    Snapshot,
    Links,
    Notice(Notice),
    Members,
    Keys,
    Mail,
    Leave,
    Left,
    Timer,
}

impl Speaker {
    /// Opens what it needs; without the right to raw sockets it does without.
    pub(super) fn start(options: SpeakerOptions, ports: SpeakerPorts) -> Result<Self, SpeakerError> {
        let (ready, unused) = (ports.ready, oneshot::channel().0);
        let ports = SpeakerPorts { ready: unused, ..ports };
        let links = Links::watch().map_err(SpeakerError::Netlink)?;
        let deliverer = (options.deliver == Delivery::Loopback).then(|| Deliverer::new(links.handle()));
        let (responder, notices) =
            Responder::start(Arc::clone(&ports.metrics), options.rate.announcements).map_err(SpeakerError::Thread)?;
        let prober = Prober::start(options.rate.probes).map_err(SpeakerError::Thread)?;
        let wants_echo = options.answer_ping && options.deliver == Delivery::Kernel;
        let echo = wants_echo.then(Echo::start).transpose().map_err(SpeakerError::Thread)?;
        let company = &options.company;
        let port = (company.peers != Peers::None).then_some(company.port);
        let (linger, profile) = (company.linger, company.profile);
        let identity = Identity { node: options.node.as_str().into(), profile, port, linger };
        let (forwarder, obstacle) = forwarder(company);
        let announce = responder.remote().map_err(SpeakerError::Thread)?;
        let ways = Ways { announce, forwarder, letters: ports.post.clone() };
        let (heartbeats, members) = Heartbeats::start(identity, ways, Arc::clone(&ports.member_metrics))
            .map_err(|source| SpeakerError::Heartbeats { port: company.port, source })?;
        let no_socket = PacketSocket::permitted().err().map(|error| explain(&error));
        if let Some(why) = &no_socket {
            tracing::warn!("VIPs are given but not announced on the network: {why}");
        }
        Ok(Self {
            options,
            ports,
            ready: Some(ready),
            links,
            deliverer,
            groups: Groups::default(),
            prober,
            echo,
            arp_ignore: ArpIgnore::default(),
            strict: true,
            heartbeats,
            members,
            obstacle,
            preferred: BTreeMap::new(),
            leaving: Leaving::No,
            responder,
            notices,
            no_socket,
            open: BTreeSet::new(),
            lost: BTreeSet::new(),
            found: Vec::new(),
            gateways: Vec::new(),
            snapshot: None,
            planner: Planner::default(),
            plan: Plan::default(),
            layout: Layout::default(),
            local: Local::default(),
            rivals: BTreeMap::new(),
            missing: BTreeSet::new(),
            retry: false,
            started: Instant::now(),
            stale: (false, false),
        })
    }

    /// Works until told to shut down.
    pub(super) async fn run(mut self) -> Result<(), SpeakerError> {
        let mut timer = tokio::time::interval(deliver::RENEWAL);
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (shutdown, leave) = (self.ports.shutdown.clone(), self.ports.leave.clone());
        self.read_links().await;
        self.ports.snapshots.mark_changed();
        self.ports.keys.mark_changed();
        loop {
            let leaving = self.leaving;
            let woken = tokio::select! {
                biased;
                () = shutdown.cancelled(), if !self.lingers() => break,
                () = tokio::time::sleep(GLANCE), if shutdown.is_cancelled() => continue,
                () = leave.cancelled(), if leaving == Leaving::No => Woken::Leave,
                () = self.links.changed() => Woken::Links,
                notice = self.notices.recv() => Woken::Notice(notice.ok_or(SpeakerError::ThreadEnded)?),
                changed = self.members.changed() => changed.map(|()| Woken::Members).map_err(|_| SpeakerError::ThreadEnded)?,
                Ok(()) = self.ports.snapshots.changed() => Woken::Snapshot,
                Ok(()) = self.ports.leader.changed() => Woken::Snapshot,
                () = self.prober.changed() => Woken::Snapshot,
                Ok(()) = self.ports.keys.changed() => Woken::Keys,
                Some(order) = self.ports.moves.recv() => {
                    self.heartbeats.tell(Told::Move(order.vip, order.node, order.answer));
                    continue;
                }
                Ok(()) = self.ports.mail.changed() => Woken::Mail,
                () = leaving.over() => Woken::Left,
                _ = timer.tick() => Woken::Timer,
            };
            match woken {
                Woken::Snapshot => self.take_snapshot(),
                Woken::Links => {
                    self.read_links().await;
                    self.plan();
                }
                Woken::Notice(notice) => self.take_notice(notice),
                Woken::Members => {
                    self.take_members().await;
                    continue;
                }
                Woken::Keys => {
                    self.take_keys();
                    continue;
                }
                Woken::Mail => {
                    let letters = Arc::clone(&self.ports.mail.borrow_and_update());
                    self.heartbeats.tell(Told::Letters(letters));
                    continue;
                }
                Woken::Leave => {
                    self.leave();
                    continue;
                }
                Woken::Left => {
                    self.leaving = Leaving::Done;
                    self.ports.left.cancel();
                    continue;
                }
                Woken::Timer if !self.is_time_to_act() => continue,
                Woken::Timer => {}
            }
            if self.snapshot.is_some() {
                self.apply().await;
            }
        }
        self.stop().await;
        Ok(())
    }

    /// Stops answering, then takes VIPs off `lo`.
    async fn stop(mut self) {
        drop(self.heartbeats);
        drop(self.responder);
        if let Some(mut deliverer) = self.deliverer {
            deliverer.withdraw().await;
        }
        self.arp_ignore.restore();
        self.ports.metrics.set_announced(BTreeSet::new());
    }

    fn take_snapshot(&mut self) {
        let newest = self.ports.snapshots.borrow_and_update().clone();
        self.snapshot = newest.or_else(|| self.snapshot.take());
        self.plan();
    }

    fn plan(&mut self) {
        let Some(snapshot) = self.snapshot.clone() else { return };
        self.options.plan.lan = Lan {
            subnets: link::subnets(&self.found),
            gateways: self.gateways.clone(),
            is_chosen_by_name: !self.options.interfaces.only.is_empty(),
        };
        let findings = self.prober.findings();
        self.options.plan.taken.clone_from(&findings.taken);
        self.plan = self.planner.plan(&snapshot, &self.options.plan);
        self.probe(&findings);
        self.ports.metrics.set_pools(&self.plan.pools);
        self.ports.metrics.set_orphaned(self.plan.orphaned.values().map(Vec::len).sum());
        self.ports.metrics.set_config(!snapshot.pools.pools.is_empty(), snapshot.pools_stale);
        // What is to be written need not wait for what happens on the network.
        self.tell();
    }

    /// Asks the LAN about addresses that the plan gives for the first time, and holds them back meanwhile.
    fn probe(&mut self, findings: &Findings) {
        let ready = |link: &&Link| self.no_socket.is_none() && link.ready;
        let ways = |ip| {
            let links = reach::candidates(ip, &self.found, &self.options.interfaces).unwrap_or_default();
            links.into_iter().filter(ready).map(|link| link.index).collect()
        };
        // Each of the named peers gives addresses by itself and would take the others' probes for strangers.
        if matches!(self.options.company.peers, Peers::Named(_)) {
            return;
        }
        let probation = probation::review(&self.plan, findings, ways);
        probation::hold_back(&mut self.plan, &probation.waiting);
        let targets = if *self.ports.leader.borrow() { probation.targets } else { BTreeMap::new() };
        let mac = |index: u32| self.found.iter().find(|link| link.index == index).map(|link| link.mac);
        let targets = targets.into_iter().filter_map(|(index, ips)| Some((index, (mac(index)?, ips)))).collect();
        let of_members: Vec<MacAddr> = self.members.borrow().macs.keys().copied().map(MacAddr::from).collect();
        let ours = self.found.iter().map(|link| link.mac).filter(|mac| *mac != ZERO).chain(of_members).collect();
        self.prober.ask(Inquiry { targets, ours });
    }

    async fn read_links(&mut self) {
        match self.links.read().await {
            Ok(links) => {
                self.found = links;
                self.heartbeats.tell(Told::Gateway(self.links.gateway(&self.found).await));
            }
            Err(error) => tracing::warn!(%error, "cannot read the network interfaces; using what was read before"),
        }
        match self.links.gateways().await {
            Ok(gateways) => self.gateways = gateways,
            Err(error) => tracing::warn!(%error, "cannot read the routes; using the gateways that were read before"),
        }
        for chosen in &self.options.interfaces.only {
            let (exists, name) = (self.found.iter().any(|link| chosen.is(&link.name)), chosen.as_str());
            if exists && self.missing.remove(name) {
                tracing::info!(interface = name, "interface is there");
            } else if !exists && self.missing.insert(name.to_owned()) {
                tracing::warn!(interface = name, "interface does not exist (yet); waiting for it");
            }
        }
    }

    fn take_notice(&mut self, notice: Notice) {
        match notice {
            Notice::NotRealtime(error) => {
                tracing::info!(%error, "no real-time scheduling: a busy machine may answer late; CAP_SYS_NICE permits it");
            }
            Notice::Conflict { vip, mac } => {
                tracing::warn!(%vip, %mac, "somebody else claims a VIP; find that device and change its address");
                self.rivals.insert(vip, (mac, Instant::now()));
            }
            Notice::SocketLost { index, error } => {
                tracing::info!(index, %error, "packet socket lost; opening another shortly");
                self.lost.insert(index);
            }
        }
    }

    /// Whether the passing of time alone changed something: addresses on `lo` to renew, sockets to try again, rivals
    /// that fell silent.
    fn is_time_to_act(&mut self) -> bool {
        let rivals = self.rivals.len();
        self.rivals.retain(|_, (_, heard)| heard.elapsed() < 2 * DEFEND_INTERVAL);
        let lost = std::mem::take(&mut self.lost);
        self.open.retain(|index| !lost.contains(index));
        let retry = self.retry || !lost.is_empty() || self.stale != self.staleness();
        rivals != self.rivals.len() || retry || self.deliverer.as_ref().is_some_and(Deliverer::is_busy)
    }

    /// Makes the world match the plan, and tells what it is like.
    async fn apply(&mut self) {
        let no_socket = self.no_socket.as_deref();
        let from = Standpoint { choice: &self.options.interfaces, no_socket };
        self.layout = reach::layout(&self.plan, &self.found, from);
        self.deliver().await;
        let mut layout = std::mem::take(&mut self.layout);
        self.announce(&mut layout);
        self.layout = layout;
        self.inform();
        self.publish();
        if let Some(ready) = self.ready.take() {
            // Whoever waited may have given up.
            let _ = ready.send(());
        }
    }

    /// Puts VIPs on `lo`: all that could become ours, so that a take-over need not wait for it.
    async fn deliver(&mut self) {
        let Some(deliverer) = &mut self.deliverer else { return };
        let named = |index| self.found.iter().find(move |link| link.index == index);
        let ignores = self.layout.ports.keys().filter_map(|index| named(*index));
        let mut refused = ignores.filter_map(|link| Some((link, self.arp_ignore.ensure(&link.name).err()?)));
        let refused = refused.next();
        if let Some((link, error)) =
            refused.as_ref().filter(|_| self.strict && self.options.company.peers != Peers::None)
        {
            tracing::warn!(
                interface = link.name, %error,
                "the kernel may answer ARP for VIPs of other nodes: they are added to lo at take-over only, which is \
                 slower; set net.ipv4.conf.{}.arp_ignore=1", link.name
            );
        }
        self.strict = refused.is_none();
        let owned = Arc::clone(&self.members.borrow());
        let ours = |vip: &IpAddr| self.strict || owned.owned.contains(vip) || owned.lingering.contains(vip);
        let wanted = self.layout.ports.values().flatten().copied().filter(ours).collect();
        for (vip, why) in deliverer.keep(&wanted).await {
            withhold(&mut self.layout, vip, &Silence::NotDelivered { why });
        }
    }

    /// Tells the heartbeat thread what the cluster is like.
    fn inform(&mut self) {
        let Some(snapshot) = &self.snapshot else { return };
        let (mut peers, port) = (BTreeMap::new(), self.options.company.port);
        let mut configured = BTreeSet::from([Arc::from(self.options.node.as_str())]);
        match &self.options.company.peers {
            Peers::None => {}
            Peers::Named(named) if named.is_empty() => configured.clear(),
            Peers::Named(named) => peers.clone_from(named),
            Peers::Nodes => {
                let sockets = |ips: Vec<IpAddr>| ips.into_iter().map(|ip| (ip, port).into()).collect();
                peers = world::node_addresses(snapshot).into_iter().map(|(node, ips)| (node, sockets(ips))).collect();
                peers.remove(self.options.node.as_str());
            }
        }
        configured.extend(peers.keys().cloned());
        let lines = self.lines();
        let world = world::world(snapshot, &self.plan, &self.layout);
        self.preferred = world.vips.iter().filter_map(|(vip, it)| Some((*vip, it.preferred.clone()?))).collect();
        let stale = self.staleness();
        if stale != self.stale {
            tracing::warn!(stale = stale.0, outdated = stale.1, "the API server's answers came or ceased to come");
            self.stale = stale;
        }
        let macs = lines.iter().map(|line| line.mac.octets()).collect();
        self.heartbeats.tell(Told::Peers(peers));
        self.heartbeats.tell(Told::Lines(lines));
        self.heartbeats.tell(Told::World(Box::new(World { macs, stale, configured, ..world })));
    }

    /// Whether our view of the API is older than [`STALE`], and than [`OUTDATED`]; what was read from disk is.
    fn staleness(&self) -> (bool, bool) {
        let saved = self.snapshot.as_ref().is_some_and(|snapshot| snapshot.saved.is_some());
        let answered = *self.ports.answered.borrow();
        let age = answered.or(saved.then_some(self.started)).map(|at| at.elapsed()).unwrap_or_default();
        (saved || age > STALE, age > OUTDATED)
    }

    /// The interfaces that VIPs are announced on.
    fn lines(&self) -> Vec<Line> {
        let lines = self.layout.ports.iter().filter_map(|(index, vips)| {
            let link = self.found.iter().find(|link| link.index == *index)?;
            let address =
                link.subnets.iter().find_map(|net| if let IpAddr::V4(ip) = net.addr() { Some(ip) } else { None });
            Some(Line { index: *index, mac: link.mac, address, name: link.name.clone(), vips: vips.clone() })
        });
        lines.collect()
    }

    /// The members settled who owns what.
    async fn take_members(&mut self) {
        let view = Arc::clone(&self.members.borrow_and_update());
        if !self.strict && self.snapshot.is_some() {
            self.deliver().await;
        }
        if self.snapshot.is_some() {
            self.publish();
        }
        let nobody_else = view.alive.len() <= 1;
        if matches!(self.leaving, Leaving::Until(_)) && view.leaving && (view.owned.is_empty() || nobody_else) {
            self.leaving = Leaving::Done;
            self.ports.left.cancel();
        }
    }

    fn take_keys(&mut self) {
        let Some(secrets) = self.ports.keys.borrow_and_update().clone() else { return };
        if let Some(keys) = Keyring::new(&secrets, &self.options.company.name) {
            self.heartbeats.tell(Told::Keys(keys));
        } else {
            tracing::warn!("the heartbeat key is empty; the one before stays in use");
        }
    }

    /// Asks the others to take everything over, and gives up waiting for it after a while.
    fn leave(&mut self) {
        let patience = self.options.company.profile.patience() * 2;
        self.leaving = Leaving::Until(Instant::now() + patience.max(LEAVING));
        self.heartbeats.tell(Told::Leave);
    }

    /// Whether somebody is served by this node whose VIP is elsewhere by now, so that ending would cut them off. What
    /// kube-proxy passes on is not seen, so all the time is waited for.
    fn lingers(&self) -> bool {
        let vips = &self.members.borrow().lingering;
        if vips.is_empty() || self.options.deliver == Delivery::Kernel {
            return !vips.is_empty();
        }
        // What cannot be read is nothing to wait for.
        let connected = |file| std::fs::read_to_string(file).is_ok_and(|text| forward::is_connected(&text, vips));
        connected("/proc/net/tcp") || connected("/proc/net/tcp6")
    }

    /// Hands the layout to the responder, with sockets for interfaces that have none.
    fn announce(&mut self, layout: &mut Layout) {
        let mut table = Vec::new();
        let bounced = self.links.take_bounced();
        self.retry = false;
        for (index, vips) in layout.ports.clone() {
            let Some(link) = self.found.iter().find(|link| link.index == index) else { continue };
            let sockets = if self.open.contains(&index) {
                None
            } else {
                match Sockets::open(index) {
                    Ok(sockets) => Some(sockets),
                    Err(error) => {
                        self.retry = true;
                        let why = format!("cannot open a packet socket on {}: {error}", link.name);
                        for vip in &vips {
                            silence_on(layout, *vip, &link.name, &why);
                        }
                        continue;
                    }
                }
            };
            let siblings = self.found.iter().filter(|other| other.index != index).map(|other| other.mac);
            let siblings = siblings.filter(|mac| *mac != link.mac && *mac != crate::arp::ZERO).collect();
            table.push(Port {
                index,
                mac: link.mac,
                ready: link.ready,
                bounced: bounced.contains(&index),
                siblings,
                vips,
                sockets,
            });
        }
        for (index, error) in self.groups.keep(&layout.ports) {
            self.retry = true;
            tracing::debug!(index, %error, "cannot join the group of an IPv6 VIP; a switch that snoops MLD may hide it");
        }
        self.open = table.iter().map(|port| port.index).collect();
        self.responder.set(table);
    }

    /// Answers ping for what is announced, except for addresses of this machine, for which its kernel answers.
    fn answer_ping(&mut self, layout: &Layout) {
        let Some(echo) = &mut self.echo else { return };
        let of_kernel = |vip: &IpAddr| self.found.iter().any(|link| link.subnets.iter().any(|net| net.addr() == *vip));
        let is_announced = |vip: &&IpAddr| matches!(layout.verdicts.get(vip), Some(Ok(_))) && !of_kernel(vip);
        let mut table = echo::Table::new();
        for (index, vips) in &layout.ports {
            let Some(link) = self.found.iter().find(|link| link.index == *index) else { continue };
            table.insert(*index, (link.mac, vips.iter().filter(is_announced).copied().collect()));
        }
        echo.set(table);
    }

    /// Shows where everything is announced, now that it is settled who owns what.
    fn publish(&mut self) {
        let mut layout = self.layout.clone();
        reach::elect(&mut layout, &self.members.borrow());
        self.answer_ping(&layout);
        let layout = &layout;
        let mut entries = reach::entries(&self.plan, layout, &self.options.node);
        let annotated = |ip| self.preferred.get(&ip).cloned();
        let (members, obstacle) = (self.members.borrow().clone(), self.obstacle.as_ref());
        moves::tell(&mut entries, &moves::Known { members: &members, annotated, obstacle });
        self.ports.metrics.set_announced(self.announced(layout));
        self.local = self.local(layout);
        self.tell();
        let entries = Arc::new(entries);
        log_changes(&self.ports.vips.borrow(), &entries);
        self.ports.vips.send_if_modified(|current| replace(current, entries));
    }

    /// Each Service with each of its addresses that is announced.
    fn on_air<'a>(&'a self, layout: &'a Layout) -> impl Iterator<Item = (&'a ObjectName, IpAddr)> {
        let heard = |ip: &IpAddr| matches!(layout.verdicts.get(ip), Some(Ok(_)));
        self.plan
            .services
            .iter()
            .flat_map(move |(name, planned)| planned.live.iter().copied().filter(heard).map(move |ip| (name, ip)))
    }

    fn announced(&self, layout: &Layout) -> BTreeSet<Announced> {
        let node = &self.options.node;
        let label = |(service, ip): (&ObjectName, IpAddr)| Announced {
            service: service.to_string(),
            protocol: "layer2",
            node: node.clone(),
            ip: ip.to_string(),
        };
        self.on_air(layout).map(label).collect()
    }

    /// ` from` the hardware addresses that `ip` is announced from.
    fn announced_from(&self, ip: IpAddr, layout: &Layout) -> String {
        let ports = layout.ports.iter().filter(|(_, vips)| vips.contains(&ip));
        let links = ports.filter_map(|(index, _)| self.found.iter().find(|link| link.index == *index));
        let macs: Vec<String> = links.map(|link| link.mac.to_string()).collect();
        if macs.is_empty() { String::new() } else { format!(" from {}", macs.join(" and ")) }
    }

    /// Whether an interface leads to a LAN, by its kind or because the operator says so.
    fn leads_to_a_lan(&self, link: &Link) -> bool {
        !link.is_virtual() || self.options.interfaces.names(&link.name)
    }

    /// Settings of this node that make its VIPs fail.
    fn traps(&self, layout: &Layout) -> Vec<Problem> {
        let announced = layout.verdicts.iter().filter_map(|(ip, on)| Some((ip, on.as_ref().ok()?)));
        let mut by_name: BTreeMap<String, BTreeSet<IpAddr>> = BTreeMap::new();
        for (ip, name) in announced.flat_map(|(ip, on)| on.iter().map(move |name| (*ip, name))) {
            by_name.entry(name.clone()).or_default().insert(ip);
        }
        let lans =
            self.found.iter().filter(|link| link.unfit.is_none() && link.ready && self.leads_to_a_lan(link)).count();
        let existing = self.found.iter().map(|link| link.name.as_str());
        let settings = settings::read(by_name.keys().map(String::as_str), existing);
        let node = ObjectRef::new(Kind::Node, ObjectName::cluster(self.options.node.as_str()));
        let traps = traps::traps(&settings, &by_name, lans);
        traps.iter().map(|trap| Problem::warning(node.clone(), FieldPath::root(), trap)).collect()
    }

    /// Reports the plan, with what was told of the network last.
    fn tell(&self) {
        let mut report = Report { local_events: self.local.events.clone(), ..self.plan.report.clone() };
        if !self.local.problems.is_empty() {
            Arc::make_mut(&mut report.problems).extend(self.local.problems.iter().cloned());
        }
        let report = Arc::new(report);
        self.ports.reports.send_if_modified(|current| replace(current, report));
    }

    /// What happens on the network.
    fn local(&self, layout: &Layout) -> Local {
        let mut told: (Vec<Event>, Vec<Problem>) = (Vec::new(), self.traps(layout));
        told.1.extend(self.snapshot.as_deref().and_then(moves::excluded));
        told.1.extend(moves::stranded(&self.plan, &self.members.borrow(), &self.options.node));
        let members = Arc::clone(&self.members.borrow());
        let (node, company) = (self.options.node.as_str(), &self.options.company);
        let not_heard = hearing::of_node(node, &members).map(|message| ("NotHeard", message));
        let blocked = hearing::of_others(node, &members, company.port, company.profile.patience());
        for (reason, message) in not_heard.into_iter().chain(blocked.map(|message| ("HeartbeatPathBroken", message))) {
            self.warn(&mut told, ObjectRef::new(Kind::Node, ObjectName::cluster(node)), reason, message);
        }
        let mut assigned = BTreeSet::new();
        for (service, ip) in self.on_air(layout) {
            let object = ObjectRef::new(Kind::Service, service.clone());
            if assigned.insert(service) {
                let message = format!("announcing from node {:?} with protocol \"layer2\"", self.options.node);
                told.0.push(Event { object: object.clone(), severity: None, reason: "nodeAssigned", message });
            }
            let at = self.announced_from(ip, layout);
            for message in hearing::of_vip(ip, &self.options.node, &at, &members) {
                self.warn(&mut told, object.clone(), "NotHeard", message);
            }
            if let Some((mac, _)) = self.rivals.get(&ip) {
                let message = format!(
                    "{mac} also claims {ip}, which this node announces{at}; find that device and change its address"
                );
                self.warn(&mut told, object, "AddressConflict", message);
            }
        }
        let (events, problems) = told;
        let events = events.into_iter().collect();
        // What is the same stays the same memory, so that nobody compares it again.
        let events = if events == self.local.events { self.local.events.clone() } else { events };
        Local { events, problems }
    }

    /// Adds a problem and the event that tells it.
    fn warn(
        &self,
        (events, problems): &mut (Vec<Event>, Vec<Problem>),
        object: ObjectRef,
        reason: &'static str,
        message: String,
    ) {
        let problem = Problem::warning(object.clone(), FieldPath::root(), &message);
        problems.push(self.snapshot.as_ref().map_or(problem.clone(), |it| it.placed(problem)));
        events.push(Event { object, severity: Some(Severity::Warning), reason, message });
    }
}

/// What sends packets on, or why nothing does. Said once; where there is nobody to take over from, neither.
fn forwarder(company: &Company) -> (Option<Forwarder>, Option<Obstacle>) {
    if company.peers == Peers::None {
        return (None, None);
    }
    let opened = if company.linger.is_zero() { Err(Obstacle::Off) } else { Forwarder::open() };
    if let Err(why) = &opened {
        tracing::warn!(
            "connections end when their VIP moves to this node, since it cannot send their packets on: {why}"
        );
    }
    match opened {
        Ok(forwarder) => (Some(forwarder), None),
        Err(why) => (None, Some(why)),
    }
}

/// Replaces a published value; whether it changed.
fn replace<T: PartialEq>(current: &mut Arc<T>, new: Arc<T>) -> bool {
    let changed = **current != *new;
    *current = new;
    changed
}

/// Takes `vip` off every interface.
fn withhold(layout: &mut Layout, vip: IpAddr, silence: &Silence) {
    for vips in layout.ports.values_mut() {
        vips.remove(&vip);
    }
    layout.verdicts.insert(vip, Err(silence.clone()));
}

/// Notes that `vip` is not announced on one interface, and nowhere if that was the last.
fn silence_on(layout: &mut Layout, vip: IpAddr, interface: &str, why: &str) {
    let verdict = layout.verdicts.get_mut(&vip);
    if let Some(verdict) = verdict
        && let Ok(on) = verdict
    {
        on.retain(|name| name != interface);
        if on.is_empty() {
            *verdict = Err(Silence::NoSocket { why: why.to_owned() });
        }
    }
}

fn explain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "raw sockets need root or the capability CAP_NET_RAW; run as root or grant it".to_owned()
        }
        _ => format!("raw sockets are not to be had: {error}"),
    }
}

/// One line for every Service whose VIP came to another state.
fn log_changes(before: &[VipEntry], after: &[VipEntry]) {
    let known: HashMap<(&str, &str), &VipEntry> =
        before.iter().map(|entry| ((entry.namespace.as_str(), entry.service.as_str()), entry)).collect();
    for entry in after {
        if known.get(&(entry.namespace.as_str(), entry.service.as_str())).is_some_and(|known| *known == entry) {
            continue;
        }
        let service = format!("{}/{}", entry.namespace, entry.service);
        let (ips, reason) = (&entry.ips, entry.reason.as_deref().unwrap_or_default());
        match entry.state {
            VipState::Announcing => {
                let interface = entry.interface.as_deref().unwrap_or_default();
                tracing::info!(service, ?ips, interface, reason, "announcing");
            }
            VipState::Assigned => tracing::info!(service, ?ips, reason, "assigned, not announced"),
            VipState::Pending => tracing::warn!(service, reason, "no address"),
        }
    }
}
