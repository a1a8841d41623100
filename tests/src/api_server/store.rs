//! The objects, their revisions, and the log that watches read.
//!
//! One counter numbers every change, as etcd does; a watch asks for what came after a number, and is told "410 Gone"
//! when that part of the log was compacted.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};
use tokio::sync::watch;

use super::apply;
use super::failure::Failure;
use super::faults::lock;
use super::kinds::Resource;

/// Where one object lives.
pub type Key = (&'static Resource, String, String);

/// One change, as a watch tells it.
#[derive(Clone, Debug)]
pub struct Change {
    /// Its number.
    pub revision: u64,
    /// The object's resource.
    pub resource: &'static Resource,
    /// The object before; `None` when it was created.
    pub before: Option<Value>,
    /// The object after; `None` when it was deleted.
    pub after: Option<Value>,
}

/// How an object is to be changed.
#[derive(Clone, Copy, Debug)]
pub struct Write<'a> {
    /// Who writes, for managed fields.
    pub manager: &'a str,
    /// `status`, or empty for the object itself.
    pub subresource: &'a str,
}

/// All objects and what happened to them.
#[derive(Debug)]
pub struct Store {
    inner: Mutex<Inner>,
    revision: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Inner {
    objects: BTreeMap<Key, Value>,
    log: VecDeque<Change>,
    compacted: u64,
    revision: u64,
    /// Tells its objects from those of another store.
    number: u32,
}

/// How much of the log is kept at most.
const LOG: usize = 100_000;

impl Default for Store {
    fn default() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let inner = Inner { revision: 1, number: NUMBER.fetch_add(1, Ordering::Relaxed), ..Inner::default() };
        Self { inner: Mutex::new(inner), revision: watch::Sender::new(1) }
    }
}

impl Store {
    /// Told the number of each change.
    #[must_use]
    pub fn revisions(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }

    /// The objects of a resource, of one namespace or of all, and the revision they stand at.
    #[must_use]
    pub fn list(&self, resource: &'static Resource, namespace: Option<&str>) -> (Vec<Value>, u64) {
        let inner = lock(&self.inner);
        let wanted = |key: &&Key| key.0 == resource && namespace.is_none_or(|namespace| key.1 == namespace);
        let items = inner.objects.iter().filter(|(key, _)| wanted(key)).map(|(_, object)| object.clone());
        (items.collect(), inner.revision)
    }

    /// One object.
    pub fn get(&self, key: &Key) -> Result<Value, Failure> {
        lock(&self.inner).objects.get(key).cloned().ok_or_else(|| not_found(key))
    }

    /// What happened after `revision`, oldest first.
    pub fn since(&self, revision: u64) -> Result<Vec<Change>, Failure> {
        let inner = lock(&self.inner);
        if revision < inner.compacted {
            let message = format!("too old resource version: {revision} ({})", inner.compacted);
            return Err(Failure::new(410, message));
        }
        let from = inner.log.partition_point(|change| change.revision <= revision);
        Ok(inner.log.range(from..).cloned().collect())
    }

    /// Forgets the log, so that every watch from an older revision is told "410 Gone".
    pub fn compact(&self) {
        let mut inner = lock(&self.inner);
        inner.log.clear();
        inner.compacted = inner.revision;
    }

    /// Adds an object that does not exist yet.
    pub fn create(&self, key: Key, mut object: Value, write: Write<'_>) -> Result<Value, Failure> {
        let mut inner = lock(&self.inner);
        if inner.objects.contains_key(&key) {
            return Err(Failure::already_exists(&describe(&key)));
        }
        if key.0.has_status {
            object.as_object_mut().map(|map| map.remove("status"));
        }
        identify(&mut object, &key, &inner);
        apply::record_update(&Value::Null, &mut object, write.manager, write.subresource);
        Ok(self.commit(&mut inner, key, object))
    }

    /// Replaces an object, unless it changed since the revision that `object` names.
    pub fn update(&self, key: &Key, object: &Value, write: Write<'_>) -> Result<Value, Failure> {
        self.change(key, write, |live| {
            let claimed = object["metadata"]["resourceVersion"].as_str().unwrap_or_default();
            if !claimed.is_empty() && live["metadata"]["resourceVersion"] != claimed {
                let text =
                    "the object has been modified; please apply your changes to the latest version and try again";
                return Err(Failure::new(409, format!("Operation cannot be fulfilled on {}: {text}", describe(key))));
            }
            *live = object.clone();
            Ok(())
        })
    }

    /// Merges a patch into an object.
    pub fn patch(&self, key: &Key, patch: &Value, write: Write<'_>) -> Result<Value, Failure> {
        self.change(key, write, |live| {
            apply::merge(live, patch);
            Ok(())
        })
    }

    /// Server-side apply; creates the object if it does not exist.
    pub fn apply(&self, key: Key, wanted: &Value, write: Write<'_>, force: bool) -> Result<Value, Failure> {
        let mut inner = lock(&self.inner);
        let live = inner.objects.get(&key);
        if live.is_none() && !write.subresource.is_empty() {
            return Err(not_found(&key));
        }
        let before = live.cloned();
        let meant = &wanted["metadata"]["uid"];
        if !meant.is_null() && before.as_ref().is_none_or(|before| before["metadata"]["uid"] != *meant) {
            return Err(Failure::new(409, format!("{} is not the object with uid {meant}", describe(&key))));
        }
        let mut object = before.clone().unwrap_or_else(|| json!({}));
        apply::apply(&mut object, &confined(wanted, &key, write.subresource), write.manager, write.subresource, force)?;
        keep_to_the_type(&mut object, &key, write.subresource)?;
        if before.as_ref().is_some_and(|before| same_content(before, &object)) {
            return Ok(object);
        }
        identify(&mut object, &key, &inner);
        Ok(self.commit(&mut inner, key, object))
    }

