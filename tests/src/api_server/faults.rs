//! Faults that a test injects, and the record of what clients asked for.
//!
//! A lie is what watches tell of an object instead of what is stored: by it an object is malformed for its readers on any
//! server, also on a real one, which stores no such thing.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::failure::Failure;

/// One request as the server saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`.
    pub verb: &'static str,
    /// API group, empty for the core group.
    pub group: &'static str,
    /// Plural name of the resource, with `/status` for the subresource.
    pub resource: String,
    /// `namespace/name` or the name of what it is about, if it names an object; a list or watch names one if its field
    /// selector does, as authorisation sees it.
    pub name: String,
    /// When it came.
    pub at: Instant,
}

/// Which requests a fault hits; empty texts match everything.
#[derive(Clone, Debug, Default)]
pub struct Match {
    /// The verb.
    pub verb: &'static str,
    /// Plural name of the resource.
    pub resource: &'static str,
}

/// What goes wrong.
#[derive(Clone, Debug)]
pub enum Fault {
    /// The answer comes this much later.
    Delay(Duration),
    /// The request is refused.
    Refuse(Failure),
    /// What is asked is done, and the connection ends before a word of it is answered.
    LoseAnswer,
    /// A watch is accepted and then stays silent, though things change.
    StaleWatch,
}

/// What is told of one object instead of what it says there.
#[derive(Clone, Debug)]
struct Lie {
    kind: &'static str,
    name: String,
    pointer: String,
    instead: Value,
}

/// Every injected fault and every request seen.
#[derive(Debug, Default)]
pub struct Faults {
    rules: Mutex<Vec<(Match, Fault, usize)>>,
    lies: Mutex<Vec<Lie>>,
    seen: Mutex<Vec<Request>>,
    /// Resources of which a bookmark was told, as often as it was.
    bookmarks: Mutex<Vec<&'static str>>,
}

impl Faults {
    /// Hits the next `times` requests that match.
    pub fn inject(&self, which: Match, fault: Fault, times: usize) {
        lock(&self.rules).push((which, fault, times));
    }

    /// Ends all faults.
    pub fn clear(&self) {
        lock(&self.rules).clear();
    }

    /// Every request so far.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        lock(&self.seen).clone()
    }

    /// How many requests so far had one of these verbs on this resource.
    #[must_use]
    pub fn count(&self, verbs: &[&str], resource: &str) -> usize {
        lock(&self.seen).iter().filter(|it| verbs.contains(&it.verb) && it.resource == resource).count()
    }

    /// How many bookmarks watches of this resource were told by the in-memory server, those that end a list apart.
    #[must_use]
    pub fn bookmarks(&self, resource: &str) -> usize {
        lock(&self.bookmarks).iter().filter(|told| **told == resource).count()
    }

    pub(super) fn note_bookmark(&self, resource: &'static str) {
        lock(&self.bookmarks).push(resource);
    }

    /// From now on watches tell `instead` at `pointer` (RFC 6901) of the objects of this kind and name.
    pub(super) fn lie(&self, kind: &'static str, name: &str, pointer: &str, instead: Value) {
        lock(&self.lies).push(Lie { kind, name: name.to_owned(), pointer: pointer.to_owned(), instead });
    }

    /// Ends the lies about these objects.
    pub(super) fn tell_the_truth(&self, kind: &str, name: &str) {
        lock(&self.lies).retain(|lie| (lie.kind, lie.name.as_str()) != (kind, name));
    }

    pub(super) fn is_honest(&self) -> bool {
        lock(&self.lies).is_empty()
    }

    /// Twists one event of a watch, if there is a lie about its object.
    pub(super) fn twist(&self, event: &mut Value) {
        let object = &mut event["object"];
        for lie in &*lock(&self.lies) {
            let is_meant = object["kind"] == lie.kind && object["metadata"]["name"] == *lie.name;
            if let Some(place) = object.pointer_mut(&lie.pointer).filter(|_| is_meant) {
                place.clone_from(&lie.instead);
            }
        }
    }

    pub(super) fn next(&self, request: Request) -> Vec<Fault> {
        let mut hits = Vec::new();
        let mut rules = lock(&self.rules);
        for (which, fault, times) in rules.iter_mut() {
            let verb = which.verb.is_empty() || which.verb == request.verb;
            let resource = which.resource.is_empty() || which.resource == request.resource;
            if verb && resource && *times > 0 {
                *times -= 1;
                hits.push(fault.clone());
            }
        }
        lock(&self.seen).push(request);
        hits
    }
}

/// A test that panicked elsewhere must not hide its message behind a poisoned lock.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
