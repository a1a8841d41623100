//! Writes what is planned: a round at a time, paced, repeated until it holds.
//!
//! A round is a few writes planned from one snapshot. The next round waits until a snapshot shows all of this one, so
//! that no report which does not know of a write can undo it. Whatever fails is planned again later: nothing is
//! queued that a newer report might have changed.

#![expect(clippy::disallowed_methods, reason = "io reads the clock")]

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use config::diagnostic::{Problem, Severity};
use config::object::{FieldPath, Kind, ObjectRef};
use config::report::{Event, Report};
use config::snapshot::Snapshot;
use jiff::Timestamp;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::core::Request;
use serde_json::Value;
use tokio::task::JoinSet;
use tracing::{debug, warn};

use super::connection::{ANSWER, Connection, Failure, WRITE};
use super::events::{COMPONENT, Teller, Telling};
use super::kinds::collection;
use super::mirror::Mirror;
use super::plan::{self, How, Plan, Planner, StatusWrite, Wanted};
use super::retry::{Budget, Retry};
use super::{Timing, WriteBudget};
use crate::outbox::Presence;

/// Statuses of one round at most; fewer if the budget gives fewer at once, so that nothing new waits long for a round.
const ROUND: u32 = 64;
/// Requests at the same time.
const AT_ONCE: usize = 8;
/// How soon after a write an object is written again at the earliest.
const SPACING: Duration = Duration::from_secs(1);

/// One request and what it is about.
enum Job {
    Status(StatusWrite),
    Event(Voice, Event),
    /// What was told before.
    Told,
}

/// In whose name an event is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Voice {
    /// The leader's, for all.
    Leader,
    /// This node's, of what only it knows.
    Node,
}

/// Everything about writing.
pub(super) struct Writer {
    connection: Arc<Connection>,
    timing: Timing,
    objects: BTreeMap<ObjectRef, Attempts>,
    round: VecDeque<StatusWrite>,
    planned: Option<Planned>,
    planner: Planner,
    running: JoinSet<(Job, Result<Value, Failure>)>,
    in_flight: usize,
    events: Teller,
    /// What this node tells, whether it leads or not.
    own: Teller,
    /// The reports that [`Self::own`] knows of.
    heard: Option<[Arc<Report>; 3]>,
    told: Told,
    budget: WriteBudget,
    /// Of each kind whose status was written.
    statuses: BTreeMap<Kind, Budget>,
    event_budget: Budget,
    own_budget: Budget,
    retry: Retry,
    /// No request before this, as the server or its silence asks.
    gate: Option<Instant>,
    /// The generation of the oldest snapshot whose reports count.
    oldest: u64,
    refusals: Vec<Problem>,
    failures: BTreeMap<ObjectRef, Problem>,
}

/// Whether we know what an earlier process told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Unknown,
    Asked,
    Known,
}

/// What was planned from, so that it is not planned twice.
struct Planned {
    generation: u64,
    reports: [Arc<Report>; 3],
    /// When something that had to wait may be tried again.
    again: Option<Instant>,
    /// Whether there is more than fitted into a round.
    more: bool,
}

/// How writing one object goes.
struct Attempts {
    retry: Retry,
    not_before: Instant,
    last: Option<Wanted>,
    /// The version that our last write made, until it is seen.
    unseen: Option<String>,
    /// The version that our last write made.
    made: Option<String>,
    /// What a write without an answer was to say, and what is told if it was made all the same.
    unsure: Option<(Wanted, Vec<Event>)>,
}

impl Writer {
    pub(super) fn new(connection: Arc<Connection>, timing: Timing, budget: WriteBudget) -> Self {
        Self {
            connection,
            objects: BTreeMap::new(),
            round: VecDeque::new(),
            planned: None,
            planner: Planner::default(),
            running: JoinSet::new(),
            in_flight: 0,
            events: Teller::default(),
            own: Teller::default(),
            heard: None,
            told: Told::Unknown,
            statuses: BTreeMap::new(),
            event_budget: Budget::new(budget.per_second, budget.burst),
            own_budget: Budget::new(budget.per_second / 2, budget.burst / 2),
            budget,
            retry: Retry::new(timing.first_retry, timing.longest_retry),
            timing,
            gate: None,
            oldest: 0,
            refusals: Vec::new(),
            failures: BTreeMap::new(),
        }
    }

