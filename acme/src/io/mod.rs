//! The task that has certificates ordered: one loop around [`Orders`], and a job for everything that takes time.
//!
//! ```text
//! snapshots, routes ─> look ─> Orders ─> jobs ─> the CA, the replicas
//! leadership ──────────^         │ ^───── answers ──┘
//!                                └─> report (Secrets, events), tokens, entries, metrics
//! ```
//!
//! Every replica runs it, for the tokens; only the leader talks to a CA. Whoever loses the lead drops what is under way:
//! what a CA was told meanwhile, the next leader finds out from the CA.

#![expect(clippy::disallowed_methods, reason = "io reads the clock")]

mod ca;
mod dns;
mod http;
mod jobs;
mod keys;
mod web;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use config::challenge::{AlpnCertificate, Challenges};
use config::diagnostic::{Problem, Severity};
use config::issuer::{self, Issuers, Method};
use config::object::{Kind, ObjectName};
use config::report::{Event, ManagedEntry, Report, Routes};
use config::settings::ACME_STATE;
use config::snapshot::Snapshot;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::held::{self, Found};
use crate::inventory::inventory;
use crate::metrics::AcmeMetrics;
use crate::orders::{Done, Orders, Seen};
use crate::wanted;
use jobs::Office;

/// The longest sleep: timers stop while a machine is suspended, the wall clock does not.
const RECHECK: Duration = Duration::from_mins(1);
/// The shortest, so that no moment that has come already makes us spin.
const SHORTEST: Duration = Duration::from_millis(20);

/// What the task is told once.
#[derive(Clone, Debug)]
pub struct AcmeOptions {
    /// The `ConfigMap` whose `acme` section names issuers; accounts and orders are kept in a Secret beside it.
    pub config_map: ObjectName,
    /// The Service in front of all replicas, by which they are found; `None` if there is but this one.
    pub replicas: Option<ObjectName>,
    /// Who is asked for names: aliases of records, name servers of zones. Without any, those of `/etc/resolv.conf`.
    pub dns_servers: Vec<SocketAddr>,
}

/// What an operator asks for: the Secret, and whether it will be done.
#[derive(Debug)]
pub struct Wish {
    /// The Secret whose certificate is to be renewed.
    pub secret: ObjectName,
    /// Told what becomes of it.
    pub answer: oneshot::Sender<Result<(), WishError>>,
}

/// Why nothing is renewed although an operator asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WishError {
    /// Nobody asks for it.
    #[error("no Ingress asks for a certificate in this Secret; `ferrogate certs list` names those that are ordered")]
    Unknown,
    /// Another process leads.
    #[error("another replica orders certificates; ask the one that holds the Lease")]
    Follower,
}

/// How the task is wired to the rest.
#[derive(Debug)]
pub struct AcmePorts {
    /// All objects.
    pub snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
    /// What is served: certificates are ordered for these Ingresses only.
    pub routes: watch::Receiver<Arc<Routes>>,
    /// Whether this process writes.
    pub leads: watch::Receiver<bool>,
    /// What we want written.
    pub reports: watch::Sender<Arc<Report>>,
    /// What a CA may ask.
    pub challenges: watch::Sender<Arc<Challenges>>,
    /// How every certificate stands.
    pub managed: watch::Sender<Arc<Vec<ManagedEntry>>>,
    /// What operators ask for.
    pub wishes: mpsc::Receiver<Wish>,
    /// What is counted.
    pub metrics: Arc<AcmeMetrics>,
    /// Told when the first snapshot was looked at.
    pub ready: oneshot::Sender<()>,
    /// Ends the task.
    pub shutdown: CancellationToken,
}

/// Orders what is due until `shutdown`.
pub async fn run(options: AcmeOptions, ports: AcmePorts) -> Result<(), Infallible> {
    let state = ObjectName::new(Arc::clone(&options.config_map.namespace), ACME_STATE);
    let AcmePorts { snapshots, routes, leads, reports, challenges, managed, wishes, metrics, ready, shutdown } = ports;
    let office = Office::new(&options, leads.clone(), Arc::clone(&metrics));
    let task = Task {
        options,
        state,
        snapshots,
        routes,
        knows_routes: false,
        leads,
        outputs: Outputs { reports, challenges, managed, metrics },
        office,
        orders: Orders::default(),
        running: JoinSet::new(),
        known: HashMap::new(),
        alpn: BTreeMap::new(),
        wrong: Vec::new(),
        generation: 0,
        ready: Some(ready),
    };
    task.run(wishes, shutdown).await;
    Ok(())
}

struct Outputs {
    reports: watch::Sender<Arc<Report>>,
    challenges: watch::Sender<Arc<Challenges>>,
    managed: watch::Sender<Arc<Vec<ManagedEntry>>>,
    metrics: Arc<AcmeMetrics>,
}

