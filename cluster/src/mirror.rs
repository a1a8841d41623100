//! What was read, file by file, as one snapshot.
//!
//! ```text
//! Tree of texts ──> files: parsed once per text ──> merged: one version of each object ──┐
//!                   (what broke stays as it was)    (first file wins)                     ├─> Snapshot
//! Memory ──────────> statuses of Services ── last good address configuration ────────────┘
//! ```
//!
//! Only a text that changed is parsed again, and what did not change is shared with the snapshot before, down to the
//! single object, so that `Arc::ptr_eq` tells a core what it need not look at.
//!
//! Pure. Who reads the files: `dir::scan`.

mod config_map;
mod files;
mod merge;
mod statuses;

use std::collections::BTreeMap;
use std::sync::Arc;

use config::diagnostic::Problem;
use config::object::{ObjectName, ObjectRef};
use config::pool::PoolConfig;
use config::snapshot::{Objects, Snapshot};

use crate::memory::Memory;
use crate::outbox::Presence;
pub(crate) use config_map::{AddressConfig, Sighting, looks_like_addresses};
use files::Files;
use merge::Merged;
use statuses::Statuses;

/// What became of reading one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reading {
    /// Its text.
    Text(Arc<str>),
    /// Why there is none; what was last read from the file stays.
    Failed(Problem),
}

/// Everything that a source has read, by the names under which problems speak of the files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    /// Each file; one that is not in here was deleted.
    pub files: BTreeMap<Arc<str>, Reading>,
    /// What else is wrong, such as a folder that cannot be listed.
    pub problems: Vec<Problem>,
    /// Whether there may be files that are not in here, since some folder cannot be listed.
    pub incomplete: bool,
}

/// All that a snapshot is made of.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// The operator's manifests.
    pub manifests: &'a Tree,
    /// Secrets that we obtained ourselves; a manifest of the same name goes first.
    pub secrets: &'a Tree,
    /// Statuses that a leader has committed.
    pub memory: &'a Memory,
    /// What the caller found wrong.
    pub problems: &'a [Problem],
}

/// Keeps the newest snapshot.
#[derive(Debug)]
pub struct Mirror {
    manifests: Files,
    secrets: Files,
    merged: Merged,
    config: AddressConfig,
    lookalikes: Vec<Problem>,
    statuses: Statuses,
    incomplete: bool,
    snapshot: Option<Arc<Snapshot>>,
}

impl Mirror {
    /// A mirror that has seen nothing. The address configuration is in the `ConfigMap` of that name; `last_good` is
    /// the text of its last valid version, if an earlier process left one.
    #[must_use]
    pub fn new(config_map: ObjectName, last_good: Option<Arc<str>>) -> Self {
        Self {
            manifests: Files::default(),
            secrets: Files::default(),
            merged: Merged::default(),
            config: AddressConfig::new(config_map, last_good),
            lookalikes: Vec::new(),
            statuses: Statuses::default(),
            incomplete: true,
            snapshot: None,
        }
    }

    /// Takes in `input`; a new snapshot if anything differs from the one before.
    pub fn update(&mut self, input: Input<'_>) -> Option<Arc<Snapshot>> {
        let changed = self.manifests.update(&input.manifests.files, &self.merged)
            | self.secrets.update(&input.secrets.files, &self.merged);
        if changed || self.snapshot.is_none() {
            self.merged = merge::merge(&self.manifests, &self.secrets, &self.merged);
            self.config.update(config_map::sighting(self.config.reference(), &self.merged));
            self.lookalikes = config_map::lookalikes(self.config.reference(), &self.merged);
        }
        self.incomplete = input.manifests.incomplete || self.manifests.is_incomplete();
        let next = self.compose(input);
        let same = self.snapshot.as_ref().is_some_and(|snapshot| is_same(snapshot, &next));
        if same {
            return None;
        }
        let next = Arc::new(next);
        self.snapshot = Some(Arc::clone(&next));
        Some(next)
    }

