//! A second Service for some requests: `canary` and its kin.

use super::read::Reader;
use super::value;
use crate::pattern::Pattern;

/// Which requests of a route go to the canary: asked in the order header, cookie, weight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Canary {
    /// A field of the request, lower case, and what it has to say (`canary-by-header`).
    pub header: Option<(String, HeaderRule)>,
    /// A cookie that says `always` or `never` (`canary-by-cookie`).
    pub cookie: Option<String>,
    /// So many requests (`canary-weight`) ..
    pub weight: u32,
    /// .. of so many (`canary-weight-total`), at least 1.
    pub total: u32,
}

/// What a field has to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderRule {
    /// `always` or `never`; anything else leaves it to the next rule.
    Switch,
    /// This (`canary-by-header-value`).
    Value(String),
    /// What an expression is found in (`canary-by-header-pattern`).
    Pattern(Pattern),
}

impl Canary {
    /// Whether a request goes to the canary; `field` and `cookie` look its own up, `random` is any number.
    pub fn takes<'a>(
        &self,
        field: impl Fn(&str) -> Option<&'a str>,
        cookie: impl Fn(&str) -> Option<&'a str>,
        random: u64,
    ) -> bool {
        let switch = |text: &str| match text {
            "always" => Some(true),
            "never" => Some(false),
            _ => None,
        };
        let by_header = || {
            let (name, rule) = self.header.as_ref()?;
            let text = field(name)?;
            match rule {
                HeaderRule::Switch => switch(text),
                HeaderRule::Value(value) => (text == value).then_some(true),
                HeaderRule::Pattern(pattern) => pattern.is_match(text).then_some(true),
            }
        };
        let by_cookie = || switch(cookie(self.cookie.as_deref()?)?);
        let by_weight = || random % u64::from(self.total) < u64::from(self.weight);
        by_header().or_else(by_cookie).unwrap_or_else(by_weight)
    }
}

pub(super) fn read(reader: &mut Reader<'_>) -> Option<Canary> {
    // A canary served as a main route would take all traffic, so what decides about that fails closed.
    let is_canary = reader.guard("canary", value::boolean).unwrap_or_default();
    let name = reader.value("canary-by-header", name);
    let value = reader.value("canary-by-header-value", value::field_text).filter(|value| !value.is_empty());
    let pattern = reader.value("canary-by-header-pattern", |text| Pattern::search(text).map_err(|why| why.to_string()));
    // A rule that cannot be read must not become the laxer switch.
    let unread = value.is_none() && pattern.is_none() && reader.has("canary-by-header-pattern");
    let rule = value.map(HeaderRule::Value).or(pattern.map(HeaderRule::Pattern)).unwrap_or(HeaderRule::Switch);
    let cookie = reader.value("canary-by-cookie", name_of_cookie);
    let total = reader.value("canary-weight-total", number).filter(|total| *total > 100).unwrap_or(100);
    let weight = reader.value("canary-weight", number).unwrap_or(0).min(total);
    if !is_canary {
        for key in ["canary-by-header", "canary-by-cookie", "canary-weight"] {
            reader.complain(key, "canary: \"true\" is missing, so this has no effect");
        }
        return None;
    }
    let header = name.filter(|_| !unread).map(|name| (name, rule));
    Some(Canary { header, cookie, weight, total })
}

fn number(text: &str) -> Result<u32, String> {
    let number = value::number(text).and_then(|number| u32::try_from(number).ok());
    number.ok_or_else(|| format!("{text:?} is not a number; write it like \"20\""))
}

fn name(text: &str) -> Result<String, String> {
    let is_token = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    if is_token { Ok(text.to_ascii_lowercase()) } else { Err(format!("{text:?} is not the name of a field")) }
}

fn name_of_cookie(text: &str) -> Result<String, String> {
    let is_token = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    if is_token { Ok(text.to_owned()) } else { Err(format!("{text:?} is not the name of a cookie")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_comes_before_a_cookie_and_a_cookie_before_the_weight() {
        let canary = |rule: Option<HeaderRule>, weight| Canary {
            header: rule.map(|rule| ("x-canary".to_owned(), rule)),
            cookie: Some("canary".to_owned()),
            weight,
            total: 100,
        };
        let value = || Some(HeaderRule::Value("yes".to_owned()));
        let pattern = || Some(HeaderRule::Pattern(Pattern::search("^v[12]$").unwrap()));
        let switch = || Some(HeaderRule::Switch);
        for (canary, header, cookie, expected) in [
            (canary(switch(), 0), Some("always"), Some("never"), true),
            (canary(switch(), 100), Some("never"), Some("always"), false),
            (canary(switch(), 100), Some("maybe"), Some("never"), false),
            (canary(switch(), 100), None, None, true),
            (canary(switch(), 0), None, None, false),
            (canary(value(), 0), Some("yes"), None, true),
            (canary(value(), 0), Some("always"), None, false),
            (canary(value(), 0), Some("never"), Some("always"), true),
            (canary(pattern(), 0), Some("v2"), None, true),
            (canary(pattern(), 0), Some("v3"), None, false),
            (canary(None, 0), Some("always"), Some("always"), true),
        ] {
            let takes = canary.takes(
                |name| header.filter(|_| name == "x-canary"),
                |name| cookie.filter(|_| name == "canary"),
                7,
            );
            assert_eq!(takes, expected, "{canary:?} {header:?} {cookie:?}");
        }
    }

    #[test]
    fn a_weight_is_its_share_of_the_total() {
        for (weight, total) in [(0, 100), (20, 100), (100, 100), (5, 1000)] {
            let canary = Canary { header: None, cookie: None, weight, total };
            let taken = (0..u64::from(total)).filter(|random| canary.takes(|_| None, |_| None, *random)).count();
            assert_eq!(taken, weight as usize);
        }
    }
}
