//! Who gets which address.
//!
//! ```text
//! pools  ─┐
//! claims ─┼─> allocate ──> Assignment per Service: addresses, or why it waits
//! status ─┘
//! ```
//!
//! A fold over what was committed, which keeps nothing between calls, so nothing can drift. The law:
//!
//! 1. **Committed addresses stay**, as long as the Service still wants them and they are compatible with the others on
//!    them. Where holders of one address disagree, the larger company stays and who differs moves. An address whose
//!    pool was edited away stays too (orphaned) and is given to nobody else, unless [`OrphanPolicy`] says otherwise.
//! 2. **Then newcomers**: who asks for addresses, who asks for a pool, everybody else; each in the order of
//!    namespace and name. Pools kept for the Service first, by their priority, then those for all; in written order,
//!    entries as written, lowest address first.
//! 3. Both families of a Service come from one pool.
//! 4. Nobody is given an address that somebody else on the LAN has by right ([`crate::reserved`]), nor one of a pool
//!    that is kept for others.
//!
//! Pure. Whom an address may be shared with: `tenancy`. Why a Service waits: [`crate::refusal`].

use std::collections::HashMap;
use std::net::IpAddr;

use config::object::ObjectName;
use config::pool::{Labels, Pool, PoolConfig, PoolName, Protocol, ServiceAllocation};
use config::snapshot::Objects;
use k8s_openapi::api::core::v1::Namespace;

use crate::claim::{Claim, Families, Family, Sharing};
use crate::refusal::{Lacking, Refusal, Spared};
use crate::reserved::{self, Reserved};
use crate::tenancy::Tenancies;
use crate::vacancy::Vacancies;

/// What becomes of an address whose pool was edited away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OrphanPolicy {
    /// Its holder keeps it, and that is said.
    #[default]
    Keep,
    /// Its holder gets another, or waits for one.
    Reassign,
}

/// What is given, and under which rules.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    /// The pools.
    pub config: &'a PoolConfig,
    /// What becomes of addresses that no pool has any more.
    pub orphans: OrphanPolicy,
    /// Addresses of pools that are not ours to give. Who holds one keeps it.
    pub reserved: &'a Reserved,
    /// By whose labels pools may be kept for Services.
    pub namespaces: &'a Objects<Namespace>,
}

/// What one Service gets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Assignment {
    /// Its addresses, at most one per family, in the order the Service prefers.
    pub ips: Vec<IpAddr>,
    /// The pool of the first address; `None` without an address or when that is orphaned.
    pub pool: Option<PoolName>,
    /// How that pool is announced.
    pub protocol: Option<Protocol>,
    /// Which of the addresses no pool may give any more.
    pub orphaned: Vec<IpAddr>,
    /// What it did not get, and why. A Service that already has an address may be refused something else.
    pub refusal: Option<Refusal>,
    /// The family that it would like as well and cannot have now; no reason to complain.
    pub lacking: Option<Lacking>,
}

/// Gives every claim its addresses, or the reason why not, in the order of `claims`; that order does not matter.
#[must_use]
pub fn allocate(terms: Terms<'_>, claims: &[&Claim]) -> Vec<Assignment> {
    let vacancies = Vacancies::new(terms.config, terms.reserved);
    let mut book = Book { terms, pools: &terms.config.pools, vacancies, tenancies: Tenancies::default() };
    let mut assignments = vec![Assignment::default(); claims.len()];
    let mut order: Vec<usize> = (0..claims.len()).collect();
    order.sort_by(|a, b| claims[*a].service.cmp(&claims[*b].service));
    for at in by_seniority(claims, &order) {
        assignments[at] = book.keep(claims[at]);
    }
    order.sort_by_key(|at| (claims[*at].asked.is_empty(), claims[*at].pool.is_none()));
    for at in order {
        book.complete(claims[at], &mut assignments[at]);
    }
    assignments
}

