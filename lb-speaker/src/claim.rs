//! What a Service asks for.
//!
//! [`read`] turns a Service into a [`Claim`]: which families, which addresses or pool by name, with whom it would
//! share. The annotations and their meaning are MetalLB's, under each of [`PREFIXES`].
//!
//! Pure. Who gets what: [`crate::allocator`].

use std::collections::BTreeMap;
use std::net::IpAddr;

use config::object::{FieldPath, ObjectName};
use k8s_openapi::api::core::v1::{Service, ServiceSpec};

/// Where annotations may stand; the first that is present wins.
pub const PREFIXES: [&str; 3] = ["ferrogate.io", "metallb.io", "metallb.universe.tf"];
/// The addresses asked for, separated by commas; at most one per family.
pub const ASK_ADDRESSES: &str = "loadBalancerIPs";
/// The pool asked for.
pub const ASK_POOL: &str = "address-pool";
/// Services of one such key may share an address.
pub const SHARE: &str = "allow-shared-ip";

/// An address family, in the order that Kubernetes defaults to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "each is the address family of that name")]
pub enum Family {
    IPv4,
    IPv6,
}

impl Family {
    /// The family of an address.
    #[must_use]
    pub const fn of(ip: IpAddr) -> Self {
        if ip.is_ipv4() { Self::IPv4 } else { Self::IPv6 }
    }

    /// Its spelling in Kubernetes.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::IPv4 => "IPv4",
            Self::IPv6 => "IPv6",
        }
    }

    /// The other one.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::IPv4 => Self::IPv6,
            Self::IPv6 => Self::IPv4,
        }
    }
}

/// The families a Service wants addresses of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Families {
    /// One address of this family.
    Single(Family),
    /// One of each if a pool has both; else one, of this family first.
    PreferDual(Family),
    /// One of each or none; this family first.
    RequireDual(Family),
}

impl Families {
    /// Whether an address of this family is of use.
    #[must_use]
    pub fn wants(self, family: Family) -> bool {
        match self {
            Self::Single(only) => only == family,
            Self::PreferDual(_) | Self::RequireDual(_) => true,
        }
    }

    /// The family whose address comes first.
    #[must_use]
    pub const fn first(self) -> Family {
        match self {
            Self::Single(family) | Self::PreferDual(family) | Self::RequireDual(family) => family,
        }
    }

    /// Whether addresses of exactly these families would do.
    fn accept(self, ips: &[IpAddr]) -> bool {
        match self {
            Self::Single(_) | Self::PreferDual(_) => ips.iter().all(|ip| self.wants(Family::of(*ip))),
            Self::RequireDual(_) => ips.len() == 2,
        }
    }
}

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
    /// The addresses its status has, at most one per family.
    pub committed: Vec<IpAddr>,
    /// Why its request makes no sense: it gets nothing new.
    pub fault: Option<Fault>,
}

/// Why a request makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each field is what the message shows")]
pub enum Fault {
    /// Both ways of asking for an address are in use.
    #[error(
        "invalid requested loadbalancer IPs: both spec.loadBalancerIP and annotation {annotation} are set; \
         keep the annotation and remove spec.loadBalancerIP"
    )]
    AskedTwice { annotation: String },
    /// Not an address.
    #[error("invalid requested loadbalancer IPs: {text:?} is not an IP address; write it like 192.0.2.10")]
    NotAnAddress { field: FieldPath, text: String },
    /// More than one address of a family.
    #[error("invalid requested loadbalancer IPs: more than one {} address in {text:?}; ask for one per family", family.as_str())]
    TooMany { field: FieldPath, family: Family, text: String },
    /// The addresses are not of the families of the Service.
    #[error(
        "requested loadBalancer IP(s) {asked:?} does not match the ipFamily of the service; \
         ask for {} or change spec.ipFamilies and spec.ipFamilyPolicy", wanted(*families)
    )]
    WrongFamily { field: FieldPath, asked: Vec<IpAddr>, families: Families },
    /// Dual-stack is required of a single-stack Service.
    #[error(
        "ipFamilyPolicy RequireDualStack with one cluster IP {cluster_ip}; give the cluster both families or use PreferDualStack"
    )]
    SingleStackCluster { cluster_ip: String },
    /// Two addresses of one family, or something else, where the cluster addresses should be.
    #[error("{text:?} is not a cluster IP (or a pair, one per family); remove the field")]
    BadClusterIp { text: String },
    /// A headless Service has nothing to balance.
    #[error(
        "clusterIP None makes a headless Service, which has no address to balance; remove clusterIP or the type LoadBalancer"
    )]
    Headless,
}

impl Fault {
    /// Whether it is a slip in the request for addresses: then a Service keeps what it has until it is mended.
    /// A request that is clear and cannot be met frees what it has, as `MetalLB` does.
    #[must_use]
    pub const fn is_slip(&self) -> bool {
        match self {
            Self::AskedTwice { .. } | Self::NotAnAddress { .. } | Self::TooMany { .. } | Self::BadClusterIp { .. } => {
                true
            }
            Self::WrongFamily { .. } | Self::SingleStackCluster { .. } | Self::Headless => false,
        }
    }

