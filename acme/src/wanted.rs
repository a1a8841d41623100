//! Which certificates the Ingresses ask us to order.
//!
//! An Ingress asks by annotation, as with cert-manager's ingress-shim: `cert-manager.io/cluster-issuer` or
//! `cert-manager.io/issuer` name the issuer, `kubernetes.io/tls-acme: "true"` takes the default one. Each `spec.tls[]`
//! entry is one certificate, kept in the Secret it names.

use std::collections::{BTreeMap, BTreeSet};

use config::diagnostic::Problem;
use config::issuer::Issuers;
use config::object::{FieldPath, Kind, ObjectName, ObjectRef};
use k8s_openapi::api::networking::v1::{Ingress, IngressTLS};

use crate::keyspec::KeySpec;
use crate::name::CertName;
use crate::terms::Terms;

/// Names a `ClusterIssuer`.
pub const CLUSTER_ISSUER: &str = "cert-manager.io/cluster-issuer";

/// Names an `Issuer` in the namespace of the Ingress.
pub const ISSUER: &str = "cert-manager.io/issuer";

/// Asks the default issuer, if it is a boolean that is true.
pub const TLS_ACME: &str = "kubernetes.io/tls-acme";

/// The most names in one certificate of Let's Encrypt's default profile.
const MAX_NAMES: usize = 100;

/// Who is to issue a certificate.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Issuer {
    /// The `ClusterIssuer` of that name.
    Cluster(String),
    /// The `Issuer` of that name in the namespace of the Ingress.
    Namespaced(ObjectName),
    /// The one that the operator made the default.
    Default,
}

/// One certificate that an Ingress asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The Secret it is to be kept in.
    pub secret: ObjectName,
    /// The Ingress that asks.
    pub ingress: ObjectName,
    /// Who is to issue it.
    pub issuer: Issuer,
    /// The names it is to hold; never empty.
    pub names: BTreeSet<CertName>,
    /// What else is asked of it.
    pub terms: Terms,
}

/// Everything that is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wants {
    /// One entry for each Secret, in the order of their names.
    pub certificates: Vec<Wanted>,
    /// What cannot be asked for as it is written.
    pub problems: Vec<Problem>,
}

/// Reads the wishes of `ingresses`, which are those of our class, in any order.
///
/// Of two Ingresses that name one Secret, the older one keeps it (then the one whose name comes first).
pub fn wanted<'a>(ingresses: impl IntoIterator<Item = (&'a ObjectName, &'a Ingress)>) -> Wants {
    let mut sorted: Vec<_> = ingresses.into_iter().collect();
    sorted.sort_by_key(|(name, ingress)| (ingress.metadata.creation_timestamp.as_ref().map(|time| time.0), *name));
    let (mut certificates, mut problems) = (BTreeMap::<ObjectName, Wanted>::new(), Vec::new());
    for (name, ingress) in sorted {
        for (field, wanted) in of_ingress(name, ingress, &mut problems) {
            match certificates.get(&wanted.secret) {
                Some(first) => {
                    let message = format!(
                        "Secret {} is already ordered for Ingress {}; give this one a Secret of its own",
                        wanted.secret, first.ingress
                    );
                    problems.push(Problem::error(reference(name), field, message));
                }
                None => drop(certificates.insert(wanted.secret.clone(), wanted)),
            }
        }
    }
    Wants { certificates: certificates.into_values().collect(), problems }
}

impl Issuer {
    /// The name to look it up by among `issuers`; `None` if the default is meant and there is none.
    ///
    /// An issuer of our own section is found by both annotations, and goes before an object of its name.
    #[must_use]
    pub fn name(&self, issuers: &Issuers) -> Option<String> {
        match self {
            Self::Cluster(name) => Some(name.clone()),
            Self::Namespaced(name) if issuers.own.contains(&*name.name) => Some(name.name.to_string()),
            Self::Namespaced(name) => Some(name.to_string()),
            Self::Default => issuers.default.clone(),
        }
    }

    /// The kind that cert-manager's annotations give it.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Namespaced(_) => "Issuer",
            Self::Cluster(_) | Self::Default => "ClusterIssuer",
        }
    }
}

