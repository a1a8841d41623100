//! What is told of a change beforehand, and that it is what happens.

use config::pool::{AddressRange, Pool};
use k8s_openapi::api::core::v1::ServiceSpec;
use proptest::prelude::*;

use super::*;
use crate::allocator::OrphanPolicy;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn pools(list: &[(&str, &str, &str)]) -> Arc<PoolConfig> {
    let pool = |(name, first, last): &(&str, &str, &str)| {
        let ranges = vec![AddressRange::new(ip(first), ip(last)).unwrap()];
        Pool::new(PoolName::new(name).unwrap(), Protocol::Layer2, ranges)
    };
    Arc::new(PoolConfig { pools: list.iter().map(pool).collect(), ..PoolConfig::default() })
}

fn service(type_: &str, asked: Option<&str>, held: &[&str]) -> Service {
    let ips = held.iter().map(|held| ip(held)).collect();
    let spec = ServiceSpec {
        type_: Some(type_.to_owned()),
        load_balancer_ip: asked.map(str::to_owned),
        ..ServiceSpec::default()
    };
    Service { spec: Some(spec), status: Some(status(&report::ServiceStatus { ips, pool: None })), ..Service::default() }
}

fn services(list: Vec<(&str, Service)>) -> Objects<Service> {
    let named = list.into_iter().map(|(name, service)| (ObjectName::new("default", name), Arc::new(service)));
    Arc::new(named.collect())
}

fn live(list: Vec<(&str, Service)>) -> Snapshot {
    Snapshot { pools: pools(&[("lan", "192.0.2.1", "192.0.2.9")]), services: services(list), ..Snapshot::default() }
}

/// `name: what it notices` for each that does.
fn told(live: &Snapshot, candidate: Candidate<'_>, options: &PlanOptions) -> Vec<String> {
    let noticed = |(name, effects): (ObjectName, Vec<Effect>)| {
        let shown: Vec<String> = effects.iter().map(|effect| format!("{}: {effect}", effect.as_str())).collect();
        format!("{} {}", name.name, shown.join("; "))
    };
    preview(live, candidate, options).into_iter().map(noticed).collect()
}

fn balanced(held: &[&str]) -> Service {
    service("LoadBalancer", None, held)
}

#[test]
fn a_change_of_pools_is_told_service_by_service() {
    let held = || live(vec![("a", balanced(&["192.0.2.1"])), ("b", balanced(&["192.0.2.8"]))]);
    let keep = PlanOptions::default();
    let reassign = PlanOptions { orphans: OrphanPolicy::Reassign, ..PlanOptions::default() };
    for (what, pools, options, expected) in [
        ("the same", pools(&[("lan", "192.0.2.1", "192.0.2.9")]), &keep, vec![]),
        ("wider", pools(&[("lan", "192.0.2.1", "192.0.2.99")]), &keep, vec![]),
        (
            "narrower, keep",
            pools(&[("lan", "192.0.2.1", "192.0.2.4")]),
            &keep,
            vec!["b orphaned: keeps 192.0.2.8, which no pool has any more"],
        ),
        (
            "narrower, reassign",
            pools(&[("lan", "192.0.2.1", "192.0.2.4")]),
            &reassign,
            vec!["b renumbered: gets 192.0.2.2 of pool lan instead of 192.0.2.8"],
        ),
        (
            "split",
            pools(&[("low", "192.0.2.1", "192.0.2.4"), ("lan", "192.0.2.5", "192.0.2.9")]),
            &keep,
            vec!["a repooled: keeps its addresses, in pool low instead of pool lan"],
        ),
        (
            "none left, reassign",
            pools(&[("lan", "192.0.2.1", "192.0.2.1")]),
            &reassign,
            vec![
                "b freed: loses 192.0.2.8; refused: is refused: no available IPs of family IPv4 in pool \"lan\"; \
                 widen a pool or free an address",
            ],
        ),
    ] {
        let none = services(vec![]);
        let candidate = Candidate { pools: Some(&pools), services: &none };
        assert_eq!(told(&held(), candidate, options), expected, "{what}");
    }
}

