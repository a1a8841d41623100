//! Makes VIPs local, so that listeners on this machine get their packets: adds them to `lo`.
//!
//! Each is added as /32 or /128 with a lifetime of [`LIFETIME`] and renewed every [`RENEWAL`] while it could be owned: a
//! crash leaves nothing behind for longer. That the kernel does not answer ARP for an IPv4 one, from now on and after a
//! crash, is seen to by [`super::sysctl`]; Neighbor Discovery it answers only for addresses of the asked interface. What keeps the
//! kernel, and others who look for this node's address, from choosing a VIP: scope `host`, and for IPv6 that it is
//! deprecated from the start (RFC 6724 §5, rule 3). It is not probed for duplicates: `lo` leads to no LAN.
//!
//! Addresses that somebody else put on an interface are never touched.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use rtnetlink::Handle;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope, CacheInfo};

use super::links;

/// How long an address stays without being renewed.
pub(super) const LIFETIME: Duration = Duration::from_secs(10);
/// How often addresses are renewed.
pub(super) const RENEWAL: Duration = Duration::from_secs(3);
/// The kernel's number of `lo`, in every network namespace.
const LO: u32 = 1;

/// Keeps VIPs on `lo`.
#[derive(Debug)]
pub(super) struct Deliverer {
    handle: Handle,
    /// What we put there.
    ours: BTreeSet<IpAddr>,
    /// Whether anything is wanted there.
    busy: bool,
}

impl Deliverer {
    pub(super) const fn new(handle: Handle) -> Self {
        Self { handle, ours: BTreeSet::new(), busy: false }
    }

    /// Whether there are addresses to renew, or to try again.
    pub(super) const fn is_busy(&self) -> bool {
        self.busy
    }

    /// Puts exactly `wanted` on `lo` and renews them; why not, for those that failed.
    pub(super) async fn keep(&mut self, wanted: &BTreeSet<IpAddr>) -> BTreeMap<IpAddr, String> {
        for vip in self.ours.difference(wanted).copied().collect::<Vec<_>>() {
            self.remove(vip).await;
        }
        self.busy = !wanted.is_empty();
        if !self.busy {
            return BTreeMap::new();
        }
        let foreign = match self.foreign().await {
            Ok(foreign) => foreign,
            Err(error) => {
                let why = format!("cannot read the addresses of this machine: {error}");
                return wanted.iter().map(|vip| (*vip, why.clone())).collect();
            }
        };
        let mut failed = BTreeMap::new();
        for vip in wanted.difference(&foreign) {
            match self.add(*vip).await {
                Ok(()) => drop(self.ours.insert(*vip)),
                Err(error) => drop(failed.insert(*vip, explain(&error))),
            }
        }
        failed
    }

    /// Takes everything off again.
    pub(super) async fn withdraw(&mut self) {
        for vip in std::mem::take(&mut self.ours) {
            self.remove(vip).await;
        }
    }

    /// The addresses that others manage: all but those on `lo` with a lifetime such as we give.
    async fn foreign(&self) -> Result<BTreeSet<IpAddr>, rtnetlink::Error> {
        let all = links::addresses(&self.handle).await?;
        let foreign = all.iter().filter(|address| !is_ours(address)).filter_map(links::local);
        Ok(foreign.collect())
    }

    /// Adds an address, or renews it.
    async fn add(&self, vip: IpAddr) -> Result<(), rtnetlink::Error> {
        let mut request = self.handle.address().add(LO, vip, host_prefix(vip)).replace();
        let mut lifetime = CacheInfo::default();
        lifetime.ifa_valid = seconds(LIFETIME);
        let message = request.message_mut();
        if vip.is_ipv4() {
            lifetime.ifa_preferred = seconds(LIFETIME);
            message.header.scope = AddressScope::Host;
        } else {
            message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
        message.attributes.push(AddressAttribute::CacheInfo(lifetime));
        request.execute().await
    }

    async fn remove(&mut self, vip: IpAddr) {
        self.ours.remove(&vip);
        let request = self.handle.address().add(LO, vip, host_prefix(vip)).message_mut().clone();
        if let Err(error) = self.handle.address().del(request).execute().await {
            tracing::debug!(%vip, %error, "cannot take the address off lo; it expires by itself");
        }
    }
}

/// Whether we, or a predecessor of ours that crashed, put this address there.
fn is_ours(address: &AddressMessage) -> bool {
    let finite = |attribute: &AddressAttribute| match attribute {
        AddressAttribute::CacheInfo(lifetime) => lifetime.ifa_valid <= seconds(LIFETIME),
        _ => false,
    };
    let alone = links::local(address).is_some_and(|ip| address.header.prefix_len == host_prefix(ip));
    address.header.index == LO && alone && address.attributes.iter().any(finite)
}

/// The length of a prefix that holds this address alone.
const fn host_prefix(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { 32 } else { 128 }
}

fn seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).expect("some seconds")
}

fn explain(error: &rtnetlink::Error) -> String {
    match error {
        rtnetlink::Error::NetlinkError(message) if message.raw_code() == -libc::EPERM => {
            "that needs root or the capability CAP_NET_ADMIN".to_owned()
        }
        other => other.to_string(),
    }
}
