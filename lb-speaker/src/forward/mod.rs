//! Connections that outlive a move of their VIP.
//!
//! A connection belongs to the node that took it: the others do not know it, and their kernels answer its packets with
//! RST, or kube-proxy sends them to an endpoint that does. So the new owner of a VIP sends on what it does not know to
//! the node that had the VIP before, for as long as that one says that it *lingers*; there everything is still in place
//! (the VIP on `lo`, listeners, the entries of conntrack), and answers go to the client directly.
//!
//! ```text
//! client ── SYN ──────────────────> new owner: learns the flow, serves it
//!        ── not SYN, not learned ─> new owner ── same packet, other MAC ──> old owner: serves it
//!        <──────────────── answer ──────────────────────────────────────────┘
//! ```
//!
//! It is done in the kernel, by a table of `nf_tables` at the ingress of each announcing interface, before routing,
//! conntrack and kube-proxy see the frame; what was weighed:
//!
//! | way                                | why not                                                                   |
//! |------------------------------------|---------------------------------------------------------------------------|
//! | a packet socket that sends on      | sees a copy: the kernel would still answer RST                            |
//! | mark, policy route (ct state)      | needs forwarding and `rp_filter` switched, conntrack on hosts without it; sends redirects |
//! | TC or XDP with BPF                 | needs `CAP_BPF` too, and a compiler for what `nf_tables` has built in     |
//! | `TCP_REPAIR`                       | moves sockets of one process, not those of others or of kube-proxy        |
//!
//! It needs `CAP_NET_ADMIN` beside what the speaker has anyway. Where that is missing, or the kernel lacks the packet
//! filter, connections end with a move, and [`Obstacle`] says so.
//!
//! | what could go wrong         | why it does not                                                                  |
//! |-----------------------------|----------------------------------------------------------------------------------|
//! | this process dies           | the table belongs to its socket and ends with it                                 |
//! | the old owner dies          | who is not heard is no member, and gets nothing                                  |
//! | a loop between two nodes    | see below: what comes from a member is never sent to one that had it             |
//! | our own connections         | sent on is only what we own since tracking began, with the claim: all before is of others |
//! | frames that are not for us  | only those to our hardware address are looked at                                 |
//!
//! Several may linger for one VIP, when it moved twice within half a minute, as in a rolling upgrade. A packet then goes
//! to the first of them; who does not know it either (it tracked while it was owner) sends it back, and the owner tries
//! the next. What comes back from the last is taken as if it came from the client. All nodes try in the order of names,
//! so that even owners who do not know of each other make no circle.
//!
//! Pure. How the kernel is told: [`crate::io`]. TCP only: UDP has nothing to lose.

mod connected;
mod nft;
mod rules;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

pub use connected::is_connected;
pub use nft::outcome;
pub use rules::{probe, update};

/// A hardware address.
pub type Mac = [u8; 6];

/// An interface that VIPs are announced on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Line {
    /// The kernel's number for it.
    pub index: u32,
    /// Its name.
    pub name: String,
}

/// What the kernel is to do; nothing when [`Self::is_empty`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// The interfaces that frames are looked at on.
    pub lines: BTreeSet<Line>,
    /// The hardware addresses of other members.
    pub members: BTreeSet<Mac>,
    /// Where a packet that we do not know goes first, by interface and VIP.
    pub first: BTreeMap<(u32, IpAddr), Mac>,
    /// Where it goes when this member sent it, or sent it back.
    pub next: BTreeMap<(u32, IpAddr, Mac), Mac>,
}

impl Table {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.first.is_empty() && self.next.is_empty()
    }

    /// The VIPs that it is about.
    #[must_use]
    pub fn watched(&self) -> BTreeSet<IpAddr> {
        self.first.keys().map(|(_, vip)| *vip).chain(self.next.keys().map(|(_, vip, _)| *vip)).collect()
    }
}

/// Why connections end when their VIP moves.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Obstacle {
    /// Not permitted.
    #[error("that needs root or the capability CAP_NET_ADMIN")]
    Capability,
    /// The kernel has no such packet filter.
    #[error("the kernel cannot do it ({why}); it needs nf_tables with the netdev family (nft_fwd_netdev, Linux 5.12)")]
    Kernel {
        /// What it said.
        why: String,
    },
    /// It was switched off.
    #[error("it is switched off (--linger 0)")]
    Off,
}

