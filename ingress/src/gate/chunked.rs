//! The strict grammar of a body in chunks (RFC 9112 §7.1), checked byte by byte as the body streams through.
//!
//! ```text
//! 1*16HEXDIG [extension] CR LF  data  CR LF   ...   "0" [extension] CR LF  trailers  CR LF
//! ```
//!
//! The framework's decoder takes an empty size for 0 and a bare LF for a line end; what passes here, every decoder
//! reads alike. Extensions and trailers are checked and bounded; dropping them is up to whoever decodes.

use super::GateError;
use super::field::is_token;

/// Digits of a chunk size; 16 hold every `u64`.
const MAX_DIGITS: u8 = 16;
/// Bytes of extension in one chunk.
const MAX_EXTENSION: u32 = 256;
/// Bytes of extension in one body.
const MAX_EXTENSIONS: u32 = 16 << 10;
/// Bytes of trailers.
const MAX_TRAILERS: u32 = 8 << 10;

/// Why a chunked body was refused; the connection cannot be used any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's message says what it is")]
pub enum ChunkError {
    #[error("a chunk size is not 1 to 16 hexadecimal digits")]
    Size,
    #[error("a chunk extension holds a control character")]
    Extension,
    #[error("chunk extensions are too long")]
    ExtensionLong,
    #[error("a line of the chunked body ends in something other than CR LF")]
    LineEnd,
    #[error("a trailer is not a header field")]
    Trailer,
    #[error("trailers are too long")]
    TrailersLong,
}

/// Where in the grammar the next byte stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Size { digits: u8, value: u64 },
    Extension { value: u64, used: u32 },
    SizeLf { value: u64 },
    Data { left: u64 },
    DataCr,
    DataLf,
    LineStart,
    TrailerName,
    TrailerValue,
    TrailerLf,
    LastLf,
    Done,
}

/// Checks a body while it passes.
#[derive(Clone, Debug)]
pub struct Checker {
    state: State,
    extensions: u32,
    trailers: u32,
    data: u64,
}

impl Default for Checker {
    fn default() -> Self {
        Self { state: START, extensions: 0, trailers: 0, data: 0 }
    }
}

const START: State = State::Size { digits: 0, value: 0 };

impl Checker {
    /// Takes the next bytes; says how many of them belong to the body, fewer than given only once it is complete.
    pub fn take(&mut self, bytes: &[u8]) -> Result<usize, ChunkError> {
        let mut at = 0;
        while at < bytes.len() && self.state != State::Done {
            if let State::Data { left } = self.state {
                let step = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len() - at);
                at += step;
                let left = left - step as u64;
                self.data += step as u64;
                self.state = if left == 0 { State::DataCr } else { State::Data { left } };
            } else {
                self.state = self.next(bytes[at])?;
                at += 1;
            }
        }
        Ok(at)
    }

    /// Whether the body is complete.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.state == State::Done
    }

    /// Bytes of content so far, without the framing.
    #[must_use]
    pub const fn content_len(&self) -> u64 {
        self.data
    }

    fn next(&mut self, byte: u8) -> Result<State, ChunkError> {
        match (self.state, byte) {
            (State::Size { digits, value }, _) if byte.is_ascii_hexdigit() => {
                let digit = char::from(byte).to_digit(16).ok_or(ChunkError::Size)?;
                if digits == MAX_DIGITS {
                    Err(ChunkError::Size)
                } else {
                    Ok(State::Size { digits: digits + 1, value: value << 4 | u64::from(digit) })
                }
            }
            (State::Size { digits: 0, .. }, _) => Err(ChunkError::Size),
            (State::Size { value, .. } | State::Extension { value, .. }, b'\r') => Ok(State::SizeLf { value }),
            // No space before the semicolon: RFC 9112 lets a recipient skip it, and sizes with trailing space are a
            // known disagreement.
            (State::Size { value, .. }, b';') => self.extension(value, 0),
            (State::Size { .. }, _) => Err(ChunkError::Size),
            (State::Extension { value, used }, b'\t' | b' '..=b'~' | 0x80..) => self.extension(value, used),
            (State::SizeLf { value: 0 } | State::TrailerLf, b'\n') => Ok(State::LineStart),
            (State::SizeLf { value }, b'\n') => Ok(State::Data { left: value }),
            (State::DataCr, b'\r') => Ok(State::DataLf),
            (State::DataLf, b'\n') => Ok(START),
            (State::LineStart, b'\r') => Ok(State::LastLf),
            (State::LastLf, b'\n') => Ok(State::Done),
            (State::LineStart, b':') => Err(ChunkError::Trailer),
            (State::LineStart | State::TrailerName, _) => self.trailer_name(byte),
            (State::TrailerValue, b'\r') => Ok(State::TrailerLf),
            (State::TrailerValue, b'\t' | b' '..=b'~' | 0x80..) => self.trailer(State::TrailerValue),
            (State::Extension { .. } | State::TrailerValue, b'\n') => Err(ChunkError::LineEnd),
            (State::TrailerValue, _) => Err(ChunkError::Trailer),
            (State::Extension { .. }, _) => Err(ChunkError::Extension),
            (State::SizeLf { .. } | State::DataCr | State::DataLf | State::LastLf | State::TrailerLf, _) => {
                Err(ChunkError::LineEnd)
            }
            // `take` steps over data and stops when done.
            (state @ (State::Data { .. } | State::Done), _) => Ok(state),
        }
    }

    fn extension(&mut self, value: u64, used: u32) -> Result<State, ChunkError> {
        self.extensions += 1;
        if used >= MAX_EXTENSION || self.extensions > MAX_EXTENSIONS {
            return Err(ChunkError::ExtensionLong);
        }
        Ok(State::Extension { value, used: used + 1 })
    }

    fn trailer_name(&mut self, byte: u8) -> Result<State, ChunkError> {
        match byte {
            b':' => self.trailer(State::TrailerValue),
            _ if is_token(&[byte]) => self.trailer(State::TrailerName),
            _ => Err(ChunkError::Trailer),
        }
    }

    fn trailer(&mut self, next: State) -> Result<State, ChunkError> {
        self.trailers += 1;
        if self.trailers > MAX_TRAILERS { Err(ChunkError::TrailersLong) } else { Ok(next) }
    }
}

