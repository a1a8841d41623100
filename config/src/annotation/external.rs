//! Who may come, said by a service of the operator (`auth-url` and its kin).

use super::read::Reader;
use super::snippet;
use super::text::Text;
use super::value;

/// A service that is asked about every request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalAuth {
    /// Whether over TLS.
    pub tls: bool,
    /// Its host, lower case; an address of IPv6 without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Host and port as they are written.
    pub authority: String,
    /// Path and query to ask for.
    pub target: Text,
    /// With this instead of GET (`auth-method`).
    pub method: Option<String>,
    /// Where a client is sent that is not known (`auth-signin`).
    pub signin: Option<Text>,
    /// Where the page that it wanted is named there (`auth-signin-redirect-param`).
    pub signin_param: String,
    /// Fields of its answer that endpoints are told, lower case (`auth-response-headers`).
    pub response_headers: Vec<String>,
    /// `X-Auth-Request-Redirect` (`auth-request-redirect`).
    pub request_redirect: Option<Text>,
    /// Whether its cookies are passed on with every status (`auth-always-set-cookie`).
    pub always_set_cookie: bool,
    /// Further fields for it (`auth-snippet`).
    pub fields: Vec<(String, Text)>,
}

pub(super) fn read(reader: &mut Reader<'_>) -> Option<ExternalAuth> {
    let place = reader.guard("auth-url", place);
    let method = reader.guard("auth-method", method);
    let signin = reader.guard("auth-signin", |text| url(text).and(Text::parse(text)));
    let signin_param = reader.value("auth-signin-redirect-param", name);
    let response_headers = reader.guard("auth-response-headers", names).unwrap_or_default();
    let request_redirect =
        reader.value("auth-request-redirect", |text| value::field_text(text).and_then(|text| Text::parse(&text)));
    let always_set_cookie = reader.flag("auth-always-set-cookie");
    let fields = reader.guard("auth-snippet", snippet::request_fields).unwrap_or_default();
    if !reader.has("auth-url") {
        for name in ["auth-signin", "auth-snippet"] {
            reader.deny(name, "auth-url is missing; name the service that is asked");
        }
    }
    let (tls, host, port, authority, target) = place?;
    Some(ExternalAuth {
        tls,
        host,
        port,
        authority,
        target,
        method,
        signin,
        signin_param: signin_param.unwrap_or_else(|| "rd".to_owned()),
        response_headers,
        request_redirect,
        always_set_cookie,
        fields,
    })
}

/// An http or https URL whose host is no variable.
fn url(text: &str) -> Result<(bool, &str, &str), String> {
    let wrong = || format!("{text:?} is not an http or https URL; write it like \"https://auth.example/check\"");
    let (tls, rest) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
        (Some(rest), _) => (true, rest),
        (None, Some(rest)) => (false, rest),
        (None, None) => return Err(wrong()),
    };
    if !text.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"\\<>^`|".contains(&byte)) {
        return Err(wrong());
    }
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, target) = rest.split_at(end);
    if authority.is_empty() { Err(wrong()) } else { Ok((tls, authority, target)) }
}

type Place = (bool, String, u16, String, Text);

fn place(text: &str) -> Result<Place, String> {
    let (tls, authority, target) = url(text)?;
    let wrong = || format!("{authority:?} is not a host; it may hold no variable");
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']').ok_or_else(wrong)?;
            (host, rest.strip_prefix(':'))
        }
        None => authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port))),
    };
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte);
    if host.is_empty() || !host.bytes().all(is_plain) {
        return Err(wrong());
    }
    let port = match port {
        None => Some(if tls { 443 } else { 80 }),
        Some(port) => port.parse::<u16>().ok().filter(|port| *port > 0),
    };
    let target = match target.strip_prefix('?') {
        Some(query) => format!("/?{query}"),
        None if target.is_empty() => "/".to_owned(),
        None => target.to_owned(),
    };
    Ok((tls, host.to_ascii_lowercase(), port.ok_or_else(wrong)?, authority.to_owned(), Text::parse(&target)?))
}

fn method(text: &str) -> Result<String, String> {
    const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE"];
    let known = METHODS.iter().find(|method| **method == text && **method != "CONNECT");
    known.map(|method| (*method).to_owned()).ok_or_else(|| format!("{text:?} is not a method"))
}

fn name(text: &str) -> Result<String, String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    if !text.is_empty() && text.bytes().all(is_plain) {
        return Ok(text.to_owned());
    }
    Err(format!("{text:?} is not a name; letters, digits, - and _ may stand in one"))
}

fn names(text: &str) -> Result<Vec<String>, String> {
    value::list(text).filter(|text| !text.is_empty()).map(|text| name(text).map(|name| name.to_lowercase())).collect()
}
