//! What ingress-nginx counts, under its names, so that its dashboards and alerts go on working.
//!
//! Requests have the rule's host and path, never a client's: the number of series is bounded by configuration.
//! Histograms have namespace and Ingress alone. What there is nothing of here (reloads of nginx) tells of the nearest
//! thing: a configuration that is in force.

use std::collections::HashMap;

use config::object::ObjectName;
use config::report::CertificateEntry;
use prometheus::core::{Collector, Desc};
use prometheus::proto::{LabelPair, MetricFamily};
use prometheus::{
    GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
};

/// Who counts, as ingress-nginx calls it.
#[derive(Clone, Debug, Default)]
pub struct Controller {
    /// `controller_namespace`.
    pub namespace: String,
    /// `controller_class`.
    pub class: String,
    /// `controller_pod`.
    pub pod: String,
}

impl Controller {
    fn labels(&self) -> HashMap<String, String> {
        let pairs = [("namespace", &self.namespace), ("class", &self.class), ("pod", &self.pod)];
        pairs.into_iter().map(|(name, value)| (format!("controller_{name}"), value.clone())).collect()
    }

    fn opts(&self, name: &str, help: &str) -> Opts {
        Opts::new(format!("nginx_ingress_controller_{name}"), help).const_labels(self.labels())
    }
}

/// What a series of requests is about, beside method and status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteLabels {
    /// The host of the rule, `_` for any.
    pub host: String,
    /// The path of the rule.
    pub path: String,
    /// The Service.
    pub service: String,
}

/// The labels of [`Compat::requests`], sorted as a scrape shows them.
const LABELS: [&str; 8] = ["canary", "host", "ingress", "method", "namespace", "path", "service", "status"];
/// Upper bounds in bytes.
const SIZES: [f64; 6] = [100.0, 1e3, 1e4, 1e5, 1e6, 1e7];

/// The counters.
#[derive(Debug)]
pub(super) struct Compat {
    pub(super) requests: IntCounterVec,
    request_size: HistogramVec,
    response_size: HistogramVec,
    expiry: GaugeVec,
    class: String,
    reloaded: IntGauge,
    reload_time: IntGauge,
    hash: IntGauge,
    success: IntCounter,
}

impl Compat {
    pub(super) fn register(registry: &Registry, controller: &Controller) -> Result<Self, prometheus::Error> {
        let size = |name: &str, help: &str| {
            let opts = HistogramOpts::from(controller.opts(name, help)).buckets(SIZES.to_vec());
            HistogramVec::new(opts, &["namespace", "ingress"])
        };
        let gauge = |name: &str, help: &str| IntGauge::with_opts(controller.opts(name, help));
        let expiry =
            controller.opts("ssl_expire_time_seconds", "When the certificate of a host expires, in Unix time.");
        let made = Self {
            requests: IntCounterVec::new(controller.opts("requests", "Requests answered."), &LABELS)?,
            request_size: size("request_size", "Bytes of requests.")?,
            response_size: size("response_size", "Bytes of the bodies of answers.")?,
            expiry: GaugeVec::new(expiry, &["class", "host", "identifier", "namespace", "secret_name"])?,
            class: controller.class.clone(),
            reloaded: gauge("config_last_reload_successful", "Whether the newest configuration is in force.")?,
            reload_time: gauge("config_last_reload_successful_timestamp_seconds", "When it came in force.")?,
            hash: gauge("config_hash", "A number that differs from one configuration to the next.")?,
            success: IntCounter::with_opts(controller.opts("success", "Configurations that came in force."))?,
        };
        let all: [Box<dyn Collector>; 8] = [
            Box::new(made.requests.clone()),
            Box::new(made.request_size.clone()),
            Box::new(made.response_size.clone()),
            Box::new(made.expiry.clone()),
            Box::new(made.reloaded.clone()),
            Box::new(made.reload_time.clone()),
            Box::new(made.hash.clone()),
            Box::new(made.success.clone()),
        ];
        all.into_iter().try_for_each(|collector| registry.register(collector))?;
        Ok(made)
    }

    /// Bytes of requests and answers of one Ingress.
    pub(super) fn sizes(&self, ingress: &ObjectName) -> [Histogram; 2] {
        [&self.request_size, &self.response_size]
            .map(|sizes| sizes.with_label_values(&[&*ingress.namespace, &*ingress.name]))
    }

    /// The values of the labels of a series.
    pub(super) fn series(ingress: &ObjectName, route: &RouteLabels, method: &str, status: u16) -> [String; 8] {
        let own = [&route.host, &*ingress.name, method, &*ingress.namespace, &route.path, &route.service];
        let [host, ingress, method, namespace, path, service] = own.map(str::to_owned);
        [String::new(), host, ingress, method, namespace, path, service, status.to_string()]
    }

