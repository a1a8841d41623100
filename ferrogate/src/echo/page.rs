//! What the echo page says, as plain text or HTML.

use std::fmt::Write as _;
use std::net::SocketAddr;

use axum::http::request::Parts;

/// How many bytes of a body are shown.
pub(super) const BODY_SHOWN: usize = 4096;

/// A request that was read to its end.
pub(super) struct Asked<'a> {
    /// The node that serves.
    pub(super) node: &'a str,
    /// The address that the connection was accepted on.
    pub(super) address: Option<SocketAddr>,
    /// Everything before the body.
    pub(super) parts: &'a Parts,
    /// Length of the body in bytes.
    pub(super) length: u64,
    /// Its first [`BODY_SHOWN`] bytes.
    pub(super) body: &'a [u8],
}

/// The page for `curl`.
pub(super) fn text(asked: &Asked<'_>) -> String {
    format!("{}\n\n{}", greeting(asked), details(asked))
}

/// The page for a browser.
pub(super) fn html(asked: &Asked<'_>) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>Ferrogate echo</title>\n<style>\n  \
         body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 4rem auto; padding: 0 1rem; }}\n  \
         pre {{ background: #f4f4f2; padding: 1rem; overflow-x: auto; border-radius: 6px; }}\n</style>\n\
         <h1>{}</h1>\n<p>This is what it was asked:</p>\n<pre>{}</pre>\n</html>\n",
        escape(&greeting(asked)),
        escape(&details(asked))
    )
}

fn greeting(asked: &Asked<'_>) -> String {
    let address = asked.address.map_or_else(|| "somewhere".to_owned(), |address| address.to_string());
    format!("Hello from {address} on {}", asked.node)
}

/// The request as it was received: first line, headers, and the beginning of the body.
fn details(asked: &Asked<'_>) -> String {
    let mut out = format!("{} {} {:?}\n", asked.parts.method, asked.parts.uri, asked.parts.version);
    for (name, value) in &asked.parts.headers {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{name}: {}", String::from_utf8_lossy(value.as_bytes()));
    }
    if asked.length > 0 {
        let _ = write!(out, "\n{} bytes of body", asked.length);
        let _ = match std::str::from_utf8(asked.body) {
            Ok(body) => writeln!(out, ":\n{body}"),
            Err(_) => writeln!(out, ", not text"),
        };
    }
    out
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    fn page(render: fn(&Asked<'_>) -> String, body: &[u8]) -> String {
        let request = Request::post("/a?b=c&d").header("Host", "hello.example.test").body(()).unwrap();
        let (parts, ()) = request.into_parts();
        let address = Some(([127, 0, 0, 1], 8080).into());
        render(&Asked { node: "n1", address, parts: &parts, length: body.len() as u64, body })
    }

    #[test]
    fn the_page_tells_who_served_and_what_was_asked() {
        assert_eq!(
            page(text, b"hi"),
            "Hello from 127.0.0.1:8080 on n1\n\nPOST /a?b=c&d HTTP/1.1\nhost: hello.example.test\n\n2 bytes of body:\nhi\n"
        );
    }

    #[test]
    fn a_browser_is_shown_markup_as_text() {
        let page = page(html, b"<script>");
        assert!(page.contains("/a?b=c&amp;d") && page.contains("&lt;script&gt;") && !page.contains("<script>"));
    }

    #[test]
    fn a_body_that_is_not_text_is_only_counted() {
        assert!(page(text, &[0xff, 0xfe]).ends_with("\n2 bytes of body, not text\n"));
    }
}
