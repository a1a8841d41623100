//! One request on its way through the proxy: what is known of it, and what becomes of it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use config::annotation::Method;
use http::header::{
    ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HeaderName, HeaderValue, LOCATION, REFERER,
    RETRY_AFTER, SERVER, SET_COOKIE, STRICT_TRANSPORT_SECURITY, TE, UPGRADE, USER_AGENT, WWW_AUTHENTICATE,
};
use http::uri::PathAndQuery;
use jiff::Timestamp;
use pingora_core::protocols::l4::socket::SocketAddr as PeerAddr;
use pingora_core::{Error, ErrorSource, ErrorType, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::Session;
use tokio::time::Instant;

use super::access_writer::{self, Log};
use super::auth::Asker;
use super::dial::Dial;
use super::encode::{self, Encoder};
use super::guard::Verified;
use super::proxy::{LocalRoute, Shared, conn};
use super::upstream::Attempts;
use super::wire::{BodyFault, Luggage};
use crate::access::Entry as LogEntry;
use crate::answer::Fault;
use crate::balance::cookie::Held;
use crate::balance::key::{self, Facts};
use crate::balance::{Tie, Wish};
use crate::client::Visitor;
use crate::endpoints::Endpoints;
use crate::filter::{
    Admission, AnswerChange, Credentials, Decision, External, Guards, Opinion, Password, Prepared, RoutePlan, Slot,
    Twin, Verdict, X_FORWARDED_PREFIX, is_common, rewrites,
};
use crate::front::Front;
use crate::met::{Connection, Met};
use crate::metrics::Record;
use crate::upstream::Failure;
use crate::way::{Arrived, Found, Way};
use crate::{compress, headers};

/// The status in the log of a request whose client left before the answer; nginx's number.
pub(super) const CLIENT_GONE: u16 = 499;

/// The largest body that is copied, in bytes.
const LARGEST_COPY: usize = 1024 * 1024;

/// Whom to ask who may come.
#[derive(Clone, Copy)]
pub(super) struct Asking<'a> {
    pub(super) verified: &'a Verified,
    pub(super) asker: &'a Asker,
}

/// What becomes of a client at the door.
#[derive(Debug)]
pub(super) enum Entry {
    /// It comes in.
    In,
    /// It is sent there to sign in.
    SignIn(String),
}

/// What the hooks keep of a request.
#[derive(Debug)]
pub(super) struct Exchange {
    shared: Arc<Shared>,
    /// How clients are met.
    pub(super) front: Arc<Front>,
    /// Who the client is.
    met: Met,
    /// Compresses the answer.
    encoder: Option<Encoder>,
    started: Instant,
    route: Option<Arc<LocalRoute>>,
    /// The authority as the client wrote it.
    host: String,
    request_id: String,
    /// Path and query to send, if they are not those that came.
    rewritten: Option<String>,
    /// What endpoints are told of who the client is by its certificate.
    identity: Vec<(HeaderName, HeaderValue)>,
    /// `X-Forwarded-Prefix`, if it depends on the path.
    prefix: Option<HeaderValue>,
    /// Counts the request for its address while it is under way.
    slot: Option<Slot>,
    /// What texts with variables came to.
    prepared: Option<Box<Prepared>>,
    /// What the service said that decides who may come.
    opinion: Option<Opinion>,
    /// `WWW-Authenticate` for a client that is not let in.
    challenge: Option<HeaderValue>,
    /// When the answer began to be sent, and how much of it was.
    sent: Option<(Instant, u64)>,
    /// Bytes of body so far.
    body: u64,
    /// The body so far, for a copy.
    copied: BytesMut,
    /// Whether the endpoint was asked for an upgrade.
    asked_upgrade: bool,
    pub(super) attempts: Attempts,
    /// What the client's cookie says, once it was read.
    held: Option<Held>,
    /// Whether the answer of an endpoint was refused, so that another one is asked.
    pub(super) rejected: bool,
    /// The status in whose place a page of another Service is asked for.
    detour: Option<u16>,
    /// What was answered, unless an answer of the endpoint was begun.
    pub(super) status: u16,
}

