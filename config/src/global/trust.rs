//! Whom to believe what about a client: `use-forwarded-headers`, `enable-real-ip`, `use-proxy-protocol`,
//! `proxy-real-ip-cidr` and their kin.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::read::Reader;
use super::unit;
use crate::annotation::networks;

/// A network of addresses.
pub type Network = IpNet;

/// Whom to believe what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    /// Who stands in front of us (`proxy-real-ip-cidr`); nobody else's word counts.
    pub proxies: Vec<Network>,
    /// Whether `X-Forwarded-Proto`, `-Port` and `-Host` of those count (`use-forwarded-headers`).
    pub forwarded: bool,
    /// The field in which those tell the client's address, lower case (`forwarded-for-header`); `None` if they do not
    /// (neither `use-forwarded-headers` nor `enable-real-ip`).
    pub address: Option<String>,
    /// Whether endpoints are told the whole way of a request in `X-Forwarded-For` (`compute-full-forwarded-for`).
    pub full: bool,
    /// How long a connection may take to begin with a PROXY header (`use-proxy-protocol`); `None` if none begins so.
    pub proxy_protocol: Option<Duration>,
    /// Whether endpoints are told `X-Original-URI` (`proxy-add-original-uri-header`).
    pub original_uri: bool,
    /// Whether a request has an id of its own if its client gave it none (`generate-request-id`); `None` says so.
    pub own_ids: Option<bool>,
}

impl Trust {
    /// Whether somebody at `ip` stands in front of us.
    #[must_use]
    pub fn is_proxy(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        self.proxies.iter().any(|network| network.contains(&ip))
    }
}

/// How long a PROXY header may take where nothing is said.
const HEADER: Duration = Duration::from_secs(5);

pub(super) fn read(reader: &mut Reader<'_>) -> Trust {
    let proxies = reader.value("proxy-real-ip-cidr", networks);
    let forwarded = reader.flag("use-forwarded-headers").unwrap_or_default();
    let real_ip = reader.flag("enable-real-ip").unwrap_or_default();
    let header = reader.value("forwarded-for-header", unit::field);
    let patience = reader.value("proxy-protocol-header-timeout", unit::seconds).unwrap_or(HEADER);
    let begins_so = reader.flag("use-proxy-protocol").unwrap_or_default();
    let asked = [("use-forwarded-headers", forwarded), ("enable-real-ip", real_ip), ("use-proxy-protocol", begins_so)];
    if proxies.is_none() {
        for (key, _) in asked.into_iter().filter(|(_, is_on)| *is_on) {
            let why = "nobody is trusted, because proxy-real-ip-cidr does not say who stands in front; name those \
                       networks there (0.0.0.0/0,::/0 trusts everybody, as ingress-nginx does)";
            reader.error(key, why.to_owned());
        }
    }
    // As in ingress-nginx, what a connection says of itself goes before what a field says.
    let by_field = (forwarded || real_ip) && !begins_so;
    Trust {
        proxies: proxies.unwrap_or_default(),
        forwarded,
        address: by_field.then(|| header.unwrap_or_else(|| "x-forwarded-for".to_owned())),
        full: reader.flag("compute-full-forwarded-for").unwrap_or_default(),
        proxy_protocol: begins_so.then_some(patience),
        original_uri: reader.flag("proxy-add-original-uri-header").unwrap_or_default(),
        own_ids: reader.flag("generate-request-id"),
    }
}
