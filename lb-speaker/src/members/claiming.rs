//! Who answers for a VIP: when it is claimed, and who of two owners stays.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::peer::{Peer, Standing};
use super::{Action, Members, PREEMPT_INTERVAL, RANK_DELAY, WARM_UP};
use crate::election;
use crate::heartbeat::MAX_OWNED;

impl Members {
    /// Of two owners the one with the higher epoch stays, or the better ranked.
    pub(super) fn yield_to(&mut self, name: &Arc<str>, now: Instant) {
        let Some(peer) = self.peers.get(name).filter(|peer| peer.is_alive()) else { return };
        let contested: Vec<(IpAddr, u64)> = peer
            .owned
            .iter()
            .filter(|(vip, _)| self.mine.contains_key(vip))
            .map(|(vip, epoch)| (*vip, *epoch))
            .collect();
        for (vip, epoch) in contested {
            let ours = self.mine[&vip];
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
    }

    /// Decides for every VIP whether and when we claim it.
    pub(super) fn evaluate(&mut self, now: Instant) {
        self.revision += 1;
        if self.leaving || self.isolated || !(self.joined || self.is_alone()) {
            return;
        }
        self.joined = true;
        let vips: Vec<IpAddr> = self.world.vips.keys().copied().filter(|vip| !self.mine.contains_key(vip)).collect();
        for vip in vips {
            for peer in self.peers.values() {
                let seen = peer.owned.get(&vip).copied().unwrap_or_default();
                let known = self.epochs.entry(vip).or_default();
                *known = seen.max(*known);
            }
            let orphan_rank = self.rank(vip, false);
            let wanted = match self.foreign_owner(vip) {
                None => orphan_rank.map(|rank| now + RANK_DELAY * rank),
                Some((_, peer)) if peer.beat.flags.leaving => orphan_rank.map(|rank| now + RANK_DELAY * rank),
                Some((_, peer)) => self.preempts(vip, peer, now),
            };
            match wanted {
                Some(at) => {
                    let entry = self.pending.entry(vip).or_insert((at, 0));
                    entry.0 = entry.0.min(at).max(now);
                }
                None => drop(self.pending.remove(&vip)),
            }
        }
    }

    /// When we take `vip` from its living owner; `None` for never.
    pub(super) fn preempts(&self, vip: IpAddr, owner: &Peer, now: Instant) -> Option<Instant> {
        let warm = now >= self.started + WARM_UP && self.rank(vip, true) == Some(0);
        let stale = owner.beat.flags.stale && !owner.beat.flags.outdated;
        (warm && !stale && !self.world.stale.0).then(|| self.preempted.map_or(now, |at| now.max(at + PREEMPT_INTERVAL)))
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
            let owner = self.foreign_owner(vip).map(|(_, peer)| peer.beat.flags.leaving);
            let takes = owner == Some(false);
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
        if self.mine.len() >= MAX_OWNED {
            return false;
        }
        let epoch = self.epochs.entry(vip).or_default();
        *epoch = epoch.saturating_add(1);
        self.mine.insert(vip, *epoch);
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
            self.listing = 4;
        }
    }

    pub(super) fn foreign_owner(&self, vip: IpAddr) -> Option<(&Arc<str>, &Peer)> {
        let owners =
            self.peers.iter().filter(|(_, peer)| peer.standing != Standing::Lost && peer.owned.contains_key(&vip));
        owners.max_by_key(|(_, peer)| peer.owned.get(&vip).copied())
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
        let candidates = self.peers.iter().filter(fit).map(|(name, peer)| (&**name, peer.beat.flags.stale));
        let candidates: Vec<(&str, bool)> = candidates.chain([(&*self.me, self.world.stale.0)]).collect();
        let names: Vec<&str> = candidates.iter().map(|(name, _)| *name).collect();
        let mut ranked = election::ranking(vip, &names);
        let preferred = eligible.preferred.as_deref();
        ranked.sort_by_key(|name| {
            (candidates.iter().any(|(other, stale)| other == name && *stale), Some(*name) != preferred)
        });
        ranked.iter().position(|name| *name == &*self.me).and_then(|at| u32::try_from(at).ok())
    }
}
