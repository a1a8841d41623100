use super::{config, lines, refused};
use crate::pool::{BgpAdvertisement, Community, Protocol};

/// A layer 2 pool with these addresses; each place is in line 1.
fn pool(addresses: &str) -> String {
    format!("address-pools: [{{name: a, protocol: layer2, addresses: {addresses}}}]")
}

#[test]
fn a_pool_is_read_with_its_defaults() {
    let text = "\
address-pools:
- name: no
  protocol: layer2
  addresses: [192.168.1.7/24, ' 10.0.0.5 - 10.0.0.9 ', 2001:db8::/64]
- name: 10
  protocol: bgp
  auto-assign: OFF
  avoid-buggy-ips: y
  addresses:
  - 10.1.0.0/20
";
    let config = config(text);
    let [home, edge] = config.pools.as_slice() else { panic!("{config:?}") };
    assert_eq!((home.name.as_str(), home.protocol), ("no", Protocol::Layer2));
    assert_eq!((home.auto_assign, home.avoid_buggy_ips), (true, false));
    let ranges: Vec<_> = home.ranges.iter().map(ToString::to_string).collect();
    assert_eq!(ranges, ["192.168.1.0-192.168.1.255", "10.0.0.5-10.0.0.9", "2001:db8::-2001:db8::ffff:ffff:ffff:ffff"]);
    assert_eq!(home.advertisements, []);
    assert_eq!((edge.name.as_str(), edge.protocol), ("10", Protocol::Bgp));
    assert_eq!((edge.auto_assign, edge.avoid_buggy_ips), (false, true));
    let default =
        BgpAdvertisement { aggregation_length: 32, aggregation_length_v6: 128, local_pref: 0, communities: vec![] };
    assert_eq!(edge.advertisements, [default]);
}

#[test]
fn loopback_pools_and_merge_keys_are_accepted_without_noise() {
    let text = "\
address-pools:
- &base {name: a, protocol: layer2, addresses: [127.0.10.0/24]}
- <<: *base
  name: b
  addresses: [127.0.11.1-127.0.11.9]
";
    assert_eq!(config(text).pools.len(), 2);
}

#[test]
fn keys_of_our_own_say_whom_a_pool_is_for() {
    let text = "\
address-pools:
- name: shop
  protocol: layer2
  addresses: [192.168.1.0/28]
  allow-reserved-addresses: true
  service-allocation:
    priority: 10
    namespaces: [shop, till]
    namespace-selectors: [{match-labels: {team: red}}]
    service-selectors:
    - match-expressions: [{key: app, operator: Exists}]
";
    let shop = config(text).pools.remove(0);
    let allocation = shop.allocation.unwrap();
    assert!(shop.allow_reserved);
    assert_eq!((allocation.priority, allocation.namespaces.as_slice()), (10, &["shop".to_owned(), "till".into()][..]));
    assert_eq!((allocation.namespace_selectors.len(), allocation.service_selectors.len()), (1, 1));
    assert!(!config(&pool("[10.0.0.0/24]")).pools[0].allow_reserved);
    refused(&[
        (
            "address-pools: [{name: a, protocol: layer2, addresses: [10.0.0.0/24], service-allocation: {namespace: x}}]",
            "1:92 address-pools[0].service-allocation.namespace",
            "unknown key \"namespace\"; did you mean \"namespaces\"?",
        ),
        (
            "address-pools: [{name: a, protocol: layer2, addresses: [10.0.0.0/24], service-allocation: {namespaces: [~]}}]",
            "1:105 address-pools[0].service-allocation.namespaces[0]",
            "name a namespace",
        ),
        (
            "address-pools: [{name: a, protocol: layer2, addresses: [10.0.0.0/24], service-allocation: {priority: -1}}]",
            "1:102 address-pools[0].service-allocation.priority",
            "a whole number from 0",
        ),
    ]);
}

