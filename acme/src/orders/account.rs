//! Accounts: made when the first order of an issuer is due.

use config::issuer::Issuer;
use jiff::Timestamp;

use super::{Desk, Job, Orders, short_digest};
use crate::retry::{self, Failure};
use crate::store::Account;

/// The id of the account of an issuer: another server or customer is another account.
pub(super) fn id(name: &str, issuer: &Issuer) -> String {
    let customer = issuer.external_account.as_ref().map(|it| it.key_id.clone()).unwrap_or_default();
    short_digest(&[name.to_owned(), issuer.server.clone(), customer])
}

impl Orders {
    /// The account of an issuer, if it can be used; else what is to be done for it.
    pub(super) fn account(&mut self, name: &str, issuer: &Issuer, now: Timestamp) -> Result<Account, Option<Box<Job>>> {
        let id = id(name, issuer);
        let stored = self.is_account_stored(&id);
        let account = self.store.accounts.get(&id).cloned();
        if let Some(account) = account.as_ref().filter(|account| account.url.is_some() && stored) {
            return Ok(account.clone());
        }
        let desk = self.desks.entry(id.clone()).or_default();
        if desk.busy || desk.not_before.is_some_and(|at| at > now) {
            return Err(None);
        }
        let issuer_box = Box::new(issuer.clone());
        let job = match account {
            // Its URL is on its way into the store.
            Some(account) if account.url.is_some() => return Err(None),
            Some(account) if stored => Job::Register { id, account: Some(account), issuer: issuer_box },
            Some(_) => return Err(None),
            // The library makes the key of such an account itself.
            None if issuer.external_account.is_some() => Job::Register { id, account: None, issuer: issuer_box },
            None => Job::MakeAccount { id, server: issuer.server.clone() },
        };
        desk.busy = true;
        Err(Some(Box::new(job)))
    }

    pub(super) fn account_done(&mut self, id: String, result: Result<Account, Failure>, now: Timestamp, draw: f64) {
        let desk = self.desks.entry(id.clone()).or_default();
        desk.busy = false;
        match result {
            Ok(account) => {
                *desk = Desk::default();
                if account.url.is_some() {
                    self.forgotten.remove(&id);
                }
                self.store.accounts.insert(id, account);
            }
            Err(failure) => {
                desk.tries += 1;
                desk.not_before = Some(retry::next_try(&failure, desk.tries, now, draw));
                desk.error = Some(failure.message);
            }
        }
    }

    /// The CA does not know an account any more by the URL `used`: it is asked for again, by its key.
    ///
    /// What was asked by an older URL says nothing of the one that was learned since.
    pub(super) fn forget_account(&mut self, id: &str, used: Option<&str>) {
        if let Some(account) = self.store.accounts.get_mut(id).filter(|account| account.url.as_deref() == used) {
            account.url = None;
            self.forgotten.insert(id.to_owned());
        }
    }
}
