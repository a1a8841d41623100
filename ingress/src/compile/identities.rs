//! The Secrets that Ingresses name for TLS towards endpoints, read once per change.

use std::collections::HashSet;
use std::sync::Arc;

use config::annotation::UpstreamTls;
use config::object::ObjectName;
use config::shared::SharedMap;
use config::snapshot::Snapshot;
use k8s_openapi::api::core::v1::Secret;

use crate::identity::{Identity, IdentityError};

/// What every Secret was, and what became of it.
pub(super) type HeldIdentities = SharedMap<ObjectName, (Option<Arc<Secret>>, Read)>;

type Read = Result<Arc<Identity>, IdentityError>;

/// What an Ingress has for TLS towards its endpoints.
pub(super) type Credentials = Result<Option<Arc<Identity>>, CredentialsError>;

/// Why an Ingress does not have what it asks for; nobody may pass then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}; these paths are answered with 503 until it is right")]
pub(super) struct CredentialsError {
    /// The annotation.
    pub(super) name: &'static str,
    why: String,
}

/// Reads Secrets of one snapshot.
pub(super) struct Identities<'a> {
    snapshot: &'a Snapshot,
    held: HeldIdentities,
    /// What was looked at since.
    fresh: HashSet<ObjectName>,
}

impl<'a> Identities<'a> {
    pub(super) fn new(snapshot: &'a Snapshot, held: HeldIdentities) -> Self {
        Self { snapshot, held, fresh: HashSet::new() }
    }

    /// What the Ingress `ingress` has of what it asks for.
    pub(super) fn get(&mut self, ingress: &ObjectName, asked: &UpstreamTls) -> Credentials {
        let refused = |name, why: String| Err(CredentialsError { name, why });
        let Some(secret) = &asked.secret else { return Ok(None) };
        if secret.namespace.as_ref().is_some_and(|namespace| *namespace != ingress.namespace) {
            let why = "the Secret of another namespace is never used; copy it to that of the Ingress";
            return refused("proxy-ssl-secret", why.to_owned());
        }
        let name = ObjectName::new(Arc::clone(&ingress.namespace), Arc::clone(&secret.name));
        match self.read(&name) {
            Err(error) => refused("proxy-ssl-secret", error.to_string()),
            Ok(identity) if asked.verify && identity.trusted().is_empty() => {
                refused("proxy-ssl-verify", IdentityError::NoTrust { name: name.to_string() }.to_string())
            }
            Ok(identity) => Ok(Some(identity)),
        }
    }

    /// What the next table may take over.
    pub(super) fn into_held(self) -> HeldIdentities {
        self.held
    }

    /// The Secret as read; the very same value as before unless it changed.
    fn read(&mut self, name: &ObjectName) -> Read {
        let source = self.snapshot.secrets.get(name);
        let held = self.held.get(name);
        let is_good = |before: Option<&Arc<Secret>>| self.fresh.contains(name) || same(before, source);
        if let Some((_, read)) = held.filter(|(before, _)| is_good(before.as_ref())) {
            return read.clone();
        }
        let read = Identity::read(&name.to_string(), source.map(|secret| &**secret)).map(Arc::new);
        self.held.insert(name.clone(), (source.cloned(), read.clone()));
        self.fresh.insert(name.clone());
        read
    }
}

fn same(one: Option<&Arc<Secret>>, other: Option<&Arc<Secret>>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        (None, None) => true,
        _ => false,
    }
}
