//! Whatever two readers could understand differently is refused, and no endpoint hears of it.

use std::time::Duration;

use ingress::io::Timeouts;

use crate::support::client::Client;
use crate::support::objects::shop;
use crate::support::upstream::Upstream;
use crate::support::{PATIENCE, Plane, eventually};

#[tokio::test]
async fn smuggling_is_refused_and_the_connection_closed() {
    let upstream = Upstream::start().await;
    let plane = Plane::start(shop(&[upstream.addr])).await;
    let follow = "GET /smuggled HTTP/1.1\r\nHost: shop.example.com\r\n\r\n";
    let host = "Host: shop.example.com\r\n";
    for request in [
        format!("POST / HTTP/1.1\r\n{host}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        format!("POST / HTTP/1.1\r\n{host}Content-Length: 6\r\nContent-Length: 6\r\n\r\nabcdef"),
        format!("POST / HTTP/1.1\r\n{host}Content-Length: +6\r\n\r\nabcdef"),
        format!("POST / HTTP/1.1\r\n{host}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
        format!("POST / HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n"),
        format!("POST / HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\n\r\n\r\n"),
        format!("POST / HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\n\r\n5\r\nhelloXX\r\n0\r\n\r\n"),
        format!("POST / HTTP/1.0\r\n{host}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        format!("GET / HTTP/1.1\n{host}\r\n"),
        format!("GET / HTTP/1.1\r\n{host}{host}\r\n"),
        "GET / HTTP/1.1\r\n\r\n".to_owned(),
        format!("GET / HTTP/1.1\r\n{host}A: b\r\n c\r\n\r\n"),
        format!("GET / HTTP/1.1\r\n{host}A : b\r\n\r\n"),
        format!("GET /a b HTTP/1.1\r\n{host}\r\n"),
        format!("GET e/x HTTP/1.1\r\n{host}\r\n"),
    ] {
        let mut client = Client::connect(plane.http).await;
        client.send(format!("{request}{follow}")).await;
        let answer = client.answer().await;
        assert!(matches!(answer.status, 400 | 501), "{request:?} was answered with {}", answer.head);
        assert_eq!(answer.field("connection"), Some("close"), "{request:?}");
        assert_eq!(client.rest().await, b"", "{request:?}");
    }
    assert!(upstream.seen().is_empty(), "{:?}", upstream.seen());
    plane.stop().await;
}

#[tokio::test]
async fn one_empty_line_before_a_request_is_let_pass() {
    let upstream = Upstream::start().await;
    let plane = Plane::start(shop(&[upstream.addr])).await;
    let mut client = Client::connect(plane.http).await;
    let get = "GET / HTTP/1.1\r\nHost: shop.example.com\r\n\r\n";
    for pieces in [vec!["\r\n", get], vec!["\r", "\n", get], vec![get, "\r\n"], vec![get]] {
        for piece in pieces {
            client.send(piece).await;
        }
        assert_eq!(client.answer().await.status, 200);
    }
    client.send(format!("\r\n\r\n{get}")).await;
    assert_eq!(client.answer().await.status, 400);
    assert_eq!(client.rest().await, b"");
    plane.stop().await;
}

#[tokio::test]
async fn a_bad_chunk_in_the_middle_ends_the_request() {
    let upstream = Upstream::start().await;
    let plane = Plane::start(shop(&[upstream.addr])).await;
    let mut client = Client::connect(plane.http).await;
    client.send("POST / HTTP/1.1\r\nHost: shop.example.com\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n").await;
    eventually("the endpoint is reached", || upstream.accepted() > 0).await;
    client.send("5\nworld\r\n0\r\n\r\n").await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.field("connection")), (400, Some("close")));
    assert_eq!(client.rest().await, b"");
    assert!(upstream.seen().is_empty(), "the endpoint took half a body for a whole one");
    plane.stop().await;
}

#[tokio::test]
async fn every_request_on_a_connection_passes_the_gate() {
    let upstream = Upstream::start().await;
    let plane = Plane::start(shop(&[upstream.addr])).await;
    let mut client = Client::connect(plane.http).await;
    assert_eq!(client.get("shop.example.com", "/1").await.status, 200);
    client.send("GET /2 HTTP/1.1\r\nHost: shop.example.com\r\nHost: evil.example.com\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 400);
    assert_eq!(client.rest().await, b"");
    assert_eq!(upstream.seen().len(), 1);
    assert!((plane.metric("ferrogate_ingress_refused_requests_total", "host_twice") - 1.0).abs() < 0.5);
    plane.stop().await;
}

#[tokio::test]
async fn bytes_after_a_request_are_not_its_body() {
    let upstream = Upstream::start().await;
    let plane = Plane::start(shop(&[upstream.addr])).await;
    let mut client = Client::connect(plane.http).await;
    client.send("GET /1 HTTP/1.1\r\nHost: shop.example.com\r\n\r\n\0\0garbage\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 200);
    assert_eq!(client.answer().await.status, 400);
    assert_eq!(client.rest().await, b"");
    assert_eq!(upstream.seen().len(), 1);
    plane.stop().await;
}

fn impatient() -> Timeouts {
    let short = Duration::from_millis(200);
    Timeouts { head: short, idle: short, handshake: short, body: short, body_window: short, ..Timeouts::default() }
}

#[tokio::test]
async fn a_head_that_trickles_in_is_cut_off_at_its_deadline() {
    let upstream = Upstream::start().await;
    let plane = Plane::start_with(shop(&[upstream.addr]), impatient(), PATIENCE).await;
    let mut client = Client::connect(plane.http).await;
    let started = tokio::time::Instant::now();
    let trickle = async {
        for byte in "GET / HTTP/1.1\r\nHost: shop.example.com\r\nX: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa".bytes() {
            if tokio::io::AsyncWriteExt::write_all(&mut client.stream, &[byte]).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    trickle.await;
    let end = String::from_utf8(client.rest().await).unwrap();
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
    assert!(end.is_empty() || end.starts_with("HTTP/1.1 408"), "{end}");
    assert!(upstream.seen().is_empty());
    plane.stop().await;
}

#[tokio::test]
async fn who_says_nothing_is_let_go() {
    let plane = Plane::start_with(shop(&[]), impatient(), PATIENCE).await;
    assert_eq!(Client::connect(plane.http).await.rest().await, b"");
    assert_eq!(Client::connect(plane.https).await.rest().await, b"");
    plane.stop().await;
}

#[tokio::test]
async fn a_body_that_trickles_in_is_cut_off() {
    let upstream = Upstream::start().await;
    let plane = Plane::start_with(shop(&[upstream.addr]), impatient(), PATIENCE).await;
    let mut client = Client::connect(plane.http).await;
    client.send("POST / HTTP/1.1\r\nHost: shop.example.com\r\nContent-Length: 1000\r\n\r\n").await;
    for _ in 0..60 {
        if tokio::io::AsyncWriteExt::write_all(&mut client.stream, b"x").await.is_err() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let end = String::from_utf8(client.rest().await).unwrap();
    assert!(end.is_empty() || end.starts_with("HTTP/1.1 408"), "{end}");
    assert!(upstream.seen().is_empty());
    plane.stop().await;
}
