//! HTTP as ACME needs it: beneath the library that signs, a client that has deadlines, knows whom to trust, and keeps
//! what the library drops of an answer.
//!
//! Redirects are not followed, and an answer has at most 1 MiB.

#![expect(clippy::disallowed_methods, reason = "io reads the clock")]

use std::cell::RefCell;
use std::error::Error as StdError;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{HeaderValue, LINK, RETRY_AFTER, USER_AGENT};
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use jiff::Timestamp;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use crate::metrics::AcmeMetrics;

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(5);
/// How long an answer may take to arrive whole.
const WHOLE: Duration = Duration::from_secs(30);
/// The longest answer.
const LONGEST: usize = 1 << 20;
/// Who we are.
const AGENT: &str = concat!("ferrogate/", env!("CARGO_PKG_VERSION"));
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

/// Why a client cannot be made.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    #[error("caBundle holds a certificate that cannot be read: {0}; paste it again, in PEM")]
    Bundle(String),
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
}

/// A client for one server.
#[derive(Clone)]
pub(super) struct Http {
    client: Client<HttpsConnector<HttpConnector>, BodyWrapper<Bytes>>,
    metrics: Arc<AcmeMetrics>,
}

impl Http {
    /// Trusts the public CAs and those of the bundle.
    pub(super) fn new(ca_bundle: Option<&str>, metrics: Arc<AcmeMetrics>) -> Result<Self, ClientError> {
        let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        for certificate in CertificateDer::pem_slice_iter(ca_bundle.unwrap_or_default().as_bytes()) {
            let certificate = certificate.map_err(|error| ClientError::Bundle(error.to_string()))?;
            roots.add(certificate).map_err(|error| ClientError::Bundle(error.to_string()))?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_connect_timeout(Some(CONNECT));
        let connector =
            HttpsConnectorBuilder::new().with_tls_config(config).https_only().enable_http1().wrap_connector(connector);
        Ok(Self { client: Client::builder(TokioExecutor::new()).build(connector), metrics })
    }

    async fn ask(self, mut request: Request<BodyWrapper<Bytes>>) -> Result<BytesResponse, Error> {
        record(Last::default());
        request.headers_mut().insert(USER_AGENT, HeaderValue::from_static(AGENT));
        let (method, uri) = (request.method().clone(), request.uri().clone());
        let begun = Instant::now();
        let answer = async {
            let (parts, body) = self.client.request(request).await.map_err(|error| cause(&error))?.into_parts();
            let body = Limited::new(body, LONGEST).collect().await.map_err(|error| cause(&*error))?;
            Ok::<_, String>((parts, body.to_bytes()))
        };
        let answer = match tokio::time::timeout(WHOLE, answer).await {
            Ok(answer) => answer,
            Err(_) => Err(format!("no answer within {} s", WHOLE.as_secs())),
        };
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

/// The innermost cause says what happened.
fn cause(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text = inner.to_string();
        source = inner.source();
    }
    text
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

    #[test]
    fn a_bundle_that_is_none_is_an_error_that_says_so() {
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let error = Http::new(Some(broken), Arc::default()).err().unwrap();
        assert!(error.to_string().contains("caBundle"), "{error}");
        assert!(Http::new(None, Arc::default()).is_ok());
    }
}
