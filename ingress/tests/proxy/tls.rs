//! Certificates by name, and HTTP over TLS.

use crate::support::Plane;
use crate::support::client::{Client, shown, tls};
use crate::support::objects::World;
use crate::support::upstream::Upstream;

#[tokio::test]
async fn a_client_is_shown_the_certificate_of_the_name_it_asks_for() {
    let upstream = Upstream::start().await;
    let world = World::default().service("web", &[upstream.addr]);
    let (world, exact) = world.certificate("exact", "shop.example.com");
    let (world, wildcard) = world.certificate("wildcard", "*.example.com");
    let world = world.tls_route("one", "shop.example.com", "web", "exact");
    let plane = Plane::start(world.tls_route("two", "*.example.com", "web", "wildcard").snapshot()).await;
    let connect = |name: &'static str| tls(plane.https, name, b"http/1.1");
    assert!(shown(&connect("shop.example.com").await.unwrap()) == exact);
    assert!(shown(&connect("SHOP.example.com").await.unwrap()) == exact);
    assert!(shown(&connect("other.example.com").await.unwrap()) == wildcard);
    let default = shown(&connect("elsewhere.test").await.unwrap());
    assert!(default != exact && default != wildcard);
    assert!(shown(&connect("127.0.0.1").await.unwrap()) == default);
    plane.stop().await;
}

#[tokio::test]
async fn requests_over_tls_say_so_upstream() {
    let upstream = Upstream::start().await;
    let world = World::default().service("web", &[upstream.addr]);
    let (world, _) = world.certificate("cert", "shop.example.com");
    let plane = Plane::start(world.tls_route("web", "shop.example.com", "web", "cert").snapshot()).await;
    let mut client = Client::over(tls(plane.https, "shop.example.com", b"http/1.1").await.unwrap());
    for _ in 0..3 {
        assert_eq!(client.get("shop.example.com", "/x").await.text(), "upstream /x");
    }
    assert_eq!(client.get("shop.example.com", "/big").await.body.len(), 1 << 20);
    assert_eq!(upstream.seen()[0].field("x-forwarded-proto"), Some("https"));
    plane.stop().await;
}

#[tokio::test]
async fn what_is_not_tls_is_counted_and_closed() {
    let plane = Plane::start(World::default().snapshot()).await;
    let mut client = Client::connect(plane.https).await;
    client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let _ = client.rest().await;
    let failures = || plane.metric("ferrogate_ingress_tls_handshake_failures_total", "");
    crate::support::eventually("the failure is counted", || failures() > 0.5).await;
    plane.stop().await;
}
