//! Ports that lead to endpoints as they are, without HTTP: where each leads now.
//!
//! Pure. Who opens them and carries bytes: `io::streams`.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::endpoints::Endpoints;

/// What a port carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Carrier {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Carrier {
    /// As Kubernetes writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        }
    }
}

/// Every port, and where it leads.
#[derive(Clone, Debug, Default)]
pub struct Streams(pub BTreeMap<(Carrier, u16), Arc<Stream>>);

/// Where a port leads.
#[derive(Clone, Debug)]
pub struct Stream {
    /// Who serves it.
    pub endpoints: Arc<Endpoints>,
    /// Whether clients begin with a PROXY header.
    pub decode: bool,
    /// Whether endpoints are sent one.
    pub encode: bool,
}

impl Stream {
    /// Whether it leads to the same place in the same way.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.endpoints, &other.endpoints) && self.decode == other.decode && self.encode == other.encode
    }
}
