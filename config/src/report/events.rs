//! Events, by the object that they happened to.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Event;
use crate::object::ObjectRef;
use crate::shared::SharedMap;

/// Events by object, in the order of the objects; those of one object in the order in which they were added.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Events(SharedMap<ObjectRef, Arc<[Event]>>);

impl Events {
    /// Every event.
    pub fn iter(&self) -> impl Iterator<Item = &Event> {
        self.0.values().flat_map(|events| events.iter())
    }

    /// The events of one object.
    #[must_use]
    pub fn of(&self, object: &ObjectRef) -> &[Event] {
        self.0.get(object).map_or(&[], |events| events)
    }

    /// Makes these the events of an object, unless they are; they are all about it.
    pub fn set(&mut self, object: &ObjectRef, events: Vec<Event>) {
        if *self.of(object) == *events {
            return;
        }
        if events.is_empty() {
            self.0.remove(object);
        } else {
            self.0.insert(object.clone(), events.into());
        }
    }

    /// Adds an event to those of its object.
    pub fn push(&mut self, event: Event) {
        let object = event.object.clone();
        let events = [self.of(&object), &[event]].concat();
        self.set(&object, events);
    }

    /// The objects whose events are not those of the version `before`, with the events before and now.
    pub fn changes<'a>(&'a self, before: &'a Self) -> impl Iterator<Item = (&'a ObjectRef, &'a [Event], &'a [Event])> {
        let all = |events: Option<&'a Arc<[Event]>>| events.map_or(&[][..], |events| events);
        let same = |one: &Arc<[Event]>, other: &Arc<[Event]>| Arc::ptr_eq(one, other) || one == other;
        self.0.changes(&before.0, same).map(move |change| (change.key, all(change.before), all(change.after)))
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<Event> for Events {
    fn from_iter<I: IntoIterator<Item = Event>>(events: I) -> Self {
        let mut by_object: BTreeMap<ObjectRef, Vec<Event>> = BTreeMap::new();
        for event in events {
            by_object.entry(event.object.clone()).or_default().push(event);
        }
        Self(by_object.into_iter().map(|(object, events)| (object, events.into())).collect())
    }
}

impl Extend<Event> for Events {
    fn extend<I: IntoIterator<Item = Event>>(&mut self, events: I) {
        events.into_iter().for_each(|event| self.push(event));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::{Kind, ObjectName};

    fn event(name: &str, message: &str) -> Event {
        let object = ObjectRef::new(Kind::Service, ObjectName::new("shop", name));
        Event { object, severity: None, reason: "IPAllocated", message: message.to_owned() }
    }

    #[test]
    fn events_are_kept_by_object_and_what_changed_is_found() {
        let before: Events = [event("b", "1"), event("a", "2"), event("b", "3")].into_iter().collect();
        let messages = |events: &Events| events.iter().map(|event| event.message.clone()).collect::<Vec<_>>();
        assert_eq!(messages(&before), ["2", "1", "3"]);
        let mut after = before.clone();
        after.set(&event("a", "").object, vec![event("a", "2")]);
        assert_eq!(after.changes(&before).count(), 0);
        after.set(&event("b", "").object, Vec::new());
        after.push(event("c", "4"));
        assert_eq!(messages(&after), ["2", "4"]);
        let changes =
            after.changes(&before).map(|(object, old, new)| (object.name.name.to_string(), old.len(), new.len()));
        assert_eq!(changes.collect::<Vec<_>>(), [("b".to_owned(), 2, 0), ("c".to_owned(), 0, 1)]);
    }
}
