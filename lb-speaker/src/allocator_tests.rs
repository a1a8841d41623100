//! The law of allocation: cases by row, and the properties.

use std::collections::BTreeMap;

use config::pool::AddressRange;
use proptest::prelude::*;

use super::*;
use crate::claim::{Port, Traffic};
use crate::tenancy::Rule;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn pool(name: &str, ranges: &[(&str, &str)]) -> Pool {
    let ranges = ranges.iter().map(|(first, last)| AddressRange::new(ip(first), ip(last)).unwrap()).collect();
    Pool::new(PoolName::new(name).unwrap(), Protocol::Layer2, ranges)
}

fn pools(pools: Vec<Pool>) -> PoolConfig {
    PoolConfig { pools, ..PoolConfig::default() }
}

fn claim(name: &str) -> Claim {
    Claim {
        service: ObjectName::new("default", name),
        families: Families::Single(Family::IPv4),
        asked: Vec::new(),
        pool: None,
        sharing: None,
        ports: vec![Port { protocol: "tcp".into(), number: 80 }],
        labels: Labels::new(),
        committed: Vec::new(),
        fault: None,
    }
}

fn holding(name: &str, held: &str) -> Claim {
    Claim { committed: vec![ip(held)], ..claim(name) }
}

fn sharing(key: &str, port: i32, claim: Claim) -> Claim {
    let sharing = Some(Sharing { key: key.into(), traffic: Traffic::Cluster });
    Claim { sharing, ports: vec![Port { protocol: "tcp".into(), number: port }], ..claim }
}

type Assignments = BTreeMap<ObjectName, Assignment>;

fn allocate(config: &PoolConfig, claims: &[Claim]) -> Assignments {
    under(config, OrphanPolicy::Keep, &Reserved::new(), claims)
}

fn under(config: &PoolConfig, orphans: OrphanPolicy, reserved: &Reserved, claims: &[Claim]) -> Assignments {
    let terms = Terms { config, orphans, reserved, namespaces: &Objects::default() };
    let given = super::allocate(terms, &claims.iter().collect::<Vec<_>>());
    claims.iter().map(|claim| claim.service.clone()).zip(given).collect()
}

/// `name=address` or `name: refusal` of each Service.
fn outcome(config: &PoolConfig, claims: &[Claim]) -> Vec<String> {
    shown(allocate(config, claims))
}

fn shown(assignments: Assignments) -> Vec<String> {
    let show = |(name, it): (ObjectName, Assignment)| {
        let ips = it.ips.iter().map(ToString::to_string).collect::<Vec<_>>().join("+");
        let why = it.refusal.map(|refusal| format!(": {refusal}")).unwrap_or_default();
        format!("{}={ips}{why}", name.name)
    };
    assignments.into_iter().map(show).collect()
}

fn small() -> PoolConfig {
    pools(vec![
        pool("a", &[("192.0.2.20", "192.0.2.21"), ("192.0.2.10", "192.0.2.10")]),
        pool("b", &[("198.51.100.1", "198.51.100.9")]),
    ])
}

#[test]
fn addresses_are_given_in_written_order_lowest_first() {
    let claims: Vec<Claim> = ["e", "d", "c", "b", "a"].map(claim).to_vec();
    let expected = ["a=192.0.2.20", "b=192.0.2.21", "c=192.0.2.10", "d=198.51.100.1", "e=198.51.100.2"];
    assert_eq!(outcome(&small(), &claims), expected);
}

#[test]
fn holders_keep_their_address_whatever_is_free_below() {
    let claims = [claim("a"), holding("z", "192.0.2.20"), holding("y", "198.51.100.7")];
    assert_eq!(outcome(&small(), &claims), ["a=192.0.2.21", "y=198.51.100.7", "z=192.0.2.20"]);
}

#[test]
fn who_asks_is_served_before_who_takes_what_comes() {
    let asks = Claim { asked: vec![ip("192.0.2.20")], ..claim("z") };
    let asks_pool = Claim { pool: Some("b".into()), ..claim("y") };
    let expected = ["a=192.0.2.21", "y=198.51.100.1", "z=192.0.2.20"];
    assert_eq!(outcome(&small(), &[claim("a"), asks_pool, asks]), expected);
}

