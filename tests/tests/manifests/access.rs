//! What each role may do is what it does.
//!
//! A role does everything it ever does before an API server that keeps record; its requests are then compared with its
//! grants, in both directions.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use ferrogate_tests::api_server::ApiServer;
use ferrogate_tests::api_server::failure::Failure;
use ferrogate_tests::api_server::faults::{Fault, Match, Request};
use ferrogate_tests::api_server::kinds::RESOURCES;
use ferrogate_tests::loopback;
use ferrogate_tests::manifests::Ingress;
use ferrogate_tests::pebble::{Options, Pebble};
use ferrogate_tests::skip_unless_pebble;
use ferrogate_tests::wait::until;
use serde_json::{Value, json};

use crate::objects::{self, NAMESPACE, documents, find, pools, text, texts};
use crate::roles::{Role, Running, namespaces, published, shown, work};

/// Something that is granted, or done; without a name for objects of any, without a namespace for those of all.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Access {
    group: String,
    resource: String,
    verb: String,
    name: Option<String>,
    namespace: Option<String>,
}

impl Access {
    /// Whether this grant allows that use.
    fn covers(&self, used: &Self) -> bool {
        let within = |granted: &Option<String>, used: &Option<String>| granted.is_none() || granted == used;
        (&self.group, &self.resource, &self.verb) == (&used.group, &used.resource, &used.verb)
            && within(&self.name, &used.name)
            && within(&self.namespace, &used.namespace)
    }

    fn of(request: &Request) -> Self {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let (namespace, name) = request.name.split_once('/').unwrap_or(("", &request.name));
        let (group, resource, verb) = (request.group.to_owned(), request.resource.clone(), request.verb.to_owned());
        Self { group, resource, verb, name: some(name), namespace: some(namespace) }
    }
}

/// Every verb that the base grants to the `ServiceAccount` of a role.
fn grants(role: Role) -> BTreeSet<Access> {
    let (base, mut grants) = (objects::base(), BTreeSet::new());
    for binding in base.iter().filter(|object| text(&object["kind"]).ends_with("RoleBinding")) {
        let is_ours = |subject: &Value| {
            (text(&subject["kind"]), text(&subject["name"]), text(&subject["namespace"]))
                == ("ServiceAccount", role.name(), NAMESPACE)
        };
        if binding["subjects"].as_array().is_some_and(|subjects| subjects.iter().any(is_ours)) {
            let namespace = binding["metadata"]["namespace"].as_str().map(str::to_owned);
            let granted = find(&base, text(&binding["roleRef"]["kind"]), text(&binding["roleRef"]["name"]));
            grants.extend(
                granted["rules"].as_array().into_iter().flatten().flat_map(|rule| verbs(rule, namespace.as_deref())),
            );
        }
    }
    grants
}

/// One rule, spelled out.
fn verbs(rule: &Value, namespace: Option<&str>) -> Vec<Access> {
    let names = match texts(&rule["resourceNames"]) {
        names if names.is_empty() => vec![None],
        names => names.into_iter().map(Some).collect(),
    };
    let mut all = Vec::new();
    for group in texts(&rule["apiGroups"]) {
        for resource in texts(&rule["resources"]) {
            for verb in texts(&rule["verbs"]) {
                let access = |name: &Option<String>| Access {
                    group: group.clone(),
                    resource: resource.clone(),
                    verb: verb.clone(),
                    name: name.clone(),
                    namespace: namespace.map(str::to_owned),
                };
                all.extend(names.iter().map(access));
            }
        }
    }
    all
}

