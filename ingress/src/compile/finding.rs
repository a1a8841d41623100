//! What compiling finds wrong with an object: one value that becomes a problem and an event.

use std::fmt;

use config::annotation::AnnotationProblem;
use config::diagnostic::{Problem, Severity};
use config::object::{FieldPath, ObjectRef, Step};
use config::report::Event;

/// Something wrong with one field of one object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Finding {
    object: ObjectRef,
    field: FieldPath,
    severity: Severity,
    reason: &'static str,
    message: String,
}

impl Finding {
    /// What was asked for is not done; `reason` is the event's.
    pub(super) fn error(object: ObjectRef, field: &[Part], reason: &'static str, message: impl fmt::Display) -> Self {
        let field = field.iter().fold(FieldPath::root(), |path, part| path.with(Step::from(*part)));
        Self { object, field, severity: Severity::Error, reason, message: message.to_string() }
    }

    /// It is done, and probably not what was meant.
    pub(super) fn warning(object: ObjectRef, field: &[Part], reason: &'static str, message: impl fmt::Display) -> Self {
        Self { severity: Severity::Warning, ..Self::error(object, field, reason, message) }
    }

    /// Something about an annotation.
    pub(super) fn annotation(object: ObjectRef, problem: AnnotationProblem) -> Self {
        let field = FieldPath::of(["metadata", "annotations"]).key(&problem.key);
        Self { object, field, severity: problem.severity, reason: "Annotation", message: problem.message }
    }

    /// Something that is not done, at any field.
    pub(super) fn at(object: ObjectRef, field: FieldPath, reason: &'static str, message: String) -> Self {
        Self { object, field, severity: Severity::Error, reason, message }
    }

    /// What it is about.
    pub(super) const fn object(&self) -> &ObjectRef {
        &self.object
    }

    /// As [`Self::at`], of any severity.
    pub(super) fn graded(
        object: ObjectRef,
        field: FieldPath,
        severity: Severity,
        reason: &'static str,
        message: String,
    ) -> Self {
        Self { object, field, severity, reason, message }
    }

    /// For people at a terminal.
    pub(super) fn problem(&self) -> Problem {
        let (object, field) = (self.object.clone(), self.field.clone());
        match self.severity {
            Severity::Error => Problem::error(object, field, &self.message),
            Severity::Warning => Problem::warning(object, field, &self.message),
        }
    }

    /// For `kubectl describe`.
    pub(super) fn event(&self) -> Event {
        let (object, reason) = (self.object.clone(), self.reason);
        Event { object, severity: Some(self.severity), reason, message: format!("{}: {}", self.field, self.message) }
    }
}

/// One step of a field path, spelled without allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// A key.
    Key(&'static str),
    /// A position.
    At(usize),
}

impl From<Part> for Step {
    fn from(part: Part) -> Self {
        match part {
            Part::Key(key) => Self::Key(key.into()),
            Part::At(index) => Self::Index(index),
        }
    }
}
