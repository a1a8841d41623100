//! One text into one piece per document, so that a syntax error costs only its own document.
//!
//! A line that begins with `---` is a document marker wherever it stands, inside block scalars too (YAML 1.2.2
//! §9.1.2), so cutting there needs no parser. Directives (`%YAML`) belong to the document after them.

use std::borrow::Cow;

use serde::de::IgnoredAny;

use super::Position;

const BYTE_ORDER_MARK: &str = "\u{feff}";

/// The text as the YAML grammar wants it, every character at its old place.
///
/// JSON may be indented with tabs, YAML may not; inside a JSON string a tab must be escaped, so that any tab left in
/// valid JSON is indentation.
pub(super) fn prepare(text: &str) -> Cow<'_, str> {
    let tabbed_json = text.trim_start_matches(BYTE_ORDER_MARK).trim_start().starts_with(['{', '['])
        && text.contains('\t')
        && serde_json::from_str::<IgnoredAny>(text.trim_start_matches(BYTE_ORDER_MARK)).is_ok();
    if tabbed_json { Cow::Owned(text.replace('\t', " ")) } else { Cow::Borrowed(text) }
}

/// The pieces of a prepared text, each holding at most one document unless `...` divides it further.
pub(super) fn pieces(text: &str) -> Vec<Position> {
    let start = if text.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 };
    let mut pieces = Vec::new();
    let mut piece = Position { start, end: start, lines: 0, number: 0 };
    // Where the next document begins if directives stand before its marker.
    let mut prologue = Some((start, 0));
    let mut directives = false;
    for (number, line) in (0..).zip(lines(text, start)) {
        let content = &text[line.0..line.1];
        if is_marker(content, "---") {
            let (start, lines) = prologue.filter(|_| directives).unwrap_or((line.0, number));
            if start > piece.start {
                pieces.push(Position { end: start, ..piece });
            }
            piece = Position { start, end: start, lines, number: 0 };
            (prologue, directives) = (None, false);
        } else if is_marker(content, "...") {
            (prologue, directives) = (Some((line.2, number + 1)), false);
        } else if content.starts_with('%') {
            directives = prologue.is_some();
        } else if !(content.trim_start().is_empty() || content.starts_with('#')) {
            (prologue, directives) = (None, false);
        }
    }
    pieces.push(Position { end: text.len(), ..piece });
    pieces
}

fn is_marker(line: &str, marker: &str) -> bool {
    line.strip_prefix(marker).is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t']))
}

/// The lines from byte `start` on: their first byte, the end of their content, and the first byte after their break,
/// which is `\n`, `\r\n` or a lone `\r` (YAML 1.2.2 §5.4).
pub(super) fn lines(text: &str, start: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    let mut next = start;
    std::iter::from_fn(move || {
        let first = next;
        let rest = text.get(first..).filter(|rest| !rest.is_empty())?;
        let content = rest.find(['\n', '\r']).unwrap_or(rest.len());
        let ending = match &rest.as_bytes()[content..] {
            [b'\r', b'\n', ..] => 2,
            [] => 0,
            _ => 1,
        };
        next = first + content + ending;
        Some((first, first + content, next))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(text: &str) -> Vec<(&str, u32)> {
        pieces(text).into_iter().map(|piece| (&text[piece.start..piece.end], piece.lines)).collect()
    }

    #[test]
    fn a_text_is_cut_at_document_markers_only() {
        for (text, expected) in [
            ("", vec![("", 0)]),
            ("a: 1\n", vec![("a: 1\n", 0)]),
            ("---\na\n---\nb\n", vec![("---\na\n", 0), ("---\nb\n", 2)]),
            ("a\r\n--- b\r\n", vec![("a\r\n", 0), ("--- b\r\n", 1)]),
            ("a\n ---\n---x\n", vec![("a\n ---\n---x\n", 0)]),
            ("%YAML 1.1\n# so\n---\na\n", vec![("%YAML 1.1\n# so\n---\na\n", 0)]),
            ("a\n...\n%YAML 1.1\n---\nb\n", vec![("a\n...\n", 0), ("%YAML 1.1\n---\nb\n", 2)]),
            ("\u{feff}---\na\n", vec![("---\na\n", 0)]),
        ] {
            assert_eq!(cut(text), expected, "{text:?}");
        }
    }

    #[test]
    fn only_tabs_of_valid_json_become_blanks() {
        assert_eq!(prepare("{\n\t\"a\": \"\\t\"\n}"), "{\n \"a\": \"\\t\"\n}");
        assert_eq!(prepare("a:\n\tb: 1\n"), "a:\n\tb: 1\n");
    }
}
