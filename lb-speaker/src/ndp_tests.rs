//! Neighbor Discovery on the wire: the laws of decoding, and frames as kernels send them.

use proptest::prelude::*;

use super::*;

const US: MacAddr = MacAddr(2, 0, 0, 0, 0, 1);
const PEER: MacAddr = MacAddr(2, 0, 0, 0, 0, 9);
const VIP: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0x12, 0x3456);
const PEER_IP: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0xff, 0xfe00, 9);

fn bytes(frame: &Frame) -> Vec<u8> {
    let (bytes, len) = encode(frame);
    bytes[..len].to_vec()
}

/// Writes a correct checksum, for frames that are wrong in another way.
fn summed(mut bytes: Vec<u8>) -> Vec<u8> {
    let ip = Ipv6Packet::new(&bytes[HEADER_LEN..]).unwrap();
    let (source, destination) = (ip.get_source(), ip.get_destination());
    let sum = checksum(&Icmpv6Packet::new(&bytes[HEADER_LEN + IPV6_LEN..]).unwrap(), &source, &destination);
    bytes[56..58].copy_from_slice(&sum.to_be_bytes());
    bytes
}

fn solicitation() -> Frame {
    let group = solicited_node(VIP);
    Frame {
        destination: group_mac(group),
        source: PEER,
        sender_ip: PEER_IP,
        receiver_ip: group,
        target: VIP,
        message: Message::Solicitation { sender_mac: Some(PEER) },
    }
}

fn unicast_mac() -> impl Strategy<Value = MacAddr> {
    any::<[u8; 6]>().prop_map(|[a, b, c, d, e, f]| MacAddr(a & !MULTICAST | 2, b, c, d, e, f))
}

fn unicast_ip() -> impl Strategy<Value = Ipv6Addr> {
    any::<u128>().prop_map(|bits| Ipv6Addr::from_bits(bits >> 8 | 0x20 << 120))
}

fn message() -> impl Strategy<Value = Message> {
    let mac = || prop::option::of(unicast_mac());
    prop_oneof![
        mac().prop_map(|sender_mac| Message::Solicitation { sender_mac }),
        (any::<[bool; 3]>(), mac()).prop_map(|([router, solicited, overriding], target_mac)| {
            Message::Advertisement { router, solicited, overriding, target_mac }
        }),
    ]
}

fn frame() -> impl Strategy<Value = Frame> {
    (any::<[u8; 6]>(), unicast_mac(), unicast_ip(), unicast_ip(), unicast_ip(), message()).prop_map(
        |(destination, source, sender_ip, receiver_ip, target, message)| Frame {
            destination: destination.into(),
            source,
            sender_ip,
            receiver_ip,
            target,
            message,
        },
    )
}

proptest! {
    #[test]
    fn decoding_gives_back_what_was_encoded(frame in frame(), padding in 0_usize..40) {
        let mut bytes = bytes(&frame);
        bytes.resize(bytes.len() + padding, 0);
        prop_assert_eq!(decode(&bytes), Ok(frame));
    }

    #[test]
    fn any_bytes_are_decoded_or_dropped(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(&bytes);
    }

    #[test] // random bytes seldom get past the checksum
    fn any_options_are_decoded_or_dropped(options in prop::collection::vec(any::<u8>(), 0..60)) {
        let mut bytes = bytes(&probe(PEER, VIP));
        bytes[22..38].copy_from_slice(&PEER_IP.octets());
        bytes.extend(&options);
        bytes[18..20].copy_from_slice(&u16::try_from(MESSAGE_LEN + options.len()).unwrap().to_be_bytes());
        let _ = decode(&summed(bytes));
    }

    #[test]
    fn a_flipped_byte_of_the_message_is_found(frame in frame(), at in HEADER_LEN + IPV6_LEN..HEADER_LEN + IPV6_LEN + MESSAGE_LEN, by in 1_u8..) {
        let mut bytes = bytes(&frame);
        bytes[at] ^= by;
        prop_assert!(decode(&bytes).is_err());
    }

    #[test]
    fn a_frame_cut_short_is_dropped(frame in frame(), cut in 1_usize..78) {
        let bytes = bytes(&frame);
        prop_assert!(decode(&bytes[..bytes.len() - cut]).is_err());
    }
}

