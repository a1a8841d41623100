//! One version of each object, out of all files.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use config::diagnostic::Problem;
use config::manifest::Object;
use config::object::{FieldPath, Kind, ObjectName, ObjectRef};
use config::snapshot::Origin;

use super::files::{Files, Held};

/// Every object once.
#[derive(Debug, Default)]
pub(super) struct Merged {
    pub(super) objects: BTreeMap<ObjectRef, Held>,
    /// Objects that are there, broken, and of which we never had a valid version.
    pub(super) missing: BTreeSet<ObjectRef>,
    /// Objects that stand in two files.
    pub(super) problems: Vec<Problem>,
    pub(super) origins: Arc<HashMap<ObjectRef, Arc<dyn Origin>>>,
}

/// Collects the objects of one kind: `kind!(merged, Ingress)`.
macro_rules! kind {
    ($merged:expr, $kind:ident) => {
        $merged.of_kind(config::object::Kind::$kind, |object| match object {
            config::manifest::Object::$kind(object) => Some(object),
            _ => None,
        })
    };
}
pub(super) use kind;

impl Merged {
    /// `object`, or the version we have of it if the two are equal.
    pub(super) fn share(&self, reference: &ObjectRef, object: Object) -> Object {
        match self.objects.get(reference) {
            Some(held) if held.object == object => held.object.clone(),
            _ => object,
        }
    }

    /// The objects of one kind.
    pub(super) fn of_kind<T>(
        &self,
        kind: Kind,
        pick: impl Fn(&Object) -> Option<&Arc<T>>,
    ) -> BTreeMap<ObjectName, Arc<T>> {
        let of_kind = self.objects.iter().filter(|(reference, _)| reference.kind == kind);
        of_kind.filter_map(|(reference, held)| Some((reference.name.clone(), pick(&held.object)?.clone()))).collect()
    }
}

/// Merges all files: of an object that stands in several, the first file's version counts.
pub(super) fn merge(manifests: &Files, secrets: &Files, previous: &Merged) -> Merged {
    let mut merged = Merged::default();
    for held in manifests.iter().flat_map(|file| &file.held) {
        if let Some(first) = merged.objects.get(&held.reference) {
            merged.problems.push(repeated(held, first));
        } else {
            merged.objects.insert(held.reference.clone(), held.clone());
        }
    }
    for held in secrets.iter().flat_map(|file| &file.held).filter(|held| held.reference.kind == Kind::Secret) {
        merged.objects.entry(held.reference.clone()).or_insert_with(|| held.clone());
    }
    for reference in manifests.iter().flat_map(|file| &file.missing) {
        if merged.objects.contains_key(reference) {
            continue;
        }
        // It was valid in another file, and broke while it moved.
        if let Some(held) = previous.objects.get(reference) {
            merged.objects.insert(reference.clone(), Held { stale: true, ..held.clone() });
        } else {
            merged.missing.insert(reference.clone());
        }
    }
    let origins = merged.objects.iter().map(|(reference, held)| (reference.clone(), Arc::clone(&held.origin)));
    merged.origins = Arc::new(origins.collect());
    merged
}

fn repeated(held: &Held, first: &Held) -> Problem {
    let place = |held: &Held| held.origin.locate(&FieldPath::root());
    let used = place(first).map_or_else(|| "another file".to_owned(), |place| place.to_string());
    let message = format!("it is also in {used}, which counts; remove one of the two");
    Problem::error(held.reference.clone(), FieldPath::root(), message).at(place(held))
}