impl Exchange {
    pub(super) fn new(shared: Arc<Shared>, front: Arc<Front>) -> Self {
        Self {
            shared,
            front,
            met: Met::default(),
            encoder: None,
            started: Instant::now(),
            route: None,
            host: String::new(),
            request_id: String::new(),
            rewritten: None,
            identity: Vec::new(),
            prefix: None,
            slot: None,
            prepared: None,
            opinion: None,
            challenge: None,
            sent: None,
            body: 0,
            copied: BytesMut::new(),
            asked_upgrade: false,
            attempts: Attempts::default(),
            held: None,
            rejected: false,
            detour: None,
            status: CLIENT_GONE,
        }
    }

    /// Finds out who asks; comes before anything else.
    pub(super) fn meet(&mut self, session: &Session) {
        let proxied = luggage(session).and_then(|known| known.proxied);
        let connection = Connection {
            peer: client_of(session),
            direct: proxied.map(|proxied| proxied.direct.ip()),
            tls: is_tls(session),
            port: session.server_addr().and_then(PeerAddr::as_inet).map_or(0, SocketAddr::port),
        };
        self.met = Met::new(&self.front, &session.req_header().headers, &connection);
    }

    /// Whether the connection ends with this request, as the settings say (`keep-alive`, `keep-alive-requests`).
    pub(super) fn is_last(&self, session: &Session) -> bool {
        let rules = &self.front.global.client;
        let is_spent = |most| conn(session).is_some_and(|conn| conn.served() >= most);
        rules.idle.is_some_and(|idle| idle.is_zero()) || rules.requests.is_some_and(is_spent)
    }

    /// Finds out where the request is to go, or why it goes nowhere.
    pub(super) fn accept(
        &mut self,
        session: &Session,
        find: impl FnOnce(&str, &str) -> Found<Arc<LocalRoute>>,
    ) -> Result<Verdict, Fault> {
        let request = session.req_header();
        if self.front.global.trust.own_ids != Some(false) || request.headers.contains_key(headers::X_REQUEST_ID) {
            self.request_id = headers::request_id(&request.headers, fastrand::u128(..));
        }
        if self.front.blocks(self.met.client, &request.headers) {
            return Err(Fault::Forbidden);
        }
        let shown = self.met.host.take();
        let arrived = Arrived {
            request,
            target: request.raw_path(),
            request_id: &self.request_id,
            tls: is_tls(session),
            https: self.met.https,
            shown: shown.as_deref(),
            client: self.met.client,
            visitor: visitor(session),
        };
        let (way, verdict) = Way::take(&arrived, find);
        (self.host, self.route, self.identity) = (way.authority, way.route, way.identity);
        (self.rewritten, self.prefix, self.prepared) = (way.rewritten, way.prefix, way.prepared);
        verdict
    }

    /// What the annotations of the route ask for.
    pub(super) fn plan(&self) -> Option<&RoutePlan> {
        self.route.as_ref()?.route.plan.as_deref()
    }

    /// Lets in who may come; `now` is in milliseconds. A client that is not known may be sent to a page to sign in.
    pub(super) async fn enter(&mut self, session: &Session, asking: Asking<'_>, now: u64) -> Result<Entry, Fault> {
        let Some(plan) = self.route.as_ref().and_then(|local| local.route.plan.clone()) else { return Ok(Entry::In) };
        let client = self.met.client;
        self.slot = plan.count(client, now)?;
        let admitted = self.prepared.as_ref().is_none_or(|prepared| prepared.admitted);
        let Admission::Ask(guards) = plan.admit(client, admitted)? else { return Ok(Entry::In) };
        match self.ask(session, asking, guards).await {
            Ok(()) => Ok(Entry::In),
            Err(fault) => {
                let question = self.prepared.as_ref().and_then(|prepared| prepared.question.as_ref());
                let signin = question.and_then(|question| question.signin.clone());
                signin.filter(|_| fault == Fault::Unauthorized).map(Entry::SignIn).ok_or(fault)
            }
        }
    }

