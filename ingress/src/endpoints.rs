//! The endpoints of one backend, and how each of them fares.
//!
//! [`Endpoints`] is as immutable as the table it hangs in; what changes with every request ([`Load`]) is shared with the
//! tables before and after, so that a swap forgets neither requests in flight nor an ejection.
//!
//! An endpoint that refuses a connection is passed over for 2 s, one that is asked again and refuses again for 4 s, and
//! so on up to 30 s; one that breaks off or keeps silent, only after doing so [`Load::TOLERATED`] times in a row. A good
//! answer ends all that, and the endpoint is as one that is new.
//!
//! Pure but for the counters: the time is an argument. Where addresses come from: [`crate::backend`]; which endpoint
//! takes a request: [`crate::balance`].

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use config::annotation::Protocol;

use crate::backend::{BackendKey, BackendProblem};
use crate::balance::key::Fnv;
use crate::balance::mix;

/// What one endpoint is going through; outlives the tables that name it.
#[derive(Debug, Default)]
pub struct Load {
    in_flight: AtomicU32,
    ejected_until: AtomicU64,
    /// Failures in a row.
    failures: AtomicU32,
    /// When it was seen first, or came back, plus one; 0 if nobody has looked at it.
    since: AtomicU64,
    /// Microseconds to an answer, averaged (upper half, `f32`), and when, in milliseconds (lower half); 0 if unknown.
    latency: AtomicU64,
}

/// How an endpoint failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Harm {
    /// It does not accept connections.
    Refused,
    /// It broke off, kept silent or made no sense.
    Broken,
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

    /// Failures other than refusals that it may have in a row.
    pub const TOLERATED: u32 = 5;

    /// Passes the endpoint over until `moment`, in milliseconds on the clock that [`crate::balance::choose`] is told.
    pub fn eject_until(&self, moment: u64) {
        self.ejected_until.fetch_max(moment, Ordering::Relaxed);
    }

    /// The endpoint failed; whether it is passed over from now on and was not before.
    pub fn failed(&self, now: u64, harm: Harm) -> bool {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        let beyond = match harm {
            Harm::Refused => failures,
            Harm::Broken => failures.saturating_sub(Self::TOLERATED - 1),
        };
        if beyond == 0 || self.is_ejected(now) {
            return false;
        }
        self.eject_until(now + (1000_u64 << beyond.min(5)).min(30_000));
        true
    }

    /// The endpoint answered, after so many microseconds if that is to be remembered.
    pub fn answered(&self, now: u64, micros: Option<u32>) {
        // Plain reads first: the cache line stays shared while nothing is wrong.
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
        if self.ejected_until.load(Ordering::Relaxed) != 0 {
            self.ejected_until.store(0, Ordering::Relaxed);
            self.readmitted(now);
        }
        if let Some(micros) = micros {
            self.remember(now, micros);
        }
    }

    /// From `now` on it is as one that is new.
    pub fn readmitted(&self, now: u64) {
        self.since.store(now.saturating_add(1), Ordering::Relaxed);
    }

    /// For how many milliseconds it has been there; the first who looks starts the count.
    #[must_use]
    pub fn age(&self, now: u64) -> u64 {
        match self.since.load(Ordering::Relaxed) {
            0 => {
                self.readmitted(now);
                0
            }
            since => now.saturating_sub(since - 1),
        }
    }

    /// Whether it is likely to answer sooner than `other`; where one has not answered yet, the less busy is.
    #[must_use]
    pub fn is_faster_than(&self, other: &Self) -> bool {
        let (one, two) = (self.in_flight(), other.in_flight());
        let cost = |load: &Self, in_flight: u32| match unpack(load.latency.load(Ordering::Relaxed)) {
            (micros, _) if micros > 0.0 => Some(f64::from(micros) * (f64::from(in_flight) + 1.0)),
            _ => None,
        };
        match (cost(self, one), cost(other, two)) {
            (Some(mine), Some(theirs)) => mine < theirs,
            _ => one < two,
        }
    }

    /// An average that forgets within some 10 s, as ingress-nginx has it. Of two that write at once, one is forgotten.
    fn remember(&self, now: u64, micros: u32) {
        const MEMORY_MS: f32 = 10_000.0;
        let now = u32::try_from(now & u64::from(u32::MAX)).unwrap_or_default();
        let (before, then) = unpack(self.latency.load(Ordering::Relaxed));
        #[expect(clippy::cast_precision_loss, reason = "an average needs no more than 24 bits")]
        let (micros, passed) = (micros.max(1) as f32, now.wrapping_sub(then) as f32);
        let weight = if before > 0.0 { (-passed / MEMORY_MS).exp() } else { 0.0 };
        let average = before * weight + micros * (1.0 - weight);
        self.latency.store(u64::from(average.to_bits()) << 32 | u64::from(now), Ordering::Relaxed);
    }

    /// Whether the endpoint is passed over at `now`.
    #[must_use]
    pub fn is_ejected(&self, now: u64) -> bool {
        self.ejected_until.load(Ordering::Relaxed) > now
    }
}

