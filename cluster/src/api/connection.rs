//! The connection to the API server: a request out, an answer or a [`Failure`] back.
//!
//! Retries are the caller's, who knows what a request is worth. Credentials, when refused, are read anew: a rotated
//! token or client certificate works at once.

#![expect(clippy::disallowed_methods, reason = "io reads the clock")]

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Uri};
use http_body_util::{BodyExt, Limited};
use hyper_util::client::legacy::connect::HttpConnector;
use kube::client::{Body, ConfigExt};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::timeout;
use tower::{BoxError, ServiceBuilder};

use super::ApiError;
use crate::ClusterMetrics;

/// How long an answer may take to arrive whole, unless it is a watch.
pub(super) const ANSWER: Duration = Duration::from_secs(30);
/// How long a write may take: less than what lies between a lease's renewal deadline and its end.
pub(super) const WRITE: Duration = Duration::from_secs(4);
/// How often credentials are read anew at most.
const RENEW: Duration = Duration::from_secs(1);
/// How much of a refusal is read.
const LONGEST_REFUSAL: usize = 64 * 1024;

/// Where the API server is, and how to show who we are.
#[derive(Clone, Debug)]
pub enum Access {
    /// As the Pod we run in.
    InCluster,
    /// By a kubeconfig.
    Kubeconfig {
        /// Its files, merged as kubectl does: who says something first is right, and of several those that are missing
        /// or empty are passed over.
        paths: Vec<PathBuf>,
        /// The context to use instead of the current one.
        context: Option<String>,
    },
}

/// Why a request has no good answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Failure {
    #[error("the API server cannot be reached: {0}")]
    Unreachable(String),
    #[error("the API server answered {code} {reason}: {message}")]
    Refused {
        code: u16,
        reason: String,
        message: String,
        /// How long it asks us to wait.
        retry_after: Option<Duration>,
    },
    #[error("the API server's answer cannot be read: {0}")]
    Garbled(String),
}

impl Failure {
    /// The HTTP code; zero if there was no answer.
    pub(super) const fn code(&self) -> u16 {
        match self {
            Self::Refused { code, .. } => *code,
            Self::Unreachable(_) | Self::Garbled(_) => 0,
        }
    }

    /// How long the server asks us to wait.
    pub(super) const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } => *retry_after,
            Self::Unreachable(_) | Self::Garbled(_) => None,
        }
    }
}

/// A `Status`, as far as we look at it.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Refusal {
    code: u16,
    reason: String,
    message: String,
    details: Option<Details>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Details {
    retry_after_seconds: Option<u64>,
}

/// A connection whose credentials are kept fresh.
pub(super) struct Connection {
    access: Access,
    current: Mutex<(Client, Instant)>,
    cluster: String,
    metrics: Arc<ClusterMetrics>,
    answered: watch::Sender<Option<Instant>>,
}

impl Connection {
    /// Reads the configuration; asks the server nothing yet. Tells `answered` when it did.
    pub(super) async fn open(
        access: Access,
        metrics: Arc<ClusterMetrics>,
        answered: watch::Sender<Option<Instant>>,
    ) -> Result<Self, ApiError> {
        // Whoever came first has chosen the same one: there is only one in this program.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let (client, cluster) = connect(&access).await?;
        Ok(Self { access, current: Mutex::new((client, Instant::now())), cluster, metrics, answered })
    }

    /// What counts what happens.
    pub(super) fn metrics(&self) -> &ClusterMetrics {
        &self.metrics
    }

    /// What tells the cluster from others: where it is, and who vouches for it.
    pub(super) fn cluster(&self) -> &str {
        &self.cluster
    }

    /// Sends a request; the body of a good answer is still to be read.
    pub(super) async fn send(&self, request: http::Request<Vec<u8>>) -> Result<http::Response<Body>, Failure> {
        let (verb, resource) = about(request.method(), request.uri());
        let answer = self.client().send(request.map(Body::from)).await;
        self.metrics.asked(verb, &resource, answer.as_ref().ok().map(|answer| answer.status().as_u16()));
        let answer = answer.map_err(|error| Failure::Unreachable(cause(&error)))?;
        // A gateway before a server that is away answers too.
        if !answer.status().is_server_error() {
            self.answered.send_replace(Some(Instant::now()));
        }
        if answer.status().is_success() {
            return Ok(answer);
        }
        let failure = refusal(answer).await;
        if failure.code() == 401 {
            self.renew().await;
        }
        Err(failure)
    }

