//! What the data plane counts.
//!
//! Requests are counted per Ingress, method and status, never per path or host of a request: the number of series is
//! bounded by configuration. A [`Recorder`] holds the counters of one Ingress ready, so a request costs two atomic
//! additions and no label is hashed; [`IngressMetrics::retain`] drops the series of an Ingress that is gone.
//!
//! What dashboards for ingress-nginx ask for is counted beside under its names: [`compat`].
//!
//! Pure. The clock and the requests: [`crate::io`].

pub mod compat;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use compat::{Compat, Controller, Nginx, Renamed, RouteLabels};
use config::object::ObjectName;
use config::report::CertificateEntry;
use config::shared::SharedMap;
use prometheus::{Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

/// Upper bounds in seconds: ingress-nginx's, with two below for what does not leave the machine.
const BUCKETS: [f64; 13] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Which series there may be, and which there are.
#[derive(Debug, Default)]
struct Books {
    /// Ingresses that may have series. A request may end after its Ingress is gone and must not bring it back.
    known: SharedMap<ObjectName, usize>,
    /// Those that are about to have some.
    expected: SharedMap<ObjectName, usize>,
    /// Method and status of each series of requests, by Ingress; needed to remove them.
    seen: BTreeMap<ObjectName, Series>,
}

/// The series of one Ingress.
#[derive(Debug, Default)]
struct Series {
    /// By method and status.
    ours: Vec<(&'static str, u16)>,
    /// By the labels of ingress-nginx.
    theirs: Vec<[String; 8]>,
}

impl Books {
    /// Requests that no Ingress is for have series as well.
    fn may_have_series(&self, ingress: &ObjectName) -> bool {
        ingress.name.is_empty() || self.known.contains_key(ingress) || self.expected.contains_key(ingress)
    }
}

/// The metrics of the data plane, shared by all workers.
#[derive(Debug)]
pub struct IngressMetrics {
    requests: IntCounterVec,
    durations: HistogramVec,
    compat: Compat,
    books: Mutex<Books>,
    /// Connections that are open now.
    pub connections: IntGauge,
    /// Connections accepted since start.
    pub accepted: IntCounter,
    /// Times that a listener could not accept, as for want of file descriptors.
    pub accept_errors: IntCounter,
    /// TLS handshakes that failed or took too long.
    pub handshake_failures: IntCounter,
    /// Requests refused before routing, by reason.
    refusals: IntCounterVec,
    /// Requests that an endpoint did not answer, by reason.
    upstream_errors: IntCounterVec,
    /// Requests that were tried again on another endpoint.
    pub retries: IntCounter,
    /// Panics in the handling of a request or connection; each is a bug of ours.
    pub panics: IntCounter,
    /// Lines of the access log that were dropped because its reader was too slow.
    pub log_dropped: IntCounter,
    /// Route tables put in force.
    pub swaps: IntCounter,
    /// Unix time of the newest route table, in seconds.
    pub last_swap: IntGauge,
    /// Routes in the table in force.
    pub routes: IntGauge,
}

impl IngressMetrics {
    /// Makes the metrics and adds them to `registry`.
    pub fn register(registry: &Registry) -> Result<Arc<Self>, prometheus::Error> {
        Self::register_as(registry, &Controller::default())
    }

    /// As [`Self::register`], for a controller with a name.
    pub fn register_as(registry: &Registry, controller: &Controller) -> Result<Arc<Self>, prometheus::Error> {
        let labels = ["namespace", "ingress", "method", "status"];
        let requests = IntCounterVec::new(
            Opts::new("ferrogate_ingress_requests_total", "Requests answered, by Ingress, method and status."),
            &labels,
        )?;
        let durations = HistogramVec::new(
            HistogramOpts::new(
                "ferrogate_ingress_request_duration_seconds",
                "From the complete request head to the last byte of the answer, by Ingress.",
            )
            .buckets(BUCKETS.to_vec()),
            &labels[..2],
        )?;
        registry.register(Box::new(requests.clone()))?;
        registry.register(Box::new(durations.clone()))?;
        let names = [("ferrogate_ingress_request_duration_seconds", "request_duration_seconds")];
        registry.register(Renamed::boxed(durations.clone(), &names, controller)?)?;
        let compat = Compat::register(registry, controller)?;
        let connections = gauge(registry, "connections", "Client connections that are open now.")?;
        let accepted = counter(registry, "connections_accepted_total", "Client connections accepted.")?;
        let nginx = Nginx::new(controller, connections.clone(), accepted.clone(), requests.clone())?;
        registry.register(Box::new(nginx))?;
        Ok(Arc::new(Self {
            requests,
            durations,
            compat,
            books: Mutex::default(),
            connections,
            accepted,
            accept_errors: counter(registry, "accept_errors_total", "Connections that could not be accepted.")?,
            handshake_failures: counter(
                registry,
                "tls_handshake_failures_total",
                "TLS handshakes that failed or took too long.",
            )?,
            refusals: counters(registry, "refused_requests_total", "Requests refused before routing, by reason.")?,
            upstream_errors: counters(
                registry,
                "upstream_errors_total",
                "Attempts that an endpoint did not answer, by reason.",
            )?,
            retries: counter(registry, "retries_total", "Requests tried again on another endpoint.")?,
            panics: counter(registry, "panics_total", "Panics while handling a request; each is a bug.")?,
            log_dropped: counter(
                registry,
                "access_log_dropped_total",
                "Lines of the access log dropped because its reader was too slow.",
            )?,
            swaps: counter(registry, "table_swaps_total", "Route tables put in force.")?,
            last_swap: gauge(registry, "last_swap_timestamp_seconds", "When the newest route table came in force.")?,
            routes: gauge(registry, "routes", "Routes in the table in force.")?,
        }))
    }

    /// The counters of one route of an Ingress; `None` for requests that no Ingress is for.
    ///
    /// Those of an Ingress that was not announced by [`Self::expect`], or is gone, count for nobody.
    #[must_use]
    pub fn recorder(self: &Arc<Self>, route: Option<(&ObjectName, RouteLabels)>) -> Recorder {
        let (ingress, labels) = match route {
            Some((ingress, labels)) => (ingress.clone(), labels),
            None => (ObjectName::new("", ""), RouteLabels::default()),
        };
        let mut books = self.books();
        let histograms = books.may_have_series(&ingress).then(|| {
            books.seen.entry(ingress.clone()).or_default();
            let duration = self.durations.with_label_values(&[&*ingress.namespace, &*ingress.name]);
            (duration, self.compat.sizes(&ingress))
        });
        drop(books);
        Recorder { metrics: Arc::clone(self), ingress, labels, histograms, counters: Mutex::default() }
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a request refused before routing.
    pub fn refused(&self, reason: &str) {
        self.refusals.with_label_values(&[reason]).inc();
    }

    /// Counts an attempt that an endpoint did not answer.
    pub fn upstream_error(&self, reason: &str) {
        self.upstream_errors.with_label_values(&[reason]).inc();
    }

    /// Announces the Ingresses of a table that is about to come in force.
    pub fn expect(&self, ingresses: &SharedMap<ObjectName, usize>) {
        self.books().expected = ingresses.clone();
    }

    /// Removes the series of every Ingress that is not among these.
    pub fn retain(&self, ingresses: &SharedMap<ObjectName, usize>) {
        let mut books = self.books();
        let before = [std::mem::take(&mut books.known), std::mem::take(&mut books.expected)];
        books.known = ingresses.clone();
        for before in &before {
            for gone in ingresses.changes(before, |_, _| true).filter(|change| change.after.is_none()) {
                if let Some(series) = books.seen.remove(gone.key) {
                    self.remove(gone.key, &series);
                }
            }
        }
    }

    /// An error would say that a series is not there, which is what is wanted.
    fn remove(&self, ingress: &ObjectName, series: &Series) {
        let (namespace, name) = (&*ingress.namespace, &*ingress.name);
        self.compat.remove(ingress, &series.theirs);
        for (method, status) in &series.ours {
            let _ = self.requests.remove_label_values(&[namespace, name, method, &status.to_string()]);
        }
        let _ = self.durations.remove_label_values(&[namespace, name]);
    }

    /// Tells that a configuration is in force since `now` (Unix time), with these certificates.
    pub fn reloaded(&self, generation: u64, now: i64, certificates: &[CertificateEntry]) {
        self.compat.reloaded(generation, now, certificates);
    }

    /// Our counter of a series, and that of ingress-nginx.
    fn requests_with(
        &self,
        ingress: &ObjectName,
        labels: &RouteLabels,
        method: &'static str,
        status: u16,
    ) -> Option<[IntCounter; 2]> {
        let mut books = self.books();
        if !books.may_have_series(ingress) {
            return None;
        }
        let series = books.seen.entry(ingress.clone()).or_default();
        if !series.ours.contains(&(method, status)) {
            series.ours.push((method, status));
        }
        let theirs = Compat::series(ingress, labels, method, status);
        let values = theirs.each_ref().map(String::as_str);
        let text = status.to_string();
        let counters = [
            self.requests.with_label_values(&[&*ingress.namespace, &*ingress.name, method, &text]),
            self.compat.requests.with_label_values(&values),
        ];
        if !series.theirs.contains(&theirs) {
            series.theirs.push(theirs);
        }
        Some(counters)
    }
}

/// What one request came to.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// Its method.
    pub method: &'a str,
    /// What was answered.
    pub status: u16,
    /// How long that took.
    pub seconds: f64,
    /// Bytes of the request.
    pub received: u64,
    /// Bytes of the body of the answer.
    pub sent: u64,
}

/// The counters of one route, ready for use; each worker has its own.
#[derive(Debug)]
pub struct Recorder {
    metrics: Arc<IngressMetrics>,
    ingress: ObjectName,
    labels: RouteLabels,
    /// Durations, and sizes of requests and answers; `None` if the Ingress has no series.
    histograms: Option<(Histogram, [Histogram; 2])>,
    /// Few, so a scan is faster than a hash; never contended, since one worker uses it.
    counters: Mutex<Vec<(&'static str, u16, [IntCounter; 2])>>,
}

impl Recorder {
    /// Counts one answered request.
    pub fn record(&self, record: &Record<'_>) {
        let (method, status) = (method_label(record.method), record.status);
        if let Some((duration, [received, sent])) = &self.histograms {
            duration.observe(record.seconds);
            #[expect(clippy::cast_precision_loss, reason = "sizes are summed in floating point anyway")]
            for (sizes, bytes) in [(received, record.received), (sent, record.sent)] {
                sizes.observe(bytes as f64);
            }
        }
        let mut counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        // Labels are literals, so equal ones are the same bytes; comparing text is still cheap and never wrong.
        if let Some((.., both)) = counters.iter().find(|(m, s, _)| *m == method && *s == status) {
            both.iter().for_each(IntCounter::inc);
            return;
        }
        if let Some(both) = self.metrics.requests_with(&self.ingress, &self.labels, method, status) {
            both.iter().for_each(IntCounter::inc);
            counters.push((method, status, both));
        }
    }
}

/// The method as a label; unknown ones are one series, since clients make them up.
fn method_label(method: &str) -> &'static str {
    const KNOWN: [&str; 9] = ["GET", "POST", "PUT", "HEAD", "DELETE", "PATCH", "OPTIONS", "CONNECT", "TRACE"];
    KNOWN.into_iter().find(|known| *known == method).unwrap_or("other")
}

fn counter(registry: &Registry, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
    let counter = IntCounter::new(format!("ferrogate_ingress_{name}"), help)?;
    registry.register(Box::new(counter.clone()))?;
    Ok(counter)
}

fn counters(registry: &Registry, name: &str, help: &str) -> Result<IntCounterVec, prometheus::Error> {
    let counters = IntCounterVec::new(Opts::new(format!("ferrogate_ingress_{name}"), help), &["reason"])?;
    registry.register(Box::new(counters.clone()))?;
    Ok(counters)
}

fn gauge(registry: &Registry, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
    let gauge = IntGauge::new(format!("ferrogate_ingress_{name}"), help)?;
    registry.register(Box::new(gauge.clone()))?;
    Ok(gauge)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(registry: &Registry) -> String {
        prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap()
    }

    fn record(recorder: &Recorder, method: &str, status: u16) {
        recorder.record(&Record { method, status, seconds: 0.002, received: 78, sent: 612 });
    }

    fn cart() -> RouteLabels {
        RouteLabels { host: "shop.example.com".to_owned(), path: "/cart".to_owned(), service: "cart".to_owned() }
    }

    #[test]
    fn a_request_is_counted_under_both_names() {
        let registry = Registry::new();
        let [namespace, class, pod] = ["ingress", "k8s.io/ingress-nginx", "pod-1"].map(str::to_owned);
        let metrics = IngressMetrics::register_as(&registry, &Controller { namespace, class, pod }).unwrap();
        let web = ObjectName::new("shop", "web");
        metrics.expect(&[(web.clone(), 1)].into());
        let recorder = metrics.recorder(Some((&web, cart())));
        record(&recorder, "GET", 200);
        record(&recorder, "GET", 200);
        record(&recorder, "BREW", 418);
        metrics.accepted.inc();
        metrics.connections.inc();
        metrics.reloaded(
            7,
            1_790_000_000,
            &[CertificateEntry {
                secret: Some(ObjectName::new("shop", "cert")),
                hosts: vec!["shop.example.com".to_owned()],
                not_after: "2026-11-21T05:41:28Z".to_owned(),
                issuer: String::new(),
            }],
        );
        let text = text(&registry);
        let who = r#"controller_class="k8s.io/ingress-nginx",controller_namespace="ingress",controller_pod="pod-1""#;
        for line in [
            r#"ferrogate_ingress_requests_total{ingress="web",method="GET",namespace="shop",status="200"} 2"#
                .to_owned(),
            format!(
                r#"nginx_ingress_controller_requests{{canary="",{who},host="shop.example.com",ingress="web",method="GET",namespace="shop",path="/cart",service="cart",status="200"}} 2"#
            ),
            r#"ferrogate_ingress_requests_total{ingress="web",method="other",namespace="shop",status="418"} 1"#
                .to_owned(),
            r#"ferrogate_ingress_request_duration_seconds_count{ingress="web",namespace="shop"} 3"#.to_owned(),
            format!(
                r#"nginx_ingress_controller_request_duration_seconds_count{{ingress="web",namespace="shop",{who}}} 3"#
            ),
            format!(r#"nginx_ingress_controller_request_size_sum{{{who},ingress="web",namespace="shop"}} 234"#),
            format!(r#"nginx_ingress_controller_response_size_sum{{{who},ingress="web",namespace="shop"}} 1836"#),
            format!(r#"nginx_ingress_controller_nginx_process_connections{{{who},state="active"}} 1"#),
            format!(r#"nginx_ingress_controller_nginx_process_connections_total{{{who},state="accepted"}} 1"#),
            format!(r"nginx_ingress_controller_nginx_process_requests_total{{{who}}} 3"),
            format!(r"nginx_ingress_controller_config_last_reload_successful{{{who}}} 1"),
            format!(r"nginx_ingress_controller_config_hash{{{who}}} 7"),
            format!(r"nginx_ingress_controller_success{{{who}}} 1"),
            format!(
                r#"nginx_ingress_controller_ssl_expire_time_seconds{{class="k8s.io/ingress-nginx",{who},host="shop.example.com",identifier="shop-cert",namespace="shop",secret_name="cert"}} 1795239688"#
            ),
        ] {
            assert!(text.contains(&line), "{line} is missing in\n{text}");
        }
    }

    #[test]
    fn promtool_finds_nothing_wrong_but_what_ingress_nginx_named_so() {
        use std::io::Write as _;
        use std::process::{Command, Stdio};
        let registry = Registry::new();
        let metrics = IngressMetrics::register(&registry).unwrap();
        let web = ObjectName::new("shop", "web");
        metrics.expect(&[(web.clone(), 1)].into());
        record(&metrics.recorder(Some((&web, cart()))), "GET", 200);
        metrics.reloaded(1, 1, &[]);
        let mut promtool = Command::new("promtool");
        promtool.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let Ok(mut child) = promtool.spawn() else { return println!("skipped: there is no promtool") };
        child.stdin.take().unwrap().write_all(text(&registry).as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        // These are names that its dashboards ask for.
        let is_known = |line: &&str| {
            ["nginx_ingress_controller_requests ", "nginx_ingress_controller_success ", "_total\" suffix"]
                .iter()
                .any(|known| line.contains(known))
        };
        let wrong: Vec<_> = said.lines().filter(|line| !line.is_empty() && !is_known(line)).collect();
        assert_eq!(wrong, [] as [&str; 0]);
    }

    #[test]
    fn an_ingress_that_is_gone_leaves_no_series() {
        let registry = Registry::new();
        let metrics = IngressMetrics::register(&registry).unwrap();
        let (gone, stays) = (ObjectName::new("shop", "gone"), ObjectName::new("shop", "stays"));
        metrics.expect(&[(gone.clone(), 1), (stays.clone(), 1)].into());
        let late = metrics.recorder(Some((&gone, cart())));
        for ingress in [Some(&gone), Some(&stays), None] {
            record(&metrics.recorder(ingress.map(|ingress| (ingress, cart()))), "POST", 201);
        }
        metrics.retain(&[(stays.clone(), 1)].into());
        record(&late, "POST", 201);
        record(&metrics.recorder(Some((&gone, cart()))), "POST", 201);
        let text = text(&registry);
        assert!(!text.contains("gone"), "{text}");
        assert_eq!(text.matches("status=\"201\"").count(), 4, "{text}");
    }
}
