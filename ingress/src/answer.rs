//! What a client is told when no endpoint answers it: whose fault it is, which status says so, and a short page.
//!
//! The page names the status, one sentence and the request's id, and nothing of what we are or of what stands behind
//! us. Who asks for HTML gets HTML, everybody else plain text.
//!
//! Pure.

use crate::gate::GateError;
use crate::path::PathError;

/// Whose fault an answer of ours is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Culprit {
    /// Of the client: 4xx.
    Client,
    /// Of the backend, or of what we were told about it: 502, 503, 504 (and 404, 421: nobody routes there).
    Backend,
    /// Ours: 500.
    Ours,
}

/// Why we answer ourselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Fault {
    /// The request head was refused.
    #[error("{0}")]
    Head(#[from] GateError),
    /// The path was refused.
    #[error("{0}")]
    Path(#[from] PathError),
    /// A request that makes no sense in another way, a malformed body for one.
    #[error("the request is malformed")]
    BadRequest,
    /// The client took too long to send it.
    #[error("the request did not arrive in time")]
    RequestTimeout,
    /// The body is larger than allowed.
    #[error("the request body is too large")]
    BodyTooLarge,
    /// The TLS connection was made for another host (RFC 9110 §15.5.20).
    #[error("this connection is not for that host")]
    Misdirected,
    /// The client has to show a certificate.
    #[error("a client certificate is needed")]
    CertificateMissing,
    /// The one it showed is not good.
    #[error("the client certificate is not accepted")]
    CertificateWrong,
    /// The client's address may not come here.
    #[error("you may not come here")]
    Forbidden,
    /// Nobody came with a name and a password, or they are wrong.
    #[error("a name and a password are needed")]
    Unauthorized,
    /// The client asks for more than it may.
    #[error("you ask too often")]
    TooMany,
    /// As [`Self::TooMany`] or [`Self::Overloaded`], with a status of the operator's.
    #[error("you ask too often")]
    Limited(u16),
    /// No rule for this host and path.
    #[error("nothing is served here")]
    NoRoute,
    /// The rule has no endpoint that could be asked.
    #[error("the service is not available right now")]
    NoEndpoint,
    /// Something that guards the rule is not right, so nobody may pass.
    #[error("the service is not available right now")]
    Denied,
    /// No endpoint accepts a connection.
    #[error("the service cannot be reached")]
    ConnectFailed,
    /// The endpoint's answer broke off or was not HTTP.
    #[error("the service did not answer properly")]
    BadAnswer,
    /// The endpoint did not answer in time.
    #[error("the service did not answer in time")]
    BackendTimeout,
    /// We do not take more right now.
    #[error("there are too many requests at once")]
    Overloaded,
    /// The service that decides who may come does not say.
    #[error("nobody can say whether you may come here")]
    AuthFailed,
    /// A bug of ours.
    #[error("something went wrong here")]
    Internal,
}

impl Fault {
    /// The status that says so.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::Head(error) => error.status(),
            Self::Path(_) | Self::BadRequest | Self::CertificateMissing | Self::CertificateWrong => 400,
            Self::RequestTimeout => 408,
            Self::BodyTooLarge => 413,
            Self::Unauthorized => 401,
            Self::Forbidden => 403,
            Self::TooMany => 429,
            Self::Limited(status) => status,
            Self::Misdirected => 421,
            Self::NoRoute => 404,
            Self::NoEndpoint | Self::Denied | Self::Overloaded => 503,
            Self::ConnectFailed | Self::BadAnswer => 502,
            Self::BackendTimeout => 504,
            Self::Internal | Self::AuthFailed => 500,
        }
    }

    /// Whose fault it is.
    #[must_use]
    pub const fn culprit(self) -> Culprit {
        match self {
            Self::Head(_)
            | Self::Path(_)
            | Self::BadRequest
            | Self::CertificateMissing
            | Self::CertificateWrong
            | Self::RequestTimeout
            | Self::BodyTooLarge
            | Self::Unauthorized
            | Self::TooMany
            | Self::Limited(_)
            | Self::Forbidden
            | Self::Misdirected
            | Self::NoRoute => Culprit::Client,
            Self::NoEndpoint
            | Self::Denied
            | Self::ConnectFailed
            | Self::BadAnswer
            | Self::BackendTimeout
            | Self::AuthFailed => Culprit::Backend,
            Self::Overloaded | Self::Internal => Culprit::Ours,
        }
    }

    /// Whether the connection must be closed after the answer, since nobody knows where the next request begins.
    #[must_use]
    pub const fn closes(self) -> bool {
        matches!(self, Self::Head(_) | Self::BadRequest | Self::RequestTimeout | Self::BodyTooLarge | Self::Internal)
    }

    /// The page for the client; `accept` is its `Accept` field, `request_id` the id that our log knows.
    #[must_use]
    pub fn page(self, accept: Option<&[u8]>, request_id: &str) -> Page {
        let (status, reason) = (self.status(), reason(self.status()));
        if accept.is_some_and(wants_html) {
            let id = escape(request_id);
            let body = format!(
                "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>{status} {reason}</title>\n\
                 <h1>{status} {reason}</h1>\n<p>{self}</p>\n<p><small>request {id}</small></p>\n</html>\n"
            );
            return Page { content_type: "text/html; charset=utf-8", body };
        }
        Page {
            content_type: "text/plain; charset=utf-8",
            body: format!("{status} {reason}\n{self}\nrequest {request_id}\n"),
        }
    }
}