    /// Asks the guards in the order of nginx; of several refusals the one that a password can mend is told.
    async fn ask(&mut self, session: &Session, asking: Asking<'_>, guards: Guards<'_>) -> Result<(), Fault> {
        let mut refusal = None;
        let mut note = |result: Result<(), Fault>| match result {
            Ok(()) => Ok(guards.any),
            Err(fault @ (Fault::Unauthorized | Fault::Forbidden)) if guards.any => {
                refusal = refusal.filter(|known| *known == Fault::Unauthorized).or(Some(fault));
                Ok(false)
            }
            Err(fault) => Err(fault),
        };
        if let Some(password) = guards.password
            && note(self.ask_password(session, asking.verified, password).await)?
        {
            return Ok(());
        }
        if let Some(external) = guards.external
            && note(self.ask_service(asking.asker, external).await)?
        {
            return Ok(());
        }
        refusal.map_or(Ok(()), Err)
    }

    async fn ask_password(&mut self, session: &Session, verified: &Verified, password: &Password) -> Result<(), Fault> {
        if let Some(who) = Credentials::of(&session.req_header().headers)
            && verified.check(&password.users, who).await?
        {
            return Ok(());
        }
        self.challenge = Some(password.challenge.clone());
        Err(Fault::Unauthorized)
    }

    async fn ask_service(&mut self, asker: &Asker, external: &External) -> Result<(), Fault> {
        let question = self.prepared.as_ref().and_then(|prepared| prepared.question.as_ref());
        let (opinion, result) = match asker.ask(external, question.ok_or(Fault::Internal)?).await? {
            Decision::Pass(opinion) => (opinion, Ok(())),
            Decision::Unknown(opinion, challenge) => {
                self.challenge = challenge.or(self.challenge.take());
                (opinion, Err(Fault::Unauthorized))
            }
            Decision::Forbidden | Decision::Failed => return Err(Fault::Forbidden),
        };
        self.opinion = Some(opinion);
        result
    }

    /// How long to wait before more of the answer is sent.
    pub(super) fn pace(&mut self, len: usize) -> Option<Duration> {
        let plan = self.plan()?;
        if !plan.is_paced() {
            return None;
        }
        let now = Instant::now();
        let (begun, sent) = self.sent.unwrap_or((now, 0));
        let sent = sent + len as u64;
        let wait = self.plan()?.pace(sent, now - begun);
        self.sent = Some((begun, sent));
        wait
    }

    /// The body is about to be sent, from its beginning.
    pub(super) fn begin_body(&mut self) {
        self.body = 0;
        self.copied.clear();
    }

    /// The copy of a request that reached an endpoint whole, for the service that gets copies.
    pub(super) fn twin(&mut self, session: &mut Session) -> Option<(Twin, Bytes)> {
        let is_whole = self.attempts.count() > 0 && session.as_downstream_mut().is_body_done();
        let twin = self.prepared.as_mut()?.twin.take().filter(|_| is_whole)?;
        Some((twin, std::mem::take(&mut self.copied).freeze()))
    }

    /// Counts a piece of the request's body; one that grows too large is a fault.
    pub(super) fn count_body(&mut self, piece: Option<&Bytes>) -> Result<()> {
        self.body = self.body.saturating_add(piece.map_or(0, Bytes::len) as u64);
        if let (Some(piece), Some(prepared)) = (piece, &mut self.prepared) {
            let twin = prepared.twin.take().filter(|_| self.copied.len() + piece.len() <= LARGEST_COPY);
            if twin.as_ref().is_some_and(|twin| twin.with_body) {
                self.copied.extend_from_slice(piece);
            }
            prepared.twin = twin;
        }
        let limit = self.plan().and_then(RoutePlan::body_limit);
        if limit.is_some_and(|limit| self.body > limit) { Err(status_error(413)) } else { Ok(()) }
    }

    /// Sets the fields of an answer that annotations ask for.
    pub(super) fn decorate(&self, session: &Session, answer: &mut ResponseHeader) -> Result<()> {
        if self.front.global.answers.tokens {
            answer.insert_header(SERVER, "ferrogate")?;
        }
        let Some(plan) = self.plan() else { return Ok(()) };
        if plan.hsts() && is_tls(session) {
            answer.insert_header(STRICT_TRANSPORT_SECURITY, self.front.hsts.clone())?;
        }
        self.apply_changes(plan, answer)?;
        let Some(fields) = plan.answer_fields(&session.req_header().headers) else { return Ok(()) };
        for name in fields.remove {
            answer.remove_header(&name);
        }
        for (name, value) in fields.set {
            answer.insert_header(name, value)?;
        }
        if fields.varies {
            answer.append_header(http::header::VARY, "Origin")?;
        }
        Ok(())
    }

