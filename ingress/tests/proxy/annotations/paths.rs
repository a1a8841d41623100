//! `use-regex`, `rewrite-target`, `x-forwarded-prefix`, `from-to-www-redirect`, redirects.

use super::{Outcome, outcome};
use crate::support::Plane;
use crate::support::client::{Client, get};
use crate::support::nginx::Nginx;
use crate::support::objects::World;
use crate::support::upstream::Upstream;

#[tokio::test]
async fn paths_are_rewritten_as_nginx_rewrites_them() {
    let upstream = Upstream::named("web").await;
    let world = World::default()
        .service("web", &[upstream.addr])
        .annotated("api", "a.example", &["/api(/|$)(.*)"], "web", &[("rewrite-target", "/$2")])
        .annotated("fixed", "a.example", &["/fixed"], "web", &[("rewrite-target", "/")])
        .annotated("seen", "a.example", &["/seen(/(?!a|b).*|$)"], "web", &[("use-regex", "true")])
        .annotated("gone", "a.example", &["/gone/(.*)"], "web", &[("rewrite-target", "https://new.example/$1")])
        .annotated("plain", "a.example", &["/plain"], "web", &[]);
    let plane = Plane::start(world.snapshot()).await;
    let to = upstream.addr;
    let nginx = Nginx::start(&format!(
        r#"server {{ listen LISTEN; server_name a.example;
            location ~* "^/seen(/(?!a|b).*|$)" {{ proxy_pass http://{to}; }}
            location ~* "^/api(/|$)(.*)" {{ rewrite "(?i)/api(/|$)(.*)" /$2 break; proxy_pass http://{to}; }}
            location ~* "^/gone/(.*)" {{ rewrite "(?i)/gone/(.*)" https://new.example/$1 break; }}
            location ~* "^/fixed" {{ rewrite "(?i)/fixed" / break; proxy_pass http://{to}; }}
            location ~* "^/plain" {{ proxy_pass http://{to}; }}
            location / {{ return 404; }} }}"#
    ))
    .await;
    for (target, expected) in [
        ("/api/x/y?q=1&r=%20", Outcome::passed("web /x/y?q=1&r=%20")),
        ("/api", Outcome::passed("web /")),
        ("/API/x", Outcome::passed("web /x")),
        ("/api/a%20b", Outcome::passed("web /a%20b")),
        ("/api/../api/z", Outcome::passed("web /z")),
        ("/apix", Outcome { status: 404, location: None, asked: None }),
        ("/fixed/and/more?q", Outcome::passed("web /?q")),
        ("/fixedmore", Outcome::passed("web /")),
        ("/seen/c", Outcome::passed("web /seen/c")),
        ("/seen/a", Outcome { status: 404, location: None, asked: None }),
        ("/gone/x?q=1", Outcome::redirected(302, "https://new.example/x?q=1")),
        ("/PLAINer", Outcome::passed("web /PLAINer")),
    ] {
        let ours = outcome(plane.http, "a.example", target).await;
        assert_eq!(ours, expected, "{target}");
        if let Some(nginx) = &nginx {
            let theirs = outcome(nginx.addr, "a.example", target).await;
            println!("{target}: we {ours:?}, nginx {theirs:?}");
            assert_eq!(ours, theirs, "{target}");
        }
    }
    plane.stop().await;
}

#[tokio::test]
async fn a_rewritten_path_never_climbs() {
    let upstream = Upstream::named("web").await;
    let world = World::default().service("web", &[upstream.addr]).annotated(
        "files",
        "a.example",
        &["/files(.*)"],
        "web",
        &[("rewrite-target", "/data/$1")],
    );
    let plane = Plane::start(world.snapshot()).await;
    for (target, status) in [("/files../secret", 400), ("/files/x", 200), ("/files%2e%2e/secret", 400)] {
        assert_eq!(get(plane.http, "a.example", target).await.status, status, "{target}");
    }
    assert_eq!(upstream.seen().len(), 1);
    plane.stop().await;
}

#[tokio::test]
async fn expressions_of_one_ingress_are_for_the_whole_host_in_class_nginx_only() {
    let upstream = Upstream::named("web").await;
    let base = World::default().service("web", &[upstream.addr]).route("other", "a.example", "/Foo", "web");
    let compat = base.clone().annotated("api", "a.example", &["/api"], "web", &[("use-regex", "true")]);
    let mut plane = Plane::start(base.clone().snapshot()).await;
    for (target, status) in [("/Foo", 200), ("/foobar", 404)] {
        assert_eq!(get(plane.http, "a.example", target).await.status, status, "{target}");
    }
    plane.swap(compat.snapshot()).await;
    for (target, status) in [("/Foo", 200), ("/foobar", 200), ("/apiary", 200)] {
        assert_eq!(get(plane.http, "a.example", target).await.status, status, "{target}");
    }
    plane.swap(base.ours("api", "a.example", "/api.*y", "web", &[("use-regex", "true")]).snapshot()).await;
    for (target, status) in [("/Foo", 200), ("/foobar", 404), ("/apiary", 200), ("/api", 404)] {
        assert_eq!(get(plane.http, "a.example", target).await.status, status, "{target}");
    }
    plane.stop().await;
}

#[tokio::test]
async fn an_endpoint_is_told_the_prefix_that_was_taken_off() {
    let upstream = Upstream::named("web").await;
    let world = World::default()
        .service("web", &[upstream.addr])
        .annotated(
            "api",
            "a.example",
            &["/(team[0-9])/(.*)"],
            "web",
            &[("rewrite-target", "/$2"), ("x-forwarded-prefix", "/$1")],
        )
        .annotated("fixed", "b.example", &["/"], "web", &[("x-forwarded-prefix", "/b")]);
    let plane = Plane::start(world.snapshot()).await;
    for (host, target, expected) in
        [("a.example", "/team7/x", "/team7"), ("b.example", "/x", "/b"), ("a.example", "/team1/", "/team1")]
    {
        let mut client = Client::connect(plane.http).await;
        client.send(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nX-Forwarded-Prefix: /forged\r\n\r\n")).await;
        assert_eq!(client.answer().await.status, 200);
        assert_eq!(upstream.seen().last().unwrap().field("x-forwarded-prefix"), Some(expected), "{target}");
    }
    plane.stop().await;
}

#[tokio::test]
async fn the_other_name_leads_to_the_one_that_is_served() {
    let upstream = Upstream::named("web").await;
    let on = [("from-to-www-redirect", "true")];
    let world = World::default()
        .service("web", &[upstream.addr])
        .annotated("a", "a.example", &["/"], "web", &on)
        .annotated("b", "www.b.example", &["/"], "web", &on)
        .annotated("c", "c.example", &["/"], "web", &on)
        .annotated("wc", "www.c.example", &["/"], "web", &[]);
    let plane = Plane::start(world.snapshot()).await;
    for (host, target, expected) in [
        ("www.a.example", "/x/?q=1", Outcome::redirected(308, "http://a.example/x/?q=1")),
        ("www.a.example", "/x/", Outcome::redirected(308, "http://a.example/x")),
        ("www.a.example:8080", "/", Outcome::redirected(308, "http://a.example")),
        ("a.example", "/x", Outcome::passed("web /x")),
        ("b.example", "/x", Outcome::redirected(308, "http://www.b.example/x")),
        ("www.c.example", "/x", Outcome::passed("web /x")),
    ] {
        assert_eq!(outcome(plane.http, host, target).await, expected, "{host}{target}");
    }
    plane.stop().await;
}

#[tokio::test]
async fn redirects_go_where_nginx_sends_them() {
    let upstream = Upstream::named("web").await;
    let world = World::default()
        .service("web", &[upstream.addr])
        .annotated("p", "p.example", &["/"], "web", &[("permanent-redirect", "https://n.example/x")])
        .annotated(
            "t",
            "t.example",
            &["/"],
            "web",
            &[("temporal-redirect", "https://n.example$request_uri"), ("temporal-redirect-code", "307")],
        )
        .annotated("r", "r.example", &["/"], "web", &[("app-root", "/app")]);
    let plane = Plane::start(world.snapshot()).await;
    let to = upstream.addr;
    let nginx = Nginx::start(&format!(
        "server {{ listen LISTEN; server_name p.example; location / {{ return 301 https://n.example/x; }} }}\n\
         server {{ listen LISTEN; server_name t.example; location / {{ return 307 https://n.example$request_uri; }} }}\n\
         server {{ listen LISTEN; server_name r.example; if ($uri = /) {{ return 302 $scheme://$http_host/app; }}\n\
           location / {{ proxy_pass http://{to}; }} }}"
    ))
    .await;
    for (host, target, expected) in [
        ("p.example", "/a?b", Outcome::redirected(301, "https://n.example/x")),
        ("t.example", "/a%20b?c=d", Outcome::redirected(307, "https://n.example/a%20b?c=d")),
        ("r.example", "/", Outcome::redirected(302, "http://r.example/app")),
        ("r.example", "/app", Outcome::passed("web /app")),
    ] {
        let ours = outcome(plane.http, host, target).await;
        assert_eq!(ours, expected, "{host}{target}");
        if let Some(nginx) = &nginx {
            let theirs = outcome(nginx.addr, host, target).await;
            println!("{host}{target}: we {ours:?}, nginx {theirs:?}");
            assert_eq!(ours, theirs, "{host}{target}");
        }
    }
    plane.stop().await;
}
