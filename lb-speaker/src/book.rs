//! Where peers are reached: the addresses that were configured, and those that their beats came from.
//!
//! A beat goes to all addresses of a peer, so that two networks between nodes halve what can go wrong. Addresses are
//! learned from beats that were signed with our key, which come by multicast over the announcing interfaces too; one
//! that has been silent for [`KEPT`] is forgotten.
//!
//! Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a learned address is used without a beat from it.
pub const KEPT: Duration = Duration::from_secs(10);
/// Learned addresses of one peer at most.
const MOST: usize = 4;

/// The addresses of all peers.
#[derive(Debug, Default)]
pub struct AddressBook {
    configured: BTreeMap<Arc<str>, Vec<SocketAddr>>,
    learned: BTreeMap<Arc<str>, BTreeMap<SocketAddr, Instant>>,
}

impl AddressBook {
    /// Takes over what is configured.
    pub fn set_configured(&mut self, configured: BTreeMap<Arc<str>, Vec<SocketAddr>>) {
        self.configured = configured;
    }

    /// Notes that a beat of `node` came from `address`; `port` is where heartbeats are received everywhere.
    pub fn learn(&mut self, node: &Arc<str>, address: SocketAddr, now: Instant) {
        let of_node = self.learned.entry(Arc::clone(node)).or_default();
        of_node.retain(|_, heard| now.saturating_duration_since(*heard) < KEPT);
        if of_node.len() < MOST || of_node.contains_key(&address) {
            of_node.insert(address, now);
        }
    }

    /// Where `node` is reached.
    #[must_use]
    pub fn addresses(&self, node: &str, now: Instant) -> BTreeSet<SocketAddr> {
        let configured = self.configured.get(node).into_iter().flatten().copied();
        let fresh = move |heard: &Instant| now.saturating_duration_since(*heard) < KEPT;
        let learned = self.learned.get(node).into_iter().flatten().filter(move |(_, heard)| fresh(heard));
        configured.chain(learned.map(|(address, _)| *address)).collect()
    }

    /// Every node with an address.
    #[must_use]
    pub fn nodes(&self) -> BTreeSet<Arc<str>> {
        self.configured.keys().chain(self.learned.keys()).cloned().collect()
    }

    /// Forgets what was learned of nodes that have been silent for long.
    pub fn forget(&mut self, now: Instant) {
        self.learned.retain(|_, of_node| {
            of_node.retain(|_, heard| now.saturating_duration_since(*heard) < KEPT);
            !of_node.is_empty()
        });
    }

    /// Whether anybody could be reached.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.configured.is_empty() && self.learned.is_empty()
    }
}

/// The same address in its plain form: a dual-stack socket writes IPv4 within IPv6.
#[must_use]
pub fn plain(address: SocketAddr, port: u16) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V6(ip) => ip.to_ipv4_mapped().map_or(IpAddr::V6(ip), IpAddr::V4),
        IpAddr::V4(ip) => IpAddr::V4(ip),
    };
    SocketAddr::new(ip, port)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "simulated time needs a first moment")]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_reached_where_it_was_configured_and_where_it_was_heard() {
        let (now, node) = (Instant::now(), Arc::<str>::from("b"));
        let [one, other] = ["192.0.2.1:7947", "198.51.100.1:7947"].map(|text| text.parse::<SocketAddr>().unwrap());
        let mut book = AddressBook::default();
        book.set_configured([(Arc::clone(&node), vec![one])].into());
        for address in [one, other] {
            book.learn(&node, address, now);
        }
        assert_eq!(book.addresses("b", now), [one, other].into());
        assert_eq!(book.addresses("b", now + KEPT), [one].into(), "what is learned does not last");
        book.forget(now + KEPT);
        assert_eq!(book.nodes().len(), 1);
        assert!(book.addresses("c", now).is_empty());
    }

    #[test]
    fn one_peer_cannot_fill_the_book() {
        let (now, node, mut book) = (Instant::now(), Arc::<str>::from("b"), AddressBook::default());
        for last in 0..200 {
            book.learn(&node, SocketAddr::from(([192, 0, 2, last], 7947)), now);
        }
        assert_eq!(book.addresses("b", now).len(), MOST);
    }

    #[test]
    fn an_address_is_the_same_in_both_families_of_sockets() {
        let mapped = "[::ffff:192.0.2.1]:40000".parse().unwrap();
        assert_eq!(plain(mapped, 7947), "192.0.2.1:7947".parse().unwrap());
    }
}
