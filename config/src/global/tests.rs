use std::time::Duration;

use super::*;

fn data(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned())).collect()
}

fn read(pairs: &[(&str, &str)]) -> (Global, Vec<KeyProblem>) {
    Global::read(&data(pairs), &Global::default())
}

fn good(pairs: &[(&str, &str)]) -> Global {
    let (read, problems) = read(pairs);
    assert_eq!(problems, [], "{pairs:?}");
    read
}

#[test]
fn a_map_without_keys_is_the_default() {
    assert_eq!(good(&[]), Global::default());
    assert_eq!(good(&[("proxy-body-size", " "), ("hsts", "")]).annotations, BTreeMap::new());
}

#[test]
fn defaults_of_annotations_are_kept_as_their_text() {
    let read =
        good(&[("proxy-body-size", "8m"), ("global-auth-url", "http://auth.example/x"), ("ssl-redirect", "false")]);
    let expected = data(&[("auth-url", "http://auth.example/x"), ("proxy-body-size", "8m"), ("ssl-redirect", "false")]);
    assert_eq!(read.annotations, expected);
}

#[test]
fn what_is_wrong_is_told_at_its_key_and_stays_as_it_was() {
    for (key, right, wrong, word) in [
        ("proxy-body-size", "8m", "eight", "not a size"),
        ("proxy-read-timeout", "5", "5s", "not a number of seconds"),
        ("load-balance", "ewma", "ip_hash", "not supported"),
        ("ssl-protocols", "TLSv1.3", "TLSv1", "not spoken"),
        ("ssl-protocols", "TLSv1.3", "TLS1.3", "no version"),
        ("ssl-ciphers", "ECDHE-RSA-AES128-GCM-SHA256", "RC4-SHA", "none of"),
        ("keep-alive", "75", "ever", "not a time"),
        ("client-header-timeout", "5s", "0", "no time at all"),
        ("gzip-level", "5", "10", "level from 1 to 9"),
        ("gzip-types", "text/css", "css", "media type"),
        ("large-client-header-buffers", "4 16k", "4x16k", "number and a size"),
        ("large-client-header-buffers", "4 16k", "4 1m", "more than one connection"),
        ("log-format-upstream", "$status", "$nonsense", "$nonsense"),
        ("log-format-upstream", "$status", "$geoip_city", "where addresses are"),
        ("http-redirect-code", "301", "305", "none of 301"),
        ("limit-req-status-code", "429", "200", "status from 400"),
        ("proxy-set-headers", "a/b", "b", "namespace/name"),
        ("proxy-real-ip-cidr", "10.0.0.0/8", "ten", "neither a network"),
        ("forwarded-for-header", "CF-Connecting-IP", "a b", "name of a header field"),
        ("hsts-max-age", "600", "long", "not a time"),
        ("no-auth-locations", "/open", "open", "begin it with /"),
        ("whitelist-source-range", "10.0.0.0/8", "here", "neither a network"),
    ] {
        let (first, none) = read(&[(key, right)]);
        assert_eq!(none, [], "{key}: {right}");
        let (second, problems) = Global::read(&data(&[(key, wrong)]), &first);
        assert_eq!(second, first, "{key}: {wrong}");
        let (third, _) = Global::read(&data(&[(key, wrong)]), &second);
        assert_eq!(third, first, "{key}: {wrong} once more");
        let problem = problems.iter().find(|problem| problem.key == key && problem.severity == Severity::Error);
        let message = &problem.unwrap_or_else(|| panic!("{key}: {wrong}: {problems:?}")).message;
        assert!(message.contains(word) && message.contains("stays in use"), "{key}: {message}");
        let (_, problems) = read(&[(key, wrong)]);
        assert!(problems[0].message.contains("default is used"), "{problems:?}");
    }
}

#[test]
fn a_guard_that_never_was_right_lets_nobody_in() {
    let (read, problems) = read(&[("whitelist-source-range", "here"), ("proxy-body-size", "eight")]);
    assert_eq!((read.annotations, problems.len()), (data(&[("whitelist-source-range", "here")]), 2));
    let (annotations, none) =
        crate::annotation::Annotations::read_with(&BTreeMap::new(), &data(&[("whitelist-source-range", "here")]));
    assert!(annotations.denied && none.is_empty(), "{none:?}");
}

#[test]
fn a_key_nobody_knows_is_told_with_what_was_probably_meant() {
    for (key, severity, word) in [
        ("use-gzipp", Severity::Warning, "use-gzip"),
        ("client-max-body-size", Severity::Warning, "unknown"),
        ("http-snippet", Severity::Error, "annotations of single Ingresses"),
        ("ssl-dh-param", Severity::Warning, "DHE"),
        ("enable-modsecurity", Severity::Error, "firewall"),
        ("worker-processes", Severity::Warning, "--workers"),
    ] {
        let (_, problems) = read(&[(key, "true")]);
        assert_eq!((problems.len(), problems[0].severity), (1, severity), "{key}");
        assert!(problems[0].message.contains(word), "{}", problems[0].message);
    }
}

