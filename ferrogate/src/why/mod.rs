//! `ferrogate why`: asks a running instance why a Service is not reached, and says it in words.
//!
//! What is said: [`steps`], which the admin API serves; this asks it and prints the answer.

pub(crate) mod steps;

use std::fmt::Write as _;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use config::object::ObjectName;
use serde_json::Value;

use crate::cli::{Output, parse_name};

/// How long the instance may take.
const LIMIT: Duration = Duration::from_secs(5);

/// `ferrogate why`.
#[derive(Debug, Args)]
pub(crate) struct WhyArgs {
    /// What to explain: svc
    #[arg(value_enum, value_name = "KIND", hide_possible_values = true)]
    pub(crate) kind: Kind,
    /// Which one, as NAMESPACE/NAME
    #[arg(value_name = "NS/NAME", value_parser = parse_name)]
    pub(crate) name: ObjectName,
    /// Admin address of the instance to ask
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9100", env = "FERROGATE_ADMIN")]
    pub(crate) admin: SocketAddr,
    /// Form of the answer: text or json
    #[arg(long, value_enum, default_value_t = Output::Text, value_name = "FORM", env = "FERROGATE_OUTPUT", hide_possible_values = true)]
    pub(crate) output: Output,
}

/// What can be explained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// A Service of type `LoadBalancer`.
    #[value(alias = "service")]
    Svc,
}

/// Why nothing can be said.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WhyError {
    /// Nobody is there, or nobody who answers.
    #[error("cannot ask the instance at {admin}; is it running, and is this its --admin address?")]
    Unreachable {
        /// Where.
        admin: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Somebody else is there.
    #[error("what answers at {admin} does not know this question ({answer}); is it Ferrogate of this version?")]
    Strange {
        /// Where.
        admin: SocketAddr,
        /// What it said first.
        answer: String,
    },
}

/// Asks and prints: 0 when nothing is wrong, 1 when something is.
pub(crate) fn run(args: &WhyArgs) -> Result<ExitCode, WhyError> {
    let Kind::Svc = args.kind;
    let admin = args.admin;
    let path = format!("/api/v1/why/svc/{}/{}", args.name.namespace, args.name.name);
    let answer = get(admin, &path).map_err(|source| WhyError::Unreachable { admin, source })?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let first = || head.lines().next().unwrap_or_default().to_owned();
    let why: Value = serde_json::from_str(body).map_err(|_| WhyError::Strange { admin, answer: first() })?;
    let Some(healthy) = why["healthy"].as_bool() else { return Err(WhyError::Strange { admin, answer: first() }) };
    let text = match args.output {
        Output::Text => text(&why),
        Output::Json => format!("{why:#}\n"),
    };
    // A reader that went away learns it from the status.
    let _ = io::stdout().lock().write_all(text.as_bytes());
    Ok(if healthy { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// One GET; the whole answer.
fn get(admin: SocketAddr, path: &str) -> io::Result<String> {
    send(admin, &format!("GET {path}"), "")
}

/// One request, such as `GET /x`; the whole answer.
pub(crate) fn send(admin: SocketAddr, asked: &str, body: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&admin, LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    let head = format!("{asked} HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n{length}\r\n{body}");
    stream.write_all(head.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// The answer for a terminal: a line for each step.
fn text(why: &Value) -> String {
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut out = format!("Service {}\n", word(&why["service"]));
    for step in why["steps"].as_array().into_iter().flatten() {
        let state = match step["state"].as_str() {
            Some("wrong") => "WRONG".to_owned(),
            other => other.unwrap_or_default().to_owned(),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(out, "  {state:<8}{:<10}{}", word(&step["step"]), word(&step["text"]));
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_step_is_a_line_and_what_is_wrong_catches_the_eye() {
        let why = json!({"service": "a/b", "healthy": false, "steps": [
            {"step": "assign", "state": "ok", "text": "192.0.2.1"},
            {"step": "announce", "state": "wrong", "text": "eth0 is down"},
        ]});
        assert_eq!(text(&why), "Service a/b\n  ok      assign    192.0.2.1\n  WRONG   announce  eth0 is down\n");
    }
}
