//! Who a client is and how it came, as far as those in front of us may tell.
//!
//! ```text
//! connection ──PROXY header──> peer ──trusted?──> X-Forwarded-For, right to left over trusted hops ──> client
//!                                         └─────> X-Forwarded-Proto, -Port, -Host
//! ```
//!
//! Nobody's word counts but that of networks in `proxy-real-ip-cidr`. Names and order are those of ingress-nginx.
//!
//! Pure.

use std::net::{IpAddr, SocketAddr};

use http::header::{HeaderMap, HeaderName};

use crate::front::Front;
use crate::gate::authority::Authority;

const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// A connection.
#[derive(Clone, Copy, Debug)]
pub struct Connection {
    /// Whom it is of: what a PROXY header of a trusted peer says, else the peer.
    pub peer: Option<IpAddr>,
    /// Who opened it, if a PROXY header said something else.
    pub direct: Option<IpAddr>,
    /// Whether it is TLS.
    pub tls: bool,
    /// The port it was accepted on, or was made to as a PROXY header of a trusted peer says.
    pub port: u16,
}

/// What is known of a client and its way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Met {
    /// Its address.
    pub client: Option<IpAddr>,
    /// The last hop before us that speaks HTTP.
    pub peer: Option<IpAddr>,
    /// Who opened the connection.
    pub direct: Option<IpAddr>,
    /// Whether it spoke HTTPS with us or with who stands in front of us.
    pub https: bool,
    /// The port that it asked.
    pub port: u16,
    /// The host that it asked, if that was another one before it came to us.
    pub host: Option<String>,
    /// Whether the last hop is trusted, so that what it says of hops before is passed on.
    pub is_trusted: bool,
}

impl Met {
    /// What follows from a connection and the fields of a request on it.
    #[must_use]
    pub fn new(front: &Front, headers: &HeaderMap, connection: &Connection) -> Self {
        let trust = &front.global.trust;
        // Fields are the word of whom a PROXY header names, not of who sent that header. Most settings trust nobody, so
        // nothing is looked at.
        let is_trusted = !trust.proxies.is_empty() && connection.peer.is_some_and(|ip| trust.is_proxy(ip));
        let mut met = Self {
            client: connection.peer,
            peer: connection.peer,
            direct: connection.direct.or(connection.peer),
            https: connection.tls || (connection.direct.is_some() && connection.port == 443),
            port: if connection.tls { 443 } else { connection.port },
            host: None,
            is_trusted,
        };
        if !is_trusted {
            return met;
        }
        if let Some(field) = &front.address {
            met.client = connection.peer.map(|peer| walk(peer, |ip| trust.is_proxy(ip), headers, field));
        }
        if trust.forwarded {
            met.believe(headers);
        }
        met
    }

    fn believe(&mut self, headers: &HeaderMap) {
        match first(headers, &X_FORWARDED_PROTO).map(str::to_ascii_lowercase).as_deref() {
            Some("https") => self.https = true,
            Some("http") => self.https = false,
            _ => {}
        }
        if let Some(port) = first(headers, &X_FORWARDED_PORT).and_then(|port| port.parse().ok()) {
            self.port = port;
        }
        let host = first(headers, &X_FORWARDED_HOST).filter(|host| Authority::parse(host).is_some());
        self.host = host.map(str::to_owned);
    }
}

/// The first element of a list.
fn first<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let text = headers.get(name)?.to_str().ok()?;
    text.split(',').next().map(str::trim).filter(|text| !text.is_empty())
}

/// The first hop from the right that is not trusted, else the leftmost (nginx's `real_ip_recursive on`).
fn walk(peer: IpAddr, is_proxy: impl Fn(IpAddr) -> bool, headers: &HeaderMap, field: &HeaderName) -> IpAddr {
    let fields = headers.get_all(field).iter().filter_map(|field| field.to_str().ok());
    let hops: Vec<&str> = fields.flat_map(|field| field.split(',')).map(str::trim).collect();
    let mut client = peer;
    for hop in hops.into_iter().rev() {
        let Some(ip) = address(hop).filter(|_| is_proxy(client)) else { break };
        client = ip;
    }
    client
}

