//! How clients are met: the global settings, resolved for the data path.
//!
//! One value per route table, so that a request that has loaded the table has loaded these as well; nothing of them is
//! looked up by name. What holds for single routes is in their plans.
//!
//! Pure.

use std::net::IpAddr;
use std::sync::Arc;

use config::global::{Global, Match};
use http::header::{HeaderMap, HeaderName, HeaderValue, REFERER, USER_AGENT};

use crate::gate::Limits;

/// The settings that hold for every request.
#[derive(Clone, Debug)]
pub struct Front {
    /// As read.
    pub global: Arc<Global>,
    /// The field in which proxies in front of us tell the client's address.
    pub address: Option<HeaderName>,
    /// Fields of endpoints that clients do not see.
    pub hidden: Vec<HeaderName>,
    /// `Strict-Transport-Security`.
    pub hsts: HeaderValue,
    /// What a request head may hold.
    pub limits: Limits,
}

impl Default for Front {
    fn default() -> Self {
        Self::of(&Arc::default())
    }
}

impl Front {
    /// What the settings come to.
    #[must_use]
    pub fn of(global: &Arc<Global>) -> Self {
        // The model has seen that these are names and values of fields.
        let name = |name: &String| HeaderName::from_bytes(name.as_bytes()).ok();
        let usual = Limits::default();
        let limits = global.client.buffers.map_or(usual, |(head, line)| Limits { target: line, head, ..usual });
        Self {
            address: global.trust.address.as_ref().and_then(name),
            hidden: global.answers.hidden.iter().filter_map(name).collect(),
            hsts: HeaderValue::from_str(&global.answers.hsts.value).unwrap_or(HeaderValue::from_static("max-age=0")),
            limits,
            global: Arc::clone(global),
        }
    }

    /// Whether a request of a client at `ip` is refused (`block-cidrs`, `block-user-agents`, `block-referers`).
    #[must_use]
    pub fn blocks(&self, ip: Option<IpAddr>, headers: &HeaderMap) -> bool {
        let blocks = &self.global.blocks;
        let is_named = |name: &HeaderName, all: &[Match]| {
            let text = || headers.get(name).and_then(|field| field.to_str().ok()).unwrap_or_default();
            !all.is_empty() && all.iter().any(|one| one.is_match(text()))
        };
        let ip = ip.map(|ip| ip.to_canonical());
        ip.is_some_and(|ip| blocks.networks.iter().any(|network| network.contains(&ip)))
            || is_named(&USER_AGENT, &blocks.agents)
            || is_named(&REFERER, &blocks.referers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn front(data: &[(&str, &str)]) -> Front {
        let data = data.iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned())).collect();
        Front::of(&Arc::new(Global::read(&data, &Global::default()).0))
    }

    #[test]
    fn who_is_blocked_is_known_by_address_agent_or_referer() {
        let front = front(&[
            ("block-cidrs", "192.0.2.0/24"),
            ("block-user-agents", "~*bot,exact agent"),
            ("block-referers", "~*spam\\.example"),
        ]);
        for (ip, agent, referer, blocked) in [
            ("192.0.2.1", "", "", true),
            ("::ffff:192.0.2.1", "", "", true),
            ("192.0.3.1", "curl", "https://a.example", false),
            ("192.0.3.1", "GoogleBot/2", "", true),
            ("192.0.3.1", "Exact Agent", "", true),
            ("192.0.3.1", "exact agent 2", "", false),
            ("192.0.3.1", "", "https://www.SPAM.example/x", true),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(USER_AGENT, HeaderValue::from_static(agent));
            headers.insert(REFERER, HeaderValue::from_static(referer));
            assert_eq!(front.blocks(ip.parse().ok(), &headers), blocked, "{ip} {agent} {referer}");
        }
    }

    #[test]
    fn settings_come_to_limits_and_fields() {
        let front = front(&[("large-client-header-buffers", "2 4k"), ("hide-headers", "X-Powered-By, a b")]);
        assert_eq!((front.limits.head, front.limits.target), (8 << 10, 4 << 10));
        assert_eq!(front.hidden, ["x-powered-by"]);
        assert_eq!(Front::default().hsts, "max-age=31536000; includeSubDomains");
    }
}
