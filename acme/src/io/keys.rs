//! Private keys, requests for certificates, and certificates for TLS-ALPN-01: what takes a random source.

use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use config::challenge::AlpnCertificate;
use jiff::Timestamp;
use rcgen::{
    CertificateParams, CustomExtension, DistinguishedName, DnType, KeyPair, PKCS_ECDSA_P256_SHA256,
    PKCS_ECDSA_P384_SHA384, PKCS_RSA_SHA256, PublicKeyData as _, RsaKeySize,
};
use sha2::{Digest as _, Sha256};
use x509_parser::pem::Pem;
use zeroize::Zeroizing;

use crate::keyspec::KeySpec;
use crate::order::Order;
use crate::retry::{Class, Failure};
use crate::store::Account;

/// Completes an order by a new key and the request for it; RSA takes up to a second.
pub(super) fn make(spec: KeySpec, common_name: Option<String>, mut order: Box<Order>) -> Result<Box<Order>, String> {
    let key = key(spec).map_err(|error| format!("no key can be made: {error}"))?;
    let request = || {
        let mut params = CertificateParams::new(order.names.clone())?;
        params.distinguished_name = DistinguishedName::new();
        if let Some(name) = common_name {
            params.distinguished_name.push(DnType::CommonName, name);
        }
        params.serialize_request(&key)
    };
    let request = request().map_err(|error| format!("no request can be made for these names: {error}"))?;
    order.request = STANDARD.encode(request.der());
    order.key = Zeroizing::new(key.serialize_pem());
    Ok(order)
}

fn key(spec: KeySpec) -> Result<KeyPair, rcgen::Error> {
    match spec {
        KeySpec::P256 => KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256),
        KeySpec::P384 => KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384),
        KeySpec::Rsa2048 => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048),
        KeySpec::Rsa3072 => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_3072),
        KeySpec::Rsa4096 => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_4096),
    }
}

/// The key of a new account, which the CA is yet to hear of.
pub(super) fn account(server: String) -> Result<Account, Failure> {
    let made = instant_acme::Key::generate_pkcs8();
    let (_, key) = made.map_err(|error| Failure::new(Class::Refused, format!("no key can be made: {error}")))?;
    Ok(Account { server, key: Zeroizing::new(STANDARD.encode(key.secret_pkcs8_der())), url: None })
}

/// The certificate that answers a TLS-ALPN-01 challenge (RFC 8737 §3).
pub(super) fn alpn(name: &str, authorization: &str) -> Result<AlpnCertificate, rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new([name.to_owned()])?;
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(&Sha256::digest(authorization.as_bytes()))];
    let certificate = params.self_signed(&key)?;
    Ok(AlpnCertificate { certificate: certificate.der().to_vec(), key: key.serialize_der() })
}

/// The name that a CA asks for in such a handshake: of an address, its reverse name (RFC 8738 §6).
pub(super) fn server_name(name: &str) -> String {
    match name.parse::<IpAddr>() {
        Err(_) => name.to_owned(),
        Ok(IpAddr::V4(ip)) => {
            let [a, b, c, d] = ip.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        Ok(IpAddr::V6(ip)) => {
            let digits = ip.octets().into_iter().rev().flat_map(|byte| [byte & 15, byte >> 4]);
            digits.map(|digit| format!("{digit:x}.")).collect::<Vec<_>>().concat() + "ip6.arpa"
        }
    }
}

/// Whether a chain is what an order asked for, and can be used now.
pub(super) fn check(chain: &str, order: &Order, now: Timestamp) -> Result<(), String> {
    let held =
        crate::held::certificate(chain.as_bytes()).map_err(|error| format!("the CA sent no certificate: {error}"))?;
    let first = Pem::iter_from_buffer(chain.as_bytes()).next().and_then(Result::ok);
    let ours = KeyPair::from_pem(&order.key).map_err(|error| format!("the stored key cannot be read: {error}"))?;
    let is_ours = first
        .as_ref()
        .and_then(|pem| pem.parse_x509().ok())
        .is_some_and(|leaf| leaf.public_key().raw == ours.subject_public_key_info().as_slice());
    let skew = jiff::SignedDuration::from_mins(5);
    if !is_ours {
        Err("the CA sent a certificate for another key".to_owned())
    } else if !order.names.iter().all(|name| held.names.contains(name)) {
        Err("the CA sent a certificate for other names".to_owned())
    } else if held.not_after <= now {
        Err(format!("the CA sent a certificate that ended at {}", held.not_after))
    } else if now.checked_add(skew).is_ok_and(|soon| held.not_before > soon) {
        Err(format!(
            "the CA sent a certificate that begins at {}; is the clock of this machine right?",
            held.not_before
        ))
    } else {
        Ok(())
    }
}

/// The thumbprint-independent name under which a key authorization is remembered.
pub(super) fn fingerprint(authorization: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(authorization.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_asked_for_by_its_reverse_name() {
        let v6 = server_name("2001:db8::1");
        assert!(v6.starts_with("1.0.0.0.") && v6.ends_with(".8.b.d.0.1.0.0.2.ip6.arpa"), "{v6}");
        assert_eq!(server_name("192.0.2.1"), "1.2.0.192.in-addr.arpa");
        assert_eq!(server_name("a.example.com"), "a.example.com");
    }
}
