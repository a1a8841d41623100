//! What was found wrong, by who found it, and what is told of each object.
//!
//! An Ingress and a host are judged again only when something about them changed, and only the objects that are then
//! spoken of differently are told anew.

use std::collections::BTreeSet;
use std::sync::Arc;

use config::diagnostic::Problem;
use config::object::{ObjectName, ObjectRef};
use config::report::Event;
use config::shared::SharedMap;
use config::snapshot::{Origin, Snapshot};

use super::finding::Finding;
use super::pairs::Pairs;
use crate::host::HostMatch;

/// Whose judgement a finding is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Finder {
    /// That of all Ingresses together.
    Whole,
    /// That of one Ingress, by itself.
    Ingress(ObjectName),
    /// That of one host, on which Ingresses meet.
    Host(HostMatch),
}

/// Everything that was found.
#[derive(Clone, Debug, Default)]
pub(super) struct Findings {
    by_finder: SharedMap<Finder, Arc<[Finding]>>,
    /// Who found something about which object.
    finders: Pairs<ObjectRef, Finder>,
    told: SharedMap<ObjectRef, Arc<Told>>,
    problems: Arc<Vec<Problem>>,
    /// Objects of which something else was found since the last [`Self::tell`].
    touched: BTreeSet<ObjectRef>,
}

/// What is told of one object.
#[derive(Debug)]
struct Told {
    findings: Vec<Finding>,
    /// What knows the places of its fields.
    origin: Option<Arc<dyn Origin>>,
    problems: Vec<Problem>,
}

impl Findings {
    /// Replaces what `finder` has found.
    pub(super) fn set(&mut self, finder: &Finder, found: Vec<Finding>) {
        let before = self.by_finder.get(finder).cloned().unwrap_or_default();
        if *before == *found {
            return;
        }
        for finding in &*before {
            self.finders.remove(finding.object().clone(), finder.clone());
            self.touched.insert(finding.object().clone());
        }
        for finding in &found {
            self.finders.add(finding.object().clone(), finder.clone());
            self.touched.insert(finding.object().clone());
        }
        if found.is_empty() {
            self.by_finder.remove(finder);
        } else {
            self.by_finder.insert(finder.clone(), found.into());
        }
    }

    /// Settles what is told of each object; returns those of which something else is told than before.
    ///
    /// A source reads its text again to find a place, so it is asked once per finding, not once per table.
    pub(super) fn tell(&mut self, snapshot: &Snapshot, seen: &Snapshot) -> BTreeSet<ObjectRef> {
        let touched = std::mem::take(&mut self.touched);
        let mut changed = !touched.is_empty();
        for object in &touched {
            let findings = self.about(object);
            if findings.is_empty() {
                self.told.remove(object);
            } else {
                let known = self.told.get(object).cloned();
                self.told.insert(object.clone(), Arc::new(Told::new(object, findings, snapshot, known.as_deref())));
            }
        }
        if !Arc::ptr_eq(&snapshot.origins, &seen.origins) {
            let moved = |(object, told): (&ObjectRef, &Arc<Told>)| {
                (!is_same(told.origin.as_ref(), snapshot.origins.get(object)))
                    .then(|| (object.clone(), Arc::clone(told)))
            };
            let moved: Vec<_> = self.told.iter().filter_map(moved).collect();
            changed |= !moved.is_empty();
            for (object, told) in moved {
                let placed = Told::new(&object, told.findings.clone(), snapshot, None);
                self.told.insert(object, Arc::new(placed));
            }
        }
        if changed {
            self.problems = Arc::new(self.told.values().flat_map(|told| told.problems.iter().cloned()).collect());
        }
        touched
    }

    /// For people at a terminal, each at its place.
    pub(super) const fn problems(&self) -> &Arc<Vec<Problem>> {
        &self.problems
    }

    /// For `kubectl describe`.
    pub(super) fn events(&self, object: &ObjectRef) -> Vec<Event> {
        self.told.get(object).into_iter().flat_map(|told| told.findings.iter().map(Finding::event)).collect()
    }

    fn about(&self, object: &ObjectRef) -> Vec<Finding> {
        let found = self.finders.of(object).filter_map(|finder| self.by_finder.get(finder));
        let mut found: Vec<Finding> =
            found.flat_map(|found| found.iter()).filter(|finding| finding.object() == object).cloned().collect();
        found.sort();
        found.dedup();
        found
    }
}

impl Told {
    fn new(object: &ObjectRef, findings: Vec<Finding>, snapshot: &Snapshot, known: Option<&Self>) -> Self {
        let origin = snapshot.origins.get(object).cloned();
        let known = known.filter(|known| is_same(known.origin.as_ref(), origin.as_ref()));
        let placed = |finding: &Finding| {
            let known = known.and_then(|known| {
                let at = known.findings.iter().position(|held| held == finding)?;
                known.problems.get(at).cloned()
            });
            known.unwrap_or_else(|| snapshot.placed(finding.problem()))
        };
        let problems = findings.iter().map(placed).collect();
        Self { findings, origin, problems }
    }
}

fn is_same(one: Option<&Arc<dyn Origin>>, other: Option<&Arc<dyn Origin>>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    }
}
