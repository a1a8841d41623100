//! What is rewritten in answers of endpoints, as nginx's `proxy_cookie_domain`, `proxy_cookie_path` and
//! `proxy_redirect` do it.

use config::annotation::AnswerRewrites;

/// A `Set-Cookie` field with its domain and path rewritten; `None` if it stays.
#[must_use]
pub fn cookie(field: &str, rewrites: &AnswerRewrites) -> Option<String> {
    // The first part is the cookie itself, whatever its name.
    let mut parts = field.split(';');
    let mut out = parts.next()?.to_owned();
    let mut is_rewritten = false;
    for part in parts {
        let rewritten = part.split_once('=').and_then(|(name, value)| attribute(name.trim(), value.trim(), rewrites));
        is_rewritten |= rewritten.is_some();
        out.push(';');
        out.push_str(rewritten.as_deref().unwrap_or(part));
    }
    is_rewritten.then_some(out)
}

fn attribute(name: &str, value: &str, rewrites: &AnswerRewrites) -> Option<String> {
    if name.eq_ignore_ascii_case("domain") {
        let (from, to) = rewrites.cookie_domain.as_ref()?;
        let bare = |domain: &str| domain.strip_prefix('.').unwrap_or(domain).to_ascii_lowercase();
        return (bare(value) == bare(from)).then(|| format!(" {name}={to}"));
    }
    if name.eq_ignore_ascii_case("path") {
        let (from, to) = rewrites.cookie_path.as_ref()?;
        return value.strip_prefix(from.as_str()).map(|rest| format!(" {name}={to}{rest}"));
    }
    None
}

/// A `Location` field whose beginning is replaced; `None` if it stays.
#[must_use]
pub fn location(field: &str, from: &str, to: &str) -> Option<String> {
    field.strip_prefix(from).map(|rest| format!("{to}{rest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_matches_is_rewritten() {
        let pair = |from: &str, to: &str| Some((from.to_owned(), to.to_owned()));
        let rewrites = AnswerRewrites {
            cookie_domain: pair("old.example", "new.example"),
            cookie_path: pair("/app/", "/"),
            redirect: None,
        };
        for (field, expected) in [
            ("a=b", None),
            ("path=/app/x", None),
            ("a=b; Path=/app/x; HttpOnly", Some("a=b; Path=/x; HttpOnly")),
            ("a=b; domain=.OLD.example; path=/app/", Some("a=b; domain=new.example; path=/")),
            ("a=b; Domain=x.old.example", None),
        ] {
            assert_eq!(cookie(field, &rewrites).as_deref(), expected, "{field}");
        }
        assert_eq!(location("http://in/x", "http://in/", "https://out/").as_deref(), Some("https://out/x"));
        assert_eq!(location("http://other/x", "http://in/", "https://out/"), None);
    }
}
