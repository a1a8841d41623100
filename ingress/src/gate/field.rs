//! Header fields: their grammar (RFC 9112 §5), and what those that steer the connection say.

use super::authority::Authority;
use super::{Framing, GateError, Upgrade, Version};

/// One header field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// Its name as written, a token.
    pub name: &'a str,
    /// Its value without surrounding space; may hold bytes above 0x7F.
    pub value: &'a [u8],
}

impl<'a> Field<'a> {
    /// Whether it has this name, whatever the case.
    #[must_use]
    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }

    /// Reads one line without its CR LF.
    fn parse(line: &'a [u8]) -> Result<Self, GateError> {
        if matches!(line.first(), Some(b' ' | b'\t')) {
            return Err(GateError::Folded);
        }
        let colon = line.iter().position(|byte| *byte == b':').ok_or(GateError::FieldName)?;
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        // `trim_ascii` takes form feeds away too, so the whole of it is checked, not what is left.
        if !line[colon + 1..].iter().all(|byte| is_value_byte(*byte)) {
            return Err(GateError::FieldValue);
        }
        let name = is_token(name).then(|| str::from_utf8(name).ok()).flatten().ok_or(GateError::FieldName)?;
        Ok(Self { name, value })
    }
}

/// The header fields of a head, in order.
#[derive(Clone, Debug)]
pub struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// Checks the lines between the request line and the end of the head, each with its CR LF.
    pub(super) fn new(lines: &'a [u8]) -> Result<Self, GateError> {
        let mut rest = lines;
        while let Some((line, tail)) = split_line(rest) {
            if line.is_empty() {
                return if tail.is_empty() { Ok(Self(lines)) } else { Err(GateError::LineEnd) };
            }
            Field::parse(line)?;
            rest = tail;
        }
        Err(GateError::LineEnd)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        let (line, rest) = split_line(self.0)?;
        self.0 = rest;
        Field::parse(line).ok()
    }
}

fn split_line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = bytes.iter().position(|byte| *byte == b'\r')?;
    (bytes.get(at + 1) == Some(&b'\n')).then(|| (&bytes[..at], &bytes[at + 2..]))
}

/// What the steering fields of a head say.
pub(super) struct Seen<'a> {
    pub(super) host: Option<Authority<'a>>,
    pub(super) framing: Framing,
    pub(super) expects_continue: bool,
    pub(super) keep_alive: bool,
    /// The protocol; empty if it is more than one, or comes with settings of another.
    upgrade: Option<&'a [u8]>,
    connection_upgrade: bool,
}

impl Seen<'_> {
    /// What the client wants to switch to; only a WebSocket handshake as RFC 6455 §4.1 writes it is one.
    pub(super) fn upgrade(&self, method: &str, version: Version) -> Upgrade {
        let Some(protocol) = self.upgrade else {
            return if self.connection_upgrade { Upgrade::Strip } else { Upgrade::None };
        };
        let is_handshake = protocol.eq_ignore_ascii_case(b"websocket")
            && self.connection_upgrade
            && method == "GET"
            && version == Version::Http11
            && matches!(self.framing, Framing::None | Framing::Length(0));
        if is_handshake { Upgrade::WebSocket } else { Upgrade::Strip }
    }
}

