//! Which endpoint is asked: `load-balance`, `upstream-hash-by` and the `affinity` family.

use std::time::Duration;

use super::read::Reader;
use super::value;

/// How one of several endpoints is chosen for a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Balance {
    /// For requests that nothing ties to an endpoint.
    pub method: Method,
    /// What ties requests to endpoints.
    pub hash: Option<HashBy>,
    /// What ties clients to endpoints; goes before the hash.
    pub affinity: Option<Affinity>,
}

/// How one is chosen freely.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Method {
    /// Of two at random, the one with fewer requests under way.
    #[default]
    LeastRequests,
    /// One after the other.
    RoundRobin,
    /// Of two at random, the one that answers faster.
    Ewma,
}

/// Requests with one key go to one endpoint, or to one of a few.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HashBy {
    /// The parts of the key, one after the other.
    pub key: Vec<KeyPart>,
    /// Among how many endpoints a request is free to choose.
    pub subset: usize,
}

/// A part of a key: text, or what nginx has a variable for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyPart {
    /// Text as it is.
    Text(String),
    /// `$request_uri`: path and query as the client wrote them.
    RequestUri,
    /// `$uri`: the path, normalised.
    Uri,
    /// `$args`, `$query_string`.
    Query,
    /// `$remote_addr`, `$binary_remote_addr`.
    Client,
    /// `$host`, `$http_host`.
    Host,
    /// `$scheme`.
    Scheme,
    /// `$request_method`.
    Method,
    /// `$http_NAME`: a field, by its name in lower case with `-`.
    Field(String),
    /// `$arg_NAME`: a parameter of the query.
    Argument(String),
    /// `$cookie_NAME`.
    Cookie(String),
}

/// A cookie that ties a client to an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is an annotation that is true or false")]
pub struct Affinity {
    /// Whether a client stays for as long as its endpoint lives, rather than moving when that spreads load better.
    pub persistent: bool,
    /// The name of the cookie.
    pub cookie: String,
    /// `Path`; the path of the rule if it is not said.
    pub path: Option<String>,
    /// `Domain`.
    pub domain: Option<String>,
    /// `Max-Age`.
    pub max_age: Option<Duration>,
    /// `Expires`, counted from the answer.
    pub expires: Option<Duration>,
    /// `SameSite`.
    pub same_site: Option<SameSite>,
    /// Whether `SameSite=None` is left out for browsers that misread it.
    pub conditional_none: bool,
    /// Whether `Secure` is always said; else only to clients that come over TLS.
    pub secure: bool,
    /// Whether a client whose endpoint failed stays with the one that helped out.
    pub change_on_failure: bool,
    /// Whether a client that a canary answered, or did not, is asked by no rule of it again (`affinity-canary-behavior`).
    pub sticky_canary: bool,
}

/// Values of `SameSite` (RFC 6265bis §4.1.2.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SameSite {
    /// Also with requests from other sites.
    None,
    /// Also when another site leads here.
    Lax,
    /// Only with requests from this site.
    Strict,
}

pub(super) fn read(reader: &mut Reader<'_>) -> Balance {
    Balance {
        method: reader.value("load-balance", method).unwrap_or_default(),
        hash: hash(reader),
        affinity: affinity(reader),
    }
}

fn method(text: &str) -> Result<Method, String> {
    match text {
        "round_robin" => Ok(Method::RoundRobin),
        "ewma" => Ok(Method::Ewma),
        "least_conn" | "least_requests" => Ok(Method::LeastRequests),
        "ip_hash" => Err("ip_hash is not supported; write upstream-hash-by: \"$binary_remote_addr\"".to_owned()),
        _ => Err(format!("{text:?} is none of round_robin, ewma and least_conn")),
    }
}

fn hash(reader: &mut Reader<'_>) -> Option<HashBy> {
    let key = reader.value("upstream-hash-by", key);
    let is_subset = reader.flag("upstream-hash-by-subset");
    let size = reader.value("upstream-hash-by-subset-size", |text| {
        let size = value::number(text).filter(|size| (1..=1000).contains(size)).and_then(|size| size.try_into().ok());
        size.ok_or_else(|| format!("{text:?} is not a number of endpoints, 1 to 1000"))
    });
    Some(HashBy { key: key?, subset: if is_subset { size.unwrap_or(3) } else { 1 } })
}

