//! From one table to the next: what differs, what that touches, and nothing else.
//!
//! ```text
//! changed Ingresses, Secrets, classes ─> touched Ingresses ─┬─> their hosts ─┐
//! changed Services, slices, answers ────────────────────────┼─> their hosts ─┴─> merged again
//! certificates that began or ceased to be valid ────────────┴─> their names ───> chosen again
//! ```

use std::collections::BTreeSet;
use std::sync::Arc;

use config::object::{Kind, ObjectName, ObjectRef};
use config::report::{Certificates, Event, Events, Listing, Report, Routes};
use config::snapshot::Snapshot;
use jiff::Timestamp;

use super::backends::Backends;
use super::class::Classes;
use super::finding::Finding;
use super::found::Finder;
use super::global::HeldGlobal;
use super::hosts::{self, HeldHost, Speaker};
use super::identities::Identities;
use super::material::Material;
use super::plan::IngressPlan;
use super::publish::Published;
use super::streams::HeldStreams;
use super::{CompileOptions, Compiled, Memory, tls};
use crate::backend::Standpoint;
use crate::certs::{CertTable, CertTableBuilder, Certificate};
use crate::front::Front;
use crate::host::HostMatch;
use crate::resolve::Answers;
use crate::routes::{HostTable, RouteTable};
use crate::summary;

/// A host and its new routes; `None` if it has none any more.
type HostChange = (HostMatch, Option<Arc<HostTable>>);

/// The way to the next table.
pub(super) struct Step<'a> {
    snapshot: &'a Snapshot,
    options: &'a CompileOptions,
    previous: Option<&'a Compiled>,
    now: Timestamp,
    /// Whether nothing of what was made before may stay.
    is_afresh: bool,
    /// Whether every Ingress is to be read again, since the global settings are others.
    is_regrounded: bool,
    /// What the table before was made of, on the way to what the next is.
    memory: Memory,
    routes: Routes,
    /// The Ingresses of which something may have changed, ours or not.
    touched: BTreeSet<ObjectName>,
    /// The hosts whose Ingresses changed.
    hosts: BTreeSet<HostMatch>,
    /// The names whose certificates may be others.
    names: BTreeSet<HostMatch>,
    /// The Secrets that some Ingress does not name any more.
    unnamed: BTreeSet<ObjectName>,
}

impl<'a> Step<'a> {
    pub(super) fn new(
        snapshot: &'a Snapshot,
        options: &'a CompileOptions,
        previous: Option<&'a Compiled>,
        now: Timestamp,
    ) -> Self {
        let memory = previous.map(|previous| previous.memory.clone()).unwrap_or_default();
        let routes = previous.map(|previous| previous.routes.clone()).unwrap_or_default();
        let is_afresh = memory.options.as_ref() != Some(options);
        let (touched, hosts, names, unnamed) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        Self {
            snapshot,
            options,
            previous,
            now,
            is_afresh,
            is_regrounded: false,
            memory,
            routes,
            touched,
            hosts,
            names,
            unnamed,
        }
    }

    /// Reads the global settings.
    pub(super) fn read_settings(&mut self, general: &mut Vec<Finding>) {
        let global = HeldGlobal::of(&self.options.config_map, self.snapshot, &self.memory.global);
        general.extend(global.findings.iter().cloned());
        self.is_regrounded = !Arc::ptr_eq(&global.ground, &self.memory.global.ground);
        self.memory.global = global;
    }

    /// How clients are met.
    pub(super) fn front(&self) -> Arc<Front> {
        Arc::clone(&self.memory.global.front)
    }

