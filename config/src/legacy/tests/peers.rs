use super::{config, refused};
use crate::pool::{Operator, Requirement};

/// One peer with a line of its own for this field, in line 2.
fn peer(field: &str) -> String {
    format!("peers:\n- {field}\n  my-asn: 64512\n  peer-asn: 64513\n  peer-address: 10.0.0.1\n")
}

#[test]
fn a_peer_is_read_with_its_defaults() {
    let config = config(&peer("peer-port: 0"));
    let peer = &config.peers[0];
    assert_eq!((peer.my_asn, peer.peer_asn, peer.port), (64_512, 64_513, 179));
    assert_eq!((peer.hold_time, peer.keepalive_time), (90, None));
    assert_eq!((peer.source_address, peer.router_id, peer.ebgp_multihop), (None, None, false));
    assert_eq!((peer.password.expose(), &peer.node_selectors, &peer.bfd_profile), ("", &vec![], &None));
}

#[test]
fn every_field_of_a_peer_is_read() {
    let text = "\
bfd-profiles: [{name: fast}]
peers:
- my-asn: 0xFC00
  peer-asn: 4294967295
  peer-address: 2001:db8::1
  peer-port: 1179
  source-address: 2001:db8::2
  router-id: 10.0.0.9
  hold-time: 1m30.9s
  keepalive-time: 30s
  password: 12345
  ebgp-multihop: yes
  bfd-profile: fast
  node-selectors:
  - match-labels: {rack: 1, zone: a}
    match-expressions:
    - {key: kubernetes.io/arch, operator: NotIn, values: [arm64]}
    - {key: edge, operator: Exists}
  - {}
";
    let peer = &config(text).peers[0];
    assert_eq!((peer.my_asn, peer.peer_asn, peer.port), (0xFC00, u32::MAX, 1179));
    assert_eq!((peer.hold_time, peer.keepalive_time), (90, Some(30)));
    assert_eq!((peer.password.expose(), peer.ebgp_multihop), ("12345", true));
    assert_eq!(peer.bfd_profile.as_deref(), Some("fast"));
    let [first, all] = peer.node_selectors.as_slice() else { panic!("{peer:?}") };
    assert_eq!((first.requirements.len(), all.requirements.len()), (4, 0));
    let rack = Requirement { key: "rack".to_owned(), operator: Operator::In, values: vec!["1".to_owned()] };
    assert_eq!(first.requirements[0], rack);
    assert_eq!(first.requirements[3].operator, Operator::Exists);
}

#[test]
fn the_fields_of_a_peer_are_checked() {
    for (field, place, message) in [
        ("peer-port: 65536", "14 peers[0].peer-port", "a whole number from 0 to 65535, found the number 65536"),
        ("peer-port: '179'", "14 peers[0].peer-port", "remove the quotes"),
        ("peer-port: 0179", "14 peers[0].peer-port", "expected a whole number"),
        ("peer-port: 0177", "14 peers[0].peer-port", "without leading zeros (they mean octal)"),
        ("source-address: eth0", "19 peers[0].source-address", "\"eth0\" is not an IP address"),
        ("router-id: 7", "14 peers[0].router-id", "\"7\" is not an IP address"),
        ("hold-time: 90", "14 peers[0].hold-time", "\"90\" is not a duration; write the unit too: 90s"),
        ("hold-time: soon", "14 peers[0].hold-time", "write it like 90s or 1m30s"),
        ("hold-time: 2.9s", "14 peers[0].hold-time", "a hold time is 0 or from 3 to 65535 seconds, not 2"),
        ("hold-time: -3s", "14 peers[0].hold-time", "not -3"),
        ("hold-time: 20h", "14 peers[0].hold-time", "not 72000"),
        ("keepalive-time: 91s", "19 peers[0].keepalive-time", "from 0 to the hold time of 90 seconds, not 91"),
        ("password: {}", "3 peers[0].password", "expected text, found a mapping"),
        ("ebgp-multihop: 1", "18 peers[0].ebgp-multihop", "expected true or false"),
        ("bfd-profile: fast", "16 peers[0].bfd-profile", "there is no BFD profile \"fast\"; add it to bfd-profiles"),
        ("bfdProfile: fast", "3 peers[0].bfdProfile", "did you mean \"bfd-profile\"?"),
        ("peer-adress: 10.0.0.2", "3 peers[0].peer-adress", "did you mean \"peer-address\"?"),
        ("node-selectors: {}", "3 peers[0].node-selectors", "expected a list"),
        ("node-selectors: [{match: 1}]", "21 peers[0].node-selectors[0].match", "unknown key \"match\""),
        (
            "node-selectors: [{match-labels: {-a: b}}]",
            "40 peers[0].node-selectors[0].match-labels.-a",
            "\"-a\" is not a key",
        ),
        (
            "node-selectors: [{match-labels: {a: b c}}]",
            "39 peers[0].node-selectors[0].match-labels.a",
            "\"b c\" is not a label value",
        ),
        (
            "node-selectors: [{match-expressions: [{operator: Exists}]}]",
            "41 peers[0].node-selectors[0].match-expressions[0].key",
            "key is missing; name the label",
        ),
        (
            "node-selectors: [{match-expressions: [{key: a}]}]",
            "41 peers[0].node-selectors[0].match-expressions[0].operator",
            "operator is missing; write In",
        ),
        (
            "node-selectors: [{match-expressions: [{key: a, operator: in, values: [b]}]}]",
            "60 peers[0].node-selectors[0].match-expressions[0].operator",
            "unknown operator \"in\"; did you mean \"In\"?",
        ),
        (
            "node-selectors: [{match-expressions: [{key: a, operator: In}]}]",
            "41 peers[0].node-selectors[0].match-expressions[0].values",
            "In and NotIn need at least one value",
        ),
        (
            "node-selectors: [{match-expressions: [{key: a, operator: Exists, values: [b]}]}]",
            "68 peers[0].node-selectors[0].match-expressions[0].values",
            "Exists and DoesNotExist take no values",
        ),
    ] {
        refused(&[(&peer(field), &format!("2:{place}"), message)]);
    }
}

