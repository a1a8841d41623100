//! One connection to the proxy.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Instant;

use rustls::{ClientConfig, ClientConnection, HandshakeKind, StreamOwned};
use rustls_pki_types::ServerName;

use crate::response::{Answer, Reader};

/// What an upload consists of.
const ZEROES: &[u8] = &[0; 64 * 1024];

enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

/// A connection; it does not block.
pub(super) struct Link {
    stream: Stream,
    /// Which of the hosts it asks for.
    pub(super) host: usize,
    /// When the request under way was due; `None` while there is none.
    pub(super) due: Option<Instant>,
    unsent: Vec<u8>,
    body: u64,
    reader: Reader,
}

impl Link {
    /// Connects; on loopback that takes no time worth an event.
    pub(super) fn open(
        target: SocketAddr,
        tls: Option<(&Arc<ClientConfig>, &ServerName<'static>)>,
        host: usize,
    ) -> io::Result<Self> {
        let socket = TcpStream::connect(target)?;
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        let stream = match tls {
            None => Stream::Plain(socket),
            Some((config, name)) => {
                let client = ClientConnection::new(Arc::clone(config), name.clone()).map_err(io::Error::other)?;
                Stream::Tls(Box::new(StreamOwned::new(client, socket)))
            }
        };
        Ok(Self { stream, host, due: None, unsent: Vec::new(), body: 0, reader: Reader::default() })
    }

    /// Begins a request that was due at `due`.
    pub(super) fn ask(&mut self, head: &[u8], body: u64, due: Instant) {
        self.unsent.clear();
        self.unsent.extend_from_slice(head);
        (self.body, self.due) = (body, Some(due));
    }

    /// Sends and receives what is possible now; the answer, once it is there. An end of the stream is an error.
    pub(super) fn drive(&mut self, buffer: &mut [u8]) -> io::Result<Option<Answer>> {
        match self.send() {
            // A server may answer and hang up before it has read everything; its answer tells more than our error.
            Ok(()) | Err(ErrorKind::WouldBlock | ErrorKind::BrokenPipe) => {}
            Err(kind) => return Err(kind.into()),
        }
        loop {
            match self.stream.read(buffer) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => {
                    if let Some(answer) = self.reader.feed(&buffer[..count]).map_err(io::Error::other)? {
                        return Ok(Some(answer));
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }

    fn send(&mut self) -> Result<(), ErrorKind> {
        while !self.unsent.is_empty() {
            let count = self.stream.write(&self.unsent).map_err(|error| error.kind())?;
            self.unsent.drain(..count);
        }
        while self.body > 0 {
            let piece = usize::try_from(self.body).map_or(ZEROES.len(), |left| left.min(ZEROES.len()));
            let count = self.stream.write(&ZEROES[..piece]).map_err(|error| error.kind())?;
            self.body -= count as u64;
        }
        self.stream.flush().map_err(|error| error.kind())
    }

    /// Whether TLS resumed a session; `None` without TLS.
    pub(super) fn resumed(&self) -> Option<bool> {
        match &self.stream {
            Stream::Plain(_) => None,
            Stream::Tls(stream) => Some(stream.conn.handshake_kind() == Some(HandshakeKind::Resumed)),
        }
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.stream {
            Stream::Plain(socket) => socket.as_fd(),
            Stream::Tls(stream) => stream.sock.as_fd(),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(_) => Ok(()),
            Self::Tls(stream) => stream.flush(),
        }
    }
}
