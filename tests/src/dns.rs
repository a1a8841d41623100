//! A DNS server that does as told: names and addresses over UDP, faults on demand.
//!
//! It knows A and AAAA, one question at a time (RFC 1035 §4), and is authoritative for everything.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

use crate::loopback;

const A: u16 = 1;
const AAAA: u16 = 28;

/// What is said about a name; about others, that they do not exist.
#[derive(Clone, Debug)]
pub enum Says {
    /// It has these addresses, for so long.
    Addresses(Vec<IpAddr>, Duration),
    /// The server has failed (SERVFAIL).
    Failure,
    /// Nothing.
    Silence,
}

/// A running server on a loopback address of its own; ends on drop.
#[derive(Debug)]
pub struct Dns {
    /// Where it listens.
    pub address: SocketAddr,
    names: Arc<Mutex<BTreeMap<String, Says>>>,
    asked: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Dns {
    /// A server that knows no name.
    pub async fn start() -> Self {
        let socket = UdpSocket::bind((loopback::address(), 0)).await.expect("a loopback address can be bound");
        let address = socket.local_addr().expect("a bound socket has an address");
        let (names, asked) = (Arc::default(), Arc::default());
        let task = tokio::spawn(serve(socket, Arc::clone(&names), Arc::clone(&asked)));
        Self { address, names, asked, task }
    }

    /// Says this about `name` (lower case, no dot at its end) from now on.
    pub fn set(&self, name: &str, says: Says) {
        self.names.lock().expect("nobody panics with it").insert(name.to_owned(), says);
    }

    /// These addresses for one second.
    pub fn set_addresses(&self, name: &str, addrs: &[IpAddr]) {
        self.set(name, Says::Addresses(addrs.to_vec(), Duration::from_secs(1)));
    }

    /// Says that `name` does not exist from now on.
    pub fn remove(&self, name: &str) {
        self.names.lock().expect("nobody panics with it").remove(name);
    }

    /// How often somebody asked for the IPv4 addresses of `name`.
    #[must_use]
    pub fn asked(&self, name: &str) -> usize {
        self.asked.lock().expect("nobody panics with it").iter().filter(|asked| *asked == name).count()
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(socket: UdpSocket, names: Arc<Mutex<BTreeMap<String, Says>>>, asked: Arc<Mutex<Vec<String>>>) {
    let mut buffer = [0; 1500];
    while let Ok((len, from)) = socket.recv_from(&mut buffer).await {
        let Some((name, kind, question)) = parse(&buffer[..len]) else { continue };
        if kind == A {
            asked.lock().expect("nobody panics with it").push(name.clone());
        }
        let says = names.lock().expect("nobody panics with it").get(&name).cloned();
        let answer = match says {
            Some(Says::Silence) => continue,
            Some(Says::Failure) => message(&buffer[..2], 2, question, kind, &[], Duration::ZERO),
            Some(Says::Addresses(addrs, ttl)) => message(&buffer[..2], 0, question, kind, &addrs, ttl),
            None => message(&buffer[..2], 3, question, kind, &[], Duration::ZERO),
        };
        // Who asked may be gone.
        let _ = socket.send_to(&answer, from).await;
    }
}

/// The name and type of the question, and its bytes.
fn parse(query: &[u8]) -> Option<(String, u16, &[u8])> {
    let mut at = 12;
    let mut labels = Vec::new();
    loop {
        let len = usize::from(*query.get(at)?);
        if len == 0 {
            break;
        }
        labels.push(String::from_utf8_lossy(query.get(at + 1..at + 1 + len)?).to_ascii_lowercase());
        at += 1 + len;
    }
    let kind = u16::from_be_bytes([*query.get(at + 1)?, *query.get(at + 2)?]);
    Some((labels.join("."), kind, query.get(12..at + 5)?))
}

/// An authoritative answer with the addresses of the type that was asked for.
fn message(id: &[u8], code: u8, question: &[u8], kind: u16, addrs: &[IpAddr], ttl: Duration) -> Vec<u8> {
    let data = |addr: &IpAddr| match addr {
        IpAddr::V4(ip) if kind == A => Some(ip.octets().to_vec()),
        IpAddr::V6(ip) if kind == AAAA => Some(ip.octets().to_vec()),
        _ => None,
    };
    let records: Vec<_> = addrs.iter().filter_map(data).collect();
    let count = u8::try_from(records.len()).expect("few addresses");
    let mut out = [id, &[0x85, 0x80 | code, 0, 1, 0, count, 0, 0, 0, 0], question].concat();
    let ttl = u32::try_from(ttl.as_secs()).expect("a short time");
    for data in records {
        // The name is that of the question, at offset 12.
        out.extend([0xC0, 12]);
        out.extend(kind.to_be_bytes());
        out.extend([0, 1]);
        out.extend(ttl.to_be_bytes());
        out.extend([0, u8::try_from(data.len()).expect("an address")]);
        out.extend(data);
    }
    out
}
