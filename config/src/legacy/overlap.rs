//! No address may be written twice, within a pool or across pools.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::section::{Field, Findings};
use crate::pool::AddressRange;
use crate::yaml::shorten;

/// One written range and the pool it belongs to.
pub(super) struct Written<'t> {
    pub(super) field: Field<'t>,
    pub(super) pool: String,
    pub(super) range: AddressRange,
}

/// Reports every range that shares an address with one written before it.
///
/// Ranges that are free of overlap so far are kept by their first address, so each new one is compared with its
/// neighbours only.
pub(super) fn check(written: &[Written<'_>], findings: &mut Findings) {
    let mut kept: BTreeMap<IpAddr, &Written<'_>> = BTreeMap::new();
    for new in written {
        let below = kept.range(..=new.range.first()).next_back();
        let above = kept.range(new.range.first()..).next();
        let other =
            [below, above].into_iter().flatten().map(|(_, other)| *other).find(|o| o.range.overlaps(&new.range));
        match other {
            Some(other) => findings.at(&new.field, message(new, other)),
            None => {
                kept.insert(new.range.first(), new);
            }
        }
    }
}

fn message(new: &Written<'_>, other: &Written<'_>) -> String {
    let (range, path, pool) = (other.range, &other.field.path, shorten(&other.pool));
    if new.pool == other.pool {
        return format!("{} overlaps {range} of the same pool ({path}); keep each address once", new.range);
    }
    format!("{} overlaps {range} of pool {pool:?} ({path}); an address belongs to one pool", new.range)
}