/// Text with `$name` and `${name}`.
fn key(text: &str) -> Result<Vec<KeyPart>, String> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        if !before.is_empty() {
            parts.push(KeyPart::Text(before.to_owned()));
        }
        let (name, tail) = variable(after).ok_or_else(|| format!("{text:?} has a $ without a name after it"))?;
        parts.push(part(name)?);
        rest = tail;
    }
    if !rest.is_empty() {
        parts.push(KeyPart::Text(rest.to_owned()));
    }
    if parts.iter().all(|part| matches!(part, KeyPart::Text(_))) {
        return Err(format!("{text:?} is the same for every request; write a variable such as \"$request_uri\""));
    }
    Ok(parts)
}

/// The name of a variable, and what follows it.
fn variable(text: &str) -> Option<(&str, &str)> {
    if let Some(text) = text.strip_prefix('{') {
        return text.split_once('}');
    }
    let end = text.find(|char: char| !char.is_ascii_alphanumeric() && char != '_').unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

fn part(name: &str) -> Result<KeyPart, String> {
    let named = |prefix: &str| name.strip_prefix(prefix).filter(|name| !name.is_empty()).map(str::to_owned);
    Ok(match name {
        "request_uri" => KeyPart::RequestUri,
        "uri" | "document_uri" => KeyPart::Uri,
        "args" | "query_string" => KeyPart::Query,
        "remote_addr" | "binary_remote_addr" => KeyPart::Client,
        "host" | "http_host" => KeyPart::Host,
        "scheme" => KeyPart::Scheme,
        "request_method" => KeyPart::Method,
        _ => {
            let field = named("http_").map(|name| KeyPart::Field(name.to_ascii_lowercase().replace('_', "-")));
            let part = field
                .or_else(|| named("arg_").map(KeyPart::Argument))
                .or_else(|| named("cookie_").map(KeyPart::Cookie));
            part.ok_or_else(|| {
                format!("variable ${name} is unknown; use $request_uri, $uri, $args, $remote_addr, $host, $scheme, $request_method, $http_NAME, $arg_NAME or $cookie_NAME")
            })?
        }
    })
}

fn affinity(reader: &mut Reader<'_>) -> Option<Affinity> {
    let is_on = reader.value("affinity", |text| match text {
        "cookie" => Ok(()),
        _ => Err(format!("{text:?} is not supported; write \"cookie\"")),
    });
    let sticky_canary = reader.value("affinity-canary-behavior", |text| match text {
        "sticky" => Ok(true),
        "legacy" => Ok(false),
        _ => Err(format!("{text:?} is neither \"sticky\" nor \"legacy\"")),
    });
    let read = Affinity {
        persistent: reader.value("affinity-mode", mode).unwrap_or_default(),
        cookie: reader.value("session-cookie-name", token).unwrap_or_else(|| "INGRESSCOOKIE".to_owned()),
        path: reader.value("session-cookie-path", attribute),
        domain: reader.value("session-cookie-domain", attribute),
        max_age: reader.value("session-cookie-max-age", age),
        expires: reader.value("session-cookie-expires", age),
        same_site: reader.value("session-cookie-samesite", same_site),
        conditional_none: reader.flag("session-cookie-conditional-samesite-none"),
        secure: reader.flag("session-cookie-secure"),
        change_on_failure: reader.flag("session-cookie-change-on-failure"),
        sticky_canary: sticky_canary.unwrap_or(true),
    };
    is_on.map(|()| read)
}

fn mode(text: &str) -> Result<bool, String> {
    match text {
        "balanced" => Ok(false),
        "persistent" => Ok(true),
        _ => Err(format!("{text:?} is neither \"balanced\" nor \"persistent\"")),
    }
}

/// A cookie's name (RFC 6265 §4.1.1).
fn token(text: &str) -> Result<String, String> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let is_right = !text.is_empty() && text.bytes().all(is_token);
    if is_right { Ok(text.to_owned()) } else { Err(format!("{text:?} is not the name of a cookie")) }
}

/// The value of an attribute of a cookie.
fn attribute(text: &str) -> Result<String, String> {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && byte != b';' && byte != b',';
    let is_right = !text.is_empty() && text.bytes().all(is_plain);
    if is_right { Ok(text.to_owned()) } else { Err(format!("{text:?} cannot stand in a cookie")) }
}

