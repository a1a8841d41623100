//! The loop: what can happen, and what is done then.

#![expect(clippy::disallowed_methods, reason = "the shell reads the clock for the cores")]

use std::future::pending;
use std::sync::Arc;
use std::time::{Duration, Instant};

use config::object::Kind;
use tokio::sync::{mpsc, watch as channel};
use tokio::task::JoinHandle;
use tokio::time::sleep_until;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::connection::Connection;
use super::disk::Disk;
use super::kinds::Source;
use super::lease::Candidate;
use super::letters::Postman;
use super::mirror::Mirror;
use super::named::{Named, Scope};
use super::sayings::Sayings;
use super::shared_secret::SharedSecret;
use super::trouble::Trouble;
use super::watch::{Change, News, Watcher};
use super::writer::Writer;
use super::{ApiOptions, Mode};
use crate::debounce::{Debounce, Pace};
use crate::thread::{Inputs, Outputs};
use crate::{ClusterMetrics, Leadership};

/// How long a change waits for others that come with it.
const QUIET: Duration = Duration::from_millis(2);
/// How far apart snapshots are at least after a rest, and while changes stream in: one change is in a snapshot within
/// 12 ms, and a stream of them makes twenty snapshots a second.
const SPACING: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(50));
/// How much news is taken in before anything else has its turn.
const BATCH: usize = 512;
/// How long is written on after a shutdown was asked for.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// Everything that the loop has.
pub(super) struct Task {
    mirror: Mirror,
    news: mpsc::Receiver<News>,
    relist: channel::Sender<u64>,
    debounce: Debounce,
    pace: Pace,
    /// Secrets that are followed because Ingresses name them.
    named: Named,
    metrics: Arc<ClusterMetrics>,
    disk: Option<Disk>,
    published: Option<Instant>,
    writer: Writer,
    standing: Standing,
    lease: channel::Receiver<Leadership>,
    candidate: Option<Candidate>,
    running: Option<JoinHandle<()>>,
    stop_lease: CancellationToken,
    outputs: Outputs,
    reports: Inputs,
    /// Trouble that was logged: that of a collection, or of the server.
    sayings: Sayings<Option<Kind>>,
    /// Whether there is trouble that was logged.
    troubled: bool,
    shutdown: CancellationToken,
}

/// Whether we write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Follower,
    /// Elected; waits for this relist, lest the leader before has written what we have not seen.
    Elected(u64),
    Leader,
}

impl Task {
    /// Starts the watches.
    pub(super) fn new(
        options: ApiOptions,
        connection: Arc<Connection>,
        outputs: Outputs,
        reports: Inputs,
        shutdown: CancellationToken,
    ) -> Self {
        let sources: Vec<Arc<Source>> = options.sources().into_iter().map(Arc::new).collect();
        let (sender, news) = mpsc::channel(BATCH);
        let (relist, never) = (channel::Sender::new(0), channel::Sender::new(0));
        for source in &sources {
            // Only who writes statuses needs to be sure of them.
            let asked = if source.kind == Kind::Service { &relist } else { &never };
            let (connection, source, news) = (Arc::clone(&connection), Arc::clone(source), sender.clone());
            let watcher = Watcher { connection, source, timing: options.timing, news, relist: asked.subscribe() };
            tokio::spawn(watcher.run());
        }
        let scope = Scope::new(options.secret_namespaces.as_deref(), options.watch_namespace.as_deref());
        let settings = options.config_maps.clone();
        let named = Named::new(Arc::clone(&connection), options.timing, sender, scope, settings);
        let (leadership, lease) = channel::channel(Leadership::Follower);
        let stop_lease = CancellationToken::new();
        let candidate = Candidate {
            connection: Arc::clone(&connection),
            lease: options.lease,
            identity: options.identity,
            timing: options.timing.lease,
            leadership,
            stop: stop_lease.clone(),
        };
        if let Some(name) = options.heartbeat_key {
            let (connection, cache, stop) = (Arc::clone(&connection), options.cache.clone(), shutdown.clone());
            let found = outputs.heartbeat_key.clone();
            tokio::spawn(SharedSecret { connection, name, cache, found, stop }.run());
        }
        if let Some(letterbox) = options.letterbox {
            let (connection, stop) = (Arc::clone(&connection), shutdown.clone());
            let (outgoing, incoming) = (outputs.outgoing.clone(), outputs.incoming.clone());
            tokio::spawn(Postman::new(connection, letterbox, outgoing, incoming, stop).run());
        }
        let disk = options.cache.map(|folder| {
            Disk::open(folder, connection.cluster(), options.config_map.clone(), options.timing, Instant::now())
        });
        Self {
            mirror: Mirror::new(sources, options.config_map),
            news,
            relist,
            debounce: Debounce::new(QUIET, SPACING.0),
            pace: Pace::new(SPACING.0, SPACING.1),
            named,
            metrics: options.metrics,
            disk,
            published: None,
            writer: Writer::new(connection, options.timing, options.writes),
            standing: Standing::Follower,
            lease,
            candidate: (options.mode == Mode::Appliance).then_some(candidate),
            running: None,
            stop_lease,
            outputs,
            reports,
            sayings: Sayings::default(),
            troubled: false,
            shutdown,
        }
    }

