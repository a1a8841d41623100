//! What people wrote snippets for, under names of our own: `ferrogate.io/request-headers`, `response-headers`,
//! `security-headers`, `return`, `deny-paths`. They become the same steps as a translated snippet.

use super::read::Reader;
use super::snippet::{Action, Condition, Level, Step, Test, field_of, status};
use super::text::{Text, Variable};
use super::value;
use crate::pattern::Pattern;

/// What `security-headers: "true"` sets.
const SECURITY: [(&str, &str); 3] = [
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "SAMEORIGIN"),
    ("Referrer-Policy", "strict-origin-when-cross-origin"),
];
/// Over TLS as well (RFC 6797).
const HSTS: (&str, &str) = ("Strict-Transport-Security", "max-age=31536000; includeSubDomains");

pub(super) fn steps(reader: &mut Reader<'_>) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut add = |when: Vec<Condition>, action: Action, level: Level| steps.push(Step { when, action, level });
    for pattern in reader.guard("deny-paths", paths).unwrap_or_default() {
        let below = Condition { of: Variable::Uri, test: Test::Matches(pattern), negated: false };
        add(vec![below], Action::Return(403, None), Level::Server);
    }
    if let Some((status, text)) = reader.guard("return", returned) {
        add(Vec::new(), Action::Return(status, text), Level::Location);
    }
    for (name, text) in reader.value("request-headers", fields).unwrap_or_default() {
        add(Vec::new(), Action::Request(name, text), Level::Location);
    }
    let set = |name: String, text: Text| Action::Answer { name, text, adds: false, always: true };
    if reader.flag("security-headers") {
        let fixed = |(name, value): (&str, &str)| Some((name.to_owned(), Text::parse(value).ok()?));
        for (name, text) in SECURITY.into_iter().filter_map(fixed) {
            add(Vec::new(), set(name, text), Level::Location);
        }
        if let Some((name, text)) = fixed(HSTS) {
            let over_tls = Condition { of: Variable::Scheme, test: Test::Is("https".to_owned()), negated: false };
            add(vec![over_tls], set(name, text), Level::Location);
        }
    }
    for (name, text) in reader.value("response-headers", fields).unwrap_or_default() {
        add(Vec::new(), set(name, text), Level::Location);
    }
    steps
}

/// `Name: value`, a line each; without a value the field is removed.
fn fields(text: &str) -> Result<Vec<(String, Text)>, String> {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).map(field_of).collect()
}

/// `403`, `301 https://new.example$request_uri`, `200 some text`.
fn returned(text: &str) -> Result<(u16, Option<Text>), String> {
    let (code, rest) = text.split_once(' ').unwrap_or((text, ""));
    let text = Some(rest.trim()).filter(|rest| !rest.is_empty()).map(Text::parse).transpose()?;
    Ok((status(code)?, text))
}

/// Expressions for these paths and everything below them.
fn paths(text: &str) -> Result<Vec<Pattern>, String> {
    let path = |path: &str| {
        if !path.starts_with('/') {
            return Err(format!("{path:?} does not begin with a slash; write a list such as \"/admin, /internal\""));
        }
        let stem = path.trim_end_matches('/');
        let mut pattern = String::from("^");
        for letter in stem.chars() {
            if letter.is_ascii_punctuation() && letter != '/' {
                pattern.push('\\');
            }
            pattern.push(letter);
        }
        pattern.push_str("(/|$)");
        Pattern::search(&pattern).map_err(|why| why.to_string())
    };
    value::list(text).filter(|text| !text.is_empty()).map(path).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_denied_with_all_below_it_and_nothing_else() {
        let patterns = paths("/admin, /a.b/").unwrap();
        for (path, denied) in
            [("/admin", true), ("/admin/x", true), ("/administer", false), ("/a.b/c", true), ("/axb/c", false)]
        {
            assert_eq!(patterns.iter().any(|pattern| pattern.is_match(path)), denied, "{path}");
        }
        assert!(paths("admin").is_err());
    }
}
