//! A folder of manifests that a test edits as an operator would.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// A temporary folder; gone with the test.
#[derive(Debug)]
pub struct Folder(TempDir);

impl Default for Folder {
    fn default() -> Self {
        Self::new()
    }
}

impl Folder {
    /// An empty folder.
    #[must_use]
    pub fn new() -> Self {
        Self(tempfile::Builder::new().prefix("ferrogate-test-").tempdir().expect("a temporary folder"))
    }

    /// A folder that holds these files.
    #[must_use]
    pub fn with(files: &[(&str, &str)]) -> Self {
        let folder = Self::new();
        for (name, text) in files {
            folder.write(name, text);
        }
        folder
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// The path of one of its files.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// Writes a file as careful programs do: beside its place, then renamed over it.
    pub fn write(&self, name: &str, text: &str) {
        let (place, fresh) = (self.file(name), self.file(&format!(".{name}.fresh")));
        fs::write(&fresh, text).expect("the folder can be written");
        fs::rename(fresh, place).expect("a file can be renamed in its folder");
    }

    /// Writes a file in place, as `cat >` does: readers may see it empty.
    pub fn write_in_place(&self, name: &str, text: &str) {
        fs::write(self.file(name), text).expect("the folder can be written");
    }

    /// Gives a file another name.
    pub fn rename(&self, from: &str, to: &str) {
        fs::rename(self.file(from), self.file(to)).expect("the file can be renamed");
    }

    /// Deletes a file.
    pub fn remove(&self, name: &str) {
        fs::remove_file(self.file(name)).expect("the file can be deleted");
    }
}
