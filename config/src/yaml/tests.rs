use std::fmt::Write;

use proptest::prelude::*;

use super::*;

/// A document as JSON-like text: scalars as written, plain ones bare.
fn show(node: &Node) -> String {
    match &node.value {
        Value::Scalar(scalar) if scalar.style == Style::Plain => scalar.text.to_string(),
        Value::Scalar(scalar) => format!("{:?}", scalar.text),
        Value::Sequence(items) => format!("[{}]", items.iter().map(show).collect::<Vec<_>>().join(", ")),
        Value::Mapping(entries) => {
            let entry = |entry: &Entry| format!("{}: {}", entry.key.text, show(&entry.value));
            format!("{{{}}}", entries.iter().map(entry).collect::<Vec<_>>().join(", "))
        }
    }
}

fn only(text: &str) -> Document {
    let mut documents = documents(text);
    assert_eq!(documents.len(), 1, "{text:?}");
    documents.remove(0).unwrap()
}

/// What is wrong with a text, as `line:column message`.
fn faults(text: &str) -> Vec<String> {
    let faults = documents(text).into_iter().flat_map(|document| match document {
        Ok(document) => document.faults,
        Err(fault) => vec![fault],
    });
    faults.map(|fault| format!("{}:{} {}", fault.mark.line, fault.mark.column, fault.message)).collect()
}

#[test]
fn anchors_aliases_and_merge_keys_are_settled() {
    for (text, expected) in [
        ("a: &x [1, '2']\nb: *x", "{a: [1, \"2\"], b: [1, \"2\"]}"),
        ("a: &x {p: 1, q: 2}\nb: {<<: *x, q: 3}", "{a: {p: 1, q: 2}, b: {q: 3, p: 1}}"),
        ("<<: [{p: 1}, {p: 2, q: 2}]\nr: 3", "{r: 3, p: 1, q: 2}"),
        ("'<<': {p: 1}", "{<<: {p: 1}}"),
        ("&k a: 1\nb: *k", "{a: 1, b: a}"),
        ("? a\n: 1\n? b", "{a: 1, b: ~}"),
        ("!!str 1", "\"1\""),
        ("!!int '1'", "1"),
        ("! 1", "\"1\""),
        ("\u{feff}a: 1\r\nb: 2\r\n", "{a: 1, b: 2}"),
        ("%YAML 1.1\n---\na: |\n  b\n   c\n", "{a: \"b\\n c\\n\"}"),
    ] {
        let document = only(text);
        assert_eq!(document.faults, [], "{text:?}");
        assert_eq!(show(&document.root), expected, "{text:?}");
    }
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    for (text, expected) in [
        ("a: 1\n'a': 2", "2:1 the key \"a\" stands here a second time; the first is at line 1, column 1"),
        ("é: {ö: 1, ö: 2}", "1:11 the key \"ö\" stands here a second time; the first is at line 1, column 5"),
        ("[a]: 1", "1:1 a key must be text"),
        ("<<: 1", "1:5 a merge key (<<) takes a mapping"),
        ("a: !!binary QQ==", "1:13 the tag \"!!binary\" means nothing here"),
        ("a: &x [*x]", "1:8 this alias stands inside the node that it names"),
        ("a: b: c", "1:5 a second \": \" on one line is not allowed here"),
        ("a: 'b", "1:4 this is not valid YAML: unclosed quote"),
        ("a:\n\t- b", "2:"),
    ] {
        let found = faults(text);
        assert!(found.len() == 1 && found[0].starts_with(expected), "{text:?}: {found:?}");
    }
}

#[test]
fn bombs_are_refused_at_the_cost_of_their_length() {
    let mut laughs = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for n in 1..30 {
        let below = vec![format!("*a{}", n - 1); 9].join(", ");
        writeln!(laughs, "a{n}: &a{n} [{below}]").unwrap();
    }
    let merges = format!(
        "a: &a {{{}}}\nb:\n{}",
        (0..2000).fold(String::new(), |text, n| text + &format!("k{n}: 1,")),
        "- {<<: *a}\n".repeat(5000)
    );
    let nested: String =
        (1..40).fold("a0: &a0 [[[[]]]]\n".to_owned(), |text, n| text + &format!("a{n}: &a{n} [[[*a{}]]]\n", n - 1));
    for (text, message) in [
        (laughs, "aliases make this document many times larger"),
        (merges, "aliases make this document many times larger"),
        (nested, "collections nest more than 64 deep"),
        ("[".repeat(100_000), "collections nest more than 64 deep"),
        ("- ".repeat(100_000), "collections nest more than 64 deep"),
        ("{a: ".repeat(100_000), "collections nest more than 64 deep"),
        ("a: 1\n".repeat(100_000), "(and more than 1000 faults after it)"),
    ] {
        let found = faults(&text);
        assert!(found.last().is_some_and(|last| last.contains(message)), "{message}: {found:?}");
    }
}

#[test]
fn a_long_text_of_any_shape_is_read_to_its_end() {
    let shapes: [fn(usize) -> String; 8] = [
        |n| "a: [b, {c: d}]\n---\n".repeat(n),
        |n| (0..n).fold(String::new(), |text, n| text + &format!("key{n}: value\n")),
        |n| "- \"\\u00e9 x\"\n".repeat(n),
        |n| format!("a: |\n{}", "  line\n".repeat(n)),
        |n| format!("a: {}", "word ".repeat(n)),
        |n| format!("{{{}", "\"a\",".repeat(n)),
        |n| "# comment\n".repeat(n) + "a: 1\n",
        |n| format!("[{}]", "&a x, *a, ".repeat(n)),
    ];
    for (number, shape) in shapes.into_iter().enumerate() {
        // A quadratic reader would not come to an end with these.
        assert!(!documents(&shape(50_000)).is_empty(), "shape {number}");
    }
}

proptest! {
    #[test] // so that a place can be found long after the text was read
    fn every_document_can_be_read_again(text in "([a-c?:{}\\[\\],&*|>'\"#%!. -]|---\n|\\.\\.\\.\n|\n|\r|\t){0,60}") {
        for document in documents(&text).into_iter().flatten() {
            let again = document_at(&text, document.position).map(|again| show(&again.root));
            prop_assert_eq!(again, Some(show(&document.root)));
        }
    }
}
