//! Which of one kind belongs to which of another, found from the first.

use config::shared::SharedMap;

/// Pairs, in their order.
#[derive(Debug)]
pub(super) struct Pairs<A, B>(SharedMap<(A, B), ()>);

impl<A, B> Clone for Pairs<A, B> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<A, B> Default for Pairs<A, B> {
    fn default() -> Self {
        Self(SharedMap::new())
    }
}

impl<A: Ord + Clone, B: Ord + Clone> Pairs<A, B> {
    /// Adds a pair.
    pub(super) fn add(&mut self, one: A, other: B) {
        self.0.insert((one, other), ());
    }

    /// Takes a pair out.
    pub(super) fn remove(&mut self, one: A, other: B) {
        self.0.remove(&(one, other));
    }

    /// All that belong to `one`.
    pub(super) fn of<'a>(&'a self, one: &'a A) -> impl Iterator<Item = &'a B> {
        self.within(|held| held < one).take_while(move |(held, _)| *held == one).map(|(_, other)| other)
    }

    /// Whether any belongs to `one`.
    pub(super) fn has(&self, one: &A) -> bool {
        self.of(one).next().is_some()
    }

    /// The pairs from the first whose first half is not `before` on.
    pub(super) fn within(&self, before: impl Fn(&A) -> bool) -> impl Iterator<Item = (&A, &B)> {
        self.0.iter_from(move |(one, _)| before(one)).map(|((one, other), ())| (one, other))
    }
}
