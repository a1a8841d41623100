//! When to try again what failed, by what kind of failure it was.
//!
//! | class | next try |
//! |-------|----------|
//! | transient | 5 s, doubled up to 10 min, any moment of it; same order, not counted |
//! | told to wait | when the CA says, and up to 5 % later |
//! | validation | 1, 10, 100 min, then daily, since the CA counts them |
//! | refused | daily |
//! | account | 5 s, doubled up to a day |
//! | replaced | at once, as an order that replaces nothing |
//! | gone | 5 s, doubled up to 10 min, as a new order |
//!
//! Pure: `now` and the draw of the lot are arguments.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// A kind of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// The CA could not be reached or was not well.
    Transient,
    /// The CA asks to wait.
    Wait,
    /// The CA could not validate a name.
    Validation,
    /// The CA will not issue this, ever.
    Refused,
    /// The CA does not know the account, or does not want it.
    Account,
    /// The CA takes the certificate to be replaced already.
    Replaced,
    /// The CA does not know the order any more.
    Gone,
}

/// Why an order came to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Its kind.
    pub class: Class,
    /// What happened, in the CA's own words where it has said any.
    pub message: String,
    /// When the CA wants to be asked again.
    pub until: Option<Timestamp>,
    /// The names that could not be validated.
    pub names: Vec<String>,
}

impl Failure {
    /// A failure of which nothing else is known.
    #[must_use]
    pub const fn new(class: Class, message: String) -> Self {
        Self { class, message, until: None, names: Vec::new() }
    }
}

/// The longest wait for what is transient.
const LONGEST_TRANSIENT: SignedDuration = SignedDuration::from_mins(10);
const DAY: SignedDuration = SignedDuration::from_hours(24);

/// How long to wait after the `count`th failure of a class in a row (from 1); `draw` is from 0 to 1.
#[must_use]
pub fn wait(class: Class, count: u32, draw: f64) -> SignedDuration {
    let doubled = |first: i64, most: SignedDuration| {
        let seconds = first.saturating_mul(1 << count.saturating_sub(1).min(20));
        SignedDuration::from_secs(seconds).min(most)
    };
    match class {
        // Full jitter, but never at once.
        Class::Transient => share(doubled(5, LONGEST_TRANSIENT), draw).max(SignedDuration::from_secs(1)),
        Class::Wait => doubled(60, DAY),
        Class::Account => doubled(5, DAY),
        Class::Validation => match count {
            0 | 1 => SignedDuration::from_mins(1),
            2 => SignedDuration::from_mins(10),
            3 => SignedDuration::from_mins(100),
            _ => DAY,
        },
        Class::Refused => DAY,
        Class::Gone => doubled(5, LONGEST_TRANSIENT),
        Class::Replaced => SignedDuration::ZERO,
    }
}

/// The moment of the next try.
#[must_use]
pub fn next_try(failure: &Failure, count: u32, now: Timestamp, draw: f64) -> Timestamp {
    let after = |wait: SignedDuration| now.checked_add(wait).unwrap_or(Timestamp::MAX);
    match failure.until.filter(|until| *until > now) {
        Some(until) => {
            let lateness = share(until.duration_since(now), draw * 0.05);
            until.checked_add(lateness).unwrap_or(until)
        }
        None => after(wait(failure.class, count, draw)),
    }
}

/// The longest that anybody has us wait: the CA, for one more certificate of the same names, and a little.
const LONGEST: SignedDuration = SignedDuration::from_hours(8 * 24);

/// Whether a moment is still to be waited for; one that is too far away was written by a clock that was wrong.
#[must_use]
pub fn is_ahead(moment: Timestamp, now: Timestamp) -> bool {
    moment > now && moment.duration_since(now) <= LONGEST
}

fn share(wait: SignedDuration, part: f64) -> SignedDuration {
    SignedDuration::try_from_secs_f64(wait.as_secs_f64() * part.clamp(0.0, 1.0)).unwrap_or(wait)
}

