//! What the annotations of a route do to a request, in the order of ingress-nginx.
//!
//! ```text
//! judge: app-root ─> body size ─> CORS preflight ─> redirect ─> HTTPS ─> no endpoint ─> denied
//!          302          413            204             3xx        308        503         503
//! count: limits (503, 429)    admit: sources (403) ─> password (401)    rewrite: path for the endpoint
//! ```
//!
//! A route whose annotations ask for nothing has no [`RoutePlan`], so it pays nothing.
//!
//! Pure. What annotations may say: [`config::annotation`].

mod basic;
mod cors;
mod external;
mod limit;
mod mirror;
mod redirect;
mod rewrite;
pub mod rewrites;
mod snippet;
mod values;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use config::annotation::{Annotations, AnswerRewrites, ExternalAuth, Level, Template, UpstreamTimeouts};
use config::global::Global;
use config::object::ObjectName;
use http::header::{CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue};

use crate::answer::Fault;
use crate::endpoints::Endpoints;
use crate::path::{self, PathMatch};

pub use basic::{Check, Credentials, Users};
pub use cors::AnswerFields;
pub use external::{Decision, Opinion, Question};
pub use limit::{Slot, Zone};
pub use mirror::Twin;
pub(crate) use values::component as percent_encoded;

/// For endpoints that are reached under another path.
pub const X_FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");
/// ingress-nginx's `proxy-body-size`.
const COMPAT_BODY: u64 = 1024 * 1024;

/// What is asked of a route beyond forwarding.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a yes or no of its own")]
pub struct RoutePlan {
    annotations: Annotations,
    /// Whether ingress-nginx's statuses are used.
    compat: bool,
    limiter: Option<limit::Limiter>,
    password: Option<Password>,
    external: Option<External>,
    /// Bytes; `None` for any number.
    body: Option<u64>,
    https: redirect::Https,
    rewrite: Option<rewrite::Rewriting>,
    /// The host that everything is sent to, and with which status.
    moved: Option<(Arc<str>, u16)>,
    upstream: Vec<(HeaderName, HeaderValue)>,
    /// Whether nobody is asked who he is.
    open: bool,
    /// Whether browsers are told to come over TLS.
    hsts: bool,
    /// The statuses for who asks too often, and for who has too many requests under way.
    limited: [Option<u16>; 2],
    /// Whose pages are shown in place of errors.
    pages: Option<Arc<Endpoints>>,
    /// Whether services may be asked at loopback addresses.
    allow_loopback: bool,
}

/// What plans are made with beside annotations.
#[derive(Clone, Copy, Debug)]
pub struct Gear<'a> {
    /// Who may come; `None` if nobody knows.
    pub users: Option<&'a Arc<Users>>,
    /// Who asked how often.
    pub zone: &'a Arc<Zone>,
    /// Whether services may be asked at loopback addresses.
    pub allow_loopback: bool,
    /// Whose pages are shown in place of errors.
    pub pages: Option<&'a Arc<Endpoints>>,
}

/// A request, as filters see it.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Its head.
    pub request: &'a http::request::Parts,
    /// Host and port as the client wrote them.
    pub authority: &'a str,
    /// The host alone, in lower case.
    pub host: &'a str,
    /// The path in the spelling that routes are looked up by.
    pub path: &'a str,
    /// Whether over TLS.
    pub tls: bool,
    /// The client's address, if it is known.
    pub client: Option<IpAddr>,
    /// What endpoints are told of who the client is by its certificate.
    pub identity: &'a [(HeaderName, HeaderValue)],
    /// Whether there is an endpoint to ask.
    pub has_endpoints: bool,
    /// The request's id.
    pub request_id: &'a str,
    /// The Ingress that the route is of.
    pub ingress: &'a ObjectName,
    /// The Service behind it.
    pub service: &'a ObjectName,
}