#[test]
fn trust_needs_networks() {
    let (read, problems) = read(&[("use-forwarded-headers", "true"), ("use-proxy-protocol", "true")]);
    assert_eq!(problems.len(), 2);
    assert!(problems.iter().all(|problem| problem.message.contains("proxy-real-ip-cidr")), "{problems:?}");
    assert!(!read.trust.is_proxy([127, 0, 0, 1].into()));
    let read = good(&[
        ("enable-real-ip", "true"),
        ("forwarded-for-header", "CF-Connecting-IP"),
        ("proxy-real-ip-cidr", "10.0.0.0/8, 192.0.2.1"),
    ]);
    assert_eq!((read.trust.address.as_deref(), read.trust.forwarded), (Some("cf-connecting-ip"), false));
    for (ip, trusted) in [("10.1.2.3", true), ("::ffff:10.1.2.3", true), ("192.0.2.1", true), ("192.0.2.2", false)] {
        assert_eq!(read.trust.is_proxy(ip.parse().unwrap()), trusted, "{ip}");
    }
}

#[test]
fn tls_is_what_there_is_of_what_is_asked_for() {
    let (read, problems) = read(&[
        ("ssl-protocols", "TLSv1 TLSv1.1 TLSv1.2"),
        ("ssl-ciphers", "ECDHE-RSA-AES128-GCM-SHA256:DHE-RSA-AES128-GCM-SHA256:!aNULL:TLS_AES_128_GCM_SHA256"),
    ]);
    assert_eq!((read.tls.tls12, read.tls.tls13), (true, false));
    assert_eq!(read.tls.ciphers, Some(vec![Cipher::EcdheRsaAes128GcmSha256]));
    let told: Vec<_> = problems.iter().map(|problem| (problem.severity, &*problem.message)).collect();
    assert_eq!(told.len(), 2);
    assert!(told[0].1.contains("TLSv1, TLSv1.1") && told[1].1.contains("DHE-RSA"), "{told:?}");
    assert_eq!(good(&[("ssl-ciphers", "HIGH:!aNULL")]).tls.ciphers, None);
}

#[test]
fn times_and_sizes_read_as_nginx_has_them() {
    let read = good(&[
        ("keep-alive", "0"),
        ("client-header-timeout", "1m"),
        ("client-header-buffer-size", "1k"),
        ("large-client-header-buffers", "4 16k"),
        ("upstream-keepalive-timeout", "90"),
    ]);
    assert_eq!(read.client.idle, Some(Duration::ZERO));
    assert_eq!(read.client.head, Some(Duration::from_mins(1)));
    assert_eq!(read.client.buffers, Some((65 << 10, 16 << 10)));
    assert_eq!(read.upstream_idle, Some(Duration::from_secs(90)));
}

#[test]
fn a_log_format_is_text_and_variables() {
    let read = good(&[
        ("log-format-escape-json", "true"),
        ("log-format-upstream", "{\"s\": $status, \"h\": \"${http_x_a}b\"}\n"),
    ]);
    let format = read.log.format.unwrap();
    assert_eq!(format.escape, Escape::Json);
    let text = |text: &str| LogPart::Text(text.to_owned());
    let expected = [
        text("{\"s\": "),
        LogPart::Variable(LogVariable::Status),
        text(", \"h\": \""),
        LogPart::Variable(LogVariable::Field("x-a".to_owned())),
        text("b\"}"),
    ];
    assert_eq!(format.parts, expected);
}

#[test]
fn compression_prefers_brotli_and_is_off_where_nothing_is_said() {
    assert_eq!(good(&[("gzip-level", "5")]).compression.codecs, []);
    let read = good(&[("use-gzip", "true"), ("enable-brotli", "true"), ("brotli-types", "*")]);
    let codecs: Vec<_> = read.compression.codecs.iter().map(|codec| (codec.coding, codec.level)).collect();
    assert_eq!(codecs, [(Coding::Brotli, 4), (Coding::Gzip, 1)]);
    assert_eq!(read.compression.codecs[0].types, ["*"]);
}

proptest::proptest! {
    #[test]
    fn any_text_is_read_and_what_was_good_stays(
        key in proptest::sample::select(keys::names().collect::<Vec<_>>()), one: String, other: String,
    ) {
        let (first, _) = read(&[(key, &one)]);
        let (second, problems) = Global::read(&data(&[(key, &other)]), &first);
        if problems.iter().any(|problem| problem.message.contains("stays in use")) {
            proptest::prop_assert_eq!(first, second);
        }
    }
}