struct Task {
    options: AcmeOptions,
    /// The Secret of the store.
    state: ObjectName,
    snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
    routes: watch::Receiver<Arc<Routes>>,
    /// Whether anybody has told what is served.
    knows_routes: bool,
    leads: watch::Receiver<bool>,
    outputs: Outputs,
    office: Office,
    orders: Orders,
    running: JoinSet<Done>,
    /// Secrets that were read before.
    known: HashMap<ObjectName, (Arc<Secret>, Found)>,
    /// Certificates of challenges, by their key authorization.
    alpn: BTreeMap<String, Arc<AlpnCertificate>>,
    /// What is wrong with what is wanted.
    wrong: Vec<Problem>,
    generation: u64,
    ready: Option<oneshot::Sender<()>>,
}

impl Task {
    async fn run(mut self, mut wishes: mpsc::Receiver<Wish>, shutdown: CancellationToken) {
        loop {
            self.step();
            let sleep = self.sleep();
            tokio::select! {
                () = shutdown.cancelled() => return,
                changed = self.snapshots.changed() => if changed.is_err() { return },
                changed = self.routes.changed() => if changed.is_err() { return },
                changed = self.leads.changed() => if changed.is_err() { return },
                Some(done) = self.running.join_next() => self.finish(done),
                Some(wish) = wishes.recv() => self.wish(wish),
                () = tokio::time::sleep(sleep) => {}
            }
        }
    }

    /// Looks at everything, and does what is due.
    fn step(&mut self) {
        let now = Timestamp::now();
        let Some(snapshot) = self.snapshots.borrow_and_update().clone() else { return };
        // Before it is known what is served, every order would look unwanted.
        self.knows_routes |= self.routes.has_changed().unwrap_or_default() || self.routes.borrow().len > 0;
        let leads = *self.leads.borrow_and_update() && self.knows_routes;
        if !leads {
            self.running.abort_all();
        }
        self.orders.lead(leads, now);
        self.look(&snapshot, now);
        for job in self.orders.jobs(now) {
            self.office.take(job, &snapshot, &mut self.running);
        }
        self.publish(&snapshot, now);
        // Whoever waited for it may be gone by now.
        let _ = self.ready.take().map(|ready| ready.send(()));
    }

    fn look(&mut self, snapshot: &Arc<Snapshot>, now: Timestamp) {
        let routes = Arc::clone(&self.routes.borrow_and_update());
        let ours = snapshot.ingresses.iter().filter(|(name, _)| routes.ingresses.contains_key(*name));
        let wants = wanted::wanted(ours.map(|(name, ingress)| (name, &**ingress)));
        let (issuers, mut wrong) = self.issuers(snapshot);
        wrong.extend(wants.problems.into_iter().map(|problem| snapshot.placed(problem)));
        let named: BTreeSet<&ObjectName> = wants.certificates.iter().map(|want| &want.secret).collect();
        let secrets: BTreeMap<ObjectName, Arc<Secret>> =
            named.iter().filter_map(|name| Some(((*name).clone(), Arc::clone(snapshot.secrets.get(*name)?)))).collect();
        self.known.retain(|name, _| secrets.contains_key(name));
        let held = secrets.iter().map(|(name, secret)| (name.clone(), self.read(name, secret))).collect();
        let inventory = inventory(&wants.certificates, &held, self.orders.hints(), now);
        let store = snapshot.secrets.get(&self.state).map(AsRef::as_ref);
        let seen = Seen { store, secrets, held, issuers: Arc::new(issuers) };
        self.orders.observe(seen, inventory, now);
        (self.wrong, self.generation) = (wrong, snapshot.generation);
    }

    fn issuers(&self, snapshot: &Snapshot) -> (Issuers, Vec<Problem>) {
        let read = issuer::read_all(snapshot, &self.options.config_map);
        (read.issuers, read.problems)
    }

    /// What a Secret holds; one that did not change is not read again.
    fn read(&mut self, name: &ObjectName, secret: &Arc<Secret>) -> Found {
        if let Some((known, found)) = self.known.get(name)
            && Arc::ptr_eq(known, secret)
        {
            return found.clone();
        }
        let found = held::read(secret);
        self.known.insert(name.clone(), (Arc::clone(secret), found.clone()));
        found
    }

