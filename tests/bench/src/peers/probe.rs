//! One request on a connection of its own, to see what a peer does now.
#![expect(clippy::disallowed_methods, reason = "a benchmark measures time")]

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// How long one request may take.
const LIMIT: Duration = Duration::from_secs(10);

/// What came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The status.
    pub status: u16,
    /// The endpoint that answered.
    pub endpoint: Option<IpAddr>,
}

/// Asks for `/` of a host.
pub fn ask(address: SocketAddr, host: &str) -> io::Result<Seen> {
    let mut stream = TcpStream::connect_timeout(&address, LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    // In one piece: the second of two would wait for the acknowledgement of the first.
    let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    parse(&String::from_utf8_lossy(&answer)).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn parse(answer: &str) -> Option<Seen> {
    let head = answer.split("\r\n\r\n").next()?;
    let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    let fields = head.lines().filter_map(|line| line.split_once(": "));
    let endpoint = fields.filter(|(name, _)| name.eq_ignore_ascii_case("x-endpoint")).find_map(|it| it.1.parse().ok());
    Some(Seen { status, endpoint })
}

/// Time gone by.
#[derive(Clone, Copy, Debug)]
pub struct Watch(Instant);

impl Watch {
    /// Starts now.
    #[must_use]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Since then.
    #[must_use]
    pub fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_tells_which_endpoint_gave_it() {
        let seen =
            parse("HTTP/1.1 200 OK\r\nserver: x\r\nx-endpoint: 127.96.0.1\r\n\r\nX-Endpoint: 127.0.0.9").unwrap();
        assert_eq!((seen.status, seen.endpoint), (200, Some(IpAddr::from([127, 96, 0, 1]))));
        assert_eq!(parse("HTTP/1.1 503 No\r\n\r\n"), Some(Seen { status: 503, endpoint: None }));
        assert_eq!(parse(""), None);
    }
}
