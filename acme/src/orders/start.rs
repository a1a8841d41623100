//! What to do next.

use config::issuer::{Issuer, PRESETS};
use jiff::Timestamp;

use super::{AT_ONCE, Job, Orders, account};
use crate::budget::{self, Limits};
use crate::held::Owner;
use crate::inventory::Due;
use crate::order::{Order, Step};
use crate::{name, retry};

/// Suggestions asked for at once.
const SUGGESTIONS: usize = 2;

impl Orders {
    /// Everything that is to be done at `now` and is not being done.
    pub fn jobs(&mut self, now: Timestamp) -> Vec<Job> {
        if !self.leads {
            return Vec::new();
        }
        let mut jobs = self.begin(now);
        jobs.extend(self.steps(now));
        jobs.extend(self.cleanings(now));
        jobs.extend(self.suggestions(now));
        jobs
    }

    /// Begins what is due, the most urgent first.
    fn begin(&mut self, now: Timestamp) -> Vec<Job> {
        self.waits.clear();
        self.store.journal.budget.prune(now);
        let (due, mut jobs) = (self.inventory.due.clone(), Vec::new());
        for due in &due {
            match self.begin_one(due, now) {
                Ok(job) => jobs.push(job),
                Err(Hold::Running) => {}
                Err(Hold::Until(until, why)) => drop(self.waits.insert(due.secret.clone(), (until, why))),
                Err(Hold::First(job)) => {
                    jobs.push(*job);
                    self.waits.insert(due.secret.clone(), (None, "the account at the CA is being made".to_owned()));
                }
            }
        }
        jobs
    }

    fn begin_one(&mut self, due: &Due, now: Timestamp) -> Result<Job, Hold> {
        let Some((name, issuer)) = self.issuer(due).map(|(name, issuer)| (name, issuer.clone())) else {
            return Err(Hold::Until(None, no_issuer(due)));
        };
        let id = self.id(due).unwrap_or_default();
        if self.store.orders.contains_key(&id) || self.making.contains(&id) {
            return Err(Hold::Running);
        }
        let setback = self.store.journal.setbacks.get(&due.secret.to_string());
        if let Some(setback) = setback.filter(|setback| setback.wish == id && retry::is_ahead(setback.next, now)) {
            return Err(Hold::Until(Some(setback.next), setback.message.clone()));
        }
        if self.store.orders.len() + self.making.len() >= AT_ONCE {
            return Err(Hold::Until(None, format!("{AT_ONCE} other orders run; this one is next in line")));
        }
        if let Err(unprovable) = provable(due, &issuer) {
            return Err(Hold::Until(None, unprovable));
        }
        let order = self.order(due, &name, &issuer);
        if let Err((free, what)) = self.afford(&order, &issuer, now) {
            return Err(Hold::Until(Some(free), format!("what the CA allows is used up: {what}")));
        }
        match self.account(&name, &issuer, now) {
            Ok(_) => {}
            Err(Some(job)) => return Err(Hold::First(job)),
            Err(None) => {
                let desk = self.desks.get(&order.account);
                let error = desk.and_then(|desk| desk.error.clone());
                let until = desk.and_then(|desk| desk.not_before);
                let why = error.map(|error| format!("there is no account at the CA: {error}"));
                return Err(Hold::Until(
                    until,
                    why.unwrap_or_else(|| "the account at the CA is being made".to_owned()),
                ));
            }
        }
        self.making.insert(id.clone());
        let terms = &due.wanted.terms;
        let common_name = terms.common_name.as_ref().map(ToString::to_string);
        self.tell_begin(due);
        Ok(Job::Make { id, key: terms.key, common_name, order: Box::new(order) })
    }