    /// Sends a request and reads the whole answer within `limit`.
    pub(super) async fn ask(&self, request: http::Request<Vec<u8>>, limit: Duration) -> Result<Bytes, Failure> {
        let whole = async {
            let body = self.send(request).await?.into_body();
            let body = body.collect().await.map_err(|error| Failure::Unreachable(cause(&error)))?;
            Ok(body.to_bytes())
        };
        let late = |_| Failure::Unreachable(format!("no answer within {} s", limit.as_secs()));
        timeout(limit, whole).await.map_err(late)?
    }

    /// The same for a JSON answer.
    pub(super) async fn json(&self, request: http::Request<Vec<u8>>, limit: Duration) -> Result<Value, Failure> {
        let body = self.ask(request, limit).await?;
        serde_json::from_slice(&body).map_err(|error| Failure::Garbled(error.to_string()))
    }

    fn client(&self) -> Client {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).0.clone()
    }

    async fn renew(&self) {
        let age = self.current.lock().unwrap_or_else(PoisonError::into_inner).1.elapsed();
        if age < RENEW {
            return;
        }
        // If the files cannot be read now, the old client goes on; the next refusal tries again.
        if let Ok((client, _)) = connect(&self.access).await {
            *self.current.lock().unwrap_or_else(PoisonError::into_inner) = (client, Instant::now());
        }
    }
}

async fn connect(access: &Access) -> Result<(Client, String), ApiError> {
    let config = match access {
        Access::InCluster => Config::incluster().map_err(|error| ApiError::InCluster(error.to_string()))?,
        Access::Kubeconfig { paths, context } => {
            let options = KubeConfigOptions { context: context.clone(), ..KubeConfigOptions::default() };
            let merged = kubeconfig(paths)?;
            let failed = |error| ApiError::Kubeconfig { path: shown(paths).into(), cause: cause(&error) };
            Config::from_custom_kubeconfig(merged, &options).await.map_err(failed)?
        }
    };
    let cluster = format!("{} {:?}", config.cluster_url, config.root_cert);
    let client = client(&config).map_err(|error| ApiError::Credentials(cause(&error)))?;
    Ok((client, cluster))
}

/// The files as one; paths in each are relative to it.
fn kubeconfig(paths: &[PathBuf]) -> Result<Kubeconfig, ApiError> {
    let has_text = |path: &&PathBuf| std::fs::metadata(path).is_ok_and(|found| found.len() > 0);
    let mut used: Vec<&PathBuf> = paths.iter().filter(|path| paths.len() == 1 || has_text(path)).collect();
    if used.is_empty() {
        used.extend(paths.first());
    }
    let mut merged = Kubeconfig::default();
    for path in used {
        let failed =
            |error: kube::config::KubeconfigError| ApiError::Kubeconfig { path: path.clone(), cause: cause(&error) };
        merged = merged.merge(Kubeconfig::read_from(path).map_err(failed)?).map_err(failed)?;
    }
    Ok(merged)
}

/// Paths as they stand in `KUBECONFIG`.
fn shown(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(":")
}

/// A client without kube's own retries and its log line for every failure.
fn client(config: &Config) -> Result<Client, kube::Error> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(Duration::from_secs(5)));
    tcp.set_keepalive(Some(Duration::from_secs(20)));
    let https = config.rustls_https_connector_with_connector(tcp)?;
    let http = hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new()).build(https);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(http);
    Ok(Client::new(service, config.default_namespace.clone()))
}

