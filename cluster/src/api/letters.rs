//! Letters between speakers that do not reach each other directly: annotations of one Lease, one for each node.
//!
//! Whoever shows a letter gets all others with the answer, so an exchange is one request. What nobody has changed for
//! [`KEPT`] is of a node that is gone, and taken away by whoever notices.

#![expect(clippy::disallowed_methods, reason = "io reads the clock")]

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use config::object::ObjectName;
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::Request;
use serde_json::{Map, Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::connection::{Connection, Failure, WRITE};

/// The end of every annotation; before it stands the name of the node.
const SUFFIX: &str = "/ferrogate-heartbeat";
/// How long a letter stays that does not change.
const KEPT: Duration = Duration::from_hours(1);

/// Where letters are exchanged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letterbox {
    /// The Lease that holds them, made when there is none.
    pub lease: ObjectName,
    /// Whose ours is.
    pub node: String,
}

/// Shows our letter whenever there is a new one.
pub(super) struct Postman {
    connection: Arc<Connection>,
    letterbox: Letterbox,
    outgoing: watch::Receiver<Arc<[u8]>>,
    incoming: watch::Sender<Arc<Vec<Arc<[u8]>>>>,
    stop: CancellationToken,
    /// Letters of others, and when each was seen first.
    seen: HashMap<String, (String, Instant)>,
}

impl Postman {
    pub(super) fn new(
        connection: Arc<Connection>,
        letterbox: Letterbox,
        outgoing: watch::Receiver<Arc<[u8]>>,
        incoming: watch::Sender<Arc<Vec<Arc<[u8]>>>>,
        stop: CancellationToken,
    ) -> Self {
        Self { connection, letterbox, outgoing, incoming, stop, seen: HashMap::new() }
    }

    /// Until `stop`, or until nobody writes any more.
    pub(super) async fn run(mut self) {
        let (stop, mut troubled) = (self.stop.clone(), false);
        while let Some(Ok(())) = stop.run_until_cancelled(self.outgoing.changed()).await {
            let letter = Arc::clone(&self.outgoing.borrow_and_update());
            match stop.run_until_cancelled(self.exchange(&letter)).await {
                Some(Ok(letters)) => {
                    troubled = false;
                    self.incoming.send_replace(Arc::new(letters));
                }
                Some(Err(failure)) if !troubled => {
                    troubled = true;
                    let lease = &self.letterbox.lease;
                    warn!(%lease, %failure, "speakers that hear no heartbeats cannot write to each other either");
                }
                Some(Err(failure)) => debug!(%failure, "a letter was not shown"),
                None => return,
            }
        }
    }

    /// Shows a letter; those of the others.
    async fn exchange(&mut self, letter: &[u8]) -> Result<Vec<Arc<[u8]>>, Failure> {
        let mut annotations = self.outdated(Instant::now());
        annotations.insert(self.own_key(), STANDARD.encode(letter).into());
        let shown = match self.patch(&annotations).await {
            Err(failure) if failure.code() == 404 => match self.create(&annotations).await {
                // Somebody was faster.
                Err(failure) if failure.code() == 409 => self.patch(&annotations).await?,
                outcome => outcome?,
            },
            outcome => outcome?,
        };
        Ok(self.take(&shown, Instant::now()))
    }

    /// The letters of others in a Lease.
    fn take(&mut self, lease: &Value, now: Instant) -> Vec<Arc<[u8]>> {
        let (own, none) = (self.own_key(), Map::new());
        let annotations = lease["metadata"]["annotations"].as_object().unwrap_or(&none);
        let others = annotations.iter().filter(|(key, _)| key.ends_with(SUFFIX) && **key != own);
        let others: Vec<(&String, &str)> = others.filter_map(|(key, value)| Some((key, value.as_str()?))).collect();
        self.seen.retain(|key, _| annotations.contains_key(key));
        for (key, text) in &others {
            let seen = self.seen.entry((*key).clone()).or_insert_with(|| (String::new(), now));
            if seen.0 != *text {
                *seen = ((*text).to_owned(), now);
            }
        }
        // What is no letter is nobody's.
        others.into_iter().filter_map(|(_, text)| STANDARD.decode(text).ok()).map(Arc::from).collect()
    }

    /// What takes away the letters of nodes that are gone.
    fn outdated(&self, now: Instant) -> Map<String, Value> {
        let old = self.seen.iter().filter(|(_, (_, since))| now.saturating_duration_since(*since) > KEPT);
        old.map(|(key, _)| (key.clone(), Value::Null)).collect()
    }

    fn own_key(&self) -> String {
        format!("{}{SUFFIX}", self.letterbox.node)
    }

    async fn patch(&self, annotations: &Map<String, Value>) -> Result<Value, Failure> {
        let patch = Patch::Merge(json!({ "metadata": { "annotations": annotations } }));
        let request = Request::new(self.path()).patch(&self.letterbox.lease.name, &PatchParams::default(), &patch);
        self.ask(request).await
    }

    async fn create(&self, annotations: &Map<String, Value>) -> Result<Value, Failure> {
        let ObjectName { namespace, name } = &self.letterbox.lease;
        let annotations: Map<_, _> = annotations
            .iter()
            .filter(|(_, text)| !text.is_null())
            .map(|(key, text)| (key.clone(), text.clone()))
            .collect();
        let metadata = json!({ "namespace": &**namespace, "name": &**name, "annotations": annotations });
        let body = json!({ "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata });
        self.ask(Request::new(self.path()).create(&PostParams::default(), body.to_string().into_bytes())).await
    }

    async fn ask(&self, request: Result<http::Request<Vec<u8>>, kube::core::request::Error>) -> Result<Value, Failure> {
        let request = request.map_err(|error| Failure::Garbled(error.to_string()))?;
        self.connection.json(request, WRITE).await
    }

    fn path(&self) -> String {
        format!("/apis/coordination.k8s.io/v1/namespaces/{}/leases", self.letterbox.lease.namespace)
    }
}
