//! `canary` and its kin.

use super::ask;
use crate::support::Plane;
use crate::support::objects::World;
use crate::support::upstream::{Upstream, nobody};

#[tokio::test]
async fn header_then_cookie_then_weight_choose_the_canary() {
    let (main, canary) = (Upstream::named("main").await, Upstream::named("canary").await);
    let base = World::default().service("main", &[main.addr]).service("new", &[canary.addr]).annotated(
        "main",
        "a.example",
        &["/"],
        "main",
        &[],
    );
    let with = |annotations: &[(&str, &str)]| {
        let all = [&[("canary", "true")], annotations].concat();
        base.clone().annotated("zz", "a.example", &["/"], "new", &all).snapshot()
    };
    let rules = [("canary-by-header", "X-Canary"), ("canary-by-cookie", "canary")];
    let always_by_weight = [&rules[..], &[("canary-weight", "100")]].concat();
    let mut plane = Plane::start(with(&always_by_weight)).await;
    for (fields, expected) in [
        (&[][..], "canary /x"),
        (&[("X-Canary", "never")], "main /x"),
        (&[("Cookie", "a=b; canary=never")], "main /x"),
        (&[("X-Canary", "always"), ("Cookie", "canary=never")], "canary /x"),
        (&[("X-Canary", "never"), ("Cookie", "canary=always")], "main /x"),
    ] {
        assert_eq!(ask(plane.http, "a.example", "/x", fields).await.text(), expected, "{fields:?}");
    }
    plane.swap(with(&[("canary-by-header", "X-Canary"), ("canary-by-header-value", "v2")])).await;
    for (fields, expected) in
        [(&[][..], "main /x"), (&[("X-Canary", "v2")], "canary /x"), (&[("X-Canary", "always")], "main /x")]
    {
        assert_eq!(ask(plane.http, "a.example", "/x", fields).await.text(), expected, "{fields:?}");
    }
    plane.stop().await;
}

#[tokio::test]
async fn a_weight_is_a_share_and_a_canary_without_endpoints_gets_none() {
    let (main, canary) = (Upstream::named("main").await, Upstream::named("canary").await);
    let half = [("canary", "true"), ("canary-weight", "50")];
    let world = |endpoints: &[std::net::SocketAddr]| {
        World::default()
            .service("main", &[main.addr])
            .service("new", endpoints)
            .annotated("main", "a.example", &["/"], "main", &[])
            .annotated("zz", "a.example", &["/"], "new", &half)
            .snapshot()
    };
    let mut plane = Plane::start(world(&[canary.addr])).await;
    let mut taken = 0;
    for _ in 0..200 {
        taken += usize::from(ask(plane.http, "a.example", "/x", &[]).await.text() == "canary /x");
    }
    // Fewer or more happen once in 10^8 runs.
    assert!((60..=140).contains(&taken), "{taken}");
    plane.swap(world(&[])).await;
    for _ in 0..20 {
        assert_eq!(ask(plane.http, "a.example", "/x", &[]).await.text(), "main /x");
    }
    plane.stop().await;
}

#[tokio::test]
async fn a_canary_by_itself_is_no_route() {
    let world = World::default().service("new", &[nobody()]).annotated(
        "zz",
        "a.example",
        &["/"],
        "new",
        &[("canary", "true"), ("canary-weight", "100")],
    );
    let plane = Plane::start(world.snapshot()).await;
    assert_eq!(ask(plane.http, "a.example", "/x", &[]).await.status, 404);
    plane.stop().await;
}
