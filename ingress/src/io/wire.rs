//! One client connection: what was read and not handed on, what was written and not sent.
//!
//! Between requests the gate reads from it. During a request it is lent to Pingora ([`super::conn`]) as a stream that
//! ends exactly where the request ends ([`super::message`]): what follows stays here for the next round of the gate,
//! so Pingora never parses a byte that was not checked.
//!
//! Small writes are collected, so that head and body leave in one system call, and go out when Pingora flushes or is
//! about to wait for the client. Nothing is buffered while a connection idles: reads go through a buffer of the
//! thread, writes through one that lives as long as there is something in it.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use pingora_core::protocols::SocketDigest;
use pingora_core::protocols::l4::socket::SocketAddr as PeerAddr;
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_core::protocols::tls::SslDigest;
use pingora_http::ResponseHeader;
use tokio::io::ReadBuf;
use tokio::net::TcpStream;
use tokio::time::Sleep;
use tokio_rustls::server::TlsStream;

use super::MIN_BODY_RATE;
use super::message::Message;
use super::pace::Pace;
use super::proxied::Proxied;
use super::tapped::Tapped;
use super::transport::Transport;
use crate::client::Visitor;
use crate::gate::chunked::ChunkError;

/// Writes up to this size are collected.
const COALESCE: usize = 16 * 1024;
/// How much is read from a client at once while no request body is expected.
const SCRATCH: usize = 16 * 1024;

thread_local! {
    /// Where bytes land before it is known how many they are; one per worker instead of one per connection.
    static READ_SCRATCH: RefCell<Box<[u8; SCRATCH]>> = RefCell::new(Box::new([0; SCRATCH]));
}

/// What a client did wrong while sending a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BodyFault {
    /// A chunk is malformed.
    #[error("the chunked body is malformed: {0}")]
    Chunk(#[from] ChunkError),
    /// Too few bytes in too much time.
    #[error("the body came in slower than {MIN_BODY_RATE} bytes a second")]
    Slow,
}

/// A connection and all that is known of it; see the module.
#[derive(Debug)]
pub(super) struct Wire {
    transport: Transport,
    socket: Arc<SocketDigest>,
    fd: i32,
    tls: Option<Arc<SslDigest>>,
    /// What Pingora hands on unread.
    luggage: Option<Arc<ProxyDigest>>,
    /// Requests so far, but for HTTP/2.
    served: usize,
    limits: Limits,
    /// Read and not yet handed on.
    pending: BytesMut,
    /// How many bytes at the front of [`Self::pending`] belong to the request under way.
    admitted: usize,
    message: Message,
    /// Bytes pass as they are: HTTP/2.
    is_raw: bool,
    /// Bytes pass as they are, since an upgrade was accepted; set through a shared reference.
    is_tunnel: AtomicBool,
    fault: Option<BodyFault>,
    pace: Pace,
    /// Written by Pingora and not yet by us.
    out: Vec<u8>,
    /// Runs while the client does not take what is written.
    stalled: Option<Pin<Box<Sleep>>>,
}

/// What is known of a client beside its connection.
#[derive(Debug)]
pub(super) struct Luggage {
    /// Who it is by its certificate, where it was asked for one.
    pub(super) visitor: Option<Visitor>,
    /// Who opened the connection, if a PROXY header said whose it is.
    pub(super) proxied: Option<Proxied>,
}

/// The deadlines that the connection itself keeps.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// For the client to take what is written to it.
    pub(super) send: Duration,
    /// See [`super::Timeouts::body_window`].
    pub(super) body_window: Duration,
}

impl Wire {
    /// Wraps a cleartext connection from `peer`, accepted on `local`.
    pub(super) fn tcp(stream: TcpStream, peer: PeerAddr, local: PeerAddr, limits: Limits) -> Self {
        let fd = std::os::fd::AsRawFd::as_raw_fd(&stream);
        Self::new(Transport::Tcp(stream), fd, None, socket_digest(fd, peer, local), limits)
    }