    fn publish(&mut self, snapshot: &Snapshot, now: Timestamp) {
        let placed = self.orders.problems().into_iter().map(|problem| snapshot.placed(problem));
        let problems: Vec<Problem> = self.wrong.iter().cloned().chain(placed).collect();
        let bad = self.wrong.iter().filter_map(bad_config);
        let report = Report {
            generation: self.generation,
            secrets: self.orders.writes(&self.state),
            events: self.orders.events().into_iter().chain(bad).collect(),
            problems: Arc::new(problems),
            ..Report::default()
        };
        replace(&self.outputs.reports, report);
        let challenges = self.challenges();
        replace(&self.outputs.challenges, challenges);
        let entries = self.orders.entries();
        self.outputs.metrics.tick(now);
        // Not at every step: a scrape in between would miss some.
        if **self.outputs.managed.borrow() != entries {
            self.outputs.metrics.show(&entries, now);
            replace(&self.outputs.managed, entries);
        }
    }

    /// Everything that a CA may ask at this moment.
    fn challenges(&mut self) -> Challenges {
        let mut challenges = Challenges::default();
        let placed = self.orders.running().filter_map(|order| order.placed.as_ref());
        let mut fresh = BTreeMap::new();
        for challenge in placed.flat_map(|placed| &placed.challenges) {
            if challenge.is_by(Method::Http01) {
                challenges.http.insert((*challenge.token).into(), (*challenge.authorization).into());
            } else if challenge.is_by(Method::TlsAlpn01) {
                let key = keys::fingerprint(&challenge.authorization);
                let made = self.alpn.get(&key).cloned().map(Ok);
                let made = made.unwrap_or_else(|| keys::alpn(&challenge.name, &challenge.authorization).map(Arc::new));
                match made {
                    Ok(certificate) => {
                        challenges.alpn.insert(keys::server_name(&challenge.name).into(), Arc::clone(&certificate));
                        fresh.insert(key, certificate);
                    }
                    Err(error) => warn!(%error, name = challenge.name, "no certificate for a challenge can be made"),
                }
            }
        }
        self.alpn = fresh;
        challenges
    }

    fn finish(&mut self, done: Result<Done, tokio::task::JoinError>) {
        match done {
            Ok(done) => {
                log(&done);
                self.orders.done(done, Timestamp::now(), fastrand::f64());
            }
            Err(error) if error.is_panic() => {
                warn!("a step of an order ended by a panic; this is a bug, please report the lines before this one");
                // Begin again from what is stored.
                self.orders.lead(false, Timestamp::now());
            }
            Err(_) => {}
        }
    }

    fn wish(&mut self, wish: Wish) {
        let known = self.orders.entries().iter().any(|entry| entry.secret == wish.secret);
        let answer = match (known, *self.leads.borrow()) {
            (false, _) => Err(WishError::Unknown),
            (true, false) => Err(WishError::Follower),
            (true, true) => {
                info!(secret = %wish.secret, "an operator asks for a new certificate");
                self.orders.ask(wish.secret);
                Ok(())
            }
        };
        // Whoever asked may be gone by now.
        let _ = wish.answer.send(answer);
    }

    fn sleep(&self) -> Duration {
        let Some(deadline) = self.orders.deadline() else { return RECHECK };
        let left = deadline.duration_since(Timestamp::now());
        Duration::try_from(left).unwrap_or_default().clamp(SHORTEST, RECHECK)
    }
}

/// An Ingress that cannot be understood, as cert-manager tells it.
fn bad_config(problem: &Problem) -> Option<Event> {
    let object = problem.object.clone().filter(|object| object.kind == Kind::Ingress)?;
    let message = format!("{}: {}", problem.field, problem.message);
    Some(Event { object, severity: Some(Severity::Warning), reason: "BadConfig", message })
}

/// Publishes a value unless it is the one that is known.
fn replace<T: PartialEq>(output: &watch::Sender<Arc<T>>, value: T) {
    output.send_if_modified(|current| {
        let is_new = **current != value;
        if is_new {
            *current = Arc::new(value);
        }
        is_new
    });
}

fn log(done: &Done) {
    match done {
        Done::Account(_, Ok(account)) => {
            info!(server = account.server, url = account.url, "an account at a CA is known");
        }
        Done::Account(_, Err(failure)) => warn!(error = failure.message, "an account at a CA cannot be had"),
        Done::Taken(id, step, Err(failure)) => {
            warn!(order = id, ?step, class = ?failure.class, error = failure.message, "a step of an order failed");
        }
        Done::Taken(id, step, Ok(_)) => tracing::debug!(order = id, ?step, "a step of an order is done"),
        Done::Made(id, Err(error)) => warn!(order = id, error, "no key can be made"),
        Done::Suggested(_, Err(failure)) => tracing::debug!(error = failure.message, "no suggestion when to renew"),
        Done::Cleaned(record, Err(failure)) => {
            warn!(name = record.name, error = failure.message, "a record of a challenge cannot be removed");
        }
        Done::Made(_, Ok(_)) | Done::Suggested(_, Ok(_)) | Done::Cleaned(_, Ok(())) => {}
    }
}
