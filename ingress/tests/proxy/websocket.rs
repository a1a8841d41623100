//! Upgraded connections pass bytes, and only those that were asked for.

use crate::support::Plane;
use crate::support::client::{Client, get};
use crate::support::objects::shop;
use crate::support::upstream::Upstream;

const HANDSHAKE: &str = "GET /ws HTTP/1.1\r\nHost: shop.example.com\r\nConnection: keep-alive, Upgrade\r\n\
                         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

#[tokio::test]
async fn a_websocket_echoes_in_both_directions() {
    let upstream = Upstream::start().await;
    let plane = Plane::start(shop(&[upstream.addr])).await;
    let mut client = Client::connect(plane.http).await;
    client.send(HANDSHAKE).await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.field("upgrade")), (101, Some("websocket")));
    for size in [1, 100, 100_000] {
        let message = vec![b'm'; size];
        client.send(&message).await;
        assert!(client.exactly(size).await.unwrap() == message, "{size}");
    }
    drop(client);
    plane.stop().await;
}

#[tokio::test]
async fn a_message_sent_with_the_handshake_is_not_lost() {
    let upstream = Upstream::start().await;
    let plane = Plane::start(shop(&[upstream.addr])).await;
    let mut client = Client::connect(plane.http).await;
    client.send(format!("{HANDSHAKE}early")).await;
    assert_eq!(client.answer().await.status, 101);
    assert_eq!(client.exactly(5).await.unwrap(), b"early");
    drop(client);
    plane.stop().await;
}

#[tokio::test]
async fn an_upgrade_that_nobody_asked_for_is_a_fault_of_the_endpoint() {
    let upstream = Upstream::start().await;
    let plane = Plane::start(shop(&[upstream.addr])).await;
    assert_eq!(get(plane.http, "shop.example.com", "/unasked").await.status, 502);
    plane.stop().await;
}

#[tokio::test]
async fn a_wish_for_h2c_is_not_forwarded() {
    let upstream = Upstream::start().await;
    let plane = Plane::start(shop(&[upstream.addr])).await;
    let mut client = Client::connect(plane.http).await;
    client
        .send(
            "GET /x HTTP/1.1\r\nHost: shop.example.com\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
             HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
        )
        .await;
    assert_eq!(client.answer().await.status, 200);
    let seen = &upstream.seen()[0];
    assert_eq!((seen.field("upgrade"), seen.field("http2-settings")), (None, None), "{}", seen.head);
    plane.stop().await;
}
