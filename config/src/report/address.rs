//! Where clients reach an Ingress: an address, or a name that leads to one.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use k8s_openapi::api::networking::v1::{Ingress, IngressLoadBalancerIngress};

/// One entry of an Ingress' `status.loadBalancer.ingress`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum IngressAddress {
    /// An address.
    Ip(IpAddr),
    /// A DNS name, in lower case.
    Hostname(Box<str>),
}

/// Why a text is no [`IngressAddress`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is neither an IP address nor a DNS name; write it like 192.0.2.10 or lb.example.com")]
pub struct IngressAddressError {
    text: String,
}

impl IngressAddress {
    /// What an Ingress shows, sorted; `None` if an entry is not exactly one address or one name.
    #[must_use]
    pub fn shown(ingress: &Ingress) -> Option<Vec<Self>> {
        let entries = ingress.status.as_ref().and_then(|status| status.load_balancer.as_ref()?.ingress.as_ref());
        let mut shown = entries.into_iter().flatten().map(Self::of).collect::<Option<Vec<_>>>()?;
        shown.sort();
        Some(shown)
    }

    fn of(entry: &IngressLoadBalancerIngress) -> Option<Self> {
        let some = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        match (some(&entry.ip), some(&entry.hostname)) {
            (Some(text), None) | (None, Some(text)) => text.parse().ok(),
            _ => None,
        }
    }
}

impl From<IpAddr> for IngressAddress {
    fn from(ip: IpAddr) -> Self {
        Self::Ip(ip)
    }
}

impl FromStr for IngressAddress {
    type Err = IngressAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(ip) = text.parse() {
            return Ok(Self::Ip(ip));
        }
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        if is_dns_name(&name) {
            Ok(Self::Hostname(name.into()))
        } else {
            Err(IngressAddressError { text: text.to_owned() })
        }
    }
}

impl fmt::Display for IngressAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(ip) => ip.fmt(f),
            Self::Hostname(name) => f.write_str(name),
        }
    }
}

/// RFC 1123 §2.1; a last label of digits alone would be a mistyped address.
fn is_dns_name(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last = name.rsplit('.').next().unwrap_or_default();
    name.len() <= 253 && name.split('.').all(is_label) && !last.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn an_address_is_told_from_a_name_and_both_from_a_mistake() {
        let name = |name: &str| Some(IngressAddress::Hostname(name.into()));
        for (text, expected) in [
            ("192.0.2.1", Some(IngressAddress::Ip([192, 0, 2, 1].into()))),
            ("2001:DB8::1", "2001:db8::1".parse().ok().map(IngressAddress::Ip)),
            ("lb.example.com", name("lb.example.com")),
            ("LB.Example.com.", name("lb.example.com")),
            ("localhost", name("localhost")),
            ("192.0.2.300", None),
            ("192.0.2.1:80", None),
            ("*.example.com", None),
            ("-a.example", None),
            ("a..example", None),
            ("", None),
            (".", None),
        ] {
            assert_eq!(text.parse().ok(), expected, "{text:?}");
        }
        assert!(format!("{}.example", "a".repeat(64)).parse::<IngressAddress>().is_err());
    }

    #[test]
    fn what_an_ingress_shows_is_sorted_and_a_half_entry_is_nothing_we_wrote() {
        let shown = |entries: Value| {
            let status = json!({ "metadata": {}, "status": { "loadBalancer": { "ingress": entries } } });
            let shown = IngressAddress::shown(&serde_json::from_value(status).unwrap())?;
            Some(shown.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
        };
        for (entries, expected) in [
            (json!([]), Some("")),
            (
                json!([{ "hostname": "b.example" }, { "ip": "192.0.2.2" }, { "ip": "192.0.2.1" }]),
                Some("192.0.2.1 192.0.2.2 b.example"),
            ),
            (json!([{ "ip": "192.0.2.1" }, { "ip": "192.0.2.1" }]), Some("192.0.2.1 192.0.2.1")),
            (json!([{ "ip": "192.0.2.1", "hostname": "" }]), Some("192.0.2.1")),
            (json!([{ "ip": "192.0.2.1", "hostname": "b.example" }]), None),
            (json!([{}]), None),
            (json!([{ "ip": "nonsense here" }]), None),
        ] {
            assert_eq!(shown(entries.clone()).as_deref(), expected, "{entries}");
        }
    }
}
