//! Programs for the kernel's packet filter, so that a busy LAN costs us nothing.
//!
//! A frame passes if it is of the right kind and an address in it may be one that is watched. The last 32 bits of an
//! address are looked up in at most [`MOST_RANGES`] ranges, so the filter is short whatever is watched; it may let a
//! frame through that is of no interest (another IPv6 address with the same end, one in the gap between two ranges that
//! were merged), and never keeps one back that is. What a frame is and means is decided by [`crate::announcer`], which
//! looks at all of it.
//!
//! Pure. Source: the BSD packet filter as Linux has it, `Documentation/networking/filter.rst`.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::claim::Family;

/// Ranges of addresses that a filter tells apart.
pub const MOST_RANGES: usize = 32;
/// Bytes of a frame that are kept.
pub const SNAP_LEN: u32 = 128;

/// One instruction of the packet filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// What it does.
    pub code: u16,
    /// How many instructions a comparison that holds skips.
    pub if_true: u8,
    /// How many one that does not skips.
    pub if_false: u8,
    /// Its operand.
    pub operand: u32,
}

const LOAD_WORD: u16 = 0x20;
const LOAD_HALF: u16 = 0x28;
const LOAD_BYTE: u16 = 0x30;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER: u16 = 0x25;
const JUMP_GREATER_EQUAL: u16 = 0x35;
const RETURN: u16 = 0x06;

const ETHER_TYPE_AT: u32 = 12;
const ARP: u32 = 0x0806;
const ARP_OPERATION_AT: u32 = 20;
const ARP_REPLY: u32 = 2;
const ARP_SENDER_AT: u32 = 28;
const ARP_TARGET_AT: u32 = 38;
const IPV6: u32 = 0x86dd;
const NEXT_HEADER_AT: u32 = 20;
const ICMPV6: u32 = 58;
const TYPE_AT: u32 = 54;
const SOLICITATION: u32 = 135;
const ADVERTISEMENT: u32 = 136;
/// The end of the sender's address in the IPv6 header, and of the target in the message.
const NDP_SENDER_AT: u32 = 34;
const NDP_TARGET_AT: u32 = 74;
const IPV4: u32 = 0x0800;
const VERSION_AT: u32 = 14;
/// IPv4 with a header without options.
const PLAIN: u32 = 0x45;
const PROTOCOL_AT: u32 = 23;
const ICMP: u32 = 1;
const ICMP_TYPE_AT: u32 = 34;
const ICMP_REQUEST: u32 = 8;
const ICMPV6_REQUEST: u32 = 128;
const IPV4_RECEIVER_AT: u32 = 30;
const IPV6_RECEIVER_AT: u32 = 50;
/// All bytes of a frame.
const WHOLE: u32 = 0xffff;

/// Lets ARP through in which a watched address is the sender's or the target's.
#[must_use]
pub fn arp(watched: impl IntoIterator<Item = Ipv4Addr>) -> Vec<Instruction> {
    let ranges = ranges(watched.into_iter().map(Ipv4Addr::to_bits).collect());
    let mut program = vec![Step::Load(LOAD_HALF, ETHER_TYPE_AT), Step::Require(ARP)];
    for at in [ARP_TARGET_AT, ARP_SENDER_AT] {
        search(&mut program, at, &ranges);
    }
    assemble(&program, SNAP_LEN)
}

/// Lets solicitations and advertisements through in which a watched address may be the sender's or the target's.
#[must_use]
pub fn ndp(watched: impl IntoIterator<Item = Ipv6Addr>) -> Vec<Instruction> {
    let ranges = ranges(watched.into_iter().map(end).collect());
    let mut program = vec![
        Step::Load(LOAD_HALF, ETHER_TYPE_AT),
        Step::Require(IPV6),
        Step::Load(LOAD_BYTE, NEXT_HEADER_AT),
        Step::Require(ICMPV6),
        Step::Load(LOAD_BYTE, TYPE_AT),
        Step::Within(SOLICITATION, ADVERTISEMENT),
    ];
    for at in [NDP_TARGET_AT, NDP_SENDER_AT] {
        search(&mut program, at, &ranges);
    }
    assemble(&program, SNAP_LEN)
}

