//! That the address configuration is not what is in use, told on its `ConfigMap`.
//!
//! Pools are the speaker's subject, so its report says it: a process without a speaker tells nobody, and of several
//! speakers only the leader's report is written.
//!
//! Pure.

use config::diagnostic::{Problem, Severity};
use config::object::{Kind, ObjectName, ObjectRef};
use config::report::Event;
use config::snapshot::Snapshot;

/// What is told of a `ConfigMap` that is there and was refused: the first of what is wrong, and how much more there is.
pub(crate) fn event(snapshot: &Snapshot, config_map: &ObjectName) -> Option<Event> {
    if !snapshot.pools_stale || !snapshot.config_maps.contains_key(config_map) {
        return None;
    }
    let object = ObjectRef::new(Kind::ConfigMap, config_map.clone());
    let is_ours = |it: &&Problem| it.severity == Severity::Error && it.object.as_ref() == Some(&object);
    let mut problems = snapshot.problems.iter().filter(is_ours);
    let first = problems.next()?;
    let more = match problems.count() {
        0 => String::new(),
        more => format!(" (and {more} more)"),
    };
    let message = format!("{}: {}{more}", first.field, first.message);
    Some(Event { object, severity: Some(Severity::Error), reason: "ConfigStale", message })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use config::object::FieldPath;
    use k8s_openapi::api::core::v1::ConfigMap;

    use super::*;

    fn snapshot(stale: bool, there: bool, problems: usize) -> (Snapshot, ObjectName) {
        let name = ObjectName::new("metallb-system", "config");
        let object = ObjectRef::new(Kind::ConfigMap, name.clone());
        let mut snapshot = Snapshot { pools_stale: stale, ..Snapshot::default() };
        let error = |index: usize| Problem::error(object.clone(), FieldPath::root(), format!("wrong {index}"));
        snapshot.problems = Arc::new((0..problems).map(error).collect());
        if there {
            Arc::make_mut(&mut snapshot.config_maps).insert(name.clone(), Arc::new(ConfigMap::default()));
        }
        (snapshot, name)
    }

    #[test]
    fn it_is_told_of_a_config_map_that_is_there_and_was_refused() {
        for (stale, there, problems, ending) in [
            (true, true, 1, Some("wrong 0")),
            (true, true, 3, Some("wrong 0 (and 2 more)")),
            (false, true, 1, None),
            (true, false, 1, None),
            (true, true, 0, None),
        ] {
            let (snapshot, name) = snapshot(stale, there, problems);
            let told = event(&snapshot, &name).map(|event| event.message);
            let case = format!("{stale} {there} {problems}: {told:?}");
            assert_eq!(told.is_some(), ending.is_some(), "{case}");
            assert!(told.unwrap_or_default().ends_with(ending.unwrap_or_default()), "{case}");
        }
    }
}
