//! The HTTP face: a request becomes one call of the store.
#![expect(clippy::disallowed_methods, reason = "a server reads the clock")]

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::Shared;
use super::failure::Failure;
use super::faults::{Fault, Request};
use super::forward::{Relay, forward};
use super::kinds::Target;
use super::selector::Selector;
use super::store::{Key, Write};
use super::watching::Watching;

type Parameters = HashMap<String, String>;

/// Answers every request.
pub(super) async fn answer(
    State(shared): State<Arc<Shared>>,
    method: Method,
    uri: Uri,
    Query(parameters): Query<Parameters>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if !shared.admits(&headers) {
        return refuse(&Failure::new(401, "Unauthorized"));
    }
    let parts = (method.clone(), uri.clone(), headers.clone(), body.clone());
    let target = Target::parse(uri.path());
    if let (Some(real), None) = (&shared.real, &target) {
        return forward(&shared, real, parts, Relay::Answer).await.unwrap_or_else(|failure| refuse(&failure));
    }
    match uri.path() {
        "/version" => {
            return json_answer(StatusCode::OK, &json!({ "major": "1", "minor": "33", "gitVersion": "v1.33.0" }));
        }
        "/livez" | "/readyz" | "/healthz" => return "ok".into_response(),
        _ => {}
    }
    let Some(target) = target else {
        return refuse(&Failure::new(404, "the server could not find the requested resource"));
    };
    let call = Call { shared, target, method, uri, parameters, headers, body };
    call.answer().await.unwrap_or_else(|failure| refuse(&failure))
}

struct Call {
    shared: Arc<Shared>,
    target: Target,
    method: Method,
    uri: Uri,
    parameters: Parameters,
    headers: HeaderMap,
    body: Bytes,
}

impl Call {
    async fn answer(self) -> Result<Response, Failure> {
        let verb = self.verb()?;
        let (mut stale, mut lost) = (false, false);
        for fault in self.shared.faults.next(self.request(verb)) {
            match fault {
                Fault::Delay(time) => tokio::time::sleep(time).await,
                Fault::Refuse(failure) => return Err(failure),
                Fault::LoseAnswer => lost = true,
                Fault::StaleWatch => stale = true,
            }
        }
        let answer = self.perform(verb, stale).await?;
        Ok(if lost { broken_off() } else { answer })
    }

    async fn perform(self, verb: &str, stale: bool) -> Result<Response, Failure> {
        if let Some(real) = &self.shared.real {
            let relay = match (verb, stale) {
                ("watch", true) => Relay::Silence,
                ("watch", false) => Relay::Watch,
                _ => Relay::Answer,
            };
            return forward(&self.shared, real, (self.method, self.uri, self.headers, self.body), relay).await;
        }
        match verb {
            "watch" => self.watch(stale),
            "list" => self.list(),
            "get" => Ok(found(&self.shared.store.get(&self.key()?)?)),
            "create" => self.create(),
            "update" => Ok(found(&self.shared.store.update(&self.key()?, &self.json()?, self.write())?)),
            "patch" => self.patch(),
            _ => Ok(found(&self.shared.store.delete(&self.key()?)?)),
        }
    }

