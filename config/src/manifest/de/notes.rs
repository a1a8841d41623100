//! What is found while reading, and where the reader stands.

use std::cell::RefCell;
use std::collections::HashSet;
use std::fmt;

use serde::de::{Expected, Unexpected};

use crate::diagnostic::Severity;
use crate::object::{FieldPath, Step};
use crate::yaml::{Mark, Node};

/// Something wrong with one field.
#[derive(Clone, Debug)]
pub(in crate::manifest) struct Found {
    pub(in crate::manifest) mark: Mark,
    pub(in crate::manifest) severity: Severity,
    pub(in crate::manifest) field: FieldPath,
    pub(in crate::manifest) message: String,
}

/// The way from the top of the object to a node, kept on the stack.
pub(super) enum Way<'a> {
    Top,
    Key(&'a Way<'a>, &'a str),
    Index(&'a Way<'a>, usize),
}

impl Way<'_> {
    pub(super) fn path(&self) -> FieldPath {
        match self {
            Self::Top => FieldPath::root(),
            Self::Key(above, key) => above.path().key(key),
            Self::Index(above, index) => above.path().with(Step::Index(*index)),
        }
    }
}

pub(super) struct Notes {
    /// Nodes left out of this reading.
    pub(super) pruned: HashSet<usize>,
    pub(super) found: RefCell<Vec<Found>>,
}

impl Notes {
    pub(super) fn keeps(&self, node: &Node) -> bool {
        !self.pruned.contains(&address(node))
    }
}

/// The identity of a node while its tree is borrowed.
pub(super) fn address(node: &Node) -> usize {
    std::ptr::from_ref(node).addr()
}

/// What a type had to say about the value it was given.
#[derive(Debug)]
pub(super) struct Complaint {
    pub(super) message: String,
    pub(super) placed: Option<(Found, usize)>,
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Complaint {}

impl serde::de::Error for Complaint {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self { message: message.to_string(), placed: None }
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let found = match found {
            Unexpected::Seq => "a list".to_owned(),
            Unexpected::Map => "a mapping".to_owned(),
            Unexpected::Unit => "nothing".to_owned(),
            other => other.to_string(),
        };
        match expected.to_string().as_str() {
            "IntOrString" => Self::custom(format_args!("expected a number or text, found {found}")),
            expected => Self::custom(format_args!("expected {expected}, found {found}")),
        }
    }
}
