//! What a TLS Secret holds, and whose it is.
//!
//! A Secret that we did not write, or that somebody wrote into after us, is never ours to overwrite: it may be the
//! only copy of a certificate that was paid for. We know our own by a digest that we leave in an annotation.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use config::report::data_digest;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use sha2::{Digest as _, Sha256};
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::pem::Pem;
use x509_parser::prelude::X509Certificate;

use crate::keyspec::KeySpec;

/// The annotation under which we leave a digest of what we wrote: `sha256:` and hexadecimal digits.
pub const DIGEST_ANNOTATION: &str = "ferrogate.io/certificate-digest";

/// Where cert-manager says who has issued; so do we.
pub const ISSUER_ANNOTATION: &str = "cert-manager.io/issuer-name";

/// What cert-manager leaves on every Secret it writes.
pub const CERT_MANAGER_ANNOTATION: &str = "cert-manager.io/certificate-name";

/// The type of Secrets that hold a certificate and its key.
const TLS: &str = "kubernetes.io/tls";

/// Whose a Secret is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Owner {
    /// We wrote it, and nobody since.
    Us,
    /// We wrote it, and somebody else wrote into it.
    Altered,
    /// cert-manager wrote it.
    CertManager,
    /// A person or another program wrote it.
    Somebody,
    /// It is not of type `kubernetes.io/tls`.
    NotTls,
}

/// When a certificate holds, and for whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Its DNS names, in lower case, and addresses.
    pub names: BTreeSet<String>,
    /// The moment it begins to hold.
    pub not_before: Timestamp,
    /// The last moment it holds.
    pub not_after: Timestamp,
    /// What RFC 9773 §4.1 calls it; `None` if it does not name its issuer's key.
    pub id: Option<String>,
    /// The kind of its key.
    pub key: Option<KeySpec>,
}

/// One Secret as the inventory sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Whose it is.
    pub owner: Owner,
    /// What it holds.
    pub certificate: Result<Held, HeldError>,
    /// Who has issued it, as we or cert-manager wrote beside it.
    pub issuer: Option<String>,
    /// [`data_digest`] of all it holds.
    pub version: String,
}

/// Why a Secret holds no certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeldError {
    /// There is nothing under `tls.crt`.
    #[error("the Secret has no tls.crt")]
    Missing,
    /// What is there cannot be read.
    #[error("tls.crt does not begin with a certificate in PEM")]
    Unreadable,
}

/// Reads a Secret.
#[must_use]
pub fn read(secret: &Secret) -> Found {
    let issuer = secret.metadata.annotations.as_ref().and_then(|all| all.get(ISSUER_ANNOTATION)).cloned();
    let certificate = certificate(data(secret, "tls.crt"));
    Found { owner: owner(secret), certificate, issuer, version: data_digest(secret) }
}

/// The digest that marks a certificate and key as written by us.
///
/// Both are preceded by their length, so that no other pair has the same digest.
#[must_use]
pub fn digest(certificate: &[u8], key: &[u8]) -> String {
    let mut hash = Sha256::new();
    for part in [certificate, key] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let mut text = String::from("sha256:");
    for byte in hash.finalize() {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn owner(secret: &Secret) -> Owner {
    let annotation = |name| secret.metadata.annotations.as_ref().and_then(|all| all.get(name));
    let written = digest(data(secret, "tls.crt"), data(secret, "tls.key"));
    match (secret.type_.as_deref(), annotation(DIGEST_ANNOTATION), annotation(CERT_MANAGER_ANNOTATION)) {
        (Some(TLS), Some(marker), _) if *marker == written => Owner::Us,
        (Some(TLS), Some(_), _) => Owner::Altered,
        (Some(TLS), None, Some(_)) => Owner::CertManager,
        (Some(TLS), None, None) => Owner::Somebody,
        (_, _, _) => Owner::NotTls,
    }
}

fn data<'a>(secret: &'a Secret, key: &str) -> &'a [u8] {
    secret.data.as_ref().and_then(|data| data.get(key)).map_or(&[], |bytes| &bytes.0)
}

/// Reads the first certificate of a chain.
pub fn certificate(pem: &[u8]) -> Result<Held, HeldError> {
    if pem.is_empty() {
        return Err(HeldError::Missing);
    }
    let unreadable = HeldError::Unreadable;
    let first = Pem::iter_from_buffer(pem).next().ok_or(unreadable)?.map_err(|_| unreadable)?;
    held(&first.parse_x509().map_err(|_| unreadable)?).ok_or(unreadable)
}

