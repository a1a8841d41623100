//! Who a client is by its certificate, and whether it may come (`auth-tls`).
//!
//! ```text
//! handshake: shows a chain, proves that it has the key ──> judge ──> Visitor, kept with the connection
//! request:   host ──> ClientAuth ──> is the Visitor judged by these very rules? no: 421 ──> admit: 400, 403, page
//! ```
//!
//! A handshake never fails for a certificate: the client is told by an answer that it can read, as nginx does it. What
//! was judged for one host counts for another only if both have the same rules, so that a connection never carries an
//! identity where it was not checked.
//!
//! Pure; the time is an argument.

mod name;

use std::fmt;
use std::sync::Arc;

use base64::Engine;
use config::annotation::{ClientAuth as Asked, VerifyClient};
use http::header::{HeaderName, HeaderValue};
use k8s_openapi::api::core::v1::Secret;
use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{CertificateError, Error};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::answer::Fault;
use crate::filter::percent_encoded;

/// What clients of a host are asked for.
pub struct ClientAuth {
    rules: Option<Rules>,
}

struct Rules {
    asked: Asked,
    /// `ca.crt` and `ca.crl`, as they are written.
    material: [Vec<u8>; 2],
    verifier: Arc<dyn ClientCertVerifier>,
}

/// Why nobody can be asked for a certificate; then nobody may come.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientAuthError {
    /// It does not exist.
    #[error("Secret {name} does not exist; create it with ca.crt")]
    Missing {
        /// The Secret.
        name: String,
    },
    /// Nobody is trusted.
    #[error("Secret {name} has no ca.crt; put the certificates there that clients' are signed by, in PEM")]
    NoTrust {
        /// The Secret.
        name: String,
    },
    /// A part of it is not what it should be.
    #[error("{part} of Secret {name} cannot be used: {why}")]
    Unreadable {
        /// The Secret.
        name: String,
        /// `ca.crt` or `ca.crl`.
        part: &'static str,
        /// What was seen.
        why: String,
    },
}

/// What became of a client's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It showed none.
    None,
    /// It is good.
    Good,
    /// It is not, for this reason in the words of OpenSSL.
    Bad {
        /// The reason.
        why: &'static str,
        /// Whether merely nobody knows who signed it.
        is_unknown: bool,
    },
}

/// A client as its handshake showed it.
#[derive(Debug)]
pub struct Visitor {
    /// By whose rules it was judged.
    by: Arc<ClientAuth>,
    standing: Standing,
    subject: String,
    issuer: String,
    certificate: Option<Vec<u8>>,
}

/// What a client is told that may not come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// This.
    Fault(Fault),
    /// To go there.
    Page(String),
}

impl ClientAuth {
    /// The rules by which nobody may come, since whom to trust is not known.
    #[must_use]
    pub const fn closed() -> Self {
        Self { rules: None }
    }

    /// What an annotation asks for, with the Secret called `name` that it names.
    pub fn read(asked: &Asked, name: &str, secret: Option<&Secret>) -> Result<Self, ClientAuthError> {
        let secret = secret.ok_or_else(|| ClientAuthError::Missing { name: name.to_owned() })?;
        let part = |key: &str| {
            let text = secret.string_data.as_ref().and_then(|data| data.get(key)).map(String::as_bytes);
            let data = secret.data.as_ref().and_then(|data| data.get(key)).map(|bytes| bytes.0.as_slice());
            text.or(data).filter(|value| !value.is_empty())
        };
        let wrong = |part: &'static str, why: &dyn fmt::Display| {
            let (name, why) = (name.to_owned(), why.to_string());
            ClientAuthError::Unreadable { name, part, why }
        };
        let trusted = part("ca.crt").ok_or_else(|| ClientAuthError::NoTrust { name: name.to_owned() })?;
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(trusted) {
            let certificate = certificate.map_err(|error| wrong("ca.crt", &error))?;
            roots.add(certificate).map_err(|error| wrong("ca.crt", &error))?;
        }
        if roots.is_empty() {
            return Err(wrong("ca.crt", &"there is no certificate in it, in PEM"));
        }
        let revoked = part("ca.crl").unwrap_or_default();
        let lists: Vec<_> = CertificateRevocationListDer::pem_slice_iter(revoked)
            .collect::<Result<_, _>>()
            .map_err(|error| wrong("ca.crl", &error))?;
        if lists.is_empty() && !revoked.is_empty() {
            return Err(wrong("ca.crl", &"there is no list of revoked certificates in it, in PEM"));
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        let builder = builder.with_crls(lists).enforce_revocation_expiration();
        let verifier = builder.build().map_err(|error| wrong("ca.crl", &error))?;
        let material = [trusted.to_vec(), revoked.to_vec()];
        Ok(Self { rules: Some(Rules { asked: asked.clone(), material, verifier }) })
    }

    /// Who checks certificates; `None` if nobody may come.
    #[must_use]
    pub fn verifier(&self) -> Option<&Arc<dyn ClientCertVerifier>> {
        self.rules.as_ref().map(|rules| &rules.verifier)
    }

