use k8s_openapi::ByteString;
use rcgen::{PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, SignatureAlgorithm};
use rustls::SignatureScheme;

use super::*;

const NOW: Timestamp = Timestamp::constant(1_790_000_000, 0);

/// PEM of a self-signed certificate for `names`, and of its key.
fn pem(names: &[&str], algorithm: &'static SignatureAlgorithm) -> (String, String) {
    let key = KeyPair::generate_for(algorithm).unwrap();
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let certificate = CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
    (certificate.pem(), key.serialize_pem())
}

fn secret(certificate: &str, key: &str) -> Secret {
    let value = |text: &str| ByteString(text.as_bytes().to_vec());
    let data = [("tls.crt".to_owned(), value(certificate)), ("tls.key".to_owned(), value(key))];
    Secret { data: Some(data.into()), ..Secret::default() }
}

fn read(certificate: &str, key: &str) -> Result<Certificate, CertError> {
    Certificate::from_secret(&ObjectName::new("shop", "tls"), &secret(certificate, key))
}

fn made(names: &[&str], algorithm: &'static SignatureAlgorithm) -> Arc<Certificate> {
    let (certificate, key) = pem(names, algorithm);
    Arc::new(read(&certificate, &key).unwrap())
}

#[test]
fn a_secret_becomes_a_certificate() {
    let (certificate, key) = pem(&["Shop.example.com", "*.example.com", "192.0.2.1"], &PKCS_ECDSA_P256_SHA256);
    let read = read(&certificate, &key).unwrap();
    assert_eq!(read.names, ["shop.example.com", "*.example.com", "192.0.2.1"]);
    assert!(read.covers(&HostMatch::parse("other.example.com").unwrap()));
    assert!(!read.covers(&HostMatch::parse("example.com").unwrap()));
    assert!(read.is_valid(NOW));
    assert!(read.issuer.contains("rcgen"), "{}", read.issuer);
}

#[test]
fn a_broken_secret_says_which_field_is_wrong_and_how() {
    let (certificate, key) = pem(&["shop.example.com"], &PKCS_ECDSA_P256_SHA256);
    let (_, other) = pem(&["shop.example.com"], &PKCS_ECDSA_P256_SHA256);
    let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for (chain, key, field, word) in [
        ("", &*key, "tls.crt", "has no tls.crt"),
        (&*certificate, "", "tls.key", "has no tls.key"),
        ("hello", &key, "tls.crt", "no certificate"),
        (garbage, &key, "tls.crt", "X.509"),
        (&certificate, "hello", "tls.key", "PEM"),
        (&certificate, &other, "tls.key", "does not belong"),
        (&certificate.repeat(11), &key, "tls.crt", "11 certificates"),
        ("-----BEGIN CERTIFICATE-----\n?\n-----END CERTIFICATE-----", &key, "tls.crt", "PEM"),
    ] {
        let error = read(chain, key).unwrap_err();
        assert_eq!(error.field(), field, "{error}");
        assert!(error.to_string().contains(word), "{error} should say {word}");
    }
}

#[test]
fn the_generated_certificate_is_valid_for_years() {
    let certificate = generate_default(NOW).unwrap();
    assert!(certificate.is_valid(NOW));
    let days = certificate.not_after.duration_since(NOW).as_hours() / 24;
    assert!((9 * 365..=10 * 366).contains(&days), "{days}");
}

#[test]
fn a_client_is_shown_its_name_then_a_wildcard_then_the_default() {
    let [default, exact, wildcard] =
        ["default", "shop.example.com", "*.example.com"].map(|name| made(&[name], &PKCS_ECDSA_P256_SHA256));
    let mut table = CertTableBuilder::new(Arc::clone(&default));
    table.show(&HostMatch::parse("shop.example.com").unwrap(), vec![Arc::clone(&exact)]);
    table.show(&HostMatch::parse("*.example.com").unwrap(), vec![Arc::clone(&wildcard)]);
    let table = table.build();
    for (sni, expected) in [
        (Some("shop.example.com"), &exact),
        (Some("Shop.Example.com."), &exact),
        (Some("other.example.com"), &wildcard),
        (Some("a.b.example.com"), &default),
        (Some("example.com"), &default),
        (None, &default),
    ] {
        let shown = table.resolve(sni, &[SignatureScheme::ECDSA_NISTP256_SHA256]);
        assert!(Arc::ptr_eq(shown, &expected.key), "{sni:?}");
    }
    assert!(table.shares_certificate("a.example.com", "b.example.com"));
    assert!(!table.shares_certificate("a.example.com", "shop.example.com"));
}

#[test]
fn the_key_type_follows_what_the_client_can_verify() {
    let host = HostMatch::parse("shop.example.com").unwrap();
    let [ecdsa, rsa] =
        [&PKCS_ECDSA_P256_SHA256, &PKCS_RSA_SHA256].map(|algorithm| made(&["shop.example.com"], algorithm));
    let mut table = CertTableBuilder::new(Arc::clone(&ecdsa));
    table.show(&host, vec![Arc::clone(&ecdsa), Arc::clone(&rsa)]);
    let table = table.build();
    for (scheme, expected) in [
        (SignatureScheme::ECDSA_NISTP256_SHA256, &ecdsa),
        (SignatureScheme::RSA_PSS_SHA256, &rsa),
        (SignatureScheme::ED25519, &ecdsa),
    ] {
        assert!(Arc::ptr_eq(table.resolve(Some("shop.example.com"), &[scheme]), &expected.key), "{scheme:?}");
    }
}
