//! Replicas on an API server.

use ferrogate_tests::api_server::ApiServer;
use ferrogate_tests::appliance::{Appliance, Builder};
use ferrogate_tests::pebble::{Options, Pebble};
use ferrogate_tests::skip_unless_pebble;
use ferrogate_tests::wait::{PATIENCE, until, within};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::scene::{managed, served, stands};

/// An API server, a CA, and builders of replicas that share their ports.
struct Cluster {
    server: ApiServer,
    pebble: Pebble,
    replicas: Vec<Builder>,
    _folder: TempDir,
}

impl Cluster {
    async fn new(replicas: usize, slow: bool) -> Self {
        let server = ApiServer::start().expect("a free loopback port");
        let folder = TempDir::new().expect("a temporary folder");
        let config = server.kubeconfig(folder.path()).expect("a writable folder");
        let first = Builder::cluster(&config);
        let (http, https) = first.listeners();
        let more = (1..replicas).map(|_| Builder::cluster(&config).on_ports(http.port(), https.port()));
        let replicas: Vec<Builder> = std::iter::once(first.clone()).chain(more).collect();
        let targets = replicas.iter().map(Builder::ip).collect();
        let options =
            Options { targets, http: http.port(), tls: https.port(), slow, bad_nonces: 5, dns: None, customer: None };
        let pebble = Pebble::start(options).await;
        let cluster = Self { server, pebble, replicas, _folder: folder };
        let issuers = format!("issuers:\n{}", cluster.pebble.issuer(""));
        cluster.put(&json!({ "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": { "name": "config", "namespace": "metallb-system" }, "data": { "config": "", "acme": issuers } }));
        cluster.put(&json!({ "apiVersion": "networking.k8s.io/v1", "kind": "IngressClass",
            "metadata": { "name": "ferrogate" }, "spec": { "controller": "ferrogate.io/ingress-controller" } }));
        cluster
    }

    fn put(&self, object: &Value) {
        self.server.put(object).unwrap_or_else(|failure| panic!("{object}: {}", failure.message));
    }

    /// Has an Ingress ask for a certificate.
    fn ask(&self, name: &str, host: &str, secret: &str) {
        self.ask_by(name, host, secret, ("cert-manager.io/cluster-issuer", "pebble"));
    }

    /// Has an Ingress ask for a certificate by this annotation.
    fn ask_by(&self, name: &str, host: &str, secret: &str, (annotation, issuer): (&str, &str)) {
        self.put(&json!({ "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
            "metadata": { "name": name, "namespace": "shop", "annotations": { annotation: issuer } },
            "spec": { "ingressClassName": "ferrogate", "tls": [{ "hosts": [host], "secretName": secret }],
                "rules": [{ "host": host, "http": { "paths": [{ "path": "/", "pathType": "Prefix",
                    "backend": { "service": { "name": "web", "port": { "number": 80 } } } }] } }] } }));
    }

    async fn start(&self) -> Vec<Appliance> {
        let mut started = Vec::new();
        for builder in &self.replicas {
            started.push(builder.start().await);
        }
        started
    }

    fn secret(&self, name: &str) -> Value {
        self.server.get("Secret", "shop", name).unwrap_or_default()
    }
}

