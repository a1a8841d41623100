//! Where an HTTP/1.1 response ends.
//!
//! For a load generator: bodies are counted and not kept, and only framing by `Content-Length` is understood, since
//! that is what the upstream of this benchmark sends; anything else is a fault worth reporting.

/// What a response turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Whether the server will close the connection.
    pub close: bool,
}

/// Why bytes are not a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResponseError {
    /// The head is not HTTP/1.1, or longer than 16 KiB.
    #[error("the response head is malformed")]
    Head,
    /// The body is not framed by a length.
    #[error("the response has no Content-Length")]
    Framing,
    /// More bytes than the response has.
    #[error("the response is longer than it said")]
    Excess,
}

/// The longest head that is read.
const MAX_HEAD: usize = 16 * 1024;

/// Reads one response after another.
#[derive(Clone, Debug, Default)]
pub struct Reader {
    head: Vec<u8>,
    body: Option<(Answer, u64)>,
}

impl Reader {
    /// Takes bytes as they came; the answer, once it is complete.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Option<Answer>, ResponseError> {
        let Some((answer, left)) = self.body else { return self.feed_head(bytes) };
        let left = left.checked_sub(bytes.len() as u64).ok_or(ResponseError::Excess)?;
        self.body = (left > 0).then_some((answer, left));
        Ok((left == 0).then_some(answer))
    }

    /// Whether part of a response has come.
    #[must_use]
    pub const fn started(&self) -> bool {
        self.body.is_some() || !self.head.is_empty()
    }

    fn feed_head(&mut self, bytes: &[u8]) -> Result<Option<Answer>, ResponseError> {
        self.head.extend_from_slice(bytes);
        let Some(end) = self.head.windows(4).position(|four| four == b"\r\n\r\n") else {
            return if self.head.len() > MAX_HEAD { Err(ResponseError::Head) } else { Ok(None) };
        };
        let (answer, length) = parse_head(&self.head[..end])?;
        let rest = (self.head.len() - end - 4) as u64;
        self.head.clear();
        let left = length.checked_sub(rest).ok_or(ResponseError::Excess)?;
        self.body = (left > 0).then_some((answer, left));
        Ok((left == 0).then_some(answer))
    }
}

/// Status, whether the connection closes, and the body's length.
fn parse_head(head: &[u8]) -> Result<(Answer, u64), ResponseError> {
    let head = std::str::from_utf8(head).map_err(|_| ResponseError::Head)?;
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok());
    let status = status.ok_or(ResponseError::Head)?;
    let (mut close, mut length) = (false, None);
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().ok();
        } else if name.eq_ignore_ascii_case("connection") {
            close = value.trim().eq_ignore_ascii_case("close");
        }
    }
    Ok((Answer { status, close }, length.ok_or(ResponseError::Framing)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";

    #[test]
    fn a_response_is_found_however_its_bytes_are_cut() {
        for cut in 0..OK.len() {
            let mut reader = Reader::default();
            for _ in 0..2 {
                assert_eq!(reader.feed(&OK[..cut]), Ok(None), "{cut}");
                assert_eq!(reader.started(), cut > 0);
                assert_eq!(reader.feed(&OK[cut..]), Ok(Some(Answer { status: 200, close: false })), "{cut}");
                assert!(!reader.started());
            }
        }
    }

    #[test]
    fn what_cannot_be_framed_is_an_error() {
        for (bytes, expected) in [
            (&b"HTTP/1.1 200 OK\r\n\r\n"[..], ResponseError::Framing),
            (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", ResponseError::Framing),
            (b"HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n", ResponseError::Head),
            (b"SSH-2.0\r\n\r\n", ResponseError::Head),
            (b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nab", ResponseError::Excess),
        ] {
            assert_eq!(Reader::default().feed(bytes), Err(expected), "{}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn a_close_is_noticed() {
        let head = b"HTTP/1.1 502 Bad Gateway\r\nConnection: Close\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(Reader::default().feed(head), Ok(Some(Answer { status: 502, close: true })));
    }
}
