//! What a Secret of ours is to hold.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::sync::Arc;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use sha2::{Digest as _, Sha256};

use crate::object::ObjectName;

/// Wanted content of one Secret.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretWrite {
    /// Its type, which counts only when it is made; `kubernetes.io/tls` for a certificate.
    pub type_: &'static str,
    /// Labels to set; others stay.
    pub labels: BTreeMap<String, String>,
    /// Annotations to set; others stay.
    pub annotations: BTreeMap<String, String>,
    /// All of its data.
    pub data: Arc<BTreeMap<String, Vec<u8>>>,
    /// [`data_digest`] of the version that this is to replace, `None` if there is to be none: whatever else stands
    /// there by now stays.
    pub base: Option<String>,
}

impl SecretWrite {
    /// Whether `secret` is what this wants it to be.
    #[must_use]
    pub fn is_done(&self, secret: &Secret) -> bool {
        let held = secret.data.iter().flatten().map(|(key, value)| (key, &value.0));
        let has = |wanted: &BTreeMap<String, String>, found: Option<&BTreeMap<String, String>>| {
            wanted.iter().all(|(key, value)| found.and_then(|found| found.get(key)) == Some(value))
        };
        held.eq(self.data.iter())
            && has(&self.labels, secret.metadata.labels.as_ref())
            && has(&self.annotations, secret.metadata.annotations.as_ref())
    }

    /// The object to write where `found` stands now: what it holds besides our data, labels and annotations stays.
    #[must_use]
    pub fn object(&self, name: &ObjectName, found: Option<&Secret>) -> Secret {
        let mut object =
            found.cloned().unwrap_or_else(|| Secret { type_: Some(self.type_.to_owned()), ..Secret::default() });
        let meta = &mut object.metadata;
        (meta.namespace, meta.name) = (Some((*name.namespace).to_owned()), Some((*name.name).to_owned()));
        meta.labels.get_or_insert_default().extend(self.labels.clone());
        meta.annotations.get_or_insert_default().extend(self.annotations.clone());
        let data = self.data.iter().map(|(key, value)| (key.clone(), ByteString(value.clone())));
        (object.data, object.string_data) = (Some(data.collect()), None);
        object
    }

    /// Whether this may be written where `found` stands now.
    #[must_use]
    pub fn may_replace(&self, found: Option<&Secret>) -> bool {
        self.base == found.map(data_digest)
    }
}

impl fmt::Debug for SecretWrite {
    /// Without what is secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<_> = self.data.keys().collect();
        f.debug_struct("SecretWrite").field("type_", &self.type_).field("keys", &keys).finish_non_exhaustive()
    }
}

/// A digest of the data of a Secret, in hexadecimal digits; no two contents share one.
#[must_use]
pub fn data_digest(secret: &Secret) -> String {
    let mut hash = Sha256::new();
    for (key, value) in secret.data.iter().flatten() {
        for part in [key.as_bytes(), &value.0] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
    }
    let mut text = String::new();
    for byte in hash.finalize() {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(data: &[(&str, &str)]) -> Secret {
        let pairs = data.iter().map(|(key, value)| ((*key).to_owned(), ByteString(value.as_bytes().to_vec())));
        Secret { data: Some(pairs.collect()), ..Secret::default() }
    }

    fn write(data: &[(&str, &str)], base: Option<String>) -> SecretWrite {
        let pairs = data.iter().map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec()));
        let (labels, annotations) = (BTreeMap::new(), BTreeMap::new());
        SecretWrite { type_: "Opaque", labels, annotations, data: Arc::new(pairs.collect()), base }
    }

    #[test]
    fn only_the_version_that_was_looked_at_is_replaced() {
        let (one, other) = (secret(&[("a", "1")]), secret(&[("a", "2")]));
        let digest = Some(data_digest(&one));
        for (base, found, expected) in [
            (None, None, true),
            (None, Some(&one), false),
            (digest.clone(), Some(&one), true),
            (digest.clone(), Some(&other), false),
            (digest, None, false),
        ] {
            assert_eq!(write(&[("a", "3")], base.clone()).may_replace(found), expected, "{base:?} {found:?}");
        }
    }

    #[test]
    fn a_write_is_done_when_its_data_and_annotations_are_there_and_no_other_data() {
        let mut found = secret(&[("a", "1")]);
        let mut wanted = write(&[("a", "1")], None);
        assert!(wanted.is_done(&found) && !wanted.is_done(&secret(&[("a", "1"), ("b", "")])));
        wanted.annotations.insert("x".into(), "y".into());
        assert!(!wanted.is_done(&found));
        found.metadata.annotations = Some([("x", "y"), ("z", "")].map(|(k, v)| (k.to_owned(), v.to_owned())).into());
        assert!(wanted.is_done(&found));
    }

    #[test]
    fn what_is_secret_is_not_shown() {
        assert!(!format!("{:?}", write(&[("tls.key", "hidden")], None)).contains("hidden"));
    }

    #[test]
    fn a_digest_tells_where_a_key_ends() {
        assert_ne!(data_digest(&secret(&[("ab", "c")])), data_digest(&secret(&[("a", "bc")])));
    }
}
