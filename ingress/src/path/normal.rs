//! One spelling per path.
//!
//! A path is compared in a canonical spelling: percent-encodings that need not be there are decoded, those that must
//! be are in upper case, `.` and `..` are resolved and `//` merged. Two spellings that a backend could take for one
//! path have one canonical spelling, so no route is dodged by writing a path differently.
//!
//! What goes upstream is, on purpose, one of two things:
//!
//! - the client's own bytes, when only percent-encodings differ: signatures over the path stay valid, and whoever
//!   decodes once gets what was matched;
//! - the canonical spelling, when dot segments or empty elements were resolved: the backend never sees a path that it
//!   might resolve to another one than we matched (CVE-2025-32431 and its kin).
//!
//! `%2F` stays encoded: it is data inside an element, never a separator, and never equal to `/`. `;` is data. Refused,
//! since readers disagree about them: invalid encodings, NUL, `\` plain or encoded, `..` above the root, a
//! fragment, a `.` or `..` with parameters (`/..;x/`, which some servers resolve).

use std::borrow::Cow;

/// Why the path of a request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum PathError {
    /// The path does not begin with a slash.
    #[error("the path does not begin with `/`")]
    Relative,
    /// A `%` without two hexadecimal digits.
    #[error("a `%` is not followed by two hexadecimal digits")]
    Encoding,
    /// A NUL, plain or encoded.
    #[error("the path holds a NUL byte")]
    Nul,
    /// A backslash, plain or encoded; some servers take it for a slash.
    #[error("the path holds a backslash")]
    Backslash,
    /// A `#`, which has no place in a request target.
    #[error("the path holds a fragment")]
    Fragment,
    /// More `..` than elements.
    #[error("the path climbs above the root")]
    AboveRoot,
    /// A dot segment with parameters.
    #[error("a dot segment carries parameters")]
    DotParameters,
    /// A dot segment that came of rewriting.
    #[error("the path has a dot segment after it was rewritten")]
    DotSegment,
}

/// A path in canonical spelling, beside the text it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Normal<'a> {
    written: &'a str,
    matched: Cow<'a, str>,
    reshaped: bool,
}

impl<'a> Normal<'a> {
    /// The canonical spelling, which routes are looked up by.
    #[must_use]
    pub fn matched(&self) -> &str {
        &self.matched
    }

    /// What to send upstream: the client's spelling, unless elements were resolved or merged.
    #[must_use]
    pub fn sent(&self) -> &str {
        if self.reshaped { &self.matched } else { self.written }
    }

    /// Whether dot segments were resolved or empty elements merged.
    #[must_use]
    pub const fn is_reshaped(&self) -> bool {
        self.reshaped
    }

    /// The canonical spelling, without a copy if the text was canonical.
    #[must_use]
    pub fn into_matched(self) -> Cow<'a, str> {
        self.matched
    }
}

/// Finds the canonical spelling of the path of a request target (without its query).
///
/// Allocates only if the path is not canonical already.
pub fn normalise(path: &str) -> Result<Normal<'_>, PathError> {
    if !path.starts_with('/') {
        return Err(PathError::Relative);
    }
    let recoded = recode(path)?;
    let reshaped = needs_reshaping(&recoded)?;
    let matched = if reshaped { Cow::Owned(reshape(&recoded)?) } else { recoded };
    Ok(Normal { written: path, matched, reshaped })
}

/// The path of a rule as the path of a request: whatever is not a valid encoding in it is taken literally.
pub(super) fn literal(path: &str) -> Cow<'_, str> {
    if path.bytes().all(|byte| is_plain(byte) && byte != b'%') {
        return Cow::Borrowed(path);
    }
    let mut out = String::with_capacity(path.len() + 8);
    let bytes = path.as_bytes();
    for (at, &byte) in bytes.iter().enumerate() {
        match byte {
            b'%' if encoded(bytes, at).is_some() => out.push('%'),
            b'\\' => out.push('\\'),
            _ => push(&mut out, byte),
        }
    }
    Cow::Owned(out)
}

