//! The other machine on the LAN: asks, or makes noise.
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use ferrogate_tests::netns::Wire;
use serde::{Deserialize, Serialize};

use super::frames;

/// The address it asks from.
const SENDER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
/// How long an answer is waited for.
const LIMIT: Duration = Duration::from_millis(200);

/// How long answers took, in microseconds.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Latency {
    /// Half were quicker.
    pub p50: u128,
    /// All but one in a hundred were.
    pub p99: u128,
    /// All but one in a thousand were.
    pub p999: u128,
    /// The slowest.
    pub max: u128,
    /// Questions without an answer within 200 ms.
    pub lost: usize,
}

/// Asks `questions` times, each when the one before was answered, for one of `count` VIPs after the other: each asker
/// is answered ten times a second for each.
#[must_use]
pub fn ask(first: Ipv4Addr, count: u32, questions: u32) -> Latency {
    let mut wire = Wire::open();
    let (mut taken, mut lost) = (Vec::new(), 0);
    for number in 0..questions {
        let vip = Ipv4Addr::from_bits(first.to_bits() + number % count.max(1));
        match answer_time(&mut wire, vip) {
            Some(time) => taken.push(time.as_micros()),
            None => lost += 1,
        }
        // Slowly enough that a VIP's turn comes less than ten times a second.
        std::thread::sleep(Duration::from_micros(300));
    }
    taken.sort_unstable();
    let at = |per_mille: usize| taken.get(taken.len() * per_mille / 1000).or(taken.last()).copied().unwrap_or_default();
    Latency { p50: at(500), p99: at(990), p999: at(999), max: at(1000), lost }
}

fn answer_time(wire: &mut Wire, vip: Ipv4Addr) -> Option<Duration> {
    let mac = wire.mac();
    let start = Instant::now();
    wire.send(&frames::question(mac, SENDER, vip));
    while start.elapsed() < LIMIT {
        if wire.frame().as_deref().and_then(|frame| frames::answered(frame, mac)) == Some(vip) {
            return Some(start.elapsed());
        }
    }
    None
}

/// Asks for addresses that nobody has, so many times a second, until it is killed.
pub fn storm(per_second: u32) -> ! {
    let mut wire = Wire::open();
    let (mac, start, mut sent) = (wire.mac(), Instant::now(), 0_u32);
    loop {
        let due = start.elapsed().as_micros() * u128::from(per_second) / 1_000_000;
        while u128::from(sent) < due {
            let target = Ipv4Addr::from_bits(Ipv4Addr::new(10, 99, 0, 0).to_bits() + sent % 65_536);
            wire.send(&frames::question(mac, SENDER, target));
            sent += 1;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}