/// What follows for a request from texts with variables.
#[derive(Clone, Debug, Default)]
pub struct Prepared {
    /// Fields for the endpoint; those without a value are removed.
    pub request: Vec<(HeaderName, Option<HeaderValue>)>,
    /// What happens to the fields of the answer.
    pub answer: Vec<AnswerChange>,
    /// What the service is asked that decides who may come.
    pub question: Option<Question>,
    /// The copy of the request for another service.
    pub twin: Option<Twin>,
    /// The beginning of `Location`, and what it is replaced by.
    pub redirect: Option<(String, String)>,
    /// Whether no `deny` is for the client.
    pub admitted: bool,
}

/// What happens to one field of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnswerChange {
    /// The field.
    pub name: HeaderName,
    /// Its value; `None` removes it.
    pub value: Option<HeaderValue>,
    /// Whether fields of that name stay.
    pub adds: bool,
    /// Whether in answers of every status, or only where nginx's `add_header` does something.
    pub always: bool,
}

/// The statuses that nginx's `add_header` is for.
#[must_use]
pub const fn is_common(status: u16) -> bool {
    matches!(status, 200 | 201 | 204 | 206 | 301 | 302 | 303 | 304 | 307 | 308)
}

/// A service that decides who may come.
#[derive(Clone, Debug)]
pub struct External {
    auth: ExternalAuth,
    allow_loopback: bool,
}

impl External {
    /// The service.
    #[must_use]
    pub const fn service(&self) -> &ExternalAuth {
        &self.auth
    }

    /// Whether it may be asked at this address.
    #[must_use]
    pub const fn may_ask(&self, ip: IpAddr) -> bool {
        self.allow_loopback || !ip.is_loopback()
    }

    /// For how long such an answer is remembered; `None` if it is not.
    #[must_use]
    pub fn keep(&self, status: u16, answer: &HeaderMap) -> Option<Duration> {
        external::keep(&self.auth, status, answer)
    }

    /// What its answer means.
    #[must_use]
    pub fn decide(&self, status: u16, answer: &HeaderMap) -> Decision {
        external::decision(&self.auth, status, answer)
    }
}

/// Names and passwords that are asked for.
#[derive(Clone, Debug)]
pub struct Password {
    /// Who may come.
    pub users: Arc<Users>,
    /// `WWW-Authenticate` for all others.
    pub challenge: HeaderValue,
}

/// Whether a client may pass.
#[derive(Clone, Copy, Debug)]
pub enum Admission<'a> {
    /// It may.
    Granted,
    /// If it is known.
    Ask(Guards<'a>),
}

/// Who says whether a client is known.
#[derive(Clone, Copy, Debug)]
pub struct Guards<'a> {
    /// Names and passwords.
    pub password: Option<&'a Password>,
    /// A service.
    pub external: Option<&'a External>,
    /// Whether one of them is enough.
    pub any: bool,
}

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes to an endpoint.
    Pass,
    /// It is redirected: status and `Location`.
    Redirect(u16, String),
    /// It is answered with 204.
    NoContent,
    /// It is answered with this status and text.
    Answer(u16, String),
}

impl RoutePlan {
    /// The plan of a route at `path`; `None` if nothing is asked of it.
    ///
    /// With `compat`, what annotations leave open is as ingress-nginx has it; `has_tls` says whether the host has TLS.
    #[must_use]
    pub fn of(annotations: &Annotations, compat: bool, has_tls: bool, path: &PathMatch) -> Option<Self> {
        Self::within(&Global::default(), annotations, compat, has_tls, path)
    }

