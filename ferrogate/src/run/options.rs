//! From flags to the options of each part.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fmt, fs};

use acme::io::AcmeOptions;
use cluster::{Access, ApiOptions, Cluster, ClusterMetrics, DirOptions, Letterbox};
use config::object::{Kind, ObjectName};
use config::settings::PUBLISH_SERVICE;
use ingress::access;
use ingress::compile::{CompileOptions, Publish, StreamMaps};
use ingress::io::IngressOptions;
use ingress::metrics::compat::Controller;
use lb_speaker::choice::Choice;
use lb_speaker::io::{Company, Delivery, Peers, SpeakerOptions};
use lb_speaker::rate::Rate;
use prometheus::Registry;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::RunError;
use crate::cli::{AccessLog, CompanyArgs, IngressArgs, ProcessArgs, SourceArgs, SpeakerArgs};
use crate::defaults;

/// The Secret that heartbeats are signed with.
const HEARTBEAT_KEY: &str = "ferrogate-heartbeat";

/// The Lease by which speakers reach each other where heartbeats are blocked.
const LETTERBOX: &str = "ferrogate-members";

/// Where objects come from.
#[derive(Clone, Debug)]
pub(super) enum Source {
    /// A folder.
    Dir(DirOptions),
    /// An API server.
    Api(Box<ApiOptions>),
}

/// What a speaker needs of its source beside objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Needs {
    /// The secret that heartbeats are signed with.
    pub(super) heartbeat_key: bool,
    /// A way to other speakers beside heartbeats.
    pub(super) letters: bool,
    /// `ConfigMap`s beside that of the addresses.
    pub(super) config_maps: Vec<ObjectName>,
}

impl Source {
    /// What the flags say; refuses folders that cannot be used.
    ///
    /// Processes that run the same parts share a Lease: one without a speaker could write no address.
    pub(super) fn of(args: &SourceArgs, parts: &str, node: &str, needs: Needs) -> Result<Self, RunError> {
        let config_map = ObjectName::new(args.config_namespace.as_str(), args.config_name.as_str());
        let access = match (&args.manifests, &args.kubeconfig) {
            (Some(manifests), _) => {
                check_manifests(manifests)?;
                let state = state_dir(args, manifests)?;
                let (manifests, identity) = (manifests.clone(), node.to_owned());
                return Ok(Self::Dir(DirOptions { manifests, state, config_map, identity }));
            }
            (None, Some(path)) => Access::Kubeconfig { paths: vec![path.clone()], context: args.kube_context.clone() },
            (None, None) if std::env::var_os("KUBERNETES_SERVICE_HOST").is_some() => Access::InCluster,
            (None, None) => return Err(RunError::NoSource),
        };
        let options = ApiOptions::new(access, config_map, node);
        let lease = ObjectName::new(options.lease.namespace.clone(), format!("{}{parts}", options.lease.name));
        let secret_namespaces = (!args.secret_namespaces.is_empty()).then(|| args.secret_namespaces.clone());
        let (watch_namespace, cache) = (args.watch_namespace.clone(), args.cache.clone());
        // Ingresses and what belongs to them are read only by who serves them.
        let unread = if parts == "-speaker" {
            vec![Kind::ClusterIssuer, Kind::Ingress, Kind::IngressClass, Kind::Issuer, Kind::Secret]
        } else {
            Vec::new()
        };
        let heartbeat_key = needs.heartbeat_key.then(|| ObjectName::new(lease.namespace.clone(), HEARTBEAT_KEY));
        let letterbox = || Letterbox { lease: ObjectName::new(lease.namespace.clone(), LETTERBOX), node: node.into() };
        let letterbox = needs.letters.then(letterbox);
        Ok(Self::Api(Box::new(ApiOptions {
            lease,
            config_maps: needs.config_maps,
            secret_namespaces,
            watch_namespace,
            cache,
            unread,
            heartbeat_key,
            letterbox,
            ..options
        })))
    }

