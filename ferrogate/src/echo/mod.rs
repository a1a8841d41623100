//! A page that tells who served it and what was asked, so that a route can be tried without an application.
//!
//! `ferrogate echo` serves it on given addresses; `run --with-echo` on every loopback endpoint that the manifests
//! name ([`follow`]). It takes any method and any body; asked for a WebSocket, it sends every message back.

pub(crate) mod follow;
mod page;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::connect_info::Connected;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade, rejection::WebSocketUpgradeRejection};
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, Request, header};
use axum::response::{IntoResponse, Response};
use axum::serve::IncomingStream;
use futures_util::StreamExt as _;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::info;

use self::page::{Asked, BODY_SHOWN};
use crate::cli::EchoArgs;
use crate::defaults;
use crate::parts::{PartError, Parts};
use crate::shutdown::Signals;

/// Why pages cannot be served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EchoError {
    /// A listener could not be opened.
    #[error("cannot listen on {address}; stop what listens there, or choose another address with --listen")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Signals could not be taken over.
    #[error("cannot listen to signals")]
    Signals(#[source] io::Error),
    /// A server ended.
    #[error(transparent)]
    Part(#[from] PartError),
}

/// `ferrogate echo`: serves pages on every address given, until a signal.
pub(crate) async fn run(args: EchoArgs) -> Result<(), EchoError> {
    let shutdown = CancellationToken::new();
    tokio::spawn(Signals::listen().map_err(EchoError::Signals)?.run(shutdown.clone()));
    let node = defaults::node_name(args.node_name.as_deref());
    let mut parts = Parts::default();
    for address in args.listen {
        let bound = TcpListener::bind(address).await.and_then(|listener| Ok((listener.local_addr()?, listener)));
        let (address, listener) = bound.map_err(|source| EchoError::Listen { address, source })?;
        info!("echo listens on http://{address}/");
        parts.spawn("echo", serve(listener, Arc::clone(&node), shutdown.clone()));
    }
    Ok(parts.finished(shutdown, Duration::from_secs(1)).await?)
}

/// Serves pages on `listener` until `shutdown`, then finishes what runs.
pub(crate) async fn serve(listener: TcpListener, node: Arc<str>, shutdown: CancellationToken) -> io::Result<()> {
    let app = Router::new().fallback(answer).with_state(node).into_make_service_with_connect_info::<Accepted>();
    axum::serve(listener, app).with_graceful_shutdown(shutdown.cancelled_owned()).await
}

/// The address a connection was accepted on.
#[derive(Clone, Copy, Debug)]
struct Accepted(Option<SocketAddr>);

impl Connected<IncomingStream<'_, TcpListener>> for Accepted {
    fn connect_info(stream: IncomingStream<'_, TcpListener>) -> Self {
        Self(stream.io().local_addr().ok())
    }
}

async fn answer(
    State(node): State<Arc<str>>,
    ConnectInfo(Accepted(address)): ConnectInfo<Accepted>,
    socket: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
    request: Request<Body>,
) -> Response {
    if let Ok(socket) = socket {
        return socket.on_upgrade(send_back);
    }
    let (parts, body) = request.into_parts();
    let (length, body) = match read(body).await {
        Ok(read) => read,
        Err(error) => {
            return (axum::http::StatusCode::BAD_REQUEST, format!("the body broke off: {error}\n")).into_response();
        }
    };
    let asked = Asked { node: &node, address, parts: &parts, length, body: &body };
    if wants_html(&parts.headers) {
        ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], page::html(&asked)).into_response()
    } else {
        ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], page::text(&asked)).into_response()
    }
}

/// Reads a whole body; returns its length and its beginning.
async fn read(body: Body) -> Result<(u64, Vec<u8>), axum::Error> {
    let (mut length, mut beginning) = (0, Vec::new());
    let mut chunks = body.into_data_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk?;
        length += chunk.len() as u64;
        let room = BODY_SHOWN.saturating_sub(beginning.len());
        beginning.extend_from_slice(&chunk[..chunk.len().min(room)]);
    }
    Ok((length, beginning))
}

/// Sends every message back until the other side is done.
async fn send_back(mut socket: WebSocket) {
    while let Some(Ok(message)) = socket.recv().await {
        let echoed = match message {
            Message::Text(_) | Message::Binary(_) => socket.send(message).await,
            // Pings and closes are answered beneath us.
            Message::Ping(_) | Message::Pong(_) | Message::Close(_) => continue,
        };
        if echoed.is_err() {
            return;
        }
    }
}

fn wants_html(headers: &HeaderMap) -> bool {
    headers
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .is_some_and(|accept| accept.contains("text/html"))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    use super::*;

    async fn connected() -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, "n1".into(), CancellationToken::new()));
        TcpStream::connect(address).await.unwrap()
    }

    async fn exchange(stream: &mut TcpStream, request: &str, until: &str) -> String {
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !String::from_utf8_lossy(&answer).contains(until) {
            assert!(stream.read_buf(&mut answer).await.unwrap() > 0, "{}", String::from_utf8_lossy(&answer));
        }
        String::from_utf8_lossy(&answer).into_owned()
    }

    #[tokio::test]
    async fn any_method_and_body_is_answered_on_one_connection() {
        let mut stream = connected().await;
        let brew = "BREW /pot HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\ntea\r\n0\r\n\r\n";
        assert!(exchange(&mut stream, brew, "tea\n").await.contains("BREW /pot HTTP/1.1"));
        let page = exchange(&mut stream, "GET / HTTP/1.1\r\nHost: a\r\nAccept: text/html\r\n\r\n", "</html>").await;
        assert!(page.contains("text/html") && page.contains("on n1</h1>"));
    }

    #[tokio::test]
    async fn a_websocket_sends_messages_back() {
        let mut stream = connected().await;
        let upgrade = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                       Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        // The accept value of RFC 6455 §1.3.
        let head = exchange(&mut stream, upgrade, "\r\n\r\n").await;
        assert!(head.contains("101 Switching Protocols") && head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
        // RFC 6455 §5.2: a text frame of two bytes, masked with zeros, which leaves the text readable.
        stream.write_all(b"\x81\x82\0\0\0\0hi").await.unwrap();
        let mut frame = [0; 4];
        stream.read_exact(&mut frame).await.unwrap();
        assert_eq!(&frame, b"\x81\x02hi");
    }
}
