//! Allocation as MetalLB's, sentence by sentence, with its faults mended.
//!
//! A row is a sentence of MetalLB's documentation or behaviour, the Services there are, and what each of them gets.
//! What a Service is, in words separated by blanks:
//!
//! | word | means |
//! |---|---|
//! | `tcp/80` | a port (without any: `tcp/80`) |
//! | `held=A,B` | addresses in its status |
//! | `ip=A`, `ips=A,B`, `pool=P`, `share=K` | `spec.loadBalancerIP`, and the annotations under `metallb.io/` |
//! | `old:pool=P` | the annotation under `metallb.universe.tf/` |
//! | `local=APP` | external traffic policy `Local`, selector `app: APP` |
//! | `cluster=A,B` | cluster addresses (without: one of IPv4) |
//! | `policy=P`, `type=T`, `class=C`, `app=V` | `ipFamilyPolicy`, `type`, `loadBalancerClass`, a label |
//!
//! What it gets: addresses joined by `+`, then `!` and a part of what it is told if it is refused something; `-` if no
//! address, `cleared` if its status is emptied, `untouched` if nothing is written.

#![expect(clippy::unwrap_used, reason = "a row that cannot be read is a mistake in the test")]

mod support;

use support::{Case, check};

/// Addresses .1 to .3 for everybody.
const LAN: &str = "address-pools: [{name: lan, protocol: layer2, addresses: [192.0.2.1-192.0.2.3]}]";
/// One address.
const ONE: &str = "address-pools: [{name: one, protocol: layer2, addresses: [192.0.2.1/32]}]";
/// Two pools for everybody; the first has its entries out of order.
const TWO: &str = "address-pools:
- {name: a, protocol: layer2, addresses: [192.0.2.20-192.0.2.21, 192.0.2.10/32]}
- {name: b, protocol: layer2, addresses: [198.51.100.1-198.51.100.9]}";
/// A pool of both families, and one of IPv4 before it.
const DUAL: &str = "address-pools:
- {name: v4, protocol: layer2, addresses: [192.0.2.1-192.0.2.9]}
- {name: both, protocol: layer2, addresses: [198.51.100.1-198.51.100.9, 'fd00::1-fd00::9']}";
/// Pools that are kept for some.
const KEPT: &str = "address-pools:
- {name: all, protocol: layer2, addresses: [192.0.2.1/32]}
- {name: late, protocol: layer2, addresses: [192.0.2.2/32], service-allocation: {namespaces: [default]}}
- {name: soon, protocol: layer2, addresses: [192.0.2.3/32], service-allocation: {namespaces: [default], priority: 5}}
- {name: web, protocol: layer2, addresses: [192.0.2.4/32], service-allocation: {priority: 1, service-selectors: [{match-labels: {app: web}}]}}
- {name: team, protocol: layer2, addresses: [192.0.2.5/32], service-allocation: {priority: 2, namespace-selectors: [{match-labels: {team: red}}]}}
- {name: hand, protocol: layer2, addresses: [192.0.2.6/32], auto-assign: false, service-allocation: {namespaces: [default], priority: 1}}";

#[test]
fn who_is_served() {
    check(&[
        Case {
            sentence: "type LoadBalancer with a cluster IP is served",
            config: LAN,
            services: &[("a", "")],
            expected: &["a 192.0.2.1"],
        },
        Case {
            sentence: "another type is cleared, and its address freed",
            config: ONE,
            services: &[("a", "type=ClusterIP held=192.0.2.1"), ("b", "")],
            expected: &["a cleared", "b 192.0.2.1"],
        },
        Case {
            sentence: "changed back, it gets an address again",
            config: ONE,
            services: &[("a", "type=LoadBalancer")],
            expected: &["a 192.0.2.1"],
        },
        Case {
            sentence: "headless: cleared, and told why",
            config: ONE,
            services: &[("a", "cluster=None held=192.0.2.1"), ("b", "")],
            expected: &["a - !clusterIP None makes a headless Service", "b 192.0.2.1"],
        },
        Case {
            sentence: "without --lb-class only Services without a class are served",
            config: LAN,
            services: &[("a", "class=x"), ("b", "")],
            expected: &["a untouched", "b 192.0.2.1"],
        },
        Case {
            sentence: "a Service that never was one is left alone",
            config: LAN,
            services: &[("a", "type=NodePort")],
            expected: &["a untouched"],
        },
        Case {
            sentence: "mended: what a Service of another class holds is given to nobody, not even on request",
            config: LAN,
            services: &[("a", "class=x held=192.0.2.1"), ("b", ""), ("c", "ips=192.0.2.1")],
            expected: &[
                "a untouched",
                "b 192.0.2.2",
                "c - !an address of Service default/a, which another load balancer serves",
            ],
        },
        Case {
            sentence: "node ports do not matter",
            config: LAN,
            services: &[("a", "nodeports=false")],
            expected: &["a 192.0.2.1"],
        },
    ]);
}

