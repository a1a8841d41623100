//! The packet socket of one interface, and the few other system calls of the ARP thread.
//!
//! The socket is our own rather than pnet's datalink: it is created with protocol 0, filtered, and only then bound to
//! one protocol on one interface, so that it never sees an unfiltered frame and needs no promiscuous mode; and it learns
//! the packet type, which pnet's receiver throws away. Without it a frame of a VLAN that has no interface here looks like
//! one of ours: the kernel strips the tag and marks the packet "other host" before a socket of one protocol sees it. (The
//! tag itself, as `PACKET_AUXDATA` tells it, is gone by then: only sockets of all protocols would see it.)
//!
//! All `unsafe` of this crate is in this file.

#![expect(unsafe_code, reason = "AF_PACKET addresses, ppoll, eventfd and the scheduler have no safe wrapper here")]

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, SockFilter, Socket, Type};

use crate::filter::{self, Instruction};

/// Bytes of a received frame that are kept; one of ARP is 42, padded to 60, one of Neighbor Discovery about 86.
pub(super) const SNAP_LEN: usize = filter::SNAP_LEN as usize;
/// Frames that may wait in the kernel, in bytes of its bookkeeping.
const RECEIVE_BUFFER: usize = 1 << 20;

/// What a packet socket sends and receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// ARP.
    Arp,
    /// IPv6, which a filter narrows down to Neighbor Discovery, or to ping.
    Ndp,
    /// IPv4, which a filter narrows down to ping.
    Ipv4,
}

/// A socket that sends and receives frames of one kind on one interface. Never blocks.
#[derive(Debug)]
pub(super) struct PacketSocket(Socket);

/// A received frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct Received {
    /// Its bytes in the buffer.
    pub(super) len: usize,
    /// Whether the kernel marked it as meant for another host, which a frame of another VLAN is, even a broadcast.
    pub(super) other_host: bool,
}

impl PacketSocket {
    /// Opens a socket on the interface with this number; it receives nothing until it is given a filter.
    pub(super) fn open(index: u32, kind: Kind) -> io::Result<Self> {
        let socket = Self::unbound()?;
        socket.attach_filter(&[SockFilter::new(RETURN, 0, 0, 0)])?;
        socket.set_nonblocking(true)?;
        socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
        socket.bind(&address(index, kind)?)?;
        Ok(Self(socket))
    }

    /// Receives from now on what this program lets through.
    pub(super) fn filter(&self, program: &[Instruction]) -> io::Result<()> {
        let instruction = |it: &Instruction| SockFilter::new(it.code, it.if_true, it.if_false, it.operand);
        self.0.attach_filter(&program.iter().map(instruction).collect::<Vec<_>>())
    }

    /// Whether this process may open such sockets at all.
    pub(super) fn permitted() -> io::Result<()> {
        Self::unbound().map(drop)
    }

    fn unbound() -> io::Result<Socket> {
        Socket::new_raw(Domain::PACKET, Type::RAW, Some(Protocol::from(0)))
    }

    /// Sends one frame, Ethernet header included.
    pub(super) fn send(&self, frame: &[u8]) -> io::Result<()> {
        self.0.send(frame).map(drop)
    }

    /// Receives one frame; `None` if none is waiting.
    pub(super) fn recv(&self, buffer: &mut [u8]) -> io::Result<Option<Received>> {
        // SAFETY: a sockaddr_ll of zeroes is valid.
        let mut from: libc::sockaddr_ll = unsafe { zeroed() };
        let mut from_len = socklen::<libc::sockaddr_ll>();
        // SAFETY: the descriptor is open; buffer and address are live and of the given lengths.
        let len = unsafe {
            libc::recvfrom(
                self.as_raw_fd(),
                buffer.as_mut_ptr().cast(),
                buffer.len(),
                libc::MSG_DONTWAIT,
                (&raw mut from).cast(),
                &raw mut from_len,
            )
        };
        match usize::try_from(len) {
            Ok(len) => Ok(Some(Received { len, other_host: from.sll_pkttype == libc::PACKET_OTHERHOST })),
            Err(_) => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
                error => Err(error),
            },
        }
    }
}

