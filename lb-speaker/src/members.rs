//! Who is alive, and who of them answers for a VIP.
//!
//! ```text
//! set_world (what the API says) ──┐
//! on_beat   (what a peer says)  ──┼──> Members ──> poll ──> Send a beat, Ask by ARP, Gain or Lose a VIP
//! on_answer (who answers ARP)   ──┘
//! ```
//!
//! Who may own a VIP is ranked by [`crate::election`]; liveness comes from heartbeats alone. A peer tells how soon its
//! next beat comes; when it misses too many it is *suspected*, and asked by ARP for a VIP it owns. If that is
//! answered, the path of the heartbeats is broken and not the owner. Else it is *lost*, and who follows in rank claims.
//!
//! | case                               | what happens                                                             |
//! |------------------------------------|--------------------------------------------------------------------------|
//! | owner dies                         | suspect, ask, no answer: the next in rank claims with the epoch plus one |
//! | owner and its successor die        | rank `r` claims after `r` times [`RANK_DELAY`]                           |
//! | heartbeats are blocked, ARP is not | the owner answers what it is asked, and stays; a false alarm is counted  |
//! | owner deaf: it hears nobody        | its beats say so: suspect; deaf to ARP too, it is lost                   |
//! | owner mute: nobody hears it        | as dead; it hears the claim of a higher epoch and stops                  |
//! | we are deaf                        | ask the gateway 3 times; no answer: give all up ([`Members::isolated`])  |
//! | we were stopped or stalled         | peers are not accused; stalled past the deadline, we give all up         |
//! | partition                          | each half has an owner, since each half's clients reach theirs           |
//! | partition healed, two owners       | higher epoch, then better rank; the loser stops with the first beat      |
//! | owner leaves                       | the successor claims first; only that makes the owner stop               |
//! | better candidate returns           | takes over once warm, at most [`PREEMPT_INTERVAL`] apart                 |
//! | member flaps                       | peers hold it: it takes over nothing that has an owner                   |
//! | view of the API is stale           | ranks behind fresh members; obeys a fresh one that disowns a VIP         |
//! | started anew                       | asks everybody and listens before it claims                              |
//! | only member                        | claims at once                                                           |
//!
//! Everybody beats fast with its [`NEIGHBOURS`] on a ring of all members, if either owns a VIP, and once a second to
//! all; who finds a neighbour silent tells the others, who then ask for themselves. So traffic does not grow with the
//! number of members beyond one beat a second each.
//!
//! Pure. The wire format: [`crate::heartbeat`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::election;
use crate::heartbeat::{Beat, Claim, Flags, Heard, MAX_HEARD, MAX_OWNED, id};

/// How much longer each rank waits before it claims.
pub const RANK_DELAY: Duration = Duration::from_millis(15);
/// Least time between two VIPs taken from a living owner.
pub const PREEMPT_INTERVAL: Duration = Duration::from_millis(100);
/// How long a member must have run before it takes a VIP from a living owner.
pub const WARM_UP: Duration = Duration::from_secs(10);
/// Time between the beats that go to everybody.
pub const SLOW: Duration = Duration::from_secs(1);
/// Neighbours on the ring, in each direction.
pub const NEIGHBOURS: usize = 3;
/// Owned VIPs that are listed in every beat; more are listed when they change and with the slow beat.
const LISTED: usize = 32;
/// When a lost peer's boot is forgotten, so that a clock set back does not shut it out for ever.
const FORGET: Duration = Duration::from_mins(1);
/// Losses by which a peer flaps, each halved after [`FORGET`].
const FLAPPING: f64 = 3.0;

/// How fast failures are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Profile {
    /// The time between two beats.
    pub interval: Duration,
    /// How many may be missed.
    pub misses: u8,
    /// How long an owner has to answer ARP when it is suspected.
    pub confirm: Duration,
}

impl Profile {
    /// 10 ms, 3 misses; wants real-time scheduling.
    pub const FAST: Self = Self::new(10, 3, 5);
    /// 25 ms, 4 misses.
    pub const DEFAULT: Self = Self::new(25, 4, 10);
    /// 100 ms, 4 misses.
    pub const SAFE: Self = Self::new(100, 4, 20);
    /// 500 ms, 4 misses.
    pub const WAN: Self = Self::new(500, 4, 100);

