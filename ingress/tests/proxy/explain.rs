//! What is explained is what happens: random objects, random requests, both ways.

use std::sync::Arc;

use ingress::explain::{Question, explain};

use crate::support::Plane;
use crate::support::client::Client;
use crate::support::objects::World;
use crate::support::upstream::Upstream;

const HOSTS: [&str; 5] = ["a.example", "b.example", "*.example", "x.b.example", ""];
const PATHS: [&str; 8] =
    ["/", "/shop", "/shop/", "/shop/cart", "/api(/|$)(.*)", "/shop/[a-z]+", "/login", "/.well-known/x"];
const ANNOTATIONS: [(&str, &str); 14] = [
    ("rewrite-target", "/$2"),
    ("use-regex", "true"),
    ("permanent-redirect", "https://new.example/"),
    ("app-root", "/login"),
    ("ssl-redirect", "false"),
    ("force-ssl-redirect", "true"),
    ("whitelist-source-range", "192.0.2.0/24"),
    ("whitelist-source-range", "127.0.0.0/8"),
    ("denylist-source-range", "127.0.0.1"),
    ("auth-type", "basic"),
    ("enable-cors", "true"),
    ("ferrogate.io/return", "418 teapot"),
    ("ferrogate.io/deny-paths", "/shop"),
    ("server-snippet", "location /login { return 403; }"),
];
const TARGETS: [&str; 10] =
    ["/", "/shop", "/shop/", "/shop/cart?x=1", "/shop/cart/a", "/api", "/api/x/y?z", "/login", "/SHOP", "/a/../shop"];
const FIELDS: [&[&str]; 5] = [
    &[],
    &["Authorization: Basic YW5uOnNlY3JldA=="],
    &["Authorization: Basic YW5uOndyb25n"],
    &["X-Canary: always"],
    &["Origin: https://other.example"],
];

/// Objects that come of `random`; `gone` has no endpoints.
fn world(random: &mut fastrand::Rng, one: &Upstream, two: &Upstream) -> World {
    let mut world = World::default().service("one", &[one.addr]).service("two", &[two.addr]).service("gone", &[]);
    world = world.secret("users", &[("auth", "ann:{PLAIN}secret")]);
    for index in 0..random.usize(1..8) {
        let host = HOSTS[random.usize(..HOSTS.len())];
        let paths: Vec<&str> = (0..random.usize(1..4)).map(|_| PATHS[random.usize(..PATHS.len())]).collect();
        let mut annotations: Vec<(&str, &str)> =
            (0..random.usize(..3)).map(|_| ANNOTATIONS[random.usize(..ANNOTATIONS.len())]).collect();
        if annotations.iter().any(|(name, _)| *name == "auth-type") && random.u8(..4) > 0 {
            annotations.push(("auth-secret", "users"));
        }
        if random.u8(..5) == 0 {
            annotations.extend([("canary", "true"), ("canary-by-header", "X-Canary")]);
        }
        let service = ["one", "two", "gone"][random.usize(..3)];
        world = world.annotated(&format!("web-{index}"), host, &paths, service, &annotations);
    }
    world
}

#[tokio::test]
async fn a_request_takes_the_way_that_is_explained() {
    let (one, two) = (Upstream::named("one").await, Upstream::named("two").await);
    let (mut passed, mut refused, mut redirected) = (0, 0, 0);
    for seed in 0..24 {
        let mut random = fastrand::Rng::with_seed(seed);
        let snapshot = world(&mut random, &one, &two).snapshot();
        let plane = Plane::start(snapshot.clone()).await;
        let compiled = Arc::clone(plane.tables.borrow().as_ref().unwrap());
        for _ in 0..30 {
            let host = ["a.example", "b.example", "x.b.example", "c.example", "other.test"][random.usize(..5)];
            let target = TARGETS[random.usize(..TARGETS.len())];
            let method = ["GET", "OPTIONS"][random.usize(..8) / 7];
            let fields = FIELDS[random.usize(..FIELDS.len())];
            let url = format!("http://{host}{target}");
            let client = Some("127.0.0.1".parse().unwrap());
            let question = Question::new(&url, method, fields.iter().copied(), client).unwrap();
            let told = explain(&compiled, &snapshot, &question);
            let lines: Vec<_> = fields.iter().map(|field| format!("{field}\r\n")).collect();
            let lines = lines.concat();
            let mut client = Client::connect(plane.http).await;
            client.send(format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n{lines}\r\n")).await;
            let answer = client.answer().await;
            let context = format!("seed {seed}: {method} {url} {fields:?}: {told:#?}");
            let Some(backend) = &told.backend else {
                assert_eq!(Some(answer.status), told.status, "{context}");
                assert_eq!(answer.field("location"), told.location.as_deref(), "{context}");
                refused += usize::from(answer.status >= 400);
                redirected += usize::from((300..400).contains(&answer.status));
                continue;
            };
            let name = backend.service.trim_start_matches("shop/").trim_end_matches(":80");
            assert_eq!((answer.status, answer.text()), (200, &*format!("{name} {}", backend.target)), "{context}");
            passed += 1;
        }
        plane.stop().await;
    }
    println!("{passed} passed, {refused} refused, {redirected} redirected");
    assert!(passed > 50 && refused > 50 && redirected > 10, "too few of a kind: {passed} {refused} {redirected}");
}

#[tokio::test]
async fn what_lost_is_told_with_its_reason() {
    let one = Upstream::named("one").await;
    let world = World::default()
        .service("one", &[one.addr])
        .route("whole", "a.example", "/", "one")
        .route("shop", "a.example", "/shop", "one")
        .route("again", "a.example", "/shop", "one")
        .route("wild", "*.example", "/shop", "one");
    let snapshot = world.snapshot();
    let plane = Plane::start(snapshot.clone()).await;
    let compiled = Arc::clone(plane.tables.borrow().as_ref().unwrap());
    let question = Question::new("https://a.example/shop/x", "GET", [], None).unwrap();
    let told = explain(&compiled, &snapshot, &question);
    assert_eq!(&*told.rule.unwrap().ingress.name, "shop");
    let lost: Vec<_> = told.lost.iter().map(|lost| (&*lost.ingress.name, lost.why.as_str())).collect();
    assert_eq!(lost[0], ("whole", "its path is shorter"));
    assert_eq!(lost[1].0, "wild");
    assert!(lost[2].0 == "again" && lost[2].1.contains("already routes"), "{lost:?}");
    assert_eq!(told.certificate.unwrap().secret, None);
    plane.stop().await;
}
