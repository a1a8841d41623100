//! What follows from each object of a kind, kept from one snapshot to the next.
//!
//! Objects that did not change are shared between snapshots, so what follows from the same `Arc` need not be worked out
//! again. It saves work and changes nothing: the result is that of starting anew.

use std::sync::Arc;

use crate::object::ObjectName;
use crate::shared::SharedMap;
use crate::snapshot::Objects;

/// What follows from one object.
#[derive(Clone, Debug)]
pub struct Derived<T, R> {
    /// Its name.
    pub name: ObjectName,
    /// The object.
    pub object: Arc<T>,
    /// What follows from it.
    pub result: R,
}

/// What follows from each object of a kind.
#[derive(Clone, Debug)]
pub struct DerivedAll<T, R> {
    seen: Objects<T>,
    all: SharedMap<ObjectName, Arc<Derived<T, R>>>,
}

impl<T, R> Default for DerivedAll<T, R> {
    fn default() -> Self {
        Self { seen: Objects::default(), all: SharedMap::new() }
    }
}

impl<T, R> DerivedAll<T, R> {
    /// Derives what is new, and lets go of what is gone; `derive` must depend on its arguments only.
    pub fn update(
        &mut self,
        objects: &Objects<T>,
        mut derive: impl FnMut(&ObjectName, &T) -> R,
    ) -> &SharedMap<ObjectName, Arc<Derived<T, R>>> {
        for change in objects.changes(&self.seen, Arc::ptr_eq) {
            let Some(object) = change.after else {
                self.all.remove(change.key);
                continue;
            };
            let (name, object) = (change.key.clone(), Arc::clone(object));
            let result = derive(&name, &object);
            self.all.insert(name.clone(), Arc::new(Derived { name, object, result }));
        }
        self.seen = Arc::clone(objects);
        &self.all
    }

    /// What was derived last.
    #[must_use]
    pub const fn all(&self) -> &SharedMap<ObjectName, Arc<Derived<T, R>>> {
        &self.all
    }

    /// Lets go of everything.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    /// Up to eight names, each with one of six objects that may stand under several.
    fn some_objects() -> impl Strategy<Value = BTreeMap<u8, usize>> {
        proptest::collection::btree_map(0..8_u8, 0..6_usize, 0..8)
    }

    proptest! {
        #[test]
        fn what_was_derived_before_saves_work_and_changes_nothing(
            histories in proptest::collection::vec(some_objects(), 1..6),
        ) {
            let things: Vec<Arc<usize>> = (0..6).map(Arc::new).collect();
            let mut all = DerivedAll::default();
            let mut before = BTreeSet::new();
            for objects in histories {
                let named = objects.iter().map(|(n, it)| (ObjectName::new("a", n.to_string()), Arc::clone(&things[*it])));
                let mut fresh = Vec::new();
                let derive = |name: &ObjectName, thing: &usize| {
                    fresh.push((name.to_string(), *thing));
                    format!("{name} {thing}")
                };
                let found = all.update(&Arc::new(named.collect()), derive);
                let found: Vec<String> = found.values().map(|it| it.result.clone()).collect();
                let expected: Vec<String> = objects.iter().map(|(n, it)| format!("a/{n} {it}")).collect();
                prop_assert_eq!(found, expected);
                let now: BTreeSet<(String, usize)> = objects.iter().map(|(n, it)| (format!("a/{n}"), *it)).collect();
                prop_assert_eq!(fresh, now.difference(&before).cloned().collect::<Vec<_>>());
                before = now;
            }
        }
    }
}
