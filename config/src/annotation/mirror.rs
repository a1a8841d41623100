//! Who gets a copy of each request: `mirror-target`, `mirror-request-body`, `mirror-host`.

use super::external::place;
use super::read::Reader;
use super::text::Text;

/// Copies of requests go to another service, whose answers nobody sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// Whether over TLS.
    pub tls: bool,
    /// Its host, in lower case.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// What it is told as `Host`.
    pub authority: String,
    /// Path and query to ask for.
    pub target: Text,
    /// Whether copies have the bodies.
    pub with_body: bool,
}

pub(super) fn read(reader: &mut Reader<'_>) -> Option<Mirror> {
    let place = reader.value("mirror-target", place);
    let host = reader.value("mirror-host", super::upstream::vhost);
    let with_body = reader.value("mirror-request-body", super::protocol::switch).unwrap_or(true);
    let (tls, own, port, authority, target) = place?;
    Some(Mirror { tls, host: own, port, authority: host.unwrap_or(authority), target, with_body })
}
