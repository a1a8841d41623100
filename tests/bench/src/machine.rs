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
        let flag = if *kind == Kind::Ferrogate {
            "--version"
        } else if *kind == Kind::Caddy {
            "version"
        } else {
            "-v"
        };
        let _ = writeln!(text, "- {kind}: {}", first_line(Command::new(program).arg(flag)));
    }
    let _ = writeln!(
        text,
        "- load: {}; {}; `load` of this package",
        first_line(Command::new("wrk").arg("-v")),
        first_line(Command::new("h2load").arg("--version"))
    );
    Ok(text)
}

/// The first line that a command prints, whatever its status: `wrk -v` fails.
fn first_line(command: &mut Command) -> String {
    let output = command.output().map(|output| [output.stdout, output.stderr].concat()).unwrap_or_default();
    String::from_utf8_lossy(&output).lines().next().unwrap_or("unknown").trim().to_owned()
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
    fn the_cpu_is_named() {
        let text = "processor\t: 0\ncpu family\t: 26\nmodel\t\t: 2\nmodel name\t: Some CPU\n\nprocessor\t: 1\n";
        assert_eq!(cpu_model(text), "Some CPU (family 26, model 2)");
        assert_eq!(cpu_model(""), "unknown (family unknown, model unknown)");
    }
}
