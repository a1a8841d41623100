//! Opening the sockets.
//!
//! Every worker has a socket of its own for every listener; `SO_REUSEPORT` lets the kernel spread connections over
//! them without a lock or a wake-up shared between threads. All are bound before anything else starts, so that an
//! address that cannot be had is one clear error.

use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Protocol, Socket, Type};

use crate::streams::Carrier;

/// As many connections as the kernel lets wait for us; it caps this at `net.core.somaxconn`.
const BACKLOG: i32 = 65_535;

/// What is spoken on a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    /// Cleartext.
    Http,
    /// TLS.
    Https,
}

impl Scheme {
    /// As in a URL, and as the flag that sets the address.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// Why a listener could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Somebody else listens there.
    #[error(
        "{address} is already in use; stop the program that listens there, or choose another address with --{flag}"
    )]
    InUse {
        /// The address asked for.
        address: SocketAddr,
        /// The flag that sets it.
        flag: &'static str,
    },
    /// A privileged port.
    #[error(
        "no permission to listen on {address}; run as root or with CAP_NET_BIND_SERVICE, or choose a port from 1024 up \
         with --{flag}"
    )]
    Permission {
        /// The address asked for.
        address: SocketAddr,
        /// The flag that sets it.
        flag: &'static str,
    },
    /// Not an address of this machine.
    #[error("{address} is not an address of this machine; assign it to an interface, or choose another with --{flag}")]
    NotOurs {
        /// The address asked for.
        address: SocketAddr,
        /// The flag that sets it.
        flag: &'static str,
    },
    /// Anything else the system said.
    #[error("cannot listen on {address}; choose another address with --{flag}")]
    System {
        /// The address asked for.
        address: SocketAddr,
        /// The flag that sets it.
        flag: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// One address, with a bound socket for each worker.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) scheme: Scheme,
    /// With the port that the system chose if port 0 was asked for.
    pub(super) address: SocketAddr,
    pub(super) sockets: Vec<Socket>,
}

/// Binds all addresses, `workers` sockets each.
pub(super) fn bind_all(
    http: &[SocketAddr],
    https: &[SocketAddr],
    workers: usize,
) -> Result<Vec<Listener>, ListenError> {
    let http = http.iter().map(|address| (Scheme::Http, *address));
    let https = https.iter().map(|address| (Scheme::Https, *address));
    http.chain(https).map(|(scheme, address)| bind(scheme, address, workers)).collect()
}

fn bind(scheme: Scheme, asked: SocketAddr, workers: usize) -> Result<Listener, ListenError> {
    let explain = |source| explain(scheme, asked, source);
    let first = bind_socket(asked).map_err(explain)?;
    let address = first.local_addr().map_err(explain)?.as_socket().unwrap_or(asked);
    let mut sockets = vec![first];
    for _ in 1..workers {
        sockets.push(bind_socket(address).map_err(explain)?);
    }
    // Only now: a socket that listens while its siblings are still being bound would take all first connections.
    for socket in &sockets {
        socket.listen(BACKLOG).map_err(explain)?;
    }
    Ok(Listener { scheme, address, sockets })
}

/// A socket for a port that is not for HTTP.
pub(super) fn stream_socket(carrier: Carrier, address: SocketAddr) -> io::Result<Socket> {
    if carrier == Carrier::Tcp {
        let socket = bind_socket(address)?;
        socket.listen(BACKLOG)?;
        return Ok(socket);
    }
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn bind_socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    // Inherited by accepted connections, which saves a system call each.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn explain(scheme: Scheme, address: SocketAddr, source: io::Error) -> ListenError {
    let flag = scheme.as_str();
    match source.kind() {
        io::ErrorKind::AddrInUse => ListenError::InUse { address, flag },
        io::ErrorKind::PermissionDenied => ListenError::Permission { address, flag },
        io::ErrorKind::AddrNotAvailable => ListenError::NotOurs { address, flag },
        _ => ListenError::System { address, flag, source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

    #[test]
    fn all_workers_share_the_port_the_system_chose() {
        let listeners = bind_all(&[LOOPBACK], &[LOOPBACK], 3).unwrap();
        for listener in &listeners {
            assert_ne!(listener.address.port(), 0);
            let ports: Vec<_> = listener
                .sockets
                .iter()
                .map(|socket| socket.local_addr().unwrap().as_socket().unwrap().port())
                .collect();
            assert_eq!(ports, [listener.address.port(); 3]);
        }
        assert_ne!(listeners[0].address, listeners[1].address);
    }

    #[test]
    fn an_address_in_use_names_the_flag_to_change() {
        let other = std::net::TcpListener::bind(LOOPBACK).unwrap();
        let taken = other.local_addr().unwrap();
        let error = bind_all(&[], &[taken], 1).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "{taken} is already in use; stop the program that listens there, or choose another address with --https"
            )
        );
    }

    #[test]
    fn an_address_of_another_machine_is_refused() {
        let error = bind_all(&["192.0.2.1:0".parse().unwrap()], &[], 1).unwrap_err();
        assert!(matches!(error, ListenError::NotOurs { flag: "http", .. }), "{error:?}");
    }

    #[test]
    fn ipv4_and_ipv6_wildcards_can_have_the_same_port() {
        let v4 = bind_all(&["0.0.0.0:0".parse().unwrap()], &[], 2).unwrap();
        let v6 = SocketAddr::new(std::net::Ipv6Addr::UNSPECIFIED.into(), v4[0].address.port());
        match bind_all(&[v6], &[], 2) {
            Ok(listeners) => assert_eq!(listeners[0].address.port(), v4[0].address.port()),
            // A machine without IPv6, or another process that has this port there.
            Err(error) => assert!(!matches!(error, ListenError::Permission { .. }), "{error}"),
        }
    }
}
