//! Asks the LAN who has an address, for [`crate::members`]: is a silent owner alive, are we cut off.
//!
//! Questions are probes (RFC 5227 §2.1.1, RFC 4862 §5.4.2): everybody who has the address answers them, and nobody
//! learns anything wrong from them.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd as _, RawFd};

use super::socket::{Kind, PacketSocket, SNAP_LEN};
use crate::arp::{self, MacAddr, Operation};
use crate::claim::Family;
use crate::filter;
use crate::ndp::{self, Message};

/// An interface that VIPs are announced on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// The number of the interface.
    pub(super) index: u32,
    /// Its hardware address.
    pub(super) mac: MacAddr,
    /// An address of this node there.
    pub(super) address: Option<Ipv4Addr>,
    /// Its name.
    pub(super) name: String,
    /// The VIPs there.
    pub(super) vips: BTreeSet<IpAddr>,
}

/// The sockets that answers come in through.
#[derive(Debug, Default)]
pub(super) struct Asker {
    sockets: Vec<(Line, Family, PacketSocket)>,
}

impl Asker {
    /// Asks on exactly these interfaces; on one without a socket nothing is asked, as if nobody answered.
    pub(super) fn set(&mut self, lines: &[Line]) {
        let mut before = std::mem::take(&mut self.sockets);
        for line in lines {
            for family in line.vips.iter().copied().map(Family::of).collect::<BTreeSet<_>>() {
                let known = before.iter().position(|(known, of, _)| known.index == line.index && *of == family);
                let socket = known.map(|at| before.swap_remove(at).2);
                if let Some(socket) = socket.or_else(|| open(line.index, family).ok()) {
                    self.sockets.push((line.clone(), family, socket));
                }
            }
        }
    }

    /// The descriptors to wait for.
    pub(super) fn descriptors(&self) -> impl Iterator<Item = RawFd> {
        self.sockets.iter().map(|(.., socket)| socket.as_raw_fd())
    }

    /// Asks for `ip` on every interface.
    pub(super) fn ask(&self, ip: IpAddr) {
        for (line, _, socket) in self.sockets.iter().filter(|(_, family, _)| *family == Family::of(ip)) {
            // What cannot be sent is as good as not answered.
            let _ = match ip {
                IpAddr::V4(ip) => socket.send(&arp::encode(&arp::probe(line.mac, ip))),
                IpAddr::V6(ip) => {
                    let (frame, len) = ndp::encode(&ndp::probe(line.mac, ip));
                    socket.send(&frame[..len])
                }
            };
        }
    }

    /// The next answer: who has which address.
    pub(super) fn answer(&self) -> Option<(IpAddr, [u8; 6])> {
        let mut buffer = [0; SNAP_LEN];
        for (line, _, socket) in &self.sockets {
            // An interface that went down is an error once.
            while let Ok(Some(frame)) = socket.recv(&mut buffer) {
                let answer = read(&buffer[..frame.len.min(SNAP_LEN)]);
                if let Some((ip, mac)) = answer.filter(|(_, mac)| *mac != line.mac) {
                    return Some((ip, mac.octets()));
                }
            }
        }
        None
    }
}

/// A socket that receives nothing but answers.
fn open(index: u32, family: Family) -> io::Result<PacketSocket> {
    let socket = PacketSocket::open(index, if family == Family::IPv4 { Kind::Arp } else { Kind::Ndp })?;
    socket.filter(&filter::answers(family))?;
    Ok(socket)
}

/// What an answer says; `None` for what is none.
fn read(bytes: &[u8]) -> Option<(IpAddr, MacAddr)> {
    if let Ok(frame) = arp::decode(bytes) {
        return (frame.operation == Operation::Reply).then_some((frame.sender_ip.into(), frame.sender_mac));
    }
    let frame = ndp::decode(bytes).ok()?;
    let answers = matches!(frame.message, Message::Advertisement { .. });
    answers.then_some((frame.target.into(), frame.sender_mac()))
}
