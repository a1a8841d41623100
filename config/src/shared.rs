//! A map whose versions share what did not change.
//!
//! ```text
//! version 1:  [a..f] [g..m] [n..z]
//!                │      ╲      │
//! version 2:  [a..f] [g..h..m] [n..z]     one more entry: one chunk of its own
//! ```
//!
//! A copy costs nothing, a change of one entry costs one chunk, and what differs between two versions is found by
//! looking at the chunks that are not the same memory. So a core that keeps the version before does work for what
//! changed, and comes to the same result as one that begins anew.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::ops::Index;
use std::sync::Arc;

/// The most entries of a chunk.
const MOST: usize = 64;
/// How many entries a chunk has that is made of many at once, so that the next entry has room.
const USUAL: usize = 48;

/// Some entries, never none, in the order of their keys.
type Chunk<K, V> = Arc<Vec<(K, V)>>;

/// A map in the order of its keys, cheap to copy and to compare with what it was made of.
pub struct SharedMap<K, V> {
    /// In the order of their keys.
    chunks: Arc<Vec<Chunk<K, V>>>,
    len: usize,
}

/// What became of one key between two versions.
#[derive(Debug)]
pub struct Change<'a, K, V> {
    /// The key.
    pub key: &'a K,
    /// What it had; `None` if it is new.
    pub before: Option<&'a V>,
    /// What it has; `None` if it is gone.
    pub after: Option<&'a V>,
}

impl<K, V> SharedMap<K, V> {
    /// The empty map.
    #[must_use]
    pub fn new() -> Self {
        Self { chunks: Arc::default(), len: 0 }
    }

    /// How many entries there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The entries in the order of their keys.
    #[must_use]
    pub fn iter(&self) -> Iter<'_, K, V> {
        Iter { chunks: self.chunks.iter(), current: [].iter(), left: self.len }
    }

    /// The entries from the first that is not `before` on; `before` must hold for the keys up to some place and for none
    /// after it.
    pub fn iter_from(&self, before: impl Fn(&K) -> bool) -> impl Iterator<Item = (&K, &V)> {
        let at = self.chunks.partition_point(|chunk| chunk.last().is_some_and(|(key, _)| before(key)));
        let passed = self.chunks.get(at).map_or(0, |chunk| chunk.partition_point(|(key, _)| before(key)));
        self.chunks[at..].iter().flat_map(|chunk| chunk.iter()).skip(passed).map(|(key, value)| (key, value))
    }

    /// The keys in their order.
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.iter().map(|(key, _)| key)
    }

    /// The values in the order of their keys.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }

    /// Whether two maps are the same memory, and so have the same entries.
    #[must_use]
    pub fn is_shared_with(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.chunks, &other.chunks)
    }

    /// Removes every entry.
    pub fn clear(&mut self) {
        *self = Self::new();
    }
}

impl<K: Ord, V> SharedMap<K, V> {
    /// The value of a key.
    #[must_use]
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        let (chunk, at) = self.find(key).ok()?;
        Some(&self.chunks[chunk][at].1)
    }

    /// Whether a key has a value.
    #[must_use]
    pub fn contains_key<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.find(key).is_ok()
    }

    /// What differs from the version `before`, in the order of the keys; values that are `same` are no difference.
    ///
    /// Costs what the two do not share.
    pub fn changes<'a>(
        &'a self,
        before: &'a Self,
        same: impl Fn(&V, &V) -> bool,
    ) -> impl Iterator<Item = Change<'a, K, V>> {
        let (mut old, mut new) = (Cursor::of(before), Cursor::of(self));
        std::iter::from_fn(move || {
            loop {
                Cursor::skip_shared(&mut old, &mut new);
                let order = match (old.peek(), new.peek()) {
                    (None, None) => return None,
                    (Some(_), None) => Ordering::Less,
                    (None, Some(_)) => Ordering::Greater,
                    (Some((before, _)), Some((after, _))) => before.cmp(after),
                };
                let before = if order.is_le() { old.next() } else { None };
                let after = if order.is_ge() { new.next() } else { None };
                match (before, after) {
                    (Some((_, before)), Some((_, after))) if same(before, after) => {}
                    (Some((key, before)), after) => {
                        return Some(Change { key, before: Some(before), after: after.map(|(_, after)| after) });
                    }
                    (None, after) => return after.map(|(key, after)| Change { key, before: None, after: Some(after) }),
                }
            }
        })
    }

    /// Chunk and position of a key, or where it would be.
    fn find<Q: Ord + ?Sized>(&self, key: &Q) -> Result<(usize, usize), (usize, usize)>
    where
        K: Borrow<Q>,
    {
        let at = self.chunks.partition_point(|chunk| chunk[0].0.borrow() <= key).saturating_sub(1);
        let Some(chunk) = self.chunks.get(at) else { return Err((0, 0)) };
        let found = chunk.binary_search_by(|(held, _)| held.borrow().cmp(key));
        found.map(|position| (at, position)).map_err(|position| (at, position))
    }
}

