//! A cluster over temporary folders, and waiting for what it says.

use std::fs;
use std::future::Future;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use config::object::ObjectName;
use config::report::{Report, ServiceStatus};
use config::snapshot::Snapshot;
use tempfile::TempDir;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::{Cluster, DirError, DirOptions, Leadership};

/// Longer than anything here takes, rescans included.
const PATIENCE: Duration = Duration::from_secs(20);

/// Two folders, `manifests` and `state`.
pub(super) struct Folders {
    path: PathBuf,
    /// Removes them in the end, if they are ours.
    _owned: Option<TempDir>,
}

impl Folders {
    pub(super) fn new() -> Self {
        let owned = TempDir::new().unwrap();
        let folders = Self { path: owned.path().to_owned(), _owned: Some(owned) };
        fs::create_dir(folders.manifests()).unwrap();
        folders
    }

    /// Folders that another process made.
    pub(super) fn at(path: PathBuf) -> Self {
        Self { path, _owned: None }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn manifests(&self) -> PathBuf {
        self.path().join("manifests")
    }

    pub(super) fn state(&self) -> PathBuf {
        self.path().join("state")
    }

    /// Writes a manifest, as `cat > file` does.
    pub(super) fn write(&self, name: &str, text: &str) {
        fs::write(self.manifests().join(name), text).unwrap();
    }

    pub(super) async fn open(&self, identity: &str) -> Running {
        self.try_open(identity).await.unwrap()
    }

    pub(super) async fn try_open(&self, identity: &str) -> Result<Running, DirError> {
        let options = DirOptions {
            manifests: self.manifests(),
            state: Some(self.state()),
            config_map: ObjectName::new("metallb-system", "config"),
            identity: identity.to_owned(),
        };
        let shutdown = CancellationToken::new();
        let cluster = Cluster::dir(options, shutdown.clone()).await?;
        Ok(Running { cluster, shutdown })
    }
}

/// A cluster that runs.
pub(super) struct Running {
    pub(super) cluster: Cluster,
    shutdown: CancellationToken,
}

impl Running {
    /// Waits for a snapshot of which `condition` holds.
    pub(super) async fn snapshot(&mut self, what: &str, condition: impl Fn(&Snapshot) -> bool) -> Arc<Snapshot> {
        let wanted = |snapshot: &Option<Arc<Snapshot>>| snapshot.as_ref().is_some_and(|snapshot| condition(snapshot));
        let mut snapshots = self.cluster.snapshots.clone();
        let found = timeout(PATIENCE, snapshots.wait_for(wanted)).await;
        let found = found.ok().map(|found| Arc::clone(found.unwrap().as_ref().unwrap()));
        found.unwrap_or_else(|| panic!("not seen: {what}\n{:#?}", self.cluster.snapshots.borrow()))
    }

    /// Waits for a snapshot with exactly these Services.
    pub(super) async fn services(&mut self, names: &[&str]) -> Arc<Snapshot> {
        self.snapshot(&format!("services {names:?}"), |snapshot| names_of(snapshot) == names).await
    }

    /// Waits for a snapshot with a problem that contains `text`.
    pub(super) async fn problem(&mut self, text: &str) -> Arc<Snapshot> {
        self.snapshot(&format!("problem {text:?}"), |snapshot| has_problem(snapshot, text)).await
    }

    pub(super) async fn leads(&mut self) {
        wait(self.cluster.leadership.wait_for(|leadership| *leadership == Leadership::Leader)).await.unwrap();
    }

    /// Reports addresses for Services as the speaker does, on the newest snapshot.
    pub(super) fn report(&mut self, services: &[(&str, &str)]) {
        let generation = self.cluster.snapshots.borrow().as_ref().unwrap().generation;
        let report = Report { generation, services: statuses(services), ..Report::default() };
        self.cluster.reports.speaker.send_replace(Arc::new(report));
    }

    /// Reports until the Services have these addresses, on every newer snapshot anew.
    pub(super) async fn assign(&mut self, services: &[(&str, &str)]) -> Arc<Snapshot> {
        wait(async {
            loop {
                let snapshot = self.cluster.snapshots.borrow_and_update().clone().unwrap();
                let address = |(name, address): &(&str, &str)| address_of(&snapshot, name).as_deref() == Some(*address);
                if services.iter().all(address) {
                    return snapshot;
                }
                self.report(services);
                self.cluster.snapshots.changed().await.unwrap();
            }
        })
        .await
    }

    /// Reports on every newer snapshot anew, as the speaker does, until one has a problem that contains `text`.
    pub(super) async fn refused(&mut self, services: &[(&str, &str)], text: &str) -> Arc<Snapshot> {
        wait(async {
            loop {
                let snapshot = self.cluster.snapshots.borrow_and_update().clone().unwrap();
                if has_problem(&snapshot, text) {
                    return snapshot;
                }
                self.report(services);
                self.cluster.snapshots.changed().await.unwrap();
            }
        })
        .await
    }

    pub(super) async fn stop(self) {
        self.shutdown.cancel();
        wait(self.cluster.stopped()).await;
    }
}

fn statuses(services: &[(&str, &str)]) -> config::shared::SharedMap<ObjectName, ServiceStatus> {
    let status = |address: &str| ServiceStatus { ips: vec![address.parse::<IpAddr>().unwrap()], pool: None };
    services.iter().map(|(name, address)| (ObjectName::new("default", *name), status(address))).collect()
}

pub(super) async fn wait<T>(future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.expect("it takes far too long")
}

/// Waits until `condition` holds of the outside world.
pub(super) async fn until(what: &str, condition: impl Fn() -> bool) {
    let poll = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, poll).await.unwrap_or_else(|_| panic!("never: {what}"));
}

pub(super) fn names_of(snapshot: &Snapshot) -> Vec<&str> {
    snapshot.services.keys().map(|name| &*name.name).collect()
}

pub(super) fn has_problem(snapshot: &Snapshot, text: &str) -> bool {
    snapshot.problems.iter().any(|problem| problem.to_string().contains(text))
}

/// The committed address of a Service.
pub(super) fn address_of(snapshot: &Snapshot, name: &str) -> Option<String> {
    let service = snapshot.services.get(&ObjectName::new("default", name))?;
    let ingress = service.status.as_ref()?.load_balancer.as_ref()?.ingress.as_ref()?;
    ingress.first()?.ip.clone()
}

/// A valid Service.
pub(super) fn service(name: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: {name}\nspec:\n  type: LoadBalancer\n  \
         ports:\n  - port: 80\n---\n"
    )
}

/// The address configuration with one pool.
pub(super) fn pools(addresses: &str) -> String {
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  namespace: metallb-system\n  name: config\ndata:\n  config: |\n    \
         address-pools:\n    - name: edge\n      protocol: layer2\n      addresses: [{addresses}]\n---\n"
    )
}
