//! Records in DNS that are to go when nobody needs them any more.

use std::collections::BTreeSet;

use config::issuer::Method;
use jiff::Timestamp;

use super::{Desk, Job, Orders};
use crate::dns::Record;
use crate::order::{Order, Placed};
use crate::retry::{self, Failure};

/// Tries to remove one record; the last is some hours after the first.
const TRIES: u32 = 20;
/// Records removed at once.
const AT_ONCE: usize = 4;

/// The records that an order needs as the CA has placed it.
fn needed<'a>(order: &'a Order, placed: &'a Placed) -> impl Iterator<Item = Record> + 'a {
    let challenges = placed.challenges.iter().filter(|challenge| challenge.is_by(Method::Dns01));
    challenges.map(|challenge| Record::of(&order.issuer, challenge))
}

impl Order {
    /// The records that are to be published for it.
    #[must_use]
    pub fn records(&self) -> Vec<Record> {
        self.placed.iter().flat_map(|placed| needed(self, placed)).collect()
    }
}

impl Orders {
    /// Remembers what is about to be published.
    pub(super) fn remember_records(&mut self, id: &str) {
        let records = self.store.orders.get(id).map(Order::records).unwrap_or_default();
        self.store.journal.records.extend(records);
    }

    /// Has records removed that no order needs.
    pub(super) fn cleanings(&mut self, now: Timestamp) -> Vec<Job> {
        let needed: BTreeSet<Record> = self.store.orders.values().flat_map(Order::records).collect();
        let left: Vec<Record> = self.store.journal.records.difference(&needed).cloned().collect();
        self.cleaning.retain(|record, _| left.contains(record));
        let mut jobs = Vec::new();
        for record in left {
            let Some(issuer) =
                self.hints.issuers.by_name.get(&record.issuer).filter(|it| it.dns(&record.name).is_some())
            else {
                // Nobody knows any more how it could be removed.
                self.store.journal.records.remove(&record);
                continue;
            };
            let running = self.cleaning.values().filter(|desk| desk.busy).count();
            let desk = self.cleaning.entry(record.clone()).or_default();
            if running < AT_ONCE && !desk.busy && desk.not_before.is_none_or(|at| at <= now) {
                desk.busy = true;
                jobs.push(Job::Clean { record, issuer: Box::new(issuer.clone()) });
            }
        }
        jobs
    }

    /// A record is gone, or could not be removed.
    pub(super) fn cleaned(&mut self, record: &Record, result: Result<(), Failure>, now: Timestamp, draw: f64) {
        let tries = self.cleaning.get(record).map_or(0, |desk| desk.tries) + 1;
        match result {
            Err(failure) if tries < TRIES => {
                let not_before = Some(retry::next_try(&failure, tries, now, draw));
                let desk = Desk { busy: false, tries, not_before, error: Some(failure.message) };
                self.cleaning.insert(record.clone(), desk);
            }
            Ok(()) | Err(_) => {
                self.cleaning.remove(record);
                self.store.journal.records.remove(record);
            }
        }
    }
}
