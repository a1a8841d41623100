//! UDP: what a client sends goes to one endpoint for as long as both speak, and back from the address that it asked.
//!
//! A session is a socket towards an endpoint, so the number of sessions of a port is bounded; what begins one more is
//! dropped, as a network drops it.

use std::collections::HashMap;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::AsRawFd;
use std::sync::Arc;

use nix::libc::{in_addr, in_pktinfo, in6_addr, in6_pktinfo};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg, setsockopt, sockopt,
};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Keeper;
use super::active::Clock;
use crate::balance::{Draw, Wish, choose};
use crate::endpoints::InFlight;
use crate::streams::Carrier;

/// Sessions of one port at one worker.
pub(super) const SESSIONS: usize = 4096;
/// The largest datagram.
const LARGEST: usize = 65_535;

/// A client, and which address of ours it asked.
type Key = (SocketAddr, IpAddr);

struct Session {
    endpoint: Arc<UdpSocket>,
    clock: Arc<Clock>,
    _in_flight: InFlight,
}

/// Carries datagrams until told to stop; sessions end then, for who opens the port anew is to have all of it.
pub(super) async fn serve(keeper: Arc<Keeper>, port: u16, socket: UdpSocket, stop: CancellationToken) {
    if let Err(error) = tell_addresses(&socket) {
        return tracing::error!(port, %error, "cannot learn which address clients ask, so this port is not served");
    }
    let socket = Arc::new(socket);
    let mut sessions: HashMap<Key, Session> = HashMap::new();
    let mut answers: JoinSet<Key> = JoinSet::new();
    let mut buffer = vec![0; LARGEST];
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            Some(ended) = answers.join_next() => {
                if let Ok(key) = ended {
                    sessions.remove(&key);
                }
            }
            received = receive(&socket, &mut buffer) => {
                let Ok((length, client, local)) = received else { continue };
                let key = (client, local);
                if !sessions.contains_key(&key) {
                    if sessions.len() >= SESSIONS {
                        keeper.metrics.upstream_error("udp_sessions");
                        continue;
                    }
                    let Some(session) = begin(&keeper, port).await else { continue };
                    let back = give_back(
                        Arc::clone(&socket),
                        Arc::clone(&session.endpoint),
                        Arc::clone(&session.clock),
                        keeper.timeouts.datagram,
                        key,
                    );
                    answers.spawn(back);
                    sessions.insert(key, session);
                }
                if let Some(session) = sessions.get(&key) {
                    session.clock.touch();
                    // What cannot be sent is lost, as datagrams are.
                    let _ = session.endpoint.try_send(&buffer[..length]);
                }
            }
        }
    }
}

/// A session with one of the endpoints; `None` if there is none.
async fn begin(keeper: &Keeper, port: u16) -> Option<Session> {
    let stream = keeper.stream(Carrier::Udp, port)?;
    let draw = Draw { random: fastrand::u64(..), now: keeper.now() };
    let endpoint = choose(&stream.endpoints, &Wish::FREE, draw, &[])?;
    let any: IpAddr = if endpoint.addr.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await.ok()?;
    socket.connect(endpoint.addr).await.ok()?;
    let clock = Arc::new(Clock::start());
    Some(Session { endpoint: Arc::new(socket), clock, _in_flight: endpoint.load.enter() })
}

/// Sends a client what its endpoint says, until nobody has said anything for a while or the endpoint is gone.
async fn give_back(
    socket: Arc<UdpSocket>,
    endpoint: Arc<UdpSocket>,
    clock: Arc<Clock>,
    patience: std::time::Duration,
    key: Key,
) -> Key {
    let mut buffer = vec![0; LARGEST];
    let (client, local) = key;
    let answers = async {
        while let Ok(length) = endpoint.recv(&mut buffer).await {
            clock.touch();
            let _ = send(&socket, &buffer[..length], client, local).await;
        }
    };
    tokio::select! {
        () = answers => {}
        () = clock.idle(patience) => {}
    }
    key
}

/// Asks the kernel to say which of our addresses a datagram was sent to.
fn tell_addresses(socket: &UdpSocket) -> io::Result<()> {
    if socket.local_addr()?.is_ipv4() {
        setsockopt(socket, sockopt::Ipv4PacketInfo, &true)?;
    } else {
        setsockopt(socket, sockopt::Ipv6RecvPacketInfo, &true)?;
    }
    Ok(())
}

/// One datagram: its length, who sent it, and to which of our addresses.
async fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr, IpAddr)> {
    socket
        .async_io(Interest::READABLE, || {
            let mut space = nix::cmsg_space!(in_pktinfo, in6_pktinfo);
            let mut parts = [IoSliceMut::new(buffer)];
            let message =
                recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::empty())?;
            let local = message.cmsgs()?.find_map(|said| match said {
                ControlMessageOwned::Ipv4PacketInfo(info) => {
                    Some(IpAddr::V4(Ipv4Addr::from(u32::from_be(info.ipi_addr.s_addr))))
                }
                ControlMessageOwned::Ipv6PacketInfo(info) => Some(IpAddr::V6(Ipv6Addr::from(info.ipi6_addr.s6_addr))),
                _ => None,
            });
            let client = message.address.as_ref().and_then(address).ok_or(io::ErrorKind::InvalidData)?;
            Ok((message.bytes, client, local.ok_or(io::ErrorKind::InvalidData)?))
        })
        .await
}

fn address(storage: &SockaddrStorage) -> Option<SocketAddr> {
    let four = storage.as_sockaddr_in().map(|addr| SocketAddr::V4(SocketAddrV4::from(*addr)));
    four.or_else(|| storage.as_sockaddr_in6().map(|addr| SocketAddr::V6(SocketAddrV6::from(*addr))))
}

/// Sends from one of our addresses, which may be one among many.
async fn send(socket: &UdpSocket, bytes: &[u8], client: SocketAddr, local: IpAddr) -> io::Result<usize> {
    let to = SockaddrStorage::from(client);
    let parts = [IoSlice::new(bytes)];
    let fd = socket.as_raw_fd();
    socket
        .async_io(Interest::WRITABLE, || {
            let sent = match local {
                IpAddr::V4(ip) => {
                    let ours = in_addr { s_addr: u32::from(ip).to_be() };
                    let info = in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: ours, ipi_addr: in_addr { s_addr: 0 } };
                    sendmsg(fd, &parts, &[ControlMessage::Ipv4PacketInfo(&info)], MsgFlags::empty(), Some(&to))
                }
                IpAddr::V6(ip) => {
                    let info = in6_pktinfo { ipi6_addr: in6_addr { s6_addr: ip.octets() }, ipi6_ifindex: 0 };
                    sendmsg(fd, &parts, &[ControlMessage::Ipv6PacketInfo(&info)], MsgFlags::empty(), Some(&to))
                }
            };
            Ok(sent?)
        })
        .await
}
