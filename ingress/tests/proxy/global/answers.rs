//! Compression, fields of answers, and what is the default of annotations.

use std::io::Read;

use super::{ask, world};
use crate::support::Plane;
use crate::support::client::{Answer, Client, tls};
use crate::support::nginx::Nginx;
use crate::support::objects::World;
use crate::support::upstream::Upstream;
use serde_json::json;

fn unzipped(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    flate2::read::GzDecoder::new(bytes).read_to_end(&mut out).unwrap();
    out
}

/// What nginx and we are to agree on: how an answer is encoded and what it says of that.
fn encoding(answer: &Answer) -> (u16, Vec<Option<String>>) {
    let names = ["content-encoding", "vary", "etag", "content-length", "accept-ranges", "transfer-encoding"];
    (answer.status, names.map(|name| answer.field(name).map(str::to_owned)).to_vec())
}

#[tokio::test]
async fn answers_are_compressed_as_at_nginx() {
    let endpoint = Upstream::named("web").await;
    let global = [("use-gzip", "true"), ("gzip-level", "5"), ("gzip-types", "text/css"), ("gzip-min-length", "100")];
    let plane = Plane::start(world(endpoint.addr, &global).snapshot()).await;
    let nginx = Nginx::start(&format!(
        "server {{ listen LISTEN; gzip on; gzip_comp_level 5; gzip_types text/css; gzip_min_length 100; gzip_vary on;\n\
         gzip_proxied any; proxy_buffering off; location / {{ proxy_pass http://{}; }} }}",
        endpoint.addr
    ))
    .await;
    for (target, accept, is_encoded) in
        [("/css", "gzip", true), ("/css", "identity", false), ("/css", "gzip;q=0", false), ("/x", "gzip", false)]
    {
        let ours = ask(plane.http, "", target, &[("Accept-Encoding", accept)]).await;
        assert_eq!(ours.field("content-encoding").is_some(), is_encoded, "{target} {accept}: {}", ours.head);
        if target == "/css" {
            let body = if is_encoded { unzipped(&ours.body) } else { ours.body.clone() };
            assert_eq!(body, b"a{}\n".repeat(1000));
            assert!(!is_encoded || ours.body.len() < 200, "{} bytes", ours.body.len());
        }
        if let Some(nginx) = &nginx {
            let theirs = ask(nginx.addr, "", target, &[("Accept-Encoding", accept)]).await;
            println!("{target} {accept}: we {:?}, nginx {:?}", encoding(&ours), encoding(&theirs));
            assert_eq!(encoding(&ours), encoding(&theirs), "{target} {accept}");
        }
    }
    plane.stop().await;
}

#[tokio::test]
async fn a_compressed_stream_goes_on_as_it_comes() {
    let endpoint = Upstream::named("web").await;
    let global = [("enable-brotli", "true"), ("use-gzip", "true"), ("gzip-types", "text/css")];
    let plane = Plane::start(world(endpoint.addr, &global).snapshot()).await;
    let mut client = Client::connect(plane.http).await;
    client.send("GET /events HTTP/1.1\r\nHost: a.example\r\nAccept-Encoding: gzip\r\n\r\n").await;
    // Head, size line and first chunk are there before the endpoint says more.
    let mut got = Vec::new();
    while got.windows(4).filter(|bytes| *bytes == b"\r\n\r\n").count() == 0
        || !got.ends_with(b"\r\n")
        || got.len() < 200
    {
        got.extend(client.exactly(1).await.unwrap());
        let body = got.windows(4).position(|bytes| bytes == b"\r\n\r\n").map(|at| got[at + 4..].to_vec());
        let Some(chunk) = body.and_then(|body| {
            let line = body.windows(2).position(|bytes| bytes == b"\r\n")?;
            Some(body[line + 2..].to_vec())
        }) else {
            continue;
        };
        let mut out = [0; 5];
        if flate2::read::GzDecoder::new(&chunk[..]).read_exact(&mut out).is_ok() && &out == b"first" {
            break;
        }
    }
    endpoint.release.notify_one();
    assert!(client.rest_of_chunks().await.ends_with(b"0\r\n\r\n"));
    plane.stop().await;
}

