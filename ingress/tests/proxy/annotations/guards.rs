//! Passwords, addresses and limits.

use std::time::Duration;

use tokio::time::Instant;

use super::ask;
use crate::support::Plane;
use crate::support::client::Client;
use crate::support::nginx::Nginx;
use crate::support::objects::World;
use crate::support::upstream::Upstream;

/// `ann:secret` in every kind of hash, as OpenSSL and crypt(3) make them.
const HASHES: [&str; 6] = [
    "$apr1$abcdefgh$h9FWgUz3n9YxylKLlR5SQ/",
    "$6$rounds=1000$abc$MqEcPZUYRGGcOeq7PhMpfjfu/F0HrVEI0OlZBijWvO8mSG77iNUDP5MqFceKpJTBc8iITVtNyLiNTRNCxv6oh0",
    "$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a",
    "{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=",
    "{SSHA}gVK8WC9YyFT1gMsQHTGCgT3sSv5zYWx0",
    "{PLAIN}secret",
];
/// ann:secret, ann:wrong, eve:secret, and none of the kind.
const CLAIMS: [(&str, u16); 5] = [
    ("Basic YW5uOnNlY3JldA==", 200),
    ("Basic YW5uOndyb25n", 401),
    ("Basic ZXZlOnNlY3JldA==", 401),
    ("Bearer YW5uOnNlY3JldA==", 401),
    ("Basic !", 401),
];
const AUTH: [(&str, &str); 3] = [("auth-type", "basic"), ("auth-secret", "users"), ("auth-realm", "the \"shop\"")];

#[tokio::test]
async fn passwords_are_checked_as_nginx_checks_them() {
    let upstream = Upstream::named("web").await;
    for hash in HASHES {
        let file = format!("# people\nann:{hash}\n");
        let world = World::default().service("web", &[upstream.addr]).secret("users", &[("auth", &file)]).annotated(
            "web",
            "a.example",
            &["/"],
            "web",
            &AUTH,
        );
        let plane = Plane::start(world.snapshot()).await;
        let folder = tempfile::tempdir().unwrap();
        let users = folder.path().join("users");
        std::fs::write(&users, &file).unwrap();
        let nginx = Nginx::start(&format!(
            "server {{ listen LISTEN; server_name a.example; location / {{ auth_basic 'the \"shop\"';\n\
             auth_basic_user_file {}; proxy_set_header Authorization \"\"; proxy_pass http://{}; }} }}",
            users.display(),
            upstream.addr
        ))
        .await;
        for (claim, status) in CLAIMS {
            let ours = ask(plane.http, "a.example", "/x", &[("Authorization", claim)]).await;
            assert_eq!(ours.status, status, "{hash} {claim}");
            if let Some(nginx) = &nginx {
                let theirs = ask(nginx.addr, "a.example", "/x", &[("Authorization", claim)]).await;
                println!("{hash} {claim}: we {}, nginx {}", ours.status, theirs.status);
                assert_eq!(ours.status, theirs.status, "{hash} {claim}");
            }
        }
        let asked = ask(plane.http, "a.example", "/x", &[]).await;
        assert_eq!((asked.status, asked.field("www-authenticate")), (401, Some("Basic realm=\"the \\\"shop\\\"\"")));
        assert!(upstream.seen().iter().all(|seen| seen.field("authorization").is_none()));
        plane.stop().await;
    }
}

#[tokio::test]
async fn a_new_list_of_users_counts_at_once() {
    let upstream = Upstream::named("web").await;
    let world = |hash: &str| {
        World::default().service("web", &[upstream.addr]).secret("users", &[("ann", hash)]).annotated(
            "web",
            "a.example",
            &["/"],
            "web",
            &[&AUTH[..], &[("auth-secret-type", "auth-map")]].concat(),
        )
    };
    let status = async |plane: &Plane| {
        ask(plane.http, "a.example", "/x", &[("Authorization", "Basic YW5uOnNlY3JldA==")]).await.status
    };
    let mut plane = Plane::start(world(HASHES[0]).snapshot()).await;
    assert_eq!(status(&plane).await, 200);
    plane.swap(world("{PLAIN}changed").snapshot()).await;
    assert_eq!(status(&plane).await, 401);
    plane.swap(world(HASHES[2]).snapshot()).await;
    assert_eq!(status(&plane).await, 200);
    plane.stop().await;
}

