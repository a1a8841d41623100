//! Asks the service that decides who may come.
//!
//! Each worker keeps its own connections to it and its own memory of its addresses.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use config::annotation::ExternalAuth;
use pingora_core::connectors::ConnectorOptions;
use pingora_core::connectors::http::v1::Connector;
use pingora_core::protocols::http::v1::client::HttpSession;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_http::RequestHeader;
use tokio::time::{Instant, timeout};

use crate::answer::Fault;
use crate::backend::is_nowhere;
use crate::filter::{Decision, External, Question};

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

/// What one worker needs to ask.
pub(super) struct Asker {
    connector: Connector,
    names: Mutex<Names>,
}

/// Addresses and until when they are good, by host and port.
type Names = HashMap<(String, u16), (Instant, Vec<SocketAddr>)>;

/// The service could not be asked, or answered nothing that is HTTP.
struct Unanswered;

impl Asker {
    pub(super) fn new() -> Self {
        let mut options = ConnectorOptions::new(POOL);
        // Nobody verifies; see `Self::peer`.
        options.ca_file = Some("/dev/null".to_owned());
        Self { connector: Connector::new(Some(options)), names: Mutex::default() }
    }

    /// Asks; a service that cannot be asked lets nobody pass.
    pub(super) async fn ask(&self, external: &External, question: &Question) -> Result<Decision, Fault> {
        let asked = timeout(ANSWER, self.exchange(external, question)).await;
        match asked {
            Ok(Ok(decision)) if decision != Decision::Failed => Ok(decision),
            Ok(Ok(_) | Err(Unanswered)) | Err(_) => Err(Fault::AuthFailed),
        }
    }

    async fn exchange(&self, external: &External, question: &Question) -> Result<Decision, Unanswered> {
        let auth = external.service();
        let addrs = self.resolve(&auth.host, auth.port).await;
        let allowed = |addr: &&SocketAddr| external.may_ask(addr.ip()) && !is_nowhere(addr.ip());
        let mut last = Err(Unanswered);
        for addr in addrs.iter().filter(allowed).take(3) {
            let peer = peer(*addr, auth);
            // A connection that the service has closed meanwhile says nothing about the service.
            while let Ok((session, reused)) = self.connector.get_http_session(&peer).await {
                last = self.one(session, &peer, external, question).await;
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
        external: &External,
        question: &Question,
    ) -> Result<Decision, Unanswered> {
        let head = head(question).ok_or(Unanswered)?;
        session.read_timeout = Some(ANSWER);
        session.write_request_header(Box::new(head)).await.map_err(|_| Unanswered)?;
        session.finish_body().await.map_err(|_| Unanswered)?;
        session.read_response().await.map_err(|_| Unanswered)?;
        let answer = session.resp_header().ok_or(Unanswered)?;
        let decision = external.decide(answer.status.as_u16(), &answer.headers);
        let mut read = 0;
        while let Ok(Some(bytes)) = session.read_body_bytes().await {
            read += bytes.len();
            if read > BODY {
                return Ok(decision);
            }
        }
        self.connector.release_http_session(session, peer, Some(IDLE)).await;
        Ok(decision)
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
fn peer(addr: SocketAddr, auth: &ExternalAuth) -> HttpPeer {
    let mut peer = HttpPeer::new(addr, auth.tls, auth.host.clone());
    let mut hasher = DefaultHasher::new();
    auth.authority.hash(&mut hasher);
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

fn head(question: &Question) -> Option<RequestHeader> {
    let mut head = RequestHeader::build(question.method.as_str(), question.target.as_bytes(), None).ok()?;
    for (name, value) in &question.fields {
        head.append_header(name.clone(), value.clone()).ok()?;
    }
    Some(head)
}
