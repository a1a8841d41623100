//! What we answer: one whole [`Report`] per domain, and the entries that operators and tools read.
//!
//! A report says what *should* be written (status, events), never what to do; `cluster` compares it with what is
//! there and writes the difference. The `*Entry` types are the JSON of the admin API, stable and documented.

mod address;
mod events;
mod routes;
mod secret;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use serde::Serialize;

pub use address::{IngressAddress, IngressAddressError};
pub use events::Events;
pub use routes::{Certificates, Listing, Routes};
pub use secret::{SecretWrite, data_digest};

use crate::diagnostic::{Problem, Severity};
use crate::object::{ObjectName, ObjectRef};
use crate::pool::PoolName;
use crate::shared::SharedMap;

/// Everything that one domain wants to be known; replaces that domain's report before it.
///
/// What did not change is shared with the report before, so that a comparison costs what differs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Generation of the snapshot it was computed from. A report made before the last committed status could be seen
    /// is not written: it would move an address that was given a moment ago.
    pub generation: u64,
    /// Wanted address status of each `LoadBalancer` Service we are responsible for; a Service not in here is left
    /// alone, one with no addresses has its status cleared.
    pub services: SharedMap<ObjectName, ServiceStatus>,
    /// Wanted `status.loadBalancer` of each Ingress of our class, sorted; one with no addresses has its status cleared.
    pub ingresses: SharedMap<ObjectName, Vec<IngressAddress>>,
    /// Wanted content of Secrets that are ours; a Secret not in here is left alone.
    pub secrets: BTreeMap<ObjectName, SecretWrite>,
    /// Events that hold now; each is written once, when it first appears.
    pub events: Events,
    /// Events of what only the node knows that it happens on; it tells them itself, whoever leads.
    pub local_events: Events,
    /// What this domain found wrong, with places filled in.
    pub problems: Arc<Vec<Problem>>,
}

/// Wanted status of one Service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceStatus {
    /// Its addresses, at most one per family; empty while it waits.
    pub ips: Vec<IpAddr>,
    /// The pool they come from.
    pub pool: Option<PoolName>,
}

/// Something that happened to an object, in the words of a Kubernetes Event.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Event {
    /// The object it happened to.
    pub object: ObjectRef,
    /// `Warning` for [`Severity::Error`] and [`Severity::Warning`], `Normal` for `None`.
    pub severity: Option<Severity>,
    /// The machine-readable reason, such as `IPAllocated`.
    pub reason: &'static str,
    /// The sentence for people.
    pub message: String,
}

/// Whether a Service's addresses are on the LAN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum VipState {
    /// This node answers for the address.
    Announcing,
    /// The Service has its address; this node does not announce it ([`VipEntry::reason`] says why).
    Assigned,
    /// The Service has no address ([`VipEntry::reason`] says why).
    Pending,
}

/// One `LoadBalancer` Service, as `GET /api/v1/vips` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VipEntry {
    /// Namespace of the Service.
    pub namespace: String,
    /// Name of the Service.
    pub service: String,
    /// Its addresses, at most one per family.
    pub ips: Vec<IpAddr>,
    /// The pool they come from.
    pub pool: Option<String>,
    /// Whether they are on the LAN.
    pub state: VipState,
    /// Why it is not announced; `None` while it is.
    pub reason: Option<String>,
    /// The node that announces it.
    pub node: Option<String>,
    /// The interface it is announced on.
    pub interface: Option<String>,
    /// Where it is to be, and what becomes of its connections when it moves.
    #[serde(flatten)]
    pub moving: VipMoves,
}

/// What is to be known of a [`VipEntry`] that moves, has moved or may.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct VipMoves {
    /// The node that shall announce it, if somebody said so.
    pub wanted_node: Option<String>,
    /// Who said so: `move` for the command, `annotation`.
    pub wanted_by: Option<&'static str>,
    /// Nodes that still serve connections from before it came to this node, which sends them on.
    pub connections_on: Vec<String>,
    /// Why open connections end when it moves to this node; `None` if they do not.
    pub connections_end: Option<String>,
}

/// One route, as `GET /api/v1/routes` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RouteEntry {
    /// The host of the rule, `*.example.com` for a wildcard, `*` for every host.
    pub host: String,
    /// The path of the rule as written.
    pub path: String,
    /// `Exact`, `Prefix` or `ImplementationSpecific`.
    pub path_type: String,
    /// `namespace/name` of the Ingress.
    pub ingress: ObjectName,
    /// `namespace/service:port`.
    pub backend: String,
    /// How many endpoints are ready behind it.
    pub endpoints: usize,
}

/// How one certificate stands that is ordered from a CA, as `GET /api/v1/certificates` shows it under `managed`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ManagedEntry {
    /// The Secret it is kept in.
    pub secret: ObjectName,
    /// The Ingress that asks for it.
    pub ingress: ObjectName,
    /// Who is to issue it, such as `ClusterIssuer letsencrypt`.
    pub issuer: String,
    /// Its names.
    pub hosts: Vec<String>,
    /// `valid`, `due`, `ordering`, `waiting` or `refused`.
    pub state: &'static str,
    /// Why it is so, for people.
    pub reason: String,
    /// What happens next, and for what it waits.
    pub next_step: Option<String>,
    /// RFC 3339 moment of the next try or of the renewal.
    pub next_try: Option<String>,
    /// RFC 3339 moment at which what is held expires.
    pub not_after: Option<String>,
    /// The last failure, in the CA's own words where it has said any.
    pub error: Option<String>,
    /// How often ordering failed since it last succeeded.
    pub failures: u32,
}

/// One certificate, as `GET /api/v1/certificates` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CertificateEntry {
    /// `namespace/name` of the Secret; `None` for the generated default certificate.
    pub secret: Option<ObjectName>,
    /// The DNS names and IP addresses it covers.
    pub hosts: Vec<String>,
    /// RFC 3339 moment of its expiry.
    pub not_after: String,
    /// The issuer's name as the certificate writes it.
    pub issuer: String,
}
