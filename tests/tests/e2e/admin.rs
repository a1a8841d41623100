//! The admin listener, as tools read it.

use std::collections::BTreeSet;

use ferrogate_tests::appliance::Builder;
use ferrogate_tests::certificate::issue;
use ferrogate_tests::folder::Folder;
use ferrogate_tests::manifests::{INGRESS_CLASS, Ingress, backend, load_balancer, pool, tls_secret};
use ferrogate_tests::source::Source;
use ferrogate_tests::upstream::Upstream;
use ferrogate_tests::wait::until;
use serde_json::{Value, json};

use crate::shop::{self, HOST};

/// The keys of a JSON object.
fn keys(value: &Value) -> BTreeSet<&str> {
    value.as_object().map(|object| object.keys().map(String::as_str).collect()).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_list_has_the_documented_shape() {
    let web = Upstream::named("web").await;
    let source = Source::folder();
    shop::stock(&source, &[web.address]);
    let folder = source.as_folder();
    let builder = Builder::new(folder.path());
    folder.write("pool.yaml", &pool(&[&format!("{}/32", builder.ip())]));
    folder.write("vip.yaml", &load_balancer("shop", "edge"));
    folder.write("pending.yaml", &load_balancer("shop", "one-too-many"));
    folder.write("cert.yaml", &tls_secret("shop", "cert", &issue(&["tls.example"])));
    folder.write(
        "tls.yaml",
        &Ingress::new("shop", "tls").rule("tls.example", "/a", "web").tls("cert", &["tls.example"]).yaml(),
    );
    folder.write("broken.yaml", &Ingress::new("shop", "broken").rule("gone.example", "/", "gone").yaml());
    let appliance = builder.start().await;

    let vips = appliance.api("vips").await;
    assert_eq!(vips.len(), 2, "{vips:?}");
    for vip in &vips {
        let place = ["namespace", "service", "ips", "pool", "state", "reason", "node", "interface"];
        let moves = ["wanted_node", "wanted_by", "connections_on", "connections_end"];
        assert_eq!(keys(vip), place.into_iter().chain(moves).collect());
        assert_eq!(vip["namespace"], "shop");
    }
    let edge = vips.iter().find(|vip| vip["service"] == "edge").expect("the first Service");
    assert_eq!((&edge["ips"], &edge["pool"]), (&json!([builder.ip().to_string()]), &json!("edge")));
    let late = vips.iter().find(|vip| vip["service"] == "one-too-many").expect("the second Service");
    assert_eq!((&late["ips"], &late["state"]), (&json!([]), &json!("pending")));
    assert!(late["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{late}");

    let routes = appliance.api("routes").await;
    let route = routes.iter().find(|route| route["host"] == "tls.example").expect("the route");
    let expected = json!({"host": "tls.example", "path": "/a", "path_type": "Prefix", "ingress": "shop/tls",
        "backend": "shop/web:80", "endpoints": 1});
    assert_eq!(route, &expected);

    let certificates = appliance.api("certificates").await;
    let certificate = certificates.iter().find(|entry| entry["secret"] == "shop/cert").expect("the certificate");
    assert_eq!(keys(certificate), BTreeSet::from(["secret", "hosts", "not_after", "issuer"]));
    assert_eq!(certificate["hosts"], json!(["tls.example"]));
    assert!(certificate["not_after"].as_str().is_some_and(|when| when.ends_with('Z') && when.contains('T')));

    let problems = appliance.problems().await;
    let problem = shop::about(&problems, "Ingress shop/broken").expect("a problem");
    let expected = ["severity", "object", "field", "message", "file", "line", "column"];
    assert_eq!(keys(problem), BTreeSet::from(expected));
    assert!(problem["file"].as_str().is_some_and(|file| file.ends_with("broken.yaml")), "{problem}");
    assert!(problem["line"].is_u64() && problem["column"].is_u64(), "{problem}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_comes_or_goes_is_counted() {
    let (one, two) = (Upstream::named("one").await, Upstream::named("two").await);
    let (source, appliance) = shop::open(&[one.address]).await;
    let folder = source.as_folder();
    for addresses in [&[one.address, two.address][..], &[], &[two.address]] {
        folder.write("web.yaml", &backend("shop", "web", addresses));
        until(&format!("{} endpoints", addresses.len()), async || {
            let routes = appliance.api("routes").await;
            if routes[0]["endpoints"] == addresses.len() { Ok(()) } else { Err(format!("{routes:?}")) }
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_prometheus_text_with_the_names_of_metallb() {
    let web = Upstream::named("web").await;
    let source = Source::folder();
    shop::stock(&source, &[web.address]);
    let folder = source.as_folder();
    let builder = Builder::new(folder.path());
    folder.write("pool.yaml", &pool(&["127.3.0.0/28", &format!("{}/32", builder.ip())]));
    folder.write("vip.yaml", &load_balancer("shop", "edge"));
    let appliance = builder.start().await;
    for _ in 0..3 {
        assert_eq!(appliance.get(HOST, "/").await.expect("an answer").status, 200);
    }
    assert_eq!(appliance.get("nobody.example", "/").await.expect("an answer").status, 404);
    let metrics = appliance.metrics().await;
    assert_eq!(metrics.sum("metallb_allocator_addresses_total", &[("pool", "edge")]), Some(17.0));
    assert_eq!(metrics.sum("metallb_allocator_addresses_in_use_total", &[("pool", "edge")]), Some(1.0));
    assert_eq!(metrics.sum("metallb_k8s_client_config_loaded_bool", &[]), Some(1.0));
    assert_eq!(metrics.sum("metallb_k8s_client_config_stale_bool", &[]), Some(0.0));
    let ours: Vec<_> = metrics.families().filter(|name| name.starts_with("ferrogate_ingress_")).collect();
    let histogram = ours.iter().find(|name| metrics.kind(name) == Some("histogram") && name.ends_with("_seconds"));
    let histogram = histogram.unwrap_or_else(|| panic!("a latency histogram among {ours:?}"));
    let count = format!("{histogram}_count");
    // A request is counted once its answer was sent, and may have arrived before that.
    until("requests of one Ingress", async || {
        match appliance.metrics().await.sum(&count, &[("namespace", "shop"), ("ingress", "web")]) {
            Some(3.0) => Ok(()),
            other => Err(format!("{count}: {other:?}")),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_answer_and_unknown_paths_do_not() {
    let folder = Folder::with(&[("class.yaml", INGRESS_CLASS)]);
    let appliance = Builder::new(folder.path()).start().await;
    for (path, status) in [("/livez", 200), ("/readyz", 200), ("/metrics", 200), ("/nothing", 404), ("/api/v1/x", 404)]
    {
        assert_eq!(appliance.admin.get("admin", path).await.expect("an answer").status, status, "{path}");
    }
}
