//! Probes by simulated time.

use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;

const US: MacAddr = MacAddr(2, 0, 0, 0, 0, 1);
const STRANGER: MacAddr = MacAddr(2, 0, 0, 0, 0, 9);
const IP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
const IP6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10);
/// From the first question about an address that nobody has until it is known to be free.
const WHOLE: Duration = Duration::from_millis(400);
const A_MOMENT: Duration = Duration::from_millis(1);

#[expect(clippy::disallowed_methods, reason = "a test's arbitrary start; all later times are computed")]
fn start() -> Instant {
    Instant::now()
}

fn probing(candidates: &[IpAddr], now: Instant) -> Prober {
    let mut prober = Prober::new(UNPACED, PACED_PER_SECOND);
    prober.set_candidates(&candidates.iter().copied().collect(), now);
    prober
}

/// Runs until `end`; what is asked, with the time since `start` in milliseconds.
fn run(prober: &mut Prober, start: Instant, end: Instant) -> Vec<(u128, IpAddr)> {
    let (mut now, mut asked) = (start, Vec::new());
    loop {
        while let Some(ip) = prober.poll(now) {
            asked.push((now.duration_since(start).as_millis(), ip));
        }
        match prober.next_deadline(now) {
            Some(next) if next <= end => now = next,
            _ => return asked,
        }
    }
}

fn addresses(count: u32) -> Vec<IpAddr> {
    (0..count).map(|n| Ipv4Addr::from_bits(IP.to_bits() + n).into()).collect()
}

#[test]
fn an_address_is_free_when_three_questions_went_unanswered() {
    let now = start();
    for ip in [IpAddr::V4(IP), IpAddr::V6(IP6)] {
        let mut prober = probing(&[ip], now);
        let just_before = now + WHOLE.saturating_sub(A_MOMENT);
        assert_eq!(run(&mut prober, now, just_before), [(0, ip), (100, ip), (200, ip)]);
        assert_eq!(prober.findings(), Findings::default());
        run(&mut prober, just_before, now + WHOLE);
        assert_eq!(prober.findings().free, BTreeSet::from([ip]));
    }
}

#[test]
fn whoever_claims_it_or_probes_for_it_too_has_it_and_that_is_remembered_for_a_while() {
    let now = start();
    let (ip, ip6) = (IpAddr::V4(IP), IpAddr::V6(IP6));
    let ndp_bytes = |frame: &ndp::Frame| {
        let (bytes, len) = ndp::encode(frame);
        bytes[..len].to_vec()
    };
    for (candidate, frame) in [
        (ip, arp::encode(&arp::answer(STRANGER, IP, US, Ipv4Addr::UNSPECIFIED)).to_vec()),
        (ip, arp::encode(&arp::announcement(STRANGER, IP)).to_vec()),
        (ip, arp::encode(&arp::probe(STRANGER, IP)).to_vec()),
        (ip6, ndp_bytes(&ndp::announcement(STRANGER, IP6))),
        (ip6, ndp_bytes(&ndp::probe(STRANGER, IP6))),
        (ip6, ndp_bytes(&ndp::Frame { sender_ip: IP6, ..ndp::probe(STRANGER, Ipv6Addr::LOCALHOST) })),
    ] {
        let mut prober = probing(&[candidate], now);
        assert_eq!(prober.poll(now), Some(candidate));
        prober.on_frame(&frame, now);
        assert!(prober.has_changed() && !prober.has_changed(), "{frame:?}");
        assert_eq!(run(&mut prober, now, now + WHOLE), [], "a taken address is not asked about again");
        assert_eq!(prober.findings().taken, BTreeMap::from([(candidate, STRANGER)]));
        // The plan chooses another address at once; this one is remembered.
        prober.set_candidates(&BTreeSet::new(), now);
        let end = now + QUARANTINE;
        run(&mut prober, now, now + QUARANTINE.saturating_sub(A_MOMENT));
        assert_eq!(prober.findings().taken.len(), 1);
        run(&mut prober, end, end);
        assert_eq!(prober.findings(), Findings::default());
        assert_eq!(prober.next_deadline(end), None);
    }
}

