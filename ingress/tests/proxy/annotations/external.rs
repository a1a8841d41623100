//! `auth-url` and its kin.

use super::{Outcome, ask};
use crate::support::Plane;
use crate::support::nginx::Nginx;
use crate::support::objects::World;
use crate::support::upstream::{Upstream, nobody};

#[tokio::test]
async fn a_service_decides_who_may_come_as_at_nginx() {
    let (web, auth) = (Upstream::named("web").await, Upstream::named("auth").await);
    let url = format!("http://{}/auth", auth.addr);
    let annotations = [("auth-url", &*url), ("auth-response-headers", "X-Auth-User, X-Other")];
    let world = World::default().service("web", &[web.addr]).annotated("web", "a.example", &["/"], "web", &annotations);
    let plane = Plane::start(world.snapshot()).await;
    let nginx = Nginx::start(&format!(
        "server {{ listen LISTEN; server_name a.example;\n\
         location = /_auth {{ internal; proxy_pass_request_body off; proxy_set_header Content-Length \"\";\n\
           proxy_set_header X-Original-URL $scheme://$http_host$request_uri; proxy_pass {url}; }}\n\
         location / {{ auth_request /_auth; auth_request_set $user $upstream_http_x_auth_user;\n\
           auth_request_set $cookie $upstream_http_set_cookie; add_header Set-Cookie $cookie;\n\
           proxy_set_header X-Auth-User $user; proxy_pass http://{}; }} }}",
        web.addr
    ))
    .await;
    for (cookie, status) in [("session=ok", 200), ("session=none", 401), ("session=bad", 403), ("session=broken", 500)]
    {
        let fields =
            [("Cookie", cookie), ("X-Auth-User", "forged"), ("X-Other", "forged"), ("X-Original-URL", "forged")];
        let ours = ask(plane.http, "a.example", "/x?y=1", &fields).await;
        assert_eq!(ours.status, status, "{cookie}");
        let told = |answer: &crate::support::client::Answer| {
            (
                answer.status,
                answer.field("www-authenticate").map(str::to_owned),
                answer.field("set-cookie").map(str::to_owned),
            )
        };
        if let Some(nginx) = &nginx {
            let theirs = ask(nginx.addr, "a.example", "/x?y=1", &fields).await;
            println!("{cookie}: we {:?}, nginx {:?}", told(&ours), told(&theirs));
            assert_eq!(told(&ours), told(&theirs), "{cookie}");
        }
    }
    let asked = auth.seen();
    let ours = &asked[0];
    assert!(ours.head.starts_with("GET /auth HTTP/1.1"), "{}", ours.head);
    assert_eq!(ours.field("x-original-url"), Some("http://a.example/x?y=1"));
    assert_eq!(ours.field("x-original-method"), Some("GET"));
    assert_eq!(ours.field("host"), Some(&*auth.addr.to_string()));
    assert_eq!(ours.field("x-forwarded-proto"), None);
    let passed = &web.seen()[0];
    assert_eq!((passed.field("x-auth-user"), passed.field("x-other")), (Some("ann"), None));
    plane.stop().await;
}

#[tokio::test]
async fn who_is_not_known_is_sent_to_sign_in() {
    let (web, auth) = (Upstream::named("web").await, Upstream::named("auth").await);
    let url = format!("http://{}/auth", auth.addr);
    let world = World::default()
        .service("web", &[web.addr])
        .annotated("a", "a.example", &["/"], "web", &[("auth-url", &*url), ("auth-signin", "https://login.example/in")])
        .annotated(
            "b",
            "b.example",
            &["/"],
            "web",
            &[("auth-url", &*url), ("auth-signin", "https://$host/in?x=1"), ("auth-signin-redirect-param", "back")],
        )
        .annotated(
            "c",
            "c.example",
            &["/"],
            "web",
            &[("auth-url", &*url), ("auth-signin", "https://login.example/in?rd=$scheme://$host$request_uri")],
        );
    let plane = Plane::start(world.snapshot()).await;
    for (host, to) in [
        ("a.example", "https://login.example/in?rd=http://a.example%2Fx%3Fy%3D1%262"),
        ("b.example", "https://b.example/in?x=1&back=http://b.example%2Fx%3Fy%3D1%262"),
        ("c.example", "https://login.example/in?rd=http://c.example/x?y=1&2"),
    ] {
        let answer = ask(plane.http, host, "/x?y=1&2", &[]).await;
        assert_eq!(Outcome::of(&answer), Outcome::redirected(302, to));
        assert_eq!(answer.field("set-cookie"), Some("state=2"));
    }
    assert_eq!(web.seen().len(), 0);
    plane.stop().await;
}

#[tokio::test]
async fn a_body_waits_for_the_decision_and_the_connection_is_kept() {
    let (web, auth) = (Upstream::named("web").await, Upstream::named("auth").await);
    let url = format!("http://{}/auth", auth.addr);
    let world =
        World::default().service("web", &[web.addr]).annotated("a", "a.example", &["/"], "web", &[("auth-url", &url)]);
    let plane = Plane::start(world.snapshot()).await;
    let mut client = crate::support::client::Client::connect(plane.http).await;
    for _ in 0..3 {
        client.send("POST /x HTTP/1.1\r\nHost: a.example\r\nCookie: session=ok\r\nContent-Length: 4\r\n\r\nbody").await;
        assert_eq!(client.answer().await.text(), "body");
    }
    assert!(auth.seen().iter().all(|seen| seen.body.is_empty() && seen.field("content-length").is_none()));
    assert_eq!(auth.accepted(), 1);
    plane.stop().await;
}

#[tokio::test]
async fn a_service_that_is_not_there_lets_nobody_pass() {
    let web = Upstream::named("web").await;
    for url in [format!("http://{}/auth", nobody()), "http://169.254.169.254/auth".to_owned()] {
        let world = World::default().service("web", &[web.addr]).annotated(
            "a",
            "a.example",
            &["/"],
            "web",
            &[("auth-url", &url)],
        );
        let plane = Plane::start(world.snapshot()).await;
        assert_eq!(ask(plane.http, "a.example", "/x", &[("Cookie", "session=ok")]).await.status, 500, "{url}");
        plane.stop().await;
    }
    assert_eq!(web.seen().len(), 0);
}

#[tokio::test]
async fn a_challenge_of_an_authority_is_answered_without_asking() {
    let web = Upstream::named("web").await;
    let url = format!("http://{}/auth", nobody());
    let world = World::default().service("web", &[web.addr]).annotated(
        "acme",
        "a.example",
        &["/.well-known/acme-challenge/x"],
        "web",
        &[("auth-url", &url)],
    );
    let plane = Plane::start(world.snapshot()).await;
    assert_eq!(ask(plane.http, "a.example", "/.well-known/acme-challenge/x", &[]).await.status, 200);
    plane.stop().await;
}
