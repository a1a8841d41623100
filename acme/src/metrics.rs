//! What is counted, under the names that cert-manager made known.

use std::time::Duration;

use config::report::ManagedEntry;
use jiff::Timestamp;
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

const CERTIFICATE: [&str; 5] = ["name", "namespace", "issuer_name", "issuer_kind", "issuer_group"];
const REQUEST: [&str; 5] = ["scheme", "host", "action", "method", "status"];

/// Everything that is counted.
#[derive(Debug)]
pub struct AcmeMetrics {
    ready: IntGaugeVec,
    expiration: IntGaugeVec,
    renewal: IntGaugeVec,
    not_after: IntGaugeVec,
    requests: IntCounterVec,
    durations: HistogramVec,
    failures: IntGaugeVec,
    clock: IntGauge,
}

impl Default for AcmeMetrics {
    /// Without a registry: counted and never shown.
    fn default() -> Self {
        Self::new().expect("names and labels are well-formed")
    }
}

impl AcmeMetrics {
    fn new() -> prometheus::Result<Self> {
        let gauges = |name: &str, help: &str, labels: &[&str]| IntGaugeVec::new(Opts::new(name, help), labels);
        let [name, namespace, issuer, kind, group] = CERTIFICATE;
        Ok(Self {
            ready: gauges(
                "certmanager_certificate_ready_status",
                "Whether a certificate is held and up to date, by condition.",
                &["condition", name, namespace, issuer, kind, group],
            )?,
            expiration: gauges(
                "certmanager_certificate_expiration_timestamp_seconds",
                "When the certificate that is held expires.",
                &CERTIFICATE,
            )?,
            renewal: gauges(
                "certmanager_certificate_renewal_timestamp_seconds",
                "When the certificate that is held is to be renewed.",
                &CERTIFICATE,
            )?,
            not_after: gauges(
                "certmanager_certificate_not_after_timestamp_seconds",
                "The last moment at which the certificate that is held is valid.",
                &CERTIFICATE,
            )?,
            requests: IntCounterVec::new(
                Opts::new("certmanager_http_acme_client_request_count", "Requests to CAs."),
                &REQUEST,
            )?,
            durations: HistogramVec::new(
                HistogramOpts::new(
                    "certmanager_http_acme_client_request_duration_seconds",
                    "How long requests to CAs took.",
                ),
                &REQUEST,
            )?,
            failures: gauges(
                "ferrogate_acme_failures",
                "How often ordering failed since it last succeeded.",
                &[name, namespace],
            )?,
            clock: IntGauge::new("certmanager_clock_time_seconds_gauge", "The clock of this process.")?,
        })
    }

    /// Makes all metrics and registers them.
    pub fn register(registry: &Registry) -> prometheus::Result<std::sync::Arc<Self>> {
        let metrics = Self::new()?;
        for gauges in [&metrics.ready, &metrics.expiration, &metrics.renewal, &metrics.not_after, &metrics.failures] {
            registry.register(Box::new(gauges.clone()))?;
        }
        registry.register(Box::new(metrics.requests.clone()))?;
        registry.register(Box::new(metrics.durations.clone()))?;
        registry.register(Box::new(metrics.clock.clone()))?;
        Ok(std::sync::Arc::new(metrics))
    }

    /// A CA was asked; status 0 if it did not answer.
    pub(crate) fn asked(&self, host: &str, path: &str, method: &str, status: u16, took: Duration) {
        let (status, action) = (status.to_string(), action(path));
        let labels = ["https", host, action, method, &status];
        self.requests.with_label_values(&labels).inc();
        self.durations.with_label_values(&labels).observe(took.as_secs_f64());
    }

    /// The clock is read.
    pub fn tick(&self, now: Timestamp) {
        self.clock.set(now.as_second());
    }

