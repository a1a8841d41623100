//! Which Secrets an Ingress names by annotation.

use std::collections::BTreeMap;

/// An annotation that names a Secret, as `name` or `namespace/name`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NamedSecret<'a> {
    /// The whole key, prefix included.
    pub key: &'static str,
    /// What is written there.
    pub secret: &'a str,
    /// Whether each key of the Secret is the name of a user (`auth-secret-type: auth-map`).
    pub keys_are_users: bool,
}

/// The whole keys of one annotation; the first that is there counts.
type Keys = [&'static str; 2];

macro_rules! keys {
    ($name:literal) => {
        [concat!("ferrogate.io/", $name), concat!("nginx.ingress.kubernetes.io/", $name)]
    };
}

const USERS: Keys = keys!("auth-secret");
const USERS_FORM: Keys = keys!("auth-secret-type");
const OTHERS: [Keys; 2] = [keys!("auth-tls-secret"), keys!("proxy-ssl-secret")];

/// The annotations of an Ingress that name Secrets; whether they are right is not asked here.
#[must_use]
pub fn secrets(written: &BTreeMap<String, String>) -> Vec<NamedSecret<'_>> {
    let find = |keys: Keys| keys.into_iter().find_map(|key| Some((key, written.get(key)?.as_str())));
    let named = |keys: Keys, keys_are_users: bool| {
        find(keys).map(|(key, secret)| NamedSecret { key, secret: secret.trim(), keys_are_users })
    };
    let is_map = || find(USERS_FORM).is_some_and(|(_, form)| form.trim() == "auth-map");
    let users = named(USERS, false).map(|users| NamedSecret { keys_are_users: is_map(), ..users });
    users.into_iter().chain(OTHERS.into_iter().filter_map(|keys| named(keys, false))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::annotation::NGINX_PREFIX;
    use crate::settings::ANNOTATION_PREFIX;

    #[test]
    fn both_prefixes_name_secrets_and_ours_counts() {
        assert_eq!(USERS, [format!("{ANNOTATION_PREFIX}auth-secret"), format!("{NGINX_PREFIX}auth-secret")]);
        for (pairs, expected) in [
            (&[("nginx.ingress.kubernetes.io/auth-secret", " users ")][..], &[("users", false)][..]),
            (
                &[("nginx.ingress.kubernetes.io/auth-secret", "old"), ("ferrogate.io/auth-secret", "new")],
                &[("new", false)],
            ),
            (
                &[("ferrogate.io/auth-secret", "users"), ("nginx.ingress.kubernetes.io/auth-secret-type", "auth-map")],
                &[("users", true)],
            ),
            (
                &[("ferrogate.io/auth-tls-secret", "ca"), ("ferrogate.io/auth-secret-type", "auth-map")],
                &[("ca", false)],
            ),
            (&[("nginx.ingress.kubernetes.io/proxy-ssl-secret", "a/b")], &[("a/b", false)]),
            (&[("example.com/auth-secret", "users")], &[]),
        ] {
            let written = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
            let found: Vec<_> = secrets(&written).into_iter().map(|it| (it.secret, it.keys_are_users)).collect();
            assert_eq!(found, expected, "{pairs:?}");
        }
    }
}
