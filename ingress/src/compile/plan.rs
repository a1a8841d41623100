//! One Ingress, read: hosts, paths, backends and TLS entries as types, and what is wrong with it by itself.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use config::annotation::{self, AnnotationProblem, Annotations, NGINX_PREFIX, Template};
use config::diagnostic::Severity;
use config::object::{Kind, ObjectName, ObjectRef};
use config::settings::ANNOTATION_PREFIX;
use jiff::Timestamp;
use k8s_openapi::api::networking::v1::{Ingress, IngressBackend, IngressRule, IngressServiceBackend, IngressTLS};

use super::finding::{Finding, Part};
use super::global::Ground;
use super::identities::{Credentials, Identities};
use crate::backend::{BackendProblem, PortRef};
use crate::filter::Zone;
use crate::host::HostMatch;
use crate::path::PathMatch;

/// An Ingress of ours.
#[derive(Debug)]
pub(super) struct IngressPlan {
    source: Arc<Ingress>,
    pub(super) name: ObjectName,
    pub(super) rules: Vec<Rule>,
    pub(super) default: Option<Backend>,
    /// Who stands in for Services without endpoints and answers in place of errors.
    pub(super) standby: Option<Backend>,
    pub(super) tls: Vec<Tls>,
    pub(super) findings: Vec<Finding>,
    pub(super) annotations: Annotations,
    /// Who asked how often; outlives this plan.
    pub(super) zone: Arc<Zone>,
    /// For TLS towards endpoints.
    pub(super) credentials: Credentials,
    /// Whether its class is `nginx`, so that what is not said is as ingress-nginx has it.
    pub(super) is_compat: bool,
    /// What holds where it says nothing.
    pub(super) ground: Arc<Ground>,
}

/// One element of `spec.rules` with a valid host.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) host: HostMatch,
    pub(super) paths: Vec<PathRule>,
}

/// One element of `http.paths` with a valid path.
#[derive(Debug)]
pub(super) struct PathRule {
    pub(super) path: PathMatch,
    pub(super) backend: Backend,
}

/// A backend, and where it stands.
#[derive(Debug)]
pub(super) struct Backend {
    pub(super) service: ObjectName,
    pub(super) port: PortRef,
    /// Why it can never be served.
    pub(super) problem: Option<BackendProblem>,
    at: At,
}

/// Where a backend is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// `spec.defaultBackend`.
    Default,
    /// This path of this rule.
    Path(usize, usize),
    /// The annotation of this key.
    Annotation(&'static str),
}

/// One element of `spec.tls`.
#[derive(Debug)]
pub(super) struct Tls {
    /// Its hosts, and the position of each.
    pub(super) hosts: Vec<(usize, HostMatch)>,
    /// Its Secret; without one the default certificate is meant.
    pub(super) secret: Option<ObjectName>,
    pub(super) at: usize,
}

