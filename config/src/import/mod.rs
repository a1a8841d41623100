//! What becomes of the objects of those we succeed: `ferrogate import`.
//!
//! ```text
//! manifests ─> objects of MetalLB, cert-manager ─> our words ─> read by the very models that serve ─> Verdict each
//! ```
//!
//! Whatever is translated is read again as if an operator had written it, so what is reported here is what would be
//! reported there. Ingresses are judged by the compiled routes, in the program.
//!
//! Pure.

mod cert_manager;
mod metallb;

use std::sync::Arc;

use serde::Serialize;
use serde_json::Value as Json;

use crate::yaml::{self, Node, Resolved, Value};

pub use cert_manager::cert_manager;
pub use metallb::metallb;

/// What becomes of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fate {
    /// It works as it is, or as it is translated.
    Works,
    /// It works, and not quite as before.
    Differs,
    /// Something of it does not work.
    Unsupported,
}

impl Fate {
    /// For people.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Works => "works as it is",
            Self::Differs => "works differently",
            Self::Unsupported => "not supported",
        }
    }
}

/// What becomes of one object, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Kind, namespace and name.
    pub object: String,
    /// The worst of what is to be said.
    pub fate: Fate,
    /// What differs and how, what does not work and what to do instead.
    pub notes: Vec<String>,
}

impl Verdict {
    /// An object that works.
    #[must_use]
    pub fn new(object: String) -> Self {
        Self { object, fate: Fate::Works, notes: Vec::new() }
    }

    /// Adds what is to be said.
    pub fn note(&mut self, fate: Fate, note: impl Into<String>) {
        self.fate = self.fate.max(fate);
        self.notes.push(note.into());
    }
}

/// What becomes of all objects.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Import {
    /// Each object.
    pub objects: Vec<Verdict>,
    /// What to apply in their place, as YAML; `None` if nothing has to be translated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub apply: Option<String>,
}

/// A text and where it is from.
pub type Texts = [(Arc<str>, Arc<str>)];

/// One object of any kind.
struct Foreign {
    group: String,
    kind: String,
    namespace: Option<String>,
    name: String,
    node: Node,
}

impl Foreign {
    fn verdict(&self) -> Verdict {
        let name = self.namespace.as_ref().map_or_else(|| self.name.clone(), |space| format!("{space}/{}", self.name));
        Verdict::new(format!("{} {name}", self.kind))
    }

    fn spec(&self, path: &[&str]) -> Option<&Node> {
        let spec = self.node.get("spec")?;
        path.iter().try_fold(spec, |node, key| node.get(key)).filter(|node| !node.is_null())
    }
}

/// Every object of the texts, lists taken apart; what is no YAML is left to `ferrogate check`.
fn objects(texts: &Texts) -> Vec<Foreign> {
    let documents = texts.iter().flat_map(|(_, text)| yaml::documents(text));
    let mut pending: Vec<Node> = documents.filter_map(Result::ok).map(|document| document.root).collect();
    pending.reverse();
    let mut found = Vec::new();
    while let Some(node) = pending.pop() {
        if let Some(Value::Sequence(items)) = node.get("items").map(|items| &items.value) {
            pending.extend(items.iter().rev().cloned());
            continue;
        }
        let text = |path: &[&str]| path.iter().try_fold(&node, |node, key| node.get(key)).and_then(Node::text);
        let group = text(&["apiVersion"]).map(|version| version.split_once('/').map_or("", |(group, _)| group));
        let (Some(group), Some(kind), Some(name)) = (group, text(&["kind"]), text(&["metadata", "name"])) else {
            continue;
        };
        found.push(Foreign {
            group: group.to_owned(),
            kind: kind.to_owned(),
            namespace: text(&["metadata", "namespace"]).map(str::to_owned),
            name: name.to_owned(),
            node: node.clone(),
        });
    }
    found
}

/// The texts of a list.
fn texts_of(node: Option<&Node>) -> Vec<String> {
    match node.map(|node| &node.value) {
        Some(Value::Sequence(items)) => items.iter().filter_map(|item| item.text().map(str::to_owned)).collect(),
        _ => Vec::new(),
    }
}

/// A value, its keys in the spelling that `rename` gives them.
fn json(node: &Node, rename: fn(&str) -> String) -> Json {
    match &node.value {
        Value::Scalar(scalar) => match scalar.resolve() {
            Resolved::Null => Json::Null,
            Resolved::Bool(value) => Json::Bool(value),
            Resolved::Int(value) => {
                i64::try_from(value).map_or_else(|_| Json::String(scalar.text.to_string()), Json::from)
            }
            Resolved::Float(_) | Resolved::Text => Json::String(scalar.text.to_string()),
        },
        Value::Sequence(items) => items.iter().map(|item| json(item, rename)).collect(),
        Value::Mapping(entries) => {
            let value = |key: &str, value: &Node| {
                // Labels are data, not words of ours.
                if key == "matchLabels" { json(value, str::to_owned) } else { json(value, rename) }
            };
            let pair = |entry: &yaml::Entry| (rename(&entry.key.text), value(&entry.key.text, &entry.value));
            entries.iter().map(pair).collect()
        }
    }
}

/// The entry of a list, a line for each key; JSON is YAML.
fn entry(fields: &[(&str, Json)]) -> String {
    let lines = fields.iter().enumerate();
    let line =
        |(at, (key, value)): (usize, &(&str, Json))| format!("{}{key}: {value}\n", if at == 0 { "- " } else { "  " });
    lines.map(line).collect::<Vec<_>>().concat()
}

/// Our `ConfigMap` with this text under this key.
fn config_map(key: &str, text: &str) -> String {
    let (namespace, name) = crate::settings::DEFAULT_CONFIG_MAP;
    let lines: Vec<_> = text.lines().map(|line| format!("    {line}\n")).collect();
    let body = lines.concat();
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {name}\n  namespace: {namespace}\ndata:\n  {key}: |\n{body}"
    )
}

#[cfg(test)]
mod tests;
