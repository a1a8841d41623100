//! When the state on disk is used, and when it is replaced.
//!
//! It is used once, if the API server has not told everything within a moment after the start; nothing is written to
//! the API server by it, since nobody leads before everything was read. As soon as the API server has told a namespace
//! `kube-system` of another UID, another cluster lives at its address and nothing of the old one is used any more.
//! Saving is done in a thread of its own.

#![expect(clippy::disallowed_methods, reason = "io reads the clock")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use config::diagnostic::{Problem, Severity};
use config::object::{FieldPath, ObjectName};
use config::snapshot::Snapshot;
use jiff::Timestamp;
use tokio::task::JoinHandle;
use tracing::warn;

use super::Timing;
use super::cache::{Cache, CacheError};
use super::mirror::Mirror;

/// How long a change waits for others before it is saved.
const SETTLE: Duration = Duration::from_secs(1);

/// The state on disk, and what becomes of it.
pub(super) struct Disk {
    cache: Cache,
    spacing: Duration,
    found: Found,
    /// The UID of the cluster that was found, as far as it is known.
    cluster_uid: Option<String>,
    /// The generation that is saved or being saved.
    saved: Option<u64>,
    /// When the next change may be saved.
    not_before: Instant,
    /// When a change is to be saved.
    due: Option<Instant>,
    saving: Option<JoinHandle<Result<(), CacheError>>>,
    problem: Option<String>,
}

/// What was found at the start.
enum Found {
    /// Nothing that may be used, now or any more.
    Nothing,
    /// It is used if the API server has not told everything by then.
    Waiting(Box<Snapshot>, Instant),
    /// It is in use.
    Used,
}

impl Disk {
    /// Reads what was kept.
    pub(super) fn open(folder: PathBuf, cluster: &str, config_map: ObjectName, timing: Timing, now: Instant) -> Self {
        let cache = Cache::new(folder, cluster, config_map);
        let (found, problem) = match cache.load() {
            Ok(found) => (found, None),
            Err(error) => (None, Some(error.to_string())),
        };
        if let Some(problem) = &problem {
            warn!("{problem}");
        }
        let cluster_uid = found.as_ref().and_then(uid_of_cluster).map(str::to_owned);
        let waiting = |snapshot| Found::Waiting(Box::new(snapshot), now + timing.patience);
        let found = found.map_or(Found::Nothing, waiting);
        let spacing = timing.save;
        Self { cache, spacing, found, cluster_uid, saved: None, not_before: now, due: None, saving: None, problem }
    }

    /// What to publish while the API server, which has told `live` so far, has not told everything: the state from
    /// disk, once, when that takes too long; nothing at all, if that was in use and turns out to be another cluster's.
    pub(super) fn take(&mut self, live: &Snapshot, now: Instant) -> Option<Snapshot> {
        let is_foreign =
            uid_of_cluster(live).is_some_and(|uid| self.cluster_uid.as_deref().is_some_and(|it| it != uid));
        match std::mem::replace(&mut self.found, Found::Nothing) {
            Found::Waiting(..) if is_foreign => {
                self.complain(self.cache.foreign().to_string());
                None
            }
            Found::Used if is_foreign => {
                let why = self.cache.foreign().to_string();
                self.complain(why.clone());
                // Saved, so that nothing is given by it.
                let saved = Some(SystemTime::now());
                Some(Snapshot { saved, problems: Arc::new(vec![warning(why)]), ..Snapshot::default() })
            }
            Found::Waiting(snapshot, at) if at <= now => {
                self.found = Found::Used;
                Some(Self::in_use(*snapshot))
            }
            found => {
                self.found = found;
                None
            }
        }
    }

    fn in_use(mut snapshot: Snapshot) -> Snapshot {
        let age = snapshot.saved.and_then(|saved| Timestamp::try_from(saved).ok());
        let when = age.map(|saved| format!(" of {saved}")).unwrap_or_default();
        let message = format!(
            "the API server has not told everything since the start; the state{when} that was saved on disk is in use, \
             and nothing is written"
        );
        warn!("{message}");
        Arc::make_mut(&mut snapshot.problems).push(warning(message));
        snapshot
    }

    fn complain(&mut self, problem: String) {
        warn!("{problem}");
        self.problem = Some(problem);
    }

    /// Saves what is published, if it is time to.
    pub(super) fn keep(&mut self, mirror: &Mirror, now: Instant) {
        self.found = Found::Nothing;
        let Some(snapshot) = mirror.snapshot().filter(|snapshot| self.saved != Some(snapshot.generation)) else {
            return;
        };
        let due = *self.due.get_or_insert((now + SETTLE).max(self.not_before));
        if self.saving.is_some() || due > now {
            return;
        }
        self.save(Arc::clone(snapshot), mirror.config_text(), now);
    }

    fn save(&mut self, snapshot: Arc<Snapshot>, config: Option<Arc<str>>, now: Instant) {
        (self.saved, self.due, self.not_before) = (Some(snapshot.generation), None, now + self.spacing);
        let cache = self.cache.clone();
        let save = move || cache.save(&snapshot, config.as_deref(), SystemTime::now());
        self.saving = Some(tokio::task::spawn_blocking(save));
    }

    /// When to act although nothing happens.
    pub(super) fn deadline(&self, now: Instant) -> Option<Instant> {
        let found = match self.found {
            Found::Waiting(_, at) => Some(at),
            Found::Nothing | Found::Used => None,
        };
        [found, self.due].into_iter().flatten().filter(|at| *at > now).min()
    }

    /// Waits for the end of saving; for ever if nothing is being saved.
    pub(super) async fn saved(disk: &mut Option<Self>) {
        let Some(disk) = disk else { return std::future::pending().await };
        let Some(saving) = &mut disk.saving else { return std::future::pending().await };
        let outcome = saving.await;
        disk.saving = None;
        // One that panicked is logged where it did.
        let problem = outcome.ok().and_then(Result::err).map(|error| error.to_string());
        if let Some(problem) = problem.as_ref().filter(|problem| disk.problem.as_ref() != Some(*problem)) {
            warn!("{problem}");
        }
        disk.problem = problem;
    }

    /// Saves what is newer than what was saved, at the end.
    pub(super) async fn finish(this: &mut Option<Self>, mirror: &Mirror) {
        if this.as_ref().is_some_and(|disk| disk.saving.is_some()) {
            Self::saved(this).await;
        }
        let Some(disk) = this else { return };
        let Some(snapshot) = mirror.snapshot().filter(|it| disk.saved != Some(it.generation)) else { return };
        disk.save(Arc::clone(snapshot), mirror.config_text(), Instant::now());
        Self::saved(this).await;
    }

    /// What an operator should know of.
    pub(super) fn problem(&self) -> Option<Problem> {
        self.problem.clone().map(warning)
    }
}

/// What tells a cluster from another at the same address: the UID of the namespace that every cluster has from its
/// beginning.
fn uid_of_cluster(snapshot: &Snapshot) -> Option<&str> {
    snapshot.namespaces.get(&ObjectName::new("", "kube-system"))?.metadata.uid.as_deref()
}

fn warning(message: String) -> Problem {
    Problem { severity: Severity::Warning, object: None, field: FieldPath::root(), message, place: None }
}
