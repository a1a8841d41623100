//! The machine and the versions, as a reader of the figures needs to know them. No names of hosts or people.

use std::fmt::Write as _;
use std::process::Command;

use crate::error::{Result, read};
use crate::peers::{Kind, Programs};

/// A list in Markdown.
pub fn describe(programs: &Programs) -> Result<String> {
    let cpus = read("/proc/cpuinfo")?;
    let kernel = read("/proc/sys/kernel/osrelease")?;
    let system = read("/etc/os-release").unwrap_or_default();
    let memory = read("/proc/meminfo")?;
    let mut text = format!(
        "- CPU: {}, {} cores{}\n- memory: {} MiB\n- kernel: Linux {}\n- system: {}\n",
        cpu_model(&cpus),
        cpus.lines().filter(|line| line.starts_with("processor")).count(),
        if cpus.contains(" hypervisor") { ", a virtual machine" } else { "" },
        field(&memory, "MemTotal").and_then(|kib| kib.trim_end_matches(" kB").parse().ok()).unwrap_or(0_u64) / 1024,
        // What follows the numbers names a builder.
        kernel.trim().split('-').next().unwrap_or_default(),
        system.lines().find_map(|line| line.strip_prefix("PRETTY_NAME=")).unwrap_or("unknown").trim_matches('"'),
    );
    for (kind, program) in &programs.0 {
        let flag = match kind {
            Kind::Ferrogate => "--version",
            Kind::Caddy => "version",
            Kind::Nginx | Kind::Haproxy => "-v",
        };
        let _ = writeln!(text, "- {kind} {}", version(&first_line(Command::new(program).arg(flag))));
    }
    let wrk = first_line(Command::new("wrk").arg("-v"));
    let h2load = first_line(Command::new("h2load").arg("--version"));
    let _ = writeln!(text, "- load: wrk {}, h2load {}, and `load` of this package", version(&wrk), version(&h2load));
    Ok(text)
}

/// The first line that a command prints, whatever its status: `wrk -v` fails.
fn first_line(command: &mut Command) -> String {
    let output = command.output().map(|output| [output.stdout, output.stderr].concat()).unwrap_or_default();
    String::from_utf8_lossy(&output).lines().next().unwrap_or("unknown").trim().to_owned()
}

/// The word that is a version, and a commit after it.
fn version(line: &str) -> String {
    let is_version = |word: &&str| word.trim_start_matches('v').starts_with(|first: char| first.is_ascii_digit());
    let word = line.split_whitespace().filter_map(|word| word.rsplit('/').next()).find(is_version);
    let commit = line.split_once("(commit ").map(|(_, rest)| format!(" (commit {rest}")).unwrap_or_default();
    word.map_or_else(|| "unknown".to_owned(), |word| format!("{word}{commit}"))
}

fn cpu_model(cpuinfo: &str) -> String {
    let part = |name| field(cpuinfo, name).unwrap_or("unknown");
    format!("{} (family {}, model {})", part("model name"), part("cpu family"), part("model"))
}

/// The value of the first line `name : value`.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| key.trim() == name)
        .map(|(_, value)| value.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_found_in_whatever_a_program_says() {
        for (line, expected) in [
            ("nginx version: nginx/1.22.1", "1.22.1"),
            ("HAProxy version 2.6.12-1+deb12u4 2026/10/17 - https://haproxy.org/", "2.6.12-1+deb12u4"),
            ("wrk debian/4.1.0-3+b2 [epoll] Copyright (C) 2012 Will Glozer", "4.1.0-3+b2"),
            ("h2load nghttp2/1.52.0", "1.52.0"),
            ("v2.11.7 h1:yj0Y4f", "v2.11.7"),
            ("ferrogate 0.1.0 (commit 5e65833)", "0.1.0 (commit 5e65833)"),
            ("", "unknown"),
        ] {
            assert_eq!(version(line), expected, "{line}");
        }
    }

    #[test]
    fn the_cpu_is_named() {
        let text = "processor\t: 0\ncpu family\t: 26\nmodel\t\t: 2\nmodel name\t: Some CPU\n\nprocessor\t: 1\n";
        assert_eq!(cpu_model(text), "Some CPU (family 26, model 2)");
        assert_eq!(cpu_model(""), "unknown (family unknown, model unknown)");
    }
}
