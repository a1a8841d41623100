//! One object is wrong; everything else keeps working, and somebody says so.

use std::os::unix::fs::PermissionsExt;

use ferrogate_tests::appliance::Appliance;
use ferrogate_tests::certificate::issue;
use ferrogate_tests::client::Target;
use ferrogate_tests::manifests::{Ingress, secret_of, service, tls_secret};
use ferrogate_tests::source::Source;
use ferrogate_tests::upstream::Upstream;
use ferrogate_tests::wait::until;
use serde_json::Value;

use crate::shop::{self, HOST, about};

/// Waits for a problem about an object, and returns it.
async fn problem(appliance: &Appliance, object: &str) -> Value {
    until(&format!("a problem about {object}"), async || {
        let problems = appliance.problems().await;
        about(&problems, object).cloned().ok_or_else(|| format!("{problems:?}"))
    })
    .await
}

async fn no_problems(appliance: &Appliance) {
    until("no problem", async || {
        let problems = appliance.problems().await;
        if problems.is_empty() { Ok(()) } else { Err(format!("{problems:?}")) }
    })
    .await;
}

async fn an_ingress_that_names_a_missing_service_answers_503_until_it_comes(source: Source) {
    let web = source.named("web").await;
    let appliance = shop::open_on(&source, &[web.address]).await;
    source.write("lost.yaml", &Ingress::new("shop", "lost").rule("lost.example", "/", "lost").yaml());
    appliance.answers("lost.example", "/", 503, "").await;
    let found = problem(&appliance, "Ingress shop/lost").await;
    assert!(found["message"].as_str().is_some_and(|message| message.contains("lost")), "{found}");
    assert_eq!(found["field"], "spec.rules[0].http.paths[0].backend.service.name");
    assert_eq!(found["line"].as_u64(), source.is_folder().then_some(16), "{found}");
    appliance.answers(HOST, "/", 200, "web").await;
    let arrived = ferrogate_tests::manifests::backend("shop", "lost", &[web.address]);
    source.write("late.yaml", &arrived);
    appliance.answers("lost.example", "/", 200, "web").await;
    no_problems(&appliance).await;
}

async fn a_service_without_endpoints_answers_503(source: Source) {
    let web = source.named("web").await;
    let appliance = shop::open_on(&source, &[web.address]).await;
    source.write("web.yaml", &service("shop", "web"));
    appliance.answers(HOST, "/", 503, "").await;
}

async fn a_secret_with_a_broken_key_keeps_the_certificate_before_it(source: Source) {
    let web = source.named("web").await;
    shop::stock(&source, &[web.address]);
    let (good, other) = (issue(&["tls.example"]), issue(&["tls.example"]));
    source.write("cert.yaml", &tls_secret("shop", "cert", &good));
    let ingress = Ingress::new("shop", "tls").rule("tls.example", "/", "web").tls("cert", &["tls.example"]);
    source.write("tls.yaml", &ingress.yaml());
    let appliance = source.builder().start().await;
    let garbage = b"-----BEGIN PRIVATE KEY-----\nbm90IGEga2V5\n-----END PRIVATE KEY-----\n";
    for (what, broken) in [
        ("a key that is none", secret_of("shop", "cert", good.certificate.as_bytes(), garbage)),
        (
            "the key of another certificate",
            secret_of("shop", "cert", good.certificate.as_bytes(), other.key.as_bytes()),
        ),
        ("no certificate", secret_of("shop", "cert", b"", good.key.as_bytes())),
        ("bytes", secret_of("shop", "cert", &[0xff, 0, 1, 2], &[0xfe; 40])),
    ] {
        source.write("cert.yaml", &broken);
        let found = problem(&appliance, "Secret shop/cert").await;
        let place = found["file"].as_str().is_some_and(|file| file.ends_with("cert.yaml"));
        assert_eq!(place, source.is_folder(), "{what}: {found}");
        let connection = Target::tls(appliance.https, "tls.example").connect().await.expect("a handshake");
        assert_eq!(connection.certificate.as_ref(), Some(&good.der), "{what}");
        assert_eq!(appliance.get_tls("tls.example", "/").await.expect("an answer").status, 200, "{what}");
        source.write("cert.yaml", &tls_secret("shop", "cert", &good));
        no_problems(&appliance).await;
    }
}

async fn a_certificate_that_was_never_good_gives_the_default_one(source: Source) {
    let web = source.named("web").await;
    shop::stock(&source, &[web.address]);
    source.write("cert.yaml", &secret_of("shop", "cert", b"no", b"no"));
    let ingress = Ingress::new("shop", "tls").rule("tls.example", "/", "web").tls("cert", &["tls.example"]);
    source.write("tls.yaml", &ingress.yaml());
    let appliance = source.builder().start().await;
    problem(&appliance, "Secret shop/cert").await;
    assert_eq!(appliance.get_tls("tls.example", "/").await.expect("an answer").text(), "web");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_cannot_be_read_leave_the_rest_alone() {
    let web = Upstream::named("web").await;
    let (source, appliance) = shop::open(&[web.address]).await;
    let folder = source.as_folder();
    folder.write("syntax.yaml", "kind: Service\n  metadata: [\n");
    folder.write("bytes.yaml", "kind: \u{0}\n");
    std::fs::write(folder.file("latin.yaml"), b"kind: Service # caf\xe9\n").expect("a file can be written");
    std::fs::create_dir(folder.file("folder.yaml")).expect("a folder can be made");
    std::os::unix::fs::symlink("nowhere.yaml", folder.file("dangling.yaml")).expect("a link can be made");
    for file in ["syntax.yaml", "bytes.yaml", "latin.yaml"] {
        until(&format!("a problem in {file}"), async || {
            let problems = appliance.problems().await;
            let named = |problem: &Value| problem["file"].as_str().is_some_and(|found| found.ends_with(file));
            if problems.iter().any(named) { Ok(()) } else { Err(format!("{problems:?}")) }
        })
        .await;
    }
    appliance.answers(HOST, "/", 200, "web").await;
    // Still listening: the next edit takes effect.
    folder.write("more.yaml", &Ingress::new("shop", "more").rule("more.example", "/", "web").yaml());
    appliance.answers("more.example", "/", 200, "web").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_without_permission_is_a_problem_that_goes_away() {
    if rustix::process::geteuid().is_root() {
        eprintln!("skipped: root may read every file");
        return;
    }
    let web = Upstream::named("web").await;
    let (source, appliance) = shop::open(&[web.address]).await;
    let folder = source.as_folder();
    let path = folder.file("web.yaml");
    let mode = |bits| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(bits)).expect("it is our file");
    mode(0);
    until("a problem", async || if appliance.problems().await.is_empty() { Err("none") } else { Ok(()) }).await;
    appliance.answers(HOST, "/", 200, "web").await;
    mode(0o600);
    no_problems(&appliance).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_object_in_two_files_is_said_and_served() {
    let web = Upstream::named("web").await;
    let (source, appliance) = shop::open(&[web.address]).await;
    let folder = source.as_folder();
    folder.write("twin.yaml", &service("shop", "web"));
    problem(&appliance, "Service shop/web").await;
    appliance.answers(HOST, "/", 200, "web").await;
    folder.remove("twin.yaml");
    no_problems(&appliance).await;
}

from_both!(
    an_ingress_that_names_a_missing_service_answers_503_until_it_comes,
    a_service_without_endpoints_answers_503,
    a_secret_with_a_broken_key_keeps_the_certificate_before_it,
    a_certificate_that_was_never_good_gives_the_default_one,
);
