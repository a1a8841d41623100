//! The endpoints of every backend, resolved once per change of what they are made of.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use config::object::ObjectName;
use config::shared::SharedMap;
use config::snapshot::Snapshot;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;

use super::pairs::Pairs;
use super::plan::Backend;
use crate::backend::{
    self, BackendKey, PortRef, SERVICE_LABEL, Standpoint, external, resolve, resolve_over, service_port,
};
use crate::endpoints::Endpoints;
use crate::host::HostMatch;
use crate::resolve::{Answer, Answers};
use crate::streams::Carrier;

/// A backend, and whether its cluster IPs stand for it.
pub(super) type BackendId = (BackendKey, bool);

/// Every backend of a table with its inputs.
#[derive(Clone, Debug, Default)]
pub(super) struct HeldBackends {
    here: Standpoint,
    all: SharedMap<BackendId, Arc<Held>>,
    /// The hosts that use a backend.
    users: Pairs<BackendId, HostMatch>,
    /// The slices of each Service, whether or not it is a backend, by its name and theirs.
    slices: SharedMap<(ObjectName, ObjectName), Arc<EndpointSlice>>,
    /// The names out there that backends lead to.
    asked: SharedMap<BackendId, Arc<str>>,
}

/// One backend.
#[derive(Debug)]
struct Held {
    service: Option<Arc<Service>>,
    slices: Vec<Arc<EndpointSlice>>,
    /// What is known of the name of an `ExternalName` Service.
    answer: Option<Answer>,
    endpoints: Arc<Endpoints>,
}

/// Resolves backends against one snapshot.
pub(super) struct Backends<'a> {
    snapshot: &'a Snapshot,
    answers: &'a Answers,
    held: HeldBackends,
    /// Whether we stand elsewhere than before.
    has_moved: bool,
    /// The Services of which something changed.
    stale: BTreeSet<ObjectName>,
    /// What was resolved since.
    fresh: HashSet<BackendId>,
    /// What some host does not use any more.
    dropped: Vec<BackendId>,
}

impl<'a> Backends<'a> {
    /// Takes in what differs from the snapshot `seen`, which `held` is of.
    pub(super) fn new(
        snapshot: &'a Snapshot,
        seen: &Snapshot,
        answers: &'a Answers,
        here: Standpoint,
        held: HeldBackends,
    ) -> Self {
        let (has_moved, held) = (held.here != here, HeldBackends { here, ..held });
        let (stale, fresh, dropped) = (BTreeSet::new(), HashSet::new(), Vec::new());
        let mut backends = Self { snapshot, answers, held, has_moved, stale, fresh, dropped };
        backends.stale.extend(snapshot.services.changes(&seen.services, Arc::ptr_eq).map(|it| it.key.clone()));
        for change in snapshot.endpoint_slices.changes(&seen.endpoint_slices, Arc::ptr_eq) {
            if let Some(service) = change.before.and_then(|slice| service_of(change.key, slice)) {
                backends.held.slices.remove(&(service.clone(), change.key.clone()));
                backends.stale.insert(service);
            }
            if let Some((slice, service)) = change.after.and_then(|slice| Some((slice, service_of(change.key, slice)?)))
            {
                backends.held.slices.insert((service.clone(), change.key.clone()), Arc::clone(slice));
                backends.stale.insert(service);
            }
        }
        let held = &backends.held;
        let is_answered = |(id, name): &(&BackendId, &Arc<str>)| {
            held.all.get(*id).is_some_and(|held| held.answer.as_ref() == answers.get(*name))
        };
        let news = held.asked.iter().filter(|asked| !is_answered(asked)).map(|((key, _), _)| key.service.clone());
        let news: Vec<ObjectName> = news.collect();
        backends.stale.extend(news);
        backends
    }

