//! Manifests: never a panic; what is broken is said, at a place of the text.
#![no_main]

use std::sync::Arc;

use config::manifest::parse;
use config::object::FieldPath;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let (file, text): (Arc<str>, Arc<str>) = ("in.yaml".into(), text.into());
    let parsed = parse(&file, &text);
    // A carriage return alone is a line break too (YAML 1.2 §5.4).
    let lines = text.matches(['\n', '\r']).count() as u32 + 1;
    for problem in &parsed.problems {
        let place = problem.place.as_ref().expect("a problem of a text has a place");
        assert!((1..=lines).contains(&place.line) && place.column >= 1, "{problem}");
    }
    assert!(!parsed.unreadable || !parsed.problems.is_empty(), "unreadable without a reason");
    assert!(parsed.broken.is_empty() || !parsed.problems.is_empty(), "broken without a reason");
    for document in &parsed.documents {
        for field in [FieldPath::root(), FieldPath::of(["metadata", "name"]), FieldPath::of(["spec"]).index(7)] {
            let place = document.origin.locate(&field).expect("an object has a place in its text");
            assert!((1..=lines).contains(&place.line), "{place}");
        }
        assert!(!document.reference.name.name.is_empty(), "an object without a name");
    }
});
