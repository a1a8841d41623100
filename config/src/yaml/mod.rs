//! YAML text as a tree in which every key and value knows its line and column.
//!
//! ```text
//! text ──split──> one piece per document ──compose──> Document { root, faults }
//!                 (a broken one costs only itself)    scalars as written; `scalar` gives them a meaning
//! ```
//!
//! A scalar keeps its text and style, because what it means depends on who asks: a pool's `name: no` is the text
//! `no`, `auto-assign: no` is false. The grammar comes from `granit-parser`; aliases, merge keys and repeated keys
//! are settled here, in time and memory proportional to the text whatever it holds.
//!
//! Typed objects: [`crate::manifest`]. MetalLB's configuration: [`crate::legacy`].

mod compose;
mod origin;
mod scalar;
mod split;

use std::fmt;
use std::sync::Arc;

pub(crate) use origin::DocumentOrigin;
pub(crate) use scalar::{Resolved, describe, shorten};

use crate::object::{FieldPath, Step};

/// Line and column in a text, both from 1, the column in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Mark {
    pub(crate) line: u32,
    pub(crate) column: u32,
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

/// One value and where it begins; copies share what is below.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) mark: Mark,
    pub(crate) value: Value,
}

/// What a node holds.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Scalar(Scalar),
    Sequence(Arc<Vec<Node>>),
    Mapping(Arc<Vec<Entry>>),
}

/// A key and its value; keys are unique within their mapping.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: Key,
    pub(crate) value: Node,
}

/// The key of an entry, as text whatever its style.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    pub(crate) text: Arc<str>,
    pub(crate) mark: Mark,
}

/// A scalar as written, escapes and folding undone.
#[derive(Clone, Debug)]
pub(crate) struct Scalar {
    pub(crate) text: Arc<str>,
    pub(crate) style: Style,
}

/// How a scalar is written. A tag counts as the style that means the same: `!!str 8080` is quoted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    Plain,
    Quoted,
    Literal,
    Folded,
}

/// Something wrong at a place of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) mark: Mark,
    pub(crate) path: FieldPath,
    pub(crate) message: String,
}

/// One document of a text.
#[derive(Clone, Debug)]
pub(crate) struct Document {
    pub(crate) root: Node,
    /// What is wrong with it although its structure is clear, such as a repeated key.
    pub(crate) faults: Vec<Fault>,
    pub(crate) position: Position,
}

/// Where in a text a document stands, so that it can be read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    start: usize,
    end: usize,
    /// Lines before `start`.
    lines: u32,
    /// Which document of the piece, when `...` alone divides several.
    number: usize,
}

/// Every document of `text` in order; an error stands for a document whose structure could not be made out.
pub(crate) fn documents(text: &str) -> Vec<Result<Document, Fault>> {
    let text = split::prepare(text);
    split::pieces(&text).into_iter().flat_map(|piece| compose::compose(&text[piece.start..piece.end], piece)).collect()
}

/// Reads one document again; `None` if the text is no longer what it was.
fn document_at(text: &str, position: Position) -> Option<Document> {
    let text = split::prepare(text);
    let piece = text.get(position.start..position.end)?;
    compose::compose(piece, position).into_iter().nth(position.number)?.ok()
}

impl Node {
    /// The entry of a mapping with that key.
    pub(crate) fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|entry| &*entry.key.text == key)
    }

    /// The value of a mapping under that key.
    pub(crate) fn get(&self, key: &str) -> Option<&Self> {
        self.entry(key).map(|entry| &entry.value)
    }

    /// The entries of a mapping; none for any other node.
    pub(crate) fn entries(&self) -> &[Entry] {
        if let Value::Mapping(entries) = &self.value { entries } else { &[] }
    }

    /// The text of a scalar that means text and is not empty.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar(scalar) if !scalar.text.is_empty() && scalar.resolve() == Resolved::Text => {
                Some(&scalar.text)
            }
            _ => None,
        }
    }

    /// Whether this is a null, written or left out.
    pub(crate) fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar(scalar) if scalar.resolve() == Resolved::Null)
    }

    /// The node at `steps`, if all of them exist.
    pub(crate) fn find(&self, steps: &[Step]) -> Option<&Self> {
        steps.iter().try_fold(self, |node, step| node.step(step).map(|(_, node)| node))
    }

    /// Where to point for `steps`: the place of the deepest of them that exists.
    pub(crate) fn place(&self, steps: &[Step]) -> Mark {
        let mut deepest = (self.mark, self);
        for step in steps {
            match deepest.1.step(step) {
                Some(next) => deepest = next,
                None => break,
            }
        }
        deepest.0
    }

    fn step(&self, step: &Step) -> Option<(Mark, &Self)> {
        match (step, &self.value) {
            (Step::Key(key), Value::Mapping(_)) => self.entry(key).map(|entry| (entry.mark(), &entry.value)),
            (Step::Index(index), Value::Sequence(items)) => items.get(*index).map(|item| (item.mark, item)),
            _ => None,
        }
    }
}

impl Entry {
    /// Where to point for this entry: at a value on the same line as its key, else at the key.
    pub(crate) fn mark(&self) -> Mark {
        match &self.value.value {
            Value::Scalar(Scalar { text, style: Style::Plain | Style::Quoted }) if !text.is_empty() => self.value.mark,
            _ => self.key.mark,
        }
    }
}

#[cfg(test)]
mod tests;
