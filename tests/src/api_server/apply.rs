//! Changing an object: merge patch (RFC 7386) and server-side apply (KEP-555), as far as the tests need it.
//!
//! Ownership is kept per leaf in `metadata.managedFields` as the API server shows it (`FieldsV1`). Lists are atomic,
//! except those that Kubernetes declares as keyed maps and that we write: `status.conditions` (by `type`).

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::failure::Failure;

/// Applies a merge patch: maps merge, `null` deletes, anything else replaces.
pub(super) fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(changes) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, change) in changes {
        if change.is_null() {
            target.as_object_mut().map(|map| map.remove(key));
        } else {
            merge(&mut target[key.as_str()], change);
        }
    }
}

/// A leaf of an object: keys from the top, a keyed list element written as `key=value`.
type Leaf = Vec<String>;

/// Applies `wanted` for `manager`: sets its fields, gives up those it no longer names, refuses to change those that
/// somebody else owns unless forced.
pub(super) fn apply(
    live: &mut Value,
    wanted: &Value,
    manager: &str,
    subresource: &str,
    force: bool,
) -> Result<(), Failure> {
    let wanted = without_identity(wanted);
    let leaves = leaves(&wanted);
    let mut owners = Owners::read(live);
    let contested = owners.contested(&leaves, manager, |leaf| at(live, leaf) != at(&wanted, leaf));
    if let Some((leaf, other)) = contested.first().filter(|_| !force) {
        let field = leaf.join(".");
        return Err(Failure::new(409, format!("Apply failed with 1 conflict: conflict with {other:?}: .{field}")));
    }
    for (leaf, other) in contested {
        owners.release(&other, &leaf);
    }
    for leaf in owners.given_up(&leaves, manager, subresource) {
        remove(live, &leaf);
    }
    for leaf in &leaves {
        if let Some(value) = at(&wanted, leaf) {
            set(live, leaf, value.clone());
        }
    }
    owners.replace(manager, subresource, "Apply", leaves);
    owners.write(live);
    Ok(())
}

/// Notes that `manager` wrote the fields in which `after` differs from `before`.
pub(super) fn record_update(before: &Value, after: &mut Value, manager: &str, subresource: &str) {
    let content = without_identity(after);
    let changed: BTreeSet<Leaf> =
        leaves(&content).into_iter().filter(|leaf| at(before, leaf) != at(&content, leaf)).collect();
    let mut owners = Owners::read(before);
    for leaf in &changed {
        owners.release_all(leaf);
    }
    owners.add(manager, subresource, changed);
    owners.write(after);
}

/// The content of an object without what the server itself keeps.
fn without_identity(object: &Value) -> Value {
    let mut content = object.clone();
    let Some(map) = content.as_object_mut() else { return content };
    map.remove("apiVersion");
    map.remove("kind");
    if let Some(metadata) = map.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.retain(|key, _| matches!(key.as_str(), "labels" | "annotations" | "finalizers" | "ownerReferences"));
    }
    if map.get("metadata").and_then(Value::as_object).is_some_and(Map::is_empty) {
        map.remove("metadata");
    }
    content
}

fn leaves(value: &Value) -> BTreeSet<Leaf> {
    let mut found = BTreeSet::new();
    collect(value, &mut Vec::new(), &mut found);
    found
}

fn collect(value: &Value, path: &mut Leaf, found: &mut BTreeSet<Leaf>) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, inner) in map {
                path.push(key.clone());
                collect(inner, path, found);
                path.pop();
            }
        }
        Value::Array(items) if is_keyed(path) => {
            for item in items {
                path.push(format!("type={}", item["type"].as_str().unwrap_or_default()));
                found.insert(path.clone());
                path.pop();
            }
        }
        _ if path.is_empty() => {}
        _ => {
            found.insert(path.clone());
        }
    }
}

fn is_keyed(path: &[String]) -> bool {
    path == ["status", "conditions"]
}

fn at<'a>(object: &'a Value, leaf: &[String]) -> Option<&'a Value> {
    leaf.iter().try_fold(object, |value, step| match (value, step.split_once('=')) {
        (Value::Array(items), Some((key, wanted))) => items.iter().find(|item| item[key] == wanted),
        _ => value.get(step),
    })
}

fn set(object: &mut Value, leaf: &[String], value: Value) {
    let Some((step, rest)) = leaf.split_first() else {
        *object = value;
        return;
    };
    if let (Value::Array(items), Some((key, wanted))) = (&mut *object, step.split_once('=')) {
        match items.iter_mut().find(|item| item[key] == wanted) {
            Some(item) => *item = value,
            None => items.push(value),
        }
        return;
    }
    if !object.is_object() {
        *object = json!({});
    }
    let keyed = rest.first().is_some_and(|next| next.contains('=')) && step == "conditions";
    let slot = &mut object[step.as_str()];
    if keyed && !slot.is_array() {
        *slot = json!([]);
    }
    set(slot, rest, value);
}

