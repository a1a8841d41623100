//! What the header of a request says when it leaves for an endpoint.
//!
//! Fields about the client's connection are ours: what the client claims is deleted first and the truth written last,
//! after its `Connection` list was applied, so that nothing it sends can forge or delete them. The names are those of
//! ingress-nginx with its defaults. [`Plan`] says what to remove and what to set; framing fields (`Content-Length`,
//! `Transfer-Encoding`) and `Expect` are the proxy's own.
//!
//! Pure; random bits are an argument.

use std::fmt::Write as _;
use std::net::IpAddr;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::gate::is_protected_field;

/// The longest request id we take over from a client.
const MAX_REQUEST_ID: usize = 128;

/// Names of a request's id.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_SCHEME: HeaderName = HeaderName::from_static("x-forwarded-scheme");
const X_SCHEME: HeaderName = HeaderName::from_static("x-scheme");
const X_ORIGINAL_URI: HeaderName = HeaderName::from_static("x-original-uri");
const X_ORIGINAL_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-original-forwarded-for");
const X_ORIGINAL_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-original-forwarded-host");

/// How a request reached us.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    /// The client's address.
    pub client: IpAddr,
    /// Whether over TLS.
    pub tls: bool,
    /// The port that endpoints are told.
    pub port: u16,
    /// Host and port as the client wrote them, checked by the gate.
    pub authority: &'a str,
    /// The request's id, from [`request_id`].
    pub request_id: &'a str,
    /// Whether a WebSocket handshake is forwarded, so that `Connection` and `Upgrade` are.
    pub websocket: bool,
    /// The last hop before us, if the way that a request has come so far is passed on.
    pub hop: Option<IpAddr>,
    /// Path and query as they came, if endpoints are told.
    pub original_uri: Option<&'a str>,
    /// Whether names with `_` pass.
    pub underscores: bool,
}

/// What to change in a header: first remove, then set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Names to remove, each with all its values.
    pub remove: Vec<HeaderName>,
    /// Fields to set, in place of any of that name.
    pub set: Vec<(HeaderName, HeaderValue)>,
}

impl Plan {
    /// Plans the header for an endpoint.
    #[must_use]
    pub fn new(headers: &HeaderMap, arrival: &Arrival<'_>) -> Self {
        let mut plan = Self { remove: Vec::with_capacity(8), set: Vec::with_capacity(13) };
        plan.remove.extend(headers.keys().filter(|name| is_removed(name, arrival.underscores)).cloned());
        plan.remove.extend(named_by_connection(headers));
        let scheme = HeaderValue::from_static(if arrival.tls { "https" } else { "http" });
        plan.set_text(header::HOST, arrival.authority);
        if !arrival.request_id.is_empty() {
            plan.set_text(X_REQUEST_ID, arrival.request_id);
        }
        let client = HeaderValue::from_str(&arrival.client.to_canonical().to_string()).ok();
        plan.set.extend(client.clone().map(|client| (X_REAL_IP, client)));
        plan.set.extend(arrival.hop.map_or(client, |hop| way(headers, hop)).map(|way| (X_FORWARDED_FOR, way)));
        plan.set_text(X_FORWARDED_HOST, arrival.authority);
        plan.set.push((X_FORWARDED_PORT, HeaderValue::from(arrival.port)));
        plan.set.extend([X_FORWARDED_PROTO, X_FORWARDED_SCHEME, X_SCHEME].map(|name| (name, scheme.clone())));
        plan.set.extend(claimed(headers, &X_FORWARDED_FOR).map(|claim| (X_ORIGINAL_FORWARDED_FOR, claim)));
        plan.set.extend(claimed(headers, &X_FORWARDED_HOST).map(|claim| (X_ORIGINAL_FORWARDED_HOST, claim)));
        if let Some(uri) = arrival.original_uri {
            plan.set_text(X_ORIGINAL_URI, uri);
        }
        if arrival.websocket {
            plan.set.push((header::CONNECTION, HeaderValue::from_static("Upgrade")));
            plan.set.push((header::UPGRADE, HeaderValue::from_static("websocket")));
        }
        plan
    }

    /// Carries the plan out on a plain header map.
    pub fn apply(self, headers: &mut HeaderMap) {
        for name in &self.remove {
            headers.remove(name);
        }
        for (name, value) in self.set {
            headers.insert(name, value);
        }
    }

    /// Sets a text that a checked value cannot fail to be; leaves the field out if it does.
    fn set_text(&mut self, name: HeaderName, text: &str) {
        match HeaderValue::from_str(text) {
            Ok(value) => self.set.push((name, value)),
            Err(_) => self.remove.push(name),
        }
    }
}