#[test]
fn families_come_from_the_cluster_addresses() {
    check(&[
        Case {
            sentence: "one cluster IP: single-stack",
            config: DUAL,
            services: &[("a", "cluster=10.0.0.1"), ("b", "cluster=fd10::1")],
            expected: &["a 192.0.2.1", "b fd00::1"],
        },
        Case {
            sentence: "two cluster IPs: both addresses come from one pool",
            config: DUAL,
            services: &[("a", "cluster=10.0.0.1,fd10::1 policy=RequireDualStack")],
            expected: &["a 198.51.100.1+fd00::1"],
        },
        Case {
            sentence: "PreferDualStack takes both where a pool has both, the family of the first cluster IP first",
            config: DUAL,
            services: &[("a", "cluster=fd10::1,10.0.0.1 policy=PreferDualStack")],
            expected: &["a fd00::1+198.51.100.1"],
        },
        Case {
            sentence: "PreferDualStack falls back to one family, and says so",
            config: LAN,
            services: &[("a", "cluster=10.0.0.1,fd10::1 policy=PreferDualStack held=192.0.2.2")],
            expected: &[
                "a 192.0.2.2 !cannot assign additional IP in PreferDualStack: no available IPs of family IPv6 in pool \"lan\"",
            ],
        },
        Case {
            sentence: "PreferDualStack later gains the second family from the same pool",
            config: DUAL,
            services: &[("a", "cluster=10.0.0.1,fd10::1 policy=PreferDualStack held=198.51.100.7")],
            expected: &["a 198.51.100.7+fd00::1"],
        },
        Case {
            sentence: "PreferDualStack does not gain it from another pool",
            config: DUAL,
            services: &[("a", "cluster=10.0.0.1,fd10::1 policy=PreferDualStack held=192.0.2.7")],
            expected: &["a 192.0.2.7 !cannot assign additional IP"],
        },
        Case {
            sentence: "RequireDualStack with one cluster IP is refused",
            config: DUAL,
            services: &[("a", "cluster=10.0.0.1 policy=RequireDualStack")],
            expected: &["a - !RequireDualStack with one cluster IP 10.0.0.1"],
        },
        Case {
            sentence: "RequireDualStack gets both or none",
            config: LAN,
            services: &[("a", "cluster=10.0.0.1,fd10::1 policy=RequireDualStack")],
            expected: &["a - !no available IPs of both families in pool \"lan\""],
        },
        Case {
            sentence: "a Service that became single-stack gives one of its two addresses back",
            config: DUAL,
            services: &[("a", "cluster=10.0.0.1 held=198.51.100.1,fd00::1"), ("b", "cluster=fd10::1")],
            expected: &["a 198.51.100.1", "b fd00::1"],
        },
    ]);
}

