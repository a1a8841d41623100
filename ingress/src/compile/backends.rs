//! The endpoints of every backend, resolved once per change of what they are made of.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use config::snapshot::Snapshot;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;

use super::plan::Backend;
use crate::backend::{self, BackendKey, PortRef, SERVICE_LABEL, Standpoint, external, resolve, service_port};
use crate::endpoints::Endpoints;
use crate::resolve::{Answer, Answers};

/// Every backend of a table with its inputs.
#[derive(Debug, Default)]
pub(super) struct HeldBackends {
    here: Standpoint,
    /// By backend, and whether its cluster IPs stand for it.
    all: HashMap<(BackendKey, bool), Held>,
}

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
    /// By namespace and Service.
    slices: HashMap<(&'a str, &'a str), Vec<&'a Arc<EndpointSlice>>>,
    answers: &'a Answers,
    previous: &'a HeldBackends,
    held: HeldBackends,
    /// The names out there that some backend leads to.
    names: BTreeSet<Arc<str>>,
}

impl<'a> Backends<'a> {
    pub(super) fn new(
        snapshot: &'a Snapshot,
        answers: &'a Answers,
        here: Standpoint,
        previous: &'a HeldBackends,
    ) -> Self {
        let mut slices = HashMap::<_, Vec<_>>::new();
        for (name, slice) in snapshot.endpoint_slices.iter() {
            let service = slice.metadata.labels.as_ref().and_then(|labels| labels.get(SERVICE_LABEL));
            if let Some(service) = service {
                slices.entry((&*name.namespace, service.as_str())).or_default().push(slice);
            }
        }
        let held = HeldBackends { here, all: HashMap::new() };
        Self { snapshot, slices, answers, previous, held, names: BTreeSet::new() }
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
        let key = (BackendKey { service: backend.service.clone(), port }, by_service);
        if let Some(held) = self.held.all.get(&key) {
            return Arc::clone(&held.endpoints);
        }
        let held = self.resolve(&key, backend, service);
        let endpoints = Arc::clone(&held.endpoints);
        self.held.all.insert(key, held);
        endpoints
    }

    /// What the next table may take over, and the names to ask DNS for.
    pub(super) fn finish(self) -> (HeldBackends, BTreeSet<Arc<str>>) {
        (self.held, self.names)
    }

    fn resolve(&mut self, full: &(BackendKey, bool), backend: &Backend, service: Option<&Arc<Service>>) -> Held {
        let (key, by_service) = full;
        let name = service.and_then(|service| external::name(service));
        let question = name.filter(|_| self.held.here.external_names).and_then(|name| external::question(name).ok());
        let answer = question.as_ref().and_then(|name| self.answers.get(name)).cloned();
        self.names.extend(question);
        let slices = self.slices.get(&(&*key.service.namespace, &*key.service.name)).map_or(&[][..], Vec::as_slice);
        let previous = self.previous.all.get(full);
        let endpoints = match (&backend.problem, previous) {
            (Some(problem), _) => Endpoints::broken(key.clone(), problem.clone()),
            (None, Some(held)) if held.answer == answer && self.is_unchanged(held, service, slices) => {
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
                    _ => resolve(&key.service, &key.port, service, slices, here, previous),
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
        same_service && same_slices && self.previous.here == self.held.here
    }
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