    /// The hosts that use what changed.
    pub(super) fn stale_hosts(&self) -> BTreeSet<HostMatch> {
        if self.has_moved {
            return self.held.users.within(|_| false).map(|(_, host)| host.clone()).collect();
        }
        let users = |service: &'_ ObjectName| {
            let service = service.clone();
            let all = self.held.users.within(|(key, _)| key.service < service);
            all.take_while(|((key, _), _)| key.service == service).map(|(_, host)| host.clone()).collect::<Vec<_>>()
        };
        self.stale.iter().flat_map(users).collect()
    }

    /// Whether loopback addresses are fine.
    pub(super) const fn allow_loopback(&self) -> bool {
        self.held.here.forbidden.allow_loopback
    }

    /// The endpoints of a backend; the very same value as before unless they changed.
    pub(super) fn get(&mut self, backend: &Backend, by_service: bool) -> Arc<Endpoints> {
        let service = self.snapshot.services.get(&backend.service).filter(|_| backend.problem.is_none());
        let found = service.and_then(|service| service_port(service, &backend.port));
        let number = found.and_then(|port| u16::try_from(port.port).ok());
        let port = number.map_or_else(|| backend.port.clone(), PortRef::Number);
        let id = (BackendKey { service: backend.service.clone(), port }, by_service);
        let is_good = (!self.has_moved && !self.stale.contains(&backend.service)) || self.fresh.contains(&id);
        if let Some(held) = self.held.all.get(&id).filter(|_| is_good) {
            return Arc::clone(&held.endpoints);
        }
        let held = self.resolve(&id, backend, service);
        let endpoints = Arc::clone(&held.endpoints);
        self.held.all.insert(id.clone(), Arc::new(held));
        self.fresh.insert(id);
        endpoints
    }

    /// The endpoints of a Service port that is no HTTP; the very same value as `previous` unless they changed.
    pub(super) fn resolve_stream(
        &self,
        service: &ObjectName,
        port: &PortRef,
        carrier: Carrier,
        previous: Option<&Arc<Endpoints>>,
    ) -> Arc<Endpoints> {
        let slices: Vec<&Arc<EndpointSlice>> = self.held.slices_of(service).collect();
        let object = self.snapshot.services.get(service).map(|service| &**service);
        let before = previous.map(|previous| &**previous);
        let endpoints = resolve_over(carrier, service, port, object, &slices, &self.held.here, before);
        let same = previous.filter(|previous| previous.is_same(&endpoints));
        same.map_or_else(|| Arc::new(endpoints), Arc::clone)
    }

    /// Notes which backends a host uses, and which it did.
    pub(super) fn note(&mut self, host: &HostMatch, before: &BTreeSet<BackendId>, now: &BTreeSet<BackendId>) {
        for gone in before.difference(now) {
            self.held.users.remove(gone.clone(), host.clone());
            self.dropped.push(gone.clone());
        }
        for new in now.difference(before) {
            self.held.users.add(new.clone(), host.clone());
        }
    }

    /// What the next table may take over, and the names to ask DNS for.
    pub(super) fn finish(mut self) -> (HeldBackends, BTreeSet<Arc<str>>) {
        for id in self.dropped.iter().filter(|id| !self.held.users.has(id)) {
            self.held.all.remove(id);
            self.held.asked.remove(id);
        }
        let names = self.held.asked.values().cloned().collect();
        (self.held, names)
    }

    fn resolve(&mut self, full: &BackendId, backend: &Backend, service: Option<&Arc<Service>>) -> Held {
        let (key, by_service) = full;
        let name = service.and_then(|service| external::name(service));
        let question = name.filter(|_| self.held.here.external_names).and_then(|name| external::question(name).ok());
        let answer = question.as_ref().and_then(|name| self.answers.get(name)).cloned();
        match question {
            Some(question) => drop(self.held.asked.insert(full.clone(), question)),
            None => drop(self.held.asked.remove(full)),
        }
        let slices: Vec<&Arc<EndpointSlice>> = self.held.slices_of(&key.service).collect();
        let previous = self.held.all.get(full);
        let endpoints = match (&backend.problem, previous) {
            (Some(problem), _) => Endpoints::broken(key.clone(), problem.clone()),
            (None, Some(held)) if held.answer == answer && self.is_unchanged(held, service, &slices) => {
                return held.again();
            }
            (None, previous) => {
                let (service, here) = (service.map(|service| &**service), &self.held.here);
                let previous = previous.map(|held| &*held.endpoints);
                match (service, name) {
                    (Some(service), Some(name)) => {
                        external::resolve(key.clone(), service, name, answer.as_ref(), here, previous)
                    }
                    _ if *by_service => backend::by_service(&key.service, &key.port, service, here, previous),
                    _ => resolve(&key.service, &key.port, service, &slices, here, previous),
                }
            }
        };
        let same = previous.filter(|held| held.endpoints.is_same(&endpoints));
        let endpoints = same.map_or_else(|| Arc::new(endpoints), |held| Arc::clone(&held.endpoints));
        let slices = slices.iter().map(|slice| Arc::clone(slice)).collect();
        Held { service: service.cloned(), slices, answer, endpoints }
    }

    fn is_unchanged(&self, held: &Held, service: Option<&Arc<Service>>, slices: &[&Arc<EndpointSlice>]) -> bool {
        let same_service = match (&held.service, service) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (None, None) => true,
            _ => false,
        };
        let same_slices = held.slices.len() == slices.len()
            && held.slices.iter().zip(slices).all(|(one, other)| Arc::ptr_eq(one, other));
        same_service && same_slices && !self.has_moved
    }
}

impl HeldBackends {
    /// The slices of a Service, in the order of their names.
    fn slices_of<'a>(&'a self, service: &'a ObjectName) -> impl Iterator<Item = &'a Arc<EndpointSlice>> {
        let all = self.slices.iter_from(move |(held, _)| held < service);
        all.take_while(move |((held, _), _)| held == service).map(|(_, slice)| slice)
    }
}

/// The Service that a slice says it is of.
fn service_of(name: &ObjectName, slice: &EndpointSlice) -> Option<ObjectName> {
    let service = slice.metadata.labels.as_ref()?.get(SERVICE_LABEL)?;
    Some(ObjectName::new(Arc::clone(&name.namespace), service.as_str()))
}

impl Held {
    fn again(&self) -> Self {
        Self {
            service: self.service.clone(),
            slices: self.slices.clone(),
            answer: self.answer.clone(),
            endpoints: Arc::clone(&self.endpoints),
        }
    }
}
