//! Neighbor Discovery on the wire: what IPv6 has for ARP, RFC 4861.
//!
//! [`decode`] is strict and total; it says why it drops a frame. What a frame means: [`crate::announcer`].
//!
//! A frame as we send it, integers big-endian; the option is left out of an answer to nobody and of a probe:
//!
//! | bytes | field                                                                        |
//! |-------|------------------------------------------------------------------------------|
//! | 0-13  | Ethernet header, type 0x86dd                                                 |
//! | 14-53 | IPv6 header: next header 58, hop limit 255                                   |
//! | 54-57 | ICMPv6 type (135 solicitation, 136 advertisement), code 0, checksum          |
//! | 58-61 | flags of an advertisement: router, solicited, override                       |
//! | 62-77 | target address                                                               |
//! | 78-85 | link-layer address option: of the sender (1) or of the target (2), length 1  |

use std::net::Ipv6Addr;

use pnet::packet::Packet as _;
use pnet::packet::ethernet::{EtherTypes, EthernetPacket, MutableEthernetPacket};
use pnet::packet::icmpv6::ndp::{
    MutableNeighborAdvertPacket, NdpOptionType, NdpOptionTypes, NeighborAdvertPacket, NeighborSolicitPacket,
};
use pnet::packet::icmpv6::{Icmpv6Packet, Icmpv6Types, checksum};
use pnet::packet::ip::IpNextHeaderProtocols;
use pnet::packet::ipv6::{Ipv6Packet, MutableIpv6Packet};

use crate::arp::{MULTICAST, MacAddr, ZERO};
pub use crate::dropped::DropReason;

/// Bytes of a frame as we send it, at most.
pub const FRAME_LEN: usize = HEADER_LEN + IPV6_LEN + MESSAGE_LEN + OPTION_LEN;
const HEADER_LEN: usize = 14;
const IPV6_LEN: usize = 40;
/// A solicitation and an advertisement alike, without options.
const MESSAGE_LEN: usize = 24;
/// An option with an Ethernet address.
const OPTION_LEN: usize = 8;
/// What no router lets through.
const HOP_LIMIT: u8 = 255;
/// Every node on the link (RFC 4291 §2.7.1).
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// One frame of Neighbor Discovery, its headers included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Frame {
    /// To whom the frame is sent.
    pub destination: MacAddr,
    /// Who sent the frame.
    pub source: MacAddr,
    /// The address of the sender; unspecified in a probe for duplicates.
    pub sender_ip: Ipv6Addr,
    /// The address it is sent to.
    pub receiver_ip: Ipv6Addr,
    /// The address that it is about.
    pub target: Ipv6Addr,
    /// What it says of the target.
    pub message: Message,
}

/// What is said of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Message {
    /// Asks who has it, or, sent to one station, whether it still has it.
    Solicitation {
        /// The hardware address of the sender.
        sender_mac: Option<MacAddr>,
    },
    /// Tells who has it.
    Advertisement {
        /// Whether the sender forwards packets.
        router: bool,
        /// Whether it answers a solicitation.
        solicited: bool,
        /// Whether it replaces what a neighbour knows.
        overriding: bool,
        /// The hardware address of the target.
        target_mac: Option<MacAddr>,
    },
}

/// The group that those are in who have `ip`, and to which questions for it are sent.
///
/// Source: RFC 4291 §2.7.1.
#[must_use]
pub const fn solicited_node(ip: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = ip.octets();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | a as u16, u16::from_be_bytes([b, c]))
}

/// The hardware address of a multicast group (RFC 2464 §7).
#[must_use]
pub const fn group_mac(group: Ipv6Addr) -> MacAddr {
    let [.., a, b, c, d] = group.octets();
    MacAddr(0x33, 0x33, a, b, c, d)
}

/// Tells a LAN that `vip` is now at `mac`; every neighbour that knows the address takes it.
///
/// Sent from the VIP itself, so that it needs no link-local address. Source: RFC 4861 §7.2.6.
#[must_use]
pub const fn announcement(mac: MacAddr, vip: Ipv6Addr) -> Frame {
    Frame {
        destination: group_mac(ALL_NODES),
        source: mac,
        sender_ip: vip,
        receiver_ip: ALL_NODES,
        target: vip,
        message: Message::Advertisement { router: false, solicited: false, overriding: true, target_mac: Some(mac) },
    }
}

