//! Whether an answer is compressed, and by what.
//!
//! As nginx: answers with status 200, 403 and 404, of the media types that are listed, that are long enough or of
//! unknown length, and that nobody has encoded before. Not for HTTP/1.0, not where `no-transform` forbids it (RFC 9110
//! §7.7), not a part of something (`Content-Range`).
//!
//! Pure. Who does it: `io::encode`.

use config::global::{Codec, Coding, Compression};
use http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderMap,
    HeaderValue,
};
use http::{Method, Version};

/// What becomes of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan<'a> {
    /// It stays as it is, and would for every client.
    Leave,
    /// It stays as it is, since this client takes no other: `Vary` is to say so.
    Vary,
    /// It is encoded.
    Encode(&'a Codec),
}

/// What becomes of an answer to a request.
#[must_use]
pub fn plan<'a>(
    rules: &'a Compression,
    method: &Method,
    version: Version,
    request: &HeaderMap,
    status: u16,
    answer: &HeaderMap,
) -> Plan<'a> {
    let is_fit = matches!(status, 200 | 403 | 404)
        && *method != Method::HEAD
        && [CONTENT_ENCODING, CONTENT_RANGE].iter().all(|name| !answer.contains_key(name))
        && !answer.get_all(CACHE_CONTROL).iter().any(|field| has(field, "no-transform"));
    if rules.codecs.is_empty() || !is_fit {
        return Plan::Leave;
    }
    let mut able = rules.codecs.iter().filter(|codec| is_for(codec, answer)).peekable();
    if able.peek().is_none() {
        return Plan::Leave;
    }
    let takes = |codec: &&Codec| version >= Version::HTTP_11 && accepts(request, codec.coding);
    able.find(takes).map_or(Plan::Vary, Plan::Encode)
}

/// Whether a codec is for an answer of this type and length.
fn is_for(codec: &Codec, answer: &HeaderMap) -> bool {
    let length = answer.get(CONTENT_LENGTH).and_then(|field| field.to_str().ok()?.parse::<u64>().ok());
    let kind = answer.get(CONTENT_TYPE).and_then(|field| field.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    let is_listed = |listed: &String| listed == "*" || listed.eq_ignore_ascii_case(kind);
    length.is_none_or(|length| length >= codec.least)
        && !kind.is_empty()
        && (kind.eq_ignore_ascii_case("text/html") || codec.types.iter().any(is_listed))
}

/// Whether a client takes a coding (RFC 9110 §12.5.3).
fn accepts(request: &HeaderMap, coding: Coding) -> bool {
    let fields = request.get_all(ACCEPT_ENCODING).iter().filter_map(|field| field.to_str().ok());
    let mut any = None;
    for element in fields.flat_map(|field| field.split(',')) {
        let (name, rest) = element.split_once(';').unwrap_or((element, ""));
        let weight = rest.trim().strip_prefix("q=").or_else(|| rest.trim().strip_prefix("Q="));
        let is_wanted = weight.is_none_or(|weight| weight.trim().parse::<f32>().is_ok_and(|weight| weight > 0.0));
        match name.trim() {
            name if name.eq_ignore_ascii_case(coding.as_str()) => return is_wanted,
            "*" => any = Some(is_wanted),
            _ => {}
        }
    }
    any.unwrap_or_default()
}

/// Whether a list has this element.
fn has(field: &HeaderValue, element: &str) -> bool {
    field.as_bytes().split(|byte| *byte == b',').any(|part| part.trim_ascii().eq_ignore_ascii_case(element.as_bytes()))
}

/// What a validator of the answer becomes: the bytes differ now, what they mean does not (RFC 9110 §8.8.1). `None` if
/// it is none and goes.
#[must_use]
pub fn weakened(tag: &HeaderValue) -> Option<HeaderValue> {
    match tag.as_bytes() {
        [b'W', b'/', ..] => Some(tag.clone()),
        strong @ [b'"', ..] => HeaderValue::from_bytes(&[b"W/", strong].concat()).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use config::global::Global;
    use http::header::HeaderName;

    use super::*;

    fn rules() -> Compression {
        let data = [("use-gzip", "true"), ("enable-brotli", "true"), ("brotli-types", "text/css")];
        let data: BTreeMap<_, _> = data.iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned())).collect();
        Global::read(&data, &Global::default()).0.compression
    }

    fn fields(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let field = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        fields.iter().map(field).collect()
    }

    #[test]
    fn what_is_compressed_depends_on_client_and_answer() {
        let (gzip, brotli) = (Some(Some(Coding::Gzip)), Some(Some(Coding::Brotli)));
        let css = ("content-type", "text/css; charset=utf-8");
        let rules = rules();
        // `None`: left alone; `Some(None)`: only `Vary`.
        for (accept, status, answer, expected) in [
            ("gzip, br", 200, vec![css], brotli),
            ("gzip", 200, vec![css], gzip),
            ("*", 404, vec![css], brotli),
            ("br;q=0, *;q=0.5", 200, vec![css], gzip),
            ("gzip;q=0", 200, vec![css], Some(None)),
            ("", 200, vec![css], Some(None)),
            ("gzip, br", 200, vec![("content-type", "application/json")], gzip),
            ("gzip, br", 200, vec![("content-type", "Text/HTML")], brotli),
            ("gzip", 200, vec![("content-type", "image/png")], None),
            ("gzip", 200, vec![], None),
            ("gzip", 206, vec![css], None),
            ("gzip", 500, vec![css], None),
            ("gzip", 200, vec![css, ("content-encoding", "br")], None),
            ("gzip", 200, vec![css, ("cache-control", "public, no-transform")], None),
            ("gzip", 200, vec![css, ("content-length", "100")], Some(None)),
            ("gzip", 200, vec![css, ("content-length", "256")], gzip),
            ("br", 200, vec![css, ("content-length", "20")], brotli),
        ] {
            let (request, answer) = (fields(&[("accept-encoding", accept)]), fields(&answer));
            let plan = plan(&rules, &Method::GET, Version::HTTP_11, &request, status, &answer);
            let found = match plan {
                Plan::Leave => None,
                Plan::Vary => Some(None),
                Plan::Encode(codec) => Some(Some(codec.coding)),
            };
            assert_eq!(found, expected, "{accept:?} {status} {answer:?}");
        }
        let (request, answer) = (fields(&[("accept-encoding", "gzip")]), fields(&[css]));
        let of = |method, version| plan(&rules, &method, version, &request, 200, &answer);
        assert_eq!(of(Method::HEAD, Version::HTTP_11), Plan::Leave);
        assert_eq!(of(Method::GET, Version::HTTP_10), Plan::Vary);
    }

    #[test]
    fn a_validator_of_other_bytes_is_weak() {
        for (tag, expected) in [("\"x\"", Some("W/\"x\"")), ("W/\"x\"", Some("W/\"x\"")), ("x", None)] {
            let weak = weakened(&HeaderValue::from_static(tag));
            assert_eq!(weak.as_ref().map(|tag| tag.to_str().unwrap()), expected, "{tag}");
        }
    }
}