    /// Starts it.
    pub(super) async fn open(self, registry: &Registry, stop: CancellationToken) -> Result<Cluster, RunError> {
        match self {
            Self::Dir(options) => Ok(Cluster::dir(options, stop).await?),
            Self::Api(options) => {
                let metrics = ClusterMetrics::register(registry)?;
                Ok(Cluster::api(ApiOptions { metrics, ..*options }, stop).await?)
            }
        }
    }

    /// Whether it is a cluster, where kube-proxy delivers and others than we may write objects.
    pub(super) const fn is_cluster(&self) -> bool {
        matches!(self, Self::Api(_))
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dir(DirOptions { manifests, state: Some(state), .. }) => {
                write!(f, "{} (state in {})", manifests.display(), state.display())
            }
            Self::Dir(DirOptions { manifests, state: None, .. }) => {
                write!(f, "{} (state in memory only)", manifests.display())
            }
            Self::Api(options) => match &options.access {
                Access::InCluster => f.write_str("the cluster around us"),
                Access::Kubeconfig { paths, .. } => {
                    let paths: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
                    write!(f, "the cluster of {}", paths.join(":"))
                }
            },
        }
    }
}

/// What is to be known for ordering certificates.
pub(super) fn acme(setup: &super::Setup, in_cluster: bool) -> AcmeOptions {
    let source = &setup.source;
    let config_map = ObjectName::new(source.config_namespace.as_str(), source.config_name.as_str());
    let (namespace, name) = PUBLISH_SERVICE;
    let named = setup.ingress.as_ref().and_then(|args| args.publish_service.clone());
    // In folder mode this machine is all there is.
    let replicas = in_cluster.then(|| named.unwrap_or_else(|| ObjectName::new(namespace, name)));
    let dns_servers = setup.ingress.as_ref().map(|args| args.dns_servers.clone()).unwrap_or_default();
    AcmeOptions { config_map, replicas, dns_servers }
}

/// Refuses a folder that cannot be read.
fn check_manifests(path: &Path) -> Result<(), RunError> {
    fs::read_dir(path).map(drop).map_err(|source| RunError::Manifests { path: path.to_owned(), source })
}

/// Where state is kept; `None` for nowhere, after a warning.
///
/// A folder that was asked for must be usable; one that we chose ourselves need not be.
fn state_dir(source: &SourceArgs, manifests: &Path) -> Result<Option<PathBuf>, RunError> {
    if let Some(path) = &source.state {
        let refused = |source| RunError::State { path: path.clone(), source };
        return defaults::prove_writable(path).map(|()| Some(path.clone())).map_err(refused);
    }
    let Some(path) = defaults::state_dir(manifests) else {
        warn!("addresses are not remembered across restarts: there is no home folder; name one with --state");
        return Ok(None);
    };
    match defaults::prove_writable(&path) {
        Ok(()) => Ok(Some(path)),
        Err(error) => {
            warn!(
                path = %path.display(), %error,
                "addresses are not remembered across restarts: this folder is not writable; choose another with --state"
            );
            Ok(None)
        }
    }
}

/// The speaker.
pub(super) fn speaker(args: &SpeakerArgs, setup: &super::Setup, node: &str, in_cluster: bool) -> SpeakerOptions {
    let source = &setup.source;
    SpeakerOptions {
        node: node.to_owned(),
        interfaces: Choice { only: args.interfaces.clone(), except: args.excluded.clone() },
        // No kube-proxy stands between a folder of manifests and the listeners.
        deliver: if in_cluster { Delivery::Kernel } else { Delivery::Loopback },
        rate: args.garp_rate.map_or_else(Rate::default, Rate::at_most),
        answer_ping: args.answer_ping,
        plan: args.addresses.plan(&source.config_namespace, &source.config_name),
        company: company(&args.company, setup, in_cluster),
    }
}

