//! A new table takes effect at once and disturbs nobody.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::support::client::{Client, get, shown, tls};
use crate::support::objects::World;
use crate::support::upstream::Upstream;
use crate::support::{Plane, eventually};

#[tokio::test]
async fn swapping_tables_under_load_fails_no_request() {
    let (one, two) = (Upstream::named("one").await, Upstream::named("two").await);
    let to = |upstream: &Upstream| {
        World::default().service("web", &[upstream.addr]).route("web", "shop.example.com", "/", "web").snapshot()
    };
    let mut plane = Plane::start(to(&one)).await;
    let (stop, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let (stop, served, addr) = (Arc::clone(&stop), Arc::clone(&served), plane.http);
            tokio::spawn(async move {
                let mut client = Client::connect(addr).await;
                while !stop.load(Ordering::Relaxed) {
                    assert_eq!(client.get("shop.example.com", "/x").await.status, 200);
                    served.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for turn in 0..20 {
        plane.swap(to(if turn % 2 == 0 { &two } else { &one })).await;
        let before = served.load(Ordering::Relaxed);
        eventually("requests go on", || served.load(Ordering::Relaxed) > before + 20).await;
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    assert!(!one.seen().is_empty() && !two.seen().is_empty());
    plane.stop().await;
}

#[tokio::test]
async fn the_next_request_on_an_open_connection_follows_the_new_table() {
    let (one, two) = (Upstream::named("one").await, Upstream::named("two").await);
    let world = World::default().service("one", &[one.addr]).service("two", &[two.addr]);
    let mut plane = Plane::start(world.clone().route("web", "shop.example.com", "/", "one").snapshot()).await;
    let mut client = Client::connect(plane.http).await;
    assert_eq!(client.get("shop.example.com", "/").await.text(), "one /");
    plane.swap(world.clone().route("web", "shop.example.com", "/", "two").snapshot()).await;
    assert_eq!(client.get("shop.example.com", "/").await.text(), "two /");
    plane.swap(world.snapshot()).await;
    assert_eq!(client.get("shop.example.com", "/").await.status, 404);
    let gone = || plane.metric("ferrogate_ingress_requests_total", r#"ingress="web""#) < 0.5;
    eventually("the series of the Ingress is gone", gone).await;
    plane.stop().await;
}

#[tokio::test]
async fn a_rotated_certificate_is_shown_to_the_next_client() {
    let upstream = Upstream::start().await;
    let world = World::default().service("web", &[upstream.addr]);
    let world = world.tls_route("web", "shop.example.com", "web", "cert");
    let (old, old_der) = world.clone().certificate("cert", "shop.example.com");
    let (new, new_der) = world.certificate("cert", "shop.example.com");
    let mut plane = Plane::start(old.snapshot()).await;
    let mut client = tls(plane.https, "shop.example.com", b"http/1.1").await.unwrap();
    assert!(shown(&client) == old_der);
    plane.swap(new.snapshot()).await;
    assert!(shown(&tls(plane.https, "shop.example.com", b"http/1.1").await.unwrap()) == new_der);
    // Who is connected stays so.
    assert_eq!(Client::over(&mut client).get("shop.example.com", "/").await.status, 200);
    assert_eq!(get(plane.http, "shop.example.com", "/").await.status, 200);
    plane.stop().await;
}