fn remove(object: &mut Value, leaf: &[String]) {
    let Some((step, rest)) = leaf.split_first() else { return };
    match object {
        Value::Array(items) => {
            if let Some((key, wanted)) = step.split_once('=') {
                items.retain(|item| item[key] != wanted);
            }
        }
        Value::Object(map) if rest.is_empty() => {
            map.remove(step);
        }
        Value::Object(map) => {
            let Some(inner) = map.get_mut(step) else { return };
            remove(inner, rest);
            if inner.as_object().is_some_and(Map::is_empty) {
                map.remove(step);
            }
        }
        _ => {}
    }
}

/// Who owns which leaf.
struct Owners(Vec<Owner>);

struct Owner {
    manager: String,
    subresource: String,
    operation: String,
    leaves: BTreeSet<Leaf>,
}

impl Owners {
    fn read(object: &Value) -> Self {
        let entries = object["metadata"]["managedFields"].as_array().map(Vec::as_slice).unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let owner = |entry: &Value| Owner {
            manager: text(&entry["manager"]),
            subresource: text(&entry["subresource"]),
            operation: text(&entry["operation"]),
            leaves: from_fields(&entry["fieldsV1"]),
        };
        Self(entries.iter().map(owner).collect())
    }

    fn write(mut self, object: &mut Value) {
        self.0.retain(|owner| !owner.leaves.is_empty());
        let entry = |owner: &Owner| {
            let mut entry = json!({
                "manager": owner.manager, "operation": owner.operation, "fieldsType": "FieldsV1",
                "fieldsV1": to_fields(&owner.leaves),
            });
            if !owner.subresource.is_empty() {
                entry["subresource"] = json!(owner.subresource);
            }
            entry
        };
        object["metadata"]["managedFields"] = self.0.iter().map(entry).collect();
    }

    fn contested(
        &self,
        leaves: &BTreeSet<Leaf>,
        manager: &str,
        differs: impl Fn(&[String]) -> bool,
    ) -> Vec<(Leaf, String)> {
        let others = self.0.iter().filter(|owner| owner.manager != manager || owner.operation != "Apply");
        others
            .flat_map(|owner| owner.leaves.intersection(leaves).map(|leaf| (leaf.clone(), owner.manager.clone())))
            .filter(|(leaf, _)| differs(leaf))
            .collect()
    }

    fn given_up(&self, leaves: &BTreeSet<Leaf>, manager: &str, subresource: &str) -> Vec<Leaf> {
        let mine =
            |owner: &&Owner| owner.manager == manager && owner.subresource == subresource && owner.operation == "Apply";
        let before = self.0.iter().find(mine).map(|owner| owner.leaves.clone()).unwrap_or_default();
        let elsewhere =
            |leaf: &Leaf| self.0.iter().filter(|owner| !mine(owner)).any(|owner| owner.leaves.contains(leaf));
        before.difference(leaves).filter(|leaf| !elsewhere(leaf)).cloned().collect()
    }

    fn replace(&mut self, manager: &str, subresource: &str, operation: &str, leaves: BTreeSet<Leaf>) {
        self.0.retain(|it| it.manager != manager || it.subresource != subresource || it.operation != operation);
        let (manager, subresource, operation) = (manager.to_owned(), subresource.to_owned(), operation.to_owned());
        self.0.push(Owner { manager, subresource, operation, leaves });
    }

    fn add(&mut self, manager: &str, subresource: &str, mut leaves: BTreeSet<Leaf>) {
        let mine = |it: &&Owner| it.manager == manager && it.subresource == subresource && it.operation == "Update";
        leaves.extend(self.0.iter().find(mine).map(|owner| owner.leaves.clone()).unwrap_or_default());
        self.replace(manager, subresource, "Update", leaves);
    }

    fn release(&mut self, manager: &str, leaf: &Leaf) {
        for owner in self.0.iter_mut().filter(|owner| owner.manager == manager) {
            owner.leaves.remove(leaf);
        }
    }

    fn release_all(&mut self, leaf: &Leaf) {
        for owner in &mut self.0 {
            owner.leaves.remove(leaf);
        }
    }
}

