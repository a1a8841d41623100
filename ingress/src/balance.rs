//! Which endpoint takes a request.
//!
//! ```text
//! cookie ──> one endpoint, while it lives            [persistent]
//!        ──> its key's endpoint                      [balanced] ─┐
//! hash  ───> its key's endpoint, or one of a few                 ├─ highest score of the endpoints there are
//! nothing ─> least requests │ fastest │ one after the other      │  (rendezvous hashing)
//! ```
//!
//! Of the endpoints that were not tried for this request, those that are ejected are passed over as long as one is
//! not. An endpoint that is new gets a tenth of its share at first and all of it after [`RAMP`], where two are compared;
//! requests whose turn it is, or that are tied to it, come at once.
//!
//! Every process reaches the same answer for the same key: scores depend on the address and the key alone, so an
//! endpoint that goes moves only the keys it had, and one that comes takes only those that are its own from then on.
//!
//! Pure but for counters beside the table; random bits and the time are arguments. Who is there: [`crate::endpoints`].

pub mod cookie;
pub mod key;

use std::net::SocketAddr;

use config::annotation::Method;

use crate::endpoints::{Endpoint, Endpoints};

/// How long a new endpoint gets less than its share, in milliseconds.
pub const RAMP: u64 = 5_000;

/// What ties a request to endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tie {
    /// Nothing.
    Free,
    /// A key: to the endpoints with the highest scores for it.
    Key {
        /// Any number, well mixed or not.
        key: u64,
        /// Among how many of them the choice is free; at least one.
        among: usize,
    },
    /// An endpoint, by its [`Endpoint::id`].
    Endpoint {
        /// The id.
        id: u64,
    },
}

/// How to choose.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    /// What the request is tied to.
    pub tie: Tie,
    /// How to choose where it is tied to nothing.
    pub method: Method,
}

impl Wish {
    /// Nothing said.
    pub const FREE: Self = Self { tie: Tie::Free, method: Method::LeastRequests };
}

/// 64 random bits, and milliseconds on any steady clock.
#[derive(Clone, Copy, Debug)]
pub struct Draw {
    /// The bits.
    pub random: u64,
    /// The time.
    pub now: u64,
}

/// The endpoint for a request that went to those `tried` before; `None` if there is no other.
///
/// If all are ejected, ejection means nothing: an endpoint in doubt is better than a certain 503.
#[must_use]
pub fn choose<'a>(all: &'a Endpoints, wish: &Wish, draw: Draw, tried: &[SocketAddr]) -> Option<&'a Endpoint> {
    let untried = |endpoint: &&Endpoint| !tried.contains(&endpoint.addr);
    let admitted = |endpoint: &&Endpoint| untried(endpoint) && !endpoint.load.is_ejected(draw.now);
    pick(all, wish, draw, admitted).or_else(|| pick(all, wish, draw, untried))
}

fn pick<'a>(all: &'a Endpoints, wish: &Wish, draw: Draw, filter: impl Fn(&&Endpoint) -> bool) -> Option<&'a Endpoint> {
    match wish.tie {
        Tie::Key { key, among } => by_key(all, key, among, draw.random, filter),
        Tie::Endpoint { id } => {
            let tied = all.list().iter().filter(&filter).find(|endpoint| endpoint.id == id);
            tied.or_else(|| free(all, wish.method, draw, &filter))
        }
        Tie::Free => free(all, wish.method, draw, &filter),
    }
}

/// One of the `among` with the highest scores.
fn by_key(
    all: &Endpoints,
    key: u64,
    among: usize,
    random: u64,
    filter: impl Fn(&&Endpoint) -> bool,
) -> Option<&Endpoint> {
    let scored = || all.list().iter().filter(&filter).map(|endpoint| (score(key, endpoint), endpoint));
    let best = |below: Option<(u64, SocketAddr)>| {
        let lower = scored().filter(|(score, endpoint)| below.is_none_or(|below| (*score, endpoint.addr) < below));
        lower.max_by_key(|(score, endpoint)| (*score, endpoint.addr))
    };
    let rank = if among <= 1 { 0 } else { scale(random, scored().count().min(among))? };
    let mut found = best(None)?;
    for _ in 0..rank {
        found = best(Some((found.0, found.1.addr)))?;
    }
    Some(found.1)
}

/// How much an endpoint wants a key.
fn score(key: u64, endpoint: &Endpoint) -> u64 {
    mix(key ^ endpoint.id)
}

fn free(all: &Endpoints, method: Method, draw: Draw, filter: impl Fn(&&Endpoint) -> bool) -> Option<&Endpoint> {
    let passing = || all.list().iter().filter(&filter);
    let count = passing().count();
    let is_better = match method {
        Method::RoundRobin => return passing().nth(all.turn(count)?),
        Method::LeastRequests => |one: &Endpoint, other: &Endpoint| one.load.in_flight() < other.load.in_flight(),
        Method::Ewma => |one: &Endpoint, other: &Endpoint| one.load.is_faster_than(&other.load),
    };
    let first = scale(draw.random, count)?;
    // Drawn from the others, so that two different ones are compared.
    let Some(second) = scale(draw.random.rotate_left(32), count - 1) else { return passing().nth(first) };
    let second = if second >= first { second + 1 } else { second };
    let (one, other) = (passing().nth(first)?, passing().nth(second)?);
    let (better, worse) = if is_better(other, one) { (other, one) } else { (one, other) };
    Some(if is_spared(better, draw) && !is_spared(worse, draw) { worse } else { better })
}

/// Whether an endpoint is too new for this request.
fn is_spared(endpoint: &Endpoint, draw: Draw) -> bool {
    let age = endpoint.load.age(draw.now);
    if age >= RAMP {
        return false;
    }
    let share = (age * 100 / RAMP).max(10);
    // Other bits than those that drew the two.
    (draw.random >> 16) % 100 >= share
}

/// Maps random bits evenly onto `0..count`; `None` if that is empty.
fn scale(random: u64, count: usize) -> Option<usize> {
    let scaled = (u128::from(random) * u128::try_from(count).ok()?) >> 64;
    if count == 0 { None } else { usize::try_from(scaled).ok() }
}

/// Spreads a number over all 64 bits, one to one (the finaliser of `SplitMix64`).
#[must_use]
pub const fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests;
