//! How the endpoints of a route are asked: protocol, TLS, choice, and when another one is.
//!
//! Pure. What annotations may say: [`config::annotation`]. Who carries it out: `io::upstream`.

use std::hash::{Hash, Hasher};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use config::annotation::{Affinity, HashBy, Method, Protocol, Retry, RetryOn, Upstream};

use crate::balance::cookie::CookiePlan;
use crate::identity::Identity;

/// Endpoints asked for one request where nothing else is said.
pub const USUAL_TRIES: usize = 3;

/// How the endpoints of a route are asked.
#[derive(Clone, Debug, Default)]
pub struct UpstreamPlan {
    /// What they speak; `None` to take the word of the Service port.
    pub protocol: Option<Protocol>,
    /// TLS towards those that speak it.
    pub tls: TlsPlan,
    /// When another one is asked.
    pub retry: RetryPlan,
    /// How one is chosen where nothing ties a request to one.
    pub method: Method,
    /// What ties requests to endpoints.
    pub hash: Option<HashBy>,
    /// What ties clients to endpoints.
    pub cookie: Option<CookiePlan>,
}

/// TLS towards endpoints.
#[derive(Clone, Debug, Default)]
pub struct TlsPlan {
    /// The name that certificates are for, and that is sent if they are checked or [`Self::server_name`] says so.
    pub name: Option<String>,
    /// Whether the name is sent though nothing is checked.
    pub server_name: bool,
    /// Whether certificates are checked.
    pub verify: bool,
    /// What is shown and trusted.
    pub identity: Option<Arc<Identity>>,
}

impl Hash for TlsPlan {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.name, self.server_name, self.verify).hash(state);
        self.identity.as_ref().map(|identity| identity.digest()).hash(state);
    }
}

/// When another endpoint is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryPlan {
    /// After what.
    pub on: RetryOn,
    /// Whether at least after a connection that did not come about in time.
    pub on_connect_timeout: bool,
    /// Endpoints in all.
    pub tries: usize,
    /// How long after the request came.
    pub within: Option<Duration>,
}

impl Default for RetryPlan {
    fn default() -> Self {
        Self::new(&Retry::default(), false)
    }
}

/// What became of a try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No connection; nothing was sent.
    Refused,
    /// No connection in time; nothing was sent.
    ConnectTimeout,
    /// The connection broke before an answer.
    Broken,
    /// A kept connection was closed by the endpoint before an answer, as it may do at any time.
    Stale,
    /// No answer in time.
    Timeout,
    /// An answer that is not HTTP.
    BadAnswer,
    /// An answer with this status.
    Status(u16),
}

impl RetryPlan {
    /// As annotations say; with `compat`, what they leave open is as ingress-nginx has it, which also gives a slow
    /// request to another endpoint.
    #[must_use]
    pub fn new(retry: &Retry, compat: bool) -> Self {
        let usual = || if compat { RetryOn::error_or_timeout() } else { RetryOn { error: true, ..RetryOn::default() } };
        Self {
            on_connect_timeout: retry.on.is_none(),
            on: retry.on.clone().unwrap_or_else(usual),
            tries: retry.tries.unwrap_or(USUAL_TRIES),
            within: retry.within,
        }
    }

    /// Whether another endpoint may be asked after `failure`.
    ///
    /// What was sent may have been carried out, so it is sent again only if doing it twice is doing it once, or if the
    /// annotation says so.
    #[must_use]
    pub fn allows(&self, failure: Failure, is_idempotent: bool, tries: usize, elapsed: Duration) -> bool {
        if tries >= self.tries || self.within.is_some_and(|within| elapsed >= within) {
            return false;
        }
        let may_repeat = is_idempotent || self.on.non_idempotent;
        match failure {
            Failure::Refused => self.on.error,
            Failure::ConnectTimeout => self.on.timeout || self.on_connect_timeout,
            Failure::Stale => may_repeat,
            Failure::Broken => self.on.error && may_repeat,
            Failure::Timeout => self.on.timeout && may_repeat,
            Failure::BadAnswer => self.on.invalid_header && may_repeat,
            Failure::Status(status) => self.on.statuses.contains(&status) && may_repeat,
        }
    }

