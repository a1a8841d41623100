//! Every edit takes effect at once and nobody notices it happen.

use std::os::unix::fs::symlink;
use std::path::Path;

use ferrogate_tests::appliance::Appliance;
use ferrogate_tests::certificate::issue;
use ferrogate_tests::client::Target;
use ferrogate_tests::load::{Load, Request};
use ferrogate_tests::manifests::{INGRESS_CLASS, Ingress, backend, endpoints, tls_secret};
use ferrogate_tests::source::Source;
use ferrogate_tests::upstream::Upstream;
use ferrogate_tests::wait::until;

use crate::shop::{self, HOST, about};

const SECURE: &str = "secure.example";

/// Both hosts, each to the Service `to`.
fn site(to: &str) -> [(&'static str, String); 2] {
    let plain = Ingress::new("shop", "plain").rule(HOST, "/", to);
    let secure = Ingress::new("shop", "secure").rule(SECURE, "/", to).tls("cert", &[SECURE]);
    [("plain.yaml", plain.yaml()), ("secure.yaml", secure.yaml())]
}

/// The appliance with `red` and `blue` behind it, under load on HTTP and HTTPS, sent to `red`.
struct Busy {
    source: Source,
    appliance: Appliance,
    load: Load,
    blue: Upstream,
    /// Kept running, though nobody calls it after a while.
    _red: Upstream,
}

impl Busy {
    async fn start(source: Source) -> Self {
        let (red, blue) = (source.named("red").await, source.named("blue").await);
        source.write_all(&[
            ("class.yaml", INGRESS_CLASS),
            ("red.yaml", &backend("shop", "red", &[red.address])),
            ("blue.yaml", &backend("shop", "blue", &[blue.address])),
            ("cert.yaml", &tls_secret("shop", "cert", &issue(&[SECURE]))),
        ]);
        for (name, text) in site("red") {
            source.write(name, &text);
        }
        let appliance = source.builder().start().await;
        let load = Load::start(&[
            Request { target: Target::plain(appliance.http), host: HOST.to_owned(), path: "/".to_owned() },
            Request { target: Target::tls(appliance.https, SECURE), host: SECURE.to_owned(), path: "/".to_owned() },
        ]);
        load.more(100).await;
        Self { source, appliance, load, blue, _red: red }
    }

    async fn sees(&self, body: &str) {
        self.appliance.answers(HOST, "/", 200, body).await;
        until(&format!("{body} over HTTPS"), async || {
            let response = self.appliance.get_tls(SECURE, "/").await.map_err(|error| error.to_string())?;
            if response.text() == body { Ok(()) } else { Err(response.text()) }
        })
        .await;
    }

    async fn finish(self, bodies: &[&str]) {
        self.load.more(200).await;
        let tally = self.load.finish().await;
        assert_eq!(tally.unexpected(bodies), Vec::<String>::new());
        for body in bodies {
            assert!(tally.of(body) > 0, "nobody was answered by {body}: {tally:?}");
        }
    }
}

async fn an_ingress_moves_to_another_backend_without_a_failed_request(source: Source) {
    let busy = Busy::start(source).await;
    busy.sees("red").await;
    for (name, text) in site("blue") {
        busy.source.write(name, &text);
    }
    busy.sees("blue").await;
    busy.finish(&["red", "blue"]).await;
}

async fn a_rotated_certificate_is_served_without_a_failed_request(source: Source) {
    let busy = Busy::start(source).await;
    for _ in 0..3 {
        let fresh = issue(&[SECURE]);
        busy.source.write("cert.yaml", &tls_secret("shop", "cert", &fresh));
        until("the new certificate", async || {
            let connection = Target::tls(busy.appliance.https, SECURE).connect().await.map_err(|e| e.to_string())?;
            if connection.certificate.as_ref() == Some(&fresh.der) { Ok(()) } else { Err("the old one".to_owned()) }
        })
        .await;
    }
    busy.finish(&["red"]).await;
}

async fn endpoints_change_without_a_failed_request(source: Source) {
    let busy = Busy::start(source).await;
    busy.sees("red").await;
    busy.source.write("red.yaml", &backend("shop", "red", &[busy.blue.address]));
    busy.sees("blue").await;
    busy.finish(&["red", "blue"]).await;
}

async fn an_object_broken_and_mended_never_stops_serving(source: Source) {
    let busy = Busy::start(source).await;
    for (file, object) in [("plain.yaml", "Ingress shop/plain"), ("red.yaml", "Service shop/red")] {
        busy.source.break_spec(file);
        until(&format!("a problem about {object}"), async || {
            about(&busy.appliance.problems().await, object).map(|_| ()).ok_or("none")
        })
        .await;
        busy.sees("red").await;
        busy.source.mend(file);
        until("no problem", async || {
            let problems = busy.appliance.problems().await;
            if problems.is_empty() { Ok(()) } else { Err(format!("{problems:?}")) }
        })
        .await;
    }
    busy.finish(&["red"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_renamed_and_rewritten_in_place_without_a_failed_request() {
    let busy = Busy::start(Source::folder()).await;
    let folder = busy.source.as_folder();
    folder.rename("plain.yaml", "site.yaml");
    folder.rename("red.yaml", "a-red.yaml");
    let [(_, plain), _] = site("red");
    for _ in 0..20 {
        folder.write_in_place("site.yaml", &plain);
    }
    busy.source.write("notes.txt", "not a manifest: at all: {");
    folder.write_in_place(".plain.yaml.swp", "an editor's file, broken: [");
    busy.source.write("new.yaml", &Ingress::new("shop", "new").rule("new.example", "/", "blue").yaml());
    busy.appliance.answers("new.example", "/", 200, "blue").await;
    assert_eq!(busy.appliance.problems().await, Vec::<serde_json::Value>::new());
    busy.finish(&["red"]).await;
}

async fn a_deleted_ingress_is_gone_and_comes_back(source: Source) {
    let web = source.named("web").await;
    let appliance = shop::open_on(&source, &[web.address]).await;
    appliance.answers(HOST, "/", 200, "web").await;
    let text = source.text("ingress.yaml");
    source.remove("ingress.yaml");
    appliance.answers(HOST, "/", 404, "").await;
    source.write("ingress.yaml", &text);
    appliance.answers(HOST, "/", 200, "web").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subfolder_and_a_symlinked_mount_are_followed() {
    let (red, blue) = (Upstream::named("red").await, Upstream::named("blue").await);
    let (source, appliance) = shop::open(&[red.address]).await;
    let folder = source.as_folder();
    let slice = |to: &Upstream| endpoints("deep", "web", &[to.address]);
    std::fs::create_dir_all(folder.file("deep/er")).expect("a folder can be made");
    let ingress = Ingress::new("deep", "web").rule("deep.example", "/", "web").yaml();
    std::fs::write(folder.file("deep/er/ingress.yaml"), ingress).expect("a file can be written");
    let service = ferrogate_tests::manifests::service("deep", "web");
    std::fs::write(folder.file("deep/service.yaml"), service).expect("a file can be written");
    mount(&folder.file("deep/mount"), "1", &slice(&red));
    appliance.answers("deep.example", "/", 200, "red").await;
    mount(&folder.file("deep/mount"), "2", &slice(&blue));
    appliance.answers("deep.example", "/", 200, "blue").await;
    std::fs::remove_dir_all(folder.file("deep")).expect("a folder can be deleted");
    appliance.answers("deep.example", "/", 404, "").await;
    appliance.answers(HOST, "/", 200, "red").await;
}

/// What the kubelet does with a `ConfigMap` volume: a new data folder, and `..data` swung over to it.
fn mount(at: &Path, version: &str, text: &str) {
    let data = format!("..{version}");
    std::fs::create_dir_all(at.join(&data)).expect("a folder can be made");
    std::fs::write(at.join(&data).join("slice.yaml"), text).expect("a file can be written");
    symlink(&data, at.join("..data_tmp")).expect("a link can be made");
    std::fs::rename(at.join("..data_tmp"), at.join("..data")).expect("a link can be swung");
    if !at.join("slice.yaml").exists() {
        symlink("..data/slice.yaml", at.join("slice.yaml")).expect("a link can be made");
    }
}

from_both!(
    an_ingress_moves_to_another_backend_without_a_failed_request,
    a_rotated_certificate_is_served_without_a_failed_request,
    endpoints_change_without_a_failed_request,
    an_object_broken_and_mended_never_stops_serving,
    a_deleted_ingress_is_gone_and_comes_back,
);
