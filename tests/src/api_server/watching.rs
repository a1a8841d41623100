//! One watch: what happened since a revision, then what happens, until the client or a fault ends it.
#![expect(clippy::disallowed_methods, reason = "a server reads the clock")]

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use futures_util::stream::{self, Stream};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::faults::Faults;
use super::kinds::Resource;
use super::selector::Selector;
use super::store::{Change, Store};

/// What a client watches.
pub(super) struct Watching {
    pub(super) store: Arc<Store>,
    pub(super) resource: &'static Resource,
    pub(super) namespace: Option<String>,
    pub(super) selector: Selector,
    /// The revision after which changes are told.
    pub(super) position: u64,
    /// Whether the objects of now come first, closed by a bookmark (KEP-3157).
    pub(super) initial: bool,
    pub(super) bookmarks: Option<Duration>,
    /// Ends the watch when it changes.
    pub(super) dropped: watch::Receiver<u64>,
    /// Ends it at this moment, as `timeoutSeconds` asks.
    pub(super) until: Instant,
    /// Tells nothing at all (an injected fault).
    pub(super) stale: bool,
    /// Who knows what is told otherwise than it is.
    pub(super) faults: Arc<Faults>,
}

struct State {
    watching: Watching,
    revisions: watch::Receiver<u64>,
    pending: VecDeque<Value>,
    next_bookmark: Option<Instant>,
    ended: bool,
}

impl Watching {
    /// The body of the answer: one JSON event a line.
    pub(super) fn stream(self) -> impl Stream<Item = Result<Bytes, std::io::Error>> + Send + 'static {
        let mut state = State {
            revisions: self.store.revisions(),
            next_bookmark: self.bookmarks.map(|every| Instant::now() + every),
            pending: VecDeque::new(),
            ended: false,
            watching: self,
        };
        if state.watching.initial && !state.watching.stale {
            state.tell_all();
        }
        stream::unfold(state, |mut state| async move {
            let mut event = state.next().await?;
            state.watching.faults.twist(&mut event);
            Some((Ok(Bytes::from(format!("{event}\n"))), state))
        })
    }
}

impl State {
    fn tell_all(&mut self) {
        let (objects, revision) = self.watching.store.list(self.watching.resource, self.watching.namespace.as_deref());
        let selected = objects.into_iter().filter(|object| self.watching.selector.matches(object));
        self.pending.extend(selected.map(|object| json!({ "type": "ADDED", "object": object })));
        let mut end = self.bookmark(revision);
        end["object"]["metadata"]["annotations"] = json!({ "k8s.io/initial-events-end": "true" });
        self.pending.push_back(end);
        self.watching.position = revision;
    }

    async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(event) = self.pending.pop_front() {
                return Some(event);
            }
            if self.ended {
                return None;
            }
            if !self.watching.stale {
                self.collect();
                if !self.pending.is_empty() {
                    continue;
                }
            }
            let bookmark = self.next_bookmark.unwrap_or(self.watching.until);
            tokio::select! {
                _ = self.revisions.changed(), if !self.watching.stale => {}
                _ = self.watching.dropped.changed() => return None,
                () = sleep_until(self.watching.until) => return None,
                () = sleep_until(bookmark), if self.next_bookmark.is_some() && !self.watching.stale => {
                    self.next_bookmark = self.watching.bookmarks.map(|every| Instant::now() + every);
                    self.watching.faults.note_bookmark(self.watching.resource.plural);
                    return Some(self.bookmark(self.watching.position));
                }
            }
        }
    }

    fn collect(&mut self) {
        match self.watching.store.since(self.watching.position) {
            Ok(changes) => {
                for change in changes {
                    self.watching.position = change.revision;
                    self.pending.extend(self.event(&change));
                }
            }
            Err(failure) => {
                self.pending.push_back(json!({ "type": "ERROR", "object": failure.body() }));
                self.ended = true;
            }
        }
    }

    fn event(&self, change: &Change) -> Option<Value> {
        let within = |object: &&Value| {
            let namespace = self.watching.namespace.as_deref();
            let here = namespace.is_none_or(|namespace| object["metadata"]["namespace"] == namespace);
            here && self.watching.selector.matches(object)
        };
        if change.resource != self.watching.resource {
            return None;
        }
        let (before, after) = (change.before.as_ref().filter(within), change.after.as_ref().filter(within));
        match (before, after) {
            (None, None) => None,
            (None, Some(after)) => Some(json!({ "type": "ADDED", "object": after })),
            (Some(_), Some(after)) => Some(json!({ "type": "MODIFIED", "object": after })),
            (Some(before), None) => {
                let mut gone = change.after.clone().unwrap_or_else(|| before.clone());
                gone["metadata"]["resourceVersion"] = json!(change.revision.to_string());
                Some(json!({ "type": "DELETED", "object": gone }))
            }
        }
    }

    fn bookmark(&self, revision: u64) -> Value {
        let resource = self.watching.resource;
        let metadata = json!({ "resourceVersion": revision.to_string(), "creationTimestamp": null });
        let object = json!({ "kind": resource.kind, "apiVersion": resource.api_version(), "metadata": metadata });
        json!({ "type": "BOOKMARK", "object": object })
    }
}
