//! Hears of changes below a folder.
//!
//! What it hears is only a hint to look: inotify overflows, does not see through every link, and is silent on network
//! filesystems. The folder's own parent is watched too, for a folder that is replaced; a watch belongs to an inode, so
//! it is renewed when the name comes to stand for another folder.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use config::diagnostic::{Problem, Severity};
use config::object::FieldPath;
use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;
use tracing::debug;

use super::walk::Identity;

/// A watched folder.
#[derive(Debug)]
pub(super) struct Watch {
    folder: PathBuf,
    hints: Arc<Notify>,
    /// Folder the watch is for, and what keeps it up.
    current: Option<(Option<Identity>, Option<RecommendedWatcher>)>,
    problem: Option<Problem>,
}

impl Watch {
    /// Watches nothing until [`Self::follow`]; changes are told to `hints`.
    pub(super) fn new(folder: &Path, hints: Arc<Notify>) -> Self {
        let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
        Self { folder, hints, current: None, problem: None }
    }

    /// Watches the folder that the name now stands for; whether that is another than before, so that changes in
    /// between may have been missed.
    pub(super) fn follow(&mut self, identity: Option<Identity>) -> bool {
        if self.current.as_ref().is_some_and(|(watched, _)| *watched == identity) {
            return false;
        }
        let watcher = self.watch(identity.is_some());
        let failure = watcher.as_ref().err().map(ToString::to_string);
        self.problem = failure.map(|failure| {
            let folder = self.folder.display();
            let message =
                format!("changes in {folder} are noticed seconds later, since it cannot be watched: {failure}");
            Problem { severity: Severity::Warning, object: None, field: FieldPath::root(), message, place: None }
        });
        self.current = Some((identity, watcher.ok()));
        true
    }

    /// What an operator should know.
    pub(super) const fn problem(&self) -> Option<&Problem> {
        self.problem.as_ref()
    }

    fn watch(&self, exists: bool) -> notify::Result<RecommendedWatcher> {
        let (folder, hints) = (self.folder.clone(), Arc::clone(&self.hints));
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            if event.is_err() || event.is_ok_and(|event| is_change(&event, &folder)) {
                hints.notify_one();
            }
        })?;
        if let Some(parent) = self.folder.parent()
            && let Err(error) = watcher.watch(parent, RecursiveMode::NonRecursive)
        {
            debug!(folder = %parent.display(), %error, "cannot watch the parent folder");
        }
        if exists {
            watcher.watch(&self.folder, RecursiveMode::Recursive)?;
        }
        Ok(watcher)
    }
}

/// Whether an event may mean another content; our own reading makes events too, and so do the folder's siblings.
fn is_change(event: &Event, folder: &Path) -> bool {
    let content = match event.kind {
        EventKind::Access(access) => access == AccessKind::Close(AccessMode::Write),
        _ => true,
    };
    content && (event.paths.is_empty() || event.paths.iter().any(|path| path.starts_with(folder)))
}