fn age(text: &str) -> Result<Duration, String> {
    let seconds = value::number(text).filter(|seconds| *seconds <= 86_400 * 366 * 10);
    seconds
        .map(Duration::from_secs)
        .ok_or_else(|| format!("{text:?} is not a number of seconds; write it like \"3600\""))
}

fn same_site(text: &str) -> Result<SameSite, String> {
    match text.to_ascii_lowercase().as_str() {
        "none" => Ok(SameSite::None),
        "lax" => Ok(SameSite::Lax),
        "strict" => Ok(SameSite::Strict),
        _ => Err(format!("{text:?} is none of None, Lax and Strict")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::read;
    use super::*;

    #[test]
    fn the_key_of_a_hash_is_read_in_its_parts() {
        let key = |text: &str| read(&[("upstream-hash-by", text)]).0.upstream.balance.hash.map(|hash| hash.key);
        for (text, expected) in [
            ("$request_uri", Some(vec![KeyPart::RequestUri])),
            ("$binary_remote_addr", Some(vec![KeyPart::Client])),
            (
                "${host}-$http_X_User/$arg_id",
                Some(vec![
                    KeyPart::Host,
                    KeyPart::Text("-".into()),
                    KeyPart::Field("x-user".into()),
                    KeyPart::Text("/".into()),
                    KeyPart::Argument("id".into()),
                ]),
            ),
            ("$cookie_session", Some(vec![KeyPart::Cookie("session".into())])),
            ("plain", None),
            ("", None),
            ("$", None),
            ("a$-", None),
            ("${host", None),
            ("$geoip_country", None),
            ("$http_", None),
        ] {
            assert_eq!(key(text), expected, "{text}");
        }
    }

    #[test]
    fn a_subset_has_three_endpoints_unless_it_says_otherwise() {
        let by = ("upstream-hash-by", "$uri");
        for (more, expected) in [
            (&[][..], 1),
            (&[("upstream-hash-by-subset", "true")], 3),
            (&[("upstream-hash-by-subset", "true"), ("upstream-hash-by-subset-size", "5")], 5),
            (&[("upstream-hash-by-subset-size", "5")], 1),
        ] {
            let (read, problems) = read(&[&[by][..], more].concat());
            assert_eq!((read.upstream.balance.hash.unwrap().subset, problems.len()), (expected, 0), "{more:?}");
        }
    }

    #[test]
    fn affinity_is_off_unless_it_is_asked_for_and_has_the_usual_name() {
        assert_eq!(read(&[("session-cookie-name", "route")]).0.upstream.balance.affinity, None);
        let affinity = read(&[("affinity", "cookie")]).0.upstream.balance.affinity.unwrap();
        assert_eq!((affinity.cookie.as_str(), affinity.persistent, affinity.secure), ("INGRESSCOOKIE", false, false));
        let (read, problems) = read(&[
            ("affinity", "cookie"),
            ("affinity-mode", "persistent"),
            ("session-cookie-name", "route"),
            ("session-cookie-path", "/app"),
            ("session-cookie-max-age", "172800"),
            ("session-cookie-samesite", "Lax"),
            ("session-cookie-change-on-failure", "true"),
        ]);
        let affinity = read.upstream.balance.affinity.unwrap();
        assert_eq!(problems, []);
        assert!(affinity.persistent && affinity.change_on_failure);
        assert_eq!((affinity.path.as_deref(), affinity.same_site), (Some("/app"), Some(SameSite::Lax)));
    }

    #[test]
    fn a_wrong_way_to_choose_is_told() {
        for (name, value, word) in [
            ("load-balance", "ip_hash", "upstream-hash-by"),
            ("load-balance", "random", "none of"),
            ("affinity", "ip", "cookie"),
            ("affinity-mode", "loose", "neither"),
            ("session-cookie-name", "a b", "name of a cookie"),
            ("session-cookie-path", "/a; HttpOnly", "cannot stand"),
            ("session-cookie-samesite", "sometimes", "none of"),
            ("session-cookie-expires", "tomorrow", "seconds"),
            ("upstream-hash-by-subset-size", "0", "1 to 1000"),
        ] {
            let (read, problems) = read(&[(name, value)]);
            assert_eq!((read, problems.len()), (super::super::Annotations::default(), 1), "{name}: {value}");
            assert!(problems[0].message.contains(word), "{}", problems[0].message);
        }
    }
}
