//! Kubernetes manifests: YAML or JSON text to typed, valid objects.
//!
//! ```text
//! text ─> yaml documents ─> one node per object ─> de: typed object ─> validate_*: as the API server would
//!                           (Lists flattened)      (all type errors)   (all rule breaches)
//! ```
//!
//! Everything wrong with an object is reported at once, each problem with its field and place. An object with an
//! error is left out and named in [`Parsed::broken`], so that its last good version can stay; the others of the same
//! file are not touched by it.

mod check;
mod de;
mod identify;
mod read;
mod validate_backend;
mod validate_core;
mod validate_ingress;
mod validate_slice;

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Node, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};

use crate::diagnostic::{Place, Problem, Severity};
use crate::issuer::objects::{ClusterIssuerObject, IssuerObject};
use crate::object::{FieldPath, Kind, ObjectRef, Step};
use crate::snapshot::Origin;
use crate::yaml::{self, DocumentOrigin, Fault, Mark};
use identify::{Identity, identify};
use read::read;

/// How many problems of one object are worth reading.
const MAX_PROBLEMS: usize = 64;

/// A typed object of a kind we read.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "each is the Kubernetes kind of that name")]
pub enum Object {
    ClusterIssuer(Arc<ClusterIssuerObject>),
    ConfigMap(Arc<ConfigMap>),
    EndpointSlice(Arc<EndpointSlice>),
    Ingress(Arc<Ingress>),
    IngressClass(Arc<IngressClass>),
    Issuer(Arc<IssuerObject>),
    Namespace(Arc<Namespace>),
    Node(Arc<Node>),
    Secret(Arc<Secret>),
    Service(Arc<Service>),
}

/// One valid object and where it stands.
#[derive(Clone, Debug)]
pub struct Document {
    /// Its kind and name; its namespace is filled in if the manifest names none.
    pub reference: ObjectRef,
    /// The object itself.
    pub object: Object,
    /// Finds the places of its fields.
    pub origin: Arc<dyn Origin>,
}

/// What one file holds.
#[derive(Clone, Debug, Default)]
pub struct Parsed {
    /// Valid objects in written order, `List`s flattened.
    pub documents: Vec<Document>,
    /// Objects that could be named but are invalid.
    pub broken: Vec<ObjectRef>,
    /// Everything that is wrong, with places, in the order of the text.
    pub problems: Vec<Problem>,
    /// Objects of kinds we do not use, such as `Deployment default/web`.
    pub ignored: Vec<String>,
    /// Whether some part of the text could not be read far enough to name every object in it.
    pub unreadable: bool,
}

/// Reads one file of manifests: YAML with any number of documents, or JSON.
///
/// Total: any text gives a result, in time proportional to its length.
#[must_use]
pub fn parse(file: &Arc<str>, text: &Arc<str>) -> Parsed {
    let mut reader = Reader { file, text, parsed: Parsed::default(), seen: HashMap::new() };
    for document in yaml::documents(text) {
        match document {
            Ok(document) => reader.document(&document),
            Err(fault) => reader.unreadable(fault),
        }
    }
    reader.parsed
}

struct Reader<'a> {
    file: &'a Arc<str>,
    text: &'a Arc<str>,
    parsed: Parsed,
    /// The place of each object of this file.
    seen: HashMap<ObjectRef, Place>,
}

/// One object's node, and how to reach it from the top of its document.
struct Item<'a> {
    document: &'a yaml::Document,
    node: &'a yaml::Node,
    inside: FieldPath,
}

