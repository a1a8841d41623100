//! Certificates: out of a Secret, checked, and ready for a handshake.
//!
//! [`Certificate::from_secret`] takes a Secret apart once per version of it and says exactly which of its two fields is
//! wrong; what it returns can be served. [`CertTable`] says which one a client is shown.
//!
//! Pure. Which Secret is for which host, and what happens while one is broken: [`crate::compile`].

mod table;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use config::object::ObjectName;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::Offset;
use k8s_openapi::api::core::v1::Secret;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::host::{HostMatch, covers};

pub use table::{CertTable, CertTableBuilder};

/// The longest chain we send; more would cost every handshake.
const MAX_CHAIN: usize = 10;
/// How long the generated certificate is valid.
const DEFAULT_YEARS: i16 = 10;

/// A certificate with its key, checked to belong together.
pub struct Certificate {
    /// The Secret it comes from; `None` for the generated one.
    pub secret: Option<ObjectName>,
    /// Chain and signing key, as rustls serves them.
    pub key: Arc<CertifiedKey>,
    /// The DNS names and IP addresses it covers; the common name if it lists none.
    pub names: Vec<String>,
    /// When its validity begins.
    pub not_before: Timestamp,
    /// When it ends.
    pub not_after: Timestamp,
    /// The issuer's name as the certificate writes it.
    pub issuer: String,
}

impl fmt::Debug for Certificate {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate")
            .field("secret", &self.secret)
            .field("names", &self.names)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

/// Why no certificate could be made of a Secret.
#[derive(Debug, thiserror::Error)]
pub enum CertError {
    /// A key of the Secret is absent or empty.
    #[error("the Secret has no {field}; a TLS Secret needs tls.crt and tls.key, in PEM")]
    Missing {
        /// `tls.crt` or `tls.key`.
        field: &'static str,
    },
    /// The certificates are not PEM.
    #[error("the certificate is not readable as PEM: {source}; expected -----BEGIN CERTIFICATE-----")]
    ChainPem {
        /// What the reader says.
        source: rustls_pki_types::pem::Error,
    },
    /// There is no certificate among the PEM blocks.
    #[error("there is no certificate in tls.crt; expected -----BEGIN CERTIFICATE-----")]
    ChainEmpty,
    /// There are too many.
    #[error("there are {found} certificates in tls.crt; at most {MAX_CHAIN} are served, so leave out the roots")]
    ChainLong {
        /// How many.
        found: usize,
    },
    /// The first certificate is not X.509.
    #[error("the first certificate in tls.crt is not valid X.509: {reason}")]
    Chain {
        /// What is wrong with it.
        reason: String,
    },
    /// The key is not PEM.
    #[error("the private key is not readable as PEM: {source}; expected PKCS#8, PKCS#1 or SEC1")]
    KeyPem {
        /// What the reader says.
        source: rustls_pki_types::pem::Error,
    },
    /// The key cannot be used.
    #[error("the private key cannot be used: {source}; use RSA of 2048 bits or more, ECDSA P-256/384/521 or Ed25519")]
    Key {
        /// What rustls says.
        source: rustls::Error,
    },
    /// The key belongs to another certificate.
    #[error("the private key does not belong to the first certificate in tls.crt; put the server's certificate first")]
    Mismatch,
}

impl CertError {
    /// The key under `data` of the Secret that is wrong.
    #[must_use]
    pub const fn field(&self) -> &'static str {
        match self {
            Self::Missing { field } => field,
            Self::ChainPem { .. } | Self::ChainEmpty | Self::ChainLong { .. } | Self::Chain { .. } => "tls.crt",
            Self::KeyPem { .. } | Self::Key { .. } | Self::Mismatch => "tls.key",
        }
    }
}

impl Certificate {
    /// Reads `tls.crt` and `tls.key` of a Secret; the key may be PKCS#8, PKCS#1 or SEC1.
    pub fn from_secret(name: &ObjectName, secret: &Secret) -> Result<Self, CertError> {
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(value(secret, "tls.crt")?)
            .collect::<Result<_, _>>()
            .map_err(|source| CertError::ChainPem { source })?;
        let key =
            PrivateKeyDer::from_pem_slice(value(secret, "tls.key")?).map_err(|source| CertError::KeyPem { source })?;
        Self::new(Some(name.clone()), chain, &key)
    }

