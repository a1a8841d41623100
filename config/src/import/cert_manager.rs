//! The issuers and certificates of cert-manager, as the `acme` section of our `ConfigMap`.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::{Map, Value as Json, json as value};

use super::{Fate, Foreign, Import, Texts, Verdict, config_map, json, objects, texts_of};
use crate::diagnostic::Severity;
use crate::issuer;
use crate::object::{Kind, ObjectName, ObjectRef};
use crate::settings::{DEFAULT_CONFIG_MAP, ISSUERS_KEY};
use crate::yaml::{Node, Value};

/// What becomes of the objects of cert-manager.
#[must_use]
pub fn cert_manager(texts: &Texts) -> Import {
    let mut verdicts = Vec::new();
    let mut issuers = BTreeMap::new();
    for object in objects(texts).iter().filter(|it| it.group == "cert-manager.io") {
        match object.kind.as_str() {
            "Issuer" | "ClusterIssuer" => {
                let (verdict, issuer) = issuer(object, issuers.contains_key(&object.name));
                verdicts.push(verdict);
                issuers.extend(issuer.map(|issuer| (object.name.clone(), issuer)));
            }
            "Certificate" => verdicts.push(certificate(object)),
            _ => {}
        }
    }
    let apply = (!issuers.is_empty()).then(|| config_map(ISSUERS_KEY, &section(&issuers)));
    Import { objects: verdicts, apply }
}

fn section(issuers: &BTreeMap<String, Json>) -> String {
    let lines: Vec<_> = issuers.iter().map(|(name, issuer)| format!("  {}: {issuer}\n", value!(name))).collect();
    format!("issuers:\n{}", lines.concat())
}

/// An issuer in our words, if it is one that we can ask.
fn issuer(object: &Foreign, is_taken: bool) -> (Verdict, Option<Json>) {
    let mut verdict = object.verdict();
    if object.spec(&["acme"]).is_none() {
        verdict.note(Fate::Unsupported, "only issuers that speak ACME are asked; keep cert-manager for this one");
        return (verdict, None);
    }
    if is_taken {
        verdict
            .note(Fate::Unsupported, "another issuer has this name, and ours have no namespace; give it another name");
        return (verdict, None);
    }
    let mut fields = Map::new();
    for key in ["server", "email", "preferredChain", "profile"] {
        if let Some(node) = object.spec(&["acme", key]) {
            fields.insert(key.to_owned(), json(node, str::to_owned));
        }
    }
    if let Some(node) = object.spec(&["acme", "externalAccountBinding"]) {
        let mut binding = json(node, str::to_owned);
        // What only cert-manager of old knew.
        binding.as_object_mut().map(|binding| binding.remove("keyAlgorithm"));
        // The Secret stays where it is.
        if let (Some(namespace), Some(secret)) = (&object.namespace, binding.get_mut("keySecretRef")) {
            secret["namespace"] = value!(namespace);
        }
        fields.insert("externalAccountBinding".to_owned(), binding);
    }
    if object.spec(&["acme", "caBundle"]).is_some() {
        verdict.note(Fate::Unsupported, "caBundle: write it as PEM, decoded by base64 -d, into the text to apply");
    }
    verdict.note(Fate::Differs, "a new account is made at the CA; that of privateKeySecretRef is not taken over");
    let solvers = solvers(object, &mut verdict);
    if !solvers.is_empty() {
        fields.insert("solvers".to_owned(), Json::Array(solvers));
    }
    let issuer = Json::Object(fields);
    judge(&mut verdict, &object.name, &issuer);
    (verdict, Some(issuer))
}

/// The solvers that we have as well.
fn solvers(object: &Foreign, verdict: &mut Verdict) -> Vec<Json> {
    let Some(Value::Sequence(items)) = object.spec(&["acme", "solvers"]).map(|node| &node.value) else {
        return Vec::new();
    };
    let mut solvers = Vec::new();
    for (at, solver) in items.iter().enumerate() {
        if solver.get("http01").is_none() {
            let instead = "only HTTP-01 and TLS-ALPN-01 prove a name; wildcard names stay with cert-manager";
            verdict.note(Fate::Unsupported, format!("solvers[{at}]: {instead}"));
            continue;
        }
        let selector = solver.get("selector");
        if selector.is_some_and(|selector| selector.get("matchLabels").is_some()) {
            verdict.note(
                Fate::Unsupported,
                format!("solvers[{at}].selector.matchLabels: names and zones select; it is left out"),
            );
            continue;
        }
        let mut ours = value!({ "http01": {} });
        let names = |key: &str| texts_of(selector.and_then(|selector: &Node| selector.get(key)));
        let chosen: Map<_, _> = ["dnsNames", "dnsZones"]
            .into_iter()
            .filter(|key| !names(key).is_empty())
            .map(|key| (key.to_owned(), value!(names(key))))
            .collect();
        if !chosen.is_empty() {
            ours["selector"] = Json::Object(chosen);
        }
        solvers.push(ours);
    }
    solvers
}

/// What the reader of issuers says of one.
fn judge(verdict: &mut Verdict, name: &str, issuer: &Json) {
    let text = section(&[(name.to_owned(), issuer.clone())].into());
    let map = ConfigMap { data: Some([(ISSUERS_KEY.to_owned(), text)].into()), ..ConfigMap::default() };
    let reference = ObjectRef::new(Kind::ConfigMap, ObjectName::new(DEFAULT_CONFIG_MAP.0, DEFAULT_CONFIG_MAP.1));
    for problem in issuer::parse_map(&reference, &map, None).problems {
        let fate = if problem.severity == Severity::Error { Fate::Unsupported } else { Fate::Differs };
        verdict.note(fate, format!("{}: {}", problem.field, problem.message));
    }
}

/// A certificate works if an Ingress asks for it.
fn certificate(object: &Foreign) -> Verdict {
    let mut verdict = object.verdict();
    let owners = object.node.get("metadata").and_then(|metadata| metadata.get("ownerReferences"));
    let kinds = match owners.map(|owners| &owners.value) {
        Some(Value::Sequence(owners)) => owners.iter().filter_map(|owner| owner.get("kind")?.text()).collect(),
        _ => Vec::new(),
    };
    if kinds.contains(&"Ingress") {
        verdict.note(
            Fate::Differs,
            "its Ingress asks by itself; the Secret is served as it is until cert-manager is gone and it is deleted",
        );
        return verdict;
    }
    let text = |path: &[&str]| object.spec(path).and_then(Node::text).unwrap_or("NAME").to_owned();
    verdict.note(
        Fate::Unsupported,
        format!(
            "Certificates are not read; let the Ingress that serves {} ask for it: spec.tls with secretName {} and the \
             annotation cert-manager.io/cluster-issuer: {}",
            texts_of(object.spec(&["dnsNames"])).join(", "),
            text(&["secretName"]),
            text(&["issuerRef", "name"]),
        ),
    );
    verdict
}