    /// Runs until shutdown; what was reported until then is still written, if the server lets us.
    pub(super) async fn run(mut self) {
        let mut end: Option<Instant> = None;
        loop {
            let now = Instant::now();
            self.step(now);
            if end.is_some_and(|end| end <= now || self.has_nothing_to_write()) {
                break;
            }
            let next = [self.deadline(now), end].into_iter().flatten().min();
            let [speaker, ingress, acme] = &mut self.reports;
            tokio::select! {
                () = self.shutdown.cancelled(), if end.is_none() => end = Some(Instant::now() + LAST_WORDS),
                Some(news) = self.news.recv() => self.hear(news),
                () = self.writer.answered() => {}
                () = Disk::saved(&mut self.disk) => {}
                () = changed(&mut self.lease) => {}
                () = changed(speaker) => {}
                () = changed(ingress) => {}
                () = changed(acme) => {}
                () = until(next) => {}
            }
        }
        Disk::finish(&mut self.disk, &self.mirror).await;
        self.stop_lease.cancel();
        if let Some(running) = self.running.take() {
            // A candidate that panicked has nothing to give back.
            let _ = running.await;
        }
    }

    fn hear(&mut self, first: News) {
        let mut changed = self.take(first);
        for _ in 1..BATCH {
            let Ok(news) = self.news.try_recv() else { break };
            changed |= self.take(news);
        }
        if changed {
            self.debounce.hint(Instant::now());
        }
    }

    fn take(&mut self, news: News) -> bool {
        match &news.change {
            Change::Listed(..) | Change::Applied(..) | Change::Deleted(_) => self.metrics.updates.inc(),
            Change::Malformed(_) => self.metrics.update_errors.inc(),
            Change::Trouble(Some(trouble)) => self.log_trouble(&news.source, trouble),
            Change::Begin | Change::End { .. } | Change::Trouble(None) => {}
        }
        self.mirror.take(news)
    }

    fn step(&mut self, now: Instant) {
        // What is named later keeps nobody waiting.
        let was_published = self.published.is_some();
        self.publish(now);
        if self.named.follow(&mut self.mirror) {
            self.debounce.hint(now);
        }
        if !was_published {
            self.publish(now);
        }
        self.follow_disk(now);
        self.stand();
        let reports = self.reports.each_ref().map(|report| Arc::clone(&report.borrow()));
        if self.standing == Standing::Leader {
            self.writer.step(&self.mirror, &reports, now);
        }
        self.writer.speak(&self.mirror, &reports, now);
        let disk = self.disk.iter().filter_map(Disk::problem);
        let problems =
            self.writer.problems().into_iter().chain(disk).chain(self.named.problems(&self.mirror)).collect();
        if self.mirror.set_problems(problems) {
            self.debounce.hint(now);
        }
        self.log_end_of_trouble();
    }

