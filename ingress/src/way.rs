//! What becomes of a request by its head alone: which route it takes, and what the door says before anybody is asked.
//!
//! ```text
//! head ─> authority, path ─> host ─> certificate? ─> route ─> its plan: answers, redirects, guards ─> Way
//! ```
//!
//! The proxy takes this way with every request, and [`crate::explain`] tells it, so the two cannot differ.
//!
//! Pure.

use std::net::IpAddr;
use std::sync::Arc;

use http::header::{HOST, HeaderName, HeaderValue};

use crate::answer::Fault;
use crate::client::{ClientAuth, Refusal, Visitor};
use crate::filter::{Asked, Prepared, Verdict};
use crate::gate::GateError;
use crate::gate::authority::Authority;
use crate::path;
use crate::routes::Route;

/// A request that has arrived.
#[derive(Clone, Copy, Debug)]
pub struct Arrived<'a> {
    /// Its head.
    pub request: &'a http::request::Parts,
    /// Path and query as the client wrote them.
    pub target: &'a [u8],
    /// Its id.
    pub request_id: &'a str,
    /// Whether over TLS.
    pub tls: bool,
    /// Whether the client spoke HTTPS, with us or with who stands in front of us.
    pub https: bool,
    /// The authority that the client asked, if that was another one before it came to us.
    pub shown: Option<&'a str>,
    /// The client's address, if it is known.
    pub client: Option<IpAddr>,
    /// Who the client is by its certificate, where it was asked for one.
    pub visitor: Option<&'a Visitor>,
}

/// What leads to a route.
pub trait Leads {
    /// The route.
    fn route(&self) -> &Route;
}

impl Leads for Arc<Route> {
    fn route(&self) -> &Route {
        self
    }
}

/// What there is for a request.
#[derive(Debug)]
pub struct Found<R> {
    /// What clients of its host are asked for.
    pub client: Option<Arc<ClientAuth>>,
    /// Where it goes.
    pub route: Option<R>,
}

impl<R> Default for Found<R> {
    fn default() -> Self {
        Self { client: None, route: None }
    }
}

/// The way of a request.
#[derive(Debug)]
pub struct Way<R> {
    /// The authority as the client wrote it; empty if there is none.
    pub authority: String,
    /// Where it goes.
    pub route: Option<R>,
    /// Path and query for the endpoint, if they are not those that came.
    pub rewritten: Option<String>,
    /// `X-Forwarded-Prefix`, if it depends on the path.
    pub prefix: Option<HeaderValue>,
    /// What texts with variables came to.
    pub prepared: Option<Box<Prepared>>,
    /// What endpoints are told of who the client is by its certificate.
    pub identity: Vec<(HeaderName, HeaderValue)>,
}

impl<R: Leads> Way<R> {
    /// The way of a request, and what becomes of it; `find` looks up host and path.
    pub fn take(arrived: &Arrived<'_>, find: impl FnOnce(&str, &str) -> Found<R>) -> (Self, Result<Verdict, Fault>) {
        let (authority, identity) = (String::new(), Vec::new());
        let mut way = Self { authority, route: None, rewritten: None, prefix: None, prepared: None, identity };
        let verdict = way.go(arrived, find);
        (way, verdict)
    }

    fn go(&mut self, arrived: &Arrived<'_>, find: impl FnOnce(&str, &str) -> Found<R>) -> Result<Verdict, Fault> {
        let request = arrived.request;
        let host = match authority(request) {
            Some(written) => {
                let authority = Authority::parse(written).ok_or(Fault::Head(GateError::Host))?;
                written.clone_into(&mut self.authority);
                authority.host()
            }
            // Only HTTP/1.0 may leave it out; the gate has seen to that.
            None if request.version == http::Version::HTTP_10 => "".into(),
            None => return Err(Fault::Head(GateError::HostMissing)),
        };
        // What the client asked whom it reached first; that counts for everything but the choice of the route.
        let shown = arrived.shown.and_then(Authority::parse).map(|shown| shown.host());
        if let Some(shown) = arrived.shown {
            shown.clone_into(&mut self.authority);
        }
        let target = str::from_utf8(arrived.target).map_err(|_| Fault::Head(GateError::Target))?;
        let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
        // The one target without a path is that of `OPTIONS *`, which asks about all of a host.
        let path = path::normalise(if path == "*" { "/" } else { path })?;
        let Found { client, route } = find(&host, path.matched());
        if let Some(to) = client.as_ref().map_or(Ok(None), |auth| self.show(arrived, auth))? {
            return Ok(Verdict::Redirect(302, to));
        }
        let needs_tls = client.is_some() && !arrived.tls;
        let route = route.ok_or(if needs_tls { Fault::Forbidden } else { Fault::NoRoute })?;
        let with_query = |path: &str| query.map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"));
        if path.is_reshaped() {
            self.rewritten = Some(with_query(path.sent()));
        }
        let route = self.route.insert(route).route();
        let has_endpoints = !route.endpoints.list().is_empty();
        let Some(plan) = &route.plan else {
            return match has_endpoints {
                _ if needs_tls => Err(Fault::Forbidden),
                true => Ok(Verdict::Pass),
                false => Err(Fault::NoEndpoint),
            };
        };
        let asked = Asked {
            request,
            authority: &self.authority,
            host: shown.as_deref().unwrap_or(&host),
            path: path.matched(),
            tls: arrived.https,
            client: arrived.client,
            identity: &self.identity,
            has_endpoints,
            request_id: arrived.request_id,
            ingress: &route.ingress,
            service: route.service(),
        };
        if needs_tls {
            // Who is sent to HTTPS is asked there.
            let verdict = plan.judge(&asked)?;
            return if matches!(verdict, Verdict::Redirect(..)) { Ok(verdict) } else { Err(Fault::Forbidden) };
        }
        if let Some(answer) = plan.server_answer(&asked) {
            return Ok(answer);
        }
        self.prepared = plan.prepare(&asked);
        let verdict = plan.judge(&asked)?;
        if verdict == Verdict::Pass {
            self.prefix = plan.prefix_for(&route.path, path.matched());
            if let Some(path) = plan.rewrite(&asked)? {
                self.rewritten = Some(with_query(&path));
            }
        }
        Ok(verdict)
    }

    /// Lets in a client that has shown, over TLS, the certificate that its host asks for; or says where it is sent.
    fn show(&mut self, arrived: &Arrived<'_>, auth: &ClientAuth) -> Result<Option<String>, Fault> {
        if !arrived.tls {
            return Ok(None);
        }
        match auth.admit(arrived.visitor) {
            Ok(()) => {
                self.identity = arrived.visitor.map(|visitor| auth.fields(visitor)).unwrap_or_default();
                Ok(None)
            }
            Err(Refusal::Fault(fault)) => Err(fault),
            Err(Refusal::Page(url)) => Ok(Some(url)),
        }
    }
}

/// The authority of a request as it is written: of the target, else of the `Host` field.
fn authority(request: &http::request::Parts) -> Option<&str> {
    let host = || request.headers.get(HOST)?.to_str().ok();
    request.uri.authority().map(http::uri::Authority::as_str).or_else(host)
}
