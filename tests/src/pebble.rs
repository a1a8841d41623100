//! A real CA: Let's Encrypt's test server Pebble, with a name server that leads to the appliance.
//!
//! Pebble forgets everything when it ends. It refuses some nonces on purpose; how many is up to the test.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::json;
use tempfile::TempDir;

use crate::appliance::Process;
use crate::loopback;
use crate::wait::until;

/// Returns from the test, saying so, if Pebble is not installed.
#[macro_export]
macro_rules! skip_unless_pebble {
    () => {
        if !$crate::pebble::is_installed() {
            println!("skipped: pebble is not installed (apt-get install pebble)");
            return;
        }
    };
}

/// Whether there is a Pebble to start.
#[must_use]
pub fn is_installed() -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths).any(|folder| folder.join("pebble").is_file())
}

/// How a Pebble is to be.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where names lead: the appliances.
    pub targets: Vec<Ipv4Addr>,
    /// The port of HTTP-01 there.
    pub http: u16,
    /// The port of TLS-ALPN-01 there.
    pub tls: u16,
    /// Whether it takes up to five seconds before it looks at a challenge.
    pub slow: bool,
    /// How many nonces of a hundred it refuses.
    pub bad_nonces: u8,
    /// Who is asked for names, if it is not a server for which all names lead to the appliances.
    pub dns: Option<SocketAddr>,
    /// The customer that accounts have to belong to: name and key in base64url.
    pub customer: Option<(String, String)>,
}

/// A running Pebble.
pub struct Pebble {
    address: SocketAddr,
    management: SocketAddr,
    ca: String,
    folder: TempDir,
    options: Options,
    dns: Dns,
    process: Option<Process>,
}

impl Pebble {
    /// Starts one and waits until it answers.
    pub async fn start(options: Options) -> Self {
        let mut pebble = Self::prepare(options);
        pebble.come_back().await;
        pebble
    }

    /// One that is still away.
    #[must_use]
    pub fn prepare(options: Options) -> Self {
        let ip = loopback::address();
        let (address, management) = (loopback::port(ip), loopback::port(ip));
        let folder = tempfile::Builder::new().prefix("ferrogate-pebble-").tempdir().expect("a temporary folder");
        let ca = identity(&folder, ip);
        let dns = Dns::start(options.targets.clone());
        let pebble = Self { address, management, ca, folder, options, dns, process: None };
        pebble.configure();
        pebble
    }

    fn configure(&self) {
        let path = |name: &str| self.folder.path().join(name);
        // A blocked name with more labels than the one that is asked for makes Pebble 2.4 panic.
        let mut config = json!({ "pebble": {
            "listenAddress": self.address.to_string(), "managementListenAddress": self.management.to_string(),
            "certificate": path("leaf.pem"), "privateKey": path("leaf.key"),
            "httpPort": self.options.http, "tlsPort": self.options.tls, "ocspResponderURL": "",
            "externalAccountBindingRequired": self.options.customer.is_some(),
            "domainBlocklist": ["blocked.example"], "retryAfter": { "authz": 1, "order": 1 },
        } });
        if let Some((id, key)) = &self.options.customer {
            config["pebble"]["externalAccountMACKeys"] = json!({ id: key });
        }
        std::fs::write(path("config.json"), config.to_string()).expect("the folder can be written");
    }

    /// Ends it at once; what it knew is gone.
    pub fn go_away(&mut self) {
        self.process = None;
    }

    /// Starts it at the same address, knowing nothing.
    pub async fn come_back(&mut self) {
        let mut command = Command::new("pebble");
        command.arg("-config").arg(self.folder.path().join("config.json"));
        command.arg("-dnsserver").arg(self.options.dns.unwrap_or(self.dns.address).to_string());
        if self.options.slow {
            command.env("PEBBLE_VA_SLEEPTIME", "8");
        } else {
            command.env("PEBBLE_VA_NOSLEEP", "1");
        }
        command.env("PEBBLE_AUTHZREUSE", "0");
        command.env("PEBBLE_WFE_NONCEREJECT", self.options.bad_nonces.to_string());
        self.process = Some(Process::start(command));
        let address = self.address;
        until("Pebble listens", async || tokio::net::TcpStream::connect(address).await.map(drop)).await;
    }

