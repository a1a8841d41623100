//! The thread that sends and answers ARP and Neighbor Discovery.
//!
//! It owns an [`Announcer`] and packet sockets for each interface and is told by whole tables what to announce. It is
//! scheduled in real time if that is permitted, allocates only when it gets a new table, and logs nothing: what is
//! worth telling goes to the control task as a [`Notice`].

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Instant;

use prometheus::IntCounter;
use tokio::sync::mpsc as notices;

use super::line::{Line, Sockets};
use super::socket::{self, SNAP_LEN, Waker};
use crate::announcer::{Heard, Outgoing, Purpose};
use crate::arp::{DropReason, MULTICAST, MacAddr};
use crate::metrics::SpeakerMetrics;
use crate::rate::Flow;

/// Frames taken from one socket before the others get their turn.
const BATCH: usize = 64;
/// Notices that may wait; more are lost, which only logs and events would miss.
const NOTICES: usize = 64;

/// What to announce on one interface.
#[derive(Debug)]
pub(super) struct Port {
    /// The number of the interface.
    pub(super) index: u32,
    /// Its hardware address.
    pub(super) mac: MacAddr,
    /// Whether frames can be sent.
    pub(super) ready: bool,
    /// Whether they could not be for a while since the last table.
    pub(super) bounced: bool,
    /// The hardware addresses of this machine's other interfaces.
    pub(super) siblings: Vec<MacAddr>,
    /// The VIPs that can be announced here; those of them that this member owns are.
    pub(super) vips: BTreeSet<IpAddr>,
    /// Its sockets, given with the first table that has the interface.
    pub(super) sockets: Option<Sockets>,
}

/// Something the control task should know.
#[derive(Debug)]
pub(super) enum Notice {
    /// Real-time scheduling was refused.
    NotRealtime(io::Error),
    /// Somebody else claims a VIP; told at most once per VIP and [`crate::announcer::DEFEND_INTERVAL`].
    Conflict {
        /// The VIP.
        vip: IpAddr,
        /// Who claims it.
        mac: MacAddr,
    },
    /// The socket of this interface is of no use any more.
    SocketLost {
        /// The number of the interface.
        index: u32,
        /// Why.
        error: io::Error,
    },
}

/// What the thread is told.
#[derive(Debug)]
pub(super) enum Order {
    /// What can be announced, and where.
    Table(Vec<Port>),
    /// This member owns a VIP now.
    Gain(IpAddr),
    /// It does not any more.
    Lose(IpAddr),
    /// Another member thought it had it.
    Refresh(IpAddr),
    /// The hardware addresses of other members.
    Friends(Vec<MacAddr>),
    /// It is over.
    Stop,
}

/// The handle on the thread; dropping it ends the thread.
#[derive(Debug)]
pub(super) struct Responder {
    remote: Remote,
    thread: Option<JoinHandle<()>>,
}

/// Tells the thread what to do.
#[derive(Debug)]
pub(super) struct Remote {
    orders: mpsc::Sender<Order>,
    waker: Waker,
}

impl Remote {
    /// The thread does it within microseconds.
    pub(super) fn tell(&self, order: Order) {
        // A thread that is gone is noticed by its notices ending.
        let _ = self.orders.send(order);
        self.waker.wake();
    }
}

impl Responder {
    /// Starts the thread with nothing to announce.
    pub(super) fn start(metrics: Arc<SpeakerMetrics>, pace: Flow) -> io::Result<(Self, notices::Receiver<Notice>)> {
        let (orders, inbox) = mpsc::channel();
        let (notify, notices) = notices::channel(NOTICES);
        let waker = Waker::new()?;
        let bell = waker.try_clone()?;
        let thread = std::thread::Builder::new()
            .name("announcer".to_owned())
            .spawn(move || Loop::new(metrics, notify, bell, pace).run(&inbox))?;
        Ok((Self { remote: Remote { orders, waker }, thread: Some(thread) }, notices))
    }

    /// Replaces what can be announced.
    pub(super) fn set(&self, table: Vec<Port>) {
        self.remote.tell(Order::Table(table));
    }

