//! Who leads: the rules of a `coordination.k8s.io` Lease.
//!
//! As client-go's leader election: whoever holds the Lease renews it every few seconds. Another takes it when it was
//! released, or when its record has not changed for a whole term *by the other's own clock*: remote clocks are never
//! compared, only whether the record is still the one seen before. A leader that could not renew for
//! [`Timing::renew_deadline`] stops leading, well before anybody else may take over.
//!
//! ```text
//!            released, or unchanged for a term: claim          written
//! Follower ───────────────────────────────────────> (write) ──────────> Leader ─┐ renew every `retry`
//!     ^                                                                    │  ^──┘
//!     └───────── another holder was read, or not renewed in time ──────────┘
//! ```
//!
//! Pure: `now` is an argument. Who reads and writes the Lease: `api::lease`.

use std::time::{Duration, Instant};

use crate::Leadership;

/// How long things take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How long an unchanged record keeps others away.
    pub term: Duration,
    /// How long a leader leads without having renewed.
    pub renew_deadline: Duration,
    /// How often the Lease is looked at, and renewed.
    pub retry: Duration,
}

impl Default for Timing {
    /// 15 s, 10 s and 2 s, as Kubernetes' own controllers.
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { term: seconds(15), renew_deadline: seconds(10), retry: seconds(2) }
    }
}

/// What the Lease says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Who holds it; empty when it was released.
    pub holder: String,
    /// How often it went from one to another.
    pub transitions: i32,
    /// The `resourceVersion`; changes with every renewal.
    pub version: String,
}

/// What to write next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Make the Lease, held by us.
    Create,
    /// Hold it, if its version is still this one; `transitions` is what to write.
    Hold {
        /// The version that it must still have.
        version: String,
        /// How often it has changed hands, with this time.
        transitions: i32,
        /// Whether somebody else, or nobody, held it before.
        taken: bool,
    },
}

/// One candidate's view of the Lease.
#[derive(Clone, Debug)]
pub struct Election {
    identity: String,
    timing: Timing,
    seen: Option<Seen>,
    role: Role,
}

#[derive(Clone, Debug)]
struct Seen {
    /// `None` while there is no Lease.
    record: Option<Record>,
    /// When it was first seen as it is.
    since: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Follower,
    Leader {
        /// When the last successful renewal was *sent*.
        renewed: Instant,
    },
}

impl Election {
    /// A candidate that knows nothing yet. Two candidates of one identity would both lead, so it must be unique.
    #[must_use]
    pub const fn new(identity: String, timing: Timing) -> Self {
        Self { identity, timing, seen: None, role: Role::Follower }
    }

    /// The Lease was read; `None` if there is none.
    pub fn observe(&mut self, record: Option<Record>, now: Instant) {
        let ours = record.as_ref().is_some_and(|record| record.holder == self.identity);
        if !ours {
            self.role = Role::Follower;
        }
        match &self.seen {
            Some(seen) if seen.record == record => {}
            Some(_) | None => self.seen = Some(Seen { record, since: now }),
        }
    }

    /// Our write, sent at `sent`, was accepted.
    pub fn accepted(&mut self, record: Record, sent: Instant) {
        self.role = Role::Leader { renewed: sent };
        self.seen = Some(Seen { record: Some(record), since: sent });
    }

    /// Our write was refused, since the Lease changed meanwhile: it has to be read again.
    pub fn refused(&mut self) {
        self.seen = None;
    }

    /// What to write at `now`; `None` if it has to be read first, or belongs to somebody else.
    #[must_use]
    pub fn wish(&self, now: Instant) -> Option<Wish> {
        let seen = self.seen.as_ref()?;
        let Some(record) = &seen.record else { return Some(Wish::Create) };
        let hold = |transitions, taken| Wish::Hold { version: record.version.clone(), transitions, taken };
        if record.holder == self.identity {
            return Some(hold(record.transitions, false));
        }
        let free = record.holder.is_empty() || now >= seen.since + self.timing.term;
        free.then(|| hold(record.transitions.saturating_add(1), true))
    }

