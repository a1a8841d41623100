//! What is being served, listed when somebody asks.

use std::fmt;
use std::sync::Arc;

use super::{CertificateEntry, RouteEntry};
use crate::object::ObjectName;
use crate::shared::SharedMap;

/// A list that is made when somebody asks for it: nobody looks at ten thousand routes after every change of one.
pub struct Listing<T>(Arc<dyn Fn(usize) -> Vec<T> + Send + Sync>);

impl<T> Listing<T> {
    /// The list of which `make` makes the first entries, as many as it is asked for; the same ones whenever it is.
    pub fn new(make: impl Fn(usize) -> Vec<T> + Send + Sync + 'static) -> Self {
        Self(Arc::new(make))
    }

    /// The first `count` entries, or all if there are fewer.
    #[must_use]
    pub fn first(&self, count: usize) -> Vec<T> {
        (self.0)(count)
    }

    /// Every entry.
    #[must_use]
    pub fn to_vec(&self) -> Vec<T> {
        self.first(usize::MAX)
    }
}

impl<T> Clone for Listing<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: 'static> Default for Listing<T> {
    fn default() -> Self {
        Self::new(|_| Vec::new())
    }
}

impl<T> fmt::Debug for Listing<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Listing")
    }
}

/// The certificates that some name is shown.
pub type Certificates = Listing<CertificateEntry>;

/// The routes being served.
#[derive(Clone, Debug, Default)]
pub struct Routes {
    /// How many there are.
    pub len: usize,
    /// The Ingresses that have any, with the number of hosts on which they do.
    pub ingresses: SharedMap<ObjectName, usize>,
    /// Each of them, by host and precedence.
    pub entries: Listing<RouteEntry>,
}

impl Routes {
    /// Every route.
    #[must_use]
    pub fn to_vec(&self) -> Vec<RouteEntry> {
        self.entries.to_vec()
    }
}
