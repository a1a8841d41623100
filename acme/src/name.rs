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

/// A DNS name in lower case, without a final dot, of at least two labels.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CertName(String);

/// Why a name cannot be ordered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// It begins with `*.`.
    #[error("a wildcard certificate needs DNS-01, which is not supported yet; name each host")]
    Wildcard,
    /// It is an IP address.
    #[error("{0} is an address; certificates for addresses are not supported yet")]
    Address(IpAddr),
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
        if let Ok(ip) = name.parse() {
            return Err(NameError::Address(ip));
        }
        if name.starts_with("*.") {
            return Err(NameError::Wildcard);
        }
        let labels: Vec<_> = name.split('.').collect();
        if !labels.iter().all(|label| is_label(label)) {
            return Err(NameError::Syntax(name));
        }
        if name.len() > MAX_NAME || labels.iter().any(|label| label.len() > MAX_LABEL) {
            return Err(NameError::TooLong(name));
        }
        if labels.len() > MAX_LABELS {
            return Err(NameError::TooManyLabels(name));
        }
        let is_private = labels.len() < 2 || labels.last().is_some_and(|last| PRIVATE.contains(last));
        if is_private { Err(NameError::Private(name)) } else { Ok(Self(name)) }
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
            ("*.example.com", NameError::Wildcard),
            ("192.0.2.1", NameError::Address([192, 0, 2, 1].into())),
            ("2001:db8::1", NameError::Address("2001:db8::1".parse().unwrap())),
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
