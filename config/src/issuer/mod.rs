//! Who issues certificates: the issuers of the `acme` section of our `ConfigMap`, in the words of cert-manager.
//!
//! ```yaml
//! data:
//!   acme: |
//!     defaultIssuer: letsencrypt
//!     issuers:
//!       letsencrypt: { email: ops@example.com }
//!       corp:
//!         server: https://ca.corp.example/acme/directory
//!         caBundle: |
//!           -----BEGIN CERTIFICATE-----
//! ```
//!
//! An issuer of this section is found under its name by `cert-manager.io/cluster-issuer`, and by
//! `cert-manager.io/issuer` from every namespace. One that is wrong is left out; the others count.

mod read;

use std::collections::BTreeMap;
use std::fmt;

use crate::object::ObjectName;

pub use read::{Read, parse_map};

/// Names that stand for a server.
pub const PRESETS: [(&str, &str); 2] = [
    ("letsencrypt", "https://acme-v02.api.letsencrypt.org/directory"),
    ("letsencrypt-staging", "https://acme-staging-v02.api.letsencrypt.org/directory"),
];

/// All issuers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Issuers {
    /// By name.
    pub by_name: BTreeMap<String, Issuer>,
    /// The one that `kubernetes.io/tls-acme: "true"` asks.
    pub default: Option<String>,
}

/// One ACME server and who we are there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issuer {
    /// The directory of the ACME server: an `https` URL.
    pub server: String,
    /// Where the CA may write to; an address without `mailto:`.
    pub email: Option<String>,
    /// The customer that the account is to belong to (RFC 8555 §7.3.4).
    pub external_account: Option<ExternalAccount>,
    /// The profile to order by (draft-ietf-acme-profiles).
    pub profile: Option<String>,
    /// The common name of the issuer of the topmost certificate of the chain to choose, if the CA offers several.
    pub preferred_chain: Option<String>,
    /// Whom to trust besides the public CAs when talking to the server, PEM.
    pub ca_bundle: Option<String>,
    /// How to prove that a name is ours, in order of preference; never empty.
    pub solvers: Vec<Solver>,
}

/// The customer that an account belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalAccount {
    /// The name of the key at the CA.
    pub key_id: String,
    /// The Secret that holds the key, in base64url as CAs hand it out.
    pub secret: ObjectName,
    /// The key of its data.
    pub key: String,
}

/// A way to prove that a name is ours, for some names or for all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Solver {
    /// The names it is for; empty for every name.
    pub dns_names: Vec<String>,
    /// The zones it is for, with everything below; empty for every zone.
    pub dns_zones: Vec<String>,
    /// The way.
    pub method: Method,
}

/// A kind of challenge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Method {
    /// A page on port 80 (RFC 8555 §8.3).
    Http01,
    /// A handshake on port 443 (RFC 8737).
    TlsAlpn01,
}

impl Method {
    /// As RFC 8555 §9.7.8 names it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http01 => "http-01",
            Self::TlsAlpn01 => "tls-alpn-01",
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Issuer {
    /// The ways to prove `name`, the preferred first: of a solver for the very name, else of one for its longest zone,
    /// else of those for every name; as cert-manager picks them.
    #[must_use]
    pub fn methods(&self, name: &str) -> Vec<Method> {
        let score = |solver: &Solver| match (solver.dns_names.is_empty(), solver.dns_zones.is_empty()) {
            (true, true) => Some(0),
            _ if solver.dns_names.iter().any(|it| it == name) => Some(usize::MAX),
            _ => solver.dns_zones.iter().filter(|zone| is_in(name, zone)).map(String::len).max(),
        };
        let best = self.solvers.iter().filter_map(score).max();
        self.solvers.iter().filter(|solver| best.is_some() && score(solver) == best).map(|it| it.method).collect()
    }
}

fn is_in(name: &str, zone: &str) -> bool {
    name.strip_suffix(zone).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn solver(names: &[&str], zones: &[&str], method: Method) -> Solver {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        Solver { dns_names: owned(names), dns_zones: owned(zones), method }
    }

    #[test]
    fn the_solver_that_says_most_about_a_name_is_taken() {
        let issuer = Issuer {
            server: PRESETS[0].1.to_owned(),
            email: None,
            external_account: None,
            profile: None,
            preferred_chain: None,
            ca_bundle: None,
            solvers: vec![
                solver(&[], &[], Method::Http01),
                solver(&[], &["example.com"], Method::TlsAlpn01),
                solver(&["a.example.com"], &[], Method::Http01),
            ],
        };
        for (name, expected) in [
            ("a.example.com", Method::Http01),
            ("b.example.com", Method::TlsAlpn01),
            ("example.com", Method::TlsAlpn01),
            ("badexample.com", Method::Http01),
            ("other.org", Method::Http01),
        ] {
            assert_eq!(issuer.methods(name), [expected], "{name}");
        }
    }
}
