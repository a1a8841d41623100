//! All orders at once: what is due, what runs, what has failed, and what to do next.
//!
//! ```text
//! snapshot ─> observe ──┐                         ┌─> jobs: keys, accounts, steps, suggestions
//!                       ├─> Orders (leader: acts) ┼─> Secrets to write, events, entries
//! answers ──> done ─────┘   (others: look on)     └─> the next moment something is to do
//! ```
//!
//! Whoever leads keeps [`Store`] as it should be, and has it written; a step is taken only when the store that it
//! relies on is seen in a snapshot. Whoever does not lead keeps what the leader wrote.
//!
//! Pure. What takes the jobs: `io`.

mod account;
mod answer;
mod records;
mod start;
mod tell;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use config::issuer::{Issuer, Issuers};
use config::object::ObjectName;
use config::report::{Event, SecretWrite, data_digest};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;

use crate::dns::Record;
use crate::held::{DIGEST_ANNOTATION, Found};
use crate::inventory::{Due, Hints, Inventory, Window};
use crate::keyspec::KeySpec;
use crate::name::CertName;
use crate::order::{Order, Placed, Stage, Status, Step};
use crate::retry::Failure;
use crate::store::{Account, Store};

/// Orders that run at once.
pub const AT_ONCE: usize = 8;

/// What an order's key in the store begins with.
const ORDER: &str = "order.";
/// What an account's key in the store begins with.
const ACCOUNT: &str = "account.";

/// Something for the shell to do.
#[derive(Clone, Debug)]
pub enum Job {
    /// Make a key and a request for an order, which is complete but for these.
    Make {
        /// The order's id.
        id: String,
        /// What is wanted of the key.
        key: KeySpec,
        /// The subject's common name.
        common_name: Option<String>,
        /// The order.
        order: Box<Order>,
    },
    /// Make the key of an account.
    MakeAccount {
        /// The account's id.
        id: String,
        /// Its server.
        server: String,
    },
    /// Have the CA know an account.
    Register {
        /// The account's id.
        id: String,
        /// As far as it exists; `None` if the CA's customer key makes the account.
        account: Option<Account>,
        /// Where.
        issuer: Box<Issuer>,
    },
    /// Take a step of an order.
    Take {
        /// The order's id.
        id: String,
        /// Which.
        step: Step,
        /// The order.
        order: Box<Order>,
        /// In whose name.
        account: Account,
        /// Where.
        issuer: Box<Issuer>,
    },
    /// Remove a record from DNS.
    Clean {
        /// Which.
        record: Record,
        /// Whose solver has published it.
        issuer: Box<Issuer>,
    },
    /// Ask the CA when it would renew a certificate.
    Suggest {
        /// What RFC 9773 §4.1 calls it.
        certificate: String,
        /// In whose name.
        account: Account,
        /// Where.
        issuer: Box<Issuer>,
    },
}

/// What a step brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The CA took the order.
    Placed(Placed),
    /// It was done.
    Done,
    /// The CA said how it stands, and when it wants to be asked again.
    Seen(Status, Option<Timestamp>),
    /// The chain, PEM.
    Chain(String),
}

/// What became of a [`Job`].
#[derive(Debug)]
pub enum Done {
    /// Of [`Job::Make`]: the order with key and request.
    Made(String, Result<Box<Order>, String>),
    /// Of [`Job::MakeAccount`] and [`Job::Register`].
    Account(String, Result<Account, Failure>),
    /// Of [`Job::Take`].
    Taken(String, Step, Result<Answer, Failure>),
    /// Of [`Job::Clean`].
    Cleaned(Record, Result<(), Failure>),
    /// Of [`Job::Suggest`]: the window, and when to ask again.
    Suggested(String, Result<(Window, Timestamp), Failure>),
}

/// What a snapshot shows.
#[derive(Clone, Debug)]
pub struct Seen<'a> {
    /// The Secret in which the store is kept.
    pub store: Option<&'a Secret>,
    /// The Secrets that are wanted, as they are.
    pub secrets: BTreeMap<ObjectName, Arc<Secret>>,
    /// The same, judged.
    pub held: BTreeMap<ObjectName, Found>,
    /// Who issues.
    pub issuers: Arc<Issuers>,
}

/// An order while it runs.
#[derive(Debug)]
struct Live {
    stage: Stage,
    /// Whether a step is being taken.
    busy: bool,
    not_before: Timestamp,
    /// Failures in a row that will pass.
    tries: u32,
    /// When it reached its stage.
    since: Timestamp,
    error: Option<String>,
    /// The account in whose name the last step was taken.
    account: Option<String>,
}

