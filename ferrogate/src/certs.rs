//! `ferrogate certs`: asks the admin listener of a running ingress.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::process::ExitCode;

use serde::Deserialize;

use crate::cli::{CertsArgs, CertsCommand};

/// Why nothing could be shown.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CertsError {
    /// Nobody answers.
    #[error("no ingress answers at {admin}: {source}; name its admin listener with --admin")]
    Unreachable {
        /// Where it was asked.
        admin: SocketAddr,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// What answers is no admin listener of this version.
    #[error("what answers at {admin} is no admin listener that we know: {what}")]
    Garbled {
        /// Where it was asked.
        admin: SocketAddr,
        /// What it said.
        what: String,
    },
    /// It says no.
    #[error("{0}")]
    Refused(String),
    /// Nobody asks for that certificate.
    #[error("no Ingress asks for a certificate in Secret {0}; `ferrogate certs list` names those that are ordered")]
    Unknown(String),
}

#[derive(Deserialize)]
struct Certificates {
    managed: Vec<Managed>,
}

/// What is shown of a certificate.
#[derive(Deserialize)]
struct Managed {
    secret: String,
    ingress: String,
    issuer: String,
    hosts: Vec<String>,
    state: String,
    reason: String,
    next_step: Option<String>,
    next_try: Option<String>,
    not_after: Option<String>,
    error: Option<String>,
    failures: u32,
}

/// Does what is asked, and prints the answer.
pub(crate) fn run(args: &CertsArgs) -> Result<ExitCode, CertsError> {
    match args.command.as_ref().unwrap_or(&CertsCommand::List) {
        CertsCommand::List => print!("{}", list(&certificates(args.admin)?)),
        CertsCommand::Why { secret } => {
            let name = secret.to_string();
            let found = certificates(args.admin)?.into_iter().find(|managed| managed.secret == name);
            print!("{}", why(&found.ok_or(CertsError::Unknown(name))?));
        }
        CertsCommand::Renew { secret } => {
            ask(args.admin, "POST", &format!("/api/v1/certificates/{}/{}/renew", secret.namespace, secret.name))?;
            println!("{secret} is being renewed; `ferrogate certs why {secret}` tells how far it is");
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn certificates(admin: SocketAddr) -> Result<Vec<Managed>, CertsError> {
    let body = ask(admin, "GET", "/api/v1/certificates")?;
    let read: Result<Certificates, _> = serde_json::from_str(&body);
    Ok(read.map_err(|error| CertsError::Garbled { admin, what: error.to_string() })?.managed)
}

/// One request; the body of a good answer.
fn ask(admin: SocketAddr, method: &str, path: &str) -> Result<String, CertsError> {
    let answer = crate::ask::ask(admin, method, path).map_err(|source| CertsError::Unreachable { admin, source })?;
    if answer.is_good() {
        return Ok(answer.body);
    }
    Err(answer.fault().map_or(CertsError::Garbled { admin, what: answer.line }, CertsError::Refused))
}

fn list(all: &[Managed]) -> String {
    if all.is_empty() {
        return "no Ingress asks for a certificate\n".to_owned();
    }
    let header = ["SECRET", "STATE", "EXPIRES", "NEXT TRY", "HOSTS"].map(str::to_owned);
    let dash = || "-".to_owned();
    let row = |it: &Managed| {
        let [expires, next] = [&it.not_after, &it.next_try].map(|moment| moment.clone().unwrap_or_else(dash));
        [it.secret.clone(), it.state.clone(), expires, next, it.hosts.join(",")]
    };
    let rows: Vec<[String; 5]> = std::iter::once(header).chain(all.iter().map(row)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..4).map(width).collect();
    let line = |row: &[String; 5]| {
        let mut cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        cells.push(row[4].clone());
        cells.join("  ") + "\n"
    };
    rows.iter().map(line).collect()
}

fn why(it: &Managed) -> String {
    let mut text = format!("{}: {} ({})\n", it.secret, it.state, it.reason);
    let mut line = |name: &str, value: &str| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {name:<10} {value}");
    };
    line("ingress", &it.ingress);
    line("issuer", &it.issuer);
    line("hosts", &it.hosts.join(", "));
    for (name, value) in
        [("expires", &it.not_after), ("next", &it.next_step), ("next try", &it.next_try), ("last error", &it.error)]
    {
        if let Some(value) = value {
            line(name, value);
        }
    }
    if it.failures > 0 {
        line("failures", &format!("{} in a row", it.failures));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn managed() -> Managed {
        let text = r#"{ "secret": "shop/tls", "ingress": "shop/web", "issuer": "ClusterIssuer le",
            "hosts": ["a.example.com", "b.example.com"], "state": "waiting", "reason": "there is no such Secret yet",
            "next_step": null, "next_try": "2026-01-01T00:00:00Z", "not_after": null,
            "error": "a.example.com: 404 (unauthorized)", "failures": 2 }"#;
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn a_list_has_a_line_for_each_certificate_in_columns() {
        assert_eq!(
            list(&[managed()]),
            "SECRET    STATE    EXPIRES  NEXT TRY              HOSTS\n\
             shop/tls  waiting  -        2026-01-01T00:00:00Z  a.example.com,b.example.com\n"
        );
        assert_eq!(list(&[]), "no Ingress asks for a certificate\n");
    }

    #[test]
    fn why_tells_what_the_ca_said() {
        let text = why(&managed());
        assert!(text.starts_with("shop/tls: waiting (there is no such Secret yet)\n"), "{text}");
        assert!(text.contains("last error a.example.com: 404 (unauthorized)") && text.contains("2 in a row"), "{text}");
    }
}