    /// A handle for who decides what is owned.
    pub(super) fn remote(&self) -> io::Result<Remote> {
        Ok(Remote { orders: self.remote.orders.clone(), waker: self.remote.waker.try_clone()? })
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        self.remote.tell(Order::Stop);
        if let Some(thread) = self.thread.take() {
            // That it panicked was noticed by its notices ending.
            let _ = thread.join();
        }
    }
}

/// What the thread holds.
struct Loop {
    /// How fast each interface announces.
    pace: Flow,
    lines: Vec<Line>,
    /// What this member owns, whether or not it can be announced.
    owned: BTreeSet<IpAddr>,
    friends: Vec<MacAddr>,
    polled: Vec<libc::pollfd>,
    bell: Waker,
    notify: notices::Sender<Notice>,
    metrics: Arc<SpeakerMetrics>,
    dropped: [IntCounter; DropReason::ALL.len()],
    limited: IntCounter,
    send_errors: IntCounter,
}

impl Loop {
    fn new(metrics: Arc<SpeakerMetrics>, notify: notices::Sender<Notice>, bell: Waker, pace: Flow) -> Self {
        Self {
            pace,
            lines: Vec::new(),
            owned: BTreeSet::new(),
            friends: Vec::new(),
            polled: Vec::new(),
            bell,
            notify,
            dropped: DropReason::ALL.map(|reason| metrics.dropped(reason)),
            limited: metrics.limited(),
            send_errors: metrics.send_errors(),
            metrics,
        }
    }

    /// Until the handle is dropped.
    fn run(mut self, inbox: &mpsc::Receiver<Order>) {
        if let Err(error) = socket::make_realtime() {
            self.tell(Notice::NotRealtime(error));
        }
        self.watch();
        loop {
            self.send_due();
            let now = Instant::now();
            let deadline = self.lines.iter().filter_map(|line| line.announcer.next_deadline(now)).min();
            let timeout = deadline.map(|deadline| deadline.saturating_duration_since(now));
            if socket::wait(&mut self.polled, timeout).is_err() {
                return;
            }
            if self.polled[0].revents != 0 {
                self.bell.clear();
                loop {
                    match inbox.try_recv() {
                        Ok(Order::Stop) | Err(mpsc::TryRecvError::Disconnected) => return,
                        Ok(order) => self.obey(order),
                        Err(mpsc::TryRecvError::Empty) => break,
                    }
                }
            } else {
                self.receive();
            }
        }
    }

    /// Makes `polled` match the lines: the bell first, then the sockets of each.
    fn watch(&mut self) {
        self.polled.clear();
        self.polled.push(socket::readable(self.bell.as_raw_fd()));
        self.polled.extend(self.lines.iter().flat_map(Line::polled));
    }

    fn obey(&mut self, order: Order) {
        let now = Instant::now();
        match order {
            Order::Table(table) => {
                self.set(table, now);
                self.watch();
            }
            Order::Gain(vip) => {
                self.owned.insert(vip);
                let lines = self.lines.iter_mut().filter(|line| line.counters.contains_key(&vip));
                lines.for_each(|line| line.announcer.gain(vip, now));
                self.send_due();
            }
            Order::Lose(vip) => {
                self.owned.remove(&vip);
                self.lines.iter_mut().for_each(|line| line.announcer.lose(vip));
            }
            Order::Refresh(vip) => self.lines.iter_mut().for_each(|line| line.announcer.refresh(vip, now)),
            Order::Friends(friends) => {
                self.lines.iter_mut().for_each(|line| line.announcer.set_friends(friends.clone()));
                self.friends = friends;
            }
            Order::Stop => {}
        }
    }

    /// Takes over a table: new interfaces with their sockets, known ones with what changed, no others.
    fn set(&mut self, table: Vec<Port>, now: Instant) {
        self.lines.retain(|line| table.iter().any(|port| port.index == line.index));
        for mut port in table {
            if let Some(sockets) = port.sockets.take() {
                self.lines.retain(|line| line.index != port.index);
                let mut line = Line::new(port.index, port.mac, sockets, self.pace);
                line.announcer.set_friends(self.friends.clone());
                self.lines.push(line);
            }
            let Some(at) = self.lines.iter().position(|line| line.index == port.index) else { continue };
            if let Err(error) = self.lines[at].set(port, &self.owned, &self.metrics, now) {
                self.failed(at, error);
            }
        }
    }