impl<K: Ord + Clone, V: Clone> SharedMap<K, V> {
    /// Gives a key this value; returns the one it had.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let found = self.find(&key);
        let chunks = Arc::make_mut(&mut self.chunks);
        let (at, position) = match found {
            Ok((at, position)) => {
                let held = &mut Arc::make_mut(&mut chunks[at])[position].1;
                return Some(std::mem::replace(held, value));
            }
            Err(place) => place,
        };
        self.len += 1;
        // Who adds in the order of keys fills every chunk.
        if chunks.get(at).is_none_or(|chunk| position == MOST && at + 1 == chunks.len() && chunk.len() == MOST) {
            chunks.push(Arc::new(vec![(key, value)]));
            return None;
        }
        let chunk = Arc::make_mut(&mut chunks[at]);
        chunk.insert(position, (key, value));
        if chunk.len() > MOST {
            let upper = chunk.split_off(MOST / 2);
            chunks.insert(at + 1, Arc::new(upper));
        }
        None
    }

    /// Takes a key out; returns the value it had.
    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let (at, position) = self.find(key).ok()?;
        let chunks = Arc::make_mut(&mut self.chunks);
        let chunk = Arc::make_mut(&mut chunks[at]);
        let (_, value) = chunk.remove(position);
        if chunk.is_empty() {
            chunks.remove(at);
        }
        self.len -= 1;
        Some(value)
    }

    /// The value of a key, to be changed; its chunk is copied if it is shared.
    pub fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        let (at, position) = self.find(key).ok()?;
        Some(&mut Arc::make_mut(&mut Arc::make_mut(&mut self.chunks)[at])[position].1)
    }

    /// Keeps the entries that `keep` wants; chunks in which all are wanted stay shared.
    pub fn retain(&mut self, mut keep: impl FnMut(&K, &V) -> bool) {
        let unwanted: Vec<K> =
            self.iter().filter(|(key, value)| !keep(key, value)).map(|(key, _)| key.clone()).collect();
        for key in &unwanted {
            self.remove(key);
        }
    }
}

/// A place between two entries.
struct Cursor<'a, K, V> {
    chunks: &'a [Chunk<K, V>],
    /// How many entries of the first chunk were passed; never all.
    passed: usize,
}

impl<'a, K, V> Cursor<'a, K, V> {
    fn of(map: &'a SharedMap<K, V>) -> Self {
        Self { chunks: &map.chunks, passed: 0 }
    }

    /// Passes what both have in the same memory.
    fn skip_shared(one: &mut Self, other: &mut Self) {
        while one.passed == 0
            && other.passed == 0
            && let (Some((first, rest)), Some((second, others))) =
                (one.chunks.split_first(), other.chunks.split_first())
            && Arc::ptr_eq(first, second)
        {
            (one.chunks, other.chunks) = (rest, others);
        }
    }

    fn peek(&self) -> Option<&'a (K, V)> {
        self.chunks.first()?.get(self.passed)
    }

    fn next(&mut self) -> Option<&'a (K, V)> {
        let (first, rest) = self.chunks.split_first()?;
        let entry = first.get(self.passed);
        self.passed += 1;
        if self.passed == first.len() {
            (self.chunks, self.passed) = (rest, 0);
        }
        entry
    }
}

/// The entries of a [`SharedMap`].
pub struct Iter<'a, K, V> {
    chunks: std::slice::Iter<'a, Chunk<K, V>>,
    current: std::slice::Iter<'a, (K, V)>,
    left: usize,
}

impl<'a, K, V> Iterator for Iter<'a, K, V> {
    type Item = (&'a K, &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some((key, value)) = self.current.next() {
                self.left -= 1;
                return Some((key, value));
            }
            self.current = self.chunks.next()?.iter();
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl<K, V> ExactSizeIterator for Iter<'_, K, V> {}

impl<K, V> Clone for SharedMap<K, V> {
    fn clone(&self) -> Self {
        Self { chunks: Arc::clone(&self.chunks), len: self.len }
    }
}

impl<K, V> Default for SharedMap<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for SharedMap<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<K: Ord, V: PartialEq> PartialEq for SharedMap<K, V> {
    /// What both have in the same memory is not looked at.
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.changes(other, PartialEq::eq).next().is_none()
    }
}

impl<K: Ord, V: Eq> Eq for SharedMap<K, V> {}

impl<K: Ord + Borrow<Q>, V, Q: Ord + ?Sized> Index<&Q> for SharedMap<K, V> {
    type Output = V;

    fn index(&self, key: &Q) -> &V {
        self.get(key).expect("who indexes knows that the key is there")
    }
}

