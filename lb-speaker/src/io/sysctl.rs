//! Keeps the kernel from answering ARP for VIPs on `lo`.
//!
//! By default Linux answers on every interface for every address of the machine. With VIPs on the `lo` of all members
//! that would be all members at once, and of a crashed one the kernel would go on. `arp_ignore` 1 makes it answer on an
//! interface for the addresses of that interface alone, as kube-proxy's `strictARP` does; IPv6 is like that anyway.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::{fs, io};

/// The setting of the interfaces that we changed.
#[derive(Debug, Default)]
pub(super) struct ArpIgnore {
    changed: BTreeSet<String>,
}

impl ArpIgnore {
    /// Makes it so on this interface, unless it is.
    pub(super) fn ensure(&mut self, interface: &str) -> io::Result<()> {
        // The greater of the two counts.
        if read("all")? > 0 || read(interface)? > 0 {
            return Ok(());
        }
        fs::write(path(interface), "1")?;
        self.changed.insert(interface.to_owned());
        Ok(())
    }

    /// Puts back what was changed; VIPs must be off `lo` by then.
    pub(super) fn restore(&mut self) {
        for interface in std::mem::take(&mut self.changed) {
            // An interface that is gone needs nothing.
            let _ = fs::write(path(&interface), "0");
        }
    }
}

fn path(interface: &str) -> PathBuf {
    PathBuf::from("/proc/sys/net/ipv4/conf").join(interface).join("arp_ignore")
}

fn read(interface: &str) -> io::Result<u8> {
    let text = fs::read_to_string(path(interface))?;
    text.trim().parse().map_err(io::Error::other)
}
