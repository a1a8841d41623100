//! Requests reach the endpoint that their host and path name.

use crate::support::Plane;
use crate::support::client::{Client, get};
use crate::support::objects::{World, shop};
use crate::support::upstream::{Upstream, nobody};

#[tokio::test]
async fn one_connection_serves_several_hosts() {
    let (one, two) = (Upstream::named("one").await, Upstream::named("two").await);
    let world = World::default().service("one", &[one.addr]).service("two", &[two.addr]);
    let world = world.route("one", "one.example.com", "/", "one").route("two", "two.example.com", "/", "two");
    let plane = Plane::start(world.snapshot()).await;
    let mut client = Client::connect(plane.http).await;
    for (host, name) in [("one.example.com", "one"), ("TWO.example.com:80", "two"), ("one.example.com.", "one")] {
        for path in ["/a", "/b?c=d"] {
            let answer = client.get(host, path).await;
            assert_eq!((answer.status, answer.text()), (200, &*format!("{name} {path}")), "{host}");
            assert_eq!(answer.field("connection"), Some("keep-alive"));
        }
    }
    plane.stop().await;
}

#[tokio::test]
async fn the_endpoint_is_told_who_asks_and_how() {
    let upstream = Upstream::start().await;
    let plane = Plane::start(shop(&[upstream.addr])).await;
    let mut client = Client::connect(plane.http).await;
    client
        .send(
            "GET /x HTTP/1.1\r\nHost: shop.example.com\r\nX-Forwarded-For: 6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\n\
             Connection: X-Private\r\nX-Private: 1\r\nX-Kept: 2\r\nProxy: 3\r\n\r\n",
        )
        .await;
    assert_eq!(client.answer().await.status, 200);
    let seen = &upstream.seen()[0];
    for (field, value) in [
        ("host", Some("shop.example.com")),
        ("x-forwarded-for", Some("127.0.0.1")),
        ("x-real-ip", Some("127.0.0.1")),
        ("x-forwarded-proto", Some("http")),
        ("x-forwarded-host", Some("shop.example.com")),
        ("x-private", None),
        ("x-kept", Some("2")),
        ("proxy", None),
    ] {
        assert_eq!(seen.field(field), value, "{field} in {}", seen.head);
    }
    assert_eq!(seen.field("x-forwarded-port"), Some(&*plane.http.port().to_string()));
    assert_eq!(seen.field("x-request-id").map(str::len), Some(32));
    plane.stop().await;
}

#[tokio::test]
async fn an_unknown_host_or_path_is_404_and_the_connection_lives_on() {
    let upstream = Upstream::start().await;
    let world = World::default().service("web", &[upstream.addr]).route("web", "shop.example.com", "/shop", "web");
    let plane = Plane::start(world.snapshot()).await;
    let mut client = Client::connect(plane.http).await;
    assert_eq!(client.get("other.example.com", "/shop").await.status, 404);
    assert_eq!(client.get("shop.example.com", "/shopping").await.status, 404);
    assert_eq!(client.get("shop.example.com", "/shop/a").await.status, 200);
    assert_eq!(upstream.seen().len(), 1);
    plane.stop().await;
}

#[tokio::test]
async fn a_route_without_endpoints_is_503() {
    let plane = Plane::start(shop(&[])).await;
    assert_eq!(get(plane.http, "shop.example.com", "/").await.status, 503);
    plane.stop().await;
}

#[tokio::test]
async fn dot_segments_are_resolved_before_they_are_matched_and_sent() {
    let upstream = Upstream::start().await;
    let world = World::default().service("web", &[upstream.addr]).route("web", "shop.example.com", "/shop", "web");
    let plane = Plane::start(world.snapshot()).await;
    let mut client = Client::connect(plane.http).await;
    assert_eq!(client.get("shop.example.com", "/shop/../admin").await.status, 404);
    assert_eq!(client.get("shop.example.com", "/admin/%2e%2e/shop//x?q=../y").await.text(), "upstream /shop/x?q=../y");
    assert_eq!(client.get("shop.example.com", "/shop/a%20b").await.text(), "upstream /shop/a%20b");
    plane.stop().await;
}

#[tokio::test]
async fn an_absolute_target_is_sent_in_origin_form() {
    let upstream = Upstream::start().await;
    let plane = Plane::start(shop(&[upstream.addr])).await;
    let mut client = Client::connect(plane.http).await;
    client.send("GET http://shop.example.com/a?b HTTP/1.1\r\nHost: shop.example.com\r\n\r\n").await;
    assert_eq!(client.answer().await.text(), "upstream /a?b");
    assert_eq!(upstream.seen()[0].field("host"), Some("shop.example.com"));
    plane.stop().await;
}

#[tokio::test]
async fn an_endpoint_that_is_not_there_is_passed_over() {
    let upstream = Upstream::start().await;
    let plane = Plane::start(shop(&[nobody(), nobody(), upstream.addr])).await;
    for _ in 0..20 {
        let mut client = Client::connect(plane.http).await;
        client.send("POST /x HTTP/1.1\r\nHost: shop.example.com\r\nContent-Length: 2\r\n\r\nhi").await;
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.text()), (200, "hi"));
    }
    assert!(plane.metric("ferrogate_ingress_retries_total", "") >= 1.0);
    plane.stop().await;
}

#[tokio::test]
async fn requests_are_counted_by_ingress() {
    let upstream = Upstream::start().await;
    let plane = Plane::start(shop(&[upstream.addr])).await;
    for _ in 0..3 {
        get(plane.http, "shop.example.com", "/").await;
    }
    let count = || plane.metric("ferrogate_ingress_requests_total", r#"ingress="web",method="GET""#);
    crate::support::eventually("three requests are counted", || (count() - 3.0).abs() < 0.5).await;
    plane.stop().await;
}
