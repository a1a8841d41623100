//! What is counted of heartbeats and of VIPs changing hands.

use std::sync::{Arc, Mutex, PoisonError};

use prometheus::{Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use crate::members::{Tally, View};

/// Bounds of the take-over times in seconds: the silence that was waited for, and a little more.
const BUCKETS: [f64; 12] = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.125, 0.15, 0.25, 0.5, 1.0, 2.5];

/// Everything that is counted of members.
#[derive(Debug)]
pub struct MemberMetrics {
    alive: IntGauge,
    one_way: IntGauge,
    blocked: IntGauge,
    owned: IntGauge,
    isolated: IntGauge,
    lingering: IntGauge,
    sent_on: IntGauge,
    /// Times that the kernel refused to send packets on.
    pub forward_errors: IntCounter,
    /// Whether the threads are scheduled in real time.
    pub realtime: IntGauge,
    suspicions: IntCounter,
    false_alarms: IntCounter,
    losses: IntCounter,
    takeover_seconds: Histogram,
    last_takeover: Gauge,
    /// Letters written.
    pub letters: IntCounter,
    /// Beats sent, one for each address.
    pub sent: IntCounter,
    /// Beats that could not be sent.
    pub send_errors: IntCounter,
    /// Datagrams that are no heartbeats.
    pub refused_foreign: IntCounter,
    /// Heartbeats signed with another key.
    pub refused_key: IntCounter,
    /// Heartbeats that are signed and not understood.
    pub refused_malformed: IntCounter,
    counted: Mutex<Tally>,
}

impl MemberMetrics {
    /// Makes all metrics and registers them.
    pub fn register(registry: &Registry) -> Result<Arc<Self>, prometheus::Error> {
        let gauge = |name: &str, help: &str| {
            let metric = IntGauge::new(name, help)?;
            registry.register(Box::new(metric.clone())).map(|()| metric)
        };
        let counter = |name: &str, help: &str| {
            let metric = IntCounter::new(name, help)?;
            registry.register(Box::new(metric.clone())).map(|()| metric)
        };
        let refused = Opts::new("ferrogate_speaker_heartbeats_refused_total", "Heartbeats refused, by reason.");
        let refused = IntCounterVec::new(refused, &["reason"])?;
        registry.register(Box::new(refused.clone()))?;
        let takeovers = "Time from the last heartbeat of an owner that was lost to the claim of its VIP.";
        let takeovers = HistogramOpts::new("ferrogate_speaker_takeover_seconds", takeovers).buckets(BUCKETS.to_vec());
        let takeover_seconds = Histogram::with_opts(takeovers)?;
        registry.register(Box::new(takeover_seconds.clone()))?;
        let last = "The last such time; 0 before the first.";
        let last_takeover = Gauge::new("ferrogate_speaker_last_takeover_seconds", last)?;
        registry.register(Box::new(last_takeover.clone()))?;
        Ok(Arc::new(Self {
            alive: gauge("ferrogate_speaker_members", "Speakers that are alive, this one among them.")?,
            one_way: gauge("ferrogate_speaker_members_one_way", "Speakers that are heard and do not hear this one.")?,
            blocked: gauge(
                "ferrogate_speaker_members_blocked",
                "Speakers that are there by ARP or letter while their heartbeats do not arrive.",
            )?,
            letters: counter(
                "ferrogate_speaker_letters_total",
                "Letters to other speakers by way of the API server, written where heartbeats do not arrive.",
            )?,
            owned: gauge("ferrogate_speaker_owned_vips", "VIPs that this speaker answers for.")?,
            isolated: gauge(
                "ferrogate_speaker_isolated",
                "1 if this speaker hears nobody and owns nothing therefore.",
            )?,
            lingering: gauge(
                "ferrogate_speaker_lingering_vips",
                "VIPs of other speakers whose earlier connections this node still serves.",
            )?,
            sent_on: gauge(
                "ferrogate_speaker_forwarded_vips",
                "VIPs whose earlier connections are sent on to the node that had them before.",
            )?,
            forward_errors: counter(
                "ferrogate_speaker_forward_errors_total",
                "Times that the kernel refused to send such packets on.",
            )?,
            realtime: gauge("ferrogate_speaker_realtime", "1 if heartbeats are scheduled in real time.")?,
            suspicions: counter("ferrogate_speaker_suspicions_total", "Times that a speaker was overdue.")?,
            false_alarms: counter(
                "ferrogate_speaker_false_alarms_total",
                "Overdue speakers that answered ARP, so that only their heartbeats were lost.",
            )?,
            losses: counter("ferrogate_speaker_members_lost_total", "Times that a speaker was declared lost.")?,
            takeover_seconds,
            last_takeover,
            sent: counter("ferrogate_speaker_heartbeats_sent_total", "Heartbeats sent.")?,
            send_errors: counter("ferrogate_speaker_heartbeat_send_errors_total", "Heartbeats not sent.")?,
            refused_foreign: refused.with_label_values(&["foreign"]),
            refused_key: refused.with_label_values(&["key"]),
            refused_malformed: refused.with_label_values(&["malformed"]),
            counted: Mutex::default(),
        }))
    }

    /// Shows how the members are, and counts what came since the last time.
    pub fn show(&self, view: &View, tally: Tally) {
        let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.alive.set(count(view.alive.len()));
        self.one_way.set(count(view.one_way.len()));
        self.blocked.set(count(view.blocked.len()));
        self.owned.set(count(view.owned.len()));
        self.isolated.set(view.isolated.into());
        self.lingering.set(count(view.lingering.len()));
        self.sent_on.set(count(view.sent_on.len()));
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        self.suspicions.inc_by(tally.suspects.saturating_sub(counted.suspects));
        self.false_alarms.inc_by(tally.false_alarms.saturating_sub(counted.false_alarms));
        self.losses.inc_by(tally.losses.saturating_sub(counted.losses));
        if let Some(last) = tally.last_takeover {
            let seconds = last.as_secs_f64();
            (counted.takeovers..tally.takeovers).for_each(|_| self.takeover_seconds.observe(seconds));
            self.last_takeover.set(seconds);
        }
        *counted = tally;
    }
}
