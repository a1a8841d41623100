//! The thread that beats, hears others beat, and decides with them who owns a VIP.
//!
//! ```text
//! control task ── World, addresses, keys ──> this thread <── UDP, answers by ARP
//!      ^                                        │  └── beats
//!      └───────────── View ─────────────────────┤
//!                 ARP thread <── Gain, Lose ────┘
//! ```
//!
//! What to do is [`Members`]' business; this reads clock and sockets for it. What arrived is read before it is asked
//! what to do, so that nobody is accused for a beat that waits to be read. Scheduled in real time if that is permitted.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{oneshot, watch};

use super::asker::{Asker, Line};
use super::forwarder::Forwarder;
use super::mail::Mail;
use super::responder::{Order, Remote};
use super::socket::{self, Waker};
use crate::arp::MacAddr;
use crate::book::AddressBook;
use crate::forward::{self, Forwarding};
use crate::heartbeat::{BeatError, Keyring};
use crate::member_metrics::MemberMetrics;
use crate::members::moving::MoveError;
use crate::members::{Action, Members, Profile, View, World};

/// Datagrams and answers taken in before anything is decided; a flood must not keep us from beating.
const BATCH: usize = 256;
/// The longest sleep of a thread with nothing to do.
const IDLE: Duration = Duration::from_hours(1);

/// What the thread is told.
#[derive(Debug)]
pub(super) enum Told {
    /// What the cluster is like.
    World(Box<World>),
    /// Where peers are reached.
    Peers(BTreeMap<Arc<str>, Vec<SocketAddr>>),
    /// The interfaces to announce on.
    Lines(Vec<Line>),
    /// What beats are signed with.
    Keys(Keyring),
    /// What others wrote by way of the API server.
    Letters(Arc<Vec<Arc<[u8]>>>),
    /// Whom to ask whether we hear anything.
    Gateway(Option<IpAddr>),
    /// What an operator wants of a VIP: which node shall have it, `None` for whichever comes first.
    Move(IpAddr, Option<String>, oneshot::Sender<Result<(), MoveError>>),
    /// Hand everything over.
    Leave,
    /// It is over.
    Stop,
}

/// Who we are among the members.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    /// The name of this node.
    pub(super) node: Arc<str>,
    /// How fast failures are found.
    pub(super) profile: Profile,
    /// The port of all members; `None` where there can be no others.
    pub(super) port: Option<u16>,
    /// For how long we serve connections of a VIP that another member has by now.
    pub(super) linger: Duration,
}

/// By what the thread makes true what was decided, beside heartbeats.
#[derive(Debug)]
pub(super) struct Ways {
    /// Announces VIPs.
    pub(super) announce: Remote,
    /// Sends connections on to other nodes, where that is possible.
    pub(super) forwarder: Option<Forwarder>,
    /// Where letters to other nodes go.
    pub(super) letters: watch::Sender<Arc<[u8]>>,
}

/// The handle on the thread; dropping it ends the thread.
#[derive(Debug)]
pub(super) struct Heartbeats {
    orders: mpsc::Sender<Told>,
    waker: Waker,
    thread: Option<JoinHandle<()>>,
}

impl Heartbeats {
    /// Opens the port and starts the thread, which knows of no VIP yet; without a `forwarder` connections end when their
    /// VIP moves here.
    pub(super) fn start(
        identity: Identity,
        ways: Ways,
        metrics: Arc<MemberMetrics>,
    ) -> io::Result<(Self, watch::Receiver<Arc<View>>)> {
        let mail = identity.port.map(Mail::open).transpose()?;
        let (orders, inbox) = mpsc::channel();
        let (show, view) = watch::channel(Arc::default());
        let waker = Waker::new()?;
        let bell = waker.try_clone()?;
        let thread = std::thread::Builder::new().name("heartbeat".to_owned()).spawn(move || {
            Loop::new(identity, mail, ways, metrics, show, bell).run(&inbox);
        })?;
        Ok((Self { orders, waker, thread: Some(thread) }, view))
    }

