//! A node tree as a source for serde that finds every type error of an object in one reading.
//!
//! Where a value has the wrong type, the problem is noted and a zero value handed on in its stead, so that reading
//! goes on. A type's own complaint (bad base64) ends the reading; it is noted, its node left out, and the
//! object read again. A key that is no field is a warning. Null counts as left out, as Kubernetes has it.

mod access;
mod notes;

use std::cell::RefCell;
use std::collections::HashSet;

use serde::de::{Deserializer, Expected, Visitor};
use serde::{Deserialize, forward_to_deserialize_any};

use crate::diagnostic::Severity;
use crate::object::FieldPath;
use crate::yaml::{Entry, Mark, Node, Resolved, Scalar, Value, describe};
use access::{Fields, Items};
pub(super) use notes::Found;
use notes::{Complaint, Notes, Way, address};

/// How often an object is read again before the rest of its problems is left for later.
const MAX_READINGS: usize = 32;

/// Reads a typed value out of `root`; the value holds zeros where a problem was found.
pub(super) fn from_node<'t, T: Deserialize<'t>>(root: &'t Node) -> (Option<T>, Vec<Found>) {
    let mut complaints = Vec::new();
    let mut pruned = HashSet::new();
    for _ in 0..MAX_READINGS {
        let notes = Notes { pruned, found: RefCell::default() };
        match T::deserialize(Reader { node: root, way: &Way::Top, notes: &notes }) {
            Ok(value) => {
                complaints.extend(notes.found.into_inner());
                return (Some(value), complaints);
            }
            Err(complaint) => {
                pruned = notes.pruned;
                let Some((found, node)) = complaint.placed else {
                    let field = FieldPath::root();
                    complaints.push(Found {
                        mark: root.mark,
                        severity: Severity::Error,
                        field,
                        message: complaint.message,
                    });
                    return (None, complaints);
                };
                complaints.push(found);
                if !pruned.insert(node) || node == address(root) {
                    return (None, complaints);
                }
            }
        }
    }
    (None, complaints)
}

#[derive(Clone, Copy)]
struct Reader<'t, 'a> {
    node: &'t Node,
    way: &'a Way<'a>,
    notes: &'a Notes,
}

impl<'t> Reader<'t, '_> {
    fn note(&self, severity: Severity, mark: Mark, field: FieldPath, message: String) {
        self.notes.found.borrow_mut().push(Found { mark, severity, field, message });
    }

    fn wrong(&self, expected: &str, advice: &str) {
        let message = format!("expected {expected}, found {}{advice}", describe(self.node));
        self.note(Severity::Error, self.node.mark, self.way.path(), message);
    }

    /// Gives a complaint that has no place yet the place of this node.
    fn placed<T>(&self, result: Result<T, Complaint>) -> Result<T, Complaint> {
        result.map_err(|complaint| {
            let Complaint { message, placed: None } = complaint else { return complaint };
            let (mark, field) = (self.node.mark, self.way.path());
            let found = Found { mark, severity: Severity::Error, field, message: message.clone() };
            Complaint { message, placed: Some((found, address(self.node))) }
        })
    }

    fn resolved(&self) -> Option<(&'t Scalar, Resolved)> {
        match &self.node.value {
            Value::Scalar(scalar) => Some((scalar, scalar.resolve())),
            _ => None,
        }
    }

    fn text(&self) -> &'t str {
        match self.resolved() {
            Some((scalar, Resolved::Text)) => return &scalar.text,
            Some((_, Resolved::Null)) => {}
            Some(_) => self.wrong("text", "; quote it"),
            None => self.wrong("text", ""),
        }
        ""
    }

    fn integer(&self, least: i128, most: i128) -> i128 {
        match self.resolved() {
            Some((_, Resolved::Int(number))) if (least..=most).contains(&number) => return number,
            Some((_, Resolved::Int(_))) => self.wrong(&format!("a number from {least} to {most}"), ""),
            Some((_, Resolved::Null)) => {}
            // As in JSON, where 80.0 is the number 80.
            Some((_, Resolved::Float(number))) => match whole(number).filter(|whole| (least..=most).contains(whole)) {
                Some(whole) => return whole,
                None => self.wrong("a whole number", ""),
            },
            Some((scalar, Resolved::Text)) if scalar.text.parse::<i64>().is_ok() => {
                self.wrong("a number", "; remove the quotes");
            }
            _ => self.wrong("a number", ""),
        }
        0
    }

    fn items(&self) -> &'t [Node] {
        match &self.node.value {
            Value::Sequence(items) => return items,
            _ if self.node.is_null() => {}
            _ => self.wrong("a list", ""),
        }
        &[]
    }

    fn entries(&self) -> &'t [Entry] {
        match &self.node.value {
            Value::Mapping(entries) => return entries,
            _ if self.node.is_null() => {}
            _ => self.wrong("a mapping", ""),
        }
        &[]
    }
}