    /// We have come to lead: only reports of snapshots from `generation` on count.
    pub(super) fn lead(&mut self, generation: u64) {
        self.oldest = self.oldest.max(generation);
        self.planned = None;
        self.told = Told::Unknown;
        self.events = Teller::default();
    }

    /// Somebody else writes from now on.
    pub(super) fn follow(&mut self) {
        self.round.clear();
        self.planned = None;
        self.events.clear();
        self.refusals.clear();
        self.failures.clear();
        self.objects.clear();
    }

    /// What an operator should know of.
    pub(super) fn problems(&self) -> Vec<Problem> {
        self.refusals.iter().chain(self.failures.values()).cloned().collect()
    }

    /// Whether everything that can be written now is.
    pub(super) fn is_idle(&self) -> bool {
        let more = self.planned.as_ref().is_some_and(|planned| planned.more);
        self.round.is_empty()
            && self.in_flight == 0
            && !more
            && self.events.is_quiet()
            && self.own.is_quiet()
            && !self.awaits_sight()
    }

    /// Waits for an answer; for ever if none is due.
    pub(super) async fn answered(&mut self) {
        match self.running.join_next().await {
            Some(Ok((job, answer))) => self.finish(job, answer, Instant::now()),
            Some(Err(error)) => {
                self.in_flight -= 1;
                warn!(%error, "a write ended without an answer");
            }
            None => std::future::pending().await,
        }
    }

    /// Plans and starts what is due at `now`.
    pub(super) fn step(&mut self, mirror: &Mirror, reports: &[Arc<Report>; 3], now: Instant) {
        let Some(snapshot) = mirror.snapshot() else { return };
        self.look(mirror, snapshot);
        if self.told == Told::Unknown && self.may_send(now) {
            self.ask_told();
        }
        if self.round.is_empty() && self.in_flight == 0 && !self.awaits_sight() && self.is_news(snapshot, reports, now)
        {
            self.plan(snapshot, mirror, reports, now);
        }
        while let Some(write) = self.affordable(now) {
            self.start_status(write);
        }
    }

    /// Tells what is due: what the leader has to tell, if that is us, and what only this node knows in any case.
    pub(super) fn speak(&mut self, mirror: &Mirror, reports: &[Arc<Report>; 3], now: Instant) {
        let Some(snapshot) = mirror.snapshot() else { return };
        self.hear(reports, now);
        while self.told == Told::Known && self.may_send(now) {
            let Some((voice, (event, telling))) = self.next_telling(snapshot, now) else { break };
            self.start_event(voice, event, telling);
        }
    }

    /// What has its turn. A node has a budget of its own for what it tells: of a thousand VIPs that move to it at once it
    /// tells in a few minutes, whatever the leader has to say meanwhile.
    fn next_telling(&mut self, snapshot: &Snapshot, now: Instant) -> Option<(Voice, (Event, Telling))> {
        let (uid, clock) = (|object: &ObjectRef| uid(snapshot, object), Timestamp::now());
        let turns = [
            (Voice::Leader, &mut self.events, &mut self.event_budget),
            (Voice::Node, &mut self.own, &mut self.own_budget),
        ];
        for (voice, teller, budget) in turns {
            if budget.next(now) <= now
                && let Some(told) = teller.next(uid, now, clock)
            {
                budget.take(now);
                return Some((voice, told));
            }
        }
        None
    }

    /// Learns what only this node knows; what was told before has to be known first.
    fn hear(&mut self, reports: &[Arc<Report>; 3], now: Instant) {
        let same = |heard: &[Arc<Report>; 3]| heard.iter().zip(reports).all(|(old, new)| Arc::ptr_eq(old, new));
        if self.heard.as_ref().is_some_and(same) {
            return;
        }
        let is_silent = reports.iter().all(|report| report.local_events.is_empty());
        match self.told {
            Told::Known => {
                for (domain, report) in reports.iter().enumerate() {
                    self.own.hold(domain, &report.local_events, |_| true);
                }
                self.heard = Some(reports.clone());
            }
            Told::Unknown if !is_silent && self.may_send(now) => self.ask_told(),
            Told::Unknown | Told::Asked => {}
        }
    }

    /// When to speak although nothing happens.
    pub(super) fn next_word(&self, now: Instant) -> Option<Instant> {
        let turns = [(&self.events, &self.event_budget), (&self.own, &self.own_budget)];
        let waiting = turns.into_iter().filter(|(teller, _)| self.told == Told::Known && !teller.is_idle());
        let due = waiting.map(|(_, budget)| budget.next(now)).min();
        [due, self.gate].into_iter().flatten().max().filter(|at| *at > now)
    }