/// Lets requests of ping to a watched address through, whole.
#[must_use]
pub fn ping(watched: impl IntoIterator<Item = Ipv4Addr>) -> Vec<Instruction> {
    let ranges = ranges(watched.into_iter().map(Ipv4Addr::to_bits).collect());
    let mut program = Vec::new();
    for (load, at, value) in [
        (LOAD_HALF, ETHER_TYPE_AT, IPV4),
        (LOAD_BYTE, VERSION_AT, PLAIN),
        (LOAD_BYTE, PROTOCOL_AT, ICMP),
        (LOAD_BYTE, ICMP_TYPE_AT, ICMP_REQUEST),
    ] {
        program.extend([Step::Load(load, at), Step::Require(value)]);
    }
    search(&mut program, IPV4_RECEIVER_AT, &ranges);
    assemble(&program, WHOLE)
}

/// The same for IPv6.
#[must_use]
pub fn ping6(watched: impl IntoIterator<Item = Ipv6Addr>) -> Vec<Instruction> {
    let ranges = ranges(watched.into_iter().map(end).collect());
    let mut program = Vec::new();
    for (load, at, value) in
        [(LOAD_HALF, ETHER_TYPE_AT, IPV6), (LOAD_BYTE, NEXT_HEADER_AT, ICMPV6), (LOAD_BYTE, TYPE_AT, ICMPV6_REQUEST)]
    {
        program.extend([Step::Load(load, at), Step::Require(value)]);
    }
    search(&mut program, IPV6_RECEIVER_AT, &ranges);
    assemble(&program, WHOLE)
}

/// Lets answers through: ARP with the operation "reply", or neighbour advertisements.
#[must_use]
pub fn answers(family: Family) -> Vec<Instruction> {
    const EVERYTHING: Step = Step::Accept(0, u32::MAX);
    let program = match family {
        Family::IPv4 => vec![
            Step::Load(LOAD_HALF, ETHER_TYPE_AT),
            Step::Require(ARP),
            Step::Load(LOAD_HALF, ARP_OPERATION_AT),
            Step::Require(ARP_REPLY),
            EVERYTHING,
        ],
        Family::IPv6 => vec![
            Step::Load(LOAD_HALF, ETHER_TYPE_AT),
            Step::Require(IPV6),
            Step::Load(LOAD_BYTE, NEXT_HEADER_AT),
            Step::Require(ICMPV6),
            Step::Load(LOAD_BYTE, TYPE_AT),
            Step::Require(ADVERTISEMENT),
            EVERYTHING,
        ],
    };
    assemble(&program, SNAP_LEN)
}

/// The last 32 bits of an address.
fn end(ip: Ipv6Addr) -> u32 {
    u32::try_from(ip.to_bits() & u128::from(u32::MAX)).expect("32 bits were kept")
}

/// The numbers as at most [`MOST_RANGES`] ranges that hold all of them: the narrowest gaps are filled.
fn ranges(mut numbers: Vec<u32>) -> Vec<(u32, u32)> {
    numbers.sort_unstable();
    numbers.dedup();
    let mut gaps: Vec<(u32, usize)> =
        numbers.windows(2).enumerate().map(|(at, pair)| (pair[1] - pair[0], at)).filter(|(gap, _)| *gap > 1).collect();
    gaps.sort_unstable_by(|a, b| b.cmp(a));
    let mut ends: Vec<usize> = gaps.into_iter().take(MOST_RANGES - 1).map(|(_, at)| at).collect();
    ends.extend(numbers.len().checked_sub(1));
    ends.sort_unstable();
    let starts = std::iter::once(0).chain(ends.iter().map(|end| end + 1));
    starts.zip(&ends).map(|(start, end)| (numbers[start], numbers[*end])).collect()
}

/// A step of a program whose jumps are not counted yet.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Loads what lies at an offset.
    Load(u16, u32),
    /// Drops the frame unless this was loaded.
    Require(u32),
    /// Drops the frame unless what was loaded lies between these.
    Within(u32, u32),
    /// Keeps the frame if what was loaded lies between these; they come in ascending order.
    Accept(u32, u32),
}

