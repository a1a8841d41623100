//! Which certificate a client is shown: the name it asks for, else a wildcard over it, else the default.

use std::borrow::Cow;
use std::sync::Arc;

use config::shared::SharedMap;
use rustls::SignatureScheme;
use rustls::sign::CertifiedKey;

use super::Certificate;
use crate::host::{HostMatch, parent};

/// The certificates of one name, the preferred first; more than one only if their key types differ.
type Choice = Arc<[Arc<Certificate>]>;

/// The certificate for every name.
///
/// A copy shares everything with the table that it is made of.
#[derive(Clone, Debug)]
pub struct CertTable {
    exact: SharedMap<Arc<str>, Choice>,
    wildcard: SharedMap<Arc<str>, Choice>,
    default: Arc<Certificate>,
}

impl CertTable {
    /// The table in which every name is shown `default`.
    #[must_use]
    pub fn new(default: Arc<Certificate>) -> Self {
        CertTableBuilder::new(default).build()
    }

    /// The key to show a client that asks for `sni` and can verify `schemes`.
    ///
    /// Without a name, or for an unknown one, the default.
    #[must_use]
    pub fn resolve(&self, sni: Option<&str>, schemes: &[SignatureScheme]) -> &Arc<CertifiedKey> {
        let Some(choice) = sni.and_then(|name| self.choice(name)) else { return &self.default.key };
        let verifiable = |certificate: &&Arc<Certificate>| certificate.key.key.choose_scheme(schemes).is_some();
        let chosen = choice.iter().find(verifiable).or_else(|| choice.first());
        &chosen.unwrap_or(&self.default).key
    }

    /// The certificate that a client is shown that asks for `sni` and can verify any.
    #[must_use]
    pub fn shown(&self, sni: &str) -> &Arc<Certificate> {
        self.choice(sni).and_then(|choice| choice.first()).unwrap_or(&self.default)
    }

    /// Whether a client that asks for `sni` is shown another certificate than the default.
    #[must_use]
    pub fn knows(&self, sni: Option<&str>) -> bool {
        sni.is_some_and(|name| self.choice(name).is_some())
    }

    /// Whether the certificate shown for `sni` was made for `host` too; else a client should ask on a new connection
    /// (421, RFC 9110 §15.5.20).
    #[must_use]
    pub fn shares_certificate(&self, sni: &str, host: &str) -> bool {
        match (self.choice(sni), self.choice(host)) {
            (Some(shown), Some(wanted)) => shown.iter().any(|shown| wanted.iter().any(|one| Arc::ptr_eq(shown, one))),
            (None, None) => true,
            _ => false,
        }
    }

    /// The certificate for clients that ask for no name we know.
    #[must_use]
    pub const fn default_certificate(&self) -> &Arc<Certificate> {
        &self.default
    }

    /// How many names have a certificate.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.exact.len() + self.wildcard.len()
    }

    /// Whether every name is shown the default.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Every certificate that some name is shown, in no order, perhaps repeatedly.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Certificate>> {
        self.exact.values().chain(self.wildcard.values()).flat_map(|choice| choice.iter())
    }

    fn choice(&self, name: &str) -> Option<&Choice> {
        let name = name.strip_suffix('.').unwrap_or(name);
        let is_folded = !name.bytes().any(|byte| byte.is_ascii_uppercase());
        let name = if is_folded { Cow::Borrowed(name) } else { Cow::Owned(name.to_ascii_lowercase()) };
        self.exact.get(&*name).or_else(|| self.wildcard.get(parent(&name)?))
    }
}

/// Collects the certificates of a [`CertTable`].
#[derive(Debug)]
pub struct CertTableBuilder(CertTable);

impl CertTableBuilder {
    /// Begins with `default` for every name.
    #[must_use]
    pub fn new(default: Arc<Certificate>) -> Self {
        Self(CertTable { exact: SharedMap::new(), wildcard: SharedMap::new(), default })
    }

    /// Goes on from another table; names without a certificate are shown `default`.
    #[must_use]
    pub fn from(table: &CertTable, default: Arc<Certificate>) -> Self {
        Self(CertTable { default, ..table.clone() })
    }

    /// Whether a name has its certificates.
    #[must_use]
    pub fn has(&self, host: &HostMatch) -> bool {
        match host {
            HostMatch::Exact(name) => self.0.exact.contains_key(name),
            HostMatch::Wildcard(suffix) => self.0.wildcard.contains_key(suffix),
            HostMatch::Any => true,
        }
    }

    /// Shows `certificates` to those who ask for `host`; every client gets the first that it can verify, or the default
    /// one if there are none.
    pub fn show(&mut self, host: &HostMatch, certificates: Vec<Arc<Certificate>>) {
        let (names, name) = match host {
            HostMatch::Exact(name) => (&mut self.0.exact, name),
            HostMatch::Wildcard(suffix) => (&mut self.0.wildcard, suffix),
            HostMatch::Any => return,
        };
        if certificates.is_empty() {
            names.remove(name);
        } else {
            names.insert(Arc::clone(name), certificates.into());
        }
    }

    /// The finished table.
    #[must_use]
    pub fn build(self) -> CertTable {
        self.0
    }
}
