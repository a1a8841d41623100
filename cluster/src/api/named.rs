//! Follows single Secrets for as long as Ingresses or issuers of certificates name them.
//!
//! Secrets of type `kubernetes.io/tls` are read as a collection. Others are nobody's business, unless an Ingress names
//! one: then that one is asked for, by name.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use config::diagnostic::Problem;
use config::issuer::objects::{ClusterIssuerObject, IssuerObject};
use config::object::{Kind, ObjectName, ObjectRef};
use config::snapshot::Objects;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::api::networking::v1::Ingress;
use tokio::sync::{mpsc, watch as channel};
use tokio::task::JoinHandle;

use super::Timing;
use super::connection::Connection;
use super::kinds::{Source, TLS};
use super::mirror::Mirror;
use super::references::{self, Reference, References};
use super::trouble::Trouble;
use super::watch::{News, Watcher};

/// How many Secrets are followed singly at most: each takes a connection to the API server.
const MOST: usize = 200;

/// The namespaces whose Secrets are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// All.
    Everywhere,
    /// These; the flag that says so.
    Only(BTreeSet<Arc<str>>, &'static str),
    /// None: nobody here serves them.
    Nowhere,
}

impl Scope {
    /// What the options say.
    pub(super) fn new(secrets: Option<&[String]>, watched: Option<&str>) -> Self {
        let only = |names: &[String]| names.iter().map(|name| Arc::from(name.as_str())).collect();
        match (secrets, watched) {
            (Some([]), _) => Self::Nowhere,
            (Some(names), _) => Self::Only(only(names), "--secret-namespaces"),
            (None, Some(name)) => Self::Only(BTreeSet::from([name.into()]), "--watch-namespace"),
            (None, None) => Self::Everywhere,
        }
    }

    /// The flag to change if a namespace lies outside.
    fn forbids(&self, namespace: &str) -> Option<&'static str> {
        match self {
            Self::Only(names, flag) if !names.contains(namespace) => Some(flag),
            Self::Only(..) | Self::Everywhere | Self::Nowhere => None,
        }
    }
}

/// The Secrets that are followed.
pub(super) struct Named {
    connection: Arc<Connection>,
    timing: Timing,
    news: mpsc::Sender<News>,
    scope: Scope,
    /// The global settings of the ingress.
    settings: Vec<ObjectName>,
    /// Never asks for a list.
    relist: channel::Sender<u64>,
    references: References,
    running: BTreeMap<Arc<Source>, Followed>,
    /// What was looked at last.
    seen: Option<Seen>,
    refusals: Vec<Problem>,
}

/// What names Secrets, and what they are.
type Seen =
    (Objects<Ingress>, Objects<ConfigMap>, Objects<IssuerObject>, Objects<ClusterIssuerObject>, Objects<Secret>);

/// One Secret or `ConfigMap`; its watch ends with this.
struct Followed {
    secret: ObjectName,
    reference: Reference,
    watch: JoinHandle<()>,
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

impl Named {
    pub(super) fn new(
        connection: Arc<Connection>,
        timing: Timing,
        news: mpsc::Sender<News>,
        scope: Scope,
        settings: Vec<ObjectName>,
    ) -> Self {
        let relist = channel::Sender::new(0);
        let (references, running) = (References::default(), BTreeMap::new());
        Self {
            connection,
            timing,
            news,
            scope,
            settings,
            relist,
            references,
            running,
            seen: None,
            refusals: Vec::new(),
        }
    }

    /// Follows what is named now and nothing else; whether that changed the next snapshot.
    pub(super) fn follow(&mut self, mirror: &mut Mirror) -> bool {
        if self.scope == Scope::Nowhere || !self.is_due(mirror) {
            return false;
        }
        let wanted = self.wanted(mirror);
        let unwanted: Vec<_> = self.running.keys().filter(|source| !wanted.contains_key(*source)).cloned().collect();
        let mut changed = false;
        for source in unwanted {
            self.running.remove(&source);
            changed |= mirror.forget(&source);
        }
        for (source, (secret, reference)) in wanted {
            if let Some(followed) = self.running.get_mut(&source) {
                followed.reference = reference;
                continue;
            }
            let source = Arc::new(source);
            mirror.follow(Arc::clone(&source));
            let watch = self.watch(Arc::clone(&source));
            self.running.insert(source, Followed { secret, reference, watch });
        }
        let next = mirror.next();
        self.seen = Some((
            Arc::clone(&next.ingresses),
            Arc::clone(&next.config_maps),
            Arc::clone(&next.issuers),
            Arc::clone(&next.cluster_issuers),
            Arc::clone(&next.secrets),
        ));
        changed
    }

