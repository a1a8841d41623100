//! `address-pools`: names, addresses and how a BGP pool is advertised.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr};

use super::community;
use super::overlap::{self, Written};
use super::range::widest_prefix;
use super::section::{Field, Findings, Section};
use super::selector::selectors;
use crate::pool::{AddressRange, BgpAdvertisement, Community, Pool, PoolName, Protocol, ServiceAllocation};
use crate::suggest;

/// The keys of MetalLB and, at the end, our own.
const POOL: [&str; 8] = [
    "addresses",
    "auto-assign",
    "avoid-buggy-ips",
    "bgp-advertisements",
    "name",
    "protocol",
    "allow-reserved-addresses",
    "service-allocation",
];
const ALLOCATION: [&str; 4] = ["namespace-selectors", "namespaces", "priority", "service-selectors"];
const ADVERTISEMENT: [&str; 4] = ["aggregation-length", "aggregation-length-v6", "communities", "localpref"];

type Communities = BTreeMap<String, Community>;

pub(super) fn pools(list: &Field<'_>, communities: &Communities, findings: &mut Findings) -> Vec<Pool> {
    let mut names = HashMap::new();
    let (mut pools, mut written) = (Vec::new(), Vec::new());
    for item in list.items(findings) {
        let Some(section) = Section::open(&item, &POOL, findings) else { continue };
        let name = name(&section, &mut names, findings);
        let protocol = protocol(&section.field("protocol"), findings);
        let ranges = addresses(&section.field("addresses"), findings);
        let advertisements = advertisements(&section, protocol, &ranges, communities, findings);
        let auto_assign = section.field("auto-assign").boolean(true, findings);
        let avoid_buggy_ips = section.field("avoid-buggy-ips").boolean(false, findings);
        let allow_reserved = section.field("allow-reserved-addresses").boolean(false, findings);
        let allocation = allocation(&section.field("service-allocation"), findings);
        if protocol == Some(Protocol::Layer2) {
            for (field, range) in &ranges {
                unusable(field, range, findings);
            }
        }
        let label = name.as_ref().map_or_else(|| item.path.to_string(), ToString::to_string);
        let values = ranges.iter().map(|(_, range)| *range).collect();
        written.extend(ranges.into_iter().map(|(field, range)| Written { field, pool: label.clone(), range }));
        if let (Some(name), Some(protocol)) = (name, protocol) {
            let pool = Pool::new(name, protocol, values);
            pools.push(Pool { auto_assign, avoid_buggy_ips, allow_reserved, allocation, advertisements, ..pool });
        }
    }
    overlap::check(&written, findings);
    pools
}

fn name<'t>(
    section: &Section<'t>,
    names: &mut HashMap<&'t str, Field<'t>>,
    findings: &mut Findings,
) -> Option<PoolName> {
    let field = section.field("name");
    let name = field.required("give the pool a name of its own", findings)?;
    if let Some(first) = names.get(name) {
        findings.at(&field, format!("the pool name {name:?} is already taken ({})", first.path));
    } else {
        names.insert(name, field);
    }
    PoolName::new(name)
}

/// Which Services a pool is kept for, in the words of `spec.serviceAllocation` of an `IPAddressPool`.
fn allocation(field: &Field<'_>, findings: &mut Findings) -> Option<ServiceAllocation> {
    if field.is_absent() {
        return None;
    }
    let section = Section::open(field, &ALLOCATION, findings)?;
    Some(ServiceAllocation {
        priority: section.field("priority").number(0, u32::MAX, findings).unwrap_or(0),
        namespaces: namespaces(&section.field("namespaces"), findings),
        namespace_selectors: selectors(&section.field("namespace-selectors"), findings),
        service_selectors: selectors(&section.field("service-selectors"), findings),
    })
}

fn namespaces(list: &Field<'_>, findings: &mut Findings) -> Vec<String> {
    let mut namespaces = Vec::new();
    for item in list.items(findings) {
        if let Some(name) = item.required("name a namespace or remove the dash", findings) {
            namespaces.push(name.to_owned());
        }
    }
    namespaces
}

fn protocol(field: &Field<'_>, findings: &mut Findings) -> Option<Protocol> {
    match field.required("write layer2 or bgp", findings)? {
        "layer2" => Some(Protocol::Layer2),
        "bgp" => Some(Protocol::Bgp),
        other => {
            let hint = suggest::hint(other, ["layer2", "bgp"], "write layer2 or bgp");
            findings.at(field, format!("unknown protocol {other:?}; {hint}"));
            None
        }
    }
}

fn addresses<'t>(list: &Field<'t>, findings: &mut Findings) -> Vec<(Field<'t>, AddressRange)> {
    let items = list.items(findings);
    if items.is_empty() && (list.is_absent() || list.is_list()) {
        findings.at(list, "a pool needs addresses; write a list such as [192.0.2.0/28]");
    }
    let mut ranges = Vec::new();
    for item in items {
        if item.is_absent() {
            findings.at(&item, "an address range is missing; write it like 192.0.2.0/28 or remove the dash");
            continue;
        }
        match item.text(findings).map(str::parse) {
            Some(Ok(range)) => ranges.push((item, range)),
            Some(Err(error)) => findings.at(&item, crate::legacy::RangeError::to_string(&error)),
            None => {}
        }
    }
    ranges
}