    /// Whether we lead at `now`.
    #[must_use]
    pub fn leadership(&self, now: Instant) -> Leadership {
        match self.expiry() {
            Some(expiry) if now < expiry => Leadership::Leader,
            Some(_) | None => Leadership::Follower,
        }
    }

    /// When we stop leading unless we renew; `None` while we do not lead.
    #[must_use]
    pub fn expiry(&self) -> Option<Instant> {
        match self.role {
            Role::Leader { renewed } => Some(renewed + self.timing.renew_deadline),
            Role::Follower => None,
        }
    }

    /// The version of the Lease that is ours to release.
    #[must_use]
    pub fn held(&self) -> Option<&Record> {
        let Role::Leader { .. } = self.role else { return None };
        self.seen.as_ref()?.record.as_ref()
    }

    /// Who holds it, as last seen.
    #[must_use]
    pub fn holder(&self) -> Option<&str> {
        self.seen.as_ref()?.record.as_ref().map(|record| record.holder.as_str())
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "an Instant can only be had from a clock")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(holder: &str, version: u64) -> Record {
        Record { holder: holder.into(), transitions: 0, version: version.to_string() }
    }

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn a_missing_or_released_lease_is_taken_at_once_and_a_held_one_after_a_term() {
        let start = Instant::now();
        let mut election = Election::new("me".into(), Timing::default());
        assert_eq!(election.wish(start), None, "nothing was read yet");
        election.observe(None, start);
        assert_eq!(election.wish(start), Some(Wish::Create));
        let take = |version: &str| Some(Wish::Hold { version: version.into(), transitions: 1, taken: true });
        election.observe(Some(record("", 3)), start);
        assert_eq!(election.wish(start), take("3"));
        election.observe(Some(record("other", 4)), start);
        election.observe(Some(record("other", 4)), after(start, 14));
        assert_eq!(election.wish(after(start, 14)), None);
        assert_eq!(election.wish(after(start, 15)), take("4"));
        election.observe(Some(record("other", 5)), after(start, 15));
        assert_eq!(election.wish(after(start, 29)), None, "it was renewed: a new term");
    }

    #[test]
    fn a_leader_stops_when_it_cannot_renew_or_another_holds_the_lease() {
        let start = Instant::now();
        let mut election = Election::new("me".into(), Timing::default());
        election.observe(None, start);
        election.accepted(record("me", 1), start);
        assert_eq!(election.leadership(after(start, 9)), Leadership::Leader);
        assert_eq!(election.leadership(after(start, 10)), Leadership::Follower);
        let renew = Wish::Hold { version: "1".into(), transitions: 0, taken: false };
        assert_eq!(election.wish(after(start, 9)), Some(renew));
        election.accepted(record("me", 2), after(start, 9));
        assert_eq!(election.leadership(after(start, 18)), Leadership::Leader);
        election.observe(Some(record("other", 3)), after(start, 10));
        assert_eq!((election.leadership(after(start, 10)), election.held()), (Leadership::Follower, None));
    }

    proptest! {
        /// Candidates with clocks of their own that step one after the other, any of which may be cut off from the
        /// API server at any time.
        #[test]
        fn there_are_never_two_leaders(steps in proptest::collection::vec((0_usize..3, 0_u64..4, any::<bool>()), 1..200)) {
            let start = Instant::now();
            let mut now = start;
            let mut lease: Option<Record> = None;
            let mut version = 0;
            let names = ["a", "b", "c"];
            let mut candidates = names.map(|name| Election::new(name.into(), Timing::default()));
            for (index, seconds, reachable) in steps {
                now += Duration::from_secs(seconds);
                let candidate = &mut candidates[index];
                if reachable {
                    candidate.observe(lease.clone(), now);
                    let allowed = match candidate.wish(now) {
                        Some(Wish::Create) => lease.is_none(),
                        Some(Wish::Hold { version, .. }) => lease.as_ref().is_some_and(|lease| lease.version == version),
                        None => false,
                    };
                    if allowed {
                        version += 1;
                        lease = Some(record(names[index], version));
                        candidate.accepted(record(names[index], version), now);
                    }
                }
                let leaders = candidates.iter().filter(|it| it.leadership(now) == Leadership::Leader).count();
                prop_assert!(leaders <= 1);
            }
        }
    }
}
