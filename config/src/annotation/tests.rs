use std::time::Duration;

use super::*;

pub(super) fn read(pairs: &[(&str, &str)]) -> (Annotations, Vec<AnnotationProblem>) {
    let with_prefix = |name: &str| if name.contains('/') { name.to_owned() } else { format!("{NGINX_PREFIX}{name}") };
    let written = pairs.iter().map(|(name, value)| (with_prefix(name), (*value).to_owned())).collect();
    Annotations::read(&written)
}

#[test]
fn right_values_become_types() {
    let (read, problems) = read(&[
        ("proxy-body-size", "8m"),
        ("ssl-redirect", "False"),
        ("force-ssl-redirect", "1"),
        ("temporal-redirect", "https://new.example$request_uri"),
        ("temporal-redirect-code", "307"),
        ("permanent-redirect", "https://never.example/"),
        ("app-root", "/app"),
        ("proxy-read-timeout", "3600"),
        ("whitelist-source-range", "10.0.0.0/8, 2001:db8::1"),
        ("denylist-source-range", "10.1.2.3"),
        ("server-alias", "Www.Example, *.other.example"),
        ("enable-access-log", "false"),
    ]);
    assert_eq!(problems, []);
    assert_eq!(read.body_size, Some(8 << 20));
    assert_eq!((read.ssl.redirect, read.ssl.force), (Some(false), true));
    let to = RedirectTo::WithRequest("https://new.example".into(), String::new());
    assert_eq!(read.redirect, Some(Redirect { status: 307, to }));
    assert_eq!(read.app_root.as_deref(), Some("/app"));
    assert_eq!(read.timeouts.read, Some(Duration::from_hours(1)));
    assert_eq!(read.aliases, ["www.example", "*.other.example"]);
    assert!(read.unlogged && !read.denied);
    for (ip, admitted) in [
        ("10.9.9.9", true),
        ("10.1.2.3", false),
        ("::ffff:10.9.9.9", true),
        ("192.0.2.1", false),
        ("2001:db8::1", true),
    ] {
        assert_eq!(read.sources.admit(ip.parse().unwrap()), admitted, "{ip}");
    }
}

#[test]
fn a_wrong_value_is_reported_at_its_key_and_has_no_effect() {
    for (name, value, word) in [
        ("proxy-body-size", "8 MB", "not a size"),
        ("proxy-body-size", "-1", "not a size"),
        ("proxy-body-size", "99999999999g", "not a size"),
        ("ssl-redirect", "yes", "neither"),
        ("permanent-redirect", "/path", "URL"),
        ("permanent-redirect", "https://a.example/$host", "variable"),
        ("permanent-redirect", "https://a.example/\r\nX: y", "percent-encode"),
        ("permanent-redirect", "javascript://a", "URL"),
        ("temporal-redirect-code", "308", "300 to 307"),
        ("app-root", "https://a.example", "absolute path"),
        ("app-root", "//evil.example", "absolute path"),
        ("proxy-read-timeout", "60s", "seconds"),
        ("proxy-connect-timeout", "0", "seconds"),
        ("upstream-vhost", "a b", "not a host"),
        ("x-forwarded-prefix", "/a\nb", "header field"),
        ("server-alias", "~^a$", ""),
        ("cors-allow-origin", "app.example", "not an origin"),
        ("cors-max-age", "soon", "seconds"),
        ("backend-protocol", "FCGI", "not supported"),
        ("proxy-cookie-path", "/a", "two words"),
        ("proxy-cookie-domain", "a b; c", "two words"),
        ("proxy-redirect-from", "http://a/", "proxy-redirect-to is missing"),
        ("proxy-http-version", "1.0", "HTTP/1.1"),
        ("request-headers", "X-A b", "Name: value"),
        ("response-headers", "Content-Length: 1", "the proxy's own"),
        ("limit-rps", "many", "not a count"),
        ("limit-rate", "1m", "kilobytes"),
        ("limit-whitelist", "nonsense", "neither a network"),
        ("canary-weight", "20", "canary: \"true\" is missing"),
        ("canary-by-header-pattern", "a(", "regular expression"),
    ] {
        let (read, problems) = read(&[(name, value)]);
        assert_eq!(read, Annotations::default(), "{name}: {value}");
        assert_eq!(problems.len(), 1, "{name}: {value}");
        assert_eq!(problems[0].key, format!("{NGINX_PREFIX}{name}"));
        assert!(problems[0].message.contains(word), "{}", problems[0].message);
        assert_eq!(problems[0].severity, Severity::Error);
    }
}

#[test]
fn what_guards_fails_closed() {
    for (name, value) in [
        ("whitelist-source-range", "10.0.0.0/8, nonsense"),
        ("allowlist-source-range", ""),
        ("denylist-source-range", "10.0.0.0/33"),
        ("auth-url", "auth.example"),
        ("auth-url", "https://$host/check"),
        ("auth-url", "https://auth.example/$nonsense"),
        ("auth-signin", "https://auth.example/"),
        ("auth-response-headers", "X-A, b:c"),
        ("auth-tls-secret", "a/b/c"),
        ("auth-tls-verify-client", "on"),
        ("auth-tls-verify-client", "yes"),
        ("auth-tls-verify-depth", "-1"),
        ("auth-tls-match-cn", "CN=("),
        ("auth-type", "digest"),
        ("auth-type", "basic"),
        ("auth-secret", "users"),
        ("auth-secret", "a/b/c"),
        ("auth-secret-type", "file"),
        ("auth-realm", "a\nb"),
        ("satisfy", "some"),
        ("deny-paths", "admin"),
        ("return", "999"),
        ("canary", "maybe"),
        ("configuration-snippet", "deny all; proxy_pass http://x;"),
        ("server-snippet", "auth_basic x;"),
        ("ferrogate.io/auth-url", "ftp://auth.example/"),
    ] {
        let (read, problems) = read(&[(name, value)]);
        assert!(read.denied, "{name}: {value}");
        assert!(problems[0].message.contains("503"), "{}", problems[0].message);
    }
}

