//! What the watches tell, as one snapshot.
//!
//! ```text
//! News of ten kinds ──> one copy-on-write map per kind ──┐
//!                         last good address configuration ─┴─> Snapshot
//! ```
//!
//! Nothing is published before every collection that may be read was listed once. A list never empties a kind: what
//! is in it replaces or confirms what we have, and only when it is complete, what was not in it goes. A change that
//! leaves an object as it was, apart from its version, makes no snapshot.
//!
//! Pure. Who listens: [`super::watch`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use config::diagnostic::Problem;
use config::manifest::Object;
use config::object::{FieldPath, Kind, ObjectName, ObjectRef};
use config::snapshot::{Objects, Snapshot};
use k8s_openapi::Metadata;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::kinds::{Malformed, Source, TLS};
use super::trouble::Trouble;
use super::watch::{Change, News};
use crate::mirror::{AddressConfig, Sighting};
use crate::outbox::Presence;

/// Keeps the newest snapshot.
#[derive(Debug)]
pub(super) struct Mirror {
    /// What the next snapshot will be made of.
    next: Snapshot,
    published: Option<Arc<Snapshot>>,
    sources: BTreeMap<Arc<Source>, Listing>,
    malformed: BTreeMap<ObjectRef, Problem>,
    config: AddressConfig,
    /// What the caller found wrong.
    own_problems: Vec<Problem>,
    /// Whether `next` differs from what is published.
    changed: bool,
}

/// How one collection stands.
#[derive(Debug, Default)]
struct Listing {
    /// What a list that is under way has told so far.
    seen: Option<BTreeSet<ObjectName>>,
    /// The number of the last relist that is complete.
    listed: Option<u64>,
    trouble: Option<Trouble>,
}

/// Calls `$body` with the map of the kind, and the object if there is one.
macro_rules! of_kind {
    ($next:expr, $kind:expr, $objects:ident => $body:expr) => {
        match $kind {
            Kind::ConfigMap => {
                let $objects = &mut $next.config_maps;
                $body
            }
            Kind::EndpointSlice => {
                let $objects = &mut $next.endpoint_slices;
                $body
            }
            Kind::Ingress => {
                let $objects = &mut $next.ingresses;
                $body
            }
            Kind::IngressClass => {
                let $objects = &mut $next.ingress_classes;
                $body
            }
            Kind::Issuer => {
                let $objects = &mut $next.issuers;
                $body
            }
            Kind::ClusterIssuer => {
                let $objects = &mut $next.cluster_issuers;
                $body
            }
            Kind::Namespace => {
                let $objects = &mut $next.namespaces;
                $body
            }
            Kind::Node => {
                let $objects = &mut $next.nodes;
                $body
            }
            Kind::Secret => {
                let $objects = &mut $next.secrets;
                $body
            }
            Kind::Service => {
                let $objects = &mut $next.services;
                $body
            }
        }
    };
}

impl Mirror {
    pub(super) fn new(sources: impl IntoIterator<Item = Arc<Source>>, config_map: ObjectName) -> Self {
        Self {
            next: Snapshot::default(),
            published: None,
            sources: sources.into_iter().map(|source| (source, Listing::default())).collect(),
            malformed: BTreeMap::new(),
            config: AddressConfig::new(config_map, None),
            own_problems: Vec::new(),
            changed: true,
        }
    }

    /// Takes in what a watch tells; whether the next snapshot differs by it.
    pub(super) fn take(&mut self, news: News) -> bool {
        let News { source, change } = news;
        if !self.sources.contains_key(&source) {
            // The last words of a watch that nobody needs any more.
            return false;
        }
        let changed = match change {
            Change::Begin => {
                self.listing(&source).seen = Some(BTreeSet::new());
                false
            }
            Change::Listed(name, object) => {
                self.listing(&source).seen.get_or_insert_default().insert(name.clone());
                self.put(name, object)
            }
            Change::Applied(name, object) => self.put(name, object),
            Change::Deleted(name) => self.owns(&source, &name) && self.remove(source.kind, &name),
            Change::End { epoch } => self.end(&source, epoch),
            Change::Malformed(malformed) => self.malform(&source, malformed),
            Change::Trouble(trouble) => {
                let old = std::mem::replace(&mut self.listing(&source).trouble, trouble.clone());
                old != trouble
            }
        };
        self.changed |= changed;
        changed
    }

