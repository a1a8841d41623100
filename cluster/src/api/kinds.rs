//! What to watch: each kind's place in the API, and how its text becomes an object.

use std::sync::Arc;

use config::issuer::objects::{ClusterIssuerObject, IssuerObject};
use config::manifest::Object;
use config::object::{Kind, ObjectName, ObjectRef};
use k8s_openapi::Metadata;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Node, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::trim;

/// The type of Secrets that are read as a collection.
pub(super) const TLS: &str = "kubernetes.io/tls";

/// Which keys of a Secret are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Keys {
    /// Those that have a meaning to us.
    #[default]
    Known,
    /// All: they are names of users.
    All,
}

/// What becomes of the long annotation in which kubectl keeps what was applied last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Applied {
    /// Nobody reads it.
    #[default]
    Dropped,
    /// It says what another apply would take away.
    Kept,
}

/// One collection that is watched.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Source {
    pub(super) kind: Kind,
    /// One namespace only.
    pub(super) namespace: Option<Arc<str>>,
    /// Which fields objects must have.
    pub(super) fields: Option<String>,
    /// The one object that it is about.
    pub(super) name: Option<Arc<str>>,
    /// What is kept of Secrets.
    pub(super) keys: Keys,
    /// Whether it is kept what was applied last.
    pub(super) applied: Applied,
}

impl Source {
    /// All objects of a kind.
    pub(super) const fn all(kind: Kind) -> Self {
        Self { kind, namespace: None, fields: None, name: None, keys: Keys::Known, applied: Applied::Dropped }
    }

    /// One `ConfigMap`.
    pub(super) fn config_map(name: &ObjectName) -> Self {
        Self {
            namespace: Some(Arc::clone(&name.namespace)),
            fields: Some(format!("metadata.name={}", name.name)),
            name: Some(Arc::clone(&name.name)),
            ..Self::all(Kind::ConfigMap)
        }
    }

    /// One Secret, unless it is of the type that is read as a collection.
    pub(super) fn secret(name: &ObjectName, keys: Keys) -> Self {
        Self {
            namespace: Some(Arc::clone(&name.namespace)),
            fields: Some(format!("metadata.name={},type!={TLS}", name.name)),
            name: Some(Arc::clone(&name.name)),
            keys,
            ..Self::all(Kind::Secret)
        }
    }

    /// Whether the API server need not know the kind: it is somebody else's.
    pub(super) const fn is_optional(&self) -> bool {
        matches!(self.kind, Kind::ClusterIssuer | Kind::Issuer)
    }

    /// The path of the collection.
    pub(super) fn path(&self) -> String {
        collection(self.kind, self.namespace.as_deref())
    }

    /// Whether an object of this name would be in it, as far as names tell.
    pub(super) fn covers(&self, name: &ObjectName) -> bool {
        self.namespace.as_ref().is_none_or(|namespace| *namespace == name.namespace)
            && self.name.as_ref().is_none_or(|it| *it == name.name)
    }
}

/// The path of a kind's collection: of one namespace, or of all.
pub(super) fn collection(kind: Kind, namespace: Option<&str>) -> String {
    let root = match kind.api_version() {
        "v1" => "/api/v1".to_owned(),
        group => format!("/apis/{group}"),
    };
    let plural = match kind {
        Kind::ClusterIssuer => "clusterissuers",
        Kind::ConfigMap => "configmaps",
        Kind::EndpointSlice => "endpointslices",
        Kind::Ingress => "ingresses",
        Kind::IngressClass => "ingressclasses",
        Kind::Issuer => "issuers",
        Kind::Namespace => "namespaces",
        Kind::Node => "nodes",
        Kind::Secret => "secrets",
        Kind::Service => "services",
    };
    match namespace {
        Some(namespace) => format!("{root}/namespaces/{namespace}/{plural}"),
        None => format!("{root}/{plural}"),
    }
}

/// An object that is not what its kind says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Malformed {
    pub(super) reference: ObjectRef,
    pub(super) why: String,
}

/// Reads one object of a source, trimmed; `Err(None)` if not even its name can be read.
pub(super) fn decode(source: &Source, text: &str) -> Result<(ObjectName, Object), Option<Malformed>> {
    let kind = source.kind;
    let read = match kind {
        Kind::ClusterIssuer => typed::<ClusterIssuerObject>(text, source, Object::ClusterIssuer),
        Kind::ConfigMap => typed::<ConfigMap>(text, source, Object::ConfigMap),
        Kind::EndpointSlice => typed::<EndpointSlice>(text, source, Object::EndpointSlice),
        Kind::Ingress => typed::<Ingress>(text, source, Object::Ingress),
        Kind::IngressClass => typed::<IngressClass>(text, source, Object::IngressClass),
        Kind::Issuer => typed::<IssuerObject>(text, source, Object::Issuer),
        Kind::Namespace => typed::<Namespace>(text, source, Object::Namespace),
        Kind::Node => typed::<Node>(text, source, Object::Node),
        Kind::Secret => typed::<Secret>(text, source, Object::Secret),
        Kind::Service => typed::<Service>(text, source, Object::Service),
    };
    match read {
        Ok((name, mut object)) => {
            trim::object(&mut object, source.keys);
            Ok((name, object))
        }
        Err(error) => {
            let name = named(text).ok_or(None)?;
            Err(Some(Malformed { reference: ObjectRef::new(kind, name), why: error.to_string() }))
        }
    }
}

fn typed<T>(text: &str, source: &Source, wrap: fn(Arc<T>) -> Object) -> Result<(ObjectName, Object), serde_json::Error>
where
    T: DeserializeOwned + Metadata<Ty = ObjectMeta>,
{
    let mut object: T = serde_json::from_str(text)?;
    let meta = object.metadata_mut();
    trim::metadata(meta, source.applied);
    let name = ObjectName::new(meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default());
    Ok((name, wrap(Arc::new(object))))
}

#[derive(Deserialize)]
struct Bare {
    metadata: BareMetadata,
}

/// Metadata of which only the names must be right; also what a bookmark carries.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct BareMetadata {
    name: String,
    namespace: String,
    resource_version: String,
    annotations: Option<std::collections::BTreeMap<String, String>>,
}

fn named(text: &str) -> Option<ObjectName> {
    let Bare { metadata } = serde_json::from_str(text).ok()?;
    (!metadata.name.is_empty()).then(|| ObjectName::new(metadata.namespace, metadata.name))
}

/// What a line of a watch says about where we are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    /// The `resourceVersion` to resume from.
    pub(super) version: String,
    /// Whether everything that existed was told by now.
    pub(super) listed: bool,
}

/// Reads a bookmark, or the version of any object.
pub(super) fn mark(text: &str) -> Option<Mark> {
    let Bare { metadata } = serde_json::from_str(text).ok()?;
    let listed =
        metadata.annotations.is_some_and(|it| it.get("k8s.io/initial-events-end").is_some_and(|it| it == "true"));
    (!metadata.resource_version.is_empty()).then_some(Mark { version: metadata.resource_version, listed })
}