/// Reads the steering fields; each may say one thing only.
pub(super) fn examine(fields: Fields<'_>, version: Version) -> Result<Seen<'_>, GateError> {
    let mut seen = Seen {
        host: None,
        framing: Framing::None,
        expects_continue: false,
        keep_alive: version == Version::Http11,
        upgrade: None,
        connection_upgrade: false,
    };
    let mut encoding = false;
    for field in fields {
        // By length first: most fields are none of these, and a comparison of lengths is all they cost.
        match field.name.len() {
            4 if field.is("host") => set_host(&mut seen, field.value)?,
            6 if field.is("expect") => {
                if !field.value.eq_ignore_ascii_case(b"100-continue") {
                    return Err(GateError::Expect);
                }
                seen.expects_continue = version == Version::Http11;
            }
            7 if field.is("upgrade") => {
                // A second one makes a list, which is no handshake.
                seen.upgrade = Some(if seen.upgrade.is_some() { b"" } else { field.value });
            }
            10 if field.is("connection") => read_connection(&mut seen, field.value)?,
            14 if field.is("content-length") => set_length(&mut seen, field.value)?,
            14 if field.is("http2-settings") => seen.upgrade = Some(b""),
            17 if field.is("transfer-encoding") => {
                if encoding || version == Version::Http10 || !field.value.eq_ignore_ascii_case(b"chunked") {
                    // In 1.0 there is none at all (RFC 9112 §6.1).
                    return Err(if version == Version::Http10 {
                        GateError::TwoFramings
                    } else {
                        GateError::TransferEncoding
                    });
                }
                encoding = true;
            }
            _ => {}
        }
    }
    match (encoding, seen.framing) {
        (true, Framing::None) => Ok(Seen { framing: Framing::Chunked, ..seen }),
        (true, _) => Err(GateError::TwoFramings),
        (false, _) => Ok(seen),
    }
}

fn set_host<'a>(seen: &mut Seen<'a>, value: &'a [u8]) -> Result<(), GateError> {
    if seen.host.is_some() {
        return Err(GateError::HostTwice);
    }
    seen.host = Some(str::from_utf8(value).ok().and_then(Authority::parse).ok_or(GateError::Host)?);
    Ok(())
}

fn set_length(seen: &mut Seen<'_>, value: &[u8]) -> Result<(), GateError> {
    if seen.framing != Framing::None {
        return Err(GateError::ContentLengthTwice);
    }
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    let text = digits.then(|| str::from_utf8(value).ok()).flatten().ok_or(GateError::ContentLength)?;
    seen.framing = Framing::Length(text.parse().map_err(|_| GateError::ContentLength)?);
    Ok(())
}

fn read_connection(seen: &mut Seen<'_>, value: &[u8]) -> Result<(), GateError> {
    for option in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
        // Empty elements are to be ignored (RFC 9110 §5.6.1.2).
        if option.is_empty() {
            continue;
        }
        if !is_token(option) || is_protected_field(option) {
            return Err(GateError::Connection);
        }
        if option.eq_ignore_ascii_case(b"close") {
            seen.keep_alive = false;
        } else if option.eq_ignore_ascii_case(b"upgrade") {
            seen.connection_upgrade = true;
        }
    }
    Ok(())
}

/// Fields that a `Connection` field may not have removed: those that route, frame or authenticate, and those that we
/// write ourselves (CVE-2024-45410: `Connection: X-Forwarded-For` deleted what the proxy had just set).
#[must_use]
pub fn is_protected_field(name: &[u8]) -> bool {
    const NAMES: [&str; 20] = [
        "authorization",
        "cache-control",
        "content-encoding",
        "content-length",
        "content-type",
        "cookie",
        "date",
        "expect",
        "forwarded",
        "host",
        "max-forwards",
        "origin",
        "proxy-authorization",
        "range",
        "referer",
        "transfer-encoding",
        "user-agent",
        "via",
        "x-real-ip",
        "x-request-id",
    ];
    const FAMILIES: [&str; 5] = ["x-forwarded-", "x-original-", "x-auth-", "sec-", "x-scheme"];
    let begins =
        |family: &&str| name.get(..family.len()).is_some_and(|start| start.eq_ignore_ascii_case(family.as_bytes()));
    NAMES.iter().any(|one| name.eq_ignore_ascii_case(one.as_bytes())) || FAMILIES.iter().any(begins)
}

/// RFC 9110 §5.6.2.
pub(super) fn is_token(bytes: &[u8]) -> bool {
    let is_tchar = |byte: &u8| {
        byte.is_ascii_alphanumeric()
            || matches!(
                byte,
                b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
            )
    };
    !bytes.is_empty() && bytes.iter().all(is_tchar)
}

/// RFC 9110 §5.5: visible characters, SP, HTAB and obs-text.
const fn is_value_byte(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7F)
}