    /// The newest snapshot; `None` before the first [`Self::update`].
    #[must_use]
    pub fn snapshot(&self) -> Option<&Arc<Snapshot>> {
        self.snapshot.as_ref()
    }

    /// What is known of an object's existence.
    #[must_use]
    pub fn presence(&self, object: &ObjectRef) -> Presence {
        if self.merged.objects.contains_key(object) {
            Presence::Present
        } else if self.incomplete || self.merged.missing.contains(object) {
            Presence::Unknown
        } else {
            Presence::Absent
        }
    }

    /// The text of the last valid address configuration.
    #[must_use]
    pub fn config_text(&self) -> Option<&Arc<str>> {
        self.config.text()
    }

    /// Objects that were read and are of no use to us, such as `Deployment default/web`.
    #[must_use]
    pub fn ignored(&self) -> Vec<String> {
        self.manifests.ignored()
    }

    fn compose(&mut self, input: Input<'_>) -> Snapshot {
        let previous = self.snapshot.as_deref().cloned().unwrap_or_default();
        let objects = &self.merged;
        let services = merge::kind!(objects, Service);
        Snapshot {
            generation: previous.generation + 1,
            pools: Arc::clone(self.config.pools()),
            pools_stale: self.config.is_stale(),
            services: shared(&previous.services, self.statuses.put_on(services, input.memory)),
            endpoint_slices: shared(&previous.endpoint_slices, merge::kind!(objects, EndpointSlice)),
            ingresses: shared(&previous.ingresses, merge::kind!(objects, Ingress)),
            ingress_classes: shared(&previous.ingress_classes, merge::kind!(objects, IngressClass)),
            issuers: shared(&previous.issuers, merge::kind!(objects, Issuer)),
            cluster_issuers: shared(&previous.cluster_issuers, merge::kind!(objects, ClusterIssuer)),
            secrets: shared(&previous.secrets, merge::kind!(objects, Secret)),
            config_maps: shared(&previous.config_maps, merge::kind!(objects, ConfigMap)),
            nodes: shared(&previous.nodes, merge::kind!(objects, Node)),
            namespaces: shared(&previous.namespaces, merge::kind!(objects, Namespace)),
            problems: self.problems(input),
            saved: None,
            origins: Arc::clone(&self.merged.origins),
        }
    }

    fn problems(&self, input: Input<'_>) -> Arc<Vec<Problem>> {
        let problems: Vec<Problem> = (input.problems.iter())
            .chain(&input.manifests.problems)
            .chain(&input.secrets.problems)
            .chain(self.manifests.problems())
            .chain(self.secrets.problems())
            .chain(&self.merged.problems)
            .chain(self.config.problems())
            .chain(&self.lookalikes)
            .cloned()
            .collect();
        match &self.snapshot {
            Some(previous) if *previous.problems == problems => Arc::clone(&previous.problems),
            _ => Arc::new(problems),
        }
    }
}

/// The objects as a map; the previous one if they are the very same.
fn shared<T>(previous: &Objects<T>, objects: BTreeMap<ObjectName, Arc<T>>) -> Objects<T> {
    let same = previous.len() == objects.len()
        && previous.iter().zip(&objects).all(|(old, new)| old.0 == new.0 && Arc::ptr_eq(old.1, new.1));
    if same { Arc::clone(previous) } else { Arc::new(objects.into_iter().collect()) }
}

/// Whether two snapshots share everything.
fn is_same(old: &Snapshot, new: &Snapshot) -> bool {
    Arc::<PoolConfig>::ptr_eq(&old.pools, &new.pools)
        && old.pools_stale == new.pools_stale
        && Arc::ptr_eq(&old.services, &new.services)
        && Arc::ptr_eq(&old.problems, &new.problems)
        // Origins are made anew whenever any file changed, which covers every other kind.
        && Arc::ptr_eq(&old.origins, &new.origins)
}

#[cfg(test)]
mod tests;
