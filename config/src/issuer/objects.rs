//! cert-manager's `Issuer` and `ClusterIssuer`, as far as they are about ACME.
//!
//! Where our `ConfigMap` has an issuer of the same name, that one counts: it was written for us.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::{ClusterResourceScope, Metadata, NamespaceResourceScope, Resource};
use serde::ser::SerializeStruct as _;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

use super::{Issuer, Read, read};
use crate::diagnostic::Problem;
use crate::object::{FieldPath, Kind, ObjectName, ObjectRef};
use crate::snapshot::Snapshot;

/// The namespace of Secrets that a `ClusterIssuer` names, as cert-manager has it unless it is told another.
pub const CLUSTER_RESOURCE_NAMESPACE: &str = "cert-manager";

macro_rules! object {
    ($name:ident, $kind:literal, $plural:literal, $scope:ty, $doc:literal) => {
        #[doc = $doc]
        #[derive(Clone, Debug, Default, PartialEq, Deserialize)]
        pub struct $name {
            /// Standard object metadata.
            #[serde(default)]
            pub metadata: ObjectMeta,
            /// What it says; read only where it is about ACME.
            #[serde(default)]
            pub spec: Value,
        }

        impl Resource for $name {
            const API_VERSION: &'static str = "cert-manager.io/v1";
            const GROUP: &'static str = "cert-manager.io";
            const KIND: &'static str = $kind;
            const VERSION: &'static str = "v1";
            const URL_PATH_SEGMENT: &'static str = $plural;
            type Scope = $scope;
        }

        impl Metadata for $name {
            type Ty = ObjectMeta;

            fn metadata(&self) -> &ObjectMeta {
                &self.metadata
            }

            fn metadata_mut(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut object = serializer.serialize_struct(Self::KIND, 4)?;
                object.serialize_field("apiVersion", Self::API_VERSION)?;
                object.serialize_field("kind", Self::KIND)?;
                object.serialize_field("metadata", &self.metadata)?;
                object.serialize_field("spec", &self.spec)?;
                object.end()
            }
        }
    };
}

object!(IssuerObject, "Issuer", "issuers", NamespaceResourceScope, "An `Issuer`: for Ingresses of its namespace.");
object!(ClusterIssuerObject, "ClusterIssuer", "clusterissuers", ClusterResourceScope, "A `ClusterIssuer`: for all.");

/// Every issuer there is: of the `acme` section of our `ConfigMap`, and of objects whose names it does not take.
///
/// An `Issuer` stands under `namespace/name`.
#[must_use]
pub fn read_all(snapshot: &Snapshot, config_map: &ObjectName) -> Read {
    let reference = ObjectRef::new(Kind::ConfigMap, config_map.clone());
    let map: Option<&Arc<ConfigMap>> = snapshot.config_maps.get(config_map);
    let origin = snapshot.origins.get(&reference).map(AsRef::as_ref);
    let mut all = map.map(|map| read::parse_map(&reference, map, origin)).unwrap_or_default();
    let namespace = all.issuers.cluster_resource_namespace.clone();
    let namespace = namespace.as_deref().unwrap_or(CLUSTER_RESOURCE_NAMESPACE);
    let mut found = BTreeMap::new();
    for (name, object) in snapshot.cluster_issuers.iter() {
        let reference = ObjectRef::new(Kind::ClusterIssuer, name.clone());
        if let Some(issuer) = of_object(&reference, &object.spec, namespace, &mut all.problems) {
            found.insert(name.name.to_string(), issuer);
        }
    }
    for (name, object) in snapshot.issuers.iter() {
        let reference = ObjectRef::new(Kind::Issuer, name.clone());
        if let Some(issuer) = of_object(&reference, &object.spec, &name.namespace, &mut all.problems) {
            found.insert(name.to_string(), issuer);
        }
    }
    for (name, issuer) in found {
        all.issuers.by_name.entry(name).or_insert(issuer);
    }
    all
}

/// Reads an object; `None` if it is not about ACME, or wrong.
fn of_object(object: &ObjectRef, spec: &Value, secrets: &str, problems: &mut Vec<Problem>) -> Option<Issuer> {
    let acme = spec.get("acme")?;
    let text = plain_bundle(acme).to_string();
    let source = read::Source { namespace: secrets, may_cross: false, may_run: false };
    let (issuer, found) = read::parse_text(&object.name.name, &text, &source);
    problems.extend(found.into_iter().map(|finding| {
        let field = finding.field.steps().iter();
        let field = field.fold(FieldPath::of(["spec", "acme"]), |path, step| path.with(step.clone()));
        let (severity, message) = (finding.severity, finding.message);
        Problem { severity, object: Some(object.clone()), field, message, place: None }
    }));
    issuer
}

