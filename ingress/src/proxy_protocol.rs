//! The PROXY protocol: who a connection is of, told by a proxy before its first byte.
//!
//! ```text
//! v1   PROXY TCP4 203.0.113.9 192.0.2.1 4711 443\r\n          at most 107 bytes
//! v2   \r\n\r\n\0\r\nQUIT\n, command, family, length, addresses, TLVs
//! ```
//!
//! Total over all input; whatever is not exactly one of the two is refused. Source: The PROXY protocol, versions 1 & 2
//! (haproxy.org, 2020-03-05), §2.1 and §2.2.
//!
//! Pure. Who reads it from a socket: `io::proxied`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What version 2 begins with.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// The longest header of version 1, with its line end.
const LONGEST_LINE: usize = 107;
/// Bytes that may follow the first 16 of version 2; nginx takes as many.
const LONGEST_BODY: usize = 4096;

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// The proxy speaks for itself, or does not know: the connection's own addresses count.
    Local,
    /// Whose connection it is, and to where.
    Proxied {
        /// The client.
        source: SocketAddr,
        /// Where it connected to.
        destination: SocketAddr,
    },
}

/// Why bytes are no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    /// They begin like neither version.
    #[error("the connection does not begin with a PROXY header")]
    Missing,
    /// A line that is too long, or is not what version 1 says.
    #[error("the PROXY line is malformed")]
    Line,
    /// The addresses are of another family than the line says, or are none.
    #[error("the addresses of the PROXY header are malformed")]
    Addresses,
    /// A version, command or family that there is not.
    #[error("the binary PROXY header is of an unknown version, command or family")]
    Unknown,
    /// More than we hold.
    #[error("the binary PROXY header is too long")]
    Long,
}

/// Reads a header from the beginning of `bytes`, with its length; `None` while it is not complete.
///
/// Whether it is complete, and what it says, does not depend on how the bytes were cut.
pub fn parse(bytes: &[u8]) -> Result<Option<(Header, usize)>, ProxyError> {
    let signed = bytes.len().min(SIGNATURE.len());
    if bytes[..signed] == SIGNATURE[..signed] {
        return binary(bytes);
    }
    let named = bytes.len().min(6);
    if bytes[..named] == b"PROXY "[..named] { line(bytes) } else { Err(ProxyError::Missing) }
}

/// Version 1.
fn line(bytes: &[u8]) -> Result<Option<(Header, usize)>, ProxyError> {
    let seen = &bytes[..bytes.len().min(LONGEST_LINE)];
    let Some(end) = seen.iter().position(|byte| *byte == b'\n') else {
        return if seen.len() == LONGEST_LINE { Err(ProxyError::Line) } else { Ok(None) };
    };
    let text = str::from_utf8(&seen[..end]).ok().and_then(|line| line.strip_suffix('\r')).ok_or(ProxyError::Line)?;
    let mut words = text.split(' ').skip(1);
    let family = words.next();
    if family == Some("UNKNOWN") {
        return Ok(Some((Header::Local, end + 1)));
    }
    let (Some(from), Some(to), Some(from_port), Some(to_port), None) =
        (words.next(), words.next(), words.next(), words.next(), words.next())
    else {
        return Err(ProxyError::Line);
    };
    let address = |text: &str| match family {
        Some("TCP4") => text.parse().map(IpAddr::V4).map_err(|_| ProxyError::Addresses),
        Some("TCP6") => text.parse().map(IpAddr::V6).map_err(|_| ProxyError::Addresses),
        _ => Err(ProxyError::Line),
    };
    let source = SocketAddr::new(address(from)?, port(from_port)?);
    let destination = SocketAddr::new(address(to)?, port(to_port)?);
    Ok(Some((Header::Proxied { source, destination }, end + 1)))
}

/// Digits without leading zeros.
fn port(text: &str) -> Result<u16, ProxyError> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if is_plain { text.parse().map_err(|_| ProxyError::Addresses) } else { Err(ProxyError::Addresses) }
}

