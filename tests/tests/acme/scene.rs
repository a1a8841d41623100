//! A CA, a folder of manifests, and an appliance that has certificates ordered.

use std::fmt::Write as _;

use ferrogate_tests::appliance::{Appliance, Builder};
use ferrogate_tests::folder::Folder;
use ferrogate_tests::pebble::{Options, Pebble};
use ferrogate_tests::wait::until;
use serde_json::Value;
use tempfile::TempDir;

/// Everything that a test needs; fields end in the order they stand in.
pub(crate) struct Scene {
    pub(crate) pebble: Pebble,
    pub(crate) folder: Folder,
    pub(crate) state: TempDir,
    pub(crate) builder: Builder,
}

/// An Ingress that asks for one certificate.
pub(crate) struct Asks<'a> {
    pub(crate) name: &'a str,
    pub(crate) hosts: &'a [&'a str],
    pub(crate) secret: &'a str,
    pub(crate) annotations: &'a [(&'a str, &'a str)],
}

impl Default for Asks<'_> {
    fn default() -> Self {
        Self { name: "web", hosts: &["shop.example.com"], secret: "shop-tls", annotations: &[] }
    }
}

impl Asks<'_> {
    pub(crate) fn yaml(&self) -> String {
        let issuer = [("cert-manager.io/cluster-issuer", "pebble")];
        let named = self.annotations.iter().any(|(name, _)| name.contains("issuer") || name.contains("tls-acme"));
        let issuer = if named { &issuer[..0] } else { &issuer[..] };
        let mut text = format!(
            "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata:\n  name: {}\n  namespace: shop\n  annotations:\n",
            self.name
        );
        for (key, value) in issuer.iter().chain(self.annotations) {
            let _ = writeln!(text, "    {key}: {value:?}");
        }
        let _ =
            writeln!(text, "spec:\n  ingressClassName: ferrogate\n  tls:\n  - secretName: {}\n    hosts:", self.secret);
        for host in self.hosts {
            let _ = writeln!(text, "    - {host:?}");
        }
        text.push_str("  rules:\n");
        for host in self.hosts {
            let backend = "{service: {name: web, port: {number: 80}}}";
            let _ = writeln!(
                text,
                "  - host: {host:?}\n    http: {{paths: [{{path: /, pathType: Prefix, backend: {backend}}}]}}"
            );
        }
        text
    }
}

/// The `ConfigMap` with the issuers.
pub(crate) fn config(pebble: &Pebble, more: &str) -> String {
    let issuers = format!("issuers:\n{}", pebble.issuer(more));
    let lines: Vec<&str> = issuers.lines().collect();
    let indented = format!("    {}\n", lines.join("\n    "));
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: config, namespace: metallb-system}}\ndata:\n  config: \"\"\n  acme: |\n{indented}"
    )
}

const CLASS: &str = "apiVersion: networking.k8s.io/v1\nkind: IngressClass\nmetadata: {name: ferrogate}\nspec: {controller: ferrogate.io/ingress-controller}\n";
const SERVICE: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\nspec: {ports: [{port: 80}], clusterIP: 10.96.0.1}\n";

impl Scene {
    /// A scene whose CA is away.
    pub(crate) fn prepare(change: impl FnOnce(&mut Options)) -> Self {
        let (folder, state) = (Folder::new(), TempDir::new().expect("a temporary folder"));
        let builder = Builder::new(folder.path()).state(state.path());
        let (http, https) = builder.listeners();
        let mut options = Options {
            targets: vec![builder.ip()],
            http: http.port(),
            tls: https.port(),
            slow: false,
            bad_nonces: 5,
            dns: None,
            customer: None,
        };
        change(&mut options);
        let scene = Self { pebble: Pebble::prepare(options), folder, state, builder };
        scene.folder.write("class.yaml", CLASS);
        scene.folder.write("service.yaml", SERVICE);
        scene.configure("");
        scene
    }

    /// A scene whose CA answers.
    pub(crate) async fn new() -> Self {
        let mut scene = Self::prepare(|_| {});
        scene.pebble.come_back().await;
        scene
    }

    /// Writes the issuer, with these lines besides (indented by four).
    pub(crate) fn configure(&self, more: &str) {
        self.folder.write("config.yaml", &config(&self.pebble, more));
    }

    /// Has an Ingress ask for a certificate.
    pub(crate) fn ask(&self, asks: &Asks<'_>) {
        self.folder.write(&format!("ingress-{}.yaml", asks.name), &asks.yaml());
    }

    /// The file of a Secret of ours.
    pub(crate) fn secret(&self, name: &str) -> Option<Value> {
        let text = std::fs::read_to_string(self.state.path().join(format!("secrets/shop_{name}.json"))).ok()?;
        serde_json::from_str(&text).ok()
    }
}

/// How a certificate stands.
pub(crate) async fn managed(appliance: &Appliance, secret: &str) -> Value {
    let answer = appliance.admin.get("admin", "/api/v1/certificates").await.expect("the admin API answers");
    let body: Value = serde_json::from_slice(&answer.body).expect("the admin API speaks JSON");
    let all = body["managed"].as_array().cloned().unwrap_or_default();
    all.into_iter().find(|entry| entry["secret"] == format!("shop/{secret}")).unwrap_or_default()
}

/// Waits until a certificate stands so.
pub(crate) async fn stands(appliance: &Appliance, secret: &str, state: &str) -> Value {
    until(&format!("{secret} is {state}"), async || {
        let entry = managed(appliance, secret).await;
        if entry["state"] == state { Ok(entry) } else { Err(entry) }
    })
    .await
}

/// Waits until a host is served a certificate of the CA; its DER.
pub(crate) async fn served(appliance: &Appliance, host: &str) -> Vec<u8> {
    until(&format!("{host} has a certificate of the CA"), async || {
        let shown = appliance.shown(host).await.map_err(|error| error.to_string())?;
        let text = String::from_utf8_lossy(&shown).into_owned();
        if text.contains("Pebble Intermediate CA") { Ok(shown) } else { Err("another certificate".to_owned()) }
    })
    .await
}