    /// Checks a chain (the server's certificate first) and its key.
    pub(crate) fn new(
        secret: Option<ObjectName>,
        chain: Vec<CertificateDer<'static>>,
        key: &PrivateKeyDer<'_>,
    ) -> Result<Self, CertError> {
        if chain.len() > MAX_CHAIN {
            return Err(CertError::ChainLong { found: chain.len() });
        }
        let first = chain.first().ok_or(CertError::ChainEmpty)?.clone();
        let unreadable = |error: &dyn fmt::Display| CertError::Chain { reason: error.to_string() };
        let (_, parsed) = X509Certificate::from_der(&first).map_err(|error| unreadable(&error))?;
        let key = any_supported_type(key).map_err(|source| CertError::Key { source })?;
        let key = CertifiedKey::new(chain, key);
        match key.keys_match() {
            Ok(()) => {}
            Err(rustls::Error::InconsistentKeys(_)) => return Err(CertError::Mismatch),
            Err(error) => return Err(unreadable(&error)),
        }
        let validity = parsed.validity();
        Ok(Self {
            secret,
            key: Arc::new(key),
            names: names(&parsed),
            not_before: moment(validity.not_before.timestamp()),
            not_after: moment(validity.not_after.timestamp()),
            issuer: parsed.issuer().to_string(),
        })
    }

    /// Whether a client asking for `host` accepts the names in this certificate.
    #[must_use]
    pub fn covers(&self, host: &HostMatch) -> bool {
        self.names.iter().any(|name| covers(name, host))
    }

    /// Whether this is in its validity at `now`.
    #[must_use]
    pub fn is_valid(&self, now: Timestamp) -> bool {
        (self.not_before..=self.not_after).contains(&now)
    }
}

/// Why no default certificate could be generated.
#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    /// Key generation or signing failed.
    #[error("the default certificate could not be generated: {0}")]
    Sign(#[from] rcgen::Error),
    /// What was generated is not usable.
    #[error("the generated default certificate is not usable: {0}")]
    Unusable(#[from] CertError),
}

/// Generates the self-signed certificate for clients that ask for no name we know.
///
/// Draws a key, so it is for the shell to call, once per process.
pub fn generate_default(now: Timestamp) -> Result<Certificate, GenerateError> {
    let mut params = CertificateParams::new(vec!["ferrogate.invalid".to_owned()])?;
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, "Ferrogate default certificate");
    params.distinguished_name = name;
    let day =
        |date: Date| rcgen::date_time_ymd(date.year().into(), date.month().unsigned_abs(), date.day().unsigned_abs());
    let today = Offset::UTC.to_datetime(now).date();
    // A day early, for clients whose clock is behind.
    params.not_before = day(today.yesterday().unwrap_or(today));
    params.not_after = day(Date::new(today.year().saturating_add(DEFAULT_YEARS), today.month(), 1).unwrap_or(today));
    let key = KeyPair::generate()?;
    let chain = vec![params.self_signed(&key)?.der().clone()];
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    Ok(Certificate::new(None, chain, &key)?)
}

/// One value of a Secret, from `data` or, in a manifest, `stringData`.
fn value<'a>(secret: &'a Secret, field: &'static str) -> Result<&'a [u8], CertError> {
    let text = secret.string_data.as_ref().and_then(|data| data.get(field)).map(String::as_bytes);
    let data = secret.data.as_ref().and_then(|data| data.get(field)).map(|bytes| bytes.0.as_slice());
    text.or(data).filter(|value| !value.is_empty()).ok_or(CertError::Missing { field })
}

/// What a certificate covers: its alternative names, or else its common name.
fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let listed = certificate.subject_alternative_name().ok().flatten();
    let Some(listed) = listed else {
        let common = certificate.subject().iter_common_name().filter_map(|name| name.as_str().ok());
        return common.map(str::to_ascii_lowercase).collect();
    };
    let show = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        GeneralName::IPAddress(bytes) => show_ip(bytes),
        _ => None,
    };
    listed.value.general_names.iter().filter_map(show).collect()
}

/// An address of 4 or 16 bytes.
fn show_ip(bytes: &[u8]) -> Option<String> {
    let v4 = || <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from);
    let v6 = || <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from);
    v4().or_else(v6).map(|ip| ip.to_string())
}

/// Seconds since 1970 as a moment; what no clock can show is the end of time.
fn moment(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap_or(if seconds < 0 { Timestamp::MIN } else { Timestamp::MAX })
}

#[cfg(test)]
mod tests;
