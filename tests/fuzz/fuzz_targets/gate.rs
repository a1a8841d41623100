//! Request heads and chunked bodies: one reading or none, however the bytes are cut into reads.
#![no_main]

use ingress::gate::chunked::Checker;
use ingress::gate::{Framing, GateError, Head, Limits, Progress, Scanner, check};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u8, &[u8])| {
    let (step, bytes) = (usize::from(input.0) + 1, input.1);
    let limits = Limits { target: 256, head: 1024, fields: 16 };
    let whole = check(bytes, &limits);
    cuts_play_no_part(bytes, step, &limits, &whole);
    match whole {
        Ok(Progress::Complete { len, head }) => {
            assert!(len <= limits.head && bytes[..len].ends_with(b"\r\n\r\n"), "{head:?}");
            has_one_meaning(&head);
            reads_back_as_it_was(&head, &limits);
            if head.framing == Framing::Chunked {
                chunks_end_where_they_say(&bytes[len..], step);
            }
        }
        Ok(Progress::NeedMore) => chunks_end_where_they_say(bytes, step),
        Err(error) => assert!((400..=505).contains(&error.status()), "{error}"),
    }
});

fn cuts_play_no_part(bytes: &[u8], step: usize, limits: &Limits, whole: &Result<Progress<'_>, GateError>) {
    let mut scanner = Scanner::default();
    let ends = (0..bytes.len()).step_by(step).chain([bytes.len()]);
    let found = ends.map(|end| scanner.scan(&bytes[..end], limits)).find(|found| !matches!(found, Ok(None)));
    match (whole, found) {
        (Ok(Progress::NeedMore), None) => {}
        (Ok(Progress::Complete { len, .. }), Some(Ok(Some(cut)))) => assert_eq!(*len, cut),
        (Err(error), Some(Err(cut))) => assert_eq!(*error, cut),
        // Complete, and refused only when it is read.
        (Err(_), Some(Ok(Some(_)))) => {}
        (whole, found) => panic!("{whole:?} as a whole, {found:?} in pieces of {step}"),
    }
}

fn has_one_meaning(head: &Head<'_>) {
    let count = |name| head.fields().filter(|field| field.is(name)).count();
    let (hosts, lengths, codings) = (count("host"), count("content-length"), count("transfer-encoding"));
    assert!(hosts <= 1 && lengths <= 1 && codings <= 1 && lengths + codings <= 1, "{head:?}");
    match head.framing {
        Framing::None => assert_eq!(lengths + codings, 0, "{head:?}"),
        Framing::Length(_) => assert_eq!((lengths, codings), (1, 0), "{head:?}"),
        Framing::Chunked => assert_eq!((lengths, codings), (0, 1), "{head:?}"),
    }
    assert!(head.target == "*" || head.target.starts_with('/'), "{head:?}");
    assert!(head.target.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#'), "{head:?}");
    for field in head.fields() {
        assert!(field.value.iter().all(|byte| !matches!(byte, b'\r' | b'\n' | 0)), "{field:?}");
    }
}

fn reads_back_as_it_was(head: &Head<'_>, limits: &Limits) {
    let mut text = format!("{} {} HTTP/1.1\r\n", head.method, head.target).into_bytes();
    let authority = head.authority.map_or("none.example", |authority| authority.as_str());
    text.extend(format!("Host: {authority}\r\n").bytes());
    for field in head.fields().filter(|field| !field.is("host")) {
        text.extend(field.name.bytes().chain(*b":"));
        text.extend(field.value.iter().chain(b"\r\n"));
    }
    text.extend(b"\r\n");
    // A Host of ours and a longer version may not fit any more.
    let limits = Limits { target: limits.target, head: limits.head + 300, fields: limits.fields + 1 };
    match check(&text, &limits) {
        Ok(Progress::Complete { len, head: again }) => {
            assert_eq!(len, text.len());
            assert_eq!((again.method, again.target, again.framing), (head.method, head.target, head.framing));
        }
        other => panic!("{head:?} written out is {other:?}"),
    }
}

/// The checker agrees with the plainest decoder there is.
fn chunks_end_where_they_say(body: &[u8], step: usize) {
    let mut checker = Checker::default();
    let (mut taken, mut failed) = (0, false);
    for piece in body.chunks(step) {
        match checker.take(piece) {
            Ok(count) => taken += count,
            Err(_) => failed = true,
        }
        if failed || checker.is_complete() {
            break;
        }
    }
    if !failed && checker.is_complete() {
        assert_eq!(plain_end(body), Some((taken, checker.content_len())), "{}", body.escape_ascii());
    }
}

/// Where a chunked body ends and how much content it has, by the grammar of RFC 9112 §7.1 read naively.
fn plain_end(body: &[u8]) -> Option<(usize, u64)> {
    let line = |at: usize| {
        let end = body[at..].windows(2).position(|pair| pair == b"\r\n")?;
        Some((&body[at..at + end], at + end + 2))
    };
    let (mut at, mut content) = (0, 0);
    loop {
        let (size, next) = line(at)?;
        let digits = size.split(|byte| *byte == b';').next()?;
        let size = usize::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        at = next;
        if size == 0 {
            break;
        }
        content += size as u64;
        at = at.checked_add(size)?;
        at = body.get(at..at + 2).filter(|end| *end == b"\r\n").map(|_| at + 2)?;
    }
    loop {
        let (trailer, next) = line(at)?;
        at = next;
        if trailer.is_empty() {
            return Some((at, content));
        }
    }
}
