//! Kubernetes objects, as short as a test needs them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use config::object::ObjectName;
use config::shared::SharedMap;
use config::snapshot::Snapshot;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::Ingress;
use serde_json::{Value, json};

/// A snapshot in the making; everything is in namespace `shop`.
#[derive(Clone, Default)]
pub(crate) struct World {
    services: SharedMap<ObjectName, Arc<Service>>,
    slices: SharedMap<ObjectName, Arc<EndpointSlice>>,
    ingresses: SharedMap<ObjectName, Arc<Ingress>>,
    secrets: SharedMap<ObjectName, Arc<Secret>>,
    config_maps: SharedMap<ObjectName, Arc<ConfigMap>>,
}

fn name(name: &str) -> ObjectName {
    ObjectName::new("shop", name)
}

fn parse<T: serde::de::DeserializeOwned>(value: Value) -> Arc<T> {
    Arc::new(serde_json::from_value(value).unwrap())
}

impl World {
    /// A Service on port 80 with these endpoints.
    pub(crate) fn service(mut self, service: &str, endpoints: &[SocketAddr]) -> Self {
        let object = json!({"metadata": {"name": service, "namespace": "shop"}, "spec": {"ports": [{"port": 80}]}});
        self.services.insert(name(service), parse(object));
        for (index, addr) in endpoints.iter().enumerate() {
            let slice = format!("{service}-{index}");
            let object = json!({
                "metadata": {"name": slice, "namespace": "shop", "labels": {"kubernetes.io/service-name": service}},
                "addressType": "IPv4",
                "ports": [{"port": addr.port()}],
                "endpoints": [{"addresses": [addr.ip()], "conditions": {"ready": true}}],
            });
            self.slices.insert(name(&slice), parse(object));
        }
        self
    }

    /// A Service whose port 53 is of UDP.
    pub(crate) fn udp_service(self, service: &str, endpoints: &[SocketAddr]) -> Self {
        let mut world = self.service(service, endpoints);
        let object = Arc::make_mut(world.services.get_mut(&name(service)).unwrap());
        let port = &mut object.spec.as_mut().unwrap().ports.as_mut().unwrap()[0];
        (port.port, port.protocol) = (53, Some("UDP".to_owned()));
        for index in 0..endpoints.len() {
            let slice = Arc::make_mut(world.slices.get_mut(&name(&format!("{service}-{index}"))).unwrap());
            slice.ports.as_mut().unwrap()[0].protocol = Some("UDP".to_owned());
        }
        world
    }

    /// An Ingress that sends `host` and everything below `path` to a Service.
    pub(crate) fn route(self, ingress: &str, host: &str, path: &str, service: &str) -> Self {
        self.ingress(ingress, host, path, service, &json!([]))
    }

    /// As [`Self::route`], with a certificate.
    pub(crate) fn tls_route(self, ingress: &str, host: &str, service: &str, secret: &str) -> Self {
        self.ingress(ingress, host, "/", service, &json!([{"hosts": [host], "secretName": secret}]))
    }

    /// An Ingress of class `nginx` with these paths, all to one Service, and these annotations: of ingress-nginx, or with
    /// their whole key.
    pub(crate) fn annotated(
        self,
        ingress: &str,
        host: &str,
        paths: &[&str],
        service: &str,
        annotations: &[(&str, &str)],
    ) -> Self {
        self.annotated_tls(ingress, host, paths, service, annotations, &json!([]))
    }

    /// As [`Self::annotated`], without a class.
    pub(crate) fn ours(
        mut self,
        ingress: &str,
        host: &str,
        path: &str,
        service: &str,
        annotations: &[(&str, &str)],
    ) -> Self {
        self = self.annotated(ingress, host, &[path], service, annotations);
        let object = Arc::make_mut(self.ingresses.get_mut(&name(ingress)).unwrap());
        object.metadata.annotations.as_mut().unwrap().remove("kubernetes.io/ingress.class");
        self
    }

