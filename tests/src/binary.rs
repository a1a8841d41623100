//! The program under test.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// The checkout's top folder.
#[must_use]
pub fn checkout() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests lie in the checkout")
}

/// The `ferrogate` binary: `FERROGATE_BIN`, or built now with the profile of the tests. One build per test process;
/// cargo's own lock keeps processes apart.
///
/// # Panics
/// If it does not build.
pub fn path() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| match std::env::var_os("FERROGATE_BIN") {
        Some(path) => checkout().join(path),
        None => build(if cfg!(debug_assertions) { "dev" } else { "release" }),
    })
}

/// Keeps from `command` what cargo tells this test about its own package: it would make build scripts that look at it
/// (ring's does) run again, and everything above them compile a second time.
pub fn forget_package(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
}

/// Builds the binary in a profile and returns where cargo put it.
///
/// # Panics
/// If it does not build.
#[must_use]
pub fn build(profile: &str) -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    forget_package(&mut command);
    let output = command
        .args(["build", "--package", "ferrogate", "--profile", profile, "--message-format", "json-render-diagnostics"])
        .current_dir(checkout())
        .stderr(Stdio::inherit())
        .output()
        .expect("cargo can be run");
    assert!(output.status.success(), "the binary does not build");
    let messages = String::from_utf8_lossy(&output.stdout);
    let executable = messages.lines().rev().find_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        message["executable"].as_str().map(PathBuf::from)
    });
    executable.expect("cargo names the binary it built")
}
