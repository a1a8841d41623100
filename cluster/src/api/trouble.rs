//! Why nothing is heard of a collection, as a problem to show.

use config::diagnostic::{Problem, Severity};
use config::object::FieldPath;

use super::connection::Failure;
use super::kinds::Source;

/// Why nothing is heard.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Trouble {
    /// We may not look.
    Denied,
    /// The server is away, or too busy.
    Away(String),
}

impl Trouble {
    /// What a failure means; without anything that changes from one attempt to the next.
    pub(super) fn of(failure: &Failure) -> Self {
        match failure {
            Failure::Refused { code: 403, .. } => Self::Denied,
            Failure::Refused { code, reason, .. } => Self::Away(format!("it answers {code} {reason}")),
            Failure::Unreachable(cause) => Self::Away(cause.clone()),
            Failure::Garbled(_) => Self::Away("its answers cannot be read".to_owned()),
        }
    }

    /// Whether it is for an operator to end.
    pub(super) const fn is_denied(&self) -> bool {
        matches!(self, Self::Denied)
    }

    /// The problem of one collection.
    pub(super) fn problem(&self, source: &Source) -> Problem {
        let message = match self {
            Self::Denied => {
                let within = source.namespace.as_ref().map(|it| format!(" in namespace {it}")).unwrap_or_default();
                format!(
                    "the API server lets us not read objects of kind {}{within}; what was read before stays in use; \
                     grant the verbs list and watch to our ServiceAccount",
                    source.kind
                )
            }
            Self::Away(cause) => format!(
                "the API server does not tell what changes ({cause}); the last known state stays in use (tried repeatedly)"
            ),
        };
        Problem { severity: Severity::Error, object: None, field: FieldPath::root(), message, place: None }
    }
}
