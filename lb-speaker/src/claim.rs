//! What a Service asks for.
//!
//! [`read`] turns a Service into a [`Claim`]: which families, which addresses or pool by name, with whom it would
//! share. The annotations and their meaning are MetalLB's, under each of [`PREFIXES`].
//!
//! Pure. Who gets what: [`crate::allocator`].

mod annotation;
mod family;
mod fault;
mod readings;

use std::collections::BTreeMap;
use std::net::IpAddr;

use config::object::{FieldPath, ObjectName};
use config::pool::Labels;
use k8s_openapi::api::core::v1::{Service, ServiceSpec};

pub use annotation::{ASK_ADDRESSES, ASK_POOL, Annotation, PREFIXES, SHARE, deprecated};
use family::families;
pub use family::{Families, Family};
pub use fault::Fault;
pub use readings::{AllReadings, Reading, Readings};

/// A port that is taken on an address: `tcp/80`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Port {
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
    /// Its number.
    pub number: i32,
}

/// How traffic must be steered to reach a Service; sharers have to agree on it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Traffic {
    /// Any node will do.
    Cluster,
    /// Only nodes with an endpoint, which this selector chooses.
    Local(BTreeMap<String, String>),
}

/// What makes two Services fit for one address: the same key, the same steering.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sharing {
    /// The key, never empty.
    pub key: String,
    /// How traffic is steered.
    pub traffic: Traffic,
}

/// What one Service asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The Service.
    pub service: ObjectName,
    /// The families it wants.
    pub families: Families,
    /// The addresses it asks for; empty for any.
    pub asked: Vec<IpAddr>,
    /// The pool it asks for.
    pub pool: Option<String>,
    /// With whom it would share; `None` for nobody.
    pub sharing: Option<Sharing>,
    /// Its ports.
    pub ports: Vec<Port>,
    /// Its labels, by which pools are kept for Services.
    pub labels: Labels,
    /// The addresses its status has, at most one per family.
    pub committed: Vec<IpAddr>,
    /// Why its request makes no sense: it gets nothing new.
    pub fault: Option<Fault>,
}

/// Whether a Service is to have addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Another controller serves its class: not ours to touch.
    Foreign,
    /// It wants no address (any more), though its status may still have some.
    Unbalanced,
    /// It wants addresses.
    Claims(Box<Claim>),
}

/// Reads what `service` asks for.
///
/// `class` is the load balancer class served: `None` serves the Services without one (KEP-1959).
#[must_use]
pub fn read(name: &ObjectName, service: &Service, class: Option<&str>) -> Standing {
    let Some(spec) = &service.spec else { return Standing::Unbalanced };
    let theirs = spec.load_balancer_class.as_deref();
    if spec.type_.as_deref() != Some("LoadBalancer") {
        // A Service that changes its type loses its class with it.
        return if theirs.is_none() || theirs == class { Standing::Unbalanced } else { Standing::Foreign };
    }
    if theirs != class {
        return Standing::Foreign;
    }
    Standing::Claims(Box::new(claim(name, service, spec)))
}

fn claim(name: &ObjectName, service: &Service, spec: &ServiceSpec) -> Claim {
    let (families, family_fault) = match families(spec) {
        Ok(families) => (families, None),
        Err(fault) => (Families::PreferDual(Family::IPv4), Some(fault)),
    };
    let (asked, ask_fault) = match asked(service, spec, families) {
        Ok(asked) => (asked, None),
        Err(fault) => (Vec::new(), Some(fault)),
    };
    Claim {
        service: name.clone(),
        families,
        asked,
        pool: ASK_POOL.of(service).map(|(_, pool)| pool.trim().to_owned()).filter(|pool| !pool.is_empty()),
        sharing: sharing(service, spec),
        ports: ports(spec),
        labels: service.metadata.labels.clone().unwrap_or_default(),
        committed: committed(service),
        fault: family_fault.or(ask_fault),
    }
}

/// The addresses in the status of a Service: at most one per family, in their order.
#[must_use]
pub fn committed(service: &Service) -> Vec<IpAddr> {
    let entries = service.status.as_ref().and_then(|status| status.load_balancer.as_ref()?.ingress.as_ref());
    let mut ips: Vec<IpAddr> = Vec::new();
    for ip in entries.into_iter().flatten().filter_map(|entry| entry.ip.as_ref()?.parse::<IpAddr>().ok()) {
        let ip = ip.to_canonical();
        if !ips.iter().any(|held| Family::of(*held) == Family::of(ip)) {
            ips.push(ip);
        }
    }
    ips
}

fn asked(service: &Service, spec: &ServiceSpec, families: Families) -> Result<Vec<IpAddr>, Fault> {
    let by_field = spec.load_balancer_ip.as_deref().filter(|ip| !ip.is_empty());
    let by_annotation = ASK_ADDRESSES.of(service).filter(|(_, value)| !value.trim().is_empty());
    let (field, text) = match (by_field, by_annotation) {
        (None, None) => return Ok(Vec::new()),
        (Some(_), Some((annotation, _))) => return Err(Fault::AskedTwice { annotation: annotation.to_owned() }),
        (Some(text), None) => (FieldPath::of(["spec", "loadBalancerIP"]), text),
        (None, Some((key, text))) => (FieldPath::of(["metadata", "annotations"]).key(key), text),
    };
    let mut asked: Vec<IpAddr> = Vec::new();
    for text in text.split(',').map(str::trim) {
        let parsed = text.parse::<IpAddr>();
        let ip = parsed.map_err(|_| Fault::NotAnAddress { field: field.clone(), text: text.to_owned() })?;
        asked.push(ip.to_canonical());
    }
    if let Some(family) = repeated_family(&asked) {
        return Err(Fault::TooMany { field, family, text: text.to_owned() });
    }
    if !families.accept(&asked) {
        return Err(Fault::WrongFamily { field, asked, families });
    }
    asked.sort_by_key(|ip| Family::of(*ip) != families.first());
    Ok(asked)
}

fn repeated_family(ips: &[IpAddr]) -> Option<Family> {
    [Family::IPv4, Family::IPv6]
        .into_iter()
        .find(|family| ips.iter().filter(|ip| Family::of(**ip) == *family).count() > 1)
}

fn sharing(service: &Service, spec: &ServiceSpec) -> Option<Sharing> {
    let (_, key) = SHARE.of(service)?;
    let traffic = match spec.external_traffic_policy.as_deref() {
        Some("Local") => Traffic::Local(spec.selector.clone().unwrap_or_default()),
        _ => Traffic::Cluster,
    };
    (!key.is_empty()).then(|| Sharing { key: key.to_owned(), traffic })
}

fn ports(spec: &ServiceSpec) -> Vec<Port> {
    let ports = spec.ports.iter().flatten();
    let mut ports: Vec<Port> = ports
        .map(|port| Port {
            protocol: port.protocol.as_deref().unwrap_or("TCP").to_ascii_lowercase(),
            number: port.port,
        })
        .collect();
    ports.sort();
    ports.dedup();
    ports
}

#[cfg(test)]
#[path = "claim_tests.rs"]
mod tests;