    const fn new(interval: u64, misses: u8, confirm: u64) -> Self {
        Self { interval: Duration::from_millis(interval), misses, confirm: Duration::from_millis(confirm) }
    }

    /// The profile of this name: `fast`, `default`, `safe` or `wan`.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "fast" => Self::FAST,
            "default" => Self::DEFAULT,
            "safe" => Self::SAFE,
            "wan" => Self::WAN,
            _ => return None,
        })
    }

    /// How long a peer may be silent.
    #[must_use]
    pub fn patience(&self) -> Duration {
        self.interval * u32::from(self.misses)
    }
}

/// What is known from elsewhere than heartbeats.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct World {
    /// The VIPs to be owned by somebody, and by whom.
    pub vips: BTreeMap<IpAddr, Eligible>,
    /// VIPs that this node could not announce now, for want of an interface.
    pub unable: BTreeSet<IpAddr>,
    /// Hardware addresses that this node answers ARP from.
    pub macs: Vec<[u8; 6]>,
    /// The generation of the snapshot.
    pub generation: u64,
    /// Whether the view of the API is older than 30 s, and than 10 min.
    pub stale: (bool, bool),
    /// Whether there is a gateway that can be asked.
    pub gateway: bool,
    /// Members that are configured, whether or not they run; empty when that is not known.
    pub configured: BTreeSet<Arc<str>>,
}

/// Who may own a VIP.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Eligible {
    /// The nodes; `None` for any member.
    pub nodes: Option<BTreeSet<Arc<str>>>,
    /// The node that comes first if it can.
    pub preferred: Option<Arc<str>>,
}

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send this to one member, or to everybody.
    Send(Option<Arc<str>>, Box<Beat>),
    /// Ask by ARP or NDP who has this VIP.
    Ask(IpAddr),
    /// Ask the gateway whether we hear at all; [`Members::on_gateway`] takes the answer.
    AskGateway,
    /// Announce this VIP.
    Gain(IpAddr),
    /// Stop answering for this VIP, at once.
    Lose(IpAddr),
    /// Announce this VIP again: another member thought it had it.
    Refresh(IpAddr),
}

/// What has been counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Peers suspected.
    pub suspects: u64,
    /// Suspected peers that answered ARP.
    pub false_alarms: u64,
    /// Peers lost.
    pub losses: u64,
    /// VIPs taken over from a lost peer.
    pub takeovers: u64,
    /// From the last beat of the last lost owner to our claim.
    pub last_takeover: Option<Duration>,
}

/// What we know of a peer.
#[derive(Debug)]
struct Peer {
    beat: Beat,
    heard: Instant,
    deadline: Instant,
    /// What it promised us.
    interval: Duration,
    /// When it last said that it hears us.
    echoed: Option<Instant>,
    owned: BTreeMap<IpAddr, u64>,
    standing: Standing,
    penalty: f64,
    penalised: Instant,
    held_until: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Alive,
    /// Asked `asked` times; unless it answers it is lost at `until`.
    Suspect {
        asked: u32,
        since: Instant,
        until: Instant,
    },
    Lost,
}

/// The members as this one sees them.
#[derive(Debug)]
pub struct Members {
    me: Arc<str>,
    boot: u64,
    profile: Profile,
    world: World,
    peers: BTreeMap<Arc<str>, Peer>,
    mine: BTreeMap<IpAddr, u64>,
    epochs: BTreeMap<IpAddr, u64>,
    /// When we claim a VIP that nobody else claims first, and how often we asked for it.
    pending: BTreeMap<IpAddr, (Instant, u32)>,
    seq: u64,
    now: Instant,
    started: Instant,
    joined: bool,
    leaving: bool,
    isolated: bool,
    gateway_asked: Option<(Instant, u32)>,
    next_beat: Instant,
    next_slow: Instant,
    /// Beats that still list everything.
    listing: u8,
    preempted: Option<Instant>,
    promised: Option<Instant>,
    silent: BTreeMap<u64, Instant>,
    fast: BTreeMap<Arc<str>, u8>,
    out: VecDeque<Action>,
    tally: Tally,
}

