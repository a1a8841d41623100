use proptest::prelude::*;

use super::{SERVICE, parsed};
use crate::diagnostic::Severity;
use crate::object::{FieldPath, ObjectRef, Step};

/// A Service of that name, with a wrong port if `broken`.
fn service(name: usize, broken: bool) -> String {
    let text = SERVICE.replace("name: web", &format!("name: web-{name}"));
    if broken { text.replace("port: 80\n", "port: none\n") } else { text }
}

fn files() -> impl Strategy<Value = (Vec<String>, Vec<String>)> {
    let documents = proptest::collection::vec(any::<bool>(), 0..6);
    let documents =
        documents.prop_map(|all| all.into_iter().enumerate().map(|(n, broken)| service(n, broken)).collect());
    documents.prop_flat_map(|all: Vec<String>| (Just(all.clone()), Just(all).prop_shuffle()))
}

fn mutated() -> impl Strategy<Value = String> {
    let text = format!("# all\n---\n{}---\n{SERVICE}", service(1, true).replace("8080", "&x 80\n      nodePort: *x"));
    let pieces =
        ["\t", "\n", "- ", ": ", "{", "]", "*x", "|", "'", "<<: ", "\u{feff}", "---\n", "...\n", "\r", "é", "", "?"];
    let cut = (0..text.len(), 0..5usize, proptest::sample::select(pieces.to_vec()));
    proptest::collection::vec(cut, 1..5).prop_map(move |cuts| {
        let mut text = text.clone();
        for (start, length, piece) in cuts {
            let start = (0..=start.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
            let end = (start + length..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
            text.replace_range(start.min(end)..end, piece);
        }
        text
    })
}

/// Whether a line and column lie in a text; the end of a line counts, for what is missing there.
fn lies_in(text: &str, line: u32, column: u32) -> bool {
    let text = text.trim_start_matches('\u{feff}').replace("\r\n", "\n").replace('\r', "\n");
    let length = text.split('\n').nth(line as usize - 1).map(|line| line.chars().count());
    length.is_some_and(|length| column >= 1 && column as usize <= length + 1)
}

proptest! {
    #[test]
    fn any_text_is_answered(text in any::<String>()) {
        parsed(&text);
    }

    #[test]
    fn every_place_lies_in_the_text(text in mutated(), index in 0..3usize) {
        let parsed = parsed(&text);
        for place in parsed.problems.iter().filter_map(|problem| problem.place.as_ref()) {
            prop_assert!(lies_in(&text, place.line, place.column), "{place} in {text:?}");
        }
        let port = FieldPath::of(["spec", "ports"]).with(Step::Index(index)).key("port");
        for document in &parsed.documents {
            for field in [&FieldPath::root(), &FieldPath::of(["metadata", "name"]), &port] {
                let place = document.origin.locate(field).unwrap();
                prop_assert!(lies_in(&text, place.line, place.column), "{place} in {text:?}");
            }
        }
    }

    #[test]
    fn an_object_is_either_valid_or_broken_and_then_there_is_an_error(text in mutated()) {
        let parsed = parsed(&text);
        for reference in &parsed.broken {
            let said = |problem: &crate::diagnostic::Problem| {
                problem.severity == Severity::Error && problem.object.as_ref() == Some(reference)
            };
            prop_assert!(parsed.problems.iter().any(said), "{reference} of {text:?}");
        }
    }

    #[test]
    fn the_order_of_documents_does_not_matter((written, shuffled) in files()) {
        let read = |documents: &[String]| {
            let parsed = parsed(&documents.join("---\n"));
            let mut valid: Vec<ObjectRef> = parsed.documents.into_iter().map(|document| document.reference).collect();
            let mut broken = parsed.broken;
            valid.sort();
            broken.sort();
            (valid, broken, parsed.problems.len())
        };
        prop_assert_eq!(read(&written), read(&shuffled));
    }
}
