//! The resources that the server knows: what a URL names, and what its objects are called.

/// One resource of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Resource {
    /// API group, empty for the core group.
    pub group: &'static str,
    /// Version of the group.
    pub version: &'static str,
    /// Plural name, as in URLs.
    pub plural: &'static str,
    /// `kind` of its objects.
    pub kind: &'static str,
    /// Whether its objects live in a namespace.
    pub namespaced: bool,
    /// Whether `status` is written apart from the rest.
    pub has_status: bool,
}

impl Resource {
    const fn new(group: &'static str, plural: &'static str, kind: &'static str) -> Self {
        Self { group, version: "v1", plural, kind, namespaced: true, has_status: false }
    }

    const fn cluster_scoped(self) -> Self {
        Self { namespaced: false, ..self }
    }

    const fn with_status(self) -> Self {
        Self { has_status: true, ..self }
    }

    /// `group/version`, or the version alone for the core group.
    #[must_use]
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.to_owned() } else { format!("{}/{}", self.group, self.version) }
    }

    /// The path of its collection: of one namespace, or of all.
    #[must_use]
    pub fn collection(&self, namespace: Option<&str>) -> String {
        let root = if self.group.is_empty() { "/api".to_owned() } else { format!("/apis/{}", self.group) };
        match namespace {
            Some(namespace) => format!("{root}/{}/namespaces/{namespace}/{}", self.version, self.plural),
            None => format!("{root}/{}/{}", self.version, self.plural),
        }
    }
}

/// Every resource served.
pub const RESOURCES: &[Resource] = &[
    Resource::new("", "configmaps", "ConfigMap"),
    Resource::new("", "events", "Event"),
    Resource::new("", "namespaces", "Namespace").cluster_scoped().with_status(),
    Resource::new("", "nodes", "Node").cluster_scoped().with_status(),
    Resource::new("", "secrets", "Secret"),
    Resource::new("", "services", "Service").with_status(),
    Resource::new("cert-manager.io", "clusterissuers", "ClusterIssuer").cluster_scoped().with_status(),
    Resource::new("cert-manager.io", "issuers", "Issuer").with_status(),
    Resource::new("coordination.k8s.io", "leases", "Lease"),
    Resource::new("discovery.k8s.io", "endpointslices", "EndpointSlice"),
    Resource::new("events.k8s.io", "events", "Event"),
    Resource::new("networking.k8s.io", "ingresses", "Ingress").with_status(),
    Resource::new("networking.k8s.io", "ingressclasses", "IngressClass").cluster_scoped(),
];

/// The resource of that kind, the core group first.
#[must_use]
pub fn by_kind(kind: &str) -> Option<&'static Resource> {
    RESOURCES.iter().find(|resource| resource.kind == kind)
}

/// What a URL path names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The resource.
    pub resource: &'static Resource,
    /// The namespace, if the path names one.
    pub namespace: Option<String>,
    /// The object, if the path names one.
    pub name: Option<String>,
    /// `status`, if the path ends in a subresource.
    pub subresource: Option<String>,
}

impl Target {
    /// Reads `/api/v1/...` and `/apis/GROUP/VERSION/...`; `None` for any other path.
    #[must_use]
    pub fn parse(path: &str) -> Option<Self> {
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let (group, version, rest) = match parts.as_slice() {
            ["api", version, rest @ ..] => ("", *version, rest),
            ["apis", group, version, rest @ ..] => (*group, *version, rest),
            _ => return None,
        };
        let (namespace, rest) = match rest {
            ["namespaces", namespace, plural, rest @ ..] if *plural != "status" => {
                return Self::within(group, version, Some((*namespace).to_owned()), plural, rest);
            }
            rest => (None, rest),
        };
        let (plural, rest) = rest.split_first()?;
        Self::within(group, version, namespace, plural, rest)
    }

    fn within(group: &str, version: &str, namespace: Option<String>, plural: &str, rest: &[&str]) -> Option<Self> {
        let resource = RESOURCES.iter().find(|it| it.group == group && it.version == version && it.plural == plural)?;
        let (name, subresource) = match rest {
            [] => (None, None),
            [name] => (Some((*name).to_owned()), None),
            [name, subresource] => (Some((*name).to_owned()), Some((*subresource).to_owned())),
            _ => return None,
        };
        Some(Self { resource, namespace, name, subresource })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_a_collection_an_object_or_a_subresource() {
        for (path, kind, namespace, name, subresource) in [
            ("/api/v1/services", "Service", None, None, None),
            ("/api/v1/namespaces", "Namespace", None, None, None),
            ("/api/v1/namespaces/shop", "Namespace", None, Some("shop"), None),
            ("/api/v1/namespaces/shop/status", "Namespace", None, Some("shop"), Some("status")),
            ("/api/v1/namespaces/shop/services/web/status", "Service", Some("shop"), Some("web"), Some("status")),
            ("/apis/networking.k8s.io/v1/ingressclasses/ours", "IngressClass", None, Some("ours"), None),
        ] {
            let target = Target::parse(path).unwrap();
            let found = (target.namespace.as_deref(), target.name.as_deref(), target.subresource.as_deref());
            assert_eq!(target.resource.kind, kind, "{path}");
            assert_eq!(found, (namespace, name, subresource), "{path}");
        }
        assert_eq!(Target::parse("/apis/apps/v1/deployments"), None);
    }
}