impl Members {
    /// The member on node `me`, alone so far. `boot` must be higher than at any start before.
    #[must_use]
    pub fn new(me: &str, boot: u64, profile: Profile, now: Instant) -> Self {
        Self {
            me: me.into(),
            boot,
            profile,
            world: World::default(),
            peers: BTreeMap::new(),
            mine: BTreeMap::new(),
            epochs: BTreeMap::new(),
            pending: BTreeMap::new(),
            seq: 0,
            now,
            started: now,
            joined: false,
            leaving: false,
            isolated: false,
            gateway_asked: None,
            next_beat: now,
            next_slow: now,
            listing: 0,
            preempted: None,
            promised: None,
            silent: BTreeMap::new(),
            fast: BTreeMap::new(),
            out: VecDeque::new(),
            tally: Tally::default(),
        }
    }

    /// What this member owns, each with its epoch.
    #[must_use]
    pub const fn owned(&self) -> &BTreeMap<IpAddr, u64> {
        &self.mine
    }

    /// What has been counted.
    #[must_use]
    pub const fn tally(&self) -> Tally {
        self.tally
    }

    /// The peers that are heard.
    pub fn alive(&self) -> impl Iterator<Item = &str> {
        self.peers.iter().filter(|(_, peer)| peer.is_alive()).map(|(name, _)| &**name)
    }

    /// The peers that we hear and that do not hear us.
    pub fn one_way(&self) -> impl Iterator<Item = &str> {
        self.peers.iter().filter(|(_, peer)| peer.is_alive() && peer.echoed.is_none()).map(|(name, _)| &**name)
    }

    /// The member that answers for `vip`, as far as we know.
    #[must_use]
    pub fn owner(&self, vip: IpAddr) -> Option<&str> {
        if self.mine.contains_key(&vip) { Some(&self.me) } else { self.foreign_owner(vip).map(|(name, _)| &**name) }
    }

    /// Whether this node hears nobody, not even the gateway, and therefore owns nothing.
    #[must_use]
    pub const fn isolated(&self) -> bool {
        self.isolated
    }

    /// Takes over what the API says now.
    pub fn set_world(&mut self, world: World, now: Instant) {
        self.now = self.now.max(now);
        if world == self.world {
            return;
        }
        self.world = world;
        self.pending.retain(|vip, _| self.world.vips.contains_key(vip));
        let gone: Vec<IpAddr> = self.mine.keys().copied().filter(|vip| !self.may_keep(*vip)).collect();
        for vip in gone {
            self.lose(vip);
        }
        self.changed(now);
    }

    /// Hands everything over; done when [`Self::owned`] is empty, or when patience ends.
    pub fn leave(&mut self, now: Instant) {
        self.now = self.now.max(now);
        self.leaving = true;
        self.pending.clear();
        self.changed(now);
    }

    /// Takes in a beat that was signed with our key.
    pub fn on_beat(&mut self, beat: Beat, now: Instant) {
        if beat.node == self.me || self.is_replay(&beat, now) {
            return;
        }
        self.now = self.now.max(now);
        let name = Arc::clone(&beat.node);
        let known = self.peers.get(&name).is_some_and(|peer| peer.beat.boot == beat.boot);
        let echoed = beat.heard.iter().find(|heard| heard.id == id(&self.me) && heard.boot == self.boot);
        if echoed.is_some_and(|echo| echo.held) {
            self.started = self.started.max(now);
        }
        let echoed = echoed.map(|_| now);
        let asks = beat.flags.joining;
        let disowned: Vec<IpAddr> = beat.disowned.clone();
        let silent: Vec<u64> = beat.silent.clone();
        let changed = self.peers.entry(Arc::clone(&name)).or_insert_with(|| Peer::new(now)).take(beat, echoed, now);
        self.gateway_asked = None;
        self.isolated = false;
        if self.world.stale.0 && !self.peers[&name].beat.flags.stale {
            for vip in disowned {
                self.lose(vip);
            }
        }
        self.heed(&silent, now);
        self.yield_to(&name, now);
        if !known || asks {
            // It shall hear at once what we own.
            let beat = self.beat(0, true);
            self.out.push_back(Action::Send(Some(name), Box::new(beat)));
        }
        if changed || !known {
            self.evaluate(now);
        }
    }