#[test]
fn our_prefix_counts_and_a_difference_is_told() {
    let key = format!("{NGINX_PREFIX}proxy-body-size");
    for (value, count) in [("2m", 1), ("1m", 0)] {
        let (read, problems) = read(&[(&key, value), ("ferrogate.io/proxy-body-size", "1m")]);
        assert_eq!(read.body_size, Some(1 << 20));
        assert_eq!(problems.len(), count);
        assert!(problems.iter().all(|problem| problem.key == key && problem.severity == Severity::Warning));
    }
}

#[test]
fn an_unknown_name_is_reported_with_the_near_one() {
    for (name, word) in [
        ("proxy-body-sise", "did you mean \"proxy-body-size\"?"),
        ("ferrogate.io/ssl-redirct", "did you mean \"ssl-redirect\"?"),
        ("client-max-body-size", "proxy-body-size"),
        ("zzz", "unknown"),
        ("enable-opentelemetry", "not supported"),
        ("custom-headers", "ferrogate.io/response-headers"),
        ("global-rate-limit", "limit-rps"),
        ("stream-snippet", "never run"),
        ("configuration-snippet", "the whole snippet is refused"),
    ] {
        let (read, problems) = read(&[(name, "1")]);
        assert_eq!(read, Annotations::default(), "{name}");
        assert!(problems[0].message.contains(word), "{}", problems[0].message);
    }
    assert_eq!(read(&[("kubernetes.io/ingress.class", "nginx"), ("cert-manager.io/issuer", "x")]).1, []);
}

#[test]
fn origins_are_compared_whole() {
    let (read, _) =
        read(&[("enable-cors", "true"), ("cors-allow-origin", "https://a.example, https://*.b.example:8443")]);
    let cors = read.cors.unwrap();
    assert!(cors.credentials);
    for (origin, admitted) in [
        ("https://a.example", true),
        ("HTTPS://A.example", true),
        ("http://a.example", false),
        ("https://a.example.evil", false),
        ("https://x.b.example:8443", true),
        ("https://x.y.b.example:8443", false),
        ("https://evil/.b.example:8443", false),
        ("null", false),
    ] {
        assert_eq!(cors.origins.admit(origin), admitted, "{origin}");
    }
}

#[test]
fn everybody_never_gets_cookies_and_an_unreadable_list_is_nobody() {
    assert!(!read(&[("enable-cors", "true"), ("cors-allow-credentials", "true")]).0.cors.unwrap().credentials);
    assert_eq!(read(&[("enable-cors", "true"), ("cors-allow-origin", "nonsense")]).0.cors, None);
    assert_eq!(read(&[("cors-allow-origin", "https://a.example")]).0.cors, None);
}

#[test]
fn a_service_that_decides_is_read() {
    let (read, problems) = read(&[
        ("auth-url", "http://auth.svc:4180/oauth2/auth?x=$escaped_request_uri"),
        ("auth-signin", "https://$host/oauth2/start?rd=$escaped_request_uri"),
        ("auth-response-headers", "X-Auth-Request-User, Authorization"),
        ("auth-snippet", "proxy_set_header X-Forwarded-Host $http_host;"),
        ("auth-method", "POST"),
    ]);
    assert_eq!(problems, []);
    let auth = read.external.unwrap();
    assert_eq!((auth.tls, &*auth.host, auth.port, &*auth.authority), (false, "auth.svc", 4180, "auth.svc:4180"));
    assert_eq!(auth.target.as_str(), "/oauth2/auth?x=$escaped_request_uri");
    assert_eq!(auth.response_headers, ["x-auth-request-user", "authorization"]);
    assert_eq!((auth.method.as_deref(), auth.fields.len()), (Some("POST"), 1));
}

#[test]
fn passwords_limits_and_canaries_are_read() {
    let (read, problems) = read(&[
        ("auth-type", "basic"),
        ("auth-secret", "shop/users"),
        ("auth-secret-type", "auth-map"),
        ("auth-realm", "the shop"),
        ("satisfy", "any"),
        ("limit-rps", "10"),
        ("limit-rpm", "0"),
        ("limit-burst-multiplier", "2"),
        ("limit-rate", "64"),
        ("limit-rate-after", "1"),
        ("canary", "true"),
        ("canary-by-header", "X-Canary"),
        ("canary-weight", "150"),
        ("canary-weight-total", "200"),
    ]);
    assert_eq!(problems, []);
    let basic = read.basic.unwrap();
    assert_eq!((basic.namespace.as_deref(), &*basic.secret, &*basic.realm), (Some("shop"), "users", "the shop"));
    assert_eq!(basic.format, PasswordFormat::Map);
    assert!(read.any_guard && !read.denied);
    let limits = read.limits;
    assert_eq!((limits.per_second, limits.per_minute, limits.burst), (Some(10), None, 2));
    assert_eq!((limits.rate, limits.rate_after), (Some(64 << 10), 1 << 10));
    let canary = read.canary.unwrap();
    assert_eq!(
        (canary.header, canary.weight, canary.total),
        (Some(("x-canary".to_owned(), HeaderRule::Switch)), 150, 200)
    );
}