impl AsRawFd for PacketSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Ends a program for the kernel's packet filter.
const RETURN: u16 = 0x06;

/// The address "this kind of frame on interface `index`".
fn address(index: u32, kind: Kind) -> io::Result<SockAddr> {
    let protocol = match kind {
        Kind::Arp => libc::ETH_P_ARP,
        Kind::Ndp => libc::ETH_P_IPV6,
        Kind::Ipv4 => libc::ETH_P_IP,
    };
    let protocol = u16::try_from(protocol).expect("an EtherType has 16 bits");
    let index = i32::try_from(index).map_err(io::Error::other)?;
    // SAFETY: sockaddr_ll is smaller than the storage, which is zeroed; the length given is that of what is written.
    let ((), address) = unsafe {
        SockAddr::try_init(|storage, len| {
            let address = storage.cast::<libc::sockaddr_ll>();
            (*address).sll_family = u16::try_from(libc::AF_PACKET).expect("a family has 16 bits");
            (*address).sll_protocol = protocol.to_be();
            (*address).sll_ifindex = index;
            *len = socklen::<libc::sockaddr_ll>();
            Ok(())
        })
    }?;
    Ok(address)
}

/// Wakes a thread out of [`wait`].
#[derive(Debug)]
pub(super) struct Waker(File);

impl Waker {
    pub(super) fn new() -> io::Result<Self> {
        // SAFETY: takes no pointers.
        let fd = check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })?;
        // SAFETY: the descriptor was just created and nobody else owns it.
        Ok(Self(File::from(unsafe { OwnedFd::from_raw_fd(fd) })))
    }

    /// A second handle on the same.
    pub(super) fn try_clone(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }

    /// Makes the descriptor readable.
    pub(super) fn wake(&self) {
        // It fails only when the counter is full, and then the descriptor is readable already.
        let _ = (&self.0).write(&1_u64.to_ne_bytes());
    }

    /// Makes the descriptor unreadable again.
    pub(super) fn clear(&self) {
        // It fails only when nobody woke us, and then there is nothing to clear.
        let _ = (&self.0).read(&mut [0; 8]);
    }
}

impl AsRawFd for Waker {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// What to wait for: `fd` being readable.
pub(super) const fn readable(fd: RawFd) -> libc::pollfd {
    libc::pollfd { fd, events: libc::POLLIN, revents: 0 }
}

/// Waits until one of `fds` is readable (or broken), or the time is over; `None` waits for ever.
pub(super) fn wait(fds: &mut [libc::pollfd], timeout: Option<Duration>) -> io::Result<()> {
    let limit = timeout.map(|timeout| libc::timespec {
        tv_sec: libc::time_t::try_from(timeout.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: timeout.subsec_nanos().into(),
    });
    let limit = limit.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    let count = libc::nfds_t::try_from(fds.len()).map_err(io::Error::other)?;
    // SAFETY: `fds` is a live array of `count` entries; the limit is null or points to a live timespec.
    match check(unsafe { libc::ppoll(fds.as_mut_ptr(), count, limit, std::ptr::null()) }) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
        other => other.map(drop),
    }
}

/// Puts the calling thread before all that are not real-time, so that a busy machine still answers within 1 ms.
pub(super) fn make_realtime() -> io::Result<()> {
    /// Low among the real-time priorities: above every normal thread, below the kernel's own.
    const PRIORITY: libc::c_int = 5;
    // SAFETY: a sched_param of zeroes is valid.
    let mut parameters: libc::sched_param = unsafe { zeroed() };
    parameters.sched_priority = PRIORITY;
    // SAFETY: 0 is the calling thread; the parameters are live.
    check(unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameters) }).map(drop)
}

fn socklen<T>() -> libc::socklen_t {
    libc::socklen_t::try_from(size_of::<T>()).expect("a small type")
}

/// The result of a system call that answers -1 for failure.
fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