    /// Rewrites what an endpoint says that is for another address than the client knows.
    pub(super) fn rewrite_answer(&self, answer: &mut ResponseHeader) -> Result<()> {
        let Some(plan) = self.plan() else { return Ok(()) };
        if let Some(answers) = plan.cookie_rewrites() {
            let cookies: Vec<HeaderValue> = answer.headers.get_all(SET_COOKIE).iter().cloned().collect();
            let rewritten = |field: &HeaderValue| {
                let text = rewrites::cookie(field.to_str().ok()?, answers)?;
                HeaderValue::from_str(&text).ok()
            };
            if cookies.iter().any(|field| rewritten(field).is_some()) {
                answer.remove_header(&SET_COOKIE);
                for field in cookies {
                    answer.append_header(SET_COOKIE, rewritten(&field).unwrap_or(field))?;
                }
            }
        }
        if let Some((from, to)) = self.prepared.as_ref().and_then(|prepared| prepared.redirect.as_ref()) {
            let location = answer.headers.get(LOCATION).and_then(|field| field.to_str().ok());
            if let Some(location) = location.and_then(|field| rewrites::location(field, from, to)) {
                answer.insert_header(LOCATION, location)?;
            }
        }
        Ok(())
    }

    /// Makes the changes that snippets and the service ask for that decides who may come.
    fn apply_changes(&self, plan: &RoutePlan, answer: &mut ResponseHeader) -> Result<()> {
        let is_common = is_common(answer.status.as_u16());
        let changes = self.prepared.iter().flat_map(|prepared| &prepared.answer);
        for AnswerChange { name, value, adds, .. } in changes.filter(|change| change.always || is_common) {
            match value {
                Some(value) if *adds => drop(answer.append_header(name.clone(), value.clone())?),
                Some(value) => answer.insert_header(name.clone(), value.clone())?,
                None => drop(answer.remove_header(name)),
            }
        }
        let passes = is_common || plan.always_sets_cookies();
        for cookie in self.opinion.iter().flat_map(|opinion| &opinion.cookies).filter(|_| passes) {
            answer.append_header(SET_COOKIE, cookie.clone())?;
        }
        Ok(())
    }

    /// The route that was found.
    pub(super) fn route(&self) -> Result<&Arc<LocalRoute>> {
        self.route.as_ref().ok_or_else(|| status_error(404))
    }

    /// Asks another Service for a page in place of an answer with this status, if the route says so; whether it does.
    /// Once only, and not once an answer was begun.
    pub(super) fn turn_to_page(&mut self, session: &Session, status: u16) -> bool {
        let is_begun = session.response_written().is_some_and(|written| !written.status.is_informational());
        let is_meant = self.plan().is_some_and(|plan| plan.page_for(status).is_some());
        let turns = is_meant && !is_begun && self.detour.is_none() && !session.as_ref().retry_buffer_truncated();
        if turns {
            self.detour = Some(status);
        }
        turns
    }

    /// Who is to be asked, and how they are reached.
    pub(super) fn destination(&self) -> Result<(&Arc<Endpoints>, &Dial)> {
        let local = self.route()?;
        let pages = self.plan().and_then(RoutePlan::pages).zip(local.pages.as_ref());
        Ok(pages.filter(|_| self.detour.is_some()).unwrap_or((&local.route.endpoints, &local.dial)))
    }

    /// How to choose an endpoint for the request.
    pub(super) fn wish(&mut self, session: &Session) -> Result<Wish> {
        if self.detour.is_some() {
            return Ok(Wish { tie: Tie::Free, method: Method::default() });
        }
        let local = Arc::clone(self.route()?);
        let (plan, backend) = (&local.route.upstream, local.route.endpoints.key());
        let request = session.req_header();
        let tie = match (&plan.cookie, &plan.hash) {
            (Some(cookie), _) => {
                let read = || cookie.held(&request.headers, backend, fastrand::u64(..));
                cookie.tie(*self.held.get_or_insert_with(read))
            }
            (None, Some(hash)) => {
                let facts = Facts { request, host: &self.host, tls: self.met.https, client: self.met.client };
                key::of(&hash.key, &facts).map_or(Tie::Free, |key| Tie::Key { key, among: hash.subset })
            }
            (None, None) => Tie::Free,
        };
        Ok(Wish { tie, method: plan.method })
    }

