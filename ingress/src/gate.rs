//! The strict reading of an HTTP/1.1 request head, before anything else sees it.
//!
//! ```text
//! bytes so far ──scan──> NeedMore | the head's length ──read──> Head | GateError (status, close)
//! ```
//!
//! Two readers that understand one message differently are what smuggling lives on. So a head has one reading here or
//! none: nothing is repaired, nothing guessed; whatever is ambiguous is refused and the connection closed. How the
//! body is framed is decided once ([`Framing`]), who is asked is decided once ([`Authority`]).
//!
//! Refused among others: line ends other than CR LF, folded lines, space before a colon, two `Host` or
//! `Content-Length` fields, lists in them, `Transfer-Encoding` other than `chunked` or beside `Content-Length`, a
//! `Connection` field that names what is not its to name.
//!
//! Total over all input: fuzzable, no allocation on the way to a [`Head`], work linear in the bytes.
//! Bodies in chunks: [`chunked`]. Sources: RFC 9112, RFC 9110, RFC 3986; hardening.md §3 and §4.

pub mod authority;
pub mod chunked;
mod field;
mod line;

use authority::Authority;

pub use field::{Field, Fields, is_protected_field};

/// How much a request head may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the request target.
    pub target: usize,
    /// Bytes of the whole head.
    pub head: usize,
    /// Header fields.
    pub fields: usize,
}

impl Default for Limits {
    /// 8 KiB of target, 64 KiB of head, 100 fields.
    fn default() -> Self {
        Self { target: 8 << 10, head: 64 << 10, fields: 100 }
    }
}

/// Why a request head was refused. All are the client's fault; the connection is closed after the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's message says what it is")]
pub enum GateError {
    #[error("a line ends in something other than CR LF")]
    LineEnd,
    #[error("the request line is not `method SP target SP version`")]
    RequestLine,
    #[error("the method is not a token")]
    Method,
    #[error("the protocol version is not HTTP")]
    Protocol,
    #[error("the HTTP version is neither 1.1 nor 1.0")]
    Version,
    #[error("the request target has no valid form")]
    Target,
    #[error("CONNECT is not served")]
    Connect,
    #[error("the request target is too long")]
    TargetLong,
    #[error("the request head is too long")]
    HeadLong,
    #[error("the request head has too many fields")]
    TooManyFields,
    #[error("a header field name is not a token")]
    FieldName,
    #[error("a header line is folded")]
    Folded,
    #[error("a header field value holds a control character")]
    FieldValue,
    #[error("there is no Host")]
    HostMissing,
    #[error("there is more than one Host")]
    HostTwice,
    #[error("the Host is not a valid host and port")]
    Host,
    #[error("the Host and the request target disagree")]
    HostMismatch,
    #[error("the Content-Length is not one number")]
    ContentLength,
    #[error("there is more than one Content-Length")]
    ContentLengthTwice,
    #[error("the Transfer-Encoding is not exactly `chunked`")]
    TransferEncoding,
    #[error("there are both Content-Length and Transfer-Encoding")]
    TwoFramings,
    #[error("the Expect is not exactly `100-continue`")]
    Expect,
    #[error("the Connection field is not a list of tokens, or names a field that is not its to name")]
    Connection,
}

impl GateError {
    /// The status that tells the client.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::TargetLong => 414,
            Self::HeadLong | Self::TooManyFields => 431,
            Self::Version => 505,
            Self::Connect => 405,
            Self::Expect => 417,
            _ => 400,
        }
    }
}

/// How the body of the request is delimited (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is no body.
    None,
    /// This many bytes follow; 0 if a `Content-Length: 0` says so.
    Length(u64),
    /// Chunks follow.
    Chunked,
}

/// The minor version of HTTP/1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    Http11,
}

/// What the client wants to switch to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upgrade {
    /// Nothing.
    None,
    /// WebSocket, in a form that may be forwarded (GET, HTTP/1.1, no body, named by `Connection`).
    WebSocket,
    /// Something that is not forwarded, such as `h2c`: the fields `Upgrade` and `HTTP2-Settings` are to be stripped.
    Strip,
}

/// One request head, read in the only way it can be.
#[derive(Clone, Debug)]
pub struct Head<'a> {
    /// The method, a token.
    pub method: &'a str,
    /// Path and query, beginning with `/`; `*` for `OPTIONS *`.
    pub target: &'a str,
    /// The target up to the `?`.
    pub path: &'a str,
    /// What follows the `?`, if there is one.
    pub query: Option<&'a str>,
    /// Whether the target came in absolute form, so that its authority replaced the `Host` field.
    pub is_absolute: bool,
    /// Who is asked; `None` only for HTTP/1.0 without `Host`.
    pub authority: Option<Authority<'a>>,
    /// The version.
    pub version: Version,
    /// How the body is delimited.
    pub framing: Framing,
    /// Whether the client waits for `100 Continue` before it sends the body.
    pub expects_continue: bool,
    /// Whether the connection may carry another request.
    pub keep_alive: bool,
    /// What the client wants to switch to.
    pub upgrade: Upgrade,
    fields: Fields<'a>,
}

