//! What holds for routes and no annotation says: status codes, and which rules are neither redirected nor guarded.

use super::read::Reader;
use super::unit;

/// Where ACME authorities ask (RFC 8555 §8.3).
const CHALLENGES: &str = "/.well-known/acme-challenge";

/// What holds for routes and no annotation says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteRules {
    /// The status of redirects to HTTPS and between names with and without `www.` (`http-redirect-code`).
    pub redirect: u16,
    /// Rules whose path begins so are never redirected to HTTPS (`no-tls-redirect-locations`).
    pub no_redirect: Vec<String>,
    /// Of rules whose path begins so nobody is asked who he is (`no-auth-locations`).
    pub no_auth: Vec<String>,
    /// For who asks too often (`limit-req-status-code`).
    pub limit_rate: Option<u16>,
    /// For who has too many requests under way (`limit-conn-status-code`).
    pub limit_connections: Option<u16>,
}

impl Default for RouteRules {
    fn default() -> Self {
        let challenges = || vec![CHALLENGES.to_owned()];
        let (limit_rate, limit_connections) = (None, None);
        Self { redirect: 308, no_redirect: challenges(), no_auth: challenges(), limit_rate, limit_connections }
    }
}

pub(super) fn read(reader: &mut Reader<'_>) -> RouteRules {
    let usual = RouteRules::default();
    let code = |text: &str| match unit::status(text, 301, 308) {
        Ok(status @ (301 | 302 | 307 | 308)) => Ok(status),
        _ => Err(format!("{text:?} is none of 301, 302, 307 and 308")),
    };
    let limit = |text: &str| unit::status(text, 400, 599);
    RouteRules {
        redirect: reader.value("http-redirect-code", code).unwrap_or(usual.redirect),
        no_redirect: reader.value("no-tls-redirect-locations", paths).unwrap_or(usual.no_redirect),
        no_auth: reader.value("no-auth-locations", paths).unwrap_or(usual.no_auth),
        limit_rate: reader.value("limit-req-status-code", limit),
        limit_connections: reader.value("limit-conn-status-code", limit),
    }
}

fn paths(text: &str) -> Result<Vec<String>, String> {
    let path = |path: &str| {
        let is_path = path.starts_with('/');
        is_path.then(|| path.to_owned()).ok_or_else(|| format!("{path:?} is not a path; begin it with /"))
    };
    unit::list(text).map(path).collect()
}
