//! The UDP sockets of heartbeats: to the addresses of peers, and by multicast over the announcing interfaces.
//!
//! The group is of the kind that every switch floods and no router passes on (RFC 5771 §4), so it needs no IGMP. Beats
//! of it are few; what matters is where they come from, since peers are beaten there from then on.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};

use socket2::{Domain, InterfaceIndexOrAddress, Protocol, SockRef, Socket, Type};

use crate::book::plain;
use crate::heartbeat::MAX_LEN;

/// Where beats for everybody go: for experiments, which is what no other program may claim (RFC 4727 §2.4.1).
const GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 254);
/// Network control, so that switches with queues let beats pass first (RFC 4594 §3.1, CS6).
const NETWORK_CONTROL: u32 = 0xc0;
/// Datagrams that may wait in the kernel, in bytes of its bookkeeping.
const RECEIVE_BUFFER: usize = 1 << 20;

/// Both sockets. Never block.
#[derive(Debug)]
pub(super) struct Mail {
    v4: UdpSocket,
    /// Absent where IPv6 is switched off.
    v6: Option<UdpSocket>,
    port: u16,
    /// The interfaces whose group was joined, and the address they are known by.
    joined: Vec<(u32, Ipv4Addr)>,
    buffer: Vec<u8>,
}

impl Mail {
    /// Opens the port.
    pub(super) fn open(port: u16) -> io::Result<Self> {
        let v4 = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
        v4.set_nonblocking(true)?;
        v4.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)).into())?;
        v4.set_multicast_loop_v4(false)?;
        // Both only help.
        let _ = v4.set_tos_v4(NETWORK_CONTROL);
        let _ = v4.set_recv_buffer_size(RECEIVE_BUFFER);
        Ok(Self { v4: v4.into(), v6: v6(port).ok(), port, joined: Vec::new(), buffer: vec![0; MAX_LEN] })
    }

    /// The descriptors to wait for; a negative one is none.
    pub(super) fn descriptors(&self) -> [RawFd; 2] {
        [self.v4.as_raw_fd(), self.v6.as_ref().map_or(-1, AsRawFd::as_raw_fd)]
    }

    /// Joins the group on exactly these interfaces; one that refuses does without, since its peers are configured too.
    pub(super) fn join(&mut self, interfaces: &[(u32, Ipv4Addr)]) {
        for (index, _) in self.joined.iter().filter(|it| !interfaces.contains(it)) {
            // An interface that is gone has left by itself.
            let _ = SockRef::from(&self.v4).leave_multicast_v4_n(&GROUP, &InterfaceIndexOrAddress::Index(*index));
        }
        self.joined.retain(|it| interfaces.contains(it));
        for (index, address) in interfaces {
            let (known, socket) = (self.joined.contains(&(*index, *address)), SockRef::from(&self.v4));
            if !known && socket.join_multicast_v4_n(&GROUP, &InterfaceIndexOrAddress::Index(*index)).is_ok() {
                self.joined.push((*index, *address));
            }
        }
    }

    /// Sends to one address. What cannot be sent is lost, as anything on a network may be.
    pub(super) fn send(&self, bytes: &[u8], to: SocketAddr) -> io::Result<()> {
        let socket = match to.ip() {
            IpAddr::V4(_) => Some(&self.v4),
            IpAddr::V6(_) => self.v6.as_ref(),
        };
        let socket = socket.ok_or(io::ErrorKind::AddrNotAvailable)?;
        socket.send_to(bytes, to).map(drop)
    }

    /// Sends to everybody on the LANs.
    pub(super) fn send_all(&self, bytes: &[u8]) {
        for (_, address) in &self.joined {
            if SockRef::from(&self.v4).set_multicast_if_v4(address).is_ok() {
                // An interface that is down loses it.
                let _ = self.v4.send_to(bytes, (GROUP, self.port));
            }
        }
    }

    /// The next datagram that waits, and where its sender is reached.
    pub(super) fn receive(&mut self) -> Option<(&[u8], SocketAddr)> {
        let Self { v4, v6, port, buffer, .. } = self;
        let (len, from) = [Some(&*v4), v6.as_ref()].into_iter().flatten().find_map(|socket| receive(socket, buffer))?;
        Some((&buffer[..len], plain(from, *port)))
    }
}

fn v6(port: u16) -> io::Result<UdpSocket> {
    let v6 = Socket::new(Domain::IPV6, Type::DGRAM, Some(Protocol::UDP))?;
    v6.set_only_v6(true)?;
    v6.set_nonblocking(true)?;
    v6.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)).into())?;
    // It only helps.
    let _ = v6.set_recv_buffer_size(RECEIVE_BUFFER);
    Ok(v6.into())
}

/// One datagram; an error is a report about an earlier send (ICMP), behind which there may be more.
fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> Option<(usize, SocketAddr)> {
    const REPORTS: usize = 4;
    for _ in 0..REPORTS {
        match socket.recv_from(buffer) {
            Ok(found) => return Some(found),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
            Err(_) => {}
        }
    }
    None
}
