//! Regular expressions that operators write.
//!
//! Most run in time linear in the text. Those with look-around or back-references, which PCRE has and some people use,
//! are run by backtracking within a budget; a text that uses it up counts as no match.
//!
//! Pure.

use std::fmt;
use std::sync::Arc;

use fancy_regex::{Captures, Regex, RegexBuilder};

/// Steps that a backtracking search may take: some 100 µs.
const BUDGET: usize = 20_000;
/// Bytes that one compiled expression may take.
const SIZE: usize = 1 << 20;
/// Bytes of text that an expression may have.
const LONGEST: usize = 1024;

/// A compiled regular expression; two of the same text and kind are equal.
#[derive(Clone)]
pub struct Pattern {
    text: Arc<str>,
    is_path: bool,
    regex: Regex,
}

/// Why a regular expression was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// It is too long.
    #[error("the expression has {found} characters; at most {LONGEST} are accepted")]
    Long {
        /// How many it has.
        found: usize,
    },
    /// It is none, or needs too much memory.
    #[error("{text:?} is no regular expression: {why}")]
    Syntax {
        /// As written.
        text: String,
        /// What the parser says.
        why: String,
    },
}

impl Pattern {
    /// The expression of a path: matched from the beginning, upper and lower case alike (nginx's `~* "^text"`).
    pub fn path(text: &str) -> Result<Self, PatternError> {
        Self::new(text, true)
    }

    /// An expression that is searched for anywhere, upper and lower case apart.
    pub fn search(text: &str) -> Result<Self, PatternError> {
        Self::new(text, false)
    }

    fn new(text: &str, is_path: bool) -> Result<Self, PatternError> {
        if text.len() > LONGEST {
            return Err(PatternError::Long { found: text.len() });
        }
        let wrong = |error: fancy_regex::Error| PatternError::Syntax { text: text.to_owned(), why: why(&error) };
        // By itself first, so that a stray parenthesis cannot close the group around it.
        Regex::new(text).map_err(wrong)?;
        let whole = if is_path { format!("^(?:{text})") } else { text.to_owned() };
        let built = RegexBuilder::new(&whole)
            .case_insensitive(is_path)
            .backtrack_limit(BUDGET)
            .delegate_size_limit(SIZE)
            .delegate_dfa_size_limit(SIZE)
            .build();
        Ok(Self { text: text.into(), is_path, regex: built.map_err(wrong)? })
    }

    /// As it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether `text` matches; one that uses up the budget does not.
    #[must_use]
    pub fn is_match(&self, text: &str) -> bool {
        self.regex.is_match(text).unwrap_or(false)
    }

    /// The groups of the first match.
    #[must_use]
    pub fn groups<'t>(&self, text: &'t str) -> Option<Groups<'t>> {
        self.regex.captures(text).ok().flatten().map(Groups)
    }
}

/// What the groups of an expression matched.
#[derive(Debug)]
pub struct Groups<'t>(Captures<'t, str>);

impl<'t> Groups<'t> {
    /// The text of a group; empty if the group took no part.
    #[must_use]
    pub fn get(&self, number: usize) -> &'t str {
        self.0.get(number).map_or("", |found| found.as_str())
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{:?}", if self.is_path { "^" } else { "" }, self.text)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text && self.is_path == other.is_path
    }
}

impl Eq for Pattern {}

/// One line of what the parser says.
fn why(error: &fancy_regex::Error) -> String {
    error.to_string().lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_matched_from_its_beginning_and_without_case() {
        for (pattern, path, expected) in [
            ("/api(/|$)(.*)", "/API/x", true),
            ("/api(/|$)(.*)", "/apix", false),
            ("/b", "/a/b", false),
            ("/a|/b", "/x/b", false),
            ("/foo", "/foobar", true),
            ("/v1(/(?!a|b).*|$)", "/v1/c", true),
            ("/v1(/(?!a|b).*|$)", "/v1/a", false),
            (r"/(\w)\1", "/xx", true),
        ] {
            assert_eq!(Pattern::path(pattern).unwrap().is_match(path), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn groups_are_what_they_matched() {
        let pattern = Pattern::path("/api(/|$)(.*)").unwrap();
        let groups = pattern.groups("/api/x/y").unwrap();
        assert_eq!((groups.get(1), groups.get(2), groups.get(9)), ("/", "x/y", ""));
        assert!(pattern.groups("/").is_none());
    }

    #[test]
    fn what_is_no_expression_is_refused() {
        for text in ["/a(", "/a)(b", "/[z", "(?<n", "*", &"a".repeat(2000), "(?:a{1000}){1000}"] {
            assert!(Pattern::path(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_search_that_would_never_end_gives_up() {
        let text = format!("/{}!", "a".repeat(2000));
        // Linear: the whole of a text of any length is judged.
        assert!(!Pattern::path("/(a+)+$").unwrap().is_match(&text));
        assert!(Pattern::path("/(a+)+!$").unwrap().is_match(&text));
        // Backtracking: the budget ends it.
        assert!(!Pattern::path(r"/(a+)+(?=b)\1$").unwrap().is_match(&text));
    }
}
