//! The real binary, started and asked as an operator would.

use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::client::{Response, Target};
use crate::metrics::Metrics;
use crate::wait::{PATIENCE, until, within};
use crate::{binary, loopback};

/// How an appliance is to be started.
#[derive(Clone, Debug)]
pub struct Builder {
    ip: Ipv4Addr,
    http: SocketAddr,
    https: SocketAddr,
    admin: SocketAddr,
    namespace: Option<String>,
    /// Folder mode only.
    state: Option<PathBuf>,
    arguments: Vec<String>,
    /// The state folder of an appliance that was given none; kept while it runs or may be started again.
    scratch: Arc<TempDir>,
}

impl Builder {
    /// `ferrogate run` on this folder, with free ports of a loopback address of its own.
    #[must_use]
    pub fn new(manifests: &Path) -> Self {
        let builder = Self::on("--manifests", manifests);
        Self { state: Some(builder.scratch.path().to_owned()), ..builder }
    }

    /// `ferrogate run` on the cluster of this kubeconfig, with free ports of a loopback address of its own.
    #[must_use]
    pub fn cluster(kubeconfig: &Path) -> Self {
        Self::on("--kubeconfig", kubeconfig)
    }

    fn on(flag: &str, source: &Path) -> Self {
        let ip = loopback::address();
        let (http, https, admin) = (loopback::port(ip), loopback::port(ip), loopback::port(ip));
        let arguments = vec![flag.to_owned(), source.display().to_string()];
        let scratch = tempfile::Builder::new().prefix("ferrogate-state-").tempdir().expect("a temporary folder");
        Self { ip, http, https, admin, namespace: None, state: None, arguments, scratch: Arc::new(scratch) }
    }

    /// The loopback address it listens on: in a pool of one address, a Service's external address.
    #[must_use]
    pub const fn ip(&self) -> Ipv4Addr {
        self.ip
    }

    /// Where it will listen for HTTP and HTTPS.
    #[must_use]
    pub const fn listeners(&self) -> (SocketAddr, SocketAddr) {
        (self.http, self.https)
    }

    /// Where it will answer its operator.
    #[must_use]
    pub const fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Listens on these ports of its address.
    #[must_use]
    pub fn on_ports(mut self, http: u16, https: u16) -> Self {
        self.http.set_port(http);
        self.https.set_port(https);
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn with<T: AsRef<str>>(mut self, arguments: &[T]) -> Self {
        self.arguments.extend(arguments.iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    /// Keeps state in this folder (else in one that is gone with the builder).
    #[must_use]
    pub fn state(self, folder: &Path) -> Self {
        Self { state: Some(folder.to_owned()), ..self }
    }

    /// Runs inside a namespace, on ports 80 and 443 of every address there.
    #[must_use]
    pub fn inside(self, namespace: &str) -> Self {
        let any = |port| SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
        let admin = SocketAddr::from((Ipv4Addr::LOCALHOST, 9100));
        Self { http: any(80), https: any(443), admin, namespace: Some(namespace.to_owned()), ..self }
    }

    /// Starts it without waiting.
    #[must_use]
    pub fn spawn(&self) -> Appliance {
        let mut command = match &self.namespace {
            None => Command::new(binary::path()),
            Some(name) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", name]).arg(binary::path());
                command
            }
        };
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("FERROGATE_")) {
            command.env_remove(name);
        }
        command.arg("run").args(&self.arguments);
        if let Some(state) = &self.state {
            command.arg("--state").arg(state);
        }
        // Outside a namespace nothing may be said on this machine's LAN, whoever runs the tests.
        let interface = if self.namespace.is_some() { "eth0" } else { "lo" };
        command.args(["--interface", interface]);
        for (flag, address) in [("--http", self.http), ("--https", self.https), ("--admin", self.admin)] {
            command.args([flag, &address.to_string()]);
        }
        // Appliances of one machine are no nodes of one LAN.
        if self.namespace.is_none() {
            command.args(["--heartbeat-port", &loopback::udp_port().to_string()]);
        }
        let namespace = self.namespace.as_deref();
        let [http, https, admin] = [self.http, self.https, self.admin];
        let (process, admin) = (Process::start(command), Target::plain(admin).from(namespace));
        Appliance { process, http, https, admin, _scratch: Arc::clone(&self.scratch) }
    }

    /// Starts it and waits until it is ready.
    pub async fn start(&self) -> Appliance {
        let mut appliance = self.spawn();
        appliance.ready().await;
        appliance
    }
}

/// A running appliance; killed on drop, and only it.
pub struct Appliance {
    process: Process,
    /// Where it listens for HTTP.
    pub http: SocketAddr,
    /// Where it listens for HTTPS.
    pub https: SocketAddr,
    /// Where it answers its operator.
    pub admin: Target,
    _scratch: Arc<TempDir>,
}

impl Appliance {
    /// Waits until `/readyz` says so.
    pub async fn ready(&mut self) {
        self.ready_within(PATIENCE).await;
    }

