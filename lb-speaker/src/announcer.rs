//! Makes the LAN of one interface believe that VIPs are here: announcements, answers, defence.
//!
//! ```text
//! set_owned, set_link, set_mac ──> [ due rounds ] ──> poll_frame ──> frames to send
//! on_frame (what was heard)    ──> [ outbox     ] ──┘
//! ```
//!
//! A round is both forms of gratuitous ARP, or an unsolicited neighbour advertisement. A VIP gained is announced at once and repeated by [`SCHEDULE`], since a
//! switch may drop the first and older Linux ignores a second within its lock time of 1 s; then every [`REFRESH`] or
//! so, since switch tables age out. A burst starts again when the link comes up or the hardware address changes, and
//! at no other time.
//!
//! Pure, and allocates only when the set of VIPs grows. The wire formats: [`crate::arp`], [`crate::ndp`].

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use crate::arp::{self, BROADCAST, DropReason, MacAddr, Operation};
use crate::limiter::{Askers, Pace, fold, mix};
use crate::ndp::{self, Message};
use crate::rate::Flow;

/// When a VIP is announced after it was gained: quickly at first (a take-over), then past the lock time of 1 s.
pub const SCHEDULE: [Duration; 8] = [
    Duration::ZERO,
    Duration::from_millis(20),
    Duration::from_millis(60),
    Duration::from_millis(140),
    Duration::from_millis(300),
    Duration::from_millis(620),
    Duration::from_millis(1200),
    Duration::from_millis(2500),
];
/// The mean time between announcements after the burst.
pub const REFRESH: Duration = Duration::from_mins(1);
/// How far from [`REFRESH`] one may be, either way.
pub const REFRESH_JITTER: Duration = Duration::from_secs(6);
/// Shortest time between two defences of one VIP (RFC 5227 §2.4, `DEFEND_INTERVAL`).
pub const DEFEND_INTERVAL: Duration = Duration::from_secs(10);
/// Announcement frames sent before pacing sets in.
pub const UNPACED: u32 = 256;
/// Announcement frames a second from then on.
pub const PACED_PER_SECOND: u32 = 500;
/// Answers a second to one asker about one VIP.
pub const ANSWERS_PER_ASKER: u32 = 10;
/// Answers a second to all askers.
pub const ANSWERS_PER_SECOND: u32 = 5000;
/// Frames of a round, at most.
const MOST_IN_ROUND: u32 = 2;
/// Frames that may wait to be sent besides announcements; more are not answered.
const OUTBOX: usize = 128;

/// The announcer of one interface.
#[derive(Debug)]
pub struct Announcer {
    mac: MacAddr,
    siblings: Vec<MacAddr>,
    friends: Vec<MacAddr>,
    link: bool,
    vips: HashMap<IpAddr, Vip>,
    /// One entry for each VIP: when it is next announced.
    due: BinaryHeap<Reverse<(Instant, IpAddr)>>,
    outbox: VecDeque<Outgoing>,
    pace: Pace,
    answers: Pace,
    askers: Askers,
}

#[derive(Debug)]
struct Vip {
    /// When its burst began.
    since: Instant,
    /// Rounds sent since it was gained.
    rounds: u64,
    defended: Option<Instant>,
}

/// A frame to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// The frame and what follows it; see [`Self::frame`].
    bytes: [u8; ndp::FRAME_LEN],
    len: usize,
    /// The VIP it is about.
    pub vip: IpAddr,
    /// What it is for.
    pub purpose: Purpose,
}

impl Outgoing {
    fn new<const N: usize>((from, len): ([u8; N], usize), vip: IpAddr, purpose: Purpose) -> Self {
        let mut bytes = [0; ndp::FRAME_LEN];
        bytes[..len].copy_from_slice(&from[..len]);
        Self { bytes, len, vip, purpose }
    }

    fn arp(frame: &arp::Frame, vip: Ipv4Addr, purpose: Purpose) -> Self {
        Self::new((arp::encode(frame), arp::FRAME_LEN), vip.into(), purpose)
    }

    fn ndp(frame: &ndp::Frame, vip: Ipv6Addr, purpose: Purpose) -> Self {
        Self::new(ndp::encode(frame), vip.into(), purpose)
    }

    /// The frame, Ethernet header included.
    #[must_use]
    pub fn frame(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// What a frame is sent for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To tell the LAN where a VIP is.
    Announce,
    /// To answer who asked.
    Answer,
}

/// What became of a received frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// It was not fit to be looked at.
    Dropped(DropReason),
    /// It is none of our business.
    Ignored,
    /// It asked for a VIP, and an answer is on its way.
    Answered(IpAddr),
    /// It asked for a VIP more often than is answered.
    Limited(IpAddr),
    /// Somebody else claims a VIP.
    Conflict {
        /// The VIP.
        vip: IpAddr,
        /// Who claims it.
        mac: MacAddr,
        /// Whether we announce it once more to defend it; at most once per [`DEFEND_INTERVAL`].
        defended: bool,
    },
}