    /// What an operator should know of, at the objects that name what is not read.
    pub(super) fn problems(&self, mirror: &Mirror) -> Vec<Problem> {
        let denied = mirror.troubles().filter(|(_, trouble)| **trouble == Trouble::Denied);
        let denied = denied.filter_map(|(source, _)| {
            let Followed { secret, reference, .. } = self.running.get(source)?;
            let kind = if source.kind == Kind::ConfigMap { "configmaps" } else { "secrets" };
            let why = format!(
                "we may not; grant the verbs list and watch for {kind} in namespace {} to our ServiceAccount",
                secret.namespace
            );
            Some(problem(source.kind, secret, reference, &why))
        });
        self.refusals.iter().cloned().chain(denied).collect()
    }

    fn is_due(&self, mirror: &Mirror) -> bool {
        let next = mirror.next();
        let same = self.seen.as_ref().is_some_and(|(ingresses, config_maps, issuers, cluster_issuers, secrets)| {
            Arc::ptr_eq(ingresses, &next.ingresses)
                && Arc::ptr_eq(config_maps, &next.config_maps)
                && Arc::ptr_eq(issuers, &next.issuers)
                && Arc::ptr_eq(cluster_issuers, &next.cluster_issuers)
                && Arc::ptr_eq(secrets, &next.secrets)
        });
        // Before, it is not known what the collection has.
        !same && (self.seen.is_some() || (mirror.is_listed(Kind::Ingress) && mirror.is_listed(Kind::Secret)))
    }

    /// Those to follow, and who names them. What is needed most comes first: a certificate that is missing will rather
    /// appear in the collection.
    fn wanted(&mut self, mirror: &Mirror) -> BTreeMap<Source, (ObjectName, Reference)> {
        let secrets = &mirror.next().secrets;
        let is_tls = |name: &ObjectName| secrets.get(name).is_some_and(|it| it.type_.as_deref() == Some(TLS));
        let by_issuers = references::by_issuers(mirror.next(), mirror.config_map());
        let mut named: Vec<_> =
            self.references.update(&mirror.next().ingresses).into_iter().chain(by_issuers).collect();
        named.sort_by_key(|(_, reference)| reference.is_certificate);
        self.refusals.clear();
        let mut wanted = BTreeMap::new();
        for (secret, reference) in named {
            if is_tls(&secret) {
                continue;
            }
            if let Some(flag) = self.scope.forbids(&secret.namespace) {
                let why = format!("{flag} leaves out namespace {}; add it there", secret.namespace);
                self.refusals.push(problem(Kind::Secret, &secret, &reference, &why));
            } else if wanted.len() == MOST {
                let why = format!("more than {MOST} Secrets that are not of type {TLS} are named; use that type");
                self.refusals.push(problem(Kind::Secret, &secret, &reference, &why));
            } else {
                wanted.insert(Source::secret(&secret, reference.keys), (secret, reference));
            }
        }
        let by_settings = references::by_settings(&self.settings, &mirror.next().config_maps);
        wanted.extend(by_settings.into_iter().map(|(name, by)| (Source::config_map(&name), (name, by))));
        wanted
    }

    fn watch(&self, source: Arc<Source>) -> JoinHandle<()> {
        let (connection, news) = (Arc::clone(&self.connection), self.news.clone());
        let watcher = Watcher { connection, source, timing: self.timing, news, relist: self.relist.subscribe() };
        tokio::spawn(watcher.run())
    }
}

fn problem(kind: Kind, name: &ObjectName, reference: &Reference, why: &str) -> Problem {
    let message = format!("{} is not read: {why}", ObjectRef::new(kind, name.clone()));
    Problem::error(reference.by.clone(), reference.field.clone(), message)
}
