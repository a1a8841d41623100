//! The cookie that ties a client to an endpoint.
//!
//! Its value is `KEY|BACKEND`, each 16 hexadecimal digits: a number that chooses the endpoint, and which backend it is
//! for, so that a cookie of another one is no cookie here. What it ties to, and when a client gets a new one:
//!
//! | mode       | key                        | new one                                                     |
//! |------------|----------------------------|-------------------------------------------------------------|
//! | balanced   | random, chooses by hashing | when there is none                                          |
//! | persistent | the endpoint's id          | when there is none, or its endpoint is gone                 |
//! | both       |                            | when another endpoint helped out, if `change-on-failure`    |

use std::fmt::Write as _;
use std::time::Duration;

use config::annotation::{Affinity, SameSite};
use http::header::{self, HeaderMap};
use jiff::Timestamp;

use super::key::{Fnv, cookie};
use super::{Draw, Tie, Wish, choose, mix};
use crate::backend::BackendKey;
use crate::endpoints::{Endpoint, Endpoints};

/// Affinity as a route has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CookiePlan {
    affinity: Affinity,
    /// The path of the rule.
    path: String,
}

/// What a client brought, and what it is tied to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// The number that chooses its endpoint.
    pub key: u64,
    /// Whether the client brought it.
    pub is_known: bool,
}

impl CookiePlan {
    /// For a rule with this path.
    #[must_use]
    pub fn new(affinity: &Affinity, path: &str) -> Self {
        let path = if path.is_empty() { "/" } else { path };
        Self { affinity: affinity.clone(), path: path.to_owned() }
    }

    /// What a request is tied to; a client without a cookie gets one of these random bits.
    #[must_use]
    pub fn held(&self, headers: &HeaderMap, backend: &BackendKey, random: u64) -> Held {
        let known = cookie(headers, &self.affinity.cookie).and_then(|value| parse(value, backend));
        Held { key: known.unwrap_or(random), is_known: known.is_some() }
    }

    /// Whether a client stays with its canary or without, and has a cookie of `backend`.
    #[must_use]
    pub fn binds(&self, headers: &HeaderMap, backend: &BackendKey) -> bool {
        self.affinity.sticky_canary && self.held(headers, backend, 0).is_known
    }

    /// What that is to the choice of an endpoint.
    #[must_use]
    pub const fn tie(&self, held: Held) -> Tie {
        match (self.affinity.persistent, held.is_known) {
            (false, _) => Tie::Key { key: held.key, among: 1 },
            (true, true) => Tie::Endpoint { id: held.key },
            (true, false) => Tie::Free,
        }
    }

    /// The key that the client is to have after `endpoint` answered; `None` if the one it has is right.
    #[must_use]
    pub fn renewed(&self, held: Held, all: &Endpoints, endpoint: &Endpoint) -> Option<u64> {
        let change = self.affinity.change_on_failure || !held.is_known;
        if self.affinity.persistent {
            let lives = all.list().iter().any(|other| other.id == held.key);
            return (held.key != endpoint.id && (change || !lives)).then_some(endpoint.id);
        }
        if change && choice(all, held.key).is_none_or(|choice| choice.id != endpoint.id) {
            // On average as many numbers are tried as there are endpoints.
            let mut keys = (1..=4096).map(|step| mix(held.key.wrapping_add(step)));
            return keys.find(|key| choice(all, *key).is_some_and(|choice| choice.id == endpoint.id));
        }
        (!held.is_known).then_some(held.key)
    }

