//! Label and field selectors of list and watch requests.

use serde_json::Value;

/// What a list or watch is narrowed to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Selector {
    labels: Vec<Term>,
    fields: Vec<Term>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Term {
    Equals(String, String),
    Differs(String, String),
    Among(String, Vec<String>),
    Outside(String, Vec<String>),
    Present(String),
    Absent(String),
}

impl Selector {
    /// Reads `labelSelector` and `fieldSelector` as clients write them; `None` if one is malformed.
    #[must_use]
    pub(super) fn parse(labels: &str, fields: &str) -> Option<Self> {
        Some(Self { labels: terms(labels)?, fields: terms(fields)? })
    }

    /// Whether the object is selected.
    #[must_use]
    pub(super) fn matches(&self, object: &Value) -> bool {
        let label = |key: &str| object["metadata"]["labels"][key].as_str();
        let field = |key: &str| match key {
            // The one field of Events that is not where it says.
            "source" => object["source"]["component"].as_str(),
            _ => key.split('.').fold(object, |value, step| &value[step]).as_str(),
        };
        self.labels.iter().all(|term| term.holds(label)) && self.fields.iter().all(|term| term.holds(field))
    }
}

impl Term {
    fn holds<'a>(&self, value_of: impl Fn(&str) -> Option<&'a str>) -> bool {
        match self {
            Self::Equals(key, value) => value_of(key).unwrap_or_default() == value,
            Self::Differs(key, value) => value_of(key) != Some(value),
            Self::Among(key, values) => value_of(key).is_some_and(|found| values.iter().any(|value| value == found)),
            Self::Outside(key, values) => value_of(key).is_none_or(|found| values.iter().all(|value| value != found)),
            Self::Present(key) => value_of(key).is_some(),
            Self::Absent(key) => value_of(key).is_none(),
        }
    }
}

fn terms(text: &str) -> Option<Vec<Term>> {
    split_outside_parentheses(text).into_iter().map(|part| term(part.trim())).collect()
}

fn term(text: &str) -> Option<Term> {
    if let Some((key, values)) = text.split_once(" notin ") {
        return Some(Term::Outside(key.trim().to_owned(), set(values)?));
    }
    if let Some((key, values)) = text.split_once(" in ") {
        return Some(Term::Among(key.trim().to_owned(), set(values)?));
    }
    if let Some((key, value)) = text.split_once("!=") {
        return Some(Term::Differs(key.trim().to_owned(), value.trim().to_owned()));
    }
    if let Some((key, value)) = text.split_once('=') {
        let value = value.trim_start_matches('=').trim();
        return Some(Term::Equals(key.trim().to_owned(), value.to_owned()));
    }
    match text.strip_prefix('!') {
        Some(key) => Some(Term::Absent(key.trim().to_owned())),
        None => Some(Term::Present(text.to_owned())),
    }
}

fn set(text: &str) -> Option<Vec<String>> {
    let inner = text.trim().strip_prefix('(')?.strip_suffix(')')?;
    Some(inner.split(',').map(|value| value.trim().to_owned()).collect())
}

fn split_outside_parentheses(text: &str) -> Vec<&str> {
    let mut depth = 0_i32;
    text.split(move |character| {
        match character {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        character == ',' && depth == 0
    })
    .filter(|part| !part.trim().is_empty())
    .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn selectors_select_as_kubectl_users_expect() {
        let object = json!({"metadata": {"name": "web", "labels": {"app": "shop", "tier": "front"}}, "type": "tls"});
        for (labels, fields, expected) in [
            ("", "", true),
            ("app=shop", "", true),
            ("app==shop,tier!=back", "", true),
            ("app in (cart, shop)", "metadata.name=web", true),
            ("tier notin (front)", "", false),
            ("app", "type=tls", true),
            ("!app", "", false),
            ("", "metadata.name!=web", false),
        ] {
            let selector = Selector::parse(labels, fields).unwrap();
            assert_eq!(selector.matches(&object), expected, "{labels} {fields}");
        }
    }
}