#[tokio::test]
async fn without_a_list_of_users_nobody_comes() {
    let upstream = Upstream::named("web").await;
    let base = || World::default().service("web", &[upstream.addr]);
    let other = [("auth-type", "basic"), ("auth-secret", "other/users")];
    for world in [
        base().annotated("web", "a.example", &["/"], "web", &AUTH),
        base().secret("users", &[("wrong-key", "ann:{PLAIN}secret")]).annotated(
            "web",
            "a.example",
            &["/"],
            "web",
            &AUTH,
        ),
        base().secret("users", &[("auth", "ann:{PLAIN}secret")]).annotated("web", "a.example", &["/"], "web", &other),
    ] {
        let plane = Plane::start(world.snapshot()).await;
        let answer = ask(plane.http, "a.example", "/x", &[("Authorization", "Basic YW5uOnNlY3JldA==")]).await;
        assert_eq!(answer.status, 503);
        plane.stop().await;
    }
    assert_eq!(upstream.seen().len(), 0);
}

#[tokio::test]
async fn one_guard_or_all_of_them() {
    let upstream = Upstream::named("web").await;
    let right = [("Authorization", "Basic YW5uOnNlY3JldA==")];
    let (here, elsewhere) = (("whitelist-source-range", "127.0.0.0/8"), ("whitelist-source-range", "192.0.2.0/24"));
    let mut servers = Vec::new();
    let mut world = World::default().service("web", &[upstream.addr]).secret("users", &[("auth", "ann:{PLAIN}secret")]);
    let folder = tempfile::tempdir().unwrap();
    let users = folder.path().join("users");
    std::fs::write(&users, "ann:{PLAIN}secret").unwrap();
    let mut cases = Vec::new();
    for (index, (satisfy, source, statuses)) in [
        ("all", here, [401, 200]),
        ("all", elsewhere, [403, 403]),
        ("any", here, [200, 200]),
        ("any", elsewhere, [401, 200]),
    ]
    .into_iter()
    .enumerate()
    {
        let host = format!("h{index}.example");
        let annotations = [&AUTH[..], &[("satisfy", satisfy), source]].concat();
        world = world.annotated(&host, &host, &["/"], "web", &annotations);
        servers.push(format!(
            "server {{ listen LISTEN; server_name {host}; location / {{ satisfy {satisfy}; allow {}; deny all;\n\
             auth_basic x; auth_basic_user_file {}; proxy_pass http://{}; }} }}\n",
            source.1,
            users.display(),
            upstream.addr
        ));
        cases.push((host, statuses));
    }
    let plane = Plane::start(world.snapshot()).await;
    let nginx = Nginx::start(&servers.concat()).await;
    for (host, statuses) in cases {
        for (fields, status) in [&[][..], &right].into_iter().zip(statuses) {
            let ours = ask(plane.http, &host, "/x", fields).await.status;
            assert_eq!(ours, status, "{host} {fields:?}");
            if let Some(nginx) = &nginx {
                let theirs = ask(nginx.addr, &host, "/x", fields).await.status;
                println!("{host} {fields:?}: we {ours}, nginx {theirs}");
                assert_eq!(ours, theirs, "{host} {fields:?}");
            }
        }
    }
    plane.stop().await;
}

