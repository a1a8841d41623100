//! Reading nodes as MetalLB's decoder does, collecting what is wrong instead of stopping.

use std::fmt::Display;

use super::is_error;
use crate::diagnostic::Severity;
use crate::object::FieldPath;
use crate::suggest;
use crate::yaml::{Entry, Mark, Node, Resolved, Value, describe};

/// Something wrong with one field.
#[derive(Clone, Debug)]
pub(crate) struct Finding {
    pub(crate) mark: Mark,
    pub(crate) severity: Severity,
    pub(crate) field: FieldPath,
    pub(crate) message: String,
}

/// Everything found so far.
#[derive(Debug, Default)]
pub(crate) struct Findings(Vec<Finding>);

impl Findings {
    pub(crate) fn error(&mut self, mark: Mark, field: FieldPath, message: impl Into<String>) {
        self.0.push(Finding { mark, severity: Severity::Error, field, message: message.into() });
    }

    pub(crate) fn warning(&mut self, mark: Mark, field: FieldPath, message: impl Into<String>) {
        self.0.push(Finding { mark, severity: Severity::Warning, field, message: message.into() });
    }

    /// An error at a field.
    pub(crate) fn at(&mut self, field: &Field<'_>, message: impl Into<String>) {
        self.error(field.mark, field.path.clone(), message);
    }

    /// Adds all of `other`.
    pub(crate) fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    pub(crate) fn has_errors(&self) -> bool {
        self.0.iter().any(is_error)
    }

    pub(crate) fn in_order(mut self) -> Vec<Finding> {
        self.0.sort_by_key(|finding| finding.mark);
        self.0
    }
}

/// A field of a section: its value, if it has one that is not null, and where to point.
#[derive(Clone, Debug)]
pub(crate) struct Field<'t> {
    node: Option<&'t Node>,
    pub(crate) mark: Mark,
    pub(crate) path: FieldPath,
}

impl<'t> Field<'t> {
    pub(crate) fn top(root: &'t Node) -> Self {
        Self { node: Some(root), mark: root.mark, path: FieldPath::root() }
    }

    fn new(node: &'t Node, mark: Mark, path: FieldPath) -> Self {
        Self { node: Some(node).filter(|node| !node.is_null()), mark, path }
    }

    /// Whether nothing is written.
    pub(crate) fn is_absent(&self) -> bool {
        self.node.is_none_or(Node::is_null)
    }

    /// Whether a list is written, empty or not.
    pub(crate) fn is_list(&self) -> bool {
        self.node.is_some_and(|node| matches!(node.value, Value::Sequence(_)))
    }