    /// Shows what the caller found wrong; whether that is new.
    pub(super) fn set_problems(&mut self, problems: Vec<Problem>) -> bool {
        let changed = problems != self.own_problems;
        self.own_problems = problems;
        self.changed |= changed;
        changed
    }

    /// Whether every collection that may be read was listed once; what came to be named later keeps nobody waiting.
    pub(super) fn is_complete(&self) -> bool {
        self.published.is_some() || self.sources.values().all(Listing::is_settled)
    }

    /// Whether everything of a kind that may be read was listed once.
    pub(super) fn is_listed(&self, kind: Kind) -> bool {
        self.sources.iter().filter(|(source, _)| source.kind == kind).all(|(_, listing)| listing.is_settled())
    }

    /// The name of our `ConfigMap`.
    pub(super) fn config_map(&self) -> &ObjectName {
        &self.config.reference().name
    }

    /// What the next snapshot will be made of.
    pub(super) const fn next(&self) -> &Snapshot {
        &self.next
    }

    /// Takes news of one more source from now on.
    pub(super) fn follow(&mut self, source: Arc<Source>) {
        self.sources.entry(source).or_default();
    }

    /// Takes no more news of a source, and forgets what it told.
    pub(super) fn forget(&mut self, source: &Source) -> bool {
        self.sources.remove(source);
        let held: Vec<ObjectName> = of_kind!(self.next, source.kind, objects => objects.keys().cloned().collect());
        let changed = held.iter().filter(|name| self.owns(source, name)).cloned().collect::<Vec<_>>();
        let changed = changed.iter().fold(false, |changed, name| self.remove(source.kind, name) | changed);
        self.changed |= changed;
        changed
    }

    /// Whether an object that we have is for this source to tell of. Of Secrets of one name, that of the type read as a
    /// collection is the collection's, any other is its own source's.
    fn owns(&self, source: &Source, name: &ObjectName) -> bool {
        let is_tls = |secret: &Arc<Secret>| secret.type_.as_deref() == Some(TLS);
        let held = self.next.secrets.get(name).filter(|_| source.kind == Kind::Secret);
        source.covers(name) && held.is_none_or(|secret| is_tls(secret) == source.name.is_none())
    }

    /// A new snapshot, if there is anything new and everything was listed.
    pub(super) fn publish(&mut self) -> Option<Arc<Snapshot>> {
        if !self.changed || !self.is_complete() {
            return None;
        }
        self.changed = false;
        self.read_config();
        self.next.pools = Arc::clone(self.config.pools());
        self.next.pools_stale = self.config.is_stale();
        let problems = self.problems();
        if *self.next.problems != problems {
            self.next.problems = Arc::new(problems);
        }
        if self.published.as_ref().is_some_and(|published| is_same(published, &self.next)) {
            return None;
        }
        self.next.generation += 1;
        let snapshot = Arc::new(self.next.clone());
        self.published = Some(Arc::clone(&snapshot));
        Some(snapshot)
    }

    /// Leaves a generation to the state from disk, before anything was published.
    pub(super) const fn skip_generation(&mut self) -> u64 {
        self.next.generation += 1;
        self.next.generation
    }

    /// The text of the address configuration in use.
    pub(super) fn config_text(&self) -> Option<Arc<str>> {
        self.config.text().cloned()
    }

    pub(super) const fn snapshot(&self) -> Option<&Arc<Snapshot>> {
        self.published.as_ref()
    }

    /// The generation of the first snapshot that shows all that was taken in until now.
    pub(super) const fn generation(&self) -> u64 {
        if self.changed { self.next.generation + 1 } else { self.next.generation }
    }

    /// What is known of an object's existence.
    pub(super) fn presence(&self, object: &ObjectRef) -> Presence {
        let mut found = false;
        let covering = self.sources.iter().filter(|(it, _)| it.kind == object.kind && it.covers(&object.name));
        let read = covering.into_iter().any(|(_, listing)| listing.listed.is_some());
        // Malformed and never read: it is there, but we do not know it.
        let unreadable = self.malformed.contains_key(object);
        let next = &self.next;
        found |= match object.kind {
            Kind::ConfigMap => next.config_maps.contains_key(&object.name),
            Kind::EndpointSlice => next.endpoint_slices.contains_key(&object.name),
            Kind::Ingress => next.ingresses.contains_key(&object.name),
            Kind::IngressClass => next.ingress_classes.contains_key(&object.name),
            Kind::Issuer => next.issuers.contains_key(&object.name),
            Kind::ClusterIssuer => next.cluster_issuers.contains_key(&object.name),
            Kind::Namespace => next.namespaces.contains_key(&object.name),
            Kind::Node => next.nodes.contains_key(&object.name),
            Kind::Secret => next.secrets.contains_key(&object.name),
            Kind::Service => next.services.contains_key(&object.name),
        };
        match (found, read && !unreadable) {
            (true, _) => Presence::Present,
            (false, true) => Presence::Absent,
            (false, false) => Presence::Unknown,
        }
    }

