//! What only a BGP pool needs: peers, advertisements, communities, BFD.

use std::fmt;
use std::net::IpAddr;

use super::LabelSelector;

/// One route advertisement of a BGP pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BgpAdvertisement {
    /// Prefix length to which IPv4 addresses are aggregated, at most 32.
    pub aggregation_length: u8,
    /// Prefix length to which IPv6 addresses are aggregated, at most 128.
    pub aggregation_length_v6: u8,
    /// `LOCAL_PREF` for iBGP peers.
    pub local_pref: u32,
    /// Communities to attach, aliases resolved.
    pub communities: Vec<Community>,
}

/// A BGP community, RFC 1997, shown as `high:low`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Community {
    /// Upper half, by custom the AS number.
    pub high: u16,
    /// Lower half.
    pub low: u16,
}

impl fmt::Display for Community {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.high, self.low)
    }
}

/// A BGP router to speak to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Our AS number, never 0.
    pub my_asn: u32,
    /// The peer's AS number, never 0.
    pub peer_asn: u32,
    /// The peer's address.
    pub address: IpAddr,
    /// The peer's TCP port.
    pub port: u16,
    /// The address we speak from.
    pub source_address: Option<IpAddr>,
    /// The router id we claim.
    pub router_id: Option<IpAddr>,
    /// Hold time in whole seconds: 0 or at least 3 (RFC 4271 §4.2).
    pub hold_time: u16,
    /// Keepalive interval in whole seconds, at most the hold time.
    pub keepalive_time: Option<u16>,
    /// The TCP MD5 password (RFC 2385); empty for none.
    pub password: Password,
    /// Which nodes speak to it; empty for all, else any selector may match.
    pub node_selectors: Vec<LabelSelector>,
    /// Whether an eBGP peer may be more than one hop away.
    pub ebgp_multihop: bool,
    /// The BFD profile of the session.
    pub bfd_profile: Option<String>,
}

/// A secret text that never shows itself in logs.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    /// Wraps a secret.
    #[must_use]
    pub const fn new(secret: String) -> Self {
        Self(secret)
    }

    /// The secret itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "\"\"" } else { "\"<secret>\"" })
    }
}

/// Timers of BFD sessions (RFC 5880); `None` where the default applies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BfdProfile {
    /// Its name, unique in the configuration.
    pub name: String,
    /// Milliseconds, 10 to 60000.
    pub receive_interval: Option<u32>,
    /// Milliseconds, 10 to 60000.
    pub transmit_interval: Option<u32>,
    /// Milliseconds, 10 to 60000.
    pub echo_interval: Option<u32>,
    /// Missed packets before the session is down, 2 to 255.
    pub detect_multiplier: Option<u8>,
    /// Lowest TTL accepted, 1 to 254.
    pub minimum_ttl: Option<u8>,
    /// Whether echo packets are used.
    pub echo_mode: bool,
    /// Whether we wait for the peer to begin.
    pub passive_mode: bool,
}