    /// When to step although nothing happens.
    pub(super) fn deadline(&self, now: Instant) -> Option<Instant> {
        let gate = self.gate.filter(|gate| *gate > now);
        let status = self.round.iter().map(|write| self.next_status(write.object.kind, now)).min();
        let event = self.next_word(now);
        let again = self.planned.as_ref().and_then(|planned| planned.again);
        let after_gate = |at: Instant| gate.map_or(at, |gate| gate.max(at));
        // What is past waits for an answer, which steps too.
        [status, event, again, gate].into_iter().flatten().map(after_gate).filter(|at| *at > now).min()
    }

    /// The first write of the round whose kind has its turn.
    fn affordable(&mut self, now: Instant) -> Option<StatusWrite> {
        let found = self.round.iter().position(|write| self.next_status(write.object.kind, now) <= now);
        let found = found.filter(|_| self.may_send(now))?;
        let write = self.round.remove(found)?;
        let WriteBudget { per_second, burst } = self.budget;
        self.statuses.entry(write.object.kind).or_insert_with(|| Budget::new(per_second, burst)).take(now);
        Some(write)
    }

    fn next_status(&self, kind: Kind, now: Instant) -> Instant {
        self.statuses.get(&kind).map_or(now, |budget| budget.next(now))
    }

    fn may_send(&self, now: Instant) -> bool {
        self.in_flight < AT_ONCE && self.gate.is_none_or(|gate| gate <= now)
    }

    fn awaits_sight(&self) -> bool {
        self.objects.values().any(|attempts| attempts.unseen.is_some())
    }

    /// Looks which of our writes came back, also of those that had no answer.
    fn look(&mut self, mirror: &Mirror, snapshot: &Snapshot) {
        for (object, attempts) in &mut self.objects {
            if let Some((_, events)) = attempts.unsure.take_if(|(wanted, _)| plan::is_shown(snapshot, object, wanted)) {
                self.events.tell(events);
                // A report from before does not know of it, and may want something else.
                self.oldest = self.oldest.max(mirror.generation());
            }
            let Some(unseen) = &attempts.unseen else { continue };
            let seen = mirror.version(object).is_none_or(|version| is_at_least(version, unseen));
            if seen {
                attempts.unseen = None;
                self.oldest = self.oldest.max(mirror.generation());
            }
        }
    }

    fn is_news(&self, snapshot: &Snapshot, reports: &[Arc<Report>; 3], now: Instant) -> bool {
        let Some(planned) = &self.planned else { return true };
        let same = planned.generation == snapshot.generation
            && planned.reports.iter().zip(reports).all(|(old, new)| Arc::ptr_eq(old, new));
        !same || planned.more || planned.again.is_some_and(|again| again <= now)
    }

    fn plan(&mut self, snapshot: &Snapshot, mirror: &Mirror, reports: &[Arc<Report>; 3], now: Instant) {
        let refs = reports.each_ref().map(AsRef::as_ref);
        let presence = |object: &ObjectRef| mirror.presence(object);
        let Plan { writes, refusals } = self.planner.plan(snapshot, &refs, self.oldest, presence, Timestamp::now());
        self.refusals = refusals;
        self.objects.retain(|object, _| presence(object) != Presence::Absent);
        self.failures.retain(|object, _| writes.iter().any(|write| write.object == *object));
        let (mut again, mut more) = (None::<Instant>, false);
        let longest = usize::try_from(self.budget.burst.clamp(1, ROUND)).unwrap_or(1);
        for write in writes {
            match self.due(&write, mirror, now) {
                Due::Never => {}
                Due::At(at) if at > now => again = Some(again.map_or(at, |again| again.min(at))),
                Due::At(_) if self.round.len() >= longest => more = true,
                Due::At(_) => self.round.push_back(write),
            }
        }
        if self.told == Told::Known {
            for (domain, report) in refs.into_iter().enumerate() {
                self.events.hold(domain, &report.events, |event| !plan::is_about_assignment(event));
            }
        }
        let planned = Planned { generation: snapshot.generation, reports: reports.clone(), again, more };
        self.planned = Some(planned);
    }

