//! What a CA may ask any of us while an order runs, and what it is answered.
//!
//! Tokens and key authorizations are not secret: who knows them can prove only that he has heard them.
//!
//! Source: RFC 8555 §8.3 (HTTP-01); RFC 8737 (TLS-ALPN-01).

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// What the path of an HTTP-01 challenge begins with.
pub const WELL_KNOWN: &str = "/.well-known/acme-challenge/";

/// The protocol of a TLS-ALPN-01 handshake.
pub const ALPN: &[u8] = b"acme-tls/1";

/// A certificate that answers one TLS-ALPN-01 challenge.
#[derive(Clone, PartialEq, Eq)]
pub struct AlpnCertificate {
    /// The certificate, DER.
    pub certificate: Vec<u8>,
    /// Its key, PKCS #8 DER.
    pub key: Vec<u8>,
}

impl fmt::Debug for AlpnCertificate {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AlpnCertificate").finish_non_exhaustive()
    }
}

/// Every challenge that waits for its answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Challenges {
    /// HTTP-01: the key authorization for each token.
    pub http: BTreeMap<Arc<str>, Arc<str>>,
    /// TLS-ALPN-01: the certificate for each host, in lower case; of an address, its reverse name.
    pub alpn: BTreeMap<Arc<str>, Arc<AlpnCertificate>>,
}

impl Challenges {
    /// What to answer a request for this path; `None` if it is none of ours.
    ///
    /// The path is compared as it came: RFC 8555 §8.3 leaves nothing to normalise.
    #[must_use]
    pub fn answer(&self, path: &str) -> Option<&Arc<str>> {
        let token = path.strip_prefix(WELL_KNOWN)?;
        self.http.get(token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_path_of_a_known_token_is_answered() {
        let http = [("abc".into(), "abc.thumb".into())].into();
        let challenges = Challenges { http, ..Challenges::default() };
        for (path, expected) in [
            ("/.well-known/acme-challenge/abc", Some("abc.thumb")),
            ("/.well-known/acme-challenge/abc/", None),
            ("/.well-known/acme-challenge/ab", None),
            ("/.well-known/acme-challenge/", None),
            ("/.well-known/acme-challenge/x/../abc", None),
            ("//.well-known/acme-challenge/abc", None),
            ("/", None),
        ] {
            assert_eq!(challenges.answer(path).map(|text| &**text), expected, "{path}");
        }
    }
}
