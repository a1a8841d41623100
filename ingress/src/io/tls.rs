//! TLS towards clients: one rustls configuration for all workers, certificates from the table in force.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use config::challenge::ALPN;
use config::global::{Cipher, TlsRules};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::aws_lc_rs;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{Acceptor, ClientHello, NoServerSessionStorage, ProducesTickets, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{
    CipherSuite, ConfigBuilder, DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme,
    SupportedCipherSuite, WantsVerifier,
};
use rustls_pki_types::{CertificateDer, UnixTime};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tokio_rustls::{LazyConfigAcceptor, TlsAcceptor};

use super::challenge::{self, Shown, Watched};
use super::tapped::Tapped;
use crate::client::{ClientAuth, Visitor};
use crate::endpoints::Endpoints;
use crate::routes::{Entrance, RouteTable};

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
        let table = self.table.load();
        let (certs, name) = (table.certs(), hello.server_name());
        if table.front().global.tls.reject_unknown && !certs.knows(name) {
            return None;
        }
        Some(Arc::clone(certs.resolve(name, hello.signature_schemes())))
    }
}

/// What every configuration has, whatever the rules say; clients resume sessions across them.
#[derive(Clone, Debug)]
pub(super) struct TlsGear {
    resolver: Arc<Resolver>,
    ticketer: Arc<dyn ProducesTickets>,
}

impl TlsGear {
    pub(super) fn new(table: Arc<ArcSwap<RouteTable>>, challenges: Watched) -> Result<Self, rustls::Error> {
        Ok(Self { resolver: Arc::new(Resolver { table, challenges }), ticketer: aws_lc_rs::Ticketer::new()? })
    }
}

/// TLS 1.2 and 1.3, HTTP/2 preferred, as far as the rules allow; resumption by stateless tickets so that workers share
/// nothing.
pub(super) fn server_config(gear: &TlsGear, rules: &TlsRules) -> Result<Arc<ServerConfig>, rustls::Error> {
    let mut config = builder(rules)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::clone(&gear.resolver) as Arc<dyn ResolvesServerCert>);
    let http2 = rules.http2.then(|| b"h2".to_vec());
    config.alpn_protocols = http2.into_iter().chain([b"http/1.1".to_vec(), ALPN.to_vec()]).collect();
    config.ticketer = Arc::clone(&gear.ticketer);
    config.session_storage = Arc::new(NoServerSessionStorage {});
    // One ticket is all that a client uses for its next connection.
    config.send_tls13_tickets = 1;
    Ok(Arc::new(config))
}

/// The versions and suites that the rules allow.
fn builder(rules: &TlsRules) -> Result<ConfigBuilder<ServerConfig, WantsVerifier>, rustls::Error> {
    let mut provider = aws_lc_rs::default_provider();
    if let Some(ciphers) = &rules.ciphers {
        provider.cipher_suites = suites(&provider.cipher_suites, ciphers);
    }
    let versions = [(&rustls::version::TLS13, rules.tls13), (&rustls::version::TLS12, rules.tls12)];
    let versions: Vec<_> = versions.into_iter().filter(|(_, is_on)| *is_on).map(|(version, _)| version).collect();
    ServerConfig::builder_with_provider(Arc::new(provider)).with_protocol_versions(&versions)
}

/// Where TLS connections come in.
pub(super) struct Door {
    gear: TlsGear,
    /// What is spoken with all others, and by which rules.
    usual: ArcSwap<(TlsRules, Arc<ServerConfig>)>,
    table: Arc<ArcSwap<RouteTable>>,
    challenges: Watched,
    /// What is spoken with clients that are asked for certificates.
    guarded: Mutex<Vec<(Arc<ClientAuth>, Arc<ServerConfig>)>>,
}

/// What became of a connection at the door.
pub(super) enum Opened {
    /// The handshake is done; with who the client is, if it was asked for a certificate.
    Tls(Box<TlsStream<Tapped>>, Option<Visitor>),
    /// The handshake is for an endpoint; with what the client has said so far.
    Passed(TcpStream, Vec<u8>, Arc<Endpoints>),
}

impl Door {
    pub(super) fn new(
        table: Arc<ArcSwap<RouteTable>>,
        challenges: Watched,
        rules: &TlsRules,
    ) -> Result<Self, rustls::Error> {
        let gear = TlsGear::new(Arc::clone(&table), challenges.clone())?;
        let usual = ArcSwap::from_pointee((rules.clone(), server_config(&gear, rules)?));
        Ok(Self { gear, usual, table, challenges, guarded: Mutex::default() })
    }

