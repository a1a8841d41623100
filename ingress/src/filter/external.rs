//! What a service is asked that decides who may come (`auth-url`), and what its answer means.

use std::time::Duration;

use config::annotation::ExternalAuth;
use http::header::{
    CACHE_CONTROL, CONTENT_LENGTH, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, SET_COOKIE, TRANSFER_ENCODING,
    WWW_AUTHENTICATE,
};

use super::values::{fill, wanted};
use super::{Asked, snippet};
use crate::headers;

/// A request for the service, without a body.
#[derive(Clone, Debug)]
pub struct Question {
    /// Its method.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// All its fields.
    pub fields: HeaderMap,
    /// Where a client is sent that is not known.
    pub signin: Option<String>,
    /// By what the answer is remembered.
    pub memory: Option<String>,
}

/// What the service says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Opinion {
    /// Fields that endpoints are told; those without a value are removed.
    pub fields: Vec<(HeaderName, Option<HeaderValue>)>,
    /// Cookies for the client.
    pub cookies: Vec<HeaderValue>,
}

/// What its answer means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The client may pass.
    Pass(Opinion),
    /// The client is not known; with the challenge of the service.
    Unknown(Opinion, Option<HeaderValue>),
    /// The client may not pass.
    Forbidden,
    /// The service does not know: any other status.
    Failed,
}

/// The request for the service, as ingress-nginx makes it: all fields of the client but those that frame its body, are
/// for one connection, or claim who it is; and what we know.
pub(super) fn question(auth: &ExternalAuth, asked: &Asked<'_>) -> Question {
    let mut fields = asked.request.headers.clone();
    for name in headers::foreign(&asked.request.headers).chain([CONTENT_LENGTH, TRANSFER_ENCODING, EXPECT]) {
        fields.remove(name);
    }
    let request_uri = asked.request.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let scheme = if asked.tls { "https" } else { "http" };
    let client = asked.client.map(|client| client.to_string()).unwrap_or_default();
    let redirect = auth.request_redirect.as_ref().map(|text| fill(text, asked));
    let url = format!("{scheme}://{}{request_uri}", asked.authority);
    let mut set = |name: &'static str, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            fields.insert(HeaderName::from_static(name), value);
        }
    };
    set("x-request-id", asked.request_id);
    set("x-original-url", &url);
    set("x-original-method", asked.request.method.as_str());
    set("x-sent-from", "nginx-ingress-controller");
    set("x-real-ip", &client);
    set("x-forwarded-for", &client);
    set("x-auth-request-redirect", redirect.as_deref().unwrap_or(request_uri));
    if auth.method.is_some() {
        set("x-original-uri", request_uri);
        set("x-scheme", scheme);
    }
    set(HOST_NAME, &auth.authority);
    fields.extend(asked.identity.iter().cloned());
    if auth.method.as_deref().is_some_and(|method| !matches!(method, "GET" | "HEAD")) {
        fields.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    for (name, text) in &auth.fields {
        match snippet::field(name, &fill(text, asked)) {
            Some((name, Some(value))) => drop(fields.insert(name, value)),
            Some((name, None)) if name != HOST => drop(fields.remove(name)),
            _ => {}
        }
    }
    let signin = auth.signin.as_ref().map(|signin| signin_url(&fill(signin, asked), &auth.signin_param, asked));
    let method = auth.method.clone().unwrap_or_else(|| "GET".to_owned());
    let target = fill(&auth.target, asked);
    let memory = auth.cache.as_ref().map(|cache| {
        let key = fill(&cache.key, asked);
        // What comes from the client stands last, so that it cannot pass for another part.
        format!("{}\0{}\0{}\0{}\0{}\0{key}", asked.ingress, asked.host, auth.authority, auth.port, auth.target.as_str())
    });
    Question { method, target, fields, signin, memory }
}

const HOST_NAME: &str = "host";

/// The sign-in page, told which page was wanted unless its address says so already.
fn signin_url(signin: &str, param: &str, asked: &Asked<'_>) -> String {
    let query = signin.split_once('?').map(|(_, query)| query).filter(|query| !query.is_empty());
    let names_it = |query: &str| {
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.any(|(name, value)| name == param && !value.is_empty())
    };
    match query {
        Some(query) if names_it(query) => signin.to_owned(),
        Some(_) => format!("{signin}&{param}={}", wanted(asked)),
        None => format!("{}?{param}={}", signin.trim_end_matches('?'), wanted(asked)),
    }
}

/// For how long an answer is remembered; one that is for one client only is not.
pub(super) fn keep(auth: &ExternalAuth, status: u16, answer: &HeaderMap) -> Option<Duration> {
    let controls = answer.get_all(CACHE_CONTROL).iter().filter_map(|field| field.to_str().ok());
    let mut words = controls.flat_map(|field| field.split(',')).map(|word| word.trim().to_ascii_lowercase());
    let is_private = words.any(|word| ["no-store", "no-cache", "private"].iter().any(|it| word.starts_with(it)));
    let time = auth.cache.as_ref()?.time(status)?;
    (!is_private && !answer.contains_key(SET_COOKIE)).then_some(time)
}

/// What an answer means: 2xx passes, 401 and 403 do not, anything else is a failure (nginx's `auth_request`).
pub(super) fn decision(auth: &ExternalAuth, status: u16, answer: &HeaderMap) -> Decision {
    let cookies = answer.get_all(SET_COOKIE).iter().cloned().collect();
    let field = |name: &String| {
        let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
        let value = answer.get(&name).filter(|value| !value.is_empty()).cloned();
        Some((name, value))
    };
    let fields = auth.response_headers.iter().filter_map(field).collect();
    match status {
        200..=299 => Decision::Pass(Opinion { fields, cookies }),
        401 => Decision::Unknown(Opinion { fields: Vec::new(), cookies }, answer.get(WWW_AUTHENTICATE).cloned()),
        403 => Decision::Forbidden,
        _ => Decision::Failed,
    }
}
