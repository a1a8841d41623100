//! Which object a node is: `apiVersion`, `kind`, `metadata.namespace` and `metadata.name`, read before anything
//! else, so that even a badly broken object can be named.

use super::kind_named;
use crate::names;
use crate::object::{FieldPath, Kind, ObjectName, ObjectRef};
use crate::settings::DEFAULT_NAMESPACE;
use crate::suggest;
use crate::yaml::{Mark, Node, Value, describe};

/// What a node is.
pub(super) enum Identity<'a> {
    /// An object of a kind we read.
    Ours(ObjectRef),
    /// A list of objects; `None` if it has no items.
    List(Option<&'a [Node]>),
    /// An object of another kind, by kind, namespace and name.
    Foreign(String),
}

/// Why an object is not read at all.
pub(super) struct Refusal {
    /// The object, if it could be named.
    pub(super) object: Option<ObjectRef>,
    pub(super) mark: Mark,
    pub(super) field: FieldPath,
    pub(super) message: String,
}

pub(super) fn identify(node: &Node) -> Result<Identity<'_>, Refusal> {
    let Value::Mapping(_) = node.value else {
        return Err(refuse(node, [], format!("expected a Kubernetes object, found {}", describe(node))));
    };
    let kind = required(node, ["kind"], "write what it is, such as `kind: Service`")?;
    let version = required(node, ["apiVersion"], "write the version of its kind, such as `apiVersion: v1`")?;
    if let Some(items) = list(node, kind)? {
        return Ok(items);
    }
    let known = kind_named(kind).filter(|known| known.api_version() == version || !is_foreign(version));
    let Some(kind) = known else { return Ok(Identity::Foreign(foreign(node, kind))) };
    let name = name(node, kind)?;
    let reference = ObjectRef::new(kind, name);
    if version != kind.api_version() {
        let message = format!("{kind} is read as {}, not as {version:?}; {}", kind.api_version(), advice(kind));
        return Err(Refusal { object: Some(reference), ..refuse(node, ["apiVersion"], message) });
    }
    Ok(Identity::Ours(reference))
}

/// The items of a `List` or `ServiceList`; any other kind of that name is told apart by having `items`.
fn list<'a>(node: &'a Node, kind: &str) -> Result<Option<Identity<'a>>, Refusal> {
    let Some(of) = kind.strip_suffix("List") else { return Ok(None) };
    let items = node.get("items");
    if !of.is_empty() && kind_named(of).is_none() && items.is_none() {
        return Ok(None);
    }
    match items {
        None => Ok(Some(Identity::List(None))),
        Some(items) => match &items.value {
            Value::Sequence(items) => Ok(Some(Identity::List(Some(items)))),
            _ if items.is_null() => Ok(Some(Identity::List(None))),
            _ => Err(refuse(node, ["items"], format!("expected a list of objects, found {}", describe(items)))),
        },
    }
}

/// Whether a version belongs to somebody else's group. Kubernetes' own groups have no dot or end in `.k8s.io`, so
/// that a `Service` of Knative is not ours while an `Ingress` of `extensions/v1beta1` is an old one of ours.
fn is_foreign(version: &str) -> bool {
    match version.split_once('/') {
        Some((group, _)) => group.contains('.') && !group.ends_with(".k8s.io"),
        None => false,
    }
}

fn foreign(node: &Node, kind: &str) -> String {
    let text = |key| node.get("metadata").and_then(|metadata| metadata.get(key)).and_then(Node::text);
    let name = text("name").or_else(|| text("generateName")).unwrap_or("(unnamed)");
    format!("{kind} {}", ObjectName::new(text("namespace").unwrap_or(DEFAULT_NAMESPACE), name))
}

fn name(node: &Node, kind: Kind) -> Result<ObjectName, Refusal> {
    let name = required(node, ["metadata", "name"], "every object in a file needs a name")?;
    let namespace = match node.get("metadata").and_then(|metadata| metadata.get("namespace")) {
        Some(namespace) if !namespace.is_null() => Some(required(node, ["metadata", "namespace"], "")?),
        _ => None,
    };
    if !kind.is_namespaced() {
        return Ok(ObjectName::cluster(name));
    }
    Ok(ObjectName::new(namespace.unwrap_or(DEFAULT_NAMESPACE), name))
}

/// The text at `keys`; text of an unsuitable form is reported later, by validation.
fn required<'a, const N: usize>(node: &'a Node, keys: [&str; N], advice: &str) -> Result<&'a str, Refusal> {
    let mut found = node;
    for (depth, key) in keys.iter().enumerate() {
        if let Some(next) = found.get(key) {
            found = next;
            continue;
        }
        let known = keys[depth..].iter().copied();
        let near =
            found.entries().iter().take(32).find(|entry| suggest::nearest(&entry.key.text, known.clone()).is_some());
        let message = match near {
            Some(entry) => format!("{key} is missing; is {:?} a misspelling of it?", entry.key.text),
            None => format!("{key} is missing; {advice}"),
        };
        return Err(refuse(node, keys, message));
    }
    match (found.text(), &found.value) {
        (Some(text), _) => Ok(text),
        (None, Value::Scalar(scalar)) if !scalar.text.is_empty() && !found.is_null() => {
            Err(refuse(node, keys, format!("expected text, found {}; quote it", describe(found))))
        }
        _ => Err(refuse(node, keys, format!("expected text, found {}", describe(found)))),
    }
}

fn refuse<const N: usize>(node: &Node, keys: [&str; N], message: String) -> Refusal {
    let field = FieldPath::of(keys);
    Refusal { object: None, mark: node.place(field.steps()), field, message }
}

fn advice(kind: Kind) -> String {
    let write = format!("write apiVersion: {}", kind.api_version());
    match kind {
        Kind::Ingress => {
            format!("{write}, give each path a pathType and each backend the form service: {{name, port: {{number}}}}")
        }
        Kind::EndpointSlice => format!("{write}; `topology` became nodeName and zone"),
        _ => write,
    }
}

/// Whether a text may stand as the name of an object of this kind.
pub(super) fn check_name(kind: Kind, name: &str) -> Result<(), String> {
    match kind {
        // Their names become labels of DNS names.
        Kind::Namespace | Kind::Service => names::label(name),
        _ => names::subdomain(name),
    }
}