/// A canonical path as people read it, for expressions: encodings decoded, but for those of `/` and `%`.
///
/// A path that is no UTF-8 stays as it is.
#[must_use]
pub fn readable(canonical: &str) -> Cow<'_, str> {
    if !canonical.contains('%') {
        return Cow::Borrowed(canonical);
    }
    let bytes = canonical.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let byte = encoded(bytes, at).filter(|byte| bytes[at] == b'%' && !matches!(byte, b'/' | b'%'));
        out.push(byte.unwrap_or(bytes[at]));
        at += if byte.is_some() { 3 } else { 1 };
    }
    String::from_utf8(out).map_or(Cow::Borrowed(canonical), Cow::Owned)
}

/// The reverse of [`readable`]: a path that may be sent.
///
/// Refused, as in a request, are encodings that are none and dot segments; empty elements stay.
pub fn respell(readable: &str) -> Result<String, PathError> {
    let mut out = String::with_capacity(readable.len() + 8);
    for &byte in readable.as_bytes() {
        if byte == b'%' { out.push('%') } else { push(&mut out, byte) }
    }
    recode(&out)?;
    let is_dots = |element: &str| matches!(element.split(';').next(), Some("." | ".."));
    if out.split('/').any(is_dots) { Err(PathError::DotSegment) } else { Ok(out) }
}

/// Spells every character of `path` in the one canonical way.
fn recode(path: &str) -> Result<Cow<'_, str>, PathError> {
    let bytes = path.as_bytes();
    let mut at = 0;
    while at < bytes.len() && is_plain(bytes[at]) {
        at += 1;
    }
    if at == bytes.len() {
        return Ok(Cow::Borrowed(path));
    }
    let mut out = String::with_capacity(path.len() + 8);
    out.push_str(&path[..at]);
    while at < bytes.len() {
        let (byte, width) = match bytes[at] {
            b'%' => (encoded(bytes, at).ok_or(PathError::Encoding)?, 3),
            b'#' => return Err(PathError::Fragment),
            byte => (byte, 1),
        };
        match byte {
            0 => return Err(PathError::Nul),
            b'\\' => return Err(PathError::Backslash),
            // An encoded slash is data; a plain one separates.
            b'/' if width == 3 => out.push_str("%2F"),
            _ => push(&mut out, byte),
        }
        at += width;
    }
    Ok(if out == path { Cow::Borrowed(path) } else { Cow::Owned(out) })
}

/// Whether the canonical spelling of a path writes `byte` as it is (`pchar` and `/`, RFC 3986 §3.3).
const fn is_plain(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' | b':' | b'@'
        | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=')
}

/// Appends the canonical spelling of one byte.
fn push(out: &mut String, byte: u8) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    if is_plain(byte) {
        out.push(char::from(byte));
    } else {
        let digit = |value: u8| char::from(HEX[usize::from(value & 0xF)]);
        out.extend(['%', digit(byte >> 4), digit(byte)]);
    }
}

/// The byte that the percent-encoding at `at` stands for.
fn encoded(bytes: &[u8], at: usize) -> Option<u8> {
    let digit = |offset: usize| char::from(*bytes.get(at + offset)?).to_digit(16);
    u8::try_from(digit(1)? << 4 | digit(2)?).ok()
}

/// Whether a recoded path has empty elements or dot segments.
fn needs_reshaping(path: &str) -> Result<bool, PathError> {
    // No dot follows a slash and no slash a slash: true of nearly every request, and one pass to know.
    let suspicious = |pair: &[u8]| pair[0] == b'/' && (pair[1] == b'/' || pair[1] == b'.');
    if !path.as_bytes().windows(2).any(suspicious) {
        return Ok(false);
    }
    let mut reshape = path.contains("//");
    for element in path.split('/') {
        match element.split_once(';') {
            Some(("." | "..", _)) => return Err(PathError::DotParameters),
            _ => reshape |= matches!(element, "." | ".."),
        }
    }
    Ok(reshape)
}

