//! A machine that ends TLS in front of an endpoint and remembers how it was approached; and one that speaks gRPC.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use http::{HeaderMap, Response};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// A self-signed certificate and its key, as PEM.
#[derive(Clone)]
pub(crate) struct Pair {
    pub(crate) certificate: String,
    pub(crate) key: String,
    der: Vec<u8>,
    key_der: Vec<u8>,
}

impl Pair {
    pub(crate) fn new(name: &str) -> Self {
        let pair = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        Self {
            certificate: pair.cert.pem(),
            key: pair.signing_key.serialize_pem(),
            der: pair.cert.der().to_vec(),
            key_der: pair.signing_key.serialize_der(),
        }
    }

    /// A server that shows it; if `clients` are given, it wants the certificate of one of them.
    fn acceptor(&self, clients: Option<&Self>, alpn: &[u8]) -> TlsAcceptor {
        let builder = ServerConfig::builder();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(clients) => {
                let mut roots = RootCertStore::empty();
                roots.add(CertificateDer::from(clients.der.clone())).unwrap();
                builder.with_client_cert_verifier(WebPkiClientVerifier::builder(Arc::new(roots)).build().unwrap())
            }
        };
        let key = PrivateKeyDer::Pkcs8(self.key_der.clone().into());
        let mut config = builder.with_single_cert(vec![CertificateDer::from(self.der.clone())], key).unwrap();
        config.alpn_protocols = vec![alpn.to_vec()];
        TlsAcceptor::from(Arc::new(config))
    }
}

/// One handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shake {
    pub(crate) server_name: Option<String>,
    pub(crate) has_certificate: bool,
}

/// Ends TLS and passes the bytes on.
pub(crate) struct Relay {
    pub(crate) addr: SocketAddr,
    shakes: Arc<Mutex<Vec<Shake>>>,
    task: JoinHandle<()>,
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Relay {
    pub(crate) async fn start(to: SocketAddr, pair: &Pair, clients: Option<&Pair>) -> Self {
        ingress::io::install_crypto_provider();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (acceptor, shakes) = (pair.acceptor(clients, b"http/1.1"), Arc::<Mutex<Vec<Shake>>>::default());
        let told = Arc::clone(&shakes);
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (acceptor, told) = (acceptor.clone(), Arc::clone(&told));
                tokio::spawn(async move {
                    // Who does not trust us goes away.
                    let Ok(mut stream) = acceptor.accept(stream).await else { return };
                    let session = stream.get_ref().1;
                    told.lock().unwrap().push(Shake {
                        server_name: session.server_name().map(str::to_owned),
                        has_certificate: session.peer_certificates().is_some(),
                    });
                    let mut plain = TcpStream::connect(to).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut stream, &mut plain).await;
                });
            }
        });
        Self { addr, shakes, task }
    }

    pub(crate) fn shakes(&self) -> Vec<Shake> {
        self.shakes.lock().unwrap().clone()
    }
}

/// A gRPC server: sends every message back and says that all went well, in trailers.
pub(crate) struct Grpc {
    pub(crate) addr: SocketAddr,
    seen: Arc<Mutex<Vec<http::request::Parts>>>,
    task: JoinHandle<()>,
}

impl Drop for Grpc {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Grpc {
    /// Without TLS, or over it.
    pub(crate) async fn start(pair: Option<&Pair>) -> Self {
        ingress::io::install_crypto_provider();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (acceptor, seen) = (pair.map(|pair| pair.acceptor(None, b"h2")), Arc::<Mutex<Vec<_>>>::default());
        let told = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                let (acceptor, told) = (acceptor.clone(), Arc::clone(&told));
                tokio::spawn(async move {
                    match acceptor {
                        None => serve(stream, told).await,
                        Some(acceptor) => serve(acceptor.accept(stream).await.unwrap(), told).await,
                    }
                });
            }
        });
        Self { addr, seen, task }
    }

    pub(crate) fn seen(&self) -> Vec<http::request::Parts> {
        self.seen.lock().unwrap().clone()
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + Send, told: Arc<Mutex<Vec<http::request::Parts>>>) {
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    while let Some(Ok((request, mut answer))) = connection.accept().await {
        let told = Arc::clone(&told);
        tokio::spawn(async move {
            let (head, mut body) = request.into_parts();
            let is_refused = head.uri.path() == "/refused";
            told.lock().unwrap().push(head);
            let status =
                |code: &'static str| HeaderMap::from_iter([("grpc-status".parse().unwrap(), code.parse().unwrap())]);
            let mut head = Response::builder().header("content-type", "application/grpc").body(()).unwrap();
            if is_refused {
                // gRPC's "Trailers-Only": all in one header block.
                head.headers_mut().extend(status("16"));
                answer.send_response(head, true).unwrap();
                return;
            }
            let mut stream = answer.send_response(head, false).unwrap();
            while let Some(Ok(piece)) = body.data().await {
                let _ = body.flow_control().release_capacity(piece.len());
                stream.send_data(piece, false).unwrap();
            }
            stream.send_trailers(status("0")).unwrap();
        });
    }
}
