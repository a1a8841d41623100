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
//! | owner is no candidate any more     | the same, for that VIP; if nobody can take it, it stays                  |
//! | an operator wishes a VIP elsewhere | that node comes first for it, on every member that heard of the wish     |
//! | owner has handed over              | it lingers: says so for a while, so that its connections find it         |
//! | better candidate returns           | takes over once warm, at most [`PREEMPT_INTERVAL`] apart                 |
//! | our link was mended                | as started anew: others own what it had                                  |
//! | member flaps                       | peers hold it: it takes over nothing that has an owner                   |
//! | view of the API is stale           | ranks behind fresh members; obeys a fresh one that disowns a VIP         |
//! | started anew                       | asks everybody and listens before it claims                              |
//! | only member                        | claims at once                                                           |
//! | heartbeats are blocked for long    | members write letters by way of the API server: [`letters`]              |
//!
//! Everybody beats fast with its [`NEIGHBOURS`] on a ring of all members, if either owns a VIP, and once a second to
//! all; who finds a neighbour silent tells the others, who then ask for themselves. So traffic does not grow with the
//! number of members beyond one beat a second each.
//!
//! Pure. The wire format: [`crate::heartbeat`].

mod beating;
mod claiming;
mod judging;
pub mod letters;
pub mod moving;
mod peer;
pub mod testing;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::letters::Letters;
use self::moving::Moving;
use self::peer::{Peer, Standing};
use self::testing::Tests;
use crate::heartbeat::{Beat, Finding, id};

/// How much longer each rank waits before it claims.
pub const RANK_DELAY: Duration = Duration::from_millis(15);
/// How much longer a VIP that had no owner yet waits for each better ranked member that was not heard of.
pub const UNHEARD_DELAY: Duration = Duration::from_millis(50);
/// Least time between two VIPs taken from a living owner.
pub const PREEMPT_INTERVAL: Duration = Duration::from_millis(100);
/// How long a member must have run before it takes a VIP from a living owner.
pub const WARM_UP: Duration = Duration::from_secs(10);
/// Time between the beats that go to everybody.
pub const SLOW: Duration = Duration::from_secs(1);
/// VIPs of others that are looked at in a second for whether they should be ours: more than may be taken over.
pub const SURVEYED: usize = 64;
/// Neighbours on the ring, in each direction.
pub const NEIGHBOURS: usize = 3;
/// Peers beyond which a beat does not say whom of all we hear, but whether we hear who gets it.
const CROWD: usize = 16;
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
    /// Those of them whose nodes are known to be down.
    pub unready: BTreeSet<Arc<str>>,
}

/// Who may own a VIP.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Eligible {
    /// The nodes; `None` for any member.
    pub nodes: Option<Arc<BTreeSet<Arc<str>>>>,
    /// The node that comes first if it can.
    pub preferred: Option<Arc<str>>,
}