    fn verb(&self) -> Result<&'static str, Failure> {
        let watching = self.flag("watch");
        match (self.method.as_str(), self.target.name.is_some()) {
            ("GET", true) => Ok("get"),
            ("GET", false) if watching => Ok("watch"),
            ("GET", false) => Ok("list"),
            ("POST", false) => Ok("create"),
            ("PUT", true) => Ok("update"),
            ("PATCH", true) => Ok("patch"),
            ("DELETE", true) => Ok("delete"),
            _ => Err(Failure::new(405, "the server does not allow this method on the requested resource")),
        }
    }

    fn request(&self, verb: &'static str) -> Request {
        let subresource = self.target.subresource.as_ref().map(|name| format!("/{name}")).unwrap_or_default();
        let namespace = self.target.namespace.as_ref().map(|name| format!("{name}/")).unwrap_or_default();
        let selected = self.parameter("fieldSelector").strip_prefix("metadata.name=").unwrap_or_default();
        let name = format!("{namespace}{}", self.target.name.as_deref().unwrap_or(selected));
        Request {
            verb,
            group: self.target.resource.group,
            resource: format!("{}{subresource}", self.target.resource.plural),
            name,
            at: std::time::Instant::now(),
        }
    }

    fn list(&self) -> Result<Response, Failure> {
        let resource = self.target.resource;
        let selector = self.selector()?;
        let (items, revision) = self.shared.store.list(resource, self.target.namespace.as_deref());
        let items: Vec<Value> = items.into_iter().filter(|object| selector.matches(object)).collect();
        let start: usize = self.parameter("continue").parse().unwrap_or(0);
        let limit: usize = self.parameter("limit").parse().ok().filter(|limit| *limit > 0).unwrap_or(usize::MAX);
        let page: Vec<&Value> = items.iter().skip(start).take(limit).collect();
        let next = start + page.len();
        let token = if next < items.len() { next.to_string() } else { String::new() };
        let body = json!({
            "kind": format!("{}List", resource.kind), "apiVersion": resource.api_version(), "items": page,
            "metadata": { "resourceVersion": revision.to_string(), "continue": token },
        });
        Ok(json_answer(StatusCode::OK, &body))
    }

    fn watch(&self, stale: bool) -> Result<Response, Failure> {
        let initial = self.flag("sendInitialEvents");
        let position = self.parameter("resourceVersion").parse().ok();
        let now = self.shared.store.list(self.target.resource, Some("")).1;
        let seconds = self.parameter("timeoutSeconds").parse().unwrap_or(300);
        let watching = Watching {
            store: Arc::clone(&self.shared.store),
            resource: self.target.resource,
            namespace: self.target.namespace.clone(),
            selector: self.selector()?,
            position: position.unwrap_or(now),
            initial: initial || position == Some(0),
            bookmarks: self.flag("allowWatchBookmarks").then_some(self.shared.bookmarks),
            dropped: self.shared.dropped.subscribe(),
            until: Instant::now() + Duration::from_secs(seconds),
            stale,
            faults: Arc::clone(&self.shared.faults),
        };
        Ok(([(header::CONTENT_TYPE, "application/json")], Body::from_stream(watching.stream())).into_response())
    }

    fn create(&self) -> Result<Response, Failure> {
        let object = self.json()?;
        let name = match object["metadata"]["name"].as_str() {
            Some(name) if !name.is_empty() => name.to_owned(),
            _ => {
                let prefix = object["metadata"]["generateName"].as_str().unwrap_or_default();
                let (_, revision) = self.shared.store.list(self.target.resource, Some(""));
                format!("{prefix}{revision:05x}")
            }
        };
        if name.is_empty() {
            return Err(Failure::new(422, "metadata.name: Required value: name or generateName is required"));
        }
        let key = (self.target.resource, self.target.namespace.clone().unwrap_or_default(), name);
        Ok(json_answer(StatusCode::CREATED, &self.shared.store.create(key, object, self.write())?))
    }

    fn patch(&self) -> Result<Response, Failure> {
        let kind = self.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let (store, key) = (&self.shared.store, self.key()?);
        let object = match kind {
            "application/merge-patch+json" => store.patch(&key, &self.json()?, self.write())?,
            "application/apply-patch+yaml" => store.apply(key, &self.json()?, self.write(), self.flag("force"))?,
            other => return Err(Failure::new(415, format!("this server does not understand {other}"))),
        };
        Ok(found(&object))
    }

    fn write(&self) -> Write<'_> {
        let manager = self.parameters.get("fieldManager").map_or("unknown", String::as_str);
        Write { manager, subresource: self.target.subresource.as_deref().unwrap_or_default() }
    }

    fn key(&self) -> Result<Key, Failure> {
        let name = self.target.name.clone().ok_or_else(|| Failure::new(405, "a name is required"))?;
        Ok((self.target.resource, self.target.namespace.clone().unwrap_or_default(), name))
    }

    /// The body; apply sends JSON under a YAML type, which is YAML too.
    fn json(&self) -> Result<Value, Failure> {
        serde_json::from_slice(&self.body).map_err(|error| Failure::new(400, format!("the body is not JSON: {error}")))
    }

    fn selector(&self) -> Result<Selector, Failure> {
        Selector::parse(self.parameter("labelSelector"), self.parameter("fieldSelector"))
            .ok_or_else(|| Failure::new(400, "unable to parse the selector"))
    }

    fn parameter(&self, name: &str) -> &str {
        self.parameters.get(name).map_or("", String::as_str)
    }

    fn flag(&self, name: &str) -> bool {
        matches!(self.parameter(name), "true" | "1")
    }
}

fn found(object: &Value) -> Response {
    json_answer(StatusCode::OK, object)
}

fn json_answer(status: StatusCode, body: &Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

/// What ends the connection instead of an answer.
fn broken_off() -> Response {
    let broken = std::io::Error::other("an injected fault ends this connection");
    Response::new(Body::from_stream(futures_util::stream::iter([Err::<Bytes, _>(broken)])))
}

fn refuse(failure: &Failure) -> Response {
    let status = StatusCode::from_u16(failure.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut answer = json_answer(status, &failure.body());
    if let Some(seconds) = failure.retry_after {
        answer.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    answer
}
