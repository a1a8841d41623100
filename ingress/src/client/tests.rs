use config::annotation::Annotations;
use k8s_openapi::ByteString;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};

use super::*;

type Authority = CertifiedIssuer<'static, KeyPair>;

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "Shop, Inc.");
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn authority(name: &str, by: Option<&Authority>) -> Authority {
    let mut params = params(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate().unwrap();
    match by {
        None => CertifiedIssuer::self_signed(params, key).unwrap(),
        Some(by) => CertifiedIssuer::signed_by(params, key, by).unwrap(),
    }
}

fn person(name: &str, by: &Authority, change: impl FnOnce(&mut CertificateParams)) -> CertificateDer<'static> {
    let mut params = params(name);
    change(&mut params);
    params.signed_by(&KeyPair::generate().unwrap(), by).unwrap().der().clone()
}

fn auth(annotations: &[(&str, &str)], data: &[(&str, String)]) -> Result<Arc<ClientAuth>, ClientAuthError> {
    let key = |name: &str| format!("{}{name}", config::annotation::NGINX_PREFIX);
    let named = [("auth-tls-secret", "ca")];
    let written = named.iter().chain(annotations).map(|(name, text)| (key(name), (*text).to_owned())).collect();
    let (read, problems) = Annotations::read(&written);
    assert_eq!(problems, []);
    let data = data.iter().map(|(key, text)| ((*key).to_owned(), ByteString(text.as_bytes().to_vec())));
    let secret = Secret { data: Some(data.collect()), ..Secret::default() };
    ClientAuth::read(&read.client.unwrap(), "shop/ca", Some(&secret)).map(Arc::new)
}

fn now() -> UnixTime {
    UnixTime::since_unix_epoch(std::time::Duration::from_secs(1_900_000_000))
}

#[test]
fn who_passes_depends_on_the_certificate_and_on_what_is_asked() {
    let (root, other) = (authority("root", None), authority("other", None));
    let middle = authority("middle", Some(&root));
    let good = vec![person("ann", &root, |_| {})];
    let through = vec![person("ann", &middle, |_| {}), middle.der().clone()];
    let strange = vec![person("ann", &other, |_| {})];
    let own = vec![other.der().clone()];
    let late = vec![person("ann", &root, |params| params.not_after = rcgen::date_time_ymd(2020, 1, 1))];
    let (missing, wrong) = (Refusal::Fault(Fault::CertificateMissing), Refusal::Fault(Fault::CertificateWrong));
    let stranger = "FAILED:unable to verify the first certificate";
    for (asked, chain, expected, verify) in [
        ("on", &vec![], Err(missing), "NONE"),
        ("on", &good, Ok(()), "SUCCESS"),
        ("on", &through, Ok(()), "SUCCESS"),
        ("on", &strange, Err(wrong.clone()), stranger),
        ("on", &own, Err(wrong.clone()), "FAILED:self-signed certificate"),
        ("on", &late, Err(wrong.clone()), "FAILED:certificate has expired"),
        ("optional", &vec![], Ok(()), "NONE"),
        ("optional", &strange, Err(wrong.clone()), stranger),
        ("optional_no_ca", &strange, Ok(()), stranger),
        ("optional_no_ca", &late, Err(wrong), "FAILED:certificate has expired"),
    ] {
        let auth = auth(&[("auth-tls-verify-client", asked)], &[("ca.crt", root.pem())]).unwrap();
        let visitor = auth.judge(chain, now());
        assert_eq!(auth.admit(Some(&visitor)), expected, "{asked} {:?}", visitor.standing);
        assert_eq!(auth.fields(&visitor)[0].1, verify, "{asked}");
    }
}

