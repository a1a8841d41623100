//! Which paths a rule is for.
//!
//! [`PathMatch`] is ordered by precedence: of two matchers that match one path, the smaller is asked. The longer path
//! comes first, its trailing slash not counted; at equal length `Exact` comes before `Prefix`, then `/foo/` before
//! `/foo` (ingress.md: "longest first, Exact before Prefix").
//!
//! Rules and requests are compared in one canonical spelling ([`normalise`]), so a rule may be written `/a b` or
//! `/a%20b`. Nothing in a rule's path is a pattern; braces, quotes and `$` are data. Unless its Ingress says that its
//! paths are expressions ([`PathMatch::regex`]): those match the readable spelling of a path ([`readable`]), and of
//! several the one with the longest text is asked first, as in ingress-nginx.
//!
//! Pure. Looking a path up among many: [`crate::routes`].

mod normal;

use std::cmp::{Ordering, Reverse};
use std::fmt;
use std::sync::Arc;

use config::pattern::{Pattern, PatternError};

pub use normal::{Normal, PathError, normalise, readable, respell};

/// How a rule's path is compared, in the order of precedence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PathType {
    /// Byte for byte; `/foo` and `/foo/` differ.
    Exact,
    /// Whole elements: `/foo` (or `/foo/`) matches `/foo`, `/foo/` and `/foo/bar`, never `/foobar`.
    Prefix,
    /// As `Prefix`, the reading that ingress-nginx made customary.
    ImplementationSpecific,
}

impl PathType {
    /// Reads the Kubernetes spelling.
    fn parse(text: &str) -> Result<Self, RuleError> {
        match text {
            "Exact" => Ok(Self::Exact),
            "Prefix" => Ok(Self::Prefix),
            "ImplementationSpecific" => Ok(Self::ImplementationSpecific),
            found => Err(RuleError::Type { found: found.to_owned() }),
        }
    }

    /// The Kubernetes spelling.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Exact => "Exact",
            Self::Prefix => "Prefix",
            Self::ImplementationSpecific => "ImplementationSpecific",
        }
    }
}

impl fmt::Display for PathType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why the path of a rule was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// The `pathType` is none of the three.
    #[error("path type {found:?} is unknown; use Exact, Prefix or ImplementationSpecific")]
    Type {
        /// As written.
        found: String,
    },
    /// The path does not begin with a slash.
    #[error("path {path:?} must begin with `/`")]
    Relative {
        /// As written.
        path: String,
    },
    /// The path is no regular expression.
    #[error("the Ingress says that its paths are regular expressions, and {0}")]
    Pattern(#[from] PatternError),
    /// No request can have this path once it is normalised.
    #[error("path {path:?} can match no request, because {source}; write it without `.`, `..`, `//` and `\\`")]
    Unreachable {
        /// As written.
        path: String,
        /// What normalising it runs into.
        source: Unreachable,
    },
}

/// Why no normalised request path equals a rule's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreachable {
    /// Requests with such a path are refused.
    #[error("requests with it are refused: {0}")]
    Refused(PathError),
    /// Requests with such a path are looked up under another.
    #[error("requests for it are looked up as {0:?}")]
    Reshaped(String),
}

/// The path of a rule; two that match the same requests in the same way are equal, however they are written.
#[derive(Clone, Debug)]
pub struct PathMatch {
    kind: PathType,
    canonical: Arc<str>,
    written: Arc<str>,
    /// If it is an expression.
    pattern: Option<Arc<Pattern>>,
}

impl PathMatch {
    /// Reads `path` and `pathType` of a rule; an empty path means `/`.
    pub fn parse(path: &str, kind: &str) -> Result<Self, RuleError> {
        Self::new(path, PathType::parse(kind)?)
    }

    /// Reads `path` as a regular expression, matched from the beginning of a path without regard to case, whatever
    /// the `pathType`.
    pub fn regex(path: &str, kind: &str) -> Result<Self, RuleError> {
        let kind = PathType::parse(kind)?;
        let written: Arc<str> = if path.is_empty() { "/".into() } else { path.into() };
        if !written.starts_with('/') {
            return Err(RuleError::Relative { path: path.to_owned() });
        }
        let pattern = Some(Arc::new(Pattern::path(&written)?));
        Ok(Self { kind, canonical: Arc::clone(&written), written, pattern })
    }

    /// The same rule on a host where all paths are expressions; what is none stands for itself.
    #[must_use]
    pub fn as_regex(&self) -> Self {
        if self.pattern.is_some() {
            return self.clone();
        }
        let pattern = Pattern::path(&self.written).ok().map(Arc::new);
        Self { canonical: Arc::clone(&self.written), pattern, ..self.clone() }
    }

    /// The expression, if it is one.
    #[must_use]
    pub fn pattern(&self) -> Option<&Pattern> {
        self.pattern.as_deref()
    }

    /// The rule for `path`; an empty path means `/`.
    pub fn new(path: &str, kind: PathType) -> Result<Self, RuleError> {
        let written: Arc<str> = if path.is_empty() { "/".into() } else { path.into() };
        if !written.starts_with('/') {
            return Err(RuleError::Relative { path: path.to_owned() });
        }
        let refuse = |source| RuleError::Unreachable { path: path.to_owned(), source };
        let literal = normal::literal(&written);
        let normal = normalise(&literal).map_err(|error| refuse(Unreachable::Refused(error)))?;
        if normal.is_reshaped() {
            return Err(refuse(Unreachable::Reshaped(normal.matched().to_owned())));
        }
        Ok(Self { kind, canonical: normal.matched().into(), written, pattern: None })
    }