#[test]
fn our_own_stations_claim_nothing() {
    let now = start();
    let mut prober = probing(&[IP.into()], now);
    prober.set_ours(HashSet::from([US]));
    prober.on_frame(&arp::encode(&arp::announcement(US, IP)), now);
    prober.on_frame(&arp::encode(&arp::announcement(STRANGER, Ipv4Addr::new(192, 0, 2, 99))), now);
    assert!(!prober.has_changed());
    run(&mut prober, now, now + WHOLE);
    assert_eq!(prober.findings().free.len(), 1);
    // A late answer still counts while the address is not given.
    prober.on_frame(&arp::encode(&arp::announcement(STRANGER, IP)), now + WHOLE);
    assert_eq!((prober.findings().free.len(), prober.findings().taken.len()), (0, 1));
}

#[test]
fn what_is_known_is_not_asked_again_until_the_proof_is_old() {
    let now = start();
    let mut prober = probing(&[IP.into()], now);
    run(&mut prober, now, now + WHOLE);
    prober.set_candidates(&BTreeSet::from([IP.into()]), now + WHOLE);
    let old = now + WHOLE + PROOF;
    assert_eq!(run(&mut prober, now + WHOLE, now + WHOLE + PROOF.saturating_sub(A_MOMENT)), []);
    assert_eq!(prober.poll(old), Some(IP.into()));
    prober.set_candidates(&BTreeSet::new(), old);
    prober.set_candidates(&BTreeSet::from([IP.into()]), old);
    assert_eq!(prober.poll(old), Some(IP.into()), "who stopped being a candidate starts anew");
}

#[test]
fn a_thousand_addresses_are_probed_side_by_side_and_paced() {
    let now = start();
    let mut prober = probing(&addresses(1000), now);
    let asked = run(&mut prober, now, now + Duration::from_secs(10));
    assert_eq!(asked.len(), 3000);
    assert_eq!(asked.iter().filter(|(at, _)| *at == 0).count(), 256);
    for second in 0..10 {
        let within = asked.iter().filter(|(at, _)| (1 + second * 1000..=1000 + second * 1000).contains(at)).count();
        assert!(within <= 1001, "{within} questions in second {second}");
    }
    let last = asked.last().unwrap().0 + WAIT.as_millis();
    assert!(last <= 3000, "all is known after {last} ms");
    assert_eq!(prober.findings().free.len(), 1000);
}

#[test]
fn a_slow_pace_is_kept() {
    let now = start();
    let mut prober = Prober::new(1, 10);
    prober.set_candidates(&addresses(20).into_iter().collect(), now);
    let asked = run(&mut prober, now, now + Duration::from_secs(30));
    assert_eq!(asked.len(), 60);
    for pair in asked.windows(2) {
        assert!(pair[1].0 - pair[0].0 >= 100, "{pair:?}");
    }
}

proptest! {
    #[test] // so nobody's address is given away, whatever else is heard and changed meanwhile
    fn an_address_that_was_claimed_is_not_free_before_the_quarantine_is_over(
        steps in prop::collection::vec((0_u8..4, 0_u32..6, 0_u64..300), 1..80),
    ) {
        let (mut prober, mut now) = (Prober::new(4, 20), start());
        let all = addresses(6);
        let mut claimed: BTreeMap<IpAddr, Instant> = BTreeMap::new();
        for (kind, which, pause) in steps {
            let (ip, end) = (all[which as usize], now + Duration::from_millis(pause));
            match kind {
                0 => {
                    let candidates: BTreeSet<IpAddr> = all.iter().copied().take(which as usize).collect();
                    prober.set_candidates(&candidates, now);
                }
                1 => {
                    let known = prober.states.contains_key(&ip);
                    prober.on_claim(ip, STRANGER, now);
                    if known {
                        claimed.insert(ip, now);
                    }
                }
                _ => drop(run(&mut prober, now, end)),
            }
            now = end;
            prop_assert!(prober.due.len() == prober.states.len(), "each waits for one moment");
            for ip in &prober.findings().free {
                prop_assert!(claimed.get(ip).is_none_or(|at| now.duration_since(*at) >= QUARANTINE), "{ip}");
            }
        }
    }
}