    /// The directory of its ACME server.
    #[must_use]
    pub fn directory(&self) -> String {
        format!("https://{}/dir", self.address)
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whom to trust when talking to it, PEM.
    #[must_use]
    pub fn ca(&self) -> &str {
        &self.ca
    }

    /// The name server; leads nowhere while told so.
    #[must_use]
    pub const fn dns(&self) -> &Dns {
        &self.dns
    }

    /// What it wrote since it was started.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.as_ref().map(Process::log).unwrap_or_default()
    }

    /// How many certificates it has issued since it was started.
    #[must_use]
    pub fn issued(&self) -> usize {
        self.log().lines().filter(|line| line.contains("Issued certificate serial")).count()
    }

    /// An issuer of the `acme` section of our `ConfigMap` that leads here.
    #[must_use]
    pub fn issuer(&self, more: &str) -> String {
        let lines: Vec<&str> = self.ca.lines().collect();
        let bundle = format!("      {}\n", lines.join("\n      "));
        format!(
            "  pebble:\n    server: {}\n    email: ops@example.com\n    caBundle: |\n{bundle}{more}",
            self.directory()
        )
    }
}

/// A CA and a certificate by it for `ip`; the CA's certificate, PEM.
fn identity(folder: &TempDir, ip: Ipv4Addr) -> String {
    let mut params = CertificateParams::new(Vec::<String>::new()).expect("no names are fine");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key can be generated");
    let ca = params.self_signed(&key).expect("a key can sign its certificate");
    let leaf_key = KeyPair::generate().expect("a key can be generated");
    let leaf = CertificateParams::new(vec![ip.to_string()]).expect("an address is a name");
    let leaf = leaf.signed_by(&leaf_key, &Issuer::new(params, key)).expect("a CA can sign");
    for (name, text) in [("leaf.pem", leaf.pem()), ("leaf.key", leaf_key.serialize_pem())] {
        std::fs::write(folder.path().join(name), text).expect("the folder can be written");
    }
    ca.pem()
}

/// A name server for which every name leads to the same addresses, in turns.
pub struct Dns {
    /// Where it listens (UDP).
    pub address: SocketAddr,
    targets: Arc<Mutex<Vec<Ipv4Addr>>>,
    ended: Arc<AtomicBool>,
}

impl Dns {
    fn start(targets: Vec<Ipv4Addr>) -> Self {
        let socket = UdpSocket::bind((loopback::address(), 0)).expect("loopback addresses can be bound");
        socket.set_read_timeout(Some(Duration::from_millis(200))).expect("a socket has a time limit");
        let address = socket.local_addr().expect("a bound socket has an address");
        let (targets, ended) = (Arc::new(Mutex::new(targets)), Arc::new(AtomicBool::new(false)));
        let (shared, end) = (Arc::clone(&targets), Arc::clone(&ended));
        std::thread::spawn(move || {
            let mut buffer = [0; 1500];
            while !end.load(Ordering::Relaxed) {
                let Ok((len, peer)) = socket.recv_from(&mut buffer) else { continue };
                let mut targets = shared.lock().expect("nobody panics with the targets");
                let target = targets.first().copied();
                if !targets.is_empty() {
                    targets.rotate_left(1);
                }
                drop(targets);
                if let Some(answer) = answer(&buffer[..len], target) {
                    // A client that is gone asks again.
                    let _ = socket.send_to(&answer, peer);
                }
            }
        });
        Self { address, targets, ended }
    }

    /// Lets every name lead to these from now on.
    pub fn lead_to(&self, targets: &[Ipv4Addr]) {
        *self.targets.lock().expect("nobody panics with the targets") = targets.to_vec();
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

/// Answers one question (RFC 1035 §4): an A record with `target`, nothing for any other type.
fn answer(query: &[u8], target: Option<Ipv4Addr>) -> Option<Vec<u8>> {
    let name_len = query.get(12..)?.iter().position(|byte| *byte == 0)? + 1;
    let question = query.get(12..12 + name_len + 4)?;
    let kind = u16::from_be_bytes([question[name_len], question[name_len + 1]]);
    let record = target.filter(|_| kind == 1);
    let mut answer = query.get(..2)?.to_vec();
    // A response, authoritative, recursion available; one question, perhaps one answer.
    answer.extend([0x85, 0x80, 0, 1, 0, u8::from(record.is_some()), 0, 0, 0, 0]);
    answer.extend(question);
    if let Some(ip) = record {
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
        answer.extend(ip.octets());
    }
    Some(answer)
}
