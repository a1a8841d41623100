//! What browsers are told about pages of other origins (Fetch standard §3.2).

use config::annotation::{Cors, Origins};
use http::Method;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, HeaderMap, HeaderName,
    HeaderValue, ORIGIN,
};

const NAMES: [HeaderName; 6] = [
    ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_ALLOW_CREDENTIALS,
    ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_HEADERS,
    ACCESS_CONTROL_EXPOSE_HEADERS,
    ACCESS_CONTROL_MAX_AGE,
];

/// What to change in an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AnswerFields {
    /// Fields of the endpoint that ours replace.
    pub remove: Vec<HeaderName>,
    /// Fields to set.
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// Whether caches must tell origins apart.
    pub varies: bool,
}

/// Whether a request is answered by us: any `OPTIONS` of somebody who may ask.
pub(super) fn is_preflight(cors: &Cors, request: &http::request::Parts) -> bool {
    request.method == Method::OPTIONS && admits(cors, &request.headers)
}

/// The fields for the answer; those of the endpoint stay if the origin is none of ours.
pub(super) fn answer(cors: &Cors, request: &HeaderMap) -> AnswerFields {
    let varies = cors.origins != Origins::Any;
    if !admits(cors, request) {
        return AnswerFields { varies, ..AnswerFields::default() };
    }
    let origin = if varies { request.get(ORIGIN).cloned() } else { Some(HeaderValue::from_static("*")) };
    let text = |text: &str| HeaderValue::from_str(text).ok();
    let fields = [
        (ACCESS_CONTROL_ALLOW_ORIGIN, origin),
        (ACCESS_CONTROL_ALLOW_CREDENTIALS, cors.credentials.then(|| HeaderValue::from_static("true"))),
        (ACCESS_CONTROL_ALLOW_METHODS, text(&cors.methods)),
        (ACCESS_CONTROL_ALLOW_HEADERS, text(&cors.headers)),
        (ACCESS_CONTROL_EXPOSE_HEADERS, cors.expose.as_deref().and_then(text)),
        (ACCESS_CONTROL_MAX_AGE, Some(HeaderValue::from(cors.max_age))),
    ];
    let set = fields.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
    AnswerFields { remove: NAMES.to_vec(), set, varies }
}

fn admits(cors: &Cors, request: &HeaderMap) -> bool {
    let origin = || request.get(ORIGIN)?.to_str().ok();
    cors.origins == Origins::Any || origin().is_some_and(|origin| cors.origins.admit(origin))
}
