//! The rules for Prometheus: valid, and about metrics that exist.

use std::collections::BTreeSet;
use std::process::Command;

use ferrogate_tests::appliance::Builder;
use ferrogate_tests::certificate;
use ferrogate_tests::client::Target;
use ferrogate_tests::folder::Folder;
use ferrogate_tests::manifests::{INGRESS_CLASS, Ingress, backend, load_balancer, pool, tls_secret};
use ferrogate_tests::netns::Lan;
use ferrogate_tests::skip_unless_root;
use ferrogate_tests::wait::until;
use serde_json::{Value, json};

use crate::objects::{folder, read, run, text};

const ASKS: &str = "\
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: asks, namespace: shop, annotations: {kubernetes.io/tls-acme: 'true'}}
spec:
  ingressClassName: ferrogate
  tls: [{hosts: [tls.example.com], secretName: tls}]
  defaultBackend: {service: {name: web, port: {number: 80}}}
";

fn groups() -> Value {
    read(&folder().join("overlays/with-prometheus/rules.yaml")).remove(0)["spec"]["groups"].take()
}

fn rules() -> Vec<Value> {
    let groups = groups();
    groups.as_array().into_iter().flatten().filter_map(|group| group["rules"].as_array()).flatten().cloned().collect()
}

/// The names of our metrics in an expression.
fn metrics(expression: &str) -> BTreeSet<&str> {
    let words = expression.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    words
        .filter(|word| ["metallb_", "ferrogate_", "certmanager_"].iter().any(|prefix| word.starts_with(prefix)))
        .collect()
}

/// The labels that the texts of a rule mention.
fn labels(rule: &Value) -> BTreeSet<String> {
    let texts = rule["annotations"].to_string();
    let mentioned = texts.split("$labels.").skip(1);
    let name = |rest: &str| rest.chars().take_while(|it| it.is_ascii_alphanumeric() || *it == '_').collect::<String>();
    // Prometheus itself says of every sample where it is from.
    mentioned.map(name).filter(|label| !["instance", "job"].contains(&label.as_str())).collect()
}

#[test]
fn promtool_finds_nothing_wrong_with_the_rules() {
    let present = Command::new("promtool").arg("--version").output().is_ok();
    if !present {
        println!("skipped: there is no promtool");
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    let file = dir.path().join("rules.yml");
    std::fs::write(&file, json!({ "groups": groups() }).to_string()).expect("a writable folder");
    let said = run(Command::new("promtool").args(["check", "rules"]).arg(&file));
    assert!(said.contains(&format!("{} rules found", rules().len())), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_and_label_of_a_rule_is_in_a_scrape() {
    // Some are counted per VIP, and only what is announced on a LAN is one.
    skip_unless_root!();
    let (lan, folder) = (Lan::new(), Folder::new());
    folder.write("class.yaml", INGRESS_CLASS);
    folder.write("pool.yaml", &pool(&["10.77.0.100/32"]));
    folder.write("vip.yaml", &load_balancer("shop", "edge"));
    // Nobody listens there.
    folder.write("web.yaml", &backend("shop", "web", &["127.0.0.77:7777".parse().expect("an address")]));
    folder.write("ingress.yaml", &Ingress::new("shop", "web").rule("web.example", "/", "web").yaml());
    // One that asks for a certificate which somebody else has put there.
    let theirs = certificate::issue(&["tls.example.com"]);
    folder.write("tls.yaml", &tls_secret("shop", "tls", &theirs));
    folder.write("asks.yaml", ASKS);
    let appliance = Builder::new(folder.path()).inside(lan.node.name()).start().await;
    let ingress = Target::plain(([10, 77, 0, 100], 80).into()).from(Some(lan.peer.name()));
    until("an endpoint that does not answer", async || match ingress.get("web.example", "/").await {
        Ok(response) if response.status == 502 => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    until("word of the certificate", async || {
        let scrape = appliance.metrics().await;
        let known = scrape.samples("certmanager_certificate_expiration_timestamp_seconds", &[]);
        if known.is_empty() { Err("none") } else { Ok(()) }
    })
    .await;
    let scrape = appliance.metrics().await;
    let rules = rules();
    assert!(rules.len() > 5, "{rules:?}");
    for rule in &rules {
        let names = metrics(text(&rule["expr"]));
        assert!(!names.is_empty(), "a rule about nothing of ours: {rule}");
        for name in names {
            let samples = scrape.samples(name, &[]);
            assert!(
                !samples.is_empty(),
                "{}: there is no {name} among {:?}",
                rule["alert"],
                scrape.families().collect::<Vec<_>>()
            );
            for label in labels(rule) {
                assert!(samples[0].labels.contains_key(&label), "{}: {name} has no label {label}", rule["alert"]);
            }
        }
    }
}
