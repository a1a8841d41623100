//! When to look again after a change, and after a failure.
//!
//! Changes come in bursts: an editor writes, renames, deletes. [`Debounce`] waits until a burst has been quiet for a
//! moment, but never longer than a ceiling, so that a stream of changes cannot keep us from looking. [`Pace`] lets a
//! change after a rest through at once and spaces out a stream. [`Backoff`] spaces out attempts that fail.
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

/// Spaces out what costs something: soon after a rest, farther and farther apart in a stream, up to a limit.
///
/// One change among few is not kept waiting, and a stream of them cannot keep a processor busy.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    shortest: Duration,
    longest: Duration,
    /// When it was done last, and how long to wait after it.
    last: Option<(Instant, Duration)>,
}

impl Pace {
    /// At least `shortest` apart after a rest of twice `longest`, then twice as much every time, up to `longest`.
    #[must_use]
    pub const fn new(shortest: Duration, longest: Duration) -> Self {
        Self { shortest, longest, last: None }
    }

    /// The first moment that is welcome; `None` for any.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.last.map(|(at, wait)| at + wait)
    }

    /// Whether `now` is welcome.
    #[must_use]
    pub fn allows(&self, now: Instant) -> bool {
        self.deadline().is_none_or(|deadline| deadline <= now)
    }

    /// It was done at `now`.
    pub fn done(&mut self, now: Instant) {
        let wait = match self.last {
            Some((at, wait)) if now < at + self.longest * 2 => (wait * 2).min(self.longest),
            Some(_) | None => self.shortest,
        };
        self.last = Some((now, wait));
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

    proptest! {
        #[test]
        fn a_stream_is_spaced_out_and_a_rest_forgotten(gaps in proptest::collection::vec(0_u64..150, 1..200)) {
            let millis = Duration::from_millis;
            let (mut pace, mut now) = (Pace::new(millis(10), millis(50)), Instant::now());
            let mut done: Vec<Instant> = Vec::new();
            for gap in gaps {
                now += millis(gap);
                let rested = done.last().is_none_or(|last| now >= *last + millis(100));
                if pace.allows(now) {
                    pace.done(now);
                    done.push(now);
                    let within = done.iter().filter(|at| now.duration_since(**at) < Duration::from_secs(1)).count();
                    prop_assert!(within <= 23, "{within} in a second");
                }
                let deadline = pace.deadline().expect("it was done once");
                let last = *done.last().expect("the first is always welcome");
                prop_assert!(deadline <= last + millis(50) && deadline >= last + millis(10));
                prop_assert!(!rested || deadline == now + millis(10), "after a rest the next waits briefly");
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
