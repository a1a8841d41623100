//! How endpoints are asked: timeouts, `service-upstream`, `upstream-vhost`; and `server-alias`.

use std::time::Duration;

use super::balance::{self, Balance};
use super::protocol::{self, Protocol, UpstreamTls};
use super::read::Reader;
use super::retry::{self, Retry};
use super::value;
use crate::names;

/// How endpoints are chosen and spoken to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Upstream {
    /// What they speak (`backend-protocol`); `None` leaves it to the Service port.
    pub protocol: Option<Protocol>,
    /// TLS towards them.
    pub tls: UpstreamTls,
    /// When another one is asked.
    pub retry: Retry,
    /// Which one is asked.
    pub balance: Balance,
    /// Whether the cluster IP of the Service is asked instead of them (`service-upstream`).
    pub by_service: bool,
}

pub(super) fn read(reader: &mut Reader<'_>) -> Upstream {
    Upstream {
        protocol: reader.value("backend-protocol", protocol::protocol),
        tls: protocol::tls(reader),
        retry: retry::read(reader),
        balance: balance::read(reader),
        by_service: reader.flag("service-upstream"),
    }
}

/// How long endpoints may take; `None` leaves it to the defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpstreamTimeouts {
    /// To accept a connection.
    pub connect: Option<Duration>,
    /// Between two reads of an answer.
    pub read: Option<Duration>,
    /// Between two writes of a request.
    pub send: Option<Duration>,
}

pub(super) fn timeouts(reader: &mut Reader<'_>) -> UpstreamTimeouts {
    UpstreamTimeouts {
        connect: reader.value("proxy-connect-timeout", value::seconds),
        read: reader.value("proxy-read-timeout", value::seconds),
        send: reader.value("proxy-send-timeout", value::seconds),
    }
}

pub(super) fn vhost(text: &str) -> Result<String, String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
    if !text.is_empty() && text.bytes().all(is_plain) {
        return Ok(text.to_owned());
    }
    Err(format!("{text:?} is not a host; write it like \"internal.example\""))
}

/// Names only; a `~pattern`, which ingress-nginx takes as well, is refused.
pub(super) fn aliases(text: &str) -> Result<Vec<String>, String> {
    let alias = |name: &str| {
        let name = name.to_ascii_lowercase();
        let form = if name.contains('*') { names::wildcard_host(&name) } else { names::subdomain(&name) };
        form.map(|()| name)
    };
    value::list(text).filter(|name| !name.is_empty()).map(alias).collect()
}