    /// The value of `Set-Cookie`.
    #[must_use]
    pub fn set(&self, key: u64, backend: &BackendKey, client: &HeaderMap, tls: bool, now: Timestamp) -> String {
        let Affinity { cookie, path, domain, max_age, expires, .. } = &self.affinity;
        let mut text =
            format!("{cookie}={key:016x}|{:016x}; Path={}", digest(backend), path.as_ref().unwrap_or(&self.path));
        // Writing to a String cannot fail.
        if let Some(expires) = expires.and_then(|after| date(now, after)) {
            let _ = write!(text, "; Expires={expires}");
        }
        if let Some(age) = max_age {
            let _ = write!(text, "; Max-Age={}", age.as_secs());
        }
        if let Some(domain) = domain {
            let _ = write!(text, "; Domain={domain}");
        }
        if tls || self.affinity.secure {
            text.push_str("; Secure");
        }
        text.push_str("; HttpOnly");
        match self.affinity.same_site {
            None => {}
            Some(SameSite::None) if self.affinity.conditional_none && misreads_none(client) => {}
            Some(SameSite::None) => text.push_str("; SameSite=None"),
            Some(SameSite::Lax) => text.push_str("; SameSite=Lax"),
            Some(SameSite::Strict) => text.push_str("; SameSite=Strict"),
        }
        text
    }
}

/// The endpoint of a key, were all well.
fn choice(all: &Endpoints, key: u64) -> Option<&Endpoint> {
    let wish = Wish { tie: Tie::Key { key, among: 1 }, ..Wish::FREE };
    // At the end of time nothing is ejected.
    choose(all, &wish, Draw { random: 0, now: u64::MAX }, &[])
}

fn parse(value: &str, backend: &BackendKey) -> Option<u64> {
    let (key, of) = value.split_once('|')?;
    let number = |text: &str| (text.len() == 16).then(|| u64::from_str_radix(text, 16).ok()).flatten();
    (number(of)? == digest(backend)).then(|| number(key)).flatten()
}

/// A number for a backend, the same in every process.
fn digest(backend: &BackendKey) -> u64 {
    struct Text(Fnv);
    impl std::fmt::Write for Text {
        fn write_str(&mut self, text: &str) -> std::fmt::Result {
            self.0.add(text.as_bytes());
            Ok(())
        }
    }
    let mut text = Text(Fnv::new());
    // Writing to a hash cannot fail.
    let _ = write!(text, "{backend}");
    mix(text.0.state)
}

/// A date as HTTP has it (RFC 9110 §5.6.7).
fn date(now: Timestamp, after: Duration) -> Option<String> {
    let then = now.checked_add(after).ok()?;
    Some(then.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string())
}

