//! Load of our own, for what `wrk` and `h2load` do not do: a fixed rate, new connections with or without resumption,
//! uploads, connections that are only held.
//!
//! With a rate the loop is *open*: request k is due at `start + k / rate` whatever became of those before, and its
//! latency counts from then. A proxy that stalls cannot make the generator wait politely and so hide the stall.
//! Without a rate the loop is *closed*: every connection asks again as soon as it is answered.

mod engine;
pub mod hold;
mod link;
mod tls;

use std::net::SocketAddr;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

pub use engine::run;

/// What to ask, and how.
#[derive(Clone, Debug, Args)]
pub struct Plan {
    /// The proxy
    #[arg(long)]
    pub target: SocketAddr,
    /// Speak TLS, with the host as server name
    #[arg(long)]
    pub tls: bool,
    /// Hosts to ask for; connection i asks for host i, counted round
    #[arg(long, required = true, value_delimiter = ',')]
    pub hosts: Vec<String>,
    /// Paths to ask for in turn
    #[arg(long, default_value = "/", value_delimiter = ',')]
    pub paths: Vec<String>,
    /// Connections
    #[arg(long, default_value_t = 64)]
    pub connections: usize,
    /// For how many seconds requests are made; those under way are waited for
    #[arg(long, default_value_t = 5.0)]
    pub seconds: f64,
    /// Requests per second, in an open loop
    #[arg(long)]
    pub rate: Option<f64>,
    /// A new connection for every request
    #[arg(long, value_enum)]
    pub fresh: Option<Handshake>,
    /// POST this many bytes
    #[arg(long)]
    pub upload: Option<u64>,
    /// End early, when standard input closes
    #[arg(long)]
    pub until_stdin_closes: bool,
}

impl Plan {
    /// For how long requests are made.
    #[must_use]
    pub fn duration(&self) -> Duration {
        Duration::try_from_secs_f64(self.seconds).unwrap_or(Duration::ZERO)
    }

    /// The bytes of each request's head, by host and path.
    #[must_use]
    pub fn heads(&self) -> Vec<Vec<Vec<u8>>> {
        let heads = |host: &String| self.paths.iter().map(|path| self.head(host, path)).collect();
        self.hosts.iter().map(heads).collect()
    }

    fn head(&self, host: &str, path: &str) -> Vec<u8> {
        let method = if self.upload.is_some() { "POST" } else { "GET" };
        let close = if self.fresh.is_some() { "Connection: close\r\n" } else { "" };
        let length = self.upload.map(|bytes| format!("Content-Length: {bytes}\r\n")).unwrap_or_default();
        format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: bench\r\nAccept: */*\r\n{close}{length}\r\n")
            .into_bytes()
    }
}

/// What a new TLS connection does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Handshake {
    /// A full handshake
    Full,
    /// Resumes by a ticket wherever the proxy gave one
    Resumed,
}

/// What came of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Requests answered with 2xx.
    pub requests: u64,
    /// From the first request to the last answer.
    pub seconds: f64,
    /// Answers of another status.
    pub refused: u64,
    /// Requests that got no answer.
    pub failed: u64,
    /// Requests still unanswered some time after the end.
    pub unfinished: u64,
    /// Connections closed by the proxy while no request was under way.
    pub closed: u64,
    /// TLS handshakes.
    pub handshakes: u64,
    /// Those of them that were resumed.
    pub resumed: u64,
    /// Latency: half of the requests were no slower, in microseconds.
    pub p50: Option<u64>,
    /// 99 %.
    pub p99: Option<u64>,
    /// 99.9 %.
    pub p999: Option<u64>,
    /// The slowest.
    pub slowest: u64,
    /// The first thing that went wrong.
    pub complaint: Option<String>,
}

impl Outcome {
    /// What makes the run worthless, for people; empty if nothing does.
    #[must_use]
    pub fn errors(&self) -> Vec<String> {
        let counts = [(self.refused, "other than 2xx"), (self.failed, "failed"), (self.unfinished, "unfinished")];
        let said = counts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}"));
        said.chain(self.complaint.clone()).collect()
    }

    /// Requests per second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "no run makes 2^52 requests")]
        let requests = self.requests as f64;
        requests / self.seconds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(fresh: Option<Handshake>, upload: Option<u64>) -> Plan {
        Plan {
            target: SocketAddr::from(([127, 0, 0, 1], 1)),
            tls: false,
            hosts: vec!["a.test".to_owned(), "b.test".to_owned()],
            paths: vec!["/".to_owned()],
            connections: 1,
            seconds: 1.0,
            rate: None,
            fresh,
            upload,
            until_stdin_closes: false,
        }
    }

    #[test]
    fn a_head_says_what_the_request_is() {
        for (fresh, upload, expected) in [
            (None, None, "GET / HTTP/1.1\r\nHost: b.test\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n"),
            (
                Some(Handshake::Full),
                Some(7),
                "POST / HTTP/1.1\r\nHost: b.test\r\nUser-Agent: bench\r\nAccept: */*\r\nConnection: close\r\n\
                 Content-Length: 7\r\n\r\n",
            ),
        ] {
            let heads = plan(fresh, upload).heads();
            assert_eq!(String::from_utf8_lossy(&heads[1][0]), expected);
        }
    }

    #[test]
    fn only_a_run_without_failures_has_no_errors() {
        let clean = Outcome { requests: 5, closed: 3, ..Outcome::default() };
        assert!(clean.errors().is_empty());
        let refused = Outcome { refused: 2, unfinished: 1, complaint: Some("502".to_owned()), ..clean };
        assert_eq!(refused.errors(), ["2 other than 2xx", "1 unfinished", "502"]);
    }
}