impl Live {
    fn of(order: &Order, now: Timestamp) -> Self {
        let stage = Stage::of(order);
        Self { stage, busy: false, not_before: now, tries: 0, since: now, error: None, account: None }
    }
}

/// How something stands that is done beside the orders: an account that is no use yet, a record to remove.
#[derive(Debug, Default)]
struct Desk {
    busy: bool,
    tries: u32,
    not_before: Option<Timestamp>,
    error: Option<String>,
}

/// All orders.
#[derive(Debug, Default)]
pub struct Orders {
    leads: bool,
    store: Store,
    /// The store as the newest snapshot shows it.
    kept: BTreeMap<String, Vec<u8>>,
    kept_version: Option<String>,
    /// What we have removed from the store since we lead.
    removed: BTreeSet<String>,
    live: BTreeMap<String, Live>,
    desks: BTreeMap<String, Desk>,
    /// Records that are being removed.
    cleaning: BTreeMap<Record, Desk>,
    /// Accounts that the CA does not know any more by the URL that is stored.
    forgotten: BTreeSet<String>,
    /// Orders whose key is being made.
    making: BTreeSet<String>,
    inventory: Inventory,
    held: BTreeMap<ObjectName, Found>,
    secrets: BTreeMap<ObjectName, Arc<Secret>>,
    /// Why what is due is not ordered.
    waits: BTreeMap<ObjectName, (Option<Timestamp>, String)>,
    hints: Hints,
    /// When to ask for the next suggestion.
    asks: BTreeMap<String, Timestamp>,
    asking: BTreeSet<String>,
    /// Certificates that the CA does not let us replace.
    irreplaceable: BTreeSet<String>,
    tales: BTreeMap<ObjectName, VecDeque<Event>>,
}

impl Orders {
    /// Begins or ceases to lead.
    pub fn lead(&mut self, leads: bool, now: Timestamp) {
        if self.leads == leads {
            return;
        }
        self.leads = leads;
        self.live = self.store.orders.iter().map(|(id, order)| (id.clone(), Live::of(order, now))).collect();
        self.removed.clear();
        self.forgotten.clear();
        self.making.clear();
        self.desks.clear();
        self.cleaning.clear();
        self.asking.clear();
    }

    /// What bears on renewal, to judge the inventory by.
    #[must_use]
    pub const fn hints(&self) -> &Hints {
        &self.hints
    }

    /// An operator asks to renew; what is in the way of it does not count any more.
    pub fn ask(&mut self, secret: ObjectName) {
        self.store.journal.setbacks.remove(&secret.to_string());
        self.store.journal.asked.insert(secret.to_string());
        self.hints.asked.insert(secret);
    }

    /// Takes in a snapshot and what is due by it.
    pub fn observe(&mut self, seen: Seen<'_>, inventory: Inventory, now: Timestamp) {
        let data = seen.store.and_then(|secret| secret.data.clone()).unwrap_or_default();
        self.kept = data.into_iter().map(|(key, value)| (key, value.0)).collect();
        self.kept_version = seen.store.map(data_digest);
        let found = seen.store.map(Store::decode).unwrap_or_default();
        if self.leads {
            self.forget_removed(&found);
            self.adopt(found, now);
        } else {
            self.store = found;
            self.live = self.store.orders.iter().map(|(id, order)| (id.clone(), Live::of(order, now))).collect();
        }
        (self.hints.issuers, self.held, self.secrets) = (seen.issuers, seen.held, seen.secrets);
        self.inventory = inventory;
        if self.leads {
            self.commit(now);
            self.complete();
            self.drop_unwanted();
        }
        let ours: BTreeSet<&String> =
            self.held.values().filter_map(|found| found.certificate.as_ref().ok()?.id.as_ref()).collect();
        self.asks.retain(|id, _| ours.contains(id));
        self.hints.windows.retain(|id, _| ours.contains(id));
        let wanted = &self.inventory.states;
        self.tales.retain(|secret, _| wanted.contains_key(secret));
        self.hints.asked = self.store.journal.asked.iter().filter_map(|secret| name(secret)).collect();
    }

    /// What we removed is of no concern any more once it is gone, or another of its name is stored.
    fn forget_removed(&mut self, found: &Store) {
        let (orders, ours) = (&found.orders, &self.store.orders);
        self.removed.retain(|key| {
            let id = key.strip_prefix(ORDER).unwrap_or(key);
            orders.get(id).is_some_and(|found| ours.get(id) != Some(found))
        });
    }