impl<'a> Head<'a> {
    /// The header fields in the order they came.
    #[must_use]
    pub fn fields(&self) -> Fields<'a> {
        self.fields.clone()
    }
}

/// What bytes amount to so far.
#[derive(Debug)]
pub enum Progress<'a> {
    /// The head is not complete, and nothing in it is wrong yet.
    NeedMore,
    /// The head takes the first `len` bytes; the body follows.
    Complete {
        /// Length of the head with its empty line.
        len: usize,
        /// The head.
        head: Box<Head<'a>>,
    },
}

/// Reads a request head from the beginning of `bytes`.
///
/// What the answer is does not depend on how the bytes were cut into reads. The cost of calling this for every read of
/// a head that trickles in is bounded by `limits`; [`Scanner`] avoids even that.
pub fn check<'a>(bytes: &'a [u8], limits: &Limits) -> Result<Progress<'a>, GateError> {
    match Scanner::default().scan(bytes, limits)? {
        None => Ok(Progress::NeedMore),
        Some(len) => Ok(Progress::Complete { len, head: Box::new(read(&bytes[..len], limits)?) }),
    }
}

/// Finds the end of a head over several reads without looking at a byte twice.
///
/// Line ends and lengths are judged as they pass, so that a hopeless head is refused before it is complete.
#[derive(Clone, Debug, Default)]
pub struct Scanner {
    seen: usize,
    line_start: usize,
    lines: usize,
}

impl Scanner {
    /// The length of the head that `bytes` begins with, once it is complete; `bytes` holds all bytes so far.
    pub fn scan(&mut self, bytes: &[u8], limits: &Limits) -> Result<Option<usize>, GateError> {
        while let Some(&byte) = bytes.get(self.seen) {
            let at = self.seen;
            self.seen += 1;
            let after_cr = at > self.line_start && bytes[at - 1] == b'\r';
            match byte {
                b'\n' if !after_cr => return Err(GateError::LineEnd),
                b'\n' => {
                    let is_empty = at - self.line_start == 1;
                    self.end_line(is_empty, limits)?;
                    if is_empty {
                        return Ok(Some(self.seen));
                    }
                }
                _ if after_cr => return Err(GateError::LineEnd),
                _ => self.judge_length(limits)?,
            }
        }
        Ok(None)
    }

    fn end_line(&mut self, is_empty: bool, limits: &Limits) -> Result<(), GateError> {
        // Whoever reads the connection skips the empty line that may come before a request (RFC 9112 §2.2).
        if is_empty && self.lines == 0 {
            return Err(GateError::RequestLine);
        }
        self.lines += 1;
        self.line_start = self.seen;
        self.judge_length(limits)?;
        // The request line is a line, and so is the empty one.
        if self.lines > limits.fields + 1 + usize::from(is_empty) { Err(GateError::TooManyFields) } else { Ok(()) }
    }

    fn judge_length(&self, limits: &Limits) -> Result<(), GateError> {
        // The longest method anybody uses, two spaces and the version.
        const REST_OF_LINE: usize = 64;
        if self.lines == 0 && self.seen > limits.target.saturating_add(REST_OF_LINE) {
            return Err(GateError::TargetLong);
        }
        if self.seen > limits.head { Err(GateError::HeadLong) } else { Ok(()) }
    }
}

/// Reads a complete head, as long as [`Scanner::scan`] says.
pub fn read<'a>(head: &'a [u8], limits: &Limits) -> Result<Head<'a>, GateError> {
    let end = head.windows(2).position(|pair| pair == b"\r\n").ok_or(GateError::LineEnd)?;
    let line = line::read(&head[..end], limits)?;
    let fields = Fields::new(&head[end + 2..])?;
    let seen = field::examine(fields.clone(), line.version)?;
    let authority = match (line.authority, seen.host) {
        // The target's authority counts and the Host is ignored (RFC 9112 §3.2.2); a Host that names somebody else is
        // somebody's attempt at being read twice.
        (Some(target), Some(host)) if !target.is_same(&host, line.is_https) => return Err(GateError::HostMismatch),
        (Some(target), Some(_)) => Some(target),
        (_, None) if line.version == Version::Http11 => return Err(GateError::HostMissing),
        (target, host) => target.or(host),
    };
    let (path, query) = line.target.split_once('?').map_or((line.target, None), |(path, query)| (path, Some(query)));
    Ok(Head {
        method: line.method,
        target: line.target,
        path,
        query,
        is_absolute: line.authority.is_some(),
        authority,
        version: line.version,
        framing: seen.framing,
        expects_continue: seen.expects_continue,
        keep_alive: seen.keep_alive,
        upgrade: seen.upgrade(line.method, line.version),
        fields,
    })
}

#[cfg(test)]
mod tests;
