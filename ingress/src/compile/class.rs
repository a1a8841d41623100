//! Which Ingresses are ours.
//!
//! `spec.ingressClassName` decides if it is there: it names an `IngressClass` whose controller is ours or somebody
//! else's. Else the older annotation decides, else the default class. What is foreign is passed over in silence.

use std::cmp::Reverse;
use std::sync::Arc;

use config::object::{Kind, ObjectName, ObjectRef};
use config::snapshot::Objects;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};

use super::CompileOptions;
use super::finding::{Finding, Part};

pub(super) const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";
const DEFAULT_ANNOTATION: &str = "ingressclass.kubernetes.io/is-default-class";

/// The classes of one snapshot.
pub(super) struct Classes<'a> {
    all: &'a Objects<IngressClass>,
    options: &'a CompileOptions,
    adopts_classless: bool,
}

impl<'a> Classes<'a> {
    pub(super) fn new(all: &'a Objects<IngressClass>, options: &'a CompileOptions) -> Self {
        let is_ours = |class: &Arc<IngressClass>| controller(class) == Some(&options.controller);
        let adopts_classless = options.watch_without_class || default_class(all).is_some_and(is_ours);
        Self { all, options, adopts_classless }
    }

    /// Whether an Ingress is ours; an error if nobody will ever serve it.
    pub(super) fn owns(&self, name: &ObjectName, ingress: &Ingress) -> Result<bool, Finding> {
        let named = ingress.spec.as_ref().and_then(|spec| spec.ingress_class_name.as_deref());
        if let Some(named) = named {
            let class = self.all.get(&ObjectName::cluster(named)).ok_or_else(|| missing(name, named))?;
            return Ok(controller(class) == Some(&self.options.controller));
        }
        let annotations = ingress.metadata.annotations.as_ref();
        match annotations.and_then(|annotations| annotations.get(CLASS_ANNOTATION)) {
            Some(class) => Ok(*class == self.options.ingress_class),
            None => Ok(self.adopts_classless),
        }
    }
}

fn controller(class: &IngressClass) -> Option<&String> {
    class.spec.as_ref()?.controller.as_ref()
}

/// The class of Ingresses that name none: of several defaults the newest, as the API server admits them.
fn default_class(classes: &Objects<IngressClass>) -> Option<&Arc<IngressClass>> {
    let is_default = |class: &&Arc<IngressClass>| {
        let annotations = class.metadata.annotations.as_ref();
        annotations.and_then(|annotations| annotations.get(DEFAULT_ANNOTATION)).is_some_and(|value| value == "true")
    };
    let age = |class: &&Arc<IngressClass>| {
        (class.metadata.creation_timestamp.as_ref().map(|time| time.0), Reverse(class.metadata.name.clone()))
    };
    classes.values().filter(is_default).max_by_key(age)
}

fn missing(ingress: &ObjectName, class: &str) -> Finding {
    let field = [Part::Key("spec"), Part::Key("ingressClassName")];
    let message =
        format!("IngressClass {class} does not exist, so nobody serves this Ingress; create it or name another");
    Finding::warning(ObjectRef::new(Kind::Ingress, ingress.clone()), &field, "ClassNotFound", message)
}
