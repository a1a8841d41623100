//! Whether somebody on the LAN has an address already, before it is given for the first time.
//!
//! ```text
//! set_candidates ──> Probing ──(PROBES sent, WAIT over, nobody claimed it)──> Free ──(PROOF over)──> Probing again
//!                       │                                                       │
//!                       └──────────────── on_claim ──────────> Taken <── on_claim ┘
//!                                                                └──(QUARANTINE over)──> forgotten
//! ```
//!
//! All candidates are probed side by side: [`PROBES`] questions each, [`INTERVAL`] apart, then [`WAIT`] for a late answer.
//! That is quicker than RFC 5227 §2.1.1 asks of a host (4 to 9 s), since a Service waits and nobody is harmed: a station
//! that answers later still is found by [`crate::announcer`] as a conflict. Questions are paced, so that a thousand new
//! Services take seconds and no switch shuts a port: see [`UNPACED`].
//!
//! Pure. Which addresses are candidates and what follows: [`crate::probation`]. Source: RFC 5227 §2.1, RFC 4862 §5.4.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::arp::{self, DropReason, MacAddr, Operation};
use crate::limiter::Pace;
use crate::ndp;

/// Questions asked about an address.
pub const PROBES: u32 = 3;
/// The time between two of them.
pub const INTERVAL: Duration = Duration::from_millis(100);
/// The time after the last in which somebody may still answer.
pub const WAIT: Duration = Duration::from_millis(200);
/// How long an address counts as free that is not given meanwhile.
pub const PROOF: Duration = Duration::from_mins(5);
/// How long an address counts as taken after its holder was heard last.
pub const QUARANTINE: Duration = Duration::from_mins(5);
/// Questions asked before pacing sets in.
pub const UNPACED: u32 = 256;
/// Questions a second from then on, if nothing less is wanted.
pub const PACED_PER_SECOND: u32 = 1000;

/// What is known of the candidates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Nobody claims these.
    pub free: BTreeSet<IpAddr>,
    /// The stations of these hardware addresses have those.
    pub taken: BTreeMap<IpAddr, MacAddr>,
}

/// The probes of all candidates.
#[derive(Debug)]
pub struct Prober {
    states: BTreeMap<IpAddr, State>,
    /// One entry for each that waits for its time.
    due: BinaryHeap<Reverse<(Instant, IpAddr)>>,
    pace: Pace,
    /// Stations whose claims do not count: this machine's, and those of other members.
    ours: HashSet<MacAddr>,
    /// Whether the findings are others than when this was asked last.
    changed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// So many questions were asked.
    Probing {
        sent: u32,
    },
    Free,
    Taken {
        by: MacAddr,
        until: Instant,
    },
}

impl Prober {
    /// Nothing to probe; at most `per_second` questions in the long run.
    #[must_use]
    pub fn new(burst: u32, per_second: u32) -> Self {
        let pace = Pace::new(burst.max(1), per_second.max(1));
        Self { states: BTreeMap::new(), due: BinaryHeap::new(), pace, ours: HashSet::new(), changed: false }
    }

    /// Probes exactly these from now on; what is known of them already is not asked again. Who is known to be taken is
    /// remembered, candidate or not.
    pub fn set_candidates(&mut self, candidates: &BTreeSet<IpAddr>, now: Instant) {
        let before = self.states.len();
        self.states.retain(|ip, state| candidates.contains(ip) || matches!(state, State::Taken { .. }));
        self.changed |= self.states.len() != before;
        let states = &self.states;
        self.due.retain(|Reverse((_, ip))| states.contains_key(ip));
        for ip in candidates {
            if !self.states.contains_key(ip) {
                self.begin(*ip, now);
            }
        }
    }

    /// Sets whose claims do not count.
    pub fn set_ours(&mut self, ours: HashSet<MacAddr>) {
        self.ours = ours;
    }

    /// The next moment there is something to do; `None` while idle.
    #[must_use]
    pub fn next_deadline(&self, now: Instant) -> Option<Instant> {
        let Reverse((due, ip)) = *self.due.peek()?;
        let asks = matches!(self.states.get(&ip), Some(State::Probing { sent }) if *sent < PROBES);
        Some(if asks { due.max(self.pace.ready_at(1, now)) } else { due })
    }

