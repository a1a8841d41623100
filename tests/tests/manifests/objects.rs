//! The manifests as values.

use std::path::{Path, PathBuf};
use std::process::Command;

use ferrogate_tests::{binary, real};
use serde_json::{Value, json};

/// Where everything of ours lives.
pub(crate) const NAMESPACE: &str = "ferrogate-system";
/// Every folder that `kubectl apply -k` takes.
pub(crate) const KUSTOMIZATIONS: [&str; 4] = [".", "base", "overlays/single-node", "overlays/with-prometheus"];

/// The folder.
pub(crate) fn folder() -> PathBuf {
    binary::checkout().join("manifests")
}

/// Every file of YAML in it, at any depth.
pub(crate) fn files() -> Vec<PathBuf> {
    let (mut files, mut folders) = (Vec::new(), vec![folder()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.expect("an entry can be read").path();
            match path.extension() {
                None if path.is_dir() => folders.push(path),
                Some(extension) if extension == "yaml" => files.push(path),
                _ => {}
            }
        }
    }
    files.sort();
    files
}

/// The documents of a file.
pub(crate) fn read(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    documents(&text)
}

/// The documents of a text.
pub(crate) fn documents(text: &str) -> Vec<Value> {
    serde_yaml::from_multiple(text).unwrap_or_else(|error| panic!("{error} in\n{text}"))
}

/// The objects of the base as they are applied, as far as a program without kubectl can tell: the namespace filled in.
pub(crate) fn base() -> Vec<Value> {
    let base = folder().join("base");
    let kustomization = read(&base.join("kustomization.yaml")).remove(0);
    let named = kustomization["resources"].as_array().expect("the base names its files");
    let mut objects: Vec<Value> = named.iter().flat_map(|name| read(&base.join(text(name)))).collect();
    for object in &mut objects {
        if !["Namespace", "ClusterRole", "ClusterRoleBinding", "IngressClass"].contains(&text(&object["kind"])) {
            object["metadata"]["namespace"] = kustomization["namespace"].clone();
        }
    }
    objects
}

/// The one of this kind and name.
pub(crate) fn find<'a>(objects: &'a [Value], kind: &str, name: &str) -> &'a Value {
    let is_it = |object: &&Value| object["kind"] == kind && object["metadata"]["name"] == name;
    objects.iter().find(is_it).unwrap_or_else(|| panic!("there is no {kind} {name}"))
}

/// A text; empty if it is none.
pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The texts of a list.
pub(crate) fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().map(|value| text(value).to_owned()).collect()
}

/// `kubectl`: that of the real server, or any; `None`, after saying so, where there is none.
pub(crate) fn kubectl() -> Option<PathBuf> {
    let path = real::assets().map_or_else(|| PathBuf::from("kubectl"), |assets| assets.join("kubectl"));
    let found = Command::new(&path).args(["version", "--client"]).output().is_ok_and(|output| output.status.success());
    if !found {
        println!("skipped: there is no kubectl");
    }
    found.then_some(path)
}

/// What `kubectl` prints.
pub(crate) fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?} cannot be run: {error}"));
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?} failed:\n{out}{err}");
    out.into_owned()
}

/// The objects that a kustomization builds.
pub(crate) fn built(kubectl: &Path, kustomization: &str) -> Vec<Value> {
    documents(&run(Command::new(kubectl).arg("kustomize").arg(folder().join(kustomization))))
}

/// An address configuration of ours; one that is refused, if `range` runs backwards.
pub(crate) fn pools(range: &str) -> Value {
    let text = format!("address-pools:\n- name: lan\n  protocol: layer2\n  addresses: [{range}]\n");
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "namespace": NAMESPACE, "name": "config" },
        "data": { "config": text } })
}