    /// Gives the client a cookie if the one it has is not right.
    pub(super) fn tie(&self, session: &Session, answer: &mut ResponseHeader) -> Result<()> {
        let Some(held) = self.held.filter(|_| self.detour.is_none()) else { return Ok(()) };
        let route = &self.route()?.route;
        let addr = self.attempts.addr();
        let endpoint = route.endpoints.list().iter().find(|endpoint| Some(endpoint.addr) == addr);
        let (Some(cookie), Some(endpoint)) = (&route.upstream.cookie, endpoint) else { return Ok(()) };
        let Some(key) = cookie.renewed(held, &route.endpoints, endpoint) else { return Ok(()) };
        let client = &session.req_header().headers;
        let value = cookie.set(key, route.endpoints.key(), client, self.met.https, Timestamp::now());
        answer.append_header(SET_COOKIE, value).map(|_| ())
    }

    /// Whether it is of use how long endpoints take.
    pub(super) fn is_timed(&self) -> bool {
        self.route().is_ok_and(|local| local.route.upstream.method == Method::Ewma)
    }

    /// Whether an answer with this status may be a reason to ask another endpoint.
    pub(super) fn minds(&self, status: u16) -> bool {
        self.detour.is_none() && self.route().is_ok_and(|local| local.route.upstream.retry.minds(status))
    }

    /// Whether another endpoint may be asked after the attempt under way failed.
    pub(super) fn may_ask_again(&self, session: &Session, failure: Failure) -> bool {
        let Ok(local) = self.route() else { return false };
        let is_begun = session.response_written().is_some_and(|written| !written.status.is_informational());
        let is_idempotent = session.req_header().method.is_idempotent();
        // A connection that had merely grown old is no reason to avoid its endpoint.
        let Ok((endpoints, _)) = self.destination() else { return false };
        let is_there = failure == Failure::Stale || self.attempts.has_another(endpoints);
        let plan = &local.route.upstream.retry;
        !is_begun
            && !session.retry_buffer_truncated()
            && is_there
            && plan.allows(failure, is_idempotent, self.attempts.count(), self.started.elapsed())
    }

    /// Makes the endpoint's request of the client's.
    pub(super) fn prepare(&mut self, session: &Session, request: &mut RequestHeader) -> Result<()> {
        // Pingora has removed any other wish than a complete WebSocket handshake.
        self.asked_upgrade = self.detour.is_none() && request.headers.contains_key(UPGRADE);
        if self.detour.is_some() {
            request.set_uri(page_target(session.req_header())?.into());
        } else if let Some(path) = &self.rewritten {
            let target: PathAndQuery = path.parse().map_err(|_| status_error(400))?;
            request.set_uri(target.into());
        }
        if session.is_http2() {
            join_cookies(request)?;
        }
        // gRPC servers look for it (gRPC over HTTP/2, "Requests").
        let wants_trailers = self.destination().is_ok_and(|(_, dial)| dial.is_h2())
            && request.headers.get(TE).is_some_and(|te| te.as_bytes().eq_ignore_ascii_case(b"trailers"));
        let (met, trust) = (&self.met, &self.front.global.trust);
        let target = session.req_header().uri.path_and_query();
        let plan = headers::Plan::new(
            &request.headers,
            &headers::Arrival {
                client: met.client.unwrap_or(Ipv4Addr::UNSPECIFIED.into()),
                tls: met.https,
                port: met.port,
                authority: &self.host,
                request_id: &self.request_id,
                websocket: self.asked_upgrade,
                hop: met.peer.filter(|_| trust.full && met.is_trusted),
                original_uri: target.map(PathAndQuery::as_str).filter(|_| trust.original_uri),
                underscores: self.front.global.client.underscores,
            },
        );
        for name in &plan.remove {
            request.remove_header(name);
        }
        for (name, value) in plan.set {
            request.insert_header(name, value)?;
        }
        if self.plan().is_some_and(RoutePlan::hides_password) {
            request.remove_header(&AUTHORIZATION);
        }
        for (name, value) in &self.identity {
            request.insert_header(name.clone(), value.clone())?;
        }
        if wants_trailers {
            request.insert_header(TE, "trailers")?;
        }
        for (name, value) in self.plan().into_iter().flat_map(RoutePlan::upstream_fields) {
            request.insert_header(name.clone(), value.clone())?;
        }
        let prepared = self.prepared.iter().flat_map(|prepared| &prepared.request);
        for (name, value) in prepared.chain(self.opinion.iter().flat_map(|opinion| &opinion.fields)) {
            match value {
                Some(value) => request.insert_header(name.clone(), value.clone())?,
                None => drop(request.remove_header(name)),
            }
        }
        if let Some(prefix) = &self.prefix {
            request.insert_header(X_FORWARDED_PREFIX, prefix.clone())?;
        }
        self.tell_error(session, request)
    }