/// What the members say of one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The VIPs that we own, each with the members that still serve connections of it.
    pub lingerers: BTreeMap<IpAddr, BTreeSet<Arc<str>>>,
    /// The VIPs that others own and that we linger for.
    pub lingering: BTreeSet<IpAddr>,
    /// The hardware addresses of each member that is alive.
    pub macs: BTreeMap<Arc<str>, Vec<Mac>>,
}

/// For which VIPs flows are tracked.
#[derive(Debug, Default)]
pub struct Forwarding {
    tracked: BTreeSet<IpAddr>,
}

impl Forwarding {
    /// Notes that a VIP was claimed just now. Tracking begins if somebody lingers for it, or it never does: later there
    /// would be flows of our own that we do not know of.
    pub fn gain(&mut self, vip: IpAddr, facts: &Facts) {
        if facts.lingerers.get(&vip).is_some_and(|lingerers| !lingerers.is_empty()) {
            self.tracked.insert(vip);
        }
    }

    /// Whether there is nothing to do as long as no VIP is claimed.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.tracked.is_empty()
    }

    /// What the kernel is to do now. `on` says where each VIP is announced, `near` which hardware addresses were seen on
    /// each interface: asked only for a member with several, of which one is on each LAN.
    pub fn table(&mut self, facts: &Facts, on: &[(Line, BTreeSet<IpAddr>)], near: &BTreeSet<(String, Mac)>) -> Table {
        let lingerers = |vip: &IpAddr| facts.lingerers.get(vip).filter(|lingerers| !lingerers.is_empty());
        self.tracked.retain(|vip| lingerers(vip).is_some() || facts.lingering.contains(vip));
        let mut table = Table { members: facts.macs.values().flatten().copied().collect(), ..Table::default() };
        for (line, vips) in on {
            let mac = |name: &Arc<str>| match &facts.macs.get(name)?[..] {
                [only] => Some(*only),
                several => several.iter().copied().find(|mac| near.contains(&(line.name.clone(), *mac))),
            };
            for vip in self.tracked.intersection(vips) {
                let Some(lingerers) = lingerers(vip) else {
                    let back = table.members.iter().map(|mac| ((line.index, *vip, *mac), *mac));
                    table.next.extend(back);
                    continue;
                };
                let way: Vec<Mac> = lingerers.iter().filter_map(mac).collect();
                table.first.extend(way.first().map(|first| ((line.index, *vip), *first)));
                table.next.extend(way.windows(2).map(|pair| ((line.index, *vip, pair[0]), pair[1])));
            }
            table.lines.insert(line.clone());
        }
        if table.is_empty() { Table::default() } else { table }
    }
}

