//! Redirects: of `/`, of everything, of HTTP to HTTPS.

use config::annotation::{Redirect, RedirectTo, SslRedirect};

use super::{Asked, Verdict};

/// Which schemes a route is served over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Https {
    /// Both.
    Either,
    /// HTTPS only; HTTP is redirected.
    Only {
        /// Whether one trailing slash is lost on the way, as in ingress-nginx.
        strip_slash: bool,
        /// The status of the redirect.
        status: u16,
    },
}

impl Https {
    pub(super) fn of(ssl: &SslRedirect, compat: bool, has_tls: bool, status: u16) -> Self {
        let wanted = ssl.force || (has_tls && ssl.redirect.unwrap_or(compat));
        if wanted { Self::Only { strip_slash: compat && !ssl.preserve_trailing_slash, status } } else { Self::Either }
    }

    pub(super) fn redirect(self, asked: &Asked<'_>) -> Option<Verdict> {
        let Self::Only { strip_slash, status } = self else { return None };
        if asked.tls {
            return None;
        }
        let target = target(asked);
        let target = target.strip_suffix('/').filter(|_| strip_slash).unwrap_or(target);
        Some(Verdict::Redirect(status, format!("https://{}{target}", asked.host)))
    }
}

/// 302 for the path `/` alone.
pub(super) fn app_root(root: Option<&str>, asked: &Asked<'_>) -> Option<Verdict> {
    let root = root.filter(|_| asked.path == "/")?;
    let scheme = if asked.tls { "https" } else { "http" };
    Some(Verdict::Redirect(302, format!("{scheme}://{}{root}", asked.authority)))
}

/// For every request of the route.
pub(super) fn every(redirect: &Redirect, asked: &Asked<'_>) -> Verdict {
    let to = match &redirect.to {
        RedirectTo::Url(url) => url.clone(),
        RedirectTo::WithRequest(before, after) => format!("{before}{}{after}", target(asked)),
    };
    Verdict::Redirect(redirect.status, to)
}

/// To another host, one trailing slash lost on the way, as in ingress-nginx.
pub(super) fn to_host(host: &str, status: u16, asked: &Asked<'_>) -> Verdict {
    let scheme = if asked.tls { "https" } else { "http" };
    let target = target(asked);
    Verdict::Redirect(status, format!("{scheme}://{host}{}", target.strip_suffix('/').unwrap_or(target)))
}

/// Path and query as the client wrote them; `/` for `OPTIONS *`.
fn target<'a>(asked: &Asked<'a>) -> &'a str {
    let target = asked.request.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    if target == "*" { "/" } else { target }
}