    /// Tells a Service that stands in for another why it is asked, in the words of ingress-nginx.
    fn tell_error(&self, session: &Session, request: &mut RequestHeader) -> Result<()> {
        let route = &self.route()?.route;
        let Some(status) = self.detour.or(route.stands_in_for.as_ref().map(|_| 503)) else { return Ok(()) };
        let asked = session.req_header();
        request.insert_header("X-Code", status)?;
        if let Some(accept) = asked.headers.get(ACCEPT) {
            request.insert_header("X-Format", accept.clone())?;
        }
        request.insert_header("X-Original-URI", asked.raw_path())?;
        request.insert_header("X-Namespace", &*route.ingress.namespace)?;
        request.insert_header("X-Ingress-Name", &*route.ingress.name)?;
        request.insert_header("X-Service-Name", &*route.service().name)?;
        request.insert_header("X-Service-Port", route.port().to_string())
    }

    /// Compresses an answer of an endpoint, if the settings say so and the client takes it.
    pub(super) fn encode(&mut self, session: &Session, answer: &mut ResponseHeader) -> Result<()> {
        let (rules, asked) = (&self.front.global.compression, session.req_header());
        let status = answer.status.as_u16();
        match compress::plan(rules, &asked.method, asked.version, &asked.headers, status, &answer.headers) {
            compress::Plan::Leave => Ok(()),
            compress::Plan::Vary => encode::vary(answer),
            compress::Plan::Encode(codec) => {
                let Ok(encoder) = Encoder::new(codec) else { return encode::vary(answer) };
                encode::announce(answer, codec.coding)?;
                self.encoder = Some(encoder);
                Ok(())
            }
        }
    }

    /// Compresses a piece of the answer's body.
    pub(super) fn encode_body(&mut self, body: &mut Option<Bytes>, is_last: bool) -> Result<()> {
        let Some(encoder) = &mut self.encoder else { return Ok(()) };
        let broken = |_| Error::new(ErrorType::InternalError);
        let piece = body.take().filter(|piece| !piece.is_empty());
        let mut out = piece.map_or_else(|| Ok(Bytes::new()), |piece| encoder.push(&piece)).map_err(broken)?;
        if is_last && let Some(encoder) = self.encoder.take() {
            let rest = encoder.finish().map_err(broken)?;
            out = if out.is_empty() { rest } else { [out, rest].concat().into() };
        }
        *body = Some(out).filter(|out| !out.is_empty());
        Ok(())
    }

    /// Lets an upgrade through that was asked for; any other 101 is a fault of the endpoint.
    pub(super) fn accept_upgrade(&self, session: &mut Session, answer: &ResponseHeader) -> Result<()> {
        let is_http11 = answer.version == http::Version::HTTP_11;
        let Some(conn) = conn(session).filter(|_| self.asked_upgrade && is_http11) else {
            return Err(status_error(502).into_up());
        };
        conn.open_tunnel();
        let read = self.plan().and_then(|plan| plan.timeouts().read);
        session.set_read_timeout(Some(read.unwrap_or(self.shared.timeouts.tunnel)));
        Ok(())
    }