    /// Takes what a leader before us wrote and we have not seen.
    fn adopt(&mut self, found: Store, now: Timestamp) {
        for (id, order) in found.orders {
            let key = format!("{ORDER}{id}");
            // Nothing relies on what was never stored.
            let is_ours = self.store.orders.get(&id).is_some_and(|ours| {
                *ours == order || self.live.get(&id).is_none_or(|live| live.stage != Stage::Keyed || live.busy)
            });
            if !is_ours && !self.removed.contains(&key) {
                self.live.insert(id.clone(), Live::of(&order, now));
                self.store.orders.insert(id, order);
            }
        }
        for (id, account) in found.accounts {
            let ours = self.store.accounts.get(&id);
            if ours.is_none_or(|ours| ours.url.is_none()) && !self.forgotten.contains(&id) {
                self.store.accounts.insert(id, account);
            }
        }
    }

    /// Whether what we know of an order is what is stored of it.
    fn is_stored(&self, id: &str) -> bool {
        let known = self.store.orders.get(id).and_then(|order| serde_json::to_vec(order).ok());
        known.is_some() && known.as_ref() == self.kept.get(&format!("{ORDER}{id}"))
    }

    fn is_account_stored(&self, id: &str) -> bool {
        let known = self.store.accounts.get(id).and_then(|account| serde_json::to_vec(account).ok());
        known.is_some() && known.as_ref() == self.kept.get(&format!("{ACCOUNT}{id}"))
    }

    /// Orders whose tokens are stored may go on.
    fn commit(&mut self, now: Timestamp) {
        let placed = self.live.iter().filter(|(id, live)| live.stage == Stage::Placed && self.is_stored(id));
        for id in placed.map(|(id, _)| id.clone()).collect::<Vec<_>>() {
            self.go(&id, crate::order::Event::Committed, now);
        }
    }

    /// Orders whose certificate is in its Secret are done.
    fn complete(&mut self) {
        let done: Vec<(String, ObjectName)> = self
            .live
            .iter()
            .filter_map(|(id, live)| {
                let Stage::Issued(chain) = &live.stage else { return None };
                let secret = name(&self.store.orders.get(id)?.secret)?;
                let held = self.secrets.get(&secret)?.data.as_ref()?.get("tls.crt")?;
                (held.0 == chain.as_bytes()).then(|| (id.clone(), secret))
            })
            .collect();
        for (id, secret) in done {
            self.tell_issued(&id);
            self.remove(&id);
            self.store.journal.setbacks.remove(&secret.to_string());
            self.store.journal.asked.remove(&secret.to_string());
        }
    }

    fn drop_unwanted(&mut self) {
        let wanted: BTreeSet<String> = self.inventory.due.iter().filter_map(|due| self.id(due)).collect();
        let unwanted: Vec<String> = self.store.orders.keys().filter(|id| !wanted.contains(*id)).cloned().collect();
        for id in unwanted {
            self.remove(&id);
        }
        let due: BTreeSet<String> = self.inventory.states.keys().map(ToString::to_string).collect();
        self.store.journal.setbacks.retain(|secret, _| due.contains(secret));
        self.store.journal.asked.retain(|secret| due.contains(secret));
    }

    fn remove(&mut self, id: &str) {
        self.store.orders.remove(id);
        self.live.remove(id);
        self.removed.insert(format!("{ORDER}{id}"));
    }

    /// Moves an order on.
    fn go(&mut self, id: &str, event: crate::order::Event, now: Timestamp) {
        let Some(live) = self.live.get_mut(id) else { return };
        let before = live.stage.clone();
        live.stage = before.clone().after(event);
        if live.stage != before {
            (live.since, live.not_before, live.tries, live.error) = (now, now, 0, None);
            self.tell_stage(id);
        }
    }

    /// The Secrets to write.
    #[must_use]
    pub fn writes(&self, store: &ObjectName) -> BTreeMap<ObjectName, SecretWrite> {
        let mut writes = BTreeMap::new();
        if !self.leads {
            return writes;
        }
        let data = self.store.encode();
        if data != self.kept {
            let labels = [("app.kubernetes.io/managed-by".to_owned(), "ferrogate".to_owned())].into();
            let (annotations, base) = (BTreeMap::new(), self.kept_version.clone());
            let data = Arc::new(data);
            writes.insert(store.clone(), SecretWrite { type_: "Opaque", labels, annotations, data, base });
        }
        for (id, live) in &self.live {
            let (Stage::Issued(chain), Some(order)) = (&live.stage, self.store.orders.get(id)) else { continue };
            if let Some(secret) = name(&order.secret) {
                let write = self.certificate_write(order, chain, &secret);
                writes.insert(secret, write);
            }
        }
        writes
    }

