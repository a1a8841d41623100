//! Who is asked: host and port, as `Host`, `:authority` and an absolute target write them (RFC 3986 §3.2).

use std::borrow::Cow;
use std::net::{Ipv4Addr, Ipv6Addr};

/// A valid host with its port. One value routes the request and is written upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Authority<'a> {
    text: &'a str,
    host: &'a str,
    port: Option<u16>,
}

impl<'a> Authority<'a> {
    /// Reads `host`, `host:port` or `[v6]:port`; `None` if it is anything else, a list or user information included.
    ///
    /// Underscores are accepted in names, since machines inside a LAN have them.
    #[must_use]
    pub fn parse(text: &'a str) -> Option<Self> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (inner, rest) = rest.split_once(']')?;
                inner.parse::<Ipv6Addr>().ok()?;
                (inner, if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) })
            }
            None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
        };
        if !text.starts_with('[') && !is_name(host) {
            return None;
        }
        let port = match port {
            Some(port) => Some(read_port(port)?),
            None => None,
        };
        Some(Self { text, host, port })
    }

    /// As the client wrote it, port included.
    #[must_use]
    pub const fn as_str(&self) -> &'a str {
        self.text
    }

    /// The host to look a route up by: lower case, no port, no trailing dot, no brackets.
    #[must_use]
    pub fn host(&self) -> Cow<'a, str> {
        let host = self.host.strip_suffix('.').unwrap_or(self.host);
        if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
            Cow::Owned(host.to_ascii_lowercase())
        } else {
            Cow::Borrowed(host)
        }
    }

    /// The port, if there is one.
    #[must_use]
    pub const fn port(&self) -> Option<u16> {
        self.port
    }

    /// Whether both ask the same host and port.
    pub(super) fn is_same(&self, other: &Self, is_https: bool) -> bool {
        let default = if is_https { 443 } else { 80 };
        self.host.eq_ignore_ascii_case(other.host) && self.port.unwrap_or(default) == other.port.unwrap_or(default)
    }
}

/// Digits only, 1 to 65535.
fn read_port(text: &str) -> Option<u16> {
    let is_number = (1..=5).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten().filter(|port| *port != 0)
}

/// A DNS name, perhaps with a final dot, or an IPv4 address; what ends in a number must be an address, for else some
/// reader takes it for one (`0x7f.1`, WHATWG URL §3.5).
fn is_name(host: &str) -> bool {
    let name = host.strip_suffix('.').unwrap_or(host);
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let is_label = |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(is_inner);
    let last = name.rsplit('.').next().unwrap_or_default();
    let ends_in_number = last.bytes().all(|byte| byte.is_ascii_digit()) || last.starts_with("0x");
    name.len() <= 253 && name.split('.').all(is_label) && (!ends_in_number || host.parse::<Ipv4Addr>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_is_a_host_and_perhaps_a_port() {
        for (text, host, port) in [
            ("example.com", "example.com", None),
            ("Example.COM.:8080", "example.com", Some(8080)),
            ("192.0.2.1:80", "192.0.2.1", Some(80)),
            ("[2001:db8::1]", "2001:db8::1", None),
            ("[2001:DB8::1]:443", "2001:db8::1", Some(443)),
            ("my_host", "my_host", None),
        ] {
            let authority = Authority::parse(text).unwrap();
            assert_eq!((&*authority.host(), authority.port()), (host, port), "{text}");
            assert_eq!(authority.as_str(), text);
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            ".",
            "a..b",
            "a b",
            "a,b",
            "a/b",
            "a?b",
            "a#b",
            "a{b}",
            "u@a",
            "a:",
            "a:0",
            "a:65536",
            "a:080000",
            "a:+1",
            "a:8:8",
            "[::1",
            "[::1]x",
            "[::1]:",
            "[a]",
            "::1",
            "1.2.3",
            "1.2.3.4.5",
            "0x7f.1",
            "127.1",
            "999.1.1.1",
            "é",
            "a\0",
        ] {
            assert_eq!(Authority::parse(text), None, "{text}");
        }
    }
}
