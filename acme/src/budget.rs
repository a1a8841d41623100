//! How much we may ask of a CA: its limits, mirrored, so that it need not refuse us.
//!
//! Each limit is a bucket as Let's Encrypt keeps them: so many at once, and one more after each interval. Ours is
//! smaller than the CA's (60 %) and fills as fast, so that whatever it counts that we do not know of still fits. A
//! bucket is one moment: when it would be full again.
//!
//! Pure. Source: letsencrypt.org/docs/rate-limits.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// One limit: how many at once, and after how long there is one more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// At once.
    pub burst: u32,
    /// One more after this.
    pub interval: SignedDuration,
}

impl Rate {
    /// 60 % of `size`, at least one; `size` in `period`.
    fn of(size: u32, period: SignedDuration) -> Self {
        let burst = (size * 3 / 5).max(1);
        Self { burst, interval: SignedDuration::from_millis_i128(period.as_millis() / i128::from(size)) }
    }
}

/// The limits of one CA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Orders of an account.
    pub orders: Rate,
    /// Certificates of a registered domain, first ones only.
    pub domain: Rate,
    /// Certificates of one set of names.
    pub set: Rate,
    /// Failed validations of a name.
    pub failures: Rate,
}

const HOUR: SignedDuration = SignedDuration::from_hours(1);
const WEEK: SignedDuration = SignedDuration::from_hours(7 * 24);

impl Limits {
    /// The limits of the CA of a server; those of Let's Encrypt are known, another's are taken to be wide.
    #[must_use]
    pub fn of(server: &str) -> Self {
        let host = server.split('/').nth(2).unwrap_or_default();
        let three_hours = SignedDuration::from_hours(3);
        match host {
            "acme-v02.api.letsencrypt.org" => Self {
                orders: Rate::of(300, three_hours),
                domain: Rate::of(50, WEEK),
                set: Rate::of(5, WEEK),
                failures: Rate::of(5, HOUR),
            },
            "acme-staging-v02.api.letsencrypt.org" => Self {
                orders: Rate::of(1500, three_hours),
                domain: Rate::of(30_000, WEEK),
                set: Rate::of(30_000, WEEK),
                failures: Rate::of(200, HOUR),
            },
            _ => Self {
                orders: Rate::of(3000, three_hours),
                domain: Rate::of(30_000, WEEK),
                set: Rate::of(1000, WEEK),
                failures: Rate::of(200, HOUR),
            },
        }
    }
}

/// What has been used up: for each bucket, the moment at which it is full again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Budget(BTreeMap<String, Timestamp>);

impl Budget {
    /// Whether there is one left in bucket `key`; else when there will be.
    pub fn check(&self, key: &str, rate: Rate, now: Timestamp) -> Result<(), Timestamp> {
        let Some(full) = self.0.get(key).map(|full| believed(*full, rate, now)) else { return Ok(()) };
        let room = rate.interval.saturating_mul(rate.burst.saturating_sub(1).try_into().unwrap_or(i32::MAX));
        let free = full.checked_sub(room).unwrap_or(Timestamp::MIN);
        if free <= now { Ok(()) } else { Err(free) }
    }

    /// Takes one out of bucket `key`.
    pub fn take(&mut self, key: String, rate: Rate, now: Timestamp) {
        let full = self.0.entry(key).or_insert(now);
        *full = believed(*full, rate, now).max(now).checked_add(rate.interval).unwrap_or(Timestamp::MAX);
    }

    /// Forgets the buckets that are full.
    pub fn prune(&mut self, now: Timestamp) {
        self.0.retain(|_, full| *full > now);
    }
}

/// No bucket is ever more than empty: a moment that is further away was written by a clock that was wrong.
fn believed(full: Timestamp, rate: Rate, now: Timestamp) -> Timestamp {
    let empty = rate.interval.saturating_mul(rate.burst.try_into().unwrap_or(i32::MAX));
    full.min(now.checked_add(empty).unwrap_or(Timestamp::MAX))
}

/// The domain that a name's certificates are counted for: its last two labels.
///
/// The registered domain has at least as many, so that no bucket of the CA is shared by two of ours.
#[must_use]
pub fn domain(name: &str) -> &str {
    let mut dots = name.rmatch_indices('.').map(|(at, _)| at + 1);
    dots.nth(1).map_or(name, |at| &name[at..])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn the_set_of_names_that_is_ordered_again_and_again_stops_before_the_ca_stops_it() {
        let rate = Limits::of(config::issuer::PRESETS[0].1).set;
        let mut budget = Budget::default();
        let times = (0..10).filter(|_| {
            let free = budget.check("set", rate, at(0)).is_ok();
            if free {
                budget.take("set".to_owned(), rate, at(0));
            }
            free
        });
        assert_eq!(times.count(), 3);
        // One comes back every 33.6 hours.
        assert_eq!(budget.check("set", rate, at(0)), Err(at(7 * 24 * 3600 / 5)));
    }

    #[test]
    fn a_clock_that_was_ahead_locks_no_bucket_for_longer_than_it_takes_to_fill() {
        let rate = Rate { burst: 3, interval: SignedDuration::from_secs(100) };
        let mut budget = Budget::default();
        budget.take("k".to_owned(), rate, at(1_000_000));
        assert_eq!(budget.check("k", rate, at(0)), Err(at(100)));
        budget.take("k".to_owned(), rate, at(0));
        assert!(budget.check("k", rate, at(300)).is_ok());
    }

    #[test]
    fn a_name_counts_for_the_last_two_labels() {
        for (name, expected) in [("a.b.example.com", "example.com"), ("example.com", "example.com"), ("com", "com")] {
            assert_eq!(domain(name), expected);
        }
    }

    proptest! {
        #[test]
        fn no_window_ever_holds_more_than_the_bucket_gives(
            burst in 1_u32..10, interval in 1_i64..1000, gaps in proptest::collection::vec(0_i64..500, 1..200),
        ) {
            let rate = Rate { burst, interval: SignedDuration::from_secs(interval) };
            let (mut budget, mut now, mut taken) = (Budget::default(), 0, Vec::new());
            for gap in gaps {
                now += gap;
                match budget.check("k", rate, at(now)) {
                    Ok(()) => { budget.take("k".to_owned(), rate, at(now)); taken.push(now); }
                    Err(free) => prop_assert!(free > at(now) && budget.check("k", rate, free).is_ok()),
                }
            }
            for (index, first) in taken.iter().enumerate() {
                for (later, last) in taken[index..].iter().enumerate() {
                    let most = i64::from(burst) + (last - first) / interval;
                    prop_assert!(i64::try_from(later).unwrap() < most, "{} in {}", later + 1, last - first);
                }
            }
        }
    }
}
