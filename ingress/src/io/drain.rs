//! Closing a listener without losing a connection.
//!
//! A connection that the kernel has completed but we have not accepted is reset when its listening socket closes. So
//! a listener that shall close first stops taking new ones in the kernel, a filter that drops segments which open a
//! connection, then goes on accepting until those already on their way have arrived. A client whose SYN was dropped
//! sends it again a second later, to whoever listens there then.

use std::io;
use std::time::Duration;

use socket2::{SockFilter, SockRef};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout_at};

/// Time for the last segment of a handshake under way, and of the request behind it, to arrive.
const SETTLE: Duration = Duration::from_millis(100);

/// A classic BPF program over a TCP header: drops segments with SYN and without ACK (RFC 9293 §3.1, byte 13).
const DROP_SYN: [SockFilter; 5] = [
    SockFilter::new(0x30, 0, 0, 13),          // ldb [13]
    SockFilter::new(0x54, 0, 0, 0x12),        // and SYN | ACK
    SockFilter::new(0x15, 0, 1, 0x02),        // jeq SYN, next, skip 1
    SockFilter::new(0x06, 0, 0, 0),           // ret 0: drop
    SockFilter::new(0x06, 0, 0, 0xffff_ffff), // ret all: keep
];

/// Accepts what is left on `listener`, handing each connection to `serve`, then closes it.
pub(super) async fn close(listener: TcpListener, mut serve: impl FnMut(TcpStream, std::net::SocketAddr)) {
    let filtered = SockRef::from(&listener).attach_filter(&DROP_SYN);
    let deadline = if filtered.is_ok() { Instant::now() + SETTLE } else { Instant::now() };
    while let Ok(Ok((stream, peer))) = timeout_at(deadline, listener.accept()).await {
        serve(stream, peer);
    }
    while let Some((stream, peer)) = accept_queued(&listener) {
        serve(stream, peer);
    }
}

/// A connection that is already waiting.
fn accept_queued(listener: &TcpListener) -> Option<(TcpStream, std::net::SocketAddr)> {
    let (socket, peer) = loop {
        match SockRef::from(listener).accept() {
            Ok(accepted) => break accepted,
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(_) => return None,
        }
    };
    socket.set_nonblocking(true).ok()?;
    Some((TcpStream::from_std(socket.into()).ok()?, peer.as_socket()?))
}
