//! One client connection, as Pingora sees it.
//!
//! Towards Pingora a [`Conn`] is a stream that ends, for as long as a request is under way, exactly where the request
//! ends: what follows stays here for the next round of the gate, so Pingora never parses a byte that was not checked
//! ([`super::message`] knows where a request ends). Dropping the `Conn` gives the connection itself, the [`Wire`],
//! back to [`super::gate_loop`], which decides whether it lives on.
//!
//! Small writes are collected, so that head and body leave in one system call, and go out when Pingora flushes or is
//! about to wait for the client. Nothing is buffered while a connection idles: reads go through a buffer of the
//! thread, writes through one that lives as long as there is something in it.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Buf, BytesMut};
use pingora_core::protocols::l4::socket::SocketAddr as PeerAddr;
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_core::protocols::tls::SslDigest;
use pingora_core::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TimingDigest, UniqueID,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};
use tokio_rustls::server::TlsStream;

use super::MIN_BODY_RATE;
use super::message::Message;
use crate::gate::chunked::ChunkError;

/// Writes up to this size are collected.
const COALESCE: usize = 16 * 1024;
/// How much is read from a client at once while no request body is expected.
const SCRATCH: usize = 16 * 1024;

thread_local! {
    /// Where bytes land before it is known how many they are; one per worker instead of one per connection.
    static READ_SCRATCH: RefCell<Box<[u8; SCRATCH]>> = RefCell::new(Box::new([0; SCRATCH]));
}

/// The transport below.
#[derive(Debug)]
enum Transport {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
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
    pub(super) fn tls(stream: TlsStream<TcpStream>, peer: PeerAddr, local: PeerAddr, limits: Limits) -> Self {
        let (tcp, session) = stream.get_ref();
        let fd = std::os::fd::AsRawFd::as_raw_fd(tcp);
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

    /// Read and not yet handed on: what the gate looks at.
    pub(super) fn pending(&self) -> &[u8] {
        &self.pending
    }

    /// Takes the request head of `len` bytes that the gate has admitted, to be followed by `body`. Fails if what is
    /// there of the body is wrong already.
    pub(super) fn begin(&mut self, len: usize, body: Message) -> Result<BytesMut, BodyFault> {
        let head = self.pending.split_to(len);
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
    fn open_tunnel(&self) {
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
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
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

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
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
    fn poll_write_vectored(&mut self, cx: &mut Context<'_>, parts: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
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

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        let flushed = self.transport.poll_flush(cx);
        self.keep_moving(cx, flushed)
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
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

/// What Pingora may ask about the socket, without a system call.
fn socket_digest(fd: i32, peer: PeerAddr, local: PeerAddr) -> Arc<SocketDigest> {
    let digest = SocketDigest::from_raw_fd(fd);
    // Both cells are new, so setting them cannot fail.
    let _ = digest.peer_addr.set(Some(peer));
    let _ = digest.local_addr.set(Some(local));
    Arc::new(digest)
}

impl Transport {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => match ready!(Pin::new(stream).poll_read(cx, buf)) {
                // Ending without close_notify is what browsers do; where a body ends is never told by it.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Ok(())),
                result => Poll::Ready(result),
            },
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(&mut self, cx: &mut Context<'_>, both: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, both),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, both),
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// How fast a body comes in, counting only the time spent waiting for it.
#[derive(Debug, Default)]
struct Pace {
    waiting_since: Option<Instant>,
    waited: Duration,
    bytes: u64,
}

impl Pace {
    /// There is nothing to read yet.
    fn wait(&mut self) {
        self.waiting_since.get_or_insert_with(Instant::now);
    }

    /// Counts `bytes` that came; whether a window full of waiting brought too few.
    fn is_too_slow(&mut self, bytes: usize, window: Duration) -> bool {
        self.bytes += bytes as u64;
        if let Some(since) = self.waiting_since.take() {
            self.waited += since.elapsed();
        }
        if self.waited < window {
            return false;
        }
        let owed = MIN_BODY_RATE.saturating_mul(u64::try_from(self.waited.as_millis()).unwrap_or(u64::MAX)) / 1000;
        let is_too_slow = self.bytes < owed;
        *self = Self::default();
        is_too_slow
    }
}

/// Where a [`Wire`] is put when Pingora is done with it.
#[derive(Debug, Default)]
pub(super) struct Home(Mutex<Option<Box<Wire>>>);

impl Home {
    /// Lends `wire` to Pingora.
    pub(super) fn lend(self: &Arc<Self>, wire: Box<Wire>) -> Conn {
        Conn { wire: Some(wire), home: Arc::clone(self) }
    }

    /// Takes back what was lent, once the [`Conn`] is dropped.
    pub(super) fn take(&self) -> Option<Box<Wire>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// A [`Wire`] lent to Pingora.
#[derive(Debug)]
pub(super) struct Conn {
    /// `None` only while being dropped.
    wire: Option<Box<Wire>>,
    home: Arc<Home>,
}

impl Conn {
    fn wire(&self) -> &Wire {
        self.wire.as_deref().expect("a connection has its wire until it is dropped")
    }

    fn wire_mut(&mut self) -> &mut Wire {
        self.wire.as_deref_mut().expect("a connection has its wire until it is dropped")
    }

    /// Lets all bytes pass: the endpoint accepted an upgrade.
    pub(super) fn open_tunnel(&self) {
        self.wire().open_tunnel();
    }

    /// What the client did wrong while sending a body.
    pub(super) fn fault(&self) -> Option<BodyFault> {
        self.wire().fault
    }
}

impl Drop for Conn {
    fn drop(&mut self) {
        *self.home.0.lock().unwrap_or_else(PoisonError::into_inner) = self.wire.take();
    }
}

impl AsyncRead for Conn {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.wire_mut().poll_read(cx, buf)
    }
}

impl AsyncWrite for Conn {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.wire_mut().poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.wire_mut().poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.wire().is_raw
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.wire_mut().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.wire_mut().poll_shutdown(cx)
    }
}

#[async_trait]
impl Shutdown for Conn {
    /// Only sends what is left; the gate loop closes, and takes its time for it.
    async fn shutdown(&mut self) {
        // If the client is gone, the gate loop finds out as well.
        let _ = std::future::poll_fn(|cx| self.wire_mut().poll_flush(cx)).await;
    }
}

impl UniqueID for Conn {
    fn id(&self) -> i32 {
        self.wire().fd
    }
}

impl Ssl for Conn {
    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        self.wire().tls.clone()
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        Some(if self.wire().is_raw { ALPN::H2 } else { ALPN::H1 })
    }
}

impl GetTimingDigest for Conn {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl GetProxyDigest for Conn {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}

impl GetSocketDigest for Conn {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        Some(Arc::clone(&self.wire().socket))
    }
}

impl Peek for Conn {}
