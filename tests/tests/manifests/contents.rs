//! The manifests as texts: what they say fits together.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::Arc;

use config::diagnostic::Severity;
use config::manifest;
use ferrogate_tests::binary;
use serde_json::Value;

use crate::objects::{self, KUSTOMIZATIONS, built, files, kubectl, text, texts};
use crate::roles::Role;

#[test]
fn our_own_reader_finds_nothing_wrong_with_our_manifests() {
    let mut read = BTreeSet::new();
    for path in files() {
        let text = std::fs::read_to_string(&path).expect("a file of ours can be read");
        let parsed = manifest::parse(&path.display().to_string().into(), &Arc::from(text));
        // A kustomization is for kubectl, and its patches are no objects.
        if path.ends_with("kustomization.yaml") {
            continue;
        }
        let wrong: Vec<_> = parsed.problems.iter().filter(|problem| problem.severity == Severity::Error).collect();
        assert!(wrong.is_empty() && !parsed.unreadable, "{}: {wrong:#?}", path.display());
        read.extend(parsed.documents.iter().map(|document| document.reference.to_string()));
    }
    for expected in ["Service", "IngressClass", "Namespace", "ConfigMap"] {
        assert!(read.iter().any(|object| object.contains(expected)), "no {expected} among {read:?}");
    }
}

#[test]
fn kustomize_builds_every_variant() {
    let Some(kubectl) = kubectl() else { return };
    for kustomization in KUSTOMIZATIONS {
        let objects = built(&kubectl, kustomization);
        for role in Role::ALL {
            for kind in ["DaemonSet", "ServiceAccount", "ClusterRole", "RoleBinding"] {
                objects::find(&objects, kind, role.name());
            }
        }
        selectors_find_pods(&objects, kustomization);
    }
}

/// Every selector finds Pods of ours, every port of a Service one that they have.
fn selectors_find_pods(objects: &[Value], kustomization: &str) {
    let pods: Vec<&Value> =
        objects.iter().filter(|it| it["kind"] == "DaemonSet").map(|it| &it["spec"]["template"]).collect();
    for object in objects.iter().filter(|it| ["Service", "PodDisruptionBudget"].contains(&text(&it["kind"]))) {
        let selector = &object["spec"]["selector"];
        let selector = selector.get("matchLabels").unwrap_or(selector).as_object().expect("a selector");
        let is_meant =
            |pod: &&&Value| selector.iter().all(|(key, value)| pod["metadata"]["labels"].get(key) == Some(value));
        let found: Vec<_> = pods.iter().filter(is_meant).collect();
        assert_eq!(found.len(), 1, "{kustomization}: {object}");
        let ports = found[0]["spec"]["containers"][0]["ports"].as_array().expect("it names its ports");
        for port in object["spec"]["ports"].as_array().into_iter().flatten() {
            assert!(ports.iter().any(|it| it["name"] == port["targetPort"]), "{kustomization}: no {port} in {ports:?}");
        }
    }
    for monitor in objects.iter().filter(|it| it["kind"] == "ServiceMonitor") {
        let labels = monitor["spec"]["selector"]["matchLabels"].as_object().expect("a selector");
        let is_meant = |service: &&Value| {
            let held = &service["metadata"]["labels"];
            service["kind"] == "Service" && labels.iter().all(|(key, value)| held.get(key) == Some(value))
        };
        let found: Vec<_> = objects.iter().filter(is_meant).collect();
        assert_eq!(found.len(), 1, "{kustomization}: {monitor}");
        for endpoint in monitor["spec"]["endpoints"].as_array().into_iter().flatten() {
            let ports = found[0]["spec"]["ports"].as_array().expect("a Service has ports");
            assert!(ports.iter().any(|port| port["name"] == endpoint["port"]), "{kustomization}: {monitor}");
        }
    }
}

#[test]
fn a_container_is_told_only_what_its_subcommand_understands() {
    for role in Role::ALL {
        let container = role.container();
        let arguments = texts(&container["args"]);
        let output = Command::new(binary::path()).args(&arguments).arg("--help").output().expect("it can be run");
        assert!(output.status.success(), "{arguments:?}");
        let help = String::from_utf8_lossy(&output.stdout).into_owned();
        for variable in container["env"].as_array().expect("it is told something") {
            let name = text(&variable["name"]);
            let twin = name.strip_prefix("FERROGATE_").expect("they are our own").replace('_', "-").to_lowercase();
            assert!(help.contains(&format!("--{twin} ")), "{arguments:?} knows no --{twin}:\n{help}");
        }
        assert_eq!(container["securityContext"]["capabilities"]["drop"], serde_json::json!(["ALL"]));
    }
}
