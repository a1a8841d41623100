//! The first command of the README, as a newcomer runs it.
//!
//! Not root: as any user the command is run as it stands. As root, cargo builds what the command would build, and the
//! program runs as an unprivileged user on a copy of the manifests, in a network namespace of its own where that can
//! be made, so that nobody's port 8080 is in the way.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use ferrogate_tests::appliance::Process;
use ferrogate_tests::folder::Folder;
use ferrogate_tests::netns::Namespace;
use ferrogate_tests::wait::{Stopwatch, within};
use ferrogate_tests::{binary, netns};
use serde_json::Value;

/// Nobody, on every Linux.
const NOBODY: &str = "65534";
/// A newcomer's machine compiles the release build first.
const BUILD: Duration = Duration::from_mins(30);
const ADMIN: &str = "http://127.0.0.1:9100";

/// The command as the README has it: the line of a fenced block that starts the appliance.
fn readme_command() -> Vec<String> {
    let readme = fs::read_to_string(binary::checkout().join("README.md")).expect("there is a README");
    let (mut fenced, mut found) = (false, None);
    for line in readme.lines().map(str::trim) {
        fenced ^= line.starts_with("```");
        if fenced && line.starts_with("cargo run --release -- run") {
            found = found.or(Some(line));
        }
    }
    found.expect("the README has the command in a fenced block").split_whitespace().map(str::to_owned).collect()
}

/// A newcomer at their machine.
struct Newcomer {
    process: Process,
    namespace: Option<Namespace>,
    /// Where the program runs as root's stand-in.
    _place: Option<Folder>,
}

impl Newcomer {
    fn start(command: &[String]) -> Self {
        if !rustix::process::geteuid().is_root() {
            let mut run = Command::new(&command[0]);
            run.args(&command[1..]).current_dir(binary::checkout());
            binary::forget_package(&mut run);
            return Self { process: Process::start(run), namespace: None, _place: None };
        }
        let (place, namespace) =
            (stage(), netns::unavailable().is_none().then(|| Namespace::new("new").expect("asked")));
        let mut run = Command::new("setpriv");
        if let Some(namespace) = &namespace {
            run = namespace.command("setpriv");
        }
        let drop = ["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups", "--inh-caps=-all", "--bounding-set=-all"];
        run.args(drop).arg(place.file("ferrogate")).args(&command[4..]);
        run.current_dir(place.path()).env("HOME", place.path()).env_remove("XDG_STATE_HOME");
        Self { process: Process::start(run), namespace, _place: Some(place) }
    }

    /// Runs a shell line beside the appliance.
    fn shell(&self, line: &str) -> Result<String, String> {
        let mut command = match &self.namespace {
            Some(namespace) => namespace.command("sh"),
            None => Command::new("sh"),
        };
        let output = command.args(["-c", line]).output().map_err(|error| error.to_string())?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(format!("{line}: {}", String::from_utf8_lossy(&output.stderr)))
    }

    fn api(&self, name: &str) -> Result<Vec<Value>, String> {
        let text = self.shell(&format!("curl -sSf --max-time 5 {ADMIN}/api/v1/{name}"))?;
        let mut value: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        serde_json::from_value(value[name].take()).map_err(|error| error.to_string())
    }
}

/// Copies the release binary and the manifests to where nobody may read and write.
fn stage() -> Folder {
    let folder = Folder::new();
    fs::copy(binary::build("release"), folder.file("ferrogate")).expect("the binary can be copied");
    let copied = Command::new("cp").arg("-r").arg(binary::checkout().join("manifests")).arg(folder.path()).status();
    assert!(copied.is_ok_and(|status| status.success()), "the manifests can be copied");
    let owned = Command::new("chown").args(["-R", &format!("{NOBODY}:{NOBODY}")]).arg(folder.path()).status();
    assert!(owned.is_ok_and(|status| status.success()), "root may give files away");
    folder
}

