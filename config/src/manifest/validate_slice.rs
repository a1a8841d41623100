//! What the API server demands of an `EndpointSlice`.
//!
//! Loopback addresses, which it refuses too, are the business of whoever connects to them: the quickstart's backends
//! live there. Source: `k8s.io/kubernetes/pkg/apis/discovery/validation`.

use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use k8s_openapi::api::discovery::v1::EndpointSlice;

use super::check::Check;
use super::validate_backend::PROTOCOLS;
use crate::names;
use crate::object::FieldPath;

const MAX_ENDPOINTS: usize = 1000;
const MAX_ADDRESSES: usize = 100;
const MAX_PORTS: usize = 100;

pub(super) fn endpoint_slice(check: &mut Check, slice: &mut EndpointSlice) {
    let family = slice.address_type.as_str();
    if family.is_empty() {
        check.error(FieldPath::of(["addressType"]), "addressType is missing; write IPv4 or IPv6");
    } else {
        check.one_of(FieldPath::of(["addressType"]), Some(family), &["IPv4", "IPv6", "FQDN"]);
    }
    if slice.endpoints.len() > MAX_ENDPOINTS {
        check.error(FieldPath::of(["endpoints"]), format!("at most {MAX_ENDPOINTS} endpoints fit in one slice"));
    }
    for (index, endpoint) in slice.endpoints.iter().enumerate() {
        let at = FieldPath::of(["endpoints"]).index(index).key("addresses");
        if endpoint.addresses.is_empty() || endpoint.addresses.len() > MAX_ADDRESSES {
            check.error(at.clone(), format!("an endpoint has 1 to {MAX_ADDRESSES} addresses"));
        }
        for (index, address) in endpoint.addresses.iter().enumerate() {
            check.form(at.index(index), of_family(family, address));
        }
    }
    ports(check, slice);
}

fn of_family(family: &str, address: &str) -> Result<(), String> {
    match family {
        "IPv4" if address.parse::<Ipv4Addr>().is_err() => Err(format!("{address:?} is not an IPv4 address")),
        "IPv6" if address.parse::<Ipv6Addr>().is_err() => Err(format!("{address:?} is not an IPv6 address")),
        "FQDN" => names::subdomain(address),
        _ => Ok(()),
    }
}

fn ports(check: &mut Check, slice: &EndpointSlice) {
    let at = FieldPath::of(["ports"]);
    let ports = slice.ports.as_deref().unwrap_or_default();
    if ports.len() > MAX_PORTS {
        check.error(at.clone(), format!("at most {MAX_PORTS} ports fit in one slice"));
    }
    let mut seen = HashMap::new();
    for (index, port) in ports.iter().enumerate() {
        let at = at.index(index);
        let name = port.name.as_deref().unwrap_or_default();
        if !name.is_empty() {
            check.form(at.key("name"), names::label(name));
        }
        if let Some(first) = seen.insert(name, index) {
            check.error(at.key("name"), format!("port {first} has the name {name:?} too; names must differ"));
        }
        check.one_of(at.key("protocol"), port.protocol.as_deref(), &PROTOCOLS);
        if let Some(number) = port.port {
            check.port_number(at.key("port"), number);
        }
        if let Some(protocol) = &port.app_protocol {
            check.form(at.key("appProtocol"), names::qualified(protocol));
        }
    }
}
