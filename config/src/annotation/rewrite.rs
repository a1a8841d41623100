//! Paths as expressions, and what endpoints are asked for: `use-regex`, `rewrite-target`, `x-forwarded-prefix`.

use super::read::Reader;
use super::value;
use crate::pattern::Groups;

/// How paths are matched and rewritten.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rewrite {
    /// Whether the paths are regular expressions (`use-regex`).
    pub use_regex: bool,
    /// What the matched beginning of the path is replaced by (`rewrite-target`).
    pub target: Option<Template>,
}

/// Text with groups of an expression in it: `/app/$2`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    written: String,
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Group(usize),
}

impl Template {
    /// As it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.written
    }

    /// Whether it names a group.
    #[must_use]
    pub fn has_groups(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Group(_)))
    }

    /// Whether it is a URL, so that the client is sent there.
    #[must_use]
    pub fn is_url(&self) -> bool {
        self.written.starts_with("http://") || self.written.starts_with("https://")
    }

    /// The text with the groups filled in.
    #[must_use]
    pub fn expand(&self, groups: &Groups<'_>) -> String {
        let text = |part: &Part| match part {
            Part::Text(text) => text.clone(),
            Part::Group(number) => groups.get(*number).to_owned(),
        };
        self.parts.iter().map(text).collect()
    }

    /// `$1` to `$9` stand for groups; nothing else may follow a `$`.
    fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut pieces = text.split('$');
        let mut push = |text: &str| {
            if !text.is_empty() {
                parts.push(Part::Text(text.to_owned()));
            }
        };
        push(pieces.next().unwrap_or_default());
        let mut groups = Vec::new();
        for piece in pieces {
            let digit = piece.chars().next().and_then(|digit| digit.to_digit(10)).filter(|digit| *digit > 0);
            let digit = digit.ok_or_else(|| format!("{text:?} holds a variable; only $1 to $9 are understood"))?;
            groups.push((digit as usize, &piece[1..]));
        }
        for (number, rest) in groups {
            parts.push(Part::Group(number));
            if !rest.is_empty() {
                parts.push(Part::Text(rest.to_owned()));
            }
        }
        Ok(Self { written: text.to_owned(), parts })
    }
}

impl Rewrite {
    /// Whether the paths of the Ingress are expressions: it says so, or rewrites.
    #[must_use]
    pub const fn is_regex(&self) -> bool {
        self.use_regex || self.target.is_some()
    }
}

pub(super) fn read(reader: &mut Reader<'_>) -> Rewrite {
    Rewrite { use_regex: reader.flag("use-regex"), target: reader.value("rewrite-target", target) }
}

/// The characters that ingress-nginx accepts.
fn target(text: &str) -> Result<Template, String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/:$".contains(&byte);
    if text.is_empty() || !text.bytes().all(is_plain) {
        return Err(format!("{text:?} is not a path; write it like \"/app/$2\", of letters, digits and -._~/:$"));
    }
    let template = Template::parse(text)?;
    if !template.is_url() && !text.starts_with(['/', '$']) {
        return Err(format!("{text:?} does not begin with a slash; write it like \"/{text}\""));
    }
    Ok(template)
}

pub(super) fn prefix(text: &str) -> Result<Template, String> {
    value::field_text(text).and_then(|text| Template::parse(&text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pattern::Pattern;

    #[test]
    fn groups_are_filled_in() {
        let pattern = Pattern::path("/api(/|$)(.*)").unwrap();
        let groups = pattern.groups("/api/x").unwrap();
        for (text, expected) in [("/$2", "/x"), ("/a/$2/b", "/a/x/b"), ("/$1$2", "//x"), ("$2", "x"), ("/$21", "/x1")] {
            assert_eq!(target(text).unwrap().expand(&groups), expected, "{text}");
        }
    }

    #[test]
    fn a_target_is_made_of_few_characters() {
        for text in ["", "/a b", "/$x", "/$", "/a;b", "/a\n", "/{a}", "x", "/$0", "/é", "/a?b=$1", "/\"", "$"] {
            assert!(target(text).is_err(), "{text:?}");
        }
    }
}