#[test]
fn changing_the_request_moves_and_dropping_it_does_not() {
    let asks = Claim { asked: vec![ip("192.0.2.10")], ..holding("web", "192.0.2.20") };
    assert_eq!(outcome(&small(), &[asks]), ["web=192.0.2.10"]);
    let asks_pool = Claim { pool: Some("b".into()), ..holding("web", "192.0.2.20") };
    assert_eq!(outcome(&small(), &[asks_pool]), ["web=198.51.100.1"]);
    assert_eq!(outcome(&small(), &[holding("web", "192.0.2.10")]), ["web=192.0.2.10"]);
}

#[test]
fn an_impossible_request_clears_and_a_slip_does_not() {
    let asks = Claim { asked: vec![ip("203.0.113.1")], ..holding("web", "192.0.2.20") };
    assert!(outcome(&small(), &[asks])[0].starts_with("web=: [\"203.0.113.1\"] is not allowed in config"));
    let field = config::object::FieldPath::root();
    let fault = crate::claim::Fault::NotAnAddress { field, text: "192.0.2".into() };
    let slip = Claim { fault: Some(fault), ..holding("web", "192.0.2.20") };
    assert!(outcome(&small(), &[slip])[0].starts_with("web=192.0.2.20: invalid requested loadbalancer IPs"));
}

#[test]
fn refusals_name_what_is_in_the_way() {
    let ask = |address: &str, claim: Claim| Claim { asked: vec![ip(address)], ..claim };
    let holder = || sharing("k", 80, holding("holder", "192.0.2.20"));
    let local = |mut claim: Claim| {
        let sharing = claim.sharing.as_mut().unwrap();
        sharing.traffic = Traffic::Local(BTreeMap::new());
        claim
    };
    for (newcomer, expected) in [
        (
            ask("192.0.2.20", claim("web")),
            "can't change sharing key for \"default/web\", address also in use by default/holder;",
        ),
        (
            ask("192.0.2.20", sharing("j", 81, claim("web"))),
            "can't change sharing key for \"default/web\", address also in use by default/holder;",
        ),
        (
            ask("192.0.2.20", local(sharing("k", 81, claim("web")))),
            "address also in use by default/holder with another externalTrafficPolicy",
        ),
        (
            ask("192.0.2.20", sharing("k", 80, claim("web"))),
            "port tcp/80 is already in use on \"192.0.2.20\" by Service default/holder",
        ),
        (Claim { pool: Some("c".into()), ..claim("web") }, "unknown pool \"c\"; the pools are a, b"),
        (
            Claim { pool: Some("b".into()), ..ask("192.0.2.21", claim("web")) },
            "is not compatible with requested address pool b: it is in pool a",
        ),
        (
            Claim { families: Families::Single(Family::IPv6), ..claim("web") },
            "no available IPs of family IPv6 in pools a, b",
        ),
    ] {
        let outcome = &outcome(&small(), &[holder(), newcomer])[1];
        assert!(outcome.contains(expected), "{outcome}");
    }
    assert!(outcome(&pools(vec![]), &[claim("web")])[0].contains("no available IPs: there is no address pool"));
}

#[test]
fn an_exhausted_pool_refuses_the_last_by_name() {
    let config = pools(vec![pool("a", &[("192.0.2.1", "192.0.2.1")])]);
    let found = outcome(&config, &[claim("b"), claim("a")]);
    assert_eq!(found[0], "a=192.0.2.1");
    assert!(found[1].starts_with("b=: no available IPs of family IPv4 in pool \"a\""), "{}", found[1]);
}

#[test]
fn pools_without_auto_assign_are_given_on_request_only() {
    let config = pools(vec![Pool { auto_assign: false, ..pool("a", &[("192.0.2.1", "192.0.2.9")]) }]);
    assert!(outcome(&config, &[claim("web")])[0].contains("all have auto-assign off"));
    assert_eq!(outcome(&config, &[Claim { pool: Some("a".into()), ..claim("web") }]), ["web=192.0.2.1"]);
    assert_eq!(outcome(&config, &[Claim { asked: vec![ip("192.0.2.5")], ..claim("web") }]), ["web=192.0.2.5"]);
}

