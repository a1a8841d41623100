//! Who may come, said by a service of the operator (`auth-url` and its kin).

use std::time::Duration;

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
    /// For how long what it says is remembered, and for whom (`auth-cache-key`, `auth-cache-duration`).
    pub cache: Option<AuthCache>,
}

/// What a service says is remembered for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthCache {
    /// What tells one client from another.
    pub key: Text,
    /// Statuses, none for any, and for how long; the first that fits counts.
    pub times: Vec<(Vec<u16>, Duration)>,
}

impl AuthCache {
    /// For how long an answer with this status is remembered.
    #[must_use]
    pub fn time(&self, status: u16) -> Option<Duration> {
        let mut times = self.times.iter().filter(|(statuses, _)| statuses.is_empty() || statuses.contains(&status));
        times.next().map(|(_, time)| *time).filter(|time| !time.is_zero())
    }
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
    let key = reader.value("auth-cache-key", |text| value::field_text(text).and_then(|text| Text::parse(&text)));
    let times = reader.value("auth-cache-duration", times);
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
        cache: key.map(|key| AuthCache { key, times: times.unwrap_or_else(usual_times) }),
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

pub(super) fn place(text: &str) -> Result<Place, String> {
    let (tls, authority, rest) = url(text)?;
    let wrong = || format!("{authority:?} is not a host; it may hold no variable");
    // The two variables that begin with a slash may stand right behind the host.
    let (authority, target) = match ["$request_uri", "$uri"].iter().find_map(|name| authority.find(name)) {
        Some(at) => (&authority[..at], format!("{}{rest}", &authority[at..])),
        None => (authority, rest.to_owned()),
    };
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
        None => target,
    };
    Ok((tls, host.to_ascii_lowercase(), port.ok_or_else(wrong)?, authority.to_owned(), Text::parse(&target)?))
}

/// `200 202 401 5m`, as ingress-nginx has it.
fn usual_times() -> Vec<(Vec<u16>, Duration)> {
    vec![(vec![200, 202, 401], Duration::from_mins(5))]
}

/// A list of statuses, or `any`, each with a time behind: `200 202 10m, 401 1m`.
fn times(text: &str) -> Result<Vec<(Vec<u16>, Duration)>, String> {
    value::list(text).filter(|one| !one.is_empty()).map(time).collect()
}

fn time(text: &str) -> Result<(Vec<u16>, Duration), String> {
    let wrong = || format!("{text:?} is not a time with statuses; write it like \"200 202 10m\"");
    let mut words: Vec<_> = text.split_ascii_whitespace().collect();
    let last = words.pop().ok_or_else(wrong)?;
    let digits = last.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit = match &last[digits.len()..] {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(wrong()),
    };
    let seconds =
        value::number(digits).and_then(|number| number.checked_mul(unit)).filter(|seconds| *seconds <= 86_400);
    let time = Duration::from_secs(seconds.ok_or_else(wrong)?);
    if words == ["any"] {
        return Ok((Vec::new(), time));
    }
    let status = |word: &&str| value::number(word).and_then(|number| u16::try_from(number).ok()).ok_or_else(wrong);
    let statuses: Vec<u16> = words.iter().map(status).collect::<Result<_, _>>()?;
    // What nginx does with a time alone.
    Ok((if statuses.is_empty() { vec![200, 301, 302] } else { statuses }, time))
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