impl Reader<'_> {
    fn document(&mut self, document: &yaml::Document) {
        if document.root.is_null() {
            return;
        }
        // A list may hold lists; the stack keeps written order.
        let mut pending = vec![Item { document, node: &document.root, inside: FieldPath::root() }];
        while let Some(item) = pending.pop() {
            match identify(item.node) {
                Ok(Identity::List(Some(items))) => {
                    let inside = item.inside.key("items");
                    let items = items.iter().enumerate().filter(|(_, node)| !node.is_null());
                    pending.extend(items.rev().map(|(index, node)| Item {
                        document,
                        node,
                        inside: inside.index(index),
                    }));
                }
                Ok(Identity::List(None)) => {}
                Ok(Identity::Foreign(name)) => self.parsed.ignored.push(name),
                Ok(Identity::Ours(reference)) => self.object(&item, reference),
                Err(refusal) => {
                    let place = self.place(refusal.mark);
                    self.parsed.unreadable |= refusal.object.is_none();
                    self.parsed.broken.extend(refusal.object.clone());
                    let object = refusal.object;
                    let (field, message, severity) = (refusal.field, refusal.message, Severity::Error);
                    self.parsed.problems.push(Problem { severity, object, field, message, place: Some(place) });
                }
            }
        }
        self.stray_faults(document);
    }

    fn object(&mut self, item: &Item<'_>, reference: ObjectRef) {
        let place = self.place(item.node.mark);
        if let Some(first) = self.seen.get(&reference) {
            let message = format!("this object is already written at {first}; keep one of the two");
            self.parsed.problems.push(Problem::error(reference, FieldPath::root(), message).at(Some(place)));
            return;
        }
        self.seen.insert(reference.clone(), place);
        let reading = read(&reference, item.node);
        let faults = faults_in(item).map(|(field, fault)| (fault.mark, Severity::Error, field, fault.message.clone()));
        let read = reading.found.into_iter().map(|found| (found.mark, found.severity, found.field, found.message));
        let mut problems: Vec<_> = faults.chain(read).collect();
        problems.sort_by_key(|(mark, ..)| *mark);
        let valid = problems.iter().all(|(_, severity, ..)| *severity == Severity::Warning);
        self.report(&reference, problems);
        match reading.object {
            Some(object) if valid => {
                let origin = DocumentOrigin::new(self.file, self.text, item.document.position, item.inside.clone());
                self.parsed.documents.push(Document { reference, object, origin: Arc::new(origin) });
            }
            _ => self.parsed.broken.push(reference),
        }
    }

    fn report(&mut self, reference: &ObjectRef, problems: Vec<(Mark, Severity, FieldPath, String)>) {
        let more = problems.len().saturating_sub(MAX_PROBLEMS);
        for (mark, severity, field, message) in problems.into_iter().take(MAX_PROBLEMS) {
            let (object, place) = (Some(reference.clone()), Some(self.place(mark)));
            self.parsed.problems.push(Problem { severity, object, field, message, place });
        }
        if more > 0 {
            let message = format!("{more} more problems of this object are not shown");
            let place = self.seen.get(reference).cloned();
            self.parsed.problems.push(Problem::error(reference.clone(), FieldPath::root(), message).at(place));
        }
    }

    /// Reports what is wrong with a document outside of any object we read.
    fn stray_faults(&mut self, document: &yaml::Document) {
        for fault in &document.faults {
            let place = self.place(fault.mark);
            if !self.parsed.problems.iter().rev().any(|problem| problem.place.as_ref() == Some(&place)) {
                self.parsed.problems.push(Problem::in_file(place, &fault.message));
            }
        }
    }

    fn unreadable(&mut self, fault: Fault) {
        self.parsed.unreadable = true;
        let place = self.place(fault.mark);
        self.parsed.problems.push(Problem { field: fault.path, ..Problem::in_file(place, fault.message) });
    }

    fn place(&self, mark: Mark) -> Place {
        Place { file: Arc::clone(self.file), line: mark.line, column: mark.column }
    }
}

/// The faults of a document that lie inside one of its objects, with their field in it.
fn faults_in<'a>(item: &'a Item<'_>) -> impl Iterator<Item = (FieldPath, &'a Fault)> {
    let inside = item.inside.steps();
    item.document.faults.iter().filter_map(move |fault| {
        let rest: &[Step] = fault.path.steps().strip_prefix(inside)?;
        Some((rest.iter().cloned().fold(FieldPath::root(), |path, step| path.with(step)), fault))
    })
}

/// Every kind we read, by the name of its `kind:`.
fn kind_named(name: &str) -> Option<Kind> {
    Kind::ALL.into_iter().find(|kind| kind.as_str() == name)
}

#[cfg(test)]
mod tests;