#[test]
fn what_is_asked_goes_first() {
    check(&[
        Case {
            sentence: "an asked address beats pools with auto-assign: by field, by annotation, by the old one",
            config: LAN,
            services: &[("a", ""), ("b", "ip=192.0.2.1"), ("c", "ips=192.0.2.2")],
            expected: &["a 192.0.2.3", "b 192.0.2.1", "c 192.0.2.2"],
        },
        Case {
            sentence: "field and annotation together are an error, even if equal",
            config: LAN,
            services: &[("a", "ip=192.0.2.2 ips=192.0.2.2")],
            expected: &["a - !both spec.loadBalancerIP and annotation metallb.io/loadBalancerIPs are set"],
        },
        Case {
            sentence: "one address per family may be asked, blanks around commas allowed",
            config: DUAL,
            services: &[("a", "cluster=10.0.0.1,fd10::1 policy=RequireDualStack ips=fd00::5,,198.51.100.5")],
            expected: &["a 198.51.100.5+fd00::5"],
        },
        Case {
            sentence: "two of one family are refused",
            config: LAN,
            services: &[("a", "ips=192.0.2.1,192.0.2.2")],
            expected: &["a - !more than one IPv4 address"],
        },
        Case {
            sentence: "an asked pool beats pools with auto-assign",
            config: TWO,
            services: &[("a", "pool=b"), ("b", "old:pool=b")],
            expected: &["a 198.51.100.1", "b 198.51.100.2"],
        },
        Case {
            sentence: "metallb.io/ wins over metallb.universe.tf/",
            config: TWO,
            services: &[("a", "pool=b old:pool=a"), ("b", "ips=192.0.2.10 old:ips=192.0.2.20")],
            expected: &["a 198.51.100.1", "b 192.0.2.10"],
        },
        Case {
            sentence: "an asked address outside the asked pool is an error",
            config: TWO,
            services: &[("a", "ips=192.0.2.20 pool=b")],
            expected: &[
                "a - !requested loadBalancer IP(s) [\"192.0.2.20\"] is not compatible with requested address pool b: it is in pool a",
            ],
        },
        Case {
            sentence: "asked addresses of two pools are an error",
            config: DUAL,
            services: &[("a", "cluster=10.0.0.1,fd10::1 policy=RequireDualStack ips=192.0.2.1,fd00::1")],
            expected: &["a - !are in two pools"],
        },
        Case {
            sentence: "nor does one that is held already make up for the pool of the other",
            config: DUAL,
            services: &[("a", "cluster=10.0.0.1,fd10::1 policy=RequireDualStack ips=192.0.2.1,fd00::1 held=192.0.2.1")],
            expected: &["a 192.0.2.1 !are in two pools"],
        },
        Case {
            sentence: "an address of no pool is not allowed",
            config: LAN,
            services: &[("a", "ips=203.0.113.1")],
            expected: &["a - ![\"203.0.113.1\"] is not allowed in config"],
        },
        Case {
            sentence: "an unknown pool is named",
            config: LAN,
            services: &[("a", "pool=x")],
            expected: &["a - !unknown pool \"x\""],
        },
        Case {
            sentence: "an address of the wrong family is refused",
            config: DUAL,
            services: &[("a", "ips=fd00::1")],
            expected: &["a - !requested loadBalancer IP(s) [\"fd00::1\"] does not match the ipFamily of the service"],
        },
        Case {
            sentence: "mended: a slip in the request keeps what is held (MetalLB keeps it too, v0.12 cleared it)",
            config: LAN,
            services: &[("a", "ips=192.0.2 held=192.0.2.2")],
            expected: &["a 192.0.2.2 !invalid requested loadbalancer IPs"],
        },
        Case {
            sentence: "auto-assign off: only by explicit address or pool",
            config: "address-pools: [{name: a, protocol: layer2, addresses: [192.0.2.1-192.0.2.9], auto-assign: false}]",
            services: &[("a", ""), ("b", "pool=a"), ("c", "ips=192.0.2.5")],
            expected: &["a - !all have auto-assign off", "b 192.0.2.1", "c 192.0.2.5"],
        },
    ]);
}

