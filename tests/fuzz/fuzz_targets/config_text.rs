//! MetalLB's configuration text: never a panic, never a configuration beside an error, every problem at a place of
//! the text.
#![no_main]

use std::sync::Arc;

use config::diagnostic::Severity;
use config::legacy::parse_text;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let (file, text): (Arc<str>, Arc<str>) = ("in.yaml".into(), text.into());
    let parsed = parse_text(&file, &text);
    let failed = parsed.problems.iter().any(|problem| problem.severity == Severity::Error);
    assert_eq!(parsed.config.is_none(), failed, "{:?}", parsed.problems);
    // A carriage return alone is a line break too (YAML 1.2 §5.4).
    let lines = text.matches(['\n', '\r']).count() as u32 + 1;
    for problem in &parsed.problems {
        let place = problem.place.as_ref().expect("a problem of a text has a place");
        assert!((1..=lines).contains(&place.line) && place.column >= 1, "{problem}");
        assert!(!problem.to_string().is_empty());
    }
    let Some(config) = parsed.config else { return };
    let ranges: Vec<_> = config.pools.iter().flat_map(|pool| &pool.ranges).collect();
    // Quadratic, and enough to find a wrong pair.
    for (index, range) in ranges.iter().take(64).enumerate() {
        assert!(range.first() <= range.last(), "{range} runs backwards");
        let twin = ranges[index + 1..].iter().find(|other| other.overlaps(range));
        assert!(twin.is_none(), "{range} and {twin:?} overlap");
    }
});