/// Resolves dot segments and merges empty elements (RFC 3986 §5.2.4, except that climbing above the root is refused).
fn reshape(path: &str) -> Result<String, PathError> {
    let mut out = String::with_capacity(path.len());
    for element in path.split('/') {
        match element {
            "" | "." => {}
            ".." => out.truncate(out.rfind('/').ok_or(PathError::AboveRoot)?),
            element => {
                out.push('/');
                out.push_str(element);
            }
        }
    }
    let is_folder = matches!(path.rsplit('/').next(), Some("" | "." | ".."));
    if is_folder || out.is_empty() {
        out.push('/');
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_made_readable_can_be_sent_again(path in "(/[a-zA-Z%é .;{}0-9]{0,6}){1,4}") {
            if let Ok(normal) = normalise(&path) {
                let canonical = normal.matched();
                prop_assert_eq!(respell(&readable(canonical)), Ok(canonical.to_owned()));
            }
        }
    }

    #[test]
    fn what_rewriting_makes_never_climbs() {
        for path in ["/../a", "/a/..", "/./a", "/a/..;x", "/a%2", "/a%zz", "/a\0"] {
            assert!(respell(path).is_err(), "{path}");
        }
        assert_eq!(respell("//a b").as_deref(), Ok("//a%20b"));
    }

    #[test]
    fn a_path_has_one_spelling() {
        for (path, matched, sent) in [
            ("/", "/", "/"),
            ("/shop/cart", "/shop/cart", "/shop/cart"),
            ("/%73hop", "/shop", "/%73hop"),
            ("/a%20b", "/a%20b", "/a%20b"),
            ("/a{b}", "/a%7Bb%7D", "/a{b}"),
            ("/a%2fb", "/a%2Fb", "/a%2fb"),
            ("/a%252fb", "/a%252fb", "/a%252fb"),
            ("/a;v=1/b", "/a;v=1/b", "/a;v=1/b"),
            ("/a%3bv", "/a;v", "/a%3bv"),
            ("//a///b", "/a/b", "/a/b"),
            ("/a/./b", "/a/b", "/a/b"),
            ("/a/../b", "/b", "/b"),
            ("/a/b/..", "/a/", "/a/"),
            ("/a/.", "/a/", "/a/"),
            ("/a/..", "/", "/"),
            ("/a/%2e%2E/b", "/b", "/b"),
            ("/a/.b/..c", "/a/.b/..c", "/a/.b/..c"),
            ("/a/...", "/a/...", "/a/..."),
            ("/caf%c3%a9", "/caf%C3%A9", "/caf%c3%a9"),
        ] {
            let normal = normalise(path).unwrap();
            assert_eq!((normal.matched(), normal.sent()), (matched, sent), "{path}");
        }
    }

    #[test]
    fn an_ambiguous_path_is_refused() {
        for (path, error) in [
            ("shop", PathError::Relative),
            ("", PathError::Relative),
            ("/a%", PathError::Encoding),
            ("/a%2", PathError::Encoding),
            ("/a%zz", PathError::Encoding),
            ("/a%00", PathError::Nul),
            ("/a\0", PathError::Nul),
            ("/a\\b", PathError::Backslash),
            ("/a%5Cb", PathError::Backslash),
            ("/a#b", PathError::Fragment),
            ("/..", PathError::AboveRoot),
            ("/a/../../b", PathError::AboveRoot),
            ("/%2e%2e/a", PathError::AboveRoot),
            ("/a/..;x=1/b", PathError::DotParameters),
        ] {
            assert_eq!(normalise(path), Err(error), "{path}");
        }
    }

    #[test]
    fn a_canonical_path_is_not_copied() {
        assert!(matches!(normalise("/shop/cart/%20").unwrap().into_matched(), Cow::Borrowed(_)));
    }

    proptest! {
        #[test]
        fn normalising_twice_changes_nothing(path in "/[a-c./%25eEfF;\\\\é {}]{0,24}") {
            if let Ok(normal) = normalise(&path) {
                let again = normalise(normal.matched()).unwrap();
                prop_assert_eq!(again.matched(), normal.matched());
                prop_assert!(!again.is_reshaped());
            }
        }

        #[test] // so that a backend which normalises again agrees with the route
        fn what_is_sent_normalises_to_what_was_matched(path in "/[a-c./%25eEfF;{}]{0,24}") {
            if let Ok(normal) = normalise(&path) {
                let sent = normalise(normal.sent()).unwrap();
                prop_assert_eq!(sent.matched(), normal.matched());
                prop_assert!(!sent.is_reshaped());
            }
        }

        #[test]
        fn no_text_makes_it_panic(path in "\\PC{0,40}") {
            let _ = normalise(&path);
        }
    }
}
