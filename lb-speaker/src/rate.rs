//! How many frames are sent unasked: announcements, and questions before an address is given.
//!
//! Switches shut a port that sends too much ARP (Cisco's dynamic ARP inspection above 15 a second), and a router's
//! neighbour table has room for some thousand entries.
//!
//! Pure.

use crate::{announcer, probe};

/// A flow of frames: so many at once, then so many a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Frames sent before pacing sets in.
    pub burst: u32,
    /// Frames a second from then on.
    pub per_second: u32,
}

/// What one interface sends unasked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Announcements of VIPs.
    pub announcements: Flow,
    /// Questions whether an address is free.
    pub probes: Flow,
}

impl Default for Rate {
    /// Fast enough for a thousand VIPs in seconds, and no flood.
    fn default() -> Self {
        Self {
            announcements: Flow { burst: announcer::UNPACED, per_second: announcer::PACED_PER_SECOND },
            probes: Flow { burst: probe::UNPACED, per_second: probe::PACED_PER_SECOND },
        }
    }
}

impl Rate {
    /// The least limit that leaves room for an announcement in both forms and a question in each second.
    pub const LEAST: u32 = 10;

    /// No more than `limit` frames in any second, of which announcements may be two thirds; limits below [`Self::LEAST`]
    /// count as that.
    #[must_use]
    pub fn at_most(limit: u32) -> Self {
        let limit = limit.max(Self::LEAST);
        let probes = limit / 3;
        let announcements = limit - probes;
        Self {
            announcements: Flow { burst: 2, per_second: announcements - 2 },
            probes: Flow { burst: 1, per_second: probes - 1 },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_holds_in_every_second() {
        for limit in [0, 10, 11, 15, 100, 10_000] {
            let Rate { announcements, probes } = Rate::at_most(limit);
            let most: u32 = [announcements, probes].iter().map(|flow| flow.burst + flow.per_second).sum();
            assert!(most <= limit.max(Rate::LEAST), "{limit}: {most}");
            assert!(announcements.per_second > 0 && probes.per_second > 0, "{limit}");
        }
    }
}
