//! Endpoints that come and go as in a rolling update: nobody who is being served, or asks, is turned away.

use std::net::SocketAddr;

use ferrogate_tests::appliance::Appliance;
use ferrogate_tests::client::{Connection, Target};
use ferrogate_tests::load::{Load, Request};
use ferrogate_tests::manifests::Condition::{Gone, Leaving, Ready};
use ferrogate_tests::manifests::{Condition, documents, endpoints_as, service};
use ferrogate_tests::source::Source;
use ferrogate_tests::upstream::{Reply, Upstream};
use ferrogate_tests::wait::until;

use crate::shop::{self, HOST};

/// More than all buffers between backend and client hold together.
const DOWNLOAD: usize = 64 << 20;

/// The shop, whose endpoints change.
struct Shop {
    source: Source,
    appliance: Appliance,
}

impl Shop {
    async fn open(source: Source, endpoints: &[SocketAddr]) -> Self {
        let appliance = shop::open_on(&source, endpoints).await;
        Self { source, appliance }
    }

    /// Makes these the endpoints; returns when exactly `used` of them are.
    async fn set(&self, endpoints: &[(SocketAddr, Condition)], used: usize) {
        self.source.write("web.yaml", &documents(&[service("shop", "web"), endpoints_as("shop", "web", endpoints)]));
        until(&format!("{used} endpoints of {endpoints:?}"), async || {
            let routes = self.appliance.api("routes").await;
            if routes[0]["endpoints"] == used { Ok(()) } else { Err(format!("{routes:?}")) }
        })
        .await;
    }

    fn load(&self) -> Load {
        let target = Target::plain(self.appliance.http);
        Load::start(&[Request { target, host: HOST.to_owned(), path: "/".to_owned() }])
    }

    async fn connect(&self) -> Connection {
        Target::plain(self.appliance.http).connect().await.expect("a connection")
    }
}

/// Answers `/` with its name, `/file` with a long download, anything else with a tunnel.
async fn pod(source: &Source, name: &str) -> Upstream {
    let name = name.to_owned();
    source
        .upstream(move |request| match request.target() {
            "/" => Reply::Text(name.clone()),
            "/file" => Reply::Text("x".repeat(DOWNLOAD)),
            _ => Reply::Tunnel,
        })
        .await
}

async fn a_rolling_update_of_three_endpoints_fails_no_request(source: Source) {
    let mut pods = Vec::new();
    for _ in 0..3 {
        pods.push(pod(&source, "old").await);
    }
    let shop = Shop::open(source, &pods.iter().map(|pod| pod.address).collect::<Vec<_>>()).await;
    let load = shop.load();
    load.more(100).await;
    for _ in 0..3 {
        let ready = |pods: &[Upstream]| pods.iter().map(|pod| (pod.address, Ready)).collect::<Vec<_>>();
        pods.push(pod(&shop.source, "new").await);
        shop.set(&ready(&pods), 4).await;
        load.more(50).await;
        let old = pods.remove(0);
        let rest = ready(&pods);
        shop.set(&[vec![(old.address, Leaving)], rest.clone()].concat(), 3).await;
        // What was on its way when the table changed may still arrive.
        load.more(20).await;
        let asked = old.seen().len();
        assert!(asked > 0, "an endpoint that is ready is used");
        load.more(100).await;
        assert_eq!(old.seen().len(), asked, "an endpoint that leaves gets no new request");
        shop.set(&rest, 3).await;
        drop(old);
        load.more(50).await;
    }
    let tally = load.finish().await;
    assert_eq!(tally.unexpected(&["old", "new"]), Vec::<String>::new());
    assert!(tally.of("old") > 0 && tally.of("new") > 0, "{tally:?}");
}

async fn what_is_under_way_on_an_endpoint_that_leaves_is_finished(source: Source) {
    let (old, new) = (pod(&source, "old").await, pod(&source, "new").await);
    let shop = Shop::open(source, &[old.address]).await;
    let mut chat = shop.connect().await;
    let upgrade = format!("GET /chat HTTP/1.1\r\nHost: {HOST}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n");
    chat.send(upgrade.as_bytes()).await.expect("it can be sent");
    assert_eq!(chat.response().await.expect("an answer").status, 101);
    let mut download = shop.connect().await;
    let request = format!("GET /file HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    download.send(request.as_bytes()).await.expect("it can be sent");
    until("the download to begin", async || if old.seen().len() == 2 { Ok(()) } else { Err(old.seen().len()) }).await;

    for (step, endpoints) in
        [("leaves", &[(old.address, Leaving), (new.address, Ready)][..]), ("is gone", &[(new.address, Ready)])]
    {
        shop.set(endpoints, 1).await;
        shop.appliance.answers(HOST, "/", 200, "new").await;
        chat.send(step.as_bytes()).await.expect("it can be sent");
        assert_eq!(chat.take(step.len()).await.expect("the echo"), step.as_bytes(), "when the endpoint {step}");
    }
    let response = download.response().await.expect("the whole download");
    assert_eq!((response.status, response.body.len()), (200, DOWNLOAD));
    assert!(response.body.iter().all(|byte| *byte == b'x'));
}

async fn if_all_endpoints_leave_those_that_still_serve_are_asked(source: Source) {
    let (one, two) = (pod(&source, "one").await, pod(&source, "two").await);
    let shop = Shop::open(source, &[one.address, two.address]).await;
    let load = shop.load();
    load.more(50).await;
    shop.set(&[(one.address, Leaving), (two.address, Gone)], 1).await;
    shop.appliance.answers(HOST, "/", 200, "one").await;
    load.more(100).await;
    // The last one may stay for as long as its Pod is granted.
    // Each endpoint has a slice of its own, and a cluster tells of one after the other.
    shop.set(&[(one.address, Leaving), (two.address, Ready)], 1).await;
    shop.appliance.answers(HOST, "/", 200, "two").await;
    shop.set(&[(one.address, Gone), (two.address, Ready)], 1).await;
    shop.appliance.answers(HOST, "/", 200, "two").await;
    load.more(100).await;
    let tally = load.finish().await;
    assert_eq!(tally.unexpected(&["one", "two"]), Vec::<String>::new());
    shop.set(&[(one.address, Gone), (two.address, Gone)], 0).await;
    shop.appliance.answers(HOST, "/", 503, "").await;
}

from_both!(
    a_rolling_update_of_three_endpoints_fails_no_request,
    what_is_under_way_on_an_endpoint_that_leaves_is_finished,
    if_all_endpoints_leave_those_that_still_serve_are_asked,
);
