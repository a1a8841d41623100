//! The harness measures what it says: proved on itself, without the appliance.

use std::time::Duration;

use ferrogate_tests::client::Target;
use ferrogate_tests::load::{Load, Request};
use ferrogate_tests::netns::Lan;
use ferrogate_tests::skip_unless_root;
use ferrogate_tests::upstream::{Reply, Upstream};
use ferrogate_tests::wait::until;

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_does_as_told_and_remembers_it() {
    let web = Upstream::start(|request| Reply::Text(String::from_utf8_lossy(&request.body).into_owned())).await;
    let mut connection = Target::plain(web.address).connect().await.unwrap();
    for request in [
        "POST /a HTTP/1.1\r\nX-One: 1\r\nContent-Length: 3\r\n\r\nabc",
        "POST /b HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n",
    ] {
        connection.send(request.as_bytes()).await.unwrap();
        assert_eq!(connection.response().await.unwrap().text(), "abc");
    }
    let seen = web.seen();
    assert_eq!((seen[0].target(), seen[0].only("x-one"), seen[1].target()), ("/a", Some("1"), "/b"));
    assert_eq!(web.connections(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_with_two_framings_or_none_is_refused() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\na",
        "HTTP/1.1 200 OK\r\n\r\na",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\na",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na",
        "nonsense\r\n\r\n",
        "",
    ] {
        let web = Upstream::start(|_| Reply::Raw(answer.as_bytes().to_vec())).await;
        assert!(Target::plain(web.address).get("a", "/").await.is_err(), "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn load_counts_answers_and_does_not_forgive_failures() {
    let web = Upstream::start(|request| match request.target() {
        "/good" => Reply::Text("good".to_owned()),
        _ => Reply::Raw(Vec::new()),
    })
    .await;
    let request =
        |path: &str| Request { target: Target::plain(web.address), host: "a".to_owned(), path: path.to_owned() };
    let good = Load::start(&[request("/good")]);
    until("answers", async || if web.seen().len() > 20 { Ok(()) } else { Err("few") }).await;
    let good = good.finish().await;
    assert_eq!(good.unexpected(&["good"]), Vec::<String>::new());
    assert!(good.of("good") > 20 && good.unexpected(&["other"]).len() == 1);
    let bad = Load::start(&[request("/bad")]);
    until(
        "requests",
        async || if web.seen().iter().any(|seen| seen.target() == "/bad") { Ok(()) } else { Err("none") },
    )
    .await;
    assert!(!bad.finish().await.failures.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lan_has_two_machines_and_a_cable() {
    skip_unless_root!();
    let lan = Lan::new();
    let mut wire = lan.listen();
    let ping =
        lan.peer.enter(|| std::net::TcpStream::connect_timeout(&([10, 77, 0, 1], 9).into(), Duration::from_secs(5)));
    assert_eq!(ping.map_err(|error| error.kind()).unwrap_err(), std::io::ErrorKind::ConnectionRefused);
    let mut heard = Vec::new();
    until("ARP on the cable", async || {
        heard.extend(wire.frame());
        let is_arp = |frame: &Vec<u8>| frame.get(12..14) == Some(&[8, 6]);
        if heard.iter().any(is_arp) { Ok(()) } else { Err(heard.len()) }
    })
    .await;
    let name = lan.node.name().to_owned();
    drop(lan);
    assert!(!std::path::Path::new("/run/netns").join(name).exists(), "the namespace is gone");
}