impl Announcer {
    /// An announcer with no VIPs for the interface with this hardware address, its link down.
    #[must_use]
    pub fn new(mac: MacAddr) -> Self {
        Self {
            mac,
            siblings: Vec::new(),
            friends: Vec::new(),
            link: false,
            vips: HashMap::new(),
            due: BinaryHeap::new(),
            outbox: VecDeque::with_capacity(OUTBOX),
            pace: Pace::new(UNPACED, PACED_PER_SECOND),
            answers: Pace::new(ANSWERS_PER_SECOND, ANSWERS_PER_SECOND),
            askers: Askers::new(ANSWERS_PER_ASKER),
        }
    }

    /// Sends announcements no faster than this from now on; a round of both forms must fit in the burst.
    pub fn set_pace(&mut self, flow: Flow) {
        self.pace = Pace::new(flow.burst.max(MOST_IN_ROUND), flow.per_second.max(1));
    }

    /// Announces exactly `vips` from now on: gains those that are new, loses those that are gone.
    pub fn set_owned(&mut self, vips: &BTreeSet<IpAddr>, now: Instant) {
        self.vips.retain(|vip, _| vips.contains(vip));
        self.due.retain(|Reverse((_, vip))| vips.contains(vip));
        self.outbox.retain(|waiting| vips.contains(&waiting.vip));
        for vip in vips {
            self.gain(*vip, now);
        }
    }

    /// Starts announcing `vip`: at once, then repeated. No effect on one that is announced already.
    pub fn gain(&mut self, vip: IpAddr, now: Instant) {
        if let std::collections::hash_map::Entry::Vacant(entry) = self.vips.entry(vip) {
            entry.insert(Vip { since: now, rounds: 0, defended: None });
            self.due.push(Reverse((now, vip)));
        }
    }

    /// Stops announcing `vip` and answering for it.
    pub fn lose(&mut self, vip: IpAddr) {
        self.vips.remove(&vip);
        self.due.retain(|Reverse((_, other))| *other != vip);
        self.outbox.retain(|waiting| waiting.vip != vip);
    }

    /// Notes whether frames can be sent; a link that comes up hears everything anew.
    pub fn set_link(&mut self, up: bool, now: Instant) {
        if up && !self.link {
            self.announce_all(now);
        }
        if !up {
            self.outbox.clear();
        }
        self.link = up;
    }

    /// Notes the hardware address of the interface; a new one is announced for every VIP.
    pub fn set_mac(&mut self, mac: MacAddr, now: Instant) {
        if mac != self.mac {
            self.mac = mac;
            self.outbox.clear();
            self.announce_all(now);
        }
    }

    /// Notes the hardware addresses of this machine's other interfaces, which claim nothing against us.
    pub fn set_siblings(&mut self, siblings: Vec<MacAddr>) {
        self.siblings = siblings;
    }

    /// Notes the hardware addresses of other members, with whom heartbeats settle who announces what.
    pub fn set_friends(&mut self, friends: Vec<MacAddr>) {
        self.friends = friends;
    }

    /// Announces `vip` from the beginning: somebody else has just given it up.
    pub fn refresh(&mut self, vip: IpAddr, now: Instant) {
        if let Some(state) = self.vips.get_mut(&vip) {
            state.since = now;
            self.due.retain(|Reverse((_, other))| *other != vip);
            self.due.push(Reverse((now, vip)));
        }
    }

    /// The next moment there is something to send; `None` while idle.
    #[must_use]
    pub fn next_deadline(&self, now: Instant) -> Option<Instant> {
        if !self.link {
            return None;
        }
        if !self.outbox.is_empty() {
            return Some(now);
        }
        let Reverse((due, _)) = self.due.peek()?;
        Some((*due).max(self.pace.ready_at(MOST_IN_ROUND, now)))
    }

    /// Takes one frame due at `now`; call until it returns `None`.
    pub fn poll_frame(&mut self, now: Instant) -> Option<Outgoing> {
        if !self.link {
            return None;
        }
        if let Some(waiting) = self.outbox.pop_front() {
            return Some(waiting);
        }
        let Reverse((due, vip)) = *self.due.peek()?;
        if due > now || self.pace.ready_at(MOST_IN_ROUND, now) > now {
            return None;
        }
        self.due.pop();
        let state = self.vips.get_mut(&vip)?;
        state.rounds += 1;
        self.due.push(Reverse((state.next_round(vip, now), vip)));
        self.pace.take(if vip.is_ipv4() { MOST_IN_ROUND } else { 1 }, now);
        if let IpAddr::V4(vip) = vip {
            self.post(Outgoing::arp(&arp::announcement_reply(self.mac, vip), vip, Purpose::Announce));
        }
        Some(announcement(self.mac, vip))
    }

    /// Takes in one received frame, and may have an answer to send.
    pub fn on_frame(&mut self, bytes: &[u8], now: Instant) -> Heard {
        let heard = match arp::decode(bytes) {
            Ok(frame) => Ok(self.on_arp(&frame, now)),
            Err(DropReason::Foreign) => ndp::decode(bytes).map(|frame| self.on_ndp(&frame, now)),
            Err(reason) => Err(reason),
        };
        heard.unwrap_or_else(Heard::Dropped)
    }

