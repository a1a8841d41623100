//! Which Secrets Ingresses and issuers of certificates name, and which `ConfigMap`s the global settings.
//!
//! Pure. Who follows them: [`super::named`]. What they are good for is for the ingress to decide.

use std::collections::BTreeMap;
use std::sync::Arc;

use config::annotation;
use config::derived::DerivedAll;
use config::issuer;
use config::object::{FieldPath, Kind, ObjectName, ObjectRef};
use config::settings::ISSUERS_KEY;
use config::snapshot::{Objects, Snapshot};
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::networking::v1::Ingress;

use super::kinds::Keys;

/// Who names a Secret, and what for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reference {
    /// The first Ingress that does.
    pub(super) by: ObjectRef,
    /// Where in it.
    pub(super) field: FieldPath,
    /// Whether it is to hold a certificate to show; such a Secret is mostly of the type read as a collection.
    pub(super) is_certificate: bool,
    /// What is needed of it.
    pub(super) keys: Keys,
}

/// What Ingresses name; one that did not change is not looked at again.
#[derive(Debug, Default)]
pub(super) struct References(DerivedAll<Ingress, Vec<(ObjectName, Reference)>>);

impl References {
    /// Every Secret that is named.
    pub(super) fn update(&mut self, ingresses: &Objects<Ingress>) -> BTreeMap<ObjectName, Reference> {
        let mut all: BTreeMap<ObjectName, Reference> = BTreeMap::new();
        for (secret, found) in self.0.update(ingresses, named_by).values().flat_map(|it| &it.result) {
            match all.get_mut(secret) {
                None => drop(all.insert(secret.clone(), found.clone())),
                Some(known) => {
                    known.keys = known.keys.max(found.keys);
                    known.is_certificate &= found.is_certificate;
                }
            }
        }
        all
    }
}

/// Every Secret that an issuer of certificates names.
pub(super) fn by_issuers(snapshot: &Snapshot, config_map: &ObjectName) -> BTreeMap<ObjectName, Reference> {
    let mut all = BTreeMap::new();
    for (name, issuer) in issuer::read_all(snapshot, config_map).issuers.by_name {
        let (by, field) = named_in(&name, snapshot, config_map);
        for needed in issuer.secrets() {
            let (by, field) = (by.clone(), field.clone());
            let reference = Reference { by, field, is_certificate: false, keys: Keys::All };
            all.insert(needed.secret.clone(), reference);
        }
    }
    all
}

/// Where an issuer of this name is written.
fn named_in(name: &str, snapshot: &Snapshot, config_map: &ObjectName) -> (ObjectRef, FieldPath) {
    let spec = || FieldPath::of(["spec", "acme"]);
    if let Some((namespace, name)) = name.split_once('/') {
        return (ObjectRef::new(Kind::Issuer, ObjectName::new(namespace, name)), spec());
    }
    let own = snapshot.config_maps.get(config_map).is_some_and(|map| {
        let by = ObjectRef::new(Kind::ConfigMap, config_map.clone());
        issuer::parse_map(&by, map, None).issuers.by_name.contains_key(name)
    });
    if own {
        let by = ObjectRef::new(Kind::ConfigMap, config_map.clone());
        return (by, FieldPath::of([ISSUERS_KEY, "issuers"]).key(name));
    }
    (ObjectRef::new(Kind::ClusterIssuer, ObjectName::cluster(name)), spec())
}

/// Every `ConfigMap` that the global settings of the ingress name.
pub(super) fn by_settings(
    settings: &[ObjectName],
    config_maps: &Objects<ConfigMap>,
) -> BTreeMap<ObjectName, Reference> {
    let mut all = BTreeMap::new();
    for (name, map) in settings.iter().filter_map(|name| Some((name, config_maps.get(name)?))) {
        for key in ["proxy-set-headers", "add-headers"] {
            let text = map.data.as_ref().and_then(|data| data.get(key)).map_or("", |text| text.trim());
            let Some(named) = text.contains('/').then(|| secret(&name.namespace, text)).flatten() else { continue };
            let (by, field) = (ObjectRef::new(Kind::ConfigMap, name.clone()), FieldPath::of(["data", key]));
            all.insert(named, Reference { by, field, is_certificate: false, keys: Keys::All });
        }
    }
    all
}

