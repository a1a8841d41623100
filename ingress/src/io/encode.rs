//! Compresses the body of an answer on its way.
//!
//! Whatever came from the endpoint is sent on at once, as nginx does with buffering off: every piece is flushed, so
//! that a stream of events stays one. What an encoder holds is bounded by its window.

use std::fmt;
use std::io::{self, Write};

use brotli::CompressorWriter;
use bytes::Bytes;
use config::global::{Codec, Coding};
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_LENGTH, ETAG, HeaderValue, TRANSFER_ENCODING, VARY};
use pingora_core::Result;
use pingora_http::ResponseHeader;
use zstd::stream::write::Encoder as ZstdEncoder;

use crate::compress::weakened;

/// Window of brotli: 2^19 bytes, as ingress-nginx has it.
const WINDOW: u32 = 19;
/// Bytes that brotli collects before it writes.
const BUFFER: usize = 4096;

/// An encoder under way.
pub(super) enum Encoder {
    Gzip(GzEncoder<Vec<u8>>),
    Brotli(Box<CompressorWriter<Vec<u8>>>),
    Zstd(ZstdEncoder<'static, Vec<u8>>),
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gzip(_) => "gzip",
            Self::Brotli(_) => "br",
            Self::Zstd(_) => "zstd",
        })
    }
}

impl Encoder {
    pub(super) fn new(codec: &Codec) -> io::Result<Self> {
        Ok(match codec.coding {
            Coding::Gzip => Self::Gzip(GzEncoder::new(Vec::new(), Compression::new(codec.level))),
            Coding::Brotli => Self::Brotli(Box::new(CompressorWriter::new(Vec::new(), BUFFER, codec.level, WINDOW))),
            Coding::Zstd => {
                let level = i32::try_from(codec.level).unwrap_or(zstd::DEFAULT_COMPRESSION_LEVEL);
                Self::Zstd(ZstdEncoder::new(Vec::new(), level)?)
            }
        })
    }

    /// What `piece` comes to, with what was held before.
    pub(super) fn push(&mut self, piece: &[u8]) -> io::Result<Bytes> {
        let out = match self {
            Self::Gzip(encoder) => {
                encoder.write_all(piece)?;
                encoder.flush()?;
                encoder.get_mut()
            }
            Self::Brotli(encoder) => {
                encoder.write_all(piece)?;
                encoder.flush()?;
                encoder.get_mut()
            }
            Self::Zstd(encoder) => {
                encoder.write_all(piece)?;
                encoder.flush()?;
                encoder.get_mut()
            }
        };
        Ok(std::mem::take(out).into())
    }

    /// What is left to send.
    pub(super) fn finish(self) -> io::Result<Bytes> {
        let out = match self {
            Self::Gzip(encoder) => encoder.finish()?,
            Self::Brotli(encoder) => encoder.into_inner(),
            Self::Zstd(encoder) => encoder.finish()?,
        };
        Ok(out.into())
    }
}

/// Says that an answer depends on what its client takes.
pub(super) fn vary(answer: &mut ResponseHeader) -> Result<()> {
    let says = |field: &HeaderValue| {
        let mut names = field.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        names.any(|name| name == b"*" || name.eq_ignore_ascii_case(b"accept-encoding"))
    };
    if answer.headers.get_all(VARY).iter().any(says) {
        return Ok(());
    }
    answer.append_header(VARY, "Accept-Encoding").map(|_| ())
}

/// Says that an answer is encoded; its length is not known beforehand.
pub(super) fn announce(answer: &mut ResponseHeader, coding: Coding) -> Result<()> {
    vary(answer)?;
    answer.insert_header(CONTENT_ENCODING, coding.as_str())?;
    answer.remove_header(&CONTENT_LENGTH);
    answer.remove_header(&ACCEPT_RANGES);
    answer.insert_header(TRANSFER_ENCODING, "chunked")?;
    if let Some(tag) = answer.headers.get(ETAG).cloned() {
        match weakened(&tag) {
            Some(weak) => answer.insert_header(ETAG, weak)?,
            None => drop(answer.remove_header(&ETAG)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn decoded(coding: Coding, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        match coding {
            Coding::Gzip => flate2::read::GzDecoder::new(bytes).read_to_end(&mut out),
            Coding::Brotli => brotli::Decompressor::new(bytes, BUFFER).read_to_end(&mut out),
            Coding::Zstd => zstd::stream::read::Decoder::new(bytes).and_then(|mut it| it.read_to_end(&mut out)),
        }
        .unwrap();
        out
    }

    proptest::proptest! {
        #[test]
        fn what_was_encoded_piece_by_piece_is_what_comes_out(
            pieces in proptest::collection::vec(proptest::collection::vec(proptest::num::u8::ANY, 0..500), 0..6),
        ) {
            for coding in [Coding::Gzip, Coding::Brotli, Coding::Zstd] {
                let mut encoder = Encoder::new(&Codec { coding, level: 3, least: 0, types: Vec::new() }).unwrap();
                let mut sent = Vec::new();
                for piece in &pieces {
                    sent.extend(encoder.push(piece).unwrap());
                }
                sent.extend(encoder.finish().unwrap());
                proptest::prop_assert_eq!(decoded(coding, &sent), pieces.concat(), "{:?}", coding);
            }
        }
    }

    #[test]
    fn a_piece_can_be_read_before_the_next_one_comes() {
        for coding in [Coding::Gzip, Coding::Brotli, Coding::Zstd] {
            let mut encoder = Encoder::new(&Codec { coding, level: 3, least: 0, types: Vec::new() }).unwrap();
            let first = encoder.push(b"data: one\n\n").unwrap();
            let mut out = vec![0; 11];
            let read = match coding {
                Coding::Gzip => flate2::read::GzDecoder::new(&first[..]).read_exact(&mut out),
                Coding::Brotli => brotli::Decompressor::new(&first[..], BUFFER).read_exact(&mut out),
                Coding::Zstd => zstd::stream::read::Decoder::new(&first[..]).and_then(|mut it| it.read_exact(&mut out)),
            };
            assert!(read.is_ok() && out == b"data: one\n\n", "{coding:?}");
        }
    }
}