impl IngressPlan {
    /// Reads an Ingress, or takes over the `previous` reading of one with the same meaning.
    pub(super) fn of(
        name: &ObjectName,
        source: &Arc<Ingress>,
        ground: &Arc<Ground>,
        identities: &mut Identities<'_>,
        previous: Option<&Arc<Self>>,
    ) -> Arc<Self> {
        let same = previous
            .filter(|previous| Arc::ptr_eq(&previous.ground, ground) && means_the_same(&previous.source, source));
        let has_same = |previous: &Arc<Self>, identities: &mut Identities<'_>| {
            previous.credentials == identities.get(name, &previous.annotations.upstream.tls)
        };
        match same {
            Some(previous) if has_same(previous, identities) => Arc::clone(previous),
            _ => {
                let zone = previous.map(|previous| Arc::clone(&previous.zone)).unwrap_or_default();
                Arc::new(Self { zone, ..Self::read(name, source, ground, identities) })
            }
        }
    }

    fn read(name: &ObjectName, source: &Arc<Ingress>, ground: &Arc<Ground>, identities: &mut Identities<'_>) -> Self {
        let mut plan = Self {
            source: Arc::clone(source),
            name: name.clone(),
            rules: Vec::new(),
            default: None,
            standby: None,
            tls: Vec::new(),
            findings: Vec::new(),
            annotations: Annotations::default(),
            zone: Arc::default(),
            credentials: Ok(None),
            is_compat: class(source) == Some("nginx"),
            ground: Arc::clone(ground),
        };
        plan.read_annotations();
        plan.read_credentials(identities);
        plan.standby = plan.annotations.errors.service.as_deref().map(|service| plan.standby(service));
        let Some(spec) = &source.spec else { return plan };
        plan.default = spec.default_backend.as_ref().map(|backend| plan.backend(backend, At::Default));
        for (at, rule) in spec.rules.iter().flatten().enumerate() {
            plan.add_rule(at, rule);
        }
        for (at, tls) in spec.tls.iter().flatten().enumerate() {
            plan.add_tls(at, tls);
        }
        plan
    }

    fn read_annotations(&mut self) {
        let source = Arc::clone(&self.source);
        let nothing = BTreeMap::new();
        let written = source.metadata.annotations.as_ref().unwrap_or(&nothing);
        let (mut read, problems) = Annotations::read_with(written, &self.ground.global.annotations);
        read.steps.splice(0..0, self.ground.steps.iter().cloned());
        self.annotations = read;
        let object = self.object();
        self.findings.extend(problems.into_iter().map(|problem| Finding::annotation(object.clone(), problem)));
    }

    fn read_credentials(&mut self, identities: &mut Identities<'_>) {
        self.credentials = identities.get(&self.name, &self.annotations.upstream.tls);
        if let Err(error) = &self.credentials {
            let (key, message) = (self.key_of(error.name), error.to_string());
            self.annotations.denied = true;
            let problem = AnnotationProblem { key, severity: Severity::Error, message };
            self.findings.push(Finding::annotation(self.object(), problem));
        }
    }

    /// The Secrets that it names, for whatever it be.
    pub(super) fn secrets(&self) -> BTreeSet<ObjectName> {
        let annotations = self.source.metadata.annotations.as_ref();
        let named = annotations.into_iter().flat_map(annotation::secrets).map(|it| it.secret);
        // Of another namespace nothing is used.
        let own = named.map(|text| text.rsplit_once('/').map_or(text, |(_, name)| name));
        let own = own.map(|name| ObjectName::new(Arc::clone(&self.name.namespace), name));
        own.chain(self.tls.iter().filter_map(|tls| tls.secret.clone())).collect()
    }

    /// Its annotations that are for an ingress controller.
    pub(super) fn written(&self) -> BTreeMap<String, String> {
        let written = self.source.metadata.annotations.iter().flatten();
        let is_ours = |key: &str| [NGINX_PREFIX, ANNOTATION_PREFIX].iter().any(|prefix| key.starts_with(prefix));
        written.filter(|(key, _)| is_ours(key)).map(|(key, text)| (key.clone(), text.clone())).collect()
    }

    /// What the Ingress is called in reports.
    pub(super) fn object(&self) -> ObjectRef {
        ObjectRef::new(Kind::Ingress, self.name.clone())
    }

    /// Its place among others that define the same host; the smallest is asked first.
    pub(super) fn rank(&self) -> (bool, Option<Timestamp>, Reverse<&ObjectName>) {
        let created = self.source.metadata.creation_timestamp.as_ref().map(|time| time.0);
        (created.is_none(), created, Reverse(&self.name))
    }

    /// Whether it is a catch-all: a default backend and no rules.
    pub(super) fn is_catch_all(&self) -> bool {
        let rules = self.source.spec.as_ref().and_then(|spec| spec.rules.as_ref());
        rules.is_none_or(Vec::is_empty) && self.default.is_some()
    }

    /// The whole key of an annotation: the one that is written, ours if both are.
    pub(super) fn key_of(&self, name: &str) -> String {
        let written = |key: &String| self.source.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(key));
        let key = |prefix: &str| format!("{prefix}{name}");
        Some(key(ANNOTATION_PREFIX)).filter(written).unwrap_or_else(|| key(NGINX_PREFIX))
    }

    /// Whether all paths of its hosts are expressions, those of other Ingresses too, as in ingress-nginx.
    pub(super) fn rules_by_regex(&self) -> bool {
        let rewrite = &self.annotations.rewrite;
        let is_rewritten = |target: &Template| {
            let mut paths = self.rules.iter().flat_map(|rule| &rule.paths);
            paths.any(|path| path.path.as_written() != target.as_str())
        };
        self.is_compat && (rewrite.use_regex || rewrite.target.as_ref().is_some_and(is_rewritten))
    }

    fn add_rule(&mut self, at: usize, rule: &IngressRule) {
        let host = match HostMatch::parse(rule.host.as_deref().unwrap_or_default()) {
            Ok(host) => host,
            Err(error) => {
                return self.refuse(&[Part::Key("rules"), Part::At(at), Part::Key("host")], "InvalidHost", error);
            }
        };
        let mut paths = Vec::new();
        for (index, written) in rule.http.iter().flat_map(|http| &http.paths).enumerate() {
            let read = if self.annotations.rewrite.is_regex() { PathMatch::regex } else { PathMatch::parse };
            match read(written.path.as_deref().unwrap_or_default(), &written.path_type) {
                Ok(path) => paths.push(PathRule { path, backend: self.backend(&written.backend, At::Path(at, index)) }),
                Err(error) => {
                    let field = [
                        Part::Key("rules"),
                        Part::At(at),
                        Part::Key("http"),
                        Part::Key("paths"),
                        Part::At(index),
                        Part::Key("path"),
                    ];
                    self.refuse(&field, "InvalidPath", error);
                }
            }
        }
        self.rules.push(Rule { host, paths });
    }

    fn add_tls(&mut self, at: usize, tls: &IngressTLS) {
        let mut hosts = Vec::new();
        for (index, host) in tls.hosts.iter().flatten().enumerate() {
            match HostMatch::parse(host) {
                Ok(host) => hosts.push((index, host)),
                Err(error) => {
                    let field = [Part::Key("tls"), Part::At(at), Part::Key("hosts"), Part::At(index)];
                    self.refuse(&field, "InvalidHost", error);
                }
            }
        }
        let secret = tls.secret_name.as_deref().filter(|name| !name.is_empty());
        // The Secret is looked for in the namespace of the Ingress, whatever the name says.
        let secret = secret.map(|name| ObjectName::new(Arc::clone(&self.name.namespace), name));
        self.tls.push(Tls { hosts, secret, at });
    }

    fn refuse(&mut self, field: &[Part], reason: &'static str, error: impl fmt::Display) {
        let field = [&[Part::Key("spec")], field].concat();
        self.findings.push(Finding::error(self.object(), &field, reason, error));
    }

    fn standby(&self, service: &str) -> Backend {
        const KEYS: [&str; 2] = ["ferrogate.io/default-backend", "nginx.ingress.kubernetes.io/default-backend"];
        let key = KEYS[usize::from(self.key_of("default-backend") != KEYS[0])];
        let service = ObjectName::new(Arc::clone(&self.name.namespace), service);
        Backend { service, port: PortRef::First, problem: None, at: At::Annotation(key) }
    }

    fn backend(&self, written: &IngressBackend, at: At) -> Backend {
        let named = |name: &str| ObjectName::new(Arc::clone(&self.name.namespace), name);
        match (&written.service, &written.resource) {
            (Some(service), _) => Backend { service: named(&service.name), port: port(service), problem: None, at },
            (None, Some(resource)) => {
                let name = named(&resource.name);
                let problem = BackendProblem::Resource { kind: resource.kind.clone(), name };
                // No Service can have this name, so the two are never confused.
                let service = named(&format!("{}/{}", resource.kind, resource.name));
                Backend { service, port: PortRef::Unset, problem: Some(problem), at }
            }
            (None, None) => {
                Backend { service: named(""), port: PortRef::Unset, problem: Some(BackendProblem::Unset), at }
            }
        }
    }
}

