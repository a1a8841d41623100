//! What `/proc` says about a process, as text. Reading it: [`crate::measure`].
//!
//! Source: proc(5) and the kernel's `Documentation/filesystems/proc.rst`.

use std::time::Duration;

/// One line of `/proc/PID/stat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// The parent's id.
    pub parent: u32,
    /// User time of all threads, ended ones too, in clock ticks.
    pub user: u64,
    /// System time, likewise.
    pub system: u64,
}

impl Stat {
    /// Reads the line; the name of a program may hold anything, so fields count from the last parenthesis.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let mut fields = line.get(line.rfind(')')? + 1..)?.split_ascii_whitespace();
        // Fields 4 (ppid), 14 (utime) and 15 (stime); the first here is field 3.
        let parent = fields.nth(1)?.parse().ok()?;
        let user = fields.nth(9)?.parse().ok()?;
        let system = fields.next()?.parse().ok()?;
        Some(Self { parent, user, system })
    }

    /// User and system time.
    #[must_use]
    pub fn cpu(self, ticks_per_second: u64) -> Duration {
        Duration::from_micros((self.user + self.system) * 1_000_000 / ticks_per_second.max(1))
    }
}

/// Memory of a process, in KiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Resident: pages shared with others count in full.
    pub rss: u64,
    /// Proportional: a page shared by n processes counts 1/n.
    pub pss: u64,
}

impl Memory {
    /// Reads `/proc/PID/smaps_rollup`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let field = |name| {
            let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
            rest.split_ascii_whitespace().next()?.parse().ok()
        };
        Some(Self { rss: field("Rss:")?, pss: field("Pss:")? })
    }
}

impl std::ops::Add for Memory {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self { rss: self.rss + other.rss, pss: self.pss + other.pss }
    }
}

/// The ticks that one CPU was busy, from `/proc/stat`: everything but idle and waiting for a disk.
#[must_use]
pub fn busy_ticks(text: &str, cpu: usize) -> Option<u64> {
    let name = format!("cpu{cpu}");
    let line = text.lines().find(|line| line.split_ascii_whitespace().next() == Some(&name))?;
    let fields: Option<Vec<u64>> = line.split_ascii_whitespace().skip(1).map(|field| field.parse().ok()).collect();
    // user nice system idle iowait irq softirq steal; guest time is part of user time.
    let fields = fields?;
    let busy = [0, 1, 2, 5, 6, 7].iter().filter_map(|&index| fields.get(index)).sum();
    Some(busy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_line_is_read_whatever_the_name_of_the_program() {
        let rest = "S 41 42 42 0 -1 4194560 153 0 0 0 120 34 0 0 20 0 3 0 8154 3981312 470 0";
        for name in ["nginx", "nginx: worker) S 9 (x", "", "a b"] {
            let stat = Stat::parse(&format!("42 ({name}) {rest}"));
            assert_eq!(stat, Some(Stat { parent: 41, user: 120, system: 34 }), "{name}");
        }
        assert_eq!(Stat::parse("42 (x) S 41"), None);
        assert_eq!(Stat::parse(""), None);
    }

    #[test]
    fn ticks_become_time() {
        let stat = Stat { parent: 1, user: 120, system: 34 };
        assert_eq!(stat.cpu(100), Duration::from_millis(1540));
    }

    #[test]
    fn memory_is_read_from_the_rollup() {
        let text = "55d0-7ffe ---p 00000000 00:00 0   [rollup]\nRss:    4020 kB\nPss:     996 kB\nPss_Anon:  320 kB\n";
        assert_eq!(Memory::parse(text), Some(Memory { rss: 4020, pss: 996 }));
        assert_eq!(Memory::parse("Rss: 1 kB\n"), None);
    }

    #[test]
    fn a_cpu_is_busy_when_it_is_not_idle() {
        let text = "cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 1 2 4 100 100 8 16 32 1 1\ncpu1 7 0 0 5 0 0 0 0 0 0\n";
        assert_eq!((busy_ticks(text, 0), busy_ticks(text, 1), busy_ticks(text, 2)), (Some(63), Some(7), None));
    }
}
