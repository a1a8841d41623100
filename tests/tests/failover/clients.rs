//! Clients that talk all the time over connections which shall outlive moves, and the servers on every node that they
//! talk to.
//!
//! A *tunnel* leads through the ingress: an upgraded HTTP connection to a backend beside it. A *plain* connection ends
//! at a listener of the node's own, as that of any other program there. Both answer the first byte with the number of
//! the node that serves them; from then on every byte comes back.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use ferrogate_tests::netns::{Namespace, connect};

/// Where the backend of tunnels listens, on every node.
pub(crate) const BACKEND: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9000);
/// The port of plain connections.
const PLAIN: u16 = 7;
/// Far longer than anybody has to wait for a byte.
const PATIENCE: Duration = Duration::from_secs(10);
/// The time between two questions on a connection.
const PERIOD: Duration = Duration::from_millis(10);

/// Serves in this namespace as node `number`, for as long as the test runs.
pub(crate) fn serve(namespace: &Namespace, number: u8) {
    for address in [BACKEND, (Ipv4Addr::UNSPECIFIED, PLAIN).into(), (Ipv6Addr::UNSPECIFIED, PLAIN).into()] {
        let listener = namespace.enter(move || listen(address)).expect("a port of a new namespace is free");
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A client that goes away is its own business.
                std::thread::spawn(move || answer(stream, address == BACKEND, number));
            }
        });
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    // Listeners of the standard library for [::] take IPv4 too, which another one has here.
    if address.is_ipv6() {
        std::fs::write("/proc/sys/net/ipv6/bindv6only", "1")?;
    }
    TcpListener::bind(address)
}

fn answer(mut stream: TcpStream, tunnel: bool, number: u8) -> io::Result<()> {
    if tunnel {
        read_head(&mut stream)?;
        stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")?;
    }
    stream.read_exact(&mut [0])?;
    stream.write_all(&[number])?;
    let mut buffer = [0; 64];
    loop {
        let len = stream.read(&mut buffer)?;
        if len == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..len])?;
    }
}

fn read_head(stream: &mut TcpStream) -> io::Result<String> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

/// What a connection leads through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Tunnel,
    Plain,
}

/// Opens a connection to a VIP; with the number of the node that serves it.
pub(crate) fn open(namespace: &Namespace, vip: IpAddr, way: Way) -> io::Result<(TcpStream, u8)> {
    let port = if way == Way::Tunnel { 80 } else { PLAIN };
    let mut stream = connect(namespace.name(), (vip, port).into(), PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    if way == Way::Tunnel {
        stream.write_all(
            b"GET /tunnel HTTP/1.1\r\nHost: shop.test\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        )?;
        let head = read_head(&mut stream)?;
        if !head.starts_with("HTTP/1.1 101") {
            return Err(io::Error::other(head));
        }
    }
    let mut number = [0];
    stream.write_all(b"?")?;
    stream.read_exact(&mut number)?;
    Ok((stream, number[0]))
}

/// Connections that are in use until they are ended.
pub(crate) struct Clients {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<io::Result<u64>>>,
}

impl Clients {
    /// Opens so many to each of these; all must be served by `node`.
    pub(crate) fn start(namespace: &Namespace, node: u8, wanted: &[(IpAddr, Way, usize)]) -> Self {
        let mut clients = Self { stop: Arc::default(), threads: Vec::new() };
        for (vip, way) in wanted.iter().flat_map(|(vip, way, count)| std::iter::repeat_n((*vip, *way), *count)) {
            let (stream, served_by) =
                open(namespace, vip, way).unwrap_or_else(|error| panic!("{way:?} to {vip}: {error}"));
            assert_eq!(served_by, node, "{way:?} to {vip}");
            let stop = Arc::clone(&clients.stop);
            clients.threads.push(std::thread::spawn(move || talk(stream, &stop)));
        }
        clients
    }

    /// Ends them; how many questions were answered, and what broke which connection.
    pub(crate) fn end(mut self) -> (u64, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        let (mut answered, mut broken) = (0, Vec::new());
        for thread in self.threads.drain(..) {
            match thread.join().expect("a client does not panic") {
                Ok(count) => answered += count,
                Err(error) => broken.push(error.to_string()),
            }
        }
        (answered, broken)
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn talk(mut stream: TcpStream, stop: &AtomicBool) -> io::Result<u64> {
    let mut count = 0_u64;
    while !stop.load(Ordering::Relaxed) {
        stream.write_all(&count.to_be_bytes())?;
        let mut back = [0; 8];
        stream.read_exact(&mut back)?;
        if back != count.to_be_bytes() {
            return Err(io::Error::other("another answer than was expected"));
        }
        count += 1;
        std::thread::sleep(PERIOD);
    }
    // The end must arrive too.
    stream.shutdown(std::net::Shutdown::Write)?;
    let rest = stream.read(&mut [0; 8])?;
    if rest == 0 { Ok(count) } else { Err(io::Error::other("more than was asked for")) }
}
