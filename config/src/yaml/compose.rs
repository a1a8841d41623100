//! Parser events into a tree, without recursion and within a budget.
//!
//! An alias shares the node it names, so it costs nothing here; what it costs whoever walks the tree is charged to
//! a budget that grows with the text, which keeps "billion laughs" as cheap as any other text of their length.

use std::collections::HashMap;
use std::sync::Arc;

use granit_parser::{ErrorKind, Event, Marker, Parser, ScalarStyle, ScanError, Tag};

use super::{Document, Entry, Fault, Key, Mark, Node, Position, Scalar, Style, Value};
use crate::object::{FieldPath, Step};

/// How deep collections may nest, aliases included; walkers may recurse this far.
const MAX_DEPTH: usize = 64;

/// How many faults a document may have before it counts as unreadable.
const MAX_FAULTS: usize = 1000;

/// All documents of a piece, the last one an error if the piece breaks off there.
pub(super) fn compose(piece: &str, position: Position) -> Vec<Result<Document, Fault>> {
    let options = granit_parser::options! {
        emit_comments: false,
        flow_nesting_limit: MAX_DEPTH,
        block_nesting_limit: MAX_DEPTH,
    };
    let budget = 64 * 1024 + 16 * piece.len();
    let mut composer = Composer { lines: position.lines, budget, ..Composer::default() };
    let mut documents = Vec::new();
    for event in Parser::new_from_str_with_options(piece, options) {
        let step = match event {
            Ok((event, span)) => composer.take(event, span.start),
            Err(error) => Err(composer.syntax(&error)),
        };
        let step = step.and_then(|finished| composer.few_faults().map(|()| finished));
        match step {
            Ok(None) => {}
            Ok(Some((root, faults))) => {
                let position = Position { number: documents.len(), ..position };
                documents.push(Ok(Document { root, faults, position }));
            }
            Err(fault) => {
                documents.push(Err(fault));
                break;
            }
        }
    }
    documents
}

/// A node under construction or done, with what it costs to walk it.
struct Built {
    node: Node,
    weight: usize,
    height: usize,
}

/// An open collection.
struct Frame {
    mark: Mark,
    anchor: usize,
    weight: usize,
    height: usize,
    content: Content,
}

enum Content {
    Sequence(Vec<Node>),
    Mapping(Pairs),
}

#[derive(Default)]
struct Pairs {
    entries: Vec<Entry>,
    seen: HashMap<Arc<str>, Mark>,
    merged: Vec<Node>,
    pending: Option<Pending>,
}

/// What the next node is the value of.
enum Pending {
    Key(Key),
    Merge,
    /// A key that is no text, already complained about.
    Unusable,
}

#[derive(Default)]
struct Composer {
    lines: u32,
    budget: usize,
    frames: Vec<Frame>,
    anchors: HashMap<usize, Built>,
    faults: Vec<Fault>,
    root: Option<Node>,
}

type Finished = Option<(Node, Vec<Fault>)>;