    /// As [`Self::of`], where the global settings say more than their defaults.
    #[must_use]
    pub fn within(
        global: &Global,
        annotations: &Annotations,
        compat: bool,
        has_tls: bool,
        path: &PathMatch,
    ) -> Option<Self> {
        let rules = &global.routes;
        let begins = |all: &[String]| all.iter().any(|begin| path.as_written().starts_with(begin));
        let hsts = has_tls && global.answers.hsts.sent.unwrap_or(compat);
        let body = annotations.body_size.or(compat.then_some(COMPAT_BODY)).filter(|limit| *limit > 0);
        let https = match redirect::Https::of(&annotations.ssl, compat, has_tls, rules.redirect) {
            _ if begins(&rules.no_redirect) => redirect::Https::Either,
            https => https,
        };
        // Those have been taken into account; aliases are routes of their own.
        let rest = Annotations {
            body_size: None,
            ssl: Annotations::default().ssl,
            aliases: Vec::new(),
            upstream: config::annotation::Upstream::default(),
            rewrite: Annotations::default().rewrite,
            www: false,
            canary: None,
            any_guard: false,
            client: None,
            passthrough: false,
            ..annotations.clone()
        };
        let rewrite = rewrite::Rewriting::of(&annotations.rewrite, path);
        let is_plain = !hsts && body.is_none() && https == redirect::Https::Either && rewrite.is_none();
        if is_plain && rest == Annotations::default() {
            return None;
        }
        let upstream = upstream(&rest);
        let rest = Annotations { any_guard: annotations.any_guard, ..rest };
        let (limiter, password, external) = (None, None, None);
        let (moved, pages, allow_loopback) = (None, None, false);
        let (open, statuses) = (begins(&rules.no_auth), [rules.limit_rate, rules.limit_connections]);
        Some(Self {
            body,
            https,
            rewrite,
            moved,
            upstream,
            annotations: rest,
            compat,
            limiter,
            password,
            external,
            pages,
            allow_loopback,
            open,
            hsts,
            limited: statuses,
        })
    }

    /// The same plan with what its annotations name: who may come (`None` if nobody knows), and who asked how often.
    ///
    /// Of some rules nobody is asked who he is (ingress-nginx's `no-auth-locations`).
    #[must_use]
    pub fn equipped(mut self, gear: &Gear<'_>) -> Self {
        let users = gear.users;
        self.allow_loopback = gear.allow_loopback;
        self.pages = gear.pages.filter(|_| !self.annotations.errors.statuses.is_empty()).cloned();
        self.limiter = limit::Limiter::of(&self.annotations.limits, gear.zone);
        if self.open {
            return self;
        }
        let external = self.annotations.external.clone();
        self.external = external.map(|auth| External { auth, allow_loopback: gear.allow_loopback });
        if let Some(auth) = &self.annotations.basic {
            let challenge = HeaderValue::from_str(&basic::challenge(&auth.realm)).ok();
            self.password = users.cloned().zip(challenge).map(|(users, challenge)| Password { users, challenge });
            self.annotations.denied |= self.password.is_none();
        }
        self
    }

    /// The plan that sends everything to another host.
    #[must_use]
    pub fn moved(to: &Arc<str>, status: u16) -> Self {
        Self {
            annotations: Annotations::default(),
            compat: true,
            limiter: None,
            password: None,
            external: None,
            body: None,
            https: redirect::Https::Either,
            rewrite: None,
            moved: Some((Arc::clone(to), status)),
            upstream: Vec::new(),
            open: false,
            hsts: false,
            limited: [None; 2],
            pages: None,
            allow_loopback: false,
        }
    }

    /// What becomes of a request for this route.
    pub fn judge(&self, asked: &Asked<'_>) -> Result<Verdict, Fault> {
        if let Some((to, status)) = &self.moved {
            return Ok(redirect::to_host(to, *status, asked));
        }
        if let Some(to) = redirect::app_root(self.annotations.app_root.as_deref(), asked) {
            return Ok(to);
        }
        if self.body.is_some_and(|limit| content_length(asked.request).is_some_and(|length| length > limit)) {
            return Err(Fault::BodyTooLarge);
        }
        if self.annotations.cors.as_ref().is_some_and(|cors| cors::is_preflight(cors, asked.request)) {
            return Ok(Verdict::NoContent);
        }
        if let Some(answer) = snippet::verdict(&self.annotations.steps, Level::Location, asked) {
            return Ok(answer);
        }
        if let Some(to) = &self.annotations.redirect {
            return Ok(redirect::every(to, asked));
        }
        if let Some(to) = self.rewrite.as_ref().and_then(|rewrite| rewrite.redirect(asked)) {
            return Ok(to);
        }
        if let Some(to) = self.https.redirect(asked) {
            return Ok(to);
        }
        if self.annotations.denied {
            return Err(Fault::Denied);
        }
        if !asked.has_endpoints {
            return Err(Fault::NoEndpoint);
        }
        Ok(Verdict::Pass)
    }