/// The value of a cookie; of two with one name the first.
#[must_use]
pub fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let fields = headers.get_all(header::COOKIE).iter().filter_map(|field| field.to_str().ok());
    let mut pairs = fields.flat_map(|field| field.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(found, _)| *found == name).map(|(_, value)| value)
}

/// The id of a request: the client's if it is one, else 32 hexadecimal digits of `random`.
#[must_use]
pub fn request_id(headers: &HeaderMap, random: u128) -> String {
    let mut ids = headers.get_all(X_REQUEST_ID).iter();
    if let (Some(id), None) = (ids.next(), ids.next())
        && let Ok(id) = id.to_str()
        && is_request_id(id)
    {
        return id.to_owned();
    }
    let mut id = String::with_capacity(32);
    // Writing to a String cannot fail.
    let _ = write!(id, "{random:032x}");
    id
}

/// What may stand in a log line and a page as it is.
fn is_request_id(id: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/+=@~".contains(&byte);
    (1..=MAX_REQUEST_ID).contains(&id.len()) && id.bytes().all(is_plain)
}

/// All that a client claims under one name, as one list.
fn claimed(headers: &HeaderMap, name: &HeaderName) -> Option<HeaderValue> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?;
    let joined = values.fold(None, |joined: Option<Vec<u8>>, value| {
        let joined = joined.unwrap_or_else(|| first.as_bytes().to_vec());
        Some([&joined[..], b", ", value.as_bytes()].concat())
    });
    joined.map_or_else(|| Some(first.clone()), |joined| HeaderValue::from_bytes(&joined).ok())
}

/// What the hops before us say, and the last of them.
fn way(headers: &HeaderMap, hop: IpAddr) -> Option<HeaderValue> {
    let hop = hop.to_canonical().to_string();
    let Some(claimed) = claimed(headers, &X_FORWARDED_FOR) else { return HeaderValue::from_str(&hop).ok() };
    HeaderValue::from_bytes(&[claimed.as_bytes(), b", ", hop.as_bytes()].concat()).ok()
}

/// The fields of a request that go no further: those for this connection, and claims about who the client is.
pub(crate) fn foreign(headers: &HeaderMap) -> impl Iterator<Item = HeaderName> {
    headers.keys().filter(|name| is_removed(name, false)).cloned().chain(named_by_connection(headers))
}

/// Whether no client may send this upstream.
///
/// Hop-by-hop fields (RFC 9110 §7.6.1); names that some server reads as another one (`_` for `-`); and names by which
/// proxies tell who the client is, since a backend that trusts us would trust the client's word.
fn is_removed(name: &HeaderName, underscores: bool) -> bool {
    const NAMES: [&str; 15] = [
        "connection",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "upgrade",
        "http2-settings",
        "proxy",
        "forwarded",
        "x-real-ip",
        "x-scheme",
        "x-rewrite-url",
        "x-client-ip",
        "true-client-ip",
        "cf-connecting-ip",
    ];
    const FAMILIES: [&str; 4] = ["x-forwarded-", "x-original-", "x-auth-request-", "ssl-client-"];
    let is_ours = |name: &str| NAMES.contains(&name) || FAMILIES.iter().any(|family| name.starts_with(family));
    let name = name.as_str();
    // The twin of a field that is ours never passes.
    is_ours(name) || (name.contains('_') && (!underscores || is_ours(&name.replace('_', "-"))))
}

