//! Looks through a folder again and again, and reads what changed.
//!
//! A file is known by its [`Signature`]; one whose signature is as before is not read. Timestamps tick coarsely, so a
//! text read within a moment of its signature's first sight is read once more a little later.
//!
//! What cannot be read is not gone: the file keeps its name with the reason, and if a folder cannot be listed, the
//! files known below it stay as they were. A file that suddenly is empty is probably being written; it counts as
//! empty only when it stays so.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use config::diagnostic::{Place, Problem};

use super::read::{self, ReadError, Signature};
use super::walk::{self, Found, Identity};
use crate::mirror::{Reading, Tree};

/// Longer than a tick of the clock behind file timestamps (10 ms at most).
const TICK: Duration = Duration::from_millis(60);
/// How long a file that had a text must be empty to count as empty.
const EMPTY_AFTER: Duration = Duration::from_secs(2);

/// A folder and what was read of it.
#[derive(Debug)]
pub(crate) struct Scanner {
    root: PathBuf,
    excluded: Option<Identity>,
    known: BTreeMap<PathBuf, Known>,
}

#[derive(Debug)]
struct Known {
    name: Arc<str>,
    signature: Option<Signature>,
    since: Instant,
    /// Whether the signature vouches for the text.
    settled: bool,
    reading: Reading,
}

/// One look through the folder.
#[derive(Debug)]
pub(crate) struct Scanned {
    /// What is in it.
    pub(crate) tree: Tree,
    /// Which folder it is; `None` if it cannot be listed.
    pub(crate) root: Option<Identity>,
    /// When to look again even if nothing is heard of.
    pub(crate) again: Option<Instant>,
}

impl Scanner {
    /// A scanner of `root`, whose files are named as `root` is named here.
    pub(crate) const fn new(root: PathBuf) -> Self {
        Self { root, excluded: None, known: BTreeMap::new() }
    }

    /// Leaves out a folder, whatever its name: the state folder may lie inside.
    pub(super) const fn exclude(&mut self, folder: Option<Identity>) {
        self.excluded = folder;
    }

    /// Looks through the folder.
    pub(crate) fn scan(&mut self, now: Instant) -> Scanned {
        let (found, root) = walk::walk(&self.root, self.excluded);
        let Found { files, failed } = found;
        let unlisted = |path: &Path| failed.iter().any(|(folder, _)| path.starts_with(folder));
        self.known.retain(|path, _| files.contains_key(path) || unlisted(path));
        for (path, signature) in files {
            self.look(path, signature, now);
        }
        let again = self.known.values().filter_map(|known| known.again(now)).min();
        let files = self.known.values().map(|known| (Arc::clone(&known.name), known.reading.clone())).collect();
        let problems = failed.iter().map(|(folder, error)| self.unlisted(folder, error)).collect();
        Scanned { tree: Tree { files, problems, incomplete: !failed.is_empty() }, root, again }
    }

    /// What is in the folder, for who looks but once.
    pub(crate) fn look_once(&mut self) -> Tree {
        #[expect(clippy::disallowed_methods, reason = "a single look compares no times")]
        self.scan(Instant::now()).tree
    }

    fn look(&mut self, path: PathBuf, found: Result<Signature, io::Error>, now: Instant) {
        let signature = found.as_ref().ok().copied();
        let old = self.known.get(&path);
        let same = old.filter(|old| old.signature == signature && signature.is_some());
        if same.is_some_and(|old| old.settled) {
            return;
        }
        let read = found.map_err(ReadError::Io).and_then(|_| read::read_file(&path));
        if matches!(&read, Err(ReadError::Io(error)) if error.kind() == io::ErrorKind::NotFound && signature.is_some())
        {
            // Deleted while we looked.
            self.known.remove(&path);
            return;
        }
        let since = same.map_or(now, |old| old.since);
        let name = old.map_or_else(|| path.to_string_lossy().into(), |old| Arc::clone(&old.name));
        let settled = now.duration_since(since) >= TICK && !matches!(read, Err(ReadError::Io(_) | ReadError::Changing));
        let fresh = Known {
            reading: read.map_or_else(|error| error.reading(&name), Reading::Text),
            name,
            signature,
            since,
            settled,
        };
        let next = match old {
            Some(old) if fresh.is_being_written(old, now) => {
                Known { reading: old.reading.clone(), settled: false, ..fresh }
            }
            Some(old) if old.reading == fresh.reading => Known { reading: old.reading.clone(), ..fresh },
            Some(_) | None => fresh,
        };
        self.known.insert(path, next);
    }

    fn unlisted(&self, folder: &Path, error: &io::Error) -> Problem {
        let kept = self.known.keys().filter(|path| path.starts_with(folder)).count();
        let kept = if kept == 0 { String::new() } else { format!("; the {kept} files last read from it stay in use") };
        let message = format!("this folder cannot be listed: {error}{kept}");
        Problem::in_file(Place { file: folder.to_string_lossy().into(), line: 1, column: 1 }, message)
    }
}

impl Known {
    /// Whether the file has just become empty.
    fn is_being_written(&self, old: &Self, now: Instant) -> bool {
        let blank = |reading: &Reading| matches!(reading, Reading::Text(text) if text.trim().is_empty());
        blank(&self.reading) && !blank(&old.reading) && now.duration_since(self.since) < EMPTY_AFTER
    }

    /// When to look at it again.
    fn again(&self, now: Instant) -> Option<Instant> {
        let next = [self.since + TICK, self.since + EMPTY_AFTER].into_iter().find(|next| *next > now);
        next.filter(|_| !self.settled)
    }
}

#[cfg(test)]
#[path = "scan_tests.rs"]
mod tests;
