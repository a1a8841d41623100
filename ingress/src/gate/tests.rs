use proptest::prelude::*;

use super::*;

/// A head around these request line and fields, all lines ended properly.
fn head(line: &str, fields: &[&str]) -> String {
    [&[line], fields, &["", ""]].concat().join("\r\n")
}

fn get(fields: &[&str]) -> String {
    head("GET / HTTP/1.1", fields)
}

fn read_all(head: &str) -> Result<Head<'_>, GateError> {
    match check(head.as_bytes(), &Limits::default())? {
        Progress::Complete { len, head: read } => {
            assert_eq!(len, head.len());
            Ok(*read)
        }
        Progress::NeedMore => panic!("{head:?} is complete"),
    }
}

#[test]
fn a_request_is_read() {
    let text = head(
        "POST /shop/cart?item=1&x=? HTTP/1.1",
        &["Host: Shop.Example.com:8080", "Content-Length:  12 ", "X-Empty:", "Connection: keep-alive"],
    );
    let head = read_all(&text).unwrap();
    assert_eq!((head.method, head.target), ("POST", "/shop/cart?item=1&x=?"));
    assert_eq!((head.path, head.query), ("/shop/cart", Some("item=1&x=?")));
    let authority = head.authority.unwrap();
    assert_eq!((&*authority.host(), authority.port()), ("shop.example.com", Some(8080)));
    assert_eq!(head.framing, Framing::Length(12));
    assert!(head.keep_alive && !head.expects_continue && !head.is_absolute);
    let names: Vec<_> = head.fields().map(|field| (field.name, field.value)).collect();
    assert_eq!(names[1..3], [("Content-Length", &b"12"[..]), ("X-Empty", &b""[..])]);
}

