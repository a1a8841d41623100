//! A [`Table`] as rules of `nf_tables`.
//!
//! A chain at each interface sends frames to a VIP that is watched on to the chain of their family, which is, in nft's
//! words:
//!
//! ```text
//! meta pkttype != host accept
//! meta l4proto != tcp accept
//! tcp flags & (syn|ack) == syn update @ours4 { ip saddr . tcp sport . ip daddr . tcp dport }
//! tcp flags & (syn|ack) == syn accept
//! ip saddr . tcp sport . ip daddr . tcp dport @ours4 accept
//! ether saddr set ether daddr ether daddr set iif . ip daddr . ether saddr map @next4 fwd to iif
//! ether saddr @members accept
//! ether saddr set ether daddr ether daddr set iif . ip daddr map @first4 fwd to iif
//! ```
//!
//! What finds nothing in a map goes on to the next rule, and at the end its usual way.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::nft::{Batch, Header, Meta, R0, Register, Set, Step};
use super::{Mac, Table};

const TABLE: &str = "ferrogate";
const MEMBERS: &str = "members";
/// Flows that are learned at most, for each family; what a flood brings beyond that is sent on and reset.
const FLOWS: u32 = 1 << 17;
/// For how long a flow is known, in milliseconds: longer than anybody lingers.
const KNOWN: u64 = 3_600_000;
/// Where values are put that keys must not overwrite: a hardware address found, and our own.
const FOUND: Register = R0 + 12;
const OWN: Register = R0 + 14;

/// The elements of a set: keys, and a value each if it is a map.
type Elements = BTreeMap<Vec<u8>, Option<Mac>>;

/// What differs between the families.
#[derive(Clone, Copy)]
struct Family {
    chain: &'static str,
    watched: &'static str,
    ours: &'static str,
    first: &'static str,
    next: &'static str,
    ether_type: [u8; 2],
    /// Where the sender's address begins in the header; the receiver's follows it.
    sender: u32,
    /// The length of an address.
    len: u32,
}

const IPV4: Family = Family {
    chain: "four",
    watched: "watched4",
    ours: "ours4",
    first: "first4",
    next: "next4",
    ether_type: [0x08, 0x00],
    sender: 12,
    len: 4,
};
const IPV6: Family = Family {
    chain: "six",
    watched: "watched6",
    ours: "ours6",
    first: "first6",
    next: "next6",
    ether_type: [0x86, 0xdd],
    sender: 8,
    len: 16,
};

/// Asks whether the kernel can and may do this at all: makes what would be needed on `lo`, and removes it again.
#[must_use]
pub fn probe() -> Vec<u8> {
    let mut batch = Batch::new(TABLE);
    batch.add_table();
    build(&mut batch);
    batch.delete_table();
    batch.finish()
}

/// What to tell the kernel so that it does `after` instead of `before`; `None` if that is the same.
#[must_use]
pub fn update(before: &Table, after: &Table) -> Option<Vec<u8>> {
    if before == after {
        return None;
    }
    let mut batch = Batch::new(TABLE);
    let afresh = before.is_empty() || before.lines != after.lines;
    if !before.is_empty() && (afresh || after.is_empty()) {
        batch.delete_table();
    }
    if !after.is_empty() {
        let nothing = Table::default();
        if afresh {
            batch.add_table();
            build(&mut batch);
            hook(&mut batch, after);
        }
        fill(&mut batch, if afresh { &nothing } else { before }, after);
    }
    Some(batch.finish())
}

/// Sets, maps and the chains of both families.
fn build(batch: &mut Batch) {
    let set = |name, key| Set { name, key, value: None, learns: None };
    batch.add_set(set(MEMBERS, 8));
    for family in [IPV4, IPV6] {
        let flow = 2 * (family.len + 4);
        batch.add_set(set(family.watched, family.len));
        batch.add_set(Set { learns: Some((FLOWS, KNOWN)), ..set(family.ours, flow) });
        batch.add_set(Set { value: Some(6), ..set(family.first, 4 + family.len) });
        batch.add_set(Set { value: Some(6), ..set(family.next, 4 + family.len + 8) });
        batch.add_chain(family.chain, None);
        for rule in family.rules() {
            batch.add_rule(family.chain, &rule);
        }
    }
}

