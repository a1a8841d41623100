//! When to look again after a change, and after a failure.
//!
//! Changes come in bursts: an editor writes, renames, deletes. [`Debounce`] waits until a burst has been quiet for a
//! moment, but never longer than a ceiling, so that a stream of changes cannot keep us from looking. [`Backoff`]
//! spaces out attempts that fail.
//!
//! Pure: `now` is an argument.

use std::time::{Duration, Instant};

/// How long nothing must have changed.
pub const QUIET: Duration = Duration::from_millis(20);
/// How long a change waits at most.
pub const CEILING: Duration = Duration::from_millis(200);

/// Joins a burst of changes into one.
#[derive(Clone, Debug)]
pub struct Debounce {
    quiet: Duration,
    ceiling: Duration,
    burst: Option<Burst>,
}

#[derive(Clone, Copy, Debug)]
struct Burst {
    first: Instant,
    last: Instant,
}

impl Debounce {
    /// Fires `quiet` after the last change of a burst, at most `ceiling` after its first.
    #[must_use]
    pub const fn new(quiet: Duration, ceiling: Duration) -> Self {
        Self { quiet, ceiling, burst: None }
    }

    /// Something changed at `now`.
    pub fn hint(&mut self, now: Instant) {
        let first = self.burst.map_or(now, |burst| burst.first);
        self.burst = Some(Burst { first, last: now });
    }

    /// When the burst is over; `None` while nothing changed.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.burst.map(|burst| (burst.last + self.quiet).min(burst.first + self.ceiling))
    }

    /// Whether the burst is over at `now`; if so, it is forgotten.
    pub fn take(&mut self, now: Instant) -> bool {
        let due = self.deadline().is_some_and(|deadline| deadline <= now);
        if due {
            self.burst = None;
        }
        due
    }
}

impl Default for Debounce {
    fn default() -> Self {
        Self::new(QUIET, CEILING)
    }
}

/// Waits longer after every failure: one second, doubled up to half a minute.
#[derive(Clone, Debug, Default)]
pub struct Backoff {
    failures: u32,
    next: Option<Instant>,
}

impl Backoff {
    const FIRST: Duration = Duration::from_secs(1);
    const LONGEST: Duration = Duration::from_secs(30);

    /// The attempt at `now` failed.
    pub fn failed(&mut self, now: Instant) {
        let wait = Self::FIRST.saturating_mul(1 << self.failures.min(10)).min(Self::LONGEST);
        self.failures = self.failures.saturating_add(1);
        self.next = Some(now + wait);
    }

    /// The attempt succeeded: the next failure waits briefly again.
    pub fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// When to try again; `None` while the last attempt succeeded.
    #[must_use]
    pub const fn deadline(&self) -> Option<Instant> {
        self.next
    }

    /// Whether an attempt at `now` is welcome.
    #[must_use]
    pub fn allows(&self, now: Instant) -> bool {
        self.next.is_none_or(|next| next <= now)
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "an Instant can only be had from a clock")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_fires_after_the_quiet_period_and_never_past_the_ceiling(
            gaps in proptest::collection::vec(0_u64..60, 1..40),
        ) {
            let start = Instant::now();
            let (mut debounce, mut now, mut first, mut last) = (Debounce::default(), start, None, start);
            for gap in gaps {
                now += Duration::from_millis(gap);
                if debounce.take(now) {
                    let began: Instant = first.take().expect("it never fires without a change");
                    prop_assert!(now >= last + QUIET || now >= began + CEILING);
                } else if let Some(began) = first {
                    prop_assert!(now < last + QUIET && now < began + CEILING);
                }
                debounce.hint(now);
                first = first.or(Some(now));
                last = now;
                let deadline = debounce.deadline().expect("a change is waiting");
                prop_assert!(deadline <= last + QUIET && deadline <= first.unwrap() + CEILING);
            }
        }
    }

    #[test]
    fn failures_are_spaced_out_up_to_half_a_minute_and_success_forgets_them() {
        let now = Instant::now();
        let mut backoff = Backoff::default();
        assert!(backoff.allows(now) && backoff.deadline().is_none());
        for seconds in [1, 2, 4, 8, 16, 30, 30] {
            backoff.failed(now);
            assert_eq!(backoff.deadline(), Some(now + Duration::from_secs(seconds)));
            assert!(!backoff.allows(now) && backoff.allows(now + Duration::from_secs(seconds)));
        }
        backoff.succeeded();
        assert!(backoff.allows(now));
    }
}
