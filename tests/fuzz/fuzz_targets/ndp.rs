//! Neighbor Discovery and ping with checksums that are right, so that what lies behind the checksum is reached: never a
//! panic, nothing said about addresses that are not ours, no address called free that somebody claimed.
#![no_main]

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use lb_speaker::announcer::{Announcer, Heard};
use lb_speaker::arp::MacAddr;
use lb_speaker::ndp::{self, Message};
use lb_speaker::probe::{PROOF, Prober};
use lb_speaker::{echo, filter};
use libfuzzer_sys::fuzz_target;

const US: MacAddr = MacAddr(2, 0, 0, 0, 0, 1);
const VIP: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);

/// Stations and addresses that a frame is between: mostly such as matter.
#[derive(Debug, libfuzzer_sys::arbitrary::Arbitrary)]
struct Envelope {
    to: Option<[u8; 6]>,
    from: [u8; 6],
    hop_limit: Option<u8>,
    sender: Option<[u8; 16]>,
    receiver: Option<[u8; 16]>,
    target: Option<[u8; 16]>,
    kind: u8,
    rest: Vec<u8>,
}

impl Envelope {
    fn frame(&self) -> Vec<u8> {
        let sender = self.sender.unwrap_or([0xfe; 16]);
        let receiver = self.receiver.unwrap_or(ndp::solicited_node(VIP).octets());
        let kind = [135, 136, 128, self.kind][usize::from(self.kind % 4)];
        let target = self.target.unwrap_or(VIP.octets());
        let mut message = [&[kind, 0, 0, 0, 0, 0, 0, 0], &target[..], &self.rest].concat();
        message.truncate(1400);
        let length = u16::try_from(message.len()).expect("it was cut");
        let sum = checksum(&sender, &receiver, length, &message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        let [high, low] = length.to_be_bytes();
        let header = [0x60, 0, 0, 0, high, low, 58, self.hop_limit.unwrap_or(255)];
        let to = self.to.unwrap_or(US.octets());
        [&to[..], &self.from, &[0x86, 0xdd], &header, &sender, &receiver, &message].concat()
    }
}

/// RFC 4443 section 2.3.
fn checksum(sender: &[u8; 16], receiver: &[u8; 16], length: u16, message: &[u8]) -> u16 {
    let pseudo = [&sender[..], receiver, &[0, 0], &length.to_be_bytes(), &[0, 0, 0, 58], message].concat();
    let mut sum: u32 = pseudo.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).expect("it was folded")
}

fuzz_target!(|input: Vec<Envelope>| {
    let vips = BTreeSet::from([IpAddr::V6(VIP)]);
    let mut now = Instant::now();
    let (mut announcer, mut prober) = (Announcer::new(US), Prober::new(4, 100));
    announcer.set_link(true, now);
    announcer.set_owned(&vips, now);
    prober.set_candidates(&vips, now);
    assert!(filter::ndp([VIP]).len() < 256);
    let mut claimed = None;
    for envelope in &input {
        let mut frame = envelope.frame();
        if let Ok(decoded) = ndp::decode(&frame) {
            let (bytes, len) = ndp::encode(&decoded);
            assert_eq!(ndp::decode(&bytes[..len]), Ok(decoded), "encoding gives back what was decoded");
            if decoded.claim() == Some(VIP) {
                claimed = Some(now);
            }
        }
        match announcer.on_frame(&frame, now) {
            Heard::Answered(vip) | Heard::Limited(vip) | Heard::Conflict { vip, .. } => assert!(vips.contains(&vip)),
            Heard::Dropped(_) | Heard::Ignored => {}
        }
        while let Some(outgoing) = announcer.poll_frame(now) {
            let said = ndp::decode(outgoing.frame()).expect("we send valid frames");
            assert!(said.target == VIP && matches!(said.message, Message::Advertisement { .. }), "{said:?}");
        }
        prober.on_frame(&frame, now);
        while prober.poll(now).is_some() {}
        let recent = claimed.is_some_and(|at| now.duration_since(at) < PROOF);
        assert!(!recent || !prober.findings().free.contains(&IpAddr::V6(VIP)), "a claimed address is not free");
        if let Some((len, vip)) = echo::answer(&mut frame, US, |ip| ip == VIP) {
            assert!(vip == VIP && len <= frame.len());
        }
        now += Duration::from_millis(u64::from(envelope.kind) * 4);
    }
});