    /// What a client is that showed `chain` at `now`, its own certificate first.
    #[must_use]
    pub fn judge(self: &Arc<Self>, chain: &[CertificateDer<'_>], now: UnixTime) -> Visitor {
        let by = Arc::clone(self);
        let (Some(rules), Some((own, between))) = (&self.rules, chain.split_first()) else {
            let (subject, issuer) = (String::new(), String::new());
            return Visitor { by, standing: Standing::None, subject, issuer, certificate: None };
        };
        let between = &between[..between.len().min(rules.asked.depth)];
        let parsed = X509Certificate::from_der(own).ok().map(|(_, parsed)| parsed);
        let is_own = parsed.as_ref().is_some_and(|it| it.subject().as_raw() == it.issuer().as_raw());
        let standing = match rules.verifier.verify_client_cert(own, between, now) {
            Ok(_) => Standing::Good,
            Err(error) => bad(&error, is_own, chain.len()),
        };
        Visitor {
            by,
            standing,
            subject: parsed.as_ref().map(|it| name::text(it.subject())).unwrap_or_default(),
            issuer: parsed.as_ref().map(|it| name::text(it.issuer())).unwrap_or_default(),
            certificate: Some(own.to_vec()),
        }
    }

    /// Whether the client of a TLS connection may ask; `visitor` is who its handshake showed.
    pub fn admit(&self, visitor: Option<&Visitor>) -> Result<(), Refusal> {
        let Some(Rules { asked, .. }) = &self.rules else { return Err(Refusal::Fault(Fault::Forbidden)) };
        let Some(visitor) = visitor.filter(|visitor| *visitor.by == *self) else {
            return Err(Refusal::Fault(Fault::Misdirected));
        };
        let refusal = |fault| asked.error_page.clone().map_or(Refusal::Fault(fault), Refusal::Page);
        match (&visitor.standing, asked.verify) {
            (Standing::None, VerifyClient::On) => return Err(refusal(Fault::CertificateMissing)),
            (Standing::Bad { is_unknown: true, .. }, VerifyClient::OptionalNoCa)
            | (Standing::None | Standing::Good, _) => {}
            (Standing::Bad { .. }, _) => return Err(refusal(Fault::CertificateWrong)),
        }
        match &asked.name {
            Some(name) if !name.is_match(&visitor.subject) => Err(Refusal::Fault(Fault::Forbidden)),
            _ => Ok(()),
        }
    }

    /// What endpoints are told of a client, in the words of ingress-nginx.
    #[must_use]
    pub fn fields(&self, visitor: &Visitor) -> Vec<(HeaderName, HeaderValue)> {
        let verify = match &visitor.standing {
            Standing::None => "NONE".to_owned(),
            Standing::Good => "SUCCESS".to_owned(),
            Standing::Bad { why, .. } => format!("FAILED:{why}"),
        };
        let passes = self.rules.as_ref().is_some_and(|rules| rules.asked.passes_certificate);
        let certificate = visitor.certificate.as_ref().filter(|_| passes).map(|der| percent_encoded(&pem(der)));
        let fields = [
            ("ssl-client-verify", verify),
            ("ssl-client-subject-dn", visitor.subject.clone()),
            ("ssl-client-issuer-dn", visitor.issuer.clone()),
            ("ssl-client-cert", certificate.unwrap_or_default()),
        ];
        let told = fields.into_iter().filter(|(_, value)| !value.is_empty());
        told.filter_map(|(name, value)| Some((HeaderName::from_static(name), HeaderValue::from_str(&value).ok()?)))
            .collect()
    }
}

impl PartialEq for ClientAuth {
    /// Whether both judge alike.
    fn eq(&self, other: &Self) -> bool {
        let meaning = |auth: &Self| auth.rules.as_ref().map(|rules| (rules.asked.clone(), rules.material.clone()));
        std::ptr::eq(self, other) || meaning(self) == meaning(other)
    }
}

impl Eq for ClientAuth {}

impl fmt::Debug for ClientAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientAuth").field("rules", &self.rules.as_ref().map(|rules| &rules.asked)).finish()
    }
}

/// Why a certificate is refused, as OpenSSL says it.
fn bad(error: &Error, is_own: bool, chain: usize) -> Standing {
    let Error::InvalidCertificate(error) = error else {
        return Standing::Bad { why: "certificate verification failed", is_unknown: false };
    };
    // One that is an authority of its own is not even looked for among those of others.
    let is_unknown =
        *error == CertificateError::UnknownIssuer || (is_own && matches!(error, CertificateError::Other(_)));
    let why = match error {
        _ if is_own && is_unknown => "self-signed certificate",
        CertificateError::UnknownIssuer if chain == 1 => "unable to verify the first certificate",
        CertificateError::UnknownIssuer => "unable to get local issuer certificate",
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "certificate has expired",
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => "certificate is not yet valid",
        CertificateError::Revoked => "certificate revoked",
        CertificateError::UnknownRevocationStatus => "unable to get certificate CRL",
        CertificateError::ExpiredRevocationList | CertificateError::ExpiredRevocationListContext { .. } => {
            "CRL has expired"
        }
        CertificateError::BadSignature => "certificate signature failure",
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "unsuitable certificate purpose"
        }
        _ => "certificate verification failed",
    };
    Standing::Bad { why, is_unknown }
}

fn pem(der: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines = text.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line));
    let lines: Vec<_> = lines.collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

#[cfg(test)]
mod tests;