    /// Writes the short page for `fault`.
    pub(super) async fn write_page(&mut self, session: &mut Session, fault: Fault) -> Result<()> {
        self.status = fault.status();
        let request = session.req_header();
        let is_head = request.method == http::Method::HEAD;
        let page = fault.page(request.headers.get(ACCEPT).map(HeaderValue::as_bytes), &self.request_id);
        let mut head = ResponseHeader::build(fault.status(), Some(4))?;
        head.insert_header(CONTENT_TYPE, page.content_type)?;
        head.insert_header(CONTENT_LENGTH, page.body.len())?;
        if let Some(challenge) = self.challenge.take().filter(|_| fault == Fault::Unauthorized) {
            head.insert_header(WWW_AUTHENTICATE, challenge)?;
        }
        if fault == Fault::TooMany {
            head.insert_header(RETRY_AFTER, 1)?;
        }
        self.decorate(session, &mut head)?;
        session.write_response_header(Box::new(head), is_head).await?;
        if is_head {
            return Ok(());
        }
        session.write_response_body(Some(page.body.into()), true).await
    }

    /// Answers with a text.
    pub(super) async fn write_text(&mut self, session: &mut Session, status: u16, text: String) -> Result<()> {
        self.status = status;
        let is_head = session.req_header().method == http::Method::HEAD;
        let mut head = ResponseHeader::build(status, Some(4))?;
        head.insert_header(CONTENT_TYPE, "text/plain")?;
        head.insert_header(CONTENT_LENGTH, text.len())?;
        self.decorate(session, &mut head)?;
        session.write_response_header(Box::new(head), is_head).await?;
        if is_head {
            return Ok(());
        }
        session.write_response_body(Some(text.into()), true).await
    }

    /// Answers with a head alone.
    pub(super) async fn write_head(&mut self, session: &mut Session, status: u16, to: Option<&str>) -> Result<()> {
        self.status = status;
        let mut head = ResponseHeader::build(status, Some(8))?;
        if let Some(to) = to {
            head.insert_header(LOCATION, to)?;
        }
        if status != 204 {
            head.insert_header(CONTENT_LENGTH, 0)?;
        }
        self.decorate(session, &mut head)?;
        session.write_response_header(Box::new(head), true).await
    }

    /// Counts and logs the request; its answer is complete or never will be.
    pub(super) fn finish(&mut self, session: &Session, log: &Arc<Log>) {
        let begun = session.response_written().map(|answer| answer.status);
        let begun = begun.filter(|status| !status.is_informational() || status.as_u16() == 101);
        let status = begun.map_or(self.status, |status| status.as_u16());
        let duration = self.started.elapsed();
        let recorder = self.route.as_ref().map_or(&self.shared.nobody, |local| &local.recorder);
        recorder.record(&Record {
            method: session.req_header().method.as_str(),
            status,
            seconds: duration.as_secs_f64(),
            received: (head_len(session) + session.body_bytes_read()) as u64,
            sent: session.body_bytes_sent() as u64,
        });
        let rules = &self.front.global.log;
        let target = String::from_utf8_lossy(session.req_header().raw_path());
        if !log.wants(rules, &target) || self.plan().is_some_and(RoutePlan::is_unlogged) {
            return;
        }
        self.attempts.end(session.upstream_body_bytes_received() as u64);
        let request = session.req_header();
        let text = |name| request.headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        let route = self.route.as_deref().map(|local| &*local.route);
        let who = Credentials::of(&request.headers);
        let tls = session.digest().and_then(|digest| digest.ssl_digest.as_deref());
        log.write(
            rules,
            &LogEntry {
                time: Timestamp::now(),
                client: self.met.client,
                method: request.method.as_str(),
                target: &target,
                protocol: if session.is_http2() { "HTTP/2.0" } else { "HTTP/1.1" },
                scheme: if self.met.https { "https" } else { "http" },
                host: &self.host,
                status,
                bytes_sent: session.body_bytes_sent() as u64,
                bytes_received: (head_len(session) + session.body_bytes_read()) as u64,
                duration,
                referer: text(REFERER),
                user_agent: text(USER_AGENT),
                request_id: &self.request_id,
                ingress: route.map(|route| (&*route.ingress.namespace, &*route.ingress.name)),
                service: route.map(|route| (&*route.service().name, route.port() as &dyn std::fmt::Display)),
                attempts: self.attempts.done(),
                peer: self.met.direct,
                user: who.as_ref().map(|who| &*who.user),
                port: self.met.port,
                tls: tls.map(|tls| (&*tls.version, &*tls.cipher)),
                rule: route.map(|route| route.path.as_written()),
                node: access_writer::node(),
                fields: &request.headers,
                sent: session.response_written().map(|answer| &answer.headers),
            },
        );
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.shared.metrics.panics.inc();
        }
    }
}