    /// As [`Self::annotated`], with `spec.tls`.
    pub(crate) fn annotated_tls(
        mut self,
        ingress: &str,
        host: &str,
        paths: &[&str],
        service: &str,
        annotations: &[(&str, &str)],
        tls: &Value,
    ) -> Self {
        let whole = |key: &str| {
            if key.contains('/') { key.to_owned() } else { format!("nginx.ingress.kubernetes.io/{key}") }
        };
        let keys = annotations.iter().map(|(key, text)| (whole(key), text));
        let mut written: BTreeMap<String, &str> = keys.map(|(key, text)| (key, *text)).collect();
        written.insert("kubernetes.io/ingress.class".to_owned(), "nginx");
        let backend = json!({"service": {"name": service, "port": {"number": 80}}});
        let path = |path: &&str| json!({"path": path, "pathType": "ImplementationSpecific", "backend": backend});
        let paths: Vec<_> = paths.iter().map(path).collect();
        let created = "2026-01-01T00:00:00Z";
        let object = json!({
            "metadata": {
                "name": ingress, "namespace": "shop", "creationTimestamp": created, "annotations": written,
            },
            "spec": {"tls": tls, "rules": [{"host": host, "http": {"paths": paths}}]},
        });
        self.ingresses.insert(name(ingress), parse(object));
        self
    }

    fn ingress(mut self, ingress: &str, host: &str, path: &str, service: &str, tls: &Value) -> Self {
        let backend = json!({"service": {"name": service, "port": {"number": 80}}});
        let paths = json!([{"path": path, "pathType": "Prefix", "backend": backend}]);
        let object = json!({
            "metadata": {"name": ingress, "namespace": "shop", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"tls": tls, "rules": [{"host": host, "http": {"paths": paths}}]},
        });
        self.ingresses.insert(name(ingress), parse(object));
        self
    }

    /// The global settings.
    pub(crate) fn global(self, data: &[(&str, &str)]) -> Self {
        self.config_map("ingress-nginx", "ingress-nginx-controller", data)
    }

    /// A `ConfigMap` with these keys.
    pub(crate) fn config_map(mut self, namespace: &str, name: &str, data: &[(&str, &str)]) -> Self {
        let data: BTreeMap<&str, &str> = data.iter().copied().collect();
        let object = json!({"metadata": {"name": name, "namespace": namespace}, "data": data});
        self.config_maps.insert(ObjectName::new(namespace, name), parse(object));
        self
    }

    /// A Secret with these keys.
    pub(crate) fn secret(mut self, secret: &str, data: &[(&str, &str)]) -> Self {
        let data = data.iter().map(|(key, text)| ((*key).to_owned(), ByteString((*text).into())));
        let object = Secret { data: Some(data.collect()), ..Secret::default() };
        self.secrets.insert(name(secret), Arc::new(object));
        self
    }

    /// A Secret with a self-signed certificate for `host`; also its DER.
    pub(crate) fn certificate(mut self, secret: &str, host: &str) -> (Self, Vec<u8>) {
        let pair = rcgen::generate_simple_self_signed([host.to_owned()]).unwrap();
        let data = [("tls.crt", pair.cert.pem()), ("tls.key", pair.signing_key.serialize_pem())];
        let data = data.into_iter().map(|(key, text)| (key.to_owned(), ByteString(text.into_bytes())));
        let object = Secret {
            metadata: k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
                name: Some(secret.to_owned()),
                namespace: Some("shop".to_owned()),
                ..Default::default()
            },
            type_: Some("kubernetes.io/tls".to_owned()),
            data: Some(data.collect()),
            ..Secret::default()
        };
        self.secrets.insert(name(secret), Arc::new(object));
        (self, pair.cert.der().to_vec())
    }

    pub(crate) fn snapshot(self) -> Snapshot {
        Snapshot {
            generation: 1,
            services: Arc::new(self.services),
            endpoint_slices: Arc::new(self.slices),
            ingresses: Arc::new(self.ingresses),
            secrets: Arc::new(self.secrets),
            config_maps: Arc::new(self.config_maps),
            ..Snapshot::default()
        }
    }
}

/// One host, one Service, these endpoints: `shop.example.com`.
pub(crate) fn shop(endpoints: &[SocketAddr]) -> Snapshot {
    World::default().service("web", endpoints).route("web", "shop.example.com", "/", "web").snapshot()
}
