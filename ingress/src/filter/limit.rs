//! How much one address may ask for: nginx's leaky bucket (`limit_req .. nodelay`) and count (`limit_conn`).
//!
//! What has been asked outlives a route table: an Ingress that changes keeps its [`Zone`], as nginx keeps its shared
//! memory over a reload. Time is an argument, in milliseconds, as nginx counts.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use config::annotation::Limits;

/// Addresses that one shard remembers at most.
const MOST: usize = 4096;
const SHARDS: usize = 16;
/// ingress-nginx's `limit-burst-multiplier`.
const BURST: u32 = 5;

/// What the addresses that asked one Ingress have left.
#[derive(Debug, Default)]
pub struct Zone {
    shards: [Mutex<HashMap<IpAddr, Client>>; SHARDS],
}

#[derive(Clone, Copy, Debug, Default)]
struct Client {
    second: Bucket,
    minute: Bucket,
    under_way: u32,
}

/// How far one address is ahead of its rate, in thousandths of a request, and when that was so.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    excess: u64,
    last: Option<u64>,
}

impl Bucket {
    /// The excess after one more request now; `None` if that is more than the burst.
    ///
    /// `rate` is in thousandths of a request per second. As nginx: the first request leaves none.
    fn after(self, rate: u64, burst: u64, now: u64) -> Option<u64> {
        let Some(last) = self.last else { return Some(0) };
        let drained = u128::from(rate) * u128::from(now.saturating_sub(last)) / 1000;
        let drained = u64::try_from(drained).unwrap_or(u64::MAX);
        let excess = (self.excess + 1000).saturating_sub(drained);
        (excess <= burst * 1000).then_some(excess)
    }
}

/// The limits of one Ingress.
#[derive(Clone, Debug)]
pub(super) struct Limiter {
    zone: Arc<Zone>,
    limits: Limits,
}

/// A request under way that counts for its address while this lives.
#[derive(Debug)]
pub struct Slot {
    zone: Arc<Zone>,
    address: IpAddr,
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(client) = self.zone.shard(self.address).get_mut(&self.address) {
            client.under_way = client.under_way.saturating_sub(1);
        }
    }
}

impl Limiter {
    pub(super) fn of(limits: &Limits, zone: &Arc<Zone>) -> Option<Self> {
        limits.counts().then(|| Self { zone: Arc::clone(zone), limits: limits.clone() })
    }

    /// Counts a request; an error if it is one too many. The slot is to be kept while the request is under way.
    pub(super) fn admit(&self, address: IpAddr, now: u64) -> Result<Option<Slot>, TooMany> {
        let limits = &self.limits;
        if limits.exempt.iter().any(|network| network.contains(&address)) {
            return Ok(None);
        }
        let mut shard = self.zone.shard(address);
        make_room(&mut shard, now);
        let client = shard.entry(address).or_default();
        let burst = u64::from(if limits.burst == 0 { BURST } else { limits.burst });
        let after = |bucket: Bucket, count: Option<u32>, per: u64| match count.map(u64::from) {
            None => Some(None),
            Some(count) => bucket.after(count * 1000 / per, count * burst, now).map(Some),
        };
        if limits.at_once.is_some_and(|most| client.under_way >= most) {
            return Err(TooMany::AtOnce);
        }
        let second = after(client.second, limits.per_second, 1).ok_or(TooMany::Often)?;
        let minute = after(client.minute, limits.per_minute, 60).ok_or(TooMany::Often)?;
        // Both let it pass, so both count it.
        for (bucket, excess) in [(&mut client.second, second), (&mut client.minute, minute)] {
            if let Some(excess) = excess {
                *bucket = Bucket { excess, last: Some(now) };
            }
        }
        if limits.at_once.is_none() {
            return Ok(None);
        }
        client.under_way += 1;
        drop(shard);
        Ok(Some(Slot { zone: Arc::clone(&self.zone), address }))
    }
}

