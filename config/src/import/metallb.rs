//! MetalLB's `ConfigMap` and its custom resources, as our address configuration.

use std::sync::Arc;

use serde_json::{Value as Json, json as value};

use super::{Fate, Foreign, Import, Texts, Verdict, config_map, entry, json, objects, texts_of};
use crate::diagnostic::Severity;
use crate::legacy;
use crate::pool::Protocol;
use crate::settings::CONFIG_MAP_KEY;

const NO_BGP: &str = "BGP is not spoken; announce the addresses on the LAN of the nodes (layer2)";

/// What becomes of the objects of MetalLB.
#[must_use]
pub fn metallb(texts: &Texts) -> Import {
    let all = objects(texts);
    let of = |kind: &'static str| all.iter().filter(move |it| it.group == "metallb.io" && it.kind == kind);
    let (near, far): (Vec<_>, Vec<_>) = (of("L2Advertisement").collect(), of("BGPAdvertisement").collect());
    let (mut verdicts, mut entries, mut whole) = (Vec::new(), String::new(), None);
    for object in &all {
        match (object.group.as_str(), object.kind.as_str()) {
            ("", "ConfigMap") => {
                let Some(text) = configuration(object) else { continue };
                verdicts.push(judged(object.verdict(), &text));
                whole = Some(text);
            }
            ("metallb.io", "IPAddressPool" | "AddressPool") => {
                let (verdict, text) = pool(object, &near, &far);
                verdicts.push(verdict);
                entries += &text.unwrap_or_default();
            }
            ("metallb.io", "L2Advertisement") => verdicts.push(advertisement(object)),
            ("metallb.io", _) => {
                let mut verdict = object.verdict();
                verdict.note(Fate::Unsupported, NO_BGP);
                verdicts.push(verdict);
            }
            _ => {}
        }
    }
    let text = if entries.is_empty() { whole } else { Some(format!("address-pools:\n{entries}")) };
    Import { objects: verdicts, apply: text.map(|text| config_map(CONFIG_MAP_KEY, &text)) }
}

/// The text of the `ConfigMap`, if it is MetalLB's.
fn configuration(object: &Foreign) -> Option<String> {
    let text = object.node.get("data")?.get(CONFIG_MAP_KEY)?.text()?;
    legacy::is_bare(text).then(|| text.to_owned())
}

/// What our reader says of a configuration.
fn judged(mut verdict: Verdict, text: &str) -> Verdict {
    let read = legacy::parse_text(&Arc::from(verdict.object.as_str()), &Arc::from(text));
    for problem in &read.problems {
        let fate = if problem.severity == Severity::Error { Fate::Unsupported } else { Fate::Differs };
        verdict.note(fate, format!("{}: {}", problem.field, problem.message));
    }
    let config = read.config.unwrap_or_default();
    if !config.peers.is_empty() || config.pools.iter().any(|pool| pool.protocol == Protocol::Bgp) {
        verdict.note(Fate::Unsupported, NO_BGP);
    }
    verdict
}

/// An `IPAddressPool`, and its entry if its addresses are announced.
fn pool(object: &Foreign, near: &[&Foreign], far: &[&Foreign]) -> (Verdict, Option<String>) {
    let mut verdict = object.verdict();
    // Before 0.13.2, an AddressPool said itself how it is announced.
    let own = object.spec(&["protocol"]).and_then(|it| it.text());
    let is_near = own == Some("layer2") || near.iter().any(|it| announces(it, &object.name));
    if !is_near {
        let is_far = own == Some("bgp") || far.iter().any(|it| announces(it, &object.name));
        if is_far {
            verdict.note(Fate::Unsupported, NO_BGP);
        } else {
            let why = "no L2Advertisement announces it, and what stands in address-pools is always announced";
            verdict.note(Fate::Differs, format!("{why}; it is left out"));
        }
        return (verdict, None);
    }
    let text = entry(&fields(object));
    (judged(verdict, &format!("address-pools:\n{text}")), Some(text))
}

/// A pool in our words.
fn fields(object: &Foreign) -> Vec<(&'static str, Json)> {
    let mut fields = vec![
        ("name", value!(object.name)),
        ("protocol", value!("layer2")),
        ("addresses", value!(texts_of(object.spec(&["addresses"])))),
    ];
    for (theirs, ours) in [
        ("autoAssign", "auto-assign"),
        ("avoidBuggyIPs", "avoid-buggy-ips"),
        ("serviceAllocation", "service-allocation"),
    ] {
        if let Some(node) = object.spec(&[theirs]) {
            fields.push((ours, json(node, kebab)));
        }
    }
    fields
}

/// `namespaceSelectors` as `namespace-selectors`.
fn kebab(key: &str) -> String {
    key.chars().fold(String::new(), |mut out, letter| {
        if letter.is_ascii_uppercase() {
            out.push('-');
        }
        out.push(letter.to_ascii_lowercase());
        out
    })
}

/// Whether an advertisement is for a pool: it names it, or none at all.
fn announces(advertisement: &Foreign, pool: &str) -> bool {
    let named = texts_of(advertisement.spec(&["ipAddressPools"]));
    let selects = advertisement.spec(&["ipAddressPoolSelectors"]).is_some();
    named.iter().any(|name| name == pool) || (named.is_empty() && !selects)
}

/// What of an `L2Advertisement` has no counterpart.
fn advertisement(object: &Foreign) -> Verdict {
    let mut verdict = object.verdict();
    for (field, fate, note) in [
        (
            "interfaces",
            Fate::Differs,
            "interfaces: give them to the speaker with --interface; they count for all pools",
        ),
        (
            "nodeSelectors",
            Fate::Unsupported,
            "nodeSelectors: every node with a speaker may announce; choose the nodes of the DaemonSet",
        ),
        (
            "serviceSelectors",
            Fate::Unsupported,
            "serviceSelectors: every Service of a pool is announced; use service-allocation of the pool",
        ),
        (
            "ipAddressPoolSelectors",
            Fate::Unsupported,
            "ipAddressPoolSelectors: are not read; name the pools in ipAddressPools and import again",
        ),
    ] {
        if object.spec(&[field]).is_some() {
            verdict.note(fate, note);
        }
    }
    verdict
}
