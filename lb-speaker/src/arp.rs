//! ARP on the wire: IPv4 over Ethernet, RFC 826.
//!
//! [`decode`] is strict and total; it says why it drops a frame. What a frame means: [`crate::announcer`].
//!
//! Every frame is 42 bytes, integers big-endian (the driver pads to Ethernet's minimum of 60):
//!
//! | bytes | field                     |
//! |-------|---------------------------|
//! | 0-13  | Ethernet header           |
//! | 14-21 | ARP fixed part, operation |
//! | 22-31 | sender hardware, protocol |
//! | 32-41 | target hardware, protocol |

use std::net::Ipv4Addr;

use pnet::packet::Packet as _;
use pnet::packet::arp::{ArpHardwareTypes, ArpOperations, ArpPacket, MutableArpPacket};
use pnet::packet::ethernet::{EtherTypes, EthernetPacket, MutableEthernetPacket};
pub use pnet::util::MacAddr;

pub use crate::dropped::DropReason;

/// Bytes of a frame as we send it.
pub const FRAME_LEN: usize = HEADER_LEN + ARP_LEN;
const HEADER_LEN: usize = 14;
const ARP_LEN: usize = 28;
/// The multicast bit of a hardware address: set also in the broadcast address.
pub(crate) const MULTICAST: u8 = 1;

/// What an ARP frame does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Asks who has the target address.
    Request,
    /// Tells.
    Reply,
}

/// One ARP frame, Ethernet header included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Frame {
    /// To whom the frame is sent.
    pub destination: MacAddr,
    /// Who sent the frame.
    pub source: MacAddr,
    /// What it does.
    pub operation: Operation,
    /// The hardware address that the sender claims for [`Self::sender_ip`].
    pub sender_mac: MacAddr,
    /// The address of the sender; unspecified in a probe (RFC 5227 §1.1).
    pub sender_ip: Ipv4Addr,
    /// The hardware address of the target.
    pub target_mac: MacAddr,
    /// The address asked for, or answered to.
    pub target_ip: Ipv4Addr,
}

/// Asks whether anybody has `ip`, without claiming it.
///
/// Source: RFC 5227 §2.1.1.
#[must_use]
pub const fn probe(mac: MacAddr, ip: Ipv4Addr) -> Frame {
    Frame { sender_ip: Ipv4Addr::UNSPECIFIED, ..announcement(mac, ip) }
}

/// Tells a LAN that `vip` is now at `mac`, in the request form: every Linux neighbour takes it, even one that was
/// updated within the last second.
///
/// Source: RFC 5227 §2.3 and §3 (why a request and not a reply).
#[must_use]
pub const fn announcement(mac: MacAddr, vip: Ipv4Addr) -> Frame {
    Frame {
        destination: BROADCAST,
        source: mac,
        operation: Operation::Request,
        sender_mac: mac,
        sender_ip: vip,
        target_mac: ZERO,
        target_ip: vip,
    }
}

/// Tells a LAN the same in the reply form, for devices that take only this one.
///
/// The target hardware address is the sender's: with the broadcast address there, as `MetalLB` sends it, Linux ignores
/// the frame for a second after any other update.
#[must_use]
pub const fn announcement_reply(mac: MacAddr, vip: Ipv4Addr) -> Frame {
    Frame { operation: Operation::Reply, target_mac: mac, ..announcement(mac, vip) }
}

/// Answers a request: "`vip` is at `mac`", to the asker alone.
#[must_use]
pub const fn answer(mac: MacAddr, vip: Ipv4Addr, asker_mac: MacAddr, asker_ip: Ipv4Addr) -> Frame {
    Frame {
        destination: asker_mac,
        source: mac,
        operation: Operation::Reply,
        sender_mac: mac,
        sender_ip: vip,
        target_mac: asker_mac,
        target_ip: asker_ip,
    }
}

/// The hardware address of everybody.
pub const BROADCAST: MacAddr = MacAddr(0xff, 0xff, 0xff, 0xff, 0xff, 0xff);
/// The hardware address of nobody.
pub const ZERO: MacAddr = MacAddr(0, 0, 0, 0, 0, 0);

/// Writes a frame as it goes on the wire.
#[must_use]
pub fn encode(frame: &Frame) -> [u8; FRAME_LEN] {
    let mut bytes = [0; FRAME_LEN];
    let (header, payload) = bytes.split_at_mut(HEADER_LEN);
    let mut ethernet = MutableEthernetPacket::new(header).expect("14 bytes hold an Ethernet header");
    ethernet.set_destination(frame.destination);
    ethernet.set_source(frame.source);
    ethernet.set_ethertype(EtherTypes::Arp);
    let mut arp = MutableArpPacket::new(payload).expect("28 bytes hold an ARP packet");
    arp.set_hardware_type(ArpHardwareTypes::Ethernet);
    arp.set_protocol_type(EtherTypes::Ipv4);
    arp.set_hw_addr_len(6);
    arp.set_proto_addr_len(4);
    arp.set_operation(match frame.operation {
        Operation::Request => ArpOperations::Request,
        Operation::Reply => ArpOperations::Reply,
    });
    arp.set_sender_hw_addr(frame.sender_mac);
    arp.set_sender_proto_addr(frame.sender_ip);
    arp.set_target_hw_addr(frame.target_mac);
    arp.set_target_proto_addr(frame.target_ip);
    bytes
}

