//! Answers to a CA that asks whether a name is ours, before anything else is asked of a request.
//!
//! No redirect, password, allow list or route stands before them: the CA follows no login, and a challenge that fails
//! is final. A token that is none of ours is no challenge, and its request goes the way of any other.

use std::sync::Arc;

use config::challenge::{ALPN, AlpnCertificate, Challenges, WELL_KNOWN};
use http::Method;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use pingora_core::Result;
use pingora_http::ResponseHeader;
use pingora_proxy::Session;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::server::ClientHello;
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::sync::watch;

/// The challenges that wait, newest first seen.
pub(super) type Watched = watch::Receiver<Arc<Challenges>>;

/// The key authorization that a request asks for; `None` if it asks for none of ours.
pub(super) fn asked(session: &Session, challenges: &Watched) -> Option<Arc<str>> {
    let request = session.req_header();
    let target = request.raw_path();
    if !target.starts_with(WELL_KNOWN.as_bytes()) || !matches!(request.method, Method::GET | Method::HEAD) {
        return None;
    }
    let path = target.split(|byte| *byte == b'?').next()?;
    challenges.borrow().answer(str::from_utf8(path).ok()?).cloned()
}

/// Writes a key authorization (RFC 8555 §8.3): its exact bytes, not even a newline more.
pub(super) async fn write(session: &mut Session, authorization: &str) -> Result<()> {
    let is_head = session.req_header().method == Method::HEAD;
    let mut head = ResponseHeader::build(200, Some(4))?;
    head.insert_header(CONTENT_TYPE, "text/plain; charset=utf-8")?;
    head.insert_header(CONTENT_LENGTH, authorization.len())?;
    head.insert_header(CACHE_CONTROL, "no-store")?;
    head.insert_header(X_CONTENT_TYPE_OPTIONS, "nosniff")?;
    session.write_response_header(Box::new(head), is_head).await?;
    if is_head {
        return Ok(());
    }
    session.write_response_body(Some(authorization.to_owned().into()), true).await
}

/// What a handshake is shown that is a TLS-ALPN-01 challenge.
pub(super) enum Shown {
    /// It is none.
    Ordinary,
    /// The certificate of the challenge, if there is one for that name (RFC 8737 §3).
    Challenge(Option<Arc<CertifiedKey>>),
}

/// Judges a handshake: a challenge offers `acme-tls/1` and nothing else.
pub(super) fn shown(hello: &ClientHello<'_>, challenges: &Watched) -> Shown {
    let is_challenge = hello.alpn().is_some_and(|mut offered| offered.next() == Some(ALPN) && offered.next().is_none());
    if !is_challenge {
        return Shown::Ordinary;
    }
    let name = hello.server_name().map(|name| name.trim_end_matches('.').to_ascii_lowercase());
    let certificate = name.and_then(|name| challenges.borrow().alpn.get(&*name).cloned());
    Shown::Challenge(certificate.and_then(|certificate| certified(&certificate)))
}

fn certified(found: &AlpnCertificate) -> Option<Arc<CertifiedKey>> {
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(found.key.clone()));
    let chain = vec![CertificateDer::from(found.certificate.clone())];
    Some(Arc::new(CertifiedKey::new(chain, any_supported_type(&key).ok()?)))
}
