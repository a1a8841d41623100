//! What we show to endpoints over TLS, and whom we trust: the Secret of `proxy-ssl-secret`.
//!
//! Pure.

use std::hash::{DefaultHasher, Hash, Hasher};

use k8s_openapi::api::core::v1::Secret;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::certs::Certificate;

/// What a Secret holds for TLS towards endpoints.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    /// `tls.crt`, DER, the leaf first; empty if nothing is shown.
    chain: Vec<Vec<u8>>,
    /// `tls.key`, DER.
    key: Vec<u8>,
    /// `ca.crt`, DER.
    trusted: Vec<Vec<u8>>,
}

/// Why a Secret is no identity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// It is not there.
    #[error("Secret {name} does not exist")]
    Missing {
        /// The Secret.
        name: String,
    },
    /// A key of it cannot be read.
    #[error("{part} of Secret {name} cannot be read as PEM")]
    Unreadable {
        /// The Secret.
        name: String,
        /// The key.
        part: &'static str,
    },
    /// It has a certificate without its key, or the other way round.
    #[error("Secret {name} has one of tls.crt and tls.key; give both, or ca.crt alone")]
    Half {
        /// The Secret.
        name: String,
    },
    /// Certificate and key do not go together.
    #[error("tls.crt and tls.key of Secret {name} cannot be used: {why}")]
    Refused {
        /// The Secret.
        name: String,
        /// What was seen.
        why: String,
    },
    /// There is nothing to check against.
    #[error("Secret {name} has no ca.crt to check certificates of endpoints against")]
    NoTrust {
        /// The Secret.
        name: String,
    },
}

impl Identity {
    /// Reads a Secret called `name`.
    pub fn read(name: &str, secret: Option<&Secret>) -> Result<Self, IdentityError> {
        let secret = secret.ok_or_else(|| IdentityError::Missing { name: name.to_owned() })?;
        let part = |key: &str| {
            let text = secret.string_data.as_ref().and_then(|data| data.get(key)).map(String::as_bytes);
            let data = secret.data.as_ref().and_then(|data| data.get(key)).map(|bytes| bytes.0.as_slice());
            text.or(data).filter(|value| !value.is_empty())
        };
        let unreadable = |part| IdentityError::Unreadable { name: name.to_owned(), part };
        let read = |key: &'static str| match part(key) {
            None => Ok(Vec::new()),
            Some(pem) => certificates(pem).ok_or_else(|| unreadable(key)),
        };
        let (chain, trusted) = (read("tls.crt")?, read("ca.crt")?);
        let key = part("tls.key").map(|pem| PrivateKeyDer::from_pem_slice(pem).map_err(|_| unreadable("tls.key")));
        let key = match (chain.is_empty(), key.transpose()?) {
            (true, None) => Vec::new(),
            (false, Some(key)) => {
                let shown = chain.iter().cloned().map(CertificateDer::from).collect();
                Certificate::new(None, shown, &key)
                    .map_err(|error| IdentityError::Refused { name: name.to_owned(), why: error.to_string() })?;
                key.secret_der().to_vec()
            }
            _ => return Err(IdentityError::Half { name: name.to_owned() }),
        };
        Ok(Self { chain, key, trusted })
    }

    /// Certificates to show, the leaf first, and their key, all DER; `None` if nothing is shown.
    #[must_use]
    pub fn shown(&self) -> Option<(&[Vec<u8>], &[u8])> {
        (!self.chain.is_empty()).then_some((&self.chain[..], &self.key[..]))
    }

    /// Whom to trust, DER.
    #[must_use]
    pub fn trusted(&self) -> &[Vec<u8>] {
        &self.trusted
    }

    /// A number that differs for another identity.
    #[must_use]
    pub fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (&self.chain, &self.key, &self.trusted).hash(&mut hasher);
        hasher.finish()
    }
}

/// Never shows the key.
impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity")
            .field("chain", &self.chain.len())
            .field("trusted", &self.trusted.len())
            .finish_non_exhaustive()
    }
}

/// Every certificate of a PEM text; `None` if there is none or one is not X.509.
fn certificates(pem: &[u8]) -> Option<Vec<Vec<u8>>> {
    let read = |der: CertificateDer<'static>| {
        let is_whole = X509Certificate::from_der(&der).is_ok_and(|(rest, _)| rest.is_empty());
        is_whole.then(|| der.to_vec())
    };
    let all: Vec<_> = CertificateDer::pem_slice_iter(pem).map(|der| read(der.ok()?)).collect::<Option<_>>()?;
    (!all.is_empty()).then_some(all)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;

    use super::*;

    fn secret(parts: &[(&str, &str)]) -> Secret {
        let data = parts.iter().map(|(key, text)| ((*key).to_owned(), ByteString(text.as_bytes().to_vec()))).collect();
        Secret { data: Some(data), ..Secret::default() }
    }

    #[test]
    fn a_secret_is_a_certificate_with_its_key_or_whom_to_trust_or_both() {
        let pair = rcgen::generate_simple_self_signed(["web.internal".to_owned()]).unwrap();
        let (cert, key) = (pair.cert.pem(), pair.signing_key.serialize_pem());
        for (parts, shown, trusted) in [
            (&[("tls.crt", &*cert), ("tls.key", &*key), ("ca.crt", &*cert)][..], true, 1),
            (&[("tls.crt", &*cert), ("tls.key", &*key)], true, 0),
            (&[("ca.crt", &*format!("{cert}{cert}"))], false, 2),
            (&[], false, 0),
        ] {
            let read = Identity::read("shop/ca", Some(&secret(parts))).unwrap();
            assert_eq!((read.shown().is_some(), read.trusted().len()), (shown, trusted));
            assert!(!format!("{read:?}").contains("key"));
        }
        for (parts, word) in [
            (&[("tls.crt", &*cert)][..], "one of tls.crt and tls.key"),
            (&[("tls.key", &*key)], "one of tls.crt and tls.key"),
            (&[("ca.crt", "nonsense")], "ca.crt of Secret shop/ca"),
            (&[("ca.crt", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")], "ca.crt"),
            (&[("tls.crt", &*cert), ("tls.key", "nonsense")], "tls.key of"),
        ] {
            let error = Identity::read("shop/ca", Some(&secret(parts))).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
        assert!(Identity::read("shop/ca", None).unwrap_err().to_string().contains("does not exist"));
    }
}
