//! Laws of the mirror: history does not show, and what did not change is shared.

use std::collections::BTreeMap;

use config::diagnostic::Severity;
use config::object::{FieldPath, Kind};
use config::report::ServiceStatus;
use proptest::prelude::*;

use super::*;

/// Files by number, each a list of objects by number and version.
type Files = BTreeMap<u8, Vec<(u8, u8)>>;

fn config_map() -> ObjectName {
    ObjectName::new("metallb-system", "config")
}

fn service(number: u8) -> ObjectName {
    ObjectName::new("default", format!("s{number}"))
}

/// Number 0 is the address configuration, 1 an Ingress class, others are Services.
fn document(number: u8, version: u8) -> String {
    let version = u16::from(version) + 1;
    match number {
        0 => format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{namespace: metallb-system, name: config}}\ndata:\n  config: |\n    \
             address-pools:\n    - {{name: p, protocol: layer2, addresses: [192.0.2.{version}/32]}}\n"
        ),
        1 => format!(
            "apiVersion: networking.k8s.io/v1\nkind: IngressClass\nmetadata: {{name: c}}\nspec: {{controller: a.b/c{version}}}\n"
        ),
        _ => format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: s{number}}}\nspec: {{ports: [{{port: {version}}}]}}\n\
             status: {{loadBalancer: {{ingress: [{{ip: 203.0.113.1}}]}}}}\n"
        ),
    }
}

fn text(objects: &[(u8, u8)]) -> Reading {
    let documents: Vec<String> = objects.iter().map(|(number, version)| document(*number, *version)).collect();
    Reading::Text(documents.join("---\n").into())
}

fn name(file: u8) -> Arc<str> {
    format!("manifests/{file}.yaml").into()
}

fn tree(files: &Files) -> Tree {
    let files = files.iter().map(|(file, objects)| (name(*file), text(objects))).collect();
    Tree { files, ..Tree::default() }
}

fn memory(services: &BTreeMap<u8, u8>) -> Memory {
    let status = |last: u8| ServiceStatus { ips: vec![[192, 0, 2, last].into()], pool: None };
    let services = services.iter().map(|(number, last)| (service(*number), status(*last))).collect();
    Memory { services, ..Memory::default() }
}

fn update(mirror: &mut Mirror, tree: &Tree, memory: &Memory) -> Option<Arc<Snapshot>> {
    mirror.update(Input { manifests: tree, secrets: &Tree::default(), memory, problems: &[] })
}

/// A mirror that has seen one text.
fn mirror_of(texts: &[(&str, &str)]) -> (Mirror, Arc<Snapshot>) {
    let mut mirror = Mirror::new(config_map(), None);
    let snapshot = show(&mut mirror, texts).expect("the first update is news");
    (mirror, snapshot)
}

fn show(mirror: &mut Mirror, texts: &[(&str, &str)]) -> Option<Arc<Snapshot>> {
    let files = texts.iter().map(|(file, text)| ((*file).into(), Reading::Text((*text).into())));
    update(mirror, &Tree { files: files.collect(), ..Tree::default() }, &Memory::default())
}

fn files() -> impl Strategy<Value = Files> {
    // An object twice in one file is refused by the parser; here it may be in two files.
    let objects = proptest::collection::btree_map(0_u8..5, 0_u8..3, 0..4);
    let objects = objects.prop_map(|objects| objects.into_iter().collect());
    proptest::collection::btree_map(0_u8..4, objects, 0..4)
}

