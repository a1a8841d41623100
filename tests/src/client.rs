//! A small HTTP/1.1 client that hides nothing: raw bytes out, strictly framed answers in.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::netns;

/// How long a connection or one answer may take.
const LIMIT: Duration = Duration::from_mins(1);

/// Where to connect to, and how.
#[derive(Clone, Debug)]
pub struct Target {
    /// Address and port.
    pub address: SocketAddr,
    /// The name in TLS's SNI (empty for none); `None` speaks plain text.
    pub tls: Option<String>,
    /// The network namespace to connect from.
    pub namespace: Option<String>,
}

impl Target {
    /// Plain text to an address.
    #[must_use]
    pub const fn plain(address: SocketAddr) -> Self {
        Self { address, tls: None, namespace: None }
    }

    /// TLS to an address.
    #[must_use]
    pub fn tls(address: SocketAddr, name: &str) -> Self {
        Self { tls: Some(name.to_owned()), ..Self::plain(address) }
    }

    /// The same, from inside a namespace.
    #[must_use]
    pub fn from(self, namespace: Option<&str>) -> Self {
        Self { namespace: namespace.map(str::to_owned), ..self }
    }

    /// Connects.
    pub async fn connect(&self) -> io::Result<Connection> {
        limited(Connection::open(self)).await
    }

    /// One GET on a connection of its own.
    pub async fn get(&self, host: &str, path: &str) -> io::Result<Response> {
        self.connect().await?.get(host, path).await
    }
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// Its status code.
    pub status: u16,
    /// Its header fields, names in lower case, in the order they came.
    pub headers: Vec<(String, String)>,
    /// Its body, unframed.
    pub body: Vec<u8>,
}

