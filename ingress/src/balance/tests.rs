use std::collections::{BTreeMap, BTreeSet};

use config::object::ObjectName;
use proptest::prelude::*;

use super::*;
use crate::backend::{BackendKey, PortRef};

fn addr(last: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, last], 8080))
}

fn endpoints(last: impl IntoIterator<Item = u8>) -> Endpoints {
    let key = BackendKey { service: ObjectName::new("shop", "web"), port: PortRef::Number(80) };
    Endpoints::new(key, last.into_iter().map(addr), Vec::new(), None)
}

/// Long after all endpoints are known.
const LATER: u64 = 10 * RAMP;

/// The same endpoints, new to nobody.
fn settled(last: impl IntoIterator<Item = u8>) -> Endpoints {
    let all = endpoints(last);
    for endpoint in all.list() {
        endpoint.load.readmitted(0);
    }
    all
}

fn draw(random: u64) -> Draw {
    Draw { random, now: LATER }
}

fn by(method: Method) -> Wish {
    Wish { method, ..Wish::FREE }
}

fn keyed(key: u64, among: usize) -> Wish {
    Wish { tie: Tie::Key { key, among }, ..Wish::FREE }
}

fn last(endpoint: &Endpoint) -> u8 {
    match endpoint.addr {
        SocketAddr::V4(addr) => addr.ip().octets()[3],
        SocketAddr::V6(_) => 0,
    }
}

fn choice(all: &Endpoints, wish: &Wish, random: u64) -> u8 {
    last(choose(all, wish, draw(random), &[]).unwrap())
}

/// Any way to choose.
fn wishes() -> impl Strategy<Value = Wish> {
    let method = prop_oneof![Just(Method::LeastRequests), Just(Method::RoundRobin), Just(Method::Ewma)];
    let tie = prop_oneof![
        Just(Tie::Free),
        (any::<u64>(), 1_usize..5).prop_map(|(key, among)| Tie::Key { key, among }),
        (1_u8..8).prop_map(|last| Tie::Endpoint { id: endpoints([last]).list()[0].id }),
    ];
    (method, tie).prop_map(|(method, tie)| Wish { tie, method })
}

#[test]
fn the_less_busy_or_the_faster_of_two_is_chosen() {
    for random in [0, u64::MAX, 0x8000_0000_0000_0000, 0x1234_5678_9ABC_DEF0] {
        let all = settled([1, 2]);
        let _busy = all.list()[0].load.enter();
        assert_eq!(choice(&all, &by(Method::LeastRequests), random), 2);
        // As long as one of them has never answered, nothing is known of its speed.
        all.list()[1].load.answered(LATER, Some(900_000));
        assert_eq!(choice(&all, &by(Method::Ewma), random), 2);
        all.list()[0].load.answered(LATER, Some(1_000));
        assert_eq!(choice(&all, &by(Method::Ewma), random), 1);
    }
}

#[test]
fn one_after_the_other_is_fair_to_the_request() {
    let all = settled(1..=7);
    let mut counts = BTreeMap::<u8, u32>::new();
    for turn in 0..7_u64 * 30 {
        *counts.entry(choice(&all, &by(Method::RoundRobin), mix(turn))).or_default() += 1;
    }
    assert!(counts.len() == 7 && counts.values().all(|count| *count == 30), "{counts:?}");
}

#[test]
fn turns_go_on_where_they_were_after_a_swap() {
    let before = settled([1, 2, 3]);
    assert_eq!(choice(&before, &by(Method::RoundRobin), 0), 1);
    let after = Endpoints::new(before.key().clone(), (1..=3).map(addr), Vec::new(), Some(&before));
    assert_eq!(choice(&after, &by(Method::RoundRobin), 0), 2);
}

#[test]
fn a_new_endpoint_gets_little_at_first_and_its_share_later() {
    for method in [Method::LeastRequests, Method::Ewma] {
        let mut shares = Vec::new();
        for age in [0, RAMP / 2, RAMP] {
            let all = settled([1, 2]);
            all.list()[1].load.readmitted(LATER - age);
            let wins = (0..4000).filter(|turn| choice(&all, &by(method), mix(*turn)) == 2).count();
            shares.push(wins);
        }
        assert!((100..=300).contains(&shares[0]), "{method:?}: {shares:?}");
        assert!((800..=1200).contains(&shares[1]), "{method:?}: {shares:?}");
        assert!((1800..=2200).contains(&shares[2]), "{method:?}: {shares:?}");
    }
    // Where all are new, or there is only one, nobody is spared.
    let all = endpoints([1]);
    assert!(choose(&all, &Wish::FREE, Draw { random: u64::MAX, now: 0 }, &[]).is_some());
}

