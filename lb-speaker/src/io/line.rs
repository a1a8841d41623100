//! One interface of the thread that announces: its sockets, its announcer, what is counted.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::IpAddr;
use std::os::fd::AsRawFd as _;
use std::time::Instant;

use super::responder::Port;
use super::socket::{self, Kind, PacketSocket, Received, SNAP_LEN};
use crate::announcer::{Announcer, Outgoing};
use crate::arp::MacAddr;
use crate::filter;
use crate::metrics::{SpeakerMetrics, VipCounters};
use crate::rate::Flow;

/// The packet sockets of one interface.
#[derive(Debug)]
pub(super) struct Sockets {
    arp: PacketSocket,
    ndp: PacketSocket,
}

impl Sockets {
    /// How many there are.
    pub(super) const COUNT: usize = 2;

    /// Opens those of the interface with this number.
    pub(super) fn open(index: u32) -> io::Result<Self> {
        Ok(Self { arp: PacketSocket::open(index, Kind::Arp)?, ndp: PacketSocket::open(index, Kind::Ndp)? })
    }

    /// Lets through what is about one of `watched`.
    pub(super) fn watch(&self, watched: &BTreeSet<IpAddr>) -> io::Result<()> {
        let v4 = watched.iter().filter_map(|ip| if let IpAddr::V4(ip) = ip { Some(*ip) } else { None });
        let v6 = watched.iter().filter_map(|ip| if let IpAddr::V6(ip) = ip { Some(*ip) } else { None });
        self.arp.filter(&filter::arp(v4))?;
        self.ndp.filter(&filter::ndp(v6))
    }

    /// Sends a frame by the socket of its kind.
    pub(super) fn send(&self, out: &Outgoing) -> io::Result<()> {
        self.send_about(out.vip, out.frame())
    }

    /// Sends a frame that is about `ip`.
    pub(super) fn send_about(&self, ip: IpAddr, frame: &[u8]) -> io::Result<()> {
        if ip.is_ipv4() { self.arp.send(frame) } else { self.ndp.send(frame) }
    }

    /// What to wait for.
    pub(super) fn polled(&self) -> [libc::pollfd; Self::COUNT] {
        self.all().map(|socket| socket::readable(socket.as_raw_fd()))
    }

    /// Receives a frame from the socket of this number, below [`Self::COUNT`]; `None` if none is waiting.
    pub(super) fn recv(&self, number: usize, buffer: &mut [u8; SNAP_LEN]) -> io::Result<Option<Received>> {
        self.all()[number].recv(buffer)
    }

    const fn all(&self) -> [&PacketSocket; Self::COUNT] {
        [&self.arp, &self.ndp]
    }
}

/// One interface.
pub(super) struct Line {
    /// The kernel's number for it.
    pub(super) index: u32,
    /// Its sockets.
    pub(super) sockets: Sockets,
    /// What it says and answers.
    pub(super) announcer: Announcer,
    /// The counters of each VIP that can be announced here.
    pub(super) counters: HashMap<IpAddr, VipCounters>,
    /// Whether its sockets are of no use any more.
    pub(super) lost: bool,
    watched: BTreeSet<IpAddr>,
}

impl Line {
    /// A line with nothing to say.
    pub(super) fn new(index: u32, mac: MacAddr, sockets: Sockets, pace: Flow) -> Self {
        let (mut announcer, counters) = (Announcer::new(mac), HashMap::new());
        announcer.set_pace(pace);
        Self { index, sockets, announcer, counters, lost: false, watched: BTreeSet::new() }
    }

    /// Takes over what changed; of what can be announced here, what is `owned` is. The filter is widened before anything is said, so that no answer to it is missed.
    pub(super) fn set(
        &mut self,
        port: Port,
        owned: &BTreeSet<IpAddr>,
        metrics: &SpeakerMetrics,
        now: Instant,
    ) -> io::Result<()> {
        self.counters.retain(|vip, _| port.vips.contains(vip));
        for vip in &port.vips {
            self.counters.entry(*vip).or_insert_with(|| metrics.vip(*vip));
        }
        let filtered = if self.watched == port.vips { Ok(()) } else { self.sockets.watch(&port.vips) };
        self.announcer.set_siblings(port.siblings);
        self.announcer.set_mac(port.mac, now);
        if port.bounced {
            self.announcer.set_link(false, now);
        }
        self.announcer.set_link(port.ready, now);
        self.announcer.set_owned(&port.vips.intersection(owned).copied().collect(), now);
        self.watched = port.vips;
        filtered
    }

    /// What to wait for.
    pub(super) fn polled(&self) -> [libc::pollfd; Sockets::COUNT] {
        // A lost socket would be ready for ever; a negative descriptor is skipped.
        if self.lost { [socket::readable(-1); Sockets::COUNT] } else { self.sockets.polled() }
    }
}
