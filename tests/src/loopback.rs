//! Loopback addresses that only one test uses.
//!
//! Linux answers for all of 127.0.0.0/8. The appliance listens with `SO_REUSEPORT`, so two of them on one port would
//! share it without an error; an address for each makes that impossible, whatever runs beside.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering};

/// How many addresses one test process may take.
const PER_PROCESS: u16 = 512;

/// An address of 127.64.0.0/10 that nobody else has: the process picks a block by its id, each call the next of it.
///
/// # Panics
/// After 512 calls in one process.
#[must_use]
pub fn address() -> Ipv4Addr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let index = NEXT.fetch_add(1, Ordering::Relaxed);
    assert!(index < PER_PROCESS, "a test process may take {PER_PROCESS} loopback addresses");
    let block = std::process::id() % (1 << 13);
    Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 64, 0, 0)) + block * u32::from(PER_PROCESS) + u32::from(index))
}

/// A free port of `address`, from the system.
#[must_use]
pub fn port(address: Ipv4Addr) -> SocketAddr {
    let listener = TcpListener::bind(SocketAddrV4::new(address, 0)).expect("loopback addresses can be bound");
    listener.local_addr().expect("a bound socket has an address")
}

/// A UDP port that is free on every address, from the system.
#[must_use]
pub fn udp_port() -> u16 {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a free port can be bound");
    socket.local_addr().expect("a bound socket has an address").port()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_address_is_given_twice_and_all_can_be_bound() {
        let (first, second) = (address(), address());
        assert_ne!(first, second);
        assert!(port(first).port() > 0);
    }
}
