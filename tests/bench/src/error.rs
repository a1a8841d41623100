//! Why a benchmark could not be run at all, as opposed to a run that had errors.

use std::io;
use std::path::PathBuf;

/// Why the benchmark stops.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A program could not be started.
    #[error("{program} cannot be run: {source}")]
    Spawn {
        /// Its name.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// A program ended with a failure.
    #[error("{program} failed ({status}):\n{output}")]
    Failed {
        /// Its name.
        program: String,
        /// How it ended.
        status: String,
        /// What it said.
        output: String,
    },
    /// A program's output is not what this harness knows.
    #[error("{program} printed no {what}; its output was:\n{output}")]
    Output {
        /// Its name.
        program: String,
        /// What was looked for.
        what: &'static str,
        /// What it said.
        output: String,
    },
    /// Something did not happen in time.
    #[error("{what} did not happen within {seconds} s")]
    Late {
        /// What was waited for.
        what: String,
        /// For how long.
        seconds: u64,
    },
    /// Programs are missing and cannot be installed.
    #[error("{missing} not installed; run this as root, or first: apt-get install -y {packages}")]
    Missing {
        /// The programs.
        missing: String,
        /// Debian's names for what holds them.
        packages: String,
    },
    /// A run had errors, so its figures mean nothing.
    #[error("{0}")]
    Dirty(String),
    /// The machine is too small.
    #[error("this machine has one core; the proxy and the load need one each")]
    OneCore,
    /// A socket could not be used.
    #[error("a socket of the harness failed: {0}")]
    Socket(#[from] io::Error),
}

/// The result of most things here.
pub type Result<T> = std::result::Result<T, BenchError>;

/// Fails if a run had errors.
pub fn clean(errors: &[String]) -> Result<()> {
    if errors.is_empty() { Ok(()) } else { Err(BenchError::Dirty(errors.join("; "))) }
}

/// Writes a file and says which one failed.
pub fn write(path: impl Into<PathBuf>, text: impl AsRef<[u8]>) -> Result<()> {
    let path = path.into();
    std::fs::write(&path, text).map_err(|source| BenchError::File { path, source })
}

/// Reads a file and says which one failed.
pub fn read(path: impl Into<PathBuf>) -> Result<String> {
    let path = path.into();
    std::fs::read_to_string(&path).map_err(|source| BenchError::File { path, source })
}

/// Makes a folder and says which one failed.
pub fn folder(path: impl Into<PathBuf>) -> Result<PathBuf> {
    let path = path.into();
    match std::fs::create_dir_all(&path) {
        Ok(()) => Ok(path),
        Err(source) => Err(BenchError::File { path, source }),
    }
}
