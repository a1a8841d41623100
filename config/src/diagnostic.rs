//! What is wrong with what we were told: where, what, and what to do about it.
//!
//! Validators make a [`Problem`] with an object and a field path; whoever knows the source adds the [`Place`]
//! ([`crate::snapshot::Snapshot::locate`]). One text then serves an event, `/api/v1/problems` and a terminal.

use std::fmt;
use std::sync::Arc;

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use crate::object::{FieldPath, ObjectRef};

/// How much a problem matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Something we were told to do is not done.
    Error,
    /// Everything is done, yet it is probably not what was meant.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

/// A character in a file; line and column count from 1, the column in characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// The file as the operator named it.
    pub file: Arc<str>,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// One thing that is wrong, for an operator to read.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Problem {
    /// How much it matters.
    pub severity: Severity,
    /// The object it is about; `None` for a file that holds none.
    pub object: Option<ObjectRef>,
    /// The field it is about; the root for the whole object.
    pub field: FieldPath,
    /// A lower-case clause that says what was found and what to do.
    pub message: String,
    /// Where in a source; `None` for an object of the API server.
    pub place: Option<Place>,
}

impl Problem {
    /// An error at `field` of `object`.
    pub fn error(object: ObjectRef, field: FieldPath, message: impl fmt::Display) -> Self {
        let message = message.to_string();
        Self { severity: Severity::Error, object: Some(object), field, message, place: None }
    }

    /// A warning about `field` of `object`.
    pub fn warning(object: ObjectRef, field: FieldPath, message: impl fmt::Display) -> Self {
        Self { severity: Severity::Warning, ..Self::error(object, field, message) }
    }

    /// An error in a file where no object could be made out.
    pub fn in_file(place: Place, message: impl fmt::Display) -> Self {
        let (field, message) = (FieldPath::root(), message.to_string());
        Self { severity: Severity::Error, object: None, field, message, place: Some(place) }
    }

    /// The same problem at a known place.
    #[must_use]
    pub fn at(self, place: Option<Place>) -> Self {
        Self { place: place.or(self.place), ..self }
    }
}

impl fmt::Display for Problem {
    /// Two lines as a compiler writes them, without a final newline:
    ///
    /// ```text
    /// error: address range 192.0.2.20-192.0.2.10 runs backwards; did you mean 192.0.2.10-192.0.2.20?
    ///   --> pools.yaml:9:7   ConfigMap metallb-system/config, address-pools[0].addresses[1]
    /// ```
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.severity, self.message)?;
        let subject = match (&self.object, self.field.steps().is_empty()) {
            (None, _) => String::new(),
            (Some(object), true) => object.to_string(),
            (Some(object), false) => format!("{object}, {}", self.field),
        };
        match (&self.place, subject.is_empty()) {
            (None, true) => Ok(()),
            (None, false) => write!(f, "\n  --> {subject}"),
            (Some(place), true) => write!(f, "\n  --> {place}"),
            (Some(place), false) => write!(f, "\n  --> {place}   {subject}"),
        }
    }
}

impl Serialize for Problem {
    /// As `/api/v1/problems` and `ferrogate check --output json` show it: always the same seven keys.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("Problem", 7)?;
        out.serialize_field("severity", &self.severity)?;
        out.serialize_field("object", &self.object)?;
        out.serialize_field("field", &self.field)?;
        out.serialize_field("message", &self.message)?;
        out.serialize_field("file", &self.place.as_ref().map(|place| &place.file))?;
        out.serialize_field("line", &self.place.as_ref().map(|place| place.line))?;
        out.serialize_field("column", &self.place.as_ref().map(|place| place.column))?;
        out.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::{Kind, ObjectName};

    fn problem() -> Problem {
        let object = ObjectRef::new(Kind::ConfigMap, ObjectName::new("metallb-system", "config"));
        let place = Place { file: "pools.yaml".into(), line: 9, column: 7 };
        let field = FieldPath::of(["address-pools"]).index(0).key("addresses").index(1);
        Problem::error(object, field, "address range runs backwards").at(Some(place))
    }

    #[test]
    fn a_problem_reads_like_a_compilers() {
        assert_eq!(
            problem().to_string(),
            "error: address range runs backwards\n  \
             --> pools.yaml:9:7   ConfigMap metallb-system/config, address-pools[0].addresses[1]"
        );
    }

    #[test]
    fn a_problem_has_the_same_keys_with_and_without_a_place() {
        let without = serde_json::to_value(Problem { place: None, ..problem() }).unwrap();
        let with = serde_json::to_value(problem()).unwrap();
        let keys = |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(keys(&with), keys(&without));
        assert_eq!(with["object"], "ConfigMap metallb-system/config");
        assert_eq!((&with["line"], &without["line"]), (&serde_json::json!(9), &serde_json::Value::Null));
    }
}
