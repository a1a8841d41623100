//! TLS towards clients: one rustls configuration for all workers, certificates from the table in force.

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::routes::RouteTable;

/// Makes aws-lc-rs the crypto of this process; any call but the first does nothing.
///
/// Must come before the first TLS object of Pingora, which would install its own choice.
pub fn install_crypto_provider() {
    // An error says that a provider is installed already, which is what we want.
    let _ = aws_lc_rs::default_provider().install_default();
}

/// Answers each handshake with the certificate that the table in force has for its server name.
#[derive(Debug)]
struct Resolver(Arc<ArcSwap<RouteTable>>);

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(self.0.load().certs().resolve(hello.server_name(), hello.signature_schemes())))
    }
}

/// TLS 1.2 and 1.3, HTTP/2 preferred, resumption by stateless tickets so that workers share nothing.
pub(super) fn server_config(table: Arc<ArcSwap<RouteTable>>) -> Result<Arc<ServerConfig>, rustls::Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Resolver(table)));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.ticketer = aws_lc_rs::Ticketer::new()?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    // One ticket is all that a client uses for its next connection.
    config.send_tls13_tickets = 1;
    Ok(Arc::new(config))
}
