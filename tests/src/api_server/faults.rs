//! Faults that a test injects, and the record of what clients asked for.

use std::sync::Mutex;
use std::time::{Duration, Instant};

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
    /// A watch is accepted and then stays silent, though things change.
    StaleWatch,
}

/// Every injected fault and every request seen.
#[derive(Debug, Default)]
pub struct Faults {
    rules: Mutex<Vec<(Match, Fault, usize)>>,
    seen: Mutex<Vec<Request>>,
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
