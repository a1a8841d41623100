//! The key of a request, for `upstream-hash-by`.
//!
//! The parts are hashed one after the other, without being put together first.

use std::net::IpAddr;

use config::annotation::KeyPart;
use http::header::{self, HeaderMap};

use super::mix;

/// What keys are made of.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The request's head.
    pub request: &'a http::request::Parts,
    /// Its host, as the client wrote it.
    pub host: &'a str,
    /// Whether over TLS.
    pub tls: bool,
    /// The client's address.
    pub client: Option<IpAddr>,
}

/// The key of a request; `None` if there is nothing in what the parts name, so that the request is tied to nothing.
#[must_use]
pub fn of(parts: &[KeyPart], facts: &Facts<'_>) -> Option<u64> {
    let mut hash = Fnv::new();
    let mut is_empty = true;
    for part in parts {
        let before = hash.len;
        add(&mut hash, part, facts);
        is_empty &= matches!(part, KeyPart::Text(_)) || hash.len == before;
    }
    (!is_empty).then(|| mix(hash.state))
}

fn add(hash: &mut Fnv, part: &KeyPart, facts: &Facts<'_>) {
    let uri = &facts.request.uri;
    let headers = &facts.request.headers;
    match part {
        KeyPart::Text(text) => hash.add(text.as_bytes()),
        KeyPart::RequestUri => {
            hash.add(uri.path().as_bytes());
            if let Some(query) = uri.query() {
                hash.add(b"?");
                hash.add(query.as_bytes());
            }
        }
        KeyPart::Uri => match crate::path::normalise(uri.path()) {
            Ok(path) => hash.add(path.matched().as_bytes()),
            Err(_) => hash.add(uri.path().as_bytes()),
        },
        KeyPart::Query => hash.add(uri.query().unwrap_or_default().as_bytes()),
        KeyPart::Client => match facts.client {
            Some(IpAddr::V4(ip)) => hash.add(&ip.octets()),
            Some(IpAddr::V6(ip)) => hash.add(&ip.octets()),
            None => {}
        },
        KeyPart::Host => hash.add(facts.host.as_bytes()),
        KeyPart::Scheme => hash.add(if facts.tls { b"https" } else { b"http" }),
        KeyPart::Method => hash.add(facts.request.method.as_str().as_bytes()),
        KeyPart::Field(name) => headers.get_all(name).iter().for_each(|value| hash.add(value.as_bytes())),
        KeyPart::Argument(name) => hash.add(argument(uri.query().unwrap_or_default(), name).as_bytes()),
        KeyPart::Cookie(name) => hash.add(cookie(headers, name).unwrap_or_default().as_bytes()),
    }
}

/// The first value of a parameter of the query, as it is written.
fn argument<'a>(query: &'a str, name: &str) -> &'a str {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.filter(|(key, _)| *key == name).map(|(_, value)| value).next().unwrap_or_default()
}

/// The first value of a cookie.
#[must_use]
pub fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
}

/// FNV-1a, which every process computes alike.
#[derive(Clone, Copy, Debug)]
pub struct Fnv {
    /// What was added so far.
    pub state: u64,
    len: usize,
}

impl Fnv {
    /// Nothing added.
    #[must_use]
    pub const fn new() -> Self {
        Self { state: 0xCBF2_9CE4_8422_2325, len: 0 }
    }

    /// Adds bytes.
    pub fn add(&mut self, bytes: &[u8]) {
        let step = |state: u64, byte: &u8| (state ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3);
        self.state = bytes.iter().fold(self.state, step);
        self.len += bytes.len();
    }
}

impl Default for Fnv {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(target: &str, fields: &[(&str, &str)]) -> http::request::Parts {
        let request =
            fields.iter().fold(http::Request::get(target), |request, (name, value)| request.header(*name, *value));
        request.body(()).unwrap().into_parts().0
    }

    fn key(part: KeyPart, request: &http::request::Parts, client: &str) -> Option<u64> {
        of(&[part], &Facts { request, host: "a.example", tls: false, client: client.parse().ok() })
    }

    #[test]
    fn a_key_depends_on_what_it_names_and_on_nothing_else() {
        let fields = |user: &'static str, cookie: &'static str| [("x-user", user), ("cookie", cookie)];
        let base = request("/a/b?x=1&y=2", &fields("u", "a=1; s=abc"));
        for (part, same, other) in [
            (KeyPart::RequestUri, request("/a/b?x=1&y=2", &[]), request("/a/b?x=1&y=3", &[])),
            (KeyPart::Uri, request("/a/./b?z", &[]), request("/a/c?x=1&y=2", &[])),
            (KeyPart::Query, request("/?x=1&y=2", &[]), request("/a/b?x=1", &[])),
            (
                KeyPart::Field("x-user".into()),
                request("/", &fields("u", "")),
                request("/a/b?x=1&y=2", &fields("v", "a=1")),
            ),
            (KeyPart::Argument("y".into()), request("/?y=2", &[]), request("/a/b?x=2&y=1", &[])),
            (KeyPart::Cookie("s".into()), request("/", &fields("", "s=abc")), request("/", &fields("", "s=abd"))),
        ] {
            let expected = key(part.clone(), &base, "192.0.2.1");
            assert!(expected.is_some());
            assert_eq!(key(part.clone(), &same, "192.0.2.2"), expected, "{part:?}");
            assert_ne!(key(part.clone(), &other, "192.0.2.1"), expected, "{part:?}");
        }
        assert_ne!(key(KeyPart::Client, &base, "192.0.2.1"), key(KeyPart::Client, &base, "192.0.2.2"));
    }

    #[test]
    fn what_is_not_there_ties_to_nothing() {
        let bare = request("/", &[]);
        for part in [
            KeyPart::Query,
            KeyPart::Field("x".into()),
            KeyPart::Argument("x".into()),
            KeyPart::Cookie("x".into()),
            KeyPart::Client,
        ] {
            assert_eq!(key(part.clone(), &bare, ""), None, "{part:?}");
            let with_text = [KeyPart::Text("t".into()), part];
            assert_eq!(of(&with_text, &Facts { request: &bare, host: "", tls: false, client: None }), None);
        }
    }

    #[test]
    fn a_cookie_is_found_among_others() {
        let request = request("/", &[("cookie", "a=1; route=x|y; b=2"), ("cookie", "late=3")]);
        for (name, expected) in [("route", Some("x|y")), ("a", Some("1")), ("late", Some("3")), ("rout", None)] {
            assert_eq!(cookie(&request.headers, name), expected, "{name}");
        }
    }
}