impl Composer {
    fn take(&mut self, event: Event<'_>, at: Marker) -> Result<Finished, Fault> {
        let mark = self.mark(at);
        match event {
            Event::DocumentStart(..) => self.anchors.clear(),
            Event::DocumentEnd => {
                return Ok(self.root.take().map(|root| (root, std::mem::take(&mut self.faults))));
            }
            Event::Scalar(text, style, anchor, tag) => {
                let style = self.style(style, tag.as_deref(), mark);
                let weight = 16 + text.len();
                let value = Value::Scalar(Scalar { text: text.into(), style });
                self.finish(Built { node: Node { mark, value }, weight, height: 0 }, anchor);
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.collection_tag(tag.as_deref(), "seq", mark);
                self.open(mark, anchor, Content::Sequence(Vec::new()))?;
            }
            Event::MappingStart(_, anchor, tag) => {
                self.collection_tag(tag.as_deref(), "map", mark);
                self.open(mark, anchor, Content::Mapping(Pairs::default()))?;
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(),
            Event::Alias(anchor) => self.alias(anchor, mark)?,
            _ => {}
        }
        Ok(None)
    }

    fn mark(&self, at: Marker) -> Mark {
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let line = count(at.line()).max(1).saturating_add(self.lines);
        Mark { line, column: count(at.col()).saturating_add(1) }
    }

    fn open(&mut self, mark: Mark, anchor: usize, content: Content) -> Result<(), Fault> {
        if self.frames.len() >= MAX_DEPTH {
            return Err(self.fault(mark, too_deep()));
        }
        self.frames.push(Frame { mark, anchor, weight: 16, height: 0, content });
        Ok(())
    }

    fn close(&mut self) {
        let Some(Frame { mark, anchor, weight, height, content }) = self.frames.pop() else { return };
        let value = match content {
            Content::Sequence(items) => Value::Sequence(Arc::new(items)),
            Content::Mapping(pairs) => Value::Mapping(Arc::new(self.merge(pairs))),
        };
        self.finish(Built { node: Node { mark, value }, weight, height: height + 1 }, anchor);
    }

    /// Adds the entries of merge keys (`<<`) behind the mapping's own, which win.
    fn merge(&mut self, pairs: Pairs) -> Vec<Entry> {
        let Pairs { mut entries, mut seen, merged, .. } = pairs;
        for source in merged {
            let Value::Mapping(more) = &source.value else {
                let message = "a merge key (<<) takes a mapping or a list of mappings, usually an alias";
                self.faults.push(self.fault(source.mark, message));
                continue;
            };
            for entry in more.iter() {
                if seen.insert(Arc::clone(&entry.key.text), entry.key.mark).is_none() {
                    entries.push(entry.clone());
                }
            }
        }
        entries
    }

    fn alias(&mut self, anchor: usize, mark: Mark) -> Result<(), Fault> {
        let Some(Built { node, weight, height }) = self.anchors.get(&anchor) else {
            return Err(self.fault(mark, "this alias stands inside the node that it names; write the value out"));
        };
        let (weight, height) = (*weight, *height);
        let built = Built { node: node.clone(), weight, height };
        if self.frames.len() + height > MAX_DEPTH {
            return Err(self.fault(mark, too_deep()));
        }
        let Some(budget) = self.budget.checked_sub(weight) else {
            return Err(self.fault(mark, "aliases make this document many times larger than its text; write it out"));
        };
        self.budget = budget;
        self.finish(built, 0);
        Ok(())
    }

    /// Hands a complete node to the collection it stands in.
    fn finish(&mut self, built: Built, anchor: usize) {
        let Built { node, weight, height } = built;
        if anchor != 0 {
            self.anchors.insert(anchor, Built { node: node.clone(), weight, height });
        }
        let Some(frame) = self.frames.last_mut() else {
            self.root = Some(node);
            return;
        };
        frame.weight = frame.weight.saturating_add(weight);
        frame.height = frame.height.max(height);
        match &mut frame.content {
            Content::Sequence(items) => items.push(node),
            Content::Mapping(pairs) => {
                if let Some(misuse) = pairs.add(node) {
                    let fault = self.fault(misuse.mark, misuse.message);
                    let path = misuse.key.iter().fold(fault.path, |path, key| path.key(key));
                    self.faults.push(Fault { path, ..fault });
                }
            }
        }
    }

    fn style(&mut self, style: ScalarStyle, tag: Option<&Tag>, mark: Mark) -> Style {
        let written = match style {
            ScalarStyle::Plain => Style::Plain,
            ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted => Style::Quoted,
            ScalarStyle::Literal => Style::Literal,
            ScalarStyle::Folded => Style::Folded,
        };
        let Some(tag) = tag else { return written };
        match tag.core_suffix() {
            Some("str") if written == Style::Plain => Style::Quoted,
            Some("str") => written,
            Some("int" | "float" | "bool" | "null") => Style::Plain,
            _ if tag.original() == "!" => {
                if written == Style::Plain {
                    Style::Quoted
                } else {
                    written
                }
            }
            _ => {
                self.unknown_tag(tag, mark);
                written
            }
        }
    }

    fn collection_tag(&mut self, tag: Option<&Tag>, expected: &str, mark: Mark) {
        if let Some(tag) = tag.filter(|tag| tag.core_suffix() != Some(expected) && tag.original() != "!") {
            self.unknown_tag(tag, mark);
        }
    }

    fn unknown_tag(&mut self, tag: &Tag, mark: Mark) {
        let message = format!("the tag {:?} means nothing here; remove it", tag.original());
        self.faults.push(self.fault(mark, message));
    }

    fn syntax(&self, error: &ScanError) -> Fault {
        let mark = self.mark(*error.marker());
        let message = match error.kind() {
            ErrorKind::TabNotAllowed
            | ErrorKind::TabInBlockIndentation
            | ErrorKind::TabInIndentation
            | ErrorKind::TabAtBlockScalarStart => "a tab is used as indentation; YAML wants blanks".to_owned(),
            ErrorKind::UnknownAnchor => "this alias names an anchor that is not defined before it".to_owned(),
            ErrorKind::RecursionLimitExceeded => too_deep(),
            ErrorKind::MappingValueNotAllowed => {
                "a second \": \" on one line is not allowed here; quote the value, or check the indentation".to_owned()
            }
            kind => format!("this is not valid YAML: {kind}"),
        };
        self.fault(mark, message)
    }

    fn few_faults(&mut self) -> Result<(), Fault> {
        if self.faults.len() <= MAX_FAULTS {
            return Ok(());
        }
        let first = self.faults.swap_remove(0);
        Err(Fault { message: format!("{} (and more than {MAX_FAULTS} faults after it)", first.message), ..first })
    }

    fn fault(&self, mark: Mark, message: impl Into<String>) -> Fault {
        let step = |frame: &Frame| match &frame.content {
            Content::Sequence(items) => Some(Step::Index(items.len())),
            Content::Mapping(Pairs { pending: Some(Pending::Key(key)), .. }) => Some(Step::Key(key.text.clone())),
            Content::Mapping(_) => None,
        };
        let path = self.frames.iter().map_while(step).fold(FieldPath::root(), |path, step| path.with(step));
        Fault { mark, path, message: message.into() }
    }
}

/// A key that cannot be used, and why.
struct Misuse {
    mark: Mark,
    key: Option<Arc<str>>,
    message: String,
}

impl Pairs {
    /// Takes the next key or value; answers what is wrong with the key.
    fn add(&mut self, node: Node) -> Option<Misuse> {
        match self.pending.take() {
            None => return self.begin(node),
            Some(Pending::Unusable) => {}
            Some(Pending::Merge) => match node.value {
                Value::Sequence(nodes) => self.merged.extend(nodes.iter().cloned()),
                _ => self.merged.push(node),
            },
            Some(Pending::Key(key)) => {
                if let Some(first) = self.seen.get(&key.text) {
                    let message = format!("the key {:?} stands here a second time; the first is at {first}", key.text);
                    return Some(Misuse { mark: key.mark, key: Some(key.text), message });
                }
                self.seen.insert(Arc::clone(&key.text), key.mark);
                self.entries.push(Entry { key, value: node });
            }
        }
        None
    }

    fn begin(&mut self, node: Node) -> Option<Misuse> {
        let Value::Scalar(scalar) = node.value else {
            self.pending = Some(Pending::Unusable);
            let message = "a key must be text; quote a value that begins with a bracket or brace".to_owned();
            return Some(Misuse { mark: node.mark, key: None, message });
        };
        self.pending = Some(match (&*scalar.text, scalar.style) {
            ("<<", Style::Plain) => Pending::Merge,
            _ => Pending::Key(Key { text: scalar.text, mark: node.mark }),
        });
        None
    }
}

fn too_deep() -> String {
    format!("collections nest more than {MAX_DEPTH} deep; no configuration needs that")
}
