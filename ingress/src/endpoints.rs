//! The endpoints of one backend, and which of them takes the next request.
//!
//! [`Endpoints`] is as immutable as the table it hangs in; what changes with every request ([`Load`]) is shared with the
//! tables before and after, so that a swap forgets neither requests in flight nor an ejection.
//!
//! The choice is "power of two choices": of two endpoints drawn at random, the one with fewer requests in flight.
//!
//! Pure but for the counters: random bits and the time are arguments. Where addresses come from: [`crate::backend`].

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::backend::{BackendKey, BackendProblem};

/// What one endpoint is going through; outlives the tables that name it.
#[derive(Debug, Default)]
pub struct Load {
    in_flight: AtomicU32,
    ejected_until: AtomicU64,
}

impl Load {
    /// Counts one request from now until the guard is dropped.
    #[must_use]
    pub fn enter(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(Arc::clone(self))
    }

    /// Requests in flight.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Passes the endpoint over until `moment`, in milliseconds on the clock that [`Endpoints::pick`] is told.
    pub fn eject_until(&self, moment: u64) {
        self.ejected_until.fetch_max(moment, Ordering::Relaxed);
    }

    /// Forgets an ejection, after a request that went well.
    pub fn readmit(&self) {
        // A plain read first: the cache line stays shared while nothing was ejected.
        if self.ejected_until.load(Ordering::Relaxed) != 0 {
            self.ejected_until.store(0, Ordering::Relaxed);
        }
    }

    /// Whether the endpoint is passed over at `now`.
    #[must_use]
    pub fn is_ejected(&self, now: u64) -> bool {
        self.ejected_until.load(Ordering::Relaxed) > now
    }
}

/// One request in flight; dropping it is the end of the request.
#[derive(Debug)]
pub struct InFlight(Arc<Load>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One address behind a backend.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Where it listens.
    pub addr: SocketAddr,
    /// What it is going through.
    pub load: Arc<Load>,
}

/// All endpoints of one backend that may take requests.
#[derive(Debug)]
pub struct Endpoints {
    key: BackendKey,
    list: Box<[Endpoint]>,
    refused: Box<[IpAddr]>,
    problem: Option<BackendProblem>,
}

impl Endpoints {
    /// The endpoints at `addrs` (sorted, each once); keeps the [`Load`] of those that `previous` has.
    #[must_use]
    pub fn new(
        key: BackendKey,
        addrs: impl IntoIterator<Item = SocketAddr>,
        refused: Vec<IpAddr>,
        previous: Option<&Self>,
    ) -> Self {
        let known: HashMap<SocketAddr, &Arc<Load>> =
            previous.into_iter().flat_map(|all| all.list.iter()).map(|known| (known.addr, &known.load)).collect();
        let load = |addr: &SocketAddr| known.get(addr).map_or_else(Arc::default, |load| Arc::clone(load));
        let list: Box<[Endpoint]> = addrs.into_iter().map(|addr| Endpoint { addr, load: load(&addr) }).collect();
        let problem = list.is_empty().then(|| BackendProblem::NoEndpoints { service: key.service.clone() });
        Self { key, list, refused: refused.into(), problem }
    }

    /// No endpoints, because of `problem`.
    #[must_use]
    pub fn broken(key: BackendKey, problem: BackendProblem) -> Self {
        Self { key, list: Box::default(), refused: Box::default(), problem: Some(problem) }
    }

    /// Which backend this is; stable over tables, so fit for naming pools and metrics.
    #[must_use]
    pub const fn key(&self) -> &BackendKey {
        &self.key
    }

    /// The endpoints, by address.
    #[must_use]
    pub const fn list(&self) -> &[Endpoint] {
        &self.list
    }

    /// Addresses that some slice names and that no request may go to.
    #[must_use]
    pub const fn refused(&self) -> &[IpAddr] {
        &self.refused
    }

    /// Why there are no endpoints; `None` if there are some.
    #[must_use]
    pub const fn problem(&self) -> Option<&BackendProblem> {
        self.problem.as_ref()
    }

