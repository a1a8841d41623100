//! A cluster source on an API server, and the objects to put there.

use std::sync::Arc;
use std::time::Duration;

use cluster::lease;
use cluster::{Access, ApiOptions, Cluster, Leadership, Timing, WriteBudget};
use config::object::ObjectName;
use config::report::Report;
use config::snapshot::Snapshot;
use ferrogate_tests::api_server::ApiServer;
use ferrogate_tests::wait::{PATIENCE, until, within};
use lb_speaker::plan::{PlanOptions, plan};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

/// An API server with an address configuration.
pub(crate) struct World {
    pub(crate) server: ApiServer,
    pub(crate) folder: tempfile::TempDir,
}

/// One process of ours.
pub(crate) struct Process {
    pub(crate) cluster: Cluster,
    pub(crate) shutdown: CancellationToken,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::of(ApiServer::start().expect("a free loopback port"))
    }

    /// The same with a server of one's own.
    pub(crate) fn of(server: ApiServer) -> Self {
        server.put(&pools("10.0.0.0/16")).expect("a kind it serves");
        Self { server, folder: tempfile::tempdir().expect("a temporary folder") }
    }

    /// How many Services, each with one slice, the API server made for itself.
    pub(crate) fn own(&self) -> usize {
        usize::from(self.server.real().is_some())
    }

    pub(crate) fn put(&self, object: &Value) {
        self.server.put(object).expect("a kind it serves");
    }

    pub(crate) fn options(&self, identity: &str) -> ApiOptions {
        let path = self.server.kubeconfig(self.folder.path()).expect("a writable folder");
        let access = Access::Kubeconfig { paths: vec![path], context: None };
        let millis = Duration::from_millis;
        ApiOptions {
            writes: WriteBudget { per_second: 1000, burst: 1000 },
            timing: Timing {
                first_retry: millis(50),
                longest_retry: millis(500),
                read_deadline: millis(2500),
                relist_spacing: millis(200),
                absent: millis(100),
                // Shorter ones are lost on a busy machine between one step and the next.
                lease: lease::Timing { term: millis(8000), renew_deadline: millis(6000), retry: millis(200) },
                ..Timing::default()
            },
            identity: identity.to_owned(),
            ..ApiOptions::new(access, ObjectName::new("metallb-system", "config"), identity)
        }
    }

    /// Starts a process that only watches and reports nothing.
    pub(crate) async fn watcher(&self) -> Process {
        self.process("watcher").await
    }

    async fn process(&self, identity: &str) -> Process {
        self.process_with(self.options(identity)).await
    }

    pub(crate) async fn process_with(&self, options: ApiOptions) -> Process {
        let shutdown = CancellationToken::new();
        let cluster = Cluster::api(options, shutdown.clone()).await.expect("a valid kubeconfig");
        Process { cluster, shutdown }
    }

    /// Starts a process that plans as the speaker does.
    pub(crate) async fn speaker(&self, identity: &str) -> Process {
        self.speaker_with(self.options(identity)).await
    }

    pub(crate) async fn speaker_with(&self, options: ApiOptions) -> Process {
        let process = self.process_with(options).await;
        let mut snapshots = process.cluster.snapshots.clone();
        let reports = process.cluster.reports.speaker.clone();
        tokio::spawn(async move {
            while snapshots.changed().await.is_ok() {
                let Some(snapshot) = snapshots.borrow_and_update().clone() else { continue };
                reports.send_replace(Arc::new(plan(&snapshot, &PlanOptions::default()).report));
            }
        });
        process
    }

    /// The addresses that a Service shows.
    pub(crate) fn ips(&self, name: &str) -> Vec<String> {
        let service = self.server.get("Service", "shop", name).unwrap_or_default();
        let entries = service["status"]["loadBalancer"]["ingress"].as_array().cloned().unwrap_or_default();
        entries.iter().map(|entry| entry["ip"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// Waits until that many Services have an address; no two the same.
    pub(crate) async fn assigned(&self, count: usize) {
        // Each is a write of its own, and some tests want a thousand.
        within(PATIENCE * 9, "addresses", async || {
            let mut ips: Vec<String> = self.server.all("Service").iter().filter_map(ip).collect();
            let total = ips.len();
            ips.sort();
            ips.dedup();
            assert_eq!(ips.len(), total, "two Services have one address");
            if total == count { Ok(()) } else { Err(total) }
        })
        .await;
    }

    pub(crate) fn status_writes(&self) -> usize {
        self.server.faults().count(&["patch", "update"], "services/status")
    }

    pub(crate) fn event_writes(&self) -> usize {
        self.server.faults().count(&["create", "patch"], "events")
    }
}

fn ip(service: &Value) -> Option<String> {
    Some(service["status"]["loadBalancer"]["ingress"][0]["ip"].as_str()?.to_owned())
}

impl Process {
    pub(crate) fn snapshot(&self) -> Option<Arc<Snapshot>> {
        self.cluster.snapshots.borrow().clone()
    }

    /// Waits until a snapshot satisfies `condition`.
    pub(crate) async fn sees(&self, what: &str, condition: impl Fn(&Snapshot) -> bool) -> Arc<Snapshot> {
        until(what, async || match self.snapshot() {
            Some(snapshot) if condition(&snapshot) => Ok(snapshot),
            Some(snapshot) => Err(format!("{} Services, {:?}", snapshot.services.len(), snapshot.problems)),
            None => Err("no snapshot".to_owned()),
        })
        .await
    }

    pub(crate) async fn leads(&self) {
        until("leadership", async || match *self.cluster.leadership.borrow() {
            Leadership::Leader => Ok(()),
            Leadership::Follower => Err("follower"),
        })
        .await;
    }

    pub(crate) fn report_ingress(&self, edit: impl FnOnce(&mut Report)) {
        let mut report = Report::default();
        edit(&mut report);
        self.cluster.reports.ingress.send_replace(Arc::new(report));
    }

    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        self.cluster.stopped().await;
    }
}

pub(crate) fn pools(range: &str) -> Value {
    let text = format!("address-pools:\n- name: lan\n  protocol: layer2\n  addresses: [{range}]\n");
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "namespace": "metallb-system", "name": "config" },
        "data": { "config": text } })
}

pub(crate) fn service(name: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "namespace": "shop", "name": name },
        "spec": { "type": "LoadBalancer", "clusterIP": "10.96.0.10", "clusterIPs": ["10.96.0.10"],
            "ports": [{ "port": 80, "protocol": "TCP", "targetPort": 8080 }] } })
}

pub(crate) fn ingress(name: &str) -> Value {
    json!({ "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": { "namespace": "shop", "name": name },
        "spec": { "ingressClassName": "ferrogate", "rules": [{ "host": format!("{name}.example.com"), "http": { "paths": [
            { "path": "/", "pathType": "Prefix", "backend": { "service": { "name": "web", "port": { "number": 80 } } } }] } }] } })
}

pub(crate) fn slice(name: &str, service: &str) -> Value {
    json!({ "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": { "namespace": "shop", "name": name, "labels": { "kubernetes.io/service-name": service } },
        "endpoints": [{ "addresses": ["10.1.2.3"], "conditions": { "ready": true } }],
        "ports": [{ "name": "", "port": 8080, "protocol": "TCP" }] })
}

pub(crate) fn name(name: &str) -> ObjectName {
    ObjectName::new("shop", name)
}
