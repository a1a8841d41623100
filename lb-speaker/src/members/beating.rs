//! What is said, to whom, and how often.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use super::peer::{Peer, Standing};
use super::{Action, CROWD, FORGET, LISTED, Members, NEIGHBOURS, SLOW, WARM_UP};
use crate::heartbeat::{Beat, Claim, Flags, Heard, MAX_HEARD, id};

impl Members {
    /// Something that everybody should know at once.
    pub(super) fn changed(&mut self, now: Instant) {
        self.listing = 4;
        self.evaluate(now);
        self.send_all();
    }

    /// Tells everybody; in a crowd each gets a beat of its own, lest the list of whom we hear be long in all of them.
    pub(super) fn send_all(&mut self) {
        if self.peers.len() <= CROWD {
            let beat = self.beat(None, 0, true);
            self.out.push_back(Action::Send(None, Box::new(beat)));
            return;
        }
        let mut all: BTreeSet<Arc<str>> = self.peers.keys().chain(&self.world.configured).cloned().collect();
        all.remove(&self.me);
        for name in all {
            let beat = self.beat(Some(&name), 0, true);
            self.out.push_back(Action::Send(Some(name), Box::new(beat)));
        }
        let beat = self.beat(None, 0, true);
        self.out.push_back(Action::Flood(Box::new(beat)));
    }

    /// Beats to the neighbours; who is one no longer is told so a few times.
    pub(super) fn send_fast(&mut self) {
        let neighbours = self.neighbours();
        for name in &neighbours {
            self.fast.insert(Arc::clone(name), 3);
        }
        self.listing = self.listing.saturating_sub(1);
        let all = self.listing > 0 || self.mine.len() <= LISTED;
        let targets: Vec<Arc<str>> = self.fast.keys().cloned().collect();
        for name in targets {
            let near = neighbours.contains(&name);
            let interval = if near { self.profile.interval } else { SLOW };
            let beat = self.beat(Some(&name), u16::try_from(interval.as_millis()).unwrap_or(u16::MAX), all);
            let left = self.fast.get_mut(&name).map_or(0, |left| {
                *left -= u8::from(!near);
                *left
            });
            if left == 0 {
                self.fast.remove(&name);
            }
            self.out.push_back(Action::Send(Some(name), Box::new(beat)));
        }
        self.call_lost();
    }

    /// Beats to some that were lost not long ago, four times slower than to neighbours: when a partition heals, two
    /// owners of a VIP shall not have to wait for the slow beat to hear of each other.
    fn call_lost(&mut self) {
        self.calls = self.calls.wrapping_add(1);
        if self.mine.is_empty() || !self.calls.is_multiple_of(4) {
            return;
        }
        let recent = |peer: &Peer| self.now.saturating_duration_since(peer.heard) < FORGET;
        let lost = self.peers.iter().filter(|(_, peer)| peer.standing == Standing::Lost && recent(peer));
        let lost: Vec<Arc<str>> = lost.map(|(name, _)| Arc::clone(name)).take(NEIGHBOURS * 2).collect();
        for name in lost {
            let beat = self.beat(Some(&name), 0, self.mine.len() <= LISTED);
            self.out.push_back(Action::Send(Some(name), Box::new(beat)));
        }
    }

    /// The peers that we beat fast with: those next to us on the ring, if either side owns something. Until we have
    /// joined, everybody near.
    pub(super) fn neighbours(&self) -> BTreeSet<Arc<str>> {
        let mut ring: Vec<(u64, &Arc<str>)> = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.standing != Standing::Lost)
            .map(|(name, _)| (id(name), name))
            .collect();
        ring.push((id(&self.me), &self.me));
        ring.sort_unstable();
        let at = ring.iter().position(|(_, name)| **name == self.me).unwrap_or(0);
        let len = ring.len();
        let near = (1..=NEIGHBOURS.min(len - 1)).flat_map(|step| [(at + step) % len, (at + len - step) % len]);
        near.map(|at| ring[at].1)
            .filter(|name| **name != self.me)
            .filter(|name| !self.mine.is_empty() || self.peers.get(*name).is_some_and(|peer| !peer.owned.is_empty()))
            .cloned()
            .collect()
    }

    /// The next beat, for one peer or for all. It says whom we hear, or of a crowd whether we hear that one peer and that
    /// we are not deaf.
    pub(super) fn beat(&mut self, to: Option<&Arc<str>>, interval: u16, all: bool) -> Beat {
        self.seq += 1;
        let is_crowd = self.peers.len() > CROWD;
        let heard = self.peers.iter().filter(|(_, peer)| peer.is_audible(self.now));
        let is_asked = |name: &&Arc<str>| to == Some(*name);
        let (asked, others): (Vec<_>, Vec<_>) = heard.partition(|(name, _)| is_asked(name));
        let most = if is_crowd { NEIGHBOURS } else { MAX_HEARD };
        let heard = asked.into_iter().chain(others).take(most);
        let heard: Vec<Heard> = heard.map(|(name, peer)| self.echo(name, peer)).collect();
        let (warming, forwards) = (self.now < self.started + WARM_UP, self.moving.forwards());
        let (stale, outdated) = self.world.stale;
        let disowned = self.peers.values().flat_map(|peer| peer.owned.keys());
        let moves = self.moves();
        let disowned = disowned.filter(|vip| !stale && !self.world.vips.contains_key(vip)).copied().take(64).collect();
        Beat {
            node: Arc::clone(&self.me),
            boot: self.boot,
            seq: self.seq,
            interval,
            misses: self.profile.misses,
            flags: Flags { leaving: self.leaving, joining: !self.joined, warming, stale, outdated, forwards },
            generation: self.world.generation,
            macs: self.world.macs.clone(),
            heard,
            owned: all.then(|| self.mine.iter().map(|(vip, epoch)| Claim { vip: *vip, epoch: *epoch }).collect()),
            unable: self.world.unable.iter().copied().collect(),
            disowned,
            silent: self.silent.keys().copied().take(16).collect(),
            moves,
            findings: self.tests.findings(),
        }
    }
}
