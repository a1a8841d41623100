//! The API server as the source.
//!
//! ```text
//! API server ─ watch, one per kind ─> mirror ─ debounce ─> Snapshot ──> the cores
//!      ^                                 │                                  │
//!      │      what comes back counts     v                                  v
//!      └── writer: a round of applies <── plan: wanted vs shown <─────── Reports
//!              ^ leader only: lease; what only a node knows (who announces) it tells itself
//! ```
//!
//! All of it runs in one thread with a runtime of its own: neither ten thousand objects to decode nor a server that
//! does not answer delays a request or an ARP frame. Losing the API server loses nothing but news: the last snapshot
//! stays, and so does everything that follows from it.

mod cache;
mod connection;
mod disk;
mod events;
mod kinds;
mod lease;
mod letters;
mod mirror;
mod named;
mod plan;
mod references;
mod retry;
mod sayings;
mod shared_secret;
mod task;
mod trim;
mod trouble;
mod watch;
mod writer;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use config::object::{Kind, ObjectName};
use config::settings::ACME_STATE;
use tokio_util::sync::CancellationToken;

use crate::{Cluster, ClusterMetrics, thread};
pub use connection::Access;
use connection::Connection;
use kinds::{Applied, Keys, Source, TLS};
pub use letters::Letterbox;
use task::Task;

/// What to read, and as whom to write.
#[derive(Clone, Debug)]
pub struct ApiOptions {
    /// How to reach the API server.
    pub access: Access,
    /// The `ConfigMap` that holds the address configuration.
    pub config_map: ObjectName,
    /// Further `ConfigMap`s to read, whatever namespaces are watched otherwise.
    pub config_maps: Vec<ObjectName>,
    /// The namespaces whose Secrets are read; `None` reads those of all.
    pub secret_namespaces: Option<Vec<String>>,
    /// The one namespace whose Services, EndpointSlices, Ingresses and Secrets are read; `None` reads those of all.
    pub watch_namespace: Option<String>,
    /// The folder that keeps the last good state for a start while the API server is away; `None` keeps none.
    pub cache: Option<PathBuf>,
    /// The Secret that speakers sign heartbeats with, made when there is none; `None` does without.
    pub heartbeat_key: Option<ObjectName>,
    /// Where letters are exchanged with the speakers of other nodes; `None` for nowhere.
    pub letterbox: Option<Letterbox>,
    /// Kinds that nobody here has a use for: they are not even asked for.
    pub unread: Vec<Kind>,
    /// The Lease that decides which process writes.
    pub lease: ObjectName,
    /// What this process calls itself in the Lease; no two processes may share it.
    pub identity: String,
    /// What counts what happens.
    pub metrics: Arc<ClusterMetrics>,
    /// How fast to write.
    pub writes: WriteBudget,
    /// How long things take.
    pub timing: Timing,
    /// What is read, and whether anything may be written.
    pub mode: Mode,
}

/// What is read, and whether anything may be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Reads all there is to serve, and writes while it holds the Lease.
    #[default]
    Appliance,
    /// Reads what addresses depend on (Services, Namespaces, Nodes, the `ConfigMap`), asks for no Lease and never writes.
    Observer,
}

/// How fast is written: Service statuses, Ingress statuses and events, each apart from the others. What only a node knows
/// (that it announces) is told by that node at half of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteBudget {
    /// Requests a second.
    pub per_second: u32,
    /// Requests at once after a rest.
    pub burst: u32,
}

impl Default for WriteBudget {
    /// What one controller may ask of an API server that serves many: all three together stay at 30 a second, the rate
    /// of a client-go controller with its usual settings (20 a second, 30 at once) and a half. A Service that comes
    /// alone is answered at once; a thousand that come together all have an address after 100 seconds.
    fn default() -> Self {
        Self { per_second: 10, burst: 20 }
    }
}

/// How long things take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// The wait after a first failure.
    pub first_retry: Duration,
    /// The longest wait.
    pub longest_retry: Duration,
    /// How long a watch may be silent; an API server sends a bookmark every minute.
    pub read_deadline: Duration,
    /// How often everything is listed again although nothing calls for it.
    pub relist: Duration,
    /// How far apart two lists are that the API server makes us ask for.
    pub relist_spacing: Duration,
    /// How long the API server may take at the start before the state on disk is used.
    pub patience: Duration,
    /// How often it is asked for a kind that the API server does not know.
    pub absent: Duration,
    /// How far apart the state is saved to disk at least.
    pub save: Duration,
    /// The Lease's.
    pub lease: crate::lease::Timing,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            first_retry: Duration::from_millis(800),
            longest_retry: Duration::from_secs(30),
            read_deadline: Duration::from_mins(3),
            relist: Duration::from_mins(10),
            relist_spacing: Duration::from_secs(10),
            patience: Duration::from_millis(500),
            absent: Duration::from_secs(30),
            save: Duration::from_secs(30),
            lease: crate::lease::Timing::default(),
        }
    }
}

