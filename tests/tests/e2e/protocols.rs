//! HTTP as clients and backends speak it: headers, faults, WebSocket, HTTP/2, TLS.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use ferrogate_tests::appliance::Appliance;
use ferrogate_tests::certificate::issue;
use ferrogate_tests::client::Target;
use ferrogate_tests::manifests::{Ingress, backend, tls_secret};
use ferrogate_tests::source::Source;
use ferrogate_tests::upstream::{Received, Reply, Upstream};

use crate::shop::{self, HOST};

/// Sends raw bytes and returns the status of the answer with what the backend saw last.
async fn exchange(appliance: &Appliance, web: &Upstream, request: &str) -> (u16, Received) {
    let mut connection = Target::plain(appliance.http).connect().await.expect("a connection");
    connection.send(request.as_bytes()).await.expect("it can be sent");
    let status = connection.response().await.expect("an answer").status;
    (status, web.seen().pop().expect("the backend was asked"))
}

/// Runs curl; the test is skipped where it is missing.
fn curl(arguments: &[&str]) -> Option<String> {
    let output = Command::new("curl").args(["--silent", "--show-error", "--max-time", "15"]).args(arguments).output();
    let Ok(output) = output else {
        eprintln!("skipped: curl is not installed");
        return None;
    };
    assert!(output.status.success(), "curl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

async fn a_backend_learns_who_asked_and_cannot_be_lied_to(source: Source) {
    let web = source.named("web").await;
    let appliance = shop::open_on(&source, &[web.address]).await;
    let lies = "X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil.example\r\n\
                X-Real-IP: 203.0.113.9\r\nX-Forwarded-Port: 1\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\n";
    let (status, seen) = exchange(&appliance, &web, &format!("GET /a?b HTTP/1.1\r\nHost: {HOST}\r\n{lies}\r\n")).await;
    assert_eq!((status, seen.line.as_str()), (200, "GET /a?b HTTP/1.1"));
    let port = appliance.http.port().to_string();
    for (name, expected) in [
        ("host", HOST),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-real-ip", "127.0.0.1"),
        ("x-forwarded-host", HOST),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-scheme", "http"),
        ("x-scheme", "http"),
        ("x-forwarded-port", port.as_str()),
    ] {
        // The client's loopback address depends on where it connects to.
        let found = seen.only(name).map(|value| if value.starts_with("127.") { "127.0.0.1" } else { value });
        assert_eq!(found, Some(expected), "{name} in {seen:?}");
    }
    assert_eq!(seen.all("x-hop"), Vec::<&str>::new(), "{seen:?}");
    let id = seen.only("x-request-id").expect("a request id");
    assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
}

async fn bodies_arrive_whole_whatever_their_framing(source: Source) {
    let web = source.upstream(|request| Reply::Text(format!("{}", request.body.len()))).await;
    let appliance = shop::open_on(&source, &[web.address]).await;
    let body = "x".repeat(300_000);
    let sized = format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let chunked = format!(
        "POST / HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
        body.len()
    );
    for request in [sized, chunked] {
        let (status, seen) = exchange(&appliance, &web, &request).await;
        assert_eq!((status, seen.body.len()), (200, body.len()));
        let framings = seen.all("content-length").len() + seen.all("transfer-encoding").len();
        assert_eq!(framings, 1, "{:?}", seen.headers);
    }
}

async fn connections_to_a_backend_are_kept(source: Source) {
    let web = source.named("web").await;
    shop::stock(&source, &[web.address]);
    let appliance = source.builder().with(&["--workers", "1"]).start().await;
    let mut connection = Target::plain(appliance.http).connect().await.expect("a connection");
    for _ in 0..50 {
        assert_eq!(connection.get(HOST, "/").await.expect("an answer").text(), "web");
    }
    assert!(web.connections() <= 2, "{} connections for 50 requests", web.connections());
}

async fn a_backend_that_fails_gives_a_short_page_and_the_right_status(source: Source) {
    let refused = source.closed();
    let rude = source.upstream(|_| Reply::Raw(Vec::new())).await;
    let garbled = source.upstream(|_| Reply::Raw(b"SSH-2.0-OpenSSH_9\r\n\r\n".to_vec())).await;
    shop::stock(&source, &[refused]);
    for (name, address) in [("rude", rude.address), ("garbled", garbled.address)] {
        source.write(&format!("{name}.yaml"), &backend("shop", name, &[address]));
        let host = format!("{name}.example");
        source.write(&format!("{name}-in.yaml"), &Ingress::new("shop", name).rule(&host, "/", name).yaml());
    }
    let appliance = source.builder().start().await;
    for (host, status) in [(HOST, 502), ("rude.example", 502), ("garbled.example", 502), ("nobody.example", 404)] {
        let response = appliance.get(host, "/").await.expect("an answer");
        assert_eq!(response.status, status, "{host}: {}", response.text());
        assert!(!response.body.is_empty() && response.body.len() < 2_000, "{host}: {}", response.text());
        let leaks = response.text().contains("127.") || response.text().contains(&refused.ip().to_string());
        assert!(!leaks, "no address leaks: {}", response.text());
    }
}

async fn a_dead_endpoint_among_living_ones_fails_no_request(source: Source) {
    let (one, two) = (source.named("one").await, source.named("two").await);
    let dead: SocketAddr = source.closed();
    let appliance = shop::open_on(&source, &[one.address, dead, two.address]).await;
    let mut seen = BTreeSet::new();
    for _ in 0..60 {
        let response = appliance.get(HOST, "/").await.expect("an answer");
        assert_eq!(response.status, 200, "{}", response.text());
        seen.insert(response.text());
    }
    assert_eq!(seen, BTreeSet::from(["one".to_owned(), "two".to_owned()]), "both living endpoints are used");
}

async fn routes_follow_the_rules_of_ingress_v1(source: Source) {
    let names = ["exact", "prefix", "deep", "wild", "root"];
    shop::stock(&source, &[]);
    let mut backends = Vec::new();
    for name in names {
        let upstream = source.named(name).await;
        source.write(&format!("{name}.yaml"), &backend("shop", name, &[upstream.address]));
        backends.push(upstream);
    }
    let ingress = Ingress::new("shop", "rules")
        .rule("r.example", "/", "root")
        .rule("r.example", "/foo", "prefix")
        .rule_of_type("r.example", "/foo", "Exact", "exact")
        .rule("r.example", "/foo/bar/", "deep")
        .rule("*.w.example", "/only", "wild");
    source.write("rules.yaml", &ingress.yaml());
    let appliance = source.builder().start().await;
    for (host, path, expected) in [
        ("r.example", "/foo", "exact"),
        ("R.EXAMPLE:80", "/foo", "exact"),
        ("r.example", "/foo/", "prefix"),
        ("r.example", "/foo/x?/foo/bar", "prefix"),
        ("r.example", "/foo/bar", "deep"),
        ("r.example", "/foo/bar/baz", "deep"),
        ("r.example", "/foo/barn", "prefix"),
        ("r.example", "/food", "root"),
        ("r.example", "/x/../foo/./bar/", "deep"),
        ("r.example", "/%66oo", "exact"),
        ("a.w.example", "/only", "wild"),
    ] {
        let response = appliance.get(host, path).await.expect("an answer");
        assert_eq!((response.status, response.text().as_str()), (200, expected), "{host}{path}");
    }
    for (host, path) in [("a.b.w.example", "/only"), ("w.example", "/only"), ("a.w.example", "/"), ("x.example", "/")] {
        assert_eq!(appliance.get(host, path).await.expect("an answer").status, 404, "{host}{path}");
    }
}

async fn a_websocket_passes_bytes_both_ways(source: Source) {
    let web = source.upstream(|_| Reply::Tunnel).await;
    let appliance = shop::open_on(&source, &[web.address]).await;
    for target in [Target::plain(appliance.http), Target::tls(appliance.https, HOST)] {
        let mut connection = target.connect().await.expect("a connection");
        let handshake = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: \
                         dGhlIHNhbXBsZSBub25jZQ==\r\n";
        let request = format!("GET /chat HTTP/1.1\r\nHost: {HOST}\r\n{handshake}\r\n");
        connection.send(request.as_bytes()).await.expect("it can be sent");
        let response = connection.response().await.expect("an answer");
        assert_eq!((response.status, response.header("upgrade")), (101, Some("websocket")));
        for size in [1, 1_000, 100_000] {
            let message: Vec<_> = (0..size).map(|index: usize| index.to_le_bytes()[0]).collect();
            connection.send(&message).await.expect("it can be sent");
            assert_eq!(connection.take(size).await.expect("the echo"), message, "{size} bytes");
        }
    }
}

async fn a_tunnel_nobody_asked_for_is_refused(source: Source) {
    let web = source.upstream(|_| Reply::Tunnel).await;
    let appliance = shop::open_on(&source, &[web.address]).await;
    let response = appliance.get(HOST, "/").await.expect("an answer");
    assert_eq!(response.status, 502, "an unasked 101 is the backend's fault");
    let h2c = format!(
        "GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"
    );
    let mut connection = Target::plain(appliance.http).connect().await.expect("a connection");
    connection.send(h2c.as_bytes()).await.expect("it can be sent");
    let status = connection.response().await.map(|response| response.status);
    assert_ne!(status.ok(), Some(101), "h2c never leaves");
    for seen in web.seen() {
        assert_eq!((seen.all("upgrade").len(), seen.all("http2-settings").len()), (0, 0), "{seen:?}");
    }
}

async fn http2_is_spoken_over_tls(source: Source) {
    let web = source.upstream(|request| Reply::Text(format!("{} {}", request.line, request.body.len()))).await;
    shop::stock(&source, &[web.address]);
    let pair = issue(&[HOST]);
    source.write("cert.yaml", &tls_secret("shop", "cert", &pair));
    source.write("ingress.yaml", &Ingress::new("shop", "web").rule(HOST, "/", "web").tls("cert", &[HOST]).yaml());
    std::fs::write(source.file("ca.pem"), &pair.certificate).expect("the folder can be written");
    let appliance = source.builder().start().await;
    let resolve = format!("{HOST}:{}:{}", appliance.https.port(), appliance.https.ip());
    let url = format!("https://{HOST}:{}/two?x=1", appliance.https.port());
    let ca = source.file("ca.pem").display().to_string();
    let common = ["--http2", "--cacert", &ca, "--resolve", &resolve, "--write-out", " over %{http_version}"];
    let ask = |extra: &[&str]| curl(&[&common[..], extra, &[&url]].concat());
    let Some(plain) = ask(&[]) else { return };
    assert_eq!(plain, "GET /two?x=1 HTTP/1.1 0 over 2");
    let body = "b".repeat(100_000);
    assert_eq!(ask(&["--data-binary", &body]), Some("POST /two?x=1 HTTP/1.1 100000 over 2".to_owned()));
    let seen = web.seen();
    assert_eq!(seen[0].only("host").map(|host| host.split(':').next().unwrap_or_default()), Some(HOST), "{seen:?}");
    assert_eq!(seen[0].only("x-forwarded-proto"), Some("https"));
}

async fn sni_chooses_the_certificate(source: Source) {
    let web = source.named("web").await;
    shop::stock(&source, &[web.address]);
    let (exact, wild) = (issue(&["a.tls.example"]), issue(&["*.tls.example"]));
    source.write("exact.yaml", &tls_secret("shop", "exact", &exact));
    source.write("wild.yaml", &tls_secret("shop", "wild", &wild));
    let ingress = Ingress::new("shop", "tls")
        .rule("a.tls.example", "/", "web")
        .rule("*.tls.example", "/", "web")
        .tls("exact", &["a.tls.example"])
        .tls("wild", &["*.tls.example"]);
    source.write("tls.yaml", &ingress.yaml());
    let appliance = source.builder().start().await;
    for (name, expected) in [
        ("a.tls.example", Some(&exact.der)),
        ("A.TLS.example", Some(&exact.der)),
        ("b.tls.example", Some(&wild.der)),
        ("a.b.tls.example", None),
        ("other.example", None),
        ("", None),
    ] {
        let shown = Target::tls(appliance.https, name).connect().await.expect("a handshake").certificate;
        let shown = shown.expect("a certificate");
        let known = [&exact.der, &wild.der].into_iter().find(|der| ***der == shown);
        assert_eq!(known, expected, "{name:?}");
    }
}

async fn a_pipelined_request_is_answered_after_the_first(source: Source) {
    let web = source
        .upstream(|request| match request.target() {
            "/1" => Reply::Slow(Duration::from_millis(50), "one".to_owned()),
            _ => Reply::Text("two".to_owned()),
        })
        .await;
    let appliance = shop::open_on(&source, &[web.address]).await;
    let mut connection = Target::plain(appliance.http).connect().await.expect("a connection");
    let both = format!("GET /1 HTTP/1.1\r\nHost: {HOST}\r\n\r\nGET /2 HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    connection.send(both.as_bytes()).await.expect("it can be sent");
    let first = connection.response().await.expect("the first answer");
    assert_eq!(first.text(), "one");
    // A server may close instead (RFC 9112 §9.3.2 lets the client retry), but never mix answers up.
    match connection.response().await {
        Ok(second) => assert_eq!(second.text(), "two"),
        Err(error) => assert!(first.closes() || error.kind() == std::io::ErrorKind::UnexpectedEof, "{error}"),
    }
}

from_both!(
    a_backend_learns_who_asked_and_cannot_be_lied_to,
    bodies_arrive_whole_whatever_their_framing,
    connections_to_a_backend_are_kept,
    a_backend_that_fails_gives_a_short_page_and_the_right_status,
    a_dead_endpoint_among_living_ones_fails_no_request,
    routes_follow_the_rules_of_ingress_v1,
    a_websocket_passes_bytes_both_ways,
    a_tunnel_nobody_asked_for_is_refused,
    http2_is_spoken_over_tls,
    sni_chooses_the_certificate,
    a_pipelined_request_is_answered_after_the_first,
);