/// The chains at the interfaces.
fn hook(batch: &mut Batch, table: &Table) {
    for line in &table.lines {
        let chain = format!("in-{}", line.index);
        batch.add_chain(&chain, Some(&line.name));
        for family in [IPV4, IPV6] {
            batch.add_rule(
                &chain,
                &[
                    Step::Meta(Meta::Protocol, R0),
                    Step::Equal(R0, &family.ether_type),
                    Step::Load(Header::Network, family.sender + family.len, family.len, R0),
                    Step::Member(family.watched, R0),
                    Step::Jump(family.chain),
                ],
            );
        }
    }
}

/// The differences of sets and maps.
fn fill(batch: &mut Batch, before: &Table, after: &Table) {
    let members = |table: &Table| -> Elements { table.members.iter().map(|mac| (padded(*mac), None)).collect() };
    exchange(batch, MEMBERS, &members(before), &members(after));
    for family in [IPV4, IPV6] {
        let contents = [family.contents(before), family.contents(after)];
        for (at, set) in [family.watched, family.first, family.next].into_iter().enumerate() {
            exchange(batch, set, &contents[0][at], &contents[1][at]);
        }
    }
}

fn exchange(batch: &mut Batch, set: &str, before: &Elements, after: &Elements) {
    let gone = before.iter().filter(|(key, value)| after.get(*key) != Some(value));
    let gone: Vec<_> = gone.map(|(key, _)| (key.clone(), None)).collect();
    let new = after.iter().filter(|(key, value)| before.get(*key) != Some(value));
    let new: Vec<_> = new.map(|(key, value)| (key.clone(), *value)).collect();
    batch.delete_elements(set, &gone);
    batch.add_elements(set, &new);
}

impl Family {
    /// The elements of "watched", "first" and "next".
    fn contents(self, table: &Table) -> [Elements; 3] {
        let ours = |vip: &IpAddr| octets(*vip).len() == usize::try_from(self.len).unwrap_or_default();
        let watched = table.watched().iter().filter(|vip| ours(vip)).map(|vip| (octets(*vip), None)).collect();
        let first = table.first.iter().filter(|((_, vip), _)| ours(vip));
        let first = first.map(|((line, vip), to)| ([line.to_ne_bytes().to_vec(), octets(*vip)].concat(), Some(*to)));
        let next = table.next.iter().filter(|((_, vip, _), _)| ours(vip)).map(|((line, vip, from), to)| {
            ([line.to_ne_bytes().to_vec(), octets(*vip), padded(*from)].concat(), Some(*to))
        });
        [watched, first.collect(), next.collect()]
    }

    fn rules(self) -> Vec<Vec<Step<'static>>> {
        const SYN: u8 = 2;
        const SYN_ACK: u8 = 18;
        let opens = [Step::Load(Header::Transport, 13, 1, R0), Step::Mask(R0, SYN_ACK), Step::Equal(R0, &[SYN])];
        let words = self.len / 4;
        let flow = [
            Step::Load(Header::Network, self.sender, self.len, R0),
            Step::Load(Header::Transport, 0, 2, R0 + words),
            Step::Load(Header::Network, self.sender + self.len, self.len, R0 + words + 1),
            Step::Load(Header::Transport, 2, 2, R0 + 2 * words + 1),
        ];
        let place =
            [Step::Meta(Meta::Interface, R0), Step::Load(Header::Network, self.sender + self.len, self.len, R0 + 1)];
        let from = [Step::Load(Header::Link, 6, 6, R0 + 1 + words)];
        let send = [
            Step::Load(Header::Link, 0, 6, OWN),
            Step::Store(OWN, Header::Link, 6, 6),
            Step::Store(FOUND, Header::Link, 0, 6),
            Step::Forward(R0),
        ];
        vec![
            vec![Step::Meta(Meta::Addressee, R0), Step::Unequal(R0, &[0]), Step::Accept],
            vec![Step::Meta(Meta::Transport, R0), Step::Unequal(R0, &[6]), Step::Accept],
            [&opens[..], &flow, &[Step::Learn(self.ours, R0)]].concat(),
            [&opens[..], &[Step::Accept]].concat(),
            [&flow[..], &[Step::Member(self.ours, R0), Step::Accept]].concat(),
            [&place[..], &from, &[Step::Find(self.next, R0, FOUND)], &send].concat(),
            vec![Step::Load(Header::Link, 6, 6, R0), Step::Member(MEMBERS, R0), Step::Accept],
            [&place[..], &[Step::Find(self.first, R0, FOUND)], &send].concat(),
        ]
    }
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

/// As the kernel loads it into its registers of four bytes.
fn padded(mac: Mac) -> Vec<u8> {
    [&mac[..], &[0, 0]].concat()
}