fn search(program: &mut Vec<Step>, at: u32, ranges: &[(u32, u32)]) {
    program.push(Step::Load(LOAD_WORD, at));
    program.extend(ranges.iter().map(|(first, last)| Step::Accept(*first, *last)));
}

/// Counts the jumps. At the end stands first "drop", then "keep so many bytes".
fn assemble(program: &[Step], kept: u32) -> Vec<Instruction> {
    let len: usize = program.iter().map(Step::len).sum();
    let mut out = Vec::with_capacity(len + 2);
    for step in program {
        let rest = u8::try_from(len - out.len() - step.len()).expect("a program is shorter than a jump reaches");
        let mut emit = |code, if_true, if_false, operand| out.push(Instruction { code, if_true, if_false, operand });
        match *step {
            Step::Load(code, at) => emit(code, 0, 0, at),
            Step::Require(value) => emit(JUMP_EQUAL, 0, rest, value),
            Step::Within(first, last) => {
                emit(JUMP_GREATER_EQUAL, 0, rest + 1, first);
                emit(JUMP_GREATER, rest, 0, last);
            }
            Step::Accept(first, last) => {
                emit(JUMP_GREATER_EQUAL, 0, 1, first);
                emit(JUMP_GREATER, 0, rest + 1, last);
            }
        }
    }
    out.push(Instruction { code: RETURN, if_true: 0, if_false: 0, operand: 0 });
    out.push(Instruction { code: RETURN, if_true: 0, if_false: 0, operand: kept });
    out
}

impl Step {
    const fn len(&self) -> usize {
        match self {
            Self::Load(..) | Self::Require(_) => 1,
            Self::Within(..) | Self::Accept(..) => 2,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::IpAddr;

    use proptest::prelude::*;

    use super::*;
    use crate::arp::MacAddr;
    use crate::echo::tests::{v4, v6};
    use crate::ndp;

    const US: MacAddr = MacAddr(2, 0, 0, 0, 0, 1);

    /// Runs a program as the kernel does; whether the frame is kept.
    fn keeps(program: &[Instruction], frame: &[u8]) -> bool {
        let (mut at, mut loaded) = (0, 0);
        loop {
            let Instruction { code, if_true, if_false, operand } = program[at];
            at += 1;
            let offset = usize::try_from(operand).unwrap();
            let jump = |holds| usize::from(if holds { if_true } else { if_false });
            let load = |len: usize| {
                frame.get(offset..offset + len).map(|it| it.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte)))
            };
            let len = match code {
                LOAD_WORD => 4,
                LOAD_HALF => 2,
                LOAD_BYTE => 1,
                RETURN => return operand != 0,
                JUMP_EQUAL | JUMP_GREATER | JUMP_GREATER_EQUAL => 0,
                other => panic!("unknown instruction {other:#x}"),
            };
            match (len, load(len)) {
                (0, _) if code == JUMP_EQUAL => at += jump(loaded == operand),
                (0, _) if code == JUMP_GREATER => at += jump(loaded > operand),
                (0, _) => at += jump(loaded >= operand),
                (_, Some(value)) => loaded = value,
                (_, None) => return false,
            }
        }
    }

    fn frame(ip: IpAddr) -> Vec<u8> {
        match ip {
            IpAddr::V4(ip) => crate::arp::encode(&crate::arp::probe(US, ip)).to_vec(),
            IpAddr::V6(ip) => {
                let (bytes, len) = ndp::encode(&ndp::probe(US, ip));
                bytes[..len].to_vec()
            }
        }
    }