impl<K: Ord, V> FromIterator<(K, V)> for SharedMap<K, V> {
    /// Of several values of one key, the last counts.
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut entries: Vec<(K, V)> = entries.into_iter().collect();
        if !entries.is_sorted_by(|(one, _), (other, _)| one < other) {
            entries.sort_by(|(one, _), (other, _)| other.cmp(one));
            entries.reverse();
            // Reversing a stable sort leaves the last of equal keys first.
            entries.dedup_by(|(one, _), (other, _)| one == other);
        }
        let len = entries.len();
        let (mut chunks, mut entries) = (Vec::with_capacity(len.div_ceil(USUAL)), entries.into_iter());
        loop {
            let chunk: Vec<(K, V)> = entries.by_ref().take(USUAL).collect();
            if chunk.is_empty() {
                return Self { chunks: Arc::new(chunks), len };
            }
            chunks.push(Arc::new(chunk));
        }
    }
}

impl<K: Ord, V, const N: usize> From<[(K, V); N]> for SharedMap<K, V> {
    fn from(entries: [(K, V); N]) -> Self {
        entries.into_iter().collect()
    }
}

impl<K: Ord + Clone, V: Clone> Extend<(K, V)> for SharedMap<K, V> {
    fn extend<I: IntoIterator<Item = (K, V)>>(&mut self, entries: I) {
        for (key, value) in entries {
            self.insert(key, value);
        }
    }
}

impl<'a, K, V> IntoIterator for &'a SharedMap<K, V> {
    type Item = (&'a K, &'a V);
    type IntoIter = Iter<'a, K, V>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// One edit: a key, and what it is to have.
    fn edits() -> impl Strategy<Value = Vec<(u16, Option<u8>)>> {
        proptest::collection::vec((0..200_u16, proptest::option::of(any::<u8>())), 0..250)
    }

    fn apply(map: &mut SharedMap<u16, u8>, edits: &[(u16, Option<u8>)]) {
        for (key, value) in edits {
            match value {
                Some(value) => drop(map.insert(*key, *value)),
                None => drop(map.remove(key)),
            }
        }
    }

    proptest! {
        #[test]
        fn it_holds_what_an_ordinary_map_holds(edits in edits(), probe in 0..200_u16) {
            let (mut map, mut model) = (SharedMap::new(), BTreeMap::new());
            for (key, value) in &edits {
                let (found, expected) = match value {
                    Some(value) => (map.insert(*key, *value), model.insert(*key, *value)),
                    None => (map.remove(key), model.remove(key)),
                };
                prop_assert_eq!(found, expected);
                prop_assert_eq!(map.len(), model.len());
            }
            prop_assert!(map.iter().eq(model.iter()));
            prop_assert_eq!(map.get(&probe), model.get(&probe));
            prop_assert_eq!(map.contains_key(&probe), model.contains_key(&probe));
            prop_assert!(map.iter_from(|key| *key < probe).eq(model.range(probe..)));
            prop_assert!(map.chunks.iter().all(|chunk| (1..=MOST).contains(&chunk.len())));
            map.retain(|key, _| key % 3 == 0);
            model.retain(|key, _| key % 3 == 0);
            prop_assert!(map.iter().eq(model.iter()));
        }

        #[test]
        fn what_is_collected_is_in_order_and_the_last_of_a_key_counts(
            entries in proptest::collection::vec((0..200_u16, any::<u8>()), 0..300),
        ) {
            let map: SharedMap<u16, u8> = entries.iter().copied().collect();
            let model: BTreeMap<u16, u8> = entries.iter().copied().collect();
            prop_assert!(map.iter().eq(model.iter()));
        }

        #[test]
        fn what_changed_between_versions_is_what_differs(first in edits(), then in edits()) {
            let mut before = SharedMap::new();
            apply(&mut before, &first);
            let model: BTreeMap<u16, u8> = before.iter().map(|(key, value)| (*key, *value)).collect();
            let mut after = before.clone();
            apply(&mut after, &then);
            prop_assert!(before.iter().eq(model.iter()), "a version never changes");
            let keys: std::collections::BTreeSet<&u16> = before.keys().chain(after.keys()).collect();
            let differing = keys.into_iter().map(|key| (*key, before.get(key), after.get(key)));
            let expected: Vec<_> = differing.filter(|(_, one, other)| one != other).collect();
            let found: Vec<_> = after.changes(&before, |one, other| one == other).collect();
            let found: Vec<_> = found.iter().map(|it| (*it.key, it.before, it.after)).collect();
            prop_assert_eq!(&found, &expected);
            prop_assert_eq!(before == after, expected.is_empty());
        }
    }

    #[test]
    fn a_change_of_one_entry_copies_one_chunk_of_many() {
        let before: SharedMap<u32, u32> = (0..10_000).map(|number| (number, 0)).collect();
        let mut after = before.clone();
        assert!(after.is_shared_with(&before));
        after.insert(5_000, 1);
        let shared = after.chunks.iter().filter(|chunk| before.chunks.iter().any(|held| Arc::ptr_eq(chunk, held)));
        assert_eq!(shared.count() + 1, before.chunks.len());
    }
}