impl From<ChunkError> for u16 {
    /// The status that tells the client.
    fn from(error: ChunkError) -> Self {
        match error {
            ChunkError::TrailersLong => GateError::HeadLong.status(),
            _ => 400,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(body: &[u8]) -> Result<(usize, bool), ChunkError> {
        let mut checker = Checker::default();
        checker.take(body).map(|taken| (taken, checker.is_complete()))
    }

    #[test]
    fn a_body_in_chunks_is_read_to_its_end() {
        for body in [
            &b"0\r\n\r\n"[..],
            b"5\r\nhello\r\n0\r\n\r\n",
            b"5;a=b\r\nhello\r\nA\r\n0123456789\r\n000\r\n\r\n",
            b"0\r\nX-Sum: 1\r\nY:\r\n\r\n",
        ] {
            let next = [body, b"GET / HTTP/1.1"].concat();
            assert_eq!(check(&next), Ok((body.len(), true)), "{}", body.escape_ascii());
            assert_eq!(check(&body[..body.len() - 1]), Ok((body.len() - 1, false)), "{}", body.escape_ascii());
        }
    }

    #[test]
    fn what_decoders_disagree_about_is_refused() {
        for (body, error) in [
            (&b"\r\n\r\n"[..], ChunkError::Size),
            (b";a\r\n", ChunkError::Size),
            (b"5 \r\nhello", ChunkError::Size),
            (b" 5\r\nhello", ChunkError::Size),
            (b"+5\r\nhello", ChunkError::Size),
            (b"0x5\r\nhello", ChunkError::Size),
            (b"5_0\r\n", ChunkError::Size),
            (b"00000000000000005\r\nhello", ChunkError::Size),
            (b"5\nhello", ChunkError::Size),
            (b"5\rhello", ChunkError::LineEnd),
            (b"5;a\nhello", ChunkError::LineEnd),
            (b"5;a\0\r\nhello", ChunkError::Extension),
            (b"5\r\nhello0\r\n", ChunkError::LineEnd),
            (b"5\r\nhello\n0\r\n", ChunkError::LineEnd),
            (b"0\r\n\n", ChunkError::Trailer),
            (b"0\r\nbad name: x\r\n", ChunkError::Trailer),
            (b"0\r\n folded\r\n", ChunkError::Trailer),
            (b"0\r\n: x\r\n", ChunkError::Trailer),
            (b"0\r\na: x\n\r\n", ChunkError::LineEnd),
        ] {
            assert_eq!(check(body), Err(error), "{}", body.escape_ascii());
        }
        assert_eq!(check(format!("1;{}\r\n", "x".repeat(300)).as_bytes()), Err(ChunkError::ExtensionLong));
        assert_eq!(check("1;xxxxxxxx\r\na\r\n".repeat(4000).as_bytes()), Err(ChunkError::ExtensionLong));
        assert_eq!(check(format!("0\r\na: {}\r\n", "x".repeat(9000)).as_bytes()), Err(ChunkError::TrailersLong));
    }

    proptest! {
        #[test]
        fn how_a_body_is_cut_into_reads_makes_no_difference(
            body in "([0-9a-f]{1,2}(;x=y)?\r\n[a-z]{0,5}\r?\n?){0,4}(0\r\n(a: b\r\n)?\r\n)?.?",
            cut in 0_usize..64,
        ) {
            let body = body.as_bytes();
            let (first, second) = body.split_at(cut.min(body.len()));
            let mut checker = Checker::default();
            let pieces = checker.take(first).and_then(|one| checker.take(second).map(|two| (one + two, checker.is_complete())));
            prop_assert_eq!(pieces, check(body));
        }

        #[test]
        fn no_bytes_make_it_panic(body: Vec<u8>) {
            let _ = check(&body);
        }
    }
}
