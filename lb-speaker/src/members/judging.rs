//! Who is alive: suspects who is overdue, asks, and declares lost; excuses others for our own lateness; and whether we
//! are cut off ourselves.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::peer::{Peer, Standing};
use super::{Action, FORGET, Members, SLOW};
use crate::heartbeat::{Beat, id};

impl Members {
    pub(super) fn tick(&mut self, now: Instant) {
        self.judge(now);
        if !self.joined && now >= self.started + self.listening() {
            self.joined = true;
            self.evaluate(now);
        }
        self.claim_due(now);
        self.mind_isolation(now);
        if now >= self.next_slow {
            self.next_slow = now + SLOW;
            let forgotten = |peer: &Peer| now.saturating_duration_since(peer.heard) > FORGET * 10;
            self.peers.retain(|_, peer| peer.is_alive() || !forgotten(peer));
            self.silent.retain(|_, since| now.saturating_duration_since(*since) < SLOW);
            self.evaluate(now);
            self.survey(now);
            self.mind_moves(now);
            self.test(now);
            self.note_echoes();
            self.write(now);
            self.send_all();
        }
        if now >= self.next_beat {
            self.next_beat = now + self.profile.interval;
            self.send_fast();
        }
    }

    /// We were late ourselves: nobody is accused for it. Past all patience others have taken over from us.
    pub(super) fn excuse(&mut self, now: Instant) {
        let late = self.promised.take().map_or(Duration::ZERO, |due| now.saturating_duration_since(due));
        if late <= Duration::from_millis(2) {
            return;
        }
        for peer in self.peers.values_mut() {
            peer.deadline += late;
            if let Standing::Suspect { since, until, .. } = &mut peer.standing {
                *since += late;
                *until += late;
            }
        }
        if late > self.profile.patience() && self.peers.values().any(Peer::is_alive) {
            let all: Vec<IpAddr> = self.mine.keys().copied().collect();
            for vip in all {
                self.lose(vip);
            }
            self.pending.clear();
            self.start_anew(now);
            self.changed(now);
        }
    }

    /// Listens before it claims, and is cold, as after a start.
    pub(super) fn start_anew(&mut self, now: Instant) {
        (self.joined, self.started) = (false, now);
    }

    /// Suspects who is overdue or deaf, asks for its VIP, and ends what was not answered.
    pub(super) fn judge(&mut self, now: Instant) {
        let confirm = self.profile.confirm;
        let (mut lost, mut asks) = (Vec::new(), Vec::new());
        for (name, peer) in &mut self.peers {
            if peer.standing == Standing::Alive && now >= peer.deadline {
                self.tally.suspects += 1;
                peer.standing = Standing::Suspect { asked: 0, since: now, until: now + confirm };
            }
            let Standing::Suspect { asked, since, until } = &mut peer.standing else { continue };
            let Some(vip) = peer.owned.keys().next() else {
                lost.push(Arc::clone(name));
                continue;
            };
            if *asked < 3 && now >= *since + confirm * *asked / 3 {
                *asked += 1;
                asks.push(*vip);
            } else if now >= *until {
                lost.push(Arc::clone(name));
            }
        }
        self.out.extend(asks.into_iter().map(Action::Ask));
        let any = !lost.is_empty();
        for name in lost {
            let Some(peer) = self.peers.get_mut(&name) else { continue };
            peer.lose(now);
            self.tally.losses += 1;
            self.silent.insert(id(&name), now);
        }
        if any {
            self.changed(now);
        }
    }

    /// Others found a peer silent: unless it has just been heard, ask it.
    pub(super) fn heed(&mut self, silent: &[u64], now: Instant) {
        if silent.is_empty() {
            return;
        }
        let (interval, confirm) = (self.profile.interval, self.profile.confirm);
        for (name, peer) in &mut self.peers {
            let fresh = now.saturating_duration_since(peer.heard) < interval * 2;
            let watched = peer.interval < SLOW;
            if silent.contains(&id(name)) && peer.standing == Standing::Alive && !fresh && !watched {
                peer.standing = Standing::Suspect { asked: 0, since: now, until: now + confirm };
            }
        }
    }

    /// Hearing nobody: if the gateway does not answer either, we are cut off, and stop.
    pub(super) fn mind_isolation(&mut self, now: Instant) {
        let deaf = self.is_deaf();
        if !deaf {
            self.gateway_asked = None;
            return;
        }
        let (at, asked) = self.gateway_asked.unwrap_or((now, 0));
        if now < at {
            return;
        }
        if asked == 3 && !self.isolated {
            self.isolated = true;
            self.pending.clear();
            let all: Vec<IpAddr> = self.mine.keys().copied().collect();
            for vip in all {
                self.lose(vip);
            }
        }
        let pause = if self.isolated { SLOW } else { Duration::from_millis(20) };
        self.out.push_back(Action::AskGateway);
        self.gateway_asked = Some((now + pause, (asked + 1).min(3)));
    }

    /// Whether no peer is heard, so that the gateway has to tell whether that is our own fault.
    pub(super) fn is_deaf(&self) -> bool {
        self.world.gateway
            && !self.peers.is_empty()
            && !self.peers.values().any(|peer| peer.is_alive() && !peer.by_letter)
    }

    /// Whether a configured member has never been heard, or by letter only, so that a VIP may have an owner that we do not
    /// hear.
    pub(super) fn misses_somebody(&self) -> bool {
        self.relies_on_letters()
            || self.world.configured.iter().any(|name| *name != self.me && !self.peers.contains_key(name))
    }

    /// Whether its last owner was asked already.
    pub(super) fn was_lost_just_now(&self, vip: IpAddr, now: Instant) -> bool {
        if self.relies_on_letters() {
            return false;
        }
        let lost = |peer: &Peer| peer.standing == Standing::Lost && peer.owned.contains_key(&vip);
        self.peers.values().any(|peer| lost(peer) && now.saturating_duration_since(peer.heard) < FORGET)
    }

    pub(super) fn is_alone(&self) -> bool {
        self.peers.is_empty()
            && self.world.configured.iter().all(|name| *name == self.me)
            && !self.world.configured.is_empty()
    }

    pub(super) fn is_replay(&self, beat: &Beat, now: Instant) -> bool {
        self.peers.get(&beat.node).is_some_and(|peer| {
            let forgotten = peer.standing == Standing::Lost && now.saturating_duration_since(peer.heard) > FORGET;
            !forgotten && (beat.boot, beat.seq) <= (peer.beat.boot, peer.beat.seq)
        })
    }

    pub(super) fn listening(&self) -> Duration {
        (self.profile.patience() * 2).max(Duration::from_millis(300))
    }
}