/// What such an object says in our words: there, certificates to trust are in base64 once more, and what is about an
/// account key of cert-manager's is not for us.
fn plain_bundle(acme: &Value) -> Cow<'_, Value> {
    let mut acme = acme.clone();
    if let Some(fields) = acme.as_object_mut() {
        for foreign in ["privateKeySecretRef", "disableAccountKeyGeneration", "enableDurationFeature"] {
            fields.remove(foreign);
        }
        if let Some(text) = fields.get("caBundle").and_then(Value::as_str) {
            let plain = STANDARD.decode(text.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
            fields.insert("caBundle".to_owned(), Value::String(plain.unwrap_or_else(|| text.to_owned())));
        }
        for solver in fields.get_mut("solvers").and_then(Value::as_array_mut).into_iter().flatten() {
            // Which Ingress or Pod answers is not a question here.
            if let Some(http01) = solver.get_mut("http01") {
                *http01 = Value::Object(serde_json::Map::new());
            }
        }
    }
    Cow::Owned(acme)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn snapshot(section: &str, issuers: &[(&str, Value)], cluster: &[(&str, Value)]) -> Snapshot {
        let map: ConfigMap = serde_json::from_value(json!({ "data": { "acme": section } })).unwrap();
        let config_maps = Arc::new([(ObjectName::new("system", "config"), Arc::new(map))].into());
        let mut snapshot = Snapshot { config_maps, ..Snapshot::default() };
        let object = |spec: &Value| json!({ "metadata": {}, "spec": spec });
        let issuers = issuers.iter().map(|(name, spec)| {
            (ObjectName::new("shop", *name), Arc::new(serde_json::from_value(object(spec)).unwrap()))
        });
        let cluster = cluster
            .iter()
            .map(|(name, spec)| (ObjectName::cluster(*name), Arc::new(serde_json::from_value(object(spec)).unwrap())));
        (snapshot.issuers, snapshot.cluster_issuers) = (Arc::new(issuers.collect()), Arc::new(cluster.collect()));
        snapshot
    }

    fn acme(server: &str) -> Value {
        json!({ "acme": {
            "server": server, "email": "ops@example.com", "privateKeySecretRef": { "name": "key" },
            "caBundle": STANDARD.encode("-----BEGIN CERTIFICATE-----\n"),
            "solvers": [
                { "http01": { "ingress": { "ingressClassName": "nginx" } } },
                { "dns01": { "cloudflare": { "apiTokenSecretRef": { "name": "cf", "key": "token" } } },
                  "selector": { "dnsZones": ["example.com"] } },
            ],
        } })
    }

    #[test]
    fn objects_are_read_and_our_own_section_goes_before_them() {
        let section = "issuers: {le: {server: 'https://ours/'}}";
        let cluster = [("le", acme("https://theirs/")), ("other", acme("https://other/"))];
        let issuers = [("own", acme("https://own/")), ("ca", json!({ "ca": { "secretName": "root" } }))];
        let read = read_all(&snapshot(section, &issuers, &cluster), &ObjectName::new("system", "config"));
        assert_eq!(read.problems, []);
        let servers: Vec<_> = read.issuers.by_name.iter().map(|(name, it)| (name.as_str(), &*it.server)).collect();
        assert_eq!(servers, [("le", "https://ours/"), ("other", "https://other/"), ("shop/own", "https://own/")]);
        let secrets = |name: &str| read.issuers.by_name[name].secrets()[0].secret.to_string();
        assert_eq!((secrets("other"), secrets("shop/own")), ("cert-manager/cf".into(), "shop/cf".into()));
        assert_eq!(read.issuers.default.as_deref(), Some("le"), "the only one of our section");
    }

    #[test]
    fn an_object_borrows_neither_secrets_of_others_nor_our_shell() {
        let foreign = json!({ "acme": { "server": "https://x/", "externalAccountBinding": {
            "keyID": "a", "keySecretRef": { "name": "eab", "key": "k", "namespace": "kube-system" } } } });
        let shell =
            json!({ "acme": { "server": "https://x/", "solvers": [{ "dns01": { "exec": { "command": ["/x"] } } }] } });
        let read =
            read_all(&snapshot("{}", &[("a", foreign), ("b", shell)], &[]), &ObjectName::new("system", "config"));
        assert!(read.issuers.by_name.is_empty());
        let fields: Vec<_> = read.problems.iter().map(|it| it.field.to_string()).collect();
        assert_eq!(
            fields,
            ["spec.acme.externalAccountBinding.keySecretRef.namespace", "spec.acme.solvers[0].dns01.exec"]
        );
    }
}
