//! What annotations name: Secrets, read.
//!
//! A [`Material`] is remade only when an object that it was made of changed, and its pointer says so; an Ingress that
//! names nothing shares one that is empty.

use std::sync::Arc;

use config::annotation::BasicAuth;
use config::object::{FieldPath, ObjectName};
use config::snapshot::Snapshot;
use k8s_openapi::api::core::v1::Secret;

use super::finding::Finding;
use super::plan::IngressPlan;
use crate::client::ClientAuth;
use crate::filter::Users;

/// What the annotations of one Ingress name.
#[derive(Debug, Default)]
pub(super) struct Material {
    secret: Option<Arc<Secret>>,
    trust: Option<Arc<Secret>>,
    /// What clients of its hosts are asked for.
    pub(super) client: Option<Arc<ClientAuth>>,
    /// Who may come; `None` if nobody knows.
    pub(super) users: Option<Arc<Users>>,
    pub(super) findings: Vec<Finding>,
}

impl Material {
    /// What `plan` names, as `previous` has it if nothing changed; `nothing` if it names nothing.
    pub(super) fn of(
        plan: &Arc<IngressPlan>,
        snapshot: &Snapshot,
        previous: Option<(&Arc<IngressPlan>, &Arc<Self>)>,
        nothing: &Arc<Self>,
    ) -> Arc<Self> {
        let (basic, client) = (&plan.annotations.basic, &plan.annotations.client);
        if basic.is_none() && client.is_none() {
            return Arc::clone(nothing);
        }
        // The Secret of another namespace is never looked at.
        let find = |namespace: Option<&str>, name: &str| {
            let is_ours = namespace.is_none_or(|namespace| *namespace == *plan.name.namespace);
            let secret = snapshot.secrets.get(&ObjectName::new(Arc::clone(&plan.name.namespace), name));
            Found { is_ours, secret: secret.filter(|_| is_ours) }
        };
        let users = basic.as_ref().map(|auth| (auth, find(auth.namespace.as_deref(), &auth.secret)));
        let trust = client.as_ref().map(|auth| (auth, find(auth.secret.namespace.as_deref(), &auth.secret.name)));
        let secret = users.as_ref().and_then(|(_, found)| found.secret);
        let trusted = trust.as_ref().and_then(|(_, found)| found.secret);
        match previous {
            Some((of, held))
                if Arc::ptr_eq(of, plan)
                    && is_same(held.secret.as_ref(), secret)
                    && is_same(held.trust.as_ref(), trusted) =>
            {
                Arc::clone(held)
            }
            _ => {
                let read = users.map_or_else(Self::default, |(auth, found)| Self::read(plan, auth, &found));
                Arc::new(match trust {
                    Some((auth, found)) => read.with_client(plan, auth, &found),
                    None => read,
                })
            }
        }
    }

    /// The same with what clients are asked for; if that is not known, nobody may come.
    fn with_client(mut self, plan: &IngressPlan, asked: &config::annotation::ClientAuth, found: &Found<'_>) -> Self {
        let name = format!("{}/{}", plan.name.namespace, asked.secret.name);
        let read = if found.is_ours {
            ClientAuth::read(asked, &name, found.secret.map(|secret| &**secret)).map_err(|why| why.to_string())
        } else {
            Err("the Secret is in another namespace; copy it into this one".to_owned())
        };
        self.trust = found.secret.cloned();
        self.client = Some(Arc::new(read.unwrap_or_else(|why| {
            let field = FieldPath::of(["metadata", "annotations"]).key(&plan.key_of("auth-tls-secret"));
            let message = format!("{why}; until that is mended, nobody may come to these hosts (403)");
            self.findings.push(Finding::at(plan.object(), field, "ClientCertificates", message));
            ClientAuth::closed()
        })));
        self
    }

    fn read(plan: &IngressPlan, auth: &BasicAuth, found: &Found<'_>) -> Self {
        let Found { is_ours, secret } = *found;
        let why = if is_ours { "does not exist" } else { "is in another namespace; copy it into this one" };
        let read = secret.map_or_else(|| Err(why.to_owned()), |secret| Users::of(secret, auth.format));
        let (users, problems) = match read {
            Ok((users, problems)) => (Some(Arc::new(users)), problems),
            Err(why) => (None, vec![format!("{why}; these paths are answered with 503 until it is right")]),
        };
        let field = FieldPath::of(["metadata", "annotations"]).key(&plan.key_of("auth-secret"));
        let finding =
            |why: &String| Finding::at(plan.object(), field.clone(), "Users", format!("Secret {} {why}", auth.secret));
        let findings = problems.iter().map(finding).collect();
        Self { secret: secret.cloned(), users, findings, ..Self::default() }
    }
}

/// A Secret that was looked for.
struct Found<'a> {
    /// Whether it is in the namespace of the Ingress.
    is_ours: bool,
    secret: Option<&'a Arc<Secret>>,
}

fn is_same(one: Option<&Arc<Secret>>, other: Option<&Arc<Secret>>) -> bool {
    let same_data = |one: &Secret, other: &Secret| one.data == other.data && one.string_data == other.string_data;
    match (one, other) {
        (Some(one), Some(other)) => Arc::ptr_eq(one, other) || same_data(one, other),
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    }
}
