//! Values that several keys share.

use std::time::Duration;

use crate::annotation::value;
use crate::names;
use crate::object::ObjectName;

pub(super) use crate::annotation::value::{boolean, size};

/// Whole seconds, or a time as nginx writes it (`5s`, `10m`, `1h`); 0 is one.
pub(super) fn time(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a time; write seconds, or a number with ms, s, m, h or d as in \"75s\"");
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let milliseconds = match &text[digits.len()..] {
        "ms" => 1,
        "" | "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(wrong()),
    };
    let number = value::number(digits).and_then(|number| number.checked_mul(milliseconds));
    number.filter(|time| *time <= 366 * 86_400_000).map(Duration::from_millis).ok_or_else(wrong)
}

/// As [`time`], and not 0.
pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    time(text)
        .and_then(|time| if time.is_zero() { Err("0 leaves no time at all; write more".to_owned()) } else { Ok(time) })
}

/// A count, 0 included.
pub(super) fn count(text: &str) -> Result<usize, String> {
    let number = value::number(text).filter(|number| *number <= 1 << 24).and_then(|number| number.try_into().ok());
    number.ok_or_else(|| format!("{text:?} is not a count; write it like \"100\""))
}

/// A whole number within bounds.
pub(super) fn level(text: &str, least: u32, most: u32) -> Result<u32, String> {
    let number = value::number(text).and_then(|number| u32::try_from(number).ok());
    let number = number.filter(|number| (least..=most).contains(number));
    number.ok_or_else(|| format!("{text:?} is not a level from {least} to {most}"))
}

/// A status from `least` to `most`.
pub(super) fn status(text: &str, least: u16, most: u16) -> Result<u16, String> {
    let status = value::number(text).and_then(|number| u16::try_from(number).ok());
    let status = status.filter(|status| (least..=most).contains(status));
    status.ok_or_else(|| format!("{text:?} is not a status from {least} to {most}"))
}

/// The elements of a comma list that are not empty.
pub(super) fn list(text: &str) -> impl Iterator<Item = &str> {
    value::list(text).filter(|element| !element.is_empty())
}

/// `namespace/name`.
pub(super) fn reference(text: &str) -> Result<ObjectName, String> {
    let wrong = || format!("{text:?} is not a ConfigMap; write it as namespace/name");
    let (namespace, name) = text.split_once('/').ok_or_else(wrong)?;
    names::label(namespace).and(names::subdomain(name)).map_err(|_| wrong())?;
    Ok(ObjectName::new(namespace, name))
}

/// The name of a header field, in lower case.
pub(super) fn field(text: &str) -> Result<String, String> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if !text.is_empty() && text.bytes().all(is_token) {
        return Ok(text.to_ascii_lowercase());
    }
    Err(format!("{text:?} is not the name of a header field"))
}