fn of_ingress(name: &ObjectName, ingress: &Ingress, problems: &mut Vec<Problem>) -> Vec<(FieldPath, Wanted)> {
    let issuer = match issuer(name, ingress) {
        Ok(Some(issuer)) => issuer,
        Ok(None) => return Vec::new(),
        Err(message) => {
            let field = FieldPath::of(["metadata", "annotations"]).key(ISSUER);
            problems.push(Problem::error(reference(name), field, message));
            return Vec::new();
        }
    };
    let terms = match Terms::read(ingress) {
        Ok(terms) => terms,
        Err((annotation, message)) => {
            let field = FieldPath::of(["metadata", "annotations"]).key(annotation);
            problems.push(Problem::error(reference(name), field, message));
            return Vec::new();
        }
    };
    let blocks = ingress.spec.as_ref().and_then(|spec| spec.tls.as_deref()).unwrap_or_default();
    let mut wanted = Vec::new();
    for (index, block) in blocks.iter().enumerate() {
        let field = FieldPath::of(["spec", "tls"]).index(index);
        let repeated = blocks.iter().filter(|other| other.secret_name == block.secret_name).count() > 1;
        match of_block(name, block, repeated, &field) {
            Ok((secret, mut names)) => {
                names.extend(terms.extra.iter().cloned());
                let (issuer, ingress, mut terms) = (issuer.clone(), name.clone(), terms.clone());
                if terms.rsa.contains(&*secret.name) {
                    terms.key = KeySpec::Rsa2048;
                }
                wanted.push((field.key("secretName"), Wanted { secret, ingress, issuer, names, terms }));
            }
            Err(found) => problems.extend(found),
        }
    }
    wanted
}

fn of_block(
    ingress: &ObjectName,
    block: &IngressTLS,
    repeated: bool,
    field: &FieldPath,
) -> Result<(ObjectName, BTreeSet<CertName>), Vec<Problem>> {
    let hosts = block.hosts.as_deref().unwrap_or_default();
    let Some(secret) = block.secret_name.as_deref().filter(|name| !name.is_empty() && !hosts.is_empty()) else {
        let message = "no certificate is ordered for a TLS block without hosts or without secretName; set both";
        return Err(vec![Problem::warning(reference(ingress), field.clone(), message)]);
    };
    if repeated {
        let message = format!("two TLS blocks name Secret {secret:?}, so neither is ordered; list all hosts in one");
        return Err(vec![Problem::error(reference(ingress), field.key("secretName"), message)]);
    }
    if hosts.len() > MAX_NAMES {
        let message =
            format!("{} hosts are too many for one certificate, at most {MAX_NAMES}; use several", hosts.len());
        return Err(vec![Problem::error(reference(ingress), field.key("hosts"), message)]);
    }
    let (mut names, mut problems) = (BTreeSet::new(), Vec::new());
    for (index, host) in hosts.iter().enumerate() {
        match CertName::parse(host) {
            Ok(name) => drop(names.insert(name)),
            Err(error) => problems.push(Problem::error(reference(ingress), field.key("hosts").index(index), error)),
        }
    }
    // A certificate without one of its hosts would hide the mistake: all or nothing.
    if problems.is_empty() { Ok((ObjectName::new(ingress.namespace.clone(), secret), names)) } else { Err(problems) }
}

/// The issuer that an Ingress names, if it asks at all.
fn issuer(ingress_name: &ObjectName, ingress: &Ingress) -> Result<Option<Issuer>, &'static str> {
    let annotation = |name| ingress.metadata.annotations.as_ref().and_then(|all| all.get(name)).cloned();
    match (annotation(CLUSTER_ISSUER), annotation(ISSUER)) {
        (Some(_), Some(_)) => Err("both cluster-issuer and issuer are set, so nothing is ordered; remove one"),
        (Some(name), None) => Ok(Some(Issuer::Cluster(name))),
        (None, Some(name)) => {
            Ok(Some(Issuer::Namespaced(ObjectName::new(std::sync::Arc::clone(&ingress_name.namespace), name))))
        }
        (None, None) => Ok(annotation(TLS_ACME).filter(|text| is_true(text)).map(|_| Issuer::Default)),
    }
}

/// What Go's `strconv.ParseBool` takes for true, as cert-manager does.
fn is_true(text: &str) -> bool {
    matches!(text, "1" | "t" | "T" | "true" | "TRUE" | "True")
}