    /// Reads the Ingresses that changed, or of which a Secret did.
    pub(super) fn read_ingresses(&mut self) {
        let seen = self.memory.seen.clone();
        let all_anew =
            self.is_afresh || self.is_regrounded || !Arc::ptr_eq(&self.snapshot.ingress_classes, &seen.ingress_classes);
        if all_anew {
            self.touched.extend(seen.ingresses.keys().chain(self.snapshot.ingresses.keys()).cloned());
        } else {
            let changes = self.snapshot.ingresses.changes(&seen.ingresses, Arc::ptr_eq);
            self.touched.extend(changes.map(|change| change.key.clone()));
        }
        let secrets = self.snapshot.secrets.changes(&seen.secrets, Arc::ptr_eq).map(|change| change.key.clone());
        let secrets: BTreeSet<ObjectName> = secrets.filter(|secret| self.memory.named_by.has(secret)).collect();
        let passed = self.memory.secrets.judge(self.now);
        for secret in secrets.iter().chain(&passed) {
            self.touched.extend(self.memory.named_by.of(secret).cloned());
        }
        let mut identities = Identities::new(self.snapshot, std::mem::take(&mut self.memory.identities));
        let classes = Classes::new(&self.snapshot.ingress_classes, self.options);
        for name in self.touched.clone() {
            self.read_ingress(&name, &classes, &mut identities);
        }
        self.memory.identities = identities.into_held();
        for secret in &secrets {
            if self.memory.secrets.all.contains_key(secret) {
                self.memory.secrets.read(secret, self.snapshot.secrets.get(secret));
            }
        }
        self.forget_secrets();
    }

    fn read_ingress(&mut self, name: &ObjectName, classes: &Classes<'_>, identities: &mut Identities<'_>) {
        let ground = Arc::clone(&self.memory.global.ground);
        let before = self.memory.plans.get(name).cloned();
        let held = self.memory.materials.get(name).cloned();
        let source =
            self.snapshot.ingresses.get(name).filter(|ingress| matches!(classes.owns(name, ingress), Ok(true)));
        let now = source.map(|source| IngressPlan::of(name, source, &ground, identities, before.as_ref()));
        let nothing = Arc::default();
        let material =
            now.as_ref().map(|plan| Material::of(plan, self.snapshot, before.as_ref().zip(held.as_ref()), &nothing));
        let material = material.filter(|material| !Arc::ptr_eq(material, &nothing));
        let is_same = is_same(before.as_ref(), now.as_ref()) && is_same(held.as_ref(), material.as_ref());
        for plan in before.iter().chain(&now) {
            self.names.extend(tls::names(plan));
            if !is_same || self.is_afresh {
                self.hosts.extend(hosts::spoken_of(plan));
            }
        }
        if is_same {
            return;
        }
        self.note_names(name, before.as_deref(), now.as_deref());
        let (plans, materials) = (&mut self.memory.plans, &mut self.memory.materials);
        match &now {
            Some(plan) => drop(plans.insert(name.clone(), Arc::clone(plan))),
            None => drop(plans.remove(name)),
        }
        match material {
            Some(material) => drop(materials.insert(name.clone(), material)),
            None => drop(materials.remove(name)),
        }
        let spoken_of = |plan: &Option<Arc<IngressPlan>>| plan.as_ref().map(hosts::spoken_of).unwrap_or_default();
        for host in spoken_of(&before) {
            self.memory.spoken_of_by.remove(host, name.clone());
        }
        for host in spoken_of(&now) {
            self.memory.spoken_of_by.add(host, name.clone());
        }
    }

    /// Notes the Secrets and the certified names of an Ingress, and reads Secrets that are named for the first time.
    fn note_names(&mut self, name: &ObjectName, before: Option<&IngressPlan>, now: Option<&IngressPlan>) {
        let secrets = |plan: Option<&IngressPlan>| plan.map(IngressPlan::secrets).unwrap_or_default();
        for secret in secrets(before) {
            self.memory.named_by.remove(secret.clone(), name.clone());
            self.unnamed.insert(secret);
        }
        for secret in secrets(now) {
            self.memory.named_by.add(secret, name.clone());
        }
        for host in before.map(tls::names).unwrap_or_default() {
            self.memory.certified_by.remove(host, name.clone());
        }
        for host in now.map(tls::names).unwrap_or_default() {
            self.memory.certified_by.add(host, name.clone());
        }
        for secret in now.iter().flat_map(|plan| plan.tls.iter().filter_map(|tls| tls.secret.as_ref())) {
            if !self.memory.secrets.all.contains_key(secret) {
                self.memory.secrets.read(secret, self.snapshot.secrets.get(secret));
            }
        }
    }

