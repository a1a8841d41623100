//! What a peer used, from `/proc`: its process and all that descend from it.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::error::{Result, read};
use crate::process::PROXY_CORE;
use crate::procfs::{Memory, Stat, busy_ticks};

/// CPU time of a peer and of its core.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cpu {
    /// User and system time of all processes of the peer, threads that ended included.
    pub peer: Duration,
    /// All that ran on the peer's core.
    pub core: Duration,
}

impl Cpu {
    /// What was used since.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self { peer: self.peer.saturating_sub(before.peer), core: self.core.saturating_sub(before.core) }
    }

    /// Which part of the core's work was not the peer's, from 0 to 1.
    #[must_use]
    pub fn foreign(self) -> f64 {
        if self.core.is_zero() { 0.0 } else { 1.0 - (self.peer.as_secs_f64() / self.core.as_secs_f64()).min(1.0) }
    }
}

/// CPU time so far.
pub fn cpu(root: u32) -> Result<Cpu> {
    let ticks = rustix::param::clock_ticks_per_second();
    let peer = family(root)?.values().map(|stat| stat.cpu(ticks)).sum();
    let core = busy_ticks(&read("/proc/stat")?, PROXY_CORE).unwrap_or(0);
    Ok(Cpu { peer, core: Duration::from_micros(core * 1_000_000 / ticks.max(1)) })
}

/// Memory now.
pub fn memory(root: u32) -> Result<Memory> {
    let of = |pid: &u32| std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok();
    // A process that ended meanwhile has no memory.
    let parts = family(root)?.into_keys().filter_map(|pid| Memory::parse(&of(&pid)?));
    Ok(parts.fold(Memory::default(), |sum, part| sum + part))
}

/// A process and all its descendants.
pub(crate) fn family(root: u32) -> Result<BTreeMap<u32, Stat>> {
    let entries = std::fs::read_dir("/proc")?;
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let stat = |pid| Stat::parse(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?);
    let all: BTreeMap<u32, Stat> = pids.filter_map(|pid| Some((pid, stat(pid)?))).collect();
    Ok(descendants(root, &all))
}

/// Those of `all` that have `root` among their ancestors, and itself.
fn descendants(root: u32, all: &BTreeMap<u32, Stat>) -> BTreeMap<u32, Stat> {
    let mut found: BTreeMap<u32, Stat> =
        all.get_key_value(&root).map(|(pid, stat)| (*pid, *stat)).into_iter().collect();
    loop {
        let more: Vec<_> = all
            .iter()
            .filter(|(pid, stat)| !found.contains_key(pid) && found.contains_key(&stat.parent))
            .map(|(pid, stat)| (*pid, *stat))
            .collect();
        if more.is_empty() {
            return found;
        }
        found.extend(more);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_is_a_process_and_its_descendants() {
        let stat = |parent| Stat { parent, user: 0, system: 0 };
        let all = BTreeMap::from([(1, stat(0)), (10, stat(1)), (11, stat(10)), (5, stat(11)), (12, stat(1))]);
        assert_eq!(descendants(10, &all).into_keys().collect::<Vec<_>>(), [5, 10, 11]);
        assert!(descendants(99, &all).is_empty());
    }

    #[test]
    fn we_use_time_and_memory_ourselves() {
        let me = std::process::id();
        assert!(memory(me).unwrap().rss > 0);
        assert!(cpu(me).unwrap().core > Duration::ZERO);
    }

    #[test]
    fn what_is_not_the_peers_is_foreign() {
        let cpu = Cpu { peer: Duration::from_secs(3), core: Duration::from_secs(4) };
        assert!((cpu.foreign() - 0.25).abs() < 1e-9);
        assert!(Cpu::default().foreign().abs() < 1e-9);
    }
}