    /// The next address to ask about at `now`; call until it returns `None`, which also judges those whose time is over.
    pub fn poll(&mut self, now: Instant) -> Option<IpAddr> {
        while let Some(Reverse((due, ip))) = self.due.peek().copied() {
            if due > now {
                return None;
            }
            match self.states.get(&ip).copied() {
                Some(State::Probing { sent }) if sent < PROBES => {
                    if !self.pace.take(1, now) {
                        return None;
                    }
                    self.due.pop();
                    let pause = if sent + 1 < PROBES { INTERVAL } else { WAIT };
                    self.become_at(ip, State::Probing { sent: sent + 1 }, now + pause);
                    return Some(ip);
                }
                Some(State::Probing { .. }) => {
                    self.due.pop();
                    self.become_at(ip, State::Free, now + PROOF);
                    self.changed = true;
                }
                Some(State::Free) => {
                    self.due.pop();
                    self.begin(ip, now);
                    self.changed = true;
                }
                Some(State::Taken { by, until }) if until > now => {
                    self.due.pop();
                    self.become_at(ip, State::Taken { by, until }, until);
                }
                Some(State::Taken { .. }) | None => {
                    self.due.pop();
                    self.states.remove(&ip);
                    self.changed = true;
                }
            }
        }
        None
    }

    /// Takes in one received frame.
    pub fn on_frame(&mut self, bytes: &[u8], now: Instant) {
        if let Some((ip, mac)) = claim(bytes) {
            self.on_claim(ip, mac, now);
        }
    }

    /// Notes that `mac` has `ip`, or wants it as we do.
    pub fn on_claim(&mut self, ip: IpAddr, mac: MacAddr, now: Instant) {
        let until = now + QUARANTINE;
        match self.states.get_mut(&ip) {
            Some(_) if self.ours.contains(&mac) => {}
            // Its entry among those due is moved when its time comes.
            Some(State::Taken { by, until: end }) => {
                *end = until;
                self.changed |= std::mem::replace(by, mac) != mac;
            }
            Some(state @ (State::Probing { .. } | State::Free)) => {
                *state = State::Taken { by: mac, until };
                self.due.retain(|Reverse((_, other))| *other != ip);
                self.due.push(Reverse((until, ip)));
                self.changed = true;
            }
            None => {}
        }
    }

    /// Whether [`Self::findings`] are others than when this was asked last.
    #[must_use]
    pub const fn has_changed(&mut self) -> bool {
        std::mem::replace(&mut self.changed, false)
    }

    /// What is known now.
    #[must_use]
    pub fn findings(&self) -> Findings {
        let mut findings = Findings::default();
        for (ip, state) in &self.states {
            match state {
                State::Probing { .. } => {}
                State::Free => drop(findings.free.insert(*ip)),
                State::Taken { by, .. } => drop(findings.taken.insert(*ip, *by)),
            }
        }
        findings
    }

    fn begin(&mut self, ip: IpAddr, now: Instant) {
        self.become_at(ip, State::Probing { sent: 0 }, now);
    }

    fn become_at(&mut self, ip: IpAddr, state: State, due: Instant) {
        self.states.insert(ip, state);
        self.due.push(Reverse((due, ip)));
    }
}

/// The address that a frame claims for somebody, and for whom. A probe counts: two may not both take an address that
/// both find free (RFC 5227 §2.1.1, RFC 4862 §5.4.3).
fn claim(bytes: &[u8]) -> Option<(IpAddr, MacAddr)> {
    match arp::decode(bytes) {
        Ok(frame) if !frame.sender_ip.is_unspecified() => Some((frame.sender_ip.into(), frame.sender_mac)),
        Ok(frame) => (frame.operation == Operation::Request).then_some((frame.target_ip.into(), frame.sender_mac)),
        Err(DropReason::Foreign) => {
            let frame = ndp::decode(bytes).ok()?;
            Some((frame.claim().unwrap_or(frame.target).into(), frame.sender_mac()))
        }
        Err(_) => None,
    }
}

/// The frame that asks about `ip` from an interface with this hardware address, written to `buffer`.
#[must_use]
pub fn question(mac: MacAddr, ip: IpAddr) -> ([u8; ndp::FRAME_LEN], usize) {
    match ip {
        IpAddr::V4(ip) => {
            let mut bytes = [0; ndp::FRAME_LEN];
            bytes[..arp::FRAME_LEN].copy_from_slice(&arp::encode(&arp::probe(mac, ip)));
            (bytes, arp::FRAME_LEN)
        }
        IpAddr::V6(ip) => ndp::encode(&ndp::probe(mac, ip)),
    }
}

#[cfg(test)]
#[path = "probe_tests.rs"]
mod tests;