async fn refusal(answer: http::Response<Body>) -> Failure {
    let code = answer.status().as_u16();
    let header = answer.headers().get(http::header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    let body = timeout(ANSWER, Limited::new(answer.into_body(), LONGEST_REFUSAL).collect()).await;
    let body = body.ok().and_then(Result::ok).map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let status: Refusal = serde_json::from_slice(&body).unwrap_or_else(|_| Refusal {
        message: String::from_utf8_lossy(&body).trim().to_owned(),
        ..Refusal::default()
    });
    let asked = header.or_else(|| status.details.and_then(|details| details.retry_after_seconds));
    let retry_after = asked.map(Duration::from_secs);
    Failure::Refused { code, reason: status.reason, message: status.message, retry_after }
}

/// The `Status` inside a watch's `ERROR` event.
pub(super) fn refused(status: &str) -> Failure {
    let status: Refusal = serde_json::from_str(status).unwrap_or_default();
    let retry_after = status.details.and_then(|details| details.retry_after_seconds).map(Duration::from_secs);
    Failure::Refused { code: status.code, reason: status.reason, message: status.message, retry_after }
}

/// What a request does to which resource, in the words of RBAC: `patch`, `services/status`.
fn about(method: &Method, uri: &Uri) -> (&'static str, String) {
    let mut parts = uri.path().trim_matches('/').split('/');
    // "api", version; or "apis", group, version.
    let root = if parts.next() == Some("apis") { 2 } else { 1 };
    let parts: Vec<&str> = parts.skip(root).collect();
    let parts = match &parts[..] {
        ["namespaces", _, inside @ ..] if !inside.is_empty() => inside,
        parts => parts,
    };
    let resource = match parts {
        [resource, _, subresource, ..] => format!("{resource}/{subresource}"),
        [resource, ..] => (*resource).to_owned(),
        [] => String::new(),
    };
    let verb = match method.as_str() {
        "GET" if uri.query().is_some_and(|query| query.split('&').any(|it| it == "watch=true")) => "watch",
        "GET" if parts.len() > 1 => "get",
        "GET" => "list",
        "POST" => "create",
        "PUT" => "update",
        "PATCH" => "patch",
        _ => "other",
    };
    (verb, resource)
}

/// What is at the bottom of an error: the layers above it only say that a request failed.
fn cause(error: &dyn std::error::Error) -> String {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_kubeconfigs_are_merged_as_kubectl_does() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let clusters = "clusters: [{name: c, cluster: {server: https://one.example}}]\n";
        let head = "apiVersion: v1\nkind: Config\n";
        let first = file("first", &format!("{head}{clusters}contexts: [{{name: x, context: {{cluster: c}}}}]\n"));
        let second = format!("{head}current-context: x\n{}", clusters.replace("one", "two"));
        let second = file("second", &second);
        let (missing, empty) = (folder.path().join("missing"), file("empty", ""));
        let merged = kubeconfig(&[missing.clone(), first, empty, second]).unwrap();
        assert_eq!(
            (merged.current_context.as_deref(), merged.contexts.len(), merged.clusters.len()),
            (Some("x"), 1, 1)
        );
        let server = merged.clusters[0].cluster.as_ref().unwrap().server.as_deref();
        assert_eq!(server, Some("https://one.example"), "who says it first is right");
        for paths in [vec![missing.clone()], vec![missing.clone(), missing.clone()]] {
            let error = kubeconfig(&paths).unwrap_err().to_string();
            assert!(error.contains(&missing.display().to_string()), "{error}");
        }
    }

    #[test]
    fn a_request_is_counted_in_the_words_of_rbac() {
        for (method, uri, expected) in [
            (Method::GET, "/api/v1/services?&watch=true&timeoutSeconds=9", ("watch", "services")),
            (Method::GET, "/api/v1/namespaces?", ("list", "namespaces")),
            (Method::GET, "/api/v1/namespaces/shop/secrets?&fieldSelector=x", ("list", "secrets")),
            (Method::GET, "/apis/coordination.k8s.io/v1/namespaces/a/leases/b", ("get", "leases")),
            (Method::PATCH, "/api/v1/namespaces/shop/services/web/status?", ("patch", "services/status")),
            (Method::POST, "/api/v1/namespaces/shop/events?", ("create", "events")),
            (Method::PUT, "/apis/coordination.k8s.io/v1/namespaces/a/leases/b", ("update", "leases")),
            (Method::GET, "/", ("list", "")),
        ] {
            let (verb, resource) = about(&method, &uri.parse().unwrap());
            assert_eq!((verb, resource.as_str()), expected, "{method} {uri}");
        }
    }
}
