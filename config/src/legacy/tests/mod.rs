//! Every field of MetalLB's configuration, right and wrong.

mod peers;
mod places;
mod pools;
mod properties;

use super::*;

/// Every problem of a configuration text as `line:column field: message`.
fn lines(text: &str) -> Vec<String> {
    let legacy = parse_text(&"c.yaml".into(), &text.into());
    let show = |problem: &Problem| {
        let place = problem.place.as_ref().unwrap();
        format!("{}:{} {}: {}", place.line, place.column, problem.field, problem.message)
    };
    legacy.problems.iter().map(show).collect()
}

#[test]
fn every_fault_of_a_configuration_is_reported_with_its_place() {
    let text = "\
address-pools:
- name: default
  protocol: layer2
  addresses:
  - 192.0.2.20-192.0.2.10
  - 192.0.2.1
  - 10.0.0.0/24
  - 10.0.0.7-10.0.0.9
  auto-asign: no
peers:
- my-asn: 1.10
  peer-asn: '5'
  peer-address: 10.0.0.1
  hold-time: 90
  bfdProfile: x
";
    assert_eq!(
        lines(text),
        [
            "5:5 address-pools[0].addresses[0]: address range 192.0.2.20-192.0.2.10 runs backwards; did you mean 192.0.2.10-192.0.2.20?",
            "6:5 address-pools[0].addresses[1]: 192.0.2.1 is a single address, not a range; write it as 192.0.2.1/32",
            "8:5 address-pools[0].addresses[3]: 10.0.0.7-10.0.0.9 overlaps 10.0.0.0-10.0.0.255 of the same pool (address-pools[0].addresses[2]); keep each address once",
            "9:3 address-pools[0].auto-asign: unknown key \"auto-asign\"; did you mean \"auto-assign\"?",
            "11:11 peers[0].my-asn: expected an AS number, found the fraction 1.10; if 1.10 is meant as high.low, write 65546",
            "12:13 peers[0].peer-asn: expected a whole number from 1 to 4294967295, found the text \"5\"; remove the quotes",
            "14:14 peers[0].hold-time: \"90\" is not a duration; write the unit too: 90s",
            "15:3 peers[0].bfdProfile: unknown key \"bfdProfile\"; did you mean \"bfd-profile\"?",
        ]
    );
}

/// Reads a configuration that must be valid and without a warning.
fn config(text: &str) -> PoolConfig {
    let legacy = parse_text(&"c.yaml".into(), &text.into());
    assert_eq!(legacy.problems, [], "{text}");
    legacy.config.expect("a configuration without problems is valid")
}

/// Asserts that each text has exactly one problem, at this place and with this message in it.
fn refused(cases: &[(&str, &str, &str)]) {
    for (text, place, message) in cases {
        let found = lines(text);
        let [only] = found.as_slice() else { panic!("{text}: one problem expected, found {found:#?}") };
        assert!(only.starts_with(&format!("{place}: ")), "{text}: {only} is not at {place}");
        assert!(only.contains(message), "{text}: {only} does not say {message}");
        let legacy = parse_text(&"c.yaml".into(), &(*text).into());
        assert!(legacy.config.is_none(), "{text} counts as valid");
    }
}

#[test]
fn an_empty_configuration_is_valid() {
    for text in ["", "# nothing\n", "---\n", "{}", "null", "address-pools: []\npeers:\n", "\u{feff}{}\r\n"] {
        assert_eq!(config(text), PoolConfig::default(), "{text:?}");
    }
}

