//! Laws of [`super::settle`].

use proptest::prelude::*;

use super::*;

fn name(index: usize) -> ObjectName {
    ObjectName::new("default", format!("s{index}"))
}

fn ip(last: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, last])
}

fn status(addresses: &[u8]) -> ServiceStatus {
    ServiceStatus { ips: addresses.iter().copied().map(ip).collect(), pool: None }
}

fn memory(services: &[(usize, u8)]) -> Memory {
    let services = services.iter().map(|(index, address)| (name(*index), status(&[*address]))).collect();
    Memory { services, ..Memory::default() }
}

fn report(services: &[(usize, &[u8])]) -> Report {
    let services = services.iter().map(|(index, addresses)| (name(*index), status(addresses))).collect();
    Report { generation: 1, services, ..Report::default() }
}

fn all_present(_: &ObjectRef) -> Presence {
    Presence::Present
}

fn only(present: &[usize], otherwise: Presence) -> impl Fn(&ObjectRef) -> Presence {
    let present: Vec<ObjectName> = present.iter().copied().map(name).collect();
    move |object| if present.contains(&object.name) { Presence::Present } else { otherwise }
}

#[test]
fn a_status_is_set_moved_and_cleared() {
    let (one, two) = (memory(&[(1, 1)]), memory(&[(1, 2)]));
    for (before, wanted, after) in [
        (Memory::default(), report(&[(1, &[1])]), one.clone()),
        (one.clone(), report(&[(1, &[2])]), two),
        (one.clone(), report(&[(1, &[])]), Memory::default()),
        (one.clone(), report(&[]), one),
    ] {
        let settled = settle(&before, &[&wanted], 1, all_present);
        assert_eq!(settled, Settled { memory: after, refusals: vec![] });
    }
}

#[test]
fn a_report_of_an_older_snapshot_gives_no_address() {
    let wanted = report(&[(1, &[1])]);
    assert_eq!(settle(&Memory::default(), &[&wanted], 2, all_present).memory, Memory::default());
}

#[test]
fn two_services_may_swap_or_share_within_one_report() {
    let before = memory(&[(1, 1), (2, 2)]);
    for wanted in [report(&[(1, &[2]), (2, &[1])]), report(&[(1, &[1]), (2, &[1])])] {
        let settled = settle(&before, &[&wanted], 1, all_present);
        assert!(settled.memory.services.iter().eq(wanted.services.iter()), "{settled:?}");
        assert_eq!(settled.refusals, vec![]);
    }
}

#[test]
fn the_address_of_a_deleted_service_is_free_and_that_of_an_unreadable_one_is_not() {
    let (before, wanted) = (memory(&[(1, 1)]), report(&[(2, &[1])]));
    let settled = settle(&before, &[&wanted], 1, only(&[2], Presence::Absent));
    assert_eq!(settled, Settled { memory: memory(&[(2, 1)]), refusals: vec![] });
    let settled = settle(&before, &[&wanted], 1, only(&[2], Presence::Unknown));
    assert_eq!((settled.memory, settled.refusals.len()), (before, 1));
    assert!(settled.refusals[0].message.contains("192.0.2.1"), "{}", settled.refusals[0]);
}

#[test]
fn a_refused_service_holds_on_to_the_address_it_was_to_give_up() {
    // 9 cannot be seen; 1 is to take its address and 2 that of 1.
    let before = memory(&[(9, 9), (1, 1), (2, 2)]);
    let settled = settle(&before, &[&report(&[(1, &[9]), (2, &[1])])], 1, only(&[1, 2], Presence::Unknown));
    assert_eq!((settled.memory, settled.refusals.len()), (before, 2));
}

#[test]
fn an_ingress_is_answered_and_forgotten_when_it_is_gone() {
    let ingresses = [(name(1), vec![ip(1).into(), "lb.example".parse().unwrap()])].into();
    let wanted = Report { ingresses, ..Report::default() };
    let settled = settle(&Memory::default(), &[&wanted], 1, all_present);
    assert!(settled.memory.ingresses.iter().eq(wanted.ingresses.iter()), "{settled:?}");
    let gone = settle(&settled.memory, &[&Report::default()], 1, only(&[], Presence::Absent));
    assert_eq!(gone.memory, Memory::default());
    let unknown = settle(&settled.memory, &[&Report::default()], 1, only(&[], Presence::Unknown));
    assert_eq!(unknown.memory, settled.memory);
}