    /// Counts a request of a client at `now`, in milliseconds; what it gives is to be kept while the request is under
    /// way. A client without an address is not counted.
    pub fn count(&self, client: Option<IpAddr>, now: u64) -> Result<Option<Slot>, Fault> {
        let (Some(limiter), Some(client)) = (&self.limiter, client) else { return Ok(None) };
        let fault = if self.compat { Fault::Overloaded } else { Fault::TooMany };
        limiter.admit(client, now).map_err(|too_many| {
            let [often, at_once] = self.limited;
            let status = if too_many == limit::TooMany::Often { often } else { at_once };
            status.map_or(fault, Fault::Limited)
        })
    }

    /// What is answered before anything else is looked at (`return` in a server snippet).
    #[must_use]
    pub fn server_answer(&self, asked: &Asked<'_>) -> Option<Verdict> {
        snippet::verdict(&self.annotations.steps, Level::Server, asked)
    }

    /// What texts with variables come to; `None` if there are none.
    #[must_use]
    pub fn prepare(&self, asked: &Asked<'_>) -> Option<Box<Prepared>> {
        let steps = &self.annotations.steps;
        let redirect = self.annotations.answers.redirect.as_ref();
        let mirror = self.annotations.mirror.as_ref();
        if steps.is_empty() && self.external.is_none() && redirect.is_none() && mirror.is_none() {
            return None;
        }
        Some(Box::new(Prepared {
            request: snippet::request_fields(steps, asked),
            answer: snippet::answer_changes(steps, asked),
            question: self.external.as_ref().map(|external| external::question(&external.auth, asked)),
            twin: mirror.map(|mirror| mirror::twin(mirror, self.allow_loopback, asked)),
            redirect: redirect.map(|(from, to)| (from.clone(), values::fill(to, asked))),
            admitted: snippet::admits(steps, asked),
        }))
    }

