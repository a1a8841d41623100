//! The global settings: one `ConfigMap`, and those that it names.
//!
//! They are read again only when one of these changed, and what follows from them keeps its pointer as long as it is
//! the same: a new pointer makes every Ingress be read again.

use std::sync::Arc;

use config::annotation::Step;
use config::global::{self, Global, KeyProblem};
use config::object::{FieldPath, Kind, ObjectName, ObjectRef};
use config::snapshot::Snapshot;
use k8s_openapi::api::core::v1::ConfigMap;

use super::finding::Finding;
use crate::front::Front;

/// What holds for an Ingress where it says nothing.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Ground {
    pub(super) global: Arc<Global>,
    /// What happens to the fields of every request and answer.
    pub(super) steps: Vec<Step>,
}

/// The settings, and what they were read from.
#[derive(Clone, Debug, Default)]
pub(super) struct HeldGlobal {
    /// The `ConfigMap`, that of fields for endpoints, that of fields for clients.
    sources: [Option<Arc<ConfigMap>>; 3],
    pub(super) ground: Arc<Ground>,
    pub(super) front: Arc<Front>,
    pub(super) findings: Vec<Finding>,
}

impl HeldGlobal {
    /// Reads the settings; what is wrong stays as `previous` has it. A `ConfigMap` that is not there says nothing.
    pub(super) fn of(name: &ObjectName, snapshot: &Snapshot, previous: &Self) -> Self {
        let map = |name: &ObjectName| snapshot.config_maps.get(name);
        let source = map(name);
        let held = &previous.ground.global;
        let named = [held.set_headers.as_ref().and_then(map), held.add_headers.as_ref().and_then(map)];
        let [before, headers @ ..] = &previous.sources;
        if is_same(before.as_ref(), source)
            && headers.iter().zip(named).all(|(one, other)| is_same(one.as_ref(), other))
        {
            return previous.clone();
        }
        Self::read(name, snapshot, source, previous)
    }

    fn read(name: &ObjectName, snapshot: &Snapshot, source: Option<&Arc<ConfigMap>>, previous: &Self) -> Self {
        let object = ObjectRef::new(Kind::ConfigMap, name.clone());
        let (global, problems) = match source {
            Some(map) => Global::read(&map.data.clone().unwrap_or_default(), &previous.ground.global),
            None => Default::default(),
        };
        let mut findings: Vec<Finding> = problems.into_iter().map(|problem| finding(&object, problem)).collect();
        let mut sources = [source.cloned(), None, None];
        let mut steps = Vec::new();
        let named = [("proxy-set-headers", &global.set_headers), ("add-headers", &global.add_headers)];
        for (at, (key, named)) in named.into_iter().enumerate() {
            let Some(named) = named else { continue };
            let Some(map) = snapshot.config_maps.get(named) else {
                let message = format!("ConfigMap {named} does not exist or is not read; create it");
                findings.push(Finding::at(object.clone(), field(key), "ConfigMapNotFound", message));
                continue;
            };
            let reference = ObjectRef::new(Kind::ConfigMap, named.clone());
            let (found, problems) = global::fields(&map.data.clone().unwrap_or_default(), at == 0);
            findings.extend(problems.into_iter().map(|problem| finding(&reference, problem)));
            steps.extend(found);
            sources[at + 1] = Some(Arc::clone(map));
        }
        let ground = Ground { global: Arc::new(global), steps };
        if ground == *previous.ground {
            return Self { sources, findings, ..previous.clone() };
        }
        let front = Arc::new(Front::of(&ground.global));
        Self { sources, ground: Arc::new(ground), front, findings }
    }
}

fn field(key: &str) -> FieldPath {
    FieldPath::of(["data"]).key(key)
}

fn finding(object: &ObjectRef, problem: KeyProblem) -> Finding {
    let KeyProblem { key, severity, message } = problem;
    Finding::graded(object.clone(), field(&key), severity, "Configuration", message)
}

fn is_same(one: Option<&Arc<ConfigMap>>, other: Option<&Arc<ConfigMap>>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    }
}
