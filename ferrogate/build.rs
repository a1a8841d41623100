//! Finds out which commit is being built, by reading `.git` itself: no `git` command is needed, and a source archive
//! without `.git` builds just as well (its commit is "unknown").

use std::fs;
use std::path::{Path, PathBuf};

/// How much of a commit's name is shown.
const SHORT: usize = 12;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let package = std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(PathBuf::new, PathBuf::from);
    let root = package.join("..");
    let commit = commit(&root).map_or_else(|| "unknown".to_owned(), |name| name.chars().take(SHORT).collect());
    println!("cargo:rustc-env=FERROGATE_COMMIT={commit}");
}

/// The commit that `HEAD` names, following one symbolic reference.
fn commit(root: &Path) -> Option<String> {
    let git = git_dir(&root.join(".git"))?;
    let head = read(&git.join("HEAD"))?;
    let Some(reference) = head.strip_prefix("ref: ") else { return Some(head) };
    // A worktree keeps only HEAD for itself; branches live with the main checkout.
    let common = read(&git.join("commondir")).map_or_else(|| git.clone(), |dir| git.join(dir));
    read(&common.join(reference)).or_else(|| packed(&common.join("packed-refs"), reference))
}

/// `.git` is a folder, or in a worktree a file that names one.
fn git_dir(path: &Path) -> Option<PathBuf> {
    if path.is_dir() {
        return Some(path.to_owned());
    }
    let named = read(path)?;
    Some(path.parent()?.join(named.strip_prefix("gitdir: ")?))
}

/// Finds a reference that git has packed away: lines of `<commit> <reference>`.
fn packed(path: &Path, reference: &str) -> Option<String> {
    let line = read(path)?.lines().find(|line| line.split(' ').nth(1) == Some(reference))?.to_owned();
    line.split(' ').next().map(str::to_owned)
}

/// The trimmed text of a file, which cargo then watches.
fn read(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    println!("cargo:rerun-if-changed={}", path.display());
    Some(text.trim().to_owned())
}
