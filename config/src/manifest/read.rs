//! One node to one typed object, with everything that is wrong with it.

use std::sync::Arc;

use k8s_openapi::Metadata;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::de::DeserializeOwned;

use super::check::Check;
use super::de::{Found, from_node};
use super::{Object, validate_backend, validate_core, validate_ingress, validate_slice};
use crate::diagnostic::Severity;
use crate::object::{Kind, ObjectRef};
use crate::yaml::Node;

/// The outcome: an object as far as one could be read, and what is wrong with it.
pub(super) struct Reading {
    pub(super) object: Option<Object>,
    pub(super) found: Vec<Found>,
}

pub(super) fn read(reference: &ObjectRef, node: &Node) -> Reading {
    match reference.kind {
        Kind::ClusterIssuer => typed(reference, node, |_, _| {}, Object::ClusterIssuer),
        Kind::ConfigMap => typed(reference, node, validate_core::config_map, Object::ConfigMap),
        Kind::EndpointSlice => typed(reference, node, validate_slice::endpoint_slice, Object::EndpointSlice),
        Kind::Ingress => typed(reference, node, validate_ingress::ingress, Object::Ingress),
        Kind::IngressClass => typed(reference, node, validate_ingress::ingress_class, Object::IngressClass),
        Kind::Issuer => typed(reference, node, |_, _| {}, Object::Issuer),
        Kind::Namespace => typed(reference, node, |_, _| {}, Object::Namespace),
        Kind::Node => typed(reference, node, |_, _| {}, Object::Node),
        Kind::Secret => typed(reference, node, validate_core::secret, Object::Secret),
        Kind::Service => typed(reference, node, validate_backend::service, Object::Service),
    }
}

fn typed<T>(
    reference: &ObjectRef,
    node: &Node,
    validate: impl FnOnce(&mut Check, &mut T),
    wrap: impl FnOnce(Arc<T>) -> Object,
) -> Reading
where
    T: DeserializeOwned + Metadata<Ty = ObjectMeta>,
{
    let (object, mut found) = from_node::<T>(node);
    let Some(mut object) = object else { return Reading { object: None, found } };
    if reference.kind.is_namespaced() {
        object.metadata_mut().namespace = Some(reference.name.namespace.to_string());
    }
    let mut check = Check::default();
    check.metadata(reference.kind, object.metadata());
    validate(&mut check, &mut object);
    breaches(node, check, &mut found);
    Reading { object: Some(wrap(Arc::new(object))), found }
}

/// Adds the breaches of rules, but for those that only follow from a type error already found.
fn breaches(node: &Node, check: Check, found: &mut Vec<Found>) {
    let errors: Vec<_> =
        found.iter().filter(|found| found.severity == Severity::Error).map(|found| found.field.clone()).collect();
    for (field, message) in check.breaches {
        let steps = field.steps();
        if errors.iter().any(|error| error.steps().starts_with(steps) || steps.starts_with(error.steps())) {
            continue;
        }
        found.push(Found { mark: node.place(steps), severity: Severity::Error, field, message });
    }
}
