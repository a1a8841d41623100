//! Which endpoint is asked, and when another one is.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ingress::io::Timeouts;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::support::client::{Answer, Client, get};
use crate::support::objects::World;
use crate::support::upstream::{Upstream, nobody};
use crate::support::{PATIENCE, Plane};

const HOST: &str = "shop.example.com";

fn world(addrs: &[SocketAddr], annotations: &[(&str, &str)]) -> World {
    World::default().service("web", addrs).ours("web", HOST, "/", "web", annotations)
}

/// An endpoint that always answers with these bytes, or with nothing for ever.
struct Bad {
    addr: SocketAddr,
    asked: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Drop for Bad {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Bad {
    async fn start(answer: Option<&'static str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let asked = Arc::<AtomicUsize>::default();
        let count = Arc::clone(&asked);
        let task = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let count = Arc::clone(&count);
                tokio::spawn(async move {
                    let mut head = vec![0; 4096];
                    let _ = stream.read(&mut head).await;
                    count.fetch_add(1, Ordering::Relaxed);
                    match answer {
                        Some(answer) => drop(stream.write_all(answer.as_bytes()).await),
                        None => std::future::pending().await,
                    }
                });
            }
        });
        Self { addr, asked, task }
    }
}

async fn ask(plane: &Plane, method: &str) -> u16 {
    let mut client = Client::connect(plane.http).await;
    client.send(format!("{method} /x HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 0\r\n\r\n")).await;
    client.answer().await.status
}

#[tokio::test]
async fn another_endpoint_is_asked_only_where_that_is_safe_or_wanted() {
    const UNAVAILABLE: Option<&str> = Some("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n");
    const ON: &str = "proxy-next-upstream";
    for (answer, annotations, method, is_saved) in [
        (Some(""), &[][..], "GET", true),
        (Some(""), &[], "POST", false),
        (Some(""), &[(ON, "off")], "GET", false),
        (Some(""), &[(ON, "error non_idempotent")], "POST", true),
        (Some(""), &[("proxy-next-upstream-tries", "1")], "GET", false),
        (Some("nonsense\r\n\r\n"), &[], "GET", false),
        (Some("nonsense\r\n\r\n"), &[(ON, "invalid_header")], "GET", true),
        (UNAVAILABLE, &[], "GET", false),
        (UNAVAILABLE, &[(ON, "error http_503")], "GET", true),
        (UNAVAILABLE, &[(ON, "error http_503")], "POST", false),
        (UNAVAILABLE, &[(ON, "error http_502")], "GET", false),
        (None, &[], "GET", false),
        (None, &[(ON, "timeout")], "GET", true),
        (None, &[(ON, "timeout")], "POST", false),
    ] {
        let (bad, good) = (Bad::start(answer).await, Upstream::start().await);
        let timeouts = Timeouts { upstream: Duration::from_millis(200), ..Timeouts::default() };
        // One after the other, so that each endpoint has its turn.
        let annotations = [annotations, &[("load-balance", "round_robin")]].concat();
        let snapshot = world(&[bad.addr, good.addr], &annotations).snapshot();
        let plane = Plane::start_with(snapshot, timeouts, PATIENCE).await;
        let mut statuses = BTreeMap::<u16, usize>::new();
        for _ in 0..6 {
            *statuses.entry(ask(&plane, method).await).or_default() += 1;
        }
        let what = format!("{method} after {answer:?} with {annotations:?}: {statuses:?}");
        assert_eq!(statuses.get(&200) == Some(&6), is_saved, "{what}");
        let asked = bad.asked.load(Ordering::Relaxed);
        assert!(asked > 0, "{what}");
        if !is_saved {
            assert_eq!(asked + good.seen().len(), 6, "nothing was sent twice: {what}");
        }
        plane.stop().await;
    }
}

#[tokio::test]
async fn nothing_was_sent_where_no_connection_came_about_so_any_request_goes_elsewhere() {
    let good = Upstream::start().await;
    let plane = Plane::start(world(&[nobody(), good.addr], &[("load-balance", "round_robin")]).snapshot()).await;
    for _ in 0..10 {
        assert_eq!(ask(&plane, "POST").await, 200);
    }
    plane.stop().await;
}

/// The cookie that an answer sets, without its attributes.
fn cookie(answer: &Answer) -> Option<String> {
    Some(answer.field("set-cookie")?.split(';').next().unwrap().to_owned())
}

async fn with_cookie(plane: &Plane, cookie: &str) -> Answer {
    let mut client = Client::connect(plane.http).await;
    client.send(format!("GET /x HTTP/1.1\r\nHost: {HOST}\r\nCookie: a=1; {cookie}\r\n\r\n")).await;
    client.answer().await
}