/// `FieldsV1`: `{"f:status": {"f:loadBalancer": {"f:ingress": {}}}}`, list elements as `k:{"type":"Ready"}`.
fn to_fields(leaves: &BTreeSet<Leaf>) -> Value {
    let mut fields = json!({});
    for leaf in leaves {
        let mut here = &mut fields;
        for step in leaf {
            let name = match step.split_once('=') {
                Some((key, value)) if key == "type" => format!("k:{}", json!({ key: value })),
                _ => format!("f:{step}"),
            };
            here = &mut here[name.as_str()];
            if here.is_null() {
                *here = json!({});
            }
        }
    }
    fields
}

fn from_fields(fields: &Value) -> BTreeSet<Leaf> {
    fn walk(fields: &Value, path: &mut Leaf, found: &mut BTreeSet<Leaf>) {
        let Some(map) = fields.as_object().filter(|map| !map.is_empty()) else {
            if !path.is_empty() {
                found.insert(path.clone());
            }
            return;
        };
        for (name, inner) in map {
            let keyed = name.strip_prefix("k:").and_then(|text| serde_json::from_str::<Value>(text).ok());
            path.push(match keyed {
                Some(key) => format!("type={}", key["type"].as_str().unwrap_or_default()),
                None => name.strip_prefix("f:").unwrap_or(name).to_owned(),
            });
            walk(inner, path, found);
            path.pop();
        }
    }
    let mut found = BTreeSet::new();
    walk(fields, &mut Vec::new(), &mut found);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service() -> Value {
        json!({"metadata": {"name": "web", "labels": {"app": "shop"}}, "spec": {"type": "LoadBalancer"}})
    }

    #[test]
    fn a_merge_patch_merges_maps_and_deletes_by_null() {
        let mut object = json!({"a": {"b": 1, "c": [1, 2]}, "d": 4});
        merge(&mut object, &json!({"a": {"b": null, "c": [3]}, "e": {"f": null, "g": 5}}));
        assert_eq!(object, json!({"a": {"c": [3]}, "d": 4, "e": {"g": 5}}));
    }

    #[test]
    fn applying_sets_ones_own_fields_and_giving_them_up_removes_them() {
        let mut live = service();
        let with = json!({"metadata": {"annotations": {"pool": "lan"}}, "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}});
        apply(&mut live, &with, "ferrogate", "", false).unwrap();
        assert_eq!(live["status"]["loadBalancer"]["ingress"][0]["ip"], "192.0.2.1");
        apply(&mut live, &json!({"metadata": {"annotations": {"pool": "lan"}}}), "ferrogate", "", false).unwrap();
        assert_eq!(live["status"], Value::Null);
        assert_eq!(
            (&live["metadata"]["annotations"]["pool"], &live["spec"]["type"]),
            (&json!("lan"), &json!("LoadBalancer"))
        );
    }

    #[test]
    fn naming_nothing_gives_up_ones_own_and_touches_nobody_elses() {
        let mut live = service();
        let with = json!({"metadata": {"name": "web", "annotations": {"pool": "lan"}}});
        apply(&mut live, &with, "ferrogate", "status", true).unwrap();
        apply(&mut live, &json!({"metadata": {"name": "web", "uid": "1"}}), "ferrogate", "status", true).unwrap();
        live["metadata"].as_object_mut().map(|metadata| metadata.remove("managedFields"));
        assert_eq!(live, service());
    }

    #[test]
    fn a_field_of_somebody_else_is_refused_unless_forced() {
        let (mut live, wanted) = (service(), json!({"metadata": {"labels": {"app": "cart"}}}));
        let mut edited = live.clone();
        edited["metadata"]["labels"]["app"] = json!("till");
        record_update(&live, &mut edited, "kubectl", "");
        live = edited;
        let refusal = apply(&mut live, &wanted, "ferrogate", "", false).unwrap_err();
        assert_eq!((refusal.code, &live["metadata"]["labels"]["app"]), (409, &json!("till")));
        apply(&mut live, &wanted, "ferrogate", "", true).unwrap();
        assert_eq!(live["metadata"]["labels"]["app"], "cart");
    }

    #[test]
    fn conditions_of_two_managers_live_side_by_side() {
        let mut live = service();
        let condition = |kind: &str| json!({"status": {"conditions": [{"type": kind, "status": "True"}]}});
        apply(&mut live, &condition("Ready"), "one", "status", false).unwrap();
        apply(&mut live, &condition("Assigned"), "two", "status", false).unwrap();
        assert_eq!(live["status"]["conditions"].as_array().unwrap().len(), 2);
        apply(&mut live, &json!({}), "one", "status", false).unwrap();
        assert_eq!(live["status"]["conditions"][0]["type"], "Assigned");
    }
}