impl Response {
    /// The first field of that (lower-case) name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Whether the server said that no further answer comes on this connection.
    #[must_use]
    pub fn closes(&self) -> bool {
        self.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// One connection.
pub struct Connection {
    stream: Box<dyn Stream>,
    buffer: Vec<u8>,
    /// The certificate that the server showed, DER.
    pub certificate: Option<Vec<u8>>,
}

impl Connection {
    async fn open(target: &Target) -> io::Result<Self> {
        let tcp = match target.namespace.clone() {
            None => TcpStream::connect(target.address).await?,
            Some(name) => {
                let address = target.address;
                let connect = move || netns::connect(&name, address, LIMIT);
                let stream = tokio::task::spawn_blocking(connect).await??;
                stream.set_nonblocking(true)?;
                TcpStream::from_std(stream)?
            }
        };
        tcp.set_nodelay(true)?;
        match &target.tls {
            None => Ok(Self { stream: Box::new(tcp), buffer: Vec::new(), certificate: None }),
            Some(name) => Self::secure(tcp, name, target.address).await,
        }
    }

    async fn secure(tcp: TcpStream, name: &str, address: SocketAddr) -> io::Result<Self> {
        // An IP address is never sent as SNI, so it stands for "no name".
        let name = match name {
            "" => ServerName::from(address.ip()),
            name => ServerName::try_from(name.to_owned()).map_err(io::Error::other)?,
        };
        let stream = TlsConnector::from(tls_config()).connect(name, tcp).await?;
        let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let certificate = certificate.map(|certificate| certificate.to_vec());
        Ok(Self { stream: Box::new(stream), buffer: Vec::new(), certificate })
    }

    /// Sends bytes as they are.
    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    /// Sends a GET and reads its answer.
    pub async fn get(&mut self, host: &str, path: &str) -> io::Result<Response> {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes()).await?;
        self.response().await
    }

    /// Reads one answer (not that of a HEAD).
    pub async fn response(&mut self) -> io::Result<Response> {
        limited(self.read_response()).await
    }

    /// Everything up to the end of the connection; a reset counts as its end.
    pub async fn rest(&mut self) -> io::Result<Vec<u8>> {
        limited(async {
            while self.fill().await.unwrap_or(0) > 0 {}
            Ok(std::mem::take(&mut self.buffer))
        })
        .await
    }

    /// Exactly `count` bytes.
    pub async fn take(&mut self, count: usize) -> io::Result<Vec<u8>> {
        limited(self.exactly(count)).await
    }

    async fn read_response(&mut self) -> io::Result<Response> {
        let (status, headers) = loop {
            let head = self.until(b"\r\n\r\n").await?;
            let (status, headers) = parse_head(&head).ok_or_else(|| bad("no HTTP/1.1 response head"))?;
            if status == 101 || status >= 200 {
                break (status, headers);
            }
        };
        let mut response = Response { status, headers, body: Vec::new() };
        response.body = self.body(&response).await?;
        Ok(response)
    }

    async fn body(&mut self, response: &Response) -> io::Result<Vec<u8>> {
        if matches!(response.status, 101 | 204 | 304) {
            return Ok(Vec::new());
        }
        match (response.header("content-length"), response.header("transfer-encoding")) {
            (Some(_), Some(_)) => Err(bad("an answer with two framings")),
            (Some(length), None) => self.exactly(length.parse().map_err(|_| bad("no content length"))?).await,
            (None, Some("chunked")) => self.chunks().await,
            (None, Some(_)) => Err(bad("an unknown transfer coding")),
            (None, None) if response.closes() => {
                while self.fill().await? > 0 {}
                Ok(std::mem::take(&mut self.buffer))
            }
            (None, None) => Err(bad("an answer without framing on a connection that stays open")),
        }
    }

    async fn chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.until(b"\r\n").await?;
            let size =
                std::str::from_utf8(&line[..line.len() - 2]).ok().and_then(|t| usize::from_str_radix(t, 16).ok());
            let size = size.ok_or_else(|| bad("no chunk size"))?;
            let mut chunk = self.exactly(size + 2).await?;
            if !chunk.ends_with(b"\r\n") {
                return Err(bad("a chunk without its end"));
            }
            if size == 0 {
                return Ok(body);
            }
            chunk.truncate(size);
            body.append(&mut chunk);
        }
    }

    async fn until(&mut self, end: &[u8]) -> io::Result<Vec<u8>> {
        loop {
            if let Some(position) = self.buffer.windows(end.len()).position(|window| window == end) {
                let rest = self.buffer.split_off(position + end.len());
                return Ok(std::mem::replace(&mut self.buffer, rest));
            }
            self.more().await?;
        }
    }

    async fn exactly(&mut self, count: usize) -> io::Result<Vec<u8>> {
        while self.buffer.len() < count {
            self.more().await?;
        }
        let rest = self.buffer.split_off(count);
        Ok(std::mem::replace(&mut self.buffer, rest))
    }

    async fn more(&mut self) -> io::Result<()> {
        if self.fill().await? > 0 {
            return Ok(());
        }
        // A kept connection may end between answers, not within one.
        let kind = if self.buffer.is_empty() { io::ErrorKind::UnexpectedEof } else { io::ErrorKind::InvalidData };
        Err(io::Error::new(kind, "the connection ended"))
    }

    async fn fill(&mut self) -> io::Result<usize> {
        self.stream.read_buf(&mut self.buffer).await
    }
}

/// Status and fields of a head; `None` if a line is not as RFC 9112 has it.
fn parse_head(head: &[u8]) -> Option<(u16, Vec<(String, String)>)> {
    let mut lines = std::str::from_utf8(head).ok()?.trim_end_matches("\r\n").split("\r\n");
    let status = lines.next()?.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    let field =
        |line: &str| line.split_once(':').map(|(key, value)| (key.to_ascii_lowercase(), value.trim().to_owned()));
    Some((status, lines.map(field).collect::<Option<_>>()?))
}

fn bad(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

async fn limited<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(LIMIT, work).await.unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "no answer in time")))
}

fn tls_config() -> Arc<ClientConfig> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
    let config = config.expect("the provider knows the default versions").dangerous();
    Arc::new(config.with_custom_certificate_verifier(Arc::new(AnyCertificate(provider))).with_no_client_auth())
}

/// Takes any certificate (tests compare it themselves) but insists on its key.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