    /// The version of a Service, Ingress or Secret that was heard of last.
    pub(super) fn version(&self, object: &ObjectRef) -> Option<&str> {
        let meta = match object.kind {
            Kind::Service => self.next.services.get(&object.name).map(|object| &object.metadata),
            Kind::Ingress => self.next.ingresses.get(&object.name).map(|object| &object.metadata),
            Kind::Secret => self.next.secrets.get(&object.name).map(|object| &object.metadata),
            _ => None,
        };
        meta?.resource_version.as_deref()
    }

    /// The number of the last relist of a kind that is complete; the newest if it cannot be listed.
    pub(super) fn epoch(&self, kind: Kind) -> u64 {
        let of_kind = self.sources.iter().filter(|(source, _)| source.kind == kind);
        let epoch = |listing: &Listing| if listing.is_denied() { u64::MAX } else { listing.listed.unwrap_or(0) };
        of_kind.map(|(_, listing)| epoch(listing)).min().unwrap_or(u64::MAX)
    }

    /// Why something is not heard of, most recent state.
    pub(super) fn troubles(&self) -> impl Iterator<Item = (&Source, &Trouble)> {
        self.sources.iter().filter_map(|(source, listing)| Some((&**source, listing.trouble.as_ref()?)))
    }

    fn listing(&mut self, source: &Arc<Source>) -> &mut Listing {
        self.sources.entry(Arc::clone(source)).or_default()
    }

    fn put(&mut self, name: ObjectName, object: Object) -> bool {
        let mended = !self.malformed.is_empty() && self.malformed.remove(&reference(&object, &name)).is_some();
        let next = &mut self.next;
        let changed = match object {
            Object::ConfigMap(object) => put(&mut next.config_maps, name, object),
            Object::EndpointSlice(object) => put(&mut next.endpoint_slices, name, object),
            Object::Ingress(object) => put(&mut next.ingresses, name, object),
            Object::IngressClass(object) => put(&mut next.ingress_classes, name, object),
            Object::Issuer(object) => put(&mut next.issuers, name, object),
            Object::ClusterIssuer(object) => put(&mut next.cluster_issuers, name, object),
            Object::Namespace(object) => put(&mut next.namespaces, name, object),
            Object::Node(object) => put(&mut next.nodes, name, object),
            Object::Secret(object) => put(&mut next.secrets, name, object),
            Object::Service(object) => put(&mut next.services, name, object),
        };
        changed || mended
    }

    fn remove(&mut self, kind: Kind, name: &ObjectName) -> bool {
        let mended = self.malformed.remove(&ObjectRef::new(kind, name.clone())).is_some();
        let removed = of_kind!(self.next, kind, objects => {
            objects.contains_key(name) && Arc::make_mut(objects).remove(name).is_some()
        });
        removed || mended
    }

    /// A list is complete: what was not in it is gone.
    fn end(&mut self, source: &Arc<Source>, epoch: u64) -> bool {
        let listing = self.listing(source);
        let first = listing.listed.is_none();
        listing.listed = Some(epoch);
        let Some(seen) = listing.seen.take() else { return first };
        let gone = |name: &ObjectName| source.covers(name) && !seen.contains(name);
        let mut missing: Vec<ObjectName> = of_kind!(self.next, source.kind, objects => {
            objects.keys().filter(|name| gone(name)).cloned().collect()
        });
        missing.retain(|name| self.owns(source, name));
        let malformed = self.malformed.keys().filter(|it| it.kind == source.kind && gone(&it.name));
        missing.extend(malformed.map(|it| it.name.clone()).collect::<Vec<_>>());
        missing.iter().fold(first, |changed, name| self.remove(source.kind, name) | changed)
    }