    /// Speaks with new clients as these rules say.
    pub(super) fn renew(&self, rules: &TlsRules) -> Result<(), rustls::Error> {
        if self.usual.load().0 == *rules {
            return Ok(());
        }
        let config = server_config(&self.gear, rules)?;
        let mut guarded = self.guarded.lock().unwrap_or_else(PoisonError::into_inner);
        self.usual.store(Arc::new((rules.clone(), config)));
        guarded.clear();
        Ok(())
    }

    fn usual(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.usual.load().1)
    }

    /// Looks at what the client asks for, and answers, or finds out who does.
    pub(super) async fn open(&self, stream: TcpStream) -> io::Result<Opened> {
        if !self.table.load().has_entrances() {
            let acceptor = TlsAcceptor::from(self.usual());
            return Ok(Opened::Tls(Box::new(acceptor.accept(Tapped::plain(stream)).await?), None));
        }
        let mut start = LazyConfigAcceptor::new(Acceptor::default(), Tapped::recording(stream)).await?;
        let Entrance { client, passthrough } = self.entrance(&start.client_hello());
        if let Some(endpoints) = passthrough {
            let (stream, begun) = start.io.rewind();
            return Ok(Opened::Passed(stream, begun, endpoints));
        }
        start.io.forget();
        let Some(client) = client else {
            return Ok(Opened::Tls(Box::new(start.into_stream(self.usual()).await?), None));
        };
        let config = self.guarded(&client).map_err(io::Error::other)?;
        let stream = start.into_stream(config).await?;
        let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let visitor = client.judge(chain, UnixTime::now());
        Ok(Opened::Tls(Box::new(stream), Some(visitor)))
    }

    /// What the host that is asked for has at its door; a challenge of an authority is answered by us.
    fn entrance(&self, hello: &ClientHello<'_>) -> Entrance {
        if matches!(challenge::shown(hello, &self.challenges), Shown::Challenge(_)) {
            return Entrance::default();
        }
        let name = hello.server_name().map(|name| name.trim_end_matches('.').to_ascii_lowercase());
        let table = self.table.load();
        table.host(&name.unwrap_or_default()).map(|host| host.entrance().clone()).unwrap_or_default()
    }

    /// What is spoken with clients that are asked for certificates. Nothing is resumed, so that each connection is
    /// judged by what is true when it begins.
    fn guarded(&self, client: &Arc<ClientAuth>) -> Result<Arc<ServerConfig>, rustls::Error> {
        let mut guarded = self.guarded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, config)) = guarded.iter().find(|(known, _)| Arc::ptr_eq(known, client)) {
            return Ok(Arc::clone(config));
        }
        let Some(verifier) = client.verifier() else { return Ok(self.usual()) };
        let usual = self.usual.load();
        let mut config = builder(&usual.0)?
            .with_client_cert_verifier(Arc::new(JudgedLater(Arc::clone(verifier))))
            .with_cert_resolver(Arc::clone(&self.gear.resolver) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols.clone_from(&usual.1.alpn_protocols);
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        let config = Arc::new(config);
        // Those that no table has any more go.
        guarded.retain(|(known, _)| Arc::strong_count(known) > 1);
        guarded.push((Arc::clone(client), Arc::clone(&config)));
        Ok(config)
    }
}

/// Takes any certificate whose key the client proves to have; what it is good for is judged after the handshake.
#[derive(Debug)]
struct JudgedLater(Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for JudgedLater {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// The suites of TLS 1.3, then those of TLS 1.2 that are wanted, in their order.
fn suites(all: &[SupportedCipherSuite], wanted: &[Cipher]) -> Vec<SupportedCipherSuite> {
    let newer = all.iter().filter(|suite| suite.tls13().is_some());
    let older = wanted.iter().filter_map(|cipher| all.iter().find(|suite| suite.suite() == number(*cipher)));
    newer.chain(older).copied().collect()
}

const fn number(cipher: Cipher) -> CipherSuite {
    match cipher {
        Cipher::EcdheEcdsaAes128GcmSha256 => CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        Cipher::EcdheRsaAes128GcmSha256 => CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        Cipher::EcdheEcdsaAes256GcmSha384 => CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        Cipher::EcdheRsaAes256GcmSha384 => CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        Cipher::EcdheEcdsaChacha20Poly1305 => CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        Cipher::EcdheRsaChacha20Poly1305 => CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    }
}
