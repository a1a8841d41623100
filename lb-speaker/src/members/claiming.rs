//! Who answers for a VIP: when it is claimed, and who of two owners stays.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::Bound;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::peer::{Peer, Standing};
use super::{Action, Eligible, Members, PREEMPT_INTERVAL, RANK_DELAY, SURVEYED, UNHEARD_DELAY, WARM_UP};
use crate::election;
use crate::heartbeat::MAX_OWNED;

impl Members {
    /// Of two owners the one with the higher epoch stays, or the better ranked.
    pub(super) fn yield_to(&mut self, name: &Arc<str>, now: Instant) {
        for (vip, epoch) in self.contested(name) {
            self.settle(vip, epoch, name, now);
        }
    }

    /// What both of us say we own, with the other's epoch.
    pub(super) fn contested(&self, name: &Arc<str>) -> Vec<(IpAddr, u64)> {
        let Some(peer) = self.peers.get(name).filter(|peer| peer.is_alive()) else { return Vec::new() };
        let both = peer.owned.iter().filter(|(vip, _)| self.mine.contains_key(vip));
        both.map(|(vip, epoch)| (*vip, *epoch)).collect()
    }

    pub(super) fn settle(&mut self, vip: IpAddr, epoch: u64, name: &Arc<str>, now: Instant) {
        let Some(ours) = self.mine.get(&vip).copied() else { return };
        let ranked = election::ranking(vip, &[&*self.me, &**name]);
        if epoch > ours || (epoch == ours && ranked[0] == &**name) {
            self.lose(vip);
            // Somebody had reason to take it: it is not to be taken back before that has proved to be over.
            self.started = self.started.max(now);
        } else {
            self.out.push_back(Action::Refresh(vip));
        }
        self.changed(now);
    }

    /// Decides for every VIP without an owner, or whose owner leaves, whether and when we claim it.
    pub(super) fn evaluate(&mut self, now: Instant) {
        self.revision += 1;
        if self.leaving || self.isolated || !(self.joined || self.is_alone()) {
            return;
        }
        self.joined = true;
        let settled = self.settled_elsewhere();
        let vips: Vec<IpAddr> = self.world.vips.keys().copied().filter(|vip| !self.mine.contains_key(vip)).collect();
        for vip in vips {
            if settled.contains(&vip) {
                if !self.wanted.contains(&vip) {
                    self.pending.remove(&vip);
                }
                continue;
            }
            self.wanted.remove(&vip);
            match self.rank(vip, false) {
                Some(rank) => {
                    let is_first = self.epochs.get(&vip).is_none_or(|epoch| *epoch == 0);
                    let unheard = if is_first { self.unheard_before(vip).min(5) } else { 0 };
                    self.schedule(vip, now + RANK_DELAY * rank + UNHEARD_DELAY * unheard, now);
                }
                None => drop(self.pending.remove(&vip)),
            }
        }
    }

    /// The VIPs that another member owns and keeps; takes note of every epoch that is told on the way.
    fn settled_elsewhere(&mut self) -> BTreeSet<IpAddr> {
        let mut newest: BTreeMap<IpAddr, (u64, bool)> = BTreeMap::new();
        for peer in self.peers.values() {
            for (vip, epoch) in &peer.owned {
                let known = self.epochs.entry(*vip).or_default();
                *known = epoch.max(known).to_owned();
                if peer.standing != Standing::Lost {
                    let stays = !peer.gives(*vip);
                    let owner = newest.entry(*vip).or_insert((*epoch, stays));
                    *owner = (*owner).max((*epoch, stays));
                }
            }
        }
        newest.into_iter().filter(|(_, (_, stays))| *stays).map(|(vip, _)| vip).collect()
    }

    fn schedule(&mut self, vip: IpAddr, at: Instant, now: Instant) {
        let entry = self.pending.entry(vip).or_insert((at, 0));
        entry.0 = entry.0.min(at).max(now);
    }

    /// Looks whether some of the VIPs that others own should be ours: [`SURVEYED`] at a time, since each of them asks
    /// for the rank of every member.
    pub(super) fn survey(&mut self, now: Instant) {
        let after = self.surveyed.map_or(Bound::Unbounded, Bound::Excluded);
        let round: Vec<IpAddr> =
            self.world.vips.range((after, Bound::Unbounded)).take(SURVEYED).map(|it| *it.0).collect();
        self.surveyed = round.last().copied().filter(|_| round.len() == SURVEYED);
        for vip in round {
            self.consider(vip, now);
        }
    }

    /// Looks whether a VIP that another member owns should be ours.
    pub(super) fn consider(&mut self, vip: IpAddr, now: Instant) {
        match self.preempts(vip, now) {
            Some(at) => {
                self.wanted.insert(vip);
                self.schedule(vip, at, now);
            }
            None if self.wanted.remove(&vip) => drop(self.pending.remove(&vip)),
            None => {}
        }
    }

    /// When we take `vip` from its living owner; `None` for never.
    fn preempts(&self, vip: IpAddr, now: Instant) -> Option<Instant> {
        if !self.joined || self.leaving || self.isolated || self.world.stale.0 || now < self.started + WARM_UP {
            return None;
        }
        let (_, owner) = self.foreign_owner(vip)?;
        let flags = owner.beat.flags;
        let is_far = owner.by_letter || owner.echoed_by_letter;
        let untouchable = flags.leaving || (flags.stale && !flags.outdated) || is_far;
        let ours = !untouchable && self.rank(vip, true) == Some(0);
        ours.then(|| self.preempted.map_or(now, |at| now.max(at + PREEMPT_INTERVAL)))
    }