fn reference(ingress: &ObjectName) -> ObjectRef {
    ObjectRef::new(Kind::Ingress, ingress.clone())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::networking::v1::IngressSpec;
    use proptest::prelude::*;

    use super::*;

    fn ingress(annotations: &[(&str, &str)], blocks: &[(&[&str], &str)]) -> Ingress {
        let block = |(hosts, secret): &(&[&str], &str)| IngressTLS {
            hosts: Some(hosts.iter().map(|host| (*host).to_owned()).collect()),
            secret_name: Some((*secret).to_owned()),
        };
        let tls = Some(blocks.iter().map(block).collect());
        let mut ingress = Ingress { spec: Some(IngressSpec { tls, ..IngressSpec::default() }), ..Ingress::default() };
        let pairs = annotations.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        ingress.metadata.annotations = Some(pairs.collect());
        ingress
    }

    fn wants(ingresses: &[(&str, &Ingress)]) -> Wants {
        let named: Vec<_> =
            ingresses.iter().map(|(name, ingress)| (ObjectName::new("shop", *name), *ingress)).collect();
        wanted(named.iter().map(|(name, ingress)| (name, *ingress)))
    }

    #[test]
    fn an_ingress_asks_by_annotation() {
        let both = [(CLUSTER_ISSUER, "le"), (ISSUER, "le")];
        for (annotations, certificates, problems) in [
            (&[(CLUSTER_ISSUER, "le")][..], 1, 0),
            (&[(ISSUER, "le")], 1, 0),
            (&[(TLS_ACME, "true")], 1, 0),
            (&[(TLS_ACME, "yes")], 0, 0),
            (&[], 0, 0),
            (&both, 0, 1),
        ] {
            let wants = wants(&[("web", &ingress(annotations, &[(&["a.example.com"], "tls")]))]);
            assert_eq!((wants.certificates.len(), wants.problems.len()), (certificates, problems), "{annotations:?}");
        }
    }

    #[test]
    fn a_block_that_cannot_be_ordered_says_where() {
        let asks = [(TLS_ACME, "true")];
        for (blocks, field) in [
            (&[(&["a.example.com", "a_b.example.com"][..], "tls")][..], "spec.tls[0].hosts[1]"),
            (&[(&[], "tls")], "spec.tls[0]"),
            (&[(&["a.example.com"], "")], "spec.tls[0]"),
        ] {
            let wants = wants(&[("web", &ingress(&asks, blocks))]);
            assert_eq!(wants.problems[0].field.to_string(), field);
            assert!(wants.certificates.is_empty(), "{field}");
        }
    }

    #[test]
    fn one_secret_in_two_blocks_orders_neither() {
        let blocks: [(&[&str], &str); 2] = [(&["a.example.com"], "tls"), (&["b.example.com"], "tls")];
        let wants = wants(&[("web", &ingress(&[(TLS_ACME, "true")], &blocks))]);
        assert_eq!((wants.certificates.len(), wants.problems.len()), (0, 2));
    }

    #[test]
    fn one_host_has_a_certificate_for_each_kind_of_key_that_is_asked_for() {
        let blocks: [(&[&str], &str); 2] = [(&["a.example.com"], "tls"), (&["a.example.com"], "tls-rsa")];
        let asks = [(TLS_ACME, "true"), (crate::terms::RSA_SECRETS, "tls-rsa")];
        let wants = wants(&[("web", &ingress(&asks, &blocks))]);
        let kinds: Vec<_> = wants.certificates.iter().map(|want| (&*want.secret.name, want.terms.key)).collect();
        assert_eq!(kinds, [("tls", KeySpec::P256), ("tls-rsa", KeySpec::Rsa2048)]);
        assert!(wants.problems.is_empty());
    }

    proptest! {
        #[test]
        fn who_keeps_a_shared_secret_does_not_depend_on_the_order_of_objects(reversed: bool) {
            let one = ingress(&[(TLS_ACME, "true")], &[(&["a.example.com"], "tls")]);
            let other = ingress(&[(ISSUER, "le")], &[(&["b.example.com"], "tls")]);
            let mut both = [("a", &one), ("b", &other)];
            if reversed { both.reverse(); }
            let wants = wants(&both);
            prop_assert_eq!(wants.certificates[0].ingress.to_string(), "shop/a");
            prop_assert_eq!(wants.problems[0].object.as_ref().unwrap().to_string(), "Ingress shop/b");
        }
    }
}