/// The one that writes.
async fn leader(replicas: &[Appliance]) -> usize {
    within(PATIENCE * 2, "a leader", async || {
        replicas.iter().position(|replica| replica.log().contains("leading: this process writes")).ok_or("none")
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn three_replicas_answer_the_ca_and_serve_what_one_of_them_ordered() {
    skip_unless_pebble!();
    let cluster = Cluster::new(3, false).await;
    cluster.ask("web", "shop.example.com", "shop-tls");
    let replicas = cluster.start().await;
    let shown = served(&replicas[0], "shop.example.com").await;
    for replica in &replicas[1..] {
        assert!(served(replica, "shop.example.com").await == shown);
    }
    let secret = cluster.secret("shop-tls");
    assert_eq!(
        (&secret["type"], &secret["metadata"]["annotations"]["cert-manager.io/issuer-name"]),
        (&json!("kubernetes.io/tls"), &json!("pebble"))
    );
    let state = cluster.server.get("Secret", "metallb-system", "ferrogate-acme").unwrap();
    let kept: Vec<&String> = state["data"].as_object().unwrap().keys().collect();
    until("nothing is kept of an order that is done", async || {
        let state = cluster.server.get("Secret", "metallb-system", "ferrogate-acme").map_err(|it| it.message)?;
        let left = state["data"].as_object().unwrap().keys().filter(|key| key.starts_with("order.")).count();
        if left == 0 { Ok(()) } else { Err(format!("{left} orders")) }
    })
    .await;
    assert!(kept.iter().any(|key| key.starts_with("account.")), "{kept:?}");
    assert_eq!(cluster.pebble.issued(), 1);
    let events = cluster.server.all("Event");
    for reason in ["OrderCreated", "Presented", "CertificateIssued", "Issuing"] {
        let told = events.iter().any(|event| event["reason"] == reason && event["involvedObject"]["kind"] == "Ingress");
        assert!(told, "no event {reason}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_of_somebody_else_stays_and_one_of_ours_that_is_deleted_comes_back() {
    skip_unless_pebble!();
    let cluster = Cluster::new(1, false).await;
    let theirs = json!({ "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": { "name": "theirs", "namespace": "shop" }, "data": { "tls.crt": "aGVsbG8=", "tls.key": "aGVsbG8=" } });
    cluster.put(&theirs);
    cluster.ask("theirs", "theirs.example.com", "theirs");
    cluster.ask("web", "shop.example.com", "shop-tls");
    let replicas = cluster.start().await;
    let first = served(&replicas[0], "shop.example.com").await;
    assert_eq!(cluster.secret("theirs")["data"], theirs["data"]);
    assert_eq!(managed(&replicas[0], "theirs").await["state"], "refused");
    cluster.server.delete("Secret", "shop", "shop-tls").unwrap();
    until("another certificate", async || {
        let shown = replicas[0].shown("shop.example.com").await.map_err(|error| error.to_string())?;
        if shown == first { Err("the old one".to_owned()) } else { Ok(()) }
    })
    .await;
    assert_eq!(cluster.secret("theirs")["data"], theirs["data"]);
    assert_eq!(cluster.pebble.issued(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_issuers_of_cert_manager_are_those_of_the_ingresses_that_name_them() {
    use base64::Engine as _;
    skip_unless_pebble!();
    let cluster = Cluster::new(1, false).await;
    let bundle = base64::engine::general_purpose::STANDARD.encode(cluster.pebble.ca());
    let issuer = |kind: &str, meta: Value| {
        json!({ "apiVersion": "cert-manager.io/v1", "kind": kind, "metadata": meta, "spec": { "acme": {
            "server": cluster.pebble.directory(), "caBundle": bundle, "email": "ops@example.com",
            "privateKeySecretRef": { "name": "account-key" },
            "solvers": [{ "http01": { "ingress": { "ingressClassName": "nginx" } } }] } } })
    };
    cluster.put(&issuer("ClusterIssuer", json!({ "name": "everybody" })));
    cluster.put(&issuer("Issuer", json!({ "name": "shop-only", "namespace": "shop" })));
    cluster.put(&issuer("Issuer", json!({ "name": "foreign", "namespace": "metallb-system" })));
    for (name, annotation, issuer) in [
        ("one", "cert-manager.io/cluster-issuer", "everybody"),
        ("two", "cert-manager.io/issuer", "shop-only"),
        ("three", "cert-manager.io/issuer", "foreign"),
    ] {
        cluster.ask_by(name, &format!("{name}.example.com"), name, (annotation, issuer));
    }
    let replicas = cluster.start().await;
    served(&replicas[0], "one.example.com").await;
    served(&replicas[0], "two.example.com").await;
    let annotations = cluster.secret("two")["metadata"]["annotations"].clone();
    assert_eq!(annotations["cert-manager.io/issuer-name"], "shop-only");
    assert_eq!(annotations["cert-manager.io/issuer-kind"], "Issuer");
    let entry = managed(&replicas[0], "three").await;
    assert!(entry["next_step"].as_str().is_some_and(|it| it.contains("there is no issuer shop/foreign")), "{entry}");
    assert!(cluster.server.get("Secret", "shop", "account-key").is_err(), "their account key is not ours to write");
    for secret in ["one", "two"] {
        stands(&replicas[0], secret, "valid").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cert_manager_has_issued_is_taken_over_only_when_that_is_asked_for() {
    skip_unless_pebble!();
    let cluster = Cluster::new(1, false).await;
    for name in ["left", "taken"] {
        cluster.ask(name, &format!("{name}.example.com"), name);
        let theirs = ferrogate_tests::certificate::issue(&[&format!("old-{name}.example.com")]);
        let text = ferrogate_tests::manifests::tls_secret("shop", name, &theirs);
        let mut secret: Value = serde_yaml::from_str(&text).unwrap();
        secret["metadata"]["annotations"] = json!({ "cert-manager.io/certificate-name": name });
        cluster.put(&secret);
    }
    let left = cluster.secret("left")["data"].clone();
    let mut taken = cluster.server.get("Ingress", "shop", "taken").unwrap();
    taken["metadata"]["annotations"]["ferrogate.io/take-over-certificate"] = json!("true");
    cluster.put(&taken);
    let replicas = cluster.start().await;
    // It does not hold the host, so it is due at once.
    served(&replicas[0], "taken.example.com").await;
    assert_eq!(managed(&replicas[0], "left").await["state"], "refused");
    assert_eq!(cluster.secret("left")["data"], left);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_takes_over_from_a_leader_that_was_killed_ends_its_order() {
    skip_unless_pebble!();
    // The CA takes its time, so that the leader can be gone before it looks.
    let cluster = Cluster::new(3, true).await;
    let mut replicas = cluster.start().await;
    let first = leader(&replicas).await;
    cluster.ask("web", "shop.example.com", "shop-tls");
    until("an order under way", async || {
        let state = cluster.server.get("Secret", "metallb-system", "ferrogate-acme").map_err(|it| it.message)?;
        if cluster.pebble.log().contains("/chalZ/") && state["data"].to_string().contains("order.") {
            Ok(())
        } else {
            Err("none".to_owned())
        }
    })
    .await;
    replicas.remove(first).process().kill();
    let alive: Vec<_> =
        (cluster.replicas.iter().enumerate()).filter(|(at, _)| *at != first).map(|(_, it)| it.ip()).collect();
    cluster.pebble.dns().lead_to(&alive);
    within(PATIENCE * 6, "a certificate", async || {
        let secret = cluster.secret("shop-tls");
        if secret["data"]["tls.crt"].is_string() { Ok(()) } else { Err("none") }
    })
    .await;
    for replica in &replicas {
        served(replica, "shop.example.com").await;
    }
    assert_eq!(cluster.pebble.issued(), 1, "the order was taken up, not made anew");
}
