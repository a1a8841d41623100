//! Hosts and paths: canonical spelling is a fixed point, and the route table agrees with asking every rule in turn.
#![no_main]

use std::sync::{Arc, LazyLock};

use config::object::ObjectName;
use config::snapshot::Snapshot;
use ingress::certs::{Certificate, generate_default};
use ingress::compile::{CompileOptions, Publish, compile};
use ingress::gate::authority::Authority;
use ingress::host::HostMatch;
use ingress::path::{self, PathMatch};
use jiff::Timestamp;
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

static DEFAULT: LazyLock<Arc<Certificate>> =
    LazyLock::new(|| Arc::new(generate_default(Timestamp::UNIX_EPOCH).expect("a key can be made")));

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

    let Some(authority) = Authority::parse(input.host) else { return };
    let host = authority.host();
    let table = compile(&snapshot(&input.rules), &options(), &DEFAULT, None, Timestamp::UNIX_EPOCH).table;
    let found = table.find(&host, canonical);
    // The slow way: the most specific host that matches owns the request, even when a path of it was refused; of its
    // rules the first that matches.
    let rules: Vec<_> =
        input.rules.iter().take(16).filter_map(|rule| Some((HostMatch::parse(rule.0).ok()?, rule))).collect();
    let owner = rules.iter().map(|(rule, _)| rule).filter(|rule| rule.matches(&host)).min();
    let of_owner = rules.iter().filter(|(rule, _)| Some(rule) == owner);
    let paths: Vec<_> =
        of_owner.filter_map(|(_, (_, path, kind))| PathMatch::parse(path, kind_of(*kind)).ok()).collect();
    let best = paths.iter().filter(|path| path.matches(canonical)).min();
    assert_eq!(found.map(|route| &route.path), best, "{host}{canonical}");
});

fn kind_of(number: u8) -> &'static str {
    KINDS[usize::from(number) % KINDS.len()]
}

/// One Ingress of our class for each rule.
fn snapshot(rules: &[(&str, &str, u8)]) -> Snapshot {
    let ingress = |(index, (host, path, kind)): (usize, &(&str, &str, u8))| {
        let service = IngressServiceBackend {
            name: "web".to_owned(),
            port: Some(ServiceBackendPort { number: Some(80), ..Default::default() }),
        };
        let path = HTTPIngressPath {
            path: Some((*path).to_owned()),
            path_type: kind_of(*kind).to_owned(),
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
        publish: Publish::UsualService,
        loopback_endpoints: false,
        node: None,
        external_names: false,
        config_map: config::object::ObjectName::new("ingress-nginx", "ingress-nginx-controller"),
        streams: ingress::compile::StreamMaps::default(),
    }
}
