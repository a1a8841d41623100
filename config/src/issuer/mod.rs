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
//! `cert-manager.io/issuer` from every namespace. One that is wrong is left out; the others count. cert-manager's own
//! objects are read where they exist: [`objects`].

pub mod dns;
pub mod objects;
mod read;
mod read_dns;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use self::dns::{Dns01, SecretKey};

pub use objects::read_all;
pub use read::{Read, parse_map};

/// Names that stand for a server.
pub const PRESETS: [(&str, &str); 2] = [
    ("letsencrypt", "https://acme-v02.api.letsencrypt.org/directory"),
    ("letsencrypt-staging", "https://acme-staging-v02.api.letsencrypt.org/directory"),
];

/// All issuers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Issuers {
    /// By name; one of a namespace by `namespace/name`.
    pub by_name: BTreeMap<String, Issuer>,
    /// The one that `kubernetes.io/tls-acme: "true"` asks.
    pub default: Option<String>,
    /// Where a `ClusterIssuer` has its Secrets, if not where cert-manager would.
    pub cluster_resource_namespace: Option<String>,
    /// The names that our own section has given.
    pub own: BTreeSet<String>,
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
    /// The key, in base64url as CAs hand it out.
    pub secret: SecretKey,
}

/// A way to prove that a name is ours, for some names or for all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Solver {
    /// The names it is for; empty for every name.
    pub dns_names: Vec<String>,
    /// The zones it is for, with everything below; empty for every zone.
    pub dns_zones: Vec<String>,
    /// The way.
    pub way: Way,
}

/// A way to prove that a name is ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// By a page.
    Http01,
    /// By a handshake.
    TlsAlpn01,
    /// By a record in DNS.
    Dns01(Arc<Dns01>),
}

impl Way {
    /// The kind of challenge.
    #[must_use]
    pub const fn method(&self) -> Method {
        match self {
            Self::Http01 => Method::Http01,
            Self::TlsAlpn01 => Method::TlsAlpn01,
            Self::Dns01(_) => Method::Dns01,
        }
    }
}

/// A kind of challenge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Method {
    /// A page on port 80 (RFC 8555 §8.3).
    Http01,
    /// A handshake on port 443 (RFC 8737).
    TlsAlpn01,
    /// A TXT record in DNS (RFC 8555 §8.4).
    Dns01,
}

impl Method {
    /// As RFC 8555 §9.7.8 names it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http01 => "http-01",
            Self::TlsAlpn01 => "tls-alpn-01",
            Self::Dns01 => "dns-01",
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
    /// else of those for every name; as cert-manager picks them. A wildcard (`*.example.com`) is proved in DNS only
    /// (RFC 8555 §7.1.3), an address anywhere but there (RFC 8738 §7).
    #[must_use]
    pub fn ways(&self, name: &str) -> Vec<&Way> {
        let fits = |solver: &&Solver| match solver.way {
            Way::Http01 | Way::TlsAlpn01 => !name.starts_with("*."),
            Way::Dns01(_) => name.parse::<std::net::IpAddr>().is_err(),
        };
        let score = |solver: &Solver| match (solver.dns_names.is_empty(), solver.dns_zones.is_empty()) {
            (true, true) => Some(0),
            _ if solver.dns_names.iter().any(|it| it == name) => Some(usize::MAX),
            _ => solver.dns_zones.iter().filter(|zone| is_in(name, zone)).map(String::len).max(),
        };
        let fitting: Vec<&Solver> = self.solvers.iter().filter(fits).collect();
        let best = fitting.iter().filter_map(|solver| score(solver)).max();
        fitting.into_iter().filter(|solver| best.is_some() && score(solver) == best).map(|it| &it.way).collect()
    }

    /// How records for `name` are published, if that is how it is proved.
    #[must_use]
    pub fn dns(&self, name: &str) -> Option<&Arc<Dns01>> {
        self.ways(name).into_iter().find_map(|way| match way {
            Way::Dns01(dns) => Some(dns),
            Way::Http01 | Way::TlsAlpn01 => None,
        })
    }

    /// Every value in a Secret that is needed.
    #[must_use]
    pub fn secrets(&self) -> Vec<&SecretKey> {
        let solvers = self.solvers.iter().filter_map(|solver| match &solver.way {
            Way::Dns01(dns) => Some(dns.secrets()),
            Way::Http01 | Way::TlsAlpn01 => None,
        });
        self.external_account.iter().map(|account| &account.secret).chain(solvers.flatten()).collect()
    }
}

fn is_in(name: &str, zone: &str) -> bool {
    name.strip_suffix(zone).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn solver(names: &[&str], zones: &[&str], way: Way) -> Solver {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        Solver { dns_names: owned(names), dns_zones: owned(zones), way }
    }

    #[test]
    fn the_solver_that_says_most_about_a_name_is_taken() {
        let provider = dns::Provider::Exec(dns::ExecHook { command: vec!["/hook".to_owned()] });
        let dns = Way::Dns01(Arc::new(Dns01 { cname: dns::CnameStrategy::None, provider }));
        let issuer = Issuer {
            server: PRESETS[0].1.to_owned(),
            email: None,
            external_account: None,
            profile: None,
            preferred_chain: None,
            ca_bundle: None,
            solvers: vec![
                solver(&[], &[], Way::Http01),
                solver(&[], &["example.com"], Way::TlsAlpn01),
                solver(&["a.example.com"], &[], Way::Http01),
                solver(&[], &["example.com"], dns.clone()),
            ],
        };
        for (name, expected) in [
            ("a.example.com", &[&Way::Http01][..]),
            ("b.example.com", &[&Way::TlsAlpn01, &dns]),
            ("example.com", &[&Way::TlsAlpn01, &dns]),
            ("badexample.com", &[&Way::Http01]),
            ("other.org", &[&Way::Http01]),
            ("*.example.com", &[&dns]),
            ("*.other.org", &[]),
            ("192.0.2.1", &[&Way::Http01]),
        ] {
            assert_eq!(issuer.ways(name), expected, "{name}");
        }
    }
}