    fn deadline(&self, now: Instant) -> Option<Instant> {
        let publish = self.debounce.deadline().map(|at| self.pace.deadline().map_or(at, |spaced| spaced.max(at)));
        let write = match self.standing {
            Standing::Leader => self.writer.deadline(now),
            Standing::Follower | Standing::Elected(_) => self.writer.next_word(now),
        };
        let disk = self.disk.as_ref().and_then(|disk| disk.deadline(now));
        [publish, write, disk].into_iter().flatten().min()
    }

    fn publish(&mut self, now: Instant) {
        if !self.pace.allows(now) || !self.debounce.take(now) {
            return;
        }
        let Some(snapshot) = self.mirror.publish() else { return };
        if self.published.is_none() {
            info!(
                services = snapshot.services.len(),
                ingresses = snapshot.ingresses.len(),
                endpoint_slices = snapshot.endpoint_slices.len(),
                "everything was read from the API server"
            );
            // Nobody leads who does not know what was given before.
            self.running = self.candidate.take().map(|candidate| tokio::spawn(candidate.run()));
        }
        debug!(generation = snapshot.generation, problems = snapshot.problems.len(), "new snapshot");
        self.published = Some(now);
        self.pace.done(now);
        self.metrics.saved_state.set(0);
        self.outputs.snapshots.send_replace(Some(snapshot));
    }

    /// Publishes the state from disk when the API server takes long at the start, and keeps what it told later.
    fn follow_disk(&mut self, now: Instant) {
        let Some(disk) = &mut self.disk else { return };
        if self.published.is_some() {
            disk.keep(&self.mirror, now);
        } else if let Some(mut snapshot) = disk.take(self.mirror.next(), now) {
            snapshot.generation = self.mirror.skip_generation();
            self.metrics.saved_state.set(1);
            self.outputs.snapshots.send_replace(Some(Arc::new(snapshot)));
        }
    }

    /// Follows the lease.
    fn stand(&mut self) {
        let elected = *self.lease.borrow_and_update() == Leadership::Leader;
        self.standing = match (self.standing, elected) {
            (Standing::Follower, true) => {
                let epoch = *self.relist.borrow() + 1;
                self.relist.send_replace(epoch);
                Standing::Elected(epoch)
            }
            (Standing::Elected(epoch), true) if self.mirror.epoch(Kind::Service) >= epoch => {
                self.writer.lead(self.mirror.generation());
                Standing::Leader
            }
            (Standing::Elected(_) | Standing::Leader, false) => {
                self.writer.follow();
                Standing::Follower
            }
            (standing, _) => standing,
        };
        let leadership = if elected { Leadership::Leader } else { Leadership::Follower };
        self.outputs.leadership.send_if_modified(|known| std::mem::replace(known, leadership) != leadership);
    }

    fn has_nothing_to_write(&self) -> bool {
        self.standing != Standing::Leader || self.writer.is_idle()
    }

    /// Says once a minute what lasts, and how often it was tried.
    fn log_trouble(&mut self, source: &Source, trouble: &Trouble) {
        self.troubled = true;
        let kind = trouble.is_denied().then_some(source.kind);
        if let Some(times) = self.sayings.occurs(kind, Instant::now()) {
            warn!(times, "{}", trouble.problem(source).message);
        }
    }

    fn log_end_of_trouble(&mut self) {
        if self.troubled && self.mirror.troubles().next().is_none() {
            info!("the API server tells what changes again");
            self.troubled = false;
        }
    }
}

/// Waits for a change; for ever if there can be none.
async fn changed<T>(receiver: &mut channel::Receiver<T>) {
    if receiver.changed().await.is_err() {
        pending::<()>().await;
    }
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment.into()).await,
        None => pending().await,
    }
}