#[test]
fn the_order_of_giving() {
    check(&[
        Case {
            sentence: "entries as written, lowest free first",
            config: TWO,
            services: &[("a", ""), ("b", ""), ("c", "")],
            expected: &["a 192.0.2.20", "b 192.0.2.21", "c 192.0.2.10"],
        },
        Case {
            sentence: "mended: between pools the written order, not a random one",
            config: TWO,
            services: &[("a", "held=192.0.2.10"), ("b", "held=192.0.2.20"), ("c", "held=192.0.2.21"), ("d", "")],
            expected: &["a 192.0.2.10", "b 192.0.2.20", "c 192.0.2.21", "d 198.51.100.1"],
        },
        Case {
            sentence: "pools kept for a Service go before those for all, the lower priority first, 0 last",
            config: KEPT,
            services: &[("a", ""), ("b", ""), ("c", ""), ("d", "")],
            expected: &["a 192.0.2.3", "b 192.0.2.2", "c 192.0.2.1", "d - !no available IPs"],
        },
        Case {
            sentence: "by the labels of the Service and of its namespace",
            config: KEPT,
            services: &[("red/a", ""), ("red/b", "app=web"), ("blue/c", "")],
            expected: &["red/a 192.0.2.5", "red/b 192.0.2.4", "blue/c 192.0.2.1"],
        },
        Case {
            sentence: "a pool kept for others is refused on request",
            config: KEPT,
            services: &[("blue/a", "pool=soon"), ("blue/b", "ips=192.0.2.2")],
            expected: &["blue/a - !pool soon not compatible for ip assignment", "blue/b - !pool late not compatible"],
        },
        Case {
            sentence: "a kept pool without auto-assign is given on request only",
            config: KEPT,
            services: &[("a", "pool=hand"), ("b", "")],
            expected: &["a 192.0.2.6", "b 192.0.2.3"],
        },
        Case {
            sentence: "avoid-buggy-ips bars .0 and .255, for automatic and asked addresses alike",
            config: "address-pools: [{name: a, protocol: layer2, addresses: [192.0.2.254-192.0.3.1], avoid-buggy-ips: true}]",
            services: &[("a", ""), ("b", ""), ("c", "ips=192.0.3.0")],
            expected: &["a 192.0.2.254", "b 192.0.3.1", "c - !leaves out addresses ending in .0 and .255"],
        },
    ]);
}

#[test]
fn what_is_held_stays() {
    check(&[
        Case {
            sentence: "an existing address is kept whatever is free below",
            config: LAN,
            services: &[("a", "held=192.0.2.3"), ("b", "")],
            expected: &["a 192.0.2.3", "b 192.0.2.1"],
        },
        Case {
            sentence: "changing the asked address or pool moves the Service",
            config: TWO,
            services: &[("a", "ips=192.0.2.10 held=192.0.2.20"), ("b", "pool=b held=192.0.2.21")],
            expected: &["a 192.0.2.10", "b 198.51.100.1"],
        },
        Case {
            sentence: "removing the request does not",
            config: TWO,
            services: &[("a", "held=192.0.2.10"), ("b", "held=198.51.100.4")],
            expected: &["a 192.0.2.10", "b 198.51.100.4"],
        },
        Case {
            sentence: "an impossible request clears the old address and waits",
            config: LAN,
            services: &[("a", "ips=203.0.113.1 held=192.0.2.1"), ("b", "ips=192.0.2.1")],
            expected: &["a - !is not allowed in config", "b 192.0.2.1"],
        },
        Case {
            sentence: "renaming a pool around a held address is fine",
            config: "address-pools: [{name: other, protocol: layer2, addresses: [192.0.2.0/29]}]",
            services: &[("a", "held=192.0.2.3")],
            expected: &["a 192.0.2.3"],
        },
        Case {
            sentence: "splitting a pool between the two addresses of a Service is fine",
            config: "address-pools:
- {name: v4, protocol: layer2, addresses: [192.0.2.0/29]}
- {name: v6, protocol: layer2, addresses: ['fd00::/120']}",
            services: &[("a", "cluster=10.0.0.1,fd10::1 policy=RequireDualStack held=192.0.2.3,fd00::3")],
            expected: &["a 192.0.2.3+fd00::3"],
        },
        Case {
            sentence: "mended: a pool that is edited away renumbers nobody, and nobody else gets the address",
            config: LAN,
            services: &[("a", "held=203.0.113.1"), ("b", "ips=203.0.113.1")],
            expected: &["a 203.0.113.1", "b - !is not allowed in config"],
        },
        Case {
            sentence: "mended: who waits never takes the address of who held one before a restart",
            config: ONE,
            services: &[("a", ""), ("z", "held=192.0.2.1")],
            expected: &["a - !no available IPs of family IPv4 in pool \"one\"", "z 192.0.2.1"],
        },
        Case {
            sentence: "a Service that lost its address gets one again",
            config: LAN,
            services: &[("a", ""), ("b", "held=192.0.2.1")],
            expected: &["a 192.0.2.2", "b 192.0.2.1"],
        },
    ]);
}

