//! A client connection, as Pingora sees it.
//!
//! Pingora takes a stream away and may give it back, or drop it on any error. So it gets a [`Conn`], a loan: when that
//! is dropped, the [`Wire`] goes [`Home`], where the gate loop picks it up and decides whether it lives on.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use async_trait::async_trait;
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_core::protocols::tls::SslDigest;
use pingora_core::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TimingDigest, UniqueID,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::wire::{BodyFault, Wire};

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

    /// Requests so far on this connection.
    pub(super) fn served(&self) -> usize {
        self.wire().served()
    }

    /// What the client did wrong while sending a body.
    pub(super) fn fault(&self) -> Option<BodyFault> {
        self.wire().fault()
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
        self.wire().is_raw()
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
        self.wire().fd()
    }
}

impl Ssl for Conn {
    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        self.wire().tls_digest().cloned()
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        Some(if self.wire().is_raw() { ALPN::H2 } else { ALPN::H1 })
    }
}

impl GetTimingDigest for Conn {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl GetProxyDigest for Conn {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.wire().luggage().cloned()
    }
}

impl GetSocketDigest for Conn {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        Some(Arc::clone(self.wire().socket()))
    }
}

impl Peek for Conn {}
