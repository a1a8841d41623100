//! A certificate for every name.
//!
//! A host is shown the certificate of the first Ingress that has one for it: of a `tls` entry that lists the host, else
//! of any `tls` entry of that Ingress whose certificate covers it. Two Secrets of that Ingress with different kinds of
//! key are both used, as the client can verify.
//!
//! A Secret that breaks or goes away while it is in use leaves its last good certificate in place.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::Arc;

use config::object::{Kind, ObjectName, ObjectRef};
use config::shared::SharedMap;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;

use super::finding::{Finding, Part};
use super::hosts::other_name;
use super::pairs::Pairs;
use super::plan::{IngressPlan, Tls};
use crate::certs::Certificate;
use crate::host::HostMatch;

/// Every Secret that some Ingress names for a certificate.
#[derive(Clone, Debug, Default)]
pub(super) struct HeldSecrets {
    pub(super) all: SharedMap<ObjectName, HeldSecret>,
    /// When the validity of which begins or ends.
    moments: Pairs<Timestamp, ObjectName>,
    /// For when it was judged what is valid.
    judged: Timestamp,
}

/// One Secret, read.
#[derive(Clone, Debug)]
pub(super) struct HeldSecret {
    source: Option<Arc<Secret>>,
    /// The newest version that could be served.
    pub(super) good: Option<Arc<Certificate>>,
    /// What is wrong with the newest version: its field and what to do.
    error: Option<(Option<&'static str>, String)>,
}

impl HeldSecrets {
    /// The Secrets whose validity began or ended since they were judged.
    pub(super) fn judge(&mut self, now: Timestamp) -> BTreeSet<ObjectName> {
        let before = std::mem::replace(&mut self.judged, now);
        let (from, to) = (before.min(now), before.max(now));
        let passed = self.moments.within(|moment| *moment < from).take_while(|(moment, _)| **moment <= to);
        passed.map(|(_, secret)| secret.clone()).collect()
    }

    /// Reads a Secret that changed or is named for the first time.
    pub(super) fn read(&mut self, name: &ObjectName, secret: Option<&Arc<Secret>>) {
        let before = self.all.get(name);
        let next = HeldSecret::read(name, secret, before);
        for moment in before.into_iter().flat_map(HeldSecret::moments) {
            self.moments.remove(moment, name.clone());
        }
        for moment in next.moments() {
            self.moments.add(moment, name.clone());
        }
        self.all.insert(name.clone(), next);
    }

    /// Lets go of a Secret that nobody names any more.
    pub(super) fn forget(&mut self, name: &ObjectName) {
        for moment in self.all.remove(name).iter().flat_map(HeldSecret::moments) {
            self.moments.remove(moment, name.clone());
        }
    }

    /// What is wrong with the certificates of an Ingress.
    pub(super) fn findings(&self, plan: &IngressPlan, now: Timestamp) -> Vec<Finding> {
        let named = plan.tls.iter().filter_map(|tls| Some((tls, tls.secret.as_ref()?)));
        let held = named.filter_map(|(tls, name)| Some((tls, name, self.all.get(name)?)));
        held.flat_map(|(tls, name, held)| held.findings(plan, tls, name, now)).collect()
    }

    /// The certificates for a host: those of the first of `plans` that has any.
    pub(super) fn choose<'a>(
        &self,
        host: &HostMatch,
        plans: impl IntoIterator<Item = &'a Arc<IngressPlan>>,
        now: Timestamp,
    ) -> Vec<Arc<Certificate>> {
        let chosen = plans.into_iter().map(|plan| choose(plan, host, &self.all, now));
        chosen.into_iter().find(|chosen| !chosen.is_empty()).unwrap_or_default()
    }
}

/// The names that an Ingress may have certificates for; also those that it redirects to them.
pub(super) fn names(plan: &IngressPlan) -> BTreeSet<HostMatch> {
    let listed = plan.tls.iter().flat_map(|tls| tls.hosts.iter().map(|(_, host)| host.clone()));
    let served = plan.rules.iter().map(|rule| &rule.host).filter(|_| !plan.tls.is_empty());
    let moved = served.clone().filter(|_| plan.annotations.www).filter_map(|host| match host {
        HostMatch::Exact(name) => HostMatch::parse(&other_name(name)).ok(),
        HostMatch::Any | HostMatch::Wildcard(_) => None,
    });
    listed.chain(served.cloned()).chain(moved).filter(|host| *host != HostMatch::Any).collect()
}