/// Browsers that take `SameSite=None` for `Strict`, or refuse the cookie: Chrome 51 to 66, iOS 12, Safari on macOS 10.14.
fn misreads_none(client: &HeaderMap) -> bool {
    let Some(agent) = client.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok()) else { return false };
    let chrome = agent.split("Chrome/").nth(1).or_else(|| agent.split("Chromium/").nth(1));
    let version = chrome.and_then(|rest| rest.split('.').next()?.parse::<u16>().ok());
    let is_apple = agent.contains("(iPhone; CPU iPhone OS 12_")
        || agent.contains("(iPad; CPU OS 12_")
        || (agent.contains("(Macintosh;")
            && agent.contains("Mac OS X 10_14_")
            && agent.contains("Version/")
            && chrome.is_none());
    version.is_some_and(|version| (51..=66).contains(&version)) || is_apple
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use config::object::ObjectName;
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;
    use crate::backend::PortRef;

    fn affinity(persistent: bool, change_on_failure: bool) -> Affinity {
        Affinity {
            persistent,
            cookie: "route".to_owned(),
            path: None,
            domain: None,
            max_age: None,
            expires: None,
            same_site: None,
            conditional_none: false,
            secure: false,
            change_on_failure,
            sticky_canary: true,
        }
    }

    fn backend(name: &str) -> BackendKey {
        BackendKey { service: ObjectName::new("shop", name), port: PortRef::Number(80) }
    }

    fn endpoints(count: u8) -> Endpoints {
        let addrs = (1..=count).map(|last| SocketAddr::from(([192, 0, 2, last], 80)));
        Endpoints::new(backend("web"), addrs, Vec::new(), None)
    }

    fn with_cookie(line: &str) -> HeaderMap {
        [(header::COOKIE, HeaderValue::from_str(line).unwrap())].into_iter().collect()
    }

    fn set(affinity: &Affinity, tls: bool, agent: &'static str) -> String {
        let client = [(header::USER_AGENT, HeaderValue::from_static(agent))].into_iter().collect();
        let now = Timestamp::constant(1_790_000_000, 0);
        CookiePlan::new(affinity, "/shop").set(0x2A, &backend("web"), &client, tls, now)
    }

    #[test]
    fn the_cookie_says_what_was_asked_for() {
        let plain = set(&affinity(false, false), false, "");
        assert!(plain.starts_with("route=000000000000002a|") && plain.ends_with("; Path=/shop; HttpOnly"), "{plain}");
        let all = Affinity {
            path: Some("/".into()),
            domain: Some("shop.example".into()),
            max_age: Some(Duration::from_hours(1)),
            expires: Some(Duration::from_hours(1)),
            same_site: Some(SameSite::None),
            conditional_none: true,
            ..affinity(false, false)
        };
        let text = set(&all, true, "Mozilla/5.0 Chrome/120.0.0.0 Safari/537.36");
        let end = "; Path=/; Expires=Mon, 21 Sep 2026 15:13:20 GMT; Max-Age=3600; Domain=shop.example; Secure; HttpOnly; SameSite=None";
        assert!(text.ends_with(end), "{text}");
        assert!(!set(&all, true, "Mozilla/5.0 Chrome/60.0.1 Safari/537.36").contains("SameSite"));
    }

    #[test]
    fn what_is_not_our_cookie_is_none() {
        let plan = CookiePlan::new(&affinity(false, false), "/");
        let value = plan.set(7, &backend("web"), &HeaderMap::new(), false, Timestamp::UNIX_EPOCH);
        let ours = value.split("; ").next().unwrap().to_owned();
        for (line, backend, expected) in [
            (ours.as_str(), backend("web"), Some(7)),
            (ours.as_str(), backend("api"), None),
            ("route=7", backend("web"), None),
            ("route=0000000000000007|0000000000000000", backend("web"), None),
            ("route=1700000000.12.34|abcdef", backend("web"), None),
            ("other=1", backend("web"), None),
        ] {
            let held = plan.held(&with_cookie(line), &backend, 99);
            assert_eq!(held, Held { key: expected.unwrap_or(99), is_known: expected.is_some() }, "{line}");
        }
    }

    #[test]
    fn a_client_keeps_its_cookie_unless_another_endpoint_is_to_be_its_own() {
        let all = endpoints(3);
        for persistent in [false, true] {
            let plan = |change| CookiePlan::new(&affinity(persistent, change), "/");
            let fresh = Held { key: 5, is_known: false };
            let key_of = |endpoint: &Endpoint| plan(false).renewed(fresh, &all, endpoint).unwrap();
            for endpoint in all.list() {
                let held = Held { key: key_of(endpoint), is_known: true };
                assert_eq!(plan(true).renewed(held, &all, endpoint), None, "it is its own already");
                for other in all.list().iter().filter(|other| other.id != endpoint.id) {
                    assert_eq!(plan(false).renewed(held, &all, other), None, "another helped out");
                    let renewed = plan(true).renewed(held, &all, other).expect("a change was asked for");
                    assert_eq!(plan(true).renewed(Held { key: renewed, is_known: true }, &all, other), None);
                }
            }
        }
        let gone = Held { key: 5, is_known: true };
        let plan = CookiePlan::new(&affinity(true, false), "/");
        assert_eq!(plan.renewed(gone, &all, &all.list()[0]), Some(all.list()[0].id));
    }

    proptest! {
        #[test] // or a client would never come back to its endpoint
        fn the_key_that_a_client_gets_leads_to_the_endpoint_that_answered(
            random: u64, count in 1_u8..9, which in 0_usize..8, persistent: bool,
        ) {
            let all = endpoints(count);
            let endpoint = &all.list()[which % usize::from(count)];
            let plan = CookiePlan::new(&affinity(persistent, false), "/");
            let key = plan.renewed(Held { key: random, is_known: false }, &all, endpoint).expect("it has none");
            let wish = Wish { tie: plan.tie(Held { key, is_known: true }), ..Wish::FREE };
            prop_assert_eq!(choose(&all, &wish, Draw { random, now: 0 }, &[]).unwrap().id, endpoint.id);
        }
    }
}
