//! The elements of a list and the fields of a mapping, for serde to ask for.

use serde::de::value::StrDeserializer;
use serde::de::{DeserializeSeed, IntoDeserializer, MapAccess, SeqAccess};

use super::Reader;
use super::notes::{Complaint, Way};
use crate::diagnostic::Severity;
use crate::suggest;
use crate::yaml::{Entry, Node};

pub(super) struct Items<'t, 'a> {
    pub(super) reader: Reader<'t, 'a>,
    pub(super) items: std::iter::Enumerate<std::slice::Iter<'t, Node>>,
}

impl<'t> SeqAccess<'t> for Items<'t, '_> {
    type Error = Complaint;

    fn next_element_seed<T: DeserializeSeed<'t>>(&mut self, seed: T) -> Result<Option<T::Value>, Complaint> {
        let notes = self.reader.notes;
        let Some((index, node)) = self.items.find(|(_, node)| notes.keeps(node)) else { return Ok(None) };
        let way = Way::Index(self.reader.way, index);
        seed.deserialize(Reader { node, way: &way, notes }).map(Some)
    }
}

pub(super) struct Fields<'t, 'a> {
    pub(super) reader: Reader<'t, 'a>,
    pub(super) entries: std::slice::Iter<'t, Entry>,
    pub(super) current: Option<&'t Entry>,
    /// The fields of a structure; `None` for a mapping with free keys.
    pub(super) known: Option<&'static [&'static str]>,
}

impl Fields<'_, '_> {
    /// Whether an entry is handed on; tells of one that means nothing.
    fn wants(&self, entry: &Entry) -> bool {
        let Some(known) = self.known else { return self.reader.notes.keeps(&entry.value) };
        if !known.contains(&&*entry.key.text) {
            let key = &entry.key.text;
            let hint = suggest::hint(key, known.iter().copied(), "it is ignored");
            let message = format!("unknown field {key:?}; {hint}");
            self.reader.note(Severity::Warning, entry.key.mark, self.reader.way.path().key(key), message);
            return false;
        }
        !entry.value.is_null() && self.reader.notes.keeps(&entry.value)
    }
}

impl<'t> MapAccess<'t> for Fields<'t, '_> {
    type Error = Complaint;

    fn next_key_seed<K: DeserializeSeed<'t>>(&mut self, seed: K) -> Result<Option<K::Value>, Complaint> {
        self.current = loop {
            match self.entries.next() {
                Some(entry) if !self.wants(entry) => {}
                found => break found,
            }
        };
        let Some(entry) = self.current else { return Ok(None) };
        let key: StrDeserializer<'_, Complaint> = (&*entry.key.text).into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'t>>(&mut self, seed: V) -> Result<V::Value, Complaint> {
        let Some(entry) = self.current.take() else {
            return Err(serde::de::Error::custom("a value was asked for before its key"));
        };
        let way = Way::Key(self.reader.way, &entry.key.text);
        seed.deserialize(Reader { node: &entry.value, way: &way, notes: self.reader.notes })
    }
}
