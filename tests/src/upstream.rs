//! A backend that does as told and remembers what it was asked.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::loopback;
use crate::netns::Namespace;

/// One request as it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// The request line.
    pub line: String,
    /// Its fields, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Its body, unframed.
    pub body: Vec<u8>,
}

impl Received {
    /// The values of every field of that (lower-case) name.
    #[must_use]
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str()).collect()
    }

    /// The only field of that name; `None` if there is none or more than one.
    #[must_use]
    pub fn only(&self, name: &str) -> Option<&str> {
        match self.all(name)[..] {
            [value] => Some(value),
            _ => None,
        }
    }

    /// The request target.
    #[must_use]
    pub fn target(&self) -> &str {
        self.line.split(' ').nth(1).unwrap_or_default()
    }
}

/// What to do with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// 200 with this text.
    Text(String),
    /// 200 with this text after a while.
    Slow(Duration, String),
    /// These bytes, then the end of the connection.
    Raw(Vec<u8>),
    /// No answer, and the connection stays open.
    Silence,
    /// 101, then every byte comes back.
    Tunnel,
}

/// A running backend on a loopback address of its own; ends on drop.
#[derive(Debug)]
pub struct Upstream {
    /// Where it listens.
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Received>>>,
    connections: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Upstream {
    /// A backend that answers everything with its name.
    pub async fn named(name: &str) -> Self {
        let name = name.to_owned();
        Self::start(move |_| Reply::Text(name.clone())).await
    }

    /// A backend that asks `behave` what to do with each request.
    pub async fn start(behave: impl Fn(&Received) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_on(loopback::address(), behave).await
    }

    /// As [`Self::start`], on a chosen address.
    pub async fn start_on(ip: Ipv4Addr, behave: impl Fn(&Received) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_at((ip, 0).into(), behave).await
    }

    /// As [`Self::start_on`], on a chosen port too.
    pub async fn start_at(address: SocketAddr, behave: impl Fn(&Received) -> Reply + Send + Sync + 'static) -> Self {
        Self::serve(TcpListener::bind(address).await.expect("a loopback address can be bound"), behave)
    }

    /// As [`Self::start_on`], inside a network namespace; needs a runtime around it.
    #[must_use]
    pub fn start_inside(
        namespace: &Namespace,
        ip: Ipv4Addr,
        behave: impl Fn(&Received) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = namespace.enter(move || std::net::TcpListener::bind((ip, 0))).expect("the address can be bound");
        listener.set_nonblocking(true).expect("a socket can be made non-blocking");
        Self::serve(TcpListener::from_std(listener).expect("there is a runtime"), behave)
    }

    fn serve(listener: TcpListener, behave: impl Fn(&Received) -> Reply + Send + Sync + 'static) -> Self {
        let address = listener.local_addr().expect("a bound socket has an address");
        let (seen, connections) = (Arc::default(), Arc::new(AtomicUsize::new(0)));
        let shared = Shared { behave: Arc::new(behave), seen: Arc::clone(&seen) };
        let task = tokio::spawn(accept(listener, shared, Arc::clone(&connections)));
        Self { address, seen, connections, task }
    }

    /// Every request so far.
    #[must_use]
    pub fn seen(&self) -> Vec<Received> {
        self.seen.lock().expect("no handler panics").clone()
    }

    /// How many connections were opened to it.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Clone)]
struct Shared {
    behave: Arc<dyn Fn(&Received) -> Reply + Send + Sync>,
    seen: Arc<Mutex<Vec<Received>>>,
}

async fn accept(listener: TcpListener, shared: Shared, connections: Arc<AtomicUsize>) {
    while let Ok((stream, _)) = listener.accept().await {
        connections.fetch_add(1, Ordering::Relaxed);
        let shared = shared.clone();
        // A connection that breaks is the proxy's to answer for.
        tokio::spawn(async move { serve(stream, shared).await.is_ok() });
    }
}

async fn serve(mut stream: TcpStream, shared: Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = Vec::new();
    while let Some(request) = receive(&mut stream, &mut buffer).await? {
        let reply = (shared.behave)(&request);
        shared.seen.lock().expect("no handler panics").push(request);
        match reply {
            Reply::Text(text) => answer(&mut stream, &text).await?,
            Reply::Slow(delay, text) => {
                tokio::time::sleep(delay).await;
                answer(&mut stream, &text).await?;
            }
            Reply::Raw(bytes) => return stream.write_all(&bytes).await,
            Reply::Silence => std::future::pending().await,
            Reply::Tunnel => return tunnel(stream, buffer).await,
        }
    }
    Ok(())
}

async fn answer(stream: &mut TcpStream, text: &str) -> io::Result<()> {
    let length = text.len();
    stream.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{text}").as_bytes()).await
}

async fn tunnel(mut stream: TcpStream, early: Vec<u8>) -> io::Result<()> {
    stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n").await?;
    stream.write_all(&early).await?;
    let (mut from, mut to) = stream.split();
    tokio::io::copy(&mut from, &mut to).await.map(|_| ())
}

/// The next request; `None` at the end of the connection.
async fn receive(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<Option<Received>> {
    let Some(head) = until(stream, buffer, b"\r\n\r\n").await? else { return Ok(None) };
    let head = String::from_utf8_lossy(&head).into_owned();
    let mut lines = head.trim_end().split("\r\n").map(str::to_owned);
    let line = lines.next().unwrap_or_default();
    let headers: Vec<_> = lines
        .filter_map(|line| line.split_once(':').map(|(key, value)| (key.to_ascii_lowercase(), value.trim().to_owned())))
        .collect();
    let mut request = Received { line, headers, body: Vec::new() };
    if request.only("transfer-encoding") == Some("chunked") {
        while let Some(size) = until(stream, buffer, b"\r\n").await? {
            let size = std::str::from_utf8(&size).ok().and_then(|text| usize::from_str_radix(text.trim(), 16).ok());
            let size = size.ok_or(io::ErrorKind::InvalidData)?;
            let chunk = exactly(stream, buffer, size + 2).await?;
            request.body.extend_from_slice(&chunk[..size]);
            if size == 0 {
                break;
            }
        }
    } else if let Some(length) = request.only("content-length") {
        let length = length.parse().map_err(|_| io::ErrorKind::InvalidData)?;
        request.body = exactly(stream, buffer, length).await?;
    }
    Ok(Some(request))
}

async fn until(stream: &mut TcpStream, buffer: &mut Vec<u8>, end: &[u8]) -> io::Result<Option<Vec<u8>>> {
    loop {
        if let Some(position) = buffer.windows(end.len()).position(|window| window == end) {
            let rest = buffer.split_off(position + end.len());
            return Ok(Some(std::mem::replace(buffer, rest)));
        }
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
}

async fn exactly(stream: &mut TcpStream, buffer: &mut Vec<u8>, count: usize) -> io::Result<Vec<u8>> {
    while buffer.len() < count {
        if stream.read_buf(buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    let rest = buffer.split_off(count);
    Ok(std::mem::replace(buffer, rest))
}
