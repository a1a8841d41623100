//! How long something takes, several times.

#![expect(clippy::disallowed_methods, reason = "a measurement reads the clock")]

use std::fmt::Write as _;
use std::time::{Duration, Instant};

/// The times of several rounds, in order.
#[derive(Clone, Debug)]
pub struct Times(Vec<Duration>);

impl Times {
    /// Of times that were measured elsewhere; `None` if there are none.
    #[must_use]
    pub fn of(mut times: Vec<Duration>) -> Option<Self> {
        times.sort_unstable();
        (!times.is_empty()).then_some(Self(times))
    }

    /// The time that this part of the rounds took at most.
    #[must_use]
    pub fn quantile(&self, part: f64) -> Duration {
        let last = self.0.len() - 1;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "an index"
        )]
        let at = (part * last as f64).ceil() as usize;
        self.0[at.min(last)]
    }
}

/// Times `work` on what `prepare` makes, `rounds` times at least once; what it returns is dropped outside of the time.
pub fn time<I, O>(rounds: usize, mut prepare: impl FnMut(usize) -> I, mut work: impl FnMut(I) -> O) -> Times {
    let round = |round| {
        let input = prepare(round);
        let start = Instant::now();
        let output = work(input);
        let took = start.elapsed();
        drop(output);
        took
    };
    Times::of((0..rounds.max(1)).map(round).collect()).expect("one round at least")
}

/// Rows of a table in Markdown.
#[derive(Clone, Debug, Default)]
pub struct Rows(String);

impl Rows {
    /// Adds what was timed, and says so at once.
    pub fn add(&mut self, what: &str, times: &Times) {
        let millis = |part: f64| format!("{:.2}", times.quantile(part).as_secs_f64() * 1e3);
        eprintln!("{what}: {} ms", millis(0.5));
        let _ =
            writeln!(self.0, "| {what} | {} | {} | {} | {} |", millis(0.5), millis(0.99), millis(1.0), times.0.len());
    }

    /// The table.
    #[must_use]
    pub fn markdown(&self) -> String {
        format!("| what | median ms | p99 ms | worst ms | rounds |\n| --- | ---: | ---: | ---: | ---: |\n{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_the_time_that_so_many_rounds_kept() {
        let times = Times::of((1..=101).rev().map(Duration::from_millis).collect()).unwrap();
        for (part, millis) in [(0.0, 1), (0.5, 51), (0.99, 100), (1.0, 101)] {
            assert_eq!(times.quantile(part), Duration::from_millis(millis), "{part}");
        }
        assert!(Times::of(Vec::new()).is_none());
    }
}
