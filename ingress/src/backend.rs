//! What stands behind a backend: from a Service port to the addresses that serve it.
//!
//! ```text
//! Ingress backend ──> Service port ──(port name)──> EndpointSlice port ──> address:port
//! web:80 or web:http  80 -> http                    http = 8080, may differ per slice
//! ```
//!
//! Ready endpoints are used; if none is ready, those that terminate but still serve, as kube-proxy does. Of these, the
//! ones that [`topology`] hints mean for our node or zone, if there are such. Addresses that lead back to this machine
//! or nowhere are refused: whoever may write an `EndpointSlice` is not thereby an administrator.
//!
//! Pure. Choosing among endpoints: [`crate::endpoints`]. Services that are a name out there: [`external`].

pub mod external;
pub mod topology;

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use config::annotation::Protocol;
use config::object::ObjectName;
use k8s_openapi::api::core::v1::{Service, ServicePort};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointHints, EndpointSlice};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::endpoints::Endpoints;
use crate::streams::Carrier;
use topology::Locality;

/// The label that ties an `EndpointSlice` to its Service.
pub const SERVICE_LABEL: &str = "kubernetes.io/service-name";

/// The port of a backend as an Ingress names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PortRef {
    /// By number.
    Number(u16),
    /// By name.
    Name(Arc<str>),
    /// The first that the Service lists.
    First,
    /// Not at all.
    Unset,
}

impl fmt::Display for PortRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Name(name) => f.write_str(name),
            Self::First => f.write_str("first"),
            Self::Unset => f.write_str("-"),
        }
    }
}

/// One backend; shown as `namespace/service:port`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BackendKey {
    /// The Service; for a `resource` backend, the resource.
    pub service: ObjectName,
    /// Its port: the number if the Service has it, else as the Ingress writes it.
    pub port: PortRef,
}

impl fmt::Display for BackendKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.service, self.port)
    }
}

/// Why a backend has no endpoints.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BackendProblem {
    /// The Service does not exist.
    #[error("Service {service} does not exist; requests are answered with 503 until it does")]
    ServiceMissing {
        /// The Service.
        service: ObjectName,
    },
    /// The Service points out of the cluster.
    #[error(
        "Service {service} is of type ExternalName, which is not routed; allow it with \
         --disable-svc-external-name=false if all who may write Services may send requests anywhere, or use a Service \
         without selector and an EndpointSlice with the addresses"
    )]
    ExternalName {
        /// The Service.
        service: ObjectName,
    },
    /// What the Service points to is not the name of a machine out there.
    #[error("spec.externalName {name:?} of Service {service} {why}")]
    NameInvalid {
        /// The Service.
        service: ObjectName,
        /// What it says.
        name: String,
        /// A clause about it.
        why: String,
    },
    /// DNS was not asked yet.
    #[error("DNS is being asked for {name}, to which Service {service} leads")]
    NamePending {
        /// The Service.
        service: ObjectName,
        /// Its name out there.
        name: String,
    },
    /// DNS says that the name has no address.
    #[error(
        "DNS has no address for {name}, to which Service {service} leads; \
         requests are answered with 503 until it has"
    )]
    NameMissing {
        /// The Service.
        service: ObjectName,
        /// Its name out there.
        name: String,
    },
    /// DNS says nothing.
    #[error(
        "DNS does not answer for {name}, to which Service {service} leads; check the name servers in \
         /etc/resolv.conf, or give some with --dns-server"
    )]
    NameUnknown {
        /// The Service.
        service: ObjectName,
        /// Its name out there.
        name: String,
    },
    /// The port has no number.
    #[error("Service {service} of type ExternalName lists no port {port}; give port.number")]
    PortUnknown {
        /// The Service.
        service: ObjectName,
        /// The port that was asked for.
        port: PortRef,
    },
    /// The Service has no such TCP port.
    #[error("Service {service} has no TCP port {port}; it has {available}")]
    PortMissing {
        /// The Service.
        service: ObjectName,
        /// The port that was asked for.
        port: PortRef,
        /// Those it has.
        available: String,
    },
    /// The backend names no port.
    #[error("backend {service} names no port; give port.number or port.name")]
    PortUnset {
        /// The Service.
        service: ObjectName,
    },
    /// No endpoint is ready.
    #[error("Service {service} has no ready endpoint; requests are answered with 503 until one is")]
    NoEndpoints {
        /// The Service.
        service: ObjectName,
    },
    /// The backend is not a Service.
    #[error("backend resource {kind} {name} cannot be served; use a service backend")]
    Resource {
        /// The kind of the resource.
        kind: String,
        /// Its name.
        name: ObjectName,
    },
    /// The backend is neither.
    #[error("backend names neither a service nor a resource; requests are answered with 503")]
    Unset,
}