/// Answers a solicitation: to the asker alone, or to everybody if it has no address yet, which then is a duplicate.
///
/// Source: RFC 4861 §7.2.4; RFC 4862 §5.4.3.
#[must_use]
pub fn answer(mac: MacAddr, question: &Frame) -> Frame {
    let everybody = announcement(mac, question.target);
    if question.sender_ip.is_unspecified() {
        return everybody;
    }
    Frame {
        destination: question.sender_mac(),
        receiver_ip: question.sender_ip,
        message: Message::Advertisement { router: false, solicited: true, overriding: true, target_mac: Some(mac) },
        ..everybody
    }
}

/// Asks whether anybody has `ip`, without claiming it.
///
/// Source: RFC 4862 §5.4.2.
#[must_use]
pub const fn probe(mac: MacAddr, ip: Ipv6Addr) -> Frame {
    let group = solicited_node(ip);
    Frame {
        destination: group_mac(group),
        source: mac,
        sender_ip: Ipv6Addr::UNSPECIFIED,
        receiver_ip: group,
        target: ip,
        message: Message::Solicitation { sender_mac: None },
    }
}

impl Frame {
    /// The hardware address that the sender gives as its own, or as that of the target.
    #[must_use]
    pub fn sender_mac(&self) -> MacAddr {
        let given = match self.message {
            Message::Solicitation { sender_mac } => sender_mac,
            Message::Advertisement { target_mac, .. } => target_mac,
        };
        given.unwrap_or(self.source)
    }

    /// The address that the sender says is its own; `None` for who does not say.
    #[must_use]
    pub fn claim(&self) -> Option<Ipv6Addr> {
        match self.message {
            Message::Advertisement { .. } => Some(self.target),
            Message::Solicitation { .. } => Some(self.sender_ip).filter(|ip| !ip.is_unspecified()),
        }
    }
}

/// Writes a frame as it goes on the wire; how many of the bytes it takes.
#[must_use]
pub fn encode(frame: &Frame) -> ([u8; FRAME_LEN], usize) {
    let mut bytes = [0; FRAME_LEN];
    let (option, mac) = match frame.message {
        Message::Solicitation { sender_mac } => (NdpOptionTypes::SourceLLAddr, sender_mac),
        Message::Advertisement { target_mac, .. } => (NdpOptionTypes::TargetLLAddr, target_mac),
    };
    let message_len = MESSAGE_LEN + if mac.is_some() { OPTION_LEN } else { 0 };
    let (header, rest) = bytes.split_at_mut(HEADER_LEN);
    let (ip, message) = rest.split_at_mut(IPV6_LEN);
    let message = &mut message[..message_len];
    let mut ethernet = MutableEthernetPacket::new(header).expect("14 bytes hold an Ethernet header");
    ethernet.set_destination(frame.destination);
    ethernet.set_source(frame.source);
    ethernet.set_ethertype(EtherTypes::Ipv6);
    let mut ipv6 = MutableIpv6Packet::new(ip).expect("40 bytes hold an IPv6 header");
    ipv6.set_version(6);
    ipv6.set_payload_length(u16::try_from(message_len).expect("a small number"));
    ipv6.set_next_header(IpNextHeaderProtocols::Icmpv6);
    ipv6.set_hop_limit(HOP_LIMIT);
    ipv6.set_source(frame.sender_ip);
    ipv6.set_destination(frame.receiver_ip);
    encode_message(frame, message);
    if let Some(mac) = mac {
        message[MESSAGE_LEN] = option.0;
        message[MESSAGE_LEN + 1] = 1;
        message[MESSAGE_LEN + 2..].copy_from_slice(&mac.octets());
    }
    let sum = Icmpv6Packet::new(message).map_or(0, |icmp| checksum(&icmp, &frame.sender_ip, &frame.receiver_ip));
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    (bytes, HEADER_LEN + IPV6_LEN + message_len)
}

/// Type, flags and target; a solicitation has the same layout, its flags reserved.
fn encode_message(frame: &Frame, message: &mut [u8]) {
    let mut packet = MutableNeighborAdvertPacket::new(message).expect("24 bytes hold an advertisement");
    packet.set_target_addr(frame.target);
    match frame.message {
        Message::Solicitation { .. } => packet.set_icmpv6_type(Icmpv6Types::NeighborSolicit),
        Message::Advertisement { router, solicited, overriding, .. } => {
            packet.set_icmpv6_type(Icmpv6Types::NeighborAdvert);
            packet.set_flags(u8::from(router) << 7 | u8::from(solicited) << 6 | u8::from(overriding) << 5);
        }
    }
}