/// Warns of addresses that no host on a LAN can have; they are valid, as in MetalLB.
fn unusable(field: &Field<'_>, range: &AddressRange, findings: &mut Findings) {
    const NONE: [(Ipv4Addr, Ipv4Addr, &str); 2] = [
        (Ipv4Addr::UNSPECIFIED, Ipv4Addr::new(0, 255, 255, 255), "0.0.0.0/8 (this network, RFC 1122)"),
        (Ipv4Addr::new(224, 0, 0, 0), Ipv4Addr::BROADCAST, "224.0.0.0/3 (multicast and reserved, RFC 1112)"),
    ];
    let within = |(first, last, name): &(Ipv4Addr, Ipv4Addr, &'static str)| {
        AddressRange::new(IpAddr::V4(*first), IpAddr::V4(*last)).filter(|none| none.overlaps(range)).map(|_| *name)
    };
    if let Some(name) = NONE.iter().find_map(within) {
        findings.warning(
            field.mark,
            field.path.clone(),
            format!("{range} holds addresses of {name}, which no Service can use"),
        );
    }
}

fn advertisements(
    pool: &Section<'_>,
    protocol: Option<Protocol>,
    ranges: &[(Field<'_>, AddressRange)],
    communities: &Communities,
    findings: &mut Findings,
) -> Vec<BgpAdvertisement> {
    let list = pool.field("bgp-advertisements");
    let items = list.items(findings);
    if protocol == Some(Protocol::Layer2) && !items.is_empty() {
        findings.at(&list, "a layer2 pool is not advertised by BGP; remove bgp-advertisements or write protocol: bgp");
    }
    if items.is_empty() && protocol == Some(Protocol::Bgp) {
        let default = BgpAdvertisement {
            aggregation_length: 32,
            aggregation_length_v6: 128,
            local_pref: 0,
            communities: Vec::new(),
        };
        return vec![default];
    }
    let narrowest = (narrowest(ranges, true), narrowest(ranges, false));
    let mut seen = HashMap::new();
    let mut advertisements = Vec::new();
    for item in items {
        let Some(section) = Section::open(&item, &ADVERTISEMENT, findings) else { continue };
        let advertisement = advertisement(&section, narrowest, communities, findings);
        if let Some(first) = seen.insert(as_written(&section), item.path.clone()) {
            findings.at(&item, format!("this advertisement says the same as {first}; remove one of the two"));
        }
        advertisements.push(advertisement);
    }
    advertisements
}

/// What tells two advertisements apart: their text, before defaults.
fn as_written(section: &Section<'_>) -> Vec<String> {
    let mut unheard = Findings::default();
    let mut written: Vec<String> = ["aggregation-length", "aggregation-length-v6", "localpref"]
        .into_iter()
        .map(|key| section.field(key).text(&mut unheard).unwrap_or_default().to_owned())
        .collect();
    let communities = section.field("communities").items(&mut unheard);
    written.extend(communities.iter().map(|item| item.text(&mut unheard).unwrap_or_default().to_owned()));
    written
}

fn advertisement(
    section: &Section<'_>,
    (v4, v6): (Narrowest<'_, '_>, Narrowest<'_, '_>),
    communities: &Communities,
    findings: &mut Findings,
) -> BgpAdvertisement {
    BgpAdvertisement {
        aggregation_length: length(&section.field("aggregation-length"), 32, v4, findings),
        aggregation_length_v6: length(&section.field("aggregation-length-v6"), 128, v6, findings),
        local_pref: section.field("localpref").number(0, u32::MAX, findings).unwrap_or(0),
        communities: attached(&section.field("communities"), communities, findings),
    }
}

/// The entry of one family that aggregation must leave the longest prefix for, with that prefix's length.
type Narrowest<'a, 't> = Option<(u8, &'a (Field<'t>, AddressRange))>;

fn narrowest<'a, 't>(ranges: &'a [(Field<'t>, AddressRange)], v4: bool) -> Narrowest<'a, 't> {
    let family = ranges.iter().filter(|(_, range)| range.first().is_ipv4() == v4);
    family.map(|entry| (widest_prefix(&entry.1), entry)).max_by_key(|(length, _)| *length)
}

/// An aggregation length, at most `most`, that keeps within every entry.
fn length(field: &Field<'_>, most: u8, narrowest: Narrowest<'_, '_>, findings: &mut Findings) -> u8 {
    let Some(length) = field.number(0, most, findings) else { return most };
    if let Some((widest, (entry, range))) = narrowest.filter(|(widest, _)| *widest > length) {
        let path = &entry.path;
        let message = format!(
            "addresses aggregated to /{length} reach beyond {range} ({path}), whose widest prefix is a /{widest}; write {widest} or more"
        );
        findings.at(field, message);
    }
    length
}

fn attached(list: &Field<'_>, communities: &Communities, findings: &mut Findings) -> Vec<Community> {
    let mut seen = HashMap::new();
    let mut attached = Vec::new();
    for item in list.items(findings) {
        let Some(text) = item.text_or_empty(findings) else { continue };
        if let Some(first) = seen.insert(text, item.path.clone()) {
            findings.at(&item, format!("the community {text:?} stands here a second time ({first})"));
        }
        let community = communities.get(text).copied().or_else(|| community(text));
        if community.is_none() {
            let known = communities.keys().take(64).map(String::as_str);
            let hint = suggest::hint(text, known, "write two numbers up to 65535 like 64512:100");
            findings.at(&item, format!("{text:?} is neither an alias in bgp-communities nor a community; {hint}"));
        }
        attached.extend(community);
    }
    attached
}
