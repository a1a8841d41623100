//! Which hosts a rule is for.
//!
//! [`HostMatch`] is ordered by precedence: of two matchers that match one host, the smaller is asked.
//! `shop.example.com` comes before `*.example.com`, which comes before a rule without a host.
//!
//! Pure. Taking a request's authority apart: [`crate::gate`].

use std::fmt;
use std::net::Ipv4Addr;
use std::sync::Arc;

/// The longest name DNS can carry (RFC 1035 §2.3.4).
const MAX_NAME: usize = 253;
/// The longest label of a name (RFC 1035 §2.3.4).
const MAX_LABEL: usize = 63;

/// The host of a rule; always lower case.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HostMatch {
    /// One name, `shop.example.com`.
    Exact(Arc<str>),
    /// Any one label before this suffix: `*.example.com` holds `example.com`.
    Wildcard(Arc<str>),
    /// Every host that has no rules of its own.
    Any,
}

/// Why the host of a rule was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// The host is an address.
    #[error("host {host:?} is an IP address; a rule needs a DNS name, or no host at all to serve every name")]
    Address {
        /// As written.
        host: String,
    },
    /// A `*` that is not the whole first label.
    #[error("host {host:?} has a misplaced `*`; it may only be the whole first label, as in *.example.com")]
    Wildcard {
        /// As written.
        host: String,
    },
    /// Not a DNS name (RFC 1123).
    #[error(
        "host {host:?} is not a DNS name; use labels of letters, digits and `-`, separated by dots, \
         63 characters each and 253 in all"
    )]
    Name {
        /// As written.
        host: String,
    },
}

impl HostMatch {
    /// Reads the `host` of a rule; the empty text means every host. Upper case is folded, as DNS does.
    pub fn parse(host: &str) -> Result<Self, HostError> {
        if host.is_empty() {
            return Ok(Self::Any);
        }
        let suffix = host.strip_prefix("*.");
        let name = suffix.unwrap_or(host);
        if name.contains('*') {
            return Err(HostError::Wildcard { host: host.to_owned() });
        }
        if name.parse::<Ipv4Addr>().is_ok() || name.contains(':') {
            return Err(HostError::Address { host: host.to_owned() });
        }
        if !is_dns_name(name) {
            return Err(HostError::Name { host: host.to_owned() });
        }
        let name = Arc::from(name.to_ascii_lowercase());
        Ok(if suffix.is_some() { Self::Wildcard(name) } else { Self::Exact(name) })
    }

    /// Whether this matches `host`, which is lower case and without port or trailing dot.
    #[must_use]
    pub fn matches(&self, host: &str) -> bool {
        match self {
            Self::Exact(name) => **name == *host,
            Self::Wildcard(suffix) => parent(host) == Some(suffix),
            Self::Any => true,
        }
    }
}

impl fmt::Display for HostMatch {
    /// As a rule writes it; `*` for every host.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Wildcard(suffix) => write!(f, "*.{suffix}"),
            Self::Any => f.write_str("*"),
        }
    }
}

/// The name without its first label: what a wildcard matching `host` ends in.
#[must_use]
pub fn parent(host: &str) -> Option<&str> {
    let (label, rest) = host.split_once('.')?;
    (!label.is_empty() && !rest.is_empty()).then_some(rest)
}

/// Whether `pattern` (`shop.example.com` or `*.example.com`) covers `host` or, if `host` is itself a wildcard, equals it.
///
/// This is how the names in a certificate are read (RFC 9525 §6.3: `*` stands for one whole first label).
#[must_use]
pub fn covers(pattern: &str, host: &HostMatch) -> bool {
    let suffix = pattern.strip_prefix("*.");
    match (host, suffix) {
        (HostMatch::Exact(name), None) => pattern.eq_ignore_ascii_case(name),
        (HostMatch::Exact(name), Some(suffix)) => parent(name).is_some_and(|rest| rest.eq_ignore_ascii_case(suffix)),
        (HostMatch::Wildcard(name), Some(suffix)) => suffix.eq_ignore_ascii_case(name),
        (HostMatch::Wildcard(_), None) | (HostMatch::Any, _) => false,
    }
}

/// Whether `name` is a subdomain as RFC 1123 §2.1 and Kubernetes understand it, in either case.
fn is_dns_name(name: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    let is_label = |label: &str| {
        (1..=MAX_LABEL).contains(&label.len())
            && label.bytes().all(is_inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= MAX_NAME && name.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_matches_exactly_one_label() {
        let wildcard = HostMatch::parse("*.foo.com").unwrap();
        for (host, expected) in
            [("bar.foo.com", true), ("baz.bar.foo.com", false), ("foo.com", false), (".foo.com", false)]
        {
            assert_eq!(wildcard.matches(host), expected, "{host}");
        }
    }

    #[test]
    fn the_more_particular_host_comes_first() {
        let mut hosts = ["", "*.foo.com", "bar.foo.com"].map(|host| HostMatch::parse(host).unwrap());
        hosts.sort();
        assert_eq!(hosts.map(|host| host.to_string()), ["bar.foo.com", "*.foo.com", "*"]);
    }

    #[test]
    fn a_host_is_folded_to_lower_case() {
        assert_eq!(HostMatch::parse("Shop.Example.COM").unwrap(), HostMatch::Exact("shop.example.com".into()));
    }

    #[test]
    fn a_host_that_is_no_dns_name_is_refused() {
        for host in
            ["*", "*.", "a..b", "-a.com", "a-.com", "a b", "*foo.com", "a.*.com", "192.0.2.1", "::1", "é.com", "a.com."]
        {
            assert!(HostMatch::parse(host).is_err(), "{host}");
        }
        assert!(HostMatch::parse(&"a.".repeat(127)).is_err());
        assert!(HostMatch::parse(&format!("{}.com", "a".repeat(64))).is_err());
    }

    #[test]
    fn a_certificate_name_covers_what_a_browser_thinks_it_covers() {
        for (pattern, host, expected) in [
            ("shop.example.com", "shop.example.com", true),
            ("*.example.com", "shop.example.com", true),
            ("*.example.com", "a.shop.example.com", false),
            ("*.example.com", "example.com", false),
            ("*.example.com", "*.example.com", true),
            ("shop.example.com", "*.example.com", false),
        ] {
            assert_eq!(covers(pattern, &HostMatch::parse(host).unwrap()), expected, "{pattern} for {host}");
        }
    }
}
