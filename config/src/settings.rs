//! Names and defaults that several parts agree on.

/// Namespace and name of MetalLB's `ConfigMap`, unless the operator says otherwise.
pub const DEFAULT_CONFIG_MAP: (&str, &str) = ("metallb-system", "config");

/// The key of that `ConfigMap` under which the configuration text stands.
pub const CONFIG_MAP_KEY: &str = "config";

/// The key of that `ConfigMap` under which issuers of certificates stand.
pub const ISSUERS_KEY: &str = "acme";

/// The name of the Secret beside that `ConfigMap` in which accounts and running orders are kept.
pub const ACME_STATE: &str = "ferrogate-acme";

/// Namespace and name of the `ConfigMap` of global settings, unless the operator names another; ingress-nginx's.
pub const GLOBAL_CONFIG_MAP: (&str, &str) = ("ingress-nginx", "ingress-nginx-controller");

/// The name of our `IngressClass`.
pub const INGRESS_CLASS: &str = "ferrogate";

/// The `spec.controller` of Ingress classes that are ours.
pub const CONTROLLER: &str = "ferrogate.io/ingress-controller";

/// Namespace and name of the Service that leads to the ingress, unless the operator names another.
pub const PUBLISH_SERVICE: (&str, &str) = ("ferrogate-system", "ferrogate-ingress");

/// What our own annotations begin with.
pub const ANNOTATION_PREFIX: &str = "ferrogate.io/";

/// The namespace of an object that names none.
pub const DEFAULT_NAMESPACE: &str = "default";
