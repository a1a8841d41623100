//! Choosing an endpoint for a request, and remembering how it went.
//!
//! A request may try up to [`MAX_TRIES`] endpoints. One that does not accept connections is passed over for a moment
//! by all requests; the next request that it answers ends that.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, ErrorType};
use tokio::time::Instant;

use super::Timeouts;
use crate::access::Attempt;
use crate::endpoints::{Endpoint, Endpoints, InFlight, Load};

/// Endpoints tried for one request.
pub(super) const MAX_TRIES: usize = 3;
/// How long an endpoint that refused a connection is passed over while others are there.
const EJECTION: Duration = Duration::from_secs(2);

/// The attempts of one request.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    current: Option<Current>,
    done: Vec<Attempt>,
}

/// The attempt under way.
#[derive(Debug)]
struct Current {
    addr: SocketAddr,
    load: Arc<Load>,
    started: Instant,
    status: Option<u16>,
    /// Counts the request as in flight while it lives.
    _in_flight: InFlight,
}

impl Attempts {
    /// Starts an attempt at an endpoint not tried yet, or at any if all were; `None` if there is none.
    pub(super) fn begin(&mut self, endpoints: &Endpoints, now: u64) -> Option<SocketAddr> {
        let endpoint = self.choose(endpoints, now)?;
        let addr = endpoint.addr;
        self.current = Some(Current {
            addr,
            load: Arc::clone(&endpoint.load),
            started: Instant::now(),
            status: None,
            _in_flight: endpoint.load.enter(),
        });
        Some(addr)
    }

    fn choose<'a>(&self, endpoints: &'a Endpoints, now: u64) -> Option<&'a Endpoint> {
        let random = fastrand::u64(..);
        if self.done.is_empty() {
            return endpoints.pick(random, now);
        }
        endpoints.pick_other(random, now, &self.tried()).or_else(|| endpoints.pick(random, now))
    }

    /// Whether another endpoint than those tried may be asked.
    pub(super) fn may_try_another(&self, endpoints: &Endpoints, now: u64) -> bool {
        self.done.len() < MAX_TRIES && endpoints.pick_other(0, now, &self.tried()).is_some()
    }

    fn tried(&self) -> Vec<SocketAddr> {
        self.done.iter().map(|attempt| attempt.addr).collect()
    }

    /// The endpoint answered with this status; it is well.
    pub(super) fn answered(&mut self, status: u16) {
        if let Some(current) = &mut self.current {
            current.status = Some(status);
            current.load.readmit();
        }
    }

    /// The endpoint does not accept connections; whether it did a moment ago, so that it is worth telling.
    pub(super) fn refused(&mut self, now: u64) -> bool {
        let Some(current) = &self.current else { return false };
        let was_well = !current.load.is_ejected(now);
        current.load.eject_until(now + u64::try_from(EJECTION.as_millis()).unwrap_or(u64::MAX));
        was_well
    }

    /// Ends the attempt under way, in which `bytes` of body came.
    pub(super) fn end(&mut self, bytes: u64) {
        if let Some(Current { addr, started, status, .. }) = self.current.take() {
            self.done.push(Attempt { addr, status, time: started.elapsed(), bytes });
        }
    }

    /// The attempts that have ended.
    pub(super) fn done(&self) -> &[Attempt] {
        &self.done
    }
}

/// How to reach the endpoint at `addr`, for requests of the policy with this `group`.
pub(super) fn peer(addr: SocketAddr, group: u64, is_upgrade: bool, timeouts: &Timeouts) -> Box<HttpPeer> {
    let mut peer = HttpPeer::new(addr, false, String::new());
    peer.group_key = group;
    let answer = if is_upgrade { timeouts.tunnel } else { timeouts.upstream };
    peer.options.connection_timeout = Some(timeouts.connect);
    peer.options.total_connection_timeout = Some(timeouts.connect);
    peer.options.read_timeout = Some(answer);
    peer.options.write_timeout = Some(timeouts.upstream);
    peer.options.idle_timeout = Some(timeouts.upstream_idle);
    Box::new(peer)
}

/// Why an endpoint did not answer, as a label.
pub(super) fn reason(error: &Error) -> &'static str {
    match error.etype() {
        ErrorType::ConnectTimedout => "connect_timeout",
        ErrorType::ConnectRefused => "connect_refused",
        ErrorType::ConnectNoRoute => "no_route",
        ErrorType::ConnectError | ErrorType::SocketError | ErrorType::BindError => "connect",
        ErrorType::ReadTimedout => "read_timeout",
        ErrorType::WriteTimedout => "write_timeout",
        ErrorType::ConnectionClosed => "closed",
        ErrorType::ReadError => "read",
        ErrorType::WriteError => "write",
        ErrorType::InvalidHTTPHeader => "bad_answer",
        ErrorType::HTTPStatus(502) => "bad_upgrade",
        _ => "other",
    }
}
