//! What endpoints speak: TLS, HTTP/2, gRPC, WebSocket over TLS.

use bytes::Bytes;
use http::Request;
use serde_json::json;
use tokio::time::timeout;

use crate::support::client::{Client, get, tls};
use crate::support::objects::World;
use crate::support::relay::{Grpc, Pair, Relay, Shake};
use crate::support::upstream::Upstream;
use crate::support::{PATIENCE, Plane};

const HOST: &str = "shop.example.com";

/// One host, these endpoints, these annotations of ingress-nginx, and a Secret `trust` with these parts.
fn world(addrs: &[std::net::SocketAddr], annotations: &[(&str, &str)], trust: &[(&str, &str)]) -> World {
    let world = World::default().service("web", addrs).ours("web", HOST, "/", "web", annotations);
    if trust.is_empty() { world } else { world.secret("trust", trust) }
}

#[tokio::test]
async fn endpoints_that_speak_tls_are_checked_as_far_as_is_asked() {
    const HTTPS: (&str, &str) = ("backend-protocol", "HTTPS");
    const SECRET: (&str, &str) = ("proxy-ssl-secret", "trust");
    const VERIFY: (&str, &str) = ("proxy-ssl-verify", "on");
    const NAME: (&str, &str) = ("proxy-ssl-name", "web.internal");
    let (right, wrong) = (Pair::new("web.internal"), Pair::new("web.internal"));
    let ours = Pair::new("web.shop.svc");
    let web = Upstream::start().await;
    let ca = |pair: &Pair| vec![("ca.crt", pair.certificate.clone())];
    for (pair, annotations, trust, status, name) in [
        (&right, &[HTTPS][..], vec![], 200, None),
        (&right, &[HTTPS, NAME], vec![], 200, None),
        (&right, &[HTTPS, NAME, ("proxy-ssl-server-name", "on")], vec![], 200, Some("web.internal")),
        (&right, &[HTTPS, SECRET, VERIFY, NAME], ca(&right), 200, Some("web.internal")),
        (&ours, &[HTTPS, SECRET, VERIFY], ca(&ours), 200, Some("web.shop.svc")),
        (&right, &[HTTPS, SECRET, VERIFY, NAME], ca(&wrong), 502, None),
        (&right, &[HTTPS, SECRET, VERIFY, ("proxy-ssl-name", "other.internal")], ca(&right), 502, None),
        // What cannot be checked though it is to be is not asked at all.
        (&right, &[HTTPS, SECRET, VERIFY, NAME], vec![], 503, None),
        (&right, &[HTTPS, VERIFY, NAME], vec![], 503, None),
        (&right, &[HTTPS, SECRET, VERIFY, NAME], vec![("ca.crt", "nonsense".to_owned())], 503, None),
        (&right, &[HTTPS, ("proxy-ssl-secret", "bank/trust"), VERIFY, NAME], ca(&right), 503, None),
        (&right, &[("backend-protocol", "HTTP")], vec![], 502, None),
    ] {
        let relay = Relay::start(web.addr, pair, None).await;
        let trust: Vec<_> = trust.iter().map(|(key, text)| (*key, text.as_str())).collect();
        let plane = Plane::start(world(&[relay.addr], annotations, &trust).snapshot()).await;
        assert_eq!(get(plane.http, HOST, "/x").await.status, status, "{annotations:?}");
        if status == 200 {
            let expected = Shake { server_name: name.map(str::to_owned), has_certificate: false };
            assert_eq!(relay.shakes(), [expected], "{annotations:?}");
        } else {
            assert_eq!(relay.shakes(), [], "{annotations:?}");
        }
        plane.stop().await;
    }
}

#[tokio::test]
async fn endpoints_that_ask_who_we_are_are_shown_the_certificate_of_the_secret() {
    let (server, client) = (Pair::new("web.internal"), Pair::new("gateway"));
    let web = Upstream::start().await;
    let relay = Relay::start(web.addr, &server, Some(&client)).await;
    let shown = [("tls.crt", client.certificate.as_str()), ("tls.key", client.key.as_str())];
    for (annotations, status) in [
        (&[("backend-protocol", "HTTPS"), ("proxy-ssl-secret", "trust")][..], 200),
        (&[("backend-protocol", "HTTPS")], 502),
    ] {
        let plane = Plane::start(world(&[relay.addr], annotations, &shown).snapshot()).await;
        assert_eq!(get(plane.http, HOST, "/x").await.status, status, "{annotations:?}");
        plane.stop().await;
    }
    assert!(relay.shakes().iter().any(|shake| shake.has_certificate));
}

