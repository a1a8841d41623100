//! What a scalar means: YAML 1.1 as Kubernetes and MetalLB read it (`go-yaml` v2).
//!
//! Only plain scalars mean something other than text. `yes`, `on` and `y` are booleans, `017` is octal, `1_000` is
//! a thousand; dates and base-60 numbers stay text, as they do there.

use super::{Node, Scalar, Style, Value};

/// The meaning of a scalar.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Resolved {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text,
}

impl Scalar {
    /// What a reader without expectations takes it for.
    pub(crate) fn resolve(&self) -> Resolved {
        if self.style == Style::Plain { resolve(&self.text) } else { Resolved::Text }
    }
}

fn resolve(text: &str) -> Resolved {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Resolved::Null,
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" | "y" | "Y" => Resolved::Bool(true),
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" | "n" | "N" => Resolved::Bool(false),
        _ if !text.starts_with(|first: char| first.is_ascii_digit() || "+-.".contains(first)) => Resolved::Text,
        _ => number(text),
    }
}

fn number(text: &str) -> Resolved {
    match text {
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => return Resolved::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => return Resolved::Float(f64::NEG_INFINITY),
        ".nan" | ".NaN" | ".NAN" => return Resolved::Float(f64::NAN),
        _ => {}
    }
    let plain = text.replace('_', "");
    if let Some(number) = integer(&plain) {
        return Resolved::Int(number);
    }
    match plain.parse() {
        Ok(number) if is_float(&plain) => Resolved::Float(number),
        _ => Resolved::Text,
    }
}

/// An integer of at most 64 bits, its base told by its prefix.
fn integer(text: &str) -> Option<i128> {
    let (negative, digits) = match text.as_bytes() {
        [b'-', ..] => (true, &text[1..]),
        [b'+', ..] => (false, &text[1..]),
        _ => (false, text),
    };
    let (base, digits) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &digits[2..]),
        [b'0', b'o' | b'O', ..] => (8, &digits[2..]),
        [b'0', b'b' | b'B', ..] => (2, &digits[2..]),
        [b'0', _, ..] => (8, &digits[1..]),
        _ => (10, digits),
    };
    if !digits.starts_with(|first: char| first.is_ascii_alphanumeric()) {
        return None;
    }
    let number = i128::from(u64::from_str_radix(digits, base).ok()?);
    Some(if negative { -number } else { number })
}

/// `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`, as go-yaml has it.
fn is_float(text: &str) -> bool {
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let text = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (mantissa, exponent) = text.split_once(['e', 'E']).map_or((text, None), |(left, right)| (left, Some(right)));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let exponent = exponent.map(|exponent| exponent.strip_prefix(['-', '+']).unwrap_or(exponent));
    digits(whole)
        && digits(fraction)
        && !(whole.is_empty() && fraction.is_empty())
        && exponent.is_none_or(|exponent| !exponent.is_empty() && digits(exponent))
}

/// What was found, for a sentence such as "expected text, found the number 8080".
pub(crate) fn describe(node: &Node) -> String {
    let scalar = match &node.value {
        Value::Sequence(_) => return "a list".to_owned(),
        Value::Mapping(_) => return "a mapping".to_owned(),
        Value::Scalar(scalar) => scalar,
    };
    let text = shorten(&scalar.text);
    match scalar.resolve() {
        Resolved::Null => "nothing".to_owned(),
        Resolved::Bool(_) => format!("the boolean {text}"),
        Resolved::Int(_) | Resolved::Float(_) => format!("the number {text}"),
        Resolved::Text => format!("the text {text:?}"),
    }
}

/// At most 60 characters of a text that goes into a message.
pub(crate) fn shorten(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_scalars_mean_what_go_yaml_takes_them_for() {
        for (text, expected) in [
            ("~", Resolved::Null),
            ("", Resolved::Null),
            ("y", Resolved::Bool(true)),
            ("OFF", Resolved::Bool(false)),
            ("tRue", Resolved::Text),
            ("8080", Resolved::Int(8080)),
            ("+8", Resolved::Int(8)),
            ("-1", Resolved::Int(-1)),
            ("017", Resolved::Int(15)),
            ("0x1F", Resolved::Int(31)),
            ("0b11", Resolved::Int(3)),
            ("1_000", Resolved::Int(1000)),
            ("18446744073709551615", Resolved::Int(18_446_744_073_709_551_615)),
            ("18446744073709551616", Resolved::Float(18_446_744_073_709_551_616.0)),
            ("08", Resolved::Float(8.0)),
            ("1.10", Resolved::Float(1.1)),
            ("1e3", Resolved::Float(1000.0)),
            (".5", Resolved::Float(0.5)),
            ("-.inf", Resolved::Float(f64::NEG_INFINITY)),
            ("-", Resolved::Text),
            (".", Resolved::Text),
            ("0x", Resolved::Text),
            ("0x+1", Resolved::Text),
            ("1e", Resolved::Text),
            ("1:30", Resolved::Text),
            ("192.0.2.1", Resolved::Text),
            ("2024-01-01", Resolved::Text),
            ("infinity", Resolved::Text),
        ] {
            assert_eq!(resolve(text), expected, "{text:?}");
        }
    }
}