/// Which addresses no request is sent to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forbidden {
    /// Whether loopback addresses are fine, as on a machine that is its own backend.
    pub allow_loopback: bool,
    /// Addresses that lead back to us.
    pub own: BTreeSet<IpAddr>,
}

impl Forbidden {
    /// Whether a request may be sent to `ip`.
    fn permits(&self, ip: IpAddr) -> bool {
        !is_nowhere(ip) && (self.allow_loopback || !ip.is_loopback()) && !self.own.contains(&ip)
    }
}

/// What of our own place bears on which endpoints we use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standpoint {
    /// Whom we never ask.
    pub forbidden: Forbidden,
    /// Whom we ask first.
    pub locality: Locality,
    /// Whether Services may be names out there.
    pub external_names: bool,
}

/// Finds the Service port that `port` means: by number or name, else (as ingress-nginx) by target port.
#[must_use]
pub fn service_port<'a>(service: &'a Service, port: &PortRef) -> Option<&'a ServicePort> {
    port_of(service, port, Carrier::Tcp)
}

fn port_of<'a>(service: &'a Service, port: &PortRef, carrier: Carrier) -> Option<&'a ServicePort> {
    let by_port = |candidate: &&ServicePort| match port {
        PortRef::Number(number) => candidate.port == i32::from(*number),
        PortRef::Name(name) => candidate.name.as_deref() == Some(name),
        PortRef::First => true,
        PortRef::Unset => false,
    };
    let by_target = |candidate: &&ServicePort| match (&candidate.target_port, port) {
        (Some(IntOrString::Int(target)), PortRef::Number(number)) => *target == i32::from(*number),
        (Some(IntOrString::String(target)), PortRef::Name(name)) => **target == **name,
        _ => false,
    };
    let ports = || ports(service, carrier);
    ports().find(by_port).or_else(|| ports().find(by_target))
}

/// The key and endpoints of the backend `service`:`port`, from the Service and its slices.
#[must_use]
pub fn resolve(
    name: &ObjectName,
    port: &PortRef,
    service: Option<&Service>,
    slices: &[&Arc<EndpointSlice>],
    here: &Standpoint,
    previous: Option<&Endpoints>,
) -> Endpoints {
    resolve_over(Carrier::Tcp, name, port, service, slices, here, previous)
}

/// As [`resolve`], for ports of this carrier.
#[must_use]
pub fn resolve_over(
    carrier: Carrier,
    name: &ObjectName,
    port: &PortRef,
    service: Option<&Service>,
    slices: &[&Arc<EndpointSlice>],
    here: &Standpoint,
    previous: Option<&Endpoints>,
) -> Endpoints {
    let key = BackendKey { service: name.clone(), port: port.clone() };
    let found = match find_port(name, port, service, carrier) {
        Ok(found) => found,
        Err(problem) => return Endpoints::broken(key, problem),
    };
    let wanted = found.name.as_deref().unwrap_or_default();
    let mut refused = BTreeSet::new();
    let mut gather = |filter: fn(&Endpoint) -> bool| {
        let all = slices.iter().flat_map(|slice| addresses(slice, wanted, carrier, filter));
        let (permitted, others): (Vec<_>, Vec<_>) = all.partition(|(addr, _)| here.forbidden.permits(addr.ip()));
        refused.extend(others.iter().map(|(addr, _)| addr.ip()));
        permitted
    };
    let mut serving = gather(is_ready);
    if serving.is_empty() {
        serving = gather(is_leaving_but_serving);
    }
    let addrs: BTreeSet<SocketAddr> = topology::nearest(&serving, &here.locality).into_iter().collect();
    Endpoints::new(key, addrs, refused.into_iter().collect(), previous).speaking(protocol(found))
}

