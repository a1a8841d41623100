//! TLS that is not ours to end (`ssl-passthrough`): the bytes of a connection go to an endpoint and back.

use std::io;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::time::{Instant, timeout};

use crate::balance::{Draw, Tie, Wish, choose};
use crate::endpoints::{Endpoints, Harm, InFlight};

/// Bytes under way in one direction.
const BUFFER: usize = 16 * 1024;
/// Endpoints that are tried.
const TRIES: usize = 3;

/// Passes on a connection whose client has already said `begun`, until both sides are done or quiet for `idle`.
pub(super) async fn pass(
    mut client: TcpStream,
    begun: &[u8],
    endpoints: &Endpoints,
    now: u64,
    connect: Duration,
    idle: Duration,
) -> io::Result<()> {
    let (mut endpoint, _in_flight) = reach(endpoints, now, connect).await?;
    endpoint.set_nodelay(true)?;
    endpoint.write_all(begun).await?;
    let last = Mutex::new(Instant::now());
    let (from_client, to_client) = client.split();
    let (from_endpoint, to_endpoint) = endpoint.split();
    let up = pump(from_client, to_endpoint, &last, idle);
    let down = pump(from_endpoint, to_client, &last, idle);
    tokio::try_join!(up, down).map(|_| ())
}

/// A connection to an endpoint; one that does not accept it is told on, and another asked.
async fn reach(endpoints: &Endpoints, now: u64, connect: Duration) -> io::Result<(TcpStream, InFlight)> {
    let wish = Wish { tie: Tie::Free, method: config::annotation::Method::default() };
    let mut tried: Vec<SocketAddr> = Vec::new();
    while tried.len() < TRIES {
        let draw = Draw { random: fastrand::u64(..), now };
        let Some(endpoint) = choose(endpoints, &wish, draw, &tried) else { break };
        let in_flight = endpoint.load.enter();
        if let Ok(Ok(stream)) = timeout(connect, TcpStream::connect(endpoint.addr)).await {
            endpoint.load.answered(now, None);
            return Ok((stream, in_flight));
        }
        endpoint.load.failed(now, Harm::Refused);
        tried.push(endpoint.addr);
    }
    Err(io::ErrorKind::ConnectionRefused.into())
}

/// Passes on one direction and its end. `last` is when a byte passed in either.
async fn pump(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, last: &Mutex<Instant>, idle: Duration) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let quiet = || last.lock().unwrap_or_else(PoisonError::into_inner).elapsed();
        let read = match timeout(idle.saturating_sub(quiet()), from.read(&mut buffer)).await {
            Ok(read) => read?,
            Err(_) if quiet() < idle => continue,
            Err(_) => return Err(io::ErrorKind::TimedOut.into()),
        };
        if read == 0 {
            return to.shutdown().await;
        }
        *last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        let written = timeout(idle, to.write_all(&buffer[..read])).await;
        written.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    }
}
