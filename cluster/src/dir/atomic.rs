//! Replaces a file so that whoever looks, even after a power cut, finds the old text or the new one, whole.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// What a replacement is about to do; tests let each step fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Create the temporary file beside the old one.
    Create,
    /// Write the new text into it.
    Write,
    /// Have the text on disk before the name points to it.
    Sync,
    /// Give it the name.
    Rename,
    /// Have the name on disk.
    SyncFolder,
}

/// Makes `text` the content of `folder/name`, readable by its owner only; durable when it returns.
pub(crate) fn replace(folder: &Path, name: &str, text: &str) -> io::Result<()> {
    replace_gated(folder, name, text, &mut |_| Ok(()))
}

/// As [`replace`], asking `gate` before each step.
pub(super) fn replace_gated(
    folder: &Path,
    name: &str,
    text: &str,
    gate: &mut dyn FnMut(Step) -> io::Result<()>,
) -> io::Result<()> {
    let temporary = temporary(folder, name);
    let written = write(&temporary, text, gate).and_then(|()| {
        gate(Step::Rename)?;
        fs::rename(&temporary, folder.join(name))
    });
    if let Err(error) = written {
        // On a full disk the half-written file is what fills it.
        let _ = fs::remove_file(&temporary);
        return Err(error);
    }
    gate(Step::SyncFolder)?;
    File::open(folder)?.sync_all()
}

fn write(path: &Path, text: &str, gate: &mut dyn FnMut(Step) -> io::Result<()>) -> io::Result<()> {
    gate(Step::Create)?;
    remove_if_there(path)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    gate(Step::Write)?;
    file.write_all(text.as_bytes())?;
    gate(Step::Sync)?;
    file.sync_all()
}

/// Removes what a process that was killed left behind.
pub(super) fn clean(folder: &Path, name: &str) -> io::Result<()> {
    remove_if_there(&temporary(folder, name))
}

fn temporary(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!(".{name}.tmp"))
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}
