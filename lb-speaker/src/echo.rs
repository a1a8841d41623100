//! Answers to ping for VIPs, where nobody else gives them: kube-proxy redirects the ports of a Service and nothing more,
//! so that people who ping a VIP think it is broken.
//!
//! A request becomes its own answer, in place: [`answer`] is strict and total. Bytes of a request, Ethernet header
//! included, integers big-endian:
//!
//! | IPv4  | IPv6  | field                                                          |
//! |-------|-------|----------------------------------------------------------------|
//! | 0-13  | 0-13  | Ethernet header                                                |
//! | 14-33 | 14-53 | IP header without options or extension headers                 |
//! | 34-37 | 54-57 | type (8, 128), code 0, checksum; the answer's types are 0, 129 |
//! | 38-   | 58-   | identifier, sequence number, data: sent back as they are       |
//!
//! Pure. Source: RFC 792, RFC 4443 §4, RFC 1122 §3.2.2.6.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use pnet::packet::icmp::{self, IcmpPacket};
use pnet::packet::icmpv6::{self, Icmpv6Packet};
use pnet::packet::ipv4::{self, Ipv4Packet};

use crate::arp::{MULTICAST, MacAddr};

/// The longest request that is answered: an Ethernet frame without jumbo.
pub const FRAME_MAX: usize = 1514;
const HEADER_LEN: usize = 14;
const IPV4: [u8; 2] = [0x08, 0x00];
const IPV6: [u8; 2] = [0x86, 0xdd];
/// Hops that an answer may take.
const HOPS: u8 = 64;

/// Makes `frame`, received by the interface with this hardware address, the answer to itself; how many of its bytes
/// the answer takes, and the VIP that gives it. `None`, with `frame` in any state, for what is no request to a VIP.
pub fn answer(frame: &mut [u8], mac: MacAddr, is_vip: impl Fn(IpAddr) -> bool) -> Option<(usize, IpAddr)> {
    let (ethernet, packet) = frame.split_at_mut_checked(HEADER_LEN)?;
    let from_group = ethernet[6] & MULTICAST != 0;
    if ethernet[..6] != mac.octets() || from_group {
        return None;
    }
    let (len, vip) = match [ethernet[12], ethernet[13]] {
        IPV4 => answer_v4(packet, is_vip)?,
        IPV6 => answer_v6(packet, is_vip)?,
        _ => return None,
    };
    ethernet.copy_within(6..12, 0);
    ethernet[6..12].copy_from_slice(&mac.octets());
    Some((HEADER_LEN + len, vip))
}

fn answer_v4(packet: &mut [u8], is_vip: impl Fn(IpAddr) -> bool) -> Option<(usize, IpAddr)> {
    const HEADER: usize = 20;
    const PLAIN: u8 = 0x45;
    const ICMP: u8 = 1;
    let [version, _, long, short, _, _, flags, offset, _, protocol, ..] = *packet else { return None };
    let len = usize::from(u16::from_be_bytes([long, short]));
    let fragment = u16::from_be_bytes([flags, offset]) & 0x3fff;
    if version != PLAIN || protocol != ICMP || fragment != 0 {
        return None;
    }
    let (header, message) = packet.get_mut(..len)?.split_at_mut_checked(HEADER)?;
    let (source, vip) = (ipv4_at(header, 12)?, ipv4_at(header, 16)?);
    let valid = ipv4::checksum(&Ipv4Packet::new(header)?) == u16::from_be_bytes([header[10], header[11]]);
    if !valid || !is_vip(vip.into()) || source.is_multicast() || source.is_broadcast() || source.is_unspecified() {
        return None;
    }
    let [8, 0, high, low, ..] = *message else { return None };
    if icmp::checksum(&IcmpPacket::new(message)?) != u16::from_be_bytes([high, low]) {
        return None;
    }
    message[0] = 0;
    let sum = icmp::checksum(&IcmpPacket::new(message)?);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    header[8] = HOPS;
    header[12..16].copy_from_slice(&vip.octets());
    header[16..20].copy_from_slice(&source.octets());
    let sum = ipv4::checksum(&Ipv4Packet::new(header)?);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    Some((len, vip.into()))
}

fn answer_v6(packet: &mut [u8], is_vip: impl Fn(IpAddr) -> bool) -> Option<(usize, IpAddr)> {
    const HEADER: usize = 40;
    const ICMPV6: u8 = 58;
    const REQUEST: u8 = 128;
    const REPLY: u8 = 129;
    let [version, _, _, _, long, short, next, ..] = *packet else { return None };
    let len = HEADER + usize::from(u16::from_be_bytes([long, short]));
    if version >> 4 != 6 || next != ICMPV6 {
        return None;
    }
    let (header, message) = packet.get_mut(..len)?.split_at_mut_checked(HEADER)?;
    let (source, vip) = (ipv6_at(header, 8)?, ipv6_at(header, 24)?);
    if !is_vip(vip.into()) || source.is_multicast() || source.is_unspecified() {
        return None;
    }
    let [REQUEST, 0, high, low, ..] = *message else { return None };
    if icmpv6::checksum(&Icmpv6Packet::new(message)?, &source, &vip) != u16::from_be_bytes([high, low]) {
        return None;
    }
    message[0] = REPLY;
    let sum = icmpv6::checksum(&Icmpv6Packet::new(message)?, &vip, &source);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    header[7] = HOPS;
    header[8..24].copy_from_slice(&vip.octets());
    header[24..40].copy_from_slice(&source.octets());
    Some((len, vip.into()))
}