/// Who holds addresses, in the order in which they may keep them: where holders of an address disagree about sharing
/// it, the larger company first; then as they are given in `order`.
fn by_seniority(claims: &[&Claim], order: &[usize]) -> Vec<usize> {
    let mut holders: Vec<usize> = order.iter().copied().filter(|at| !claims[*at].committed.is_empty()).collect();
    let mut companies: HashMap<(IpAddr, &Sharing), usize> = HashMap::new();
    for claim in holders.iter().map(|at| claims[*at]) {
        for (ip, sharing) in claim.committed.iter().zip(claim.sharing.iter().cycle()) {
            *companies.entry((*ip, sharing)).or_default() += 1;
        }
    }
    let company = |claim: &Claim| {
        let Some(sharing) = &claim.sharing else { return 0 };
        claim.committed.iter().filter_map(|ip| companies.get(&(*ip, sharing))).min().copied().unwrap_or(0)
    };
    holders.sort_by_key(|at| std::cmp::Reverse(company(claims[*at])));
    holders
}

/// The state of one run.
struct Book<'a> {
    terms: Terms<'a>,
    pools: &'a [Pool],
    vacancies: Vacancies<'a>,
    tenancies: Tenancies<'a>,
}

impl<'a> Book<'a> {
    /// Lets `claim` keep the committed addresses that it still wants; all of them or none if others disagree.
    fn keep(&mut self, claim: &'a Claim) -> Assignment {
        let mut assignment = Assignment::default();
        if claim.fault.as_ref().is_some_and(|fault| !fault.is_slip()) {
            return assignment;
        }
        let held: Vec<IpAddr> = claim.committed.iter().copied().filter(|ip| self.still_wanted(claim, *ip)).collect();
        if held.iter().all(|ip| self.tenancies.check(*ip, claim).is_ok()) {
            self.admit(claim, &held, &mut assignment);
        }
        assignment
    }

    /// Whether the request of `claim` still covers an address it has.
    fn still_wanted(&self, claim: &Claim, ip: IpAddr) -> bool {
        let asked = claim.asked.is_empty() || claim.asked.contains(&ip);
        // Of a pool that is gone, or an address in no pool, the pools changed and not the request.
        let pool = match (claim.pool.as_deref().and_then(|name| self.named(name)), self.vacancies.pool_of(ip)) {
            (Some(asked), Some(actual)) => asked == actual,
            (None, _) | (_, None) => true,
        };
        let is_ours = self.vacancies.pool_of(ip).is_some_and(|pool| self.admits(pool, claim));
        let given_up = self.terms.orphans == OrphanPolicy::Reassign && !is_ours;
        asked && pool && !given_up && claim.families.wants(Family::of(ip))
    }

    /// Gives `claim` what it lacks, or the reason why not.
    fn complete(&mut self, claim: &'a Claim, assignment: &mut Assignment) {
        let found = match (&claim.fault, claim.asked.is_empty(), assignment.ips.first().copied()) {
            (Some(fault), ..) => Err(Refusal::Fault(fault.clone())),
            (None, false, _) => self.find_asked(claim, &assignment.ips),
            (None, true, None) => self.find_fresh(claim),
            (None, true, Some(held)) => self.find_second(claim, held, assignment),
        };
        match found {
            Ok(ips) => self.admit(claim, &ips, assignment),
            Err(refusal) => assignment.refusal = Some(refusal),
        }
        assignment.ips.sort_by_key(|ip| Family::of(*ip) != claim.families.first());
    }