#[test]
fn buggy_addresses_are_left_out_where_avoided() {
    let config = pools(vec![Pool { avoid_buggy_ips: true, ..pool("a", &[("192.0.2.254", "192.0.3.1")]) }]);
    let asks = Claim { asked: vec![ip("192.0.3.0")], ..claim("c") };
    let found = outcome(&config, &[claim("a"), claim("b"), asks]);
    assert_eq!(found[..2], ["a=192.0.2.254", "b=192.0.3.1"]);
    assert!(found[2].contains("[\"192.0.3.0\"] is not allowed in config: pool \"a\" leaves out"), "{}", found[2]);
}

#[test]
fn sharers_land_together_and_the_odd_one_moves() {
    let sharers = |committed: bool| {
        [("a", 80), ("b", 81), ("c", 80)]
            .map(|(name, port)| sharing("k", port, if committed { holding(name, "192.0.2.20") } else { claim(name) }))
    };
    assert_eq!(outcome(&small(), &sharers(false)), ["a=192.0.2.20", "b=192.0.2.20", "c=192.0.2.21"]);
    // Two hold it with one key; the first by name has changed its own.
    let mut claims = sharers(true);
    claims[2] = sharing("k", 82, holding("c", "192.0.2.20"));
    claims[0] = sharing("j", 80, holding("a", "192.0.2.20"));
    assert_eq!(outcome(&small(), &claims), ["a=192.0.2.21", "b=192.0.2.20", "c=192.0.2.20"]);
}

#[test]
fn both_families_come_from_one_pool() {
    let v4 = pool("v4", &[("192.0.2.1", "192.0.2.9")]);
    let both = pool("both", &[("198.51.100.1", "198.51.100.1"), ("fd00::1", "fd00::ff")]);
    let config = pools(vec![v4, both]);
    let dual = |families, name| Claim { families, ..claim(name) };
    let claims = [
        dual(Families::PreferDual(Family::IPv6), "a"),
        dual(Families::PreferDual(Family::IPv4), "b"),
        dual(Families::RequireDual(Family::IPv4), "c"),
        Claim { committed: vec![ip("192.0.2.9")], ..dual(Families::RequireDual(Family::IPv4), "d") },
    ];
    let found = outcome(&config, &claims);
    assert_eq!(found[..2], ["a=fd00::1+198.51.100.1", "b=192.0.2.1"]);
    assert!(found[2].starts_with("c=: no available IPs of both families"), "{}", found[2]);
    assert!(found[3].starts_with("d=192.0.2.9: no available IPs: RequireDualStack needs an IPv6"), "{}", found[3]);
}

#[test]
fn a_single_stack_holder_gains_the_second_family_from_its_pool() {
    let config = pools(vec![pool("both", &[("198.51.100.1", "198.51.100.9"), ("fd00::1", "fd00::ff")])]);
    let claim = Claim { families: Families::PreferDual(Family::IPv4), ..holding("web", "198.51.100.7") };
    assert_eq!(outcome(&config, &[claim]), ["web=198.51.100.7+fd00::1"]);
}

#[test]
fn an_orphaned_address_stays_and_goes_to_nobody_else() {
    let found =
        allocate(&small(), &[holding("web", "203.0.113.5"), Claim { asked: vec![ip("203.0.113.5")], ..claim("b") }]);
    let web = &found[&ObjectName::new("default", "web")];
    assert_eq!((&web.ips, &web.orphaned, &web.pool), (&vec![ip("203.0.113.5")], &vec![ip("203.0.113.5")], &None));
    assert!(found[&ObjectName::new("default", "b")].ips.is_empty());
}

#[test]
fn an_orphan_is_renumbered_where_that_is_the_policy() {
    let v6 = pool("both", &[("198.51.100.1", "198.51.100.1"), ("fd00::1", "fd00::ff")]);
    let dual = |held: &[&str]| Claim {
        families: Families::PreferDual(Family::IPv4),
        committed: held.iter().map(|held| ip(held)).collect(),
        ..claim("dual")
    };
    for (what, config, claims, expected) in [
        ("another is free", small(), vec![holding("a", "203.0.113.5")], "a=192.0.2.20"),
        ("its pool has it", small(), vec![holding("a", "192.0.2.21")], "a=192.0.2.21"),
        ("one of two is left", pools(vec![v6]), vec![dual(&["203.0.113.5", "fd00::9"])], "dual=198.51.100.1+fd00::9"),
        (
            "none is free",
            pools(vec![pool("a", &[("192.0.2.1", "192.0.2.1")])]),
            vec![holding("z", "203.0.113.5"), holding("b", "192.0.2.1")],
            "b=192.0.2.1",
        ),
    ] {
        let given = under(&config, OrphanPolicy::Reassign, &Reserved::new(), &claims);
        assert_eq!(shown(given)[0], expected, "{what}");
    }
}