    fn order(&self, due: &Due, name: &str, issuer: &Issuer) -> Order {
        let replaces = due.replaces.clone().filter(|it| {
            !self.irreplaceable.contains(it) && self.held.get(&due.secret).is_some_and(|found| found.owner == Owner::Us)
        });
        Order {
            secret: due.secret.to_string(),
            ingress: due.ingress.to_string(),
            issuer: name.to_owned(),
            account: account::id(name, issuer),
            names: due.names.iter().map(ToString::to_string).collect(),
            profile: issuer.profile.clone(),
            key: zeroize::Zeroizing::default(),
            request: String::new(),
            replaces,
            renewal: due.reason.is_renewal(),
            placed: None,
        }
    }

    /// Whether the CA's limits leave room for an order; else when they will, and which does not.
    fn afford(&self, order: &Order, issuer: &Issuer, now: Timestamp) -> Result<(), (Timestamp, String)> {
        let (limits, budget) = (Limits::of(&issuer.server), &self.store.journal.budget);
        for name in &order.names {
            let key = failures_key(&order.account, name);
            let checked = budget.check(&key, limits.failures, now);
            checked.map_err(|free| (free, format!("failed validations of {name}")))?;
        }
        if self.is_exempt(order) {
            return Ok(());
        }
        let checked = budget.check(&set_key(issuer, order), limits.set, now);
        checked.map_err(|free| (free, "certificates for exactly these names".to_owned()))?;
        if order.renewal {
            return Ok(());
        }
        let checked = budget.check(&orders_key(order), limits.orders, now);
        checked.map_err(|free| (free, "new orders of this account".to_owned()))?;
        for name in &order.names {
            let checked = budget.check(&domain_key(issuer, name), limits.domain, now);
            checked.map_err(|free| (free, format!("new certificates of {}", budget::domain(name))))?;
        }
        Ok(())
    }

    /// A replacement inside the window that the CA suggests is free of limits.
    fn is_exempt(&self, order: &Order) -> bool {
        order.replaces.as_ref().is_some_and(|id| self.hints.windows.contains_key(id))
    }

    /// Counts an order that is about to be placed.
    fn spend_order(&mut self, order: &Order, issuer: &Issuer, now: Timestamp) {
        if !self.is_exempt(order) && !order.renewal {
            self.store.journal.budget.take(orders_key(order), Limits::of(&issuer.server).orders, now);
        }
    }

    /// Counts a certificate that is about to be issued; if there is no room any more, when there will be.
    fn spend_certificate(&mut self, order: &Order, issuer: &Issuer, now: Timestamp) -> Result<(), Timestamp> {
        if self.is_exempt(order) {
            return Ok(());
        }
        let limits = Limits::of(&issuer.server);
        let mut keys = vec![(set_key(issuer, order), limits.set)];
        if !order.renewal {
            keys.extend(order.names.iter().map(|name| (domain_key(issuer, name), limits.domain)));
            keys.sort_by(|one, other| one.0.cmp(&other.0));
            keys.dedup_by(|one, other| one.0 == other.0);
        }
        let budget = &mut self.store.journal.budget;
        for (key, rate) in &keys {
            budget.check(key, *rate, now)?;
        }
        for (key, rate) in keys {
            budget.take(key, rate, now);
        }
        Ok(())
    }

    /// The next step of every order that is not taking one.
    fn steps(&mut self, now: Timestamp) -> Vec<Job> {
        let mut jobs = Vec::new();
        let ids: Vec<String> = self.live.keys().cloned().collect();
        for id in ids {
            let Some(live) = self.live.get(&id).filter(|live| !live.busy && !retry::is_ahead(live.not_before, now))
            else {
                continue;
            };
            let Some(order) = self.store.orders.get(&id).cloned() else { continue };
            let step = live.stage.step(self.is_stored(&id));
            if matches!(step, Step::Store | Step::Write | Step::Drop) {
                continue;
            }
            let Some(issuer) = self.hints.issuers.by_name.get(&order.issuer).cloned() else { continue };
            let account = match self.account(&order.issuer, &issuer, now) {
                Ok(account) => account,
                Err(job) => {
                    jobs.extend(job.map(|job| *job));
                    continue;
                }
            };
            if step == Step::Place {
                self.spend_order(&order, &issuer, now);
            }
            let spent = if step == Step::Finalize { self.spend_certificate(&order, &issuer, now) } else { Ok(()) };
            let Some(live) = self.live.get_mut(&id) else { continue };
            if let Err(free) = spent {
                live.not_before = free;
                continue;
            }
            live.busy = true;
            live.account.clone_from(&account.url);
            jobs.push(Job::Take { id, step, order: Box::new(order), account, issuer: Box::new(issuer) });
        }
        jobs
    }

