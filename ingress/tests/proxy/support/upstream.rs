//! An endpoint that records what it is asked and answers by path.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// One request, as it came over the wire; the body decoded.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Seen {
    /// The value of a field; panics if it is there twice.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let mut values = self.head.lines().skip(1).filter_map(|line| {
            let (field, value) = line.split_once(':')?;
            field.eq_ignore_ascii_case(name).then(|| value.trim())
        });
        let first = values.next();
        assert!(values.next().is_none(), "{name} is there twice in {}", self.head);
        first
    }
}

/// A running endpoint.
pub(crate) struct Upstream {
    pub(crate) addr: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    /// Connections so far.
    accepted: Arc<AtomicUsize>,
    /// Lets requests for `/held` go on.
    pub(crate) release: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Upstream {
    pub(crate) async fn start() -> Self {
        Self::named("upstream").await
    }

    /// An endpoint that calls itself `name` in its answers.
    pub(crate) async fn named(name: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (seen, release) = (Arc::<Mutex<Vec<Seen>>>::default(), Arc::new(Notify::new()));
        let (seen_too, release_too) = (Arc::clone(&seen), Arc::clone(&release));
        let accepted = Arc::<AtomicUsize>::default();
        let accepted_too = Arc::clone(&accepted);
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                accepted_too.fetch_add(1, Ordering::Relaxed);
                let (seen, release) = (Arc::clone(&seen_too), Arc::clone(&release_too));
                tokio::spawn(async move { serve(stream, name, &seen, &release).await });
            }
        });
        Self { addr, seen, accepted, release, task }
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

impl Upstream {
    /// How many connections were made.
    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }
}

/// An address where nobody listens.
pub(crate) fn nobody() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

async fn serve(mut stream: TcpStream, name: &str, seen: &Mutex<Vec<Seen>>, release: &Notify) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = Vec::new();
    while let Some(request) = read_request(&mut stream, &mut buffer).await? {
        seen.lock().unwrap().push(request.clone());
        if !answer(&mut stream, name, &request, release).await? {
            break;
        }
    }
    Ok(())
}

/// Reads one request; the buffer keeps what follows.
async fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<Option<Seen>> {
    let end = loop {
        if let Some(at) = buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    };
    let head = String::from_utf8(buffer.drain(..end).collect()).unwrap();
    let mut request = Seen { head, body: Vec::new() };
    if request.field("transfer-encoding").is_some() {
        request.body = read_chunks(stream, buffer).await?;
    } else if let Some(length) = request.field("content-length") {
        let length = length.parse().unwrap();
        request.body = read_exactly(stream, buffer, length).await?;
    }
    Ok(Some(request))
}

