//! Laws of writing: only what differs, until it does not differ, and never one address shown by two.

use std::collections::BTreeMap;

use config::diagnostic::Severity;
use proptest::prelude::*;

use super::*;

type Wish = (ObjectName, Vec<IpAddr>);

fn name(index: usize) -> ObjectName {
    ObjectName::new("shop", format!("s{index}"))
}

fn ip(last: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, last])
}

fn bare(index: usize) -> Service {
    let mut service = Service::default();
    service.metadata.namespace = Some("shop".into());
    service.metadata.name = Some(format!("s{index}"));
    service.metadata.uid = Some(format!("uid-{index}"));
    service
}

/// The Service after the API server applied `write` to it; nobody but us says anything about it.
fn applied(service: &Service, write: &StatusWrite) -> Service {
    let mut text = serde_json::to_value(service).unwrap();
    if write.body["status"].is_null() {
        text["status"] = json!({});
    }
    for part in ["status", "metadata"] {
        for (key, value) in write.body[part].as_object().into_iter().flatten() {
            text[part][key] = value.clone();
        }
    }
    serde_json::from_value(text).unwrap()
}

fn snapshot(services: &BTreeMap<usize, Service>) -> Snapshot {
    let services = services.iter().map(|(index, service)| (name(*index), std::sync::Arc::new(service.clone())));
    Snapshot { generation: 1, services: std::sync::Arc::new(services.collect()), ..Snapshot::default() }
}

fn report(wishes: &[Wish]) -> Report {
    let mut report = Report { generation: 1, ..Report::default() };
    for (name, ips) in wishes {
        let object = ObjectRef::new(Kind::Service, name.clone());
        let (severity, reason) =
            if ips.is_empty() { (Some(Severity::Warning), "AllocationFailed") } else { (None, "IPAllocated") };
        report.events.push(Event { object, severity, reason, message: format!("{ips:?}") });
        let pool = (!ips.is_empty()).then(|| PoolName::new("lan")).flatten();
        report.services.insert(name.clone(), ServiceStatus { ips: ips.clone(), pool });
    }
    report
}

fn planned(services: &BTreeMap<usize, Service>, report: &Report, oldest: u64) -> Vec<StatusWrite> {
    let presence = |_: &ObjectRef| Presence::Present;
    Planner::default().plan(&snapshot(services), &[report], oldest, presence, Timestamp::UNIX_EPOCH).writes
}

proptest! {
    /// Any two plans one after the other, each of which gives no address twice, in any order of writes.
    #[test]
    fn rounds_end_where_the_report_wants_and_no_address_is_shown_twice_on_the_way(
        first in proptest::collection::btree_map(0_u8..5, 0_usize..5, 0..5),
        second in proptest::collection::btree_map(0_u8..5, 0_usize..5, 0..5),
        reverse in any::<bool>(),
    ) {
        let mut services: BTreeMap<usize, Service> = (0..5).map(|index| (index, bare(index))).collect();
        for wanted in [first, second] {
            let mut wishes: BTreeMap<usize, u8> = BTreeMap::new();
            for (address, index) in &wanted {
                wishes.entry(*index).or_insert(*address);
            }
            let wish = |index: usize| (name(index), wishes.get(&index).map(|it| vec![ip(*it)]).unwrap_or_default());
            let report = report(&(0..5).map(wish).collect::<Vec<_>>());
            let mut rounds = 0;
            loop {
                let mut writes = planned(&services, &report, 1);
                if writes.is_empty() {
                    break;
                }
                if reverse {
                    writes.reverse();
                }
                for write in &writes {
                    let service = services.values_mut().find(|it| it.metadata.name.as_deref() == Some(&write.object.name.name)).unwrap();
                    *service = applied(service, write);
                    let mut shown: Vec<IpAddr> = services.values().flat_map(service_ips).collect();
                    let total = shown.len();
                    shown.sort();
                    shown.dedup();
                    prop_assert_eq!(shown.len(), total);
                }
                rounds += 1;
                prop_assert!(rounds <= 10);
            }
            for (index, service) in &services {
                let wanted: Vec<IpAddr> = wishes.get(index).map(|it| ip(*it)).into_iter().collect();
                prop_assert_eq!(service_ips(service), wanted);
            }
        }
    }
}