    /// The matcher of a default backend: every path, after all others.
    #[must_use]
    pub fn everything() -> Self {
        Self { kind: PathType::ImplementationSpecific, canonical: "/".into(), written: "/".into(), pattern: None }
    }

    /// How the path is compared.
    #[must_use]
    pub const fn kind(&self) -> PathType {
        self.kind
    }

    /// The path as the rule writes it.
    #[must_use]
    pub fn as_written(&self) -> &str {
        &self.written
    }

    /// The path in the spelling that requests are compared in.
    #[must_use]
    pub fn canonical(&self) -> &str {
        &self.canonical
    }

    /// The canonical path without its trailing slash; empty for `/`.
    #[must_use]
    pub fn stem(&self) -> &str {
        self.canonical.strip_suffix('/').unwrap_or(&self.canonical)
    }

    /// Whether this matches `path`, a [`normalise`]d one.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        if let Some(pattern) = &self.pattern {
            return pattern.is_match(&readable(path));
        }
        match self.kind {
            PathType::Exact => *self.canonical == *path,
            PathType::Prefix | PathType::ImplementationSpecific => {
                path.strip_prefix(self.stem()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }
        }
    }
}

impl PathMatch {
    /// What orders two rules, the first to be asked the smallest.
    fn rank(&self) -> (Reverse<usize>, bool, Reverse<usize>, PathType, &str, bool) {
        let (is_exact, is_regex) = (self.kind == PathType::Exact, self.pattern.is_some());
        (Reverse(self.stem().len()), !is_exact, Reverse(self.canonical.len()), self.kind, &self.canonical, is_regex)
    }
}

impl Ord for PathMatch {
    fn cmp(&self, other: &Self) -> Ordering {
        self.rank().cmp(&other.rank())
    }
}

impl PartialEq for PathMatch {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for PathMatch {}

impl PartialOrd for PathMatch {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for PathMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(path: &str, kind: PathType) -> PathMatch {
        PathMatch::new(path, kind).unwrap()
    }

    #[test]
    fn a_prefix_matches_whole_path_elements() {
        for (path, request, expected) in [
            ("/foo", "/foo", true),
            ("/foo", "/foo/", true),
            ("/foo/", "/foo", true),
            ("/foo/", "/foo/x", true),
            ("/aaa/bb", "/aaa/bbb", false),
            ("/aaa/bbb", "/aaa/bbb/ccc", true),
            ("/", "/anything", true),
            ("", "/anything", true),
            ("/foo", "/FOO", false),
            ("/a b", "/a%20b/c", true),
            ("/a%2fb", "/a%2Fb", true),
        ] {
            for kind in [PathType::Prefix, PathType::ImplementationSpecific] {
                assert_eq!(rule(path, kind).matches(request), expected, "{kind} {path} against {request}");
            }
        }
    }

    #[test]
    fn an_exact_path_matches_byte_for_byte() {
        for (path, request, expected) in
            [("/foo", "/foo", true), ("/foo", "/foo/", false), ("/foo/", "/foo", false), ("/foo", "/FOO", false)]
        {
            assert_eq!(rule(path, PathType::Exact).matches(request), expected, "{path} against {request}");
        }
    }

    #[test]
    fn longer_comes_first_then_exact_then_the_trailing_slash() {
        let mut rules = [
            rule("/", PathType::Prefix),
            rule("/foo", PathType::ImplementationSpecific),
            rule("/foo", PathType::Prefix),
            rule("/foo/", PathType::Prefix),
            rule("/foo", PathType::Exact),
            rule("/foo/bar", PathType::Prefix),
        ];
        rules.sort();
        let shown = rules.map(|rule| format!("{} {rule}", rule.kind()));
        let expected =
            ["Prefix /foo/bar", "Exact /foo", "Prefix /foo/", "Prefix /foo", "ImplementationSpecific /foo", "Prefix /"];
        assert_eq!(shown, expected);
    }

    #[test]
    fn a_rule_that_can_match_nothing_is_refused() {
        for (path, kind) in [
            ("foo", "Prefix"),
            ("/a//b", "Prefix"),
            ("/a/../b", "ImplementationSpecific"),
            ("/a/.", "Exact"),
            ("/a\\b", "Prefix"),
            ("/foo", "Regex"),
        ] {
            assert!(PathMatch::parse(path, kind).is_err(), "{kind} {path}");
        }
    }

    #[test]
    fn an_expression_matches_what_people_read() {
        for (path, request, expected) in [
            ("/Api(/|$)(.*)", "/api/x", true),
            ("/a b", "/a%20b", true),
            ("/ä", "/%C3%A4", true),
            ("/a/b", "/a%2Fb", false),
            ("/[^/]*/x", "/a%2Fb/x", true),
        ] {
            assert_eq!(PathMatch::regex(path, "Exact").unwrap().matches(request), expected, "{path} {request}");
        }
        assert!(PathMatch::regex("/a(", "Prefix").is_err() && PathMatch::regex("a", "Prefix").is_err());
        assert!(rule("/foo", PathType::Exact).as_regex().matches("/FOObar"));
    }

    #[test]
    fn characters_in_a_rule_are_data() {
        for path in
            ["/{id}", "/$1", "/a\"b", "/.well-known/acme-challenge/x", "/100%", "/a?b", "/line\nbreak", "/é", "/a#b"]
        {
            assert_eq!(rule(path, PathType::Prefix).as_written(), path);
        }
        assert_eq!(rule("/{id}", PathType::Exact).canonical(), "/%7Bid%7D");
        assert_eq!(rule("/100%", PathType::Exact).canonical(), "/100%25");
    }
}
