//! How fast a request body comes in.

use std::time::Duration;

use tokio::time::Instant;

use super::MIN_BODY_RATE;

/// Bytes, and the time spent waiting for them; while we do not read, nothing is held against the client.
#[derive(Debug, Default)]
pub(super) struct Pace {
    waiting_since: Option<Instant>,
    waited: Duration,
    bytes: u64,
}

impl Pace {
    /// There is nothing to read yet.
    pub(super) fn wait(&mut self) {
        self.waiting_since.get_or_insert_with(Instant::now);
    }

    /// Counts `bytes` that came; whether a window full of waiting brought too few.
    pub(super) fn is_too_slow(&mut self, bytes: usize, window: Duration) -> bool {
        self.bytes += bytes as u64;
        if let Some(since) = self.waiting_since.take() {
            self.waited += since.elapsed();
        }
        if self.waited < window {
            return false;
        }
        let owed = MIN_BODY_RATE.saturating_mul(u64::try_from(self.waited.as_millis()).unwrap_or(u64::MAX)) / 1000;
        let is_too_slow = self.bytes < owed;
        *self = Self::default();
        is_too_slow
    }
}
