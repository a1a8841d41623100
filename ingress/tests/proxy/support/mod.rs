//! A data plane on port 0, objects to route by, endpoints that do as they are told, clients that say anything.

pub(crate) mod client;
pub(crate) mod nginx;
pub(crate) mod objects;
pub(crate) mod relay;
pub(crate) mod upstream;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use config::challenge::Challenges;
use config::diagnostic::Problem;
use config::report::{Certificates, Report, Routes};
use config::snapshot::Snapshot;
use ingress::access::AccessLog;
use ingress::compile::{CompileOptions, Compiled, Publish, StreamMaps};
use ingress::io::{Ingress, IngressError, IngressOptions, IngressPorts, Timeouts};
use ingress::metrics::IngressMetrics;
use prometheus::Registry;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

/// Longer than anything that works takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// A running data plane.
pub(crate) struct Plane {
    pub(crate) http: SocketAddr,
    pub(crate) https: SocketAddr,
    pub(crate) registry: Registry,
    pub(crate) shutdown: CancellationToken,
    snapshots: watch::Sender<Option<Arc<Snapshot>>>,
    pub(crate) challenges: watch::Sender<Arc<Challenges>>,
    routes: watch::Receiver<Arc<Routes>>,
    pub(crate) tables: watch::Receiver<Option<Arc<Compiled>>>,
    reports: watch::Receiver<Arc<Report>>,
    task: JoinHandle<Result<(), IngressError>>,
}

impl Plane {
    /// Starts with the usual deadlines.
    pub(crate) async fn start(snapshot: Snapshot) -> Self {
        Self::start_with(snapshot, Timeouts::default(), Duration::from_secs(30)).await
    }

    /// Starts with one worker, which remembers all.
    pub(crate) async fn start_alone(snapshot: Snapshot) -> Self {
        Self::start_on(1, snapshot, Timeouts::default(), Duration::from_secs(30)).await
    }

    /// Starts with deadlines of the test's own.
    pub(crate) async fn start_with(snapshot: Snapshot, timeouts: Timeouts, drain_timeout: Duration) -> Self {
        Self::start_on(2, snapshot, timeouts, drain_timeout).await
    }

    async fn start_on(workers: usize, snapshot: Snapshot, timeouts: Timeouts, drain_timeout: Duration) -> Self {
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let options = IngressOptions {
            http: vec![any],
            https: vec![any],
            workers,
            drain_timeout,
            access_log: AccessLog::Off,
            compile: CompileOptions {
                ingress_class: "nginx".to_owned(),
                controller: "ferrogate.io/ingress-controller".to_owned(),
                watch_without_class: true,
                publish: Publish::UsualService,
                loopback_endpoints: true,
                node: None,
                external_names: false,
                config_map: config::object::ObjectName::new("ingress-nginx", "ingress-nginx-controller"),
                streams: StreamMaps {
                    tcp: Some(config::object::ObjectName::new("ingress-nginx", "tcp-services")),
                    udp: Some(config::object::ObjectName::new("ingress-nginx", "udp-services")),
                    reserved: [9100].into(),
                },
            },
            dns_servers: Vec::new(),
        };
        let registry = Registry::new();
        let (snapshots, snapshots_in) = watch::channel(Some(Arc::new(snapshot)));
        let (reports_out, reports) = watch::channel(Arc::default());
        let (routes_out, routes) = watch::channel(Arc::default());
        let (certificates_out, _) = watch::channel(Certificates::default());
        let (tables_out, tables) = watch::channel(None);
        let challenges = watch::Sender::default();
        let (ready, is_ready) = oneshot::channel();
        let shutdown = CancellationToken::new();
        let ingress = Ingress::bind(options, timeouts).unwrap();
        let (http, https) = (ingress.http()[0], ingress.https()[0]);
        let task = tokio::spawn(ingress.run(IngressPorts {
            snapshots: snapshots_in,
            challenges: challenges.subscribe(),
            reports: reports_out,
            routes: routes_out,
            certificates: certificates_out,
            tables: tables_out,
            metrics: IngressMetrics::register(&registry).unwrap(),
            ready,
            shutdown: shutdown.clone(),
        }));
        timeout(PATIENCE, is_ready).await.unwrap().unwrap();
        Self { http, https, registry, shutdown, snapshots, challenges, routes, tables, reports, task }
    }

    /// Puts another snapshot in force and waits until it is.
    pub(crate) async fn swap(&mut self, snapshot: Snapshot) {
        self.routes.borrow_and_update();
        self.snapshots.send_replace(Some(Arc::new(snapshot)));
        timeout(PATIENCE, self.routes.changed()).await.unwrap().unwrap();
    }

    /// What is wrong with what it was told.
    pub(crate) fn problems(&self) -> Vec<Problem> {
        self.reports.borrow().problems.to_vec()
    }

    /// Ends the data plane and waits for it.
    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        timeout(PATIENCE, self.task).await.unwrap().unwrap().unwrap();
    }

    /// The value of a metric, summed over all labels that contain `label`.
    pub(crate) fn metric(&self, name: &str, label: &str) -> f64 {
        let text = prometheus::TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap();
        text.lines()
            .filter(|line| line.split(['{', ' ']).next() == Some(name) && line.contains(label))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }
}

/// Waits until `condition` holds.
pub(crate) async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "never came true: {what}");
        sleep(Duration::from_millis(5)).await;
    }
}