    fn malform(&mut self, source: &Arc<Source>, malformed: Malformed) -> bool {
        let Malformed { reference, why } = malformed;
        if let Some(seen) = &mut self.listing(source).seen {
            seen.insert(reference.name.clone());
        }
        let stays =
            if self.presence(&reference) == Presence::Present { "; its last good version stays in use" } else { "" };
        let problem = Problem::error(reference.clone(), FieldPath::root(), format!("it cannot be read: {why}{stays}"));
        self.malformed.insert(reference, problem.clone()).is_none_or(|old| old != problem)
    }

    fn read_config(&mut self) {
        let reference = self.config.reference();
        let map = self.next.config_maps.get(&reference.name);
        let stale = self.malformed.contains_key(reference);
        let sighting = map.map(|map| Sighting { map: Arc::clone(map), origin: None, stale });
        self.config.update(sighting);
    }

    fn problems(&self) -> Vec<Problem> {
        // One server that is away is one problem, however many watches notice.
        // What one object names and may not be read is told on that object.
        let is_named = |source: &Source| source.kind == Kind::Secret && source.name.is_some();
        let general = self.troubles().filter(|(source, trouble)| !is_named(source) || !trouble.is_denied());
        let troubles: BTreeSet<Problem> = general.map(|(source, trouble)| trouble.problem(source)).collect();
        let others = self.own_problems.iter().chain(self.malformed.values()).chain(self.config.problems());
        troubles.into_iter().chain(others.cloned()).collect()
    }
}

impl Listing {
    fn is_settled(&self) -> bool {
        self.listed.is_some() || self.is_denied()
    }

    fn is_denied(&self) -> bool {
        self.trouble.as_ref().is_some_and(Trouble::is_denied)
    }
}

/// Puts an object into its map; whether anything but its version changed.
fn put<T>(objects: &mut Objects<T>, name: ObjectName, object: Arc<T>) -> bool
where
    T: Clone + PartialEq + Metadata<Ty = ObjectMeta>,
{
    let Some(old) = objects.get(&name) else {
        Arc::make_mut(objects).insert(name, object);
        return true;
    };
    let (before, after) = (old.metadata(), object.metadata());
    if before.resource_version == after.resource_version && before.uid == after.uid {
        return false;
    }
    let mut aged = (**old).clone();
    aged.metadata_mut().resource_version.clone_from(&after.resource_version);
    let changed = aged != *object;
    Arc::make_mut(objects).insert(name, object);
    changed
}

fn reference(object: &Object, name: &ObjectName) -> ObjectRef {
    let kind = match object {
        Object::ConfigMap(_) => Kind::ConfigMap,
        Object::EndpointSlice(_) => Kind::EndpointSlice,
        Object::Ingress(_) => Kind::Ingress,
        Object::IngressClass(_) => Kind::IngressClass,
        Object::Issuer(_) => Kind::Issuer,
        Object::ClusterIssuer(_) => Kind::ClusterIssuer,
        Object::Namespace(_) => Kind::Namespace,
        Object::Node(_) => Kind::Node,
        Object::Secret(_) => Kind::Secret,
        Object::Service(_) => Kind::Service,
    };
    ObjectRef::new(kind, name.clone())
}

fn is_same(old: &Snapshot, new: &Snapshot) -> bool {
    Arc::ptr_eq(&old.pools, &new.pools)
        && old.pools_stale == new.pools_stale
        && Arc::ptr_eq(&old.services, &new.services)
        && Arc::ptr_eq(&old.endpoint_slices, &new.endpoint_slices)
        && Arc::ptr_eq(&old.ingresses, &new.ingresses)
        && Arc::ptr_eq(&old.ingress_classes, &new.ingress_classes)
        && Arc::ptr_eq(&old.issuers, &new.issuers)
        && Arc::ptr_eq(&old.cluster_issuers, &new.cluster_issuers)
        && Arc::ptr_eq(&old.secrets, &new.secrets)
        && Arc::ptr_eq(&old.config_maps, &new.config_maps)
        && Arc::ptr_eq(&old.nodes, &new.nodes)
        && Arc::ptr_eq(&old.namespaces, &new.namespaces)
        && Arc::ptr_eq(&old.problems, &new.problems)
}

#[cfg(test)]
#[path = "mirror_tests.rs"]
mod tests;