    /// Tells the thread something.
    pub(super) fn tell(&self, told: Told) {
        // A thread that is gone is noticed by its view ending.
        let _ = self.orders.send(told);
        self.waker.wake();
    }
}

impl Drop for Heartbeats {
    fn drop(&mut self) {
        self.tell(Told::Stop);
        if let Some(thread) = self.thread.take() {
            // That it panicked was noticed by its view ending.
            let _ = thread.join();
        }
    }
}

/// What the thread holds.
struct Loop {
    identity: Identity,
    /// Absent until there is a key, or nobody to share VIPs with.
    members: Option<Members>,
    world: World,
    keys: Option<Keyring>,
    mail: Option<Mail>,
    asker: Asker,
    book: AddressBook,
    gateway: Option<IpAddr>,
    announce: Remote,
    forwarding: Forwarding,
    forwarder: Option<Forwarder>,
    /// What is announced where.
    on: Vec<(forward::Line, BTreeSet<IpAddr>)>,
    /// Who serves connections of our VIPs that are sent on.
    sent_on: BTreeMap<IpAddr, BTreeSet<Arc<str>>>,
    post: watch::Sender<Arc<[u8]>>,
    friends: Vec<[u8; 6]>,
    show: watch::Sender<Arc<View>>,
    shown: Option<u64>,
    metrics: Arc<MemberMetrics>,
    bell: Waker,
    polled: Vec<libc::pollfd>,
}

impl Loop {
    fn new(
        identity: Identity,
        mail: Option<Mail>,
        ways: Ways,
        metrics: Arc<MemberMetrics>,
        show: watch::Sender<Arc<View>>,
        bell: Waker,
    ) -> Self {
        let Ways { announce, forwarder, letters: post } = ways;
        Self {
            identity,
            members: None,
            world: World::default(),
            keys: None,
            mail,
            asker: Asker::default(),
            book: AddressBook::default(),
            gateway: None,
            announce,
            forwarding: Forwarding::default(),
            forwarder,
            on: Vec::new(),
            sent_on: BTreeMap::new(),
            post,
            friends: Vec::new(),
            show,
            shown: None,
            metrics,
            bell,
            polled: Vec::new(),
        }
    }

    /// Until the handle is dropped.
    fn run(mut self, inbox: &mpsc::Receiver<Told>) {
        self.metrics.realtime.set(i64::from(socket::make_realtime().is_ok()));
        self.watch();
        loop {
            if !self.obey(inbox) {
                return;
            }
            self.receive();
            self.act();
            self.publish();
            let now = Instant::now();
            let deadline = self.members.as_ref().map(|members| members.next_deadline(now));
            let timeout = deadline.map_or(IDLE, |deadline| deadline.saturating_duration_since(now));
            if socket::wait(&mut self.polled, Some(timeout)).is_err() {
                return;
            }
        }
    }

    /// Makes `polled` match what is open.
    fn watch(&mut self) {
        let mail = self.mail.as_ref().map(Mail::descriptors).into_iter().flatten();
        let all = [std::os::fd::AsRawFd::as_raw_fd(&self.bell)].into_iter().chain(mail).chain(self.asker.descriptors());
        self.polled = all.map(socket::readable).collect();
    }

    /// Takes over what the control task says; whether to go on.
    fn obey(&mut self, inbox: &mpsc::Receiver<Told>) -> bool {
        if self.polled[0].revents == 0 && self.shown.is_some() {
            return true;
        }
        self.bell.clear();
        loop {
            let now = Instant::now();
            match inbox.try_recv() {
                Ok(Told::World(world)) => self.set_world(*world, now),
                Ok(Told::Peers(peers)) => self.book.set_configured(peers),
                Ok(Told::Lines(lines)) => self.set_lines(&lines),
                Ok(Told::Keys(keys)) => {
                    self.keys = Some(keys);
                    self.begin(now);
                }
                Ok(Told::Letters(letters)) => letters.iter().for_each(|letter| self.take_letter(letter, now)),
                Ok(Told::Gateway(gateway)) => self.gateway = gateway,
                Ok(Told::Move(vip, node, answer)) => {
                    let wished = self
                        .members
                        .as_mut()
                        .map_or(Err(MoveError::NotJoined), |members| members.wish(vip, node.as_deref(), micros(), now));
                    // Who asked may be gone.
                    let _ = answer.send(wished);
                }
                Ok(Told::Leave) => {
                    if let Some(members) = &mut self.members {
                        members.leave(now);
                    }
                }
                Ok(Told::Stop) | Err(mpsc::TryRecvError::Disconnected) => return false,
                Err(mpsc::TryRecvError::Empty) => return true,
            }
        }
    }

