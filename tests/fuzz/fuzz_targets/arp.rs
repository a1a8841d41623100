//! Frames from the LAN: never a panic, nothing said about addresses that are not ours, no flood.
#![no_main]

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use lb_speaker::announcer::{Announcer, Heard};
use lb_speaker::echo;
use lb_speaker::arp::{Operation, decode, encode};
use lb_speaker::ndp::{self, Message};
use libfuzzer_sys::fuzz_target;

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

fuzz_target!(|input: (Vec<Vec<u8>>, Vec<u16>)| {
    let (frames, pauses) = input;
    let vips = BTreeSet::from([
        IpAddr::from([192, 0, 2, 1]),
        IpAddr::from([192, 0, 2, 2]),
        IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
    ]);
    let mut now = Instant::now();
    let mut announcer = Announcer::new(MAC.into());
    announcer.set_link(true, now);
    announcer.set_owned(&vips, now);
    let mut pauses =
        pauses.iter().map(|pause| Duration::from_millis(u64::from(*pause))).chain([Duration::ZERO]).cycle();
    for frame in &frames {
        if let Ok(decoded) = decode(frame) {
            assert_eq!(decode(&encode(&decoded)), Ok(decoded), "encoding gives back what was decoded");
        }
        if let Ok(decoded) = ndp::decode(frame) {
            let (bytes, len) = ndp::encode(&decoded);
            assert_eq!(ndp::decode(&bytes[..len]), Ok(decoded), "encoding gives back what was decoded");
        }
        if let Heard::Answered(vip) | Heard::Limited(vip) | Heard::Conflict { vip, .. } = announcer.on_frame(frame, now)
        {
            assert!(vips.contains(&vip), "{vip} is not ours");
        }
        let mut pinged = frame.clone();
        if let Some((len, vip)) = echo::answer(&mut pinged, MAC.into(), |ip| vips.contains(&ip)) {
            assert!(vips.contains(&vip) && len <= pinged.len(), "{vip} is not ours");
        }
        let mut sent = 0;
        while let Some(outgoing) = announcer.poll_frame(now) {
            if let Ok(said) = ndp::decode(outgoing.frame()) {
                assert!(vips.contains(&said.target.into()), "{said:?} is about an address that is not ours");
                assert!(matches!(said.message, Message::Advertisement { .. }), "{said:?} asks");
            } else {
                let said = decode(outgoing.frame()).expect("we send valid frames");
                assert!(vips.contains(&said.sender_ip.into()), "{said:?} is about an address that is not ours");
                assert!(said.operation == Operation::Reply || said.sender_ip == said.target_ip, "{said:?} asks");
            }
            sent += 1;
            assert!(sent <= 64, "one frame is answered with a flood");
        }
        now += pauses.next().unwrap_or_default();
    }
});
