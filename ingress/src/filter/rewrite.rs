//! Which path an endpoint is asked for (`rewrite-target`).
//!
//! As in nginx, the match replaces the whole path: what an expression leaves unmatched at the end is lost.

use config::annotation::{Rewrite, Template};
use config::pattern::Pattern;

use super::{Asked, Verdict};
use crate::answer::Fault;
use crate::path::{self, PathMatch};

/// How the paths of one rule are rewritten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rewriting {
    pattern: Pattern,
    target: Template,
}

impl Rewriting {
    /// `None` if paths stay: there is no target, or it is what the rule says already.
    pub(super) fn of(rewrite: &Rewrite, rule: &PathMatch) -> Option<Self> {
        let target = rewrite.target.as_ref().filter(|target| target.as_str() != rule.as_written())?;
        Some(Self { pattern: rule.pattern()?.clone(), target: target.clone() })
    }

    /// Where the client is sent if the target is a URL (302); its query goes along.
    pub(super) fn redirect(&self, asked: &Asked<'_>) -> Option<Verdict> {
        let to = self.expand(asked.path).filter(|_| self.target.is_url())?;
        let query = asked.request.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
        Some(Verdict::Redirect(302, format!("{to}{query}")))
    }

    /// The path for the endpoint instead of this normalised one; `None` if it stays.
    pub(super) fn path(&self, path: &str) -> Result<Option<String>, Fault> {
        let Some(to) = self.expand(path) else { return Ok(None) };
        let to = path::respell(&to)?;
        Ok(Some(if to.starts_with('/') { to } else { format!("/{to}") }))
    }

    fn expand(&self, path: &str) -> Option<String> {
        let readable = path::readable(path);
        Some(self.target.expand(&self.pattern.groups(&readable)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_match_replaces_the_whole_path() {
        for (rule, target, path, expected) in [
            ("/api(/|$)(.*)", "/$2", "/api/x/y", "/x/y"),
            ("/api(/|$)(.*)", "/$2", "/api", "/"),
            ("/foo", "/", "/foo/bar", "/"),
            ("/foo(/.*)", "/$1", "/foo/bar", "//bar"),
            ("/foo/(.*)", "$1", "/foo/bar", "/bar"),
            ("/a/(.*)", "/b/$1", "/a/x%20%2Fy%25", "/b/x%20%2Fy%25"),
        ] {
            let rewrite = rewriting(rule, target).unwrap();
            assert_eq!(rewrite.path(path), Ok(Some(expected.to_owned())), "{rule} {target} {path}");
        }
    }

    #[test]
    fn a_path_that_would_climb_is_refused_and_an_equal_one_stays() {
        let rewrite = rewriting("/foo(.*)", "/app/$1").unwrap();
        assert_eq!(rewrite.path("/foo../x"), Err(Fault::Path(path::PathError::DotSegment)));
        assert_eq!(rewrite.path("/bar"), Ok(None));
        assert!(rewriting("/foo", "/foo").is_none());
    }

    fn rewriting(rule: &str, target: &str) -> Option<Rewriting> {
        let key = format!("{}rewrite-target", config::annotation::NGINX_PREFIX);
        let written = [(key, target.to_owned())].into();
        let annotations = config::annotation::Annotations::read(&written).0;
        Rewriting::of(&annotations.rewrite, &PathMatch::regex(rule, "ImplementationSpecific").unwrap())
    }
}