/// A Service as somebody may come to find it: with these addresses, and perhaps no `LoadBalancer` any more.
fn found(index: usize, shown: &[u8], balanced: bool) -> Service {
    let wishes = [(name(index), shown.iter().map(|last| ip(*last)).collect())];
    let write = planned(&[(index, bare(index))].into(), &report(&wishes), 1).pop();
    let mut service = write.map_or_else(|| bare(index), |write| applied(&bare(index), &write));
    if !balanced {
        service.spec = Some(serde_json::from_value(json!({ "type": "ClusterIP" })).unwrap());
    }
    service
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn comparing_what_changed_equals_comparing_everything(
        steps in proptest::collection::vec(
            (0..5_usize, proptest::option::of((proptest::collection::vec(0_u8..4, 0..2), any::<bool>())),
             proptest::option::of(proptest::collection::vec(0_u8..4, 0..2)), 0_u64..3, any::<bool>()),
            1..12,
        ),
    ) {
        let (mut planner, mut snapshot) = (Planner::default(), Snapshot::default());
        let mut wishes: BTreeMap<usize, Vec<u8>> = BTreeMap::new();
        for (index, shown, wish, oldest, is_there) in steps {
            let services = std::sync::Arc::make_mut(&mut snapshot.services);
            match shown {
                Some((shown, balanced)) => drop(services.insert(name(index), std::sync::Arc::new(found(index, &shown, balanced)))),
                None if !is_there => drop(services.remove(&name(index))),
                None => {}
            }
            match wish {
                Some(wish) => drop(wishes.insert(index, wish)),
                None => drop(wishes.remove(&index)),
            }
            let all: Vec<Wish> =
                wishes.iter().map(|(index, ips)| (name(*index), ips.iter().map(|last| ip(*last)).collect())).collect();
            let report = report(&all);
            let there = |object: &ObjectRef| {
                if snapshot.services.contains_key(&object.name) { Presence::Present } else { Presence::Absent }
            };
            let compare = |planner: &mut Planner| {
                planner.plan(&snapshot, &[&report], oldest, there, Timestamp::UNIX_EPOCH)
            };
            let (found, expected) = (compare(&mut planner), compare(&mut Planner::default()));
            prop_assert_eq!(found.writes, expected.writes);
            prop_assert_eq!(found.refusals, expected.refusals);
        }
    }
}

#[test]
fn an_old_report_gives_no_address() {
    let services = [(1, bare(1))].into();
    let report = report(&[(name(1), vec![ip(1)])]);
    assert_eq!((planned(&services, &report, 1).len(), planned(&services, &report, 2).len()), (1, 0));
}

#[test]
fn what_is_shown_is_not_told_again_and_what_is_new_is() {
    let mut services: BTreeMap<usize, Service> = [(1, bare(1))].into();
    let told = |services: &BTreeMap<usize, Service>, ips: &[IpAddr]| {
        let writes = planned(services, &report(&[(name(1), ips.to_vec())]), 1);
        writes
            .into_iter()
            .next()
            .map(|write| (write.events.iter().map(|event| event.reason).collect::<Vec<_>>(), write))
    };
    let (reasons, write) = told(&services, &[]).unwrap();
    assert_eq!(reasons, ["AllocationFailed"]);
    services.insert(1, applied(&services[&1], &write));
    assert_eq!(told(&services, &[]), None);
    let (reasons, write) = told(&services, &[ip(1)]).unwrap();
    assert_eq!(reasons, ["IPAllocated"]);
    services.insert(1, applied(&services[&1], &write));
    assert_eq!(told(&services, &[ip(1)]), None);
    // Somebody removed the condition: it comes back, but the address is no news.
    if let Some(status) = &mut services.get_mut(&1).unwrap().status {
        status.conditions = None;
    }
    assert_eq!(told(&services, &[ip(1)]).unwrap().0, Vec::<&str>::new());
}

