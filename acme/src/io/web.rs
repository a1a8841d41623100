//! An HTTP client that has deadlines, knows whom to trust, and goes through the proxy that the environment names.
//!
//! `HTTPS_PROXY` (or `ALL_PROXY`) is an `http://` URL, with a user if need be; `NO_PROXY` lists hosts, domains and
//! prefixes that are reached directly. Redirects are not followed, and an answer has at most 1 MiB.

use std::error::Error as StdError;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{HeaderValue, USER_AGENT};
use http::{Request, Uri, response};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use tokio::net::TcpStream;
use tower::Service;

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(5);
/// How long an answer may take to arrive whole.
const WHOLE: Duration = Duration::from_secs(30);
/// The longest answer.
const LONGEST: usize = 1 << 20;
/// Who we are.
const AGENT: &str = concat!("ferrogate/", env!("CARGO_PKG_VERSION"));

/// Why a client cannot be made.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    #[error("caBundle holds a certificate that cannot be read: {0}; paste it again, in PEM")]
    Bundle(String),
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
}

/// What may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    /// Only `https://`.
    Https,
    /// `http://` too.
    Any,
}

/// A client.
#[derive(Clone, Debug)]
pub(super) struct Web {
    client: Client<HttpsConnector<Proxied>, Full<Bytes>>,
}

impl Web {
    /// Trusts the public CAs and those of the bundle.
    pub(super) fn new(ca_bundle: Option<&str>, scheme: Scheme) -> Result<Self, ClientError> {
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
        let mut direct = HttpConnector::new();
        direct.enforce_http(false);
        direct.set_connect_timeout(Some(CONNECT));
        let connector = Proxied { direct, proxies: Arc::new(Matcher::from_env()) };
        let builder = HttpsConnectorBuilder::new().with_tls_config(config);
        let builder = if scheme == Scheme::Https { builder.https_only() } else { builder.https_or_http() };
        let client = Client::builder(TokioExecutor::new()).build(builder.enable_http1().wrap_connector(connector));
        Ok(Self { client })
    }

    /// Asks; what went wrong in words.
    pub(super) async fn ask(&self, mut request: Request<Full<Bytes>>) -> Result<(response::Parts, Bytes), String> {
        request.headers_mut().insert(USER_AGENT, HeaderValue::from_static(AGENT));
        let answer = async {
            let (parts, body) = self.client.request(request).await.map_err(|error| cause(&error))?.into_parts();
            let body = Limited::new(body, LONGEST).collect().await.map_err(|error| cause(&*error))?;
            Ok::<_, String>((parts, body.to_bytes()))
        };
        tokio::time::timeout(WHOLE, answer)
            .await
            .unwrap_or_else(|_| Err(format!("no answer within {} s", WHOLE.as_secs())))
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

/// Connects directly, or through a proxy (RFC 9110 §9.3.6).
#[derive(Clone, Debug)]
struct Proxied {
    direct: HttpConnector,
    proxies: Arc<Matcher>,
}

impl Service<Uri> for Proxied {
    type Response = TokioIo<TcpStream>;
    type Error = Box<dyn StdError + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.direct.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, destination: Uri) -> Self::Future {
        let Some(proxy) = self.proxies.intercept(&destination) else {
            let connecting = self.direct.call(destination);
            return Box::pin(async move { Ok(connecting.await?) });
        };
        if proxy.uri().scheme_str() != Some("http") {
            let message = format!("the proxy {} cannot be used; name one by an http:// URL", proxy.uri());
            return Box::pin(async move { Err(message.into()) });
        }
        let mut tunnel = Tunnel::new(proxy.uri().clone(), self.direct.clone());
        if let Some(user) = proxy.basic_auth() {
            tunnel = tunnel.with_auth(user.clone());
        }
        let connecting = tunnel.call(destination);
        Box::pin(async move {
            connecting.await.map_err(|error| format!("the proxy {} does not lead on: {error}", proxy.uri()).into())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_that_is_none_is_an_error_that_says_so() {
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let error = Web::new(Some(broken), Scheme::Https).err().unwrap();
        assert!(error.to_string().contains("caBundle"), "{error}");
        assert!(Web::new(None, Scheme::Any).is_ok());
    }
}