/// The hardware addresses that the kernel lately saw on each interface, by `/proc/net/arp`.
#[must_use]
pub fn near(arp: &str) -> BTreeSet<(String, Mac)> {
    let entry = |line: &str| {
        let mut words = line.split_whitespace();
        let mac = words.nth(3)?;
        let device = words.nth(1)?;
        let mut bytes = mac.split(':').map(|byte| u8::from_str_radix(byte, 16).ok());
        let mut mac = [0; 6];
        for byte in &mut mac {
            *byte = bytes.next()??;
        }
        (mac != [0; 6]).then(|| (device.to_owned(), mac))
    };
    arp.lines().filter_map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const VIP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 10));

    fn line() -> Line {
        Line { index: 2, name: "eth0".to_owned() }
    }

    fn mac(number: u8) -> Mac {
        [2, 0, 0, 0, 0, number]
    }

    /// Members `a`, `b` and `c`, of whom these linger for the VIP that we own.
    fn owner(lingerers: &[&str]) -> Facts {
        let macs = [("a", 1), ("b", 2), ("c", 3)].map(|(name, number)| (Arc::from(name), vec![mac(number)]));
        let lingerers = lingerers.iter().map(|name| Arc::from(*name)).collect();
        Facts { lingerers: [(VIP, lingerers)].into(), macs: macs.into(), ..Facts::default() }
    }

    fn lingering() -> Facts {
        Facts { lingerers: BTreeMap::new(), lingering: [VIP].into(), ..owner(&[]) }
    }

    fn table(forwarding: &mut Forwarding, facts: &Facts) -> Table {
        forwarding.table(facts, &[(line(), [VIP].into())], &BTreeSet::new())
    }

    #[test]
    fn what_is_unknown_goes_to_who_lingers_and_nowhere_once_nobody_does() {
        let mut forwarding = Forwarding::default();
        forwarding.gain(VIP, &owner(&["b"]));
        let busy = table(&mut forwarding, &owner(&["b"]));
        assert_eq!((busy.first, busy.next), ([((2, VIP), mac(2))].into(), BTreeMap::new()));
        assert_eq!(table(&mut forwarding, &owner(&[])), Table::default());
        assert_eq!(table(&mut forwarding, &owner(&["b"])), Table::default(), "by now there are flows of our own");
    }

    #[test]
    fn a_vip_that_nobody_lingers_for_when_it_is_claimed_is_never_sent_on() {
        let mut forwarding = Forwarding::default();
        forwarding.gain(VIP, &owner(&[]));
        assert!(table(&mut forwarding, &owner(&["a", "b"])).is_empty());
    }

    #[test]
    fn two_who_linger_are_tried_one_after_the_other() {
        let mut forwarding = Forwarding::default();
        forwarding.gain(VIP, &owner(&["b", "c"]));
        let busy = table(&mut forwarding, &owner(&["b", "c"]));
        assert_eq!(busy.first, [((2, VIP), mac(2))].into());
        assert_eq!(busy.next, [((2, VIP, mac(2)), mac(3))].into(), "and what the last sends back is taken");
    }

    #[test]
    fn who_tracked_as_owner_sends_back_what_it_does_not_know() {
        let mut forwarding = Forwarding::default();
        forwarding.gain(VIP, &owner(&["b"]));
        let back = table(&mut forwarding, &lingering());
        assert!(back.first.is_empty(), "what comes from clients is taken");
        assert_eq!(back.next, [1, 2, 3].map(|number| ((2, VIP, mac(number)), mac(number))).into());
        assert!(table(&mut Forwarding::default(), &lingering()).is_empty(), "who did not track takes everything");
    }

    #[test]
    fn of_several_hardware_addresses_the_one_on_the_same_lan_is_taken() {
        let mut facts = owner(&["a", "b"]);
        facts.macs.insert("b".into(), vec![mac(8), mac(2)]);
        let arp = "IP address       HW type     Flags       HW address            Mask     Device\n\
                   192.0.2.9        0x1         0x2         02:00:00:00:00:08     *        eth1\n\
                   192.0.2.8        0x1         0x2         02:00:00:00:00:02     *        eth0\n\
                   192.0.2.7        0x1         0x0         00:00:00:00:00:00     *        eth0\nshort line\n";
        let mut forwarding = Forwarding::default();
        forwarding.gain(VIP, &facts);
        let table = forwarding.table(&facts, &[(line(), [VIP].into())], &near(arp));
        assert_eq!(table.first, [((2, VIP), mac(1))].into());
        assert_eq!(table.next, [((2, VIP, mac(1)), mac(2))].into());
        let unseen = forwarding.table(&facts, &[(line(), [VIP].into())], &BTreeSet::new());
        assert!(unseen.next.is_empty(), "nobody is tried whose address there is not known");
    }

    /// Whatever any three nodes believe of the others, in any combination, no packet goes round for ever.
    #[test]
    fn no_packet_goes_in_a_circle() {
        let names = ["a", "b", "c"];
        let beliefs: Vec<Vec<&str>> =
            (0..8).map(|bits| (0..3).filter(|at| bits >> at & 1 == 1).map(|at| names[at]).collect()).collect();
        // For each node: it owns and believes that these linger, or it lingers itself.
        let tables = |me: usize| -> Vec<Table> {
            let owners = beliefs.iter().map(|lingerers| {
                let others: Vec<&str> = lingerers.iter().copied().filter(|name| *name != names[me]).collect();
                let (mut forwarding, facts) = (Forwarding::default(), owner(&others));
                forwarding.gain(VIP, &facts);
                table(&mut forwarding, &facts)
            });
            let mut forwarding = Forwarding::default();
            forwarding.gain(VIP, &owner(&[names[(me + 1) % 3]]));
            owners.chain([table(&mut forwarding, &lingering())]).collect()
        };
        let all: Vec<Vec<Table>> = (0..3).map(tables).collect();
        for (a, b, c) in (0..9 * 9 * 9).map(|it| (it % 9, it / 9 % 9, it / 81)) {
            let net = [&all[0][a], &all[1][b], &all[2][c]];
            for start in 0..3 {
                let (mut at, mut from, mut hops) = (start, None, 0);
                loop {
                    let key = from.map(|from: usize| mac(u8::try_from(from + 1).unwrap()));
                    let to = key.map_or_else(|| net[at].first.get(&(2, VIP)), |key| net[at].next.get(&(2, VIP, key)));
                    let Some(to) = to else { break };
                    (at, from) = (usize::from(to[5]) - 1, Some(at));
                    hops += 1;
                    assert!(hops < 9, "{net:?}");
                }
            }
        }
    }
}
