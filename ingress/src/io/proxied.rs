//! Reads a PROXY header from a connection, and not a byte more.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::proxy_protocol::{Header, ProxyError, parse};

/// Why a connection is not served.
#[derive(Debug, thiserror::Error)]
pub(super) enum HeaderError {
    /// It ended or broke.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// What it begins with is no header.
    #[error(transparent)]
    Malformed(#[from] ProxyError),
    /// It took too long.
    #[error("no PROXY header came in time")]
    Late,
}

/// Whose connection it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Proxied {
    /// Who opened it.
    pub(super) direct: SocketAddr,
    /// Where it was made to.
    pub(super) destination: SocketAddr,
}

/// Reads the header that `stream` has to begin with.
pub(super) async fn read(stream: &mut TcpStream, patience: Duration) -> Result<Header, HeaderError> {
    timeout(patience, read_header(stream)).await.unwrap_or(Err(HeaderError::Late))
}

async fn read_header(stream: &mut TcpStream) -> Result<Header, HeaderError> {
    let mut seen = Vec::new();
    let mut peeked = [0; 512];
    loop {
        let len = stream.peek(&mut peeked).await?;
        if len == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        let begun = seen.len();
        seen.extend_from_slice(&peeked[..len]);
        let found = parse(&seen)?;
        // While it is not complete, all that is there belongs to it.
        let ours = found.map_or(len, |(_, whole)| whole - begun);
        stream.read_exact(&mut peeked[..ours]).await?;
        if let Some((header, _)) = found {
            return Ok(header);
        }
    }
}