#[test]
fn a_reserved_address_is_neither_given_nor_taken_away() {
    let reserved = Reserved::from([(ip("192.0.2.20"), crate::reserved::Holder::Node("n1".into()))]);
    let config = small();
    let allocate = |claims: &[Claim]| under(&config, OrphanPolicy::Keep, &reserved, claims);
    let asks = Claim { asked: vec![ip("192.0.2.20")], ..claim("b") };
    let given = shown(allocate(&[claim("a"), asks]));
    assert_eq!(given[0], "a=192.0.2.21");
    assert!(
        given[1].starts_with("b=: [\"192.0.2.20\"] is not allowed in config: it is an address of node n1"),
        "{given:?}"
    );
    assert_eq!(shown(allocate(&[holding("c", "192.0.2.20")])), ["c=192.0.2.20"]);
}

#[test] // whoever walks a pool address by address, or everybody for everybody, does not come to an end here
fn ten_thousand_services_are_served_from_huge_pools() {
    let config = pools(vec![
        Pool { avoid_buggy_ips: true, ..pool("v4", &[("10.0.0.0", "10.255.255.255")]) },
        pool("v6", &[("fd00::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")]),
    ]);
    let same_port: Vec<Claim> = (0..10_000).map(|n| sharing("k", 80, claim(&format!("s{n:05}")))).collect();
    let alone: Vec<Claim> = (0..10_000).map(|n| claim(&format!("s{n:05}"))).collect();
    let v6: Vec<Claim> =
        alone.iter().map(|it| Claim { families: Families::Single(Family::IPv6), ..it.clone() }).collect();
    for (what, claims) in [("sharers who collide", same_port), ("alone", alone), ("IPv6", v6)] {
        let given = allocate(&config, &claims);
        assert!(given.values().all(|it| it.ips.len() == 1), "{what}");
    }
}

fn some_pools() -> PoolConfig {
    let buggy = Pool { avoid_buggy_ips: true, ..pool("a", &[("192.0.2.252", "192.0.3.3"), ("fd00::1", "fd00::3")]) };
    let manual = Pool { auto_assign: false, ..pool("c", &[("203.0.113.1", "203.0.113.3")]) };
    pools(vec![buggy, pool("b", &[("198.51.100.1", "198.51.100.2"), ("fd01::1", "fd01::2")]), manual])
}

fn some_ip() -> impl Strategy<Value = IpAddr> {
    let v4 = [
        "192.0.2.252",
        "192.0.2.255",
        "192.0.3.0",
        "192.0.3.1",
        "198.51.100.1",
        "198.51.100.2",
        "203.0.113.2",
        "8.8.8.8",
    ];
    let v6 = ["fd00::1", "fd00::2", "fd01::1", "fd09::9"];
    prop::sample::select([&v4[..], &v6[..]].concat()).prop_map(ip)
}

fn some_claim() -> impl Strategy<Value = Claim> {
    let family = prop_oneof![Just(Family::IPv4), Just(Family::IPv6)];
    let families = (0..4, family).prop_map(|(kind, family)| match kind {
        0 => Families::PreferDual(family),
        1 => Families::RequireDual(family),
        _ => Families::Single(family),
    });
    let asked = prop::option::weighted(0.2, some_ip());
    let pool = prop::option::weighted(0.3, prop::sample::select(vec!["a", "b", "c", "d"]));
    let key = prop::option::weighted(0.6, prop::sample::select(vec!["k", "l"]));
    let committed = prop::collection::vec(some_ip(), 0..3);
    (families, asked, pool, key, any::<bool>(), 80..83, committed).prop_map(
        |(families, asked, pool, key, local, port, mut committed)| {
            committed.sort();
            committed.dedup_by_key(|ip| ip.is_ipv4());
            let traffic = if local { Traffic::Local(BTreeMap::new()) } else { Traffic::Cluster };
            Claim {
                families,
                asked: asked.into_iter().filter(|ip| families.wants(Family::of(*ip))).collect(),
                pool: pool.map(str::to_owned),
                sharing: key.map(|key| Sharing { key: key.into(), traffic }),
                ports: vec![Port { protocol: "tcp".into(), number: port }],
                committed,
                ..claim("x")
            }
        },
    )
}