    /// Whether both have the same addresses, refuse the same and fail for the same reason.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        let addrs = |all: &Self| all.list.iter().map(|endpoint| endpoint.addr).collect::<Vec<_>>();
        self.key == other.key
            && addrs(self) == addrs(other)
            && self.refused == other.refused
            && self.problem == other.problem
    }

    /// The endpoint for the next request, from 64 random bits; `now` in milliseconds on any steady clock.
    ///
    /// If all are ejected, ejection means nothing: an endpoint in doubt is better than a certain 503.
    #[must_use]
    pub fn pick(&self, random: u64, now: u64) -> Option<&Endpoint> {
        self.pick_other(random, now, &[])
    }

    /// As [`Self::pick`], passing over those already tried for this request; `None` once all were.
    #[must_use]
    pub fn pick_other(&self, random: u64, now: u64, tried: &[SocketAddr]) -> Option<&Endpoint> {
        let untried = |endpoint: &&Endpoint| !tried.contains(&endpoint.addr);
        let admitted = |endpoint: &&Endpoint| untried(endpoint) && !endpoint.load.is_ejected(now);
        self.of_two(random, admitted).or_else(|| self.of_two(random, untried))
    }

    /// The less busy of two that pass `filter`.
    fn of_two(&self, random: u64, filter: impl Fn(&&Endpoint) -> bool) -> Option<&Endpoint> {
        let passing = || self.list.iter().filter(&filter);
        let count = passing().count();
        let first = scale(random, count)?;
        // Drawn from the others, so that two different ones are compared.
        let Some(second) = scale(random.rotate_left(32), count - 1) else { return passing().nth(first) };
        let second = if second >= first { second + 1 } else { second };
        let (one, other) = (passing().nth(first)?, passing().nth(second)?);
        Some(if other.load.in_flight() < one.load.in_flight() { other } else { one })
    }
}

/// Maps random bits evenly onto `0..count`; `None` if that is empty.
fn scale(random: u64, count: usize) -> Option<usize> {
    let scaled = (u128::from(random) * u128::try_from(count).ok()?) >> 64;
    if count == 0 { None } else { usize::try_from(scaled).ok() }
}

#[cfg(test)]
mod tests {
    use config::object::ObjectName;
    use proptest::prelude::*;

    use super::*;
    use crate::backend::PortRef;

    fn endpoints(count: u8) -> Endpoints {
        let key = BackendKey { service: ObjectName::new("shop", "web"), port: PortRef::Number(80) };
        Endpoints::new(key, (1..=count).map(addr), Vec::new(), None)
    }

    fn addr(last: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, last], 8080))
    }

    #[test]
    fn the_less_busy_of_two_is_picked() {
        let endpoints = endpoints(2);
        let busy = endpoints.list()[0].load.enter();
        for random in [0, u64::MAX, 0x8000_0000_0000_0000, 0x1234_5678_9ABC_DEF0] {
            assert_eq!(endpoints.pick(random, 0).unwrap().addr, addr(2));
        }
        drop(busy);
        assert_eq!(endpoints.list()[0].load.in_flight(), 0);
    }

    #[test]
    fn a_load_outlives_the_table_that_names_it() {
        let before = endpoints(2);
        let guard = before.list()[1].load.enter();
        let after = Endpoints::new(before.key().clone(), [addr(2), addr(3)], Vec::new(), Some(&before));
        assert_eq!(after.list().iter().map(|endpoint| endpoint.load.in_flight()).collect::<Vec<_>>(), [1, 0]);
        drop(guard);
        assert_eq!(after.list()[0].load.in_flight(), 0);
    }

    #[test]
    fn an_ejected_endpoint_is_passed_over_until_its_time_is_up_or_nothing_else_is_left() {
        let endpoints = endpoints(2);
        endpoints.list()[0].load.eject_until(100);
        assert_eq!(endpoints.pick(0, 99).unwrap().addr, addr(2));
        assert_eq!(endpoints.pick(0, 100).unwrap().addr, addr(1));
        endpoints.list()[1].load.eject_until(100);
        assert!(endpoints.pick(0, 99).is_some());
        endpoints.list()[0].load.readmit();
        assert_eq!(endpoints.pick(u64::MAX, 99).unwrap().addr, addr(1));
    }

    #[test]
    fn every_endpoint_has_its_turn() {
        let endpoints = endpoints(5);
        let picked: std::collections::BTreeSet<_> =
            (0..5_u64).map(|turn| endpoints.pick((2 * turn + 1) * (u64::MAX / 10), 0).unwrap().addr).collect();
        assert_eq!(picked.len(), 5);
    }

    proptest! {
        #[test]
        fn a_retry_never_goes_where_the_request_has_been(random: u64, count in 0_u8..6, tried in 0_u8..6) {
            let tried: Vec<_> = (1..=tried).map(addr).collect();
            let all = endpoints(count);
            let picked = all.pick_other(random, 0, &tried);
            prop_assert_eq!(picked.is_some(), usize::from(count) > tried.len());
            prop_assert!(picked.is_none_or(|endpoint| !tried.contains(&endpoint.addr)));
        }
    }
}
