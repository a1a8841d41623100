//! Bodies arrive as they were sent, whatever frames them.

use crate::support::Plane;
use crate::support::client::{Client, get};
use crate::support::objects::shop;
use crate::support::upstream::Upstream;

const HEAD: &str = " HTTP/1.1\r\nHost: shop.example.com\r\n";

#[tokio::test]
async fn a_body_of_known_length_arrives() {
    let upstream = Upstream::start().await;
    let plane = Plane::start(shop(&[upstream.addr])).await;
    let mut client = Client::connect(plane.http).await;
    let body: Vec<u8> = (0..=250).cycle().take(1 << 20).collect();
    for _ in 0..2 {
        client.send(format!("POST /echo{HEAD}Content-Length: {}\r\n\r\n", body.len())).await;
        client.send(&body).await;
        assert!(client.answer().await.body == body);
    }
    assert_eq!(upstream.seen()[1].field("content-length"), Some("1048576"));
    plane.stop().await;
}

#[tokio::test]
async fn a_chunked_body_arrives_however_it_is_cut() {
    let upstream = Upstream::start().await;
    let plane = Plane::start(shop(&[upstream.addr])).await;
    let mut client = Client::connect(plane.http).await;
    let body = "5;ext=\"1\"\r\nhello\r\n7\r\n, world\r\n0\r\nX-Trailer: 1\r\n\r\n";
    for size in [1, 3, 7, body.len()] {
        client.send(format!("POST /echo{HEAD}Transfer-Encoding: chunked\r\n\r\n")).await;
        for piece in body.as_bytes().chunks(size) {
            client.send(piece).await;
            tokio::task::yield_now().await;
        }
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.text()), (200, "hello, world"), "{size}");
    }
    assert_eq!(upstream.seen().len(), 4);
    plane.stop().await;
}

#[tokio::test]
async fn answers_come_back_in_every_framing() {
    let upstream = Upstream::start().await;
    let plane = Plane::start(shop(&[upstream.addr])).await;
    let mut client = Client::connect(plane.http).await;
    assert_eq!(client.get("shop.example.com", "/chunked").await.text(), "hello, world");
    assert_eq!(client.get("shop.example.com", "/big").await.body.len(), 1 << 20);
    assert_eq!(client.get("shop.example.com", "/until-close").await.text(), "until the end");
    assert_eq!(get(plane.http, "shop.example.com", "/plain").await.text(), "upstream /plain");
    plane.stop().await;
}

#[tokio::test]
async fn the_answer_to_head_has_no_body() {
    let upstream = Upstream::start().await;
    let plane = Plane::start(shop(&[upstream.addr])).await;
    let mut client = Client::connect(plane.http).await;
    for (host, status) in [("shop.example.com", 200), ("nobody.example.com", 404), ("shop.example.com", 200)] {
        client.send(format!("HEAD /x HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        let answer = client.answer_to_head().await;
        assert_eq!(answer.status, status);
        assert_ne!(answer.field("content-length"), Some("0"));
    }
    plane.stop().await;
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let upstream = Upstream::start().await;
    let plane = Plane::start(shop(&[upstream.addr])).await;
    let mut client = Client::connect(plane.http).await;
    let all = format!(
        "GET /1{HEAD}\r\nPOST /2{HEAD}Content-Length: 3\r\n\r\ntwoPOST /3{HEAD}Transfer-Encoding: chunked\r\n\r\n\
         5\r\nthree\r\n0\r\n\r\nGET /4{HEAD}\r\n"
    );
    client.send(all).await;
    for expected in ["upstream /1", "two", "three", "upstream /4"] {
        assert_eq!(client.answer().await.text(), expected);
    }
    plane.stop().await;
}

#[tokio::test]
async fn an_expected_continue_comes_from_the_endpoint_or_not_at_all() {
    let upstream = Upstream::start().await;
    let plane = Plane::start(shop(&[upstream.addr])).await;
    let mut client = Client::connect(plane.http).await;
    // The endpoint here reads on without a word, which RFC 9110 §10.1.1 allows; clients send after a while.
    client.send(format!("POST /echo{HEAD}Content-Length: 2\r\nExpect: 100-continue\r\n\r\n")).await;
    client.send("hi").await;
    assert_eq!(client.answer().await.text(), "hi");
    plane.stop().await;
}

#[tokio::test]
async fn what_is_between_us_and_the_endpoint_stays_there() {
    let upstream = Upstream::start().await;
    let plane = Plane::start(shop(&[upstream.addr])).await;
    let answer = get(plane.http, "shop.example.com", "/hop").await;
    for field in ["x-internal", "proxy-connection", "server"] {
        assert_eq!(answer.field(field), None, "{}", answer.head);
    }
    assert_eq!(answer.text(), "ok");
    plane.stop().await;
}

#[tokio::test]
async fn http_1_0_is_answered_and_closed() {
    let upstream = Upstream::start().await;
    let plane = Plane::start(shop(&[upstream.addr])).await;
    let mut client = Client::connect(plane.http).await;
    client.send("GET /x HTTP/1.0\r\nHost: shop.example.com\r\n\r\n").await;
    assert_eq!(client.answer().await.text(), "upstream /x");
    assert!(client.rest().await.is_empty());
    plane.stop().await;
}