/// A body, and what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// For `Content-Type`.
    pub content_type: &'static str,
    /// The text.
    pub body: String,
}

/// The reason phrase of the statuses that we send (RFC 9110 §15).
#[must_use]
pub const fn reason(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Content Too Large",
        414 => "URI Too Long",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        431 => "Request Header Fields Too Large",
        429 => "Too Many Requests",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "Internal Server Error",
    }
}

/// Whether a client says that it reads HTML; `*/*` does not, or tools would get it.
fn wants_html(accept: &[u8]) -> bool {
    const HTML: &[u8] = b"text/html";
    accept.split(|byte| *byte == b',').any(|range| {
        let range = range.trim_ascii();
        range.get(..HTML.len()).is_some_and(|kind| kind.eq_ignore_ascii_case(HTML))
            && matches!(range.get(HTML.len()), None | Some(b';' | b' ' | b'\t'))
    })
}

/// Text for HTML; ids are checked before, so this is for whoever forgets.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_says_whose_it_is() {
        for (fault, status, culprit) in [
            (Fault::Head(GateError::TargetLong), 414, Culprit::Client),
            (Fault::Path(PathError::Nul), 400, Culprit::Client),
            (Fault::NoRoute, 404, Culprit::Client),
            (Fault::NoEndpoint, 503, Culprit::Backend),
            (Fault::ConnectFailed, 502, Culprit::Backend),
            (Fault::BackendTimeout, 504, Culprit::Backend),
            (Fault::Internal, 500, Culprit::Ours),
        ] {
            assert_eq!((fault.status(), fault.culprit()), (status, culprit), "{fault}");
        }
    }

    #[test]
    fn a_browser_gets_html_and_a_tool_text() {
        for (accept, kind) in [
            (None, "text/plain"),
            (Some(&b"*/*"[..]), "text/plain"),
            (Some(b"application/json, text/htmlx"), "text/plain"),
            (Some(b"text/html,application/xhtml+xml;q=0.9"), "text/html"),
            (Some(b"image/png, TEXT/HTML;q=0.1"), "text/html"),
        ] {
            let page = Fault::NoRoute.page(accept, "0af7");
            assert!(page.content_type.starts_with(kind), "{accept:?}");
            assert!(page.body.contains("404 Not Found") && page.body.contains("request 0af7"), "{}", page.body);
        }
    }

    #[test]
    fn a_page_is_safe_whatever_the_id() {
        let page = Fault::NoRoute.page(Some(b"text/html"), "<script>");
        assert!(!page.body.contains("<script>"));
    }
}