#[test]
fn what_a_pool_must_have_is_asked_for() {
    refused(&[
        ("address-pools: [1]", "1:17 address-pools[0]", "expected a mapping, found the number 1"),
        (
            "address-pools: [{protocol: layer2, addresses: [10.0.0.0/24]}]",
            "1:17 address-pools[0].name",
            "name is missing; give the pool a name of its own",
        ),
        (
            "address-pools: [{name: ~, protocol: layer2, addresses: [10.0.0.0/24]}]",
            "1:24 address-pools[0].name",
            "name is missing",
        ),
        (
            "address-pools: [{name: [x], protocol: layer2, addresses: [10.0.0.0/24]}]",
            "1:18 address-pools[0].name",
            "expected text, found a list",
        ),
        (
            "address-pools: [{name: a, addresses: [10.0.0.0/24]}]",
            "1:17 address-pools[0].protocol",
            "protocol is missing; write layer2 or bgp",
        ),
        (
            "address-pools: [{name: a, protocol: Layer2, addresses: [10.0.0.0/24]}]",
            "1:37 address-pools[0].protocol",
            "unknown protocol \"Layer2\"; did you mean \"layer2\"?",
        ),
        ("address-pools: [{name: a, protocol: layer2}]", "1:17 address-pools[0].addresses", "a pool needs addresses"),
        (
            "address-pools: [{name: a, protocol: layer2, addresses: []}]",
            "1:45 address-pools[0].addresses",
            "a pool needs addresses",
        ),
        (
            "address-pools: [{name: a, protocol: layer2, addresses: 10.0.0.0/24}]",
            "1:56 address-pools[0].addresses",
            "expected a list, found the text \"10.0.0.0/24\"",
        ),
        (
            "address-pools: [{name: a, protocol: layer2, addresses: [10.0.0.0/24], auto-assign: maybe}]",
            "1:84 address-pools[0].auto-assign",
            "expected true or false, found the text \"maybe\"",
        ),
        (
            "address-pools: [{name: a, protocol: layer2, addresses: [10.0.0.0/24], avoid-buggy-ips: 'true'}]",
            "1:88 address-pools[0].avoid-buggy-ips",
            "found the text \"true\"; remove the quotes",
        ),
        (
            "address-pools: [{name: a, protocol: layer2, addresses: [10.0.0.0/24], avoidBuggyIPs: true}]",
            "1:71 address-pools[0].avoidBuggyIPs",
            "did you mean \"avoid-buggy-ips\"?",
        ),
        (
            "address-pools:\n- {name: a, protocol: layer2, addresses: [10.0.0.0/24]}\n- {name: a, protocol: layer2, addresses: [10.0.1.0/24]}",
            "3:10 address-pools[1].name",
            "the pool name \"a\" is already taken (address-pools[0].name)",
        ),
    ]);
}

#[test]
fn each_way_to_write_addresses_wrong_has_its_own_advice() {
    for (address, message) in [
        ("192.0.2.1", "is a single address, not a range; write it as 192.0.2.1/32"),
        ("2001:db8::1", "write it as 2001:db8::1/128"),
        ("192.0.2.0/33", "/33 is not a prefix length for 192.0.2.0; write a number from 0 to 32"),
        ("192.0.2.0/024", "/024 is not a prefix length"),
        ("192.0.2.0/", "is not a prefix length"),
        ("192.0.2.0/+4", "is not a prefix length"),
        ("192.0.2.0/255.255.255.240", "write the netmask 255.255.255.240 as a prefix length: 192.0.2.0/28"),
        ("192.0.2.0 /28", "has blanks in it"),
        ("192.0.02.0/24", "leading zero"),
        ("192.0.2.1-192.0.2.09", "leading zero"),
        ("192.0.2.10-20", "did you mean 192.0.2.10-192.0.2.20?"),
        ("192.0.2.20-192.0.2.10", "runs backwards; did you mean 192.0.2.10-192.0.2.20?"),
        ("192.0.2.1-2001:db8::1", "begins in one address family and ends in the other"),
        ("192.0.2.1-", "is not an address range; write it like"),
        ("192.0.2.0/28-192.0.2.30", "is not an address range"),
        ("192.0.2.1-192.0.2.2-192.0.2.3", "is not an address range"),
        ("fe80::1%eth0/64", "is not an address range"),
        ("host.example-192.0.2.1", "is not an address range"),
        ("256.0.0.0/8", "is not an address range"),
        ("10/8", "is not an address range"),
        ("x", "is not an address range"),
    ] {
        let text = pool(&format!("['{address}']"));
        refused(&[(&text, "1:57 address-pools[0].addresses[0]", message)]);
    }
    refused(&[
        (&pool("[[1]]"), "1:57 address-pools[0].addresses[0]", "expected text, found a list"),
        (&pool("[~]"), "1:57 address-pools[0].addresses[0]", "an address range is missing"),
    ]);
}

