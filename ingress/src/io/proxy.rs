//! What happens to one request: the hooks that Pingora calls, in their order.
//!
//! ```text
//!  request_filter ─> upstream_peer ─> upstream_request_filter ─> upstream_response_filter ─> logging
//!  route, or 404     endpoint    ^    headers, path              clean, 101 only if asked    metrics, log
//!  and 503 pages                 └── fail_to_connect: another endpoint
//!                                    error_while_proxy: again, if nothing can happen twice
//! ```
//!
//! Decisions are made elsewhere: which route ([`crate::routes`]), which endpoint ([`crate::endpoints`]), which fields
//! ([`crate::headers`]), whose fault ([`crate::answer`]).

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwap, Cache};
use async_trait::async_trait;
use bytes::Bytes;
use http::HeaderMap;
use pingora_core::apps::HttpServerOptions;
use pingora_core::modules::http::HttpModules;
use pingora_core::protocols::http::v2::server::{H2Options, default_h2_options};
use pingora_core::server::configuration::ServerConf;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, ErrorSource, ErrorType, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{FailToProxy, HttpProxy, ProxyHttp, Session};
use tokio::time::Instant;

use super::access_writer::Log;
use super::auth::Asker;
use super::conn::Conn;
use super::dial::Dial;
use super::exchange::{Asking, Entry, Exchange};
use super::guard::Verified;
use super::{Timeouts, challenge, exchange, response, upstream};
use crate::answer::Fault;
use crate::endpoints::Harm;
use crate::filter::Verdict;
use crate::front::Front;
use crate::host::HostMatch;
use crate::metrics::compat::RouteLabels;
use crate::metrics::{IngressMetrics, Recorder};
use crate::routes::{Route, RouteTable};
use crate::upstream::Failure;
use crate::way::{Found, Leads};

/// Idle connections to endpoints that one worker keeps (ingress-nginx: `upstream-keepalive-connections`).
pub(super) const POOL: usize = 320;
/// A bound that nobody meets: how often a request is tried is for its route to say.
const MAX_TRIES: usize = 64;

/// A worker's proxy around its gateway.
pub(super) fn http_proxy(gateway: Gateway, timeouts: &Timeouts, pool: usize) -> HttpProxy<Gateway> {
    let conf = ServerConf {
        threads: 1,
        max_retries: MAX_TRIES,
        upstream_keepalive_pool_size: pool,
        // Whom to trust is for each route to say. Without this, every worker would read the system's CA certificates,
        // and a machine that has none would not start.
        ca_file: Some("/dev/null".to_owned()),
        ..ServerConf::default()
    };
    let mut proxy = HttpProxy::new(gateway, Arc::new(conf));
    proxy.handle_init_modules();
    let mut options = HttpServerOptions::default();
    options.h2_idle_timeout = Some(timeouts.idle);
    proxy.server_options = Some(options);
    proxy.h2_options = Some(h2_options());
    proxy
}

/// Bounded in every direction (hardening rules for HTTP/2; Pingora's defaults leave the resets to h2's 1 024).
fn h2_options() -> H2Options {
    let mut options = default_h2_options();
    options
        .max_header_list_size(32 * 1024)
        .max_concurrent_streams(100)
        .initial_window_size(64 * 1024)
        .initial_connection_window_size(1024 * 1024)
        .max_send_buffer_size(64 * 1024)
        .max_pending_accept_reset_streams(20)
        .max_local_error_reset_streams(Some(100));
    options
}

/// The hooks of one worker.
pub(super) struct Gateway {
    shared: Arc<Shared>,
    routes: Mutex<RouteCache>,
    log: Arc<Log>,
    verified: Verified,
    asker: Arc<Asker>,
    challenges: challenge::Watched,
    /// The zero of the clock that endpoints are told.
    epoch: Instant,
    draining: Arc<AtomicBool>,
}

/// What the hooks and the exchanges of one worker share; one per worker, so that counting references stays on its core.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) metrics: Arc<IngressMetrics>,
    pub(super) timeouts: Arc<Timeouts>,
    /// For requests that no Ingress is for.
    pub(super) nobody: Recorder,
}

/// A route with what a worker keeps ready for it.
#[derive(Debug)]
pub(super) struct LocalRoute {
    pub(super) route: Arc<Route>,
    pub(super) recorder: Recorder,
    pub(super) dial: Dial,
    /// How those are reached whose pages are shown in place of errors.
    pub(super) pages: Option<Dial>,
}

