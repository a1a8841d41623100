//! The speaker's metrics: `MetalLB`'s names, so that dashboards and alerts keep working, and a few of our own.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use crate::dropped::DropReason;
use crate::plan::PoolUsage;

/// Everything the speaker counts.
#[derive(Debug)]
pub struct SpeakerMetrics {
    /// `metallb_allocator_addresses_total` and its twin `.._in_use_total`, by pool: both families, IPv4, IPv6.
    addresses: [Addresses; 3],
    services_allocated: IntGaugeVec,
    requests_received: IntCounterVec,
    responses_sent: IntCounterVec,
    gratuitous_sent: IntCounterVec,
    announced: IntGaugeVec,
    orphaned: IntGauge,
    config_loaded: IntGauge,
    config_stale: IntGauge,
    conflicts: IntCounterVec,
    frames_dropped: IntCounterVec,
    answers_limited: IntCounter,
    send_errors: IntCounter,
    shown: Mutex<Shown>,
}

#[derive(Debug)]
struct Addresses {
    total: IntGaugeVec,
    in_use: IntGaugeVec,
}

/// The label values that were set, to remove them when they are gone.
#[derive(Debug, Default)]
struct Shown {
    announced: BTreeSet<Announced>,
    pools: BTreeSet<String>,
}

/// Labels of `metallb_speaker_announced`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Announced {
    /// `namespace/name` of the Service.
    pub service: String,
    /// `layer2`.
    pub protocol: &'static str,
    /// The node that announces it.
    pub node: String,
    /// The address.
    pub ip: String,
}

/// The counters of one VIP, ready to be counted up without a look-up.
#[derive(Clone, Debug)]
pub struct VipCounters {
    /// ARP requests and neighbour solicitations received.
    pub requests: IntCounter,
    /// ARP replies and neighbour advertisements sent to askers.
    pub responses: IntCounter,
    /// Gratuitous ARP and unsolicited neighbour advertisements sent.
    pub gratuitous: IntCounter,
    /// Frames in which somebody else claimed it.
    pub conflicts: IntCounter,
}

impl SpeakerMetrics {
    /// Makes all metrics and registers them.
    pub fn register(registry: &Registry) -> Result<Arc<Self>, prometheus::Error> {
        let counters = |name: &str, help: &str, label: &str| {
            let metric = IntCounterVec::new(Opts::new(name, help), &[label])?;
            registry.register(Box::new(metric.clone())).map(|()| metric)
        };
        let counter = |name: &str, help: &str| {
            let metric = IntCounter::new(name, help)?;
            registry.register(Box::new(metric.clone())).map(|()| metric)
        };
        let gauge = |name: &str, help: &str| {
            let metric = IntGauge::new(name, help)?;
            registry.register(Box::new(metric.clone())).map(|()| metric)
        };
        let announced_labels = ["service", "protocol", "node", "ip"];
        let announced = Opts::new("metallb_speaker_announced", "Services being announced from this node.");
        let announced = IntGaugeVec::new(announced, &announced_labels)?;
        registry.register(Box::new(announced.clone()))?;
        let allocated =
            Opts::new("metallb_allocator_services_allocated_total", "Number of services allocated, per pool.");
        let services_allocated = IntGaugeVec::new(allocated, &["pool"])?;
        registry.register(Box::new(services_allocated.clone()))?;
        Ok(Arc::new(Self {
            addresses: [
                Addresses::register(registry, "", "addresses")?,
                Addresses::register(registry, "ipv4_", "IPv4 addresses")?,
                Addresses::register(registry, "ipv6_", "IPv6 addresses")?,
            ],
            services_allocated,
            requests_received: counters(
                "metallb_layer2_requests_received",
                "Layer 2 requests received for an announced address.",
                "ip",
            )?,
            responses_sent: counters(
                "metallb_layer2_responses_sent",
                "Layer 2 responses sent for an announced address.",
                "ip",
            )?,
            gratuitous_sent: counters(
                "metallb_layer2_gratuitous_sent",
                "Gratuitous layer 2 frames sent for an announced address.",
                "ip",
            )?,
            announced,
            orphaned: gauge(
                "ferrogate_speaker_orphaned_addresses",
                "Addresses that Services hold and no pool has any more.",
            )?,
            config_loaded: gauge("metallb_k8s_client_config_loaded_bool", "1 if there is an address configuration.")?,
            config_stale: gauge(
                "metallb_k8s_client_config_stale_bool",
                "1 if the newest address configuration was refused and an older one is in force.",
            )?,
            conflicts: counters(
                "ferrogate_speaker_conflicts_total",
                "ARP and ND frames in which somebody else claimed an announced address.",
                "ip",
            )?,
            frames_dropped: counters(
                "ferrogate_speaker_frames_dropped_total",
                "Received ARP and ND frames dropped, by reason.",
                "reason",
            )?,
            answers_limited: counter(
                "ferrogate_speaker_answers_limited_total",
                "ARP and ND requests not answered because their sender asked too often.",
            )?,
            send_errors: counter("ferrogate_speaker_send_errors_total", "ARP and ND frames that could not be sent.")?,
            shown: Mutex::default(),
        }))
    }

