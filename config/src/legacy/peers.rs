//! `peers`: BGP routers to speak to. Read and checked now, so that a configuration means the same on the day that
//! they are spoken to.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use super::duration::nanoseconds;
use super::section::{Field, Findings, Section};
use super::selector;
use crate::pool::{Password, Peer};
use crate::suggest;
use crate::yaml::{Resolved, shorten};

const PEER: [&str; 12] = [
    "bfd-profile",
    "ebgp-multihop",
    "hold-time",
    "keepalive-time",
    "my-asn",
    "node-selectors",
    "password",
    "peer-address",
    "peer-asn",
    "peer-port",
    "router-id",
    "source-address",
];

/// The hold time of a peer that names none.
const HOLD_TIME: u16 = 90;
const BGP_PORT: u16 = 179;

pub(super) fn peers(list: &Field<'_>, profiles: &BTreeSet<&str>, findings: &mut Findings) -> Vec<Peer> {
    let mut seen = HashMap::new();
    let mut peers = Vec::new();
    for item in list.items(findings) {
        let Some(section) = Section::open(&item, &PEER, findings) else { continue };
        let Some(peer) = peer(&section, profiles, findings) else { continue };
        if let Some(first) = seen.insert(identity(&peer), item.path.clone()) {
            findings.at(&item, format!("this peer is the same as {first}; remove one of the two"));
        }
        peers.push(peer);
    }
    peers
}

/// Everything a peer consists of; `Debug` of a peer hides its password.
fn identity(peer: &Peer) -> (String, String) {
    (format!("{peer:?}"), peer.password.expose().to_owned())
}

fn peer(section: &Section<'_>, profiles: &BTreeSet<&str>, findings: &mut Findings) -> Option<Peer> {
    let (my_asn, peer_asn) =
        (as_number(&section.field("my-asn"), findings), as_number(&section.field("peer-asn"), findings));
    let address = peer_address(&section.field("peer-address"), findings);
    let port = section.field("peer-port").number(0, u16::MAX, findings).filter(|port| *port != 0);
    let source_address = ip(&section.field("source-address"), findings);
    let router_id = ip(&section.field("router-id"), findings);
    let hold_time = hold_time(&section.field("hold-time"), findings);
    let keepalive_time = keepalive_time(&section.field("keepalive-time"), hold_time, findings);
    let password = section.field("password").text(findings).unwrap_or_default();
    let node_selectors = selector::selectors(&section.field("node-selectors"), findings);
    let multihop = section.field("ebgp-multihop");
    let ebgp_multihop = multihop.boolean(false, findings);
    if ebgp_multihop && my_asn.is_some() && my_asn == peer_asn {
        findings
            .at(&multihop, "ebgp-multihop is for peers of another AS, but my-asn and peer-asn are equal; remove it");
    }
    let bfd_profile = bfd_profile(&section.field("bfd-profile"), profiles, findings);
    Some(Peer {
        my_asn: my_asn?,
        peer_asn: peer_asn?,
        address: address?,
        port: port.unwrap_or(BGP_PORT),
        source_address,
        router_id,
        hold_time: hold_time?,
        keepalive_time,
        password: Password::new(password.to_owned()),
        node_selectors,
        ebgp_multihop,
        bfd_profile,
    })
}

fn as_number(field: &Field<'_>, findings: &mut Findings) -> Option<u32> {
    if field.is_absent() {
        let _: Option<&str> = field.required("write an AS number such as 64512", findings);
        return None;
    }
    if let Some((text, Resolved::Float(_))) = field.raw() {
        let plain =
            dotted(text).map_or_else(String::new, |number| format!("; if {text} is meant as high.low, write {number}"));
        findings.at(field, format!("expected an AS number, found the fraction {}{plain}", shorten(text)));
        return None;
    }
    field.number(1, u32::MAX, findings)
}

/// The plain form of an AS number in asdot notation (RFC 5396 §2).
fn dotted(text: &str) -> Option<u32> {
    let (high, low) = text.split_once('.')?;
    Some(u32::from(high.parse::<u16>().ok()?) << 16 | u32::from(low.parse::<u16>().ok()?))
}

fn peer_address(field: &Field<'_>, findings: &mut Findings) -> Option<IpAddr> {
    field.required("write the IP address of the router", findings)?;
    ip(field, findings)
}

fn ip(field: &Field<'_>, findings: &mut Findings) -> Option<IpAddr> {
    let text = field.text(findings).filter(|text| !text.is_empty())?;
    let ip = text.parse::<IpAddr>().ok();
    if ip.is_none() {
        let text = shorten(text);
        findings.at(field, format!("{text:?} is not an IP address; write it like 192.0.2.1 (names are not looked up)"));
    }
    ip.map(|ip| ip.to_canonical())
}

/// Whole seconds of a written duration; what is below a second is cut off.
fn seconds(field: &Field<'_>, findings: &mut Findings) -> Option<i128> {
    let text = field.text(findings)?;
    let seconds = nanoseconds(text).map(|nanoseconds| nanoseconds / 1_000_000_000);
    if seconds.is_none() {
        let unit = if text.bytes().all(|byte| byte.is_ascii_digit()) && !text.is_empty() {
            format!("; write the unit too: {}s", shorten(text))
        } else {
            "; write it like 90s or 1m30s".to_owned()
        };
        findings.at(field, format!("{:?} is not a duration{unit}", shorten(text)));
    }
    seconds
}

fn hold_time(field: &Field<'_>, findings: &mut Findings) -> Option<u16> {
    if field.is_absent() {
        return Some(HOLD_TIME);
    }
    let seconds = seconds(field, findings)?;
    // RFC 4271 §4.2: zero or at least three, in 16 bits.
    match u16::try_from(seconds) {
        Ok(seconds) if seconds == 0 || seconds >= 3 => Some(seconds),
        _ => {
            findings.at(field, format!("a hold time is 0 or from 3 to 65535 seconds, not {seconds}"));
            None
        }
    }
}

fn keepalive_time(field: &Field<'_>, hold_time: Option<u16>, findings: &mut Findings) -> Option<u16> {
    if field.is_absent() {
        return None;
    }
    let seconds = seconds(field, findings)?;
    match u16::try_from(seconds) {
        Ok(seconds) if hold_time.is_none_or(|hold_time| seconds <= hold_time) => Some(seconds),
        _ => {
            let most = hold_time.unwrap_or(u16::MAX);
            findings.at(field, format!("a keepalive time is from 0 to the hold time of {most} seconds, not {seconds}"));
            None
        }
    }
}

fn bfd_profile(field: &Field<'_>, profiles: &BTreeSet<&str>, findings: &mut Findings) -> Option<String> {
    let name = field.text(findings).filter(|name| !name.is_empty())?;
    if !profiles.contains(name) {
        let known = profiles.iter().take(64).copied();
        let hint = suggest::hint(name, known, "add it to bfd-profiles");
        findings.at(field, format!("there is no BFD profile {name:?}; {hint}"));
    }
    Some(name.to_owned())
}
