//! The whole way: an object is put on an API server, and another process has made its plan.
//!
//! The process that is measured is this program once more, so that the API server's work and memory are not counted as
//! its own; the API server is the in-memory one of the tests, on loopback.

#![expect(clippy::disallowed_methods, reason = "a measurement reads the clock")]

use std::io::{BufRead, BufReader, Lines};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use cluster::{Access, ApiOptions, Cluster};
use config::object::ObjectName;
use config::snapshot::Snapshot;
use ferrogate_tests::api_server::ApiServer;
use lb_speaker::plan::{PlanOptions, Planner};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::fleet;
use super::timing::{Rows, Times};
use crate::error::{BenchError, Result};

/// Between two changes, so that each comes after a rest.
const REST: Duration = Duration::from_millis(150);

/// Times `rounds` changes of one Service among `count` objects of each kind, then the start from disk.
pub fn run(rows: &mut Rows, count: usize, rounds: usize) -> Result<()> {
    let mut server = ApiServer::start()?;
    fill(&server, count)?;
    let folder = tempfile::Builder::new().prefix("ferrogate-cores-").tempdir()?;
    let kubeconfig = server.kubeconfig(folder.path())?;
    let cache = folder.path().join("cache");
    let began = Instant::now();
    let mut follower = Measured::start(&kubeconfig, &cache, count / 2)?;
    let resident = follower.next("ready")?;
    println!(
        "- first snapshot and plan after {:.1} s; {} MB resident",
        began.elapsed().as_secs_f64(),
        megabytes(&resident)
    );
    let (mut snapshots, mut plans) = (Vec::new(), Vec::new());
    for round in 1..=rounds.max(1) {
        std::thread::sleep(REST);
        let object = fleet::service(count / 2, Some(fleet::address(count / 2)), round);
        let put = moment();
        store(&server, &object)?;
        let times = follower.next(&format!("mark {round} "))?;
        let (at, after) = times.split_once(' ').unwrap_or((&times, &times));
        snapshots.push(since(put, at));
        plans.push(since(put, after));
    }
    for (what, times) in [("the snapshot", snapshots), ("the plan", plans)] {
        let title = format!("a change of one Service reaches {what}, debounce and loopback included");
        rows.add(&title, &Times::of(times).expect("one round at least"));
    }
    println!("- {} MB resident after {rounds} changes", megabytes(&follower.next("resident")?));
    drop(follower);
    server.go_away();
    start_from_disk(rows, &kubeconfig, &cache)
}

fn start_from_disk(rows: &mut Rows, kubeconfig: &Path, cache: &Path) -> Result<()> {
    let size = std::fs::metadata(cache.join("snapshot"))?.len();
    println!("- the state on disk takes {} MB", size / 1_000_000);
    let mut times = Vec::new();
    for _ in 0..5 {
        let mut starter = Measured::start(kubeconfig, cache, 0)?;
        times.push(Duration::from_micros(starter.next("saved ")?.parse().unwrap_or(0)));
    }
    rows.add("a start without the API server has its first snapshot from disk", &Times::of(times).expect("five"));
    Ok(())
}

fn fill(server: &ApiServer, count: usize) -> Result<()> {
    store(server, &fleet::config_map())?;
    store(server, &fleet::ingress_class())?;
    for number in 0..count {
        store(server, &fleet::service(number, Some(fleet::address(number)), 0))?;
        store(server, &fleet::ingress(number, 0))?;
        store(server, &fleet::slice(number, 0, 0))?;
        store(server, &fleet::slice(number, 1, 0))?;
    }
    Ok(())
}

fn store(server: &ApiServer, object: &Value) -> Result<()> {
    let failed = |failure: ferrogate_tests::api_server::failure::Failure| std::io::Error::other(failure.message);
    let stored = server.put(object).map_err(failed)?;
    // The status has a door of its own.
    if object["kind"] == "Service" && stored["status"] != object["status"] {
        server.put_status(object).map_err(failed)?;
    }
    Ok(())
}

/// The process that is measured; killed when dropped.
struct Measured {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Measured {
    fn start(kubeconfig: &Path, cache: &Path, probe: usize) -> Result<Self> {
        let program = std::env::current_exe()?;
        let spawned = Command::new(&program)
            .args(["--measured".as_ref(), kubeconfig.as_os_str(), "--cache".as_ref(), cache.as_os_str()])
            .args(["--probe", &probe.to_string()])
            .stdout(Stdio::piped())
            .spawn();
        let mut child =
            spawned.map_err(|source| BenchError::Spawn { program: program.display().to_string(), source })?;
        let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        Ok(Self { child, lines })
    }

    /// What follows `word` in the next line that begins with it.
    fn next(&mut self, word: &str) -> Result<String> {
        let mut said = String::new();
        for line in self.lines.by_ref().map_while(std::result::Result::ok) {
            if let Some(rest) = line.strip_prefix(word) {
                return Ok(rest.trim().to_owned());
            }
            said = line;
        }
        Err(BenchError::Output { program: "cores --measured".to_owned(), what: "line", output: said })
    }
}

impl Drop for Measured {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The process that is measured: follows the API server and says when it knows what.
pub fn measured(kubeconfig: PathBuf, cache: PathBuf, probe: usize) -> Result<()> {
    let began = Instant::now();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async move {
        let access = Access::Kubeconfig { paths: vec![kubeconfig], context: None };
        let mut options = ApiOptions::new(access, ObjectName::new("metallb-system", "config"), "measured");
        options.cache = Some(cache);
        (options.timing.patience, options.timing.save) = (Duration::ZERO, Duration::from_secs(1));
        // No report is handed back, so that nothing but the Lease is written.
        let cluster = Cluster::api(options, CancellationToken::new()).await.map_err(std::io::Error::other)?;
        let mut snapshots = cluster.snapshots.clone();
        let mut planner = Planner::default();
        let probe = ObjectName::new(fleet::NAMESPACE, format!("s{probe}"));
        let (mut plan, mut told) = (None, String::new());
        while snapshots.changed().await.is_ok() {
            let Some(snapshot) = snapshots.borrow_and_update().clone() else { continue };
            let seen = moment();
            if snapshot.saved.is_some() {
                println!("saved {}", began.elapsed().as_micros());
                continue;
            }
            let is_first = plan.is_none();
            let next = planner.plan(&snapshot, &PlanOptions::default());
            let done = moment();
            drop(plan.replace(next));
            if is_first {
                println!("ready {}", resident());
            }
            if let Some(mark) = mark(&snapshot, &probe).filter(|mark| *mark != told) {
                println!("mark {mark} {seen} {done}");
                println!("resident {}", resident());
                mark.clone_into(&mut told);
            }
        }
        Ok(())
    })
}

fn mark<'a>(snapshot: &'a Snapshot, probe: &ObjectName) -> Option<&'a str> {
    let annotations = snapshot.services.get(probe)?.metadata.annotations.as_ref()?;
    annotations.get(fleet::MARK).map(String::as_str)
}

/// Microseconds since 1970, comparable between processes of one machine.
fn moment() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros()
}

fn since(put: u128, at: &str) -> Duration {
    let at: u128 = at.parse().unwrap_or(0);
    Duration::from_micros(u64::try_from(at.saturating_sub(put)).unwrap_or(u64::MAX))
}

/// Resident memory in kB; 0 if there is no telling.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse().ok()).unwrap_or(0)
}

fn megabytes(kilobytes: &str) -> u64 {
    kilobytes.parse::<u64>().unwrap_or(0) * 1024 / 1_000_000
}