impl Leads for Arc<LocalRoute> {
    fn route(&self) -> &Route {
        &self.route
    }
}

/// The table in force, and the routes of it that this worker has used.
struct RouteCache {
    table: Cache<Arc<ArcSwap<RouteTable>>, Arc<RouteTable>>,
    /// Whose routes are in [`Self::used`].
    of: Arc<RouteTable>,
    /// By address, which is unique for as long as the value keeps the route alive.
    used: HashMap<usize, Arc<LocalRoute>>,
    /// Those of the tables before that nobody has asked for since.
    before: HashMap<usize, Arc<LocalRoute>>,
    /// How clients are met; this worker's own, so that counting references stays on its core.
    front: Arc<Front>,
}

impl RouteCache {
    /// Takes note of the table in force.
    fn refresh(&mut self) {
        let table = self.table.load();
        if !Arc::ptr_eq(table, &self.of) {
            self.of = Arc::clone(table);
            self.front = Arc::new(Front::clone(table.front()));
            self.before = std::mem::take(&mut self.used);
        }
    }
}

impl Gateway {
    /// The hooks of one worker.
    pub(super) fn new(
        table: Arc<ArcSwap<RouteTable>>,
        timeouts: Arc<Timeouts>,
        metrics: Arc<IngressMetrics>,
        log: Arc<Log>,
        challenges: challenge::Watched,
        draining: Arc<AtomicBool>,
    ) -> Self {
        let of = table.load_full();
        let front = Arc::new(Front::clone(of.front()));
        let (used, before) = (HashMap::new(), HashMap::new());
        let routes = Mutex::new(RouteCache { table: Cache::new(table), of, used, before, front });
        let nobody = metrics.recorder(None);
        let shared = Arc::new(Shared { metrics, timeouts, nobody });
        let (verified, asker, epoch) = (Verified::new(), Arc::new(Asker::new()), Instant::now());
        Self { shared, routes, log, verified, asker, challenges, epoch, draining }
    }

