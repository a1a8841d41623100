//! Secrets that are ours: files in the state folder, which come back as objects like any other.
//!
//! One file for each, written whole and readable by its owner only. Without a state folder they last as long as the
//! process.

use std::collections::BTreeMap;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use config::diagnostic::{Problem, Severity};
use config::object::{FieldPath, ObjectName};
use config::report::{Report, SecretWrite};
use config::snapshot::Snapshot;
use tracing::{info, warn};

use super::atomic;
use crate::mirror::{Reading, Tree};

/// What writes Secrets.
#[derive(Debug)]
pub(super) struct Secrets {
    folder: Option<PathBuf>,
    /// What is kept where there is no folder.
    memory: Tree,
    /// What was written since the folder was looked through: the snapshot cannot show it yet.
    unseen: BTreeMap<ObjectName, SecretWrite>,
    failure: Option<String>,
}

impl Secrets {
    pub(super) fn new(folder: Option<PathBuf>) -> Self {
        Self { folder, memory: Tree::default(), unseen: BTreeMap::new(), failure: None }
    }

    /// The folder was looked through: the next snapshot shows what is there.
    pub(super) fn looked(&mut self) {
        self.unseen.clear();
    }

    /// What is kept without a folder.
    pub(super) const fn in_memory(&self) -> &Tree {
        &self.memory
    }

    /// What an operator should know of.
    pub(super) fn problem(&self) -> Option<Problem> {
        let message =
            format!("{}; certificates are not renewed until it works again (tried repeatedly)", self.failure.as_ref()?);
        Some(Problem { severity: Severity::Error, object: None, field: FieldPath::root(), message, place: None })
    }

    /// Writes what is wanted and not there; whether anything was written.
    pub(super) fn write(&mut self, reports: &[&Report], snapshot: &Snapshot) -> bool {
        let wanted: BTreeMap<&ObjectName, &SecretWrite> = reports.iter().flat_map(|report| &report.secrets).collect();
        let (mut written, mut failure) = (false, None);
        for (name, wanted) in wanted {
            let found = snapshot.secrets.get(name).map(AsRef::as_ref);
            let is_unseen = self.unseen.get(name) == Some(wanted);
            if is_unseen || found.is_some_and(|found| wanted.is_done(found)) || !wanted.may_replace(found) {
                continue;
            }
            let object = wanted.object(name, found);
            let text = match serde_json::to_string(&object) {
                Ok(text) => text,
                Err(error) => {
                    failure = Some(format!("Secret {name} cannot be written as JSON: {error}"));
                    continue;
                }
            };
            match self.put(name, &text) {
                Ok(is_new) => {
                    written |= is_new;
                    self.unseen.insert(name.clone(), wanted.clone());
                }
                Err(error) => failure = Some(format!("cannot write Secret {name} into the state folder: {error}")),
            }
        }
        if let Some(failure) = failure.as_ref().filter(|failure| self.failure.as_ref() != Some(*failure)) {
            warn!("{failure}");
        }
        self.failure = failure;
        written
    }

    /// Keeps the text; whether it differs from what was kept.
    fn put(&mut self, name: &ObjectName, text: &str) -> io::Result<bool> {
        // Neither part of a name can hold an underscore.
        let file = format!("{}_{}.json", name.namespace, name.name);
        if let Some(folder) = &self.folder {
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
            atomic::replace(folder, &file, text)?;
            info!(secret = %name, "written into the state folder");
            return Ok(true);
        }
        let reading = Reading::Text(text.into());
        let place: Arc<str> = format!("<memory>/{file}").into();
        let is_new = self.memory.files.get(&place) != Some(&reading);
        self.memory.files.insert(place, reading);
        Ok(is_new)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use k8s_openapi::api::core::v1::Secret;

    use super::*;

    fn report(base: Option<String>) -> Report {
        let data = Arc::new([("tls.key".to_owned(), b"key".to_vec())].into());
        let (labels, annotations) = (BTreeMap::new(), BTreeMap::new());
        let write = SecretWrite { type_: "Opaque", labels, annotations, data, base };
        Report { secrets: [(ObjectName::new("shop", "tls"), write)].into(), ..Report::default() }
    }

    #[test]
    fn a_secret_is_written_once_and_readable_by_its_owner_only() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("secrets");
        let mut secrets = Secrets::new(Some(path.clone()));
        assert!(secrets.write(&[&report(None)], &Snapshot::default()));
        let file = path.join("shop_tls.json");
        let object: Secret = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
        assert_eq!(object.data.as_ref().unwrap()["tls.key"].0, b"key");
        for (path, mode) in [(&file, 0o600), (&path, 0o700)] {
            assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, mode, "{}", path.display());
        }
        let snapshot = Snapshot {
            secrets: Arc::new([(ObjectName::new("shop", "tls"), Arc::new(object))].into()),
            ..Snapshot::default()
        };
        assert!(!secrets.write(&[&report(None)], &snapshot), "it is there");
    }

    #[test]
    fn what_no_snapshot_shows_yet_is_written_once_and_again_if_it_is_gone() {
        let folder = tempfile::TempDir::new().unwrap();
        let mut secrets = Secrets::new(Some(folder.path().to_owned()));
        let times = (0..50).filter(|_| secrets.write(&[&report(None)], &Snapshot::default())).count();
        assert_eq!(times, 1);
        fs::remove_file(folder.path().join("shop_tls.json")).unwrap();
        secrets.looked();
        assert!(secrets.write(&[&report(None)], &Snapshot::default()));
    }

    #[test]
    fn a_secret_that_somebody_made_meanwhile_stays() {
        let folder = tempfile::TempDir::new().unwrap();
        let mut secrets = Secrets::new(Some(folder.path().to_owned()));
        let theirs = [(ObjectName::new("shop", "tls"), Arc::new(Secret::default()))].into();
        let snapshot = Snapshot { secrets: Arc::new(theirs), ..Snapshot::default() };
        assert!(!secrets.write(&[&report(None)], &snapshot));
        assert!(!secrets.write(&[&report(Some("another".to_owned()))], &snapshot));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_a_problem_until_it_can() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("secrets");
        fs::write(&path, "in the way").unwrap();
        let mut secrets = Secrets::new(Some(path.clone()));
        assert!(!secrets.write(&[&report(None)], &Snapshot::default()));
        assert!(secrets.problem().unwrap().message.contains("shop/tls"));
        fs::remove_file(&path).unwrap();
        assert!(secrets.write(&[&report(None)], &Snapshot::default()) && secrets.problem().is_none());
    }
}
