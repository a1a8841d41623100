//! Metrics of the process itself, with the names every Prometheus client uses, and what was built.
//!
//! Read from `/proc/self` when asked for; a value that cannot be read is left out.

use std::fs;

use ingress::metrics::compat::{Controller, Renamed};
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Counter, IntGauge, IntGaugeVec, Opts, Registry};

/// Kernel clock ticks per second in `/proc/self/stat`: 100 on every architecture Linux supports (`USER_HZ`).
const TICKS: f64 = 100.0;

/// Adds the process' own metrics to a registry.
pub(crate) fn register(registry: &Registry) -> prometheus::Result<()> {
    let build = Opts::new("ferrogate_build_info", "What was built; always 1.");
    let build = IntGaugeVec::new(build, &["version", "commit"])?;
    build.with_label_values(&[env!("CARGO_PKG_VERSION"), env!("FERROGATE_COMMIT")]).set(1);
    registry.register(Box::new(build))?;
    registry.register(Box::new(Process::new()?))
}

/// Adds CPU and memory under the names of ingress-nginx.
pub(crate) fn register_compat(registry: &Registry, controller: &Controller) -> prometheus::Result<()> {
    let names = [
        ("process_resident_memory_bytes", "nginx_process_resident_memory_bytes"),
        ("process_cpu_seconds_total", "nginx_process_cpu_seconds_total"),
    ];
    registry.register(Renamed::boxed(Process::new()?, &names, controller)?)
}

/// Reads `/proc/self` at every collection.
struct Process {
    memory: IntGauge,
    files: IntGauge,
    threads: IntGauge,
    cpu: Counter,
}

impl Process {
    fn new() -> prometheus::Result<Self> {
        Ok(Self {
            memory: IntGauge::new("process_resident_memory_bytes", "Resident memory in bytes.")?,
            files: IntGauge::new("process_open_fds", "Open file descriptors.")?,
            threads: IntGauge::new("process_threads", "Threads.")?,
            cpu: Counter::new("process_cpu_seconds_total", "User and system CPU time spent, in seconds.")?,
        })
    }

    fn refresh(&self) -> Option<()> {
        let status = fs::read_to_string("/proc/self/status").ok()?;
        self.memory.set(status_field(&status, "VmRSS:")?.checked_mul(1024)?);
        self.threads.set(status_field(&status, "Threads:")?);
        self.files.set(i64::try_from(fs::read_dir("/proc/self/fd").ok()?.count()).ok()?);
        let spent = cpu_seconds(&fs::read_to_string("/proc/self/stat").ok()?)?;
        self.cpu.inc_by((spent - self.cpu.get()).max(0.0));
        Some(())
    }
}

impl Collector for Process {
    fn desc(&self) -> Vec<&Desc> {
        [self.memory.desc(), self.files.desc(), self.threads.desc(), self.cpu.desc()].concat()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        if self.refresh().is_none() {
            return Vec::new();
        }
        [self.memory.collect(), self.files.collect(), self.threads.collect(), self.cpu.collect()].concat()
    }
}

/// The number behind `name` in `/proc/self/status`.
fn status_field(status: &str, name: &str) -> Option<i64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// User and system time of `/proc/self/stat`: fields 14 and 15 (proc(5)), counted behind the name in parentheses.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, behind_name) = stat.rsplit_once(") ")?;
    let mut times = behind_name.split(' ').skip(11).map(|ticks| ticks.parse::<u32>().ok());
    Some((f64::from(times.next()??) + f64::from(times.next()??)) / TICKS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_files_are_understood() {
        let status = "Name:\tferrogate\nVmRSS:\t   12345 kB\nThreads:\t7\n";
        assert_eq!(status_field(status, "VmRSS:"), Some(12345));
        assert_eq!(status_field(status, "Threads:"), Some(7));
        let stat = "1 (a (odd) name) S 0 1 1 0 -1 4194560 1 2 3 4 150 50 0 0 20 0 7 0 5 6 7";
        assert_eq!(cpu_seconds(stat), Some(2.0));
    }

    #[test]
    fn a_scrape_names_the_process_and_the_build() {
        let registry = Registry::new();
        register(&registry).unwrap();
        let names: Vec<_> = registry.gather().iter().map(|family| family.name().to_owned()).collect();
        assert!(names.contains(&"ferrogate_build_info".to_owned()));
        assert!(names.contains(&"process_resident_memory_bytes".to_owned()));
        register_compat(&registry, &Controller::default()).unwrap();
        let names: Vec<_> = registry.gather().iter().map(|family| family.name().to_owned()).collect();
        let of_nginx = |name: &&String| name.starts_with("nginx_ingress_controller_nginx_process_");
        assert_eq!(names.iter().filter(of_nginx).count(), 2, "{names:?}");
    }
}