#[test]
fn sharing_by_key() {
    let holder = ("a", "share=k tcp/80 held=192.0.2.1");
    check(&[
        Case {
            sentence: "same key, other ports: sharers land together even unasked",
            config: LAN,
            services: &[("a", "share=k tcp/80"), ("b", "share=k tcp/443"), ("c", "share=k udp/80")],
            expected: &["a 192.0.2.1", "b 192.0.2.1", "c 192.0.2.1"],
        },
        Case {
            sentence: "any namespace",
            config: LAN,
            services: &[("red/a", "share=k tcp/80"), ("blue/b", "share=k tcp/443")],
            expected: &["red/a 192.0.2.1", "blue/b 192.0.2.1"],
        },
        Case {
            sentence: "a common port keeps them apart",
            config: LAN,
            services: &[holder, ("b", "share=k tcp/80")],
            expected: &["a 192.0.2.1", "b 192.0.2.2"],
        },
        Case {
            sentence: "an empty key shares nothing, nor do different keys",
            config: LAN,
            services: &[holder, ("b", "share= tcp/81"), ("c", "share=j tcp/82")],
            expected: &["a 192.0.2.1", "b 192.0.2.2", "c 192.0.2.3"],
        },
        Case {
            sentence: "both Cluster, or both Local with identical selectors",
            config: LAN,
            services: &[
                ("a", "share=k local=web tcp/80"),
                ("b", "share=k local=web tcp/81"),
                ("c", "share=k tcp/82"),
                ("d", "share=k local=api tcp/83"),
            ],
            expected: &["a 192.0.2.1", "b 192.0.2.1", "c 192.0.2.2", "d 192.0.2.3"],
        },
        Case {
            sentence: "a refusal names the Service and the rule in the way: no key",
            config: ONE,
            services: &[holder, ("b", "ips=192.0.2.1 tcp/81")],
            expected: &[
                "a 192.0.2.1",
                "b - !can't change sharing key for \"default/b\", address also in use by default/a",
            ],
        },
        Case {
            sentence: "... the traffic policy",
            config: ONE,
            services: &[holder, ("b", "ips=192.0.2.1 share=k local=web tcp/81")],
            expected: &["a 192.0.2.1", "b - !by default/a with another externalTrafficPolicy"],
        },
        Case {
            sentence: "... the port",
            config: ONE,
            services: &[holder, ("b", "ips=192.0.2.1 share=k tcp/81 tcp/80")],
            expected: &["a 192.0.2.1", "b - !port tcp/80 is already in use on \"192.0.2.1\" by Service default/a"],
        },
        Case {
            sentence: "alone on an address a Service may change key and ports in place",
            config: LAN,
            services: &[("a", "share=new tcp/81 held=192.0.2.2")],
            expected: &["a 192.0.2.2"],
        },
        Case {
            sentence: "in company an incompatible change moves it",
            config: LAN,
            services: &[
                ("a", "share=other tcp/80 held=192.0.2.1"),
                ("b", "share=k tcp/81 held=192.0.2.1"),
                ("c", "share=k tcp/82 held=192.0.2.1"),
            ],
            expected: &["a 192.0.2.2", "b 192.0.2.1", "c 192.0.2.1"],
        },
        Case {
            sentence: "a change of policy in company moves it as well",
            config: LAN,
            services: &[
                ("a", "share=k local=web tcp/80 held=192.0.2.1"),
                ("b", "share=k tcp/81 held=192.0.2.1"),
                ("c", "share=k tcp/82 held=192.0.2.1"),
            ],
            expected: &["a 192.0.2.2", "b 192.0.2.1", "c 192.0.2.1"],
        },
    ]);
}