    fn set_world(&mut self, world: World, now: Instant) {
        self.world = world;
        self.begin(now);
        if let Some(members) = &mut self.members {
            members.set_world(self.world.clone(), now);
        }
    }

    /// Becomes a member as soon as it can sign, or need not.
    fn begin(&mut self, now: Instant) {
        let alone = self.world.configured.iter().all(|name| *name == self.identity.node);
        let alone = alone && !self.world.configured.is_empty();
        if self.members.is_some() || !(self.keys.is_some() || alone) {
            return;
        }
        let boot = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
        let boot = u64::try_from(boot).unwrap_or(u64::MAX);
        let mut members = Members::new(&self.identity.node, boot, self.identity.profile, now);
        members.set_hand_over(self.identity.linger, self.forwarder.is_some());
        members.set_world(self.world.clone(), now);
        self.members = Some(members);
    }

    /// One that is not signed with our key is nobody's.
    fn take_letter(&mut self, letter: &[u8], now: Instant) {
        let beat = self.keys.as_ref().and_then(|keys| keys.open(letter).ok());
        if let Some((beat, members)) = beat.zip(self.members.as_mut()) {
            members.on_letter(beat, now);
        }
    }

    fn set_lines(&mut self, lines: &[Line]) {
        self.asker.set(lines);
        let joined: Vec<(u32, Ipv4Addr)> = lines.iter().filter_map(|line| Some((line.index, line.address?))).collect();
        if let Some(mail) = &mut self.mail {
            mail.join(&joined);
        }
        self.watch();
        let on = |line: &Line| (forward::Line { index: line.index, name: line.name.clone() }, line.vips.clone());
        self.on = lines.iter().map(on).collect();
        self.forward(&[]);
    }

    /// Hands everything that has arrived to the members.
    fn receive(&mut self) {
        for _ in 0..BATCH {
            let Some(mail) = &mut self.mail else { break };
            let Some((bytes, from)) = mail.receive() else { break };
            let Some(keys) = &self.keys else { continue };
            let now = Instant::now();
            match keys.open(bytes) {
                Ok(beat) => {
                    let Some(members) = &mut self.members else { continue };
                    if *beat.node != *self.identity.node && !members.is_outdated(&beat) {
                        self.book.learn(&beat.node, from, now);
                    }
                    members.on_beat(beat, now);
                }
                Err(BeatError::Foreign) => self.metrics.refused_foreign.inc(),
                Err(BeatError::Key) => self.metrics.refused_key.inc(),
                Err(BeatError::Malformed { .. }) => self.metrics.refused_malformed.inc(),
            }
        }
        for _ in 0..BATCH {
            let Some((ip, mac)) = self.asker.answer() else { break };
            let Some(members) = &mut self.members else { continue };
            let now = Instant::now();
            if Some(ip) == self.gateway {
                members.on_gateway(now);
            }
            members.on_answer(ip, mac, now);
        }
    }

    /// Does everything that is to be done now.
    fn act(&mut self) {
        // Friends first: the announcement of a peer must not be taken for an attack.
        self.introduce();
        let mut gained = Vec::new();
        while let Some(action) = self.members.as_mut().and_then(|members| members.poll(Instant::now())) {
            if !matches!(action, Action::Gain(_)) {
                self.gain(&mut gained);
            }
            match action {
                Action::Send(to, beat) => self.send(to.as_deref(), &beat),
                Action::Flood(beat) => {
                    if let (Some(keys), Some(mail)) = (&self.keys, &self.mail) {
                        mail.send_all(&keys.seal(&beat));
                        self.book.forget(Instant::now());
                    }
                }
                Action::Post(beat) => {
                    if let Some(keys) = &self.keys {
                        self.metrics.letters.inc();
                        self.post.send_replace(keys.seal(&beat).into());
                    }
                }
                Action::Ask(vip) => self.asker.ask(vip),
                Action::AskGateway => self.gateway.into_iter().for_each(|gateway| self.asker.ask(gateway)),
                Action::Gain(vip) => gained.push(vip),
                Action::Lose(vip) => self.announce.tell(Order::Lose(vip)),
                Action::Refresh(vip) => self.announce.tell(Order::Refresh(vip)),
            }
        }
        self.gain(&mut gained);
    }

