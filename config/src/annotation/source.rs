//! Who may come: `allowlist-source-range` (`whitelist-source-range`), `denylist-source-range`.

use std::net::IpAddr;

use ipnet::IpNet;

use super::read::Reader;
use super::value;

/// Networks that may or may not ask.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// If there is a list, only these may.
    pub allow: Option<Vec<IpNet>>,
    /// These may not; asked first.
    pub deny: Vec<IpNet>,
}

impl Sources {
    /// Whether a client at `ip` may pass; an IPv4 address inside an IPv6 one counts as IPv4.
    #[must_use]
    pub fn admit(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        let holds = |networks: &[IpNet]| networks.iter().any(|network| network.contains(&ip));
        !holds(&self.deny) && self.allow.as_deref().is_none_or(holds)
    }
}

pub(super) fn read(reader: &mut Reader<'_>) -> Sources {
    let older = reader.guard("whitelist-source-range", networks);
    let newer = reader.guard("allowlist-source-range", networks);
    // Written under both names, both must agree to let somebody in; the newer counts if both are right.
    Sources { allow: newer.or(older), deny: reader.guard("denylist-source-range", networks).unwrap_or_default() }
}

pub(crate) fn networks(text: &str) -> Result<Vec<IpNet>, String> {
    value::list(text).map(network).collect()
}

pub(crate) fn network(text: &str) -> Result<IpNet, String> {
    let address = || text.parse::<IpAddr>().map(IpNet::from);
    let wrong = |_| format!("{text:?} is neither a network nor an address; write it like 192.0.2.0/24");
    text.parse::<IpNet>().map(|network| network.trunc()).or_else(|_| address()).map_err(wrong)
}
