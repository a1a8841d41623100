//! What the API server demands of a `ConfigMap` and a Secret.
//!
//! Source: `k8s.io/kubernetes/pkg/apis/core/validation`.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};

use super::check::Check;
use crate::names;
use crate::object::FieldPath;

/// Kubernetes' limit for all values of one object together.
const MAX_DATA: usize = 1024 * 1024;

const TLS: &str = "kubernetes.io/tls";

pub(super) fn config_map(check: &mut Check, map: &mut ConfigMap) {
    let (text, binary) = (FieldPath::of(["data"]), FieldPath::of(["binaryData"]));
    let mut size = 0;
    for (key, value) in map.data.iter().flatten() {
        check.form(text.key(key), names::data_key(key));
        size += value.len();
    }
    for (key, value) in map.binary_data.iter().flatten() {
        check.form(binary.key(key), names::data_key(key));
        if map.data.as_ref().is_some_and(|data| data.contains_key(key)) {
            check.error(binary.key(key), format!("{key:?} also stands under data; keep one of the two"));
        }
        size += value.0.len();
    }
    if size > MAX_DATA {
        check.error(FieldPath::root(), "its values together are longer than 1 MiB");
    }
}

/// Checks a Secret and merges `stringData` into `data`, as the API server does on writing.
pub(super) fn secret(check: &mut Check, secret: &mut Secret) {
    let written = |key: &str, in_text: bool| FieldPath::of([if in_text { "stringData" } else { "data" }, key]);
    let text: BTreeMap<_, _> = secret.string_data.take().unwrap_or_default();
    for key in text.keys() {
        check.form(written(key, true), names::data_key(key));
    }
    for key in secret.data.iter().flatten().map(|(key, _)| key) {
        check.form(written(key, false), names::data_key(key));
    }
    if !text.is_empty() {
        let text = text.into_iter().map(|(key, value)| (key, ByteString(value.into_bytes())));
        secret.data.get_or_insert_default().extend(text);
    }
    let size: usize = secret.data.iter().flatten().map(|(_, value)| value.0.len()).sum();
    if size > MAX_DATA {
        check.error(FieldPath::of(["data"]), "its values together are longer than 1 MiB");
    }
    if secret.type_.as_deref() == Some(TLS) {
        for key in ["tls.crt", "tls.key"] {
            if !secret.data.as_ref().is_some_and(|data| data.contains_key(key)) {
                check.error(FieldPath::of(["data", key]), format!("a Secret of type {TLS} needs the key {key}"));
            }
        }
    }
}
