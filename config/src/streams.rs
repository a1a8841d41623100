//! Ports that lead to Services as they are: the `ConfigMap`s `tcp-services` and `udp-services` of ingress-nginx.
//!
//! ```yaml
//! data:
//!   "5432": shop/postgres:5432        # port on our side: namespace/service:port
//!   "6379": shop/redis:redis:PROXY    # clients begin with a PROXY header
//!   "25": mail/smtp:25::PROXY         # endpoints are told who the client is
//! ```
//!
//! Pure.

use crate::names;
use crate::object::ObjectName;

/// Where a port leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamTarget {
    /// The Service.
    pub service: ObjectName,
    /// Its port.
    pub port: StreamPort,
    /// Whether clients begin with a PROXY header.
    pub decode: bool,
    /// Whether endpoints are sent one.
    pub encode: bool,
}

/// A port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamPort {
    /// By its number.
    Number(u16),
    /// By its name.
    Name(String),
}

/// Reads a key: the port on our side.
pub fn port(key: &str) -> Result<u16, String> {
    let port = crate::annotation::value::number(key).and_then(|port| u16::try_from(port).ok());
    port.filter(|port| *port != 0).ok_or_else(|| format!("{key:?} is not a port from 1 to 65535"))
}

/// Reads a value: `namespace/service:port`, and perhaps `:PROXY` (from clients) and `:PROXY` (to endpoints).
pub fn target(text: &str) -> Result<StreamTarget, String> {
    let wrong = || format!("{text:?} is not a Service and its port; write it like \"shop/postgres:5432\"");
    let mut words = text.trim().split(':');
    let (namespace, name) = words.next().and_then(|service| service.split_once('/')).ok_or_else(wrong)?;
    names::label(namespace).and(names::subdomain(name)).map_err(|_| wrong())?;
    let port = words.next().filter(|port| !port.is_empty()).ok_or_else(wrong)?;
    let port = match self::port(port) {
        Ok(number) => StreamPort::Number(number),
        Err(_) if names::port(port).is_ok() => StreamPort::Name(port.to_owned()),
        Err(_) => return Err(wrong()),
    };
    let mut marker = || match words.next() {
        None | Some("") => Ok(false),
        Some(word) if word.eq_ignore_ascii_case("PROXY") => Ok(true),
        Some(word) => Err(format!("{word:?} is not PROXY, and nothing else may stand there")),
    };
    let (decode, encode) = (marker()?, marker()?);
    if words.next().is_some() {
        return Err(wrong());
    }
    Ok(StreamTarget { service: ObjectName::new(namespace, name), port, decode, encode })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_read_as_ingress_nginx_has_them() {
        let name = |port: &str| StreamPort::Name(port.to_owned());
        for (text, port, decode, encode) in [
            ("shop/db:5432", StreamPort::Number(5432), false, false),
            ("shop/db:postgres", name("postgres"), false, false),
            ("shop/db:5432:PROXY", StreamPort::Number(5432), true, false),
            ("shop/db:5432::PROXY", StreamPort::Number(5432), false, true),
            ("shop/db:5432:proxy:PROXY", StreamPort::Number(5432), true, true),
        ] {
            let expected = StreamTarget { service: ObjectName::new("shop", "db"), port, decode, encode };
            assert_eq!(target(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn anything_else_is_told() {
        for text in
            ["db:5432", "shop/db", "shop/db:", "shop/db:0:", "shop/db:99999999", "Shop/db:1", "a/b:1:x", "a/b:1:::"]
        {
            assert!(target(text).is_err(), "{text}");
        }
        for key in ["0", "65536", "http", "-1", ""] {
            assert!(port(key).is_err(), "{key}");
        }
    }
}