    proptest! {
        #[test] // whatever is merged to keep the filter short
        fn no_frame_about_a_watched_address_is_kept_back(v4 in prop::collection::btree_set(any::<u32>(), 1..200), v6 in prop::collection::btree_set(any::<u128>(), 1..200)) {
            let (v4, v6): (BTreeSet<Ipv4Addr>, BTreeSet<Ipv6Addr>) = (v4.into_iter().map(Into::into).collect(), v6.into_iter().map(Into::into).collect());
            let (arp, ndp_filter) = (arp(v4.iter().copied()), ndp(v6.iter().copied()));
            prop_assert!(arp.len() < 256 && ndp_filter.len() < 256);
            for ip in &v4 {
                prop_assert!(keeps(&arp, &frame((*ip).into())));
                prop_assert!(keeps(&arp, &crate::arp::encode(&crate::arp::answer(US, *ip, US, Ipv4Addr::new(203, 0, 113, 1)))));
                prop_assert!(!keeps(&ndp_filter, &frame((*ip).into())));
            }
            for ip in &v6 {
                prop_assert!(keeps(&ndp_filter, &frame((*ip).into())));
                let (claim, len) = ndp::encode(&ndp::Frame { sender_ip: *ip, ..ndp::probe(US, Ipv6Addr::LOCALHOST) });
                prop_assert!(keeps(&ndp_filter, &claim[..len]));
                prop_assert!(!keeps(&arp, &frame((*ip).into())));
            }
        }

        #[test]
        fn few_addresses_are_told_from_all_others(watched in prop::collection::btree_set(any::<u32>(), 0..MOST_RANGES), other: u32) {
            let program = arp(watched.iter().copied().map(Ipv4Addr::from));
            let about = crate::arp::answer(US, other.into(), US, other.into());
            prop_assert_eq!(keeps(&program, &crate::arp::encode(&about)), watched.contains(&other));
        }
    }

    #[test]
    fn other_ipv6_packets_and_short_frames_are_kept_back() {
        let vip: Ipv6Addr = "2001:db8::10".parse().unwrap();
        let program = ndp([vip]);
        let whole = frame(vip.into());
        assert!(keeps(&program, &whole));
        for (at, byte) in [(12, 8), (20, 6), (54, 134), (54, 137), (54, 128)] {
            let mut other = whole.clone();
            other[at] = byte;
            assert!(!keeps(&program, &other), "byte {at} set to {byte}");
        }
        assert!(!keeps(&program, &whole[..70]));
        assert!(!keeps(&ndp([]), &whole));
        assert!(!keeps(&arp([]), &frame(IpAddr::from([192, 0, 2, 1]))));
    }

    #[test]
    fn only_requests_of_ping_to_a_vip_pass() {
        let (vip, other) = (Ipv4Addr::new(192, 0, 2, 10), Ipv4Addr::new(192, 0, 2, 11));
        let (vip6, other6): (Ipv6Addr, Ipv6Addr) = ("2001:db8::10".parse().unwrap(), "2001:db8::11".parse().unwrap());
        let (v4_filter, v6_filter) = (ping([vip]), ping6([vip6]));
        for (frame, passes) in [
            (v4(8, other, vip, b"data"), [true, false]),
            (v4(0, other, vip, b"data"), [false, false]),
            (v4(8, vip, other, b"data"), [false, false]),
            (v6(128, other6, vip6, b"data"), [false, true]),
            (v6(129, other6, vip6, b"data"), [false, false]),
            (v6(128, vip6, other6, b"data"), [false, false]),
        ] {
            assert_eq!([keeps(&v4_filter, &frame), keeps(&v6_filter, &frame)], passes, "{frame:?}");
        }
    }

    #[test]
    fn ranges_hold_every_number_and_fill_the_narrowest_gaps() {
        assert_eq!(ranges(vec![]), []);
        assert_eq!(ranges(vec![7, 5, 6, 9]), [(5, 7), (9, 9)]);
        let spread: Vec<u32> = (0..40).map(|n| n * 10 + u32::from(n >= 20) * 1000).collect();
        let merged = ranges(spread.clone());
        assert_eq!(merged.len(), MOST_RANGES);
        assert!(spread.iter().all(|number| merged.iter().any(|(first, last)| (first..=last).contains(&number))));
        assert!(merged.iter().all(|(first, last)| last - first < 1000), "the wide gap is kept: {merged:?}");
    }
}