    fn due(&self, write: &StatusWrite, mirror: &Mirror, now: Instant) -> Due {
        let Some(attempts) = self.objects.get(&write.object) else { return Due::At(now) };
        let same = attempts.last.as_ref() == Some(&write.wanted);
        let untouched = attempts.made.as_deref().is_some_and(|made| mirror.version(&write.object) == Some(made));
        // The server took it and shows something else; writing it again would go on for ever.
        if same && untouched { Due::Never } else { Due::At(attempts.not_before) }
    }

    fn ask_told(&mut self) {
        self.told = Told::Asked;
        let params = ListParams::default().fields(&format!("source={COMPONENT}"));
        let request = Request::new("/api/v1/events").list(&params);
        self.start(Job::Told, request, ANSWER);
    }

    fn start_status(&mut self, write: StatusWrite) {
        let ObjectRef { kind, name } = &write.object;
        let path = Request::new(collection(*kind, Some(&name.namespace)));
        let manager = || Some(COMPONENT.to_owned());
        let request = match write.how {
            How::Status => {
                let params = PatchParams::apply(COMPONENT).force();
                path.patch_subresource("status", &name.name, &params, &Patch::Apply(&write.body))
            }
            How::Create => {
                let params = PostParams { field_manager: manager(), ..PostParams::default() };
                path.create(&params, write.body.to_string().into_bytes())
            }
            How::Merge => {
                let params = PatchParams { field_manager: manager(), ..PatchParams::default() };
                path.patch(&name.name, &params, &Patch::Merge(&write.body))
            }
        };
        self.start(Job::Status(write), request, WRITE);
    }

    fn start_event(&mut self, voice: Voice, event: Event, telling: Telling) {
        let path = |namespace: &str| Request::new(format!("/api/v1/namespaces/{namespace}/events"));
        let request = match telling {
            Telling::Create(body) => {
                let params = PostParams { field_manager: Some(COMPONENT.to_owned()), ..PostParams::default() };
                let namespace = body["metadata"]["namespace"].as_str().unwrap_or_default();
                path(namespace).create(&params, body.to_string().into_bytes())
            }
            Telling::Count { namespace, name, patch } => {
                let params = PatchParams { field_manager: Some(COMPONENT.to_owned()), ..PatchParams::default() };
                path(&namespace).patch(&name, &params, &Patch::Merge(&patch))
            }
        };
        self.start(Job::Event(voice, event), request, WRITE);
    }

    fn start(
        &mut self,
        job: Job,
        request: Result<http::Request<Vec<u8>>, kube::core::request::Error>,
        limit: Duration,
    ) {
        let connection = Arc::clone(&self.connection);
        self.in_flight += 1;
        self.running.spawn(async move {
            let answer = match request {
                Ok(request) => connection.json(request, limit).await,
                Err(error) => Err(Failure::Garbled(error.to_string())),
            };
            (job, answer)
        });
    }

    fn finish(&mut self, job: Job, answer: Result<Value, Failure>, now: Instant) {
        self.in_flight -= 1;
        if let Err(failure) = &answer {
            self.slow_down(failure, now);
        } else {
            self.retry.succeeded();
        }
        match (job, answer) {
            (Job::Status(write), Ok(object)) => self.written(write, &object, now),
            (Job::Status(write), Err(failure)) => self.not_written(write, &failure, now),
            (Job::Event(..), Ok(_)) => {}
            (Job::Event(voice, event), Err(failure)) => match failure.code() {
                0 | 401 | 429 | 500.. => self.teller(voice).again(event),
                404 => self.teller(voice).expired(event),
                // Its namespace is being deleted, or events are not ours to write.
                _ => debug!(%failure, object = %event.object, reason = event.reason, "an event was not told"),
            },
            (Job::Told, Ok(list)) => {
                self.events.learn(&list);
                if self.heard.is_none() {
                    self.own.learn(&list);
                }
                self.know_told();
            }
            (Job::Told, Err(failure)) if matches!(failure.code(), 0 | 401 | 429 | 500..) => self.told = Told::Unknown,
            (Job::Told, Err(_)) => self.know_told(),
        }
    }

    const fn teller(&mut self, voice: Voice) -> &mut Teller {
        match voice {
            Voice::Leader => &mut self.events,
            Voice::Node => &mut self.own,
        }
    }

    fn know_told(&mut self) {
        self.told = Told::Known;
        self.planned = None;
    }

