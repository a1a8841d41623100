//! What each file holds, parsed once per text, with the last good version of what broke.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use config::diagnostic::{Problem, Severity};
use config::manifest::{self, Object, Parsed};
use config::object::ObjectRef;
use config::snapshot::Origin;

use super::Reading;
use super::merge::Merged;

/// One version of one object.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) reference: ObjectRef,
    pub(super) object: Object,
    pub(super) origin: Arc<dyn Origin>,
    /// Whether this is not the newest version, which is broken.
    pub(super) stale: bool,
}

/// One file.
#[derive(Debug)]
pub(super) struct File {
    reading: Reading,
    /// Its objects: the valid ones in written order, then what stays although it broke.
    pub(super) held: Vec<Held>,
    /// Objects that are in the file, broken, and never were valid in it.
    pub(super) missing: Vec<ObjectRef>,
    problems: Vec<Problem>,
    ignored: Vec<String>,
    /// Whether there may be objects in it that we do not know of.
    incomplete: bool,
}

/// Every file, in the order of the names.
#[derive(Debug, Default)]
pub(super) struct Files(BTreeMap<Arc<str>, File>);

impl Files {
    /// Takes over what was read; whether anything changed. Objects equal to those in `known` are shared with it.
    pub(super) fn update(&mut self, readings: &BTreeMap<Arc<str>, Reading>, known: &Merged) -> bool {
        let before = self.0.len();
        self.0.retain(|name, _| readings.contains_key(name));
        let mut changed = self.0.len() != before;
        for (name, reading) in readings {
            let old = self.0.get(name);
            if old.is_none_or(|old| old.reading != *reading) {
                let file = File::new(name, reading, old, known);
                self.0.insert(Arc::clone(name), file);
                changed = true;
            }
        }
        changed
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &File> {
        self.0.values()
    }

    pub(super) fn problems(&self) -> impl Iterator<Item = &Problem> {
        self.iter().flat_map(|file| &file.problems)
    }

    pub(super) fn ignored(&self) -> Vec<String> {
        self.iter().flat_map(|file| file.ignored.iter().cloned()).collect()
    }

    pub(super) fn is_incomplete(&self) -> bool {
        self.iter().any(|file| file.incomplete)
    }
}

impl File {
    fn new(name: &Arc<str>, reading: &Reading, old: Option<&Self>, known: &Merged) -> Self {
        let before = old.map_or(&[][..], |old| &old.held);
        match reading {
            Reading::Text(text) => Self::of(reading, manifest::parse(name, text), before, known),
            Reading::Failed(problem) => Self::unread(reading, problem, before, old),
        }
    }

    fn of(reading: &Reading, parsed: Parsed, before: &[Held], known: &Merged) -> Self {
        let Parsed { documents, broken, mut problems, ignored, unreadable } = parsed;
        let mut held: Vec<Held> = (documents.into_iter())
            .map(|document| Held {
                object: known.share(&document.reference, document.object),
                reference: document.reference,
                origin: document.origin,
                stale: false,
            })
            .collect();
        let valid: BTreeSet<&ObjectRef> = held.iter().map(|held| &held.reference).collect();
        let stays = |old: &&Held| !valid.contains(&old.reference) && (unreadable || broken.contains(&old.reference));
        let kept: Vec<Held> = before.iter().filter(stays).map(|old| Held { stale: true, ..old.clone() }).collect();
        let found =
            |reference: &&ObjectRef| valid.contains(reference) || kept.iter().any(|held| held.reference == **reference);
        let missing = broken.iter().filter(|reference| !found(reference)).cloned().collect();
        for problem in problems.iter_mut().filter(|problem| problem.severity == Severity::Error) {
            say_what_stays(problem, &kept);
        }
        held.extend(kept);
        Self { reading: reading.clone(), held, missing, problems, ignored, incomplete: unreadable }
    }

    fn unread(reading: &Reading, problem: &Problem, before: &[Held], old: Option<&Self>) -> Self {
        let held: Vec<Held> = before.iter().map(|old| Held { stale: true, ..old.clone() }).collect();
        let mut problem = problem.clone();
        say_what_stays(&mut problem, &held);
        Self {
            reading: reading.clone(),
            held,
            missing: old.map(|old| old.missing.clone()).unwrap_or_default(),
            problems: vec![problem],
            ignored: Vec::new(),
            incomplete: true,
        }
    }
}

/// Adds to an error what goes on in spite of it.
fn say_what_stays(problem: &mut Problem, kept: &[Held]) {
    let message = &problem.message;
    problem.message = match (&problem.object, kept.len()) {
        (Some(object), _) if kept.iter().any(|held| held.reference == *object) => {
            format!("{message}; its last good version stays in use")
        }
        (None, 1) => format!("{message}; the object last read from here stays in use"),
        (None, 2..) => format!("{message}; the {} objects last read from here stay in use", kept.len()),
        (Some(_) | None, _) => return,
    };
}
