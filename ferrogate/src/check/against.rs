//! `check --against-cluster`: what manifests would change for the addresses of a cluster.
//!
//! Reads the cluster once, as an observer: no Lease, no write. What follows from the change is
//! [`lb_speaker::preview`]'s to say; here it is only shown.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cluster::{Access, ApiError, ApiOptions, Cluster, Loaded};
use config::diagnostic::Severity;
use config::object::ObjectName;
use config::snapshot::Snapshot;
use lb_speaker::plan::PlanOptions;
use lb_speaker::preview::{self, Candidate, Effect};
use serde::Serialize;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::cli::AgainstArgs;
use crate::problems::plural;

/// How long the cluster has to be read.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why nothing can be said about the cluster.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AgainstError {
    /// Nothing says which cluster.
    #[error("there is no cluster to check against; name one with --kubeconfig")]
    NoCluster,
    /// The way to it cannot be used.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// It is away, or too slow; the log says what was tried.
    #[error("the cluster was not read within {} s; check that it runs and that --kubeconfig leads to it", PATIENCE.as_secs())]
    Silent,
    /// Something may not be read.
    #[error("the cluster cannot be read: {0}")]
    Denied(String),
}

/// What a change means for a cluster.
#[derive(Debug)]
pub(super) struct Outlook {
    effects: BTreeMap<ObjectName, Vec<Effect>>,
    /// Whether the cluster refuses its own configuration, so that what is in force there is not known.
    stale: bool,
}

impl Outlook {
    /// Reads the cluster and compares.
    pub(super) async fn new(loaded: &Loaded, args: &AgainstArgs, options: &PlanOptions) -> Result<Self, AgainstError> {
        let (config, context) = (args.kubeconfig.clone(), args.kube_context.clone());
        let live = observe(config, context, options.config_map.clone()).await?;
        let candidate = Candidate { pools: loaded.addresses.as_ref(), services: &loaded.snapshot.services };
        Ok(Self { effects: preview::preview(&live, candidate, options), stale: live.pools_stale })
    }

    /// Whether some Service would lose something.
    pub(super) fn is_harm(&self) -> bool {
        self.effects.values().flatten().any(Effect::is_harm)
    }

    /// One line for each Service and effect, then how many there are.
    pub(super) fn text(&self) -> String {
        let mut lines = Vec::new();
        if self.stale {
            lines.push(
                "the cluster refuses its own address configuration; compared with the addresses that are held"
                    .to_owned(),
            );
        }
        for (name, effects) in &self.effects {
            lines.extend(effects.iter().map(|effect| format!("Service {name} {effect}")));
        }
        lines.push(self.summary());
        lines.join("\n") + "\n"
    }

    /// "in the cluster: 3 Services change (1 orphaned, 2 served)".
    fn summary(&self) -> String {
        if self.effects.is_empty() {
            return "in the cluster: no Service changes".to_owned();
        }
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for effect in self.effects.values().flatten() {
            *counts.entry(effect.as_str()).or_default() += 1;
        }
        let counts: Vec<String> = counts.into_iter().map(|(what, count)| format!("{count} {what}")).collect();
        let verb = if self.effects.len() == 1 { "changes" } else { "change" };
        format!("in the cluster: {} {verb} ({})", plural(self.effects.len(), "Service"), counts.join(", "))
    }

    /// The same for tools.
    pub(super) fn rows(&self) -> Vec<Row> {
        let rows = |(name, effects): (&ObjectName, &Vec<Effect>)| {
            effects.iter().map(|effect| Row::new(name, effect)).collect::<Vec<_>>()
        };
        self.effects.iter().flat_map(rows).collect()
    }
}

/// One effect on one Service, in JSON.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    namespace: String,
    service: String,
    /// `served`, `renumbered`, `freed`, `orphaned`, `repooled` or `refused`.
    effect: &'static str,
    /// Whether the Service loses something, or is to lose it.
    harm: bool,
    message: String,
}

impl Row {
    fn new(name: &ObjectName, effect: &Effect) -> Self {
        Self {
            namespace: name.namespace.to_string(),
            service: name.name.to_string(),
            effect: effect.as_str(),
            harm: effect.is_harm(),
            message: effect.to_string(),
        }
    }
}

/// The objects of a cluster at one moment, which is only read.
pub(crate) async fn observe(
    kubeconfig: Option<PathBuf>,
    context: Option<String>,
    config_map: ObjectName,
) -> Result<Arc<Snapshot>, AgainstError> {
    read(ApiOptions::observer(access(kubeconfig, context)?, config_map)).await
}

/// The cluster at one moment.
async fn read(options: ApiOptions) -> Result<Arc<Snapshot>, AgainstError> {
    let stop = CancellationToken::new();
    let mut cluster = Cluster::api(options, stop.clone()).await?;
    let first = timeout(PATIENCE, cluster.snapshots.wait_for(Option::is_some)).await;
    let snapshot = first.ok().and_then(Result::ok).and_then(|snapshot| snapshot.clone());
    stop.cancel();
    cluster.stopped().await;
    let snapshot = snapshot.ok_or(AgainstError::Silent)?;
    // A problem without an object is the cluster's: what may not be read would look as if it were not there.
    let denied = snapshot.problems.iter().find(|it| it.severity == Severity::Error && it.object.is_none());
    match denied {
        Some(problem) => Err(AgainstError::Denied(problem.message.clone())),
        None => Ok(snapshot),
    }
}

/// The way to the cluster: as asked, else as the Pod around us, else as kubectl.
fn access(kubeconfig: Option<PathBuf>, context: Option<String>) -> Result<Access, AgainstError> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if kubeconfig.is_none() && variable("KUBERNETES_SERVICE_HOST").is_some() {
        return Ok(Access::InCluster);
    }
    // As kubectl: a flag names one file, the variable a list of them.
    let listed = || {
        let paths = variable("KUBECONFIG").map(|list| std::env::split_paths(&list).collect::<Vec<_>>());
        paths.into_iter().flatten().filter(|path| !path.as_os_str().is_empty()).collect::<Vec<_>>()
    };
    let paths = kubeconfig.map_or_else(listed, |path| vec![path]);
    let home = || variable("HOME").map(|home| home.join(".kube/config"));
    let paths = if paths.is_empty() { home().into_iter().collect() } else { paths };
    if paths.is_empty() {
        return Err(AgainstError::NoCluster);
    }
    Ok(Access::Kubeconfig { paths, context })
}