    fn written(&mut self, write: StatusWrite, object: &Value, now: Instant) {
        let version = object["metadata"]["resourceVersion"].as_str().map(str::to_owned);
        debug!(object = %write.object, "status written");
        self.failures.remove(&write.object);
        let attempts = self.attempts(write.object);
        let fought_over = attempts.last.as_ref() == Some(&write.wanted);
        let wait = if fought_over { attempts.retry.failed(fastrand::f64(), Some(SPACING)) } else { SPACING };
        if !fought_over {
            attempts.retry.succeeded();
        }
        attempts.not_before = now + wait;
        attempts.unsure = None;
        attempts.last = Some(write.wanted);
        attempts.made.clone_from(&version);
        attempts.unseen = version;
        self.events.tell(write.events);
    }

    fn not_written(&mut self, write: StatusWrite, failure: &Failure, now: Instant) {
        let attempts = self.attempts(write.object.clone());
        let wait = attempts.retry.failed(fastrand::f64(), failure.retry_after());
        attempts.not_before = now + wait;
        let repeated = attempts.retry.failures() > 2;
        // Who did not answer may have made it all the same.
        if matches!(failure.code(), 0 | 500..) {
            attempts.unsure = Some((write.wanted, write.events));
        }
        if let Some(planned) = &mut self.planned {
            planned.again = Some(planned.again.map_or(now + wait, |again| again.min(now + wait)));
        }
        // That the server is away or busy is said once for all, by those who watch.
        let ours = matches!(failure.code(), 400 | 403 | 422) || (failure.code() == 409 && repeated);
        if ours && let Failure::Refused { code, reason, message, .. } = failure {
            let what = if write.how == How::Status { "its status" } else { "it" };
            let message = format!("{what} cannot be written ({code} {reason}: {message}); tried repeatedly");
            let (object, severity) = (Some(write.object.clone()), Severity::Error);
            let problem = Problem { severity, object, field: FieldPath::root(), message, place: None };
            if self.failures.insert(write.object.clone(), problem).is_none() {
                warn!(object = %write.object, %failure, "a status cannot be written");
            }
        }
    }

    fn attempts(&mut self, object: ObjectRef) -> &mut Attempts {
        let retry = Retry::new(self.timing.first_retry, self.timing.longest_retry);
        let attempts =
            || Attempts { retry, not_before: Instant::now(), last: None, unseen: None, made: None, unsure: None };
        self.objects.entry(object).or_insert_with(attempts)
    }

    /// Keeps all writes back when it is not about one object.
    fn slow_down(&mut self, failure: &Failure, now: Instant) {
        if matches!(failure.code(), 0 | 401 | 429 | 500..) {
            let wait = self.retry.failed(fastrand::f64(), failure.retry_after());
            let gate = now + wait;
            self.gate = Some(self.gate.map_or(gate, |old| old.max(gate)));
            self.round.clear();
            if let Some(planned) = &mut self.planned {
                planned.again = Some(gate);
            }
        }
    }
}

/// When a write may be made.
enum Due {
    At(Instant),
    Never,
}

/// Whether a version is `other` or later; versions are numbers in every API server there is, and if not, a version
/// that was not there before counts as later.
fn is_at_least(version: &str, other: &str) -> bool {
    match (version.parse::<u64>(), other.parse::<u64>()) {
        (Ok(version), Ok(other)) => version >= other,
        _ => version == other,
    }
}

fn uid(snapshot: &Snapshot, object: &ObjectRef) -> Option<String> {
    let meta = match object.kind {
        Kind::Service => &snapshot.services.get(&object.name)?.metadata,
        Kind::Ingress => &snapshot.ingresses.get(&object.name)?.metadata,
        Kind::ConfigMap => &snapshot.config_maps.get(&object.name)?.metadata,
        Kind::Secret => &snapshot.secrets.get(&object.name)?.metadata,
        Kind::IngressClass => &snapshot.ingress_classes.get(&object.name)?.metadata,
        Kind::Issuer => &snapshot.issuers.get(&object.name)?.metadata,
        Kind::ClusterIssuer => &snapshot.cluster_issuers.get(&object.name)?.metadata,
        Kind::Node => &snapshot.nodes.get(&object.name)?.metadata,
        Kind::Namespace => &snapshot.namespaces.get(&object.name)?.metadata,
        Kind::EndpointSlice => &snapshot.endpoint_slices.get(&object.name)?.metadata,
    };
    meta.uid.clone()
}
