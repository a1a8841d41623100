//! The manifests on a real API server: what it validates, what it grants. Skipped, and said so, where there is none.

use std::path::Path;
use std::process::Command;

use ferrogate_tests::api_server::failure::Failure;
use ferrogate_tests::real::{self, RealApiServer, RequestError};
use ferrogate_tests::wait::until;
use serde_json::{Value, json};

use crate::objects::{KUSTOMIZATIONS, NAMESPACE, folder, pools, run, text};
use crate::roles::{Role, namespaces, shown, work};

fn start() -> Option<RealApiServer> {
    let Some(assets) = real::assets() else {
        println!("skipped: {} names no real API server", real::ASSETS);
        return None;
    };
    Some(RealApiServer::start(&assets).expect("its programs can be started"))
}

fn kubectl(server: &RealApiServer, kubeconfig: &Path) -> Command {
    let mut command = Command::new(server.assets().join("kubectl"));
    command.arg("--kubeconfig").arg(kubeconfig);
    command
}

fn put(server: &RealApiServer, collection: &str, object: &Value) {
    server.request("POST", collection, Some(object)).unwrap_or_else(|error| panic!("{collection}: {error}: {object}"));
}

/// As far as the API server looks at them: the shape of what the Prometheus operator brings.
async fn monitoring_kinds(server: &RealApiServer) {
    for (kind, plural) in [("ServiceMonitor", "servicemonitors"), ("PrometheusRule", "prometheusrules")] {
        let any = json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
        let crd = json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": { "name": format!("{plural}.monitoring.coreos.com") },
            "spec": {
                "group": "monitoring.coreos.com", "scope": "Namespaced",
                "names": { "kind": kind, "plural": plural, "singular": kind.to_lowercase() },
                "versions": [{ "name": "v1", "served": true, "storage": true, "schema": { "openAPIV3Schema": any } }],
            },
        });
        put(server, "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", &crd);
        until(plural, async || server.request("GET", &format!("/apis/monitoring.coreos.com/v1/{plural}"), None)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_server_takes_every_variant() {
    let Some(server) = start() else { return };
    let dir = tempfile::tempdir().expect("a temporary folder");
    let admin = server.kubeconfig(dir.path()).expect("a writable folder");
    // What is in a namespace cannot be tried before it exists.
    put(&server, "/api/v1/namespaces", &namespaces()[0]);
    monitoring_kinds(&server).await;
    let apply = || {
        let mut command = kubectl(&server, &admin);
        command.args(["apply", "--dry-run=server", "--validate=strict"]);
        command
    };
    for kustomization in KUSTOMIZATIONS {
        let said = run(apply().arg("-k").arg(folder().join(kustomization)));
        assert!(said.contains("daemonset.apps/ferrogate-speaker created (server dry run)"), "{kustomization}: {said}");
    }
    run(apply().arg("-f").arg(folder().join("config.example.yaml")));
}

/// A kubeconfig with the token of a `ServiceAccount`, as a Pod would have it.
fn account(server: &RealApiServer, role: Role, dir: &Path) -> std::path::PathBuf {
    let asked = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {} });
    let path = format!("/api/v1/namespaces/{NAMESPACE}/serviceaccounts/{}/token", role.name());
    let granted = server.request("POST", &path, Some(&asked)).expect("the account exists");
    let cluster = json!({ "server": format!("https://{}", server.address()), "insecure-skip-tls-verify": true });
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "it", "preferences": {},
        "clusters": [{ "name": "it", "cluster": cluster }],
        "users": [{ "name": "it", "user": { "token": text(&granted["status"]["token"]) } }],
        "contexts": [{ "name": "it", "context": { "cluster": "it", "user": "it" } }],
    });
    let path = dir.join(role.name());
    std::fs::write(&path, config.to_string()).expect("a writable folder");
    path
}

fn get(server: &RealApiServer, path: &str) -> Result<Value, Failure> {
    server.request("GET", path, None).map_err(|error| match error {
        RequestError::Refused { code, message } => Failure::new(code, message),
        unanswered @ RequestError::Unanswered(_) => Failure::new(503, unanswered.to_string()),
    })
}

/// How many requests the server refused for want of rights, by its own count.
fn forbidden(server: &RealApiServer) -> Vec<String> {
    let metrics = server.request("GET", "/metrics", None).expect("it counts");
    let refused = |line: &&str| line.starts_with("apiserver_request_total{") && line.contains("code=\"403\"");
    text(&metrics).lines().filter(refused).map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn both_roles_do_their_work_with_the_rights_of_their_accounts() {
    let Some(server) = start() else { return };
    let dir = tempfile::tempdir().expect("a temporary folder");
    let admin = server.kubeconfig(dir.path()).expect("a writable folder");
    run(kubectl(&server, &admin).args(["apply", "-k"]).arg(folder()));
    put(&server, "/api/v1/namespaces", &namespaces()[1]);
    let file = dir.path().join("work.json");
    let apply = |objects: &[Value]| {
        let list = json!({ "apiVersion": "v1", "kind": "List", "items": objects });
        std::fs::write(&file, list.to_string()).expect("a writable folder");
        run(kubectl(&server, &admin).args(["apply", "-f"]).arg(&file));
    };
    apply(&work());
    let before = forbidden(&server);
    let [mut speaker, mut ingress] = Role::ALL.map(|role| role.start(&account(&server, role, dir.path())));

    let services = format!("/api/v1/namespaces/{NAMESPACE}/services/ferrogate-ingress");
    let published = until("the address of the ingress", async || shown(get(&server, &services))).await;
    until("that of a Service", async || shown(get(&server, "/api/v1/namespaces/shop/services/web"))).await;
    let web = "/apis/networking.k8s.io/v1/namespaces/shop/ingresses/web";
    let shows = until("that of an Ingress", async || shown(get(&server, web))).await;
    assert_eq!(shows, published, "an Ingress shows where the ingress is");
    apply(&[pools("10.0.0.9-10.0.0.1")]);
    for (namespace, reason) in [(NAMESPACE, "ConfigStale"), ("shop", "IPAllocated")] {
        let told = async || {
            let events = get(&server, &format!("/api/v1/namespaces/{namespace}/events")).unwrap_or_default();
            if events.to_string().contains(reason) { Ok(()) } else { Err(events) }
        };
        until(reason, told).await;
    }
    for role in Role::ALL {
        let lease = format!("/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/{}", role.name());
        let held = async || match get(&server, &lease) {
            Ok(lease) if lease["spec"]["renewTime"] != lease["spec"]["acquireTime"] => Ok(()),
            other => Err(format!("{other:?}")),
        };
        until("a Lease that was renewed", held).await;
    }
    for running in [&mut speaker, &mut ingress] {
        let problems = running.problems().await;
        assert!(!problems.contains("lets us not") && !problems.contains("cannot be written"), "{problems}");
        running.end().await;
        assert!(!running.log().contains("answered 403"), "{}", running.log());
    }
    assert_eq!(forbidden(&server), before, "nothing was refused");
}
