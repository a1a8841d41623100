//! Letters: beats by way of the API server, where heartbeats do not get through.
//!
//! A member that should be there and is not heard, or does not hear us, is written to: a beat that promises the next
//! one after [`PERIOD`] is shown to all. What follows from a beat follows from a letter, at the speed of letters:
//!
//! | case                                   | what happens                                                           |
//! |----------------------------------------|------------------------------------------------------------------------|
//! | heartbeats are blocked                 | letters tell who is there and who owns what                            |
//! | both of us own a VIP, by a letter      | asked by ARP; who answers is on our LAN: settled as ever               |
//! | the LAN is in halves, the API is not   | it does not answer: each half keeps its owner                          |
//! | an owner that is known by letter dies  | asked by ARP every [`ASKED`]; no answer: it is lost, another claims    |
//! | one that owns nothing dies             | lost after four letters that did not come                              |
//! | the API server is away too             | owners that answer ARP stay; the others are lost                       |
//! | a member is heard only by letter       | ranks behind those with heartbeats, and takes nothing from them        |
//! | its speaker does not run               | no letters come; after [`EAGER`] it is written to [`RARELY`] only      |
//! | its node is not ready                  | it is not written to                                                   |
//!
//! A letter counts once: it has to be newer than one that was seen before, since what was written stays there when its
//! writer is gone.
//!
//! Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::peer::{Peer, Standing};
use super::testing::UNECHOED;
use super::{Action, Members, SLOW};
use crate::heartbeat::{Beat, Heard, id};

/// The time between two letters; with many members longer, by [`SPREAD`] each.
pub const PERIOD: Duration = Duration::from_secs(5);
/// What each member adds to [`PERIOD`], so that all of them together write so much and no more.
pub const SPREAD: Duration = Duration::from_millis(40);
/// How long somebody who does not write back is written to at that pace.
pub const EAGER: Duration = Duration::from_mins(2);
/// The time between two letters from then on.
pub const RARELY: Duration = Duration::from_secs(30);
/// How often an owner that is known by letter is asked by ARP.
pub const ASKED: Duration = Duration::from_secs(3);
/// How long somebody may be missing before that is dealt with.
const GRACE: Duration = Duration::from_secs(3);
/// Letters that may be missed.
const MISSES: u8 = 4;
/// Peers that a letter says it hears.
const ECHOED: usize = 16;

/// What is known of letters.
#[derive(Debug, Default)]
pub(super) struct Letters {
    /// The newest of each member that was ever seen.
    seen: BTreeMap<Arc<str>, (u64, u64)>,
    /// Since when somebody is missing.
    missing_since: Option<Instant>,
    written: Option<Instant>,
}

impl Members {
    /// Takes in a letter that was signed with our key.
    pub fn on_letter(&mut self, beat: Beat, now: Instant) {
        if beat.node == self.me {
            return;
        }
        let stamp = (beat.boot, beat.seq);
        let before = self.letters.seen.insert(Arc::clone(&beat.node), stamp);
        let is_newer = before.is_some_and(|before| before < stamp);
        let peer = self.peers.get(&beat.node);
        let is_news = peer.is_none_or(|peer| (peer.beat.boot, peer.beat.seq) < stamp);
        if is_newer && is_news && !peer.is_some_and(|peer| peer.is_beating(now)) {
            self.hear(beat, true, now);
        }
    }

    /// Writes a letter if somebody needs one.
    pub(super) fn write(&mut self, now: Instant) {
        if self.missing().is_empty() {
            self.letters.missing_since = None;
            return;
        }
        let since = *self.letters.missing_since.get_or_insert(now);
        let pause = {
            let writes_back = self.peers.values().any(|peer| peer.by_letter && peer.is_alive());
            let is_new = now.saturating_duration_since(since) < EAGER;
            if writes_back || is_new { PERIOD } else { RARELY }
        };
        let members = u32::try_from(self.world.configured.len()).unwrap_or(u32::MAX);
        let pause = pause + SPREAD.saturating_mul(members);
        let is_due = self.letters.written.is_none_or(|written| now >= written + pause);
        if now < since + GRACE || !is_due {
            return;
        }
        self.letters.written = Some(now);
        let mut beat = self.beat(None, u16::try_from(pause.as_millis()).unwrap_or(u16::MAX), true);
        beat.misses = MISSES;
        beat.heard = self.echoes_by_letter();
        self.out.push_back(Action::Post(Box::new(beat)));
    }

