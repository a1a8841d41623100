//! `custom-http-errors` and `default-backend`.

use super::{ask, web};
use crate::support::Plane;
use crate::support::client::Client;
use crate::support::nginx::Nginx;
use crate::support::objects::World;
use crate::support::upstream::{Upstream, nobody};

const ERRORS: [(&str, &str); 2] = [("custom-http-errors", "404, 502,503"), ("default-backend", "pages")];

/// What ingress-nginx makes of these annotations.
fn nginx(web: impl std::fmt::Display, pages: impl std::fmt::Display) -> String {
    let page = |code: u16| {
        format!(
            "location @page_{code} {{ internal; proxy_intercept_errors off; proxy_set_header X-Code {code};\n\
             proxy_set_header X-Format $http_accept; proxy_set_header X-Original-URI $request_uri;\n\
             proxy_set_header X-Namespace shop; proxy_set_header X-Ingress-Name web;\n\
             proxy_set_header X-Service-Name web; proxy_set_header X-Service-Port 80; rewrite (.*) / break;\n\
             proxy_pass http://{pages}; }}\n"
        )
    };
    let pages: Vec<_> = [404, 502, 503].into_iter().map(page).collect();
    format!(
        "server {{ listen LISTEN; server_name a.example; {}
         location / {{ proxy_intercept_errors on; error_page 404 = @page_404; error_page 502 = @page_502;\n\
         error_page 503 = @page_503; proxy_pass http://{web}; }} }}",
        pages.concat()
    )
}

#[tokio::test]
async fn errors_are_replaced_by_pages_as_at_nginx() {
    let (endpoint, pages) = (Upstream::named("web").await, Upstream::named("pages").await);
    let plane = Plane::start(web(endpoint.addr, &ERRORS).service("pages", &[pages.addr]).snapshot()).await;
    let theirs = Nginx::start(&nginx(endpoint.addr, pages.addr)).await;
    for (method, target, expected) in [
        ("GET", "/status/404?x=1", (200, "pages /?x=1")),
        ("GET", "/status/503", (200, "pages /")),
        ("GET", "/status/500", (500, "made")),
        ("GET", "/status/418", (418, "made")),
        ("GET", "/x", (200, "web /x")),
        ("GET", "/hang-up", (200, "pages /")),
        ("POST", "/status/404", (200, "body")),
    ] {
        let mut seen = Vec::new();
        for addr in [Some(plane.http), theirs.as_ref().map(|nginx| nginx.addr)].into_iter().flatten() {
            let mut client = Client::connect(addr).await;
            let body = if method == "POST" { "Content-Length: 4\r\n\r\nbody" } else { "\r\n" };
            let head = format!("{method} {target} HTTP/1.1\r\nHost: a.example\r\nAccept: text/x\r\n{body}");
            // Twice, since an answer of another Service leaves the connection as good as any.
            for _ in 0..2 {
                client.send(&head).await;
                let answer = client.answer().await;
                assert_eq!((answer.status, answer.text()), expected, "{method} {target} at {addr}");
            }
            let told = pages.seen().last().map(|page| {
                let fields = ["x-code", "x-format", "x-original-uri", "x-namespace", "x-ingress-name"];
                let fields = fields.into_iter().chain(["x-service-name", "x-service-port"]);
                fields.map(|name| page.field(name).map(str::to_owned)).collect::<Vec<_>>()
            });
            seen.push(told);
        }
        println!("{method} {target}: {seen:?}");
        assert!(seen.iter().all(|told| *told == seen[0]), "{seen:?}");
    }
    let page = pages.seen().remove(0);
    assert_eq!((page.field("x-code"), page.field("x-original-uri")), (Some("404"), Some("/status/404?x=1")));
    plane.stop().await;
}

#[tokio::test]
async fn what_cannot_be_asked_has_its_page_too_and_a_page_has_none_of_its_own() {
    let pages = Upstream::named("pages").await;
    for (errors, expected) in [("502", (200, "pages /")), ("504", (502, ""))] {
        let annotations = [("custom-http-errors", errors), ERRORS[1]];
        let plane = Plane::start(web(nobody(), &annotations).service("pages", &[pages.addr]).snapshot()).await;
        let answer = ask(plane.http, "a.example", "/x", &[]).await;
        assert_eq!(answer.status, expected.0);
        assert!(answer.text().starts_with(expected.1), "{}", answer.text());
        plane.stop().await;
    }
    let endpoint = Upstream::named("web").await;
    let plane = Plane::start(web(endpoint.addr, &ERRORS).service("pages", &[nobody()]).snapshot()).await;
    assert_eq!(ask(plane.http, "a.example", "/status/404", &[]).await.status, 502);
    plane.stop().await;
}

#[tokio::test]
async fn another_service_stands_in_for_one_without_endpoints() {
    let (endpoint, pages) = (Upstream::named("web").await, Upstream::named("pages").await);
    let world = |endpoints: &[std::net::SocketAddr]| {
        World::default()
            .service("web", endpoints)
            .service("pages", &[pages.addr])
            .annotated("web", "a.example", &["/"], "web", &ERRORS)
            .secret("users", &[("auth", "ann:{PLAIN}secret")])
            .annotated("kept", "b.example", &["/"], "web", &[ERRORS[1], ("auth-type", "digest")])
            .snapshot()
    };
    let mut plane = Plane::start(world(&[])).await;
    let answer = ask(plane.http, "a.example", "/x", &[("X-Code", "7"), ("Accept", "text/x")]).await;
    assert_eq!((answer.status, answer.text()), (200, "pages /x"));
    let asked = pages.seen().remove(0);
    let fields = ["x-code", "x-format", "x-service-name", "x-service-port"].map(|name| asked.field(name));
    assert_eq!(fields, [Some("503"), Some("text/x"), Some("web"), Some("80")]);
    assert_eq!(ask(plane.http, "b.example", "/x", &[]).await.status, 503, "it does not stand in for a guard");
    plane.swap(world(&[endpoint.addr])).await;
    assert_eq!(ask(plane.http, "a.example", "/x", &[]).await.text(), "web /x");
    plane.stop().await;
}

#[tokio::test]
async fn the_doors_own_refusals_are_nobody_elses_to_answer() {
    let (endpoint, pages) = (Upstream::named("web").await, Upstream::named("pages").await);
    let annotations = [
        ("custom-http-errors", "401,403,413"),
        ("default-backend", "pages"),
        ("whitelist-source-range", "192.0.2.0/24"),
    ];
    let plane = Plane::start(web(endpoint.addr, &annotations).service("pages", &[pages.addr]).snapshot()).await;
    assert_eq!(ask(plane.http, "a.example", "/x", &[]).await.status, 403);
    assert_eq!(pages.seen().len(), 0);
    plane.stop().await;
}
