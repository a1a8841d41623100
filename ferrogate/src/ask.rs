//! One request to the admin listener of a running instance, for commands that ask or tell it something.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long the instance may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest answer that is read.
const LONGEST: u64 = 64 << 20;

/// What it answered.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The status, 0 for what is no HTTP.
    pub(crate) status: u16,
    /// The first line.
    pub(crate) line: String,
    /// What follows the head.
    pub(crate) body: String,
}

impl Answer {
    /// Whether it did what it was asked.
    pub(crate) fn is_good(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Its reason for not doing so, in its own words.
    pub(crate) fn fault(&self) -> Option<String> {
        let fault: serde_json::Value = serde_json::from_str(&self.body).ok()?;
        Some(fault["error"].as_str()?.to_owned())
    }
}

/// Asks the instance at `admin`.
pub(crate) fn ask(admin: SocketAddr, method: &str, path: &str) -> io::Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&admin, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write!(stream, "{method} {path} HTTP/1.0\r\nHost: {admin}\r\nContent-Length: 0\r\n\r\n")?;
    let mut bytes = Vec::new();
    stream.take(LONGEST).read_to_end(&mut bytes)?;
    Ok(read(&String::from_utf8_lossy(&bytes)))
}

fn read(answer: &str) -> Answer {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
    let line = head.lines().next().unwrap_or_default();
    let status = line.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)?.parse().ok());
    Answer { status: status.unwrap_or_default(), line: line.to_owned(), body: body.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_and_garbage_is_none() {
        let answer = read("HTTP/1.0 409 Conflict\r\nA: b\r\n\r\n{\"error\":\"no\"}");
        assert_eq!((answer.status, answer.is_good(), answer.fault().as_deref()), (409, false, Some("no")));
        assert!(read("HTTP/1.1 202 Accepted\r\n\r\n").is_good());
        for garbage in ["", "SSH-2.0-x", "HTTP/1.1", "HTTP/1.1 \u{e9}\u{e9}", "\r\n\r\n"] {
            let answer = read(garbage);
            assert_eq!((answer.status, answer.fault()), (0, None), "{garbage:?}");
        }
    }
}
