//! How much is too much: a paced flow, and a count per asker in bounded memory.
//!
//! Pure; neither allocates after it was made.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use crate::arp::MacAddr;

/// A flow that may burst and is even afterwards (a token bucket).
#[derive(Debug)]
pub(crate) struct Pace {
    burst: u32,
    /// Time that one token takes to come back.
    period: Duration,
    /// When the bucket is (or was) full again.
    full_at: Option<Instant>,
}

impl Pace {
    /// At most `burst` at once, then `per_second`.
    pub(crate) fn new(burst: u32, per_second: u32) -> Self {
        Self { burst, period: Duration::from_secs(1) / per_second, full_at: None }
    }

    /// Takes `count` tokens if there are that many.
    pub(crate) fn take(&mut self, count: u32, now: Instant) -> bool {
        let ready = self.ready_at(count, now) <= now;
        if ready {
            self.full_at = Some(self.full_at.map_or(now, |full| full.max(now)) + self.period * count);
        }
        ready
    }

    /// When `count` tokens are there; `now` if they are.
    pub(crate) fn ready_at(&self, count: u32, now: Instant) -> Instant {
        let slack = self.period * self.burst.saturating_sub(count);
        self.full_at.and_then(|full| full.checked_sub(slack)).map_or(now, |ready| ready.max(now))
    }
}

/// Counts what each asker wants of each VIP, in a table of fixed size. Who falls on another's place starts afresh, so
/// that a flood from made-up addresses makes the count forget rather than grow; a [`Pace`] bounds the whole.
#[derive(Debug)]
pub(crate) struct Askers {
    slots: Box<[Slot]>,
    per_second: u32,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    asker: MacAddr,
    vip: IpAddr,
    since: Option<Instant>,
    count: u32,
}

impl Askers {
    const SLOTS: usize = 1024;
    const WINDOW: Duration = Duration::from_secs(1);

    /// At most `per_second` for one asker and VIP.
    pub(crate) fn new(per_second: u32) -> Self {
        let empty = Slot { asker: crate::arp::ZERO, vip: IpAddr::V4(Ipv4Addr::UNSPECIFIED), since: None, count: 0 };
        Self { slots: vec![empty; Self::SLOTS].into_boxed_slice(), per_second }
    }

    /// Counts one question; whether it may be answered.
    pub(crate) fn admit(&mut self, asker: MacAddr, vip: IpAddr, now: Instant) -> bool {
        let slot = &mut self.slots[place(asker, vip)];
        let current = slot.asker == asker
            && slot.vip == vip
            && slot.since.is_some_and(|since| now.saturating_duration_since(since) < Self::WINDOW);
        if !current {
            *slot = Slot { asker, vip, since: Some(now), count: 0 };
        }
        slot.count = slot.count.saturating_add(1);
        slot.count <= self.per_second
    }
}

fn place(asker: MacAddr, vip: IpAddr) -> usize {
    let asker = asker.octets().into_iter().fold(0, |number, octet| number << 8 | u64::from(octet));
    let mixed = mix(asker ^ mix(fold(vip)));
    usize::try_from(mixed % Askers::SLOTS as u64).expect("a place is below the number of slots")
}

/// An address as one number; different ones of one subnet differ.
pub(crate) fn fold(ip: IpAddr) -> u64 {
    let octets = match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    };
    octets.into_iter().fold(0, |number, octet| number.rotate_left(8) ^ u64::from(octet))
}

/// Spreads the bits of a number evenly (the finalizer of `splitmix64`); not for secrets.
pub(crate) const fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "a test's arbitrary start; all later times are computed")]
    fn epoch() -> Instant {
        Instant::now()
    }

    #[test]
    fn a_paced_flow_bursts_and_is_even_afterwards() {
        let (mut pace, start) = (Pace::new(4, 10), epoch());
        assert_eq!((0..9).filter(|_| pace.take(1, start)).count(), 4);
        assert_eq!(pace.ready_at(2, start), start + Duration::from_millis(200));
        assert!(!pace.take(2, start + Duration::from_millis(199)));
        assert!(pace.take(2, start + Duration::from_millis(200)));
        let later = start + Duration::from_mins(1);
        assert_eq!((0..9).filter(|_| pace.take(1, later)).count(), 4, "a rest fills it to the burst and no further");
    }

    #[test]
    fn an_asker_is_limited_for_each_vip_and_second() {
        let (mut askers, now) = (Askers::new(10), epoch());
        let (asker, vip) = (MacAddr(2, 0, 0, 0, 0, 9), IpAddr::from([192, 0, 2, 1]));
        assert_eq!((0..50).filter(|_| askers.admit(asker, vip, now)).count(), 10);
        assert!(askers.admit(asker, IpAddr::from([192, 0, 2, 2]), now), "another VIP");
        assert!(askers.admit(MacAddr(2, 0, 0, 0, 0, 8), vip, now), "another asker");
        assert!(askers.admit(asker, vip, now + Duration::from_secs(1)), "another second");
    }
}
