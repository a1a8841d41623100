//! HTTP/1.1 on one connection: every request head passes the gate before Pingora sees it.
//!
//! ```text
//!  wait ──head──> gate ──admitted──> Pingora, on a stream that ends with the request ──┐
//!   ^              └──refused──> page, close                                           │
//!   └────────────────────── the connection comes back, if it lives on ─────────────────┘
//! ```
//!
//! A connection without a request costs its socket and this future: no buffer, no timer but one.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use http::HeaderMap;
use pingora_core::apps::HttpServerApp;
use pingora_core::protocols::http::ServerSession;
use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep};

use super::conn::Home;
use super::message::Message;
use super::wire::Wire;
use super::worker::{FAREWELL, Site};
use crate::answer::{self, Fault};
use crate::gate::{self, Framing, GateError, Head, Limits, Scanner, Upgrade};
use crate::headers;

/// One of these before a request is let pass (RFC 9112 §2.2): some clients end a body with it.
const EMPTY_LINE: &[u8] = b"\r\n";

/// How a wait for a request ended.
enum Next {
    /// A head was admitted.
    Request(Admitted),
    /// It was refused, for a reason that is counted under this name.
    Refused(Fault, String),
    /// There is none: the client left, or was quiet for too long.
    None,
}

/// A request head that passed the gate.
struct Admitted {
    /// Its bytes.
    len: usize,
    /// How its body is framed.
    framing: Framing,
    /// What to hand on in its place.
    rewritten: Option<BytesMut>,
}

/// Serves requests until the connection ends.
pub(super) async fn serve(site: &Site, mut wire: Box<Wire>) {
    let home = Arc::new(Home::default());
    let mut shutdown = site.shutdown.clone();
    let alarm = sleep(site.timeouts.idle);
    tokio::pin!(alarm);
    loop {
        let rules = Rules::of(site);
        let admitted = match next(&rules, &mut wire, alarm.as_mut(), &mut shutdown).await {
            Next::Request(admitted) => admitted,
            Next::Refused(fault, reason) => return refuse(site, wire, fault, &reason).await,
            Next::None => return wire.close(FAREWELL).await,
        };
        // What is there of the body is judged now, so that nothing of a request that is wrong already goes anywhere.
        let Ok(head) = wire.begin(admitted.len, Message::new(admitted.framing)) else {
            return refuse(site, wire, Fault::BadRequest, "chunk").await;
        };
        let head = admitted.rewritten.unwrap_or(head);
        let lives_on = exchange(site, &home, wire, head).await;
        let Some(back) = home.take() else { return };
        wire = back;
        if !lives_on || !wire.is_between_requests() {
            return wire.close(FAREWELL).await;
        }
    }
}

/// What is asked of the next request on a connection.
struct Rules {
    /// For the whole head, from its first byte.
    head: Duration,
    /// For its first byte.
    idle: Duration,
    /// The same while connections are drained.
    drain_idle: Duration,
    limits: Limits,
}

impl Rules {
    /// As the settings say now.
    fn of(site: &Site) -> Self {
        let (front, usual) = (site.front(), &site.timeouts);
        let client = &front.global.client;
        Self {
            head: client.head.unwrap_or(usual.head),
            // No time at all stands for one request a connection, and that one has to come.
            idle: client.idle.filter(|idle| !idle.is_zero()).unwrap_or(usual.idle),
            drain_idle: usual.drain_idle,
            limits: front.limits,
        }
    }

    /// How long an idle connection may stay.
    fn idle_time(&self, is_draining: bool) -> Duration {
        if is_draining { self.idle.min(self.drain_idle) } else { self.idle }
    }
}

/// Lets Pingora answer one request; whether the connection may be used for another.
async fn exchange(site: &Site, home: &Arc<Home>, wire: Box<Wire>, head: BytesMut) -> bool {
    let mut session = ServerSession::new_http1(Box::new(home.lend(wire)));
    session.set_pipelined_prefix(head);
    site.app.process_new_http(session, &site.shutdown).await.is_some()
}

/// Waits for a complete head and shows it to the gate.
async fn next(
    rules: &Rules,
    wire: &mut Wire,
    mut alarm: Pin<&mut Sleep>,
    shutdown: &mut watch::Receiver<bool>,
) -> Next {
    let mut is_draining = *shutdown.borrow_and_update();
    let mut has_begun = !wire.pending().is_empty();
    let patience = if has_begun { rules.head } else { rules.idle_time(is_draining) };
    alarm.as_mut().reset(Instant::now() + patience);
    let (mut scanner, limits) = (Scanner::default(), rules.limits);
    let mut has_skipped = false;
    loop {
        if !has_skipped && wire.pending().starts_with(EMPTY_LINE) {
            has_skipped = true;
            wire.skip(EMPTY_LINE.len());
            scanner = Scanner::default();
            has_begun = !wire.pending().is_empty();
            if !has_begun {
                alarm.as_mut().reset(Instant::now() + rules.idle_time(is_draining));
            }
        }
        match scanner.scan(wire.pending(), &limits) {
            Ok(Some(len)) => return judge(&wire.pending()[..len], &limits),
            Ok(None) => {}
            Err(error) => return refused(error),
        }
        wire.release_buffers();
        let read = tokio::select! {
            biased;
            read = std::future::poll_fn(|cx| wire.poll_fill(cx)) => read,
            () = alarm.as_mut() => return too_late(has_begun),
            changed = shutdown.changed(), if !is_draining => {
                // An error says that the worker is gone, which ends this as well.
                is_draining = true;
                if !has_begun && changed.is_ok() {
                    alarm.as_mut().reset(Instant::now() + rules.drain_idle);
                }
                continue;
            }
        };
        if !matches!(read, Ok(1..)) {
            return Next::None;
        }
        if !has_begun {
            has_begun = true;
            alarm.as_mut().reset(Instant::now() + rules.head);
        }
    }
}

