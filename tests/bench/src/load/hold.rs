//! Connections that are opened, used once and then kept, to see what each costs the proxy.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConnection, StreamOwned};
use rustls_pki_types::ServerName;

use super::{Plan, tls};
use crate::response::Reader;

/// How long one connection may take to be answered.
const PATIENCE: Duration = Duration::from_secs(20);

/// Anything that can be written to and read from.
trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

/// Connections that stay open until this is dropped.
pub struct Held(Vec<Box<dyn Stream>>);

impl Held {
    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

/// Opens all connections of a plan, one after the other, with one request on each.
pub fn open(plan: &Plan) -> io::Result<Held> {
    let (heads, config) = (plan.heads(), tls::config(None));
    let mut held = Vec::with_capacity(plan.connections);
    for number in 0..plan.connections {
        let host = number % plan.hosts.len();
        let socket = TcpStream::connect(plan.target)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let mut stream: Box<dyn Stream> = if plan.tls {
            let name = ServerName::try_from(plan.hosts[host].clone()).map_err(io::Error::other)?;
            let client = ClientConnection::new(Arc::clone(&config), name).map_err(io::Error::other)?;
            Box::new(StreamOwned::new(client, socket))
        } else {
            Box::new(socket)
        };
        stream.write_all(&heads[host][0])?;
        read_answer(&mut *stream)?;
        held.push(stream);
    }
    Ok(Held(held))
}

fn read_answer(stream: &mut dyn Stream) -> io::Result<()> {
    let (mut reader, mut buffer) = (Reader::default(), [0; 4096]);
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match reader.feed(&buffer[..count]).map_err(io::Error::other)? {
            Some(answer) if answer.status == 200 && !answer.close => return Ok(()),
            Some(answer) => return Err(io::Error::other(format!("status {}, or not kept alive", answer.status))),
            None => {}
        }
    }
}
