//! Every field of MetalLB's configuration wrong in turn: the last good configuration stays, and the operator is told
//! which line to mend.

use ferrogate_tests::appliance::Appliance;
use ferrogate_tests::manifests::{config_map, load_balancer};
use ferrogate_tests::source::Source;
use ferrogate_tests::wait::until;
use serde_json::Value;

use crate::shop::{self, HOST};

/// Every field once, all valid. `VIP` stands for the pool of the test's own address.
const GOOD: &str = "\
peers:
- my-asn: 64500
  peer-asn: 64501
  peer-address: 192.0.2.1
  peer-port: 179
  source-address: 192.0.2.2
  router-id: 192.0.2.3
  hold-time: 90s
  keepalive-time: 30s
  password: secret
  ebgp-multihop: true
  bfd-profile: fast
  node-selectors:
  - match-labels:
      rack: a
    match-expressions:
    - key: zone
      operator: In
      values: [x, y]
bgp-communities:
  no-advertise: 65535:65282
bfd-profiles:
- name: fast
  receive-interval: 101
  transmit-interval: 102
  echo-interval: 103
  detect-multiplier: 3
  minimum-ttl: 254
  echo-mode: false
  passive-mode: false
address-pools:
- name: edge
  protocol: layer2
  addresses:
  - VIP/32
  auto-assign: true
  avoid-buggy-ips: false
- name: routed
  protocol: bgp
  addresses:
  - 198.51.100.0/24
  - 203.0.113.10-203.0.113.20
  bgp-advertisements:
  - aggregation-length: 32
    aggregation-length-v6: 128
    localpref: 100
    communities: [no-advertise, 64500:1]
";

/// What is written instead of what, and the text on the line that has to be named.
const MUTATIONS: &[(&str, &str, &str)] = &[
    ("my-asn: 64500", "my-asn: 0", "my-asn"),
    ("my-asn: 64500", "my-asn: 1.10", "my-asn"),
    ("my-asn: 64500", "my-asn: \"64500\"", "my-asn"),
    ("my-asn: 64500", "my-asn: 4294967296", "my-asn"),
    ("my-asn: 64500", "my_asn: 64500", "my_asn"),
    ("peer-asn: 64501", "peer-asn: -1", "peer-asn"),
    ("peer-asn: 64501", "peer-asn: 0", "peer-asn"),
    ("peer-address: 192.0.2.1", "peer-address: router.example", "peer-address"),
    ("peer-address: 192.0.2.1", "peer-address: 192.0.2.256", "peer-address"),
    ("peer-port: 179", "peer-port: 65536", "peer-port"),
    ("source-address: 192.0.2.2", "source-address: here", "source-address"),
    ("router-id: 192.0.2.3", "router-id: 7", "router-id"),
    ("hold-time: 90s", "hold-time: 2s", "hold-time"),
    ("hold-time: 90s", "hold-time: 90", "hold-time"),
    ("keepalive-time: 30s", "keepalive-time: 91s", "keepalive-time"),
    ("keepalive-time: 30s", "keepalive-time: soon", "keepalive-time"),
    ("password: secret", "password: [secret]", "password"),
    ("ebgp-multihop: true", "ebgp-multihop: maybe", "ebgp-multihop"),
    ("bfd-profile: fast", "bfd-profile: slow", "bfd-profile: slow"),
    ("bfd-profile: fast", "bfdProfile: fast", "bfdProfile"),
    ("rack: a", "rack: [a]", "rack"),
    ("operator: In", "operator: Within", "operator"),
    ("operator: In", "operator: Exists", "values"),
    ("no-advertise: 65535:65282", "no-advertise: 65536:1", "no-advertise: 65536"),
    ("no-advertise: 65535:65282", "no-advertise: well-known", "no-advertise: well"),
    ("- name: fast", "- name: \"\"", "name: \"\""),
    ("receive-interval: 101", "receive-interval: 9", "receive-interval"),
    ("transmit-interval: 102", "transmit-interval: 60001", "transmit-interval"),
    ("echo-interval: 103", "echo-interval: often", "echo-interval"),
    ("detect-multiplier: 3", "detect-multiplier: 1", "detect-multiplier"),
    ("minimum-ttl: 254", "minimum-ttl: 255", "minimum-ttl"),
    ("echo-mode: false", "echo-mode: 0", "echo-mode"),
    ("passive-mode: false", "passive-mode: never", "passive-mode"),
    ("- name: edge", "- name: routed", "name: routed"),
    ("- name: edge", "- nmae: edge", "nmae"),
    ("protocol: layer2", "protocol: Layer2", "protocol: Layer2"),
    ("protocol: layer2", "protocol: arp", "protocol: arp"),
    ("VIP/32", "VIP", "VIP"),
    ("VIP/32", "VIP/33", "VIP/33"),
    ("VIP/32", "127.0.0.9-127.0.0.1", "127.0.0.9"),
    ("VIP/32", "127.0.0.1-::1", "127.0.0.1-::1"),
    ("VIP/32", "127.0.0.01/32", "127.0.0.01"),
    ("VIP/32", "198.51.100.7/32", "198.51.100"),
    ("auto-assign: true", "auto-assign: perhaps", "auto-assign"),
    ("auto-assign: true", "auto-assign: true\n  auto-assign: true", "auto-assign"),
    ("avoid-buggy-ips: false", "avoid-buggy-ips: 1", "avoid-buggy-ips"),
    ("protocol: bgp", "protocol: layer2", "bgp-advertisements"),
    ("203.0.113.10-203.0.113.20", "203.0.113.10-20", "203.0.113.10-20"),
    ("aggregation-length: 32", "aggregation-length: 33", "aggregation-length: 33"),
    ("aggregation-length: 32", "aggregation-length: 23", "aggregation-length: 23"),
    ("aggregation-length-v6: 128", "aggregation-length-v6: 129", "aggregation-length-v6"),
    ("localpref: 100", "localpref: high", "localpref"),
    ("[no-advertise, 64500:1]", "[no-advertise, no-export]", "no-export"),
    ("[no-advertise, 64500:1]", "[64500:1, 64500:1]", "64500:1"),
    ("address-pools:", "address-pool:", "address-pool:"),
    ("peers:", "peers: {}\nother:", "other:"),
];

