//! What the data plane counts.
//!
//! Requests are counted per Ingress, method and status, never per path or host of a request: the number of series is
//! bounded by configuration. A [`Recorder`] holds the counters of one Ingress ready, so a request costs two atomic
//! additions and no label is hashed; [`IngressMetrics::retain`] drops the series of an Ingress that is gone.
//!
//! Requests and their durations appear a second time under the names that dashboards for ingress-nginx ask for,
//! copied when somebody scrapes.
//!
//! Pure. The clock and the requests: [`crate::io`].

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use config::object::ObjectName;
use config::shared::SharedMap;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
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
    seen: BTreeMap<ObjectName, Vec<(&'static str, u16)>>,
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
        registry.register(Renamed::boxed(requests.clone(), "nginx_ingress_controller_requests", &labels)?)?;
        registry.register(Renamed::boxed(
            durations.clone(),
            "nginx_ingress_controller_request_duration_seconds",
            &labels[..2],
        )?)?;
        Ok(Arc::new(Self {
            requests,
            durations,
            books: Mutex::default(),
            connections: gauge(registry, "connections", "Client connections that are open now.")?,
            accepted: counter(registry, "connections_accepted_total", "Client connections accepted.")?,
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

    /// The counters of one Ingress; `None` for requests that no Ingress is for.
    ///
    /// Those of an Ingress that was not announced by [`Self::expect`], or is gone, count for nobody.
    #[must_use]
    pub fn recorder(self: &Arc<Self>, ingress: Option<&ObjectName>) -> Recorder {
        let ingress = ingress.cloned().unwrap_or_else(|| ObjectName::new("", ""));
        let mut books = self.books();
        let duration = books.may_have_series(&ingress).then(|| {
            books.seen.entry(ingress.clone()).or_default();
            self.durations.with_label_values(&[&*ingress.namespace, &*ingress.name])
        });
        drop(books);
        Recorder { metrics: Arc::clone(self), ingress, duration, counters: Mutex::default() }
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
    fn remove(&self, ingress: &ObjectName, series: &[(&'static str, u16)]) {
        let (namespace, name) = (&*ingress.namespace, &*ingress.name);
        for (method, status) in series {
            let _ = self.requests.remove_label_values(&[namespace, name, method, &status.to_string()]);
        }
        let _ = self.durations.remove_label_values(&[namespace, name]);
    }

    fn requests_with(&self, ingress: &ObjectName, method: &'static str, status: u16) -> Option<IntCounter> {
        let mut books = self.books();
        if !books.may_have_series(ingress) {
            return None;
        }
        let series = books.seen.entry(ingress.clone()).or_default();
        if !series.contains(&(method, status)) {
            series.push((method, status));
        }
        let text = status.to_string();
        Some(self.requests.with_label_values(&[&*ingress.namespace, &*ingress.name, method, &text]))
    }
}

/// The counters of one Ingress, ready for use; each worker has its own.
#[derive(Debug)]
pub struct Recorder {
    metrics: Arc<IngressMetrics>,
    ingress: ObjectName,
    /// `None` if the Ingress has no series.
    duration: Option<Histogram>,
    /// Few, so a scan is faster than a hash; never contended, since one worker uses it.
    counters: Mutex<Vec<(&'static str, u16, IntCounter)>>,
}

impl Recorder {
    /// Counts one answered request.
    pub fn record(&self, method: &str, status: u16, seconds: f64) {
        let method = method_label(method);
        if let Some(duration) = &self.duration {
            duration.observe(seconds);
        }
        let mut counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        // Labels are literals, so equal ones are the same bytes; comparing text is still cheap and never wrong.
        if let Some((.., counter)) = counters.iter().find(|(m, s, _)| *m == method && *s == status) {
            counter.inc();
            return;
        }
        if let Some(counter) = self.metrics.requests_with(&self.ingress, method, status) {
            counter.inc();
            counters.push((method, status, counter));
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

/// A collector under another name.
struct Renamed<C> {
    inner: C,
    name: &'static str,
    desc: Desc,
}

impl<C: Collector + 'static> Renamed<C> {
    fn boxed(inner: C, name: &'static str, labels: &[&str]) -> Result<Box<dyn Collector>, prometheus::Error> {
        let labels = labels.iter().map(|&label| label.to_owned()).collect();
        let help = "As ingress-nginx counts them.".to_owned();
        let desc = Desc::new(name.to_owned(), help, labels, std::collections::HashMap::new())?;
        Ok(Box::new(Self { inner, name, desc }))
    }
}

impl<C: Collector> Collector for Renamed<C> {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut families = self.inner.collect();
        for family in &mut families {
            family.set_name(self.name.to_owned());
        }
        families
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(registry: &Registry) -> String {
        prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap()
    }

    #[test]
    fn a_request_is_counted_under_both_names() {
        let registry = Registry::new();
        let metrics = IngressMetrics::register(&registry).unwrap();
        let web = ObjectName::new("shop", "web");
        metrics.expect(&[(web.clone(), 1)].into());
        let recorder = metrics.recorder(Some(&web));
        recorder.record("GET", 200, 0.002);
        recorder.record("GET", 200, 0.002);
        recorder.record("BREW", 418, 0.002);
        let text = text(&registry);
        for line in [
            r#"ferrogate_ingress_requests_total{ingress="web",method="GET",namespace="shop",status="200"} 2"#,
            r#"nginx_ingress_controller_requests{ingress="web",method="GET",namespace="shop",status="200"} 2"#,
            r#"ferrogate_ingress_requests_total{ingress="web",method="other",namespace="shop",status="418"} 1"#,
            r#"ferrogate_ingress_request_duration_seconds_count{ingress="web",namespace="shop"} 3"#,
            r#"nginx_ingress_controller_request_duration_seconds_count{ingress="web",namespace="shop"} 3"#,
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
    }

    #[test]
    fn an_ingress_that_is_gone_leaves_no_series() {
        let registry = Registry::new();
        let metrics = IngressMetrics::register(&registry).unwrap();
        let (gone, stays) = (ObjectName::new("shop", "gone"), ObjectName::new("shop", "stays"));
        metrics.expect(&[(gone.clone(), 1), (stays.clone(), 1)].into());
        let late = metrics.recorder(Some(&gone));
        for ingress in [Some(&gone), Some(&stays), None] {
            metrics.recorder(ingress).record("POST", 201, 0.1);
        }
        metrics.retain(&[(stays.clone(), 1)].into());
        late.record("POST", 201, 0.1);
        metrics.recorder(Some(&gone)).record("POST", 201, 0.1);
        let text = text(&registry);
        assert!(!text.contains("gone"), "{text}");
        assert_eq!(text.matches("status=\"201\"").count(), 4, "{text}");
    }
}