/// The cluster IPs of the Service instead of its endpoints, for who leaves the choice to a service mesh.
#[must_use]
pub fn by_service(
    name: &ObjectName,
    port: &PortRef,
    service: Option<&Service>,
    here: &Standpoint,
    previous: Option<&Endpoints>,
) -> Endpoints {
    let key = BackendKey { service: name.clone(), port: port.clone() };
    let found = match find_port(name, port, service, Carrier::Tcp) {
        Ok(found) => found,
        Err(problem) => return Endpoints::broken(key, problem),
    };
    let spec = service.and_then(|service| service.spec.as_ref());
    let one = spec.and_then(|spec| spec.cluster_ip.as_ref());
    let all = spec.and_then(|spec| spec.cluster_ips.as_ref());
    let ips: BTreeSet<IpAddr> = all.into_iter().flatten().chain(one).filter_map(|ip| ip.parse().ok()).collect();
    let (permitted, refused): (BTreeSet<_>, BTreeSet<_>) = ips.into_iter().partition(|ip| here.forbidden.permits(*ip));
    let port = u16::try_from(found.port).ok().filter(|port| *port != 0);
    let addrs = permitted.into_iter().filter_map(|ip| Some(SocketAddr::new(ip, port?)));
    Endpoints::new(key, addrs, refused.into_iter().collect(), previous).speaking(protocol(found))
}

fn protocol(port: &ServicePort) -> Option<Protocol> {
    Protocol::of_app_protocol(port.app_protocol.as_deref()?)
}

/// The Service port of a backend, or why there is none.
fn find_port<'a>(
    name: &ObjectName,
    port: &PortRef,
    service: Option<&'a Service>,
    carrier: Carrier,
) -> Result<&'a ServicePort, BackendProblem> {
    let (name, port) = (name.clone(), port.clone());
    let Some(service) = service else { return Err(BackendProblem::ServiceMissing { service: name }) };
    if port == PortRef::Unset {
        return Err(BackendProblem::PortUnset { service: name });
    }
    port_of(service, &port, carrier).ok_or_else(|| {
        let available = list_ports(service, carrier);
        BackendProblem::PortMissing { service: name, port, available }
    })
}

/// The ports of a Service that carry this.
fn ports(service: &Service, carrier: Carrier) -> impl Iterator<Item = &ServicePort> {
    let ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
    ports.filter(move |port| port.protocol.as_deref().unwrap_or("TCP") == carrier.as_str())
}

/// The ports of a Service, for people.
fn list_ports(service: &Service, carrier: Carrier) -> String {
    let show = |port: &ServicePort| match &port.name {
        Some(name) => format!("{} ({name})", port.port),
        None => port.port.to_string(),
    };
    let ports: Vec<String> = ports(service, carrier).map(show).collect();
    if ports.is_empty() { "none".to_owned() } else { ports.join(", ") }
}

/// The addresses in one slice that serve the port called `wanted` and pass `filter`, with their hints.
fn addresses<'a>(
    slice: &'a EndpointSlice,
    wanted: &'a str,
    carrier: Carrier,
    filter: fn(&Endpoint) -> bool,
) -> impl Iterator<Item = (SocketAddr, Option<&'a EndpointHints>)> + 'a {
    let named = slice.ports.iter().flatten().filter(move |port| {
        port.name.as_deref().unwrap_or_default() == wanted
            && port.protocol.as_deref().unwrap_or("TCP") == carrier.as_str()
    });
    let port = named.filter_map(|port| u16::try_from(port.port?).ok()).find(|port| *port != 0);
    let is_ip = matches!(slice.address_type.as_str(), "IPv4" | "IPv6");
    let endpoints = slice.endpoints.iter().filter(move |endpoint| is_ip && filter(endpoint));
    // Only the first address counts; the API calls the others fungible and nobody fills them in.
    endpoints.filter_map(move |endpoint| {
        let ip: IpAddr = endpoint.addresses.first()?.parse().ok()?;
        Some((SocketAddr::new(ip.to_canonical(), port?), endpoint.hints.as_ref()))
    })
}

/// Whether an endpoint wants requests; unknown counts as ready.
fn is_ready(endpoint: &Endpoint) -> bool {
    endpoint.conditions.as_ref().and_then(|conditions| conditions.ready) != Some(false)
}

/// Whether an endpoint is on its way out and still answers.
fn is_leaving_but_serving(endpoint: &Endpoint) -> bool {
    let conditions = endpoint.conditions.as_ref();
    let serving = conditions.and_then(|conditions| conditions.serving).unwrap_or_else(|| is_ready(endpoint));
    serving && conditions.and_then(|conditions| conditions.terminating) == Some(true)
}

/// Whether no service can have this address, or only one that is nobody else's business.
pub(crate) fn is_nowhere(ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    ip.is_unspecified() || ip.is_multicast() || is_link_local(ip) || is_broadcast(ip)
}

/// `169.254.0.0/16` and `fe80::/10`.
fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => Ipv6Addr::is_unicast_link_local(&ip),
    }
}

/// 255.255.255.255.
fn is_broadcast(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V4(ip) if ip.is_broadcast())
}

#[cfg(test)]
mod tests;
