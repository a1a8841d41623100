//! VIPs on the move: who wishes them where, who gives them away, and who still serves the connections of one that has
//! moved.
//!
//! A *wish* is what an operator said last of a VIP, to whichever member; members tell it to each other, so that all rank
//! alike. It lasts until another takes its place, or until no member that knows of it is left.
//! An *offer* is a VIP whose owner is no candidate any more; it answers until somebody else does.
//! Who has handed a VIP over *lingers* for it: [`crate::forward`] says what for.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Eligible, Members, World};
use crate::forward::Facts;
use crate::heartbeat::{MAX_WISHES, Moves, Wish};

/// For how long a VIP is on offer before that is worth telling: longer than any candidate waits.
const STRANDED: Duration = Duration::from_secs(2);

/// Why a VIP cannot be moved to a node.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each field is what the message shows")]
pub enum MoveError {
    /// Nobody has it.
    #[error("no Service has the address {vip}; `kubectl get services -A` or /api/v1/vips list those that are given")]
    NoService { vip: IpAddr },
    /// There is no such member.
    #[error("no speaker is heard on node {node}; those that are: {}", alive.join(", "))]
    NoMember { node: String, alive: Vec<String> },
    /// It may not.
    #[error(
        "node {node} is no candidate for {vip}: it is excluded from load balancers, has no network, or has no ready \
         endpoint of a Service with externalTrafficPolicy Local"
    )]
    NoCandidate { node: String, vip: IpAddr },
    /// It cannot.
    #[error("node {node} cannot announce {vip} now: it has no interface for it, or that is down")]
    Unable { node: String, vip: IpAddr },
    /// It is about to end.
    #[error("the speaker on node {node} is shutting down")]
    Leaving { node: String },
    /// It does not hear us.
    #[error("node {node} is heard and does not hear this node; ask on another one, or repair the network")]
    OneWay { node: String },
    /// Too early.
    #[error("the speakers are finding out who is there; ask again in a second")]
    NotJoined,
}

/// What this member knows of moves.
#[derive(Debug, Default)]
pub(super) struct Moving {
    /// For how long we linger.
    linger: Duration,
    /// Whether we can send packets on.
    forwards: bool,
    /// Until when we linger for a VIP.
    lingering: BTreeMap<IpAddr, Instant>,
    /// Since when VIPs are on offer.
    offered: BTreeMap<IpAddr, Instant>,
    wishes: BTreeMap<IpAddr, Wish>,
}

impl Moving {
    pub(super) const fn forwards(&self) -> bool {
        self.forwards
    }

    /// The node that an operator wants `vip` on.
    pub(super) fn wish(&self, vip: IpAddr) -> Option<&str> {
        self.wishes.get(&vip)?.node.as_deref()
    }

    pub(super) fn wishes(&self) -> BTreeMap<IpAddr, Arc<str>> {
        self.wishes.iter().filter_map(|(vip, wish)| Some((*vip, wish.node.clone()?))).collect()
    }

    pub(super) fn stranded(&self, now: Instant) -> BTreeSet<IpAddr> {
        let long = |since: &Instant| now.saturating_duration_since(*since) >= STRANDED;
        self.offered.iter().filter(|(_, since)| long(since)).map(|(vip, _)| *vip).collect()
    }

    pub(super) fn gain(&mut self, vip: IpAddr) {
        self.lingering.remove(&vip);
    }
}

impl Members {
    /// Says for how long this node serves connections of a VIP that it has handed over, and whether it can send packets
    /// on to who did.
    pub fn set_hand_over(&mut self, linger: Duration, forwards: bool) {
        (self.moving.linger, self.moving.forwards) = (linger, forwards);
    }

    /// Wishes `vip` on `node`, or wherever it belongs for `None`. `stamp` is the time in microseconds since 1970.
    pub fn wish(&mut self, vip: IpAddr, node: Option<&str>, stamp: u64, now: Instant) -> Result<(), MoveError> {
        self.now = self.now.max(now);
        if !self.world.vips.contains_key(&vip) {
            return Err(MoveError::NoService { vip });
        }
        if !self.joined {
            return Err(MoveError::NotJoined);
        }
        if let Some(node) = node {
            self.can_have(node, vip)?;
        }
        let later = self.moving.wishes.get(&vip).map_or(stamp, |known| stamp.max(known.stamp + 1));
        self.take_wishes(vec![Wish { vip, stamp: later, node: node.map(Arc::from) }], now);
        self.send_all();
        Ok(())
    }