#[test]
fn a_change_of_services_is_told_too() {
    let mut waits = service("LoadBalancer", Some("203.0.113.1"), &[]);
    let applied = "{\"spec\":{\"loadBalancerIP\":\"203.0.113.1\"}}";
    waits.metadata.annotations = Some([(apply::LAST_APPLIED.to_owned(), applied.to_owned())].into());
    let live = live(vec![("a", balanced(&["192.0.2.1"])), ("waits", waits)]);
    for (what, list, expected) in [
        ("a new one", vec![("b", balanced(&[]))], vec!["b served: gets 192.0.2.2 of pool lan"]),
        (
            "its status in a manifest is not heeded",
            vec![("b", balanced(&["192.0.2.7"]))],
            vec!["b served: gets 192.0.2.2 of pool lan"],
        ),
        ("an old one as it is", vec![("a", balanced(&[]))], vec![]),
        ("another type", vec![("a", service("ClusterIP", None, &[]))], vec!["a freed: loses 192.0.2.1"]),
        (
            "another address",
            vec![("a", service("LoadBalancer", Some("192.0.2.5"), &[]))],
            vec!["a renumbered: gets 192.0.2.5 of pool lan instead of 192.0.2.1"],
        ),
        ("one that waits is mended", vec![("waits", balanced(&[]))], vec!["waits served: gets 192.0.2.2 of pool lan"]),
        (
            "the address of another",
            vec![("b", service("LoadBalancer", Some("192.0.2.1"), &[]))],
            vec![
                "b refused: is refused: can't change sharing key for \"default/b\", address also in use by default/a; give \
             both Services the same annotation metallb.io/allow-shared-ip, or ask for another address",
            ],
        ),
    ] {
        let list = services(list);
        let candidate = Candidate { pools: None, services: &list };
        assert_eq!(told(&live, candidate, &PlanOptions::default()), expected, "{what}");
    }
}

#[test]
fn cluster_addresses_stay_unless_the_manifest_wants_other_families() {
    let with = |spec: ServiceSpec| Service { spec: Some(spec), ..Service::default() };
    let stored = with(ServiceSpec {
        cluster_ip: Some("10.96.0.1".into()),
        cluster_ips: Some(vec!["10.96.0.1".into()]),
        ip_family_policy: Some("SingleStack".into()),
        ..ServiceSpec::default()
    });
    for (policy, kept) in [(None, true), (Some("SingleStack"), true), (Some("PreferDualStack"), false)] {
        let manifest = with(ServiceSpec { ip_family_policy: policy.map(str::to_owned), ..ServiceSpec::default() });
        let spec = applied(&manifest, Some(&Arc::new(stored.clone()))).spec.unwrap();
        assert_eq!(spec.cluster_ip.is_some(), kept, "{policy:?}");
    }
}

fn some_services() -> impl Strategy<Value = Objects<Service>> {
    let address = || prop::sample::select(vec!["192.0.2.1", "192.0.2.2", "192.0.2.8", "203.0.113.1"]);
    let one = (prop::bool::weighted(0.8), prop::option::weighted(0.3, address()), prop::option::of(address()));
    let name = prop::sample::select(vec!["a", "b", "c", "d", "e"]);
    prop::collection::btree_map(name, one, 0..5).prop_map(|found| {
        let made = |(name, (balanced, asked, held)): (&'static str, (bool, Option<&str>, Option<&str>))| {
            let type_ = if balanced { "LoadBalancer" } else { "ClusterIP" };
            (name, service(type_, asked, held.as_slice()))
        };
        services(found.into_iter().map(made).collect())
    })
}

