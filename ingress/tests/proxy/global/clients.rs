//! Who a client is, what it may do, and how it is spoken with.

use std::time::Duration;

use super::{ask, world};
use crate::support::client::{Client, get, tls_versions};
use crate::support::nginx::Nginx;
use crate::support::upstream::{Seen, Upstream};
use crate::support::{PATIENCE, Plane};
use ingress::io::Timeouts;

/// What nginx and we are to tell endpoints.
fn told(seen: &Seen) -> Vec<(&'static str, Option<String>)> {
    let names = ["x-real-ip", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-port", "host"];
    names.into_iter().map(|name| (name, seen.field(name).map(str::to_owned))).collect()
}

/// What ingress-nginx writes for `use-forwarded-headers` or `use-proxy-protocol`, and `compute-full-forwarded-for`.
fn nginx(listen: &str, header: &str, endpoint: impl std::fmt::Display) -> String {
    format!(
        "map $http_x_forwarded_proto $proto {{ default $http_x_forwarded_proto; '' $scheme; }}\n\
         map $http_x_forwarded_host $best {{ default $http_x_forwarded_host; '' $http_host; }}\n\
         map $http_x_forwarded_port $port {{ default $http_x_forwarded_port; '' PORT; }}\n\
         map $http_x_forwarded_for $full {{ default '$http_x_forwarded_for, $realip_remote_addr';\n\
         '' $realip_remote_addr; }}\n\
         server {{ listen LISTEN{listen}; real_ip_header {header}; real_ip_recursive on; set_real_ip_from 127.0.0.0/8;\n\
         set_real_ip_from 10.0.0.0/8; location / {{ proxy_set_header Host $best; proxy_set_header X-Real-IP $remote_addr;\n\
         proxy_set_header X-Forwarded-For $full; proxy_set_header X-Forwarded-Proto $proto;\n\
         proxy_set_header X-Forwarded-Host $best; proxy_set_header X-Forwarded-Port $port;\n\
         proxy_pass http://{endpoint}; }} }}"
    )
}

#[tokio::test]
async fn what_a_trusted_proxy_forwards_is_believed_as_at_nginx() {
    let endpoint = Upstream::named("web").await;
    let global = [
        ("use-forwarded-headers", "true"),
        ("proxy-real-ip-cidr", "127.0.0.0/8, 10.0.0.0/8"),
        ("compute-full-forwarded-for", "true"),
    ];
    let plane = Plane::start(world(endpoint.addr, &global).snapshot()).await;
    let config = nginx("", "X-Forwarded-For", endpoint.addr).replace("PORT", &plane.http.port().to_string());
    let theirs = Nginx::start(&config).await;
    for fields in [
        vec![],
        vec![("X-Forwarded-For", "203.0.113.9, 10.0.0.2")],
        vec![("X-Forwarded-For", "6.6.6.6, 203.0.113.9")],
        vec![
            ("X-Forwarded-For", "203.0.113.9"),
            ("X-Forwarded-Proto", "https"),
            ("X-Forwarded-Host", "shop.example.com"),
            ("X-Forwarded-Port", "8443"),
        ],
    ] {
        assert_eq!(ask(plane.http, "", "/x", &fields).await.status, 200);
        let ours = told(endpoint.seen().last().unwrap());
        if let Some(theirs) = &theirs {
            ask(theirs.addr, "", "/x", &fields).await;
            let theirs = told(endpoint.seen().last().unwrap());
            println!("{fields:?}: we {ours:?}, nginx {theirs:?}");
            assert_eq!(ours, theirs, "{fields:?}");
        }
    }
    let last = told(endpoint.seen().last().unwrap());
    assert_eq!(last[0].1.as_deref(), Some("203.0.113.9"));
    plane.stop().await;
}

#[tokio::test]
async fn what_a_stranger_forwards_is_not_believed() {
    let endpoint = Upstream::named("web").await;
    let claims = [("X-Forwarded-For", "6.6.6.6"), ("X-Forwarded-Proto", "https"), ("X-Forwarded-Host", "evil.example")];
    for global in [
        vec![
            ("use-forwarded-headers", "true"),
            ("proxy-real-ip-cidr", "192.0.2.0/24"),
            ("compute-full-forwarded-for", "true"),
        ],
        vec![("use-forwarded-headers", "true")],
        vec![("enable-real-ip", "true")],
    ] {
        let plane = Plane::start(world(endpoint.addr, &global).snapshot()).await;
        assert_eq!(ask(plane.http, "", "/x", &claims).await.status, 200);
        let seen = told(endpoint.seen().last().unwrap());
        let expected = [Some("127.0.0.1"), Some("127.0.0.1"), Some("http"), Some("a.example")];
        let found: Vec<_> = seen.iter().take(4).map(|(_, value)| value.as_deref()).collect();
        assert_eq!(found, expected, "{global:?}");
        plane.stop().await;
    }
}

#[tokio::test]
async fn a_forwarded_scheme_ends_the_redirect_to_https() {
    let endpoint = Upstream::named("web").await;
    let global =
        [("use-forwarded-headers", "true"), ("proxy-real-ip-cidr", "127.0.0.1"), ("force-ssl-redirect", "true")];
    let plane = Plane::start(world(endpoint.addr, &global).snapshot()).await;
    for (fields, status) in
        [(vec![], 308), (vec![("X-Forwarded-Proto", "http")], 308), (vec![("X-Forwarded-Proto", "https")], 200)]
    {
        assert_eq!(ask(plane.http, "", "/x", &fields).await.status, status, "{fields:?}");
    }
    plane.stop().await;
}

#[tokio::test]
async fn a_proxy_header_tells_who_it_is_as_at_nginx() {
    let endpoint = Upstream::named("web").await;
    let global = [("use-proxy-protocol", "true"), ("proxy-real-ip-cidr", "127.0.0.0/8")];
    let plane = Plane::start(world(endpoint.addr, &global).snapshot()).await;
    let config =
        nginx(" proxy_protocol", "proxy_protocol", endpoint.addr).replace("PORT", "$proxy_protocol_server_port");
    let config = config.replace("X-Forwarded-For $full", "X-Forwarded-For $remote_addr");
    let theirs = Nginx::start_unprobed(&config, "PROXY UNKNOWN\r\n").await;
    for opening in ["PROXY TCP4 203.0.113.9 192.0.2.1 4711 80\r\n", "PROXY TCP6 2001:db8::9 2001:db8::1 4711 80\r\n"] {
        assert_eq!(ask(plane.http, opening, "/x", &[]).await.status, 200, "{opening}");
        let ours = told(endpoint.seen().last().unwrap());
        assert!(opening.contains(ours[0].1.as_deref().unwrap()), "{ours:?}");
        if let Some(theirs) = &theirs {
            ask(theirs.addr, opening, "/x", &[]).await;
            let theirs = told(endpoint.seen().last().unwrap());
            println!("{opening:?}: we {ours:?}, nginx {theirs:?}");
            assert_eq!(ours, theirs, "{opening}");
        }
    }
    // TLS that ended before us, by the port that was asked.
    ask(plane.http, "PROXY TCP4 203.0.113.9 192.0.2.1 4711 443\r\n", "/x", &[]).await;
    assert_eq!(endpoint.seen().last().unwrap().field("x-forwarded-proto"), Some("https"));
    ask(plane.http, "PROXY UNKNOWN\r\n", "/x", &[]).await;
    assert_eq!(endpoint.seen().last().unwrap().field("x-real-ip"), Some("127.0.0.1"));
    plane.stop().await;
}

#[tokio::test]
async fn a_connection_without_a_proxy_header_is_not_served() {
    let endpoint = Upstream::named("web").await;
    let global = [
        ("use-proxy-protocol", "true"),
        ("proxy-protocol-header-timeout", "200ms"),
        ("proxy-real-ip-cidr", "10.0.0.0/8"),
    ];
    let plane = Plane::start(world(endpoint.addr, &global).snapshot()).await;
    for opening in ["GET / HTTP/1.1\r\nHost: a.example\r\n\r\n", "PROXY TCP4 ", "", "PROXY TCP4 here there 1 2\r\n"] {
        let mut client = Client::connect(plane.http).await;
        client.send(opening).await;
        assert_eq!(client.rest().await, b"", "{opening:?}");
    }
    assert_eq!(endpoint.seen().len(), 0);
    // Whoever is not trusted has to say it as well, and it does not count.
    assert_eq!(ask(plane.http, "PROXY TCP4 6.6.6.6 192.0.2.1 1 2\r\n", "/x", &[]).await.status, 200);
    assert_eq!(endpoint.seen()[0].field("x-real-ip"), Some("127.0.0.1"));
    plane.stop().await;
}

#[tokio::test]
async fn who_is_blocked_gets_403() {
    let endpoint = Upstream::named("web").await;
    let global = [("block-user-agents", "~*bot"), ("block-referers", "~*spam")];
    let mut plane = Plane::start(world(endpoint.addr, &global).snapshot()).await;
    for (name, value, status) in
        [("User-Agent", "GoogleBot", 403), ("Referer", "http://spam.example/", 403), ("User-Agent", "curl", 200)]
    {
        assert_eq!(ask(plane.http, "", "/", &[(name, value)]).await.status, status, "{name}: {value}");
    }
    plane.swap(world(endpoint.addr, &[("block-cidrs", "127.0.0.0/8")]).snapshot()).await;
    assert_eq!(ask(plane.http, "", "/", &[]).await.status, 403);
    plane.stop().await;
}

#[tokio::test]
async fn connections_and_heads_have_the_limits_that_the_settings_say() {
    let endpoint = Upstream::named("web").await;
    let mut plane = Plane::start_with(
        world(endpoint.addr, &[("keep-alive-requests", "2")]).snapshot(),
        Timeouts::default(),
        Duration::from_secs(5),
    )
    .await;
    let mut client = Client::connect(plane.http).await;
    assert_eq!(client.get("a.example", "/1").await.field("connection"), Some("keep-alive"));
    assert_eq!(client.get("a.example", "/2").await.field("connection"), Some("close"));
    assert!(client.try_answer(false).await.unwrap().is_none());

    plane.swap(world(endpoint.addr, &[("keep-alive", "0")]).snapshot()).await;
    let mut client = Client::connect(plane.http).await;
    assert_eq!(client.get("a.example", "/1").await.field("connection"), Some("close"));

    plane.swap(world(endpoint.addr, &[("large-client-header-buffers", "2 1k")]).snapshot()).await;
    assert_eq!(get(plane.http, "a.example", &format!("/{}", "x".repeat(1200))).await.status, 414);
    let long = "x".repeat(3000);
    assert_eq!(ask(plane.http, "", "/", &[("X-Long", &long)]).await.status, 431);

    plane.swap(world(endpoint.addr, &[("client-header-timeout", "1")]).snapshot()).await;
    let mut client = Client::connect(plane.http).await;
    client.send("GET / HTTP/1.1\r\nHost:").await;
    assert_eq!(client.answer().await.status, 408);
    plane.stop().await;
}

#[tokio::test]
async fn tls_is_spoken_as_the_settings_say_from_the_next_connection_on() {
    let endpoint = Upstream::named("web").await;
    let mut plane = Plane::start(world(endpoint.addr, &[]).snapshot()).await;
    assert_eq!(tls_versions(plane.https).await, (true, true));
    for (global, expected) in [
        (("ssl-protocols", "TLSv1.3"), (false, true)),
        (("ssl-protocols", "TLSv1 TLSv1.2"), (true, false)),
        // The default certificate has a key for ECDSA.
        (("ssl-ciphers", "ECDHE-RSA-AES128-GCM-SHA256"), (false, true)),
        (("ssl-ciphers", "ECDHE-ECDSA-AES128-GCM-SHA256"), (true, true)),
        (("ssl-reject-handshake", "true"), (false, false)),
    ] {
        plane.swap(world(endpoint.addr, &[global]).snapshot()).await;
        assert_eq!(tls_versions(plane.https).await, expected, "{global:?}");
    }
    plane.stop().await;
}

#[tokio::test]
async fn changing_settings_under_load_fails_no_request() {
    let endpoint = Upstream::named("web").await;
    let mut plane = Plane::start(world(endpoint.addr, &[]).snapshot()).await;
    let addr = plane.http;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let load = tokio::spawn(async move {
        let mut client = Client::connect(addr).await;
        let mut served = 0;
        while !*stopped.borrow() {
            let answer = client.get("a.example", "/css").await;
            assert_eq!((answer.status, answer.body.len()), (200, 4000));
            served += 1;
        }
        served
    });
    for turn in 0..20 {
        let size = format!("{}m", turn + 1);
        let codes = [("use-gzip", "true"), ("proxy-body-size", &*size), ("hide-headers", "X-Powered-By")];
        plane.swap(world(endpoint.addr, &codes).snapshot()).await;
        tokio::task::yield_now().await;
    }
    stop.send(true).unwrap();
    let served = tokio::time::timeout(PATIENCE, load).await.unwrap().unwrap();
    assert!(served > 0);
    plane.stop().await;
}
