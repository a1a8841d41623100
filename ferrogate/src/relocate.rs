//! `ferrogate move`: has the address of a Service announced from another node, without breaking its connections.
//!
//! Any node may be asked; the speakers tell each other. The move lasts until it is taken back (`--auto`), or until all
//! speakers have been down at once; for one that stays, annotate the Service with `ferrogate.io/preferred-node`.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use config::object::ObjectName;
use serde_json::Value;

use crate::ask::{Answer, ask};
use crate::cli::parse_name;

/// How long a node may take to have it: one that has just started takes nothing for ten seconds.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often it is asked whether it has it.
const PAUSE: Duration = Duration::from_millis(50);

/// `ferrogate move`.
#[derive(Debug, Args)]
pub(crate) struct MoveArgs {
    /// What to move: an address, or a Service as NAMESPACE/NAME for all its addresses
    #[arg(value_name = "VIP", value_parser = parse_target)]
    pub(crate) target: Target,
    /// The node that shall announce it
    #[arg(value_name = "NODE", required_unless_present = "auto", value_parser = parse_node)]
    pub(crate) node: Option<String>,
    /// Take an earlier move back: the node announces it that comes first by itself
    #[arg(long, conflicts_with = "node")]
    pub(crate) auto: bool,
    /// Admin address of the instance to ask, of any node
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9100", env = "FERROGATE_ADMIN")]
    pub(crate) admin: SocketAddr,
}

/// What is to be moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// One address.
    Address(IpAddr),
    /// All addresses of a Service.
    Service(ObjectName),
}

/// Why nothing is moved.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MoveError {
    /// Nobody is there, or nobody who answers.
    #[error("cannot ask the speaker at {admin}; is it running, and is this its --admin address?")]
    Unreachable {
        /// Where.
        admin: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Somebody else is there.
    #[error("what answers at {admin} does not know this request ({answer}); is it Ferrogate of this version?")]
    Strange {
        /// Where.
        admin: SocketAddr,
        /// What it said first.
        answer: String,
    },
    /// It says no.
    #[error("{0}")]
    Refused(String),
    /// There is no such Service.
    #[error("no Service {0} has an address; `kubectl get services -A` or /api/v1/vips list those that do")]
    NoService(ObjectName),
    /// The node does not take it.
    #[error("node {node} has not taken {target} within {} s, though it is to; `ferrogate why` on that node may tell why", PATIENCE.as_secs())]
    NotTaken {
        /// The node.
        node: String,
        /// What it was to take.
        target: String,
    },
}

fn parse_target(text: &str) -> Result<Target, String> {
    if let Ok(ip) = text.parse() {
        return Ok(Target::Address(ip));
    }
    parse_name(text).map(Target::Service).map_err(|_| "write an address, or a Service as NAMESPACE/NAME".to_owned())
}

/// The name of a node goes into a request, so it is one.
fn parse_node(text: &str) -> Result<String, String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let is_name = !text.is_empty() && text.bytes().all(fits);
    if is_name { Ok(text.to_owned()) } else { Err("a node's name has letters, digits, dots and dashes".to_owned()) }
}

/// Asks for the move, and waits for it.
pub(crate) fn run(args: &MoveArgs) -> Result<ExitCode, MoveError> {
    let begun = now();
    let entry = find(&args.target, &vips(args.admin)?);
    let ips = match &args.target {
        Target::Address(ip) => vec![*ip],
        Target::Service(name) => addresses(entry.as_ref().ok_or_else(|| MoveError::NoService(name.clone()))?),
    };
    for ip in &ips {
        let query = args.node.as_ref().map(|node| format!("?node={node}")).unwrap_or_default();
        good(args.admin, "POST", &format!("/api/v1/vips/{ip}/move{query}"))?;
    }
    let target = ips.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ");
    let Some(node) = &args.node else {
        println!("{target} goes where it belongs by itself");
        return Ok(ExitCode::SUCCESS);
    };
    // The list tells of a Service as a whole.
    if entry.as_ref().is_some_and(|entry| addresses(entry).len() != ips.len()) {
        println!("{target} is to be announced from node {node}");
        return Ok(ExitCode::SUCCESS);
    }
    while begun.elapsed() < PATIENCE {
        let entry = find(&args.target, &vips(args.admin)?);
        if entry.is_some_and(|entry| entry["node"].as_str() == Some(node)) {
            println!("{target} is announced from node {node} ({:.1} s)", begun.elapsed().as_secs_f64());
            return Ok(ExitCode::SUCCESS);
        }
        std::thread::sleep(PAUSE);
    }
    Err(MoveError::NotTaken { node: node.clone(), target })
}

#[expect(clippy::disallowed_methods, reason = "an operator waits for it")]
fn now() -> Instant {
    Instant::now()
}

fn good(admin: SocketAddr, method: &str, path: &str) -> Result<Answer, MoveError> {
    let answer = ask(admin, method, path).map_err(|source| MoveError::Unreachable { admin, source })?;
    if answer.is_good() {
        return Ok(answer);
    }
    Err(answer.fault().map_or(MoveError::Strange { admin, answer: answer.line }, MoveError::Refused))
}

fn vips(admin: SocketAddr) -> Result<Vec<Value>, MoveError> {
    let answer = good(admin, "GET", "/api/v1/vips")?;
    let list = serde_json::from_str(&answer.body).ok().and_then(|mut body: Value| match body["vips"].take() {
        Value::Array(vips) => Some(vips),
        _ => None,
    });
    list.ok_or(MoveError::Strange { admin, answer: answer.line })
}

/// The Service that is meant, or that has the address that is.
fn find(target: &Target, vips: &[Value]) -> Option<Value> {
    let is_it = |entry: &&Value| match target {
        Target::Address(ip) => addresses(entry).contains(ip),
        Target::Service(name) => {
            entry["namespace"] == *name.namespace && entry["service"] == *name.name && !addresses(entry).is_empty()
        }
    };
    vips.iter().find(is_it).cloned()
}

fn addresses(entry: &Value) -> Vec<IpAddr> {
    let ips = entry["ips"].as_array().into_iter().flatten();
    ips.filter_map(|ip| ip.as_str()?.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_address_and_a_service_are_told_apart() {
        assert_eq!(parse_target("2001:db8::1"), Ok(Target::Address("2001:db8::1".parse().unwrap())));
        assert_eq!(parse_target("shop/web"), Ok(Target::Service(ObjectName::new("shop", "web"))));
        assert!(parse_target("web").is_err());
    }

    #[test]
    fn a_node_is_a_name_and_nothing_that_a_request_would_take_for_more() {
        assert!(parse_node("node-1.example").is_ok());
        for wrong in ["", "a b", "a&node=b", "a/b", "a\r\nHost: b"] {
            assert!(parse_node(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn what_is_meant_is_found_by_either_name() {
        let vips = [
            json!({"namespace": "shop", "service": "web", "ips": ["192.0.2.1", "2001:db8::1"]}),
            json!({"namespace": "shop", "service": "new", "ips": []}),
        ];
        for (target, expected) in
            [("192.0.2.1", true), ("2001:db8::1", true), ("shop/web", true), ("shop/new", false), ("192.0.2.9", false)]
        {
            assert_eq!(find(&parse_target(target).unwrap(), &vips).is_some(), expected, "{target}");
        }
    }
}
