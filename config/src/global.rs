//! The global settings of the ingress: the `ConfigMap` that ingress-nginx reads.
//!
//! ```text
//! data ─> keys: known? ─> Reader: a value, or the last good one ─> a family each ─> Global + problems
//! ```
//!
//! Keys and meanings are those of ingress-nginx. A key that is the default of an annotation is kept as text in
//! [`Global::annotations`], where the reader of annotations falls back to it, so that an Ingress overrides it as it
//! does there. A value that is wrong is reported at its key; what it said when it was last right stays in use.
//!
//! Pure.

mod answers;
mod block;
mod client;
mod compress;
mod fields;
mod keys;
mod log;
mod read;
mod redirect;
mod tls;
mod trust;
mod unit;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::diagnostic::Severity;
use crate::object::ObjectName;

pub use answers::{AnswerRules, Hsts};
pub use block::{Blocks, Match};
pub use client::ClientRules;
pub use compress::{Codec, Coding, Compression};
pub use fields::fields;
pub use log::{Escape, LogFormat, LogPart, LogRules, LogVariable};
pub use redirect::RouteRules;
pub use tls::{Cipher, TlsRules};
pub use trust::{Network, Trust};

use read::Reader;

/// What the `ConfigMap` says; the default is that of one without keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Global {
    /// Values for annotations that an Ingress does not have, by their name without prefix.
    pub annotations: BTreeMap<String, String>,
    /// What holds for routes and no annotation says.
    pub routes: RouteRules,
    /// Whom to believe what about a client.
    pub trust: Trust,
    /// Who is refused.
    pub blocks: Blocks,
    /// What is taken from and added to answers.
    pub answers: AnswerRules,
    /// What is compressed.
    pub compression: Compression,
    /// How requests are logged.
    pub log: LogRules,
    /// What clients may do and how long they may take.
    pub client: ClientRules,
    /// How TLS is spoken with clients.
    pub tls: TlsRules,
    /// How long an unused connection to an endpoint is kept (`upstream-keepalive-timeout`).
    pub upstream_idle: Option<Duration>,
    /// Idle connections to endpoints that one worker keeps (`upstream-keepalive-connections`).
    pub upstream_pool: Option<usize>,
    /// The `ConfigMap` of fields for endpoints (`proxy-set-headers`).
    pub set_headers: Option<ObjectName>,
    /// The `ConfigMap` of fields for clients (`add-headers`).
    pub add_headers: Option<ObjectName>,
    /// The text of every key that was right.
    good: BTreeMap<String, String>,
}

/// What is wrong with one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyProblem {
    /// The key.
    pub key: String,
    /// `Error` if something asked for is not done.
    pub severity: Severity,
    /// A clause that says what was found and what to do.
    pub message: String,
}

impl Global {
    /// Reads the data of the `ConfigMap`; what is wrong keeps the value that `last` has.
    #[must_use]
    pub fn read(data: &BTreeMap<String, String>, last: &Self) -> (Self, Vec<KeyProblem>) {
        let mut reader = Reader::new(data, &last.good);
        let mut read = Self {
            annotations: reader.annotations(),
            routes: redirect::read(&mut reader),
            trust: trust::read(&mut reader),
            blocks: block::read(&mut reader),
            answers: answers::read(&mut reader),
            compression: compress::read(&mut reader),
            log: log::read(&mut reader),
            client: client::read(&mut reader),
            tls: tls::read(&mut reader),
            upstream_idle: reader.value("upstream-keepalive-timeout", unit::seconds),
            upstream_pool: reader.value("upstream-keepalive-connections", unit::count),
            set_headers: reader.value("proxy-set-headers", unit::reference),
            add_headers: reader.value("add-headers", unit::reference),
            good: BTreeMap::new(),
        };
        if read.annotations.contains_key("custom-http-errors") {
            let why = "the pages are those of the Service that an Ingress names in default-backend; one that names none \
                       keeps its errors";
            reader.warn("custom-http-errors", why.to_owned());
        }
        let (good, problems) = reader.finish();
        read.good = good;
        (read, problems)
    }
}

#[cfg(test)]
mod tests;