    /// Shows how full the pools are.
    pub fn set_pools(&self, pools: &[PoolUsage]) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let names: BTreeSet<String> = pools.iter().map(|pool| pool.name.as_str().to_owned()).collect();
        for gone in shown.pools.difference(&names) {
            self.addresses.iter().for_each(|addresses| addresses.remove(gone));
            // It may only be absent, which is what is wanted.
            let _ = self.services_allocated.remove_label_values(&[gone]);
        }
        for pool in pools {
            let (name, ipv4, ipv6) = (pool.name.as_str(), &pool.ipv4, &pool.ipv6);
            self.addresses[0].set(name, ipv4.total.saturating_add(ipv6.total), ipv4.in_use + ipv6.in_use);
            self.addresses[1].set(name, ipv4.total, ipv4.in_use);
            self.addresses[2].set(name, ipv6.total, ipv6.in_use);
            let services = i64::try_from(pool.services).unwrap_or(i64::MAX);
            self.services_allocated.with_label_values(&[name]).set(services);
        }
        shown.pools = names;
    }

    /// Shows how many addresses are held that no pool has any more.
    pub fn set_orphaned(&self, count: usize) {
        self.orphaned.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Shows what is announced, and no longer what is not.
    pub fn set_announced(&self, announced: BTreeSet<Announced>) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        for gone in shown.announced.difference(&announced) {
            // It may only be absent, which is what is wanted.
            let _ = self.announced.remove_label_values(&gone.labels());
        }
        for new in &announced {
            self.announced.with_label_values(&new.labels()).set(1);
        }
        shown.announced = announced;
    }

    /// Shows whether there is an address configuration, and whether it is an old one.
    pub fn set_config(&self, loaded: bool, stale: bool) {
        self.config_loaded.set(i64::from(loaded));
        self.config_stale.set(i64::from(stale));
    }

    /// The counters of one VIP.
    #[must_use]
    pub fn vip(&self, vip: IpAddr) -> VipCounters {
        let ip = &[vip.to_string()];
        VipCounters {
            requests: self.requests_received.with_label_values(ip),
            responses: self.responses_sent.with_label_values(ip),
            gratuitous: self.gratuitous_sent.with_label_values(ip),
            conflicts: self.conflicts.with_label_values(ip),
        }
    }

    /// The counter of frames dropped for this reason.
    #[must_use]
    pub fn dropped(&self, reason: DropReason) -> IntCounter {
        self.frames_dropped.with_label_values(&[reason.as_str()])
    }

    /// The counter of requests not answered because their sender asked too often.
    #[must_use]
    pub fn limited(&self) -> IntCounter {
        self.answers_limited.clone()
    }

    /// The counter of frames that could not be sent.
    #[must_use]
    pub fn send_errors(&self) -> IntCounter {
        self.send_errors.clone()
    }
}

impl Announced {
    fn labels(&self) -> [&str; 4] {
        [&self.service, self.protocol, &self.node, &self.ip]
    }
}

impl Addresses {
    fn register(registry: &Registry, family: &str, what: &str) -> Result<Self, prometheus::Error> {
        let gauge = |name: &str, help: String| {
            let metric = IntGaugeVec::new(Opts::new(format!("metallb_allocator_{family}{name}"), help), &["pool"])?;
            registry.register(Box::new(metric.clone())).map(|()| metric)
        };
        Ok(Self {
            total: gauge("addresses_total", format!("Number of usable {what}, per pool."))?,
            in_use: gauge("addresses_in_use_total", format!("Number of {what} in use, per pool."))?,
        })
    }

    fn set(&self, pool: &str, total: u128, in_use: u64) {
        self.total.with_label_values(&[pool]).set(i64::try_from(total).unwrap_or(i64::MAX));
        self.in_use.with_label_values(&[pool]).set(i64::try_from(in_use).unwrap_or(i64::MAX));
    }

    fn remove(&self, pool: &str) {
        // They may only be absent, which is what is wanted.
        let _ = self.total.remove_label_values(&[pool]);
        let _ = self.in_use.remove_label_values(&[pool]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_longer_announced_is_no_longer_shown() {
        let registry = Registry::new();
        let metrics = SpeakerMetrics::register(&registry).unwrap();
        let one =
            |ip: &str| Announced { service: "default/web".into(), protocol: "layer2", node: "n".into(), ip: ip.into() };
        metrics.set_announced(BTreeSet::from([one("192.0.2.1"), one("192.0.2.2")]));
        metrics.set_announced(BTreeSet::from([one("192.0.2.2")]));
        let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        assert!(
            text.contains(
                r#"metallb_speaker_announced{ip="192.0.2.2",node="n",protocol="layer2",service="default/web"} 1"#
            ),
            "{text}"
        );
        assert!(!text.contains("192.0.2.1"), "{text}");
    }
}