/// Version 2.
fn binary(bytes: &[u8]) -> Result<Option<(Header, usize)>, ProxyError> {
    let Some(&[command, family, high, low]) = bytes.get(12..16) else { return Ok(None) };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if !matches!(command, 0x20 | 0x21) {
        return Err(ProxyError::Unknown);
    }
    if length > LONGEST_BODY {
        return Err(ProxyError::Long);
    }
    let Some(body) = bytes.get(16..16 + length) else { return Ok(None) };
    let header = match (command, family) {
        (0x21, 0x11 | 0x12) => addresses::<4>(body, |ip| Ipv4Addr::from(ip).into())?,
        (0x21, 0x21 | 0x22) => addresses::<16>(body, |ip| Ipv6Addr::from(ip).into())?,
        // The proxy itself; or nothing that has an address: unspecified, a path of the proxy's machine.
        (0x20, _) | (_, 0x00 | 0x31 | 0x32) => Header::Local,
        _ => return Err(ProxyError::Unknown),
    };
    Ok(Some((header, 16 + length)))
}

/// Two addresses, then two ports.
fn addresses<const N: usize>(body: &[u8], ip: fn([u8; N]) -> IpAddr) -> Result<Header, ProxyError> {
    let (from, rest) = body.split_first_chunk::<N>().ok_or(ProxyError::Addresses)?;
    let (to, rest) = rest.split_first_chunk::<N>().ok_or(ProxyError::Addresses)?;
    let (ports, _) = rest.split_first_chunk::<4>().ok_or(ProxyError::Addresses)?;
    let [from_port, to_port] = [[ports[0], ports[1]], [ports[2], ports[3]]].map(u16::from_be_bytes);
    let source = SocketAddr::new(ip(*from), from_port);
    Ok(Header::Proxied { source, destination: SocketAddr::new(ip(*to), to_port) })
}

