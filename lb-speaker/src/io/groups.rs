//! Membership in the groups to which questions for IPv6 VIPs are sent.
//!
//! A real membership, which the kernel reports to the switches (MLD): one that snoops forwards a solicitation only to
//! ports from which the group was reported, and the network card lets it in. A packet socket's own membership does
//! the latter only.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv6Addr};

use socket2::{Domain, Protocol, Socket, Type};

use crate::ndp::solicited_node;

/// Groups that one socket joins: far below what the kernel's `net.core.optmem_max` allows by default.
const PER_SOCKET: usize = 64;

/// The memberships of this machine; all are left when it is dropped.
#[derive(Debug, Default)]
pub(super) struct Groups {
    /// By the number of the interface.
    joined: BTreeMap<u32, Vec<Membership>>,
}

/// A socket, of use only for the groups it is in.
#[derive(Debug)]
struct Membership {
    socket: Socket,
    groups: BTreeSet<Ipv6Addr>,
}

impl Groups {
    /// Is in exactly the groups of these VIPs, by the number of the interface; the first failure on each.
    pub(super) fn keep(&mut self, ports: &BTreeMap<u32, BTreeSet<IpAddr>>) -> BTreeMap<u32, io::Error> {
        self.joined.retain(|index, _| ports.contains_key(index));
        let mut failed = BTreeMap::new();
        for (index, vips) in ports {
            let v6 = vips.iter().filter_map(|ip| if let IpAddr::V6(ip) = ip { Some(*ip) } else { None });
            let wanted: BTreeSet<Ipv6Addr> = v6.map(solicited_node).collect();
            if let Err(error) = keep_on(*index, &wanted, self.joined.entry(*index).or_default()) {
                failed.insert(*index, error);
            }
        }
        failed
    }
}

fn keep_on(index: u32, wanted: &BTreeSet<Ipv6Addr>, joined: &mut Vec<Membership>) -> io::Result<()> {
    for membership in joined.iter_mut() {
        membership.leave_all_but(wanted, index);
    }
    joined.retain(|membership| !membership.groups.is_empty());
    let held: BTreeSet<Ipv6Addr> = joined.iter().flat_map(|membership| membership.groups.iter().copied()).collect();
    for group in wanted.difference(&held) {
        let room = joined.iter().position(|membership| membership.groups.len() < PER_SOCKET);
        let at = if let Some(at) = room {
            at
        } else {
            joined.push(Membership::new()?);
            joined.len() - 1
        };
        joined[at].join(*group, index)?;
    }
    Ok(())
}

impl Membership {
    fn new() -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV6, Type::DGRAM, Some(Protocol::UDP))?;
        Ok(Self { socket, groups: BTreeSet::new() })
    }

    fn join(&mut self, group: Ipv6Addr, index: u32) -> io::Result<()> {
        self.socket.join_multicast_v6(&group, index)?;
        self.groups.insert(group);
        Ok(())
    }

    fn leave_all_but(&mut self, wanted: &BTreeSet<Ipv6Addr>, index: u32) {
        for group in self.groups.difference(wanted).copied().collect::<Vec<_>>() {
            // It fails only when the interface, and the membership with it, is gone.
            let _ = self.socket.leave_multicast_v6(&group, index);
            self.groups.remove(&group);
        }
    }
}