    /// The field to change.
    #[must_use]
    pub fn field(&self) -> FieldPath {
        match self {
            Self::AskedTwice { .. } => FieldPath::of(["spec", "loadBalancerIP"]),
            Self::NotAnAddress { field, .. } | Self::TooMany { field, .. } | Self::WrongFamily { field, .. } => {
                field.clone()
            }
            Self::SingleStackCluster { .. } => FieldPath::of(["spec", "ipFamilyPolicy"]),
            Self::BadClusterIp { .. } | Self::Headless => FieldPath::of(["spec", "clusterIP"]),
        }
    }
}

fn wanted(families: Families) -> String {
    match families {
        Families::Single(family) => format!("one {} address", family.as_str()),
        Families::PreferDual(_) => "one address per family".to_owned(),
        Families::RequireDual(_) => "one IPv4 and one IPv6 address".to_owned(),
    }
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
    if spec.load_balancer_class.as_deref() != class {
        return Standing::Foreign;
    }
    if spec.type_.as_deref() != Some("LoadBalancer") {
        return Standing::Unbalanced;
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
        pool: annotation(service, ASK_POOL).map(|(_, pool)| pool.trim().to_owned()).filter(|pool| !pool.is_empty()),
        sharing: sharing(service, spec),
        ports: ports(spec),
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

/// The full key of the annotation of that name, as the Service writes it.
#[must_use]
pub fn annotation_key(service: &Service, name: &str) -> Option<String> {
    annotation(service, name).map(|(key, _)| key)
}

/// The annotations of ours that stand under the prefix `MetalLB` deprecated, each with the key to write instead.
#[must_use]
pub fn deprecated(service: &Service) -> Vec<(String, String)> {
    let [_, current, old] = PREFIXES;
    let annotations = service.metadata.annotations.as_ref();
    let has = |key: &String| annotations.is_some_and(|annotations| annotations.contains_key(key));
    let keys = [ASK_ADDRESSES, ASK_POOL, SHARE].map(|name| (format!("{old}/{name}"), format!("{current}/{name}")));
    keys.into_iter().filter(|(key, _)| has(key)).collect()
}

/// The annotation of that name: its full key and its value.
fn annotation<'a>(service: &'a Service, name: &str) -> Option<(String, &'a str)> {
    let annotations = service.metadata.annotations.as_ref()?;
    PREFIXES.iter().find_map(|prefix| {
        let key = format!("{prefix}/{name}");
        annotations.get(&key).map(|value| (key, value.as_str()))
    })
}

/// The families: from the cluster addresses if there are any, else from what the manifest wants.
fn families(spec: &ServiceSpec) -> Result<Families, Fault> {
    let cluster_ips: Vec<&str> = match (&spec.cluster_ips, &spec.cluster_ip) {
        (Some(ips), _) if !ips.is_empty() => ips.iter().map(String::as_str).collect(),
        (_, Some(ip)) if !ip.is_empty() => vec![ip],
        _ => return Ok(declared_families(spec)),
    };
    if cluster_ips == ["None"] {
        return Err(Fault::Headless);
    }
    let bad = || Fault::BadClusterIp { text: cluster_ips.join(",") };
    let parsed: Vec<IpAddr> = cluster_ips.iter().map(|ip| ip.parse()).collect::<Result<_, _>>().map_err(|_| bad())?;
    match (parsed.as_slice(), spec.ip_family_policy.as_deref()) {
        ([ip], Some("RequireDualStack")) => Err(Fault::SingleStackCluster { cluster_ip: ip.to_string() }),
        ([ip], _) => Ok(Families::Single(Family::of(*ip))),
        ([a, b], policy) if a.is_ipv4() != b.is_ipv4() => Ok(match policy {
            Some("PreferDualStack") => Families::PreferDual(Family::of(*a)),
            _ => Families::RequireDual(Family::of(*a)),
        }),
        _ => Err(bad()),
    }
}

/// The families of a manifest that no API server has completed: the defaults are the API server's.
fn declared_families(spec: &ServiceSpec) -> Families {
    let named = spec.ip_families.as_deref().unwrap_or_default();
    let first = if named.first().is_some_and(|family| family == "IPv6") { Family::IPv6 } else { Family::IPv4 };
    match spec.ip_family_policy.as_deref() {
        Some("RequireDualStack") => Families::RequireDual(first),
        Some("PreferDualStack") => Families::PreferDual(first),
        _ if named.len() > 1 => Families::RequireDual(first),
        _ => Families::Single(first),
    }
}

fn asked(service: &Service, spec: &ServiceSpec, families: Families) -> Result<Vec<IpAddr>, Fault> {
    let by_field = spec.load_balancer_ip.as_deref().filter(|ip| !ip.is_empty());
    let by_annotation = annotation(service, ASK_ADDRESSES).filter(|(_, value)| !value.trim().is_empty());
    let (field, text) = match (by_field, by_annotation) {
        (None, None) => return Ok(Vec::new()),
        (Some(_), Some((annotation, _))) => return Err(Fault::AskedTwice { annotation }),
        (Some(text), None) => (FieldPath::of(["spec", "loadBalancerIP"]), text),
        (None, Some((key, text))) => (FieldPath::of(["metadata", "annotations"]).key(&key), text),
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
    let (_, key) = annotation(service, SHARE)?;
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
