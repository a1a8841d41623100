//! Whether somebody is still connected to a VIP, by what the kernel shows of its sockets.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether a socket in `table`, the text of `/proc/net/tcp` or `/proc/net/tcp6`, serves a client of one of `vips`.
///
/// A socket that waits for nothing but the client's last word does not count, nor does one that listens.
#[must_use]
pub fn is_connected(table: &str, vips: &BTreeSet<IpAddr>) -> bool {
    /// `ESTABLISHED`, `SYN_RECV`, `FIN_WAIT1`, `CLOSE_WAIT`, `LAST_ACK`, `CLOSING`.
    const BUSY: [&str; 6] = ["01", "03", "04", "08", "09", "0B"];
    let local = |line: &str| {
        let mut words = line.split_whitespace();
        let (local, state) = (words.nth(1)?, words.nth(1)?);
        if BUSY.contains(&state) { address(local.split_once(':')?.0) } else { None }
    };
    table.lines().filter_map(local).any(|ip| vips.contains(&ip))
}

/// An address as the kernel writes it there: words of four bytes, each as a number of this machine.
fn address(hex: &str) -> Option<IpAddr> {
    let word = |at: usize| Some(u32::from_str_radix(hex.get(at * 8..at * 8 + 8)?, 16).ok()?.to_ne_bytes());
    match hex.len() {
        8 => Some(Ipv4Addr::from(word(0)?).into()),
        32 => {
            let mut bytes = [0; 16];
            for (at, part) in bytes.chunks_exact_mut(4).enumerate() {
                part.copy_from_slice(&word(at)?);
            }
            Some(IpAddr::from(Ipv6Addr::from(bytes)).to_canonical())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::{TcpListener, TcpStream};

    use super::*;

    /// What this machine's own kernel says of sockets of our own.
    #[test]
    fn a_connection_is_seen_while_it_is_open_and_a_listener_is_not() {
        for vip in ["127.9.8.7", "::1"] {
            let vip: IpAddr = vip.parse().unwrap();
            let Ok(listener) = TcpListener::bind((vip, 0)) else { continue };
            let port = listener.local_addr().unwrap().port();
            let seen = || {
                let file = if vip.is_ipv4() { "/proc/net/tcp" } else { "/proc/net/tcp6" };
                let suffix = format!(":{port:04X}");
                let all = std::fs::read_to_string(file).unwrap();
                let ours =
                    all.lines().filter(|it| it.split_whitespace().nth(1).is_some_and(|it| it.ends_with(&suffix)));
                is_connected(&ours.collect::<Vec<_>>().join("\n"), &[vip].into())
            };
            assert!(!seen(), "{vip}: nobody is connected");
            let mut client = TcpStream::connect((vip, port)).unwrap();
            let server = listener.accept().unwrap().0;
            client.write_all(b"x").unwrap();
            assert!(seen(), "{vip}: a client is");
            drop((client, server));
        }
    }

    #[test]
    fn an_ipv4_client_of_a_dual_stack_socket_and_strange_lines_are_read() {
        let mapped: u32 = u32::from_ne_bytes([192, 0, 2, 10]);
        let marker = u32::from_ne_bytes([0, 0, 0xff, 0xff]);
        let line = format!("   1: 0000000000000000{marker:08X}{mapped:08X}:0050 0:0 01 0:0\n\u{e9}\n 2: x 01 01\n");
        assert!(is_connected(&line, &["192.0.2.10".parse().unwrap()].into()));
        assert!(!is_connected(&line, &["192.0.2.11".parse().unwrap()].into()));
        assert!(!is_connected(&line.replace(" 01 ", " 0A "), &["192.0.2.10".parse().unwrap()].into()));
    }
}