/// An address with or without a port and brackets.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let with_port = || text.parse::<SocketAddr>().ok().map(|addr| addr.ip());
    bare.parse::<IpAddr>().ok().or_else(with_port).map(|ip| ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use config::global::Global;
    use http::HeaderValue;

    use super::*;

    fn front(data: &[(&str, &str)]) -> Front {
        let data = data.iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned())).collect();
        Front::of(&Arc::new(Global::read(&data, &Global::default()).0))
    }

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers
    }

    fn plain(peer: &str) -> Connection {
        Connection { peer: peer.parse().ok(), direct: None, tls: false, port: 80 }
    }

    #[test]
    fn the_client_is_the_first_hop_that_is_not_trusted() {
        let front = front(&[("enable-real-ip", "true"), ("proxy-real-ip-cidr", "10.0.0.0/8")]);
        for (peer, field, expected) in [
            ("10.0.0.1", "203.0.113.9", "203.0.113.9"),
            ("10.0.0.1", "6.6.6.6, 203.0.113.9, 10.0.0.2", "203.0.113.9"),
            ("10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"),
            ("10.0.0.1", "[2001:db8::1]:80, 10.0.0.2", "2001:db8::1"),
            ("10.0.0.1", "203.0.113.9:4711", "203.0.113.9"),
            ("10.0.0.1", "203.0.113.9, nonsense", "10.0.0.1"),
            ("10.0.0.1", "", "10.0.0.1"),
            ("192.0.2.1", "203.0.113.9", "192.0.2.1"),
        ] {
            let met = Met::new(&front, &headers(&[("x-forwarded-for", field)]), &plain(peer));
            assert_eq!(met.client, expected.parse().ok(), "{peer}: {field}");
        }
    }

    #[test]
    fn what_others_forwarded_counts_only_from_whom_is_trusted_and_if_asked_for() {
        let claims = headers(&[
            ("x-forwarded-proto", "https, http"),
            ("x-forwarded-port", "8443"),
            ("x-forwarded-host", "shop.example.com, other.example"),
            ("x-forwarded-for", "203.0.113.9"),
        ]);
        let data = |key| [(key, "true"), ("proxy-real-ip-cidr", "10.0.0.0/8")];
        let believing = front(&data("use-forwarded-headers"));
        let met = Met::new(&believing, &claims, &plain("10.0.0.1"));
        assert_eq!((met.https, met.port, met.host.as_deref()), (true, 8443, Some("shop.example.com")));
        for (front, peer) in [
            (&believing, "192.0.2.1"),
            (&front(&data("enable-real-ip")), "10.0.0.1"),
            (&front(&[("use-forwarded-headers", "true")]), "10.0.0.1"),
        ] {
            let met = Met::new(front, &claims, &plain(peer));
            assert_eq!((met.https, met.port, met.host), (false, 80, None), "{peer}");
        }
    }

    #[test]
    fn what_a_proxy_header_says_goes_before_fields() {
        let data =
            [("use-forwarded-headers", "true"), ("use-proxy-protocol", "true"), ("proxy-real-ip-cidr", "10.0.0.0/8")];
        let connection = Connection { direct: "10.0.0.1".parse().ok(), port: 443, ..plain("203.0.113.9") };
        let claims = headers(&[("x-forwarded-for", "6.6.6.6"), ("x-forwarded-proto", "http")]);
        let met = Met::new(&front(&data), &claims, &connection);
        assert_eq!((met.client, met.https, met.is_trusted), ("203.0.113.9".parse().ok(), true, false));
        assert_eq!((met.peer, met.direct), ("203.0.113.9".parse().ok(), "10.0.0.1".parse().ok()));
    }
}