    /// Notes that somebody answered for `vip` by ARP, from hardware address `mac`.
    pub fn on_answer(&mut self, vip: IpAddr, mac: [u8; 6], now: Instant) {
        let patience = self.profile.patience();
        for peer in self.peers.values_mut() {
            let answered =
                peer.owned.contains_key(&vip) && (peer.beat.macs.is_empty() || peer.beat.macs.contains(&mac));
            if answered && matches!(peer.standing, Standing::Suspect { .. }) {
                self.tally.false_alarms += 1;
                peer.standing = Standing::Alive;
                peer.deadline = now + patience.max(peer.interval * u32::from(peer.beat.misses));
            }
        }
        if let Some((at, asked)) = self.pending.get_mut(&vip)
            && self.peers.values().all(|peer| !peer.beat.macs.contains(&mac))
        {
            // Somebody whom we do not hear has it.
            (*at, *asked) = (now + SLOW, 0);
        }
    }

    /// Notes that the gateway answered.
    pub fn on_gateway(&mut self, now: Instant) {
        self.gateway_asked = Some((now + SLOW, 0));
        if std::mem::take(&mut self.isolated) {
            self.evaluate(now);
        }
    }

    /// The next moment for [`Self::poll`].
    #[must_use]
    pub fn next_deadline(&self, now: Instant) -> Instant {
        if !self.out.is_empty() {
            return now;
        }
        let peers = self.peers.values().filter_map(|peer| match peer.standing {
            Standing::Alive => Some(peer.deadline),
            Standing::Suspect { asked, since, until } => {
                Some(if asked < 3 { since + self.profile.confirm * asked / 3 } else { until })
            }
            Standing::Lost => None,
        });
        let pending = self.pending.values().map(|(at, _)| *at);
        peers.chain(pending).chain([self.next_beat, self.next_slow]).min().unwrap_or(now)
    }

    /// Takes one thing to do at `now`; call until it returns `None`.
    ///
    /// Hand in what was received first, or peers are accused for beats that wait to be read.
    pub fn poll(&mut self, now: Instant) -> Option<Action> {
        self.now = self.now.max(now);
        self.excuse(now);
        if self.out.is_empty() {
            self.tick(now);
        }
        let action = self.out.pop_front();
        if action.is_none() {
            self.promised = Some(self.next_deadline(now));
        }
        action
    }

