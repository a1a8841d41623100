//! The face of a real server: passes every request on to it, so that faults, counting and cut watches work there too.

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Method, Uri, header};
use axum::response::Response;
use futures_util::StreamExt as _;
use serde_json::Value;

use super::Shared;
use super::failure::Failure;
use super::kinds::Target;
use crate::real::{RealApiServer, RequestError};

/// Passes a request on. A watch ends when watches are dropped, a stale one never says anything.
pub(super) async fn forward(
    shared: &Shared,
    real: &RealApiServer,
    (method, uri, headers, body): (Method, Uri, HeaderMap, Bytes),
    stale: bool,
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
    let body = match stale {
        true => Body::from_stream(futures_util::stream::pending::<Result<Bytes, axum::Error>>().take_until(cut)),
        false if parts.headers.contains_key(header::CONTENT_LENGTH) => Body::from_stream(body),
        false => Body::from_stream(body.take_until(cut)),
    };
    Ok(Response::from_parts(parts, body))
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
        Err(failure) if failure.code == 409 => ask(real, "PUT", &path(target), Some(&object)),
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
