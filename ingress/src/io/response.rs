//! What is taken out of an endpoint's answer before it goes to the client.
//!
//! Fields that are for the connection to the endpoint alone end here (RFC 9110 §7.6.1): the standard ones, and those
//! that `Connection` names. What frames the body stays with Pingora, which writes it anew.

use http::header::{CONNECTION, CONTENT_LENGTH, HeaderName, SERVER, TE, TRANSFER_ENCODING, UPGRADE};
use pingora_http::ResponseHeader;

use crate::front::Front;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Removes what is not for the client; an accepted upgrade keeps the two fields that say so.
pub(super) fn clean(header: &mut ResponseHeader, front: &Front) {
    let is_upgrade = header.status == http::StatusCode::SWITCHING_PROTOCOLS;
    if header.headers.contains_key(CONNECTION) {
        remove_nominated(header, is_upgrade);
        if !is_upgrade {
            header.remove_header(&CONNECTION);
        }
    }
    if !is_upgrade {
        header.remove_header(&UPGRADE);
    }
    header.remove_header(&KEEP_ALIVE);
    header.remove_header(&PROXY_CONNECTION);
    header.remove_header(&TE);
    // As ingress-nginx: whose software answers is nobody's business.
    if !front.global.answers.server {
        header.remove_header(&SERVER);
    }
    for name in &front.hidden {
        header.remove_header(name);
    }
}

/// Removes the fields that `Connection` names, but for those that frame the body.
fn remove_nominated(header: &mut ResponseHeader, is_upgrade: bool) {
    let nominated: Vec<HeaderName> = header
        .headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|&byte| byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .filter(|name| {
            let stays = [CONTENT_LENGTH, TRANSFER_ENCODING, CONNECTION].contains(name);
            !stays && (!is_upgrade || *name != UPGRADE)
        })
        .collect();
    for name in nominated {
        header.remove_header(&name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cleaned(status: u16, fields: &[(&'static str, &'static str)]) -> Vec<String> {
        let mut header = ResponseHeader::build(status, None).unwrap();
        for (name, value) in fields {
            header.append_header(*name, *value).unwrap();
        }
        clean(&mut header, &Front::default());
        let mut left: Vec<_> = header.headers.keys().map(ToString::to_string).collect();
        left.sort();
        left
    }

    #[test]
    fn what_is_for_one_connection_ends_here() {
        let fields = [
            ("Connection", "keep-alive, X-Secret"),
            ("Connection", "content-length"),
            ("Keep-Alive", "timeout=5"),
            ("Proxy-Connection", "keep-alive"),
            ("X-Secret", "1"),
            ("Upgrade", "h2c"),
            ("Server", "teapot"),
            ("Content-Length", "3"),
            ("Content-Type", "text/plain"),
        ];
        assert_eq!(cleaned(200, &fields), ["content-length", "content-type"]);
    }

    #[test]
    fn an_accepted_upgrade_says_so() {
        let fields =
            [("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Accept", "x"), ("Server", "teapot")];
        assert_eq!(cleaned(101, &fields), ["connection", "sec-websocket-accept", "upgrade"]);
    }
}