/// What a client does too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TooMany {
    /// It asks too often.
    Often,
    /// It has too many requests under way.
    AtOnce,
}
impl Zone {
    fn shard(&self, address: IpAddr) -> MutexGuard<'_, HashMap<IpAddr, Client>> {
        let octets = match address {
            IpAddr::V4(ip) => u128::from(u32::from(ip)),
            IpAddr::V6(ip) => u128::from(ip),
        };
        let mixed = octets.wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835) >> 124;
        let at = usize::try_from(mixed).unwrap_or_default() % SHARDS;
        self.shards[at].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Forgets addresses if there are too many: first those of a minute ago, then any without a request under way.
fn make_room(shard: &mut HashMap<IpAddr, Client>, now: u64) {
    if shard.len() < MOST {
        return;
    }
    let is_recent = |bucket: Bucket| bucket.last.is_some_and(|last| now.saturating_sub(last) < 60_000);
    shard.retain(|_, client| client.under_way > 0 || is_recent(client.second) || is_recent(client.minute));
    if shard.len() >= MOST {
        shard.retain(|_, client| client.under_way > 0);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));

    fn limiter(limits: &Limits) -> Limiter {
        Limiter::of(limits, &Arc::default()).unwrap()
    }

    /// How many of `count` requests at once are let pass.
    fn pass(limiter: &Limiter, count: usize, now: u64) -> usize {
        (0..count).filter(|_| limiter.admit(ME, now).is_ok()).count()
    }

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let limiter = limiter(&Limits { per_second: Some(2), burst: 3, ..Limits::default() });
        // One, and a burst of 2 x 3.
        assert_eq!(pass(&limiter, 100, 1000), 7);
        assert_eq!(pass(&limiter, 100, 1499), 0);
        assert_eq!(pass(&limiter, 100, 1500), 1);
        assert_eq!(pass(&limiter, 100, 2500), 2);
        assert_eq!(pass(&limiter, 100, 60_000), 7);
    }

    #[test]
    fn the_stricter_of_two_rates_counts_and_what_it_refuses_counts_for_none() {
        let limiter = limiter(&Limits { per_second: Some(10), per_minute: Some(1), burst: 2, ..Limits::default() });
        assert_eq!(pass(&limiter, 100, 0), 3);
        // nginx counts one a minute as 16 thousandths a second.
        assert_eq!(pass(&limiter, 100, 62_400), 0);
        assert_eq!(pass(&limiter, 100, 62_500), 1);
    }

    #[test]
    fn requests_under_way_are_counted_while_they_are() {
        let limiter = limiter(&Limits { at_once: Some(2), ..Limits::default() });
        let one = limiter.admit(ME, 0).unwrap();
        let two = limiter.admit(ME, 0).unwrap();
        assert!(limiter.admit(ME, 0).is_err());
        assert!(limiter.admit("192.0.2.8".parse().unwrap(), 0).is_ok());
        drop(one);
        assert!(limiter.admit(ME, 0).is_ok());
        drop(two);
    }

    #[test]
    fn who_is_exempt_is_not_counted() {
        let exempt = vec!["192.0.2.0/24".parse().unwrap()];
        let limiter = limiter(&Limits { per_second: Some(1), exempt, ..Limits::default() });
        assert_eq!(pass(&limiter, 100, 0), 100);
    }

    #[test]
    fn memory_is_bounded_whoever_asks() {
        let limiter = limiter(&Limits { per_second: Some(1), ..Limits::default() });
        for number in 0..200_000_u32 {
            let _ = limiter.admit(IpAddr::V4(number.into()), 0);
        }
        let held: usize = limiter.zone.shards.iter().map(|shard| shard.lock().unwrap().len()).sum();
        assert!(held <= MOST * SHARDS, "{held}");
    }

    proptest! {
        #[test] // the law of nginx's `limit_req`: never more than the rate allows, and the burst
        fn no_more_passes_than_rate_and_burst_allow(
            rate in 1_u32..20, burst in 1_u32..6, gaps in prop::collection::vec(0_u64..400, 1..200),
        ) {
            let limiter = limiter(&Limits { per_second: Some(rate), burst, ..Limits::default() });
            let (mut now, mut passed) = (0, 0_u64);
            for gap in gaps {
                now += gap;
                passed += u64::from(limiter.admit(ME, now).is_ok());
                let allowed = 1 + u64::from(rate * burst) + (u64::from(rate) * now).div_ceil(1000);
                prop_assert!(passed <= allowed, "{passed} of {allowed} at {now}");
            }
        }
    }
}
