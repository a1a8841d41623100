//! Certificates for tests: fresh, self-signed, ECDSA P-256.

use rcgen::{CertificateParams, DnType, KeyPair};

/// A certificate with its key.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// The certificate, PEM.
    pub certificate: String,
    /// Its private key, PEM (PKCS#8).
    pub key: String,
    /// The certificate, DER, as a client receives it.
    pub der: Vec<u8>,
}

/// Makes a certificate for these names.
#[must_use]
pub fn issue(names: &[&str]) -> Certificate {
    let key = KeyPair::generate().expect("a key can be generated");
    let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names).expect("test names are valid");
    params.distinguished_name.push(DnType::CommonName, "Ferrogate Test CA");
    let certificate = params.self_signed(&key).expect("a key can sign its certificate");
    Certificate { certificate: certificate.pem(), key: key.serialize_pem(), der: certificate.der().to_vec() }
}
