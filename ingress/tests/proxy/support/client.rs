//! Clients that send any bytes and take answers apart.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::PATIENCE;

/// An answer; the body decoded.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (field, value) = line.split_once(':')?;
            field.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// A connection of HTTP/1.1.
pub(crate) struct Client<S = TcpStream> {
    pub(crate) stream: S,
    buffer: Vec<u8>,
}

impl Client {
    pub(crate) async fn connect(addr: SocketAddr) -> Self {
        let stream = timeout(PATIENCE, TcpStream::connect(addr)).await.unwrap().unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, buffer: Vec::new() }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub(crate) fn over(stream: S) -> Self {
        Self { stream, buffer: Vec::new() }
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        timeout(PATIENCE, self.stream.write_all(bytes.as_ref())).await.unwrap().unwrap();
        self.stream.flush().await.unwrap();
    }

    /// Sends a GET and reads the answer.
    pub(crate) async fn get(&mut self, host: &str, target: &str) -> Answer {
        self.send(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        self.answer().await
    }

    pub(crate) async fn answer(&mut self) -> Answer {
        self.try_answer(false).await.unwrap().expect("the connection ended without an answer")
    }

    pub(crate) async fn answer_to_head(&mut self) -> Answer {
        self.try_answer(true).await.unwrap().expect("the connection ended without an answer")
    }

    /// The next answer; `None` if the connection ends first.
    pub(crate) async fn try_answer(&mut self, is_head: bool) -> io::Result<Option<Answer>> {
        timeout(PATIENCE, self.read_answer(is_head)).await.expect("no answer in time")
    }

    async fn read_answer(&mut self, is_head: bool) -> io::Result<Option<Answer>> {
        let end = loop {
            if let Some(at) = self.buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break at + 4;
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                assert!(self.buffer.is_empty(), "half an answer: {:?}", String::from_utf8_lossy(&self.buffer));
                return Ok(None);
            }
        };
        let head = String::from_utf8(self.buffer.drain(..end).collect()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut answer = Answer { status, head, body: Vec::new() };
        if is_head || matches!(status, 100..=199 | 204 | 304) {
            return Ok(Some(answer));
        }
        if answer.field("transfer-encoding").is_some() {
            answer.body = self.read_chunks().await?;
        } else if let Some(length) = answer.field("content-length") {
            let length = length.parse().unwrap();
            answer.body = self.exactly(length).await?;
        } else {
            self.stream.read_to_end(&mut self.buffer).await?;
            answer.body = std::mem::take(&mut self.buffer);
        }
        Ok(Some(answer))
    }

    pub(crate) async fn exactly(&mut self, length: usize) -> io::Result<Vec<u8>> {
        while self.buffer.len() < length {
            if timeout(PATIENCE, self.stream.read_buf(&mut self.buffer)).await.expect("no bytes in time")? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(self.buffer.drain(..length).collect())
    }

    async fn read_chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let mut line = Vec::new();
            while !line.ends_with(b"\r\n") {
                line.extend(self.exactly(1).await?);
            }
            let size = usize::from_str_radix(std::str::from_utf8(&line).unwrap().trim(), 16).unwrap();
            body.extend(self.exactly(size).await?);
            assert_eq!(self.exactly(2).await?, b"\r\n");
            if size == 0 {
                return Ok(body);
            }
        }
    }

    /// What is left of a chunked answer, with its framing.
    pub(crate) async fn rest_of_chunks(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        while !out.ends_with(b"0\r\n\r\n") {
            out.extend(self.exactly(1).await.unwrap());
        }
        out
    }

    /// Everything until the connection ends; a reset counts as an end.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        let read = self.stream.read_to_end(&mut self.buffer);
        match timeout(PATIENCE, read).await.expect("the connection does not end") {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
            Err(error) => panic!("{error}"),
        }
        std::mem::take(&mut self.buffer)
    }
}

/// One GET on a connection of its own.
pub(crate) async fn get(addr: SocketAddr, host: &str, target: &str) -> Answer {
    Client::connect(addr).await.get(host, target).await
}

/// A TLS connection, whatever certificate is shown.
pub(crate) async fn tls(addr: SocketAddr, name: &str, alpn: &[u8]) -> io::Result<TlsStream<TcpStream>> {
    tls_as(addr, name, alpn, None).await
}

/// A chain of certificates, and the key of the first.
pub(crate) type Person = (Vec<CertificateDer<'static>>, Vec<u8>);

/// The same of a client that shows who it is if it is asked.
pub(crate) async fn tls_as(
    addr: SocketAddr,
    name: &str,
    alpn: &[u8],
    person: Option<&Person>,
) -> io::Result<TlsStream<TcpStream>> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone(provider)));
    let mut config = match person {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => {
            let key = rustls_pki_types::PrivateKeyDer::Pkcs8(key.clone().into());
            builder.with_client_auth_cert(chain.clone(), key).unwrap()
        }
    };
    config.alpn_protocols = vec![alpn.to_vec()];
    let stream = TcpStream::connect(addr).await?;
    stream.set_nodelay(true)?;
    let name = ServerName::try_from(name.to_owned()).unwrap();
    timeout(PATIENCE, TlsConnector::from(Arc::new(config)).connect(name, stream)).await.unwrap()
}

/// Whether a handshake with nothing but TLS 1.2, and with nothing but TLS 1.3, comes about.
pub(crate) async fn tls_versions(addr: SocketAddr) -> (bool, bool) {
    let try_one = async |version: &'static rustls::SupportedProtocolVersion| {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[version])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anyone(provider)))
            .with_no_client_auth();
        let stream = TcpStream::connect(addr).await.unwrap();
        let name = ServerName::try_from("a.example").unwrap();
        timeout(PATIENCE, TlsConnector::from(Arc::new(config)).connect(name, stream)).await.unwrap().is_ok()
    };
    (try_one(&rustls::version::TLS12).await, try_one(&rustls::version::TLS13).await)
}

/// The certificate that was shown.
pub(crate) fn shown(stream: &TlsStream<TcpStream>) -> Vec<u8> {
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

#[derive(Debug)]
struct Anyone(Arc<rustls::crypto::CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