impl Timing {
    /// Not all processes at the same time.
    fn jittered_relist(&self) -> Duration {
        self.relist.mul_f64(0.8 + fastrand::f64() * 0.4)
    }

    /// How long a watch is asked to last: four to five minutes.
    #[expect(clippy::unused_self, reason = "it is a matter of timing")]
    fn watch_seconds(&self) -> u32 {
        fastrand::u32(240..300)
    }
}

/// Why the API server cannot be used as a source.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The kubeconfig cannot be used.
    #[error("cannot use the kubeconfig {}: {cause}; name another with --kubeconfig", path.display())]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        cause: String,
    },
    /// We are in no Pod.
    #[error("cannot find the cluster we run in: {0}; outside of a cluster, name a file with --kubeconfig")]
    InCluster(String),
    /// Certificates or tokens cannot be used.
    #[error("cannot use the credentials for the API server: {0}; check the files that the configuration names")]
    Credentials(String),
    /// No thread could be started.
    #[error("cannot start the thread that talks to the API server: {0}")]
    Thread(#[source] io::Error),
}

impl ApiOptions {
    /// The usual options for one way of access, with a Lease beside the `ConfigMap`. `process` is a name for people;
    /// what makes the identity unique is added to it.
    #[must_use]
    pub fn new(access: Access, config_map: ObjectName, process: &str) -> Self {
        let identity = format!("{process}_{:016x}", fastrand::u64(..));
        let lease = ObjectName::new(Arc::clone(&config_map.namespace), "ferrogate");
        let (writes, timing) = (WriteBudget::default(), Timing::default());
        Self {
            access,
            config_map,
            config_maps: Vec::new(),
            secret_namespaces: None,
            watch_namespace: None,
            cache: None,
            heartbeat_key: None,
            letterbox: None,
            unread: Vec::new(),
            lease,
            identity,
            metrics: Arc::default(),
            writes,
            timing,
            mode: Mode::Appliance,
        }
    }

    /// Options that only look at the addresses of a cluster.
    #[must_use]
    pub fn observer(access: Access, config_map: ObjectName) -> Self {
        Self { mode: Mode::Observer, ..Self::new(access, config_map, "observer") }
    }

    fn sources(&self) -> Vec<Source> {
        let plain =
            [Kind::Namespace, Kind::Node, Kind::Service, Kind::EndpointSlice, Kind::Ingress, Kind::IngressClass];
        let (plain, applied) = match self.mode {
            Mode::Observer => (&plain[..3], Applied::Kept),
            Mode::Appliance => (&plain[..], Applied::Dropped),
        };
        let within = self.watch_namespace.as_deref().map(Arc::<str>::from);
        let source = |kind: Kind| Source {
            namespace: within.clone().filter(|_| kind.is_namespaced()),
            applied,
            ..Source::all(kind)
        };
        let mut sources: Vec<Source> = plain.iter().copied().map(source).collect();
        sources.push(Source::config_map(&self.config_map));
        if self.mode == Mode::Observer {
            return sources;
        }
        let further = self.config_maps.iter().filter(|name| **name != self.config_map);
        sources.extend(further.map(Source::config_map));
        let secrets =
            |namespace| Source { namespace, fields: Some(format!("type={TLS}")), ..Source::all(Kind::Secret) };
        match &self.secret_namespaces {
            None => sources.push(secrets(within.clone())),
            Some(namespaces) => sources.extend(namespaces.iter().map(|it| secrets(Some(it.as_str().into())))),
        }
        // Accounts and running orders, with the tokens that every replica answers.
        let state = ObjectName::new(Arc::clone(&self.config_map.namespace), ACME_STATE);
        sources.push(Source::secret(&state, Keys::All));
        // cert-manager's, where it is installed.
        sources.extend([Kind::Issuer, Kind::ClusterIssuer].map(source));
        sources.retain(|source| !self.unread.contains(&source.kind));
        sources
    }
}

impl Cluster {
    /// Follows an API server until `shutdown`.
    ///
    /// The first snapshot follows when everything that may be read was read once. An API server that is away is no
    /// error: it is waited for.
    pub async fn api(options: ApiOptions, shutdown: CancellationToken) -> Result<Self, ApiError> {
        let open = async move |outputs: thread::Outputs, inputs| {
            let (access, metrics) = (options.access.clone(), Arc::clone(&options.metrics));
            let connection = Arc::new(Connection::open(access, metrics, outputs.answered.clone()).await?);
            Ok(Task::new(options, connection, outputs, inputs, shutdown).run())
        };
        thread::start(open, ApiError::Thread).await
    }
}
