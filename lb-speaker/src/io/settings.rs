//! Reads the kernel's settings that can make a VIP fail.

use std::fs;
use std::path::Path;

use crate::traps::{InterfaceSettings, Settings};

/// Where kube-proxy keeps the addresses of Services in IPVS mode.
const IPVS_INTERFACE: &str = "kube-ipvs0";

/// The settings of the interfaces of these names, and those for all; `existing` are the names of every interface.
pub(super) fn read<'a>(names: impl Iterator<Item = &'a str>, mut existing: impl Iterator<Item = &'a str>) -> Settings {
    let ipvs = existing.any(|name| name == IPVS_INTERFACE);
    let interfaces = names.chain(["all"]).map(|name| (name.to_owned(), read_interface(name))).collect();
    Settings { ipvs, interfaces }
}

fn read_interface(name: &str) -> InterfaceSettings {
    InterfaceSettings {
        arp_ignore: number("ipv4", name, "arp_ignore"),
        rp_filter: number("ipv4", name, "rp_filter"),
        disable_ipv6: number("ipv6", name, "disable_ipv6"),
    }
}

/// A setting; `None` where it does not exist or may not be read.
fn number(family: &str, interface: &str, setting: &str) -> Option<u32> {
    let path = Path::new("/proc/sys/net").join(family).join("conf").join(interface).join(setting);
    fs::read_to_string(path).ok()?.trim().parse().ok()
}
