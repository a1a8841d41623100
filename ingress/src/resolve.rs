//! Which addresses the names of `ExternalName` Services have, and when to ask DNS for them again.
//!
//! ```text
//! set_wanted ─> [due] ─poll_due─> [asked] ─answered─> [due after the TTL, or after a while]
//! ```
//!
//! An answer is used for its TTL, which counts as at least [`TTL_FLOOR`] and at most [`TTL_CEILING`]. While DNS does
//! not answer, the last good answer stays in use: an outage of DNS is none of ours. That a name does not exist is an
//! answer as well, and ends the use of its addresses. Both are asked again after 1 s, 2 s, 4 s and so on, up to
//! [`LONGEST_PAUSE`]; where DNS says how long a negative answer is good for (RFC 2308 §5), not before that or the
//! longest pause.
//!
//! Pure. Who asks: `io::resolve`. What becomes of the addresses: [`crate::backend::external`].

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The shortest time that an answer is used before DNS is asked again.
pub const TTL_FLOOR: Duration = Duration::from_secs(1);
/// The longest.
pub const TTL_CEILING: Duration = Duration::from_hours(1);
/// The longest pause between two questions about a name without an answer.
pub const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// What is known of every name that was asked about; a name that is not in it has not been answered yet.
pub type Answers = BTreeMap<Arc<str>, Answer>;

/// What is known of one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Its addresses, sorted, each once.
    Addresses(Arc<[IpAddr]>),
    /// DNS says that it has none.
    Missing,
    /// DNS has not answered, and never had before.
    Unknown,
}

/// A good answer of DNS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The addresses, at least one.
    pub addrs: Vec<IpAddr>,
    /// How long they may be used.
    pub ttl: Duration,
}

/// Why there is no good answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    /// The name does not exist, or has no address.
    #[error("DNS has no address for this name; check spec.externalName of the Service")]
    Missing {
        /// How long this is good for, if DNS says so.
        ttl: Option<Duration>,
    },
    /// No server gave an answer.
    #[error("DNS does not answer: {why}; check the name servers in /etc/resolv.conf, or give some with --dns-server")]
    Failed {
        /// What was seen.
        why: String,
    },
}

/// The names that somebody wants the addresses of.
#[derive(Debug, Default)]
pub struct NameBook {
    names: BTreeMap<Arc<str>, Entry>,
    answers: Arc<Answers>,
}

#[derive(Debug)]
struct Entry {
    /// When to ask; `None` while a question is under way.
    due: Option<Instant>,
    /// Questions without a good answer since the last one.
    failures: u32,
}

impl NameBook {
    /// Keeps these names and no others; new ones are due at `now`.
    pub fn set_wanted(&mut self, names: &BTreeSet<Arc<str>>, now: Instant) {
        self.names.retain(|name, _| names.contains(name));
        for name in names {
            self.names.entry(Arc::clone(name)).or_insert(Entry { due: Some(now), failures: 0 });
        }
        if self.answers.keys().any(|name| !names.contains(name)) {
            Arc::make_mut(&mut self.answers).retain(|name, _| names.contains(name));
        }
    }

    /// Takes a name to ask about at `now`; call until it returns `None`.
    pub fn poll_due(&mut self, now: Instant) -> Option<Arc<str>> {
        let is_due = |entry: &Entry| entry.due.is_some_and(|due| due <= now);
        let (name, entry) = self.names.iter_mut().find(|(_, entry)| is_due(entry))?;
        entry.due = None;
        Some(Arc::clone(name))
    }

    /// The next moment at which a name is due; `None` if none will be.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.names.values().filter_map(|entry| entry.due).min()
    }

    /// Takes the answer to a question; whether [`Self::answers`] differ now.
    pub fn answered(&mut self, name: &Arc<str>, result: Result<Found, LookupError>, now: Instant) -> bool {
        let Some(entry) = self.names.get_mut(name) else { return false };
        entry.failures = if result.is_ok() { 0 } else { entry.failures.saturating_add(1) };
        entry.due = Some(now + pause(&result, entry.failures));
        let answer = match result {
            Ok(found) => Answer::Addresses(sorted(found.addrs)),
            Err(LookupError::Missing { .. }) => Answer::Missing,
            Err(LookupError::Failed { .. }) => self.answers.get(name).cloned().unwrap_or(Answer::Unknown),
        };
        if self.answers.get(name) == Some(&answer) {
            return false;
        }
        Arc::make_mut(&mut self.answers).insert(Arc::clone(name), answer);
        true
    }

    /// What is known.
    #[must_use]
    pub const fn answers(&self) -> &Arc<Answers> {
        &self.answers
    }

    /// Whether every name has been answered once.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.names.keys().all(|name| self.answers.contains_key(name))
    }
}

/// How long to wait before the next question.
fn pause(result: &Result<Found, LookupError>, failures: u32) -> Duration {
    let backoff = Duration::from_secs(1 << failures.saturating_sub(1).min(10)).min(LONGEST_PAUSE);
    match result {
        Ok(found) => found.ttl.clamp(TTL_FLOOR, TTL_CEILING),
        Err(LookupError::Missing { ttl: Some(ttl) }) => backoff.max(*ttl).min(LONGEST_PAUSE),
        Err(_) => backoff,
    }
}