    /// The members that should be there and do not hear our heartbeats, or we not theirs.
    fn missing(&self) -> BTreeSet<Arc<str>> {
        let is_missing = |name: &&Arc<str>| match self.peers.get(*name) {
            None => true,
            Some(peer) => !peer.is_beating(self.now) || peer.hears_not_us(),
        };
        let ready =
            self.world.configured.iter().filter(|name| **name != self.me && !self.world.unready.contains(*name));
        ready.filter(is_missing).cloned().collect()
    }

    /// Those whose heartbeats we do not hear and that are there all the same, by their letters or by ARP.
    pub(super) fn blocked(&self) -> BTreeSet<Arc<str>> {
        let blocked = |peer: &Peer| peer.is_alive() && self.now >= peer.beaten_until + GRACE;
        self.peers.iter().filter(|(_, peer)| blocked(peer)).map(|(name, _)| Arc::clone(name)).collect()
    }

    fn echoes_by_letter(&self) -> Vec<Heard> {
        let heard = self.peers.iter().filter(|(_, peer)| peer.is_audible(self.now));
        let needed = heard.filter(|(_, peer)| !peer.is_beating(self.now) || peer.hears_not_us());
        needed.take(ECHOED).map(|(name, peer)| self.echo(name, peer)).collect()
    }

    pub(super) fn echo(&self, name: &str, peer: &Peer) -> Heard {
        Heard {
            id: id(name),
            boot: peer.beat.boot,
            seq: peer.beat.seq,
            held: peer.held_until.is_some_and(|until| until > peer.heard),
            by_letter: !peer.is_beating(self.now),
        }
    }

    /// Who writes that it owns what we own may be on another LAN, or not heard there: only if it answers for it here do we
    /// settle it.
    pub(super) fn ask_for_contested(&mut self, name: &Arc<str>) {
        let contested = self.contested(name);
        self.out.extend(contested.into_iter().map(|(vip, _)| Action::Ask(vip)));
    }

    /// Somebody at `mac` answered for `vip`: it may be who wrote that it owns it too.
    pub(super) fn settle_by_letter(&mut self, vip: IpAddr, mac: [u8; 6], now: Instant) {
        let writes = |peer: &Peer| peer.by_letter && peer.is_alive() && peer.beat.macs.contains(&mac);
        let mut rivals = self.peers.iter().filter(|(_, peer)| writes(peer));
        let rival = rivals.find_map(|(name, peer)| Some((Arc::clone(name), *peer.owned.get(&vip)?)));
        if let Some((name, epoch)) = rival {
            self.settle(vip, epoch, &name, now);
        }
    }

    /// Whether VIPs may have owners that were not heard of yet: their letters are on the way.
    pub(super) fn relies_on_letters(&self) -> bool {
        self.peers.values().any(|peer| peer.by_letter && peer.is_alive())
    }

    /// Whether all others hear us by letter only, so that we rank behind those with heartbeats.
    pub(super) fn is_remote(&self) -> bool {
        let mut alive = self.peers.values().filter(|peer| peer.is_alive()).peekable();
        alive.peek().is_some() && alive.all(|peer| peer.by_letter || peer.echoed_by_letter)
    }

    /// Configured members that were never heard of and would come before us.
    pub(super) fn unheard_before(&self, vip: IpAddr) -> u32 {
        let Some(eligible) = self.world.vips.get(&vip) else { return 0 };
        let ours = crate::election::score(vip, &self.me);
        let unheard =
            self.world.configured.iter().filter(|name| {
                **name != self.me && !self.peers.contains_key(*name) && !self.world.unready.contains(*name)
            });
        let before = unheard.filter(|name| eligible.admits(name) && crate::election::score(vip, name) < ours);
        u32::try_from(before.count()).unwrap_or(u32::MAX)
    }
}

impl Peer {
    /// Whether its heartbeats arrive.
    pub(super) fn is_beating(&self, now: Instant) -> bool {
        now < self.beaten_until
    }

    /// Whether it has not heard a heartbeat of ours for some time.
    pub(super) const fn hears_not_us(&self) -> bool {
        self.unechoed >= UNECHOED || (self.echoed.is_some() && self.echoed_by_letter)
    }

    /// Notes how its newest beat came, with the time until which it promised to be heard.
    pub(super) fn note_way(&mut self, by_letter: bool, now: Instant) {
        self.by_letter = by_letter;
        if by_letter {
            if !self.owned.is_empty() && self.standing == Standing::Alive {
                self.deadline = self.deadline.min(now + ASKED);
            }
        } else {
            self.beaten_until = now + self.interval.max(SLOW) * u32::from(self.beat.misses.max(1));
        }
    }
}
