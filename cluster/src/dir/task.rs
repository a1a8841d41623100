//! The loop: what can happen, and what is done then.

#![expect(clippy::disallowed_methods, reason = "the shell reads the clock for the cores")]

use std::fs;
use std::future::pending;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use config::diagnostic::Problem;
use config::report::{Event, Report};
use tokio::sync::{Notify, watch as channel};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::keeper::Keeper;
use super::scan::Scanner;
use super::secrets::Secrets;
use super::state::Store;
use super::watch::Watch;
use super::{DirError, DirOptions};
use crate::Leadership;
use crate::debounce::Debounce;
use crate::memory::Memory;
use crate::mirror::{Input, Mirror, Tree};
use crate::outbox::{self, Absences, Transitions};
use crate::thread::{Inputs, Outputs};

/// How often everything is looked through although nothing was heard.
const RESCAN: Duration = Duration::from_secs(3);
/// How often a follower tries to lead.
const TRY_TO_LEAD: Duration = Duration::from_millis(200);

/// Everything that the loop has.
#[derive(Debug)]
pub(super) struct Task {
    source: Source,
    state: Option<State>,
    keeper: Keeper,
    mirror: Mirror,
    absences: Absences,
    transitions: Transitions,
    refusals: Vec<Problem>,
    secrets: Secrets,
    /// What the newest snapshot was made of, apart from files.
    published: Option<(Memory, Vec<Problem>)>,
    outputs: Outputs,
    reports: Inputs,
    hints: Arc<Notify>,
    debounce: Debounce,
    rescan: Instant,
    again: Option<Instant>,
    try_to_lead: Instant,
    shutdown: CancellationToken,
}

/// The manifests.
#[derive(Debug)]
struct Source {
    scanner: Scanner,
    watch: Watch,
    tree: Tree,
    /// Whether everything was listed once.
    listed: bool,
}

/// What we watch of the state folder.
#[derive(Debug)]
struct State {
    store: Store,
    watch: Watch,
    secrets: Scanner,
    secrets_folder: PathBuf,
    tree: Tree,
}

impl Task {
    /// Opens both folders.
    pub(super) fn open(
        options: DirOptions,
        outputs: Outputs,
        reports: Inputs,
        shutdown: CancellationToken,
    ) -> Result<Self, DirError> {
        let DirOptions { manifests, state, config_map, identity } = options;
        if let Err(source) = fs::read_dir(&manifests) {
            return Err(DirError::Manifests { path: manifests, source });
        }
        let hints = Arc::new(Notify::new());
        let store = state.as_deref().map(Store::open).transpose()?;
        let keeper = Keeper::open(store.clone(), identity)?;
        let now = Instant::now();
        Ok(Self {
            source: Source {
                watch: Watch::new(&manifests, Arc::clone(&hints)),
                scanner: Scanner::new(manifests),
                tree: Tree::default(),
                listed: false,
            },
            secrets: Secrets::new(store.as_ref().map(|store| store.folder().join("secrets"))),
            state: store.map(|store| State::new(store, &hints)),
            mirror: Mirror::new(config_map, keeper.config()),
            keeper,
            absences: Absences::default(),
            transitions: Transitions::default(),
            refusals: Vec::new(),
            published: None,
            outputs,
            reports,
            hints,
            debounce: Debounce::default(),
            rescan: now,
            again: None,
            try_to_lead: now,
            shutdown,
        })
    }

    /// Runs until shutdown; what was reported until then is still written.
    pub(super) async fn run(mut self) {
        loop {
            self.step(Instant::now());
            let deadline = tokio::time::Instant::from_std(self.deadline(Instant::now()));
            let [speaker, ingress, acme] = &mut self.reports;
            tokio::select! {
                () = self.shutdown.cancelled() => break,
                () = self.hints.notified() => self.debounce.hint(Instant::now()),
                () = tokio::time::sleep_until(deadline) => {}
                () = changed(speaker) => {}
                () = changed(ingress) => {}
                () = changed(acme) => {}
            }
        }
        let _ = self.answer(Instant::now());
    }

    fn step(&mut self, now: Instant) {
        let due = self.again.is_some_and(|again| again <= now);
        let mut files_changed = false;
        if self.debounce.take(now) || due || self.rescan <= now {
            files_changed = self.look(now);
        }
        if self.try_to_lead <= now {
            self.keeper.refresh(now);
            self.try_to_lead = now + TRY_TO_LEAD;
        }
        self.publish(files_changed);
        self.keeper.keep_config(self.mirror.config_text(), now);
        let kept = self.answer(now);
        self.publish(kept);
    }

    /// When to wake although nothing happens.
    fn deadline(&self, now: Instant) -> Instant {
        let lead = (self.keeper.leadership() == Leadership::Follower).then_some(self.try_to_lead);
        let others = [lead, self.again, self.debounce.deadline(), self.keeper.deadline(), self.absences.deadline()];
        // What is past was tried, and waits for one of the others.
        let next = others.into_iter().flatten().filter(|deadline| *deadline > now);
        next.min().map_or(self.rescan, |next| next.min(self.rescan))
    }

