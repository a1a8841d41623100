//! Where validators put what they find.

use super::MAX_PROBLEMS;
use crate::names;
use crate::object::{FieldPath, Kind};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// Kubernetes' limit for all annotations of an object together.
const MAX_ANNOTATIONS: usize = 256 * 1024;

/// The breaches of one object, each with its field; enough of them for one reading.
#[derive(Debug, Default)]
pub(super) struct Check {
    pub(super) breaches: Vec<(FieldPath, String)>,
}

impl Check {
    pub(super) fn error(&mut self, field: FieldPath, message: impl Into<String>) {
        if self.breaches.len() <= MAX_PROBLEMS {
            self.breaches.push((field, message.into()));
        }
    }

    /// Notes the refusal of a form, if it was refused.
    pub(super) fn form(&mut self, field: FieldPath, form: Result<(), String>) {
        if let Err(message) = form {
            self.error(field, message);
        }
    }

    /// Notes a text that is none of the words allowed there.
    pub(super) fn one_of(&mut self, field: FieldPath, found: Option<&str>, allowed: &[&str]) {
        if let Some(found) = found.filter(|found| !allowed.contains(found)) {
            self.error(field, format!("{found:?} is not one of {}", allowed.join(", ")));
        }
    }

    /// Notes a number that is no port.
    pub(super) fn port_number(&mut self, field: FieldPath, port: i32) {
        if !(1..=65_535).contains(&port) {
            self.error(field, format!("a port is a number from 1 to 65535, not {port}"));
        }
    }

    /// The rules that all objects share.
    pub(super) fn metadata(&mut self, kind: Kind, meta: &ObjectMeta) {
        let at = FieldPath::of(["metadata"]);
        self.form(at.key("name"), super::identify::check_name(kind, meta.name.as_deref().unwrap_or_default()));
        match meta.namespace.as_deref() {
            Some(namespace) if kind.is_namespaced() => self.form(at.key("namespace"), names::label(namespace)),
            Some(_) => self.error(at.key("namespace"), format!("{kind} lives in no namespace; remove the line")),
            None => {}
        }
        for (key, value) in meta.labels.iter().flatten() {
            let at = at.key("labels").key(key);
            self.form(at.clone(), names::qualified(key).and_then(|()| names::label_value(value)));
        }
        let annotations = || meta.annotations.iter().flatten();
        for (key, _) in annotations() {
            self.form(at.key("annotations").key(key), names::qualified(&key.to_ascii_lowercase()));
        }
        if annotations().map(|(key, value)| key.len() + value.len()).sum::<usize>() > MAX_ANNOTATIONS {
            self.error(at.key("annotations"), "all annotations together are longer than 256 KiB");
        }
    }
}
