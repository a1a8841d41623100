//! MetalLB's configuration text (v0.12 and earlier) to a [`PoolConfig`].
//!
//! The whole text is one unit: any error refuses all of it, and the last good configuration stays. Reading is strict
//! as MetalLB's is (unknown and repeated keys are errors, YAML 1.1 booleans), and stricter where MetalLB reads
//! something else than was written: a range across families, an AS number `1.10`, a number with a leading zero.
//! All errors are reported at once.
//!
//! Source: MetalLB v0.12.1 `internal/config`.

mod bfd;
mod duration;
mod overlap;
mod peers;
mod pools;
mod range;
pub(crate) mod section;
mod selector;

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::ConfigMap;

use crate::diagnostic::{Place, Problem, Severity};
use crate::object::{FieldPath, ObjectRef};
use crate::pool::{Community, PoolConfig};
use crate::settings::CONFIG_MAP_KEY;
use crate::snapshot::{Origin, TextPlace};
use crate::yaml::{self, Mark, Node};
pub use range::RangeError;
use section::{Field, Finding, Findings, Section};

const SECTIONS: [&str; 4] = ["address-pools", "bfd-profiles", "bgp-communities", "peers"];

/// The outcome of reading a configuration.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Legacy {
    /// The configuration; `None` if there is any error.
    pub config: Option<PoolConfig>,
    /// Everything that is wrong, in the order of the text.
    pub problems: Vec<Problem>,
}

/// Reads the configuration in the data key `config` of a `ConfigMap`; without that key it is valid and empty.
///
/// Problems name the fields of the configuration (`address-pools[0].addresses[1]`); `origin`, if there is one, turns
/// their places in the text into places of the file around it.
#[must_use]
pub fn parse_map(reference: &ObjectRef, map: &ConfigMap, origin: Option<&dyn Origin>) -> Legacy {
    let text = map.data.as_ref().and_then(|data| data.get(CONFIG_MAP_KEY)).map_or("", String::as_str);
    let around = origin.and_then(|origin| origin.locate_text(&FieldPath::of(["data", CONFIG_MAP_KEY])));
    let place = |mark: Mark| around.as_ref().map(|around: &TextPlace| around.place(mark.line, mark.column));
    read(text, Some(reference), place)
}

/// Reads a configuration that stands in a file of its own.
///
/// Total: any text gives a result, in time proportional to its length.
#[must_use]
pub fn parse_text(file: &Arc<str>, text: &Arc<str>) -> Legacy {
    read(text, None, |mark| Some(Place { file: Arc::clone(file), line: mark.line, column: mark.column }))
}

/// Whether a text is such a configuration without a `ConfigMap` around it.
#[must_use]
pub fn is_bare(text: &str) -> bool {
    let Some(Ok(document)) = yaml::documents(text).into_iter().next() else { return false };
    let has = |key| document.root.entry(key).is_some();
    !has("kind") && !has("apiVersion") && SECTIONS.into_iter().any(has)
}

fn read(text: &str, object: Option<&ObjectRef>, place: impl Fn(Mark) -> Option<Place>) -> Legacy {
    let mut findings = Findings::default();
    let mut documents = yaml::documents(text).into_iter();
    let config = match documents.next() {
        None => PoolConfig::default(),
        Some(Ok(document)) => {
            for fault in document.faults {
                findings.error(fault.mark, fault.path, fault.message);
            }
            whole(&document.root, &mut findings)
        }
        Some(Err(fault)) => {
            findings.error(fault.mark, fault.path, fault.message);
            PoolConfig::default()
        }
    };
    if let Some(Ok(second)) =
        documents.next().filter(|second| second.as_ref().is_ok_and(|second| !second.root.is_null()))
    {
        findings.warning(second.root.mark, FieldPath::root(), "only the first document of the configuration is read");
    }
    let valid = !findings.has_errors();
    let problem = |Finding { mark, severity, field, message }| Problem {
        severity,
        object: object.cloned(),
        field,
        message,
        place: place(mark),
    };
    Legacy { config: valid.then_some(config), problems: findings.in_order().into_iter().map(problem).collect() }
}

fn whole(root: &Node, findings: &mut Findings) -> PoolConfig {
    let Some(top) = Section::open(&Field::top(root), &SECTIONS, findings) else { return PoolConfig::default() };
    let communities = communities(&top.field("bgp-communities"), findings);
    let bfd_profiles = bfd::profiles(&top.field("bfd-profiles"), findings);
    let pools = pools::pools(&top.field("address-pools"), &communities, findings);
    let profiles = bfd_profiles.iter().map(|profile| profile.name.as_str()).collect();
    let peers = peers::peers(&top.field("peers"), &profiles, findings);
    PoolConfig { pools, peers, bfd_profiles, communities }
}

fn communities(field: &Field<'_>, findings: &mut Findings) -> BTreeMap<String, Community> {
    let mut communities = BTreeMap::new();
    for (alias, value) in field.entries(findings) {
        let Some(text) = value.text_or_empty(findings) else { continue };
        match community(text) {
            Some(community) => {
                communities.insert(alias.to_owned(), community);
            }
            None => findings
                .at(&value, format!("{text:?} is not a community; write two numbers up to 65535 like 64512:100")),
        }
    }
    communities
}

/// `high:low`, two decimal numbers of 16 bits.
fn community(text: &str) -> Option<Community> {
    let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?;
    let (high, low) = text.split_once(':')?;
    Some(Community { high: number(high)?, low: number(low)? })
}

/// Whether any of the findings refuses the configuration.
fn is_error(finding: &Finding) -> bool {
    finding.severity == Severity::Error
}

#[cfg(test)]
mod tests;