/// The fields that the client's `Connection` says are for this hop only.
fn named_by_connection(headers: &HeaderMap) -> impl Iterator<Item = HeaderName> {
    let lists = headers.get_all(header::CONNECTION).iter();
    let options = lists.flat_map(|list| list.as_bytes().split(|byte| *byte == b','));
    let names = options.filter_map(|option| HeaderName::from_bytes(option.trim_ascii()).ok());
    names.filter(|name| !is_protected_field(name.as_str().as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers
    }

    fn arrival() -> Arrival<'static> {
        Arrival {
            client: "192.0.2.7".parse().unwrap(),
            tls: false,
            port: 8080,
            authority: "shop.example.com:8080",
            request_id: "0af7",
            websocket: false,
            hop: None,
            original_uri: None,
            underscores: false,
        }
    }

    fn sent(fields: &[(&'static str, &'static str)], arrival: &Arrival<'_>) -> HeaderMap {
        let mut headers = headers(fields);
        Plan::new(&headers, arrival).apply(&mut headers);
        headers
    }

    #[test]
    fn the_truth_about_the_connection_is_told() {
        let tls = Arrival { tls: true, port: 443, client: "::ffff:192.0.2.7".parse().unwrap(), ..arrival() };
        for (arrival, port, scheme) in [(arrival(), "8080", "http"), (tls, "443", "https")] {
            let sent = sent(&[], &arrival);
            for (name, expected) in [
                ("host", "shop.example.com:8080"),
                ("x-request-id", "0af7"),
                ("x-real-ip", "192.0.2.7"),
                ("x-forwarded-for", "192.0.2.7"),
                ("x-forwarded-host", "shop.example.com:8080"),
                ("x-forwarded-port", port),
                ("x-forwarded-proto", scheme),
                ("x-forwarded-scheme", scheme),
                ("x-scheme", scheme),
            ] {
                assert_eq!(sent[name], expected, "{name}");
            }
            assert_eq!(sent.len(), 9);
        }
    }

    #[test]
    fn what_a_client_claims_is_kept_apart() {
        let claims = [
            ("x-forwarded-for", "10.0.0.1"),
            ("x-forwarded-for", "10.0.0.2"),
            ("x-forwarded-host", "evil"),
            ("x-forwarded-prefix", "/x"),
            ("x-original-forwarded-for", "nobody"),
            ("forwarded", "for=1"),
            ("x_forwarded_for", "10.0.0.3"),
            ("x-auth-request-user", "root"),
            ("ssl-client-verify", "SUCCESS"),
            ("proxy", "http://evil"),
            ("cookie", "a=b"),
        ];
        let sent = sent(&claims, &arrival());
        assert_eq!(sent["x-forwarded-for"], "192.0.2.7");
        assert_eq!(sent["x-original-forwarded-for"], "10.0.0.1, 10.0.0.2");
        assert_eq!(sent["x-original-forwarded-host"], "evil");
        assert_eq!(sent["cookie"], "a=b");
        let gone =
            ["forwarded", "x-forwarded-prefix", "x_forwarded_for", "x-auth-request-user", "ssl-client-verify", "proxy"];
        assert!(gone.iter().all(|name| !sent.contains_key(*name)), "{sent:?}");
    }

    #[test]
    fn the_whole_way_is_told_where_that_is_wished() {
        let claims = [("x-forwarded-for", "203.0.113.9, 10.0.0.2"), ("x_note", "1"), ("x_real_ip", "6.6.6.6")];
        let hop = Some("10.0.0.1".parse().unwrap());
        let sent = sent(&claims, &Arrival { hop, original_uri: Some("/a?b"), underscores: true, ..arrival() });
        assert_eq!(sent["x-forwarded-for"], "203.0.113.9, 10.0.0.2, 10.0.0.1");
        assert_eq!(
            (&sent["x-original-uri"], &sent["x-real-ip"]),
            (&"/a?b".parse().unwrap(), &"192.0.2.7".parse().unwrap())
        );
        assert!(sent.contains_key("x_note") && !sent.contains_key("x_real_ip"));
        let alone = self::sent(&[], &Arrival { hop, request_id: "", ..arrival() });
        assert_eq!(alone["x-forwarded-for"], "10.0.0.1");
        assert!(!alone.contains_key("x-request-id"));
    }

    #[test]
    fn what_connection_names_goes_and_cannot_take_ours_along() {
        let fields = [
            ("connection", "x-hop, keep-alive, x-real-ip, cookie"),
            ("connection", "X-Other"),
            ("x-hop", "1"),
            ("x-other", "1"),
            ("keep-alive", "5"),
            ("cookie", "a=b"),
            ("te", "trailers"),
        ];
        let sent = sent(&fields, &arrival());
        assert!(["connection", "x-hop", "x-other", "keep-alive", "te"].iter().all(|name| !sent.contains_key(*name)));
        assert_eq!(
            (&sent["x-real-ip"], &sent["cookie"]),
            (&HeaderValue::from_static("192.0.2.7"), &HeaderValue::from_static("a=b"))
        );
    }

    #[test]
    fn only_a_websocket_handshake_keeps_its_upgrade() {
        let fields = [("connection", "upgrade, http2-settings"), ("upgrade", "h2c"), ("http2-settings", "x")];
        let plain = sent(&fields, &arrival());
        assert!(
            !plain.contains_key("upgrade")
                && !plain.contains_key("connection")
                && !plain.contains_key("http2-settings")
        );
        let socket = sent(&fields, &Arrival { websocket: true, ..arrival() });
        assert_eq!(
            (socket["connection"].as_bytes(), socket["upgrade"].as_bytes()),
            (&b"Upgrade"[..], &b"websocket"[..])
        );
    }

    #[test]
    fn a_request_keeps_its_id_if_it_has_one() {
        for (fields, expected) in [
            (&[("x-request-id", "abc-123")][..], "abc-123"),
            (&[], "0000000000000000000000000000002a"),
            (&[("x-request-id", "a b")], "0000000000000000000000000000002a"),
            (&[("x-request-id", "<x>")], "0000000000000000000000000000002a"),
            (&[("x-request-id", "a"), ("x-request-id", "b")], "0000000000000000000000000000002a"),
        ] {
            assert_eq!(request_id(&headers(fields), 42), expected, "{fields:?}");
        }
    }
}