#[test]
fn a_service_that_is_no_load_balancer_any_more_is_released_once() {
    let with = |kind: &str, condition: Option<(&str, &str)>| -> Service {
        let mut text = serde_json::to_value(bare(1)).unwrap();
        let conditions: Vec<Value> = condition
            .iter()
            .map(|(kind, status)| {
                json!({ "type": kind, "status": status, "reason": "R", "message": "m",
                    "lastTransitionTime": "2026-01-01T00:00:00Z" })
            })
            .collect();
        text["spec"] = json!({ "type": kind });
        text["status"] = json!({ "conditions": conditions });
        serde_json::from_value(text).unwrap()
    };
    let (yes, no) = (Some((CONDITION, "True")), Some((CONDITION, "False")));
    for (what, service, report, oldest, expected) in [
        ("had an address", with("ClusterIP", yes), report(&[]), 1, Some(1)),
        ("waited for one", with("NodePort", no), report(&[]), 1, Some(0)),
        ("is another's", with("ClusterIP", Some(("example.com/Other", "True"))), report(&[]), 1, None),
        ("nothing was said of", with("ClusterIP", None), report(&[]), 1, None),
        ("still is one", with("LoadBalancer", yes), report(&[]), 1, None),
        ("unknown to an old report", with("ClusterIP", yes), report(&[]), 2, None),
        ("no speaker runs for", with("ClusterIP", yes), Report::default(), 1, None),
    ] {
        let mut services: BTreeMap<usize, Service> = [(1, service)].into();
        let writes = planned(&services, &report, oldest);
        assert_eq!(writes.first().map(|write| write.events.len()), expected, "a Service that {what}");
        if let Some(write) = writes.first() {
            let metadata = json!({ "namespace": "shop", "name": "s1", "uid": "uid-1" });
            assert_eq!(write.body, json!({ "apiVersion": "v1", "kind": "Service", "metadata": metadata }));
            services.insert(1, applied(&services[&1], write));
            assert_eq!(planned(&services, &report, oldest), [], "a Service that {what}, written");
        }
    }
}

#[test]
fn an_address_taken_back_is_told_and_one_that_stays_is_not() {
    let mut services: BTreeMap<usize, Service> = [(1, bare(1))].into();
    let steps: [(&[IpAddr], &[&str]); 4] = [
        (&[ip(1)], &["IPAllocated"]),
        (&[ip(1), ip(2)], &["IPAllocated"]),
        (&[ip(3), ip(2)], &["ClearAssignment", "IPAllocated"]),
        (&[], &["ClearAssignment", "AllocationFailed"]),
    ];
    for (ips, expected) in steps {
        let writes = planned(&services, &report(&[(name(1), ips.to_vec())]), 1);
        let reasons: Vec<&str> = writes[0].events.iter().map(|event| event.reason).collect();
        assert_eq!(reasons, expected, "{ips:?}");
        services.insert(1, applied(&services[&1], &writes[0]));
    }
}

#[test]
fn an_ingress_is_written_only_if_it_shows_something_else() {
    let ingress = |entries: Value| -> Ingress {
        serde_json::from_value(json!({ "metadata": {}, "status": { "loadBalancer": { "ingress": entries } } })).unwrap()
    };
    let all = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<IngressAddress>>();
    for (shown, wanted, differs) in [
        (json!([]), &[][..], false),
        (json!([{ "ip": "192.0.2.2" }, { "ip": "192.0.2.1" }]), &["192.0.2.1", "192.0.2.2"], false),
        (json!([{ "ip": "192.0.2.1" }]), &["192.0.2.1", "192.0.2.2"], true),
        (json!([{ "ip": "192.0.2.1" }, { "ip": "192.0.2.1" }]), &["192.0.2.1", "192.0.2.2"], true),
        (json!([{ "ip": "192.0.2.1" }, { "ip": "192.0.2.1" }]), &["192.0.2.1"], true),
        (json!([{ "hostname": "old.example.com" }]), &["192.0.2.1"], true),
        (json!([{ "hostname": "lb.example.com" }, { "ip": "192.0.2.1" }]), &["192.0.2.1", "lb.example.com"], false),
        (json!([{ "ip": "192.0.2.1", "hostname": "lb.example.com" }]), &["192.0.2.1", "lb.example.com"], true),
        (json!([{ "ip": "192.0.2.1" }]), &[], true),
    ] {
        let write = ingress_write(&name(1), &ingress(shown.clone()), &all(wanted));
        assert_eq!(write.is_some(), differs, "{shown}");
        // What is written is what is wanted: the next round finds nothing to do.
        if let Some(write) = write {
            let applied = ingress(write.body["status"]["loadBalancer"]["ingress"].clone());
            assert_eq!(ingress_write(&name(1), &applied, &all(wanted)), None, "{}", write.body);
        }
    }
}