/// With whom VIPs are shared.
fn company(args: &CompanyArgs, setup: &super::Setup, in_cluster: bool) -> Company {
    let mut named: BTreeMap<Arc<str>, Vec<SocketAddr>> = BTreeMap::new();
    for (node, ip) in &args.peers {
        named.entry(node.as_str().into()).or_default().push((*ip, args.heartbeat_port).into());
    }
    let peers = match () {
        () if !named.is_empty() => Peers::Named(named),
        () if in_cluster => Peers::Nodes,
        () if args.heartbeat_key_file.is_some() => Peers::Named(named),
        () => Peers::None,
    };
    let name = format!("{}/{}", setup.source.config_namespace, setup.source.config_name);
    // Longer than that, the process does not live after it was asked to end.
    let linger = args.linger.min(setup.process.drain_timeout);
    Company { peers, port: args.heartbeat_port, name, profile: args.failover_profile.into(), linger }
}

/// The data plane.
pub(super) fn ingress(args: &IngressArgs, process: &ProcessArgs, in_cluster: bool) -> IngressOptions {
    IngressOptions {
        http: defaults::listeners(&args.http, 80, 8080),
        https: defaults::listeners(&args.https, 443, 8443),
        workers: args.workers.map_or(0, usize::from),
        drain_timeout: process.drain_timeout,
        access_log: match args.access_log {
            AccessLog::Off => access::AccessLog::Off,
            AccessLog::Text => access::AccessLog::Text,
            AccessLog::Json => access::AccessLog::Json,
        },
        compile: compile(args, process, in_cluster),
        dns_servers: args.dns_servers.clone(),
    }
}

/// What we are called in the metrics of ingress-nginx; in a Pod, by what the manifests tell it of itself.
pub(super) fn controller(class: String, node: &str) -> Controller {
    let told = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
    let pod = told("POD_NAME").unwrap_or_else(|| node.to_owned());
    Controller { namespace: told("POD_NAMESPACE").unwrap_or_default(), class, pod }
}

/// The `ConfigMap`s that the ingress reads.
pub(super) fn config_maps(args: &IngressArgs) -> Vec<ObjectName> {
    let streams = [&args.tcp_services_config_map, &args.udp_services_config_map];
    std::iter::once(&args.config_map).chain(streams.into_iter().flatten()).cloned().collect()
}

/// Ports that we need ourselves.
fn reserved(args: &IngressArgs, process: &ProcessArgs) -> BTreeSet<u16> {
    let http = defaults::listeners(&args.http, 80, 8080);
    let https = defaults::listeners(&args.https, 443, 8443);
    http.iter().chain(&https).chain([&process.admin]).map(SocketAddr::port).collect()
}

/// Which addresses Ingresses show.
fn publish(args: &IngressArgs) -> Publish {
    match &args.publish_service {
        _ if !args.publish_address.is_empty() => Publish::Addresses(args.publish_address.clone()),
        Some(service) => Publish::Service(service.clone()),
        None => Publish::UsualService,
    }
}

/// Which Ingresses are ours and what their backends may be.
fn compile(args: &IngressArgs, process: &ProcessArgs, in_cluster: bool) -> CompileOptions {
    CompileOptions {
        ingress_class: args.ingress_class.clone(),
        controller: args.controller.clone(),
        watch_without_class: args.watch_ingress_without_class,
        publish: publish(args),
        // Whoever writes the folder owns this machine; in a cluster a tenant would reach what only listens here.
        loopback_endpoints: !in_cluster,
        // A tenant of a cluster could send requests to whatever this process reaches.
        external_names: !args.disable_svc_external_name.unwrap_or(in_cluster),
        config_map: args.config_map.clone(),
        streams: StreamMaps {
            tcp: args.tcp_services_config_map.clone(),
            udp: args.udp_services_config_map.clone(),
            reserved: reserved(args, process),
        },
        node: args.enable_topology_aware_routing.then(|| defaults::node_name(process.node_name.as_deref())),
    }
}