/// The file of a configuration, with the lines (from 1) that hold `marker`.
fn file(text: &str, vip: &str, marker: &str) -> (String, Vec<usize>) {
    let (file, marker) = (config_map(&text.replace("VIP", vip)), marker.replace("VIP", vip));
    let holds = |(index, line): (usize, &str)| line.contains(&marker).then_some(index + 1);
    let lines = file.lines().enumerate().filter_map(holds).collect();
    (file, lines)
}

async fn stale(appliance: &Appliance) -> bool {
    appliance.metrics().await.sum("metallb_k8s_client_config_stale_bool", &[]) == Some(1.0)
}

/// Waits until the one Service has its address; returns all addresses.
async fn has(appliance: &Appliance, vip: &str) -> Vec<(String, String)> {
    until("the address", async || {
        let addresses = appliance.addresses().await;
        if addresses == [("shop/edge".to_owned(), vip.to_owned())] {
            Ok(addresses)
        } else {
            Err(format!("{addresses:?}"))
        }
    })
    .await
}

/// Whether a problem is an error of the `ConfigMap`, and as far as there are files on one of these lines.
fn is_named(problem: &Value, source: &Source, lines: &[usize]) -> bool {
    problem["severity"] == "error"
        && problem["object"] == "ConfigMap metallb-system/config"
        && (!source.is_folder() || is_placed(problem, lines))
}

fn is_placed(problem: &Value, lines: &[usize]) -> bool {
    problem["file"].as_str().is_some_and(|file| file.ends_with("config.yaml"))
        && problem["column"].as_u64().is_some_and(|column| column > 4)
        && problem["line"].as_u64().is_some_and(|line| lines.iter().any(|&wanted| wanted as u64 == line))
}

async fn each_wrong_field_is_named_with_its_line_and_the_last_good_config_stays(source: Source) {
    let web = source.named("web").await;
    shop::stock(&source, &[web.address]);
    let builder = source.builder();
    let vip = builder.ip().to_string();
    let (good, _) = file(GOOD, &vip, "");
    source.write("config.yaml", &good);
    source.write("vip.yaml", &load_balancer("shop", "edge"));
    let appliance = builder.start().await;
    assert_eq!(appliance.problems().await, Vec::<Value>::new());
    let addresses = has(&appliance, &vip).await;

    let mut wrong = Vec::new();
    for (field, instead, marker) in MUTATIONS {
        assert!(GOOD.contains(field), "{field} is not in the valid configuration");
        let (text, lines) = file(&GOOD.replacen(field, instead, 1), &vip, marker);
        assert!(!lines.is_empty(), "{marker} is not in the configuration with {instead}");
        source.write("config.yaml", &text);
        until(&format!("staleness with {instead:?}"), async || {
            if stale(&appliance).await { Ok(()) } else { Err("the configuration is not stale") }
        })
        .await;
        let problems = appliance.problems().await;
        if !problems.iter().any(|problem| is_named(problem, &source, &lines)) {
            wrong.push(format!("{instead:?} should be named at line {lines:?}: {problems:?}"));
        }
        assert_eq!(appliance.addresses().await, addresses, "with {instead:?}");
        assert_eq!(appliance.get(HOST, "/").await.expect("an answer").text(), "web", "with {instead:?}");

        source.write("config.yaml", &good);
        until(&format!("recovery from {instead:?}"), async || {
            let problems = appliance.problems().await;
            if problems.is_empty() && !stale(&appliance).await { Ok(()) } else { Err(format!("{problems:?}")) }
        })
        .await;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

async fn a_deleted_config_takes_no_address_away(source: Source) {
    let web = source.named("web").await;
    shop::stock(&source, &[web.address]);
    let builder = source.builder();
    let vip = builder.ip().to_string();
    source.write("config.yaml", &ferrogate_tests::manifests::pool(&[&format!("{vip}/32")]));
    source.write("vip.yaml", &load_balancer("shop", "edge"));
    let appliance = builder.start().await;
    let addresses = has(&appliance, &vip).await;
    source.remove("config.yaml");
    until("staleness without a configuration", async || {
        if stale(&appliance).await { Ok(()) } else { Err("the configuration is not stale") }
    })
    .await;
    assert_eq!(appliance.addresses().await, addresses);
}

from_both!(
    each_wrong_field_is_named_with_its_line_and_the_last_good_config_stays,
    a_deleted_config_takes_no_address_away,
);