    /// The text of a scalar, whatever a reader without expectations would take it for; `None` if nothing is written.
    pub(crate) fn text(&self, findings: &mut Findings) -> Option<&'t str> {
        match &self.node?.value {
            Value::Scalar(scalar) => Some(&scalar.text),
            _ => self.wrong("text", findings),
        }
    }

    /// The text of a scalar, empty if nothing is written; `None` if it is no scalar, which is then reported.
    pub(crate) fn text_or_empty(&self, findings: &mut Findings) -> Option<&'t str> {
        if self.is_absent() { Some("") } else { self.text(findings) }
    }

    /// Text that must be there and not be empty.
    pub(crate) fn required(&self, advice: &str, findings: &mut Findings) -> Option<&'t str> {
        let written = self.node.is_some();
        let text = self.text(findings).filter(|text| !text.is_empty());
        if text.is_none() && (!written || matches!(self.node?.value, Value::Scalar(_))) {
            findings.at(self, format!("{} is missing; {advice}", self.name()));
        }
        text
    }

    pub(crate) fn boolean(&self, default: bool, findings: &mut Findings) -> bool {
        let Some(node) = self.node else { return default };
        match &node.value {
            Value::Scalar(scalar) => match scalar.resolve() {
                Resolved::Bool(value) => return value,
                _ if is_boolean_word(&scalar.text) => self.wrong("true or false; remove the quotes", findings),
                _ => self.wrong("true or false", findings),
            },
            _ => self.wrong::<()>("true or false", findings),
        };
        default
    }

    /// A whole number from `least` to `most`; `None` if nothing, or nothing usable, is written.
    pub(crate) fn number<T>(&self, least: T, most: T, findings: &mut Findings) -> Option<T>
    where
        T: Copy + Display + PartialOrd + TryFrom<i128>,
    {
        let expected = format!("a whole number from {least} to {most}");
        let Value::Scalar(scalar) = &self.node?.value else { return self.wrong(&expected, findings) };
        match scalar.resolve() {
            Resolved::Int(_) if has_leading_zero(&scalar.text) => {
                self.wrong(&format!("{expected}, without leading zeros (they mean octal)"), findings)
            }
            Resolved::Int(number) => match T::try_from(number) {
                Ok(number) if least <= number && number <= most => Some(number),
                _ => self.wrong(&expected, findings),
            },
            Resolved::Text if scalar.text.parse::<i64>().is_ok() => {
                self.wrong(&format!("{expected}; remove the quotes"), findings)
            }
            _ => self.wrong(&expected, findings),
        }
    }

    pub(crate) fn items(&self, findings: &mut Findings) -> Vec<Field<'t>> {
        let Some(node) = self.node.filter(|node| !node.is_null()) else { return Vec::new() };
        let Value::Sequence(items) = &node.value else {
            let _: Option<()> = self.wrong("a list", findings);
            return Vec::new();
        };
        let item = |(index, node): (usize, &'t Node)| Field::new(node, node.mark, self.path.index(index));
        items.iter().enumerate().map(item).collect()
    }

    /// The fields of a mapping with free keys.
    pub(crate) fn entries(&self, findings: &mut Findings) -> Vec<(&'t str, Field<'t>)> {
        let Some(node) = self.node.filter(|node| !node.is_null()) else { return Vec::new() };
        let Value::Mapping(entries) = &node.value else {
            let _: Option<()> = self.wrong("a mapping", findings);
            return Vec::new();
        };
        let field = |entry: &'t Entry| Field::new(&entry.value, entry.mark(), self.path.key(&entry.key.text));
        entries.iter().map(|entry| (&*entry.key.text, field(entry))).collect()
    }

    /// The scalar as written, for a message of the caller's own.
    pub(crate) fn raw(&self) -> Option<(&'t str, Resolved)> {
        match &self.node?.value {
            Value::Scalar(scalar) => Some((&scalar.text, scalar.resolve())),
            _ => None,
        }
    }

    fn name(&self) -> String {
        match self.path.steps().last() {
            Some(crate::object::Step::Key(key)) => key.to_string(),
            _ => "a value".to_owned(),
        }
    }

    fn wrong<T>(&self, expected: &str, findings: &mut Findings) -> Option<T> {
        let (expected, advice) =
            expected.split_once("; ").map_or((expected, None), |(left, right)| (left, Some(right)));
        let found = self.node.map_or_else(|| "nothing".to_owned(), describe);
        let advice = advice.map(|advice| format!("; {advice}")).unwrap_or_default();
        findings.at(self, format!("expected {expected}, found {found}{advice}"));
        None
    }
}

/// A mapping whose keys are known.
#[derive(Debug)]
pub(crate) struct Section<'t> {
    entries: &'t [Entry],
    mark: Mark,
    path: FieldPath,
}

impl<'t> Section<'t> {
    /// Opens the mapping in `field`, refusing keys it does not know; nothing written is an empty mapping.
    pub(crate) fn open(field: &Field<'t>, known: &[&str], findings: &mut Findings) -> Option<Self> {
        let entries = match field.node.filter(|node| !node.is_null()) {
            None => &[],
            Some(node) => match &node.value {
                Value::Mapping(entries) => entries.as_slice(),
                _ => return field.wrong("a mapping", findings),
            },
        };
        for Entry { key, .. } in entries.iter().filter(|entry| !known.contains(&&*entry.key.text)) {
            let hint = suggest::hint(&key.text, known.iter().copied(), &format!("known here: {}", known.join(", ")));
            findings.error(key.mark, field.path.key(&key.text), format!("unknown key {:?}; {hint}", key.text));
        }
        Some(Self { entries, mark: field.mark, path: field.path.clone() })
    }

    /// Whether a key of that name is written, with whatever value.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|entry| &*entry.key.text == key)
    }

    /// The field of that name; one that is not written points at the section.
    pub(crate) fn field(&self, key: &str) -> Field<'t> {
        let path = self.path.key(key);
        match self.entries.iter().find(|entry| &*entry.key.text == key) {
            Some(entry) => Field::new(&entry.value, entry.mark(), path),
            None => Field { node: None, mark: self.mark, path },
        }
    }
}

fn is_boolean_word(text: &str) -> bool {
    matches!(text, "true" | "false" | "yes" | "no" | "on" | "off")
}

/// `017` and `+017`, which YAML 1.1 reads as octal; `0`, `0x1F` and `0o17` are plain enough.
fn has_leading_zero(text: &str) -> bool {
    let digits = text.trim_start_matches(['+', '-']);
    digits.len() > 1
        && digits.starts_with('0')
        && digits[1..].starts_with(|next: char| next.is_ascii_digit() || next == '_')
}
