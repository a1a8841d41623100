//! The last good state on disk, for a start while the API server is away.
//!
//! One file: a head (format, whose cluster, when, checksum), then one object a line as JSON. Written whole or not at
//! all, readable by its owner only since it holds Secrets. What cannot be used is an error to show, never a reason
//! not to start.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use config::object::{Kind, ObjectName};
use config::settings::ACME_STATE;
use config::snapshot::Snapshot;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::{Metadata, Resource};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::dir::atomic;
use crate::mirror::{AddressConfig, Sighting};

/// The name of the file.
const NAME: &str = "snapshot";
/// What the head must say; grows when the format changes.
const FORMAT: u32 = 1;
/// The largest file that is written or read: more than a hundred thousand objects.
const LARGEST: u64 = 256 << 20;

/// Why the state on disk cannot be used, or cannot be kept.
#[derive(Debug, thiserror::Error)]
pub(super) enum CacheError {
    /// The system does not let us.
    #[error("cannot use {}: {source}; check the folder named with --cache", path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// It is larger than it may be.
    #[error("{} would be larger than {} MiB; it is not used", path.display(), LARGEST >> 20)]
    TooLarge { path: PathBuf },
    /// It is damaged or of another version.
    #[error("{} is damaged or of another version ({why}); it is ignored and will be replaced", path.display())]
    Corrupt { path: PathBuf, why: String },
    /// Another cluster's.
    #[error("{} is of another cluster; it is ignored and will be replaced", path.display())]
    Foreign { path: PathBuf },
}

#[derive(Deserialize, Serialize)]
struct Head {
    format: u32,
    cluster: String,
    /// Seconds since 1970.
    saved: u64,
    /// SHA-256 of all that follows the head's line.
    sha256: String,
    /// The address configuration that was in use; the `ConfigMap` may hold one that was refused.
    config: Option<String>,
}

/// Where the state of one cluster is kept.
#[derive(Clone, Debug)]
pub(super) struct Cache {
    folder: PathBuf,
    /// What tells this cluster from others.
    cluster: String,
    config_map: ObjectName,
}

impl Cache {
    /// `cluster` is anything that tells this cluster from others.
    pub(super) fn new(folder: PathBuf, cluster: &str, config_map: ObjectName) -> Self {
        Self { folder, cluster: digest(cluster.as_bytes()), config_map }
    }

    /// What is said of the state of another cluster.
    pub(super) fn foreign(&self) -> CacheError {
        CacheError::Foreign { path: self.path() }
    }

    fn path(&self) -> PathBuf {
        self.folder.join(NAME)
    }

    /// The state that was kept; `None` if there is none.
    pub(super) fn load(&self) -> Result<Option<Snapshot>, CacheError> {
        let path = self.path();
        let Some(text) = read(&path)? else { return Ok(None) };
        let corrupt = |why: String| CacheError::Corrupt { path: path.clone(), why };
        let (head, body) = text.split_once('\n').ok_or_else(|| corrupt("it has no head".into()))?;
        let head: Head = serde_json::from_str(head).map_err(|error| corrupt(error.to_string()))?;
        if head.format != FORMAT {
            return Err(corrupt(format!("format {}", head.format)));
        }
        if head.cluster != self.cluster {
            return Err(self.foreign());
        }
        if head.sha256 != digest(body.as_bytes()) {
            return Err(corrupt("its checksum is wrong".into()));
        }
        let mut snapshot = objects(body).map_err(|error| corrupt(error.to_string()))?;
        snapshot.saved = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(head.saved));
        self.configure(&mut snapshot, head.config.map(Arc::from));
        Ok(Some(snapshot))
    }

    /// Keeps `snapshot`, whose address configuration was read from `config`.
    pub(super) fn save(&self, snapshot: &Snapshot, config: Option<&str>, now: SystemTime) -> Result<(), CacheError> {
        let path = self.path();
        let failed = |source| CacheError::Io { path: path.clone(), source };
        let body = text(snapshot).map_err(|error| failed(error.into()))?;
        let head = Head {
            format: FORMAT,
            cluster: self.cluster.clone(),
            saved: now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs(),
            sha256: digest(body.as_bytes()),
            config: config.map(str::to_owned),
        };
        let head = serde_json::to_string(&head).map_err(|error| failed(error.into()))?;
        let whole = format!("{head}\n{body}");
        if whole.len() as u64 > LARGEST {
            return Err(CacheError::TooLarge { path });
        }
        std::fs::create_dir_all(&self.folder).map_err(failed)?;
        atomic::replace(&self.folder, NAME, &whole).map_err(failed)
    }

    /// Reads the pools again, the last good ones if the `ConfigMap` itself was refused.
    fn configure(&self, snapshot: &mut Snapshot, last_good: Option<Arc<str>>) {
        let mut config = AddressConfig::new(self.config_map.clone(), last_good);
        let map = snapshot.config_maps.get(&self.config_map);
        config.update(map.map(|map| Sighting { map: Arc::clone(map), origin: None, stale: false }));
        snapshot.pools = Arc::clone(config.pools());
        snapshot.pools_stale = config.is_stale();
        snapshot.problems = Arc::new(config.problems().to_vec());
    }
}

fn read(path: &Path) -> Result<Option<String>, CacheError> {
    let failed = |source| CacheError::Io { path: path.to_owned(), source };
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(failed)?,
    };
    let mut bytes = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > LARGEST {
        return Err(CacheError::TooLarge { path: path.to_owned() });
    }
    let damaged = |_| CacheError::Corrupt { path: path.to_owned(), why: "it is no text".into() };
    String::from_utf8(bytes).map(Some).map_err(damaged)
}

fn digest(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}