    /// An error would say that a series is not there, which is what is wanted.
    pub(super) fn remove(&self, ingress: &ObjectName, series: &[[String; 8]]) {
        for values in series {
            let _ = self.requests.remove_label_values(&values.each_ref().map(String::as_str));
        }
        for sizes in [&self.request_size, &self.response_size] {
            let _ = sizes.remove_label_values(&[&*ingress.namespace, &*ingress.name]);
        }
    }

    /// A configuration is in force since `now` (Unix time), and these certificates with it.
    pub(super) fn reloaded(&self, generation: u64, now: i64, certificates: &[CertificateEntry]) {
        self.reloaded.set(1);
        self.reload_time.set(now);
        self.hash.set(i64::try_from(generation).unwrap_or(i64::MAX));
        self.success.inc();
        self.expiry.reset();
        for certificate in certificates {
            let Ok(expiry) = certificate.not_after.parse::<jiff::Timestamp>() else { continue };
            let (namespace, secret) =
                certificate.secret.as_ref().map_or(("", ""), |secret| (&*secret.namespace, &*secret.name));
            for host in &certificate.hosts {
                let identifier = format!("{namespace}-{secret}");
                let labels = [&*self.class, host, &*identifier, namespace, secret];
                #[expect(clippy::cast_precision_loss, reason = "seconds fit for as long as anybody counts them")]
                self.expiry.with_label_values(&labels).set(expiry.as_second() as f64);
            }
        }
    }
}

/// A collector whose families have other names; those that are not listed are left out.
pub struct Renamed<C> {
    inner: C,
    names: Vec<(&'static str, String)>,
    labels: Vec<(String, String)>,
    descriptions: Vec<Desc>,
}

impl<C: Collector + 'static> Renamed<C> {
    /// The families of `inner` with these names (`from`, `to` without the prefix of ingress-nginx), as `controller`
    /// counts them.
    pub fn boxed(
        inner: C,
        names: &[(&'static str, &str)],
        controller: &Controller,
    ) -> Result<Box<dyn Collector>, prometheus::Error> {
        let names: Vec<_> = names.iter().map(|(from, to)| (*from, format!("nginx_ingress_controller_{to}"))).collect();
        let mut labels: Vec<(String, String)> = controller.labels().into_iter().collect();
        labels.sort();
        let help = || "As ingress-nginx counts it.".to_owned();
        let descriptions = names.iter().map(|(_, to)| Desc::new(to.clone(), help(), Vec::new(), controller.labels()));
        let descriptions = descriptions.collect::<Result<_, _>>()?;
        Ok(Box::new(Self { inner, names, labels, descriptions }))
    }
}

impl<C: Collector> Collector for Renamed<C> {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut families = self.inner.collect();
        families.retain_mut(|family| {
            let Some((_, to)) = self.names.iter().find(|(from, _)| *from == family.name()) else { return false };
            family.set_name(to.clone());
            for metric in family.mut_metric() {
                let mut labels = metric.take_label();
                labels.extend(self.labels.iter().map(|(name, value)| {
                    let mut pair = LabelPair::default();
                    pair.set_name(name.clone());
                    pair.set_value(value.clone());
                    pair
                }));
                metric.set_label(labels);
            }
            true
        });
        families
    }
}

/// Connections and requests, as nginx's own status page tells them; counted elsewhere, added up at a scrape.
pub(super) struct Nginx {
    pub(super) open: IntGauge,
    pub(super) accepted: IntCounter,
    pub(super) requests: IntCounterVec,
    connections: prometheus::IntGaugeVec,
    connections_total: IntCounterVec,
    requests_total: IntCounter,
}

impl Nginx {
    pub(super) fn new(
        controller: &Controller,
        open: IntGauge,
        accepted: IntCounter,
        requests: IntCounterVec,
    ) -> Result<Self, prometheus::Error> {
        let opts = |name: &str, help: &str| controller.opts(&format!("nginx_process_{name}"), help);
        Ok(Self {
            open,
            accepted,
            requests,
            connections: prometheus::IntGaugeVec::new(opts("connections", "Client connections now."), &["state"])?,
            connections_total: IntCounterVec::new(opts("connections_total", "Client connections so far."), &["state"])?,
            requests_total: IntCounter::with_opts(opts("requests_total", "Requests so far."))?,
        })
    }
}

impl Collector for Nginx {
    fn desc(&self) -> Vec<&Desc> {
        [self.connections.desc(), self.connections_total.desc(), self.requests_total.desc()].concat()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.connections.with_label_values(&["active"]).set(self.open.get());
        for state in ["accepted", "handled"] {
            let counter = self.connections_total.with_label_values(&[state]);
            counter.reset();
            counter.inc_by(self.accepted.get());
        }
        let families = self.requests.collect();
        let answered: f64 = families
            .iter()
            .flat_map(prometheus::proto::MetricFamily::get_metric)
            .map(|it| it.get_counter().get_value())
            .sum();
        self.requests_total.reset();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a sum of counts is a count")]
        self.requests_total.inc_by(answered as u64);
        [self.connections.collect(), self.connections_total.collect(), self.requests_total.collect()].concat()
    }
}