/// Reads a received frame; bytes past what the IPv6 header counts are padding.
///
/// # Errors
///
/// The first rule of RFC 4861 §7.1 that it breaks; [`DropReason::Own`] and [`DropReason::OtherHost`] are for the caller
/// to find, who knows what is ours.
pub fn decode(bytes: &[u8]) -> Result<Frame, DropReason> {
    let ethernet = EthernetPacket::new(bytes).ok_or(DropReason::Runt)?;
    match ethernet.get_ethertype() {
        EtherTypes::Ipv6 => {}
        EtherTypes::Vlan | EtherTypes::PBridge | EtherTypes::QinQ => return Err(DropReason::VlanTagged),
        _ => return Err(DropReason::Foreign),
    }
    let ip = Ipv6Packet::new(ethernet.payload()).ok_or(DropReason::Runt)?;
    if ip.get_version() != 6 || ip.get_next_header() != IpNextHeaderProtocols::Icmpv6 {
        return Err(DropReason::Foreign);
    }
    let len = usize::from(ip.get_payload_length());
    let message = ethernet.payload().get(IPV6_LEN..IPV6_LEN + len).ok_or(DropReason::Runt)?;
    let icmp = Icmpv6Packet::new(message).ok_or(DropReason::Runt)?;
    if ![Icmpv6Types::NeighborSolicit, Icmpv6Types::NeighborAdvert].contains(&icmp.get_icmpv6_type()) {
        return Err(DropReason::Foreign);
    }
    if ip.get_hop_limit() != HOP_LIMIT {
        return Err(DropReason::HopLimit);
    }
    if checksum(&icmp, &ip.get_source(), &ip.get_destination()) != icmp.get_checksum() {
        return Err(DropReason::Checksum);
    }
    let (target, message) = decode_message(message)?;
    let frame = Frame {
        destination: ethernet.get_destination(),
        source: ethernet.get_source(),
        sender_ip: ip.get_source(),
        receiver_ip: ip.get_destination(),
        target,
        message,
    };
    obeys(&frame)?;
    Ok(frame)
}

fn decode_message(message: &[u8]) -> Result<(Ipv6Addr, Message), DropReason> {
    let packet = NeighborAdvertPacket::new(message).ok_or(DropReason::Runt)?;
    if packet.get_icmpv6_code().0 != 0 {
        return Err(DropReason::Malformed);
    }
    let options = &message[MESSAGE_LEN..];
    if packet.get_icmpv6_type() == Icmpv6Types::NeighborSolicit {
        let packet = NeighborSolicitPacket::new(message).ok_or(DropReason::Runt)?;
        let sender_mac = link_layer(options, NdpOptionTypes::SourceLLAddr)?;
        return Ok((packet.get_target_addr(), Message::Solicitation { sender_mac }));
    }
    let flag = |bit: u8| packet.get_flags() >> bit & 1 == 1;
    let target_mac = link_layer(options, NdpOptionTypes::TargetLLAddr)?;
    let message = Message::Advertisement { router: flag(7), solicited: flag(6), overriding: flag(5), target_mac };
    Ok((packet.get_target_addr(), message))
}

/// The first option of this kind; options of other kinds are skipped, and one without a length condemns the frame.
fn link_layer(mut options: &[u8], kind: NdpOptionType) -> Result<Option<MacAddr>, DropReason> {
    let mut found = None;
    while let [this, eights, ..] = *options {
        let (option, rest) = options.split_at_checked(usize::from(eights) * 8).ok_or(DropReason::Malformed)?;
        let Some(mac) = option.get(2..8) else { return Err(DropReason::Malformed) };
        if this == kind.0 && eights == 1 && found.is_none() {
            found = <[u8; 6]>::try_from(mac).ok().map(MacAddr::from);
        }
        options = rest;
    }
    if options.is_empty() { Ok(found) } else { Err(DropReason::Malformed) }
}

/// The rules of RFC 4861 §7.1 that concern several fields.
fn obeys(frame: &Frame) -> Result<(), DropReason> {
    let probe = frame.sender_ip.is_unspecified();
    let broken = match frame.message {
        Message::Solicitation { sender_mac } => {
            probe && (sender_mac.is_some() || frame.receiver_ip != solicited_node(frame.target))
        }
        Message::Advertisement { solicited, .. } => probe || (solicited && frame.receiver_ip.is_multicast()),
    };
    if broken || frame.target.is_multicast() || frame.sender_ip.is_multicast() {
        return Err(DropReason::Malformed);
    }
    if [frame.source, frame.sender_mac()].iter().any(|mac| mac.0 & MULTICAST != 0 || *mac == ZERO) {
        return Err(DropReason::SenderMac);
    }
    Ok(())
}

#[cfg(test)]
#[path = "ndp_tests.rs"]
mod tests;
