//! Hosts and paths: canonical spelling is a fixed point, and the route table agrees with asking every rule in turn.
#![no_main]

use std::sync::Arc;

use config::object::ObjectName;
use config::snapshot::Snapshot;
use ingress::compile::{CompileOptions, compile};
use ingress::host::HostMatch;
use ingress::path::{self, PathMatch};
use k8s_openapi::api::networking::v1::{
    HTTPIngressPath, HTTPIngressRuleValue, Ingress, IngressBackend, IngressRule, IngressServiceBackend, IngressSpec,
    ServiceBackendPort,
};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    rules: Vec<(&'a str, &'a str, u8)>,
    host: &'a str,
    path: &'a str,
}

const KINDS: [&str; 3] = ["Exact", "Prefix", "ImplementationSpecific"];

fuzz_target!(|input: Input| {
    if let Ok(host) = HostMatch::parse(input.host) {
        let written = if host == HostMatch::Any { String::new() } else { host.to_string() };
        assert_eq!(HostMatch::parse(&written), Ok(host), "what is written is read back");
    }
    let Ok(normal) = path::normalise(input.path) else { return };
    let canonical = normal.matched();
    assert!(
        canonical.starts_with('/') && !canonical.contains("//") && !canonical.split('/').any(|e| e == "." || e == "..")
    );
    assert_eq!(path::normalise(canonical).map(|again| again.matched().to_owned()), Ok(canonical.to_owned()));

    let host = input.host.to_ascii_lowercase();
    let table = compile(&snapshot(&input.rules), &options(), None).table;
    let found = table.find(&host, canonical);
    // The slow way: of all hosts that match the most specific; of its rules that match the first.
    let rules = input.rules.iter().take(16).filter_map(|(host, path, kind)| {
        Some((HostMatch::parse(host).ok()?, PathMatch::parse(path, KINDS[usize::from(*kind) % 3]).ok()?))
    });
    let rules: Vec<_> = rules.collect();
    let owner = rules.iter().map(|(rule, _)| rule).filter(|rule| rule.matches(&host)).min();
    let best =
        rules.iter().filter(|(rule, path)| Some(rule) == owner && path.matches(canonical)).map(|(_, path)| path).min();
    assert_eq!(found.map(|route| &route.path), best, "{host}{canonical}");
});

/// One Ingress of our class for each rule.
fn snapshot(rules: &[(&str, &str, u8)]) -> Snapshot {
    let ingress = |(index, (host, path, kind)): (usize, &(&str, &str, u8))| {
        let service = IngressServiceBackend {
            name: "web".to_owned(),
            port: Some(ServiceBackendPort { number: Some(80), ..Default::default() }),
        };
        let path = HTTPIngressPath {
            path: Some((*path).to_owned()),
            path_type: KINDS[usize::from(*kind) % 3].to_owned(),
            backend: IngressBackend { service: Some(service), resource: None },
        };
        let host = (!host.is_empty()).then(|| (*host).to_owned());
        let rule = IngressRule { host, http: Some(HTTPIngressRuleValue { paths: vec![path] }) };
        let mut ingress = Ingress::default();
        ingress.spec = Some(IngressSpec { rules: Some(vec![rule]), ..Default::default() });
        (ObjectName::new("fuzz", format!("i{index:02}")), Arc::new(ingress))
    };
    let ingresses = rules.iter().take(16).enumerate().map(ingress).collect();
    Snapshot { ingresses: Arc::new(ingresses), ..Snapshot::default() }
}

fn options() -> CompileOptions {
    CompileOptions {
        ingress_class: "ferrogate".to_owned(),
        controller: "ferrogate.io/ingress-controller".to_owned(),
        watch_without_class: true,
        publish_service: None,
        loopback_endpoints: false,
    }
}