    fn send_due(&mut self) {
        for at in 0..self.lines.len() {
            let now = Instant::now();
            while let Some(out) = self.lines[at].announcer.poll_frame(now) {
                self.send(at, &out);
            }
        }
    }

    fn send(&mut self, at: usize, out: &Outgoing) {
        let line = &mut self.lines[at];
        match line.sockets.send(out) {
            Ok(()) => {
                if let Some(counters) = line.counters.get(&out.vip) {
                    match out.purpose {
                        Purpose::Announce => counters.gratuitous.inc(),
                        Purpose::Answer => counters.responses.inc(),
                    }
                }
            }
            Err(error) => {
                self.send_errors.inc();
                self.failed(at, error);
            }
        }
    }

    fn receive(&mut self) {
        for at in 0..self.lines.len() {
            for socket in 0..Sockets::COUNT {
                if self.polled[1 + at * Sockets::COUNT + socket].revents != 0 {
                    self.receive_from(at, socket);
                }
            }
        }
    }

    fn receive_from(&mut self, at: usize, socket: usize) {
        let mut buffer = [0; SNAP_LEN];
        for _ in 0..BATCH {
            match self.lines[at].sockets.recv(socket, &mut buffer) {
                Ok(Some(frame)) if frame.other_host => self.count_drop(why_other_host(&buffer)),
                Ok(Some(frame)) => self.take(at, &buffer[..frame.len.min(SNAP_LEN)]),
                Ok(None) => break,
                Err(error) => {
                    self.failed(at, error);
                    break;
                }
            }
        }
    }

    /// Hands one frame to the announcer, and sends what it has to say at once.
    fn take(&mut self, at: usize, bytes: &[u8]) {
        let now = Instant::now();
        let line = &mut self.lines[at];
        let heard = line.announcer.on_frame(bytes, now);
        let counters = |vip| line.counters.get(&vip);
        match heard {
            Heard::Ignored => {}
            Heard::Dropped(reason) => self.count_drop(reason),
            Heard::Answered(vip) => {
                counters(vip).inspect(|counters| counters.requests.inc());
            }
            Heard::Limited(vip) => {
                counters(vip).inspect(|counters| counters.requests.inc());
                self.limited.inc();
            }
            Heard::Conflict { vip, mac, defended } => {
                counters(vip).inspect(|counters| counters.conflicts.inc());
                if defended {
                    self.tell(Notice::Conflict { vip, mac });
                }
            }
        }
        while let Some(out) = self.lines[at].announcer.poll_frame(now) {
            self.send(at, &out);
        }
    }

    fn count_drop(&self, reason: DropReason) {
        let at = DropReason::ALL.iter().position(|known| *known == reason);
        at.inspect(|at| self.dropped[*at].inc());
    }

    /// Weighs a failed call: an interface that is down comes back, one that is gone does not.
    fn failed(&mut self, at: usize, error: io::Error) {
        let passing = [libc::ENETDOWN, libc::ENOBUFS, libc::EAGAIN, libc::EINTR, libc::ENOMEM];
        if error.raw_os_error().is_some_and(|code| passing.contains(&code)) || self.lines[at].lost {
            return;
        }
        let line = &mut self.lines[at];
        line.lost = true;
        line.announcer.set_link(false, Instant::now());
        let index = line.index;
        self.watch();
        self.tell(Notice::SocketLost { index, error });
    }

    fn tell(&self, notice: Notice) {
        // If the queue is full the control task has plenty to say already.
        let _ = self.notify.try_send(notice);
    }
}

/// Why the kernel says that a frame is for another host: one for a group is so only on another VLAN.
const fn why_other_host(frame: &[u8; SNAP_LEN]) -> DropReason {
    if frame[0] & MULTICAST == 0 { DropReason::OtherHost } else { DropReason::VlanTagged }
}
