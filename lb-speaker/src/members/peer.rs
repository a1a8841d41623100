//! What is known of one peer, and what a beat changes about it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::{FLAPPING, FORGET, SLOW};
use crate::heartbeat::Beat;

/// What we know of a peer.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) beat: Beat,
    pub(super) heard: Instant,
    pub(super) deadline: Instant,
    /// Until when we say that we hear it: by what it promised with its last beat, whatever we think of it.
    pub(super) audible_until: Instant,
    /// What it promised us.
    pub(super) interval: Duration,
    /// Until when its heartbeats are not missed.
    pub(super) beaten_until: Instant,
    /// Whether the newest beat of it came by letter.
    pub(super) by_letter: bool,
    /// When it last said that it hears us.
    pub(super) echoed: Option<Instant>,
    /// Whether it hears us by letter only.
    pub(super) echoed_by_letter: bool,
    /// Seconds since then, while we hear it.
    pub(super) unechoed: u32,
    pub(super) owned: BTreeMap<IpAddr, u64>,
    /// The VIPs that it still serves connections of.
    pub(super) lingering: BTreeSet<IpAddr>,
    pub(super) standing: Standing,
    pub(super) penalty: f64,
    pub(super) penalised: Instant,
    pub(super) held_until: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Alive,
    /// Asked `asked` times; unless it answers it is lost at `until`.
    Suspect {
        asked: u32,
        since: Instant,
        until: Instant,
    },
    Lost,
}

impl Peer {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            beat: Beat::default(),
            heard: now,
            deadline: now,
            audible_until: now,
            interval: SLOW,
            beaten_until: now,
            by_letter: false,
            echoed: None,
            echoed_by_letter: false,
            unechoed: 0,
            owned: BTreeMap::new(),
            lingering: BTreeSet::new(),
            standing: Standing::Alive,
            penalty: 0.0,
            penalised: now,
            held_until: None,
        }
    }

    /// Whether its beats arrive, whatever else is wrong with it.
    pub(super) fn is_audible(&self, now: Instant) -> bool {
        now < self.audible_until
    }

    /// Whether it answers for this VIP only until another member does.
    pub(super) fn gives(&self, vip: IpAddr) -> bool {
        self.beat.flags.leaving || self.beat.moves.offered.contains(&vip)
    }

    pub(super) fn is_alive(&self) -> bool {
        matches!(self.standing, Standing::Alive | Standing::Suspect { .. })
    }

    /// Takes over a newer beat; whether it says something that matters to who owns what.
    pub(super) fn take(&mut self, beat: Beat, echoed: Option<Instant>, now: Instant) -> bool {
        let was = (self.is_alive(), self.echoed.is_some(), self.beat.flags, self.beat.boot);
        let unable_before = std::mem::take(&mut self.beat.unable);
        if beat.boot != self.beat.boot {
            self.owned.clear();
            self.lingering.clear();
            self.interval = SLOW;
        }
        if beat.interval != 0 {
            self.interval = Duration::from_millis(beat.interval.into());
        } else if self.by_letter {
            self.interval = SLOW;
        }
        let mut changed = unable_before != beat.unable
            || self.beat.moves.offered != beat.moves.offered
            || self.beat.findings != beat.findings;
        if let Some(owned) = &beat.owned {
            let owned = owned.iter().map(|claim| (claim.vip, claim.epoch)).collect();
            let lingering = beat.moves.lingering.iter().copied().collect();
            changed |= self.owned != owned || self.lingering != lingering;
            (self.owned, self.lingering) = (owned, lingering);
        }
        self.echoed =
            echoed.or(self.echoed.filter(|at| now.saturating_duration_since(*at) < SLOW * 4 && was.3 == beat.boot));
        self.heard = now;
        self.audible_until = now + self.interval * u32::from(beat.misses.max(1));
        // An owner that hears nobody is deaf: its beats do not count as a sign of life, until it has just begun.
        let deaf = beat.heard.is_empty() && !self.owned.is_empty() && !beat.flags.joining;
        let relevant = !deaf || echoed.is_some();
        if relevant || was.3 != beat.boot {
            self.deadline = now + self.interval * u32::from(beat.misses.max(1));
            self.standing = Standing::Alive;
        } else {
            self.deadline = self.deadline.min(now);
        }
        self.beat = beat;
        changed || was != (self.is_alive(), self.echoed.is_some(), self.beat.flags, self.beat.boot)
    }

    /// Declares it lost, and counts that against it.
    pub(super) fn lose(&mut self, now: Instant) {
        let age = now.saturating_duration_since(self.penalised).as_secs_f64();
        self.penalty = self.penalty * (-age / FORGET.as_secs_f64()).exp2() + 1.0;
        self.penalised = now;
        if self.penalty > FLAPPING {
            let doublings = (self.penalty - FLAPPING).min(4.0);
            self.held_until = Some(now + FORGET.mul_f64(doublings.exp2().min(10.0)));
        }
        self.standing = Standing::Lost;
        self.echoed = None;
        self.interval = SLOW;
    }
}
