//! What is said once, though it happens again and again.
//!
//! Pure: `now` is an argument.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How far apart two lines about the same are.
const APART: Duration = Duration::from_mins(1);

/// When each kind of trouble was told last, and how often it occurred since.
#[derive(Debug)]
pub(super) struct Sayings<K> {
    told: BTreeMap<K, (Instant, u32)>,
}

impl<K> Default for Sayings<K> {
    fn default() -> Self {
        Self { told: BTreeMap::new() }
    }
}

impl<K: Ord> Sayings<K> {
    /// It occurs at `now`: how often since it was told last, this time included, if it is to be told.
    pub(super) fn occurs(&mut self, kind: K, now: Instant) -> Option<u32> {
        let Some((at, held_back)) = self.told.get_mut(&kind) else {
            self.told.insert(kind, (now, 0));
            return Some(1);
        };
        *held_back = held_back.saturating_add(1);
        if now < *at + APART {
            return None;
        }
        *at = now;
        Some(std::mem::take(held_back))
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "an Instant can only be had from a clock")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn each_kind_is_told_once_a_minute_and_nothing_goes_uncounted(
            occurrences in proptest::collection::vec((0_u8..3, 0_u64..40), 1..200),
        ) {
            let (mut sayings, mut now) = (Sayings::default(), Instant::now());
            let mut told: BTreeMap<u8, Vec<(Instant, u32)>> = BTreeMap::new();
            let mut all: BTreeMap<u8, u32> = BTreeMap::new();
            for (kind, seconds) in occurrences {
                now += Duration::from_secs(seconds);
                *all.entry(kind).or_default() += 1;
                let lines = told.entry(kind).or_default();
                if let Some(times) = sayings.occurs(kind, now) {
                    prop_assert!(lines.last().is_none_or(|(at, _)| now >= *at + APART));
                    lines.push((now, times));
                    prop_assert_eq!(lines.iter().map(|(_, times)| times).sum::<u32>(), all[&kind]);
                } else {
                    prop_assert!(lines.last().is_some_and(|(at, _)| now < *at + APART));
                }
            }
        }
    }
}