    pub(super) fn claim_due(&mut self, now: Instant) {
        let due: Vec<IpAddr> = self.pending.iter().filter(|(_, (at, _))| *at <= now).map(|(vip, _)| *vip).collect();
        if self.is_deaf() && !matches!(self.gateway_asked, Some((_, 0))) {
            for (at, _) in self.pending.values_mut() {
                *at = (*at).max(now + Duration::from_millis(1));
            }
            return;
        }
        let mut claimed = false;
        for vip in due {
            let owner = self.foreign_owner(vip).map(|(_, peer)| peer.gives(vip));
            let takes = owner == Some(false);
            if takes && self.preempts(vip, now).is_none() {
                self.wanted.remove(&vip);
                self.pending.remove(&vip);
                continue;
            }
            if takes && self.preempted.is_some_and(|at| now < at + PREEMPT_INTERVAL) {
                self.pending.insert(vip, (now + PREEMPT_INTERVAL, 0));
                continue;
            }
            let asked = self.pending.get(&vip).map_or(0, |(_, asked)| *asked);
            if owner.is_none() && asked < 3 && self.misses_somebody() && !self.was_lost_just_now(vip, now) {
                self.out.push_back(Action::Ask(vip));
                self.pending.insert(vip, (now + self.profile.confirm / 2, asked + 1));
                continue;
            }
            if takes {
                self.preempted = Some(now);
            }
            claimed |= self.claim(vip, now);
        }
        if claimed {
            self.listing = 4;
            self.send_all();
        }
    }

    /// Whether it is ours now.
    pub(super) fn claim(&mut self, vip: IpAddr, now: Instant) -> bool {
        self.revision += 1;
        self.pending.remove(&vip);
        self.wanted.remove(&vip);
        if self.mine.len() >= MAX_OWNED {
            return false;
        }
        let epoch = self.epochs.entry(vip).or_default();
        *epoch = epoch.saturating_add(1);
        self.mine.insert(vip, *epoch);
        self.moving.gain(vip);
        let lost = self.peers.values().filter(|peer| peer.standing == Standing::Lost && peer.owned.contains_key(&vip));
        if let Some(silence) = lost.map(|peer| now.saturating_duration_since(peer.heard)).min() {
            self.tally.takeovers += 1;
            self.tally.last_takeover = Some(silence);
            self.peers.values_mut().filter(|peer| peer.standing == Standing::Lost).for_each(|peer| {
                peer.owned.remove(&vip);
            });
        }
        self.out.push_back(Action::Gain(vip));
        true
    }

    pub(super) fn lose(&mut self, vip: IpAddr) {
        if let Some(epoch) = self.mine.remove(&vip) {
            self.revision += 1;
            let known = self.epochs.entry(vip).or_default();
            *known = epoch.max(*known);
            self.out.push_back(Action::Lose(vip));
            self.linger(vip);
            self.listing = 4;
        }
    }

    pub(super) fn foreign_owner(&self, vip: IpAddr) -> Option<(&Arc<str>, &Peer)> {
        let owners =
            self.peers.iter().filter(|(_, peer)| peer.standing != Standing::Lost && peer.owned.contains_key(&vip));
        owners.max_by_key(|(_, peer)| peer.owned.get(&vip).copied())
    }

    /// Whether we may go on answering for it until somebody else does.
    pub(super) fn may_hold(&self, vip: IpAddr) -> bool {
        let served = |it: &Eligible| it.nodes.as_ref().is_none_or(|nodes| !nodes.is_empty());
        self.world.vips.get(&vip).is_some_and(served) && !self.world.unable.contains(&vip)
    }

    pub(super) fn may_keep(&self, vip: IpAddr) -> bool {
        let eligible = self.world.vips.get(&vip);
        eligible.is_some_and(|it| it.admits(&self.me)) && !self.world.unable.contains(&vip)
    }

    /// How many candidates come before us for `vip`; `None` when we are none. Warming members come last when it is to
    /// be taken from somebody.
    pub(super) fn rank(&self, vip: IpAddr, preempt: bool) -> Option<u32> {
        let eligible = self.world.vips.get(&vip)?;
        if !self.may_keep(vip) {
            return None;
        }
        let fit = |(name, peer): &(&Arc<str>, &Peer)| {
            let flags = peer.beat.flags;
            peer.is_alive()
                && peer.echoed.is_some()
                && !flags.leaving
                && eligible.admits(name)
                && !peer.beat.unable.contains(&vip)
                && !(preempt && flags.warming && !peer.owned.contains_key(&vip))
        };
        let preferred = self.moving.wish(vip).or(eligible.preferred.as_deref());
        let key =
            |name: &str, stale: bool, far: bool| (stale, far, Some(name) != preferred, election::score(vip, name));
        let ours = key(&self.me, self.world.stale.0, self.is_remote());
        let theirs = |name: &str, peer: &Peer| key(name, peer.beat.flags.stale, peer.by_letter);
        let before = self.peers.iter().filter(fit).filter(|(name, peer)| theirs(name, peer) < ours);
        u32::try_from(before.count()).ok()
    }
}