fn ipv4_at(bytes: &[u8], at: usize) -> Option<Ipv4Addr> {
    <[u8; 4]>::try_from(bytes.get(at..at + 4)?).ok().map(Ipv4Addr::from)
}

fn ipv6_at(bytes: &[u8], at: usize) -> Option<Ipv6Addr> {
    <[u8; 16]>::try_from(bytes.get(at..at + 16)?).ok().map(Ipv6Addr::from)
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    const US: MacAddr = MacAddr(2, 0, 0, 0, 0, 1);
    const PEER: MacAddr = MacAddr(2, 0, 0, 0, 0, 9);
    const VIP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
    const ASKER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
    const VIP6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10);
    const ASKER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 7);

    fn is_vip(ip: IpAddr) -> bool {
        ip == VIP || ip == VIP6
    }

    /// A correct frame from `PEER` to `US`: `kind` of 8 or 0 from `from` to `to`, with this data.
    pub(crate) fn v4(kind: u8, from: Ipv4Addr, to: Ipv4Addr, data: &[u8]) -> Vec<u8> {
        let mut message = [&[kind, 0, 0, 0, 1, 2, 0, 3], data].concat();
        let sum = icmp::checksum(&IcmpPacket::new(&message).unwrap());
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        let len = u16::try_from(20 + message.len()).unwrap().to_be_bytes();
        let mut header =
            [&[0x45, 0, len[0], len[1], 0, 7, 0x40, 0, HOPS, 1, 0, 0], &from.octets()[..], &to.octets()].concat();
        let sum = ipv4::checksum(&Ipv4Packet::new(&header).unwrap());
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        [&US.octets()[..], &PEER.octets(), &IPV4, &header, &message].concat()
    }

    pub(crate) fn v6(kind: u8, from: Ipv6Addr, to: Ipv6Addr, data: &[u8]) -> Vec<u8> {
        let mut message = [&[kind, 0, 0, 0, 1, 2, 0, 3], data].concat();
        let sum = icmpv6::checksum(&Icmpv6Packet::new(&message).unwrap(), &from, &to);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        let len = u16::try_from(message.len()).unwrap().to_be_bytes();
        let header = [&[0x60, 0, 0, 0, len[0], len[1], 58, HOPS], &from.octets()[..], &to.octets()].concat();
        [&US.octets()[..], &PEER.octets(), &IPV6, &header, &message].concat()
    }

    /// The same frame between the same stations the other way.
    fn back(mut frame: Vec<u8>) -> Vec<u8> {
        frame[..6].copy_from_slice(&PEER.octets());
        frame[6..12].copy_from_slice(&US.octets());
        frame
    }

    proptest! {
        #[test]
        fn a_request_comes_back_with_its_data(data in prop::collection::vec(any::<u8>(), 0..200), padding in 0_usize..20) {
            for (mut request, expected, vip) in [
                (v4(8, ASKER, VIP, &data), back(v4(0, VIP, ASKER, &data)), IpAddr::V4(VIP)),
                (v6(128, ASKER6, VIP6, &data), back(v6(129, VIP6, ASKER6, &data)), IpAddr::V6(VIP6)),
            ] {
                request.resize(request.len() + padding, 0);
                let answered = answer(&mut request, US, is_vip);
                prop_assert_eq!(answered, Some((expected.len(), vip)));
                prop_assert_eq!(&request[..expected.len()], &expected[..]);
            }
        }

        #[test]
        fn any_bytes_are_answered_or_not(mut bytes in prop::collection::vec(any::<u8>(), 0..120)) {
            let _ = answer(&mut bytes, US, |_| true);
        }

        #[test] // random bytes seldom get past the header
        fn a_frame_with_a_flipped_byte_is_answered_only_where_no_checksum_covers_it(at in 0_usize..66, to: u8, len in 0_usize..=66) {
            for whole in [v4(8, ASKER, VIP, &[7; 24]), v6(128, ASKER6, VIP6, &[7; 4])] {
                let mut bytes = whole.clone();
                bytes[at] = to;
                if let Some((answered, _)) = answer(&mut bytes[..len.min(whole.len())], US, is_vip) {
                    prop_assert!(answered == len && to == whole[at] || (6..12).contains(&at) || (at >= 14 && whole[12] == 0x86));
                }
            }
        }
    }

    #[test]
    fn what_is_no_request_to_a_vip_is_not_answered() {
        let good = v4(8, ASKER, VIP, b"data");
        for (what, frame) in [
            ("an answer", v4(0, VIP, ASKER, b"data")),
            ("to another address", v4(8, ASKER, ASKER, b"data")),
            ("from everybody", v4(8, Ipv4Addr::BROADCAST, VIP, b"data")),
            ("from a group", v6(128, Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1), VIP6, b"data")),
            ("from nobody", v6(128, Ipv6Addr::UNSPECIFIED, VIP6, b"data")),
            ("another message", v6(135, ASKER6, VIP6, b"data")),
            ("cut off", good[..good.len() - 1].to_vec()),
            ("a fragment", [&good[..20], &[0x20, 0], &good[22..]].concat()),
            ("to everybody's hardware address", [&[0xff; 6], &good[6..]].concat()),
            ("nothing", Vec::new()),
        ] {
            let mut frame = frame;
            assert_eq!(answer(&mut frame, US, is_vip), None, "{what}");
        }
    }
}