#[test]
fn an_ambiguous_or_illegal_head_is_refused() {
    let host = "Host: a";
    for (text, error) in [
        ("GET / HTTP/1.1\nHost: a\n\n".to_owned(), GateError::LineEnd),
        ("GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n".to_owned(), GateError::LineEnd),
        ("GET / HTTP/1.1\r\nHost: a\r\n\n".to_owned(), GateError::LineEnd),
        ("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), GateError::RequestLine),
        (head("GET  / HTTP/1.1", &[host]), GateError::RequestLine),
        (head("GET /a b HTTP/1.1", &[host]), GateError::RequestLine),
        (head("GET / HTTP/1.1 ", &[host]), GateError::RequestLine),
        (head("GET /", &[]), GateError::RequestLine),
        (head("GET\t/ HTTP/1.1", &[host]), GateError::RequestLine),
        (head("G(T / HTTP/1.1", &[host]), GateError::Method),
        (head("GET / HTTP/2.0", &[host]), GateError::Version),
        (head("GET / HTTP/1.2", &[host]), GateError::Version),
        (head("GET / http/1.1", &[host]), GateError::Protocol),
        (head("GET / HTTP/1.10", &[host]), GateError::Protocol),
        (head("GET /#x HTTP/1.1", &[host]), GateError::Target),
        (head("GET /\\x HTTP/1.1", &[host]), GateError::Target),
        (head("GET /<x> HTTP/1.1", &[host]), GateError::Target),
        (head("GET /\0 HTTP/1.1", &[host]), GateError::Target),
        (head("GET /é HTTP/1.1", &[host]), GateError::Target),
        (head("GET e/x HTTP/1.1", &[host]), GateError::Target),
        (head("GET host:80/x HTTP/1.1", &[host]), GateError::Target),
        (head("GET ftp://a/ HTTP/1.1", &[host]), GateError::Target),
        (head("GET http://u@a/ HTTP/1.1", &[host]), GateError::Target),
        (head("GET http://a?q HTTP/1.1", &[host]), GateError::Target),
        (head("GET * HTTP/1.1", &[host]), GateError::Target),
        (head("CONNECT a:443 HTTP/1.1", &[host]), GateError::Connect),
        (get(&[]), GateError::HostMissing),
        (get(&[host, host]), GateError::HostTwice),
        (get(&["Host: a, b"]), GateError::Host),
        (get(&["Host:"]), GateError::Host),
        (get(&["Host: evil@a"]), GateError::Host),
        (get(&["Host: a/b"]), GateError::Host),
        (get(&["Host: a:99999"]), GateError::Host),
        (head("GET http://b/ HTTP/1.1", &[host]), GateError::HostMismatch),
        (head("GET http://a:81/ HTTP/1.1", &[host]), GateError::HostMismatch),
        (get(&[host, "X : b"]), GateError::FieldName),
        (get(&[host, ": b"]), GateError::FieldName),
        (get(&[host, "nonsense"]), GateError::FieldName),
        (get(&[host, "X\0: b"]), GateError::FieldName),
        (get(&[host, "X: a\0b"]), GateError::FieldValue),
        (get(&[host, "X: a\x0b"]), GateError::FieldValue),
        (get(&[host, "X: \x0c"]), GateError::FieldValue),
        (get(&[host, "X: a\x7f"]), GateError::FieldValue),
        (get(&[host, "X: a", " folded"]), GateError::Folded),
        (get(&[" Host: a"]), GateError::Folded),
        (get(&[host, "Content-Length: 1", "Content-Length: 1"]), GateError::ContentLengthTwice),
        (get(&[host, "Content-Length: 1, 1"]), GateError::ContentLength),
        (get(&[host, "Content-Length: +1"]), GateError::ContentLength),
        (get(&[host, "Content-Length: 0x1"]), GateError::ContentLength),
        (get(&[host, "Content-Length:"]), GateError::ContentLength),
        (get(&[host, "Content-Length: 18446744073709551616"]), GateError::ContentLength),
        (get(&[host, "Content-Length: 1", "Transfer-Encoding: chunked"]), GateError::TwoFramings),
        (get(&[host, "Transfer-Encoding: chunked", "Transfer-Encoding: chunked"]), GateError::TransferEncoding),
        (get(&[host, "Transfer-Encoding: gzip, chunked"]), GateError::TransferEncoding),
        (get(&[host, "Transfer-Encoding: identity"]), GateError::TransferEncoding),
        (get(&[host, "Transfer-Encoding: \x0bchunked"]), GateError::FieldValue),
        (head("POST / HTTP/1.0", &[host, "Transfer-Encoding: chunked"]), GateError::TwoFramings),
        (get(&[host, "Expect: 200-ok"]), GateError::Expect),
        (get(&[host, "Connection: close, X-Forwarded-For"]), GateError::Connection),
        (get(&[host, "Connection: Cookie"]), GateError::Connection),
        (get(&[host, "Connection: a b"]), GateError::Connection),
    ] {
        assert_eq!(read_all(&text).map(|head| head.method.to_owned()), Err(error), "{text:?}");
    }
}

#[test]
fn what_is_too_long_is_refused_before_it_ends() {
    let limits = Limits { target: 100, head: 1000, fields: 3 };
    let fields = |count| get(&vec!["X: y"; count]);
    for (text, error, status) in [
        (format!("GET /{}", "a".repeat(200)), GateError::TargetLong, 414),
        (format!("GET / HTTP/1.1\r\nX: {}", "a".repeat(1000)), GateError::HeadLong, 431),
        (fields(4), GateError::TooManyFields, 431),
        (head(&format!("GET /{} HTTP/1.1", "a".repeat(100)), &["Host: a"]), GateError::TargetLong, 414),
    ] {
        let refused = check(text.as_bytes(), &limits).unwrap_err();
        assert_eq!((refused, refused.status()), (error, status), "{text}");
    }
    assert!(check(get(&["Host: a", "X: y", "Y: z"]).as_bytes(), &limits).is_ok());
}

#[test]
fn an_absolute_target_says_who_is_asked() {
    let text = head("GET http://Example.com/x?y HTTP/1.1", &["Host: example.com:80"]);
    let head = read_all(&text).unwrap();
    assert_eq!((head.target, head.path, head.query), ("/x?y", "/x", Some("y")));
    assert!(head.is_absolute);
    assert_eq!(head.authority.unwrap().host(), "example.com");
}

#[test]
fn an_old_client_needs_no_host_and_closes() {
    let text = head("GET / HTTP/1.0", &[]);
    let head = read_all(&text).unwrap();
    assert!(head.authority.is_none() && !head.keep_alive);
}

#[test]
fn only_a_websocket_handshake_is_an_upgrade() {
    let (host, socket, asks) = ("Host: a", "Upgrade: websocket", "Connection: keep-alive, Upgrade");
    for (line, fields, expected) in [
        ("GET / HTTP/1.1", vec![host, socket, asks], Upgrade::WebSocket),
        ("GET / HTTP/1.1", vec![host], Upgrade::None),
        ("GET / HTTP/1.1", vec![host, socket], Upgrade::Strip),
        ("POST / HTTP/1.1", vec![host, socket, asks], Upgrade::Strip),
        ("GET / HTTP/1.0", vec![host, socket, asks], Upgrade::Strip),
        ("GET / HTTP/1.1", vec![host, "Upgrade: h2c", asks, "HTTP2-Settings: x"], Upgrade::Strip),
        ("GET / HTTP/1.1", vec![host, "Upgrade: websocket, h2c", asks], Upgrade::Strip),
        ("GET / HTTP/1.1", vec![host, socket, "Upgrade: websocket", asks], Upgrade::Strip),
        ("GET / HTTP/1.1", vec![host, socket, asks, "Content-Length: 3"], Upgrade::Strip),
    ] {
        assert_eq!(read_all(&head(line, &fields)).unwrap().upgrade, expected, "{line} {fields:?}");
    }
}

#[test]
fn one_framing_is_computed() {
    for (field, expected) in [
        ("X: y", Framing::None),
        ("Content-Length: 0", Framing::Length(0)),
        ("Content-Length: 18446744073709551615", Framing::Length(u64::MAX)),
        ("Transfer-Encoding: Chunked", Framing::Chunked),
    ] {
        assert_eq!(read_all(&get(&["Host: a", field])).unwrap().framing, expected, "{field}");
    }
}

/// Heads that are nearly right, so that every rule is reached.
fn nearly() -> impl Strategy<Value = Vec<u8>> {
    let line = prop_oneof![
        Just("GET / HTTP/1.1"),
        Just("GET http://a/ HTTP/1.1"),
        Just("OPTIONS * HTTP/1.0"),
        Just("GET /\t")
    ];
    let field = prop_oneof![
        Just("Host: a"),
        Just("Host: b"),
        Just("Content-Length: 5"),
        Just("Transfer-Encoding: chunked"),
        Just("X: y"),
        Just(" z"),
        Just("Connection: close"),
        Just("Upgrade: h2c"),
        Just(":"),
    ];
    let end = prop_oneof![6 => Just("\r\n"), 1 => Just("\n"), 1 => Just("\r")];
    let lines = proptest::collection::vec((field, end), 0..5);
    (line, lines, any::<Vec<u8>>()).prop_map(|(line, lines, rest)| {
        let mut text = format!("{line}\r\n");
        text.extend(lines.iter().flat_map(|(field, end)| [*field, *end]));
        [text.as_bytes(), b"\r\n", &rest].concat()
    })
}

proptest! {
    #[test]
    fn how_a_head_is_cut_into_reads_makes_no_difference(bytes in nearly(), cuts in proptest::collection::vec(0_usize..200, 0..4)) {
        let limits = Limits { target: 64, head: 128, fields: 4 };
        let whole = Scanner::default().scan(&bytes, &limits);
        let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(bytes.len())).chain([bytes.len()]).collect();
        cuts.sort_unstable();
        let mut scanner = Scanner::default();
        let pieces = cuts.iter().map(|cut| scanner.scan(&bytes[..*cut], &limits)).find(|answer| *answer != Ok(None));
        prop_assert_eq!(pieces.unwrap_or(Ok(None)), whole);
    }

    #[test]
    fn what_follows_a_head_does_not_change_it(bytes in nearly()) {
        let limits = Limits::default();
        if let Ok(Progress::Complete { len, head }) = check(&bytes, &limits) {
            let alone = read(&bytes[..len], &limits).unwrap();
            prop_assert_eq!(format!("{head:?}"), format!("{alone:?}"));
            prop_assert!(head.authority.is_some() || head.version == Version::Http10);
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes: Vec<u8>) {
        let _ = check(&bytes, &Limits::default());
        let _ = read(&bytes, &Limits::default());
    }
}