    fn tick(&mut self, now: Instant) {
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
            self.send_all();
        }
        if now >= self.next_beat {
            self.next_beat = now + self.profile.interval;
            self.send_fast();
        }
    }

    /// We were late ourselves: nobody is accused for it. Past all patience others have taken over from us.
    fn excuse(&mut self, now: Instant) {
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
            (self.joined, self.started) = (false, now);
            self.changed(now);
        }
    }

    /// Suspects who is overdue or deaf, asks for its VIP, and ends what was not answered.
    fn judge(&mut self, now: Instant) {
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
    fn heed(&mut self, silent: &[u64], now: Instant) {
        let (interval, confirm) = (self.profile.interval, self.profile.confirm);
        for (name, peer) in &mut self.peers {
            let fresh = now.saturating_duration_since(peer.heard) < interval * 2;
            let watched = peer.interval < SLOW;
            if silent.contains(&id(name)) && peer.standing == Standing::Alive && !fresh && !watched {
                peer.standing = Standing::Suspect { asked: 0, since: now, until: now + confirm };
            }
        }
    }

    /// Of two owners the one with the higher epoch stays, or the better ranked.
    fn yield_to(&mut self, name: &Arc<str>, now: Instant) {
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
    fn evaluate(&mut self, now: Instant) {
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
    fn preempts(&self, vip: IpAddr, owner: &Peer, now: Instant) -> Option<Instant> {
        let warm = now >= self.started + WARM_UP && self.rank(vip, true) == Some(0);
        let stale = owner.beat.flags.stale && !owner.beat.flags.outdated;
        (warm && !stale && !self.world.stale.0).then(|| self.preempted.map_or(now, |at| now.max(at + PREEMPT_INTERVAL)))
    }

    fn claim_due(&mut self, now: Instant) {
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
    fn claim(&mut self, vip: IpAddr, now: Instant) -> bool {
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

    fn lose(&mut self, vip: IpAddr) {
        if let Some(epoch) = self.mine.remove(&vip) {
            let known = self.epochs.entry(vip).or_default();
            *known = epoch.max(*known);
            self.out.push_back(Action::Lose(vip));
            self.listing = 4;
        }
    }

    /// Hearing nobody: if the gateway does not answer either, we are cut off, and stop.
    fn mind_isolation(&mut self, now: Instant) {
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

    /// Something that everybody should know at once.
    fn changed(&mut self, now: Instant) {
        self.listing = 4;
        self.evaluate(now);
        self.send_all();
    }

    fn send_all(&mut self) {
        let beat = self.beat(0, true);
        self.out.push_back(Action::Send(None, Box::new(beat)));
    }

    /// Beats to the neighbours; who is one no longer is told so a few times.
    fn send_fast(&mut self) {
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
            let beat = self.beat(u16::try_from(interval.as_millis()).unwrap_or(u16::MAX), all);
            let left = self.fast.get_mut(&name).map_or(0, |left| {
                *left -= u8::from(!near);
                *left
            });
            if left == 0 {
                self.fast.remove(&name);
            }
            self.out.push_back(Action::Send(Some(name), Box::new(beat)));
        }
    }

    /// The peers that we beat fast with: those next to us on the ring, if either side owns something. Until we have
    /// joined, everybody near.
    fn neighbours(&self) -> BTreeSet<Arc<str>> {
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

    fn beat(&mut self, interval: u16, all: bool) -> Beat {
        self.seq += 1;
        let now_held = |peer: &Peer| peer.held_until.is_some_and(|until| until > peer.heard);
        let heard = self.peers.iter().filter(|(_, peer)| peer.is_audible(self.now));
        let heard: Vec<(&Arc<str>, &Peer)> = heard.collect();
        // More than one datagram holds are told in turn.
        let skip =
            if heard.len() > MAX_HEARD { usize::try_from(self.seq).unwrap_or(0) * MAX_HEARD % heard.len() } else { 0 };
        let heard = heard.iter().cycle().skip(skip).take(heard.len().min(MAX_HEARD)).map(|(name, peer)| Heard {
            id: id(name),
            boot: peer.beat.boot,
            seq: peer.beat.seq,
            held: now_held(peer),
        });
        let warming = self.now < self.started + WARM_UP;
        let (stale, outdated) = self.world.stale;
        let disowned = self.peers.values().flat_map(|peer| peer.owned.keys());
        let disowned = disowned.filter(|vip| !stale && !self.world.vips.contains_key(vip)).copied().take(64).collect();
        Beat {
            node: Arc::clone(&self.me),
            boot: self.boot,
            seq: self.seq,
            interval,
            misses: self.profile.misses,
            flags: Flags { leaving: self.leaving, joining: !self.joined, warming, stale, outdated },
            generation: self.world.generation,
            macs: self.world.macs.clone(),
            heard: heard.collect(),
            owned: all.then(|| self.mine.iter().map(|(vip, epoch)| Claim { vip: *vip, epoch: *epoch }).collect()),
            unable: self.world.unable.iter().copied().collect(),
            disowned,
            silent: self.silent.keys().copied().take(16).collect(),
        }
    }

    fn is_replay(&self, beat: &Beat, now: Instant) -> bool {
        self.peers.get(&beat.node).is_some_and(|peer| {
            let forgotten = peer.standing == Standing::Lost && now.saturating_duration_since(peer.heard) > FORGET;
            !forgotten && (beat.boot, beat.seq) <= (peer.beat.boot, peer.beat.seq)
        })
    }

    fn is_alone(&self) -> bool {
        self.peers.is_empty()
            && self.world.configured.iter().all(|name| *name == self.me)
            && !self.world.configured.is_empty()
    }

    /// Whether a configured member has never been heard, so that a VIP may have an owner that we do not hear.
    fn misses_somebody(&self) -> bool {
        self.world.configured.iter().any(|name| *name != self.me && !self.peers.contains_key(name))
    }

    /// Whether no peer is heard, so that the gateway has to tell whether that is our own fault.
    fn is_deaf(&self) -> bool {
        self.world.gateway && !self.peers.is_empty() && !self.peers.values().any(Peer::is_alive)
    }

    /// Whether its last owner was asked already.
    fn was_lost_just_now(&self, vip: IpAddr, now: Instant) -> bool {
        let lost = |peer: &Peer| peer.standing == Standing::Lost && peer.owned.contains_key(&vip);
        self.peers.values().any(|peer| lost(peer) && now.saturating_duration_since(peer.heard) < FORGET)
    }

    fn listening(&self) -> Duration {
        (self.profile.patience() * 2).max(Duration::from_millis(300))
    }

    fn foreign_owner(&self, vip: IpAddr) -> Option<(&Arc<str>, &Peer)> {
        let owners =
            self.peers.iter().filter(|(_, peer)| peer.standing != Standing::Lost && peer.owned.contains_key(&vip));
        owners.max_by_key(|(_, peer)| peer.owned.get(&vip).copied())
    }

    fn may_keep(&self, vip: IpAddr) -> bool {
        let eligible = self.world.vips.get(&vip);
        eligible.is_some_and(|it| it.admits(&self.me)) && !self.world.unable.contains(&vip)
    }

    /// How many candidates come before us for `vip`; `None` when we are none. Warming members come last when it is to
    /// be taken from somebody.
    fn rank(&self, vip: IpAddr, preempt: bool) -> Option<u32> {
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

impl Eligible {
    fn admits(&self, node: &Arc<str>) -> bool {
        self.nodes.as_ref().is_none_or(|nodes| nodes.contains(node))
    }
}

impl Peer {
    fn new(now: Instant) -> Self {
        Self {
            beat: Beat::default(),
            heard: now,
            deadline: now,
            interval: SLOW,
            echoed: None,
            owned: BTreeMap::new(),
            standing: Standing::Alive,
            penalty: 0.0,
            penalised: now,
            held_until: None,
        }
    }

    /// Whether its beats arrive, whatever else is wrong with it.
    fn is_audible(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.heard) < self.interval * u32::from(self.beat.misses.max(1))
    }

    fn is_alive(&self) -> bool {
        matches!(self.standing, Standing::Alive | Standing::Suspect { .. })
    }

    /// Takes over a newer beat; whether it says something that matters to who owns what.
    fn take(&mut self, beat: Beat, echoed: Option<Instant>, now: Instant) -> bool {
        let was = (self.is_alive(), self.echoed.is_some(), self.beat.flags, self.beat.boot);
        let unable_before = std::mem::take(&mut self.beat.unable);
        if beat.boot != self.beat.boot {
            self.owned.clear();
            self.interval = SLOW;
        }
        if beat.interval != 0 {
            self.interval = Duration::from_millis(beat.interval.into());
        }
        let mut changed = unable_before != beat.unable;
        if let Some(owned) = &beat.owned {
            let owned = owned.iter().map(|claim| (claim.vip, claim.epoch)).collect();
            changed |= self.owned != owned;
            self.owned = owned;
        }
        self.echoed =
            echoed.or(self.echoed.filter(|at| now.saturating_duration_since(*at) < SLOW * 4 && was.3 == beat.boot));
        self.heard = now;
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
    fn lose(&mut self, now: Instant) {
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

#[cfg(test)]
#[path = "members_tests.rs"]
#[expect(clippy::disallowed_methods, reason = "simulated time needs a first moment")]
mod tests;
