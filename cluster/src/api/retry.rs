//! When to ask again, and how fast to write.
//!
//! Pure: `now` and the random share are arguments.

use std::time::{Duration, Instant};

/// Waits longer after every failure, up to a limit, never as long as another process would.
#[derive(Clone, Copy, Debug)]
pub(super) struct Retry {
    first: Duration,
    longest: Duration,
    failures: u32,
}

impl Retry {
    pub(super) const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, failures: 0 }
    }

    /// How long to wait after one more failure: between half and all of the backoff by `share` (0 to 1), never less
    /// than the first wait nor than what the server `asked` for.
    pub(super) fn failed(&mut self, share: f64, asked: Option<Duration>) -> Duration {
        let whole = self.first.saturating_mul(2_u32.saturating_pow(self.failures.saturating_add(1).min(16)));
        let wait = whole.min(self.longest).mul_f64(0.5 + share.clamp(0.0, 1.0) / 2.0).max(self.first);
        self.failures = self.failures.saturating_add(1);
        wait.max(asked.unwrap_or_default())
    }

    /// It worked: the next failure waits briefly again.
    pub(super) const fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// How many attempts failed since the last that worked.
    pub(super) const fn failures(&self) -> u32 {
        self.failures
    }
}

/// So many at once, then so many a second.
#[derive(Clone, Debug)]
pub(super) struct Budget {
    every: Duration,
    burst: u32,
    /// When the budget would be full.
    full: Option<Instant>,
}

impl Budget {
    /// `per_second` and `burst` count from one.
    pub(super) fn new(per_second: u32, burst: u32) -> Self {
        Self { every: Duration::from_secs(1) / per_second.max(1), burst: burst.max(1), full: None }
    }

    /// Takes one if there is one at `now`.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        if self.next(now) > now {
            return false;
        }
        self.full = Some(self.full.map_or(now, |full| full.max(now)) + self.every);
        true
    }

    /// When there is one to take.
    pub(super) fn next(&self, now: Instant) -> Instant {
        let Some(full) = self.full else { return now };
        let others = self.every * (self.burst - 1);
        full.checked_sub(others).map_or(now, |next| next.max(now))
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "an Instant can only be had from a clock")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn waits_grow_to_the_limit_and_obey_the_server() {
        let mut retry = Retry::new(Duration::from_millis(800), Duration::from_secs(30));
        let waits: Vec<u128> = (0..7).map(|_| retry.failed(1.0, None).as_millis()).collect();
        assert_eq!(waits, [1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000]);
        assert_eq!(retry.failed(0.0, None), Duration::from_secs(15));
        assert_eq!(retry.failed(0.0, Some(Duration::from_mins(1))), Duration::from_mins(1));
        retry.succeeded();
        assert_eq!(retry.failed(0.0, None), Duration::from_millis(800));
    }

    proptest! {
        #[test]
        fn no_second_sees_more_than_burst_and_rate(gaps in proptest::collection::vec(0_u64..300, 1..200)) {
            let (mut budget, mut now) = (Budget::new(10, 5), Instant::now());
            let mut taken: Vec<Instant> = Vec::new();
            for gap in gaps {
                now += Duration::from_millis(gap);
                if budget.take(now) {
                    taken.push(now);
                    let recent = taken.iter().filter(|at| now.duration_since(**at) < Duration::from_secs(1)).count();
                    prop_assert!(recent <= 15);
                }
                let next = budget.next(now);
                prop_assert!(budget.clone().take(next));
            }
        }
    }
}
