//! SIGTERM under load: nobody who was let in is turned away.

use std::time::Duration;

use ferrogate_tests::client::Target;
use ferrogate_tests::source::Source;
use ferrogate_tests::upstream::{Reply, Upstream};
use ferrogate_tests::wait::{Stopwatch, until};
use rustix::process::Signal;

use crate::shop::{self, HOST};

/// How long the backend thinks about `/slow`.
const THINKING: Duration = Duration::from_millis(1500);

async fn thinker(source: &Source) -> Upstream {
    source
        .upstream(|request| match request.target() {
            "/slow" => Reply::Slow(THINKING, "slow".to_owned()),
            "/never" => Reply::Silence,
            _ => Reply::Text("quick".to_owned()),
        })
        .await
}

async fn requests_under_way_are_finished_and_the_process_ends_with_success(source: Source) {
    let web = thinker(&source).await;
    let mut appliance = shop::open_on(&source, &[web.address]).await;
    let targets = [Target::plain(appliance.http), Target::tls(appliance.https, HOST)];
    let ask = |target: &Target| {
        let target = target.clone();
        tokio::spawn(async move { target.get(HOST, "/slow").await })
    };
    let requests: Vec<_> = targets.iter().cycle().take(40).map(ask).collect();
    until("all requests at the backend", async || {
        let seen = web.seen().len();
        if seen == 40 { Ok(()) } else { Err(seen) }
    })
    .await;
    appliance.process().signal(Signal::TERM);
    for request in requests {
        let response = request.await.expect("a client does not panic").expect("a request under way is answered");
        assert_eq!((response.status, response.text().as_str()), (200, "slow"));
        assert!(response.closes(), "the last answer says so: {:?}", response.headers);
    }
    assert_eq!(appliance.process().end().await.code(), Some(0), "{}", appliance.log());
}

async fn idle_connections_do_not_hold_the_end_back(source: Source) {
    let web = thinker(&source).await;
    let mut appliance = shop::open_on(&source, &[web.address]).await;
    let mut idle = Target::plain(appliance.http).connect().await.expect("a connection");
    assert_eq!(idle.get(HOST, "/").await.expect("an answer").status, 200);
    let silent = Target::plain(appliance.http).connect().await.expect("a connection");
    let watch = Stopwatch::start();
    appliance.process().signal(Signal::TERM);
    assert_eq!(appliance.process().end().await.code(), Some(0));
    assert!(watch.elapsed() < Duration::from_secs(5), "it took {:?}", watch.elapsed());
    drop(silent);
}

async fn the_drain_timeout_ends_what_never_ends(source: Source) {
    let web = thinker(&source).await;
    shop::stock(&source, &[web.address]);
    let mut appliance = source.builder().with(&["--drain-timeout", "1s"]).start().await;
    let mut stuck = Target::plain(appliance.http).connect().await.expect("a connection");
    stuck.send(format!("GET /never HTTP/1.1\r\nHost: {HOST}\r\n\r\n").as_bytes()).await.expect("it can be sent");
    until("the request at the backend", async || if web.seen().is_empty() { Err("not yet") } else { Ok(()) }).await;
    let watch = Stopwatch::start();
    appliance.process().signal(Signal::TERM);
    assert_eq!(appliance.process().end().await.code(), Some(0), "{}", appliance.log());
    let took = watch.elapsed();
    assert!(took > Duration::from_millis(900) && took < Duration::from_secs(5), "it took {took:?}");
}

async fn hangups_do_no_harm(source: Source) {
    let web = thinker(&source).await;
    let mut appliance = shop::open_on(&source, &[web.address]).await;
    for _ in 0..20 {
        appliance.process().signal(Signal::HUP);
        assert_eq!(appliance.get(HOST, "/").await.expect("an answer").text(), "quick");
    }
    assert_eq!(appliance.process().ended(), None);
}

async fn a_draining_appliance_is_alive_but_not_ready(source: Source) {
    let web = thinker(&source).await;
    let mut appliance = shop::open_on(&source, &[web.address]).await;
    let target = Target::plain(appliance.http);
    let slow = tokio::spawn(async move { target.get(HOST, "/slow").await });
    until("the request at the backend", async || if web.seen().is_empty() { Err("not yet") } else { Ok(()) }).await;
    appliance.process().signal(Signal::TERM);
    until("not being ready", async || {
        let status = appliance.admin.get("admin", "/readyz").await.map_err(|error| error.to_string())?.status;
        if status == 503 { Ok(()) } else { Err(status.to_string()) }
    })
    .await;
    assert_eq!(appliance.admin.get("admin", "/livez").await.expect("an answer").status, 200);
    assert_eq!(slow.await.expect("a client does not panic").expect("an answer").text(), "slow");
    assert_eq!(appliance.process().end().await.code(), Some(0));
}

from_both!(
    requests_under_way_are_finished_and_the_process_ends_with_success,
    idle_connections_do_not_hold_the_end_back,
    the_drain_timeout_ends_what_never_ends,
    hangups_do_no_harm,
    a_draining_appliance_is_alive_but_not_ready,
);