#[test]
fn names_depth_and_pages_count() {
    let root = authority("root", None);
    let middle = authority("middle", Some(&root));
    let chain = [person("ann", &middle, |_| {}), middle.der().clone()];
    let page = "https://a.example/sorry";
    let wrong = || Refusal::Fault(Fault::CertificateWrong);
    for (annotations, expected) in [
        (&[("auth-tls-verify-depth", "0")][..], Err(wrong())),
        (&[("auth-tls-verify-depth", "1")], Ok(())),
        (&[("auth-tls-verify-depth", "0"), ("auth-tls-error-page", page)], Err(Refusal::Page(page.to_owned()))),
        (&[("auth-tls-match-cn", "CN=(ann|eve)")], Ok(())),
        (&[("auth-tls-match-cn", "CN=bob")], Err(Refusal::Fault(Fault::Forbidden))),
    ] {
        let auth = auth(annotations, &[("ca.crt", root.pem())]).unwrap();
        assert_eq!(auth.admit(Some(&auth.judge(&chain, now()))), expected, "{annotations:?}");
    }
    let auth = auth(&[("auth-tls-pass-certificate-to-upstream", "true")], &[("ca.crt", root.pem())]).unwrap();
    let fields = auth.fields(&auth.judge(&chain, now()));
    let text: Vec<_> = fields.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
    assert_eq!(text[1], "ssl-client-subject-dn: CN=ann,O=Shop\\, Inc.");
    assert_eq!(text[2], "ssl-client-issuer-dn: CN=middle,O=Shop\\, Inc.");
    assert!(text[3].starts_with("ssl-client-cert: -----BEGIN%20CERTIFICATE-----%0A"), "{}", text[3]);
}

#[test]
fn what_was_judged_by_other_rules_does_not_count() {
    let (root, other) = (authority("root", None), authority("other", None));
    let auth =
        |root: &Authority, verify| auth(&[("auth-tls-verify-client", verify)], &[("ca.crt", root.pem())]).unwrap();
    let chain = [person("ann", &root, |_| {})];
    let (judge, alike) = (auth(&root, "on"), auth(&root, "on"));
    let visitor = judge.judge(&chain, now());
    assert_eq!(alike.admit(Some(&visitor)), Ok(()));
    let misdirected = Err(Refusal::Fault(Fault::Misdirected));
    for rules in [auth(&other, "on"), auth(&root, "optional")] {
        assert_eq!(rules.admit(Some(&visitor)), misdirected);
    }
    assert_eq!(judge.admit(None), misdirected);
    let closed = ClientAuth::closed();
    assert_eq!(closed.admit(Some(&visitor)), Err(Refusal::Fault(Fault::Forbidden)));
}

#[test]
fn who_was_revoked_does_not_come() {
    let root = authority("root", None);
    let revoked = |serial: u64, until: i32| {
        let params = rcgen::CertificateRevocationListParams {
            this_update: rcgen::date_time_ymd(2020, 1, 1),
            next_update: rcgen::date_time_ymd(until, 1, 1),
            crl_number: rcgen::SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: vec![rcgen::RevokedCertParams {
                serial_number: rcgen::SerialNumber::from(serial),
                revocation_time: rcgen::date_time_ymd(2020, 1, 1),
                reason_code: None,
                invalidity_date: None,
            }],
            key_identifier_method: rcgen::KeyIdMethod::Sha256,
        };
        params.signed_by(&root).unwrap().pem().unwrap()
    };
    let chain = [person("ann", &root, |params| params.serial_number = Some(rcgen::SerialNumber::from(7)))];
    for (list, expected) in [
        (revoked(8, 2100), "SUCCESS"),
        (revoked(7, 2100), "FAILED:certificate revoked"),
        (revoked(8, 2021), "FAILED:CRL has expired"),
    ] {
        let auth = auth(&[], &[("ca.crt", root.pem()), ("ca.crl", list)]).unwrap();
        assert_eq!(auth.fields(&auth.judge(&chain, now()))[0].1, expected);
    }
}

#[test]
fn a_secret_without_anybody_to_trust_says_so() {
    let root = authority("root", None);
    for (data, word) in [
        (&[][..], "has no ca.crt"),
        (&[("ca.crt", "nonsense".to_owned())], "no certificate in it"),
        (&[("ca.crt", root.pem()), ("ca.crl", "nonsense".to_owned())], "ca.crl of Secret shop/ca"),
    ] {
        let error = auth(&[], data).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
    let error = ClientAuth::read(&asked(), "shop/ca", None).unwrap_err().to_string();
    assert!(error.contains("does not exist"), "{error}");
}

fn asked() -> Asked {
    let written = [("ferrogate.io/auth-tls-secret".to_owned(), "ca".to_owned())].into();
    Annotations::read(&written).0.client.unwrap()
}