/// Everything that a role asks for in its life.
async fn uses(role: Role) -> BTreeSet<Access> {
    let server = ApiServer::start().expect("a free loopback port");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let kubeconfig = server.kubeconfig(folder.path()).expect("a writable folder");
    // As before Kubernetes 1.32: without streaming lists, so that everything is listed too.
    for resource in RESOURCES {
        let which = Match { verb: "watch", resource: resource.plural };
        // The ingress follows two ConfigMaps.
        let times = if role == Role::Ingress && resource.plural == "configmaps" { 2 } else { 1 };
        server.faults().inject(which, Fault::Refuse(Failure::new(422, "sendInitialEvents is forbidden")), times);
    }
    let put = |object: &Value| server.put(object).expect("a kind it serves");
    let base = objects::base();
    for object in &namespaces() {
        put(object);
    }
    put(find(&base, "IngressClass", "ferrogate"));
    let service = put(find(&base, "Service", "ferrogate-ingress"));
    for object in &work() {
        put(object);
    }
    if role == Role::Ingress {
        server.put_status(&published(&service)).expect("the Service is there");
    }
    if role == Role::Speaker {
        // Somebody who is said to be there and whose heartbeats never come.
        let silent = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": "n2" } });
        let mut silent = server.put(&silent).expect("a kind it serves");
        let address = json!({ "type": "InternalIP", "address": "127.0.0.2" });
        silent["status"] = json!({ "addresses": [address] });
        server.put_status(&silent).expect("the Node is there");
    }
    let count = |verb: &str, resource: &str| server.faults().count(&[verb], resource);
    let awaits = async |verb: &str, resource: &str, times: usize| {
        until(&format!("{verb} {resource}"), async || match count(verb, resource) {
            seen if seen >= times => Ok(()),
            seen => Err(format!("{seen} of {times}")),
        })
        .await;
    };

    let ip = loopback::address();
    let (http, admin) = (loopback::port(ip), loopback::port(ip));
    let ca = ca(role, http).await;
    if let Some(pebble) = &ca {
        order_from(&server, pebble);
    }
    let mut first = role.start_on(&kubeconfig, http, admin);
    let kind = if role == Role::Speaker { "Service" } else { "Ingress" };
    until("an answer", async || shown(server.get(kind, "shop", "web"))).await;
    if ca.is_some() {
        certificate_comes_and_is_renewed(&server, &first).await;
    }
    let reason = role.complaint();
    role.wrong(&server, true);
    let told = async || server.all("Event").into_iter().find(|it| it["reason"] == reason).ok_or("none");
    until(reason, told).await;
    awaits("update", "leases", 1).await;
    if role == Role::Speaker {
        awaits("patch", "leases", 2).await;
    }
    until("the state on disk", async || if first.has_kept_state() { Ok(()) } else { Err("none") }).await;
    first.end().await;

    // Another one takes over, knows what was told, and counts it up when it comes back.
    let mut second = role.start(&kubeconfig);
    awaits("list", "events", 2).await;
    for _ in 0..3 {
        second.knows(role.symptom(), true).await;
        role.wrong(&server, false);
        second.knows(role.symptom(), false).await;
        role.wrong(&server, true);
    }
    awaits("patch", "events", 1).await;
    second.end().await;
    if role == Role::Ingress {
        let told = server.all("Event").into_iter().any(|it| it["reason"] == "ConfigStale");
        assert!(!told, "what the leader of the speakers tells, no other leader does");
    }
    server.faults().requests().iter().map(Access::of).collect()
}

/// Who issues certificates to the ingress.
async fn ca(role: Role, http: SocketAddr) -> Option<Pebble> {
    let IpAddr::V4(ip) = http.ip() else { return None };
    let options = Options {
        targets: vec![ip],
        http: http.port(),
        tls: http.port(),
        slow: false,
        bad_nonces: 5,
        dns: None,
        customer: None,
    };
    if role == Role::Ingress { Some(Pebble::start(options).await) } else { None }
}

fn with_issuer(mut config: Value, pebble: &Pebble) -> Value {
    config["data"]["acme"] = format!("issuers:\n{}", pebble.issuer("")).into();
    config
}

/// An Ingress that asks the CA for a certificate.
fn order_from(server: &ApiServer, pebble: &Pebble) {
    server.put(&with_issuer(pools("10.0.0.0/24"), pebble)).expect("a kind it serves");
    let ingress = Ingress::new("shop", "asks").rule("asks.example.com", "/", "web").tls("asks", &["asks.example.com"]);
    let mut ingress = documents(&ingress.yaml()).remove(0);
    ingress["metadata"]["annotations"]["kubernetes.io/tls-acme"] = "true".into();
    server.put(&ingress).expect("a kind it serves");
}

async fn certificate_comes_and_is_renewed(server: &ApiServer, running: &Running) {
    let held = || server.get("Secret", "shop", "asks").map(|secret| secret["data"]["tls.crt"].clone());
    let first = until("a certificate", async || held().map_err(|failure| failure.message)).await;
    until("an operator is heard", async || if running.renew("shop/asks") { Ok(()) } else { Err("not yet") }).await;
    until("another certificate", async || match held() {
        Ok(now) if now != first => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}

async fn compare(role: Role) {
    let (uses, grants) = (uses(role).await, grants(role));
    let refused: Vec<_> = uses.iter().filter(|used| !grants.iter().any(|grant| grant.covers(used))).collect();
    assert!(refused.is_empty(), "{} does what it may not: {refused:#?}", role.name());
    for grant in &grants {
        assert!(uses.iter().any(|used| grant.covers(used)), "{} never needs {grant:?}", role.name());
        // Somewhere else than in our own namespace, or in all at once.
        let is_wide = |used: &&Access| {
            (&used.group, &used.resource) == (&grant.group, &grant.resource)
                && used.namespace.as_deref() != Some(NAMESPACE)
        };
        let needs_all = grant.namespace.is_some() || uses.iter().any(|used| is_wide(&used));
        assert!(needs_all, "a Role would do for {grant:?}: {} uses it in {NAMESPACE} only", role.name());
        // What is there yet has a name.
        let is_named = grant.namespace.is_none() || grant.name.is_some() || grant.verb == "create";
        assert!(is_named, "{grant:?} names no object, though {} knows which", role.name());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_speaker_may_do_what_it_does_and_nothing_else() {
    compare(Role::Speaker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ingress_may_do_what_it_does_and_nothing_else() {
    skip_unless_pebble!();
    compare(Role::Ingress).await;
}
