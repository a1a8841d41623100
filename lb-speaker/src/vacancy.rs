//! The lowest address that a Service may have.
//!
//! During one run addresses are taken and never given back, so what was passed once stays passed: for each pool and
//! family a cursor stands below which nothing is free, and for each set of like-minded sharers one below which nobody
//! has room for their ports. A search costs what it passes for the first time, whatever the size of the pool.
//!
//! Pure; lives for one run of [`crate::allocator::allocate`].

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr};

use config::pool::{Pool, PoolConfig, is_buggy};

use crate::claim::{Claim, Family, Port, Sharing};
use crate::reserved::{self, Reserved};
use crate::tenancy::Tenancies;

/// A place in a pool: which of its ranges, then which address.
type Position = (usize, IpAddr);
/// A pool, by its position in the configuration, and a family.
type Row = (usize, Family);

/// Not above any other.
const LOWEST: Position = (0, IpAddr::V4(Ipv4Addr::UNSPECIFIED));

/// What is left of the pools.
#[derive(Debug)]
pub(crate) struct Vacancies<'a> {
    pools: &'a [Pool],
    /// Addresses that are passed over.
    reserved: &'a Reserved,
    /// First address, last address, pool and range of it, in the order of addresses.
    ranges: Vec<(IpAddr, IpAddr, usize, usize)>,
    /// Below this (range, offset) nothing is free.
    cursors: HashMap<Row, (usize, u128)>,
    /// Where sharers of one mind are.
    shared: HashMap<(Row, &'a Sharing), BTreeSet<Position>>,
    /// Below this position no sharer has room for these ports.
    full: HashMap<(Row, &'a Sharing, &'a [Port]), Position>,
}

impl<'a> Vacancies<'a> {
    pub(crate) fn new(config: &'a PoolConfig, reserved: &'a Reserved) -> Self {
        let numbered = config.pools.iter().enumerate();
        let mut ranges: Vec<_> = numbered
            .flat_map(|(pool, it)| {
                it.ranges.iter().enumerate().map(move |(at, range)| (range.first(), range.last(), pool, at))
            })
            .collect();
        ranges.sort_unstable();
        let (cursors, shared, full) = (HashMap::new(), HashMap::new(), HashMap::new());
        Self { pools: &config.pools, reserved, ranges, cursors, shared, full }
    }

    /// The pool whose ranges hold `ip`, whether or not it may be given.
    pub(crate) fn pool_around(&self, ip: IpAddr) -> Option<usize> {
        self.position(ip).map(|(pool, _)| pool)
    }

    /// The pool that may give `ip`.
    pub(crate) fn pool_of(&self, ip: IpAddr) -> Option<usize> {
        self.pool_around(ip).filter(|pool| self.may_give(*pool, ip))
    }

    /// Notes that `claim` was put on `ip`, for sharers to come.
    pub(crate) fn note(&mut self, ip: IpAddr, claim: &'a Claim) {
        let (Some(sharing), Some((pool, range))) = (&claim.sharing, self.position(ip)) else { return };
        if self.may_give(pool, ip) && reserved::bar(self.reserved, ip, &self.pools[pool]).is_none() {
            self.shared.entry(((pool, Family::of(ip)), sharing)).or_default().insert((range, ip));
        }
    }

    /// The lowest address of `pool` and `family` that is free, or shared by Services that `claim` may join.
    pub(crate) fn find(
        &mut self,
        pool: usize,
        family: Family,
        claim: &'a Claim,
        tenancies: &Tenancies<'_>,
    ) -> Option<IpAddr> {
        let free = self.lowest_free((pool, family), tenancies);
        let joined = self.lowest_joinable((pool, family), claim, free, tenancies);
        joined.or(free).map(|(_, ip)| ip)
    }

    fn lowest_free(&mut self, row: Row, tenancies: &Tenancies<'_>) -> Option<Position> {
        let pool = &self.pools[row.0];
        let barred =
            |ip: IpAddr| (pool.avoid_buggy_ips && is_buggy(ip)) || reserved::bar(self.reserved, ip, pool).is_some();
        let (at, offset) = self.cursors.entry(row).or_default();
        while let Some(range) = pool.ranges.get(*at) {
            let next = range.nth(*offset).filter(|ip| Family::of(*ip) == row.1);
            match next {
                None => (*at, *offset) = (*at + 1, 0),
                Some(ip) if tenancies.is_free(ip) && !barred(ip) => return Some((*at, ip)),
                Some(_) => *offset += 1,
            }
        }
        None
    }

    /// The lowest address below `limit` whose sharers `claim` may join.
    fn lowest_joinable(
        &mut self,
        row: Row,
        claim: &'a Claim,
        limit: Option<Position>,
        tenancies: &Tenancies<'_>,
    ) -> Option<Position> {
        let sharing = claim.sharing.as_ref()?;
        let places = self.shared.get(&(row, sharing))?;
        let full = self.full.entry((row, sharing, &claim.ports)).or_insert(LOWEST);
        for place in places.range(*full..) {
            if limit.is_some_and(|limit| limit < *place) {
                return None;
            }
            *full = *place;
            if tenancies.check(place.1, claim).is_ok() {
                return Some(*place);
            }
        }
        None
    }

    /// Pool and range that hold `ip`.
    fn position(&self, ip: IpAddr) -> Option<(usize, usize)> {
        let above = self.ranges.partition_point(|(first, ..)| *first <= ip);
        let (_, last, pool, range) = self.ranges.get(above.checked_sub(1)?)?;
        (ip <= *last).then_some((*pool, *range))
    }

    fn may_give(&self, pool: usize, ip: IpAddr) -> bool {
        !(self.pools[pool].avoid_buggy_ips && is_buggy(ip))
    }
}
