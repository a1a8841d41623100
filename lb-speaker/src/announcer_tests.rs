//! The announcer by simulated time.

use super::*;
use crate::arp::Frame;

const US: MacAddr = MacAddr(2, 0, 0, 0, 0, 1);
const PEER: MacAddr = MacAddr(2, 0, 0, 0, 0, 9);
const PEER_IP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 200);
const VIP4: IpAddr = IpAddr::V4(VIP);
const VIP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);

#[expect(clippy::disallowed_methods, reason = "a test's arbitrary start; all later times are computed")]
fn start() -> Instant {
    Instant::now()
}

/// An announcer with its link up and this VIP just gained.
fn announcing(now: Instant) -> Announcer {
    let mut announcer = Announcer::new(US);
    announcer.set_link(true, now);
    announcer.gain(VIP4, now);
    announcer
}

fn drain(announcer: &mut Announcer, now: Instant) -> Vec<Frame> {
    std::iter::from_fn(|| announcer.poll_frame(now)).map(|out| arp::decode(out.frame()).unwrap()).collect()
}

/// Runs until `end`; every frame with the time since `start`, in milliseconds.
fn run(announcer: &mut Announcer, start: Instant, end: Instant) -> Vec<(u128, Frame)> {
    let (mut now, mut sent) = (start, Vec::new());
    loop {
        let at = now.duration_since(start).as_millis();
        sent.extend(drain(announcer, now).into_iter().map(|frame| (at, frame)));
        match announcer.next_deadline(now) {
            Some(next) if next <= end => now = next,
            _ => return sent,
        }
    }
}

fn ask(vip: Ipv4Addr) -> Frame {
    Frame { sender_mac: PEER, source: PEER, sender_ip: PEER_IP, ..arp::announcement(PEER, vip) }
}

#[test]
fn a_gained_vip_is_announced_in_both_forms_on_schedule() {
    let now = start();
    let sent = run(&mut announcing(now), now, now + Duration::from_secs(10));
    let rounds: Vec<u128> = sent.iter().step_by(2).map(|(at, _)| *at).collect();
    assert_eq!(rounds, [0, 20, 60, 140, 300, 620, 1200, 2500]);
    for round in sent.chunks(2) {
        assert_eq!(round[0].1, arp::announcement(US, VIP));
        assert_eq!(round[1].1, arp::announcement_reply(US, VIP));
    }
}

#[test]
fn after_the_burst_it_is_refreshed_about_every_minute() {
    let now = start();
    let sent = run(&mut announcing(now), now, now + Duration::from_secs(700));
    let rounds: Vec<u128> = sent.iter().step_by(2).map(|(at, _)| *at).skip(SCHEDULE.len() - 1).collect();
    assert!(rounds.len() >= 10, "{rounds:?}");
    for pair in rounds.windows(2) {
        assert!((54_000..=66_000).contains(&(pair[1] - pair[0])), "{rounds:?}");
    }
}

#[test]
fn being_told_again_what_is_owned_sends_nothing() {
    let now = start();
    let mut announcer = announcing(now);
    run(&mut announcer, now, now + Duration::from_secs(10));
    let later = now + Duration::from_secs(11);
    announcer.set_owned(&BTreeSet::from([VIP4]), later);
    announcer.set_link(true, later);
    announcer.set_mac(US, later);
    assert_eq!(drain(&mut announcer, later), []);
}

#[test]
fn link_up_and_a_new_mac_start_the_burst_again() {
    let now = start();
    let mut announcer = announcing(now);
    run(&mut announcer, now, now + Duration::from_secs(10));
    let later = now + Duration::from_secs(20);
    announcer.set_link(false, later);
    assert_eq!((drain(&mut announcer, later), announcer.next_deadline(later)), (vec![], None));
    announcer.set_link(true, later);
    assert_eq!(run(&mut announcer, later, later + Duration::from_secs(5)).len(), 2 * SCHEDULE.len());
    announcer.set_mac(PEER, later + Duration::from_secs(6));
    let sent = drain(&mut announcer, later + Duration::from_secs(6));
    assert_eq!(sent, [arp::announcement(PEER, VIP), arp::announcement_reply(PEER, VIP)]);
}