fn sorted(addrs: Vec<IpAddr>) -> Arc<[IpAddr]> {
    addrs.into_iter().map(|addr| addr.to_canonical()).collect::<BTreeSet<_>>().into_iter().collect()
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "any moment will do to count from")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn name(name: &str) -> Arc<str> {
        name.into()
    }

    fn wanting(names: &[&str], now: Instant) -> NameBook {
        let mut book = NameBook::default();
        book.set_wanted(&names.iter().map(|name| Arc::from(*name)).collect(), now);
        book
    }

    #[expect(clippy::unnecessary_wraps, reason = "it is one of the answers that a book takes")]
    fn found(last: u8, seconds: u64) -> Result<Found, LookupError> {
        Ok(Found { addrs: vec![[192, 0, 2, last].into()], ttl: Duration::from_secs(seconds) })
    }

    fn failed() -> Result<Found, LookupError> {
        Err(LookupError::Failed { why: "timed out".to_owned() })
    }

    fn missing(seconds: u64) -> Result<Found, LookupError> {
        let ttl = (seconds > 0).then(|| Duration::from_secs(seconds));
        Err(LookupError::Missing { ttl })
    }

    fn addresses(last: &[u8]) -> Answer {
        Answer::Addresses(last.iter().map(|last| IpAddr::from([192, 0, 2, *last])).collect())
    }

    #[test]
    fn a_name_is_asked_about_once_and_again_when_its_ttl_is_over() {
        let start = Instant::now();
        for (ttl, pause) in [(0, SECOND), (30, 30 * SECOND), (86_400, TTL_CEILING)] {
            let mut book = wanting(&["a.example"], start);
            assert_eq!(book.poll_due(start), Some(name("a.example")));
            assert_eq!((book.poll_due(start + TTL_CEILING), book.next_deadline()), (None, None), "it is being asked");
            assert!(!book.is_settled());
            assert!(book.answered(&name("a.example"), found(1, ttl), start));
            assert!(book.is_settled());
            assert_eq!(book.next_deadline(), Some(start + pause), "TTL {ttl}");
            assert_eq!(book.poll_due(start + pause / 2), None);
            assert_eq!(book.poll_due(start + pause), Some(name("a.example")));
            assert!(!book.answered(&name("a.example"), found(1, ttl), start), "nothing new");
        }
    }

    #[test]
    fn the_last_good_answer_outlives_a_failure_but_not_a_denial() {
        let start = Instant::now();
        let mut book = wanting(&["a.example"], start);
        for (result, changed, expected) in [
            (failed(), true, Answer::Unknown),
            (found(1, 1), true, addresses(&[1])),
            (failed(), false, addresses(&[1])),
            (found(2, 1), true, addresses(&[2])),
            (missing(0), true, Answer::Missing),
            (failed(), false, Answer::Missing),
            (found(2, 1), true, addresses(&[2])),
        ] {
            assert_eq!(book.answered(&name("a.example"), result.clone(), start), changed, "{result:?}");
            assert_eq!(book.answers()["a.example"], expected, "{result:?}");
        }
    }

    #[test]
    fn the_longer_there_is_no_answer_the_rarer_is_the_question() {
        let start = Instant::now();
        for (result, pauses) in [
            (failed(), &[1, 2, 4, 8, 16, 32, 60, 60][..]),
            (missing(0), &[1, 2, 4, 8, 16, 32, 60, 60]),
            (missing(10), &[10, 10, 10, 10, 16, 32, 60, 60]),
            (missing(86_400), &[60, 60]),
        ] {
            let mut book = wanting(&["a.example"], start);
            for pause in pauses {
                book.answered(&name("a.example"), result.clone(), start);
                assert_eq!(book.next_deadline(), Some(start + *pause * SECOND), "{result:?}");
            }
            book.answered(&name("a.example"), found(1, 1), start);
            book.answered(&name("a.example"), failed(), start);
            assert_eq!(book.next_deadline(), Some(start + SECOND), "a good answer forgets");
        }
    }

    #[test]
    fn addresses_are_sorted_and_each_is_there_once() {
        let start = Instant::now();
        let mut book = wanting(&["a.example"], start);
        let addrs = ["192.0.2.2", "::ffff:192.0.2.1", "192.0.2.2"].map(|addr| addr.parse().unwrap()).to_vec();
        book.answered(&name("a.example"), Ok(Found { addrs, ttl: SECOND }), start);
        assert_eq!(book.answers()["a.example"], addresses(&[1, 2]));
    }

    #[test]
    fn what_nobody_wants_is_forgotten_even_if_its_answer_is_on_the_way() {
        let start = Instant::now();
        let mut book = wanting(&["a.example", "b.example"], start);
        book.answered(&name("b.example"), found(1, 1), start);
        assert_eq!(book.poll_due(start), Some(name("a.example")));
        book.set_wanted(&BTreeSet::new(), start);
        assert!(book.answers().is_empty() && book.next_deadline().is_none());
        assert!(!book.answered(&name("a.example"), found(1, 1), start));
        assert!(book.answers().is_empty() && book.is_settled());
    }

    proptest! {
        #[test] // or one name would be lost, or DNS flooded
        fn every_wanted_name_is_due_or_being_asked(steps in proptest::collection::vec((0_u8..5, 0_u8..3, 0_u64..90), 0..60)) {
            let mut now = Instant::now();
            let names = ["a", "b", "c"].map(name);
            let mut book = wanting(&["a", "b", "c"], now);
            let mut asked = BTreeSet::new();
            for (step, which, seconds) in steps {
                now += Duration::from_secs(seconds);
                let name = &names[usize::from(which)];
                match step {
                    0 => while let Some(name) = book.poll_due(now) {
                        prop_assert!(asked.insert(name), "asked twice at once");
                    },
                    _ if !asked.remove(name) => {}
                    1 => drop(book.answered(name, found(which, seconds), now)),
                    2 => drop(book.answered(name, failed(), now)),
                    _ => drop(book.answered(name, missing(seconds), now)),
                }
                let deadline = book.next_deadline();
                prop_assert_eq!(deadline.is_none(), asked.len() == 3);
                prop_assert!(deadline.is_none_or(|due| due <= now + TTL_CEILING));
            }
        }
    }
}
