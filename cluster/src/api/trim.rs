//! Takes from objects what nobody here reads, before they are kept.
//!
//! Half of a typical object says who wrote which field; and what only counts the time (a node's heartbeat) is no change.

use config::manifest::Object;
use k8s_openapi::api::core::v1::{Node, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::sync::Arc;

use super::kinds::{Applied, Keys};

/// Annotations that are long, or change without meaning anything to us.
const ANNOTATIONS: [&str; 2] =
    ["endpoints.kubernetes.io/last-change-trigger-time", "control-plane.alpha.kubernetes.io/leader"];

/// What kubectl applied last.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The keys of a Secret that have a meaning: a certificate and its key, whom to trust and whom no more, users.
const SECRET_KEYS: [&str; 5] = ["tls.crt", "tls.key", "ca.crt", "ca.crl", "auth"];

/// Trims the metadata of any object.
pub(super) fn metadata(metadata: &mut ObjectMeta, applied: Applied) {
    metadata.managed_fields = None;
    metadata.owner_references = None;
    metadata.self_link = None;
    metadata.generate_name = None;
    if let Some(annotations) = &mut metadata.annotations {
        let goes = |name: &str| ANNOTATIONS.contains(&name) || (name == LAST_APPLIED && applied == Applied::Dropped);
        annotations.retain(|name, _| !goes(name));
        if annotations.is_empty() {
            metadata.annotations = None;
        }
    }
}

/// Trims what is particular to a kind.
pub(super) fn object(object: &mut Object, keys: Keys) {
    match object {
        Object::Node(node) => self::node(Arc::make_mut(node)),
        Object::Secret(secret) if keys == Keys::Known => self::secret(Arc::make_mut(secret)),
        Object::ConfigMap(_)
        | Object::EndpointSlice(_)
        | Object::Ingress(_)
        | Object::IngressClass(_)
        | Object::ClusterIssuer(_)
        | Object::Issuer(_)
        | Object::Namespace(_)
        | Object::Secret(_)
        | Object::Service(_) => {}
    }
}

fn node(node: &mut Node) {
    let Some(status) = &mut node.status else { return };
    status.images = None;
    status.volumes_attached = None;
    status.volumes_in_use = None;
    for condition in status.conditions.iter_mut().flatten() {
        condition.last_heartbeat_time = None;
    }
}

fn secret(secret: &mut Secret) {
    if let Some(data) = &mut secret.data {
        data.retain(|key, _| SECRET_KEYS.contains(&key.as_str()));
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::discovery::v1::EndpointSlice;
    use serde_json::json;

    use super::*;

    #[test]
    fn what_tells_near_endpoints_from_far_ones_stays() {
        let node = json!({
            "metadata": { "name": "n1", "labels": { "topology.kubernetes.io/zone": "a" } },
            "status": { "images": [{ "names": ["big"] }] },
        });
        let slice = json!({
            "addressType": "IPv4", "ports": [],
            "endpoints": [{ "addresses": ["192.0.2.1"], "hints": { "forZones": [{ "name": "a" }], "forNodes": [{ "name": "n1" }] } }],
        });
        let mut node: Node = serde_json::from_value(node).unwrap();
        let slice: Arc<EndpointSlice> = Arc::new(serde_json::from_value(slice).unwrap());
        metadata(&mut node.metadata, Applied::Dropped);
        let (mut trimmed, mut same) = (Object::Node(Arc::new(node)), Object::EndpointSlice(Arc::clone(&slice)));
        object(&mut trimmed, Keys::Known);
        object(&mut same, Keys::Known);
        let Object::Node(node) = trimmed else { panic!("a Node stays a Node") };
        assert_eq!(node.metadata.labels.as_ref().unwrap()["topology.kubernetes.io/zone"], "a");
        assert_eq!(node.status.as_ref().unwrap().images, None);
        assert!(matches!(same, Object::EndpointSlice(kept) if kept == slice));
    }

    #[test]
    fn what_only_counts_the_time_goes_and_what_is_read_stays() {
        let mut meta = ObjectMeta {
            annotations: Some(
                [("kubectl.kubernetes.io/last-applied-configuration", "{}"), ("metallb.io/address-pool", "lan")]
                    .map(|(key, value)| (key.to_owned(), value.to_owned()))
                    .into(),
            ),
            managed_fields: Some(Vec::new()),
            resource_version: Some("7".into()),
            ..ObjectMeta::default()
        };
        let mut kept = meta.clone();
        metadata(&mut kept, Applied::Kept);
        assert_eq!(kept.annotations.as_ref().map(std::collections::BTreeMap::len), Some(2), "for who is to merge");
        metadata(&mut meta, Applied::Dropped);
        assert_eq!(meta.managed_fields, None);
        assert_eq!(meta.annotations.unwrap().into_keys().collect::<Vec<_>>(), ["metallb.io/address-pool"]);
        assert_eq!(meta.resource_version.as_deref(), Some("7"));
    }
}
