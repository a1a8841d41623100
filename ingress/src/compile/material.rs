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
use crate::filter::Users;

/// What the annotations of one Ingress name.
#[derive(Debug, Default)]
pub(super) struct Material {
    secret: Option<Arc<Secret>>,
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
        let Some(auth) = &plan.annotations.basic else { return Arc::clone(nothing) };
        let name = ObjectName::new(Arc::clone(&plan.name.namespace), &*auth.secret);
        let is_ours = auth.namespace.as_deref().is_none_or(|namespace| *namespace == *plan.name.namespace);
        let secret = snapshot.secrets.get(&name).filter(|_| is_ours);
        match previous {
            Some((of, held)) if Arc::ptr_eq(of, plan) && is_same(held.secret.as_ref(), secret) => Arc::clone(held),
            _ => Arc::new(Self::read(plan, auth, is_ours, secret)),
        }
    }

    fn read(plan: &IngressPlan, auth: &BasicAuth, is_ours: bool, secret: Option<&Arc<Secret>>) -> Self {
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
        Self { secret: secret.cloned(), users, findings }
    }
}

fn is_same(one: Option<&Arc<Secret>>, other: Option<&Arc<Secret>>) -> bool {
    let same_data = |one: &Secret, other: &Secret| one.data == other.data && one.string_data == other.string_data;
    match (one, other) {
        (Some(one), Some(other)) => Arc::ptr_eq(one, other) || same_data(one, other),
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    }
}