#[test]
fn a_lost_vip_is_neither_announced_nor_answered() {
    let now = start();
    let mut announcer = announcing(now);
    announcer.lose(VIP4);
    assert_eq!(announcer.on_frame(&arp::encode(&ask(VIP)), now), Heard::Ignored);
    assert_eq!((drain(&mut announcer, now), announcer.next_deadline(now)), (vec![], None));
}

#[test]
fn a_question_is_answered_to_the_asker_alone() {
    let now = start();
    let mut announcer = announcing(now);
    run(&mut announcer, now, now);
    let probe = Frame { sender_ip: Ipv4Addr::UNSPECIFIED, ..ask(VIP) };
    for question in [ask(VIP), probe, Frame { destination: US, ..ask(VIP) }] {
        assert_eq!(announcer.on_frame(&arp::encode(&question), now), Heard::Answered(VIP4));
        assert_eq!(drain(&mut announcer, now), [arp::answer(US, VIP, PEER, question.sender_ip)]);
    }
}

#[test]
fn everything_else_is_ignored() {
    let now = start();
    let mut announcer = announcing(now);
    announcer.set_siblings(vec![MacAddr(2, 0, 0, 0, 0, 2)]);
    run(&mut announcer, now, now);
    for (what, frame, expected) in [
        ("another address", ask(PEER_IP), Heard::Ignored),
        ("to another station", Frame { destination: PEER, ..ask(VIP) }, Heard::Ignored),
        ("a reply", Frame { operation: Operation::Reply, ..ask(VIP) }, Heard::Ignored),
        ("our own", arp::announcement(US, VIP), Heard::Dropped(DropReason::Own)),
        ("a sibling's", arp::announcement(MacAddr(2, 0, 0, 0, 0, 2), VIP), Heard::Dropped(DropReason::Own)),
    ] {
        assert_eq!(announcer.on_frame(&arp::encode(&frame), now), expected, "{what}");
        assert_eq!(drain(&mut announcer, now), [], "{what}");
    }
}

#[test]
fn one_asker_cannot_have_more_than_ten_answers_a_second() {
    let now = start();
    let mut announcer = announcing(now);
    run(&mut announcer, now, now);
    let answered =
        (0..50).filter(|_| announcer.on_frame(&arp::encode(&ask(VIP)), now) == Heard::Answered(VIP4)).count();
    assert_eq!((answered, drain(&mut announcer, now).len()), (10, 10));
}

#[test]
fn a_foreign_claim_is_contested_once_in_ten_seconds() {
    let now = start();
    let mut announcer = announcing(now);
    run(&mut announcer, now, now + Duration::from_secs(5));
    for (seconds, defended) in [(5, true), (6, false), (14, false), (15, true)] {
        for claim in [arp::announcement(PEER, VIP), arp::announcement_reply(PEER, VIP)] {
            let first_of_pair = claim.operation == Operation::Request;
            let now = now + Duration::from_secs(seconds);
            let expected = Heard::Conflict { vip: VIP4, mac: PEER, defended: defended && first_of_pair };
            assert_eq!(announcer.on_frame(&arp::encode(&claim), now), expected, "after {seconds} s");
            let sent = if defended && first_of_pair { vec![arp::announcement(US, VIP)] } else { vec![] };
            assert_eq!(drain(&mut announcer, now), sent, "after {seconds} s");
        }
    }
}