fn some_claims() -> impl Strategy<Value = Vec<Claim>> {
    prop::collection::vec(some_claim(), 0..14).prop_map(|mut claims| {
        for (n, claim) in claims.iter_mut().enumerate() {
            claim.service = ObjectName::new("default", format!("s{n:02}"));
        }
        claims
    })
}

fn some_reserved() -> impl Strategy<Value = Reserved> {
    let holder = || crate::reserved::Holder::Node("n1".into());
    prop::collection::vec(some_ip(), 0..6).prop_map(move |ips| ips.into_iter().map(|ip| (ip, holder())).collect())
}

/// The claims once `given` stands in the status of each.
fn committed(claims: &[Claim], given: &Assignments) -> Vec<Claim> {
    claims.iter().map(|claim| Claim { committed: given[&claim.service].ips.clone(), ..claim.clone() }).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_address_is_given_twice_unless_shared_lawfully(claims in some_claims()) {
        let given = allocate(&some_pools(), &claims);
        for (at, one) in claims.iter().enumerate() {
            for other in &claims[at + 1..] {
                let common = given[&one.service].ips.iter().any(|ip| given[&other.service].ips.contains(ip));
                let lawful = one.sharing.is_some() && one.sharing == other.sharing && one.ports != other.ports;
                prop_assert!(!common || lawful, "{one:?} and {other:?} in {given:?}");
            }
        }
    }

    #[test]
    fn what_is_given_is_what_was_asked(claims in some_claims()) {
        let config = some_pools();
        let given = allocate(&config, &claims);
        for claim in &claims {
            let it = &given[&claim.service];
            let kept = |ip: &IpAddr| claim.committed.contains(ip);
            prop_assert!(it.ips.iter().all(|ip| claim.families.wants(Family::of(*ip))));
            prop_assert!(it.ips.iter().all(|ip| config.pool_of(*ip).is_some() || kept(ip)));
            prop_assert!(claim.asked.is_empty() || it.ips.iter().all(|ip| claim.asked.contains(ip)));
            prop_assert!(it.ips.len() < 2 || it.ips[0].is_ipv4() != it.ips[1].is_ipv4());
            prop_assert!(!it.ips.is_empty() || it.refusal.is_some(), "an empty hand has a reason");
        }
    }

    #[test]
    fn committing_what_was_given_changes_nothing(claims in some_claims()) {
        let given = allocate(&some_pools(), &claims);
        let again = allocate(&some_pools(), &committed(&claims, &given));
        let ips = |it: &Assignments| it.iter().map(|(name, it)| (name.clone(), it.ips.clone())).collect::<Vec<_>>();
        prop_assert_eq!(ips(&given), ips(&again));
    }

    #[test]
    fn a_committed_vip_stays_whoever_comes(claims in some_claims(), newcomers in some_claims()) {
        let given = allocate(&some_pools(), &claims);
        let mut all = committed(&claims, &given);
        all.extend(newcomers.into_iter().map(|it| {
            // Before and after the others by name, so that the order of names is of no help.
            let name = format!("{}{}", if it.ports[0].number == 80 { "a" } else { "z" }, it.service.name);
            Claim { service: ObjectName::new("default", name), committed: Vec::new(), ..it }
        }));
        let with_all = allocate(&some_pools(), &all);
        for (name, before) in &given {
            prop_assert!(before.ips.iter().all(|ip| with_all[name].ips.contains(ip)), "{name} lost {:?}", before.ips);
        }
    }

    #[test] // subnets are what one node sees: the next leader may see others
    fn another_view_of_what_is_reserved_moves_nobody(claims in some_claims(), one in some_reserved(), other in some_reserved()) {
        let config = some_pools();
        let under = |reserved: &Reserved, claims: &[Claim]| under(&config, OrphanPolicy::Keep, reserved, claims);
        let given = under(&one, &claims);
        for it in given.values() {
            let fresh = |ip: &&IpAddr| !claims.iter().any(|claim| claim.committed.contains(*ip));
            prop_assert!(!it.ips.iter().filter(fresh).any(|ip| one.contains_key(ip)), "{it:?} is reserved");
        }
        let again = under(&other, &committed(&claims, &given));
        for (name, before) in &given {
            prop_assert!(before.ips.iter().all(|ip| again[name].ips.contains(ip)), "{name} lost {:?}", before.ips);
        }
    }

    #[test]
    fn what_is_freed_goes_to_the_next_who_waits(claims in some_claims(), gone in any::<prop::sample::Index>()) {
        prop_assume!(!claims.is_empty());
        let config = some_pools();
        let given = allocate(&config, &claims);
        let mut rest = committed(&claims, &given);
        let leaver = rest.remove(gone.index(rest.len()));
        let after = allocate(&config, &rest);
        // Whoever still waits waits for a reason that holds now, and is told no old one.
        for claim in rest.iter().filter(|claim| after[&claim.service].ips.is_empty() && claim.asked.is_empty()) {
            let refusal = after[&claim.service].refusal.as_ref();
            let named = claim.pool.as_deref().is_none_or(|pool| config.pool(pool).is_some());
            prop_assert_eq!(matches!(refusal, Some(Refusal::UnknownPool { .. })), !named);
            let fits = |ip: &IpAddr| {
                let pool = config.pool_of(*ip).filter(|pool| match &claim.pool {
                    Some(name) => pool.name.as_str() == name,
                    None => pool.auto_assign,
                });
                let free = rest.iter().all(|other| !after[&other.service].ips.contains(ip));
                pool.is_some() && free && claim.families == Families::Single(Family::of(*ip))
            };
            let freed: Vec<&IpAddr> = leaver.committed.iter().filter(|ip| fits(ip)).collect();
            prop_assert!(freed.is_empty(), "{claim:?} waits though {freed:?} is free");
        }
    }

    #[test]
    fn a_refusal_names_what_is_in_the_way(claims in some_claims()) {
        let config = some_pools();
        let given = allocate(&config, &claims);
        let on = |ip: &IpAddr| claims.iter().filter(|claim| given[&claim.service].ips.contains(ip)).collect::<Vec<_>>();
        for claim in &claims {
            match &given[&claim.service].refusal {
                Some(Refusal::InUse(Rule::Port { ip, port, tenant })) => {
                    let holder = on(ip).into_iter().find(|it| it.service == *tenant);
                    prop_assert!(holder.is_some_and(|it| it.ports.contains(port)) && claim.ports.contains(port));
                }
                Some(Refusal::InUse(Rule::Key { tenant, .. } | Rule::Traffic { tenant, .. })) => {
                    let held = claim.asked.iter().flat_map(on).any(|it| it.service == *tenant && it.sharing != claim.sharing);
                    let alone = claim.sharing.is_none() && claim.asked.iter().flat_map(on).any(|it| it.service == *tenant);
                    prop_assert!(held || alone, "{claim:?} is told of {tenant}");
                }
                Some(Refusal::NotAllowed { ip }) => prop_assert_eq!(config.pool_of(*ip), None),
                Some(Refusal::Avoided { ip, .. }) => prop_assert!(config::pool::is_buggy(*ip)),
                Some(Refusal::UnknownPool { pool, .. }) => prop_assert_eq!(config.pool(pool), None),
                Some(Refusal::Exhausted { pools, families, .. } | Refusal::PoolExhausted { pools, families, .. }) => {
                    prop_assert_eq!(*families, claim.families);
                    let all = pools.iter().filter_map(|pool| config.pool(pool.as_str()));
                    let free = all.flat_map(|pool| pool.ranges.iter().map(move |range| (pool, range))).find_map(|(pool, range)| {
                        let ips = (0..range.len()).filter_map(|at| range.nth(at));
                        ips.filter(|ip| pool.allows(*ip)).find(|ip| on(ip).is_empty())
                    });
                    let single = matches!(families, Families::Single(family) if free.is_some_and(|ip| Family::of(ip) == *family));
                    prop_assert!(!single, "{free:?} is free for {claim:?}");
                }
                _ => {}
            }
        }
    }

    #[test]
    fn the_order_of_claims_does_not_matter((claims, shuffled) in some_claims().prop_flat_map(|claims| (Just(claims.clone()), Just(claims).prop_shuffle()))) {
        prop_assert_eq!(allocate(&some_pools(), &claims), allocate(&some_pools(), &shuffled));
    }
}
