//! One appliance on a folder.

use ferrogate_tests::appliance::Appliance;
use ferrogate_tests::skip_unless_pebble;
use ferrogate_tests::wait::{PATIENCE, until, within};
use serde_json::Value;

use crate::scene::{Asks, Scene, managed, served, stands};

#[tokio::test(flavor = "multi_thread")]
async fn an_ingress_that_asks_has_a_certificate_and_keeps_it_over_a_restart() {
    skip_unless_pebble!();
    let scene = Scene::new().await;
    scene.ask(&Asks::default());
    let appliance = scene.builder.start().await;
    let first = served(&appliance, "shop.example.com").await;
    stands(&appliance, "shop-tls", "valid").await;
    let secret = scene.secret("shop-tls").unwrap();
    assert_eq!(secret["type"], "kubernetes.io/tls");
    assert_eq!(secret["metadata"]["annotations"]["cert-manager.io/issuer-name"], "pebble");
    assert_eq!(secret["metadata"]["annotations"]["cert-manager.io/alt-names"], "shop.example.com");
    assert_eq!(secret["metadata"]["labels"]["controller.cert-manager.io/fao"], "true");
    assert!(!appliance.log().contains("PRIVATE KEY"), "no key is logged");
    drop(appliance);
    let appliance = scene.builder.start().await;
    assert!(served(&appliance, "shop.example.com").await == first);
    stands(&appliance, "shop-tls", "valid").await;
    assert_eq!(scene.pebble.issued(), 1, "{}", scene.pebble.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_comes_or_goes_brings_another_certificate() {
    skip_unless_pebble!();
    let scene = Scene::new().await;
    scene.ask(&Asks::default());
    let appliance = scene.builder.start().await;
    served(&appliance, "shop.example.com").await;
    for hosts in [&["Shop.example.com".to_lowercase(), "b.example.com".to_owned()][..], &["b.example.com".to_owned()]] {
        let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
        scene.ask(&Asks { hosts: &hosts, ..Asks::default() });
        until("a certificate for the new hosts", async || {
            let entry = managed(&appliance, "shop-tls").await;
            let names = entry["hosts"].as_array().map_or(0, Vec::len);
            if entry["state"] == "valid" && names == hosts.len() { Ok(()) } else { Err(entry) }
        })
        .await;
        let mut sorted = hosts.clone();
        sorted.sort_unstable();
        let annotations = scene.secret("shop-tls").unwrap()["metadata"]["annotations"].clone();
        assert_eq!(annotations["cert-manager.io/alt-names"], sorted.join(","));
    }
    assert_eq!(scene.pebble.issued(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ca_that_is_away_is_waited_for_and_what_is_held_stays() {
    skip_unless_pebble!();
    let mut scene = Scene::prepare(|_| {});
    scene.ask(&Asks::default());
    let appliance = scene.builder.start().await;
    until("word of the CA that is away", async || {
        let entry = managed(&appliance, "shop-tls").await;
        if entry["state"] == "waiting" && entry["next_try"].is_string() { Ok(()) } else { Err(entry) }
    })
    .await;
    scene.pebble.come_back().await;
    let first = served(&appliance, "shop.example.com").await;
    scene.pebble.go_away();
    renew(&scene, "shop-tls");
    until("a failure", async || {
        let entry = managed(&appliance, "shop-tls").await;
        if entry["error"].is_string() { Ok(()) } else { Err(entry) }
    })
    .await;
    assert!(served(&appliance, "shop.example.com").await == first, "the old one is served meanwhile");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ca_that_refuses_most_nonces_still_issues() {
    skip_unless_pebble!();
    let mut scene = Scene::prepare(|options| options.bad_nonces = 60);
    scene.pebble.come_back().await;
    scene.ask(&Asks { hosts: &["a.example.com", "b.example.com"], ..Asks::default() });
    let appliance = scene.builder.start().await;
    served(&appliance, "b.example.com").await;
    assert_eq!(scene.pebble.issued(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_ca_says_of_a_name_is_shown_and_a_mended_one_is_tried_when_asked_for() {
    skip_unless_pebble!();
    let scene = Scene::new().await;
    // Nobody listens there.
    scene.pebble.dns().lead_to(&[ferrogate_tests::loopback::address()]);
    scene.ask(&Asks::default());
    let appliance = scene.builder.start().await;
    let entry = failed(&appliance, "shop-tls").await;
    let error = entry["error"].as_str().unwrap();
    assert!(error.contains("shop.example.com") && error.contains("connection"), "{entry}");
    assert!(entry["next_try"].is_string() && entry["failures"] == 1, "{entry}");
    until("the event", async || {
        if appliance.log().contains("Accepting challenge authorization failed") { Ok(()) } else { Err("none") }
    })
    .await;
    let why = certs(&scene, &["why", "shop/shop-tls"]);
    assert!(why.contains("last error") && why.contains("connection"), "{why}");
    scene.pebble.dns().lead_to(&[scene.builder.ip()]);
    renew(&scene, "shop-tls");
    served(&appliance, "shop.example.com").await;
    assert!(certs(&scene, &["list"]).contains("shop/shop-tls  valid"), "{}", certs(&scene, &["list"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_the_ca_rejects_is_refused_with_its_words() {
    skip_unless_pebble!();
    let scene = Scene::new().await;
    scene.ask(&Asks { hosts: &["blocked.example"], ..Asks::default() });
    let appliance = scene.builder.start().await;
    let entry = failed(&appliance, "shop-tls").await;
    assert!(entry["error"].as_str().unwrap().contains("rejectedIdentifier"), "{entry}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_key_makes_the_account_and_a_wrong_one_says_so() {
    skip_unless_pebble!();
    let key = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";
    let mut scene = Scene::prepare(|options| options.customer = Some(("kid-1".to_owned(), key.to_owned())));
    scene.pebble.come_back().await;
    let secret = |key: &str| {
        format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: eab, namespace: metallb-system}}\nstringData: {{secret: {key}}}\n"
        )
    };
    scene.folder.write("eab.yaml", &secret("d3Jvbmc"));
    scene.configure("    externalAccountBinding: {keyID: kid-1, keySecretRef: {name: eab}}\n");
    scene.ask(&Asks::default());
    let appliance = scene.builder.start().await;
    until("word of the wrong key", async || {
        let entry = managed(&appliance, "shop-tls").await;
        let said = entry["next_step"].as_str().is_some_and(|step| step.contains("there is no account at the CA"));
        if said { Ok(()) } else { Err(entry) }
    })
    .await;
    drop(appliance);
    scene.folder.write("eab.yaml", &secret(key));
    let appliance = scene.builder.start().await;
    served(&appliance, "shop.example.com").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_of_somebody_else_is_never_touched() {
    skip_unless_pebble!();
    let scene = Scene::new().await;
    let theirs = ferrogate_tests::certificate::issue(&["shop.example.com"]);
    let manifest = ferrogate_tests::manifests::tls_secret("shop", "shop-tls", &theirs);
    scene.folder.write("theirs.yaml", &manifest);
    scene.ask(&Asks::default());
    // One that is ordered, to know that the other had its time.
    scene.ask(&Asks { name: "other", hosts: &["other.example.com"], secret: "other-tls", ..Asks::default() });
    let appliance = scene.builder.start().await;
    served(&appliance, "other.example.com").await;
    let entry = stands(&appliance, "shop-tls", "refused").await;
    assert!(entry["reason"].as_str().unwrap().contains("not written by Ferrogate"), "{entry}");
    assert!(appliance.shown("shop.example.com").await.unwrap() == theirs.der);
    assert_eq!(std::fs::read_to_string(scene.folder.file("theirs.yaml")).unwrap(), manifest);
    assert!(scene.secret("shop-tls").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_ingresses_with_one_secret_one_has_it_and_the_other_is_told() {
    skip_unless_pebble!();
    let scene = Scene::new().await;
    scene.ask(&Asks { name: "a", hosts: &["a.example.com"], ..Asks::default() });
    scene.ask(&Asks { name: "b", hosts: &["b.example.com"], ..Asks::default() });
    let appliance = scene.builder.start().await;
    served(&appliance, "a.example.com").await;
    let problems = appliance.problems().await;
    let told = problems.iter().any(|problem| {
        problem["object"] == "Ingress shop/b" && problem.to_string().contains("already ordered for Ingress shop/a")
    });
    assert!(told, "{problems:?}");
    assert_eq!(scene.pebble.issued(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_is_deleted_is_ordered_again() {
    skip_unless_pebble!();
    let scene = Scene::new().await;
    scene.ask(&Asks::default());
    let appliance = scene.builder.start().await;
    served(&appliance, "shop.example.com").await;
    stands(&appliance, "shop-tls", "valid").await;
    std::fs::remove_file(scene.state.path().join("secrets/shop_shop-tls.json")).unwrap();
    until("another Secret", async || scene.secret("shop-tls").ok_or("none yet")).await;
    assert_eq!(scene.pebble.issued(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_redirect_nor_allow_list_is_in_the_way_of_the_ca() {
    skip_unless_pebble!();
    let scene = Scene::new().await;
    let annotations = [
        ("nginx.ingress.kubernetes.io/force-ssl-redirect", "true"),
        ("nginx.ingress.kubernetes.io/whitelist-source-range", "192.0.2.1/32"),
    ];
    scene.ask(&Asks { annotations: &annotations, ..Asks::default() });
    let appliance = scene.builder.start().await;
    served(&appliance, "shop.example.com").await;
    let plain = appliance.get("shop.example.com", "/").await.unwrap();
    assert!(matches!(plain.status, 308 | 403), "{}", plain.status);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_proved_by_a_handshake_too() {
    skip_unless_pebble!();
    let scene = Scene::new().await;
    scene.configure("    solvers: [{tlsalpn01: {}}]\n");
    scene.ask(&Asks { hosts: &["a.example.com", "b.example.com"], ..Asks::default() });
    let appliance = scene.builder.start().await;
    served(&appliance, "a.example.com").await;
    until("the event", async || {
        if appliance.log().contains("Presented challenge using TLS-ALPN-01") { Ok(()) } else { Err("none") }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_appliance_that_is_killed_after_any_request_of_an_order_finishes_it() {
    skip_unless_pebble!();
    let scene = Scene::new().await;
    let seen = || scene.pebble.log().lines().filter(|line| line.contains("-> calling handler()")).count();
    // An order is some twenty requests; once one is done before the blow, all were tried.
    for step in 1..40 {
        let (name, secret, host) = (format!("web{step}"), format!("tls{step}"), format!("h{step}.example.com"));
        scene.ask(&Asks { name: &name, hosts: &[&host], secret: &secret, ..Asks::default() });
        let before = seen();
        let mut appliance = scene.builder.start().await;
        let mut done = false;
        until("the step or the end of the order", async || {
            done = managed(&appliance, &secret).await["state"] == "valid";
            if done || seen() >= before + step { Ok(()) } else { Err(seen() - before) }
        })
        .await;
        appliance.process().kill();
        drop(appliance);
        let appliance = scene.builder.start().await;
        // A blow while the CA looks fails a challenge for good, and then the next try is a minute later.
        within(PATIENCE * 6, "a certificate", async || {
            let entry = managed(&appliance, &secret).await;
            if entry["state"] == "valid" { Ok(()) } else { Err(entry) }
        })
        .await;
        served(&appliance, &host).await;
        if done {
            // What was issued and then lost to the blow was taken up, not ordered anew.
            assert!(scene.pebble.issued() <= step + 1, "{} certificates after {step} blows", scene.pebble.issued());
            return;
        }
    }
    panic!("an order never ended before the blow");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ca_that_has_forgotten_our_account_makes_it_anew_without_a_storm_of_writes() {
    skip_unless_pebble!();
    let mut scene = Scene::new().await;
    scene.ask(&Asks::default());
    let appliance = scene.builder.start().await;
    let first = served(&appliance, "shop.example.com").await;
    scene.pebble.go_away();
    scene.pebble.come_back().await;
    renew(&scene, "shop-tls");
    scene.ask(&Asks { name: "other", hosts: &["other.example.com"], secret: "other-tls", ..Asks::default() });
    served(&appliance, "other.example.com").await;
    until("another certificate", async || {
        let shown = appliance.shown("shop.example.com").await.map_err(|error| error.to_string())?;
        if shown == first { Err(managed(&appliance, "shop-tls").await.to_string()) } else { Ok(()) }
    })
    .await;
    assert_eq!(scene.pebble.issued(), 2, "{}", scene.pebble.log());
    stands(&appliance, "shop-tls", "valid").await;
    stands(&appliance, "other-tls", "valid").await;
    let log = appliance.log();
    let writes = log.lines().filter(|line| line.contains("written into the state folder")).count();
    assert!(writes < 60, "{writes} writes\n{log}");
}

/// Waits until an order has come to nothing.
async fn failed(appliance: &Appliance, secret: &str) -> Value {
    until("a failure", async || {
        let entry = managed(appliance, secret).await;
        if entry["state"] == "waiting" && entry["failures"] == 1 { Ok(entry) } else { Err(entry) }
    })
    .await
}

/// Has an operator ask for a new certificate.
fn renew(scene: &Scene, secret: &str) {
    let said = certs(scene, &["renew", &format!("shop/{secret}")]);
    assert!(said.contains("is being renewed"), "{said}");
}

/// What `ferrogate certs` says.
fn certs(scene: &Scene, arguments: &[&str]) -> String {
    let mut command = std::process::Command::new(ferrogate_tests::binary::path());
    command.arg("certs").args(arguments).args(["--admin", &scene.builder.admin().to_string()]);
    let output = command.output().expect("the binary can be run");
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}
