//! Choosing an endpoint for a request, and remembering how it went.
//!
//! Which endpoint, and whether another one is asked, is decided in [`crate::balance`] and [`crate::upstream`].

use std::net::SocketAddr;
use std::sync::Arc;

use pingora_core::{Error, ErrorType};
use tokio::time::Instant;

use crate::access::Attempt;
use crate::balance::{Draw, Wish, choose};
use crate::endpoints::{Endpoints, Harm, InFlight, Load};
use crate::upstream::Failure;

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
    pub(super) fn begin(&mut self, endpoints: &Endpoints, wish: &Wish, now: u64) -> Option<SocketAddr> {
        let draw = Draw { random: fastrand::u64(..), now };
        let endpoint = choose(endpoints, wish, draw, &self.tried()).or_else(|| choose(endpoints, wish, draw, &[]))?;
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

    /// Whether there is another endpoint than those tried.
    pub(super) fn has_another(&self, endpoints: &Endpoints) -> bool {
        let tried = self.tried();
        endpoints.list().iter().any(|endpoint| !tried.contains(&endpoint.addr))
    }

    /// How many attempts there were.
    pub(super) fn count(&self) -> usize {
        self.done.len() + usize::from(self.current.is_some())
    }

    /// Allocates only once something has failed.
    fn tried(&self) -> Vec<SocketAddr> {
        self.done.iter().map(|attempt| attempt.addr).chain(self.current.iter().map(|current| current.addr)).collect()
    }

    /// Where the attempt under way goes.
    pub(super) fn addr(&self) -> Option<SocketAddr> {
        self.current.as_ref().map(|current| current.addr)
    }

    /// The endpoint answered with this status; it is well. How long that took is remembered if it is `timed`.
    pub(super) fn answered(&mut self, status: u16, timed: bool, now: u64) {
        if let Some(current) = &mut self.current {
            current.status = Some(status);
            let micros = || u32::try_from(current.started.elapsed().as_micros()).unwrap_or(u32::MAX);
            current.load.answered(now, timed.then(micros));
        }
    }

    /// The endpoint failed; whether it is passed over for that and was not before, so that it is worth telling.
    pub(super) fn failed(&mut self, now: u64, harm: Harm) -> bool {
        self.current.as_ref().is_some_and(|current| current.load.failed(now, harm))
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

/// What became of a request that an endpoint did not answer.
pub(super) fn failure(error: &Error, is_reused: bool) -> Failure {
    match error.etype() {
        ErrorType::ReadTimedout | ErrorType::WriteTimedout => Failure::Timeout,
        ErrorType::InvalidHTTPHeader | ErrorType::InvalidH2 | ErrorType::H2Downgrade => Failure::BadAnswer,
        _ if is_reused => Failure::Stale,
        _ => Failure::Broken,
    }
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
        ErrorType::TLSHandshakeFailure | ErrorType::TLSHandshakeTimedout | ErrorType::InvalidCert => "tls",
        ErrorType::HTTPStatus(502) => "bad_upgrade",
        ErrorType::HTTPStatus(_) => "status",
        _ => "other",
    }
}