#[test]
fn many_vips_are_announced_at_once_up_to_the_burst_and_then_evenly() {
    let now = start();
    let vips: BTreeSet<IpAddr> = (0..2000).map(|n| Ipv4Addr::from_bits(VIP.to_bits() + n).into()).collect();
    let mut announcer = Announcer::new(US);
    announcer.set_link(true, now);
    announcer.set_owned(&vips, now);
    let sent = run(&mut announcer, now, now + Duration::from_secs(20));
    assert_eq!(sent.iter().filter(|(at, _)| *at == 0).count(), 256);
    for second in 0..19 {
        let within = sent.iter().filter(|(at, _)| (1 + second * 1000..=1000 + second * 1000).contains(at)).count();
        assert!(within <= 502, "{within} frames in second {second}");
    }
    let first: BTreeSet<IpAddr> = sent.iter().take(2 * vips.len()).map(|(_, frame)| frame.sender_ip.into()).collect();
    assert_eq!(first, vips, "nobody is announced twice before everybody was announced once");
}

const VIP6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10);
const PEER6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 9);

fn announcing_ipv6(now: Instant) -> Announcer {
    let mut announcer = Announcer::new(US);
    announcer.set_link(true, now);
    announcer.gain(VIP6.into(), now);
    announcer
}

fn drain_ndp(announcer: &mut Announcer, now: Instant) -> Vec<ndp::Frame> {
    std::iter::from_fn(|| announcer.poll_frame(now)).map(|out| ndp::decode(out.frame()).unwrap()).collect()
}

fn hear(announcer: &mut Announcer, frame: &ndp::Frame, now: Instant) -> Heard {
    let (bytes, len) = ndp::encode(frame);
    announcer.on_frame(&bytes[..len], now)
}

fn solicit(receiver_ip: Ipv6Addr) -> ndp::Frame {
    let sender_mac = Some(PEER);
    ndp::Frame {
        sender_ip: PEER6,
        receiver_ip,
        message: Message::Solicitation { sender_mac },
        ..ndp::probe(PEER, VIP6)
    }
}

#[test]
fn an_ipv6_vip_is_announced_on_the_same_schedule() {
    let now = start();
    let mut announcer = announcing_ipv6(now);
    for offset in SCHEDULE {
        assert_eq!(announcer.next_deadline(now + offset), Some(now + offset));
        assert_eq!(drain_ndp(&mut announcer, now + offset), [ndp::announcement(US, VIP6)]);
    }
}

#[test]
fn solicitations_reachability_checks_and_probes_for_duplicates_are_answered() {
    let now = start();
    let mut announcer = announcing_ipv6(now);
    drain_ndp(&mut announcer, now);
    let to_us = ndp::Frame { destination: US, ..solicit(VIP6) };
    for question in [solicit(ndp::solicited_node(VIP6)), to_us, ndp::probe(PEER, VIP6)] {
        assert_eq!(hear(&mut announcer, &question, now), Heard::Answered(VIP6.into()), "{question:?}");
        assert_eq!(drain_ndp(&mut announcer, now), [ndp::answer(US, &question)]);
    }
    let elsewhere = ndp::Frame { target: PEER6, ..solicit(PEER6) };
    for (frame, expected) in [
        (elsewhere, Heard::Ignored),
        (solicit(ndp::ALL_NODES), Heard::Ignored),
        (ndp::announcement(US, VIP6), Heard::Dropped(DropReason::Own)),
    ] {
        assert_eq!(hear(&mut announcer, &frame, now), expected, "{frame:?}");
        assert_eq!(drain_ndp(&mut announcer, now), []);
    }
}

#[test]
fn a_foreign_advertisement_is_contested_once_in_ten_seconds() {
    let now = start();
    let mut announcer = announcing_ipv6(now);
    drain_ndp(&mut announcer, now);
    for defended in [true, false] {
        let heard = hear(&mut announcer, &ndp::announcement(PEER, VIP6), now);
        assert_eq!(heard, Heard::Conflict { vip: VIP6.into(), mac: PEER, defended });
        assert_eq!(drain_ndp(&mut announcer, now).len(), usize::from(defended));
    }
}
