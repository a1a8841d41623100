//! Reads manifests once, for `ferrogate check`.
//!
//! Besides manifests it accepts a bare MetalLB configuration, as it stands inside the `ConfigMap`. All address
//! configurations are checked, and one counts: the `ConfigMap` of the configured name, else the first bare text, else
//! the first `ConfigMap` that looks like one.

mod bare;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use config::diagnostic::{Place, Problem, Severity};
use config::legacy::{self, Legacy};
use config::object::{FieldPath, Kind, ObjectName, ObjectRef};
use config::pool::PoolConfig;
use config::snapshot::Snapshot;

use crate::dir::read::{self, ReadError};
use crate::dir::scan::Scanner;
use crate::memory::Memory;
use crate::mirror::{Input, Mirror, Reading, Tree, looks_like_addresses};

/// What `-` is called in problems.
const STANDARD_INPUT: &str = "<stdin>";

/// What was read.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// Everything that is valid, and every problem.
    pub snapshot: Arc<Snapshot>,
    /// Objects of kinds we do not use, such as `Deployment default/web`.
    pub ignored: Vec<String>,
    /// How many files were read.
    pub files: usize,
    /// The address configuration that a cluster would take from them: the valid text of the `ConfigMap` of that name,
    /// or a bare one. `None` leaves a cluster the one it has.
    pub addresses: Option<Arc<PoolConfig>>,
}

/// Reads files, folders and, for `-`, standard input.
#[must_use]
pub fn load(paths: &[PathBuf], config_map: &ObjectName) -> Loaded {
    let mut tree = Tree::default();
    for path in paths {
        add(&mut tree, path);
    }
    check(tree, config_map)
}

/// The texts of files, folders and, for `-`, standard input, by where they are from; what cannot be read is left to
/// [`load`] to tell.
#[must_use]
pub fn texts(paths: &[PathBuf]) -> Vec<(Arc<str>, Arc<str>)> {
    let mut tree = Tree::default();
    for path in paths {
        add(&mut tree, path);
    }
    let text = |(name, reading): (Arc<str>, Reading)| match reading {
        Reading::Text(text) => Some((name, text)),
        Reading::Failed(_) => None,
    };
    tree.files.into_iter().filter_map(text).collect()
}

/// Adds what stands at `path`; the same file named twice counts once.
fn add(tree: &mut Tree, path: &Path) {
    let name: Arc<str> = path.to_string_lossy().into();
    if path.as_os_str() == "-" {
        let text = read::read_limited(&mut io::stdin().lock()).and_then(read::text);
        add_file(tree, STANDARD_INPUT.into(), text);
    } else if fs::metadata(path).is_ok_and(|found| found.is_dir()) {
        let Tree { files, problems, incomplete } = Scanner::new(path.to_owned()).look_once();
        tree.files.extend(files);
        tree.problems.extend(problems);
        tree.incomplete |= incomplete;
    } else {
        add_file(tree, name, read::read_file(path));
    }
}

fn add_file(tree: &mut Tree, name: Arc<str>, read: Result<Arc<str>, ReadError>) {
    let reading = read.map_or_else(|error| error.reading(&name), Reading::Text);
    tree.files.insert(name, reading);
}

fn check(mut tree: Tree, config_map: &ObjectName) -> Loaded {
    let files = tree.files.len();
    let bare = take_bare(&mut tree);
    let mut mirror = Mirror::new(config_map.clone(), None);
    let (memory, none) = (Memory::default(), Tree::default());
    mirror.update(Input { manifests: &tree, secrets: &none, memory: &memory, problems: &[] });
    let mut snapshot = mirror.snapshot().map_or_else(Snapshot::default, |snapshot| (**snapshot).clone());
    let mut problems = std::mem::take(Arc::make_mut(&mut snapshot.problems));
    let mut addresses = Addresses::of(&snapshot, config_map);
    for (file, text) in &bare {
        let legacy = legacy::parse_text(file, text);
        problems.extend(legacy.problems);
        if let Err(counts) = addresses.offer(file, legacy.config) {
            problems.push(one_too_many(file, &counts));
        }
    }
    let counts = (addresses.source.is_some() && !addresses.refused).then(|| Arc::clone(&addresses.pools));
    for (reference, legacy) in lookalikes(&snapshot, config_map) {
        problems.extend(legacy.problems);
        // That it does not count, if so, is what the mirror says of it.
        let _ = addresses.offer(&reference.to_string().into(), legacy.config);
    }
    (snapshot.pools, snapshot.pools_stale) = (addresses.pools, addresses.refused);
    snapshot.problems = Arc::new(problems);
    Loaded { snapshot: Arc::new(snapshot), ignored: mirror.ignored(), files, addresses: counts }
}

/// Takes the bare configurations out of the tree.
fn take_bare(tree: &mut Tree) -> BTreeMap<Arc<str>, Arc<str>> {
    let mut bare = BTreeMap::new();
    tree.files.retain(|name, reading| match reading {
        Reading::Text(text) if bare::is_bare(text) => {
            bare.insert(Arc::clone(name), Arc::clone(text));
            false
        }
        Reading::Text(_) | Reading::Failed(_) => true,
    });
    bare
}

/// The address configuration that counts.
struct Addresses {
    pools: Arc<PoolConfig>,
    refused: bool,
    /// Where it was found.
    source: Option<Arc<str>>,
}

impl Addresses {
    fn of(snapshot: &Snapshot, config_map: &ObjectName) -> Self {
        let reference = ObjectRef::new(Kind::ConfigMap, config_map.clone());
        let named = |problem: &&Problem| problem.object.as_ref() == Some(&reference);
        let there = snapshot.config_maps.contains_key(config_map) || snapshot.problems.iter().any(|p| named(&p));
        Self {
            pools: Arc::clone(&snapshot.pools),
            refused: snapshot.pools_stale,
            source: there.then(|| reference.to_string().into()),
        }
    }

    /// Takes the configuration of `source` if there is none yet; else says which one counts.
    fn offer(&mut self, source: &Arc<str>, config: Option<PoolConfig>) -> Result<(), Arc<str>> {
        if let Some(counts) = &self.source {
            return Err(Arc::clone(counts));
        }
        self.refused = config.is_none();
        self.pools = Arc::new(config.unwrap_or_default());
        self.source = Some(Arc::clone(source));
        Ok(())
    }
}

fn one_too_many(source: &Arc<str>, counts: &Arc<str>) -> Problem {
    Problem {
        severity: Severity::Warning,
        object: None,
        field: FieldPath::root(),
        message: format!("{source} is a second address configuration, checked but not used; {counts} counts"),
        place: Some(Place { file: Arc::clone(source), line: 1, column: 1 }),
    }
}

/// The `ConfigMap`s of other names that look like an address configuration, checked.
fn lookalikes(snapshot: &Snapshot, config_map: &ObjectName) -> Vec<(ObjectRef, Legacy)> {
    let others = snapshot.config_maps.iter().filter(|(name, map)| *name != config_map && looks_like_addresses(map));
    let checked = others.map(|(name, map)| {
        let reference = ObjectRef::new(Kind::ConfigMap, name.clone());
        let origin = snapshot.origins.get(&reference).map(AsRef::as_ref);
        let legacy = legacy::parse_map(&reference, map, origin);
        (reference, legacy)
    });
    checked.collect()
}

#[cfg(test)]
mod tests;