#[tokio::test]
async fn a_client_with_a_cookie_stays_where_it_is_when_a_service_is_scaled() {
    let names = ["one", "two", "three", "four"];
    let mut pods = Vec::new();
    for name in names {
        pods.push(Upstream::named(name).await);
    }
    let addrs: Vec<_> = pods.iter().map(|pod| pod.addr).collect();
    for mode in ["balanced", "persistent"] {
        let annotations = [("affinity", "cookie"), ("affinity-mode", mode), ("session-cookie-name", "route")];
        let scaled = |addrs: &[SocketAddr]| world(addrs, &annotations).snapshot();
        let mut plane = Plane::start(scaled(&addrs[..2])).await;
        let mut clients = Vec::new();
        for _ in 0..24 {
            let first = get(plane.http, HOST, "/x").await;
            let set = first.field("set-cookie").unwrap().to_owned();
            assert!(set.ends_with("; Path=/; HttpOnly"), "{set}");
            clients.push((cookie(&first).unwrap(), first.text().to_owned()));
        }
        assert_eq!(clients.iter().map(|(_, pod)| pod).collect::<BTreeSet<_>>().len(), 2, "{mode}: both are used");
        for (cookie, pod) in &clients {
            for _ in 0..5 {
                let answer = with_cookie(&plane, cookie).await;
                assert_eq!((answer.text(), answer.field("set-cookie")), (pod.as_str(), None), "{mode}");
            }
        }
        plane.swap(scaled(&addrs)).await;
        for (cookie, pod) in &clients {
            let answer = with_cookie(&plane, cookie).await;
            let moved = answer.text() != pod;
            assert!(!moved || (mode == "balanced" && !["one /x", "two /x"].contains(&answer.text())), "{mode}");
        }
        plane.swap(scaled(&addrs[1..3])).await;
        for (cookie, pod) in &clients {
            let answer = with_cookie(&plane, cookie).await;
            assert_eq!(answer.status, 200, "{mode}: whose endpoint is gone is served by another");
            assert!(mode == "balanced" || pod == "one /x" || answer.text() == pod, "{mode}");
            assert_eq!(answer.field("set-cookie").is_some(), mode == "persistent" && pod == "one /x", "{mode}");
        }
        plane.stop().await;
    }
}

#[tokio::test]
async fn what_has_the_same_key_goes_to_the_same_endpoint() {
    let mut pods = Vec::new();
    for name in ["one", "two", "three", "four"] {
        pods.push(Upstream::named(name).await);
    }
    let addrs: Vec<_> = pods.iter().map(|pod| pod.addr).collect();
    for (more, largest) in
        [(&[][..], 1), (&[("upstream-hash-by-subset", "true"), ("upstream-hash-by-subset-size", "2")], 2)]
    {
        let annotations = [&[("upstream-hash-by", "$arg_user")][..], more].concat();
        let plane = Plane::start(world(&addrs, &annotations).snapshot()).await;
        let mut used = BTreeSet::new();
        for user in 0..12 {
            let mut pods = BTreeSet::new();
            for turn in 0..8 {
                let answer = get(plane.http, HOST, &format!("/x?turn={turn}&user={user}")).await;
                pods.insert(answer.text().split(' ').next().unwrap().to_owned());
            }
            assert!(pods.len() <= largest, "{user}: {pods:?}");
            used.extend(pods);
        }
        assert!(used.len() > 1, "different keys go to different endpoints");
        plane.stop().await;
    }
}

#[tokio::test]
async fn one_after_the_other_is_asked_if_that_is_wanted() {
    let pods = [Upstream::named("one").await, Upstream::named("two").await, Upstream::named("three").await];
    let addrs: Vec<_> = pods.iter().map(|pod| pod.addr).collect();
    let plane = Plane::start(world(&addrs, &[("load-balance", "round_robin")]).snapshot()).await;
    let mut client = Client::connect(plane.http).await;
    for _ in 0..30 {
        assert_eq!(client.get(HOST, "/x").await.status, 200);
    }
    assert_eq!(pods.iter().map(|pod| pod.seen().len()).collect::<Vec<_>>(), [10, 10, 10]);
    plane.stop().await;
}

#[tokio::test]
async fn a_client_that_a_canary_answered_stays_with_it_unless_it_is_not_to() {
    let (main, canary) = (Upstream::named("main").await, Upstream::named("canary").await);
    for (behaviour, stays) in [("sticky", true), ("legacy", false)] {
        let annotations = [("affinity", "cookie"), ("affinity-canary-behavior", behaviour)];
        let weighted = [("canary", "true"), ("canary-weight", "50")];
        let world = World::default().service("web", &[main.addr]).service("next", &[canary.addr]);
        let world = world.ours("web", HOST, "/", "web", &annotations).ours("next", HOST, "/", "next", &weighted);
        let plane = Plane::start(world.snapshot()).await;
        let (mut answered, mut moved) = (BTreeSet::new(), 0);
        for _ in 0..24 {
            let first = get(plane.http, HOST, "/x").await;
            let cookie = cookie(&first).unwrap();
            answered.insert(first.text().to_owned());
            for _ in 0..4 {
                moved += usize::from(with_cookie(&plane, &cookie).await.text() != first.text());
            }
        }
        assert_eq!(answered.len(), 2, "{behaviour}: both have clients");
        assert_eq!(moved == 0, stays, "{behaviour}: {moved} of 96 moved");
        plane.stop().await;
    }
}