    /// Announces what was claimed; packets of connections that others have must find their way by then.
    fn gain(&mut self, gained: &mut Vec<IpAddr>) {
        if gained.is_empty() {
            return;
        }
        self.forward(gained);
        gained.drain(..).for_each(|vip| self.announce.tell(Order::Gain(vip)));
    }

    /// Has the kernel send on what belongs to others by what is known now, `gained` being ours since a moment ago.
    fn forward(&mut self, gained: &[IpAddr]) {
        let (Some(members), Some(forwarder)) = (&self.members, &mut self.forwarder) else { return };
        if gained.is_empty() && self.forwarding.is_idle() {
            return;
        }
        let facts = members.facts();
        for vip in gained {
            self.forwarding.gain(*vip, &facts);
        }
        let several = facts.macs.values().any(|macs| macs.len() > 1);
        // Without the list, members with several hardware addresses get nothing.
        let arp = if several { std::fs::read_to_string("/proc/net/arp").unwrap_or_default() } else { String::new() };
        let table = self.forwarding.table(&facts, &self.on, &forward::near(&arp));
        let first: BTreeSet<IpAddr> = table.first.keys().map(|(_, vip)| *vip).collect();
        self.sent_on = facts.lingerers.into_iter().filter(|(vip, _)| first.contains(vip)).collect();
        if forwarder.set(table).is_err() {
            self.metrics.forward_errors.inc();
            self.sent_on.clear();
        }
    }

    /// Sends one beat: to all addresses of one member, or of all of them and by multicast.
    fn send(&mut self, to: Option<&str>, beat: &crate::heartbeat::Beat) {
        let (Some(keys), Some(mail)) = (&self.keys, &self.mail) else { return };
        let (bytes, now) = (keys.seal(beat), Instant::now());
        let send = |address: SocketAddr| match mail.send(&bytes, address) {
            Ok(()) => self.metrics.sent.inc(),
            Err(_) => self.metrics.send_errors.inc(),
        };
        if let Some(node) = to {
            return self.book.addresses(node, now).into_iter().for_each(send);
        }
        let others = self.book.nodes().into_iter().filter(|node| **node != *self.identity.node);
        others.flat_map(|node| self.book.addresses(&node, now)).for_each(send);
        mail.send_all(&bytes);
        self.book.forget(now);
    }

    /// Tells the ARP thread who is a member and no stranger.
    fn introduce(&mut self) {
        let Some(members) = &self.members else { return };
        if self.shown == Some(members.revision()) {
            return;
        }
        let mut friends: Vec<[u8; 6]> = members.macs().collect();
        friends.sort_unstable();
        friends.dedup();
        if friends != self.friends {
            self.announce.tell(Order::Friends(friends.iter().copied().map(MacAddr::from).collect()));
            self.friends = friends;
        }
    }

    /// Shows what has changed.
    fn publish(&mut self) {
        let Some(members) = &self.members else {
            self.shown.get_or_insert(0);
            return;
        };
        if self.shown == Some(members.revision()) {
            return;
        }
        self.shown = Some(members.revision());
        self.forward(&[]);
        let Some(members) = &self.members else { return };
        let view = Arc::new(View { sent_on: self.sent_on.clone(), ..members.view() });
        self.metrics.show(&view, members.tally());
        self.show.send_if_modified(|shown| std::mem::replace(shown, Arc::clone(&view)) != view);
    }
}

/// The time of day, which tells what an operator said last.
fn micros() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