#[tokio::test]
async fn fields_are_hidden_and_added() {
    let endpoint = Upstream::named("web").await;
    let global = [
        ("hide-headers", "X-Powered-By"),
        ("server-tokens", "true"),
        ("proxy-set-headers", "ingress-nginx/for-endpoints"),
        ("add-headers", "ingress-nginx/for-clients"),
        ("proxy-add-original-uri-header", "true"),
        ("generate-request-id", "false"),
    ];
    let world = world(endpoint.addr, &global)
        .config_map("ingress-nginx", "for-endpoints", &[("X-Zone", "edge"), ("X-Asked", "$host")])
        .config_map("ingress-nginx", "for-clients", &[("X-Served-By", "ferrogate")]);
    let mut plane = Plane::start(world.clone().snapshot()).await;
    let answer = ask(plane.http, "", "/css", &[]).await;
    for (name, value) in [("x-powered-by", None), ("server", Some("ferrogate")), ("x-served-by", Some("ferrogate"))] {
        assert_eq!(answer.field(name), value, "{name}");
    }
    let seen = &endpoint.seen()[0];
    let expected = [("x-zone", Some("edge")), ("x-asked", Some("a.example")), ("x-original-uri", Some("/css"))];
    for (name, value) in expected.into_iter().chain([("x-request-id", None)]) {
        assert_eq!(seen.field(name), value, "{name}");
    }
    // Another version of a map that is named takes effect as well.
    plane.swap(world.config_map("ingress-nginx", "for-clients", &[("X-Served-By", "other")]).snapshot()).await;
    assert_eq!(ask(plane.http, "", "/css", &[]).await.field("x-served-by"), Some("other"));
    plane.stop().await;
}

#[tokio::test]
async fn an_ingress_overrides_what_the_settings_say() {
    let endpoint = Upstream::named("web").await;
    let global = [
        ("proxy-body-size", "4"),
        ("whitelist-source-range", "192.0.2.0/24"),
        ("force-ssl-redirect", "true"),
        ("http-redirect-code", "301"),
    ];
    let own = [("proxy-body-size", "100"), ("whitelist-source-range", "127.0.0.0/8"), ("force-ssl-redirect", "false")];
    let wrong =
        [("proxy-body-size", "much"), ("whitelist-source-range", "127.0.0.0/8"), ("force-ssl-redirect", "false")];
    let world = world(endpoint.addr, &global)
        .annotated("own", "b.example", &["/"], "web", &own)
        .annotated("wrong", "c.example", &["/"], "web", &wrong)
        .annotated("listed", "d.example", &["/"], "web", &[("force-ssl-redirect", "false")]);
    let plane = Plane::start(world.snapshot()).await;
    for (host, status) in [("a.example", 301), ("b.example", 200), ("c.example", 413), ("d.example", 413)] {
        let mut client = Client::connect(plane.http).await;
        let status = if host == "a.example" { 413.min(status) } else { status };
        client.send(format!("POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 5\r\n\r\nhello")).await;
        let answer = client.answer().await;
        // The size of a body is judged before anything else.
        let expected = if host == "a.example" { 413 } else { status };
        assert_eq!(answer.status, expected, "{host}");
    }
    for (host, status) in [("a.example", 301), ("b.example", 200), ("c.example", 200), ("d.example", 403)] {
        assert_eq!(crate::support::client::get(plane.http, host, "/").await.status, status, "{host}");
    }
    plane.stop().await;
}

#[tokio::test]
async fn browsers_are_told_to_come_over_tls() {
    let endpoint = Upstream::named("web").await;
    let secret = |world: World| world.certificate("cert", "a.example").0;
    let tls_section = json!([{"hosts": ["a.example"], "secretName": "cert"}]);
    let base = || {
        let world = World::default().service("web", &[endpoint.addr]);
        secret(world.annotated_tls("web", "a.example", &["/"], "web", &[("ssl-redirect", "false")], &tls_section))
    };
    let mut plane = Plane::start(base().snapshot()).await;
    for (global, expected) in [
        (vec![], Some("max-age=31536000; includeSubDomains")),
        (
            vec![("hsts-max-age", "600"), ("hsts-include-subdomains", "false"), ("hsts-preload", "true")],
            Some("max-age=600; preload"),
        ),
        (vec![("hsts", "false")], None),
    ] {
        plane.swap(base().global(&global).snapshot()).await;
        let stream = tls(plane.https, "a.example", b"http/1.1").await.unwrap();
        let answer = Client::over(stream).get("a.example", "/").await;
        assert_eq!(answer.field("strict-transport-security"), expected, "{global:?}");
        let plain = ask(plane.http, "", "/", &[]).await;
        assert_eq!(plain.field("strict-transport-security"), None, "{global:?}");
    }
    plane.stop().await;
}