#[test]
fn no_address_may_be_written_twice() {
    for addresses in [
        ["10.0.0.0/24", "10.0.0.0/24"],
        ["10.0.0.0/24", "10.0.0.255-10.0.1.3"],
        ["10.0.1.0-10.0.1.9", "10.0.0.0-10.0.1.0"],
        ["10.0.0.0/8", "10.5.0.0/32"],
        ["10.5.0.0/32", "10.0.0.0/8"],
        ["10.0.0.0/24", "::ffff:10.0.0.7/128"],
        ["10.0.0.0/24", "::ffff:10.0.0.7-::ffff:10.0.0.9"],
        ["::/0", "2001:db8::/64"],
    ] {
        let [first, second] = addresses;
        let within = pool(&format!("[{first:?}, {second:?}]"));
        let found = lines(&within);
        assert!(found[0].contains("overlaps") && found[0].contains("of the same pool"), "{addresses:?}: {found:?}");
        let across = format!(
            "address-pools:\n- {{name: a, protocol: bgp, addresses: [{first:?}]}}\n- {{name: b, protocol: bgp, addresses: [{second:?}]}}"
        );
        let message = "of pool \"a\" (address-pools[0].addresses[0]); an address belongs to one pool";
        refused(&[(&across, "3:40 address-pools[1].addresses[0]", message)]);
    }
    let neighbours = pool("[10.0.0.0/24, 10.0.1.0-10.0.1.9, 9.255.255.255/32, '::/1', '::ffff:11.0.0.0/104']");
    let config = config(&neighbours.replace("layer2", "bgp"));
    assert_eq!(config.pools[0].ranges[4].to_string(), "11.0.0.0-11.255.255.255");
}

#[test]
fn addresses_that_no_service_can_use_deserve_a_warning() {
    for addresses in ["[0.0.0.0/0]", "[224.0.0.5/32]", "[255.255.255.255/32]"] {
        let legacy = super::parse_text(&"c.yaml".into(), &pool(addresses).into());
        assert!(legacy.config.is_some() && legacy.problems[0].message.contains("which no Service can use"));
    }
}

fn bgp(advertisements: &str) -> String {
    format!(
        "bgp-communities: {{local: '64512:7'}}\n\
         address-pools: [{{name: a, protocol: bgp, addresses: [10.0.0.0/24, 10.1.0.1-10.1.0.8, 2001:db8::/64],\n\
         bgp-advertisements: {advertisements}}}]"
    )
}

#[test]
fn bgp_advertisements_are_read() {
    let text =
        bgp("[{aggregation-length: 30, aggregation-length-v6: 64, localpref: 5, communities: [local, 1:2]}, {}]");
    let config = config(&text);
    let [first, second] = config.pools[0].advertisements.as_slice() else { panic!("{config:?}") };
    assert_eq!((first.aggregation_length, first.aggregation_length_v6, first.local_pref), (30, 64, 5));
    assert_eq!(first.communities, [Community { high: 64_512, low: 7 }, Community { high: 1, low: 2 }]);
    assert_eq!((second.aggregation_length, second.aggregation_length_v6, second.local_pref), (32, 128, 0));
}

#[test]
fn bgp_advertisements_are_checked() {
    let at = |field: &str, column| format!("3:{column} address-pools[0].bgp-advertisements{field}");
    for (advertisements, field, column, message) in [
        ("[{aggregation-length: 33}]", "[0].aggregation-length", 43, "a whole number from 0 to 32"),
        ("[{aggregation-length-v6: 129}]", "[0].aggregation-length-v6", 46, "from 0 to 128"),
        ("[{aggregation-length: 29}]", "[0].aggregation-length", 43, "whose widest prefix is a /30; write 30 or more"),
        ("[{aggregation-length: 23}]", "[0].aggregation-length", 43, "reach beyond 10.1.0.1-10.1.0.8"),
        ("[{aggregation-length-v6: 63}]", "[0].aggregation-length-v6", 46, "whose widest prefix is a /64"),
        ("[{localpref: -1}]", "[0].localpref", 34, "from 0 to 4294967295, found the number -1"),
        ("[{localpref: '1'}]", "[0].localpref", 34, "remove the quotes"),
        ("[{communities: [lokal]}]", "[0].communities[0]", 37, "did you mean \"local\"?"),
        ("[{communities: [1:70000]}]", "[0].communities[0]", 37, "write two numbers up to 65535"),
        ("[{communities: [1:2, 1:2]}]", "[0].communities[1]", 42, "stands here a second time"),
        ("[{localpref: 1}, {localpref: 1}]", "[1]", 38, "says the same as"),
        ("[{}, {}]", "[1]", 26, "says the same as address-pools[0].bgp-advertisements[0]"),
        ("[{local-pref: 1}]", "[0].local-pref", 23, "did you mean \"localpref\"?"),
        ("[3]", "[0]", 22, "expected a mapping"),
    ] {
        refused(&[(&bgp(advertisements), &at(field, column), message)]);
    }
    let layer2 = bgp("[{}]").replace("protocol: bgp", "protocol: layer2");
    refused(&[(&layer2, "3:1 address-pools[0].bgp-advertisements", "a layer2 pool is not advertised by BGP")]);
    config(&bgp("[]").replace("protocol: bgp", "protocol: layer2"));
}