/// The two halves of a latency.
#[expect(clippy::cast_possible_truncation, reason = "each half is taken for itself")]
const fn unpack(latency: u64) -> (f32, u32) {
    (f32::from_bits((latency >> 32) as u32), latency as u32)
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
    /// A number for that, the same in every process.
    pub id: u64,
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
    protocol: Option<Protocol>,
    turns: Arc<AtomicUsize>,
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
        let list: Box<[Endpoint]> =
            addrs.into_iter().map(|addr| Endpoint { addr, id: id(addr), load: load(&addr) }).collect();
        let problem = list.is_empty().then(|| BackendProblem::NoEndpoints { service: key.service.clone() });
        let turns = previous.map(|previous| Arc::clone(&previous.turns)).unwrap_or_default();
        Self { key, list, refused: refused.into(), problem, protocol: None, turns }
    }

    /// The same, speaking what the Service port says.
    #[must_use]
    pub fn speaking(self, protocol: Option<Protocol>) -> Self {
        Self { protocol, ..self }
    }

    /// No endpoints, because of `problem`.
    #[must_use]
    pub fn broken(key: BackendKey, problem: BackendProblem) -> Self {
        let (list, refused, turns) = (Box::default(), Box::default(), Arc::default());
        Self { key, list, refused, problem: Some(problem), protocol: None, turns }
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

    /// What they speak, if the Service port says so.
    #[must_use]
    pub const fn protocol(&self) -> Option<Protocol> {
        self.protocol
    }

    /// Whose turn it is among `count`; goes on with every call. `None` if there are none.
    #[must_use]
    pub fn turn(&self, count: usize) -> Option<usize> {
        self.turns.fetch_add(1, Ordering::Relaxed).checked_rem(count)
    }

    /// Whether both have the same addresses, refuse the same and fail for the same reason.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        let addrs = |all: &Self| all.list.iter().map(|endpoint| endpoint.addr).collect::<Vec<_>>();
        self.key == other.key
            && addrs(self) == addrs(other)
            && self.refused == other.refused
            && self.problem == other.problem
            && self.protocol == other.protocol
    }
}

/// A number for an address, by its bytes alone.
fn id(addr: SocketAddr) -> u64 {
    let mut hash = Fnv::new();
    match addr.ip() {
        IpAddr::V4(ip) => hash.add(&ip.octets()),
        IpAddr::V6(ip) => hash.add(&ip.octets()),
    }
    hash.add(&addr.port().to_be_bytes());
    mix(hash.state)
}

#[cfg(test)]
mod tests {
    use config::object::ObjectName;

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
    fn a_load_outlives_the_table_that_names_it() {
        let before = endpoints(2);
        let guard = before.list()[1].load.enter();
        let after = Endpoints::new(before.key().clone(), [addr(2), addr(3)], Vec::new(), Some(&before));
        assert_eq!(after.list().iter().map(|endpoint| endpoint.load.in_flight()).collect::<Vec<_>>(), [1, 0]);
        drop(guard);
        assert_eq!(after.list()[0].load.in_flight(), 0);
    }

    #[test]
    fn an_endpoint_that_keeps_refusing_is_passed_over_for_longer_and_longer() {
        let load = Load::default();
        let mut now = 1000;
        for pause in [2000, 4000, 8000, 16_000, 30_000, 30_000] {
            assert!(load.failed(now, Harm::Refused), "that is news");
            assert!(load.is_ejected(now + pause - 1) && !load.is_ejected(now + pause), "{pause} ms");
            now += pause;
        }
        load.answered(now, None);
        assert!(load.failed(now, Harm::Refused));
        assert!(!load.failed(now, Harm::Refused), "that is none");
        assert!(load.is_ejected(now + 1999) && !load.is_ejected(now + 2000), "a good answer forgets");
    }

    #[test]
    fn one_that_breaks_off_is_passed_over_only_if_it_does_so_again_and_again() {
        let load = Load::default();
        for _ in 1..Load::TOLERATED {
            assert!(!load.failed(0, Harm::Broken));
        }
        assert!(load.failed(0, Harm::Broken) && load.is_ejected(1));
        load.answered(1, None);
        assert!(!load.failed(1, Harm::Broken));
    }

    #[test]
    fn speed_is_that_of_the_last_answers() {
        let (one, other) = (Load::default(), Load::default());
        one.answered(0, Some(10_000));
        other.answered(0, Some(50_000));
        assert!(one.is_faster_than(&other) && !other.is_faster_than(&one));
        other.answered(60_000, Some(1_000));
        assert!(other.is_faster_than(&one), "what was a minute ago counts little");
    }
}