    /// Whether an answer with this status may be a reason.
    #[must_use]
    pub fn minds(&self, status: u16) -> bool {
        self.on.statuses.contains(&status)
    }
}

impl UpstreamPlan {
    /// As annotations say, for a rule with this path; `name` stands for the endpoints where no other is given.
    #[must_use]
    pub fn new(asked: &Upstream, identity: Option<Arc<Identity>>, compat: bool, path: &str, name: &str) -> Arc<Self> {
        static USUAL: LazyLock<[Arc<UpstreamPlan>; 2]> = LazyLock::new(|| {
            [false, true].map(|compat| {
                let retry = RetryPlan::new(&Retry::default(), compat);
                Arc::new(UpstreamPlan { retry, ..UpstreamPlan::default() })
            })
        });
        if *asked == Upstream::default() {
            return Arc::clone(&USUAL[usize::from(compat)]);
        }
        let Upstream { tls, balance, .. } = asked;
        let cookie = |affinity: &Affinity| CookiePlan::new(affinity, path);
        Arc::new(Self {
            protocol: asked.protocol,
            tls: TlsPlan {
                name: Some(tls.name.clone().unwrap_or_else(|| name.to_owned())),
                server_name: tls.server_name,
                verify: tls.verify,
                identity,
            },
            retry: RetryPlan::new(&asked.retry, compat),
            method: balance.method,
            hash: balance.hash.clone(),
            cookie: balance.affinity.as_ref().map(cookie),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::ZERO;

    #[test]
    fn what_was_sent_is_sent_again_only_if_that_does_no_harm() {
        let usual = RetryPlan::default();
        let compat = RetryPlan::new(&Retry::default(), true);
        let on = |on: RetryOn| RetryPlan::new(&Retry { on: Some(on), ..Retry::default() }, true);
        let off = on(RetryOn::default());
        let any = on(RetryOn { non_idempotent: true, statuses: vec![503], ..RetryOn::error_or_timeout() });
        for (plan, failure, idempotent, other) in [
            (&usual, Failure::Refused, true, true),
            (&usual, Failure::ConnectTimeout, true, true),
            (&usual, Failure::Broken, true, false),
            (&usual, Failure::Stale, true, false),
            (&usual, Failure::Timeout, false, false),
            (&usual, Failure::BadAnswer, false, false),
            (&usual, Failure::Status(503), false, false),
            (&compat, Failure::Timeout, true, false),
            (&compat, Failure::Refused, true, true),
            (&off, Failure::Refused, false, false),
            (&off, Failure::ConnectTimeout, false, false),
            (&off, Failure::Broken, false, false),
            (&off, Failure::Stale, true, false),
            (&any, Failure::Broken, true, true),
            (&any, Failure::Timeout, true, true),
            (&any, Failure::Status(503), true, true),
            (&any, Failure::Status(502), false, false),
            (&any, Failure::BadAnswer, false, false),
        ] {
            assert_eq!(plan.allows(failure, true, 1, NOW), idempotent, "{failure:?}, a GET, {:?}", plan.on);
            assert_eq!(plan.allows(failure, false, 1, NOW), other, "{failure:?}, a POST, {:?}", plan.on);
        }
    }

    #[test]
    fn tries_and_time_end() {
        let plan =
            |tries, seconds| RetryPlan { tries, within: Some(Duration::from_secs(seconds)), ..RetryPlan::default() };
        for (tries, elapsed, expected) in [(1, 0, true), (2, 4, true), (3, 0, false), (1, 5, false)] {
            let elapsed = Duration::from_secs(elapsed);
            assert_eq!(plan(3, 5).allows(Failure::Refused, true, tries, elapsed), expected, "{tries} in {elapsed:?}");
        }
    }
}
