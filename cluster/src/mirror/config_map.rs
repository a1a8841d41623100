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
use config::snapshot::Origin;
use k8s_openapi::api::core::v1::ConfigMap;

use super::merge::Merged;

/// Top-level keys by which a MetalLB configuration is known.
const SIGNS: [&str; 4] = ["address-pools:", "peers:", "bgp-communities:", "bfd-profiles:"];

/// The `ConfigMap` as a source sees it.
#[derive(Clone, Debug)]
pub(crate) struct Sighting {
    pub(crate) map: Arc<ConfigMap>,
    /// Where it is written, if the source has lines.
    pub(crate) origin: Option<Arc<dyn Origin>>,
    /// Whether this is not its newest version, which is no valid object.
    pub(crate) stale: bool,
}

impl Sighting {
    fn is_same(&self, other: &Self) -> bool {
        let origins = match (&self.origin, &other.origin) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        origins && self.stale == other.stale && Arc::ptr_eq(&self.map, &other.map)
    }
}

/// The address configuration and how it stands.
#[derive(Debug)]
pub(crate) struct AddressConfig {
    reference: ObjectRef,
    seen: Option<Sighting>,
    pools: Arc<PoolConfig>,
    /// The text that [`Self::pools`] was read from.
    text: Option<Arc<str>>,
    stale: bool,
    problems: Vec<Problem>,
}

impl AddressConfig {
    pub(crate) fn new(name: ObjectName, last_good: Option<Arc<str>>) -> Self {
        let file = Arc::from("last good configuration");
        let pools = last_good.as_ref().and_then(|text| legacy::parse_text(&file, text).config);
        Self {
            reference: ObjectRef::new(Kind::ConfigMap, name),
            seen: None,
            text: last_good.filter(|_| pools.is_some()),
            pools: Arc::new(pools.unwrap_or_default()),
            stale: false,
            problems: Vec::new(),
        }
    }

    pub(crate) fn pools(&self) -> &Arc<PoolConfig> {
        &self.pools
    }

    pub(crate) const fn is_stale(&self) -> bool {
        self.stale
    }

    pub(crate) fn text(&self) -> Option<&Arc<str>> {
        self.text.as_ref()
    }

    pub(crate) fn problems(&self) -> &[Problem] {
        &self.problems
    }

    pub(crate) const fn reference(&self) -> &ObjectRef {
        &self.reference
    }

    /// Takes in the `ConfigMap` as it is now; `None` if there is none.
    pub(crate) fn update(&mut self, now: Option<Sighting>) {
        match now {
            Some(sighting) => self.read(sighting),
            None => self.lose(),
        }
    }

    fn read(&mut self, sighting: Sighting) {
        if self.seen.as_ref().is_some_and(|seen| seen.is_same(&sighting)) {
            return;
        }
        let Sighting { map, origin, stale } = self.seen.insert(sighting);
        let Legacy { config, mut problems } = legacy::parse_map(&self.reference, map, origin.as_deref());
        // A broken ConfigMap object has its own problem; what we see of it is its last good version.
        self.stale = *stale || config.is_none();
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
        self.problems = problems;
    }

    /// There is no `ConfigMap`.
    fn lose(&mut self) {
        self.seen = None;
        self.stale = self.text.is_some();
        let message = "it is gone; its last good version stays in use until there is a new one, \
                       and one with an empty configuration gives up its pools";
        let gone = || Problem::warning(self.reference.clone(), FieldPath::root(), message);
        self.problems = if self.stale { vec![gone()] } else { Vec::new() };
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

/// The `ConfigMap` among what was read from files.
pub(super) fn sighting(reference: &ObjectRef, merged: &Merged) -> Option<Sighting> {
    let held = merged.objects.get(reference)?;
    let Object::ConfigMap(map) = &held.object else { return None };
    Some(Sighting { map: Arc::clone(map), origin: Some(Arc::clone(&held.origin)), stale: held.stale })
}

/// Warns of each `ConfigMap` that was probably meant to be read.
pub(super) fn lookalikes(ours: &ObjectRef, merged: &Merged) -> Vec<Problem> {
    let others = merged.objects.values().filter(|held| held.reference != *ours);
    let alike = others.filter(|held| matches!(&held.object, Object::ConfigMap(map) if looks_like_addresses(map)));
    let warning = |held: &super::files::Held| {
        let message = format!("it looks like MetalLB's configuration, but only {ours} is read; rename it");
        let place = held.origin.locate(&FieldPath::root());
        Problem::warning(held.reference.clone(), FieldPath::root(), message).at(place)
    };
    alike.map(warning).collect()
}