/// The certificates that an Ingress has for a host, one for each kind of key: valid before others, then the latest to
/// expire.
fn choose(
    plan: &IngressPlan,
    host: &HostMatch,
    secrets: &SharedMap<ObjectName, HeldSecret>,
    now: Timestamp,
) -> Vec<Arc<Certificate>> {
    let held = |tls: &Tls| tls.secret.as_ref().and_then(|name| secrets.get(name)?.good.clone());
    let covering = |filter: &dyn Fn(&Tls) -> bool| {
        let entries = plan.tls.iter().filter(|tls| filter(tls));
        entries.filter_map(held).filter(|certificate| certificate.covers(host)).collect::<Vec<_>>()
    };
    let mut chosen = covering(&|tls| tls.lists(host));
    if chosen.is_empty() {
        chosen = covering(&|_| true);
    }
    chosen.sort_by_key(|certificate| (!certificate.is_valid(now), Reverse(certificate.not_after)));
    let mut kinds = Vec::new();
    chosen.retain(|certificate| {
        let kind = certificate.key.key.algorithm();
        let is_new = !kinds.contains(&kind);
        kinds.push(kind);
        is_new
    });
    chosen
}

impl Tls {
    fn lists(&self, host: &HostMatch) -> bool {
        self.hosts.iter().any(|(_, listed)| listed == host)
    }
}

impl HeldSecret {
    /// When the validity of its certificate begins and ends.
    fn moments(&self) -> impl Iterator<Item = Timestamp> + use<> {
        self.good.iter().flat_map(|good| [good.not_before, good.not_after]).collect::<Vec<_>>().into_iter()
    }

    fn read(name: &ObjectName, secret: Option<&Arc<Secret>>, previous: Option<&Self>) -> Self {
        let last_good = || previous.and_then(|previous| previous.good.clone());
        let Some(secret) = secret else {
            let error = format!("Secret {name} does not exist");
            return Self { source: None, good: last_good(), error: Some((None, error)) };
        };
        if let Some(previous) = previous
            && previous.source.as_ref().is_some_and(|source| holds_the_same(source, secret))
        {
            return Self { source: Some(Arc::clone(secret)), ..previous.clone() };
        }
        let source = Some(Arc::clone(secret));
        match Certificate::from_secret(name, secret) {
            Ok(certificate) => Self { source, good: Some(Arc::new(certificate)), error: None },
            Err(error) => Self { source, good: last_good(), error: Some((Some(error.field()), error.to_string())) },
        }
    }

    /// What is wrong with a `tls` entry for this Secret.
    fn findings(&self, plan: &IngressPlan, tls: &Tls, name: &ObjectName, now: Timestamp) -> Vec<Finding> {
        let mut findings = Vec::new();
        let field = |rest: &[Part]| [&[Part::Key("spec"), Part::Key("tls"), Part::At(tls.at)], rest].concat();
        let secret_name = field(&[Part::Key("secretName")]);
        if let Some((part, error)) = &self.error {
            let instead = if self.good.is_some() { "its last good certificate" } else { "the default certificate" };
            let message = format!("{error}; until that is mended, {instead} is served");
            let reason = if part.is_some() { "InvalidCertificate" } else { "SecretNotFound" };
            if let Some(part) = part {
                let object = ObjectRef::new(Kind::Secret, name.clone());
                findings.push(Finding::error(object, &[Part::Key("data"), Part::Key(part)], reason, &message));
            }
            let message = if part.is_some() { format!("Secret {name} cannot be served: {message}") } else { message };
            findings.push(Finding::error(plan.object(), &secret_name, reason, message));
        }
        let Some(certificate) = &self.good else { return findings };
        if !certificate.is_valid(now) {
            let (from, until) = (certificate.not_before, certificate.not_after);
            let message = format!("the certificate in Secret {name} is valid from {from} until {until}; renew it");
            findings.push(Finding::warning(plan.object(), &secret_name, "CertificateNotValid", message));
        }
        for (index, host) in tls.hosts.iter().filter(|(_, host)| !certificate.covers(host)) {
            let message = format!(
                "the certificate in Secret {name} is not for {host} but for {}; it is not shown for that host",
                certificate.names.join(", ")
            );
            let field = field(&[Part::Key("hosts"), Part::At(*index)]);
            findings.push(Finding::warning(plan.object(), &field, "CertificateMismatch", message));
        }
        findings
    }
}

/// Whether two versions of a Secret hold the same certificate and key.
fn holds_the_same(one: &Arc<Secret>, other: &Arc<Secret>) -> bool {
    Arc::ptr_eq(one, other) || (one.data == other.data && one.string_data == other.string_data)
}
