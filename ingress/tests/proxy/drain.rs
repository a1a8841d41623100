//! Shutdown finishes what was begun and nothing else.

use std::time::Duration;

use ingress::io::Timeouts;
use tokio::time::{Instant, timeout};

use crate::support::client::Client;
use crate::support::objects::shop;
use crate::support::upstream::Upstream;
use crate::support::{PATIENCE, Plane, eventually};

#[tokio::test]
async fn a_request_under_way_is_finished_and_the_connection_closed() {
    let upstream = Upstream::start().await;
    let plane = Plane::start(shop(&[upstream.addr])).await;
    let mut client = Client::connect(plane.http).await;
    client.send("GET /held HTTP/1.1\r\nHost: shop.example.com\r\n\r\n").await;
    eventually("the request arrives", || !upstream.seen().is_empty()).await;
    let (http, release) = (plane.http, upstream.release.clone());
    let stop = tokio::spawn(plane.stop());
    // The listener is gone while the request goes on.
    let refused = async { while tokio::net::TcpStream::connect(http).await.is_ok() {} };
    timeout(PATIENCE, refused).await.unwrap();
    assert!(!stop.is_finished());
    release.notify_one();
    let answer = client.answer().await;
    assert_eq!((answer.text(), answer.field("connection")), ("released", Some("close")));
    assert_eq!(client.rest().await, b"");
    stop.await.unwrap();
}

#[tokio::test]
async fn an_idle_connection_ends_promptly() {
    let upstream = Upstream::start().await;
    let plane = Plane::start(shop(&[upstream.addr])).await;
    let mut client = Client::connect(plane.http).await;
    assert_eq!(client.get("shop.example.com", "/").await.status, 200);
    let started = Instant::now();
    plane.stop().await;
    assert_eq!(client.rest().await, b"");
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_connection_that_was_queued_is_served() {
    let upstream = Upstream::start().await;
    let plane = Plane::start(shop(&[upstream.addr])).await;
    let mut clients = Vec::new();
    for _ in 0..50 {
        clients.push(Client::connect(plane.http).await);
    }
    let stop = tokio::spawn(plane.stop());
    for client in &mut clients {
        client.send("GET /x HTTP/1.1\r\nHost: shop.example.com\r\n\r\n").await;
    }
    for client in &mut clients {
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.field("connection")), (200, Some("close")));
    }
    stop.await.unwrap();
}

#[tokio::test]
async fn a_request_that_does_not_end_is_ended_by_the_limit() {
    let upstream = Upstream::start().await;
    let limit = Duration::from_millis(300);
    let plane = Plane::start_with(shop(&[upstream.addr]), Timeouts::default(), limit).await;
    let mut client = Client::connect(plane.http).await;
    client.send("GET /silent HTTP/1.1\r\nHost: shop.example.com\r\n\r\n").await;
    eventually("the request arrives", || !upstream.seen().is_empty()).await;
    let started = Instant::now();
    plane.stop().await;
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
}

/// Asks again and again, on one connection or on a new one each time, until told to close or refused; how often it
/// was answered.
async fn ask_until_closed(addr: std::net::SocketAddr, reuse: bool) -> usize {
    let mut answered = 0;
    let mut client = None;
    loop {
        let mut current = match client.take().filter(|_| reuse) {
            Some(current) => current,
            None => match tokio::net::TcpStream::connect(addr).await {
                Ok(stream) => Client::over(stream),
                Err(_) => return answered,
            },
        };
        let answer = current.get("shop.example.com", "/x").await;
        assert_eq!(answer.status, 200);
        answered += 1;
        if reuse && answer.field("connection") == Some("close") {
            return answered;
        }
        client = Some(current);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_is_lost_to_a_drain_under_load() {
    let upstream = Upstream::start().await;
    let plane = Plane::start(shop(&[upstream.addr])).await;
    let addr = plane.http;
    let clients: Vec<_> = (0..16).map(|number| tokio::spawn(ask_until_closed(addr, number % 2 == 0))).collect();
    eventually("all are busy", || upstream.seen().len() > 500).await;
    plane.stop().await;
    for client in clients {
        assert!(client.await.unwrap() > 0);
    }
}
