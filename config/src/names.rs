//! The forms of names that Kubernetes knows, each refused with what it should look like.
//!
//! Source: `k8s.io/apimachinery/pkg/util/validation`; RFC 1123 §2.1.

/// One label of a DNS name: `web-1`.
pub(crate) fn label(name: &str) -> Result<(), String> {
    if name.len() > 63 {
        return Err(format!("{name:?} is longer than 63 characters"));
    }
    if is_label(name) { Ok(()) } else { Err(wrong(name, "lower-case letters, digits and '-', such as \"web-1\"")) }
}

/// A DNS name: `web-1.example`.
pub(crate) fn subdomain(name: &str) -> Result<(), String> {
    if name.len() > 253 {
        return Err(format!("{name:?} is longer than 253 characters"));
    }
    if name.split('.').all(is_label) {
        return Ok(());
    }
    Err(wrong(name, "lower-case letters, digits, '-' and '.', such as \"web-1.example\""))
}

/// A host of a rule, `*` standing for a whole first label.
pub(crate) fn wildcard_host(host: &str) -> Result<(), String> {
    let rest = host.strip_prefix("*.").ok_or_else(|| {
        format!("{host:?} has a wildcard that is not the whole first label; write it like \"*.example.com\"")
    })?;
    if host.len() > 253 {
        return Err(format!("{host:?} is longer than 253 characters"));
    }
    if rest.split('.').all(is_label) {
        return Ok(());
    }
    Err(wrong(host, "\"*.\" and then lower-case letters, digits, '-' and '.', such as \"*.example.com\""))
}

/// The name of a port inside one object: `http`.
pub(crate) fn port(name: &str) -> Result<(), String> {
    let letters = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let form = (1..=15).contains(&name.len())
        && name.bytes().all(letters)
        && name.bytes().any(|byte| byte.is_ascii_lowercase())
        && !name.starts_with('-')
        && !name.ends_with('-')
        && !name.contains("--");
    if form {
        return Ok(());
    }
    Err(format!(
        "{name:?} is not a port name; use 1 to 15 lower-case letters, digits and '-', with a letter among them, such as \"http\""
    ))
}

/// A key of a label or annotation: `app` or `example.com/app`.
pub(crate) fn qualified(key: &str) -> Result<(), String> {
    let (prefix, name) = key.split_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    if let Some(prefix) = prefix {
        subdomain(prefix).map_err(|why| format!("the prefix of key {key:?} is not a DNS name: {why}"))?;
    }
    if (1..=63).contains(&name.len()) && is_word(name) {
        return Ok(());
    }
    Err(format!(
        "{key:?} is not a key; use at most 63 letters, digits, '-', '_' and '.', such as \"app\" or \"example.com/app\""
    ))
}

/// The value of a label; may be empty.
pub(crate) fn label_value(value: &str) -> Result<(), String> {
    if value.is_empty() || (value.len() <= 63 && is_word(value)) {
        return Ok(());
    }
    Err(format!("{value:?} is not a label value; use at most 63 letters, digits, '-', '_' and '.'"))
}

/// A key of the data of a `ConfigMap` or `Secret`: `tls.crt`.
pub(crate) fn data_key(key: &str) -> Result<(), String> {
    let letters = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if (1..=253).contains(&key.len()) && key.bytes().all(letters) && key != "." && !key.starts_with("..") {
        return Ok(());
    }
    Err(format!("{key:?} is not a data key; use letters, digits, '-', '_' and '.', such as \"tls.crt\""))
}

fn is_label(name: &str) -> bool {
    (1..=63).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-')
}

fn is_word(name: &str) -> bool {
    let letters = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let edge = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    name.bytes().all(letters) && edge(name.bytes().next()) && edge(name.bytes().next_back())
}

fn wrong(name: &str, form: &str) -> String {
    if name.is_empty() {
        return format!("a name is missing; use {form}");
    }
    let lower = name.to_ascii_lowercase();
    if name == lower {
        format!("{name:?} is not a name; use {form}")
    } else {
        format!("{name:?} is not a name; use {form} (no capital letters)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_the_forms_of_kubernetes() {
        type Check = fn(&str) -> Result<(), String>;
        let long = "a".repeat(64);
        let cases: [(Check, &[&str], &[&str]); 7] = [
            (label, &["a", "0-a"], &["", "A", "-a", "a-", "a.b", "a_b", &long]),
            (subdomain, &["a", "a.b-c.0"], &["", ".", "a.", "a..b", "A.b", &long]),
            (wildcard_host, &["*.a", "*.a.b"], &["*", "*a.b", "a.*.b", "*.*.b", "*."]),
            (port, &["http", "h2-c", "8a"], &["", "80", "-a", "a-", "a--b", "Http", "sixteen-letters-"]),
            (qualified, &["app", "example.com/App_1"], &["", "/a", "a/", "A.b/c", "a/b/c", "-a", &long]),
            (label_value, &["", "a.B_c"], &["-", "a b", &long]),
            (data_key, &["tls.crt", "_A-b"], &["", ".", "..", "..a", "a/b"]),
        ];
        for (check, good, bad) in cases {
            assert!(good.iter().all(|name| check(name).is_ok()), "{good:?}");
            assert!(bad.iter().all(|name| check(name).is_err()), "{bad:?}");
        }
    }
}
