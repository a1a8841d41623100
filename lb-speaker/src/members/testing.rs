//! Whether the LAN hears what members announce: each asks for VIPs of its neighbours, and tells them what it found.
//!
//! ```text
//! once a second ──> test ──> Ask one VIP ──> on_answer ──> findings: told in every beat
//!                                                              │
//!                             complaints: what others tell of our VIPs <──┘
//! ```
//!
//! A new VIP is asked for every [`PERIOD`] or, with more than a hundred members, so rarely that all of them together
//! ask [`TOGETHER`] times a second: everybody on the LAN has to look at each question. What is not answered by its
//! owner, or by somebody else too, is asked again each second until it is right.
//!
//! Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::Bound;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::peer::Peer;
use super::{Action, Members};
use crate::heartbeat::Finding;

/// The least time between two VIPs that are asked for.
pub const PERIOD: Duration = Duration::from_secs(2);
/// Questions a second of all members together, about.
pub const TOGETHER: u32 = 50;
/// Questions without the right answer until that is told.
pub const UNANSWERED: u32 = 3;
/// Seconds without an echo until that is told: the first echo of a new member takes one.
pub const UNECHOED: u32 = 3;
/// VIPs that are asked for at once.
const MOST: usize = 2;

/// The VIPs that are asked for.
#[derive(Debug, Default)]
pub(super) struct Tests {
    running: BTreeMap<IpAddr, Test>,
    /// The last VIP that was begun with; the next one comes behind it.
    last: Option<IpAddr>,
    /// When the next one is begun with.
    due: Option<Instant>,
}

#[derive(Debug)]
struct Test {
    owner: Arc<str>,
    /// Whether the owner answered the last question.
    answered: bool,
    /// Who else did.
    stranger: Option<[u8; 6]>,
    /// Questions in a row without the right answer.
    wrong: u32,
    finding: Option<Finding>,
}

impl Tests {
    /// The member that should answer for `vip`, while that is asked for; else nobody's name.
    pub(super) fn owner(&self, vip: IpAddr) -> &str {
        self.running.get(&vip).map_or("", |test| &test.owner)
    }

    /// Somebody at `mac` answered for `vip`, which `owner` should.
    pub(super) fn on_answer(&mut self, vip: IpAddr, mac: [u8; 6], owner: Option<&Peer>) {
        let (Some(test), Some(owner)) = (self.running.get_mut(&vip), owner) else { return };
        if owner.beat.macs.is_empty() || owner.beat.macs.contains(&mac) {
            test.answered = true;
        } else {
            test.stranger = Some(mac);
        }
    }

    /// What is not as it should be.
    pub(super) fn findings(&self) -> Vec<Finding> {
        self.running.values().filter_map(|test| test.finding).collect()
    }
}

impl Test {
    const fn new(owner: Arc<str>) -> Self {
        Self { owner, answered: false, stranger: None, wrong: 0, finding: None }
    }

    /// Judges the answers to the last question; whether there is no need to ask again.
    fn judge(&mut self, vip: IpAddr) -> bool {
        let is_right = std::mem::take(&mut self.answered) && self.stranger.is_none();
        let answered_by = self.stranger.take();
        if is_right {
            return true;
        }
        self.wrong = (self.wrong + 1).min(UNANSWERED);
        if self.wrong == UNANSWERED {
            self.finding = Some(Finding { vip, answered_by });
        }
        false
    }
}

impl Members {
    /// Judges what was asked a second ago, and asks again or for another VIP.
    pub(super) fn test(&mut self, now: Instant) {
        let owners = self.tested();
        let mut tests = std::mem::take(&mut self.tests);
        tests.running.retain(|vip, test| owners.get(vip) == Some(&test.owner) && !test.judge(*vip));
        if tests.due.is_none_or(|due| now >= due) && tests.running.len() < MOST {
            let together = u32::try_from(self.peers.len() + 1).unwrap_or(u32::MAX);
            tests.due = Some(now + PERIOD.max(Duration::from_secs(1) * together / TOGETHER));
            let behind = tests.last.map_or(Bound::Unbounded, Bound::Excluded);
            let next = owners.range((behind, Bound::Unbounded)).chain(&owners).next();
            tests.last = next.map(|(vip, _)| *vip);
            if let Some((vip, owner)) = next {
                tests.running.entry(*vip).or_insert_with(|| Test::new(Arc::clone(owner)));
            }
        }
        self.out.extend(tests.running.keys().copied().map(Action::Ask));
        self.tests = tests;
    }

    /// The VIPs of neighbours that this node could ask for, as far as their owners are settled.
    fn tested(&self) -> BTreeMap<IpAddr, Arc<str>> {
        let neighbours = self.neighbours();
        let ours = |vip: &IpAddr| self.world.vips.contains_key(vip) && !self.world.unable.contains(vip);
        let owned = neighbours.iter().filter_map(|name| Some((name, self.peers.get(name)?)));
        let owned = owned.filter(|(_, peer)| peer.is_alive() && !peer.beat.flags.leaving);
        let owned = owned.flat_map(|(name, peer)| peer.owned.keys().map(move |vip| (*vip, Arc::clone(name))));
        owned.filter(|(vip, name)| ours(vip) && self.owner(*vip) == Some(&**name)).collect()
    }

    /// Counts the seconds for which peers have not said that they hear us.
    pub(super) fn note_echoes(&mut self) {
        for peer in self.peers.values_mut() {
            peer.unechoed = if peer.is_alive() && peer.echoed.is_none() { peer.unechoed.saturating_add(1) } else { 0 };
        }
    }

    pub(super) fn deaf_to_us(&self) -> BTreeSet<Arc<str>> {
        let deaf =
            self.peers.iter().filter(|(_, peer)| peer.is_alive() && peer.is_beating(self.now) && peer.hears_not_us());
        deaf.map(|(name, _)| Arc::clone(name)).collect()
    }

    /// What others say of VIPs that are ours.
    pub(super) fn complaints(&self) -> BTreeMap<IpAddr, BTreeMap<Arc<str>, Finding>> {
        let mut complaints: BTreeMap<IpAddr, BTreeMap<Arc<str>, Finding>> = BTreeMap::new();
        for (name, peer) in self.peers.iter().filter(|(_, peer)| peer.is_alive()) {
            for finding in peer.beat.findings.iter().filter(|it| self.mine.contains_key(&it.vip)) {
                complaints.entry(finding.vip).or_default().insert(Arc::clone(name), *finding);
            }
        }
        complaints
    }
}