#[tokio::test]
async fn a_burst_passes_and_the_rest_is_refused_as_at_nginx() {
    let upstream = Upstream::named("web").await;
    let limits = [("limit-rpm", "1"), ("limit-burst-multiplier", "4")];
    let world = World::default()
        .service("web", &[upstream.addr])
        .annotated("web", "a.example", &["/", "/other"], "web", &limits)
        .ours("ours", "b.example", "/", "web", &limits)
        .annotated("free", "c.example", &["/"], "web", &[limits[0], ("limit-whitelist", "127.0.0.1")]);
    let plane = Plane::start(world.snapshot()).await;
    let nginx = Nginx::start(&format!(
        "limit_req_zone $binary_remote_addr zone=web:5m rate=1r/m;\n\
         server {{ listen LISTEN; server_name a.example; location / {{ limit_req zone=web burst=4 nodelay;\n\
         proxy_pass http://{}; }} }}",
        upstream.addr
    ))
    .await;
    // A rate of one a minute lets nothing drain while this runs.
    let statuses = async |addr, host: &'static str| {
        let mut all = Vec::new();
        for index in 0..8 {
            let target = if index % 2 == 0 { "/" } else { "/other" };
            all.push(ask(addr, host, target, &[]).await.status);
        }
        all
    };
    let ours = statuses(plane.http, "a.example").await;
    assert_eq!(ours, [200, 200, 200, 200, 200, 503, 503, 503]);
    if let Some(nginx) = &nginx {
        let theirs = statuses(nginx.addr, "a.example").await;
        println!("we {ours:?}, nginx {theirs:?}");
        assert_eq!(ours, theirs);
    }
    assert_eq!(statuses(plane.http, "b.example").await, [200, 200, 200, 200, 200, 429, 429, 429]);
    assert_eq!(ask(plane.http, "b.example", "/", &[]).await.field("retry-after"), Some("1"));
    assert_eq!(statuses(plane.http, "c.example").await, [200; 8]);
    plane.stop().await;
}

#[tokio::test]
async fn what_was_asked_is_remembered_over_a_change() {
    let upstream = Upstream::named("web").await;
    let world = |size: &str| {
        let annotations = [("limit-rpm", "1"), ("limit-burst-multiplier", "1"), ("proxy-body-size", size)];
        World::default().service("web", &[upstream.addr]).annotated("web", "a.example", &["/"], "web", &annotations)
    };
    let mut plane = Plane::start(world("1m").snapshot()).await;
    for expected in [200, 200, 503] {
        assert_eq!(ask(plane.http, "a.example", "/", &[]).await.status, expected);
    }
    plane.swap(world("2m").snapshot()).await;
    assert_eq!(ask(plane.http, "a.example", "/", &[]).await.status, 503);
    plane.stop().await;
}

#[tokio::test]
async fn requests_under_way_are_limited() {
    let upstream = Upstream::named("web").await;
    let world = World::default().service("web", &[upstream.addr]).annotated(
        "web",
        "a.example",
        &["/"],
        "web",
        &[("limit-connections", "2")],
    );
    let plane = Plane::start(world.snapshot()).await;
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut client = Client::connect(plane.http).await;
        client.send("GET /held HTTP/1.1\r\nHost: a.example\r\n\r\n").await;
        held.push(client);
    }
    crate::support::eventually("two requests are under way", || upstream.seen().len() == 2).await;
    assert_eq!(ask(plane.http, "a.example", "/x", &[]).await.status, 503);
    upstream.release.notify_one();
    upstream.release.notify_one();
    for client in &mut held {
        assert_eq!(client.answer().await.text(), "released");
    }
    // The answer may be read before its request has ended.
    let deadline = Instant::now() + crate::support::PATIENCE;
    while ask(plane.http, "a.example", "/x", &[]).await.status != 200 {
        assert!(Instant::now() < deadline, "the slots are never free again");
    }
    plane.stop().await;
}

#[tokio::test]
async fn an_answer_is_no_faster_than_its_limit() {
    let upstream = Upstream::named("web").await;
    let world = World::default().service("web", &[upstream.addr]).annotated(
        "web",
        "a.example",
        &["/"],
        "web",
        &[("limit-rate", "400"), ("limit-rate-after", "100")],
    );
    let plane = Plane::start(world.snapshot()).await;
    let begun = Instant::now();
    let answer = ask(plane.http, "a.example", "/big", &[]).await;
    assert_eq!(answer.body.len(), 1 << 20);
    // 1024 KiB, of which 100 come at once and 400 in the first second's allowance.
    assert!(begun.elapsed() >= Duration::from_millis(1200), "{:?}", begun.elapsed());
    plane.stop().await;
}
