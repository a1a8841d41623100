//! Publishes records for DNS-01, waits until the name servers of their zone show them, and removes them.
//!
//! Every action may be repeated: publishing what is there and removing what is not there are no errors. Nothing here
//! is for good: what goes wrong is tried again.

#![expect(clippy::disallowed_methods, reason = "io reads the clock")]

mod cloudflare;
mod hook;
mod lookup;
mod rfc2136;
mod route53;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use config::issuer::Issuer;
use config::issuer::dns::{CnameStrategy, Dns01, Provider, SecretKey};
use config::snapshot::Snapshot;
use http::{Request, StatusCode};
use http_body_util::Full;
use serde_json::Value;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};
use tracing::{debug, warn};
use zeroize::Zeroizing;

use self::lookup::Lookup;
use super::web::{Scheme, Web};
use crate::dns::Record;
use crate::retry::{Class, Failure};

/// How long the name servers of a zone may take until all of them show a record; then the CA is asked all the same.
const PROPAGATION: Duration = Duration::from_mins(2);
/// How often they are asked.
const PERIOD: Duration = Duration::from_secs(1);
/// The time to live of our records, in seconds.
const TTL: u32 = 60;

/// What secret values issuers name, as texts.
pub(super) type Credentials = BTreeMap<SecretKey, Zeroizing<String>>;

/// Publishes and removes records.
#[derive(Clone, Debug)]
pub(super) struct Publisher {
    lookup: Lookup,
    /// A set of records that is read and written as a whole is written by one at a time.
    one: Arc<Mutex<()>>,
}

/// Why a record cannot be published or removed.
#[derive(Debug, thiserror::Error)]
enum DnsError {
    #[error("the issuer has no solver with dns01 for {0} any more")]
    NoSolver(String),
    #[error("Secret {} lacks the key {:?}, or is not there", .0.secret, .0.key)]
    NoSecret(SecretKey),
    #[error("{0}")]
    Secret(String),
    #[error("no zone for {0} is found {1}")]
    NoZone(String, &'static str),
    #[error("{who} cannot be asked: {why}")]
    Unreachable { who: String, why: String },
    #[error("{who} refuses: {why}")]
    Refused { who: String, why: String },
}

/// What is done to a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Present,
    Remove,
}

/// A record at the name where it belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Placed {
    /// Without a final dot.
    owner: String,
    value: String,
}

impl Publisher {
    /// Asks `servers` for names; without any, those of `/etc/resolv.conf`.
    pub(super) fn new(servers: Vec<SocketAddr>) -> Self {
        Self { lookup: Lookup::new(servers), one: Arc::default() }
    }

    /// Publishes records and waits until they are seen.
    pub(super) async fn publish(
        &self,
        records: &[Record],
        issuer: &Issuer,
        credentials: &Credentials,
    ) -> Result<(), Failure> {
        let mut placed = Vec::new();
        for record in records {
            placed
                .push(self.act(Action::Present, record, issuer, credentials).await.map_err(|it| failure(record, &it))?);
        }
        let until = Instant::now() + PROPAGATION;
        for record in &placed {
            self.settle(record, until).await;
        }
        Ok(())
    }

    /// Removes a record.
    pub(super) async fn remove(
        &self,
        record: &Record,
        issuer: &Issuer,
        credentials: &Credentials,
    ) -> Result<(), Failure> {
        self.act(Action::Remove, record, issuer, credentials).await.map(drop).map_err(|error| failure(record, &error))
    }

    async fn act(
        &self,
        action: Action,
        record: &Record,
        issuer: &Issuer,
        credentials: &Credentials,
    ) -> Result<Placed, DnsError> {
        let dns: &Dns01 = issuer.dns(&record.name).ok_or_else(|| DnsError::NoSolver(record.name.clone()))?;
        let owner = match dns.cname {
            CnameStrategy::None => record.owner(),
            CnameStrategy::Follow => self.lookup.target(&record.owner()).await,
        };
        let placed = Placed { owner, value: record.value.clone() };
        let _alone = self.one.lock().await;
        match &dns.provider {
            Provider::Rfc2136(server) => rfc2136::act(action, &placed, server, credentials, &self.lookup).await,
            Provider::Cloudflare(api) => cloudflare::act(action, &placed, api, credentials).await,
            Provider::Route53(api) => route53::act(action, &placed, api, credentials).await,
            Provider::Http(hook) => hook::ask(action, &placed, hook, credentials).await,
            Provider::Exec(hook) => hook::run(action, &placed, hook).await,
        }?;
        debug!(owner = placed.owner, ?action, "a record of a challenge");
        Ok(placed)
    }

    /// Waits until every name server of the zone shows the record, or `until`.
    async fn settle(&self, record: &Placed, until: Instant) {
        let mut waits = self.lookup.lacking(record).await;
        while !waits.is_empty() && Instant::now() < until {
            sleep(PERIOD).await;
            waits = self.lookup.lacking(record).await;
        }
        if !waits.is_empty() {
            let servers: Vec<String> = waits.iter().map(ToString::to_string).collect();
            let servers = servers.join(", ");
            warn!(owner = record.owner, servers, "name servers do not show a record yet; the CA is asked all the same");
        }
    }
}

fn failure(record: &Record, error: &DnsError) -> Failure {
    Failure::new(Class::Transient, format!("the {record} cannot be written: {error}"))
}

/// The secret values of an issuer, as far as they are there.
pub(super) fn credentials(issuer: &Issuer, snapshot: &Snapshot) -> Credentials {
    let text = |wanted: &SecretKey| {
        let secret = snapshot.secrets.get(&wanted.secret)?;
        let data = secret.data.as_ref().and_then(|data| data.get(&wanted.key));
        let text = data.and_then(|bytes| String::from_utf8(bytes.0.clone()).ok());
        let text = text.or_else(|| secret.string_data.as_ref()?.get(&wanted.key).cloned())?;
        Some((wanted.clone(), Zeroizing::new(text.trim().to_owned())))
    };
    issuer.secrets().into_iter().filter_map(text).collect()
}

fn secret<'a>(credentials: &'a Credentials, wanted: &SecretKey) -> Result<&'a str, DnsError> {
    credentials.get(wanted).map(|text| text.as_str()).ok_or_else(|| DnsError::NoSecret(wanted.clone()))
}

/// A client of an API.
fn client(ca_bundle: Option<&str>) -> Result<Web, DnsError> {
    Web::new(ca_bundle, Scheme::Any).map_err(|error| DnsError::Secret(error.to_string()))
}

/// Asks an API of `who`; an answer that is no success is a refusal, `why` finds its reason in the body.
async fn ask(
    client: &Web,
    who: &str,
    request: Result<Request<Full<Bytes>>, http::Error>,
    why: impl FnOnce(&[u8]) -> Option<String>,
) -> Result<(StatusCode, Bytes), DnsError> {
    let unreachable = |why: String| DnsError::Unreachable { who: who.to_owned(), why };
    let request = request.map_err(|error| unreachable(error.to_string()))?;
    let (parts, body) = client.ask(request).await.map_err(unreachable)?;
    if parts.status.is_success() {
        return Ok((parts.status, body));
    }
    let why = why(&body).map_or_else(String::new, |why| format!(": {why}"));
    Err(DnsError::Refused { who: who.to_owned(), why: format!("status {}{why}", parts.status.as_u16()) })
}

fn json(body: &[u8], who: &str) -> Result<Value, DnsError> {
    serde_json::from_slice(body)
        .map_err(|_| DnsError::Refused { who: who.to_owned(), why: "its answer is no JSON".to_owned() })
}
