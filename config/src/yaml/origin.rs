//! Where the fields of one document stand in its file.
//!
//! Keeps the text, which all documents of a file share, and reads the document again when asked: places are wanted
//! only when something is wrong.

use std::sync::Arc;

use super::{Mark, Node, Position, Scalar, Style, Value, document_at, split};
use crate::diagnostic::Place;
use crate::object::{FieldPath, Step};
use crate::snapshot::{Origin, TextPlace};

/// The place in a text of one object: a document, or an item of a `List` in it.
#[derive(Clone)]
pub(crate) struct DocumentOrigin {
    file: Arc<str>,
    text: Arc<str>,
    position: Position,
    /// The way from the document to the object, empty unless it stands in a `List`.
    inside: FieldPath,
}

impl DocumentOrigin {
    pub(crate) fn new(file: &Arc<str>, text: &Arc<str>, position: Position, inside: FieldPath) -> Self {
        Self { file: Arc::clone(file), text: Arc::clone(text), position, inside }
    }

    fn steps(&self, field: &FieldPath) -> Vec<Step> {
        [self.inside.steps(), field.steps()].concat()
    }

    fn place(&self, mark: Mark) -> Place {
        Place { file: Arc::clone(&self.file), line: mark.line, column: mark.column }
    }
}

impl std::fmt::Debug for DocumentOrigin {
    /// Without the text, which may hold secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DocumentOrigin").field("file", &self.file).field("inside", &self.inside).finish_non_exhaustive()
    }
}

impl Origin for DocumentOrigin {
    fn locate(&self, field: &FieldPath) -> Option<Place> {
        let document = document_at(&self.text, self.position)?;
        Some(self.place(document.root.place(&self.steps(field))))
    }

    fn locate_text(&self, field: &FieldPath) -> Option<TextPlace> {
        let root = document_at(&self.text, self.position)?.root;
        let steps = self.steps(field);
        let first = root.find(&steps).and_then(|node| first_character(node, &self.text));
        Some(match first {
            Some(first) => TextPlace::verbatim(self.place(first)),
            None => TextPlace::opaque(self.place(root.place(&steps))),
        })
    }
}

/// Where the first character of a literal block scalar (`|`) stands in `source`; `None` for any other style, whose
/// lines and columns are not those of the text.
fn first_character(node: &Node, source: &str) -> Option<Mark> {
    let Value::Scalar(Scalar { text, style: Style::Literal }) = &node.value else { return None };
    // The node is marked at its first line with content, which also tells how far all of them are indented.
    let (blank, content) = (0..).zip(text.split('\n')).find(|(_, line)| !line.is_empty())?;
    let number = usize::try_from(node.mark.line).ok()?.checked_sub(1)?;
    let (start, end, _) = split::lines(source, 0).nth(number)?;
    let indent = source[start..end].strip_suffix(content)?.chars().count();
    let line = node.mark.line.checked_sub(blank).filter(|line| *line > 0)?;
    Some(Mark { line, column: u32::try_from(indent).ok()?.checked_add(1)? })
}