fn text(snapshot: &Snapshot) -> serde_json::Result<String> {
    let mut out = Vec::new();
    add(&mut out, snapshot.config_maps.values())?;
    add(&mut out, snapshot.endpoint_slices.values())?;
    add(&mut out, snapshot.ingresses.values())?;
    add(&mut out, snapshot.ingress_classes.values())?;
    add(&mut out, snapshot.issuers.values())?;
    add(&mut out, snapshot.cluster_issuers.values())?;
    add(&mut out, snapshot.namespaces.values())?;
    add(&mut out, snapshot.nodes.values())?;
    // Keys of accounts and of orders are of no use to who cannot write.
    let kept = snapshot.secrets.iter().filter(|(name, _)| *name.name != *ACME_STATE);
    add(&mut out, kept.map(|(_, secret)| secret))?;
    add(&mut out, snapshot.services.values())?;
    // JSON is text.
    Ok(String::from_utf8(out).unwrap_or_default())
}

fn add<'a, T>(out: &mut Vec<u8>, objects: impl Iterator<Item = &'a Arc<T>>) -> serde_json::Result<()>
where
    T: Serialize + 'a,
{
    for object in objects {
        serde_json::to_writer(&mut *out, &**object)?;
        out.push(b'\n');
    }
    Ok(())
}

#[derive(Deserialize)]
struct Named {
    kind: String,
}

fn objects(body: &str) -> serde_json::Result<Snapshot> {
    let mut snapshot = Snapshot::default();
    for line in body.lines() {
        let Named { kind } = serde_json::from_str(line)?;
        let Some(kind) = Kind::ALL.into_iter().find(|known| known.as_str() == kind) else { continue };
        match kind {
            Kind::ClusterIssuer => put(&mut snapshot.cluster_issuers, line)?,
            Kind::ConfigMap => put(&mut snapshot.config_maps, line)?,
            Kind::EndpointSlice => put(&mut snapshot.endpoint_slices, line)?,
            Kind::Ingress => put(&mut snapshot.ingresses, line)?,
            Kind::IngressClass => put(&mut snapshot.ingress_classes, line)?,
            Kind::Issuer => put(&mut snapshot.issuers, line)?,
            Kind::Namespace => put(&mut snapshot.namespaces, line)?,
            Kind::Node => put(&mut snapshot.nodes, line)?,
            Kind::Secret => put(&mut snapshot.secrets, line)?,
            Kind::Service => put(&mut snapshot.services, line)?,
        }
    }
    Ok(snapshot)
}

fn put<T>(objects: &mut config::snapshot::Objects<T>, line: &str) -> serde_json::Result<()>
where
    T: Clone + DeserializeOwned + Metadata<Ty = ObjectMeta> + Resource,
{
    let object: T = serde_json::from_str(line)?;
    let meta = object.metadata();
    let name = ObjectName::new(meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default());
    Arc::make_mut(objects).insert(name, Arc::new(object));
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use k8s_openapi::api::core::v1::{Secret, Service};

    use super::*;

    fn snapshot() -> Snapshot {
        let (name, mut snapshot) = (ObjectName::new("shop", "web"), Snapshot::default());
        let metadata = ObjectMeta { namespace: Some("shop".into()), name: Some("web".into()), ..ObjectMeta::default() };
        let service = Service { metadata: metadata.clone(), ..Service::default() };
        let secret = Secret { metadata, ..Secret::default() };
        Arc::make_mut(&mut snapshot.services).insert(name.clone(), Arc::new(service));
        Arc::make_mut(&mut snapshot.secrets).insert(name, Arc::new(secret));
        snapshot
    }

    fn cache(folder: &Path, cluster: &str) -> Cache {
        Cache::new(folder.to_owned(), cluster, ObjectName::new("metallb-system", "config"))
    }

    const POOLS: &str = "address-pools:\n- name: lan\n  protocol: layer2\n  addresses: [192.0.2.0/28]\n";

    #[test]
    fn what_was_kept_comes_back_and_only_its_owner_can_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let (cache, kept) = (cache(folder.path(), "ours"), snapshot());
        assert!(cache.load().unwrap().is_none());
        let saved = SystemTime::UNIX_EPOCH + Duration::from_hours(500_000);
        cache.save(&kept, Some(POOLS), saved).unwrap();
        let found = cache.load().unwrap().unwrap();
        assert_eq!((&found.services, &found.secrets, found.saved), (&kept.services, &kept.secrets, Some(saved)));
        assert_eq!(found.pools.pools.len(), 1);
        assert_eq!(std::fs::metadata(cache.path()).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn another_clusters_state_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        cache(folder.path(), "ours").save(&snapshot(), None, SystemTime::UNIX_EPOCH).unwrap();
        assert!(matches!(cache(folder.path(), "theirs").load(), Err(CacheError::Foreign { .. })));
    }

    #[test]
    fn a_file_cut_short_anywhere_or_changed_is_refused_and_can_be_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let cache = cache(folder.path(), "ours");
        cache.save(&snapshot(), Some(POOLS), SystemTime::UNIX_EPOCH).unwrap();
        let whole = std::fs::read(cache.path()).unwrap();
        for end in 0..whole.len() {
            std::fs::write(cache.path(), &whole[..end]).unwrap();
            assert!(matches!(cache.load(), Err(CacheError::Corrupt { .. })), "{end} bytes");
        }
        let mut changed = whole.clone();
        *changed.last_mut().unwrap() = b'x';
        std::fs::write(cache.path(), changed).unwrap();
        assert!(cache.load().is_err());
        cache.save(&snapshot(), None, SystemTime::UNIX_EPOCH).unwrap();
        assert!(cache.load().unwrap().is_some());
    }
}