    /// The asked addresses that `claim` does not have yet.
    fn find_asked(&self, claim: &Claim, held: &[IpAddr]) -> Result<Vec<IpAddr>, Refusal> {
        let wanted: Vec<IpAddr> = claim.asked.iter().copied().filter(|ip| !held.contains(ip)).collect();
        if wanted.is_empty() {
            return Ok(wanted);
        }
        let mut pools = wanted.iter().map(|ip| self.giver(*ip)).collect::<Result<Vec<_>, _>>()?;
        if let Some(name) = &claim.pool {
            let asked = self.named(name).ok_or_else(|| self.unknown(name))?;
            if let Some(actual) = pools.iter().find(|pool| **pool != asked) {
                let actual = self.pools[*actual].name.clone();
                return Err(Refusal::OtherPool { ips: wanted, asked: self.pools[asked].name.clone(), actual });
            }
        }
        if let Some(pool) = pools.iter().find(|pool| !self.admits(**pool, claim)) {
            return Err(Refusal::NotForIt { pool: self.pools[*pool].name.clone() });
        }
        pools.extend(held.iter().filter_map(|ip| self.vacancies.pool_of(*ip)));
        if pools.iter().any(|pool| *pool != pools[0]) {
            return Err(Refusal::TwoPools { ips: claim.asked.clone() });
        }
        for ip in &wanted {
            self.tenancies.check(*ip, claim).map_err(Refusal::InUse)?;
        }
        Ok(wanted)
    }

    /// The pool that may give `ip`.
    fn giver(&self, ip: IpAddr) -> Result<usize, Refusal> {
        let Some(pool) = self.vacancies.pool_of(ip) else {
            return Err(match self.vacancies.pool_around(ip) {
                Some(pool) => Refusal::Avoided { ip, pool: self.pools[pool].name.clone() },
                None => Refusal::NotAllowed { ip },
            });
        };
        match reserved::bar(self.terms.reserved, ip, &self.pools[pool]) {
            Some(holder) => Err(Refusal::Reserved { ip, holder: holder.clone() }),
            None => Ok(pool),
        }
    }

    /// Whether a pool may give to `claim`: it is kept for nobody, or for it.
    fn admits(&self, pool: usize, claim: &Claim) -> bool {
        self.pools[pool].allocation.as_ref().is_none_or(|allocation| self.is_for(allocation, claim))
    }

    fn is_for(&self, allocation: &ServiceAllocation, claim: &Claim) -> bool {
        let none = Labels::new();
        let namespace = &claim.service.namespace;
        let known = self.terms.namespaces.get(&ObjectName::cluster(&**namespace));
        let labels = known.and_then(|known| known.metadata.labels.as_ref()).unwrap_or(&none);
        allocation.admits(&claim.labels, namespace, labels)
    }

    /// Addresses for one who has none: of both families in one pool if both are wanted.
    fn find_fresh(&mut self, claim: &'a Claim) -> Result<Vec<IpAddr>, Refusal> {
        let [kept, common] = self.eligible(claim)?;
        let first = claim.families.first();
        let in_turn = match claim.families {
            Families::Single(family) => vec![vec![family]],
            Families::RequireDual(_) => vec![vec![first, first.other()]],
            Families::PreferDual(_) => vec![vec![first, first.other()], vec![first], vec![first.other()]],
        };
        for pools in [&kept, &common] {
            for families in &in_turn {
                let found = pools.iter().find_map(|pool| self.find_in(*pool, families, claim));
                if let Some(ips) = found {
                    return Ok(ips);
                }
            }
        }
        Err(self.exhausted(claim, &[kept, common].concat()))
    }

    /// The second family for one who has `held`, from the same pool; nothing if one family will do.
    fn find_second(
        &mut self,
        claim: &'a Claim,
        held: IpAddr,
        assignment: &mut Assignment,
    ) -> Result<Vec<IpAddr>, Refusal> {
        if let Some(name) = &claim.pool
            && self.named(name).is_none()
        {
            return Err(self.unknown(name));
        }
        let second = Family::of(held).other();
        if assignment.ips.len() > 1 || !claim.families.wants(second) {
            return Ok(Vec::new());
        }
        let pool = self.vacancies.pool_of(held);
        match (pool.and_then(|pool| self.find_in(pool, &[second], claim)), claim.families) {
            (Some(ips), _) => return Ok(ips),
            (None, Families::RequireDual(_)) => return Err(Refusal::NoSecond { held, family: second }),
            (None, Families::Single(_) | Families::PreferDual(_)) => {}
        }
        let pool = pool.map(|pool| self.pools[pool].name.clone());
        assignment.lacking = Some(Lacking { family: second, pool });
        Ok(Vec::new())
    }