    /// Why `node` cannot have `vip`.
    fn can_have(&self, node: &str, vip: IpAddr) -> Result<(), MoveError> {
        let name = || node.to_owned();
        let key: Arc<str> = node.into();
        if self.world.vips.get(&vip).is_some_and(|it| !it.admits(&key)) {
            return Err(MoveError::NoCandidate { node: name(), vip });
        }
        let (leaving, unable, one_way) = if key == self.me {
            (self.leaving, self.world.unable.contains(&vip), false)
        } else if let Some(peer) = self.peers.get(&key).filter(|peer| peer.is_alive()) {
            (peer.beat.flags.leaving, peer.beat.unable.contains(&vip), peer.echoed.is_none())
        } else {
            let alive = self.alive().chain([&*self.me]).map(str::to_owned).collect();
            return Err(MoveError::NoMember { node: name(), alive });
        };
        match (leaving, unable, one_way) {
            (true, ..) => Err(MoveError::Leaving { node: name() }),
            (_, true, _) => Err(MoveError::Unable { node: name(), vip }),
            (.., true) => Err(MoveError::OneWay { node: name() }),
            (false, false, false) => Ok(()),
        }
    }

    /// Takes over what was said later than what we know.
    pub(super) fn take_wishes(&mut self, wishes: Vec<Wish>, now: Instant) {
        for wish in wishes {
            let vip = wish.vip;
            if self.moving.wishes.get(&vip).is_none_or(|known| known.stamp < wish.stamp) {
                self.moving.wishes.insert(vip, wish);
                self.revision += 1;
                self.consider(vip, now);
            }
        }
    }

    /// Looks at once at VIPs for which another node is preferred than before.
    pub(super) fn survey_wanted(&mut self, before: &World, now: Instant) {
        let ours = |it: &&Eligible| it.preferred.as_ref() == Some(&self.me);
        let new = |vip: &IpAddr| before.vips.get(vip).is_none_or(|it| !ours(&it));
        let wanted = self.world.vips.iter().filter(|(vip, it)| ours(it) && new(vip));
        let wanted: Vec<IpAddr> = wanted.map(|(vip, _)| *vip).collect();
        for vip in wanted {
            self.consider(vip, now);
        }
    }

    /// Notes that `vip` was handed over, unless nobody is to have it, or we could not serve it.
    pub(super) fn linger(&mut self, vip: IpAddr) {
        if !self.moving.linger.is_zero() && self.world.vips.contains_key(&vip) && !self.world.unable.contains(&vip) {
            self.moving.lingering.insert(vip, self.now + self.moving.linger);
        }
    }

    /// Once a second: what has passed is forgotten.
    pub(super) fn mind_moves(&mut self, now: Instant) {
        let before = (self.moving.lingering.len(), self.moving.stranded(now).len());
        let world = &self.world;
        self.moving.lingering.retain(|vip, until| *until > now && world.vips.contains_key(vip));
        self.moving.wishes.retain(|vip, _| world.vips.contains_key(vip));
        let offered: Vec<IpAddr> = self.offered().collect();
        self.moving.offered.retain(|vip, _| offered.contains(vip));
        for vip in offered {
            self.moving.offered.entry(vip).or_insert(now);
        }
        if before != (self.moving.lingering.len(), self.moving.stranded(now).len()) {
            (self.listing, self.revision) = (4, self.revision + 1);
        }
    }

    fn offered(&self) -> impl Iterator<Item = IpAddr> {
        self.mine.keys().copied().filter(|vip| !self.may_keep(*vip))
    }

    /// The VIPs that we linger for and whose owner needs it.
    pub(super) fn awaited(&self) -> impl Iterator<Item = IpAddr> {
        let needed = |vip: &IpAddr| self.foreign_owner(*vip).is_some_and(|(_, owner)| owner.beat.flags.forwards);
        self.moving.lingering.keys().copied().filter(needed)
    }

    /// What a beat says of moves.
    pub(super) fn moves(&self) -> Moves {
        let count = self.moving.wishes.len();
        let round = usize::try_from(self.seq).unwrap_or_default().wrapping_mul(MAX_WISHES);
        let wishes = self.moving.wishes.values().cycle().skip(round.checked_rem(count).unwrap_or_default());
        Moves {
            offered: self.offered().collect(),
            lingering: self.moving.lingering.keys().copied().collect(),
            wishes: wishes.take(count.min(MAX_WISHES)).cloned().collect(),
        }
    }

    /// What is to be sent on to whom, as members see it.
    #[must_use]
    pub fn facts(&self) -> Facts {
        let alive = || self.peers.iter().filter(|(_, peer)| peer.is_alive());
        let mut lingerers: BTreeMap<IpAddr, BTreeSet<Arc<str>>> = BTreeMap::new();
        for (name, peer) in alive() {
            for vip in peer.owned.keys().chain(&peer.lingering).filter(|vip| self.mine.contains_key(vip)) {
                lingerers.entry(*vip).or_default().insert(Arc::clone(name));
            }
        }
        Facts {
            lingerers,
            lingering: self.moving.lingering.keys().copied().collect(),
            macs: alive().map(|(name, peer)| (Arc::clone(name), peer.beat.macs.clone())).collect(),
        }
    }
}
