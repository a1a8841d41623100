//! Waiting for a condition, never for a moment: a test goes on as soon as it holds and fails when it never does.
#![expect(clippy::disallowed_methods, reason = "a test that waits reads the clock")]

use std::fmt::Display;
use std::time::{Duration, Instant};

/// How long anything may take on a machine that does other things beside; only a test that fails takes as long.
pub const PATIENCE: Duration = Duration::from_mins(2);
/// How often a condition is looked at.
const PERIOD: Duration = Duration::from_millis(10);

/// Asks `probe` until it returns a value; panics with its last answer after [`PATIENCE`].
pub async fn until<T, E: Display>(what: &str, probe: impl AsyncFnMut() -> Result<T, E>) -> T {
    within(PATIENCE, what, probe).await
}

/// As [`until`], with another limit.
pub async fn within<T, E: Display>(limit: Duration, what: &str, mut probe: impl AsyncFnMut() -> Result<T, E>) -> T {
    let watch = Stopwatch::start();
    loop {
        let began = watch.elapsed();
        match probe().await {
            Ok(value) => return value,
            Err(last) if watch.elapsed() > limit => panic!("{what} did not happen within {limit:?}: {last}"),
            // Who asks must not be what keeps the machine busy.
            Err(_) => tokio::time::sleep(PERIOD.max(4 * (watch.elapsed().saturating_sub(began)))).await,
        }
    }
}

/// Checks again and again for `period` that `probe` holds; panics when it does not.
pub async fn throughout<E: Display>(period: Duration, what: &str, mut probe: impl AsyncFnMut() -> Result<(), E>) {
    let watch = Stopwatch::start();
    while watch.elapsed() < period {
        if let Err(why) = probe().await {
            panic!("{what} ended after {:?}: {why}", watch.elapsed());
        }
        tokio::time::sleep(PERIOD).await;
    }
}

/// Time that has gone by.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts now.
    #[must_use]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// How long ago it was started.
    #[must_use]
    pub fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}
