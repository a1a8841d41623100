//! A TCP connection whose first bytes can be had again, for a handshake that may turn out to be for somebody else.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// What a hello may have at most; rustls itself takes 64 KiB.
const LONGEST: usize = 128 * 1024;

/// A connection, and what was read from it as long as that mattered.
#[derive(Debug)]
pub(super) struct Tapped {
    stream: TcpStream,
    tape: Option<Vec<u8>>,
}

impl Tapped {
    /// Nothing is kept.
    pub(super) const fn plain(stream: TcpStream) -> Self {
        Self { stream, tape: None }
    }

    /// What is read is kept until [`Self::forget`] or [`Self::rewind`].
    pub(super) const fn recording(stream: TcpStream) -> Self {
        Self { stream, tape: Some(Vec::new()) }
    }

    /// Keeps nothing any more.
    pub(super) fn forget(&mut self) {
        self.tape = None;
    }

    /// The connection, and what was read from it.
    pub(super) fn rewind(self) -> (TcpStream, Vec<u8>) {
        (self.stream, self.tape.unwrap_or_default())
    }

    /// The connection.
    pub(super) const fn tcp(&self) -> &TcpStream {
        &self.stream
    }
}

impl AsyncRead for Tapped {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { stream, tape } = &mut *self;
        let start = buf.filled().len();
        ready!(Pin::new(stream).poll_read(cx, buf))?;
        if let Some(tape) = tape {
            tape.extend_from_slice(&buf.filled()[start..]);
            if tape.len() > LONGEST {
                return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tapped {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