impl Backend {
    /// The field that a problem is about.
    pub(super) fn field(&self, problem: &BackendProblem) -> Vec<Part> {
        let mut field = self.rule_field();
        match self.at {
            At::Annotation(_) => return field,
            At::Default => {}
            At::Path(..) => field.push(Part::Key("backend")),
        }
        match problem {
            BackendProblem::ServiceMissing { .. }
            | BackendProblem::ExternalName { .. }
            | BackendProblem::NameInvalid { .. }
            | BackendProblem::NamePending { .. }
            | BackendProblem::NameMissing { .. }
            | BackendProblem::NameUnknown { .. }
            | BackendProblem::NoEndpoints { .. } => field.extend([Part::Key("service"), Part::Key("name")]),
            BackendProblem::PortMissing { .. }
            | BackendProblem::PortUnknown { .. }
            | BackendProblem::PortUnset { .. } => {
                field.extend([Part::Key("service"), Part::Key("port")]);
            }
            BackendProblem::Resource { .. } => field.push(Part::Key("resource")),
            BackendProblem::Unset => {}
        }
        field
    }

    /// Whether it is the `defaultBackend`.
    pub(super) const fn is_default(&self) -> bool {
        matches!(self.at, At::Default)
    }

    /// The path of the rule, the default backend, or the annotation.
    pub(super) fn rule_field(&self) -> Vec<Part> {
        match self.at {
            At::Annotation(key) => vec![Part::Key("metadata"), Part::Key("annotations"), Part::Key(key)],
            At::Default => vec![Part::Key("spec"), Part::Key("defaultBackend")],
            At::Path(rule, path) => {
                vec![
                    Part::Key("spec"),
                    Part::Key("rules"),
                    Part::At(rule),
                    Part::Key("http"),
                    Part::Key("paths"),
                    Part::At(path),
                ]
            }
        }
    }
}

/// The class that an Ingress names.
fn class(source: &Ingress) -> Option<&str> {
    let named = source.spec.as_ref().and_then(|spec| spec.ingress_class_name.as_deref());
    let annotated = || source.metadata.annotations.as_ref()?.get(super::class::CLASS_ANNOTATION).map(String::as_str);
    named.or_else(annotated)
}

/// Whether a new version of an Ingress differs at most in what does not concern routing, such as its status.
fn means_the_same(one: &Arc<Ingress>, other: &Arc<Ingress>) -> bool {
    let same_age = || one.metadata.creation_timestamp == other.metadata.creation_timestamp;
    Arc::ptr_eq(one, other)
        || (one.spec == other.spec && one.metadata.annotations == other.metadata.annotations && same_age())
}

fn port(service: &IngressServiceBackend) -> PortRef {
    let Some(port) = &service.port else { return PortRef::Unset };
    match (port.name.as_deref().filter(|name| !name.is_empty()), port.number) {
        (Some(name), _) => PortRef::Name(name.into()),
        (None, Some(number)) => {
            u16::try_from(number).ok().filter(|number| *number != 0).map_or(PortRef::Unset, PortRef::Number)
        }
        (None, None) => PortRef::Unset,
    }
}
