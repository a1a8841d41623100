//! TCP connections to endpoints.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncWriteExt, copy_bidirectional_with_sizes};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::Keeper;
use super::active::{Active, Clock};
use crate::balance::{Draw, Wish, choose};
use crate::endpoints::{Harm, InFlight};
use crate::io::drain;
use crate::io::proxied::{self, HeaderError};
use crate::proxy_protocol::{Header, write};
use crate::streams::{Carrier, Stream};

/// Endpoints that are asked for one connection at most.
const TRIES: usize = 3;
/// Bytes that are held for each direction.
const BUFFER: usize = 16 * 1024;

/// Why a connection came to nothing.
#[derive(Debug, thiserror::Error)]
enum StreamError {
    #[error(transparent)]
    Header(#[from] HeaderError),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("no endpoint accepts a connection")]
    NoEndpoint,
}

/// Accepts connections until told to stop, then waits for those under way.
pub(super) async fn accept(keeper: Arc<Keeper>, port: u16, listener: TcpListener, stop: CancellationToken) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => drop(connections.spawn(serve(Arc::clone(&keeper), port, stream, peer))),
                // As for want of file descriptors.
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(10)).await,
            },
        }
    }
    drain::close(listener, |stream, peer| drop(connections.spawn(serve(Arc::clone(&keeper), port, stream, peer))))
        .await;
    while connections.join_next().await.is_some() {}
}

async fn serve(keeper: Arc<Keeper>, port: u16, client: TcpStream, peer: SocketAddr) {
    let Some(stream) = keeper.stream(Carrier::Tcp, port) else { return };
    // Connections break all the time; that an endpoint does is counted.
    if let Err(StreamError::NoEndpoint) = carry(&keeper, &stream, client, peer).await {
        keeper.metrics.upstream_error("stream");
    }
}

async fn carry(keeper: &Keeper, stream: &Stream, mut client: TcpStream, peer: SocketAddr) -> Result<(), StreamError> {
    let (mut source, mut destination) = (peer, client.local_addr()?);
    if stream.decode {
        let front = keeper.front();
        let patience = front.global.trust.proxy_protocol.unwrap_or(keeper.timeouts.connect);
        if let Header::Proxied { source: told, destination: asked } = proxied::read(&mut client, patience).await?
            && front.global.trust.is_proxy(peer.ip())
        {
            (source, destination) = (told, asked);
        }
    }
    let (mut endpoint, _in_flight) = connect(keeper, stream).await?;
    if stream.encode {
        endpoint.write_all(write(source, destination).as_bytes()).await?;
    }
    let clock = Clock::start();
    let (mut client, mut endpoint) =
        (Active { stream: client, clock: &clock }, Active { stream: endpoint, clock: &clock });
    tokio::select! {
        copied = copy_bidirectional_with_sizes(&mut client, &mut endpoint, BUFFER, BUFFER) => drop(copied?),
        () = clock.idle(keeper.timeouts.stream) => {}
    }
    Ok(())
}

/// Connects to an endpoint that accepts, counted as in use while the guard lives.
async fn connect(keeper: &Keeper, stream: &Stream) -> Result<(TcpStream, InFlight), StreamError> {
    let mut tried = Vec::new();
    while tried.len() < TRIES {
        let draw = Draw { random: fastrand::u64(..), now: keeper.now() };
        let Some(endpoint) = choose(&stream.endpoints, &Wish::FREE, draw, &tried) else { break };
        let guard = endpoint.load.enter();
        if let Ok(Ok(connection)) = timeout(keeper.timeouts.connect, TcpStream::connect(endpoint.addr)).await {
            // Nothing that is sent waits for more; if the system refuses that, it is merely slower.
            let _ = connection.set_nodelay(true);
            endpoint.load.answered(keeper.now(), None);
            return Ok((connection, guard));
        }
        endpoint.load.failed(keeper.now(), Harm::Refused);
        tried.push(endpoint.addr);
    }
    Err(StreamError::NoEndpoint)
}
