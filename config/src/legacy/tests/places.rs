use std::sync::Arc;

use crate::legacy::{self, Legacy};
use crate::manifest::{self, Object};

/// Reads the only `ConfigMap` of a manifest, places and all.
fn inside(manifest: &str) -> Legacy {
    let parsed = manifest::parse(&"m.yaml".into(), &manifest.into());
    assert_eq!(parsed.problems, [], "{manifest}");
    let [document] = parsed.documents.as_slice() else { panic!("{parsed:?}") };
    let Object::ConfigMap(map) = &document.object else { panic!("{parsed:?}") };
    legacy::parse_map(&document.reference, map, Some(&*document.origin))
}

fn first_place(manifest: &str) -> (u32, u32) {
    let place = inside(manifest).problems[0].place.clone().unwrap();
    (place.line, place.column)
}

const HEAD: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: config, namespace: metallb-system}\n";

#[test]
fn a_problem_inside_a_literal_block_stands_at_its_place_in_the_file() {
    for (data, expected) in [
        ("data:\n  config: |\n    peers: 7\n", (6, 12)),
        ("data:\n  config: | # so\n\n    peers:\n    - {}\n", (8, 7)),
        ("data:\r\n  config: |-\r\n    peers: 7\r\n", (6, 12)),
        ("data:\n  config: |2\n      peers: 7\n", (6, 14)),
        ("data:\n  config: &text !!str |\n    # \u{e4}\u{e4}\n    peers: 7\n", (7, 12)),
        ("data:\n  config: >\n    peers: 7\n", (5, 3)),
        ("data:\n  config: 'peers: 7'\n", (5, 11)),
        ("data: {config: \"a: 1\\nb: 2\"}\n", (4, 16)),
    ] {
        let manifest = format!("{HEAD}{data}");
        assert_eq!(first_place(&manifest), expected, "{data}");
        let later = format!("a: b\n...\n# first\n---\n{manifest}").replacen("a: b\n...", "# nothing\n...", 1);
        assert_eq!(first_place(&later), (expected.0 + 4, expected.1), "{data}");
    }
}

#[test]
fn a_config_map_in_a_list_is_placed_too() {
    let item = "  - apiVersion: v1\n    kind: ConfigMap\n    metadata: {name: c}\n    data:\n      config: |\n        peers: 7\n";
    assert_eq!(first_place(&format!("apiVersion: v1\nkind: List\nitems:\n{item}")), (9, 16));
}

#[test]
fn problems_name_the_map_and_the_field_of_the_configuration() {
    let legacy = inside(&format!("{HEAD}data:\n  config: |\n    peers: [{{}}]\n"));
    assert!(legacy.config.is_none());
    assert_eq!(
        legacy.problems[0].to_string(),
        "error: my-asn is missing; write an AS number such as 64512\n  \
         --> m.yaml:6:13   ConfigMap metallb-system/config, peers[0].my-asn"
    );
}

#[test]
fn a_map_without_the_key_is_a_valid_empty_configuration() {
    let legacy = inside(&format!("{HEAD}data: {{other: x}}\n"));
    assert_eq!(legacy.config, Some(crate::pool::PoolConfig::default()));
    let file: Arc<str> = "x".into();
    assert!(legacy::parse_text(&file, &"".into()).config.is_some());
}