    /// Shows how all certificates stand at `now`.
    pub fn show(&self, entries: &[ManagedEntry], now: Timestamp) {
        for gauges in [&self.ready, &self.expiration, &self.renewal, &self.not_after, &self.failures] {
            gauges.reset();
        }
        for entry in entries {
            let (namespace, name) = (&*entry.secret.namespace, &*entry.secret.name);
            let (kind, issuer) = entry.issuer.split_once(' ').unwrap_or(("", &entry.issuer));
            let labels = [name, namespace, issuer, kind, "cert-manager.io"];
            let moment = |text: &Option<String>| text.as_ref()?.parse::<Timestamp>().ok().map(Timestamp::as_second);
            let expires = moment(&entry.not_after);
            let is_ready = expires.is_some_and(|at| at > now.as_second());
            for (condition, holds) in [("True", is_ready), ("False", !is_ready), ("Unknown", false)] {
                let labels = [condition, name, namespace, issuer, kind, "cert-manager.io"];
                self.ready.with_label_values(&labels).set(holds.into());
            }
            if let Some(at) = expires {
                self.expiration.with_label_values(&labels).set(at);
                self.not_after.with_label_values(&labels).set(at);
            }
            if let Some(at) = moment(&entry.next_try).filter(|_| entry.state == "valid") {
                self.renewal.with_label_values(&labels).set(at);
            }
            self.failures.with_label_values(&[name, namespace]).set(entry.failures.into());
        }
    }
}

/// What a request is about, by its path: its ids would make a time series each.
fn action(path: &str) -> &'static str {
    // Paths are the CA's own; these are the words that Let's Encrypt, Pebble and step-ca use, the longer first.
    const WORDS: [(&str, &str); 16] = [
        ("nonce", "new_nonce"),
        ("new-order", "new_order"),
        ("neworder", "new_order"),
        ("order-plz", "new_order"),
        ("new-acct", "new_account"),
        ("new-account", "new_account"),
        ("sign-me-up", "new_account"),
        ("finalize", "finalize_order"),
        ("chall", "accept_challenge"),
        ("chalz", "accept_challenge"),
        ("authz", "get_authorization"),
        ("renewal", "renewal_info"),
        ("cert", "fetch_certificate"),
        ("order", "get_order"),
        ("acc", "update_account"),
        ("dir", "directory"),
    ];
    let path = path.to_ascii_lowercase();
    WORDS.iter().find(|(word, _)| path.contains(word)).map_or("other", |(_, action)| action)
}

#[cfg(test)]
mod tests {
    use config::object::ObjectName;

    use super::*;

    #[test]
    fn alert_rules_that_were_written_for_cert_manager_find_what_they_look_for() {
        let registry = Registry::new();
        let metrics = AcmeMetrics::register(&registry).unwrap();
        let entry = ManagedEntry {
            secret: ObjectName::new("shop", "tls"),
            ingress: ObjectName::new("shop", "web"),
            issuer: "ClusterIssuer le".to_owned(),
            hosts: Vec::new(),
            state: "valid",
            reason: String::new(),
            next_step: None,
            next_try: Some("2026-02-01T00:00:00Z".to_owned()),
            not_after: Some("2026-03-01T00:00:00Z".to_owned()),
            error: None,
            failures: 2,
        };
        metrics.asked("ca.example", "/acme/new-order", "POST", 201, Duration::from_millis(20));
        metrics.show(&[entry], "2026-01-01T00:00:00Z".parse().unwrap());
        let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        let labels = "issuer_group=\"cert-manager.io\",issuer_kind=\"ClusterIssuer\",issuer_name=\"le\",name=\"tls\",namespace=\"shop\"";
        for expected in [
            format!("certmanager_certificate_expiration_timestamp_seconds{{{labels}}} 1772323200"),
            format!("certmanager_certificate_renewal_timestamp_seconds{{{labels}}} 1769904000"),
            format!("certmanager_certificate_ready_status{{condition=\"True\",{labels}}} 1"),
            "certmanager_http_acme_client_request_count{action=\"new_order\",host=\"ca.example\",method=\"POST\",scheme=\"https\",status=\"201\"} 1".to_owned(),
            "ferrogate_acme_failures{name=\"tls\",namespace=\"shop\"} 2".to_owned(),
        ] {
            assert!(text.contains(&expected), "{expected} in\n{text}");
        }
        metrics.show(&[], "2026-01-01T00:00:00Z".parse().unwrap());
        let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        assert!(!text.contains("certmanager_certificate_ready_status"), "what is gone is not shown");
    }
}