    /// Lets go of what was read of Secrets that nobody names any more.
    fn forget_secrets(&mut self) {
        for secret in std::mem::take(&mut self.unnamed).iter().filter(|secret| !self.memory.named_by.has(secret)) {
            self.memory.secrets.forget(secret);
            self.memory.identities.remove(secret);
        }
    }

    /// Finds what is wrong with the touched Ingresses by themselves.
    pub(super) fn judge_ingresses(&mut self) {
        let classes = Classes::new(&self.snapshot.ingress_classes, self.options);
        for name in &self.touched {
            let mut found: Vec<Finding> = Vec::new();
            found.extend(self.snapshot.ingresses.get(name).and_then(|ingress| classes.owns(name, ingress).err()));
            if let Some(plan) = self.memory.plans.get(name) {
                found.extend(plan.findings.iter().cloned());
                found.extend(self.memory.secrets.findings(plan, self.now));
            }
            found.extend(self.memory.materials.get(name).iter().flat_map(|material| material.findings.iter().cloned()));
            self.memory.found.set(&Finder::Ingress(name.clone()), found);
        }
    }

    /// Chooses the certificates of the names that may have others.
    pub(super) fn choose_certificates(&mut self, default: &Arc<Certificate>) -> Arc<CertTable> {
        let before = self.previous.map(|previous| previous.table.certs());
        if let Some(before) =
            before.filter(|it| self.names.is_empty() && Arc::ptr_eq(it.default_certificate(), default))
        {
            return Arc::clone(before);
        }
        let mut table = match before {
            Some(before) => CertTableBuilder::from(before, Arc::clone(default)),
            None => CertTableBuilder::new(Arc::clone(default)),
        };
        for host in &self.names {
            let plans = self.memory.certified_by.of(host).filter_map(|name| self.memory.plans.get(name));
            let chosen = self.memory.secrets.choose(host, ranked(plans), self.now);
            table.show(host, chosen);
        }
        Arc::new(table.build())
    }

    /// Merges the routes of the hosts that are touched; returns what differs, and the names to ask DNS for.
    pub(super) fn merge_hosts(
        &mut self,
        answers: &Answers,
        here: Standpoint,
        general: &mut Vec<Finding>,
    ) -> (Vec<HostChange>, BTreeSet<Arc<str>>) {
        let held = std::mem::take(&mut self.memory.backends);
        let mut backends = Backends::new(self.snapshot, &self.memory.seen, answers, here, held);
        let mut touched = std::mem::take(&mut self.hosts);
        touched.extend(backends.stale_hosts());
        let changes = touched.into_iter().filter_map(|host| self.merge_host(host, &mut backends)).collect();
        self.memory.streams =
            HeldStreams::of(&self.options.streams, self.snapshot, &backends, &self.memory.streams, general);
        let (held, names) = backends.finish();
        self.memory.backends = held;
        (changes, names)
    }

    fn merge_host(&mut self, host: HostMatch, backends: &mut Backends<'_>) -> Option<HostChange> {
        let plans = self.memory.spoken_of_by.of(&host).filter_map(|name| self.memory.plans.get(name));
        let material = |plan: &Arc<IngressPlan>| self.memory.materials.get(&plan.name).cloned();
        let speakers: Vec<Speaker> = ranked(plans).into_iter().map(|plan| (Arc::clone(plan), material(plan))).collect();
        let before = self.memory.hosts.get(&host).cloned();
        let mut findings = Vec::new();
        let previous = before.as_ref().filter(|_| !self.is_afresh);
        let now = hosts::build(&host, &speakers, backends, previous, &mut findings);
        self.memory.found.set(&Finder::Host(host.clone()), findings);
        let uses = |held: Option<&Arc<HeldHost>>| held.map(|held| held.backends()).unwrap_or_default();
        backends.note(&host, &uses(before.as_ref()), &uses(now.as_ref()));
        match &now {
            Some(held) => drop(self.memory.hosts.insert(host.clone(), Arc::clone(held))),
            None => drop(self.memory.hosts.remove(&host)),
        }
        let table = |held: Option<&Arc<HeldHost>>| held.map(|held| Arc::clone(&held.table));
        let (before, now) = (table(before.as_ref()), table(now.as_ref()));
        if is_same(before.as_ref(), now.as_ref()) {
            return None;
        }
        self.count(before.as_deref(), now.as_deref());
        Some((host, now))
    }

