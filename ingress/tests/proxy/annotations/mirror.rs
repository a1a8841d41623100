//! Copies of requests, and answers of `auth-url` that are remembered.

use super::{ask, web};
use crate::support::client::Client;
use crate::support::upstream::{Upstream, nobody};
use crate::support::{Plane, eventually};

#[tokio::test]
async fn another_service_gets_a_copy_and_nobody_waits_for_it() {
    let (endpoint, mirror) = (Upstream::named("web").await, Upstream::named("mirror").await);
    let target = format!("http://{}/copy$request_uri", mirror.addr);
    for (annotations, body) in [
        (&[("mirror-target", &*target)][..], "body"),
        (&[("mirror-target", &*target), ("mirror-request-body", "off"), ("mirror-host", "copy.example")], ""),
    ] {
        let plane = Plane::start(web(endpoint.addr, annotations).snapshot()).await;
        let mut client = Client::connect(plane.http).await;
        let before = mirror.seen().len();
        client.send("POST /x?y=1 HTTP/1.1\r\nHost: a.example\r\nX-Mine: 1\r\nssl-client-verify: SUCCESS\r\nContent-Length: 4\r\n\r\nbody").await;
        assert_eq!(client.answer().await.text(), "body");
        eventually("the copy is there", || mirror.seen().len() > before).await;
        let seen = mirror.seen().pop().unwrap();
        assert!(seen.head.starts_with("POST /copy/x?y=1 HTTP/1.1"), "{}", seen.head);
        assert_eq!((seen.field("x-mine"), seen.field("ssl-client-verify")), (Some("1"), None));
        assert_eq!(String::from_utf8(seen.body.clone()).unwrap(), body);
        let host = if body.is_empty() { "copy.example".to_owned() } else { mirror.addr.to_string() };
        assert_eq!(seen.field("host"), Some(&*host));
        plane.stop().await;
    }
}

#[tokio::test]
async fn a_copy_that_cannot_be_sent_harms_nobody_and_a_refused_request_has_none() {
    let (endpoint, mirror) = (Upstream::named("web").await, Upstream::named("mirror").await);
    let gone = format!("http://{}/", nobody());
    let plane = Plane::start(web(endpoint.addr, &[("mirror-target", &gone)]).snapshot()).await;
    for _ in 0..100 {
        assert_eq!(ask(plane.http, "a.example", "/x", &[]).await.status, 200);
    }
    plane.stop().await;
    let target = format!("http://{}$request_uri", mirror.addr);
    let annotations = [("mirror-target", &*target), ("whitelist-source-range", "192.0.2.0/24")];
    let plane = Plane::start(web(endpoint.addr, &annotations).snapshot()).await;
    assert_eq!(ask(plane.http, "a.example", "/x", &[]).await.status, 403);
    plane.stop().await;
    assert_eq!(mirror.seen().len(), 0);
}

#[tokio::test]
async fn what_a_service_says_is_remembered_as_long_as_is_asked() {
    let (endpoint, auth) = (Upstream::named("web").await, Upstream::named("auth").await);
    let url = format!("http://{}/status/200", auth.addr);
    let key = ("auth-cache-key", "$remote_user$http_authorization");
    for (annotations, asked) in [
        (&[("auth-url", &*url)][..], 6),
        (&[("auth-url", &*url), key], 2),
        (&[("auth-url", &*url), key, ("auth-cache-duration", "401 5m")], 6),
        (&[("auth-url", &*url), key, ("auth-cache-duration", "200 202 10m, 401 5m")], 2),
    ] {
        let plane = Plane::start_alone(web(endpoint.addr, annotations).snapshot()).await;
        let before = auth.seen().len();
        for index in 0..6 {
            let who = if index % 2 == 0 { "Basic YW5uOnNlY3JldA==" } else { "Basic ZXZlOnNlY3JldA==" };
            assert_eq!(ask(plane.http, "a.example", "/x", &[("Authorization", who)]).await.status, 200);
        }
        assert_eq!(auth.seen().len() - before, asked, "{annotations:?}");
        plane.stop().await;
    }
}

#[tokio::test]
async fn an_answer_for_one_client_is_not_remembered() {
    let (endpoint, auth) = (Upstream::named("web").await, Upstream::named("auth").await);
    let url = format!("http://{}/auth", auth.addr);
    let annotations = [("auth-url", &*url), ("auth-cache-key", "all"), ("auth-cache-duration", "any 5m")];
    let plane = Plane::start_alone(web(endpoint.addr, &annotations).snapshot()).await;
    for (cookie, status) in [("session=ok", 200), ("session=none", 401), ("session=ok", 200)] {
        assert_eq!(ask(plane.http, "a.example", "/x", &[("Cookie", cookie)]).await.status, status);
    }
    plane.stop().await;
}