#[test]
fn who_waits_is_served_by_every_freeing_event() {
    let full = [("a", "share=k tcp/80 held=192.0.2.1"), ("w", "share=k tcp/80")];
    let waits = ["a 192.0.2.1", "w - !no available IPs"];
    let row = |sentence, config, holder: (&'static str, &'static str), expected| {
        let before = Case { sentence: "nothing is free", config: ONE, services: &full, expected: &waits };
        check(&[before, Case { sentence, config, services: &[holder, full[1]], expected }]);
    };
    row("its type changes", ONE, ("a", "type=ClusterIP held=192.0.2.1"), &["a cleared", "w 192.0.2.1"]);
    row("its ports change", ONE, ("a", "share=k tcp/81 held=192.0.2.1"), &["a 192.0.2.1", "w 192.0.2.1"]);
    row("the pool widens", LAN, full[0], &["a 192.0.2.1", "w 192.0.2.2"]);
    row("it asks for another", TWO, ("a", "ips=192.0.2.10 held=192.0.2.1"), &["a 192.0.2.10", "w 192.0.2.20"]);
    check(&[Case { sentence: "it is deleted", config: ONE, services: &full[1..], expected: &["w 192.0.2.1"] }]);
}

#[test]
fn addresses_of_others_are_given_only_where_a_pool_says_so() {
    const EDGE: &str = "address-pools: [{name: lan, protocol: layer2, addresses: [192.0.2.0-192.0.2.3]}]";
    const OPEN: &str = "address-pools: [{name: lan, protocol: layer2, addresses: [192.0.2.0-192.0.2.3], allow-reserved-addresses: true}]";
    const SIX: &str = "address-pools: [{name: lan, protocol: layer2, addresses: ['2001:db8::-2001:db8::1']}]";
    // The LAN of `support` is 192.0.2.0/30 and 2001:db8::/64; .1 is a node, .2 a gateway.
    support::check_on_lan(&[
        Case {
            sentence: "node, gateway, network and broadcast addresses are not given, and the refusal names one",
            config: EDGE,
            services: &[("a", "")],
            expected: &[
                "a - !no available IPs of family IPv4 in pool \"lan\" (192.0.2.0 is not given: it is the network address of the LAN 192.0.2.0/30, and 3 more are reserved)",
            ],
        },
        Case {
            sentence: "not even on request: the node's",
            config: EDGE,
            services: &[("a", "ips=192.0.2.1")],
            expected: &[
                "a - !it is an address of node n1; ask for another, or give its pool allow-reserved-addresses: true",
            ],
        },
        Case {
            sentence: "not even on request: the gateway's, the broadcast address",
            config: EDGE,
            services: &[("a", "ips=192.0.2.2"), ("b", "ips=192.0.2.3")],
            expected: &["a - !it is the address of a gateway", "b - !it is the broadcast address of the LAN"],
        },
        Case {
            sentence: "who holds one keeps it",
            config: EDGE,
            services: &[("a", "held=192.0.2.2")],
            expected: &["a 192.0.2.2"],
        },
        Case {
            sentence: "a pool may say that they are to be given",
            config: OPEN,
            services: &[("a", ""), ("b", "ips=192.0.2.1")],
            expected: &["a 192.0.2.0", "b 192.0.2.1"],
        },
        Case {
            sentence: "the anycast address of an IPv6 subnet's routers is not given",
            config: SIX,
            services: &[("a", "cluster=fd10::1"), ("b", "cluster=fd10::2 ips=2001:db8::")],
            expected: &["a 2001:db8::1", "b - !it is the anycast address of the routers in 2001:db8::/64"],
        },
    ]);
}

#[test]
fn a_class_is_served_alone_and_let_go_with_the_type() {
    support::check_class(
        "x",
        &[Case {
            sentence: "with --lb-class only that class; a Service that changed its type has lost its class with it",
            config: LAN,
            services: &[("a", "class=x"), ("b", ""), ("c", "type=ClusterIP held=192.0.2.3"), ("d", "class=y")],
            expected: &["a 192.0.2.1", "b untouched", "c cleared", "d untouched"],
        }],
    );
}

#[test]
fn a_policy_may_renumber_where_pools_changed() {
    support::check_reassigning(&[
        Case {
            sentence: "an address of no pool any more is given up",
            config: LAN,
            services: &[("a", "held=203.0.113.1")],
            expected: &["a 192.0.2.1"],
        },
        Case {
            sentence: "so is one of a pool that is kept for others now",
            config: KEPT,
            services: &[("blue/a", "held=192.0.2.3")],
            expected: &["blue/a 192.0.2.1"],
        },
    ]);
}
