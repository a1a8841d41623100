//! What must outlive us: accounts, running orders, failures and what the CA's limits have been used up to. It is one
//! Secret, which every replica reads for the tokens, and the leader writes.
//!
//! | key | what |
//! |-----|------|
//! | `account.ID` | one account: its server, key and URL |
//! | `order.ID` | one [`Order`], its private key included |
//! | `journal` | failures that are not overcome, what operators ask for, the [`Budget`], and records in DNS |
//!
//! Each value is JSON. One that cannot be read is left as it is: it may be a newer program's.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::budget::Budget;
use crate::dns::Record;
use crate::order::Order;
use crate::retry::Class;

const ACCOUNT: &str = "account.";
const ORDER: &str = "order.";
const JOURNAL: &str = "journal";

/// An account at a CA.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// The directory of its server.
    pub server: String,
    /// Its private key, PKCS #8 DER in base64.
    pub key: Zeroizing<String>,
    /// Its URL, once the CA knows it.
    pub url: Option<String>,
}

impl std::fmt::Debug for Account {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Account").field("server", &self.server).field("url", &self.url).finish_non_exhaustive()
    }
}

/// Failures of one wanted certificate since it was last ordered with success.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setback {
    /// What was wanted; another wish is tried at once.
    pub wish: String,
    /// The kind of the last failure.
    pub class: Class,
    /// Failures of that kind in a row.
    pub count: u32,
    /// What the CA said.
    pub message: String,
    /// When to try again.
    pub next: Timestamp,
}

/// Failures, wishes, what is used up, and what is to be tidied up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journal {
    /// What operators ask to be renewed, as `namespace/name`, until it is.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub asked: BTreeSet<String>,
    /// By `namespace/name` of the Secret.
    #[serde(default)]
    pub setbacks: BTreeMap<String, Setback>,
    /// What is used up.
    #[serde(default)]
    pub budget: Budget,
    /// What was published in DNS, or is about to be.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub records: BTreeSet<Record>,
}

/// All of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Store {
    /// By id.
    pub accounts: BTreeMap<String, Account>,
    /// By id.
    pub orders: BTreeMap<String, Order>,
    /// Failures and what is used up.
    pub journal: Journal,
    /// What we do not understand.
    others: BTreeMap<String, Vec<u8>>,
}

impl Store {
    /// Reads the Secret.
    #[must_use]
    pub fn decode(secret: &Secret) -> Self {
        let mut store = Self::default();
        for (key, value) in secret.data.iter().flatten() {
            let read = if let Some(id) = key.strip_prefix(ACCOUNT) {
                json(&value.0).map(|account| drop(store.accounts.insert(id.to_owned(), account)))
            } else if let Some(id) = key.strip_prefix(ORDER) {
                json(&value.0).map(|order| drop(store.orders.insert(id.to_owned(), order)))
            } else if key == JOURNAL {
                json(&value.0).map(|journal| store.journal = journal)
            } else {
                None
            };
            if read.is_none() {
                store.others.insert(key.clone(), value.0.clone());
            }
        }
        store
    }

    /// The data of the Secret.
    #[must_use]
    pub fn encode(&self) -> BTreeMap<String, Vec<u8>> {
        let accounts = self.accounts.iter().map(|(id, account)| (format!("{ACCOUNT}{id}"), text(account)));
        let orders = self.orders.iter().map(|(id, order)| (format!("{ORDER}{id}"), text(order)));
        let mut data: BTreeMap<_, _> = accounts.chain(orders).chain(self.others.clone()).collect();
        if self.journal != Journal::default() {
            data.insert(JOURNAL.to_owned(), text(&self.journal));
        }
        data
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

fn json<T: DeserializeOwned>(text: &[u8]) -> Option<T> {
    serde_json::from_slice(text).ok()
}

fn text(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("text keys and plain values always encode")
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;

    use super::*;
    use crate::order::{Challenge, Placed};

    /// An order with everything in it.
    fn order() -> Order {
        let challenge = Challenge {
            name: "a.example.com".into(),
            method: "http-01".into(),
            token: "t".into(),
            authorization: "t.x".into(),
        };
        Order {
            secret: "shop/tls".into(),
            ingress: "shop/web".into(),
            issuer: "le".into(),
            account: "1".into(),
            names: vec!["a.example.com".into()],
            profile: None,
            key: Zeroizing::new("pem".into()),
            request: "csr".into(),
            replaces: None,
            renewal: false,
            placed: Some(Placed { url: "https://ca/order/1".into(), challenges: vec![challenge] }),
        }
    }

    fn secret(data: BTreeMap<String, Vec<u8>>) -> Secret {
        let data = data.into_iter().map(|(key, value)| (key, ByteString(value)));
        Secret { data: Some(data.collect()), ..Secret::default() }
    }

    #[test]
    fn decoding_gives_back_what_was_encoded_and_what_is_not_ours_to_read() {
        let mut store = Store::default();
        store.orders.insert("1".into(), order());
        let account = Account { server: "https://ca".into(), key: Zeroizing::new("k".into()), url: None };
        store.accounts.insert("1".into(), account);
        let setback = Setback {
            wish: "w".into(),
            class: Class::Validation,
            count: 2,
            message: "no".into(),
            next: Timestamp::UNIX_EPOCH,
        };
        store.journal.setbacks.insert("shop/tls".into(), setback);
        store.journal.asked.insert("shop/tls".into());
        let mut data = store.encode();
        data.insert("order.future".into(), b"[1]".to_vec());
        let decoded = Store::decode(&secret(data.clone()));
        assert_eq!(decoded.encode(), data);
        assert_eq!((decoded.orders, decoded.accounts, decoded.journal), (store.orders, store.accounts, store.journal));
    }

    #[test]
    fn no_key_is_shown() {
        let mut store = Store::default();
        store.orders.insert("1".into(), Order { key: Zeroizing::new("hidden".into()), ..order() });
        assert!(!format!("{store:?}").contains("hidden"));
    }
}
