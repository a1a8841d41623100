//! Asks services beside the way of a request: the one that decides who may come, and those that get copies.
//!
//! Each worker keeps its own connections to them, and its own memory of their addresses and of what was said.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http::header::{CONTENT_LENGTH, HeaderValue};
use pingora_core::connectors::ConnectorOptions;
use pingora_core::connectors::http::v1::Connector;
use pingora_core::protocols::http::v1::client::HttpSession;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_http::{RequestHeader, ResponseHeader};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use crate::answer::Fault;
use crate::backend::is_nowhere;
use crate::filter::{Decision, External, Question, Twin};

/// For the service to accept a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// For its whole answer.
const ANSWER: Duration = Duration::from_mins(1);
/// How long its addresses are remembered.
const NAMES: Duration = Duration::from_secs(5);
/// How long an unused connection is kept.
const IDLE: Duration = Duration::from_mins(1);
/// Connections that one worker keeps.
const POOL: usize = 64;
/// Bytes of an answer that are read so that its connection can be used again.
const BODY: usize = 64 * 1024;
/// Answers that one worker remembers.
const MOST: usize = 4096;
/// Copies that one worker has under way.
const TWINS: usize = 64;

/// What one worker needs to ask.
pub(super) struct Asker {
    connector: Connector,
    names: Mutex<Names>,
    /// What was said, by [`Question::memory`], and until when it counts.
    said: Mutex<HashMap<String, (Instant, Decision)>>,
    /// Copies under way.
    twins: Semaphore,
}

/// Addresses and until when they are good, by host and port.
type Names = HashMap<(String, u16), (Instant, Vec<SocketAddr>)>;

/// Where a service is.
struct Place<'a> {
    tls: bool,
    host: &'a str,
    port: u16,
    authority: &'a str,
}

/// The service could not be asked, or answered nothing that is HTTP.
struct Unanswered;

impl Asker {
    pub(super) fn new() -> Self {
        let mut options = ConnectorOptions::new(POOL);
        // Nobody verifies; see `Self::peer`.
        options.ca_file = Some("/dev/null".to_owned());
        let (names, said) = (Mutex::default(), Mutex::default());
        Self { connector: Connector::new(Some(options)), names, said, twins: Semaphore::new(TWINS) }
    }

    /// Asks; a service that cannot be asked lets nobody pass.
    pub(super) async fn ask(&self, external: &External, question: &Question) -> Result<Decision, Fault> {
        if let Some(decision) = question.memory.as_ref().and_then(|key| self.remembered(key)) {
            return Ok(decision);
        }
        let (auth, head) = (external.service(), head(&question.method, &question.target, &question.fields));
        let may_ask = |ip| external.may_ask(ip);
        let place = Place { tls: auth.tls, host: &auth.host, port: auth.port, authority: &auth.authority };
        let asked = timeout(ANSWER, self.exchange(&place, may_ask, head.as_ref(), &[])).await;
        let Ok(Ok(answer)) = asked else { return Err(Fault::AuthFailed) };
        let status = answer.status.as_u16();
        let decision = external.decide(status, &answer.headers);
        if let (Some(key), Some(time)) = (&question.memory, external.keep(status, &answer.headers)) {
            self.remember(key, time, &decision);
        }
        if decision == Decision::Failed { Err(Fault::AuthFailed) } else { Ok(decision) }
    }

    /// Sends a copy of a request, with what it has of the body; if too many are under way, it is dropped.
    pub(super) async fn mirror(&self, twin: Twin, body: Bytes) {
        let Ok(_turn) = self.twins.try_acquire() else { return };
        let mut fields = twin.fields.clone();
        if !body.is_empty() {
            fields.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        }
        let head = head(&twin.method, &twin.target, &fields);
        let place = Place { tls: twin.tls, host: &twin.host, port: twin.port, authority: &twin.host };
        let asked = timeout(ANSWER, self.exchange(&place, |ip| twin.may_ask(ip), head.as_ref(), &body)).await;
        if !matches!(asked, Ok(Ok(_))) {
            tracing::debug!(host = twin.host, port = twin.port, "a copy of a request was not answered");
        }
    }