#[test]
#[expect(clippy::disallowed_methods, reason = "an Instant can only be had from a clock")]
fn a_service_is_forgotten_only_when_it_stayed_away() {
    let (mut absences, memory, start) = (Absences::default(), memory(&[(1, 1), (2, 2)]), Instant::now());
    let gone = only(&[2], Presence::Absent);
    absences.observe(&memory, &gone, start);
    assert_eq!(absences.deadline(), Some(start + FORGET_AFTER));
    absences.observe(&memory, all_present, start + FORGET_AFTER / 2);
    assert_eq!(absences.deadline(), None);
    let again = start + FORGET_AFTER;
    absences.observe(&memory, &gone, again);
    absences.observe(&memory, &gone, again + FORGET_AFTER);
    assert_eq!(absences.forget(&memory, again), memory);
    assert_eq!(absences.forget(&memory, again + FORGET_AFTER), super::tests::memory(&[(2, 2)]));
}

#[test]
fn an_event_is_news_once_until_it_ceases_and_returns() {
    let object = ObjectRef::new(Kind::Service, name(1));
    let event = Event { object, severity: None, reason: "IPAllocated", message: "hello".into() };
    let with = Report { events: [event.clone(), event.clone()].into_iter().collect(), ..Report::default() };
    let mut transitions = Transitions::default();
    let mut news = |report: &Report| transitions.news(&[report]).len();
    assert_eq!([news(&with), news(&with), news(&Report::default()), news(&with)], [1, 0, 0, 1]);
}

proptest! {
    /// Reports are arbitrary, so sharing is whatever a report says; what must never happen is that an address
    /// reaches somebody while one whom the report does not speak of may hold it.
    #[test]
    fn no_address_is_given_while_a_bystander_may_hold_it(
        held in proptest::collection::btree_map(0_usize..6, 0_u8..6, 0..6),
        wanted in proptest::collection::btree_map(0_usize..6, proptest::option::of(0_u8..6), 0..6),
        fates in proptest::array::uniform6(0_u8..3),
    ) {
        let held: BTreeMap<u8, usize> = held.into_iter().map(|(service, address)| (address, service)).collect();
        let before = memory(&held.iter().map(|(address, service)| (*service, *address)).collect::<Vec<_>>());
        let presence = |object: &ObjectRef| {
            let index = (0..6).find(|index| name(*index) == object.name).expect("one of ours");
            [Presence::Present, Presence::Unknown, Presence::Absent][usize::from(fates[index])]
        };
        let services = wanted.iter().map(|(index, address)| (name(*index), status(address.as_slice())));
        let wanted = Report { generation: 1, services: services.collect(), ..Report::default() };
        let settled = settle(&before, &[&wanted], 1, presence);
        let after = &settled.memory.services;

        let refused: BTreeSet<_> = settled.refusals.iter().map(|problem| problem.object.clone().unwrap().name).collect();
        for (service_name, status) in after {
            let present = presence(&service(service_name)) == Presence::Present;
            let changed = before.services.get(service_name) != Some(status);
            prop_assert!(!changed || present, "only what is there changes");
            for (other, theirs) in after {
                let shared = other != service_name && theirs.ips.iter().any(|ip| status.ips.contains(ip));
                let meant = |name: &ObjectName| wanted.services.contains_key(name) && !refused.contains(name);
                let both_meant = meant(other) && meant(service_name);
                prop_assert!(!shared || both_meant, "{service_name} and {other} hold one address");
            }
        }
        for name in before.services.keys().filter(|name| presence(&service(name)) == Presence::Unknown) {
            prop_assert_eq!(after.get(name), before.services.get(name), "what cannot be seen keeps its status");
        }
        let again = settle(&settled.memory, &[&wanted], 1, presence);
        prop_assert_eq!(&again.memory, &settled.memory, "settling twice is settling once");
    }
}
