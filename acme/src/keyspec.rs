//! Kinds of private keys that public CAs take.

use std::fmt;

use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

/// A kind of private key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum KeySpec {
    /// ECDSA on P-256.
    #[default]
    P256,
    /// ECDSA on P-384.
    P384,
    /// RSA with a modulus of 2048 bits.
    Rsa2048,
    /// RSA with a modulus of 3072 bits.
    Rsa3072,
    /// RSA with a modulus of 4096 bits.
    Rsa4096,
}

impl KeySpec {
    /// Reads cert-manager's algorithm and size.
    pub fn parse(algorithm: Option<&str>, size: Option<&str>) -> Result<Self, String> {
        match (algorithm, size) {
            (None, None) | (Some("ECDSA"), None | Some("256")) => Ok(Self::P256),
            (Some("ECDSA"), Some("384")) => Ok(Self::P384),
            (None | Some("RSA"), Some("2048")) | (Some("RSA"), None) => Ok(Self::Rsa2048),
            (None | Some("RSA"), Some("3072")) => Ok(Self::Rsa3072),
            (None | Some("RSA"), Some("4096")) => Ok(Self::Rsa4096),
            (algorithm, size) => Err(format!(
                "no public CA takes {} keys{}; use RSA of 2048, 3072 or 4096 bits, or ECDSA of 256 or 384",
                algorithm.unwrap_or("RSA"),
                size.map(|size| format!(" of size {size}")).unwrap_or_default()
            )),
        }
    }

    /// The kind of a public key; `None` for one that we do not make.
    #[must_use]
    pub fn of(key: &SubjectPublicKeyInfo<'_>) -> Option<Self> {
        match key.parsed().ok()? {
            PublicKey::EC(point) if point.key_size() == 256 => Some(Self::P256),
            PublicKey::EC(point) if point.key_size() == 384 => Some(Self::P384),
            PublicKey::RSA(rsa) => match rsa.key_size() {
                2048 => Some(Self::Rsa2048),
                3072 => Some(Self::Rsa3072),
                4096 => Some(Self::Rsa4096),
                _ => None,
            },
            _ => None,
        }
    }
}

impl fmt::Display for KeySpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::P256 => "ECDSA P-256",
            Self::P384 => "ECDSA P-384",
            Self::Rsa2048 => "RSA 2048",
            Self::Rsa3072 => "RSA 3072",
            Self::Rsa4096 => "RSA 4096",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_annotations_of_cert_manager_name_a_key_or_are_refused() {
        for (algorithm, size, expected) in [
            (None, None, Some(KeySpec::P256)),
            (Some("RSA"), None, Some(KeySpec::Rsa2048)),
            (Some("RSA"), Some("4096"), Some(KeySpec::Rsa4096)),
            (None, Some("3072"), Some(KeySpec::Rsa3072)),
            (Some("ECDSA"), Some("384"), Some(KeySpec::P384)),
            (Some("ECDSA"), Some("521"), None),
            (Some("Ed25519"), None, None),
            (Some("RSA"), Some("1024"), None),
        ] {
            assert_eq!(KeySpec::parse(algorithm, size).ok(), expected, "{algorithm:?} {size:?}");
        }
    }
}
