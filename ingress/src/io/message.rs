//! Where a request ends.
//!
//! The gate decides once how a body is framed; from then on every byte read from the client is shown to
//! [`Message::admit`], which says how many of them belong to the request. A chunked body is checked on the way by our
//! own strict decoder, so what Pingora decodes again holds no surprise.

use crate::gate::Framing;
use crate::gate::chunked::{Checker, ChunkError};

/// What is left of the request under way.
#[derive(Debug)]
pub(super) enum Message {
    /// Nothing: the next byte belongs to another request.
    Ended,
    /// So many bytes.
    Length(u64),
    /// Chunks, up to and including the last and its trailers.
    Chunked(Box<Checker>),
}

impl Message {
    /// The body that is framed so.
    pub(super) fn new(framing: Framing) -> Self {
        match framing {
            Framing::None | Framing::Length(0) => Self::Ended,
            Framing::Length(length) => Self::Length(length),
            Framing::Chunked => Self::Chunked(Box::default()),
        }
    }

    /// Whether nothing is left.
    pub(super) const fn is_ended(&self) -> bool {
        matches!(self, Self::Ended)
    }

    /// How many of the next `bytes` belong to the request: all, unless it ends among them.
    pub(super) fn admit(&mut self, bytes: &[u8]) -> Result<usize, ChunkError> {
        match self {
            Self::Ended => Ok(0),
            Self::Length(left) => {
                let len = usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
                *left -= len as u64;
                if *left == 0 {
                    *self = Self::Ended;
                }
                Ok(len)
            }
            Self::Chunked(checker) => {
                let len = checker.take(bytes)?;
                if checker.is_complete() {
                    *self = Self::Ended;
                }
                Ok(len)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shows `bytes` in pieces of `size`; how many were admitted in all.
    fn admit(framing: Framing, bytes: &[u8], size: usize) -> Result<(usize, bool), ChunkError> {
        let mut message = Message::new(framing);
        let mut admitted = 0;
        for piece in bytes.chunks(size) {
            let len = message.admit(piece)?;
            admitted += len;
            if len < piece.len() {
                break;
            }
        }
        Ok((admitted, message.is_ended()))
    }

    #[test]
    fn a_request_ends_at_the_same_byte_however_it_is_cut() {
        let chunked = b"3;x=y\r\nabc\r\n0\r\n\r\n";
        let next = b"GET / HTTP/1.1\r\n";
        for size in 1..40 {
            let bytes = [&chunked[..], next].concat();
            assert_eq!(admit(Framing::Chunked, &bytes, size).unwrap(), (chunked.len(), true), "{size}");
            assert_eq!(admit(Framing::Length(5), &bytes, size).unwrap(), (5, true), "{size}");
            assert_eq!(admit(Framing::Length(100), &bytes, size).unwrap(), (bytes.len(), false), "{size}");
            assert_eq!(admit(Framing::None, &bytes, size).unwrap(), (0, true), "{size}");
        }
    }

    #[test]
    fn a_bad_chunk_is_refused_however_it_is_cut() {
        for body in ["3\nabc\r\n0\r\n\r\n", "3\r\nabcX\r\n", "\r\n", "3 \r\nabc\r\n", "0x3\r\nabc\r\n"] {
            for size in 1..body.len() {
                assert!(admit(Framing::Chunked, body.as_bytes(), size).is_err(), "{body:?} by {size}");
            }
        }
    }
}
