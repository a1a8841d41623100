//! `configuration-snippet` and `server-snippet`, translated.

use super::ask;
use crate::support::Plane;
use crate::support::client::Answer;
use crate::support::nginx::Nginx;
use crate::support::objects::World;
use crate::support::upstream::Upstream;

const SERVER: &str = "location = /robots.txt { return 200 \"User-agent: *\\n\"; }
location ~* ^/(admin|internal) { deny all; return 403; }";
const LOCATION: &str = "# as people write it
if ($request_method = DELETE) { return 405; }
if ($http_user_agent ~* (bot|spider)) { return 403; }
rewrite ^/old/(.*)$ https://new.example/$1 permanent;
rewrite ^/here$ /there redirect;
proxy_set_header X-Who \"$host $remote_addr\";
proxy_set_header Accept-Encoding \"\";
add_header X-Only-Good yes;
add_header X-Always \"$request_uri\" always;
proxy_hide_header X-Internal;";

#[tokio::test]
async fn what_is_understood_does_the_same_as_at_nginx() {
    let upstream = Upstream::named("web").await;
    let world = World::default().service("web", &[upstream.addr]).annotated(
        "web",
        "a.example",
        &["/"],
        "web",
        &[("server-snippet", SERVER), ("configuration-snippet", LOCATION)],
    );
    let plane = Plane::start(world.snapshot()).await;
    let nginx = Nginx::start(&format!(
        "server {{ listen LISTEN; server_name a.example; port_in_redirect off;\n{SERVER}\n\
         location / {{ {LOCATION}\n proxy_pass http://{}; }} }}",
        upstream.addr
    ))
    .await;
    let told = |answer: &Answer| {
        let field = |name: &str| answer.field(name).map(str::to_owned);
        let names = ["location", "x-only-good", "x-always", "x-internal"];
        (answer.status, names.map(field), (answer.status == 200).then(|| answer.text().to_owned()))
    };
    for (target, fields, status) in [
        ("/x?y", &[("Accept-Encoding", "gzip")][..], 200),
        ("/robots.txt", &[], 200),
        ("/Admin/x", &[], 403),
        ("/x", &[("User-Agent", "a SPIDER")], 403),
        ("/old/a?q=1", &[], 301),
        ("/here", &[], 302),
        ("/hop", &[], 200),
    ] {
        let ours = ask(plane.http, "a.example", target, fields).await;
        assert_eq!(ours.status, status, "{target}");
        if let Some(nginx) = &nginx {
            let theirs = ask(nginx.addr, "a.example", target, fields).await;
            println!("{target} {fields:?}: we {:?}, nginx {:?}", told(&ours), told(&theirs));
            assert_eq!(told(&ours), told(&theirs), "{target} {fields:?}");
        }
    }
    for seen in upstream.seen() {
        assert_eq!((seen.field("x-who"), seen.field("accept-encoding")), (Some("a.example 127.0.0.1"), None));
    }
    plane.stop().await;
}

#[tokio::test]
async fn a_snippet_that_is_not_understood_whole_does_nothing_or_closes() {
    let upstream = Upstream::named("web").await;
    for (snippet, status) in [
        ("add_header X-A b;\nsub_filter a b;", 200),
        ("add_header X-A b;\nlua_thing x;", 503),
        ("deny 10.0.0.0/8;\nsub_filter a b;", 503),
    ] {
        let world = World::default().service("web", &[upstream.addr]).annotated(
            "web",
            "a.example",
            &["/"],
            "web",
            &[("configuration-snippet", snippet)],
        );
        let plane = Plane::start(world.snapshot()).await;
        let answer = ask(plane.http, "a.example", "/x", &[]).await;
        assert_eq!((answer.status, answer.field("x-a")), (status, None), "{snippet}");
        plane.stop().await;
    }
}

#[tokio::test]
async fn the_first_rule_for_an_address_counts() {
    let upstream = Upstream::named("web").await;
    for (snippet, status) in [
        ("allow 127.0.0.0/8; deny all;", 200),
        ("deny all; allow 127.0.0.1;", 403),
        ("allow 192.0.2.0/24;", 200),
        ("allow 192.0.2.0/24; deny 127.0.0.1;", 403),
    ] {
        let world = World::default().service("web", &[upstream.addr]).annotated(
            "web",
            "a.example",
            &["/"],
            "web",
            &[("configuration-snippet", snippet)],
        );
        let plane = Plane::start(world.snapshot()).await;
        assert_eq!(ask(plane.http, "a.example", "/x", &[]).await.status, status, "{snippet}");
        if let Some(nginx) = Nginx::start(&format!(
            "server {{ listen LISTEN; location / {{ {snippet} proxy_pass http://{}; }} }}",
            upstream.addr
        ))
        .await
        {
            let theirs = ask(nginx.addr, "a.example", "/x", &[]).await.status;
            println!("{snippet}: nginx {theirs}");
            assert_eq!(status, theirs, "{snippet}");
        }
        plane.stop().await;
    }
}