/// What all members are doing, for others to show.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// The VIPs that this member owns.
    pub owned: BTreeSet<IpAddr>,
    /// Who of the others owns what.
    pub owners: BTreeMap<IpAddr, Arc<str>>,
    /// The members that are alive, this one among them.
    pub alive: BTreeSet<Arc<str>>,
    /// Those that we hear and that do not hear us.
    pub one_way: BTreeSet<Arc<str>>,
    /// The hardware addresses that the others answer from, and whose they are.
    pub macs: BTreeMap<[u8; 6], Arc<str>>,
    /// Whether this member has listened for long enough to claim anything.
    pub joined: bool,
    /// Whether it hands everything over.
    pub leaving: bool,
    /// Whether it hears nobody and therefore owns nothing.
    pub isolated: bool,
    /// VIPs that this member has handed over to one that sends their connections on to it.
    pub lingering: BTreeSet<IpAddr>,
    /// The nodes that operators want VIPs on.
    pub wishes: BTreeMap<IpAddr, Arc<str>>,
    /// VIPs that this member keeps though it is no candidate, since nobody else takes them.
    pub stranded: BTreeSet<IpAddr>,
    /// Who still serves connections of the VIPs that this member owns, so that their packets are sent on.
    pub sent_on: BTreeMap<IpAddr, BTreeSet<Arc<str>>>,
    /// The members that are there, by their letters or by ARP, and whose heartbeats do not arrive.
    pub blocked: BTreeSet<Arc<str>>,
    /// The members that have not heard this one for three seconds, though it hears them.
    pub deaf_to_us: BTreeSet<Arc<str>>,
    /// The members that ask the LAN for the VIPs of this one.
    pub testers: BTreeSet<Arc<str>>,
    /// What they say of VIPs that this member owns and that they do not find with it.
    pub complaints: BTreeMap<IpAddr, BTreeMap<Arc<str>, Finding>>,
}

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send this to one member, or to everybody.
    Send(Option<Arc<str>>, Box<Beat>),
    /// Send this by multicast only, for who is not known yet.
    Flood(Box<Beat>),
    /// Show this to all members by way of the API server, if there is one; see [`letters`].
    Post(Box<Beat>),
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
    /// VIPs that others own and that we are to take from them.
    wanted: BTreeSet<IpAddr>,
    /// The last VIP of the last survey; the next one begins behind it.
    surveyed: Option<IpAddr>,
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
    tests: Tests,
    letters: Letters,
    out: VecDeque<Action>,
    revision: u64,
    /// Rounds of fast beats.
    calls: u8,
    moving: Moving,
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
            wanted: BTreeSet::new(),
            surveyed: None,
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
            tests: Tests::default(),
            letters: Letters::default(),
            out: VecDeque::new(),
            revision: 0,
            calls: 0,
            moving: Moving::default(),
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

    /// What all members are doing, as this one sees it.
    #[must_use]
    pub fn view(&self) -> View {
        let mut owners: BTreeMap<IpAddr, (u64, Arc<str>)> = BTreeMap::new();
        for (name, peer) in self.peers.iter().filter(|(_, peer)| peer.is_alive()) {
            for (vip, epoch) in &peer.owned {
                let known = owners.entry(*vip).or_insert_with(|| (*epoch, Arc::clone(name)));
                if *epoch > known.0 {
                    *known = (*epoch, Arc::clone(name));
                }
            }
        }
        let alive = self.peers.iter().filter(|(_, peer)| peer.is_alive()).map(|(name, _)| Arc::clone(name));
        View {
            owned: self.mine.keys().copied().collect(),
            owners: owners.into_iter().map(|(vip, (_, name))| (vip, name)).collect(),
            alive: alive.chain([Arc::clone(&self.me)]).collect(),
            one_way: self.one_way().map(Arc::from).collect(),
            macs: self.named_macs(),
            joined: self.joined,
            leaving: self.leaving,
            isolated: self.isolated,
            lingering: self.awaited().collect(),
            wishes: self.moving.wishes(),
            stranded: self.moving.stranded(self.now),
            sent_on: BTreeMap::new(),
            blocked: self.blocked(),
            deaf_to_us: self.deaf_to_us(),
            testers: self.neighbours(),
            complaints: self.complaints(),
        }
    }

    /// Grows with everything that may change [`Self::view`].
    #[must_use]
    pub const fn revision(&self) -> u64 {
        self.revision
    }

    /// The hardware addresses that peers answer ARP from.
    pub fn macs(&self) -> impl Iterator<Item = [u8; 6]> {
        self.peers.values().filter(|peer| peer.is_alive()).flat_map(|peer| peer.beat.macs.iter().copied())
    }

    fn named_macs(&self) -> BTreeMap<[u8; 6], Arc<str>> {
        let alive = self.peers.iter().filter(|(_, peer)| peer.is_alive());
        alive.flat_map(|(name, peer)| peer.beat.macs.iter().map(|mac| (*mac, Arc::clone(name)))).collect()
    }

    /// Whether a beat is so old that its sender's address is not to be believed either.
    #[must_use]
    pub fn is_outdated(&self, beat: &Beat) -> bool {
        const LATE: u64 = 64;
        let newest = |peer: &Peer| (peer.beat.boot, peer.beat.seq.saturating_sub(LATE));
        self.peers.get(&beat.node).is_some_and(|peer| (beat.boot, beat.seq) < newest(peer))
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
        // What this node could not serve for a while, others own by now, though it has not heard of it.
        if self.world.unable.difference(&world.unable).any(|vip| world.vips.contains_key(vip)) {
            self.start_anew(now);
        }
        let before = std::mem::replace(&mut self.world, world);
        self.pending.retain(|vip, _| self.world.vips.contains_key(vip));
        let gone: Vec<IpAddr> = self.mine.keys().copied().filter(|vip| !self.may_hold(*vip)).collect();
        for vip in gone {
            self.lose(vip);
        }
        self.changed(now);
        self.survey_wanted(&before, now);
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
        if beat.node != self.me && !self.is_replay(&beat, now) {
            self.hear(beat, false, now);
        }
    }

    fn hear(&mut self, beat: Beat, by_letter: bool, now: Instant) {
        self.now = self.now.max(now);
        let name = Arc::clone(&beat.node);
        let known = self.peers.get(&name).is_some_and(|peer| peer.beat.boot == beat.boot);
        let me = id(&self.me);
        let echoed = beat.heard.iter().find(|heard| heard.id == me && heard.boot == self.boot);
        if echoed.is_some_and(|echo| echo.held) {
            self.started = self.started.max(now);
        }
        let echoed_by_letter = echoed.map(|echo| echo.by_letter);
        let echoed = echoed.map(|_| now);
        let asks = beat.flags.joining;
        let disowned: Vec<IpAddr> = beat.disowned.clone();
        let silent: Vec<u64> = beat.silent.clone();
        let wishes = beat.moves.wishes.clone();
        let peer = self.peers.entry(Arc::clone(&name)).or_insert_with(|| Peer::new(now));
        let changed = peer.take(beat, echoed, now);
        peer.note_way(by_letter, now);
        peer.echoed_by_letter = echoed_by_letter.unwrap_or(peer.echoed_by_letter);
        // A letter does not prove that the LAN is there.
        if !by_letter {
            self.gateway_asked = None;
            if std::mem::take(&mut self.isolated) {
                self.start_anew(now);
            }
        }
        if self.world.stale.0 && !self.peers[&name].beat.flags.stale {
            for vip in disowned {
                self.lose(vip);
            }
        }
        self.heed(&silent, now);
        if by_letter {
            self.ask_for_contested(&name);
        } else {
            self.yield_to(&name, now);
        }
        self.take_wishes(wishes, now);
        if !known || asks {
            // It shall hear at once what we own.
            let beat = self.beat(Some(&name), 0, true);
            self.out.push_back(Action::Send(Some(name), Box::new(beat)));
        }
        if changed || !known {
            self.evaluate(now);
        }
    }

    /// Notes that somebody answered for `vip` by ARP, from hardware address `mac`.
    pub fn on_answer(&mut self, vip: IpAddr, mac: [u8; 6], now: Instant) {
        self.tests.on_answer(vip, mac, self.peers.get(self.tests.owner(vip)));
        let patience = self.profile.patience();
        for peer in self.peers.values_mut() {
            let answered =
                peer.owned.contains_key(&vip) && (peer.beat.macs.is_empty() || peer.beat.macs.contains(&mac));
            if answered && matches!(peer.standing, Standing::Suspect { .. }) {
                self.tally.false_alarms += 1;
                peer.standing = Standing::Alive;
                let promised = patience.max(peer.interval * u32::from(peer.beat.misses));
                peer.deadline = now + if peer.by_letter { letters::ASKED } else { promised };
            }
        }
        self.settle_by_letter(vip, mac, now);
        if let Some((at, asked)) = self.pending.get_mut(&vip)
            && self.peers.values().all(|peer| !peer.beat.macs.contains(&mac) || !peer.is_beating(now))
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
}

impl Eligible {
    /// Adds that another Service has the same VIP: it needs a node that serves both, or one that serves either.
    pub fn share(&mut self, other: Self) {
        self.preferred = self.preferred.take().or(other.preferred);
        let (Some(ours), Some(theirs)) = (&self.nodes, &other.nodes) else {
            self.nodes = self.nodes.take().or(other.nodes);
            return;
        };
        let both: BTreeSet<Arc<str>> = ours.intersection(theirs).cloned().collect();
        let either = || ours.union(theirs).cloned().collect();
        self.nodes = Some(Arc::new(if both.is_empty() { either() } else { both }));
    }

    fn admits(&self, node: &Arc<str>) -> bool {
        self.nodes.as_ref().is_none_or(|nodes| nodes.contains(node))
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "simulated time needs a first moment")]
mod tests;
