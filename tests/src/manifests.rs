//! Builders of manifests: what a test says about an object, as the YAML an operator would write.

use std::fmt::Write as _;
use std::net::SocketAddr;

use crate::certificate::Certificate;

/// Our class, as its controller ships it.
pub const INGRESS_CLASS: &str = "\
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata:
  name: ferrogate
spec:
  controller: ferrogate.io/ingress-controller
";

/// MetalLB's `ConfigMap` around a configuration text.
#[must_use]
pub fn config_map(text: &str) -> String {
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  namespace: metallb-system\n  name: config\ndata:\n  config: |\n{}",
        indent(text, 4)
    )
}

/// MetalLB's `ConfigMap` with one layer-2 pool, `edge`, of these ranges.
#[must_use]
pub fn pool(ranges: &[&str]) -> String {
    let mut text = "address-pools:\n- name: edge\n  protocol: layer2\n  addresses:\n".to_owned();
    for range in ranges {
        let _ = writeln!(text, "  - {range}");
    }
    config_map(&text)
}

/// A `LoadBalancer` Service of port 80.
#[must_use]
pub fn load_balancer(namespace: &str, name: &str) -> String {
    service_of_type(namespace, name, "LoadBalancer")
}

/// A `ClusterIP` Service of port 80, named `http`, which goes to port 8080 of its endpoints.
#[must_use]
pub fn service(namespace: &str, name: &str) -> String {
    service_of_type(namespace, name, "ClusterIP")
}

fn service_of_type(namespace: &str, name: &str, kind: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata:\n  namespace: {namespace}\n  name: {name}\nspec:\n  type: {kind}\n  \
         ports:\n  - name: http\n    port: 80\n    targetPort: 8080\n"
    )
}

/// How an endpoint is doing, as an `EndpointSlice` says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// It takes requests.
    Ready,
    /// Its Pod is being ended and still answers.
    Leaving,
    /// Its Pod is being ended and answers no more.
    Gone,
}

impl Condition {
    const fn yaml(self) -> &'static str {
        match self {
            Self::Ready => "{ready: true, serving: true, terminating: false}",
            Self::Leaving => "{ready: false, serving: true, terminating: true}",
            Self::Gone => "{ready: false, serving: false, terminating: true}",
        }
    }
}

/// The ready endpoints of a Service, one `EndpointSlice` for each (their ports may differ).
#[must_use]
pub fn endpoints(namespace: &str, service: &str, addresses: &[SocketAddr]) -> String {
    let ready: Vec<_> = addresses.iter().map(|address| (*address, Condition::Ready)).collect();
    endpoints_as(namespace, service, &ready)
}

/// As [`endpoints`], in whatever condition.
#[must_use]
pub fn endpoints_as(namespace: &str, service: &str, endpoints: &[(SocketAddr, Condition)]) -> String {
    let slice = |(index, (address, condition)): (usize, &(SocketAddr, Condition))| {
        format!(
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  namespace: {namespace}\n  name: \
             {service}-{index}\n  labels:\n    kubernetes.io/service-name: {service}\naddressType: IPv4\nports:\n- \
             name: http\n  port: {}\n  protocol: TCP\nendpoints:\n- addresses: [{}]\n  conditions: {}\n",
            address.port(),
            address.ip(),
            condition.yaml()
        )
    };
    documents(&endpoints.iter().enumerate().map(slice).collect::<Vec<_>>())
}

/// A Service and its endpoints in one text.
#[must_use]
pub fn backend(namespace: &str, name: &str, addresses: &[SocketAddr]) -> String {
    documents(&[service(namespace, name), endpoints(namespace, name, addresses)])
}

/// A TLS Secret.
#[must_use]
pub fn tls_secret(namespace: &str, name: &str, pair: &Certificate) -> String {
    secret_of(namespace, name, pair.certificate.as_bytes(), pair.key.as_bytes())
}

/// A TLS Secret of any bytes.
#[must_use]
pub fn secret_of(namespace: &str, name: &str, certificate: &[u8], key: &[u8]) -> String {
    format!(
        "apiVersion: v1\nkind: Secret\ntype: kubernetes.io/tls\nmetadata:\n  namespace: {namespace}\n  name: \
         {name}\ndata:\n  tls.crt: {}\n  tls.key: {}\n",
        base64(certificate),
        base64(key)
    )
}

/// An Ingress under construction.
#[derive(Clone, Debug)]
pub struct Ingress {
    namespace: String,
    name: String,
    tls: String,
    rules: String,
}

impl Ingress {
    /// An Ingress of our class with no rules yet.
    #[must_use]
    pub fn new(namespace: &str, name: &str) -> Self {
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        Self { namespace, name, tls: String::new(), rules: String::new() }
    }

    /// Sends `host` and every path below `path` to port 80 of `service`.
    #[must_use]
    pub fn rule(self, host: &str, path: &str, service: &str) -> Self {
        self.rule_of_type(host, path, "Prefix", service)
    }

    /// As [`Self::rule`], with another path type.
    #[must_use]
    pub fn rule_of_type(mut self, host: &str, path: &str, kind: &str, service: &str) -> Self {
        let _ = write!(
            self.rules,
            "  - host: \"{host}\"\n    http:\n      paths:\n      - path: {path}\n        pathType: {kind}\n        \
             backend:\n          service:\n            name: {service}\n            port:\n              number: 80\n"
        );
        self
    }

    /// Serves these hosts with the certificate of `secret`.
    #[must_use]
    pub fn tls(mut self, secret: &str, hosts: &[&str]) -> Self {
        let hosts = hosts.iter().map(|host| format!("\"{host}\"")).collect::<Vec<_>>().join(", ");
        let _ = write!(self.tls, "  - secretName: {secret}\n    hosts: [{hosts}]\n");
        self
    }

    /// The manifest.
    #[must_use]
    pub fn yaml(&self) -> String {
        let tls = if self.tls.is_empty() { String::new() } else { format!("  tls:\n{}", self.tls) };
        format!(
            "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata:\n  namespace: {}\n  name: {}\nspec:\n  \
             ingressClassName: ferrogate\n{tls}  rules:\n{}",
            self.namespace, self.name, self.rules
        )
    }
}

/// Several documents as one text.
#[must_use]
pub fn documents<T: AsRef<str>>(parts: &[T]) -> String {
    parts.iter().map(AsRef::as_ref).collect::<Vec<_>>().join("---\n")
}

/// Every line moved right.
fn indent(text: &str, by: usize) -> String {
    text.lines().fold(String::new(), |mut out, line| {
        let _ = writeln!(out, "{:by$}{line}", "");
        out
    })
}

/// RFC 4648 §4, padded.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |index: usize| u32::from(group.get(index).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for position in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * position)) as usize & 63];
            out.push(if position <= group.len() { char::from(letter) } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_rfc_4648_section_10() {
        for (plain, coded) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("fooba", "Zm9vYmE=")]
        {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }
}