proptest! {
    #[test]
    fn a_change_that_changes_nothing_has_no_effect(held in some_services()) {
        let live = Snapshot { services: held, ..live(vec![]) };
        let candidate = Candidate { pools: Some(&live.pools), services: &live.services };
        prop_assert_eq!(preview(&live, candidate, &PlanOptions::default()), BTreeMap::new());
    }

    #[test]
    fn what_is_told_is_what_happens(held in some_services(), new in some_services(), last in 1..9_u8, reassign: bool) {
        let orphans = if reassign { OrphanPolicy::Reassign } else { OrphanPolicy::Keep };
        let options = PlanOptions { orphans, ..PlanOptions::default() };
        let live = Snapshot { services: held, ..live(vec![]) };
        let config = pools(&[("lan", "192.0.2.1", &format!("192.0.2.{last}"))]);
        let candidate = Candidate { pools: Some(&config), services: &new };
        let effects = preview(&live, candidate, &options);
        let before = settled(&live, &plan::plan(&live, &options));
        let after = plan::plan(&changed(&before, candidate), &options);
        let held = plan::plan(&before, &options);
        for name in after.services.keys().chain(held.services.keys()) {
            let ips = |plan: &Plan| plan.services.get(name).map(|it| it.ips.clone()).unwrap_or_default();
            let mut expected: BTreeSet<IpAddr> = ips(&held).into_iter().collect();
            for effect in effects.get(name).into_iter().flatten() {
                match effect {
                    Effect::Served { ips, .. } => expected.extend(ips),
                    Effect::Freed { ips } => expected.retain(|ip| !ips.contains(ip)),
                    Effect::Renumbered { from, to, .. } => {
                        expected.retain(|ip| !from.contains(ip));
                        expected.extend(to);
                    }
                    Effect::Orphaned { .. } | Effect::Repooled { .. } | Effect::Refused { .. } => {}
                }
            }
            prop_assert_eq!(expected, ips(&after).into_iter().collect(), "{}: {:?}", name, effects.get(name));
        }
    }
}

#[test]
fn an_annotation_set_by_hand_stays_and_one_that_was_applied_goes_with_the_manifest() {
    let asks = "metallb.io/loadBalancerIPs";
    let annotated = |mut service: Service, annotations: &[(&str, &str)]| {
        let pairs = annotations.iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned()));
        service.metadata.annotations = Some(pairs.collect());
        service
    };
    let last = format!("{{\"metadata\":{{\"annotations\":{{\"{asks}\":\"192.0.2.5\"}}}}}}");
    let by_hand = annotated(balanced(&["192.0.2.5"]), &[(asks, "192.0.2.5")]);
    let applied = annotated(balanced(&["192.0.2.5"]), &[(asks, "192.0.2.5"), (apply::LAST_APPLIED, &last)]);
    let moved = annotated(balanced(&[]), &[(asks, "192.0.2.6")]);
    let pool = |name: &str| annotated(balanced(&[]), &[("metallb.io/address-pool", name)]);
    for (what, held, manifest, expected) in [
        ("plain over one set by hand", &by_hand, balanced(&[]), &[][..]),
        ("plain over an applied one", &applied, balanced(&[]), &[]),
        ("another address", &by_hand, moved, &["web renumbered: gets 192.0.2.6 of pool lan instead of 192.0.2.5"]),
        ("its own pool besides", &by_hand, pool("lan"), &[]),
        (
            "a pool that does not have what was asked by hand",
            &by_hand,
            pool("far"),
            &[
                "web freed: loses 192.0.2.5; refused: is refused: requested loadBalancer IP(s) [\"192.0.2.5\"] is not compatible",
            ],
        ),
        (
            "a pool instead of what was applied",
            &applied,
            pool("far"),
            &["web renumbered: gets 198.51.100.1 of pool far instead of 192.0.2.5"],
        ),
    ] {
        let mut live = live(vec![("web", held.clone())]);
        live.pools = pools(&[("lan", "192.0.2.1", "192.0.2.9"), ("far", "198.51.100.1", "198.51.100.9")]);
        let changed = services(vec![("web", manifest)]);
        let told = told(&live, Candidate { pools: None, services: &changed }, &PlanOptions::default());
        assert_eq!(told.len(), expected.len(), "{what}: {told:?}");
        for (told, expected) in told.iter().zip(expected) {
            assert!(told.starts_with(expected), "{what}: {told}");
        }
    }
}
