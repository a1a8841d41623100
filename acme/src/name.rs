//! Names that a public CA would put into a certificate.
//!
//! What it would refuse is refused here, before an order is spent on it: failed orders are counted against us.

use std::fmt;
use std::net::IpAddr;

/// The longest name DNS can carry as text (RFC 1035 §2.3.4).
const MAX_NAME: usize = 253;

/// The longest label (RFC 1035 §2.3.4).
const MAX_LABEL: usize = 63;

/// The most labels that Let's Encrypt takes.
const MAX_LABELS: usize = 10;

/// Domains that belong to nobody on the Internet (RFC 6762 §3; ICANN resolution 2024.07.29.06).
const PRIVATE: [&str; 2] = ["local", "internal"];

/// A DNS name in lower case, without a final dot, of at least two labels, the first of which may be `*`; or an address.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CertName(String);

/// Why a name cannot be ordered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// It is not made of letters, digits, hyphens and dots.
    #[error("{0:?} is not a host name; use letters, digits and hyphens between dots (other scripts as xn--...)")]
    Syntax(String),
    /// It has more than 253 characters, or a label has more than 63.
    #[error("{0:?} is too long for DNS: at most 253 characters, 63 between dots")]
    TooLong(String),
    /// It has more than ten labels.
    #[error("{0:?} has more than 10 labels, which Let's Encrypt refuses")]
    TooManyLabels(String),
    /// Nobody on the Internet can own it.
    #[error("{0:?} cannot be validated from the Internet; use a name below a public domain")]
    Private(String),
}

impl CertName {
    /// Reads a host as an Ingress writes it.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        if let Ok(ip) = name.parse::<IpAddr>() {
            return Ok(Self(ip.to_string()));
        }
        let labels: Vec<_> = name.strip_prefix("*.").unwrap_or(&name).split('.').collect();
        if !labels.iter().all(|label| is_label(label)) {
            return Err(NameError::Syntax(name));
        }
        if name.len() > MAX_NAME || labels.iter().any(|label| label.len() > MAX_LABEL) {
            return Err(NameError::TooLong(name));
        }
        if name.split('.').count() > MAX_LABELS {
            return Err(NameError::TooManyLabels(name));
        }
        let is_private = labels.len() < 2 || labels.last().is_some_and(|last| PRIVATE.contains(last));
        if is_private { Err(NameError::Private(name)) } else { Ok(Self(name)) }
    }

    /// Whether it stands for all names one label below another.
    #[must_use]
    pub fn is_wildcard(&self) -> bool {
        self.0.starts_with("*.")
    }

    /// The address, if it is one.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        self.0.parse().ok()
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CertName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether an address may be one of the Internet, as far as the blocks that are not are well known (RFC 6890).
#[must_use]
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(ip) => {
            let [first, second, ..] = ip.octets();
            let shared = first == 100 && (64..128).contains(&second);
            !(ip.is_private()
                || ip.is_loopback()
                || ip.is_link_local()
                || ip.is_multicast()
                || ip.is_documentation()
                || shared
                || first == 0
                || first >= 240)
        }
        // What is assigned to be reached from everywhere, but for documentation.
        IpAddr::V6(ip) => ip.segments()[0] & 0xe000 == 0x2000 && ip.segments()[..2] != [0x2001, 0xdb8],
    }
}

/// Letters, digits and inner hyphens (RFC 1123 §2.1); never empty.
fn is_label(label: &str) -> bool {
    !label.is_empty()
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_a_public_ca_refuses_is_refused_before_an_order() {
        let (label, deep) = ("a".repeat(64), ["a"; 11].join("."));
        let long = [&"a".repeat(63); 4].map(String::as_str).join(".");
        for (text, expected) in [
            ("a.*.example.com", NameError::Syntax("a.*.example.com".into())),
            ("*.*.example.com", NameError::Syntax("*.*.example.com".into())),
            ("*.com", NameError::Private("*.com".into())),
            ("a_b.example.com", NameError::Syntax("a_b.example.com".into())),
            ("münchen.example", NameError::Syntax("münchen.example".into())),
            ("a..example.com", NameError::Syntax("a..example.com".into())),
            ("-a.example.com", NameError::Syntax("-a.example.com".into())),
            ("", NameError::Syntax(String::new())),
            (&format!("{label}.com"), NameError::TooLong(format!("{label}.com"))),
            (&long, NameError::TooLong(long.clone())),
            (&deep, NameError::TooManyLabels(deep.clone())),
            ("localhost", NameError::Private("localhost".into())),
            ("printer.local", NameError::Private("printer.local".into())),
            ("a.Internal.", NameError::Private("a.internal".into())),
        ] {
            assert_eq!(CertName::parse(text), Err(expected), "{text}");
        }
    }

    #[test]
    fn case_and_a_final_dot_do_not_matter() {
        assert_eq!(CertName::parse("Shop.Example.COM.").unwrap().as_str(), "shop.example.com");
        assert_eq!(CertName::parse("2001:DB8::0:1").unwrap().as_str(), "2001:db8::1");
        assert!(CertName::parse("*.Example.com").unwrap().is_wildcard());
    }

    #[test]
    fn addresses_that_nobody_reaches_from_the_internet_are_known() {
        for (text, expected) in [
            ("8.8.8.8", true),
            ("2600::1", true),
            ("10.0.0.1", false),
            ("192.168.1.1", false),
            ("100.64.0.1", false),
            ("192.0.2.1", false),
            ("0.0.0.0", false),
            ("255.255.255.255", false),
            ("fd00::1", false),
            ("fe80::1", false),
            ("2001:db8::1", false),
            ("::1", false),
        ] {
            assert_eq!(is_public(text.parse().unwrap()), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_name_is_read_back_as_itself(text in ".{0,80}") {
            if let Ok(name) = CertName::parse(&text) {
                prop_assert_eq!(CertName::parse(name.as_str()), Ok(name));
            }
        }
    }
}