async fn read_exactly(stream: &mut TcpStream, buffer: &mut Vec<u8>, length: usize) -> io::Result<Vec<u8>> {
    while buffer.len() < length {
        if stream.read_buf(buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(buffer.drain(..length).collect())
}

async fn read_line(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<String> {
    loop {
        if let Some(at) = buffer.windows(2).position(|bytes| bytes == b"\r\n") {
            let line = buffer.drain(..at + 2).take(at).collect();
            return Ok(String::from_utf8(line).unwrap());
        }
        if stream.read_buf(buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

async fn read_chunks(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = read_line(stream, buffer).await?;
        let size = usize::from_str_radix(&line, 16).unwrap_or_else(|_| panic!("bad chunk size {line:?}"));
        body.extend(read_exactly(stream, buffer, size).await?);
        assert_eq!(read_line(stream, buffer).await?, "");
        if size == 0 {
            return Ok(body);
        }
    }
}

/// Answers by path; whether the connection lives on.
async fn answer(stream: &mut TcpStream, name: &str, request: &Seen, release: &Notify) -> io::Result<bool> {
    let mut words = request.head.split(' ');
    let (method, target) = (words.next().unwrap(), words.next().unwrap());
    match target.split('?').next().unwrap() {
        "/chunked" => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await?;
            stream.write_all(b"5\r\nhello\r\n7\r\n, world\r\n0\r\n\r\n").await?;
        }
        "/css" => {
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/css\r\nETag: \"v1\"\r\nAccept-Ranges: bytes\r\n\
                        X-Powered-By: PHP\r\nContent-Length: 4000\r\n\r\n";
            stream.write_all(head.as_bytes()).await?;
            stream.write_all(&b"a{}\n".repeat(1000)).await?;
        }
        "/events" => {
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/css\r\nTransfer-Encoding: chunked\r\n\r\n")
                .await?;
            stream.write_all(b"5\r\nfirst\r\n").await?;
            release.notified().await;
            stream.write_all(b"6\r\nsecond\r\n0\r\n\r\n").await?;
        }
        "/big" => {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", 1 << 20);
            stream.write_all(head.as_bytes()).await?;
            stream.write_all(&vec![b'x'; 1 << 20]).await?;
        }
        "/until-close" => {
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nuntil the end").await?;
            return Ok(false);
        }
        "/cut" => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this").await?;
            return Ok(false);
        }
        "/cut-chunk" => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nonly\r\n").await?;
            return Ok(false);
        }
        "/silent" => {
            tokio::time::sleep(Duration::from_mins(1)).await;
            return Ok(false);
        }
        "/hang-up" => return Ok(false),
        "/garbage" => {
            stream.write_all(b"220 mail.example.com ESMTP\r\n\r\n").await?;
            return Ok(false);
        }
        "/moved" => {
            let head = "HTTP/1.1 302 Found\r\nLocation: http://inside.example/app/x\r\nSet-Cookie: a=b; Path=/app/x\r\n\
                        Set-Cookie: c=d; Domain=inside.example; HttpOnly\r\nContent-Length: 0\r\n\r\n";
            stream.write_all(head.as_bytes()).await?;
        }
        "/auth" => {
            let text = opinion(request.field("cookie").unwrap_or_default());
            stream.write_all(format!("HTTP/1.1 {text}").as_bytes()).await?;
        }
        path if path.starts_with("/status/") => {
            let head = format!("HTTP/1.1 {} Made\r\nContent-Length: 4\r\n\r\nmade", &path["/status/".len()..]);
            stream.write_all(head.as_bytes()).await?;
        }
        "/held" => {
            release.notified().await;
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nreleased").await?;
        }
        "/unasked" => {
            let head = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nraw";
            stream.write_all(head.as_bytes()).await?;
            return Ok(false);
        }
        "/hop" => {
            let head = "HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Internal\r\nX-Internal: 1\r\nProxy-Connection: x\r\n\
                        Server: teapot\r\nContent-Length: 2\r\n\r\nok";
            stream.write_all(head.as_bytes()).await?;
        }
        "/ws" => {
            let head = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
            stream.write_all(head.as_bytes()).await?;
            let (mut read, mut write) = stream.split();
            tokio::io::copy(&mut read, &mut write).await?;
            return Ok(false);
        }
        _ => {
            let body = match method {
                "POST" | "PUT" => request.body.clone(),
                _ => format!("{name} {target}").into_bytes(),
            };
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
            let body = if method == "HEAD" { &[][..] } else { &body };
            stream.write_all(&[head.as_bytes(), body].concat()).await?;
        }
    }
    Ok(true)
}

/// What a service says of who comes with these cookies.
fn opinion(cookies: &str) -> &'static str {
    match cookies {
        _ if cookies.contains("session=ok") => {
            "200 OK\r\nX-Auth-User: ann\r\nSet-Cookie: seen=1\r\nContent-Length: 2\r\n\r\nok"
        }
        _ if cookies.contains("session=bad") => "403 Forbidden\r\nContent-Length: 0\r\n\r\n",
        _ if cookies.contains("session=broken") => "500 Oops\r\nContent-Length: 0\r\n\r\n",
        _ => "401 Unauthorized\r\nWWW-Authenticate: Bearer\r\nSet-Cookie: state=2\r\nContent-Length: 2\r\n\r\nno",
    }
}