    fn on_arp(&mut self, frame: &arp::Frame, now: Instant) -> Heard {
        if self.are_ours([frame.source, frame.sender_mac]) {
            return Heard::Dropped(DropReason::Own);
        }
        if self.vips.contains_key(&frame.sender_ip.into()) {
            return self.contest(frame.sender_ip.into(), frame.sender_mac, now);
        }
        let for_us = frame.destination == BROADCAST || frame.destination == self.mac;
        if !for_us || frame.operation != Operation::Request || !self.vips.contains_key(&frame.target_ip.into()) {
            return Heard::Ignored;
        }
        // Probes included (RFC 5227 §2.1.1).
        let vip = frame.target_ip;
        let answer = arp::answer(self.mac, vip, frame.sender_mac, frame.sender_ip);
        self.answer(Outgoing::arp(&answer, vip, Purpose::Answer), frame.sender_mac, now)
    }

    /// The same for Neighbor Discovery: who asks is answered, who asks whether we are still there too, and who probes
    /// for a duplicate learns that it is one.
    fn on_ndp(&mut self, frame: &ndp::Frame, now: Instant) -> Heard {
        if self.are_ours([frame.source, frame.sender_mac()]) {
            return Heard::Dropped(DropReason::Own);
        }
        if let Some(vip) = frame.claim().filter(|ip| self.vips.contains_key(&IpAddr::V6(*ip))) {
            return self.contest(vip.into(), frame.sender_mac(), now);
        }
        let for_us = frame.receiver_ip == frame.target || frame.receiver_ip == ndp::solicited_node(frame.target);
        let asks = matches!(frame.message, Message::Solicitation { .. });
        if !for_us || !asks || !self.vips.contains_key(&frame.target.into()) {
            return Heard::Ignored;
        }
        let answer = ndp::answer(self.mac, frame);
        self.answer(Outgoing::ndp(&answer, frame.target, Purpose::Answer), frame.sender_mac(), now)
    }

    fn are_ours(&self, macs: [MacAddr; 2]) -> bool {
        macs.iter().any(|mac| *mac == self.mac || self.siblings.contains(mac))
    }

    fn answer(&mut self, answer: Outgoing, asker: MacAddr, now: Instant) -> Heard {
        let vip = answer.vip;
        let admitted = self.askers.admit(asker, vip, now) && self.answers.take(1, now);
        if admitted && self.post(answer) { Heard::Answered(vip) } else { Heard::Limited(vip) }
    }

    /// Somebody else says a VIP is theirs: says once that it is ours, and no more, lest it become an ARP war.
    ///
    /// Source: RFC 5227 §2.4 (b).
    fn contest(&mut self, vip: IpAddr, mac: MacAddr, now: Instant) -> Heard {
        if self.friends.contains(&mac) {
            return Heard::Ignored;
        }
        let state = self.vips.get_mut(&vip);
        let quiet = |at: Instant| now.saturating_duration_since(at) < DEFEND_INTERVAL;
        let defended = match state {
            Some(state) if !state.defended.is_some_and(quiet) => {
                state.defended = Some(now);
                self.post(announcement(self.mac, vip))
            }
            _ => false,
        };
        Heard::Conflict { vip, mac, defended }
    }

    /// Puts a frame in the outbox, if there is room.
    fn post(&mut self, frame: Outgoing) -> bool {
        let room = self.outbox.len() < OUTBOX;
        if room {
            self.outbox.push_back(frame);
        }
        room
    }

    /// Begins the burst of every VIP anew.
    fn announce_all(&mut self, now: Instant) {
        self.due.clear();
        for (vip, state) in &mut self.vips {
            state.since = now;
            self.due.push(Reverse((now, *vip)));
        }
    }
}

impl Vip {
    /// When it is announced after `now`; rounds that pacing delayed past their time are not caught up on.
    fn next_round(&self, vip: IpAddr, now: Instant) -> Instant {
        let next = SCHEDULE.iter().map(|offset| self.since + *offset).find(|at| *at > now);
        next.unwrap_or_else(|| now + refresh_after(vip, self.rounds))
    }
}

/// The time to the next refresh: spread by the VIP and the round, so that a thousand VIPs gained at one moment do not
/// come back at one moment.
fn refresh_after(vip: IpAddr, round: u64) -> Duration {
    let spread = 2 * u64::try_from(REFRESH_JITTER.as_millis()).expect("some seconds");
    let jitter = mix(fold(vip) ^ mix(round)) % (spread + 1);
    REFRESH.saturating_sub(REFRESH_JITTER) + Duration::from_millis(jitter)
}

/// The first frame of a round.
fn announcement(mac: MacAddr, vip: IpAddr) -> Outgoing {
    match vip {
        IpAddr::V4(vip) => Outgoing::arp(&arp::announcement(mac, vip), vip, Purpose::Announce),
        IpAddr::V6(vip) => Outgoing::ndp(&ndp::announcement(mac, vip), vip, Purpose::Announce),
    }
}

#[cfg(test)]
#[path = "announcer_tests.rs"]
mod tests;