#[test]
fn a_solicitation_as_linux_sends_it_is_read() {
    // The checksum was computed by hand over the pseudo-header, not by `encode`.
    let mut frame = vec![
        0x33, 0x33, 0xff, 0x12, 0x34, 0x56, 2, 0, 0, 0, 0, 9, 0x86, 0xdd, // Ethernet
        0x60, 0, 0, 0, 0, 32, 58, 255, // IPv6
        0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xfe, 0, 0, 9, // from
        0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0x12, 0x34, 0x56, // to
        135, 0, 0, 0, 0, 0, 0, 0, // solicitation
        0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x12, 0x34, 0x56, // target
        1, 1, 2, 0, 0, 0, 0, 9, // who asks
    ];
    let words = frame[22..].chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let sum: u32 = words.sum::<u32>() + 32 + 58;
    let sum = !u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap();
    frame[56..58].copy_from_slice(&sum.to_be_bytes());
    assert_eq!(decode(&frame), Ok(solicitation()));
    assert_eq!(bytes(&solicitation()), frame);
}

#[test]
fn a_group_is_made_of_the_last_three_bytes() {
    assert_eq!(solicited_node(VIP), "ff02::1:ff12:3456".parse::<Ipv6Addr>().unwrap());
    assert_eq!(group_mac(solicited_node(VIP)), MacAddr(0x33, 0x33, 0xff, 0x12, 0x34, 0x56));
}

#[test]
fn an_announcement_overrides_and_is_for_everybody() {
    let bytes = bytes(&announcement(US, VIP));
    assert_eq!(bytes[..6], [0x33, 0x33, 0, 0, 0, 1]);
    assert_eq!((bytes[21], bytes[54], bytes[55]), (255, 136, 0));
    assert_eq!(bytes[58..62], [0x20, 0, 0, 0], "override alone");
    assert_eq!(bytes[78..], [2, 1, 2, 0, 0, 0, 0, 1], "the target's hardware address");
}

#[test]
fn who_asks_is_answered_alone_and_who_probes_with_everybody() {
    let reachability = Frame { destination: US, receiver_ip: VIP, ..solicitation() };
    let silent = Frame { message: Message::Solicitation { sender_mac: None }, ..reachability };
    for question in [solicitation(), reachability, silent] {
        let answer = answer(US, &question);
        assert_eq!((answer.destination, answer.receiver_ip, answer.sender_ip), (PEER, PEER_IP, VIP));
        let expected =
            Message::Advertisement { router: false, solicited: true, overriding: true, target_mac: Some(US) };
        assert_eq!(answer.message, expected);
    }
    assert_eq!(answer(US, &probe(PEER, VIP)), announcement(US, VIP));
}

#[test]
fn a_frame_that_breaks_a_rule_is_dropped_for_it() {
    let (good, probe) = (bytes(&solicitation()), bytes(&probe(PEER, VIP)));
    for (what, frame, at, byte, expected) in [
        ("another EtherType", &good, 12, 0x08, DropReason::Foreign),
        ("another version", &good, 14, 0x40, DropReason::Foreign),
        ("UDP", &good, 20, 17, DropReason::Foreign),
        ("a router solicitation", &good, 54, 133, DropReason::Foreign),
        ("routed", &good, 21, 254, DropReason::HopLimit),
        ("a code", &good, 55, 1, DropReason::Malformed),
        ("an option without length", &good, 79, 0, DropReason::Malformed),
        ("an option past the end", &good, 79, 2, DropReason::Malformed),
        ("a multicast target", &good, 62, 0xff, DropReason::Malformed),
        ("a probe to the wrong group", &probe, 53, 0x57, DropReason::Malformed),
        ("a solicited advertisement to a group", &bytes(&announcement(US, VIP)), 58, 0x60, DropReason::Malformed),
        ("a multicast sender", &good, 6, 3, DropReason::SenderMac),
        ("a multicast sender in the option", &good, 80, 1, DropReason::SenderMac),
    ] {
        let mut frame = frame.clone();
        frame[at] = byte;
        assert_eq!(decode(&summed(frame)), Err(expected), "{what}");
    }
    let mut wrong = good.clone();
    wrong[57] ^= 1;
    assert_eq!(decode(&wrong), Err(DropReason::Checksum));
    let mut tagged = good.clone();
    (tagged[12], tagged[13]) = (0x81, 0);
    assert_eq!(decode(&tagged), Err(DropReason::VlanTagged));
    assert_eq!(decode(&good[..60]), Err(DropReason::Runt));
}
