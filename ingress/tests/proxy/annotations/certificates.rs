//! Clients that show certificates (`auth-tls`), and TLS that endpoints end (`ssl-passthrough`).

use http::Request;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use serde_json::json;
use tokio::time::timeout;

use crate::support::client::{Client, Person, get, shown, tls, tls_as};
use crate::support::nginx::Nginx;
use crate::support::objects::World;
use crate::support::relay::{Pair, Relay};
use crate::support::upstream::Upstream;
use crate::support::{PATIENCE, Plane};

type Authority = CertifiedIssuer<'static, KeyPair>;

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "Shop, Inc.");
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn authority(name: &str) -> Authority {
    let mut params = params(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn person(name: &str, by: &Authority, change: impl FnOnce(&mut CertificateParams)) -> Person {
    let key = KeyPair::generate().unwrap();
    let mut params = params(name);
    change(&mut params);
    let certificate = params.signed_by(&key, by).unwrap();
    (vec![certificate.der().clone()], key.serialize_der())
}

/// What endpoints are told of a client.
const TOLD: [&str; 4] = ["ssl-client-verify", "ssl-client-subject-dn", "ssl-client-issuer-dn", "ssl-client-cert"];

/// An Ingress of class `nginx` with TLS for `host`.
fn guarded(world: World, host: &str, annotations: &[(&str, &str)]) -> World {
    let (world, _) = world.certificate(&format!("cert-{host}"), host);
    let tls = json!([{"hosts": [host], "secretName": format!("cert-{host}")}]);
    world.annotated_tls(host, host, &["/"], "web", annotations, &tls)
}

#[tokio::test]
async fn clients_are_judged_as_at_nginx() {
    let upstream = Upstream::named("web").await;
    let (root, other) = (authority("root"), authority("other"));
    let people = [
        ("nobody", None),
        ("ann", Some(person("ann", &root, |_| {}))),
        ("a stranger", Some(person("eve", &other, |_| {}))),
        ("bob, of old", Some(person("bob", &root, |params| params.not_after = rcgen::date_time_ymd(2020, 1, 1)))),
    ];
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let pair = rcgen::generate_simple_self_signed(["nginx.example".to_owned()]).unwrap();
    let (cert, key) = (file("cert", &pair.cert.pem()), file("key", &pair.signing_key.serialize_pem()));
    let ca = file("ca", &root.pem());
    let (mut world, mut servers) = (World::default().service("web", &[upstream.addr]), Vec::new());
    world = world.secret("ca", &[("ca.crt", &root.pem())]);
    let page = "https://www.example/sorry";
    let modes = [("on", ""), ("optional", ""), ("optional_no_ca", ""), ("on", page)];
    for (index, (mode, page)) in modes.iter().enumerate() {
        let host = format!("h{index}.example");
        let mut annotations = vec![
            ("auth-tls-secret", "shop/ca"),
            ("auth-tls-verify-client", *mode),
            ("auth-tls-pass-certificate-to-upstream", "true"),
        ];
        let mut errors = String::new();
        if !page.is_empty() {
            annotations.push(("auth-tls-error-page", page));
            errors = format!("error_page 495 496 = {page};");
        }
        world = guarded(world, &host, &annotations);
        servers.push(format!(
            "server {{ listen LISTEN ssl; server_name {host}; ssl_certificate {cert}; ssl_certificate_key {key};\n\
             ssl_client_certificate {ca}; ssl_verify_client {mode}; ssl_verify_depth 1; {errors}\n\
             location / {{ proxy_set_header ssl-client-verify $ssl_client_verify;\n\
             proxy_set_header ssl-client-subject-dn $ssl_client_s_dn;\n\
             proxy_set_header ssl-client-issuer-dn $ssl_client_i_dn;\n\
             proxy_set_header ssl-client-cert $ssl_client_escaped_cert; proxy_pass http://{}; }} }}\n",
            upstream.addr
        ));
    }
    let plane = Plane::start(world.snapshot()).await;
    let nginx = Nginx::start(&servers.concat()).await;
    for (index, (mode, page)) in modes.iter().enumerate() {
        let host = format!("h{index}.example");
        for (who, person) in &people {
            let mut outcomes = Vec::new();
            for addr in [Some(plane.https), nginx.as_ref().map(|nginx| nginx.addr)].into_iter().flatten() {
                let mut client = Client::over(tls_as(addr, &host, b"http/1.1", person.as_ref()).await.unwrap());
                client.send(format!("GET /x HTTP/1.1\r\nHost: {host}\r\nssl-client-verify: SUCCESS\r\n\r\n")).await;
                let answer = client.answer().await;
                let passed = (answer.status == 200).then(|| upstream.seen().last().cloned().unwrap());
                let told = passed.map(|seen| TOLD.map(|name| seen.field(name).map(str::to_owned)));
                outcomes.push((answer.status, answer.field("location").map(str::to_owned), told));
            }
            let verdicts: Vec<_> = outcomes
                .iter()
                .map(|(status, to, told)| (*status, to.clone(), told.as_ref().and_then(|told| told[0].clone())))
                .collect();
            println!("{mode} {page} {who}: {verdicts:?}");
            let expected = match (*mode, *who) {
                (_, "ann") | ("optional" | "optional_no_ca", "nobody") | ("optional_no_ca", "a stranger") => 200,
                _ if page.is_empty() => 400,
                _ => 302,
            };
            assert_eq!(outcomes[0].0, expected, "{mode} {who}");
            assert!(outcomes.iter().all(|outcome| *outcome == outcomes[0]), "{outcomes:#?}");
        }
    }
    plane.stop().await;
}

#[tokio::test]
async fn an_identity_never_counts_for_another_host() {
    let upstream = Upstream::named("web").await;
    let (root, other) = (authority("root"), authority("other"));
    let world = World::default().service("web", &[upstream.addr]);
    let world = world.secret("one", &[("ca.crt", &root.pem())]).secret("two", &[("ca.crt", &other.pem())]);
    let world = guarded(world, "a.example", &[("auth-tls-secret", "one")]);
    let world = guarded(world, "b.example", &[("auth-tls-secret", "two")]);
    let world = guarded(world, "same.example", &[("auth-tls-secret", "one")]);
    let world = guarded(world, "open.example", &[]);
    let world = guarded(world, "lost.example", &[("auth-tls-secret", "nowhere")]);
    let plane = Plane::start(world.snapshot()).await;
    let ann = person("ann", &root, |_| {});
    for (name, host, status) in [
        ("a.example", "a.example", 200),
        ("a.example", "A.example:443", 200),
        ("a.example", "same.example", 200),
        ("a.example", "b.example", 421),
        ("a.example", "open.example", 200),
        ("open.example", "a.example", 421),
        ("elsewhere.example", "a.example", 421),
        ("b.example", "b.example", 400),
        ("lost.example", "lost.example", 403),
    ] {
        let before = upstream.seen().len();
        let mut client = Client::over(tls_as(plane.https, name, b"http/1.1", Some(&ann)).await.unwrap());
        client.send(format!("GET /x HTTP/1.1\r\nHost: {host}\r\nssl-client-subject-dn: CN=root\r\n\r\n")).await;
        assert_eq!(client.answer().await.status, status, "{host} over {name}");
        let stream = tls_as(plane.https, name, b"h2", Some(&ann)).await.unwrap();
        let (mut sender, connection) = h2::client::handshake(stream).await.unwrap();
        let connection = tokio::spawn(connection);
        let request = Request::get(format!("https://{host}/x")).body(()).unwrap();
        let (answer, _) = sender.send_request(request, true).unwrap();
        assert_eq!(timeout(PATIENCE, answer).await.unwrap().unwrap().status(), status, "{host} over {name}, h2");
        connection.abort();
        for seen in &upstream.seen()[before..] {
            let expected = host.eq_ignore_ascii_case("open.example").then_some(None);
            let expected = expected.unwrap_or(Some("CN=ann,O=Shop\\, Inc."));
            assert_eq!(seen.field("ssl-client-subject-dn"), expected, "{host} over {name}");
        }
    }
    plane.stop().await;
}

#[tokio::test]
async fn a_change_of_whom_to_trust_counts_for_connections_that_are_there() {
    let upstream = Upstream::named("web").await;
    let (root, other) = (authority("root"), authority("other"));
    let world = |trust: &Authority| {
        let world = World::default().service("web", &[upstream.addr]).secret("ca", &[("ca.crt", &trust.pem())]);
        guarded(world, "a.example", &[("auth-tls-secret", "ca")]).snapshot()
    };
    let mut plane = Plane::start(world(&root)).await;
    let ann = person("ann", &root, |_| {});
    let mut client = Client::over(tls_as(plane.https, "a.example", b"http/1.1", Some(&ann)).await.unwrap());
    assert_eq!(client.get("a.example", "/x").await.status, 200);
    plane.swap(world(&other)).await;
    assert_eq!(client.get("a.example", "/x").await.status, 421);
    let mut anew = Client::over(tls_as(plane.https, "a.example", b"http/1.1", Some(&ann)).await.unwrap());
    assert_eq!(anew.get("a.example", "/x").await.status, 400);
    plane.stop().await;
}

#[tokio::test]
async fn in_the_clear_nobody_has_a_certificate() {
    let upstream = Upstream::named("web").await;
    let root = authority("root");
    let world = World::default().service("web", &[upstream.addr]).secret("ca", &[("ca.crt", &root.pem())]);
    let world = guarded(world, "a.example", &[("auth-tls-secret", "ca")]);
    let world = world.ours("ours", "b.example", "/", "web", &[("auth-tls-secret", "ca")]);
    let world = guarded(world, "c.example", &[("auth-tls-secret", "ca"), ("auth-tls-verify-client", "off")]);
    let plane = Plane::start(world.snapshot()).await;
    for (host, status) in [("a.example", 308), ("b.example", 403), ("c.example", 308)] {
        assert_eq!(get(plane.http, host, "/x").await.status, status, "{host}");
    }
    let mut client = Client::over(tls(plane.https, "c.example", b"http/1.1").await.unwrap());
    assert_eq!(client.get("c.example", "/x").await.status, 200);
    plane.stop().await;
}

#[tokio::test]
async fn tls_that_an_endpoint_ends_reaches_it_as_it_is() {
    let web = Upstream::named("web").await;
    let pair = Pair::new("a.example");
    let endpoint = Relay::start(web.addr, &pair, None).await;
    let world = World::default().service("web", &[endpoint.addr]).service("plain", &[web.addr]);
    let (world, _) = world.certificate("cert", "a.example");
    let tls_of = json!([{"hosts": ["a.example"], "secretName": "cert"}]);
    let annotations = [("ssl-passthrough", "true"), ("ssl-redirect", "false")];
    let world = world.annotated_tls("a", "a.example", &["/"], "web", &annotations, &tls_of);
    let (world, ours) = world.certificate("other", "b.example");
    let world = world.tls_route("b", "b.example", "plain", "other");
    let plane = Plane::start(world.snapshot()).await;
    let mut client = Client::over(tls(plane.https, "a.example", b"http/1.1").await.unwrap());
    let theirs = shown(&client.stream);
    assert!(pair.certificate.contains(&pem_body(&theirs)[..40]), "the certificate is the endpoint's");
    assert_eq!(client.get("a.example", "/x").await.text(), "web /x");
    assert_eq!(client.get("a.example", "/big").await.body.len(), 1 << 20);
    assert_eq!(endpoint.shakes()[0].server_name.as_deref(), Some("a.example"));
    assert!(shown(&tls(plane.https, "b.example", b"http/1.1").await.unwrap()) == ours);
    assert_eq!(get(plane.http, "a.example", "/y").await.text(), "web /y", "the clear reaches it over TLS");
    assert_eq!(endpoint.shakes().len(), 2);
    // What is passed on has no end that we could tell; it goes when its client goes.
    drop(client);
    plane.stop().await;
}

/// The first line of a certificate in PEM.
fn pem_body(der: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(der)
}