/// The whole number that a float is, if it is one within the range in which floats are exact.
fn whole(number: f64) -> Option<i128> {
    let exact = number.fract() == 0.0 && number.abs() <= 9_007_199_254_740_992.0;
    exact.then(|| format!("{number:.0}").parse().ok()).flatten()
}

macro_rules! integers {
    ($($method:ident $visit:ident $type:ty),* $(,)?) => {$(
        fn $method<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, Complaint> {
            let number = self.integer(<$type>::MIN.into(), <$type>::MAX.into());
            self.placed(visitor.$visit(<$type>::try_from(number).unwrap_or_default()))
        }
    )*};
}

impl<'t> Deserializer<'t> for Reader<'t, '_> {
    type Error = Complaint;

    fn deserialize_any<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, Complaint> {
        let (scalar, resolved) = match &self.node.value {
            Value::Sequence(_) => return self.deserialize_seq(visitor),
            Value::Mapping(_) => return self.deserialize_map(visitor),
            Value::Scalar(scalar) => (scalar, scalar.resolve()),
        };
        self.placed(match resolved {
            Resolved::Null => visitor.visit_unit(),
            Resolved::Bool(value) => visitor.visit_bool(value),
            Resolved::Int(number) => match (i64::try_from(number), u64::try_from(number)) {
                (Ok(number), _) => visitor.visit_i64(number),
                (_, Ok(number)) => visitor.visit_u64(number),
                _ => visitor.visit_str(&scalar.text),
            },
            Resolved::Float(number) => visitor.visit_f64(number),
            Resolved::Text => visitor.visit_str(&scalar.text),
        })
    }

    fn deserialize_bool<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, Complaint> {
        let value = match self.resolved() {
            Some((_, Resolved::Bool(value))) => value,
            Some((_, Resolved::Null)) => false,
            Some((scalar, Resolved::Text)) if matches!(&*scalar.text, "true" | "false") => {
                self.wrong("true or false", "; remove the quotes");
                false
            }
            _ => {
                self.wrong("true or false", "");
                false
            }
        };
        self.placed(visitor.visit_bool(value))
    }

    integers! {
        deserialize_i8 visit_i8 i8, deserialize_i16 visit_i16 i16, deserialize_i32 visit_i32 i32,
        deserialize_i64 visit_i64 i64, deserialize_u8 visit_u8 u8, deserialize_u16 visit_u16 u16,
        deserialize_u32 visit_u32 u32, deserialize_u64 visit_u64 u64,
    }

    fn deserialize_f32<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, Complaint> {
        self.deserialize_any(visitor)
    }

    fn deserialize_f64<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, Complaint> {
        self.deserialize_any(visitor)
    }

    fn deserialize_string<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, Complaint> {
        self.placed(visitor.visit_str(self.text()))
    }

    /// Text that is decoded (base64, moments): line breaks inside it do not count, as in Kubernetes.
    fn deserialize_str<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, Complaint> {
        let expected = (&visitor as &dyn Expected).to_string();
        let text = self.text();
        let result = if text.contains(['\n', '\r']) {
            visitor.visit_str(&text.replace(['\n', '\r'], ""))
        } else {
            visitor.visit_str(text)
        };
        let explained =
            |complaint: Complaint| Complaint { message: format!("expected {expected}: {complaint}"), ..complaint };
        self.placed(result.map_err(explained))
    }

    fn deserialize_option<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, Complaint> {
        if self.node.is_null() {
            return self.placed(visitor.visit_none());
        }
        let result = visitor.visit_some(self);
        self.placed(result)
    }

    fn deserialize_newtype_struct<V: Visitor<'t>>(self, _: &'static str, visitor: V) -> Result<V::Value, Complaint> {
        let result = visitor.visit_newtype_struct(self);
        self.placed(result)
    }

    fn deserialize_seq<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, Complaint> {
        let items = Items { reader: self, items: self.items().iter().enumerate() };
        self.placed(visitor.visit_seq(items))
    }

    fn deserialize_map<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, Complaint> {
        let fields = Fields { reader: self, entries: self.entries().iter(), current: None, known: None };
        self.placed(visitor.visit_map(fields))
    }

    fn deserialize_struct<V: Visitor<'t>>(
        self,
        _: &'static str,
        known: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Complaint> {
        let fields = Fields { reader: self, entries: self.entries().iter(), current: None, known: Some(known) };
        self.placed(visitor.visit_map(fields))
    }

    fn deserialize_ignored_any<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, Complaint> {
        self.placed(visitor.visit_unit())
    }

    forward_to_deserialize_any! {
        <V: Visitor<'t>>
        i128 u128 char bytes byte_buf unit unit_struct tuple tuple_struct enum identifier
    }
}
