//! What is rewritten in answers, and annotations of our own.

use super::ask;
use crate::support::Plane;
use crate::support::client::Answer;
use crate::support::nginx::Nginx;
use crate::support::objects::World;
use crate::support::upstream::Upstream;

#[tokio::test]
async fn redirects_and_cookies_are_rewritten_as_at_nginx() {
    let upstream = Upstream::named("web").await;
    let world = World::default().service("web", &[upstream.addr]).annotated(
        "web",
        "a.example",
        &["/"],
        "web",
        &[
            ("proxy-redirect-from", "http://inside.example/app/"),
            ("proxy-redirect-to", "https://$host/"),
            ("proxy-cookie-path", "/app/ /"),
            ("proxy-cookie-domain", "inside.example outside.example"),
        ],
    );
    let plane = Plane::start(world.snapshot()).await;
    let told = |answer: &Answer| {
        let line = |line: &str| {
            let (name, value) = line.split_once(": ")?;
            let name = name.to_ascii_lowercase();
            ["set-cookie", "location"].contains(&&*name).then(|| format!("{name}: {value}"))
        };
        let mut lines: Vec<String> = answer.head.lines().filter_map(line).collect();
        lines.sort();
        lines
    };
    let ours = told(&ask(plane.http, "a.example", "/moved", &[]).await);
    let expected = [
        "location: https://a.example/x",
        "set-cookie: a=b; Path=/x",
        "set-cookie: c=d; Domain=outside.example; HttpOnly",
    ];
    assert_eq!(ours, expected);
    if let Some(nginx) = Nginx::start(&format!(
        "server {{ listen LISTEN; server_name a.example; location / {{ proxy_pass http://{};\n\
         proxy_redirect http://inside.example/app/ https://$host/; proxy_cookie_path /app/ /;\n\
         proxy_cookie_domain inside.example outside.example; }} }}",
        upstream.addr
    ))
    .await
    {
        let theirs = told(&ask(nginx.addr, "a.example", "/moved", &[]).await);
        println!("we {ours:?}, nginx {theirs:?}");
        assert_eq!(ours, theirs);
    }
    plane.stop().await;
}

#[tokio::test]
async fn annotations_of_our_own_do_what_snippets_were_written_for() {
    let upstream = Upstream::named("web").await;
    let own = [
        ("ferrogate.io/request-headers", "X-Host: $host\nAccept-Encoding:\n"),
        ("ferrogate.io/response-headers", "Cache-Control: no-store\nX-Internal:"),
        ("ferrogate.io/security-headers", "true"),
        ("ferrogate.io/deny-paths", "/admin, /internal/"),
    ];
    let world = World::default()
        .service("web", &[upstream.addr])
        .ours("web", "a.example", "/", "web", &own)
        .ours("gone", "b.example", "/", "web", &[("ferrogate.io/return", "410 gone for good")])
        .ours("new", "c.example", "/", "web", &[("ferrogate.io/return", "308 https://new.example$request_uri")]);
    let plane = Plane::start(world.snapshot()).await;
    let answer = ask(plane.http, "a.example", "/x", &[("Accept-Encoding", "gzip")]).await;
    for (name, value) in [
        ("cache-control", Some("no-store")),
        ("x-content-type-options", Some("nosniff")),
        ("x-frame-options", Some("SAMEORIGIN")),
        ("strict-transport-security", None),
    ] {
        assert_eq!(answer.field(name), value, "{name}");
    }
    let seen = &upstream.seen()[0];
    assert_eq!((seen.field("x-host"), seen.field("accept-encoding")), (Some("a.example"), None));
    for (host, target, status) in [
        ("a.example", "/admin", 403),
        ("a.example", "/admin/x", 403),
        ("a.example", "/x/../%61dmin/", 403),
        ("a.example", "/administer", 200),
        ("a.example", "/internal", 403),
        ("b.example", "/", 410),
        ("c.example", "/x?y", 308),
    ] {
        assert_eq!(ask(plane.http, host, target, &[]).await.status, status, "{host}{target}");
    }
    assert_eq!(ask(plane.http, "b.example", "/", &[]).await.text(), "gone for good");
    let moved = ask(plane.http, "c.example", "/x?y", &[]).await;
    assert_eq!(moved.field("location"), Some("https://new.example/x?y"));
    plane.stop().await;
}
