//! Distinguished names as text (RFC 2253), as nginx tells them: the last part first, `CN=ann,O=Shop`.

use std::fmt::Write as _;

use x509_parser::der_parser::oid::Oid;
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

/// The name as text; what is not a text in it is written as `#` and hexadecimal digits.
pub(super) fn text(name: &X509Name<'_>) -> String {
    let parts: Vec<String> =
        name.iter_rdn().map(|part| part.iter().map(attribute).collect::<Vec<_>>().join("+")).collect();
    parts.into_iter().rev().collect::<Vec<_>>().join(",")
}

fn attribute(attribute: &AttributeTypeAndValue<'_>) -> String {
    let kind = kind(attribute.attr_type());
    match attribute.as_str() {
        Ok(value) => format!("{kind}={}", escaped(value)),
        Err(_) => attribute.as_slice().iter().fold(format!("{kind}=#"), |mut text, byte| {
            // Writing to a `String` cannot fail.
            let _ = write!(text, "{byte:02X}");
            text
        }),
    }
}

/// The short names of OpenSSL.
fn kind(oid: &Oid<'_>) -> String {
    const NAMES: [(&str, &str); 13] = [
        ("2.5.4.3", "CN"),
        ("2.5.4.4", "SN"),
        ("2.5.4.5", "serialNumber"),
        ("2.5.4.6", "C"),
        ("2.5.4.7", "L"),
        ("2.5.4.8", "ST"),
        ("2.5.4.9", "street"),
        ("2.5.4.10", "O"),
        ("2.5.4.11", "OU"),
        ("2.5.4.12", "title"),
        ("2.5.4.42", "GN"),
        ("0.9.2342.19200300.100.1.25", "DC"),
        ("1.2.840.113549.1.9.1", "emailAddress"),
    ];
    let text = oid.to_id_string();
    if text == "0.9.2342.19200300.100.1.1" {
        return "UID".to_owned();
    }
    NAMES.iter().find(|(id, _)| *id == text).map_or(text, |(_, name)| (*name).to_owned())
}

/// RFC 2253 §2.4; also control characters and whatever is not ASCII, byte by byte.
fn escaped(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    let last = value.len().saturating_sub(1);
    for (at, byte) in value.bytes().enumerate() {
        let is_edge = (byte == b' ' && (at == 0 || at == last)) || (byte == b'#' && at == 0);
        if byte.is_ascii_control() || !byte.is_ascii() {
            // Writing to a `String` cannot fail.
            let _ = write!(out, "\\{byte:02X}");
        } else {
            if is_edge || b",+\"\\<>;".contains(&byte) {
                out.push('\\');
            }
            out.push(char::from(byte));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::escaped;

    #[test]
    fn what_has_a_meaning_in_a_name_is_escaped() {
        for (value, expected) in [
            ("ann", "ann"),
            ("Shop, Inc. \"x\"", "Shop\\, Inc. \\\"x\\\""),
            (" #a ", "\\ #a\\ "),
            ("#a", "\\#a"),
            ("a\nb", "a\\0Ab"),
            ("é", "\\C3\\A9"),
        ] {
            assert_eq!(escaped(value), expected);
        }
    }
}