    /// Set when the drain begins; answers then tell clients to close.
    pub(super) fn draining(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.draining)
    }

    /// The zero of the clock that endpoints are told.
    pub(super) const fn epoch(&self) -> Instant {
        self.epoch
    }

    /// Milliseconds on the clock that endpoints are told.
    fn now(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Whom to ask who may come.
    fn asking(&self) -> Asking<'_> {
        Asking { verified: &self.verified, asker: &self.asker }
    }

    /// Milliseconds on the clock that all workers share; limits are counted by it.
    fn wall(&self) -> u64 {
        static BEGIN: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
        u64::try_from(BEGIN.get_or_init(|| self.epoch).elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Finds what is there for a request; loads the table once.
    fn find(&self, host: &str, path: &str, headers: &HeaderMap) -> Found<Arc<LocalRoute>> {
        let mut cache = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        cache.refresh();
        let RouteCache { of, used, before, .. } = &mut *cache;
        let Some(host) = of.host(host) else { return Found::default() };
        let client = host.entrance().client.clone();
        let Some(route) = host.find(path) else { return Found { client, route: None } };
        let route = route.or_canary(headers, || fastrand::u64(..));
        // What is kept keeps its route, so nothing else has come to be at this place.
        let key = Arc::as_ptr(route) as usize;
        let fresh = || {
            let recorder = self.shared.metrics.recorder(Some((&route.ingress, labels(route))));
            let pages = route.plan.as_ref().and_then(|plan| plan.pages()).map(|pages| Dial::plain(pages));
            Arc::new(LocalRoute { route: Arc::clone(route), recorder, dial: Dial::of(route), pages })
        };
        let local = used.entry(key).or_insert_with(|| before.remove(&key).unwrap_or_else(fresh));
        Found { client, route: Some(Arc::clone(local)) }
    }

    /// How clients are met now.
    fn front(&self) -> Arc<Front> {
        let mut cache = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        cache.refresh();
        Arc::clone(&cache.front)
    }

    /// Answers by ourselves. The connection lives on if the request is complete.
    async fn answer(&self, session: &mut Session, exchange: &mut Exchange, fault: Fault) -> Result<()> {
        self.close_if_draining(session);
        if fault.closes() {
            session.set_keepalive(None);
        }
        exchange.write_page(session, fault).await
    }

    fn close_if_draining(&self, session: &mut Session) {
        if self.draining.load(Ordering::Relaxed) {
            session.set_keepalive(None);
        }
    }
}

#[async_trait]
impl ProxyHttp for Gateway {
    type CTX = Exchange;

    fn new_ctx(&self) -> Exchange {
        Exchange::new(Arc::clone(&self.shared), self.front())
    }

    /// None: bodies pass as they are.
    fn init_downstream_modules(&self, _modules: &mut HttpModules) {}

    async fn request_filter(&self, session: &mut Session, exchange: &mut Exchange) -> Result<bool> {
        let timeouts = &self.shared.timeouts;
        exchange.meet(session);
        session.set_read_timeout(Some(exchange.front.global.client.body.unwrap_or(timeouts.body)));
        if exchange.is_last(session) {
            session.set_keepalive(None);
        }
        session.set_write_timeout(Some(timeouts.send));
        session.set_total_drain_timeout(Some(Duration::from_secs(1)));
        if let Some(authorization) = challenge::asked(session, &self.challenges) {
            self.close_if_draining(session);
            exchange.status = 200;
            challenge::write(session, &authorization).await?;
            return Ok(true);
        }
        let headers = &session.req_header().headers;
        let fault = match exchange.accept(session, |host, path| self.find(host, path, headers)) {
            Ok(Verdict::Pass) => match exchange.enter(session, self.asking(), self.wall()).await {
                Ok(Entry::In) => return Ok(false),
                Ok(Entry::SignIn(to)) => {
                    self.close_if_draining(session);
                    exchange.write_head(session, 302, Some(&to)).await?;
                    return Ok(true);
                }
                Err(fault) => fault,
            },
            Ok(Verdict::Answer(status, text)) => {
                self.close_if_draining(session);
                exchange.write_text(session, status, text).await?;
                return Ok(true);
            }
            Ok(Verdict::Redirect(status, to)) => {
                self.close_if_draining(session);
                exchange.write_head(session, status, Some(&to)).await?;
                return Ok(true);
            }
            Ok(Verdict::NoContent) => {
                self.close_if_draining(session);
                exchange.write_head(session, 204, None).await?;
                return Ok(true);
            }
            Err(Fault::NoEndpoint) if exchange.turn_to_page(session, 503) => return Ok(false),
            Err(fault) => fault,
        };
        self.answer(session, exchange, fault).await?;
        Ok(true)
    }

    async fn upstream_peer(&self, session: &mut Session, exchange: &mut Exchange) -> Result<Box<HttpPeer>> {
        let route = Arc::clone(exchange.route()?);
        exchange.begin_body();
        let wish = exchange.wish(session)?;
        let endpoints = Arc::clone(exchange.destination()?.0);
        let Some(addr) = exchange.attempts.begin(&endpoints, &wish, self.now()) else {
            return Err(exchange::status_error(503));
        };
        let asked = route.route.plan.as_ref().map(|plan| plan.timeouts());
        let mut peer = exchange.destination()?.1.peer(addr, session.is_upgrade_req(), &self.shared.timeouts, asked);
        if let Some(idle) = exchange.front.global.upstream_idle {
            peer.options.idle_timeout = Some(idle);
        }
        Ok(peer)
    }

    async fn request_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        _end_of_stream: bool,
        exchange: &mut Exchange,
    ) -> Result<()> {
        exchange.count_body(body.as_ref())
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        exchange: &mut Exchange,
    ) -> Result<()> {
        exchange.prepare(session, request)
    }

    async fn upstream_response_filter(
        &self,
        session: &mut Session,
        answer: &mut ResponseHeader,
        exchange: &mut Exchange,
    ) -> Result<()> {
        let status = answer.status.as_u16();
        if status == 101 {
            exchange.accept_upgrade(session, answer)?;
        }
        if status == 101 || !answer.status.is_informational() {
            let is_timed = exchange.is_timed();
            exchange.attempts.answered(status, is_timed, self.now());
            if exchange.minds(status) && exchange.may_ask_again(session, Failure::Status(status)) {
                exchange.rejected = true;
                return Err(exchange::status_error(status).into_up());
            }
            if status != 101 && exchange.turn_to_page(session, status) {
                exchange.rejected = true;
                return Err(exchange::status_error(status).into_up());
            }
            self.close_if_draining(session);
        }
        response::clean(answer, &exchange.front);
        if answer.status.is_informational() {
            return if status == 101 { exchange.tie(session, answer) } else { Ok(()) };
        }
        exchange.rewrite_answer(answer)?;
        exchange.tie(session, answer)?;
        exchange.decorate(session, answer)?;
        exchange.encode(session, answer)
    }

    fn response_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        end_of_stream: bool,
        exchange: &mut Exchange,
    ) -> Result<Option<Duration>> {
        exchange.encode_body(body, end_of_stream)?;
        Ok(exchange.pace(body.as_ref().map_or(0, Bytes::len)))
    }

    /// Nothing was sent, so any request may go to another endpoint.
    fn fail_to_connect(
        &self,
        session: &mut Session,
        peer: &HttpPeer,
        exchange: &mut Exchange,
        mut error: Box<Error>,
    ) -> Box<Error> {
        let reason = upstream::reason(&error);
        self.shared.metrics.upstream_error(reason);
        if exchange.attempts.failed(self.now(), Harm::Refused) {
            tracing::warn!(endpoint = %peer, reason, "an endpoint does not accept connections");
        }
        let is_late = matches!(error.etype(), ErrorType::ConnectTimedout | ErrorType::TLSHandshakeTimedout);
        let failure = if is_late { Failure::ConnectTimeout } else { Failure::Refused };
        let status = exchange::upstream_fault(error.etype()).status();
        let retry = exchange.may_ask_again(session, failure) || exchange.turn_to_page(session, status);
        exchange.attempts.end(0);
        error.set_retry(retry);
        if retry {
            self.shared.metrics.retries.inc();
        }
        error
    }

    /// A request that was sent may be sent again only if its route allows it and nothing can happen twice.
    fn error_while_proxy(
        &self,
        peer: &HttpPeer,
        session: &mut Session,
        mut error: Box<Error>,
        exchange: &mut Exchange,
        reused: bool,
    ) -> Box<Error> {
        let was_rejected = std::mem::take(&mut exchange.rejected);
        let is_theirs = *error.esource() == ErrorSource::Upstream;
        let failure = upstream::failure(&error, reused);
        if is_theirs {
            let reason = upstream::reason(&error);
            self.shared.metrics.upstream_error(reason);
            let is_harm = !was_rejected && failure != Failure::Stale;
            if is_harm && exchange.attempts.failed(self.now(), Harm::Broken) {
                tracing::warn!(endpoint = %peer, reason, "an endpoint breaks off again and again");
            }
        }
        let status = exchange::upstream_fault(error.etype()).status();
        let mut asks_again = || exchange.may_ask_again(session, failure) || exchange.turn_to_page(session, status);
        let retry = was_rejected || (is_theirs && asks_again());
        error.set_retry(retry);
        if error.retry() {
            exchange.attempts.end(0);
            self.shared.metrics.retries.inc();
        }
        error
    }

    async fn fail_to_proxy(&self, session: &mut Session, error: &Error, exchange: &mut Exchange) -> FailToProxy {
        let fault = exchange::fault_of(error, conn(session).and_then(Conn::fault));
        exchange.status = fault.map_or(exchange::CLIENT_GONE, Fault::status);
        // An answer that has begun cannot be taken back; closing tells that it is incomplete.
        if let Some(fault) = fault
            && session.response_written().is_none_or(|written| written.status.is_informational())
        {
            session.set_keepalive(None);
            // If the client is gone as well, nobody is left to tell.
            let _ = exchange.write_page(session, fault).await;
        }
        FailToProxy { error_code: exchange.status, can_reuse_downstream: false }
    }

    async fn logging(&self, session: &mut Session, _error: Option<&Error>, exchange: &mut Exchange) {
        exchange.finish(session, &self.log);
        if let Some((twin, body)) = exchange.twin(session) {
            let asker = Arc::clone(&self.asker);
            tokio::spawn(async move { asker.mirror(twin, body).await });
        }
    }

    /// Clients and endpoints fail all the time; metrics and the access log tell.
    fn suppress_error_log(&self, _session: &Session, _exchange: &Exchange, _error: &Error) -> bool {
        true
    }

    fn suppress_proxy_warn_log(
        &self,
        _session: &Session,
        _exchange: &Exchange,
        _error: &Error,
        _context: pingora_proxy::ProxyWarnLogContext,
    ) -> bool {
        true
    }
}

/// What series of requests for a route are about.
fn labels(route: &Route) -> RouteLabels {
    let host = if route.host == HostMatch::Any { "_".to_owned() } else { route.host.to_string() };
    let (path, service) = (route.path.as_written().to_owned(), route.service().name.to_string());
    RouteLabels { host, path, service }
}

/// The connection below an HTTP/1.1 request.
pub(super) fn conn(session: &Session) -> Option<&Conn> {
    (**session.stream()?).as_any().downcast_ref()
}
