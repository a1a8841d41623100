//! The strict request head, through the real program: what could be read in two ways is refused, the connection ends
//! and no backend sees a byte of it.

use std::time::Duration;

use ferrogate_tests::client::{Connection, Target};
use ferrogate_tests::upstream::Upstream;
use ferrogate_tests::wait::Stopwatch;

use crate::shop::{self, HOST};

/// Requests that smuggle, each followed by a request that must never be seen. `H` stands for a valid Host line.
const SMUGGLED: &[(&str, &str)] = &[
    ("two framings", "POST / HTTP/1.1\r\nH\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nX"),
    ("two lengths", "POST / HTTP/1.1\r\nH\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"),
    ("the same length twice", "POST / HTTP/1.1\r\nH\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na"),
    ("a list of lengths", "POST / HTTP/1.1\r\nH\r\nContent-Length: 1, 1\r\n\r\na"),
    ("a signed length", "POST / HTTP/1.1\r\nH\r\nContent-Length: +1\r\n\r\na"),
    ("a negative length", "POST / HTTP/1.1\r\nH\r\nContent-Length: -1\r\n\r\n"),
    ("an empty length", "POST / HTTP/1.1\r\nH\r\nContent-Length: \r\n\r\n"),
    ("a length beyond numbers", "POST / HTTP/1.1\r\nH\r\nContent-Length: 18446744073709551617\r\n\r\na"),
    ("an unknown coding", "POST / HTTP/1.1\r\nH\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
    ("chunked not last", "POST / HTTP/1.1\r\nH\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n"),
    (
        "chunked twice",
        "POST / HTTP/1.1\r\nH\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    ("a coding in HTTP/1.0", "POST / HTTP/1.0\r\nH\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("a space before the colon", "POST / HTTP/1.1\r\nH\r\nContent-Length : 1\r\n\r\na"),
    ("a folded field", "GET / HTTP/1.1\r\nH\r\nX-A: b\r\n c\r\n\r\n"),
    ("a fold at the start", "GET / HTTP/1.1\r\n X-A: b\r\nH\r\n\r\n"),
    ("a bare line feed", "GET / HTTP/1.1\nH\n\n"),
    ("one bare line feed", "GET / HTTP/1.1\r\nX-A: b\nH\r\n\r\n"),
    ("a bare carriage return", "GET / HTTP/1.1\r\nX-A: b\rc\r\nH\r\n\r\n"),
    ("a NUL in a value", "GET / HTTP/1.1\r\nH\r\nX-A: b\0c\r\n\r\n"),
    ("an empty name", "GET / HTTP/1.1\r\nH\r\n: b\r\n\r\n"),
    ("no colon", "GET / HTTP/1.1\r\nH\r\nX-A\r\n\r\n"),
    ("a name with a space", "GET / HTTP/1.1\r\nH\r\nX A: b\r\n\r\n"),
    ("no host", "GET / HTTP/1.1\r\nX-A: b\r\n\r\n"),
    ("two hosts", "GET / HTTP/1.1\r\nH\r\nHost: evil.example\r\n\r\n"),
    ("a list of hosts", "GET / HTTP/1.1\r\nHost: shop.example, evil.example\r\n\r\n"),
    ("a host with a user", "GET / HTTP/1.1\r\nHost: user@shop.example\r\n\r\n"),
    ("a host with a path", "GET / HTTP/1.1\r\nHost: shop.example/x\r\n\r\n"),
    ("a host with a wrong port", "GET / HTTP/1.1\r\nHost: shop.example:99999\r\n\r\n"),
    ("a target with a space", "GET /a b HTTP/1.1\r\nH\r\n\r\n"),
    ("a target with a tab", "GET /a\tb HTTP/1.1\r\nH\r\n\r\n"),
    ("a target with a NUL", "GET /a\0b HTTP/1.1\r\nH\r\n\r\n"),
    ("a relative target", "GET e/x HTTP/1.1\r\nH\r\n\r\n"),
    ("a target with a fragment", "GET /a#b HTTP/1.1\r\nH\r\n\r\n"),
    ("two spaces", "GET  / HTTP/1.1\r\nH\r\n\r\n"),
    ("a lower-case version", "GET / http/1.1\r\nH\r\n\r\n"),
    ("no version", "GET /\r\nH\r\n\r\n"),
    ("a method with a control", "G\x01T / HTTP/1.1\r\nH\r\n\r\n"),
];

/// A connection with these bytes sent.
async fn sent(target: &Target, bytes: &[u8]) -> Connection {
    let mut connection = target.connect().await.expect("the listener accepts");
    // It may be closed before the last byte is out; what it answers decides.
    let _ = connection.send(bytes).await;
    connection
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ambiguous_request_is_refused_closed_and_never_forwarded() {
    let web = Upstream::named("web").await;
    let (_folder, appliance) = shop::open(&[web.address]).await;
    for target in [Target::plain(appliance.http), Target::tls(appliance.https, HOST)] {
        for (what, request) in SMUGGLED {
            let request = request.replace("\r\nH\r\n", &format!("\r\nHost: {HOST}\r\n"));
            let request = request.replace("\nH\n", &format!("\nHost: {HOST}\n"));
            let smuggled = format!("{request}GET /smuggled HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
            let mut connection = sent(&target, smuggled.as_bytes()).await;
            let answer =
                connection.rest().await.unwrap_or_else(|error| panic!("{what}: the connection stays: {error}"));
            let answer = String::from_utf8_lossy(&answer);
            assert!(answer.starts_with("HTTP/1.1 400 "), "{what}: {answer:?}");
            assert_eq!(answer.matches("HTTP/1.").count(), 1, "{what}: {answer:?}");
        }
    }
    assert_eq!(web.seen(), [], "no backend saw any of it");
    assert_eq!(appliance.get(HOST, "/").await.expect("an answer").text(), "web");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_with_two_readings_is_refused_and_never_forwarded() {
    let web = Upstream::named("web").await;
    let (_folder, appliance) = shop::open(&[web.address]).await;
    for path in ["/a%00b", "/a/../../b", "/%2e%2e/b", "/a%zz", "/a%2", "/a%5Cb", "/a\\b", "/a/..;x/b"] {
        let response = appliance.get(HOST, path).await.expect("an answer");
        assert_eq!(response.status, 400, "{path}: {}", response.text());
    }
    assert_eq!(web.seen(), [], "no backend saw any of it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_chunk_never_reaches_the_backend_as_a_whole_request() {
    let web = Upstream::named("web").await;
    let (_folder, appliance) = shop::open(&[web.address]).await;
    for (what, body) in [
        ("no size", "\r\nabc\r\n0\r\n\r\n"),
        ("a signed size", "+3\r\nabc\r\n0\r\n\r\n"),
        ("a size beyond numbers", "fffffffffffffffff\r\nabc\r\n0\r\n\r\n"),
        ("a chunk without its end", "3\r\nabcd\r\n0\r\n\r\n"),
        ("a size with a prefix", "0x3\r\nabc\r\n0\r\n\r\n"),
        ("a bare line feed in an extension", "3;a\nb\r\nabc\r\n0\r\n\r\n"),
    ] {
        let head =
            format!("POST /{} HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n", what.replace(' ', "-"));
        let smuggled = format!("{head}{body}GET /smuggled HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
        let answer = sent(&Target::plain(appliance.http), smuggled.as_bytes()).await.rest().await.expect("an end");
        let answer = String::from_utf8_lossy(&answer);
        assert!(!answer.contains("HTTP/1.1 200"), "{what}: {answer:?}");
    }
    assert_eq!(web.seen(), [], "no backend saw a whole request");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_is_too_large_is_refused() {
    let web = Upstream::named("web").await;
    let (_folder, appliance) = shop::open(&[web.address]).await;
    let target = Target::plain(appliance.http);
    for (what, head, statuses) in [
        ("a long target", format!("GET /{} HTTP/1.1\r\nHost: {HOST}\r\n\r\n", "a".repeat(200_000)), [414, 431]),
        ("a long value", format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nX-A: {}\r\n\r\n", "a".repeat(200_000)), [431, 431]),
        ("many fields", format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n{}\r\n", "X-A: b\r\n".repeat(5_000)), [431, 431]),
    ] {
        let status = sent(&target, head.as_bytes()).await.response().await.map(|response| response.status);
        assert!(status.as_ref().is_ok_and(|status| statuses.contains(status)), "{what}: {status:?}");
    }
    assert_eq!(web.seen(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_never_ends_is_closed_in_time() {
    let web = Upstream::named("web").await;
    let (_folder, appliance) = shop::open(&[web.address]).await;
    let mut connection = Target::plain(appliance.http).connect().await.expect("the listener accepts");
    let watch = Stopwatch::start();
    // One byte now and then: each arrives in time, the whole head never does.
    let slow = async {
        for byte in format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nX-Slow: {}", "a".repeat(200)).bytes() {
            if connection.send(&[byte]).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
            if watch.elapsed() > Duration::from_secs(15) {
                break;
            }
        }
        connection.rest().await
    };
    let answer = slow.await.expect("the connection ends");
    assert!(watch.elapsed() < Duration::from_secs(20), "after {:?}", watch.elapsed());
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408 "), "{answer:?}");
    assert_eq!(web.seen(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_unusual_but_clear_is_served() {
    let web = Upstream::named("web").await;
    let (_folder, appliance) = shop::open(&[web.address]).await;
    for request in [
        format!("GET / HTTP/1.1\r\nhost:{HOST}\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: {}:80\r\n\r\n", HOST.to_uppercase()),
        format!("GET http://{HOST}/a HTTP/1.1\r\nHost: {HOST}\r\n\r\n"),
        format!("GET /a%20b?x=%00 HTTP/1.1\r\nHost: {HOST}\r\nX-A:\tb \r\n\r\n"),
        format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n0\r\n\r\n"),
        format!("M-SEARCH / HTTP/1.1\r\nHost: {HOST}\r\n\r\n"),
    ] {
        let response = sent(&Target::plain(appliance.http), request.as_bytes()).await.response().await;
        assert_eq!(response.as_ref().map(|r| r.status).ok(), Some(200), "{request:?}: {response:?}");
    }
}