#[tokio::test(flavor = "multi_thread")]
async fn the_readme_brings_a_page_over_http_and_https_on_the_external_ip() {
    let command = readme_command();
    assert_eq!(command[..4], ["cargo", "run", "--release", "--"], "{command:?}");
    let (watch, mut newcomer) = (Stopwatch::start(), None);
    let started = newcomer.insert(Newcomer::start(&command));
    let limit = if started.namespace.is_some() { Duration::from_secs(20) } else { BUILD };
    within(limit, "readiness", async || {
        if let Some(status) = started.process.ended() {
            panic!("the appliance ended with {status}");
        }
        started.shell(&format!("curl -sSf --max-time 2 {ADMIN}/readyz"))
    })
    .await;
    eprintln!("ready {:?} after its start (the build included unless root)", watch.elapsed());
    let newcomer = started;

    let vips = newcomer.api("vips").expect("the API answers");
    let given: Vec<_> = vips.iter().filter_map(|vip| vip["ips"][0].as_str()).collect();
    assert!(!given.is_empty() && given.len() == vips.len(), "every Service has an address: {vips:?}");
    let routes = newcomer.api("routes").expect("the API answers");
    assert!(routes.iter().any(|route| route["endpoints"].as_u64() > Some(0)), "{routes:?}");
    assert_eq!(newcomer.api("problems"), Ok(Vec::new()));
    assert!(!newcomer.api("certificates").expect("the API answers").is_empty());

    // What it prints: a table with every address and host, and curl lines that work as they stand.
    let log = within(Duration::from_secs(5), "the table", async || {
        let log = newcomer.process.log();
        let complete = log.contains("EXTERNAL-IP") && given.iter().all(|ip| log.contains(ip)) && log.contains("curl ");
        if complete { Ok(log) } else { Err(log) }
    })
    .await;
    for route in &routes {
        assert!(log.contains(route["host"].as_str().unwrap_or_default()), "{route} in\n{log}");
    }
    let curls: Vec<_> = log.lines().filter_map(|line| line.find("curl ").map(|at| line[at..].trim())).collect();
    for scheme in ["http://", "https://"] {
        let line = curls.iter().find(|line| line.contains(scheme));
        let line = line.unwrap_or_else(|| panic!("no curl line with {scheme} in\n{log}"));
        assert!(given.iter().any(|ip| line.contains(ip)), "{line} goes to an EXTERNAL-IP");
        let page = newcomer.shell(&line.replacen("curl ", "curl --fail --silent --show-error --max-time 10 ", 1));
        assert!(page.as_ref().is_ok_and(|page| !page.trim().is_empty()), "{line}: {page:?}");
    }
    answers_on_every_external_ip(newcomer, &given, &routes);
    says_why_it_does_not_announce(&log, &vips);
    memory_is_small(&newcomer.process);
}

fn answers_on_every_external_ip(newcomer: &Newcomer, given: &[&str], routes: &[Value]) {
    let route = routes.iter().find(|route| !route["host"].as_str().unwrap_or("*").starts_with('*')).expect("a host");
    let (host, path) = (route["host"].as_str().unwrap_or_default(), route["path"].as_str().unwrap_or_default());
    for ip in given {
        for (scheme, port) in [("http", 8080), ("https", 8443)] {
            let resolve = format!("--resolve {host}:{port}:{ip}");
            let page = newcomer.shell(&format!("curl -sSfkL --max-time 10 {resolve} {scheme}://{host}:{port}{path}"));
            assert!(page.as_ref().is_ok_and(|page| !page.is_empty()), "{scheme} on {ip}: {page:?}");
        }
    }
}

fn says_why_it_does_not_announce(log: &str, vips: &[Value]) {
    assert!(vips.iter().all(|vip| vip["state"] == "assigned" && vip["reason"].is_string()), "{vips:?}");
    let clear =
        log.lines().any(|line| line.contains("announce") && (line.contains("root") || line.contains("CAP_NET_RAW")));
    assert!(clear, "one line says that it does not announce, and why, in\n{log}");
}

/// Resident memory when idle; the program is measured, not `ip` or `setpriv`, which became it.
fn memory_is_small(process: &Process) {
    let of = |folder: &Path| fs::read_to_string(folder.join("status")).ok();
    let Some(status) = of(&process.proc()).filter(|status| status.starts_with("Name:\tferrogate")) else { return };
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("Linux knows resident memory");
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    eprintln!("resident memory: {kib} KiB");
    assert!(kib < 30 * 1024, "{kib} KiB resident when idle");
}
