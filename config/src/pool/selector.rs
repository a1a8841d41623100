//! Which objects are meant: Kubernetes label selectors, and the Services that a pool is kept for.

use std::collections::BTreeMap;

/// Which Services a pool is kept for: `spec.serviceAllocation` of MetalLB's `IPAddressPool`.
///
/// A pool that is kept for a Service is tried before those that are for all, and is not given to any other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceAllocation {
    /// Among the pools kept for a Service the lower is tried first; 0 comes last.
    pub priority: u32,
    /// Namespaces it is for. Empty together with [`Self::namespace_selectors`]: all.
    pub namespaces: Vec<String>,
    /// Namespaces it is for as well, by their labels.
    pub namespace_selectors: Vec<LabelSelector>,
    /// Services it is for, by their labels; empty for all of these namespaces.
    pub service_selectors: Vec<LabelSelector>,
}

impl ServiceAllocation {
    /// Whether it is for a Service with these labels, in a namespace of that name and with those labels.
    #[must_use]
    pub fn admits(&self, service: &Labels, namespace: &str, namespace_labels: &Labels) -> bool {
        let anywhere = self.namespaces.is_empty() && self.namespace_selectors.is_empty();
        let named = || self.namespaces.iter().any(|name| name == namespace);
        let selected = || self.namespace_selectors.iter().any(|it| it.matches(namespace_labels));
        let here = anywhere || named() || selected();
        here && (self.service_selectors.is_empty() || self.service_selectors.iter().any(|it| it.matches(service)))
    }
}

/// The labels of an object.
pub type Labels = BTreeMap<String, String>;

/// A Kubernetes label selector: all requirements must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector {
    /// Requirements; `match-labels` count as `In` with one value.
    pub requirements: Vec<Requirement>,
}

impl LabelSelector {
    /// Whether an object with these labels is selected; without requirements every one is.
    #[must_use]
    pub fn matches(&self, labels: &Labels) -> bool {
        self.requirements.iter().all(|requirement| requirement.holds_of(labels))
    }
}

/// One requirement of a label selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// The label.
    pub key: String,
    /// What must hold of it.
    pub operator: Operator,
    /// Values for `In` and `NotIn`.
    pub values: Vec<String>,
}

impl Requirement {
    /// As Kubernetes has it, `NotIn` also holds of an object without the label.
    fn holds_of(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.key);
        let listed = value.is_some_and(|value| self.values.contains(value));
        match self.operator {
            Operator::In => listed,
            Operator::NotIn => !listed,
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
        }
    }
}

/// The operator of a label requirement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is the Kubernetes operator of that name")]
pub enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn selector(key: &str, operator: Operator, values: &[&str]) -> LabelSelector {
        let values = values.iter().map(|value| (*value).to_owned()).collect();
        LabelSelector { requirements: vec![Requirement { key: key.to_owned(), operator, values }] }
    }

    #[test]
    fn a_requirement_holds_as_kubernetes_says() {
        for (operator, values, web, api, nothing) in [
            (Operator::In, &["web"][..], true, false, false),
            (Operator::NotIn, &["web"], false, true, true),
            (Operator::Exists, &[], true, true, false),
            (Operator::DoesNotExist, &[], false, false, true),
        ] {
            let selector = selector("app", operator, values);
            let found = [&[("app", "web")][..], &[("app", "api")], &[]].map(|pairs| selector.matches(&labels(pairs)));
            assert_eq!(found, [web, api, nothing], "{operator:?}");
        }
        assert!(LabelSelector::default().matches(&Labels::new()), "an empty selector selects everything");
    }

    #[test]
    fn a_pool_is_for_its_namespaces_and_within_them_for_its_services() {
        let of = |namespaces: &[&str], by_label: bool, services: bool| ServiceAllocation {
            namespaces: namespaces.iter().map(|name| (*name).to_owned()).collect(),
            namespace_selectors: by_label.then(|| selector("team", Operator::In, &["red"])).into_iter().collect(),
            service_selectors: services.then(|| selector("app", Operator::In, &["web"])).into_iter().collect(),
            priority: 0,
        };
        let (web, red, none) = (labels(&[("app", "web")]), labels(&[("team", "red")]), Labels::new());
        for (allocation, service, namespace, namespace_labels, expected) in [
            (of(&[], false, false), &none, "any", &none, true),
            (of(&["shop"], false, false), &none, "shop", &none, true),
            (of(&["shop"], false, false), &none, "other", &none, false),
            (of(&["shop"], true, false), &none, "other", &red, true),
            (of(&[], true, false), &none, "other", &none, false),
            (of(&["shop"], false, true), &web, "shop", &none, true),
            (of(&["shop"], false, true), &none, "shop", &none, false),
            (of(&["shop"], false, true), &web, "other", &none, false),
        ] {
            assert_eq!(allocation.admits(service, namespace, namespace_labels), expected, "{allocation:?} {namespace}");
        }
    }
}