fn held(leaf: &X509Certificate<'_>) -> Option<Held> {
    let names = leaf
        .subject_alternative_name()
        .ok()?
        .map_or_else(BTreeSet::new, |extension| extension.value.general_names.iter().filter_map(name).collect());
    let moment = |time: x509_parser::time::ASN1Time| Timestamp::from_second(time.timestamp()).ok();
    let validity = leaf.validity();
    Some(Held {
        names,
        not_before: moment(validity.not_before)?,
        not_after: moment(validity.not_after)?,
        id: id(leaf),
        key: KeySpec::of(leaf.public_key()),
    })
}

fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        GeneralName::IPAddress(bytes) => {
            let v4 = <[u8; 4]>::try_from(*bytes).ok().map(IpAddr::from);
            let v6 = <[u8; 16]>::try_from(*bytes).ok().map(IpAddr::from);
            v4.or(v6).map(|ip| ip.to_string())
        }
        _ => None,
    }
}

/// Key of the issuer and serial number, each in base64url, joined by a dot (RFC 9773 §4.1).
fn id(leaf: &X509Certificate<'_>) -> Option<String> {
    let issuer = leaf.iter_extensions().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(issuer) => issuer.key_identifier.as_ref().map(|it| it.0),
        _ => None,
    })?;
    Some(format!("{}.{}", URL_SAFE_NO_PAD.encode(issuer), URL_SAFE_NO_PAD.encode(leaf.raw_serial())))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;

    use super::*;

    fn secret(kind: &str, annotations: &[(&str, &str)], certificate: &str) -> Secret {
        let mut secret = Secret { type_: Some(kind.to_owned()), ..Secret::default() };
        let pairs = annotations.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        secret.metadata.annotations = Some(pairs.collect());
        secret.data = Some([("tls.crt".to_owned(), ByteString(certificate.as_bytes().to_vec()))].into());
        secret
    }

    #[test]
    fn a_secret_is_ours_only_while_it_holds_what_we_wrote() {
        let ours = digest(b"pem", b"");
        let cert_manager = (CERT_MANAGER_ANNOTATION, "x");
        for (kind, annotations, expected) in [
            (TLS, vec![(DIGEST_ANNOTATION, ours.as_str())], Owner::Us),
            (TLS, vec![(DIGEST_ANNOTATION, "sha256:0")], Owner::Altered),
            (TLS, vec![cert_manager], Owner::CertManager),
            (TLS, vec![], Owner::Somebody),
            ("Opaque", vec![(DIGEST_ANNOTATION, ours.as_str())], Owner::NotTls),
        ] {
            assert_eq!(read(&secret(kind, &annotations, "pem")).owner, expected, "{kind} {annotations:?}");
        }
    }

    #[test]
    fn the_digest_tells_where_the_certificate_ends() {
        assert_ne!(digest(b"ab", b"c"), digest(b"a", b"bc"));
    }

    #[test]
    fn a_certificate_tells_its_names_and_times() {
        let names = ["Shop.example.com".to_owned(), "example.com".to_owned(), "2001:db8::1".to_owned()];
        let mut params = rcgen::CertificateParams::new(names).unwrap();
        params.not_before = rcgen::date_time_ymd(2026, 1, 1);
        params.not_after = rcgen::date_time_ymd(2026, 4, 1);
        let key = rcgen::KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        let held = read(&secret(TLS, &[], &pem)).certificate.unwrap();
        assert_eq!(held.names, ["2001:db8::1", "example.com", "shop.example.com"].map(str::to_owned).into());
        assert_eq!(held.not_before, "2026-01-01T00:00:00Z".parse().unwrap());
        assert_eq!(held.not_after, "2026-04-01T00:00:00Z".parse().unwrap());
    }

    #[test]
    fn what_is_no_certificate_is_an_error_value() {
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for (text, expected) in
            [("", HeldError::Missing), ("?", HeldError::Unreadable), (broken, HeldError::Unreadable)]
        {
            assert_eq!(read(&secret(TLS, &[], text)).certificate, Err(expected), "{text}");
        }
    }
}
