//! What the API server demands of an Ingress and an `IngressClass`.
//!
//! Source: `k8s.io/kubernetes/pkg/apis/networking/validation`; `networking.k8s.io/v1` API reference.

use std::net::IpAddr;

use k8s_openapi::api::networking::v1::{
    HTTPIngressPath, Ingress, IngressBackend, IngressClass, IngressRule, IngressTLS,
};

use super::check::Check;
use crate::names;
use crate::object::FieldPath;

const PATH_TYPES: [&str; 3] = ["Exact", "Prefix", "ImplementationSpecific"];
const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";

pub(super) fn ingress(check: &mut Check, ingress: &mut Ingress) {
    let at = FieldPath::of(["spec"]);
    let spec = ingress.spec.clone().unwrap_or_default();
    let rules = spec.rules.as_deref().unwrap_or_default();
    if rules.is_empty() && spec.default_backend.is_none() {
        check.error(at.clone(), "an Ingress needs rules or a defaultBackend");
    }
    if let Some(backend) = &spec.default_backend {
        self::backend(check, &at.key("defaultBackend"), backend);
    }
    if let Some(class) = &spec.ingress_class_name {
        check.form(at.key("ingressClassName"), names::subdomain(class));
        let annotated = ingress.metadata.annotations.as_ref().and_then(|all| all.get(CLASS_ANNOTATION));
        if let Some(annotated) = annotated.filter(|annotated| *annotated != class) {
            let at = FieldPath::of(["metadata", "annotations", CLASS_ANNOTATION]);
            check.error(
                at,
                format!("class {annotated:?} differs from ingressClassName {class:?}; remove this annotation"),
            );
        }
    }
    for (index, entry) in spec.tls.iter().flatten().enumerate() {
        tls(check, &at.key("tls").index(index), entry);
    }
    for (index, entry) in rules.iter().enumerate() {
        rule(check, &at.key("rules").index(index), entry);
    }
}

fn tls(check: &mut Check, at: &FieldPath, entry: &IngressTLS) {
    for (index, name) in entry.hosts.iter().flatten().enumerate() {
        check.form(at.key("hosts").index(index), host(name));
    }
    if let Some(secret) = entry.secret_name.as_deref().filter(|secret| !secret.is_empty()) {
        check.form(at.key("secretName"), names::subdomain(secret));
    }
}

fn rule(check: &mut Check, at: &FieldPath, rule: &IngressRule) {
    if let Some(name) = rule.host.as_deref().filter(|name| !name.is_empty()) {
        check.form(at.key("host"), host(name));
    }
    let Some(http) = &rule.http else { return };
    let at = at.key("http").key("paths");
    if http.paths.is_empty() {
        check
            .error(at.clone(), "at least one path is needed; remove http to send the whole host to the defaultBackend");
    }
    for (index, entry) in http.paths.iter().enumerate() {
        path(check, &at.index(index), entry);
    }
}

fn host(name: &str) -> Result<(), String> {
    if name.parse::<IpAddr>().is_ok() {
        return Err(format!("a host is a DNS name, not the address {name}; leave it out to match every host"));
    }
    if name.contains('*') { names::wildcard_host(name) } else { names::subdomain(name) }
}

fn path(check: &mut Check, at: &FieldPath, path: &HTTPIngressPath) {
    let text = path.path.as_deref().unwrap_or_default();
    match path.path_type.as_str() {
        "" => check.error(at.key("pathType"), "pathType is missing; write Prefix, Exact or ImplementationSpecific"),
        "Exact" | "Prefix" => check.form(at.key("path"), plain_path(text)),
        "ImplementationSpecific" if !text.is_empty() && !text.starts_with('/') => {
            check.error(at.key("path"), format!("path {text:?} must begin with \"/\""));
        }
        other => check.one_of(at.key("pathType"), Some(other), &PATH_TYPES),
    }
    backend(check, &at.key("backend"), &path.backend);
}

/// The form of an `Exact` or `Prefix` path.
fn plain_path(path: &str) -> Result<(), String> {
    if !path.starts_with('/') {
        return Err(format!("path {path:?} must begin with \"/\""));
    }
    if let Some(part) = ["//", "/./", "/../", "%2f", "%2F"].into_iter().find(|part| path.contains(part)) {
        return Err(format!("path {path:?} must not contain {part:?}"));
    }
    match ["/..", "/."].into_iter().find(|end| path.ends_with(end)) {
        Some(end) => Err(format!("path {path:?} must not end in {end:?}")),
        None => Ok(()),
    }
}

fn backend(check: &mut Check, at: &FieldPath, backend: &IngressBackend) {
    let service = match (&backend.service, &backend.resource) {
        (Some(_), Some(_)) => return check.error(at.clone(), "a backend is a service or a resource, not both"),
        (None, None) => {
            return check.error(at.clone(), "a backend needs a service: {name: ..., port: {number: ...}}");
        }
        (None, Some(resource)) => {
            for (key, value) in [("kind", &resource.kind), ("name", &resource.name)] {
                if value.is_empty() {
                    check.error(at.key("resource").key(key), format!("the {key} of the resource is missing"));
                }
            }
            return;
        }
        (Some(service), None) => service,
    };
    let at = at.key("service");
    if service.name.is_empty() {
        check.error(at.key("name"), "the name of the Service is missing");
    } else {
        check.form(at.key("name"), names::label(&service.name));
    }
    let port = service.port.clone().unwrap_or_default();
    let at = at.key("port");
    match (port.name.as_deref().filter(|name| !name.is_empty()), port.number) {
        (Some(_), Some(number)) if number != 0 => check.error(at, "a port has a name or a number, not both"),
        (Some(name), _) => check.form(at.key("name"), names::port(name)),
        (None, Some(number)) => check.port_number(at.key("number"), number),
        (None, None) => check.error(at, "the port of the Service is missing; write port: {number: ...} or {name: ...}"),
    }
}

pub(super) fn ingress_class(check: &mut Check, class: &mut IngressClass) {
    let at = FieldPath::of(["spec"]);
    let spec = class.spec.clone().unwrap_or_default();
    check.form(at.key("controller"), controller(spec.controller.as_deref().unwrap_or_default()));
    let Some(parameters) = spec.parameters else { return };
    let at = at.key("parameters");
    for (key, value) in [("kind", &parameters.kind), ("name", &parameters.name)] {
        if value.is_empty() {
            check.error(at.key(key), format!("the {key} of the parameters is missing"));
        }
    }
    check.one_of(at.key("scope"), parameters.scope.as_deref(), &["Cluster", "Namespace"]);
    match (parameters.scope.as_deref(), parameters.namespace) {
        (Some("Namespace"), None) => check.error(at.key("namespace"), "scope Namespace needs a namespace"),
        (Some("Cluster") | None, Some(_)) => {
            check.error(at.key("namespace"), "scope Cluster has no namespace; remove it");
        }
        _ => {}
    }
}

/// A controller is named `domain/path`.
fn controller(name: &str) -> Result<(), String> {
    let form = "write it like \"ferrogate.io/ingress-controller\"";
    if name.is_empty() {
        return Err(format!("the controller is missing; {form}"));
    }
    let letters = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@%/".contains(&byte);
    match name.split_once('/') {
        Some((domain, path)) if !path.is_empty() && path.bytes().all(letters) && name.len() <= 250 => {
            names::subdomain(domain).map_err(|why| format!("{why}; {form}"))
        }
        _ => Err(format!("{name:?} is not a domain and a path; {form}")),
    }
}
