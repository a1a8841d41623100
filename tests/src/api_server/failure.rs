//! What the server answers when it refuses: a Kubernetes `Status` object.

use serde_json::{Value, json};

/// A refusal, with the HTTP code and reason that clients look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// HTTP status code.
    pub code: u16,
    /// `reason` of the `Status`, which clients branch on.
    pub reason: &'static str,
    /// The sentence for people.
    pub message: String,
    /// Seconds for `Retry-After`.
    pub retry_after: Option<u32>,
}

impl Failure {
    /// A refusal with this code; the reason follows from it.
    pub fn new(code: u16, message: impl Into<String>) -> Self {
        let reason = match code {
            400 => "BadRequest",
            401 => "Unauthorized",
            403 => "Forbidden",
            404 => "NotFound",
            405 => "MethodNotAllowed",
            409 => "Conflict",
            410 => "Expired",
            415 => "UnsupportedMediaType",
            422 => "Invalid",
            429 => "TooManyRequests",
            _ => "InternalError",
        };
        Self { code, reason, message: message.into(), retry_after: None }
    }

    /// A name that is taken.
    #[must_use]
    pub fn already_exists(what: &str) -> Self {
        Self { reason: "AlreadyExists", ..Self::new(409, format!("{what} already exists")) }
    }

    /// The `Status` object.
    #[must_use]
    pub fn body(&self) -> Value {
        let details = self.retry_after.map(|seconds| json!({ "retryAfterSeconds": seconds }));
        json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": self.message,
            "reason": self.reason, "code": self.code, "details": details.unwrap_or_else(|| json!({})),
        })
    }
}
