//! The face of a real server: passes every request on to it, so that faults, counting and cut watches work there too.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Method, Uri, header};
use axum::response::Response;
use futures_util::{Stream, StreamExt as _, stream};
use serde_json::Value;

use super::Shared;
use super::failure::Failure;
use super::faults::Faults;
use super::kinds::Target;
use crate::real::{RealApiServer, RequestError};

/// How an answer is passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Relay {
    /// As it is.
    Answer,
    /// Line by line, with what is told otherwise than it is.
    Watch,
    /// Not at all: a stale watch.
    Silence,
}

/// Passes a request on. A watch ends when watches are dropped.
pub(super) async fn forward(
    shared: &Shared,
    real: &RealApiServer,
    (method, uri, headers, body): (Method, Uri, HeaderMap, Bytes),
    relay: Relay,
) -> Result<Response, Failure> {
    let mut dropped = shared.dropped.subscribe();
    let mut request = http::Request::builder().method(method).uri(uri.path_and_query().map_or("/", |it| it.as_str()));
    for name in [header::CONTENT_TYPE, header::ACCEPT] {
        if let Some(value) = headers.get(&name) {
            request = request.header(name, value);
        }
    }
    let away = |error: &dyn std::fmt::Display| Failure::new(503, format!("the real server: {error}"));
    let request = request.body(kube::client::Body::from(body.to_vec())).map_err(|error| away(&error))?;
    let answer = real.client().send(request).await.map_err(|error| away(&error))?;
    let (mut parts, body) = answer.into_parts();
    for name in [header::CONNECTION, header::TRANSFER_ENCODING] {
        parts.headers.remove(name);
    }
    let body = Body::new(body).into_data_stream();
    let cut = async move { dropped.changed().await };
    let body = match relay {
        Relay::Silence => Body::from_stream(stream::pending::<Result<Bytes, axum::Error>>().take_until(cut)),
        Relay::Watch if parts.status.is_success() => {
            Body::from_stream(lines(body, Arc::clone(&shared.faults)).take_until(cut))
        }
        Relay::Answer | Relay::Watch => Body::from_stream(body),
    };
    Ok(Response::from_parts(parts, body))
}

/// Whole lines, each told as `faults` have it.
fn lines(
    body: impl Stream<Item = Result<Bytes, axum::Error>> + Send + 'static,
    faults: Arc<Faults>,
) -> impl Stream<Item = Result<Bytes, axum::Error>> + Send + 'static {
    let mut rest = Vec::new();
    body.map(move |chunk| {
        rest.extend_from_slice(&chunk?);
        let end = rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        let whole: Vec<u8> = rest.drain(..end).collect();
        Ok(if faults.is_honest() { whole.into() } else { twisted(&whole, &faults).into() })
    })
}

fn twisted(lines: &[u8], faults: &Faults) -> Vec<u8> {
    let mut told = Vec::with_capacity(lines.len());
    for line in lines.split_inclusive(|byte| *byte == b'\n') {
        match serde_json::from_slice(line) {
            Ok(mut event) => {
                faults.twist(&mut event);
                told.extend_from_slice(format!("{event}\n").as_bytes());
            }
            Err(_) => told.extend_from_slice(line),
        }
    }
    told
}

/// Creates or replaces an object. Addresses inside the cluster are the server's to give.
pub(super) fn put(real: &RealApiServer, target: &Target, object: &Value) -> Result<Value, Failure> {
    let mut object = object.clone();
    if target.resource.kind == "Service"
        && let Some(spec) = object["spec"].as_object_mut()
        && spec.get("clusterIP").is_some_and(|ip| ip != "None")
    {
        spec.remove("clusterIP");
        spec.remove("clusterIPs");
    }
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.remove("resourceVersion");
        metadata.remove("uid");
    }
    let collection = target.resource.collection(target.namespace.as_deref());
    match ask(real, "POST", &collection, Some(&object)) {
        // One that is there is refused as such, or since it has the node ports that it asks for.
        Err(failure) if matches!(failure.code, 409 | 422) => match ask(real, "PUT", &path(target), Some(&object)) {
            Err(absent) if absent.code == 404 => Err(failure),
            other => other,
        },
        other => other,
    }
}

/// The path of an object.
pub(super) fn path(target: &Target) -> String {
    let collection = target.resource.collection(target.namespace.as_deref());
    format!("{collection}/{}", target.name.as_deref().unwrap_or_default())
}

/// One request of the test itself, which is not counted.
pub(super) fn ask(real: &RealApiServer, method: &str, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
    real.request(method, path, body).map_err(|error| match error {
        RequestError::Refused { code, message } => Failure::new(code, message),
        unanswered @ RequestError::Unanswered(_) => Failure::new(503, unanswered.to_string()),
    })
}