    fn remembered(&self, key: &str) -> Option<Decision> {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.get(key).filter(|(until, _)| *until > Instant::now()).map(|(_, decision)| decision.clone())
    }

    fn remember(&self, key: &str, time: Duration, decision: &Decision) {
        let now = Instant::now();
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.len() >= MOST {
            said.retain(|_, (until, _)| *until > now);
        }
        if said.len() < MOST {
            said.insert(key.to_owned(), (now + time, decision.clone()));
        }
    }

    /// Asks where the place is, one address after the other.
    async fn exchange(
        &self,
        place: &Place<'_>,
        may_ask: impl Fn(IpAddr) -> bool,
        head: Option<&RequestHeader>,
        body: &[u8],
    ) -> Result<ResponseHeader, Unanswered> {
        let head = head.ok_or(Unanswered)?;
        let addrs = self.resolve(place.host, place.port).await;
        let allowed = |addr: &&SocketAddr| may_ask(addr.ip()) && !is_nowhere(addr.ip());
        let mut last = Err(Unanswered);
        for addr in addrs.iter().filter(allowed).take(3) {
            let peer = peer(*addr, place);
            // A connection that the service has closed meanwhile says nothing about the service.
            while let Ok((session, reused)) = self.connector.get_http_session(&peer).await {
                last = self.one(session, &peer, head, body).await;
                if last.is_ok() || !reused {
                    break;
                }
            }
            if last.is_ok() {
                break;
            }
        }
        last
    }

    /// Asks over one connection.
    async fn one(
        &self,
        mut session: HttpSession,
        peer: &HttpPeer,
        head: &RequestHeader,
        body: &[u8],
    ) -> Result<ResponseHeader, Unanswered> {
        session.read_timeout = Some(ANSWER);
        session.write_request_header(Box::new(head.clone())).await.map_err(|_| Unanswered)?;
        if !body.is_empty() {
            session.write_body(body).await.map_err(|_| Unanswered)?;
        }
        session.finish_body().await.map_err(|_| Unanswered)?;
        session.read_response().await.map_err(|_| Unanswered)?;
        let answer = session.resp_header().ok_or(Unanswered)?.clone();
        let mut read = 0;
        while let Ok(Some(bytes)) = session.read_body_bytes().await {
            read += bytes.len();
            if read > BODY {
                return Ok(answer);
            }
        }
        self.connector.release_http_session(session, peer, Some(IDLE)).await;
        Ok(answer)
    }

    async fn resolve(&self, host: &str, port: u16) -> Vec<SocketAddr> {
        if let Ok(ip) = host.parse::<IpAddr>() {
            return vec![SocketAddr::new(ip, port)];
        }
        let key = (host.to_owned(), port);
        {
            let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((_, addrs)) = names.get(&key).filter(|(until, _)| *until > Instant::now()) {
                return addrs.clone();
            }
        }
        let found = timeout(CONNECT, tokio::net::lookup_host((host, port))).await;
        let addrs: Vec<_> = found.ok().and_then(Result::ok).into_iter().flatten().collect();
        if !addrs.is_empty() {
            let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
            names.insert(key, (Instant::now() + NAMES, addrs.clone()));
        }
        addrs
    }
}

/// How the service is reached. As ingress-nginx, its certificate is not verified.
fn peer(addr: SocketAddr, place: &Place<'_>) -> HttpPeer {
    let mut peer = HttpPeer::new(addr, place.tls, place.host.to_owned());
    let mut hasher = DefaultHasher::new();
    place.authority.hash(&mut hasher);
    peer.group_key = hasher.finish();
    peer.options.verify_cert = false;
    peer.options.verify_hostname = false;
    peer.options.connection_timeout = Some(CONNECT);
    peer.options.total_connection_timeout = Some(CONNECT);
    peer.options.read_timeout = Some(ANSWER);
    peer.options.write_timeout = Some(ANSWER);
    peer.options.idle_timeout = Some(IDLE);
    peer
}

fn head(method: &str, target: &str, fields: &HeaderMap) -> Option<RequestHeader> {
    let mut head = RequestHeader::build(method, target.as_bytes(), None).ok()?;
    for (name, value) in fields {
        head.append_header(name.clone(), value.clone()).ok()?;
    }
    Some(head)
}
