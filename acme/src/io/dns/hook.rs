//! Records by somebody else: a server that is asked over HTTP, or a program that is run.

use std::process::Stdio;
use std::time::Duration;

use bytes::Bytes;
use config::issuer::dns::{ExecHook, HttpHook};
use http::Request;
use http_body_util::Full;
use serde_json::json;
use tokio::process::Command;
use tokio::time::timeout;

use super::{Action, Credentials, DnsError, Placed, client, secret};

/// How long a program may run.
const RUN: Duration = Duration::from_mins(2);
/// How much of what it complains of is told.
const LONGEST_COMPLAINT: usize = 300;

const fn verb(action: Action) -> &'static str {
    match action {
        Action::Present => "present",
        Action::Remove => "cleanup",
    }
}

/// Asks a server.
pub(super) async fn ask(
    action: Action,
    record: &Placed,
    hook: &HttpHook,
    credentials: &Credentials,
) -> Result<(), DnsError> {
    let web = client(hook.ca_bundle.as_deref())?;
    let body = json!({ "fqdn": format!("{}.", record.owner), "value": record.value }).to_string();
    let mut request =
        Request::post(format!("{}/{}", hook.url, verb(action))).header("content-type", "application/json");
    if let Some(token) = &hook.token {
        request = request.header("authorization", format!("Bearer {}", secret(credentials, token)?));
    }
    let who = format!("the hook {}", hook.url);
    super::ask(&web, &who, request.body(Full::new(Bytes::from(body))), complaint).await.map(drop)
}

/// Runs a program; what it says is told only if it fails.
pub(super) async fn run(action: Action, record: &Placed, hook: &ExecHook) -> Result<(), DnsError> {
    let program = hook.command.first().map(String::as_str).unwrap_or_default();
    let unreachable = |why: String| DnsError::Unreachable { who: format!("the program {program}"), why };
    let mut command = Command::new(program);
    command.args(hook.command.iter().skip(1)).args([verb(action), &format!("{}.", record.owner), &record.value]);
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = timeout(RUN, command.output())
        .await
        .map_err(|_| unreachable(format!("it has not ended within {} s", RUN.as_secs())))?
        .map_err(|error| unreachable(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    let why = complaint(&output.stderr).map_or_else(String::new, |text| format!(": {text}"));
    Err(DnsError::Refused { who: format!("the program {program}"), why: format!("{}{why}", output.status) })
}

/// The beginning of a text, if there is any.
fn complaint(text: &[u8]) -> Option<String> {
    let text: String = String::from_utf8_lossy(text).trim().chars().take(LONGEST_COMPLAINT).collect();
    (!text.is_empty()).then_some(text)
}