    /// Counts the routes of a host, and the Ingresses that have some there.
    fn count(&mut self, before: Option<&HostTable>, now: Option<&HostTable>) {
        let routes = |table: Option<&HostTable>| table.map_or(0, |table| table.routes().len());
        let ingresses = |table: Option<&HostTable>| -> BTreeSet<ObjectName> {
            table.iter().flat_map(|table| table.routes()).map(|route| route.ingress.clone()).collect()
        };
        self.routes.len = self.routes.len + routes(now) - routes(before);
        let all = &mut self.routes.ingresses;
        for name in ingresses(now) {
            let hosts = all.get(&name).copied().unwrap_or(0);
            all.insert(name, hosts + 1);
        }
        for name in ingresses(before) {
            match all.get(&name).copied() {
                Some(hosts) if hosts > 1 => drop(all.insert(name, hosts - 1)),
                Some(_) | None => drop(all.remove(&name)),
            }
        }
    }

    /// Settles what Ingresses are to show.
    pub(super) fn set_status(&mut self, published: Option<&Published>) {
        let nothing = super::Plans::default();
        let were_ours = self.previous.map_or(&nothing, |previous| &previous.memory.plans);
        let memory = &self.memory;
        let status = published
            .map(|it| it.status(self.snapshot, &memory.plans, &self.touched, were_ours, &memory.status))
            .unwrap_or_default();
        self.memory.status = status;
    }

    /// Settles what is told of each object; returns the events.
    pub(super) fn tell(&mut self, general: Vec<Finding>) -> Events {
        self.memory.found.set(&Finder::Whole, general);
        let mut told = self.memory.found.tell(self.snapshot, &self.memory.seen);
        told.extend(self.touched.iter().map(|name| ObjectRef::new(Kind::Ingress, name.clone())));
        let mut events = self.previous.map(|previous| previous.report.events.clone()).unwrap_or_default();
        for object in &told {
            let is_ours = object.kind == Kind::Ingress && self.memory.plans.contains_key(&object.name);
            let mut all = self.memory.found.events(object);
            all.extend(is_ours.then(|| scheduled(object)));
            events.set(object, all);
        }
        events
    }

    /// The table, with all that is told of it.
    pub(super) fn finish(mut self, table: Arc<RouteTable>, events: Events, names: BTreeSet<Arc<str>>) -> Compiled {
        self.memory.seen = self.snapshot.clone();
        self.memory.options = Some(self.options.clone());
        let hosts = self.memory.hosts.clone();
        let entries = move |count| summary::routes(hosts.values().flat_map(|host| host.table.routes()), count);
        let certs = Arc::clone(table.certs());
        let report = Report {
            generation: self.snapshot.generation,
            ingresses: self.memory.status.all.clone(),
            events,
            problems: Arc::clone(self.memory.found.problems()),
            ..Report::default()
        };
        Compiled {
            table,
            report,
            routes: Routes { entries: Listing::new(entries), ..self.routes },
            certificates: Certificates::new(move |count| summary::certificates(&certs, count)),
            streams: Arc::clone(&self.memory.streams.table),
            names,
            memory: self.memory,
        }
    }
}

/// Ingresses in the order in which they are merged.
fn ranked<'p>(plans: impl Iterator<Item = &'p Arc<IngressPlan>>) -> Vec<&'p Arc<IngressPlan>> {
    let mut plans: Vec<&Arc<IngressPlan>> = plans.collect();
    plans.sort_by(|one, other| one.rank().cmp(&other.rank()));
    plans
}

/// That an Ingress is ours, in the words of ingress-nginx: `kubectl describe` says at a glance who serves it.
fn scheduled(object: &ObjectRef) -> Event {
    Event { object: object.clone(), severity: None, reason: "Sync", message: "Scheduled for sync".to_owned() }
}

fn is_same<T>(one: Option<&Arc<T>>, other: Option<&Arc<T>>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    }
}