/// What is asked for in place of an error: `/`, with the query, as ingress-nginx does it.
fn page_target(asked: &RequestHeader) -> Result<PathAndQuery> {
    let target = asked.uri.query().map_or_else(|| "/".to_owned(), |query| format!("/?{query}"));
    target.parse().map_err(|_| status_error(400))
}

/// Whether the client came over TLS.
pub(super) fn is_tls(session: &Session) -> bool {
    session.digest().is_some_and(|digest| digest.ssl_digest.is_some())
}

/// Who the client is by its certificate, where it was asked for one.
fn visitor(session: &Session) -> Option<&Visitor> {
    luggage(session)?.visitor.as_ref()
}

/// What is known of the client beside its connection.
fn luggage(session: &Session) -> Option<&Luggage> {
    session.digest()?.proxy_digest.as_ref()?.user_data.as_ref()?.downcast_ref()
}

/// Bytes of the request head; in HTTP/2 it has no length of its own.
fn head_len(session: &Session) -> usize {
    session.as_http1().map_or(0, |http1| http1.get_headers_raw_bytes().len())
}

/// The client's address.
fn client_of(session: &Session) -> Option<IpAddr> {
    session.client_addr().and_then(PeerAddr::as_inet).map(|client| client.ip().to_canonical())
}

/// HTTP/2 may split `Cookie` into crumbs; HTTP/1.1 must not (RFC 9113 §8.2.3).
fn join_cookies(request: &mut RequestHeader) -> Result<()> {
    let mut crumbs = request.headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes);
    let (Some(first), Some(second)) = (crumbs.next(), crumbs.next()) else { return Ok(()) };
    let mut joined = [first, second].join(&b"; "[..]);
    for crumb in crumbs {
        joined.extend_from_slice(b"; ");
        joined.extend_from_slice(crumb);
    }
    let value = HeaderValue::from_bytes(&joined).map_err(|_| status_error(400))?;
    request.insert_header(COOKIE, value)
}

/// An error that is answered with `status`.
#[expect(clippy::unnecessary_box_returns, reason = "Pingora's errors are boxed")]
pub(super) fn status_error(status: u16) -> Box<Error> {
    Error::new(ErrorType::HTTPStatus(status))
}

/// Whose fault an error is; `None` if the client is gone, so that nobody is to be told.
pub(super) fn fault_of(error: &Error, body: Option<BodyFault>) -> Option<Fault> {
    match (error.etype(), error.esource()) {
        (ErrorType::HTTPStatus(400), _) => Some(Fault::BadRequest),
        (ErrorType::HTTPStatus(413), _) => Some(Fault::BodyTooLarge),
        (ErrorType::HTTPStatus(404), _) => Some(Fault::NoRoute),
        (ErrorType::HTTPStatus(503), _) => Some(Fault::NoEndpoint),
        (_, ErrorSource::Downstream) => match (body, error.etype()) {
            (Some(BodyFault::Chunk(_)), _) | (None, ErrorType::InvalidHTTPHeader) => Some(Fault::BadRequest),
            (Some(BodyFault::Slow), _) | (None, ErrorType::ReadTimedout) => Some(Fault::RequestTimeout),
            (None, _) => None,
        },
        (etype, ErrorSource::Upstream) => Some(upstream_fault(etype)),
        _ => Some(Fault::Internal),
    }
}

pub(super) fn upstream_fault(etype: &ErrorType) -> Fault {
    match etype {
        ErrorType::ConnectTimedout | ErrorType::ReadTimedout | ErrorType::WriteTimedout => Fault::BackendTimeout,
        ErrorType::ConnectRefused
        | ErrorType::ConnectNoRoute
        | ErrorType::ConnectError
        | ErrorType::SocketError
        | ErrorType::BindError => Fault::ConnectFailed,
        _ => Fault::BadAnswer,
    }
}