#[test]
fn sections_and_communities_are_checked() {
    refused(&[
        ("[]", "1:1 ", "expected a mapping, found a list"),
        ("address-pool: []", "1:1 address-pool", "did you mean \"address-pools\"?"),
        ("Peers: []", "1:1 Peers", "did you mean \"peers\"?"),
        ("colour: red", "1:1 colour", "known here: address-pools, bfd-profiles, bgp-communities, peers"),
        ("address-pools: {}", "1:1 address-pools", "expected a list, found a mapping"),
        (
            "peers: []\npeers: []",
            "2:1 peers",
            "the key \"peers\" stands here a second time; the first is at line 1, column 1",
        ),
        ("bgp-communities: {a: 1}", "1:22 bgp-communities.a", "\"1\" is not a community"),
        ("bgp-communities: {a: '1:65536'}", "1:22 bgp-communities.a", "write two numbers up to 65535"),
        ("bgp-communities: {a: '+1:2'}", "1:22 bgp-communities.a", "is not a community"),
        ("bgp-communities: {a: [1]}", "1:19 bgp-communities.a", "expected text, found a list"),
        ("a:\n\tb: 1", "2:2 a", "a tab is used as indentation"),
        ("a: *b", "1:4 a", "names an anchor that is not defined before it"),
        ("peers: !peers []", "1:15 peers", "the tag \"!peers\" means nothing here"),
    ]);
    let config = config("bgp-communities:\n  a: 1:65535\n  no: '0:0'\n");
    assert_eq!(config.communities["a"], Community { high: 1, low: 65_535 });
    assert!(config.communities.contains_key("no"));
}

#[test]
fn only_the_first_document_counts() {
    let legacy = parse_text(&"c.yaml".into(), &"peers: []\n---\nno: such\n".into());
    assert_eq!(legacy.config, Some(PoolConfig::default()));
    assert_eq!(legacy.problems[0].severity, Severity::Warning);
}

#[test]
fn bfd_profiles_are_checked() {
    let profile = "bfd-profiles:\n- name: a\n  receive-interval: 10\n  detect-multiplier: 255\n  echo-mode: on\n";
    let profile = &config(profile).bfd_profiles[0];
    assert_eq!((profile.receive_interval, profile.transmit_interval), (Some(10), None));
    assert_eq!((profile.detect_multiplier, profile.minimum_ttl), (Some(255), None));
    assert_eq!((profile.echo_mode, profile.passive_mode), (true, false));
    refused(&[
        ("bfd-profiles: [{}]", "1:16 bfd-profiles[0].name", "name is missing"),
        ("bfd-profiles: [{name: a}, {name: a}]", "1:34 bfd-profiles[1].name", "is already written"),
        ("bfd-profiles: [{name: a, echo-interval: 9}]", "1:41 bfd-profiles[0].echo-interval", "from 10 to 60000"),
        ("bfd-profiles: [{name: a, transmit-interval: 60001}]", "1:45 bfd-profiles[0].transmit-interval", "60001"),
        ("bfd-profiles: [{name: a, receive-interval: 10.5}]", "1:44 bfd-profiles[0].receive-interval", "whole number"),
        ("bfd-profiles: [{name: a, detect-multiplier: 1}]", "1:45 bfd-profiles[0].detect-multiplier", "from 2 to 255"),
        ("bfd-profiles: [{name: a, minimum-ttl: 255}]", "1:39 bfd-profiles[0].minimum-ttl", "from 1 to 254"),
        ("bfd-profiles: [{name: a, echo-mode: 1}]", "1:37 bfd-profiles[0].echo-mode", "expected true or false"),
        ("bfd-profiles: [{name: a, passive-mode: 'yes'}]", "1:40 bfd-profiles[0].passive-mode", "remove the quotes"),
    ]);
}

#[test]
fn a_bare_configuration_is_told_from_a_manifest() {
    for (text, expected) in [
        ("address-pools: []", true),
        ("bgp-communities:\n", true),
        ("kind: ConfigMap\naddress-pools: []", false),
        ("data: {}", false),
        ("[]", false),
        ("", false),
        ("a: [", false),
    ] {
        assert_eq!(is_bare(text), expected, "{text:?}");
    }
}

/// Whether a problem refuses the configuration.
fn is_error_problem(problem: &Problem) -> bool {
    problem.severity == Severity::Error
}
