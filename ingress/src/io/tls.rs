//! TLS towards clients: one rustls configuration for all workers, certificates from the table in force.

use std::sync::Arc;

use arc_swap::ArcSwap;
use config::challenge::ALPN;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::challenge::{self, Shown, Watched};
use crate::routes::RouteTable;

/// Makes aws-lc-rs the crypto of this process; any call but the first does nothing.
///
/// Must come before the first TLS object of Pingora, which would install its own choice.
pub fn install_crypto_provider() {
    // An error says that a provider is installed already, which is what we want.
    let _ = aws_lc_rs::default_provider().install_default();
}

/// Answers each handshake with the certificate that the table in force has for its server name, a challenge with its
/// own.
#[derive(Debug)]
struct Resolver {
    table: Arc<ArcSwap<RouteTable>>,
    challenges: Watched,
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if let Shown::Challenge(certificate) = challenge::shown(&hello, &self.challenges) {
            return certificate;
        }
        Some(Arc::clone(self.table.load().certs().resolve(hello.server_name(), hello.signature_schemes())))
    }
}

/// TLS 1.2 and 1.3, HTTP/2 preferred, resumption by stateless tickets so that workers share nothing.
pub(super) fn server_config(
    table: Arc<ArcSwap<RouteTable>>,
    challenges: Watched,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Resolver { table, challenges }));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec(), ALPN.to_vec()];
    config.ticketer = aws_lc_rs::Ticketer::new()?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    // One ticket is all that a client uses for its next connection.
    config.send_tls13_tickets = 1;
    Ok(Arc::new(config))
}