    /// One address of each family, all of them from `pool`.
    fn find_in(&mut self, pool: usize, families: &[Family], claim: &'a Claim) -> Option<Vec<IpAddr>> {
        families.iter().map(|family| self.vacancies.find(pool, *family, claim, &self.tenancies)).collect()
    }

    /// The pools that `claim` may get a fresh address from, each group in its order: those kept for it, those for all.
    fn eligible(&self, claim: &Claim) -> Result<[Vec<usize>; 2], Refusal> {
        if let Some(name) = &claim.pool {
            let pool = self.named(name).ok_or_else(|| self.unknown(name))?;
            let refusal = || Refusal::NotForIt { pool: self.pools[pool].name.clone() };
            return self.admits(pool, claim).then(|| [vec![pool], Vec::new()]).ok_or_else(refusal);
        }
        let open = (0..self.pools.len()).filter(|pool| self.pools[*pool].auto_assign);
        let priority = |pool: &usize| self.pools[*pool].allocation.as_ref().map(|allocation| allocation.priority);
        let (mut kept, common): (Vec<usize>, Vec<usize>) =
            open.filter(|pool| self.admits(*pool, claim)).partition(|pool| priority(pool).is_some());
        kept.sort_by_key(|pool| priority(pool).filter(|priority| *priority > 0).unwrap_or(u32::MAX));
        Ok([kept, common])
    }

    fn admit(&mut self, claim: &'a Claim, ips: &[IpAddr], assignment: &mut Assignment) {
        for ip in ips {
            self.tenancies.admit(*ip, claim);
            self.vacancies.note(*ip, claim);
            match self.vacancies.pool_of(*ip).map(|pool| &self.pools[pool]) {
                Some(pool) => {
                    assignment.pool.get_or_insert_with(|| pool.name.clone());
                    assignment.protocol.get_or_insert(pool.protocol);
                }
                None => assignment.orphaned.push(*ip),
            }
        }
        assignment.ips.extend_from_slice(ips);
    }

    fn named(&self, name: &str) -> Option<usize> {
        self.pools.iter().position(|pool| pool.name.as_str() == name)
    }

    fn unknown(&self, name: &str) -> Refusal {
        Refusal::UnknownPool { pool: name.to_owned(), known: self.pools.iter().map(|pool| pool.name.clone()).collect() }
    }

    fn exhausted(&self, claim: &Claim, pools: &[usize]) -> Refusal {
        let tried = pools.iter().map(|pool| self.pools[*pool].name.clone()).collect();
        let spared = self.spared(claim, pools);
        match &claim.pool {
            Some(_) => Refusal::PoolExhausted { pools: tried, families: claim.families, spared },
            None if self.pools.is_empty() => Refusal::NoPools,
            None => Refusal::Exhausted { pools: tried, families: claim.families, spared },
        }
    }

    /// The addresses of `pools` that `claim` is not given because they are others' by right.
    fn spared(&self, claim: &Claim, pools: &[usize]) -> Option<Spared> {
        let pools = pools.iter().map(|pool| &self.pools[*pool]);
        let reserved = pools.flat_map(|pool| reserved::barred(self.terms.reserved, pool));
        let mut spared = reserved.filter(|(ip, _)| claim.families.wants(Family::of(*ip)));
        let (ip, holder) = spared.next()?;
        Some(Spared { ip, holder: holder.clone(), more: spared.count() })
    }
}

#[cfg(test)]
#[path = "allocator_tests.rs"]
mod tests;