    /// As [`Self::ready`], with another limit.
    pub async fn ready_within(&mut self, limit: Duration) {
        within(limit, "readiness", async || {
            if let Some(status) = self.process.ended() {
                panic!("the appliance ended with {status} before it was ready");
            }
            match self.admin.get("admin", "/readyz").await {
                Ok(response) if response.status == 200 => Ok(()),
                Ok(response) => Err(format!("{}: {}", response.status, response.text())),
                Err(error) => Err(error.to_string()),
            }
        })
        .await;
    }

    /// A GET over HTTP.
    pub async fn get(&self, host: &str, path: &str) -> std::io::Result<Response> {
        Target::plain(self.http).get(host, path).await
    }

    /// A GET over HTTPS, with the host as SNI.
    pub async fn get_tls(&self, host: &str, path: &str) -> std::io::Result<Response> {
        Target::tls(self.https, host).get(host, path).await
    }

    /// The certificate, DER, that a client is shown who asks for `host`.
    pub async fn shown(&self, host: &str) -> std::io::Result<Vec<u8>> {
        let connection = Target::tls(self.https, host).connect().await?;
        connection.certificate.ok_or_else(|| std::io::Error::other("no certificate was shown"))
    }

    /// A list of the admin API: `api("vips")`.
    pub async fn api(&self, name: &str) -> Vec<Value> {
        let response = self.admin.get("admin", &format!("/api/v1/{name}")).await.expect("the admin API answers");
        assert_eq!(response.status, 200, "/api/v1/{name}: {}", response.text());
        let mut body: Value = serde_json::from_slice(&response.body).expect("the admin API speaks JSON");
        match body[name].take() {
            Value::Array(entries) => entries,
            other => panic!("/api/v1/{name} has no list {name:?} but {other}"),
        }
    }

    /// The addresses of every Service, by `namespace/name`, in that order.
    pub async fn addresses(&self) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().map(str::to_owned).unwrap_or_default();
        let entry = |vip: Value| {
            let ips = vip["ips"].as_array().map(|ips| ips.iter().map(text).collect::<Vec<_>>().join(","));
            (format!("{}/{}", text(&vip["namespace"]), text(&vip["service"])), ips.unwrap_or_default())
        };
        let mut all: Vec<_> = self.api("vips").await.into_iter().map(entry).collect();
        all.sort();
        all
    }

    /// The problems, as JSON.
    pub async fn problems(&self) -> Vec<Value> {
        self.api("problems").await
    }

    /// One scrape.
    pub async fn metrics(&self) -> Metrics {
        let response = self.admin.get("admin", "/metrics").await.expect("the admin listener answers");
        Metrics::parse(&response.text()).unwrap_or_else(|why| panic!("{why} in\n{}", response.text()))
    }

    /// Waits until a GET gives this status and body.
    pub async fn answers(&self, host: &str, path: &str, status: u16, body: &str) {
        until(&format!("{status} {body:?} at {host}{path}"), async || {
            let response = self.get(host, path).await.map_err(|error| error.to_string())?;
            let matches = response.status == status && response.text().contains(body);
            if matches { Ok(()) } else { Err(format!("{} {:?}", response.status, response.text())) }
        })
        .await;
    }

    /// The id of the process.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// The process.
    pub const fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Everything it wrote so far.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.log()
    }
}

/// A child process whose output is kept; killed on drop.
pub struct Process {
    child: Child,
    log: Arc<Mutex<String>>,
}

impl Process {
    /// Starts a command.
    ///
    /// # Panics
    /// If it cannot be run.
    #[must_use]
    pub fn start(mut command: Command) -> Self {
        let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?} cannot be run: {error}"));
        let log = Arc::default();
        keep(child.stdout.take(), &log);
        keep(child.stderr.take(), &log);
        Self { child, log }
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a child has an id");
        kill_process(pid, signal).expect("our child can be signalled");
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("our child can be waited for")
    }

    /// Waits for its end.
    pub async fn end(&mut self) -> ExitStatus {
        until("the end of the process", async || self.ended().ok_or("it still runs")).await
    }

    /// Ends it as a power cut would.
    pub fn kill(&mut self) {
        self.child.kill().expect("our child can be killed");
        self.child.wait().expect("our child can be waited for");
    }

    /// Everything it wrote so far, both streams line by line.
    #[must_use]
    pub fn log(&self) -> String {
        self.log.lock().expect("nobody panics with the log").clone()
    }

    /// Where its executable lies, as the kernel sees it.
    #[must_use]
    pub fn proc(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}", self.id()))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<_> = log.lines().collect();
            let tail = lines[lines.len().saturating_sub(60)..].join("\n");
            eprintln!("--- end of the output of process {}\n{tail}\n---", self.id());
        }
    }
}

/// Copies a stream into the log on a thread that ends with the stream.
fn keep(stream: Option<impl Read + Send + 'static>, log: &Arc<Mutex<String>>) {
    let (Some(stream), log) = (stream, Arc::clone(log)) else { return };
    std::thread::spawn(move || {
        for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
            let mut log = log.lock().expect("nobody panics with the log");
            log.push_str(&String::from_utf8_lossy(&line));
            log.push('\n');
        }
    });
}