    /// Looks through the folders; whether any file changed.
    fn look(&mut self, now: Instant) -> bool {
        self.rescan = now + RESCAN;
        // A leader's lock and a follower's statuses are looked at as often as the files.
        self.try_to_lead = now;
        self.secrets.looked();
        let mut changed = false;
        if let Some(state) = &mut self.state {
            let identity = state.store.make().ok();
            self.source.scanner.exclude(identity);
            if state.watch.follow(identity) {
                self.debounce.hint(now);
            }
            changed = state.look(now);
        }
        let scanned = self.source.scanner.scan(now);
        self.again = scanned.again;
        if self.source.watch.follow(scanned.root) {
            self.debounce.hint(now);
        }
        self.source.listed |= scanned.root.is_some();
        changed |= scanned.tree != self.source.tree;
        self.source.tree = scanned.tree;
        changed
    }

    /// Makes a snapshot if there is anything new.
    fn publish(&mut self, files_changed: bool) {
        if !self.source.listed {
            return;
        }
        self.publish_snapshot(files_changed);
        // After the snapshot, so that whoever hears that we lead finds what the leader before has committed.
        let leadership = self.keeper.leadership();
        self.outputs.leadership.send_if_modified(|known| std::mem::replace(known, leadership) != leadership);
    }

    fn publish_snapshot(&mut self, files_changed: bool) {
        let problems = self.problems();
        let same = |(memory, old): &(Memory, Vec<Problem>)| memory == self.keeper.memory() && *old == problems;
        if !files_changed && self.published.as_ref().is_some_and(same) {
            return;
        }
        let snapshot = self.mirror.update(Input {
            manifests: &self.source.tree,
            secrets: self.state.as_ref().map_or(self.secrets.in_memory(), |state| &state.tree),
            memory: self.keeper.memory(),
            problems: &problems,
        });
        self.published = Some((self.keeper.memory().clone(), problems));
        if let Some(snapshot) = snapshot {
            debug!(generation = snapshot.generation, problems = snapshot.problems.len(), "new snapshot");
            self.outputs.snapshots.send_replace(Some(snapshot));
        }
    }

    /// Writes what the reports want, if this process leads.
    ///
    /// Whether something new is kept in memory, which no file tells.
    fn answer(&mut self, now: Instant) -> bool {
        let Some(snapshot) = self.mirror.snapshot() else { return false };
        let reports = self.reports.each_ref().map(|report| Arc::clone(&report.borrow()));
        let reports = reports.each_ref().map(AsRef::as_ref);
        if self.keeper.leadership() == Leadership::Follower {
            self.refusals.clear();
            self.transitions.news(&reports);
            return false;
        }
        let presence = |object: &_| self.mirror.presence(object);
        let settled = outbox::settle(self.keeper.memory(), &reports, snapshot.generation, presence);
        self.absences.observe(&settled.memory, presence, now);
        self.refusals = settled.refusals.into_iter().map(|problem| snapshot.placed(problem)).collect();
        let written = self.secrets.write(&reports, snapshot);
        if written {
            self.hints.notify_one();
        }
        let wanted = self.absences.forget(&settled.memory, now);
        if self.keeper.commit(wanted, now) {
            self.transitions.news(&reports).into_iter().for_each(log);
        }
        written && self.state.is_none()
    }

    fn problems(&self) -> Vec<Problem> {
        let state = self.state.as_ref().and_then(|state| state.watch.problem());
        let watches = [self.source.watch.problem(), state].into_iter().flatten().cloned();
        let secrets = self.secrets.problem();
        self.keeper.problems().into_iter().chain(watches).chain(secrets).chain(self.refusals.iter().cloned()).collect()
    }
}

impl State {
    fn new(store: Store, hints: &Arc<Notify>) -> Self {
        let secrets_folder = store.folder().join("secrets");
        Self {
            watch: Watch::new(store.folder(), Arc::clone(hints)),
            secrets: Scanner::new(secrets_folder.clone()),
            store,
            secrets_folder,
            tree: Tree::default(),
        }
    }

    /// Looks through our own Secrets; whether any changed.
    fn look(&mut self, now: Instant) -> bool {
        if self.tree.files.is_empty() && !self.secrets_folder.is_dir() {
            return false;
        }
        let tree = self.secrets.scan(now).tree;
        let changed = tree != self.tree;
        self.tree = tree;
        changed
    }
}

/// Waits for a new report; for ever if nobody can send one.
async fn changed(reports: &mut channel::Receiver<Arc<Report>>) {
    if reports.changed().await.is_err() {
        pending::<()>().await;
    }
}

fn log(event: &Event) {
    if event.severity.is_some() {
        warn!(reason = event.reason, object = %event.object, "{}", event.message);
    } else {
        info!(reason = event.reason, object = %event.object, "{}", event.message);
    }
}
