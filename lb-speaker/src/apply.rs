//! What `kubectl apply` makes of an object: the three-way merge.
//!
//! A field of the manifest is set; one that was applied before and is in the manifest no more goes; any other, such as an
//! annotation that somebody added by hand, stays. Lists are replaced as a whole.
//!
//! Pure. Source: "How apply calculates differences and merges changes" of the Kubernetes documentation. That lists of
//! ports are merged by their keys makes no difference to addresses: what another adds to them is not known beforehand.

use serde_json::{Map, Value};

/// Where kubectl keeps what was applied last.
pub(crate) const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// `live` once `manifest` is applied to it, when `last` was applied before.
pub(crate) fn merge(live: &Value, last: &Value, manifest: &Value) -> Value {
    let (Value::Object(before), Value::Object(wanted)) = (live, manifest) else { return manifest.clone() };
    let (nothing, no_map) = (Value::Null, Map::new());
    let applied = last.as_object().unwrap_or(&no_map);
    let stays = |key: &&String| !applied.contains_key(*key) && !wanted.contains_key(*key);
    let mut merged: Map<String, Value> =
        before.iter().filter(|(key, _)| stays(key)).map(|(key, value)| (key.clone(), value.clone())).collect();
    for (key, value) in wanted.iter().filter(|(_, value)| !value.is_null()) {
        let of = |map: &Map<String, Value>| map.get(key).unwrap_or(&nothing).clone();
        merged.insert(key.clone(), merge(&of(before), &of(applied), value));
    }
    Value::Object(merged)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_wanted_is_set_what_was_applied_goes_and_the_rest_stays() {
        for (live, last, manifest, expected) in [
            (json!({ "a": 1 }), json!({}), json!({ "b": 2 }), json!({ "a": 1, "b": 2 })),
            (json!({ "a": 1, "b": 2 }), json!({ "a": 1 }), json!({ "b": 3 }), json!({ "b": 3 })),
            (
                json!({ "a": { "x": 1, "y": 2 } }),
                json!({ "a": { "x": 1 } }),
                json!({ "a": {} }),
                json!({ "a": { "y": 2 } }),
            ),
            (json!({ "a": [1, 2] }), json!({ "a": [1] }), json!({ "a": [3] }), json!({ "a": [3] })),
            (json!({ "a": 1 }), json!({}), json!({ "a": null }), json!({})),
            (json!(null), json!(null), json!({ "a": 1 }), json!({ "a": 1 })),
        ] {
            assert_eq!(merge(&live, &last, &manifest), expected, "{live} {last} {manifest}");
        }
    }

    fn tree() -> impl Strategy<Value = Value> {
        let leaf = (0..3).prop_map(|number| json!(number));
        leaf.prop_recursive(3, 12, 3, |inner| {
            prop::collection::btree_map("[a-c]", inner, 0..3).prop_map(|map| json!(map))
        })
    }

    proptest! {
        #[test]
        fn applying_the_same_again_changes_nothing(live in tree(), last in tree(), manifest in tree()) {
            let once = merge(&live, &last, &manifest);
            prop_assert_eq!(merge(&once, &manifest, &manifest), once);
        }
    }
}