/// What cores see of a snapshot, apart from its number.
fn content(snapshot: &Snapshot) -> String {
    let start = |reference: &ObjectRef| snapshot.locate(reference, &FieldPath::root());
    let places: BTreeMap<_, _> =
        snapshot.origins.keys().map(|reference| (reference.clone(), start(reference))).collect();
    let Snapshot { services, ingress_classes, config_maps, problems, .. } = snapshot;
    format!("{services:?}{ingress_classes:?}{config_maps:?}{problems:?}{places:?}")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn after_any_edits_the_snapshot_is_that_of_a_fresh_start(
        steps in proptest::collection::vec((files(), proptest::collection::btree_map(2_u8..5, any::<u8>(), 0..3)), 1..6),
    ) {
        let mut mirror = Mirror::new(config_map(), None);
        for (files, statuses) in steps {
            let (tree, memory) = (tree(&files), memory(&statuses));
            update(&mut mirror, &tree, &memory);
            let mut fresh = Mirror::new(config_map(), None);
            update(&mut fresh, &tree, &memory);
            let (mut now, expected) = ((**mirror.snapshot().unwrap()).clone(), fresh.snapshot().unwrap());
            if now.config_maps.contains_key(&config_map()) {
                prop_assert_eq!(&now.pools, &expected.pools);
            } else {
                // Only this has a memory: a deleted address configuration stays, with a warning.
                prop_assert_eq!(now.pools_stale, !now.pools.pools.is_empty());
                Arc::make_mut(&mut now.problems).retain(|problem| problem.severity == Severity::Error);
            }
            prop_assert_eq!(content(&now), content(expected));
        }
    }

    #[test]
    fn what_did_not_change_is_shared((before, after) in (files(), files())) {
        let mut mirror = Mirror::new(config_map(), None);
        let memory = memory(&[(2, 7)].into());
        let old = update(&mut mirror, &tree(&before), &memory).unwrap();
        let new = update(&mut mirror, &tree(&after), &memory);
        prop_assert_eq!(new.is_none(), before == after, "an unchanged tree, and only that, is no news");
        let new = mirror.snapshot().unwrap();
        prop_assert_eq!(Arc::ptr_eq(&old.services, &new.services), old.services == new.services);
        prop_assert_eq!(Arc::ptr_eq(&old.ingress_classes, &new.ingress_classes), old.ingress_classes == new.ingress_classes);
        prop_assert_eq!(Arc::ptr_eq(&old.config_maps, &new.config_maps), old.config_maps == new.config_maps);
        prop_assert_eq!(Arc::ptr_eq(&old.pools, &new.pools), old.pools == new.pools);
        for (name, service) in old.services.iter() {
            if let Some(now) = new.services.get(name) {
                prop_assert_eq!(Arc::ptr_eq(service, now), service == now, "{}", name);
            }
        }
        prop_assert!(update(&mut mirror, &tree(&after), &memory).is_none());
    }

    #[test]
    fn no_text_makes_it_panic_or_lose_another_file(texts in proptest::collection::vec("\\PC{0,40}\n?", 1..4)) {
        let (mut mirror, good) = mirror_of(&[("a.yaml", &document(2, 0))]);
        for text in texts {
            show(&mut mirror, &[("a.yaml", &document(2, 0)), ("b.yaml", &text)]);
            prop_assert!(Arc::ptr_eq(&mirror.snapshot().unwrap().services, &good.services));
        }
    }
}

#[test]
fn of_two_files_with_one_object_the_first_counts_and_both_are_named() {
    let (mut mirror, snapshot) = mirror_of(&[("b.yaml", &document(2, 2)), ("a.yaml", &document(2, 1))]);
    let port = |snapshot: &Snapshot| {
        snapshot.services[&service(2)].spec.as_ref().and_then(|spec| Some(spec.ports.as_ref()?.first()?.port))
    };
    assert_eq!(port(&snapshot), Some(2));
    let problem = snapshot.problems.iter().find(|problem| problem.severity == Severity::Error).unwrap().to_string();
    assert!(problem.contains("a.yaml:1:1") && problem.contains("--> b.yaml:1:1"), "{problem}");
    let alone = show(&mut mirror, &[("b.yaml", &document(2, 2))]).unwrap();
    assert_eq!((port(&alone), alone.problems.len()), (Some(3), 0));
}

#[test]
fn the_status_of_a_manifest_is_nothing_and_the_remembered_one_all() {
    let mut mirror = Mirror::new(config_map(), None);
    let tree = tree(&[(0, vec![(2, 0), (3, 0)])].into());
    let snapshot = update(&mut mirror, &tree, &memory(&[(2, 9)].into())).unwrap();
    let status = |number| format!("{:?}", snapshot.services[&service(number)].status);
    assert!(status(2).contains("192.0.2.9") && !status(2).contains("203.0.113.1"), "{}", status(2));
    assert_eq!(status(3), "None");
}

#[test]
fn an_object_that_breaks_stays_even_when_it_moves_to_another_file() {
    let good = document(2, 0);
    let broken = good.replace("port: 1", "port: many");
    let (mut mirror, before) = mirror_of(&[("a.yaml", &good), ("c.yaml", &document(3, 0))]);
    let reference = ObjectRef::new(Kind::Service, service(2));
    for texts in
        [[("a.yaml", &broken), ("c.yaml", &document(3, 0))], [("b.yaml", &broken), ("c.yaml", &document(3, 0))]]
    {
        let texts = texts.map(|(name, text)| (name, text.as_str()));
        let snapshot = show(&mut mirror, &texts).unwrap();
        assert!(Arc::ptr_eq(&snapshot.services, &before.services));
        assert!(snapshot.problems.iter().any(|problem| problem.severity == Severity::Error), "{:?}", snapshot.problems);
        assert_eq!(mirror.presence(&reference), Presence::Present);
    }
    show(&mut mirror, &[("c.yaml", &document(3, 0))]);
    assert_eq!(mirror.presence(&reference), Presence::Absent);
    show(&mut mirror, &[("b.yaml", &broken), ("c.yaml", &document(3, 0))]);
    assert_eq!(mirror.presence(&reference), Presence::Unknown, "broken from the start: there, but not known");
}

#[test]
fn a_config_map_of_another_name_is_pointed_out() {
    let other = document(0, 0).replace("name: config", "name: metallb");
    let (_, snapshot) = mirror_of(&[("a.yaml", &other)]);
    let problem = snapshot.problems.first().unwrap();
    assert_eq!((problem.severity, snapshot.pools.pools.len()), (Severity::Warning, 0));
    assert!(problem.to_string().contains("ConfigMap metallb-system/config"), "{problem}");
}