    /// Removes an object.
    pub fn delete(&self, key: &Key) -> Result<Value, Failure> {
        let mut inner = lock(&self.inner);
        let before = inner.objects.remove(key).ok_or_else(|| not_found(key))?;
        self.log(&mut inner, key.0, Some(before.clone()), None);
        Ok(before)
    }

    fn change(
        &self,
        key: &Key,
        write: Write<'_>,
        edit: impl FnOnce(&mut Value) -> Result<(), Failure>,
    ) -> Result<Value, Failure> {
        let mut inner = lock(&self.inner);
        let before = inner.objects.get(key).ok_or_else(|| not_found(key))?.clone();
        let mut edited = before.clone();
        edit(&mut edited)?;
        let mut object = keep_the_other_half(&before, edited, key, write.subresource);
        keep_to_the_type(&mut object, key, write.subresource)?;
        if same_content(&before, &object) {
            return Ok(before);
        }
        apply::record_update(&before, &mut object, write.manager, write.subresource);
        for field in ["uid", "creationTimestamp"] {
            object["metadata"][field] = before["metadata"][field].clone();
        }
        identify(&mut object, key, &inner);
        Ok(self.commit(&mut inner, key.clone(), object))
    }

    fn commit(&self, inner: &mut Inner, key: Key, object: Value) -> Value {
        let resource = key.0;
        let before = inner.objects.insert(key, object.clone());
        self.log(inner, resource, before, Some(object.clone()));
        object
    }

    fn log(&self, inner: &mut Inner, resource: &'static Resource, before: Option<Value>, mut after: Option<Value>) {
        inner.revision += 1;
        let mut before = before;
        if let (None, Some(deleted)) = (&mut after, &mut before) {
            deleted["metadata"]["resourceVersion"] = json!(inner.revision.to_string());
        }
        inner.log.push_back(Change { revision: inner.revision, resource, before, after });
        if inner.log.len() > LOG {
            inner.compacted = inner.log.pop_front().map_or(inner.compacted, |oldest| oldest.revision);
        }
        self.revision.send_replace(inner.revision);
    }
}

/// The parts of an object that a write may touch: `status` through the subresource, all else through the object.
fn keep_the_other_half(before: &Value, edited: Value, key: &Key, subresource: &str) -> Value {
    if !key.0.has_status {
        return edited;
    }
    let (mut whole, half) = if subresource.is_empty() { (edited, before) } else { (before.clone(), &edited) };
    match half.get("status") {
        Some(status) => whole["status"] = status.clone(),
        None => drop(whole.as_object_mut().map(|map| map.remove("status"))),
    }
    whole
}

/// A Service that is no `LoadBalancer` has no address: a change of its type clears those it had, and its status may not
/// be given any.
fn keep_to_the_type(object: &mut Value, key: &Key, subresource: &str) -> Result<(), Failure> {
    if key.0.kind != "Service" || object["spec"]["type"] == "LoadBalancer" {
        return Ok(());
    }
    let shown = object["status"]["loadBalancer"]["ingress"].as_array().is_some_and(|entries| !entries.is_empty());
    if shown && !subresource.is_empty() {
        let what = "status.loadBalancer.ingress: Forbidden: may only be used when `spec.type` is \"LoadBalancer\"";
        return Err(Failure::new(422, format!("{} is invalid: {what}", describe(key))));
    }
    if shown {
        object["status"]["loadBalancer"] = json!({});
    }
    Ok(())
}

/// The same for what is applied; as in Kubernetes' own kinds, metadata may be written through `status` too.
fn confined(wanted: &Value, key: &Key, subresource: &str) -> Value {
    let mut wanted = wanted.clone();
    if let (true, Some(map)) = (key.0.has_status, wanted.as_object_mut()) {
        map.retain(|field, _| field == "metadata" || (field == "status") != subresource.is_empty());
    }
    wanted
}

/// Fills in what the server knows of an object.
fn identify(object: &mut Value, key: &Key, inner: &Inner) {
    let revision = inner.revision + 1;
    object["apiVersion"] = json!(key.0.api_version());
    object["kind"] = json!(key.0.kind);
    let metadata = &mut object["metadata"];
    metadata["name"] = json!(key.2);
    if key.0.namespaced {
        metadata["namespace"] = json!(key.1);
    }
    if metadata["uid"].is_null() {
        metadata["uid"] = json!(format!("{:08x}-0000-4000-8000-{revision:012x}", inner.number));
        metadata["creationTimestamp"] = json!(moment(revision));
    }
    metadata["resourceVersion"] = json!(revision.to_string());
}

/// A second for each revision, so that ages differ as they would over a long time.
fn moment(revision: u64) -> String {
    let (hours, minutes, seconds) = (revision / 3600 % 24, revision / 60 % 60, revision % 60);
    format!("2026-01-{:02}T{hours:02}:{minutes:02}:{seconds:02}Z", 1 + revision / 86400 % 28)
}

fn same_content(one: &Value, other: &Value) -> bool {
    let content = |object: &Value| {
        let mut object = object.clone();
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.retain(|key, _| !matches!(key.as_str(), "resourceVersion" | "managedFields"));
        }
        object
    };
    content(one) == content(other)
}

fn describe(key: &Key) -> String {
    format!("{} {:?}", key.0.plural, key.2)
}

fn not_found(key: &Key) -> Failure {
    Failure::new(404, format!("{} not found", describe(key)))
}