fn named_by(name: &ObjectName, ingress: &Ingress) -> Vec<(ObjectName, Reference)> {
    let mut found = Vec::new();
    let mut add = |text: &str, field: FieldPath, is_certificate: bool, keys: Keys| {
        if let Some(secret) = secret(&name.namespace, text) {
            let by = ObjectRef::new(Kind::Ingress, name.clone());
            found.push((secret, Reference { by, field, is_certificate, keys }));
        }
    };
    let tls = ingress.spec.iter().flat_map(|spec| spec.tls.iter().flatten());
    for (index, tls) in tls.enumerate() {
        let field = || FieldPath::of(["spec", "tls"]).index(index).key("secretName");
        // A name with a slash is none here.
        if let Some(text) = tls.secret_name.as_deref().filter(|text| !text.contains('/')) {
            add(text, field(), true, Keys::Known);
        }
    }
    let Some(annotations) = &ingress.metadata.annotations else { return found };
    for it in annotation::secrets(annotations) {
        let keys = if it.keys_are_users { Keys::All } else { Keys::Known };
        add(it.secret, FieldPath::of(["metadata", "annotations"]).key(it.key), false, keys);
    }
    found
}

/// The Secret of a text `name` or `namespace/name`; `None` if no Secret can have that name.
fn secret(namespace: &Arc<str>, text: &str) -> Option<ObjectName> {
    let (namespace, name) = text.split_once('/').unwrap_or((namespace, text));
    // DNS subdomains (RFC 1123), as Kubernetes names objects; anything else would change the request.
    let is_name = |text: &str| {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'.';
        (1..=253).contains(&text.len()) && text.bytes().all(allowed) && !text.starts_with('.')
    };
    (is_name(namespace) && is_name(name)).then(|| ObjectName::new(namespace, name))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn ingress(annotations: &[(&str, &str)], tls: &[&str]) -> Ingress {
        let annotations: BTreeMap<_, _> =
            annotations.iter().map(|(key, text)| (format!("{}{key}", annotation::NGINX_PREFIX), text)).collect();
        let tls: Vec<_> = tls.iter().map(|name| json!({ "secretName": name })).collect();
        serde_json::from_value(json!({ "metadata": { "annotations": annotations }, "spec": { "tls": tls } })).unwrap()
    }

    #[test]
    fn an_issuer_names_the_secret_of_its_customer() {
        let text = "issuers: {letsencrypt: {externalAccountBinding: {keyID: a, keySecretRef: {name: eab, key: hmac}}}}";
        let map: k8s_openapi::api::core::v1::ConfigMap =
            serde_json::from_value(json!({ "data": { "acme": text } })).unwrap();
        let name = ObjectName::new("system", "config");
        let config_maps = Arc::new([(name.clone(), Arc::new(map))].into());
        let snapshot = Snapshot { config_maps, ..Snapshot::default() };
        let found: Vec<_> =
            by_issuers(&snapshot, &name).into_iter().map(|(name, it)| (name.to_string(), it.keys)).collect();
        assert_eq!(found, [("system/eab".to_owned(), Keys::All)]);
    }

    #[test]
    fn the_settings_name_two_config_maps() {
        let data = json!({ "data": { "add-headers": "a/out", "proxy-set-headers": "in", "hide-headers": "x/y" } });
        let map: ConfigMap = serde_json::from_value(data).unwrap();
        let name = ObjectName::new("ingress-nginx", "settings");
        let maps = Arc::new([(name.clone(), Arc::new(map))].into());
        let names = |settings: &[ObjectName]| by_settings(settings, &maps).into_keys().collect::<Vec<_>>();
        assert_eq!(names(&[name]), [ObjectName::new("a", "out")]);
        assert_eq!(names(&[ObjectName::new("other", "settings")]), []);
    }

    #[test]
    fn every_way_to_name_a_secret_is_known_and_no_other_text_is_a_name() {
        let (known, all) = (Keys::Known, Keys::All);
        for (annotations, tls, expected) in [
            (vec![], vec!["cert"], vec![("shop/cert", true, known)]),
            (vec![("auth-secret", "users")], vec![], vec![("shop/users", false, known)]),
            (vec![("auth-secret", "a/users"), ("auth-secret-type", "auth-map")], vec![], vec![("a/users", false, all)]),
            (vec![("auth-tls-secret", "a/ca"), ("auth-secret-type", "auth-map")], vec![], vec![("a/ca", false, known)]),
            (vec![("proxy-ssl-secret", "shop/x")], vec!["x"], vec![("shop/x", false, known)]),
            (
                vec![("auth-secret", "a/b/c"), ("auth-tls-secret", ""), ("proxy-ssl-secret", "x,y=z")],
                vec!["a/b", ""],
                vec![],
            ),
        ] {
            let ingresses = [(ObjectName::new("shop", "web"), Arc::new(ingress(&annotations, &tls)))];
            let found = References::default().update(&Arc::new(ingresses.into()));
            let found: Vec<_> = found.iter().map(|(name, it)| (name.to_string(), it.is_certificate, it.keys)).collect();
            let expected: Vec<_> = expected.into_iter().map(|(name, tls, keys)| (name.to_owned(), tls, keys)).collect();
            assert_eq!(found, expected, "{annotations:?} {tls:?}");
        }
    }
}
