//! Whose fault it is picks the status.

use std::time::Duration;

use ingress::io::Timeouts;

use crate::support::client::{Client, get};
use crate::support::objects::shop;
use crate::support::upstream::{Upstream, nobody};
use crate::support::{PATIENCE, Plane};

#[tokio::test]
async fn an_endpoint_that_fails_is_502() {
    let upstream = Upstream::start().await;
    let plane = Plane::start(shop(&[upstream.addr])).await;
    for path in ["/hang-up", "/garbage"] {
        let answer = get(plane.http, "shop.example.com", path).await;
        assert_eq!((answer.status, answer.field("connection")), (502, Some("close")), "{path}");
        assert!(!answer.body.is_empty());
    }
    plane.stop().await;
}

#[tokio::test]
async fn an_answer_that_breaks_off_does_not_look_complete() {
    let upstream = Upstream::start().await;
    let plane = Plane::start(shop(&[upstream.addr])).await;
    for (path, end) in [("/cut", "only this"), ("/cut-chunk", "4\r\nonly\r\n")] {
        let mut client = Client::connect(plane.http).await;
        client.send(format!("GET {path} HTTP/1.1\r\nHost: shop.example.com\r\n\r\n")).await;
        let answer = String::from_utf8(client.rest().await).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.ends_with(&format!("\r\n\r\n{end}")), "{answer:?}");
    }
    plane.stop().await;
}

#[tokio::test]
async fn an_endpoint_that_is_not_there_is_502() {
    let plane = Plane::start(shop(&[nobody()])).await;
    assert_eq!(get(plane.http, "shop.example.com", "/").await.status, 502);
    assert!(plane.metric("ferrogate_ingress_upstream_errors_total", "connect_refused") > 0.5);
    plane.stop().await;
}

#[tokio::test]
async fn an_endpoint_that_is_silent_is_504() {
    let upstream = Upstream::start().await;
    let timeouts = Timeouts { upstream: Duration::from_millis(200), ..Timeouts::default() };
    let plane = Plane::start_with(shop(&[upstream.addr]), timeouts, PATIENCE).await;
    assert_eq!(get(plane.http, "shop.example.com", "/silent").await.status, 504);
    plane.stop().await;
}

#[tokio::test]
async fn a_client_that_leaves_is_499_in_the_metrics() {
    let upstream = Upstream::start().await;
    let plane = Plane::start(shop(&[upstream.addr])).await;
    let mut client = Client::connect(plane.http).await;
    client.send("GET /held HTTP/1.1\r\nHost: shop.example.com\r\n\r\n").await;
    crate::support::eventually("the request arrives", || !upstream.seen().is_empty()).await;
    drop(client);
    let gone = || plane.metric("ferrogate_ingress_requests_total", r#"status="499""#);
    crate::support::eventually("the client is missed", || gone() > 0.5).await;
    plane.stop().await;
}

#[tokio::test]
async fn a_request_is_sent_again_when_an_old_connection_turns_out_closed() {
    let upstream = Upstream::start().await;
    let plane = Plane::start(shop(&[upstream.addr])).await;
    let mut client = Client::connect(plane.http).await;
    for _ in 0..50 {
        // The endpoint closes after this answer, while we may still hold the connection for the next request.
        assert_eq!(client.get("shop.example.com", "/x").await.status, 200);
        assert_eq!(get(plane.http, "shop.example.com", "/until-close").await.status, 200);
    }
    plane.stop().await;
}
