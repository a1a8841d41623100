//! How the endpoints of a route are reached: what a worker keeps ready for every connection of one policy.
//!
//! Pingora makes the TLS connections and sends the name that it is given; an address it takes as well, and such is never
//! sent (RFC 6066 §3), so it stands for no name. Its pools tell connections apart by address and name but not by whom we trust, so every policy has a group
//! of its own.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};

use config::annotation::{Protocol, UpstreamTimeouts};
use pingora_core::protocols::ALPN;
use pingora_core::protocols::tls::CaType;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::utils::tls::{CertKey, WrappedX509, parse_x509};

use super::Timeouts;
use crate::endpoints::Endpoints;
use crate::identity::Identity;
use crate::routes::Route;

/// Requests under way on one HTTP/2 connection to an endpoint; most servers allow 100 or more.
const STREAMS: usize = 100;

/// How the endpoints of a route are reached.
#[derive(Debug)]
pub(super) struct Dial {
    protocol: Protocol,
    /// The name to send; empty for none.
    name: String,
    verify: bool,
    trusted: Option<Arc<CaType>>,
    shown: Option<Arc<CertKey>>,
    /// Keeps the connections of different policies apart.
    group: u64,
}

impl Dial {
    pub(super) fn of(route: &Route) -> Self {
        let (endpoints, tls) = (&route.endpoints, &route.upstream.tls);
        let protocol = route.upstream.protocol.or(endpoints.protocol()).unwrap_or_default();
        let mut hasher = DefaultHasher::new();
        (endpoints.key(), protocol).hash(&mut hasher);
        if protocol.is_tls() {
            tls.hash(&mut hasher);
        }
        let identity = tls.identity.as_deref().filter(|_| protocol.is_tls());
        let name = tls.name.clone().filter(|_| protocol.is_tls() && (tls.verify || tls.server_name));
        Self {
            protocol,
            name: name.unwrap_or_default(),
            verify: tls.verify,
            trusted: protocol.is_tls().then(|| identity.filter(|_| tls.verify).map_or_else(nobody, trusted)),
            shown: identity
                .and_then(Identity::shown)
                .map(|(chain, key)| Arc::new(CertKey::new(chain.to_vec(), key.to_vec()))),
            group: hasher.finish(),
        }
    }

    /// Those who are asked in the clear, whatever the route says of its own.
    pub(super) fn plain(endpoints: &Endpoints) -> Self {
        let mut hasher = DefaultHasher::new();
        (endpoints.key(), Protocol::default()).hash(&mut hasher);
        let (protocol, name, group) = (Protocol::default(), String::new(), hasher.finish());
        Self { protocol, name, verify: false, trusted: None, shown: None, group }
    }

    /// Whether endpoints speak HTTP/2.
    pub(super) const fn is_h2(&self) -> bool {
        self.protocol.is_h2()
    }

    /// How to reach the endpoint at `addr`.
    pub(super) fn peer(
        &self,
        addr: SocketAddr,
        is_upgrade: bool,
        timeouts: &Timeouts,
        asked: Option<&UpstreamTimeouts>,
    ) -> Box<HttpPeer> {
        let is_tls = self.protocol.is_tls();
        let name = if is_tls && self.name.is_empty() { addr.ip().to_string() } else { self.name.clone() };
        let mut peer = HttpPeer::new(addr, is_tls, name);
        peer.group_key = self.group;
        peer.client_cert_key.clone_from(&self.shown);
        let options = &mut peer.options;
        options.verify_cert = self.verify;
        options.verify_hostname = self.verify;
        options.ca.clone_from(&self.trusted);
        if self.is_h2() {
            options.alpn = ALPN::H2;
            options.max_h2_streams = STREAMS;
        }
        let connect = asked.and_then(|asked| asked.connect).unwrap_or(timeouts.connect);
        let answer = if is_upgrade { timeouts.tunnel } else { timeouts.upstream };
        options.connection_timeout = Some(connect);
        options.total_connection_timeout = Some(connect);
        options.read_timeout = Some(asked.and_then(|asked| asked.read).unwrap_or(answer));
        options.write_timeout = Some(asked.and_then(|asked| asked.send).unwrap_or(timeouts.upstream));
        options.idle_timeout = Some(timeouts.upstream_idle);
        Box::new(peer)
    }
}

fn trusted(identity: &Identity) -> Arc<CaType> {
    // Reading the Secret has seen that these are certificates.
    identity.trusted().iter().map(|der| WrappedX509::new(der.clone(), parse_x509)).collect()
}

/// A certificate that nobody has the key of: rustls wants one even where nothing is checked against it.
fn nobody() -> Arc<CaType> {
    static NOBODY: LazyLock<Arc<CaType>> = LazyLock::new(|| {
        let made = rcgen::generate_simple_self_signed(["nobody.invalid".to_owned()]);
        made.iter().map(|pair| WrappedX509::new(pair.cert.der().to_vec(), parse_x509)).collect()
    });
    Arc::clone(&NOBODY)
}