    /// Asks when to renew what we hold.
    fn suggestions(&mut self, now: Timestamp) -> Vec<Job> {
        let mut jobs = Vec::new();
        let held: Vec<(String, String)> = (self.inventory.wanted.iter())
            .filter_map(|wanted| {
                let found = self.held.get(&wanted.secret).filter(|found| found.owner == Owner::Us)?;
                let id = found.certificate.as_ref().ok()?.id.clone()?;
                Some((id, wanted.issuer.name(&self.hints.issuers)?))
            })
            .collect();
        for (certificate, issuer_name) in held {
            let is_due = self.asks.get(&certificate).is_none_or(|at| !retry::is_ahead(*at, now));
            if !is_due || self.asking.len() >= SUGGESTIONS || self.asking.contains(&certificate) {
                continue;
            }
            let Some(issuer) = self.hints.issuers.by_name.get(&issuer_name).cloned() else { continue };
            match self.account(&issuer_name, &issuer, now) {
                Ok(account) => {
                    self.asking.insert(certificate.clone());
                    jobs.push(Job::Suggest { certificate, account, issuer: Box::new(issuer) });
                }
                Err(job) => jobs.extend(job.map(|job| *job)),
            }
        }
        jobs
    }
}

/// Why what is due is not begun.
enum Hold {
    Running,
    Until(Option<Timestamp>, String),
    First(Box<Job>),
}

/// Why there is nobody to order from.
pub(super) fn no_issuer(due: &Due) -> String {
    use crate::wanted::Issuer;
    match &due.wanted.issuer {
        Issuer::Cluster(name) => {
            format!("there is no issuer {name:?}; add it to the acme section of our ConfigMap, or make a ClusterIssuer")
        }
        Issuer::Namespaced(name) => {
            format!("there is no issuer {name}; add it to the acme section of our ConfigMap, or make an Issuer there")
        }
        Issuer::Default => {
            "there is no default issuer; set defaultIssuer in the acme section of our ConfigMap, or name one".to_owned()
        }
    }
}

/// Whether every name can be proved to this CA.
fn provable(due: &Due, issuer: &Issuer) -> Result<(), String> {
    let is_public = PRESETS.iter().any(|(_, server)| *server == issuer.server);
    for name in &due.names {
        if issuer.ways(name.as_str()).is_empty() {
            return Err(if name.is_wildcard() {
                format!("a wildcard such as {name} is proved in DNS; give the issuer a solver with dns01 for it")
            } else {
                format!("no solver of the issuer is for {name}; add one without a selector")
            });
        }
        let Some(address) = name.address().filter(|_| is_public) else { continue };
        if issuer.profile.as_deref() != Some("shortlived") {
            return Err(format!("Let's Encrypt signs addresses such as {name} by the profile shortlived only; set it"));
        }
        if !name::is_public(address) {
            return Err(format!("{name} is no address of the Internet; Let's Encrypt does not sign it"));
        }
    }
    Ok(())
}

fn host(issuer: &Issuer) -> &str {
    issuer.server.split('/').nth(2).unwrap_or_default()
}

fn orders_key(order: &Order) -> String {
    format!("orders/{}", order.account)
}

fn set_key(issuer: &Issuer, order: &Order) -> String {
    format!("set/{}/{}", host(issuer), super::short_digest(&order.names))
}

fn domain_key(issuer: &Issuer, name: &str) -> String {
    format!("domain/{}/{}", host(issuer), budget::domain(name))
}

pub(super) fn failures_key(account: &str, name: &str) -> String {
    format!("failed/{account}/{name}")
}