/// Shows a complete head to the gate.
fn judge(bytes: &[u8], limits: &Limits) -> Next {
    match gate::read(bytes, limits) {
        Ok(head) => Next::Request(Admitted { len: bytes.len(), framing: head.framing, rewritten: rewrite(&head) }),
        Err(error) => refused(error),
    }
}

/// The head that says plainly what the gate understood, where this one does not: the target in origin form, the one
/// authority as `Host` (RFC 9112 §3.2.2), and no wish to switch to something that is not forwarded.
fn rewrite(head: &Head<'_>) -> Option<BytesMut> {
    if !head.is_absolute && head.upgrade != Upgrade::Strip {
        return None;
    }
    let dropped = |name: &str| {
        let strips = head.upgrade == Upgrade::Strip;
        name.eq_ignore_ascii_case("host")
            || (strips && (name.eq_ignore_ascii_case("upgrade") || name.eq_ignore_ascii_case("http2-settings")))
    };
    let version = if head.version == gate::Version::Http10 { "1.0" } else { "1.1" };
    let mut out = BytesMut::with_capacity(512);
    put(&mut out, &[head.method.as_bytes(), b" ", head.target.as_bytes(), b" HTTP/", version.as_bytes(), b"\r\n"]);
    if let Some(authority) = head.authority {
        put(&mut out, &[b"Host: ", authority.as_str().as_bytes(), b"\r\n"]);
    }
    for field in head.fields().filter(|field| !dropped(field.name)) {
        put(&mut out, &[field.name.as_bytes(), b": ", field.value, b"\r\n"]);
    }
    out.extend_from_slice(b"\r\n");
    Some(out)
}

fn put(out: &mut BytesMut, parts: &[&[u8]]) {
    for part in parts {
        out.extend_from_slice(part);
    }
}

/// Refuses with what the gate says.
fn refused(error: GateError) -> Next {
    Next::Refused(Fault::Head(error), label(&format!("{error:?}")))
}

/// `HostTwice` as `host_twice`.
fn label(variant: &str) -> String {
    let mut out = String::with_capacity(variant.len() + 4);
    for (at, letter) in variant.char_indices() {
        if at > 0 && letter.is_ascii_uppercase() {
            out.push('_');
        }
        out.push(letter.to_ascii_lowercase());
    }
    out
}

/// A client that has begun a head is told why it is cut off.
fn too_late(has_begun: bool) -> Next {
    if has_begun { Next::Refused(Fault::RequestTimeout, "slow_head".to_owned()) } else { Next::None }
}

/// Answers in place of Pingora and closes.
async fn refuse(site: &Site, mut wire: Box<Wire>, fault: Fault, reason: &str) {
    site.metrics.refused(reason);
    let status = fault.status();
    let page = fault.page(None, &headers::request_id(&HeaderMap::new(), fastrand::u128(..)));
    let answer = format!(
        "HTTP/1.1 {status} {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{}",
        answer::reason(status),
        page.content_type,
        page.body.len(),
        page.body,
    );
    if wire.send(answer.as_bytes()).await.is_ok() {
        wire.close(FAREWELL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(head: &str) -> Option<String> {
        let head = gate::read(head.as_bytes(), &Limits::default()).unwrap();
        rewrite(&head).map(|bytes| String::from_utf8(bytes.to_vec()).unwrap())
    }

    #[test]
    fn a_plain_head_goes_on_as_it_came() {
        assert_eq!(rewritten("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"), None);
    }

    #[test]
    fn an_absolute_target_becomes_host_and_path() {
        assert_eq!(
            rewritten("GET http://a.example/x?y HTTP/1.1\r\nA: 1\r\nHost: A.example\r\nB: 2\r\n\r\n").unwrap(),
            "GET /x?y HTTP/1.1\r\nHost: a.example\r\nA: 1\r\nB: 2\r\n\r\n"
        );
    }

    #[test]
    fn a_wish_that_is_not_forwarded_is_dropped() {
        let head = "GET / HTTP/1.1\r\nHost: a.example\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
                    HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n";
        let rewritten = rewritten(head).unwrap();
        assert!(!rewritten.contains("h2c") && !rewritten.contains("AAMA"), "{rewritten}");
    }

    #[test]
    fn a_reason_is_counted_in_snake_case() {
        assert_eq!(label("HostTwice"), "host_twice");
    }
}
