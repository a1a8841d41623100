//! What a CA is answered while an order runs.

use std::sync::Arc;

use config::challenge::{ALPN, AlpnCertificate, Challenges};
use rcgen::{CertificateParams, CustomExtension, KeyPair};

use crate::support::Plane;
use crate::support::client::{Client, shown, tls};
use crate::support::objects::World;
use crate::support::upstream::Upstream;

const PATH: &str = "/.well-known/acme-challenge/tok-en_1";

fn http() -> Arc<Challenges> {
    let http = [("tok-en_1".into(), "tok-en_1.thumb".into())].into();
    Arc::new(Challenges { http, ..Challenges::default() })
}

#[tokio::test]
async fn a_challenge_is_answered_on_every_listener_and_for_any_host() {
    let plane = Plane::start(World::default().snapshot()).await;
    plane.challenges.send_replace(http());
    for host in ["shop.example.com", "SHOP.example.com:5002", "192.0.2.1", "nobody.test"] {
        let mut client = Client::connect(plane.http).await;
        let answer = client.get(host, PATH).await;
        assert_eq!((answer.status, answer.text()), (200, "tok-en_1.thumb"), "{host}");
        assert_eq!(answer.field("x-content-type-options"), Some("nosniff"));
        client.send(format!("HEAD {PATH} HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        assert_eq!(client.answer_to_head().await.field("content-length"), Some("14"), "{host}");
    }
    let mut client = Client::over(tls(plane.https, "shop.example.com", b"http/1.1").await.unwrap());
    assert_eq!(client.get("shop.example.com", PATH).await.text(), "tok-en_1.thumb");
    plane.stop().await;
}

#[tokio::test]
async fn a_challenge_comes_before_redirects_and_an_unknown_token_goes_its_way() {
    let upstream = Upstream::start().await;
    let world = World::default().service("web", &[upstream.addr]);
    let redirect = [("nginx.ingress.kubernetes.io/force-ssl-redirect", "true")];
    let world = world.ours("web", "shop.example.com", "/", "web", &redirect);
    let plane = Plane::start(world.route("open", "open.example.com", "/", "web").snapshot()).await;
    plane.challenges.send_replace(http());
    let mut client = Client::connect(plane.http).await;
    assert_eq!(client.get("shop.example.com", "/").await.status, 308);
    assert_eq!(client.get("shop.example.com", PATH).await.text(), "tok-en_1.thumb");
    let other = "/.well-known/acme-challenge/another";
    assert_eq!(client.get("open.example.com", other).await.text(), format!("upstream {other}"));
    client.send(format!("POST {PATH} HTTP/1.1\r\nHost: open.example.com\r\nContent-Length: 0\r\n\r\n")).await;
    assert_ne!(client.answer().await.text(), "tok-en_1.thumb", "a CA does not post");
    plane.challenges.send_replace(Arc::default());
    assert_eq!(client.get("open.example.com", PATH).await.text(), format!("upstream {PATH}"));
    plane.stop().await;
}

#[tokio::test]
async fn only_a_handshake_that_is_a_challenge_is_shown_the_certificate_of_the_challenge() {
    let (world, served) = World::default().certificate("cert", "shop.example.com");
    let plane = Plane::start(world.tls_route("web", "shop.example.com", "web", "cert").snapshot()).await;
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(["shop.example.com".to_owned()]).unwrap();
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(&[7; 32])];
    let certificate = params.self_signed(&key).unwrap().der().to_vec();
    let alpn = AlpnCertificate { certificate: certificate.clone(), key: key.serialize_der() };
    let alpn = [("shop.example.com".into(), Arc::new(alpn))].into();
    plane.challenges.send_replace(Arc::new(Challenges { alpn, ..Challenges::default() }));
    let connect = |name: &'static str, protocol: &'static [u8]| tls(plane.https, name, protocol);
    let asked = connect("shop.example.com", ALPN).await.unwrap();
    assert!(shown(&asked) == certificate);
    assert_eq!(asked.get_ref().1.alpn_protocol(), Some(ALPN));
    assert!(shown(&connect("shop.example.com", b"http/1.1").await.unwrap()) == served);
    assert!(connect("other.example.com", ALPN).await.is_err(), "no challenge waits for that name");
    plane.stop().await;
}