    fn certificate_write(&self, order: &Order, chain: &str, secret: &ObjectName) -> SecretWrite {
        let due = self.inventory.due.iter().find(|due| due.secret == *secret);
        let wanted = due.map(|due| &due.wanted);
        let text = |text: &str| text.to_owned();
        let common_name = wanted.and_then(|wanted| wanted.terms.common_name.as_ref());
        let (kind, issuer) =
            (wanted.map_or("ClusterIssuer", |wanted| wanted.issuer.kind()), order.issuer.rsplit('/').next());
        let issuer = issuer.unwrap_or_default().to_owned();
        let is_address = |name: &String| name.parse::<std::net::IpAddr>().is_ok();
        let joined = |which: &dyn Fn(&String) -> bool| {
            order.names.iter().filter(|name| which(name)).cloned().collect::<Vec<_>>().join(",")
        };
        let annotations = [
            ("cert-manager.io/alt-names", joined(&|name| !is_address(name))),
            ("cert-manager.io/certificate-name", text(&secret.name)),
            ("cert-manager.io/common-name", common_name.map_or("", CertName::as_str).to_owned()),
            ("cert-manager.io/ip-sans", joined(&is_address)),
            ("cert-manager.io/issuer-group", text("cert-manager.io")),
            ("cert-manager.io/issuer-kind", text(kind)),
            (crate::held::ISSUER_ANNOTATION, issuer),
            ("cert-manager.io/uri-sans", String::new()),
            (DIGEST_ANNOTATION, crate::held::digest(chain.as_bytes(), order.key.as_bytes())),
        ];
        let data = [("tls.crt", chain.as_bytes().to_vec()), ("tls.key", order.key.as_bytes().to_vec())];
        SecretWrite {
            type_: "kubernetes.io/tls",
            labels: [(text("controller.cert-manager.io/fao"), text("true"))].into(),
            annotations: annotations.map(|(key, value)| (key.to_owned(), value)).into(),
            data: Arc::new(data.map(|(key, value)| (key.to_owned(), value)).into()),
            base: self.held.get(secret).map(|found| found.version.clone()),
        }
    }

    /// The next moment at which something is to be done although nothing happens.
    #[must_use]
    pub fn deadline(&self) -> Option<Timestamp> {
        if !self.leads {
            return None;
        }
        let live = self.live.values().filter(|live| !live.busy).map(|live| live.not_before);
        let waits = self.waits.values().filter_map(|(until, _)| *until);
        let desks = self
            .desks
            .values()
            .chain(self.cleaning.values())
            .filter(|desk| !desk.busy)
            .filter_map(|desk| desk.not_before);
        let asks = self.asks.iter().filter(|(id, _)| !self.asking.contains(*id)).map(|(_, at)| *at);
        live.chain(waits).chain(desks).chain(asks).chain(self.inventory.next()).min()
    }

    /// The orders that run, for tests and for challenges.
    pub fn running(&self) -> impl Iterator<Item = &Order> {
        self.store.orders.values()
    }

    /// The store as it should be.
    #[must_use]
    pub const fn store(&self) -> &Store {
        &self.store
    }

    fn issuer(&self, due: &Due) -> Option<(String, &Issuer)> {
        let name = due.wanted.issuer.name(&self.hints.issuers)?;
        let issuer = self.hints.issuers.by_name.get(&name)?;
        Some((name, issuer))
    }

    /// What tells this wish from any other: the id of its order.
    fn id(&self, due: &Due) -> Option<String> {
        let (name, issuer) = self.issuer(due)?;
        let mut parts = vec![due.secret.to_string(), name, issuer.server.clone()];
        parts.push(issuer.profile.clone().unwrap_or_default());
        parts.push(due.wanted.terms.key.to_string());
        parts.extend(due.names.iter().map(ToString::to_string));
        Some(short_digest(&parts))
    }
}

/// Sixteen hexadecimal digits that belong to these texts.
pub(crate) fn short_digest(parts: &[String]) -> String {
    use sha2::{Digest as _, Sha256};
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    let digest = hash.finalize();
    format!("{:016x}", digest.iter().take(8).fold(0_u64, |number, byte| number << 8 | u64::from(*byte)))
}

/// Reads `namespace/name`.
fn name(text: &str) -> Option<ObjectName> {
    let (namespace, name) = text.split_once('/')?;
    Some(ObjectName::new(namespace, name))
}

#[cfg(test)]
mod crowd;
#[cfg(test)]
mod simulation;