#[tokio::test]
async fn a_connection_that_was_trusted_is_not_used_once_that_trust_is_gone() {
    let (right, wrong) = (Pair::new("web.internal"), Pair::new("web.internal"));
    let web = Upstream::start().await;
    let relay = Relay::start(web.addr, &right, None).await;
    let annotations = [
        ("backend-protocol", "HTTPS"),
        ("proxy-ssl-secret", "trust"),
        ("proxy-ssl-verify", "on"),
        ("proxy-ssl-name", "web.internal"),
    ];
    let trusting = |pair: &Pair| world(&[relay.addr], &annotations, &[("ca.crt", &pair.certificate)]).snapshot();
    let mut plane = Plane::start(trusting(&right)).await;
    let mut client = Client::connect(plane.http).await;
    for _ in 0..3 {
        assert_eq!(client.get(HOST, "/x").await.status, 200);
    }
    assert_eq!(relay.shakes().len(), 1, "one connection serves them all");
    plane.swap(trusting(&wrong)).await;
    assert_eq!(get(plane.http, HOST, "/x").await.status, 502);
    plane.swap(trusting(&right)).await;
    assert_eq!(get(plane.http, HOST, "/x").await.status, 200);
    plane.stop().await;
}

#[tokio::test]
async fn a_websocket_reaches_an_endpoint_over_tls() {
    let web = Upstream::start().await;
    let relay = Relay::start(web.addr, &Pair::new("web.internal"), None).await;
    let plane = Plane::start(world(&[relay.addr], &[("backend-protocol", "HTTPS")], &[]).snapshot()).await;
    let mut client = Client::connect(plane.http).await;
    client
        .send(format!(
            "GET /ws HTTP/1.1\r\nHost: {HOST}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        ))
        .await;
    assert_eq!(client.answer().await.status, 101);
    for size in [1, 100_000] {
        let message = vec![b'm'; size];
        client.send(&message).await;
        assert!(client.exactly(size).await.unwrap() == message, "{size}");
    }
    drop(client);
    plane.stop().await;
}

#[tokio::test]
async fn a_grpc_call_passes_with_its_trailers() {
    let pair = Pair::new("web.internal");
    for (protocol, server) in [("GRPC", Grpc::start(None).await), ("GRPCS", Grpc::start(Some(&pair)).await)] {
        let (world, _) = World::default().service("web", &[server.addr]).certificate("cert", HOST);
        let tls_section = json!([{ "hosts": [HOST], "secretName": "cert" }]);
        let annotations = [("backend-protocol", protocol)];
        let world = world.annotated_tls("web", HOST, &["/"], "web", &annotations, &tls_section);
        let plane = Plane::start(world.snapshot()).await;
        let stream = tls(plane.https, HOST, b"h2").await.unwrap();
        let (sender, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        for (path, message, expected) in [
            ("/echo.Echo/Say", vec![b'g'; 10], "0"),
            ("/echo.Echo/Say", vec![b'g'; 300_000], "0"),
            ("/refused", vec![], "16"),
        ] {
            let call = async {
                let mut sender = sender.clone().ready().await?;
                let request = Request::post(format!("https://{HOST}{path}"));
                let request =
                    request.header("content-type", "application/grpc").header("te", "trailers").body(()).unwrap();
                let (answer, mut out) = sender.send_request(request, false)?;
                out.send_data(Bytes::from(message.clone()), true)?;
                let (head, mut body) = answer.await?.into_parts();
                let mut echoed = Vec::new();
                while let Some(piece) = body.data().await {
                    let piece = piece?;
                    body.flow_control().release_capacity(piece.len())?;
                    echoed.extend_from_slice(&piece);
                }
                let trailers = body.trailers().await?.unwrap_or_default();
                Ok::<_, h2::Error>((head, echoed, trailers))
            };
            let (head, echoed, trailers) = timeout(PATIENCE, call).await.expect("no answer in time").unwrap();
            assert_eq!(head.status.as_u16(), 200, "{protocol}{path}");
            let status = trailers.get("grpc-status").or(head.headers.get("grpc-status"));
            assert_eq!(status.unwrap(), expected, "{protocol}{path}");
            assert!(expected != "0" || echoed == message, "{protocol}{path}");
        }
        let seen = server.seen();
        assert_eq!(seen.len(), 3);
        for head in &seen {
            assert_eq!(head.headers.get("te").unwrap(), "trailers");
            assert_eq!(head.uri.authority().unwrap(), HOST);
            assert_eq!(head.headers.get("x-forwarded-proto").unwrap(), "https");
        }
        drop(sender);
        plane.stop().await;
    }
}

#[tokio::test]
async fn a_client_of_http_1_reaches_endpoints_of_http_2() {
    let server = Grpc::start(None).await;
    let plane = Plane::start(world(&[server.addr], &[("backend-protocol", "GRPC")], &[]).snapshot()).await;
    let mut client = Client::connect(plane.http).await;
    client.send(format!("POST /x HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 5\r\n\r\nhello")).await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.text()), (200, "hello"));
    plane.stop().await;
}
