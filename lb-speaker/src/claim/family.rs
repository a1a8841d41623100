//! Which address families a Service wants.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::ServiceSpec;

use super::fault::Fault;

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
    pub(super) fn accept(self, ips: &[IpAddr]) -> bool {
        match self {
            Self::Single(_) | Self::PreferDual(_) => ips.iter().all(|ip| self.wants(Family::of(*ip))),
            Self::RequireDual(_) => ips.len() == 2,
        }
    }
}

/// The families: from the cluster addresses if there are any, else from what the manifest wants.
pub(super) fn families(spec: &ServiceSpec) -> Result<Families, Fault> {
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