    /// Whether a client may pass that no snippet denies (`admitted`). All guards have to agree, or, with
    /// `satisfy: any`, one.
    pub fn admit(&self, client: Option<IpAddr>, admitted: bool) -> Result<Admission<'_>, Fault> {
        let sources = &self.annotations.sources;
        let is_listed = admitted && self.admits(client);
        let has_sources = sources.allow.is_some() || !sources.deny.is_empty();
        let (password, external) = (self.password.as_ref(), self.external.as_ref());
        let any = self.annotations.any_guard;
        let asks = password.is_some() || external.is_some();
        match (asks, any, is_listed) {
            (true, true, true) if has_sources => Ok(Admission::Granted),
            (true, true, _) | (true, false, true) => Ok(Admission::Ask(Guards { password, external, any })),
            (false, _, true) => Ok(Admission::Granted),
            (_, _, false) => Err(Fault::Forbidden),
        }
    }

    /// Whether browsers are told to come over TLS (`hsts`).
    #[must_use]
    pub const fn hsts(&self) -> bool {
        self.hsts
    }

    /// Whether endpoints are not to see the password.
    #[must_use]
    pub const fn hides_password(&self) -> bool {
        self.password.is_some()
    }

    /// Whether cookies of the service that decides who may come are passed on with every status.
    #[must_use]
    pub fn always_sets_cookies(&self) -> bool {
        self.external.as_ref().is_some_and(|external| external.auth.always_set_cookie)
    }

    /// What is rewritten in the cookies of endpoints.
    #[must_use]
    pub fn cookie_rewrites(&self) -> Option<&AnswerRewrites> {
        let answers = &self.annotations.answers;
        (answers.cookie_domain.is_some() || answers.cookie_path.is_some()).then_some(answers)
    }

    /// Whether answers are slowed down.
    #[must_use]
    pub const fn is_paced(&self) -> bool {
        self.annotations.limits.rate.is_some()
    }

    /// How long to wait before more of an answer is sent, when `sent` bytes of it were `elapsed` after its beginning.
    #[must_use]
    pub fn pace(&self, sent: u64, elapsed: Duration) -> Option<Duration> {
        let limits = &self.annotations.limits;
        let rate = u32::try_from(limits.rate?).unwrap_or(u32::MAX);
        // As nginx: a second's worth may come at once.
        let over = sent.saturating_sub(limits.rate_after).saturating_sub(u64::from(rate));
        let due = Duration::from_nanos(
            u64::try_from(u128::from(over) * 1_000_000_000 / u128::from(rate)).unwrap_or(u64::MAX),
        );
        due.checked_sub(elapsed).filter(|wait| !wait.is_zero())
    }

    /// The path to ask an endpoint for instead of a normalised one; `None` if it stays.
    pub fn rewrite(&self, asked: &Asked<'_>) -> Result<Option<String>, Fault> {
        match self.rewrite.as_ref().map_or(Ok(None), |rewrite| rewrite.path(asked.path))? {
            Some(path) => Ok(Some(path)),
            None => snippet::rewrite(&self.annotations.steps, asked),
        }
    }

    /// `X-Forwarded-Prefix`, if it depends on the path.
    #[must_use]
    pub fn prefix_for(&self, rule: &PathMatch, path: &str) -> Option<HeaderValue> {
        let template = self.annotations.forwarded_prefix.as_ref().filter(|prefix| prefix.has_groups())?;
        let path = path::readable(path);
        HeaderValue::from_str(&template.expand(&rule.pattern()?.groups(&path)?)).ok()
    }

    /// Who is asked for a page in place of an answer with this status; nobody if that stays as it is.
    #[must_use]
    pub fn page_for(&self, status: u16) -> Option<&Arc<Endpoints>> {
        let pages = self.pages.as_ref().filter(|pages| !pages.list().is_empty());
        pages.filter(|_| self.annotations.errors.statuses.contains(&status))
    }

    /// Who is asked for pages.
    #[must_use]
    pub const fn pages(&self) -> Option<&Arc<Endpoints>> {
        self.pages.as_ref()
    }

    /// The largest request body in bytes.
    #[must_use]
    pub const fn body_limit(&self) -> Option<u64> {
        self.body
    }

    /// How long endpoints may take.
    #[must_use]
    pub const fn timeouts(&self) -> &UpstreamTimeouts {
        &self.annotations.timeouts
    }

    /// Whether requests are left out of the access log.
    #[must_use]
    pub const fn is_unlogged(&self) -> bool {
        self.annotations.unlogged
    }

    /// Fields to set in the request for an endpoint.
    #[must_use]
    pub fn upstream_fields(&self) -> &[(HeaderName, HeaderValue)] {
        &self.upstream
    }

    /// Fields to set in every answer to a request with these fields.
    #[must_use]
    pub fn answer_fields(&self, request: &HeaderMap) -> Option<AnswerFields> {
        self.annotations.cors.as_ref().map(|cors| cors::answer(cors, request))
    }

    /// Whether a client may pass; one without an address passes only where nobody is kept out.
    fn admits(&self, client: Option<IpAddr>) -> bool {
        let sources = &self.annotations.sources;
        client.map_or(sources.allow.is_none() && sources.deny.is_empty(), |ip| sources.admit(ip))
    }
}

fn content_length(request: &http::request::Parts) -> Option<u64> {
    request.headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn upstream(annotations: &Annotations) -> Vec<(HeaderName, HeaderValue)> {
    let field = |name, text: Option<&str>| Some((name, HeaderValue::from_str(text?).ok()?));
    let host = field(HOST, annotations.upstream_vhost.as_deref());
    let prefix = annotations.forwarded_prefix.as_ref().filter(|prefix| !prefix.has_groups()).map(Template::as_str);
    host.into_iter().chain(field(X_FORWARDED_PREFIX, prefix)).collect()
}

#[cfg(test)]
mod tests;