/// Reads a received frame; bytes past [`FRAME_LEN`] are padding.
///
/// # Errors
///
/// The first reason that holds; [`DropReason::Own`] and [`DropReason::OtherHost`] are for the caller to find,
/// who knows what is ours.
pub fn decode(bytes: &[u8]) -> Result<Frame, DropReason> {
    let ethernet = EthernetPacket::new(bytes).ok_or(DropReason::Runt)?;
    match ethernet.get_ethertype() {
        EtherTypes::Arp => {}
        EtherTypes::Vlan | EtherTypes::PBridge | EtherTypes::QinQ => return Err(DropReason::VlanTagged),
        _ => return Err(DropReason::Foreign),
    }
    let arp = ArpPacket::new(ethernet.payload()).ok_or(DropReason::Runt)?;
    if arp.get_hardware_type() != ArpHardwareTypes::Ethernet || arp.get_hw_addr_len() != 6 {
        return Err(DropReason::Hardware);
    }
    if arp.get_protocol_type() != EtherTypes::Ipv4 || arp.get_proto_addr_len() != 4 {
        return Err(DropReason::Protocol);
    }
    let operation = match arp.get_operation() {
        ArpOperations::Request => Operation::Request,
        ArpOperations::Reply => Operation::Reply,
        _ => return Err(DropReason::Operation),
    };
    let frame = Frame {
        destination: ethernet.get_destination(),
        source: ethernet.get_source(),
        operation,
        sender_mac: arp.get_sender_hw_addr(),
        sender_ip: arp.get_sender_proto_addr(),
        target_mac: arp.get_target_hw_addr(),
        target_ip: arp.get_target_proto_addr(),
    };
    if [frame.source, frame.sender_mac].iter().any(|mac| mac.0 & MULTICAST != 0 || *mac == ZERO) {
        return Err(DropReason::SenderMac);
    }
    Ok(frame)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const US: MacAddr = MacAddr(2, 0, 0, 0, 0, 1);
    const VIP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);

    fn unicast() -> impl Strategy<Value = MacAddr> {
        any::<[u8; 6]>().prop_map(|[a, b, c, d, e, f]| MacAddr(a & !MULTICAST | 2, b, c, d, e, f))
    }

    fn frame() -> impl Strategy<Value = Frame> {
        let operation = prop_oneof![Just(Operation::Request), Just(Operation::Reply)];
        (any::<[u8; 6]>(), unicast(), operation, unicast(), any::<u32>(), unicast(), any::<u32>()).prop_map(
            |(destination, source, operation, sender_mac, sender_ip, target_mac, target_ip)| Frame {
                destination: destination.into(),
                source,
                operation,
                sender_mac,
                sender_ip: sender_ip.into(),
                target_mac,
                target_ip: target_ip.into(),
            },
        )
    }

    proptest! {
        #[test]
        fn decoding_gives_back_what_was_encoded(frame in frame(), padding in 0_usize..40) {
            let mut bytes = encode(&frame).to_vec();
            bytes.resize(FRAME_LEN + padding, 0);
            prop_assert_eq!(decode(&bytes), Ok(frame));
        }

        #[test]
        fn any_bytes_are_decoded_or_dropped(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = decode(&bytes);
        }

        #[test] // random bytes seldom get past the EtherType
        fn any_frame_with_a_flipped_byte_is_decoded_or_dropped(frame in frame(), at in 0..FRAME_LEN, to: u8, len in 0..=FRAME_LEN) {
            let mut bytes = encode(&frame);
            bytes[at] = to;
            let decoded = decode(&bytes[..len]);
            prop_assert!(len == FRAME_LEN || decoded.is_err());
        }
    }

    #[test]
    fn an_announcement_is_what_rfc_5227_asks_for() {
        assert_eq!(
            encode(&announcement(US, VIP)),
            [
                0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 0x08, 0x06, // Ethernet
                0, 1, 0x08, 0, 6, 4, 0, 1, // request
                2, 0, 0, 0, 0, 1, 192, 0, 2, 10, 0, 0, 0, 0, 0, 0, 192, 0, 2, 10,
            ]
        );
    }

    #[test]
    fn the_reply_form_names_the_sender_as_target() {
        let frame = announcement_reply(US, VIP);
        assert_eq!((frame.operation, frame.target_mac, frame.target_ip), (Operation::Reply, US, VIP));
        assert_eq!(frame.destination, BROADCAST);
    }

    #[test]
    fn a_frame_that_is_not_quite_right_is_dropped_for_its_reason() {
        let good = encode(&answer(US, VIP, US, VIP));
        for (at, byte, expected) in [
            (12, 0x81, DropReason::Foreign),
            (13, 0x00, DropReason::Foreign),
            (15, 6, DropReason::Hardware),
            (18, 8, DropReason::Hardware),
            (16, 0x86, DropReason::Protocol),
            (19, 16, DropReason::Protocol),
            (21, 3, DropReason::Operation),
            (6, 3, DropReason::SenderMac),
            (22, 1, DropReason::SenderMac),
        ] {
            let mut bytes = good;
            bytes[at] = byte;
            assert_eq!(decode(&bytes), Err(expected), "byte {at} set to {byte}");
        }
        let mut tagged = good;
        (tagged[12], tagged[13]) = (0x81, 0);
        assert_eq!(decode(&tagged), Err(DropReason::VlanTagged));
        assert_eq!(decode(&good[..41]), Err(DropReason::Runt));
        assert_eq!(decode(&[]), Err(DropReason::Runt));
    }
}