#[test]
fn keys_are_spread_evenly() {
    let all = settled(1..=5);
    let mut counts = BTreeMap::<u8, u32>::new();
    for key in 0..5000 {
        *counts.entry(choice(&all, &keyed(key, 1), 0)).or_default() += 1;
    }
    assert!(counts.len() == 5 && counts.values().all(|count| (850..1150).contains(count)), "{counts:?}");
}

#[test]
fn a_subset_is_as_large_as_it_says_and_all_of_it_is_used() {
    let all = settled(1..=8);
    for (among, expected) in [(1, 1), (3, 3), (20, 8)] {
        let used: BTreeSet<_> = (0..200).map(|turn| choice(&all, &keyed(7, among), mix(turn))).collect();
        assert_eq!(used.len(), expected, "of {among}");
    }
}

#[test]
fn a_client_stays_with_its_endpoint_while_it_lives() {
    let all = settled([1, 2, 3]);
    let tied = Wish { tie: Tie::Endpoint { id: all.list()[1].id }, ..Wish::FREE };
    for random in (0..50).map(mix) {
        assert_eq!(choice(&all, &tied, random), 2);
        let grown = settled([1, 2, 3, 4, 5]);
        assert_eq!(choice(&grown, &tied, random), 2, "others that come change nothing");
    }
    let without = settled([1, 3]);
    assert!(choose(&without, &tied, draw(0), &[]).is_some(), "without it, another one helps");
}

proptest! {
    #[test] // or one dead endpoint would be an outage for whoever is tied to it
    fn an_ejected_endpoint_is_never_asked_while_another_lives(
        wish in wishes(), random: u64, ejected in proptest::collection::vec(any::<bool>(), 1..7),
    ) {
        let count = u8::try_from(ejected.len()).unwrap();
        let all = settled(1..=count);
        for (endpoint, is_ejected) in all.list().iter().zip(&ejected) {
            if *is_ejected {
                endpoint.load.eject_until(LATER + 1);
            }
        }
        let chosen = choose(&all, &wish, draw(random), &[]).expect("one that serves is always found");
        let is_ejected = ejected[usize::from(last(chosen) - 1)];
        prop_assert!(!is_ejected || ejected.iter().all(|ejected| *ejected));
    }

    #[test] // or a retry would ask the one that has just failed
    fn a_retry_never_goes_where_the_request_has_been(wish in wishes(), random: u64, count in 0_u8..6, tried in 0_u8..6) {
        let tried: Vec<_> = (1..=tried).map(addr).collect();
        let all = settled(1..=count);
        let chosen = choose(&all, &wish, draw(random), &tried);
        prop_assert_eq!(chosen.is_some(), usize::from(count) > tried.len());
        prop_assert!(chosen.is_none_or(|endpoint| !tried.contains(&endpoint.addr)));
    }

    #[test] // so that sessions survive when a Deployment is scaled
    fn only_the_keys_of_an_endpoint_that_goes_move(key: u64, count in 2_u8..12, gone in 1_u8..12) {
        prop_assume!(gone <= count);
        let before = choice(&settled(1..=count), &keyed(key, 1), 0);
        let after = choice(&settled((1..=count).filter(|last| *last != gone)), &keyed(key, 1), 0);
        prop_assert!(before == after || before == gone);
    }

    #[test]
    fn an_endpoint_that_comes_takes_keys_for_itself_only(key: u64, count in 1_u8..12) {
        let before = choice(&settled(1..=count), &keyed(key, 1), 0);
        let after = choice(&settled(1..=count + 1), &keyed(key, 1), 0);
        prop_assert!(before == after || after == count + 1);
    }

    #[test]
    fn a_key_means_the_same_endpoint_whatever_else_changes(key: u64, random: u64, other: u64, busy in 0_usize..5) {
        let all = settled(1..=5);
        let before = choice(&all, &keyed(key, 1), random);
        let _guard = all.list()[busy].load.enter();
        prop_assert_eq!(choice(&all, &keyed(key, 1), other), before);
    }

    #[test]
    fn turns_differ_by_one_at_most(count in 1_u8..9, turns in 1_u32..200) {
        let all = settled(1..=count);
        let mut counts = BTreeMap::<u8, u32>::new();
        for turn in 0..turns {
            *counts.entry(choice(&all, &by(Method::RoundRobin), mix(turn.into()))).or_default() += 1;
        }
        let most = counts.values().max().copied().unwrap_or_default();
        let least = if counts.len() < usize::from(count) { 0 } else { counts.values().min().copied().unwrap_or_default() };
        prop_assert!(most - least <= 1);
    }
}
