//! The program as its two `DaemonSet`s start it.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use ferrogate_tests::api_server::ApiServer;
use ferrogate_tests::api_server::failure::Failure;
use ferrogate_tests::appliance::Process;
use ferrogate_tests::client::Target;
use ferrogate_tests::manifests::{Ingress, load_balancer, service, tls_secret};
use ferrogate_tests::wait::until;
use ferrogate_tests::{binary, certificate, loopback};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::objects::{self, NAMESPACE, documents, pools, text};

/// What a `DaemonSet` of ours runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Speaker,
    Ingress,
}

impl Role {
    pub(crate) const ALL: [Self; 2] = [Self::Speaker, Self::Ingress];

    /// The name of its `DaemonSet`, its `ServiceAccount` and its Lease.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Speaker => "ferrogate-speaker",
            Self::Ingress => "ferrogate-ingress",
        }
    }

    /// The reason of the event that tells what [`Self::wrong`] makes wrong.
    pub(crate) const fn complaint(self) -> &'static str {
        match self {
            Self::Speaker => "ConfigStale",
            Self::Ingress => "ServiceNotFound",
        }
    }

    /// What its problems say of it.
    pub(crate) const fn symptom(self) -> &'static str {
        match self {
            Self::Speaker => "runs backwards",
            Self::Ingress => "shop/absent does not exist",
        }
    }

    /// Makes something wrong that it has to tell of, or mends it: the address configuration; the backend of an Ingress.
    pub(crate) fn wrong(self, server: &ApiServer, wrong: bool) {
        let put = |object: &Value| drop(server.put(object).expect("a kind it serves"));
        match (self, wrong) {
            (Self::Speaker, true) => put(&pools("10.0.0.9-10.0.0.1")),
            (Self::Speaker, false) => put(&pools("10.0.0.0/24")),
            // It is wrong from the beginning.
            (Self::Ingress, true) => drop(server.delete("Service", "shop", "absent")),
            (Self::Ingress, false) => documents(&service("shop", "absent")).iter().for_each(put),
        }
    }

    /// The container that its `DaemonSet` starts.
    pub(crate) fn container(self) -> Value {
        let base = objects::base();
        objects::find(&base, "DaemonSet", self.name())["spec"]["template"]["spec"]["containers"][0].clone()
    }

    /// Starts it with the arguments and the environment of its container, but for what a Pod alone has.
    pub(crate) fn start(self, kubeconfig: &Path) -> Running {
        let ip = loopback::address();
        self.start_on(kubeconfig, loopback::port(ip), loopback::port(ip))
    }

    /// As [`Self::start`], with HTTP on this address and its operator's on that.
    pub(crate) fn start_on(self, kubeconfig: &Path, http: SocketAddr, admin: SocketAddr) -> Running {
        let (container, any) = (self.container(), format!("{}:0", http.ip()));
        let mut command = Command::new(binary::path());
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("FERROGATE_")) {
            command.env_remove(name);
        }
        command.args(objects::texts(&container["args"]));
        for variable in container["env"].as_array().into_iter().flatten() {
            command.env(text(&variable["name"]), text(&variable["value"]));
        }
        command.env("FERROGATE_KUBECONFIG", kubeconfig).env("FERROGATE_NODE_NAME", "n1");
        // Nothing may be said on this machine's LAN.
        command.env("FERROGATE_INTERFACE", "lo").env("FERROGATE_ADMIN", admin.to_string());
        command.env("FERROGATE_HTTP", http.to_string()).env("FERROGATE_HTTPS", &any);
        // Where the manifest mounts a volume.
        let cache = tempfile::tempdir().expect("a temporary folder");
        command.env("FERROGATE_CACHE", cache.path());
        Running { process: Process::start(command), admin: Target::plain(admin), cache }
    }
}

/// One process of a `DaemonSet`.
pub(crate) struct Running {
    process: Process,
    admin: Target,
    cache: tempfile::TempDir,
}

impl Running {
    /// Whether it has kept the state of the cluster.
    pub(crate) fn has_kept_state(&self) -> bool {
        self.cache.path().join("snapshot").is_file()
    }

    /// Has a certificate renewed, as an operator does.
    pub(crate) fn renew(&self, secret: &str) -> bool {
        let mut command = Command::new(binary::path());
        command.args(["certs", "renew", secret, "--admin", &self.admin.address.to_string()]);
        command.status().expect("the binary can be run").success()
    }

    /// What is wrong, as it says itself.
    pub(crate) async fn problems(&self) -> String {
        let answer = self.admin.get("admin", "/api/v1/problems").await;
        answer.map_or_else(|error| error.to_string(), |answer| answer.text())
    }

    /// Waits until it says whether something is wrong, in these words.
    pub(crate) async fn knows(&self, symptom: &str, wrong: bool) {
        until("news of what is wrong", async || {
            let problems = self.problems().await;
            let said = problems.contains("\"problems\"") && problems.contains(symptom) == wrong;
            if said { Ok(()) } else { Err(problems) }
        })
        .await;
    }

    /// What it wrote so far.
    pub(crate) fn log(&self) -> String {
        self.process.log()
    }

    /// Ends it as a kubelet does.
    pub(crate) async fn end(&mut self) {
        self.process.signal(Signal::TERM);
        assert!(self.process.end().await.success(), "it ends well:\n{}", self.log());
    }
}

/// What there is to do for both: in `shop` a Service that waits for an address, an Ingress with a certificate, and an
/// Ingress whose Service does not exist; and the Service that leads to the ingress.
pub(crate) fn work() -> Vec<Value> {
    let ingress = Ingress::new("shop", "web").rule("web.example", "/", "web").tls("web", &["web.example"]);
    let broken = Ingress::new("shop", "broken").rule("broken.example", "/", "absent");
    let certificate = certificate::issue(&["web.example"]);
    let texts = [load_balancer("shop", "web"), tls_secret("shop", "web", &certificate), ingress.yaml(), broken.yaml()];
    let mut objects = vec![pools("10.0.0.0/24")];
    objects.extend(texts.iter().flat_map(|text| documents(text)));
    objects
}

/// The Service that leads to the ingress, with an address.
pub(crate) fn published(service: &Value) -> Value {
    let mut service = service.clone();
    service["status"] = json!({ "loadBalancer": { "ingress": [{ "ip": "10.0.0.200" }] } });
    service
}

/// The addresses that an object shows; why there are none.
pub(crate) fn shown(object: Result<Value, Failure>) -> Result<Vec<String>, String> {
    let object = object.map_err(|failure| failure.message)?;
    let entries = object["status"]["loadBalancer"]["ingress"].as_array().cloned().unwrap_or_default();
    let ips: Vec<String> = entries.iter().map(|entry| text(&entry["ip"]).to_owned()).collect();
    if ips.is_empty() { Err(format!("no address: {}", object["status"])) } else { Ok(ips) }
}

/// The namespaces that the work needs.
pub(crate) fn namespaces() -> [Value; 2] {
    [NAMESPACE, "shop"].map(|name| json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } }))
}
