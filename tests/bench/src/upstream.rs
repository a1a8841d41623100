//! The backend of every host: as little work per request as possible, on one thread.
//!
//! It listens on every loopback address (and, being bound to `lo`, on no other), so that each Service of the fleet
//! can have an endpoint address of its own, as in a cluster. It answers
//!
//! - `.../bytes/N` with N bytes, anything else with 1024;
//! - a request with a body framed by `Content-Length` after having read it;
//! - always with `X-Endpoint`, the address it was asked at, which tells who was routed where.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use socket2::{Domain, Protocol, Socket, Type};

/// What bodies consist of.
const FILLER: &[u8] = &[b'x'; 256 * 1024];
/// The body of an answer unless the path asks for another.
const SMALL: u64 = 1024;
/// The longest head that is read.
const MAX_HEAD: usize = 32 * 1024;
/// Event numbers that are no connection.
const LISTENER: u64 = u64::MAX;
const STDIN: u64 = u64::MAX - 1;

/// Serves until standard input closes; `ready` learns the port.
pub fn run(ready: impl FnOnce(u16)) -> io::Result<()> {
    let listener = listen()?;
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    epoll::add(&epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
    epoll::add(&epoll, io::stdin(), EventData::new_u64(STDIN), EventFlags::IN)?;
    ready(listener.local_addr()?.port());
    serve(&listener, &epoll)
}

fn listen() -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.bind_device(Some(b"lo"))?;
    socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)).into())?;
    socket.listen(4096)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

fn serve(listener: &TcpListener, epoll: &OwnedFd) -> io::Result<()> {
    let mut connections: Vec<Option<Connection>> = Vec::new();
    let mut free: Vec<usize> = Vec::new();
    let mut events: Vec<Event> = Vec::with_capacity(256);
    let mut buffer = vec![0; FILLER.len()];
    loop {
        match epoll::wait(epoll, rustix::buffer::spare_capacity(&mut events), None) {
            Err(rustix::io::Errno::INTR) | Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        for event in events.drain(..) {
            match event.data.u64() {
                STDIN => return Ok(()),
                LISTENER => accept(listener, epoll, &mut connections, &mut free)?,
                slot => {
                    let slot = usize::try_from(slot).map_err(io::Error::other)?;
                    let ended = connections[slot].as_mut().is_some_and(|it| it.drive(&mut buffer).is_err());
                    if ended {
                        connections[slot] = None;
                        free.push(slot);
                    }
                }
            }
        }
    }
}

fn accept(
    listener: &TcpListener,
    epoll: &OwnedFd,
    connections: &mut Vec<Option<Connection>>,
    free: &mut Vec<usize>,
) -> io::Result<()> {
    while let Ok((stream, _)) = listener.accept() {
        let slot = free.pop().unwrap_or_else(|| {
            connections.push(None);
            connections.len() - 1
        });
        let connection = Connection::new(stream)?;
        let interest = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(epoll, &connection.stream, EventData::new_u64(slot as u64), interest)?;
        connections[slot] = Some(connection);
    }
    Ok(())
}

struct Connection {
    stream: TcpStream,
    endpoint: String,
    head: Vec<u8>,
    /// Bytes of the request's body still to come.
    incoming: u64,
    /// The request under way, if its head has come.
    request: Option<Request>,
    /// The beginning of the answer, and how much of it was sent.
    answer: Vec<u8>,
    sent: usize,
    /// Bytes of filler still to be sent after it.
    outgoing: u64,
}

/// What matters of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Request {
    answer: u64,
    body: u64,
    close: bool,
}