/// The class of an ACME error by its type (RFC 8555 §6.7), else by the HTTP status; 0 for no answer.
#[must_use]
pub fn classify(kind: Option<&str>, status: u16) -> Class {
    let kind = kind.and_then(|kind| kind.strip_prefix("urn:ietf:params:acme:error:"));
    match (kind, status) {
        (Some("rateLimited"), _) | (None, 429) => Class::Wait,
        (Some("connection" | "dns" | "incorrectResponse" | "tls" | "caa"), _) => Class::Validation,
        // Unauthorized is the account, of an order; of a challenge, the caller knows better.
        (Some("accountDoesNotExist" | "externalAccountRequired" | "unauthorized"), _) => Class::Account,
        (Some("alreadyReplaced"), _) => Class::Replaced,
        (Some("badNonce" | "serverInternal") | None, _) | (Some(_), 500..) => Class::Transient,
        (Some(_), _) => Class::Refused,
    }
}

/// The moment that a CA names in words, as Let's Encrypt does: `... retry after 2026-08-01 12:00:00 UTC: ...`.
#[must_use]
pub fn retry_after_in(detail: &str) -> Option<Timestamp> {
    let (_, rest) = detail.split_once("retry after ")?;
    let moment = rest.get(..19)?.replace(' ', "T");
    format!("{moment}Z").parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn errors_have_the_class_of_their_type_and_else_of_their_status() {
        for (kind, status, expected) in [
            (Some("badNonce"), 400, Class::Transient),
            (Some("rateLimited"), 429, Class::Wait),
            (Some("connection"), 400, Class::Validation),
            (Some("rejectedIdentifier"), 400, Class::Refused),
            (Some("malformed"), 500, Class::Transient),
            (Some("accountDoesNotExist"), 400, Class::Account),
            (Some("alreadyReplaced"), 409, Class::Replaced),
            (None, 503, Class::Transient),
            (None, 429, Class::Wait),
            (None, 0, Class::Transient),
        ] {
            let kind = kind.map(|kind| format!("urn:ietf:params:acme:error:{kind}"));
            assert_eq!(classify(kind.as_deref(), status), expected, "{kind:?} {status}");
        }
    }

    #[test]
    fn validation_is_tried_after_1_10_and_100_minutes_and_then_daily() {
        let minutes = [1, 2, 3, 4, 9].map(|count| wait(Class::Validation, count, 0.5).as_mins());
        assert_eq!(minutes, [1, 10, 100, 1440, 1440]);
    }

    #[test]
    fn a_clock_that_was_years_ahead_makes_nobody_wait_for_years() {
        let at = |second| Timestamp::from_second(second).unwrap();
        for (moment, expected) in [(0, false), (1, true), (8 * 24 * 3600, true), (30 * 24 * 3600, false)] {
            assert_eq!(is_ahead(at(moment), at(0)), expected, "{moment}");
        }
    }

    #[test]
    fn a_moment_in_words_is_understood() {
        let detail = "too many certificates (5) already issued, retry after 2026-08-01 12:00:00 UTC: see https://x";
        assert_eq!(retry_after_in(detail), "2026-08-01T12:00:00Z".parse().ok());
        assert_eq!(retry_after_in("retry after lunch"), None);
        assert_eq!(retry_after_in("retry after é"), None);
    }

    proptest! {
        #[test]
        fn a_try_is_never_before_the_ca_wants_it_nor_much_later(seconds in 1_i64..1_000_000, draw in 0.0..1.0_f64) {
            let now = Timestamp::UNIX_EPOCH;
            let until = Timestamp::from_second(seconds).unwrap();
            let failure = Failure { until: Some(until), ..Failure::new(Class::Wait, String::new()) };
            let next = next_try(&failure, 1, now, draw);
            prop_assert!(next >= until && next.as_second() <= seconds + seconds / 20 + 1);
        }

        #[test]
        fn no_class_but_a_replaced_one_is_tried_at_once(count in 1_u32..1000, draw in 0.0..1.0_f64) {
            for class in [Class::Transient, Class::Wait, Class::Validation, Class::Refused, Class::Account] {
                prop_assert!(wait(class, count, draw) >= SignedDuration::from_secs(1), "{:?}", class);
            }
        }
    }
}
