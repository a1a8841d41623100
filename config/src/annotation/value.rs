//! Values that several annotations share.

use std::time::Duration;

/// A boolean as Go's `strconv.ParseBool` reads it.
pub(crate) fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("{text:?} is neither \"true\" nor \"false\"")),
    }
}

/// A size as nginx writes it: bytes, or with `k`, `m` or `g`; 0 stands for no limit.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is not a size; write bytes, or a number with k, m or g as in \"8m\"");
    let shift = match text.bytes().last() {
        Some(b'k' | b'K') => 10,
        Some(b'm' | b'M') => 20,
        Some(b'g' | b'G') => 30,
        _ => 0,
    };
    let digits = if shift == 0 { text } else { &text[..text.len() - 1] };
    number(digits).and_then(|number| number.checked_mul(1 << shift)).ok_or_else(wrong)
}

/// Whole seconds, at least one.
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = number(text).filter(|seconds| (1..=86_400 * 366).contains(seconds));
    seconds.map(Duration::from_secs).ok_or_else(|| format!("{text:?} is not a number of seconds; write it like \"60\""))
}

/// Digits only: no sign, no blank.
pub(crate) fn number(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten()
}

/// The elements of a comma list, without blanks around them.
pub(crate) fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim)
}

/// Text that may stand in a header field: visible ASCII and blanks.
pub(crate) fn field_text(text: &str) -> Result<String, String> {
    let is_plain = text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
    if is_plain { Ok(text.to_owned()) } else { Err(format!("{text:?} holds what cannot stand in a header field")) }
}
