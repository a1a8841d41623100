//! The copy of a request for another service (`mirror-target`).

use config::annotation::Mirror;
use http::header::{CONTENT_LENGTH, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING};
use std::net::IpAddr;

use super::Asked;
use super::values::fill;
use crate::headers;

/// A request for a service whose answer nobody sees.
#[derive(Clone, Debug)]
pub struct Twin {
    /// Whether over TLS.
    pub tls: bool,
    /// The host to ask, in lower case.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Its method.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// All its fields but the length of its body.
    pub fields: HeaderMap,
    /// Whether it has the body of the request.
    pub with_body: bool,
    allow_loopback: bool,
}

impl Twin {
    /// Whether the service may be asked at this address.
    #[must_use]
    pub const fn may_ask(&self, ip: IpAddr) -> bool {
        self.allow_loopback || !ip.is_loopback()
    }
}

/// The copy: all fields of the client but those that frame its body, are for one connection, or claim who it is.
pub(super) fn twin(mirror: &Mirror, allow_loopback: bool, asked: &Asked<'_>) -> Twin {
    let mut fields = asked.request.headers.clone();
    for name in headers::foreign(&asked.request.headers).chain([CONTENT_LENGTH, TRANSFER_ENCODING, EXPECT]) {
        fields.remove(name);
    }
    let client = asked.client.map(|client| client.to_string()).unwrap_or_default();
    for (name, value) in [
        (HOST, mirror.authority.as_str()),
        (headers::X_REQUEST_ID, asked.request_id),
        (HeaderName::from_static("x-real-ip"), &client),
        (HeaderName::from_static("x-forwarded-for"), &client),
    ] {
        if let Ok(value) = HeaderValue::from_str(value) {
            fields.insert(name, value);
        }
    }
    let target = fill(&mirror.target, asked);
    Twin {
        tls: mirror.tls,
        host: mirror.host.clone(),
        port: mirror.port,
        method: asked.request.method.as_str().to_owned(),
        target: if target.starts_with('/') { target } else { format!("/{target}") },
        fields,
        with_body: mirror.with_body,
        allow_loopback,
    }
}
