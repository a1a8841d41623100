//! What people are told: events in cert-manager's words, and how each certificate stands.

use std::collections::{BTreeMap, BTreeSet};

use config::diagnostic::{Problem, Severity};
use config::object::{FieldPath, Kind, ObjectName, ObjectRef};
use config::report::{Event, ManagedEntry};

use super::{Orders, name, start};
use crate::inventory::{Due, Reason, State};
use crate::order::{Order, Stage};
use crate::retry::{Class, Failure};

/// How many events of one certificate hold at a time.
const LONGEST_TALE: usize = 12;

impl Orders {
    /// Events that hold.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        if self.leads { self.tales.values().flatten().cloned().collect() } else { Vec::new() }
    }

    /// What is wrong: whatever waits for more than a moment.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        let refused = self.inventory.states.iter().filter_map(|(secret, state)| match state {
            State::Refused(refusal) => Some((secret, refusal.to_string())),
            State::Valid { .. } | State::Due(_) => None,
        });
        let waits = self.waits.iter().filter(|(_, (until, _))| until.is_some());
        let waits = waits.map(|(secret, (_, why))| (secret, why.clone()));
        let unknown = self.inventory.due.iter().filter(|due| self.issuer(due).is_none());
        let unknown = unknown.map(|due| (&due.secret, start::no_issuer(due)));
        let ingresses: BTreeMap<&ObjectName, &ObjectName> =
            self.inventory.wanted.iter().map(|wanted| (&wanted.secret, &wanted.ingress)).collect();
        let problem = |(secret, why): (&ObjectName, String)| {
            let object = ObjectRef::new(Kind::Ingress, (*ingresses.get(secret)?).clone());
            let message = format!("the certificate for Secret {secret} is not ordered: {why}");
            Some(Problem::warning(object, FieldPath::of(["spec", "tls"]), message))
        };
        refused.chain(waits).chain(unknown).filter_map(problem).collect()
    }

    /// How each certificate stands.
    #[must_use]
    pub fn entries(&self) -> Vec<ManagedEntry> {
        self.inventory.wanted.iter().map(|wanted| self.entry(wanted)).collect()
    }

    fn entry(&self, wanted: &crate::wanted::Wanted) -> ManagedEntry {
        let secret = &wanted.secret;
        let held = self.held.get(secret).and_then(|found| found.certificate.as_ref().ok());
        let setback = self.store.journal.setbacks.get(&secret.to_string());
        let running = self.store.orders.iter().find(|(_, order)| order.secret == secret.to_string());
        let live = running.and_then(|(id, _)| self.live.get(id));
        let issuer = wanted.issuer.name(&self.hints.issuers).unwrap_or_else(|| "(none)".to_owned());
        let issuer = issuer.rsplit('/').next().unwrap_or_default();
        let mut entry = ManagedEntry {
            secret: secret.clone(),
            ingress: wanted.ingress.clone(),
            issuer: format!("{} {issuer}", wanted.issuer.kind()),
            hosts: wanted.names.iter().map(ToString::to_string).collect(),
            state: "valid",
            reason: "Certificate is up to date and has not expired".to_owned(),
            next_step: None,
            next_try: None,
            not_after: held.map(|held| held.not_after.to_string()),
            error: live.and_then(|live| live.error.clone()).or(setback.map(|setback| setback.message.clone())),
            failures: setback.map_or(0, |setback| setback.count),
        };
        match self.inventory.states.get(secret) {
            Some(State::Valid { renew_at }) => {
                entry.next_step = Some("renewing it".to_owned());
                entry.next_try = Some(renew_at.to_string());
            }
            Some(State::Refused(refusal)) => (entry.state, entry.reason) = ("refused", refusal.to_string()),
            Some(State::Due(reason)) => {
                entry.reason = reason.to_string();
                (entry.state, entry.next_step, entry.next_try) = match (live, self.waits.get(secret)) {
                    (Some(live), _) => {
                        let next = (live.tries > 0).then(|| live.not_before.to_string());
                        ("ordering", Some(live.stage.words().to_owned()), next)
                    }
                    (None, Some((until, why))) => ("waiting", Some(why.clone()), until.map(|until| until.to_string())),
                    (None, None) => ("due", Some("making a key".to_owned()), None),
                };
            }
            None => {}
        }
        entry
    }

    pub(super) fn tell_begin(&mut self, due: &Due) {
        let message = match due.reason {
            Reason::Missing => "Issuing certificate as Secret does not exist".to_owned(),
            Reason::Renewal => "Renewing certificate as renewal was scheduled".to_owned(),
            reason => format!("Issuing certificate as {reason}"),
        };
        self.tales.remove(&due.secret);
        self.tell(&due.secret.clone(), &due.ingress.clone(), None, "Issuing", message);
    }

    pub(super) fn tell_stage(&mut self, id: &str) {
        let (Some(order), Some(live)) = (self.store.orders.get(id).cloned(), self.live.get(id)) else { return };
        let told = match &live.stage {
            Stage::Placed => ("OrderCreated", "Created Order at the CA".to_owned()),
            Stage::Asked => {
                let challenges = order.placed.iter().flat_map(|placed| &placed.challenges);
                let methods: BTreeSet<String> = challenges.map(|challenge| challenge.method.to_uppercase()).collect();
                let methods = methods.into_iter().collect::<Vec<_>>().join(", ");
                ("Presented", format!("Presented challenge using {methods} challenge mechanism"))
            }
            Stage::Ready => ("DomainVerified", format!("Domains {} verified", order.names.join(", "))),
            Stage::Valid => ("Complete", "Order completed successfully".to_owned()),
            Stage::Issued(_) => ("CertificateIssued", "Certificate fetched from issuer successfully".to_owned()),
            Stage::Keyed
            | Stage::Resumed
            | Stage::Published
            | Stage::Confirmed
            | Stage::Finalized
            | Stage::Failed(_) => return,
        };
        self.tell_order(&order, None, told.0, told.1);
    }

    pub(super) fn tell_issued(&mut self, id: &str) {
        if let Some(order) = self.store.orders.get(id).cloned() {
            let message = "The certificate has been successfully issued".to_owned();
            self.tell_order(&order, None, "Issuing", message);
        }
    }

    pub(super) fn tell_failed(&mut self, order: &Order, failure: &Failure) {
        let message = match failure.class {
            Class::Validation => format!("Accepting challenge authorization failed: {}", failure.message),
            Class::Transient | Class::Wait | Class::Refused | Class::Account | Class::Replaced | Class::Gone => {
                format!("Failed to complete the order: {}", failure.message)
            }
        };
        self.tell_order(order, Some(Severity::Warning), "Failed", message);
    }

    fn tell_order(&mut self, order: &Order, severity: Option<Severity>, reason: &'static str, message: String) {
        if let (Some(secret), Some(ingress)) = (name(&order.secret), name(&order.ingress)) {
            self.tell(&secret, &ingress, severity, reason, message);
        }
    }

    fn tell(
        &mut self,
        secret: &ObjectName,
        ingress: &ObjectName,
        severity: Option<Severity>,
        reason: &'static str,
        message: String,
    ) {
        let object = ObjectRef::new(Kind::Ingress, ingress.clone());
        let tale = self.tales.entry(secret.clone()).or_default();
        let event = Event { object, severity, reason, message };
        if tale.back() != Some(&event) {
            tale.push_back(event);
        }
        while tale.len() > LONGEST_TALE {
            tale.pop_front();
        }
    }
}