impl Connection {
    fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let endpoint = stream.local_addr()?.ip().to_string();
        let (head, answer) = (Vec::new(), Vec::new());
        Ok(Self { stream, endpoint, head, incoming: 0, request: None, answer, sent: 0, outgoing: 0 })
    }

    /// Does what can be done now; an error ends the connection.
    fn drive(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        loop {
            if self.is_sending() {
                if !self.send()? {
                    return Ok(());
                }
                if self.request.take().is_some_and(|request| request.close) {
                    return Err(ErrorKind::ConnectionAborted.into());
                }
            }
            match self.stream.read(buffer) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => self.take(&buffer[..count])?,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    fn is_sending(&self) -> bool {
        self.sent < self.answer.len() || self.outgoing > 0
    }

    /// Takes bytes of a request; prepares the answer when it is complete. No peer sends a second one before that.
    fn take(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.request.is_none() {
            self.head.extend_from_slice(bytes);
            let Some(end) = self.head.windows(4).position(|four| four == b"\r\n\r\n") else {
                return if self.head.len() > MAX_HEAD { Err(ErrorKind::InvalidData.into()) } else { Ok(()) };
            };
            let request = parse(&self.head[..end]).ok_or(ErrorKind::InvalidData)?;
            let early = (self.head.len() - end - 4) as u64;
            self.incoming = request.body.checked_sub(early).ok_or(ErrorKind::InvalidData)?;
            self.request = Some(request);
            self.head.clear();
        } else {
            self.incoming = self.incoming.checked_sub(bytes.len() as u64).ok_or(ErrorKind::InvalidData)?;
        }
        if let Some(request) = self.request.filter(|_| self.incoming == 0) {
            self.prepare(request)?;
        }
        Ok(())
    }

    fn prepare(&mut self, request: Request) -> io::Result<()> {
        self.answer.clear();
        self.sent = 0;
        write!(
            self.answer,
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nX-Endpoint: {}\r\nContent-Length: {}\r\n\r\n",
            self.endpoint, request.answer
        )?;
        // A small body goes out with its head, in one call.
        let together = request.answer.min(SMALL);
        self.answer.extend(FILLER.iter().take(usize::try_from(together).unwrap_or(0)));
        self.outgoing = request.answer - together;
        Ok(())
    }

    /// Sends; whether everything has gone.
    fn send(&mut self) -> io::Result<bool> {
        while self.is_sending() {
            let head = &self.answer[self.sent..];
            let piece = usize::try_from(self.outgoing).map_or(FILLER.len(), |left| left.min(FILLER.len()));
            let bytes = if head.is_empty() { &FILLER[..piece] } else { head };
            match (self.stream.write(bytes), head.is_empty()) {
                (Ok(count), true) => self.outgoing -= count as u64,
                (Ok(count), false) => self.sent += count,
                (Err(error), _) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                (Err(error), _) => return Err(error),
            }
        }
        Ok(true)
    }
}

/// Reads a request head; `None` for what no proxy should have passed on.
fn parse(head: &[u8]) -> Option<Request> {
    let head = std::str::from_utf8(head).ok()?;
    let mut lines = head.split("\r\n");
    let mut start = lines.next()?.split(' ');
    let (_method, path, version) = (start.next()?, start.next()?, start.next()?);
    let answer = path.rsplit_once("/bytes/").map_or(Some(SMALL), |(_, count)| count.parse().ok())?;
    let mut request = Request { answer, body: 0, close: version != "HTTP/1.1" };
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        if name.eq_ignore_ascii_case("content-length") {
            request.body = value.trim().parse().ok()?;
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            return None;
        } else if name.eq_ignore_ascii_case("connection") {
            request.close |= value.trim().eq_ignore_ascii_case("close");
        }
    }
    Some(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_says_what_it_wants() {
        for (head, expected) in [
            ("GET / HTTP/1.1\r\nHost: a", Some(Request { answer: 1024, body: 0, close: false })),
            ("GET /x/bytes/7 HTTP/1.1\r\nConnection: Close", Some(Request { answer: 7, body: 0, close: true })),
            ("POST / HTTP/1.0\r\nContent-Length: 9", Some(Request { answer: 1024, body: 9, close: true })),
            ("GET /bytes/many HTTP/1.1", None),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked", None),
            ("GET", None),
        ] {
            assert_eq!(parse(head.as_bytes()), expected, "{head}");
        }
    }
}
