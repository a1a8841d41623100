//! HTTP as ACME needs it: beneath the library that signs, what keeps that which the library drops of an answer.

#![expect(clippy::disallowed_methods, reason = "io reads the clock")]

use std::cell::RefCell;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::header::{HeaderValue, LINK, RETRY_AFTER};
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use jiff::Timestamp;

use super::web::{ClientError, Scheme, Web};
use crate::metrics::AcmeMetrics;

/// When to ask again for a suggestion if the CA does not say; the library insists on an answer.
const ASK_AGAIN: HeaderValue = HeaderValue::from_static("21600");

/// What the library does not tell of the last answer.
#[derive(Clone, Debug, Default)]
pub(super) struct Last {
    /// The status; zero if there was no answer.
    pub(super) status: u16,
    /// When the CA wants to be asked again.
    pub(super) retry_after: Option<Timestamp>,
    /// Where other chains are (RFC 8555 §7.4.2).
    pub(super) alternates: Vec<String>,
    /// The body.
    pub(super) body: Bytes,
}

tokio::task_local! {
    static LAST: RefCell<Last>;
}

/// Runs a call, and tells what its last answer was.
pub(super) async fn recorded<T>(call: impl Future<Output = T>) -> (T, Last) {
    LAST.scope(RefCell::default(), async {
        let outcome = call.await;
        (outcome, last())
    })
    .await
}

/// The last answer of the call under way.
pub(super) fn last() -> Last {
    LAST.try_with(|last| last.borrow().clone()).unwrap_or_default()
}

fn record(seen: Last) {
    // Outside of a recorded call nobody asks.
    let _ = LAST.try_with(|last| *last.borrow_mut() = seen);
}

/// A client for one server.
#[derive(Clone)]
pub(super) struct Http {
    web: Web,
    metrics: Arc<AcmeMetrics>,
}

impl Http {
    /// Trusts the public CAs and those of the bundle.
    pub(super) fn new(ca_bundle: Option<&str>, metrics: Arc<AcmeMetrics>) -> Result<Self, ClientError> {
        Ok(Self { web: Web::new(ca_bundle, Scheme::Https)?, metrics })
    }

    async fn ask(self, request: Request<BodyWrapper<Bytes>>) -> Result<BytesResponse, Error> {
        record(Last::default());
        let (head, body) = request.into_parts();
        let body = body.collect().await.map_err(|error| Error::Other(error.into()))?.to_bytes();
        let (method, uri) = (head.method.clone(), head.uri.clone());
        let begun = Instant::now();
        let answer = self.web.ask(Request::from_parts(head, Full::new(body))).await;
        let status = answer.as_ref().map_or(0, |(parts, _)| parts.status.as_u16());
        self.metrics.asked(uri.host().unwrap_or_default(), uri.path(), method.as_str(), status, begun.elapsed());
        let (mut parts, body) = answer.map_err(|cause| Error::Other(cause.into()))?;
        let links = parts.headers.get_all(LINK).iter().filter_map(|link| link.to_str().ok());
        record(Last {
            status,
            retry_after: parts.headers.get(RETRY_AFTER).and_then(|value| retry_after(value.to_str().ok()?)),
            alternates: links.flat_map(|links| links.split(',')).filter_map(alternate).collect(),
            body: body.clone(),
        });
        if !parts.headers.contains_key(RETRY_AFTER) {
            parts.headers.insert(RETRY_AFTER, ASK_AGAIN);
        }
        Ok(BytesResponse::from(Response::from_parts(parts, Full::new(body))))
    }
}

impl HttpClient for Http {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        Box::pin(self.clone().ask(request))
    }
}

/// Seconds from now, or a date (RFC 9110 §10.2.3).
fn retry_after(text: &str) -> Option<Timestamp> {
    if let Ok(seconds) = text.trim().parse::<i64>() {
        return Timestamp::now().checked_add(jiff::SignedDuration::from_secs(seconds)).ok();
    }
    jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text.trim()).ok()
}

/// `<https://ca.example/chain/2>;rel="alternate"`.
fn alternate(link: &str) -> Option<String> {
    let (target, parameters) = link.split_once('>')?;
    let is_alternate = parameters.split(';').any(|it| matches!(it.trim(), "rel=\"alternate\"" | "rel=alternate"));
    is_alternate.then(|| target.trim().strip_prefix('<').map(str::to_owned))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_alternate_links_are_chains() {
        assert_eq!(alternate(" <https://ca/1>;rel=\"alternate\"").as_deref(), Some("https://ca/1"));
        assert_eq!(alternate("<https://ca/dir>;rel=\"index\""), None);
        assert_eq!(alternate("nonsense"), None);
    }

    #[test]
    fn a_wait_is_seconds_or_a_date() {
        assert_eq!(retry_after("Wed, 21 Oct 2026 07:28:00 GMT"), "2026-10-21T07:28:00Z".parse().ok());
        assert!(retry_after("120").is_some_and(|at| at > Timestamp::now()));
        assert_eq!(retry_after("soon"), None);
    }
}
