use std::collections::BTreeMap;

use config::annotation::NGINX_PREFIX;

use super::*;
use crate::path::PathType;

fn annotations(pairs: &[(&str, &str)]) -> Annotations {
    let written: BTreeMap<_, _> =
        pairs.iter().map(|(name, value)| (format!("{NGINX_PREFIX}{name}"), (*value).to_owned())).collect();
    Annotations::read(&written).0
}

fn rule(path: &str) -> PathMatch {
    PathMatch::new(path, PathType::Prefix).unwrap()
}

fn plan(pairs: &[(&str, &str)]) -> RoutePlan {
    RoutePlan::of(&annotations(pairs), false, true, &rule("/")).unwrap()
}

fn request(line: &str, fields: &[(&'static str, &str)]) -> http::request::Parts {
    let (method, target) = line.split_once(' ').unwrap();
    let mut request = http::Request::builder().method(method).uri(target);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

/// What becomes of a cleartext request of 192.0.2.7.
fn judged(plan: &RoutePlan, line: &str, fields: &[(&'static str, &str)]) -> Result<Verdict, Fault> {
    let request = request(line, fields);
    let path = request.uri.path().to_owned();
    let client = Some("192.0.2.7".parse().unwrap());
    let name = config::object::ObjectName::new("shop", "web");
    let verdict = plan.judge(&Asked {
        identity: &[],
        request: &request,
        authority: "A.example:8080",
        host: "a.example",
        path: &path,
        tls: false,
        client,
        has_endpoints: true,
        request_id: "0af7",
        ingress: &name,
        service: &name,
    })?;
    if verdict == Verdict::Pass {
        plan.admit(client, true)?;
    }
    Ok(verdict)
}

#[test]
fn who_asks_for_nothing_pays_nothing() {
    for (pairs, compat, tls, path, is_some) in [
        (&[][..], false, true, "/", false),
        (&[("proxy-body-size", "0"), ("ssl-redirect", "false"), ("enable-cors", "false")], true, false, "/", false),
        // Browsers are told to come over TLS.
        (&[("proxy-body-size", "0"), ("ssl-redirect", "false")], true, true, "/", true),
        (&[("server-alias", "b.example")], false, true, "/", false),
        (&[], true, false, "/", true),
        (&[("ssl-redirect", "true")], false, false, "/", false),
        (&[("ssl-redirect", "true")], false, true, "/", true),
        (&[("ssl-redirect", "true")], false, true, "/.well-known/acme-challenge/x", false),
        (&[("force-ssl-redirect", "true")], false, false, "/", true),
    ] {
        assert_eq!(RoutePlan::of(&annotations(pairs), compat, tls, &rule(path)).is_some(), is_some, "{pairs:?} {path}");
    }
}

#[test]
fn redirects_go_where_they_say() {
    for (pairs, line, status, to) in [
        (&[("ssl-redirect", "true")][..], "GET /a/?b=1", 308, "https://a.example/a/?b=1"),
        (&[("app-root", "/app")], "GET /", 302, "http://A.example:8080/app"),
        (&[("permanent-redirect", "https://n.example/x")], "GET /a", 301, "https://n.example/x"),
        (&[("temporal-redirect", "https://n.example$request_uri")], "GET /a?b", 302, "https://n.example/a?b"),
        (
            &[("temporal-redirect", "https://t.example/"), ("permanent-redirect", "https://p.example/")],
            "GET /",
            302,
            "https://t.example/",
        ),
    ] {
        assert_eq!(judged(&plan(pairs), line, &[]), Ok(Verdict::Redirect(status, to.into())), "{pairs:?}");
    }
    assert_eq!(judged(&plan(&[("app-root", "/app")]), "GET /app", &[]), Ok(Verdict::Pass));
}

#[test]
fn a_class_that_asks_for_it_gets_the_defaults_of_ingress_nginx() {
    let compat = RoutePlan::of(&Annotations::default(), true, true, &rule("/")).unwrap();
    assert_eq!(compat.body_limit(), Some(1 << 20));
    assert_eq!(judged(&compat, "GET /a/", &[]), Ok(Verdict::Redirect(308, "https://a.example/a".into())));
    let kept = RoutePlan::of(&annotations(&[("preserve-trailing-slash", "true")]), true, true, &rule("/")).unwrap();
    assert_eq!(judged(&kept, "GET /a/", &[]), Ok(Verdict::Redirect(308, "https://a.example/a/".into())));
}

#[test]
fn the_first_that_objects_answers() {
    let all = [
        ("proxy-body-size", "1k"),
        ("enable-cors", "true"),
        ("whitelist-source-range", "10.0.0.0/8"),
        ("temporal-redirect", "https://t.example/"),
        ("enable-modsecurity", "true"),
    ];
    let large = [("content-length", "1025")];
    for (skip, line, fields, expected) in [
        (0, "OPTIONS /", &large[..], Err(Fault::BodyTooLarge)),
        (0, "OPTIONS /", &[("content-length", "1024")][..], Ok(Verdict::NoContent)),
        (0, "GET /", &[], Ok(Verdict::Redirect(302, "https://t.example/".into()))),
        (4, "GET /", &[], Err(Fault::Denied)),
    ] {
        assert_eq!(judged(&plan(&all[skip..]), line, fields), expected, "{skip} {line}");
    }
    assert_eq!(judged(&plan(&all[2..3]), "GET /", &[]), Err(Fault::Forbidden));
    let both = [("whitelist-source-range", "192.0.2.0/24"), ("denylist-source-range", "192.0.2.7")];
    assert_eq!(judged(&plan(&both), "GET /", &[]), Err(Fault::Forbidden));
    assert_eq!(judged(&plan(&both[..1]), "GET /", &[]), Ok(Verdict::Pass));
}

#[test]
fn a_listed_origin_is_echoed_and_no_other() {
    let plan = plan(&[("enable-cors", "true"), ("cors-allow-origin", "https://a.example")]);
    let fields = |origin| plan.answer_fields(&request("GET /", &[("origin", origin)]).headers).unwrap();
    let told = fields("https://a.example");
    let value = |name: &str| told.set.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_bytes());
    assert_eq!(value("access-control-allow-origin"), Some(&b"https://a.example"[..]));
    assert_eq!(value("access-control-allow-credentials"), Some(&b"true"[..]));
    assert!(told.varies);
    assert_eq!(fields("https://b.example"), AnswerFields { varies: true, ..AnswerFields::default() });
}
