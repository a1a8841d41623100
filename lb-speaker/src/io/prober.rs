//! The thread that asks the LAN about addresses before they are given.
//!
//! It has packet sockets of its own, open only while there is something to ask, so that it never stands in the way of
//! an answer. It is told what to ask by whole tables and tells what it found by a watch channel.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io;
use std::net::IpAddr;
use std::os::fd::AsRawFd as _;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::line::Sockets;
use super::socket::{self, SNAP_LEN, Waker};
use crate::arp::MacAddr;
use crate::probe::{self, Findings};
use crate::rate::Flow;

/// The least time between two tellings, so that a thousand addresses do not make a thousand plans.
const PAUSE: Duration = Duration::from_millis(50);

/// What is to be asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Inquiry {
    /// By the number of the interface: its hardware address, and the addresses to ask about.
    pub(super) targets: BTreeMap<u32, (MacAddr, BTreeSet<IpAddr>)>,
    /// Stations whose claims do not count.
    pub(super) ours: HashSet<MacAddr>,
}

/// The handle on the thread; dropping it ends the thread.
#[derive(Debug)]
pub(super) struct Prober {
    inquiries: Option<mpsc::Sender<Inquiry>>,
    /// What was asked last, since most changes change nothing here.
    last: Inquiry,
    findings: watch::Receiver<Findings>,
    waker: Waker,
    thread: Option<JoinHandle<()>>,
}

impl Prober {
    /// Starts the thread with nothing to ask; it asks no faster than this.
    pub(super) fn start(flow: Flow) -> io::Result<Self> {
        let (inquiries, inbox) = mpsc::channel();
        let (publish, findings) = watch::channel(Findings::default());
        let waker = Waker::new()?;
        let bell = waker.try_clone()?;
        let prober = probe::Prober::new(flow.burst, flow.per_second);
        let thread = std::thread::Builder::new().name("prober".to_owned()).spawn(move || {
            Loop { prober, lines: BTreeMap::new(), bell, publish, news: false, told: None }.run(&inbox);
        })?;
        Ok(Self { inquiries: Some(inquiries), last: Inquiry::default(), findings, waker, thread: Some(thread) })
    }

    /// Replaces what is asked.
    pub(super) fn ask(&mut self, inquiry: Inquiry) {
        if inquiry == self.last {
            return;
        }
        self.last.clone_from(&inquiry);
        if let Some(inquiries) = &self.inquiries {
            // A thread that is gone finds nothing: what waits goes on waiting, what was given stays.
            let _ = inquiries.send(inquiry);
        }
        self.waker.wake();
    }

    /// What is known now.
    pub(super) fn findings(&mut self) -> Findings {
        self.findings.borrow_and_update().clone()
    }

    /// Waits until more is known.
    pub(super) async fn changed(&mut self) {
        if self.findings.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.inquiries = None;
        self.waker.wake();
        if let Some(thread) = self.thread.take() {
            // Nothing is left to be told if it panicked.
            let _ = thread.join();
        }
    }
}

/// What the thread holds.
struct Loop {
    prober: probe::Prober,
    lines: BTreeMap<u32, Line>,
    bell: Waker,
    publish: watch::Sender<Findings>,
    /// Whether there is something to tell.
    news: bool,
    told: Option<Instant>,
}

/// One interface of the thread.
struct Line {
    sockets: Sockets,
    mac: MacAddr,
    targets: BTreeSet<IpAddr>,
}

impl Loop {
    /// Until the handle is dropped.
    fn run(mut self, inbox: &mpsc::Receiver<Inquiry>) {
        loop {
            let now = Instant::now();
            while let Some(ip) = self.prober.poll(now) {
                self.ask(ip);
            }
            let telling = self.tell(now);
            let mut polled = vec![socket::readable(self.bell.as_raw_fd())];
            polled.extend(self.lines.values().flat_map(|line| line.sockets.polled()));
            let deadline = [self.prober.next_deadline(now), telling].into_iter().flatten().min();
            let timeout = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if socket::wait(&mut polled, timeout).is_err() {
                return;
            }
            self.receive();
            if polled[0].revents != 0 {
                self.bell.clear();
                loop {
                    match inbox.try_recv() {
                        Ok(inquiry) => self.set(inquiry),
                        Err(mpsc::TryRecvError::Empty) => break,
                        Err(mpsc::TryRecvError::Disconnected) => return,
                    }
                }
            }
        }
    }

    /// Takes over an inquiry; an interface whose sockets cannot be had is not asked.
    fn set(&mut self, inquiry: Inquiry) {
        self.lines.retain(|index, _| inquiry.targets.contains_key(index));
        for (index, (mac, targets)) in &inquiry.targets {
            let watched = targets.clone();
            match self.lines.get_mut(index) {
                Some(line) => (line.mac, line.targets) = (*mac, watched),
                None => {
                    if let Ok(sockets) = Sockets::open(*index) {
                        self.lines.insert(*index, Line { sockets, mac: *mac, targets: watched });
                    }
                }
            }
            if let Some(line) = self.lines.get(index) {
                // Without a filter nothing is heard, and what is not heard of counts as free: as without a socket.
                let _ = line.sockets.watch(&line.targets);
            }
        }
        self.prober.set_ours(inquiry.ours);
        let candidates = inquiry.targets.into_values().flat_map(|(_, targets)| targets).collect();
        self.prober.set_candidates(&candidates, Instant::now());
    }

    /// Sends the question about `ip` on every interface that leads to it; one that is down loses it.
    fn ask(&self, ip: IpAddr) {
        for line in self.lines.values().filter(|line| line.targets.contains(&ip)) {
            let (bytes, len) = probe::question(line.mac, ip);
            let _ = line.sockets.send_about(ip, &bytes[..len]);
        }
    }

    fn receive(&mut self) {
        let (mut buffer, now) = ([0; SNAP_LEN], Instant::now());
        for line in self.lines.values() {
            for socket in 0..Sockets::COUNT {
                // An interface that is gone is an error for ever, until the next inquiry does without it.
                while let Ok(Some(frame)) = line.sockets.recv(socket, &mut buffer) {
                    if !frame.other_host {
                        self.prober.on_frame(&buffer[..frame.len.min(SNAP_LEN)], now);
                    }
                }
            }
        }
    }

    /// Tells what is new, or when that is due.
    fn tell(&mut self, now: Instant) -> Option<Instant> {
        self.news |= self.prober.has_changed();
        if !self.news {
            return None;
        }
        if let Some(due) = self.told.map(|told| told + PAUSE).filter(|due| *due > now) {
            return Some(due);
        }
        (self.news, self.told) = (false, Some(now));
        self.publish.send_replace(self.prober.findings());
        None
    }
}