/// The line of version 1 that tells an endpoint whose connection this is.
#[must_use]
pub fn write(source: SocketAddr, destination: SocketAddr) -> String {
    let (from, to) = (source.ip().to_canonical(), destination.ip().to_canonical());
    let ports = format!("{} {}", source.port(), destination.port());
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => format!("PROXY TCP4 {from} {to} {ports}\r\n"),
        (IpAddr::V6(from), IpAddr::V6(to)) => format!("PROXY TCP6 {from} {to} {ports}\r\n"),
        // The two have to be of one family.
        (IpAddr::V4(from), IpAddr::V6(to)) => format!("PROXY TCP6 {} {to} {ports}\r\n", from.to_ipv6_mapped()),
        (IpAddr::V6(from), IpAddr::V4(to)) => format!("PROXY TCP6 {from} {} {ports}\r\n", to.to_ipv6_mapped()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxied(source: &str, destination: &str) -> Header {
        Header::Proxied { source: source.parse().unwrap(), destination: destination.parse().unwrap() }
    }

    fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, body].concat()
    }

    #[test]
    fn both_versions_tell_who_it_is() {
        let four = [203, 0, 113, 9, 192, 0, 2, 1, 0x12, 0x67, 0x01, 0xbb];
        let mut six = [0; 36];
        (six[15], six[31], six[33], six[35]) = (1, 2, 80, 81);
        for (bytes, expected) in [
            (b"PROXY TCP4 203.0.113.9 192.0.2.1 4711 443\r\n".to_vec(), proxied("203.0.113.9:4711", "192.0.2.1:443")),
            (b"PROXY TCP6 2001:db8::9 ::1 1 2\r\n".to_vec(), proxied("[2001:db8::9]:1", "[::1]:2")),
            (b"PROXY UNKNOWN\r\n".to_vec(), Header::Local),
            (b"PROXY UNKNOWN whatever it may be\r\n".to_vec(), Header::Local),
            (v2(0x21, 0x11, &four), proxied("203.0.113.9:4711", "192.0.2.1:443")),
            (v2(0x21, 0x11, &[&four[..], b"\x04\x00\x01x"].concat()), proxied("203.0.113.9:4711", "192.0.2.1:443")),
            (v2(0x21, 0x21, &six), proxied("[::1]:80", "[::2]:81")),
            (v2(0x20, 0x00, b""), Header::Local),
            (v2(0x21, 0x31, &[0; 216]), Header::Local),
        ] {
            let length = bytes.len();
            let followed = [&bytes[..], b"GET / HTTP/1.1\r\n"].concat();
            assert_eq!(parse(&followed), Ok(Some((expected, length))), "{:?}", String::from_utf8_lossy(&bytes));
            for cut in 0..length {
                assert_eq!(parse(&bytes[..cut]), Ok(None), "{cut} of {:?}", String::from_utf8_lossy(&bytes));
            }
        }
    }

    #[test]
    fn anything_else_is_refused() {
        let long = [b"PROXY UNKNOWN ".as_slice(), &[b'x'; 100]].concat();
        for (bytes, expected) in [
            (b"GET / HTTP/1.1\r\n".to_vec(), ProxyError::Missing),
            (b"\x16\x03\x01".to_vec(), ProxyError::Missing),
            (b"PROXY TCP4 203.0.113.9 192.0.2.1 4711\r\n".to_vec(), ProxyError::Line),
            (b"PROXY TCP4 203.0.113.9 192.0.2.1 4711 443 5\r\n".to_vec(), ProxyError::Line),
            (b"PROXY TCP4 203.0.113.9 192.0.2.1 4711 443\n".to_vec(), ProxyError::Line),
            (b"PROXY TCP4 203.0.113.9 192.0.2.1 04711 443\r\n".to_vec(), ProxyError::Addresses),
            (b"PROXY TCP4 203.0.113.9 192.0.2.1 4711 70000\r\n".to_vec(), ProxyError::Addresses),
            (b"PROXY TCP4 ::1 ::2 4711 443\r\n".to_vec(), ProxyError::Addresses),
            (b"PROXY UDP4 1.1.1.1 1.1.1.1 1 1\r\n".to_vec(), ProxyError::Line),
            (long, ProxyError::Line),
            (v2(0x22, 0x11, b""), ProxyError::Unknown),
            (v2(0x11, 0x11, b""), ProxyError::Unknown),
            (v2(0x21, 0x13, b""), ProxyError::Unknown),
            (v2(0x21, 0x11, b"short"), ProxyError::Addresses),
            (v2(0x21, 0x11, &[0; 5000]), ProxyError::Long),
        ] {
            assert_eq!(parse(&bytes), Err(expected), "{:?}", String::from_utf8_lossy(&bytes));
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_is_what_is_read(from: (u32, u16), to: (u32, u16), mixed: bool) {
            let addr = |(ip, port): (u32, u16)| SocketAddr::new(Ipv4Addr::from(ip).into(), port);
            let six = |(ip, port): (u32, u16)| SocketAddr::new(Ipv6Addr::from(u128::from(ip) << 64 | 1).into(), port);
            let (source, destination) = (addr(from), if mixed { six(to) } else { addr(to) });
            let line = write(source, destination);
            let read = parse(line.as_bytes()).unwrap().unwrap();
            proptest::prop_assert_eq!(read.1, line.len());
            let Header::Proxied { source: read_source, destination: read_destination } = read.0 else { panic!() };
            proptest::prop_assert_eq!(read_source.ip().to_canonical(), source.ip());
            proptest::prop_assert_eq!((read_source.port(), read_destination), (source.port(), destination));
        }

        #[test]
        fn no_bytes_are_too_strange(bytes: Vec<u8>, start in 0_usize..3) {
            let begun = [&b""[..], b"PROXY ", &SIGNATURE[..]][start];
            let all = [begun, &bytes].concat();
            if let Ok(Some((_, length))) = parse(&all) {
                proptest::prop_assert!(length <= all.len());
                proptest::prop_assert_eq!(parse(&all[..length]), parse(&all));
            }
        }
    }
}