    /// Wraps a TLS connection after its handshake.
    pub(super) fn tls(stream: TlsStream<Tapped>, peer: PeerAddr, local: PeerAddr, limits: Limits) -> Self {
        let (tapped, session) = stream.get_ref();
        let fd = std::os::fd::AsRawFd::as_raw_fd(tapped.tcp());
        let cipher = session.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str()).unwrap_or_default();
        let version = session.protocol_version().and_then(|version| version.as_str()).unwrap_or_default();
        let digest = Arc::new(SslDigest::new(cipher, version, None, None, Vec::new()));
        Self::new(Transport::Tls(Box::new(stream)), fd, Some(digest), socket_digest(fd, peer, local), limits)
    }

    fn new(
        transport: Transport,
        fd: i32,
        tls: Option<Arc<SslDigest>>,
        socket: Arc<SocketDigest>,
        limits: Limits,
    ) -> Self {
        Self {
            transport,
            socket,
            fd,
            tls,
            luggage: None,
            served: 0,
            limits,
            pending: BytesMut::new(),
            admitted: 0,
            message: Message::Ended,
            is_raw: false,
            is_tunnel: AtomicBool::new(false),
            fault: None,
            pace: Pace::default(),
            out: Vec::new(),
            stalled: None,
        }
    }

    /// Whether the client chose HTTP/2 during its handshake.
    pub(super) fn is_h2(&self) -> bool {
        match &self.transport {
            Transport::Tcp(_) => false,
            Transport::Tls(stream) => stream.get_ref().1.alpn_protocol() == Some(b"h2"),
        }
    }

    /// The socket's descriptor.
    pub(super) const fn fd(&self) -> i32 {
        self.fd
    }

    /// What Pingora may know of the socket.
    pub(super) const fn socket(&self) -> &Arc<SocketDigest> {
        &self.socket
    }

    /// What was agreed on in the handshake; `None` in cleartext.
    pub(super) const fn tls_digest(&self) -> Option<&Arc<SslDigest>> {
        self.tls.as_ref()
    }

    /// Remembers what is known of the client.
    pub(super) fn set_luggage(&mut self, known: Luggage) {
        self.luggage = luggage(known);
    }

    /// What is known of the client: a [`Luggage`].
    pub(super) const fn luggage(&self) -> Option<&Arc<ProxyDigest>> {
        self.luggage.as_ref()
    }

    /// Requests so far, but for HTTP/2.
    pub(super) const fn served(&self) -> usize {
        self.served
    }

    /// Whether it was handed on for HTTP/2.
    pub(super) const fn is_raw(&self) -> bool {
        self.is_raw
    }

    /// What the client did wrong while sending a body.
    pub(super) const fn fault(&self) -> Option<BodyFault> {
        self.fault
    }

    /// Read and not yet handed on: what the gate looks at.
    pub(super) fn pending(&self) -> &[u8] {
        &self.pending
    }

    /// Drops the first `len` bytes of what is pending.
    pub(super) fn skip(&mut self, len: usize) {
        self.pending.advance(len);
    }

    /// Takes the request head of `len` bytes that the gate has admitted, to be followed by `body`. Fails if what is
    /// there of the body is wrong already.
    pub(super) fn begin(&mut self, len: usize, body: Message) -> Result<BytesMut, BodyFault> {
        let head = self.pending.split_to(len);
        self.served += 1;
        self.message = body;
        self.pace = Pace::default();
        self.admitted = self.message.admit(&self.pending)?;
        Ok(head)
    }

    /// Lets all bytes pass from here on.
    pub(super) fn make_raw(&mut self) {
        self.is_raw = true;
    }

    /// Lets all bytes pass: the endpoint accepted an upgrade.
    pub(super) fn open_tunnel(&self) {
        self.is_tunnel.store(true, Ordering::Relaxed);
    }

    /// Whether the next byte is the first of another request.
    pub(super) fn is_between_requests(&self) -> bool {
        self.message.is_ended() && self.admitted == 0 && !self.is_transparent()
    }

    /// Whether bytes pass as they are.
    fn is_transparent(&self) -> bool {
        self.is_raw || self.is_tunnel.load(Ordering::Relaxed)
    }

    /// Frees what an idle connection does not need.
    pub(super) fn release_buffers(&mut self) {
        if self.pending.is_empty() {
            self.pending = BytesMut::new();
        }
        if self.out.is_empty() {
            self.out = Vec::new();
        }
    }

    /// Reads more into [`Self::pending`]; 0 at the end of the stream.
    pub(super) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        READ_SCRATCH.with_borrow_mut(|scratch| {
            let mut buf = ReadBuf::new(&mut scratch[..]);
            ready!(self.transport.poll_read(cx, &mut buf))?;
            self.pending.extend_from_slice(buf.filled());
            Poll::Ready(Ok(buf.filled().len()))
        })
    }

    /// Writes `bytes` out at once.
    pub(super) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.extend_from_slice(bytes);
        std::future::poll_fn(|cx| self.poll_flush(cx)).await
    }

    /// Says goodbye so that the client gets all that was written: closes our direction and, if the client is still
    /// sending, takes that for a while, since closing on unread bytes would reset the connection.
    pub(super) async fn close(mut self: Box<Self>, patience: Duration) {
        /// What is taken at most.
        const LIMIT: usize = 4 * 1024 * 1024;
        let farewell = async {
            std::future::poll_fn(|cx| self.poll_shutdown(cx)).await?;
            if self.is_between_requests() && self.pending.is_empty() {
                return Ok(());
            }
            let mut taken = 0;
            while taken < LIMIT {
                self.pending.clear();
                match std::future::poll_fn(|cx| self.poll_fill(cx)).await? {
                    0 => break,
                    bytes => taken += bytes,
                }
            }
            io::Result::Ok(())
        };
        // Whether the client listened does not matter to anybody any more.
        let _ = tokio::time::timeout(patience, farewell).await;
    }

    /// The request's bytes, up to its end.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        // Whoever reads is about to wait, so nothing written may stay behind.
        if !self.out.is_empty()
            && let Poll::Ready(Err(error)) = self.poll_drain(cx)
        {
            return Poll::Ready(Err(error));
        }
        if self.is_transparent() {
            return self.poll_raw(cx, buf);
        }
        if self.admitted > 0 {
            let len = self.admitted.min(buf.remaining());
            buf.put_slice(&self.pending[..len]);
            self.pending.advance(len);
            self.admitted -= len;
            return Poll::Ready(Ok(()));
        }
        if self.message.is_ended() { self.poll_idle(cx) } else { self.poll_body(cx, buf) }
    }

    /// Passes bytes as they are.
    fn poll_raw(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.pending.is_empty() {
            return self.transport.poll_read(cx, buf);
        }
        let len = self.pending.len().min(buf.remaining());
        buf.put_slice(&self.pending[..len]);
        self.pending.advance(len);
        Poll::Ready(Ok(()))
    }

    /// After the request: nothing more to give. Ready, with nothing, only when the client is gone.
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.pending.is_empty() && ready!(self.poll_fill(cx))? == 0 {
            return Poll::Ready(Ok(()));
        }
        // The next request waits for its turn; whoever wrote our answer will ask again.
        Poll::Pending
    }

    /// Reads straight into Pingora's buffer, and takes back what is not part of the body.
    fn poll_body(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let start = buf.filled().len();
        match self.transport.poll_read(cx, buf) {
            Poll::Ready(result) => result?,
            Poll::Pending => {
                self.pace.wait();
                return Poll::Pending;
            }
        }
        let read = &buf.filled()[start..];
        let len = read.len();
        let admitted = self.message.admit(read).map_err(|error| self.fail(error.into()))?;
        self.pending.extend_from_slice(&buf.filled()[start + admitted..]);
        buf.set_filled(start + admitted);
        if self.pace.is_too_slow(len, self.limits.body_window) {
            return Poll::Ready(Err(self.fail(BodyFault::Slow)));
        }
        Poll::Ready(Ok(()))
    }

    /// Remembers what went wrong, for whoever answers.
    fn fail(&mut self, fault: BodyFault) -> io::Error {
        self.fault = Some(fault);
        io::Error::new(io::ErrorKind::InvalidData, fault)
    }

    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.is_raw {
            let written = self.transport.poll_write(cx, bytes);
            return self.keep_moving(cx, written);
        }
        if self.out.len() + bytes.len() <= COALESCE {
            self.out.extend_from_slice(bytes);
            return Poll::Ready(Ok(bytes.len()));
        }
        loop {
            if self.out.is_empty() {
                let written = self.transport.poll_write(cx, bytes);
                return self.keep_moving(cx, written);
            }
            let both = [io::IoSlice::new(&self.out), io::IoSlice::new(bytes)];
            let written = self.transport.poll_write_vectored(cx, &both);
            let written = ready!(self.keep_moving(cx, written))?;
            let held = self.out.len();
            self.out.drain(..written.min(held));
            if written > held {
                return Poll::Ready(Ok(written - held));
            }
        }
    }

    /// As [`Self::poll_write`], from several places; HTTP/2 writes the head of a frame and its payload so.
    pub(super) fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.is_raw {
            let written = self.transport.poll_write_vectored(cx, parts);
            return self.keep_moving(cx, written);
        }
        let first = parts.iter().find(|part| !part.is_empty()).map_or(&[][..], |part| part);
        self.poll_write(cx, first)
    }

    /// Writes what was collected.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.out.is_empty() {
            let written = self.transport.poll_write(cx, &self.out);
            match ready!(self.keep_moving(cx, written))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written if written == self.out.len() => self.out.clear(),
                written => drop(self.out.drain(..written)),
            }
        }
        Poll::Ready(Ok(()))
    }

    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        let flushed = self.transport.poll_flush(cx);
        self.keep_moving(cx, flushed)
    }

    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        let closed = self.transport.poll_shutdown(cx);
        self.keep_moving(cx, closed)
    }

    /// Turns a write that has been waiting for too long into an error.
    fn keep_moving<T>(&mut self, cx: &mut Context<'_>, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.stalled = None;
            return result;
        }
        let limit = self.limits.send;
        let alarm = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        ready!(alarm.as_mut().poll(cx));
        self.stalled = None;
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not take what is sent to it")))
    }
}

/// Pingora hands on what a proxy in front may have said, and looks at none of it; so this carries what we know.
fn luggage(known: Luggage) -> Option<Arc<ProxyDigest>> {
    let nothing = ResponseHeader::build(200, Some(0)).ok()?;
    Some(Arc::new(ProxyDigest::new(Box::new(nothing), Some(Box::new(known)))))
}

/// What Pingora may ask about the socket, without a system call.
fn socket_digest(fd: i32, peer: PeerAddr, local: PeerAddr) -> Arc<SocketDigest> {
    let digest = SocketDigest::from_raw_fd(fd);
    // Both cells are new, so setting them cannot fail.
    let _ = digest.peer_addr.set(Some(peer));
    let _ = digest.local_addr.set(Some(local));
    Arc::new(digest)
}
