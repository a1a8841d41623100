//! Why the request of a Service makes no sense.

use std::net::IpAddr;

use config::object::FieldPath;

use super::family::{Families, Family};
use crate::refusal::quoted;

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
        "requested loadBalancer IP(s) {} does not match the ipFamily of the service; \
         ask for {} or change spec.ipFamilies and spec.ipFamilyPolicy", quoted(asked), wanted(*families)
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
