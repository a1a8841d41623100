//! The two ways to write addresses: `192.0.2.0/28` and `192.0.2.10-192.0.2.20`.
//!
//! An IPv4-mapped IPv6 address counts as the IPv4 address in it, as in Go.

use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use ipnet::IpNet;

use crate::pool::AddressRange;
use crate::yaml::shorten;

/// Why a text is not a range of addresses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    /// The text is neither a prefix nor a `first-last` pair.
    #[error("{text:?} is not an address range; write it like 192.0.2.0/28 or 192.0.2.10-192.0.2.20")]
    Syntax {
        /// The text, shortened.
        text: String,
    },
    /// The text is one address.
    #[error("{address} is a single address, not a range; write it as {address}/{length}")]
    Single {
        /// The address.
        address: IpAddr,
        /// The prefix length that means just this address.
        length: u8,
    },
    /// The text is a prefix with blanks in it.
    #[error("{text:?} has blanks in it; write it without them")]
    Blanks {
        /// The text, shortened.
        text: String,
    },
    /// A number of an IPv4 address begins with 0.
    #[error("{text:?} has a number with a leading zero, which some read as octal; write it without")]
    LeadingZero {
        /// The text, shortened.
        text: String,
    },
    /// The length of a prefix is not one.
    #[error("/{found} is not a prefix length for {address}; write a number from 0 to {most}")]
    Length {
        /// The text behind the slash.
        found: String,
        /// The address before it.
        address: IpAddr,
        /// The longest prefix of its family.
        most: u8,
    },
    /// The prefix length is written as a netmask.
    #[error("write the netmask {mask} as a prefix length: {address}/{length}")]
    Netmask {
        /// The netmask.
        mask: Ipv4Addr,
        /// The address before it.
        address: IpAddr,
        /// The same as a prefix length.
        length: u8,
    },
    /// Only the last number of the second address is written.
    #[error("{text:?} leaves out a part of its end; did you mean {first}-{last}?")]
    Short {
        /// The text, shortened.
        text: String,
        /// The first address.
        first: Ipv4Addr,
        /// What the end probably is.
        last: Ipv4Addr,
    },
    /// Both ends parse, of different families.
    #[error("address range {first}-{last} begins in one address family and ends in the other; write two ranges")]
    MixedFamilies {
        /// The first address.
        first: IpAddr,
        /// The last address.
        last: IpAddr,
    },
    /// Both ends parse, in the wrong order.
    #[error("address range {first}-{last} runs backwards; did you mean {last}-{first}?")]
    Backward {
        /// The first address, the higher one.
        first: IpAddr,
        /// The last address, the lower one.
        last: IpAddr,
    },
}

impl FromStr for AddressRange {
    type Err = RangeError;

    fn from_str(text: &str) -> Result<Self, RangeError> {
        match text.split_once('-') {
            Some((first, last)) => pair(text, first.trim(), last.trim()),
            None => prefix(text),
        }
    }
}

fn pair(text: &str, first: &str, last: &str) -> Result<AddressRange, RangeError> {
    let start = address(first).ok_or_else(|| unreadable(text, first))?;
    let end = address(last).ok_or_else(|| match (start, last.parse()) {
        (IpAddr::V4(first), Ok(number)) => {
            let [a, b, c, _] = first.octets();
            RangeError::Short { text: shorten(text), first, last: Ipv4Addr::new(a, b, c, number) }
        }
        _ => unreadable(text, last),
    })?;
    if start.is_ipv4() != end.is_ipv4() {
        return Err(RangeError::MixedFamilies { first: start, last: end });
    }
    AddressRange::new(start, end).ok_or(RangeError::Backward { first: start, last: end })
}

fn prefix(text: &str) -> Result<AddressRange, RangeError> {
    if text.contains(char::is_whitespace) && text.split_whitespace().collect::<String>().parse::<AddressRange>().is_ok()
    {
        return Err(RangeError::Blanks { text: shorten(text) });
    }
    let Some((start, length)) = text.split_once('/') else {
        let single = |address: IpAddr| RangeError::Single { address, length: width(address) };
        return Err(address(text.trim()).map_or_else(|| unreadable(text, text), single));
    };
    let written: IpAddr = start.parse().map_err(|_| unreadable(text, start))?;
    if let (IpAddr::V4(_), Some((mask, length))) = (written, netmask(length)) {
        return Err(RangeError::Netmask { mask, address: written, length });
    }
    let bad = || RangeError::Length { found: shorten(length), address: written, most: width(written) };
    let decimal = length.bytes().all(|byte| byte.is_ascii_digit()) && (length == "0" || !length.starts_with('0'));
    let length = length.parse().ok().filter(|_| decimal).ok_or_else(bad)?;
    let net = IpNet::new(written, length).map_err(|_| bad())?;
    let (first, last) = match (net.network(), net.broadcast()) {
        (IpAddr::V6(first), IpAddr::V6(last)) if length >= 96 => {
            match (first.to_ipv4_mapped(), last.to_ipv4_mapped()) {
                (Some(first), Some(last)) => (IpAddr::V4(first), IpAddr::V4(last)),
                _ => (IpAddr::V6(first), IpAddr::V6(last)),
            }
        }
        ends => ends,
    };
    AddressRange::new(first, last).ok_or_else(bad)
}

fn address(text: &str) -> Option<IpAddr> {
    Some(text.parse::<IpAddr>().ok()?.to_canonical())
}

/// A netmask and the prefix length that it means.
fn netmask(text: &str) -> Option<(Ipv4Addr, u8)> {
    let mask = text.parse().ok()?;
    Some((mask, ipnet::ipv4_mask_to_prefix(mask).ok()?))
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// Why `part` of `text` is no address.
fn unreadable(text: &str, part: &str) -> RangeError {
    let octets: Vec<_> = part.split('.').collect();
    let numbers = octets.len() == 4 && octets.iter().all(|octet| octet.parse::<u8>().is_ok());
    if numbers && octets.iter().any(|octet| octet.len() > 1 && octet.starts_with('0')) {
        return RangeError::LeadingZero { text: shorten(text) };
    }
    RangeError::Syntax { text: shorten(text) }
}

/// The length of the widest prefix that lies in a range.
pub(super) fn widest_prefix(range: &AddressRange) -> u8 {
    let bits = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => u128::from(ip.to_bits()),
        IpAddr::V6(ip) => ip.to_bits(),
    };
    let (first, last, width) = (bits(range.first()), bits(range.last()), width(range.first()));
    let fits = |length: &u8| {
        // All but the topmost address of a block of that length, so that the whole space does not overflow.
        let rest = 1u128.checked_shl((width - length).into()).map_or(u128::MAX, |size| size - 1);
        let start = first.checked_add(rest).map(|bits| bits & !rest);
        let start = if first & rest == 0 { Some(first) } else { start };
        start.and_then(|start| start.checked_add(rest)).is_some_and(|end| end <= last)
    };
    (0..width).find(fits).unwrap_or(width)
}
