//! The request line: method, target, version (RFC 9112 §3).

use super::authority::Authority;
use super::field::is_token;
use super::{GateError, Limits, Version};

/// A request line, taken apart.
#[derive(Clone, Copy)]
pub(super) struct Line<'a> {
    pub(super) method: &'a str,
    pub(super) target: &'a str,
    pub(super) authority: Option<Authority<'a>>,
    pub(super) is_https: bool,
    pub(super) version: Version,
}

/// Reads the line without its CR LF.
pub(super) fn read<'a>(line: &'a [u8], limits: &Limits) -> Result<Line<'a>, GateError> {
    let mut parts = line.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(GateError::RequestLine);
    };
    let method = is_token(method).then(|| str::from_utf8(method).ok()).flatten().ok_or(GateError::Method)?;
    let version = read_version(version)?;
    if target.len() > limits.target {
        return Err(GateError::TargetLong);
    }
    if !target.iter().all(|byte| is_target_byte(*byte)) {
        return Err(GateError::Target);
    }
    let target = str::from_utf8(target).map_err(|_| GateError::Target)?;
    if method == "CONNECT" {
        return Err(GateError::Connect);
    }
    let line = Line { method, target, authority: None, is_https: false, version };
    if target == "*" {
        return if method == "OPTIONS" { Ok(line) } else { Err(GateError::Target) };
    }
    if target.starts_with('/') { Ok(line).and_then(with_path) } else { absolute(line).and_then(with_path) }
}

fn read_version(version: &[u8]) -> Result<Version, GateError> {
    match version {
        b"HTTP/1.1" => Ok(Version::Http11),
        b"HTTP/1.0" => Ok(Version::Http10),
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor] if major.is_ascii_digit() && minor.is_ascii_digit() => {
            Err(GateError::Version)
        }
        _ => Err(GateError::Protocol),
    }
}

/// What a target may hold: every visible character that a URL writes plainly somewhere (RFC 3986, and what WHATWG URL
/// lets through), so neither `#` nor `"`, `<` and `>`.
const fn is_target_byte(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'#' | b'"' | b'<' | b'>')
}

/// Checks what is illegal in a path and not in a query.
fn with_path(line: Line<'_>) -> Result<Line<'_>, GateError> {
    let path = line.target.split('?').next().unwrap_or_default();
    if path.bytes().any(|byte| matches!(byte, b'\\' | b'`')) { Err(GateError::Target) } else { Ok(line) }
}

/// Splits `http://host:port/path` (RFC 9112 §3.2.2).
fn absolute(line: Line<'_>) -> Result<Line<'_>, GateError> {
    let (scheme, rest) = line.target.split_once("://").ok_or(GateError::Target)?;
    let is_https = scheme.eq_ignore_ascii_case("https");
    if !is_https && !scheme.eq_ignore_ascii_case("http") {
        return Err(GateError::Target);
    }
    let (authority, target) = match rest.find(['/', '?']) {
        Some(at) => rest.split_at(at),
        None => (rest, "/"),
    };
    // `http://host?query` would need a slash that is nowhere in the bytes.
    if !target.starts_with('/') {
        return Err(GateError::Target);
    }
    let authority = Authority::parse(authority).ok_or(GateError::Target)?;
    Ok(Line { target, authority: Some(authority), is_https, ..line })
}
