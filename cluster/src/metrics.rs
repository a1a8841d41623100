//! What the client of the API server counts: `MetalLB`'s names, so that dashboards keep working, and a few of our own.

#![expect(clippy::disallowed_methods, reason = "an age is measured when somebody scrapes")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use config::object::Kind;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{GaugeVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

/// Everything that is counted.
#[derive(Debug)]
pub struct ClusterMetrics {
    requests: IntCounterVec,
    restarts: IntCounterVec,
    news: News,
    /// Objects that were listed, changed or deleted.
    pub updates: IntCounter,
    /// Objects that could not be read.
    pub update_errors: IntCounter,
    /// 1 while the state that was saved on disk is in use.
    pub saved_state: IntGauge,
}

/// When each kind was heard of last; shows the age of that.
#[derive(Clone, Debug)]
struct News {
    ages: GaugeVec,
    heard: Arc<Mutex<BTreeMap<Kind, Instant>>>,
}

impl Default for ClusterMetrics {
    /// Without a registry: counted and never shown.
    fn default() -> Self {
        Self::new().expect("names and labels are well-formed")
    }
}

impl ClusterMetrics {
    fn new() -> prometheus::Result<Self> {
        let counters = |name: &str, help: &str, labels: &[&str]| IntCounterVec::new(Opts::new(name, help), labels);
        Ok(Self {
            requests: counters(
                "ferrogate_cluster_requests_total",
                "Requests to the API server by verb, resource and HTTP code; 0 if there was no answer.",
                &["verb", "resource", "code"],
            )?,
            restarts: counters(
                "ferrogate_cluster_watch_restarts_total",
                "Watches that ended and were resumed, by kind.",
                &["kind"],
            )?,
            news: News {
                ages: GaugeVec::new(
                    Opts::new("ferrogate_cluster_news_age_seconds", "Seconds since anything was heard, by kind."),
                    &["kind"],
                )?,
                heard: Arc::default(),
            },
            updates: IntCounter::new("metallb_k8s_client_updates_total", "Objects listed, changed or deleted.")?,
            update_errors: IntCounter::new(
                "metallb_k8s_client_update_errors_total",
                "Versions of objects that could not be read.",
            )?,
            saved_state: IntGauge::new(
                "ferrogate_cluster_saved_state",
                "1 while the state saved on disk is in use because the API server has not answered since the start.",
            )?,
        })
    }

    /// Makes all metrics and registers them.
    pub fn register(registry: &Registry) -> prometheus::Result<Arc<Self>> {
        let metrics = Self::new()?;
        registry.register(Box::new(metrics.requests.clone()))?;
        registry.register(Box::new(metrics.restarts.clone()))?;
        registry.register(Box::new(metrics.news.clone()))?;
        registry.register(Box::new(metrics.updates.clone()))?;
        registry.register(Box::new(metrics.update_errors.clone()))?;
        registry.register(Box::new(metrics.saved_state.clone()))?;
        Ok(Arc::new(metrics))
    }

    /// A request was answered with this code, or not at all.
    pub(crate) fn asked(&self, verb: &str, resource: &str, code: Option<u16>) {
        self.requests.with_label_values(&[verb, resource, &code.unwrap_or_default().to_string()]).inc();
    }

    /// A watch of this kind was resumed.
    pub(crate) fn restarted(&self, kind: Kind) {
        self.restarts.with_label_values(&[kind.to_string()]).inc();
    }

    /// Something was heard of this kind.
    pub(crate) fn heard(&self, kind: Kind) {
        self.news.heard.lock().unwrap_or_else(PoisonError::into_inner).insert(kind, Instant::now());
    }
}

impl Collector for News {
    fn desc(&self) -> Vec<&Desc> {
        self.ages.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        for (kind, at) in self.heard.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            self.ages.with_label_values(&[kind.to_string()]).set(at.elapsed().as_secs_f64());
        }
        self.ages.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scrape_shows_what_was_counted() {
        let registry = Registry::new();
        let metrics = ClusterMetrics::register(&registry).unwrap();
        metrics.asked("patch", "services/status", None);
        metrics.restarted(Kind::Service);
        metrics.heard(Kind::Ingress);
        let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        for expected in [
            "ferrogate_cluster_requests_total{code=\"0\",resource=\"services/status\",verb=\"patch\"} 1",
            "ferrogate_cluster_watch_restarts_total{kind=\"Service\"} 1",
            "ferrogate_cluster_news_age_seconds{kind=\"Ingress\"} ",
            "ferrogate_cluster_saved_state 0",
            "metallb_k8s_client_updates_total 0",
            "metallb_k8s_client_update_errors_total 0",
        ] {
            assert!(text.contains(expected), "{expected} in\n{text}");
        }
    }
}