#[test]
fn as_numbers_and_addresses_are_asked_for_and_checked() {
    let peer = |my: &str, their: &str, address: &str| format!("peers: [{{{my}, {their}, {address}}}]");
    let (my, their, address) = ("my-asn: 1", "peer-asn: 2", "peer-address: 10.0.0.1");
    refused(&[
        (&format!("peers: [{{{their}, {address}}}]"), "1:9 peers[0].my-asn", "my-asn is missing; write an AS number"),
        (&format!("peers: [{{{my}, {address}}}]"), "1:9 peers[0].peer-asn", "peer-asn is missing"),
        (&format!("peers: [{{{my}, {their}}}]"), "1:9 peers[0].peer-address", "peer-address is missing"),
        (&peer("my-asn: 0", their, address), "1:18 peers[0].my-asn", "from 1 to 4294967295, found the number 0"),
        (&peer("my-asn: 1.10", their, address), "1:18 peers[0].my-asn", "if 1.10 is meant as high.low, write 65546"),
        (&peer("my-asn: 1e3", their, address), "1:18 peers[0].my-asn", "found the fraction 1e3"),
        (&peer("my-asn: 4294967296", their, address), "1:18 peers[0].my-asn", "from 1 to 4294967295"),
        (&peer("my-asn: '1'", their, address), "1:18 peers[0].my-asn", "remove the quotes"),
        (&peer(my, "peer-asn: AS2", address), "1:31 peers[0].peer-asn", "found the text \"AS2\""),
        (&peer(my, their, "peer-address: router"), "1:48 peers[0].peer-address", "names are not looked up"),
        (&peer(my, their, "peer-address: 10.0.0.01"), "1:48 peers[0].peer-address", "is not an IP address"),
        (
            "peers: [{my-asn: 1, peer-asn: 1, peer-address: 10.0.0.1, ebgp-multihop: true}]",
            "1:73 peers[0].ebgp-multihop",
            "my-asn and peer-asn are equal",
        ),
    ]);
}

#[test]
fn peers_that_are_equal_after_defaults_are_refused() {
    let twice = |more: &str| {
        let peer = "my-asn: 1, peer-asn: 2, peer-address: 10.0.0.1";
        format!("peers:\n- {{{peer}}}\n- {{{peer}, {more}}}")
    };
    for more in ["peer-port: 179", "hold-time: 90.5s", "ebgp-multihop: off", "node-selectors: []"] {
        refused(&[(&twice(more), "3:3 peers[1]", "this peer is the same as peers[0]")]);
    }
    for more in ["peer-port: 180", "hold-time: 0", "password: x", "router-id: 10.0.0.2"] {
        assert_eq!(config(&twice(more)).peers.len(), 2, "{more}");
    }
}
