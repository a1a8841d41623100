//! How TLS is spoken with clients: `ssl-protocols`, `ssl-ciphers`, `ssl-reject-handshake`, `use-http2`.

use super::read::Reader;

/// How TLS is spoken with clients.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a key, or a word of one")]
pub struct TlsRules {
    /// Whether TLS 1.2 is.
    pub tls12: bool,
    /// Whether TLS 1.3 is.
    pub tls13: bool,
    /// What TLS 1.2 is spoken with, the preferred first; `None` for all there is.
    pub ciphers: Option<Vec<Cipher>>,
    /// Whether clients that ask for no name we have a certificate for are refused (`ssl-reject-handshake`).
    pub reject_unknown: bool,
    /// Whether HTTP/2 is offered (`use-http2`).
    pub http2: bool,
}

impl Default for TlsRules {
    fn default() -> Self {
        Self { tls12: true, tls13: true, ciphers: None, reject_unknown: false, http2: true }
    }
}

/// The cipher suites of TLS 1.2 that there are: authenticated encryption with forward secrecy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "each is called as OpenSSL calls it")]
pub enum Cipher {
    EcdheEcdsaAes128GcmSha256,
    EcdheRsaAes128GcmSha256,
    EcdheEcdsaAes256GcmSha384,
    EcdheRsaAes256GcmSha384,
    EcdheEcdsaChacha20Poly1305,
    EcdheRsaChacha20Poly1305,
}

impl Cipher {
    /// By the name that OpenSSL has for it.
    #[must_use]
    pub fn of_openssl(name: &str) -> Option<Self> {
        Some(match name {
            "ECDHE-ECDSA-AES128-GCM-SHA256" => Self::EcdheEcdsaAes128GcmSha256,
            "ECDHE-RSA-AES128-GCM-SHA256" => Self::EcdheRsaAes128GcmSha256,
            "ECDHE-ECDSA-AES256-GCM-SHA384" => Self::EcdheEcdsaAes256GcmSha384,
            "ECDHE-RSA-AES256-GCM-SHA384" => Self::EcdheRsaAes256GcmSha384,
            "ECDHE-ECDSA-CHACHA20-POLY1305" => Self::EcdheEcdsaChacha20Poly1305,
            "ECDHE-RSA-CHACHA20-POLY1305" => Self::EcdheRsaChacha20Poly1305,
            _ => return None,
        })
    }
}

pub(super) fn read(reader: &mut Reader<'_>) -> TlsRules {
    let versions = reader.value("ssl-protocols", versions);
    if let Some((.., left @ [_, ..])) = versions.as_ref().map(|(tls12, tls13, left)| (tls12, tls13, &left[..])) {
        reader
            .warn("ssl-protocols", format!("{} is not spoken and left out; TLSv1.2 and TLSv1.3 are", left.join(", ")));
    }
    let ciphers = reader.value("ssl-ciphers", ciphers);
    if let Some((_, left @ [_, ..])) = ciphers.as_ref().map(|(ciphers, left)| (ciphers, &left[..])) {
        let why = "not spoken and left out; what there is has forward secrecy by ECDHE, and AES-GCM or ChaCha20";
        reader.warn("ssl-ciphers", format!("{} is {why}", left.join(", ")));
    }
    let (tls12, tls13) = versions.map_or((true, true), |(tls12, tls13, _)| (tls12, tls13));
    TlsRules {
        tls12,
        tls13,
        ciphers: ciphers.map(|(ciphers, _)| ciphers).filter(|ciphers| !ciphers.is_empty()),
        reject_unknown: reader.flag("ssl-reject-handshake").unwrap_or_default(),
        http2: reader.flag("use-http2").unwrap_or(true),
    }
}

/// Which there are, and which there are not.
fn versions(text: &str) -> Result<(bool, bool, Vec<String>), String> {
    let (mut tls12, mut tls13, mut left) = (false, false, Vec::new());
    for word in text.split_ascii_whitespace() {
        match word {
            "TLSv1.2" => tls12 = true,
            "TLSv1.3" => tls13 = true,
            "SSLv2" | "SSLv3" | "TLSv1" | "TLSv1.1" => left.push(word.to_owned()),
            _ => return Err(format!("{word:?} is no version of TLS; write \"TLSv1.2 TLSv1.3\"")),
        }
    }
    if tls12 || tls13 {
        return Ok((tls12, tls13, left));
    }
    Err(format!("{text} is not spoken; write \"TLSv1.2 TLSv1.3\", or one of them"))
}

/// A list of OpenSSL: those there are, and those there are not. What is excluded (`!RC4`) is not there anyway.
fn ciphers(text: &str) -> Result<(Vec<Cipher>, Vec<String>), String> {
    let (mut found, mut left) = (Vec::new(), Vec::new());
    let words = text.split([':', ',', ' ']).filter(|word| !word.is_empty() && !word.starts_with(['!', '-', '@']));
    for word in words {
        match Cipher::of_openssl(word.trim_start_matches('+')) {
            // What TLS 1.3 is spoken with is not for this list to say.
            None if word.starts_with("TLS_") => {}
            None if ["HIGH", "DEFAULT", "ALL", "ECDHE", "EECDH", "EECDH+AESGCM"].contains(&word) => {
                return Ok((Vec::new(), left));
            }
            None => left.push(word.to_owned()),
            Some(cipher) if found.contains(&cipher) => {}
            Some(cipher) => found.push(cipher),
        }
    }
    if found.is_empty() && !left.is_empty() {
        return Err(format!("none of {} is spoken; name one with ECDHE, and AES-GCM or ChaCha20", left.join(", ")));
    }
    Ok((found, left))
}
