//! `bfd-profiles`: timers of BFD sessions.

use std::collections::HashSet;

use super::section::{Field, Findings, Section};
use crate::pool::BfdProfile;

const PROFILE: [&str; 8] = [
    "detect-multiplier",
    "echo-interval",
    "echo-mode",
    "minimum-ttl",
    "name",
    "passive-mode",
    "receive-interval",
    "transmit-interval",
];

pub(super) fn profiles(list: &Field<'_>, findings: &mut Findings) -> Vec<BfdProfile> {
    let mut names = HashSet::new();
    let mut profiles = Vec::new();
    for item in list.items(findings) {
        let Some(section) = Section::open(&item, &PROFILE, findings) else { continue };
        let field = section.field("name");
        let name =
            field.required("give the profile a name, so that peers can refer to it", findings).unwrap_or_default();
        if !name.is_empty() && !names.insert(name) {
            findings.at(&field, format!("a BFD profile named {name:?} is already written; give each its own name"));
        }
        let mut milliseconds = |key| section.field(key).number(10, 60_000, findings);
        let intervals =
            [milliseconds("receive-interval"), milliseconds("transmit-interval"), milliseconds("echo-interval")];
        let [receive_interval, transmit_interval, echo_interval] = intervals;
        profiles.push(BfdProfile {
            name: name.to_owned(),
            receive_interval,
            transmit_interval,
            echo_interval,
            detect_multiplier: section.field("detect-multiplier").number(2, 255, findings),
            minimum_ttl: section.field("minimum-ttl").number(1, 254, findings),
            echo_mode: section.field("echo-mode").boolean(false, findings),
            passive_mode: section.field("passive-mode").boolean(false, findings),
        });
    }
    profiles
}
