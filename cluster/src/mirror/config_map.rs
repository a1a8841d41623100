//! The address configuration: the last version that was valid.
//!
//! As in MetalLB, one error refuses the whole text, and neither that nor deleting the `ConfigMap` gives up any pool.
//! To give them up, the text has to say so: an empty one is valid and has none.

use std::sync::Arc;

use config::diagnostic::{Problem, Severity};
use config::legacy::{self, Legacy};
use config::manifest::Object;
use config::object::{FieldPath, Kind, ObjectName, ObjectRef};
use config::pool::PoolConfig;
use config::settings::CONFIG_MAP_KEY;
use k8s_openapi::api::core::v1::ConfigMap;

use super::files::Held;
use super::merge::Merged;

/// Top-level keys by which a MetalLB configuration is known.
const SIGNS: [&str; 4] = ["address-pools:", "peers:", "bgp-communities:", "bfd-profiles:"];

/// The address configuration and how it stands.
#[derive(Debug)]
pub(super) struct AddressConfig {
    reference: ObjectRef,
    seen: Option<Held>,
    pools: Arc<PoolConfig>,
    /// The text that [`Self::pools`] was read from.
    text: Option<Arc<str>>,
    stale: bool,
    own_problems: Vec<Problem>,
    lookalikes: Vec<Problem>,
}

impl AddressConfig {
    pub(super) fn new(name: ObjectName, last_good: Option<Arc<str>>) -> Self {
        let file = Arc::from("last good configuration");
        let pools = last_good.as_ref().and_then(|text| legacy::parse_text(&file, text).config);
        Self {
            reference: ObjectRef::new(Kind::ConfigMap, name),
            seen: None,
            text: last_good.filter(|_| pools.is_some()),
            pools: Arc::new(pools.unwrap_or_default()),
            stale: false,
            own_problems: Vec::new(),
            lookalikes: Vec::new(),
        }
    }

    pub(super) fn pools(&self) -> &Arc<PoolConfig> {
        &self.pools
    }

    pub(super) const fn is_stale(&self) -> bool {
        self.stale
    }

    pub(super) fn text(&self) -> Option<&Arc<str>> {
        self.text.as_ref()
    }

    pub(super) fn problems(&self) -> impl Iterator<Item = &Problem> {
        self.own_problems.iter().chain(&self.lookalikes)
    }

    pub(super) fn update(&mut self, merged: &Merged) {
        let now = merged.objects.get(&self.reference);
        match (now, &now.map(|held| &held.object)) {
            (Some(held), Some(Object::ConfigMap(map))) => self.read(held, map),
            _ => self.lose(),
        }
        self.lookalikes = lookalikes(&self.reference, merged);
    }

    fn read(&mut self, held: &Held, map: &ConfigMap) {
        let same = |seen: &Held| seen.stale == held.stale && Arc::ptr_eq(&seen.origin, &held.origin);
        if self.seen.as_ref().is_some_and(same) {
            return;
        }
        self.seen = Some(held.clone());
        let Legacy { config, mut problems } = legacy::parse_map(&self.reference, map, Some(&*held.origin));
        // A broken ConfigMap object has its own problem; what we see of it is its last good version.
        self.stale = held.stale || config.is_none();
        if let Some(config) = config {
            self.text = Some(text_of(map).into());
            if config != *self.pools {
                self.pools = Arc::new(config);
            }
        } else if self.text.is_some() {
            for problem in problems.iter_mut().filter(|problem| problem.severity == Severity::Error) {
                problem.message.push_str("; the last good configuration stays in use");
            }
        }
        self.own_problems = problems;
    }

    /// There is no `ConfigMap`.
    fn lose(&mut self) {
        self.seen = None;
        self.stale = self.text.is_some();
        let message = "it is gone; its last good version stays in use until there is a new one, \
                       and one with an empty configuration gives up its pools";
        let gone = || Problem::warning(self.reference.clone(), FieldPath::root(), message);
        self.own_problems = if self.stale { vec![gone()] } else { Vec::new() };
    }
}

/// The configuration text of a `ConfigMap`; a missing key reads as empty text.
pub(super) fn text_of(map: &ConfigMap) -> &str {
    map.data.as_ref().and_then(|data| data.get(CONFIG_MAP_KEY)).map_or("", String::as_str)
}

/// Whether a `ConfigMap` holds what looks like MetalLB's configuration.
pub(crate) fn looks_like_addresses(map: &ConfigMap) -> bool {
    text_of(map).lines().any(|line| SIGNS.iter().any(|sign| line.starts_with(sign)))
}

/// Warns of each `ConfigMap` that was probably meant to be read.
fn lookalikes(ours: &ObjectRef, merged: &Merged) -> Vec<Problem> {
    let others = merged.objects.values().filter(|held| held.reference != *ours);
    let alike = others.filter(|held| matches!(&held.object, Object::ConfigMap(map) if looks_like_addresses(map)));
    let warning = |held: &Held| {
        let message = format!("it looks like MetalLB's configuration, but only {ours} is read; rename it");
        let place = held.origin.locate(&FieldPath::root());
        Problem::warning(held.reference.clone(), FieldPath::root(), message).at(place)
    };
    alike.map(warning).collect()
}
