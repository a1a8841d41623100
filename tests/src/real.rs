//! A real `kube-apiserver` on its own `etcd`, for what only the real one validates, defaults and authorises.
//!
//! [`assets`] finds the programs as `envtest` does: `KUBEBUILDER_ASSETS` names a folder with `etcd`, `kube-apiserver`
//! and `kubectl`. Everything lives in a folder of its own and listens on free loopback ports; nothing of it outlives
//! the value, nor, where `setpriv` of util-linux is there, the thread that started it: a killed test program leaves
//! neither behind. RBAC decides who may do what; [`RealApiServer::kubeconfig`] gives its administrator's access,
//! [`RealApiServer::kubeconfig_of`] that of anybody.
//!
//! What it is not: a cluster. No controller manager runs, so no Pod, no endpoint and no token Secret appears by itself.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::appliance::Process;
use crate::wait::Stopwatch;

/// The variable that names the folder of the programs.
pub const ASSETS: &str = "KUBEBUILDER_ASSETS";
/// How long a server may take until it is ready.
const START: Duration = Duration::from_mins(1);
/// How long one request may take.
const LIMIT: Duration = Duration::from_secs(30);
/// Where Services get their cluster IPs.
const SERVICES: &str = "10.96.0.0/16";
/// What it makes for itself some time after it is ready.
const OWN: [&str; 5] = [
    "/api/v1/namespaces/kube-system",
    "/api/v1/namespaces/kube-public",
    "/api/v1/namespaces/kube-node-lease",
    "/api/v1/namespaces/default/services/kubernetes",
    "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes",
];
const ADMIN: &str = "admin-token";

/// The folder of the programs, if it is named and has them all.
///
/// # Panics
/// If the variable names a folder that lacks one of them: a suite that was asked to run on a real server must not
/// silently run on another.
#[must_use]
pub fn assets() -> Option<PathBuf> {
    let folder = PathBuf::from(std::env::var_os(ASSETS)?);
    for program in ["etcd", "kube-apiserver", "kubectl"] {
        assert!(folder.join(program).is_file(), "{ASSETS} names {}, which has no {program}", folder.display());
    }
    Some(folder)
}

/// A running server; ends with its `etcd` when dropped.
pub struct RealApiServer {
    assets: PathBuf,
    folder: TempDir,
    address: SocketAddr,
    etcd_address: SocketAddr,
    server: Mutex<Option<Process>>,
    _etcd: Process,
    client: kube::Client,
    runtime: Option<Runtime>,
}

/// Why the server refused, or did not answer.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// It answered with another code than 2xx.
    #[error("{code}: {message}")]
    Refused {
        /// HTTP status code.
        code: u16,
        /// What it said.
        message: String,
    },
    /// It did not answer, or not in JSON.
    #[error("no answer of the API server: {0}")]
    Unanswered(String),
}

impl RealApiServer {
    /// Starts both programs of this folder and waits until the server is ready.
    ///
    /// # Panics
    /// If it does not become ready, with the end of its log.
    pub fn start(assets: &Path) -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix("ferrogate-real-").tempdir()?;
        prepare(folder.path())?;
        let [address, etcd_address, peers] = free_ports()?;
        let etcd = Process::start(etcd(assets, folder.path(), etcd_address, peers));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let server = Process::start(kube_apiserver(assets, folder.path(), address, etcd_address));
        let client = {
            let _entered = runtime.enter();
            let mut config = kube::Config::new(format!("https://{address}").parse().map_err(io::Error::other)?);
            config.auth_info.token = Some(ADMIN.to_owned().into());
            // Its certificate is made by itself while it starts, in a folder that only we write to.
            config.accept_invalid_certs = true;
            kube::Client::try_from(config).map_err(io::Error::other)?
        };
        let (assets, server) = (assets.to_owned(), Mutex::new(Some(server)));
        let started =
            Self { assets, folder, address, etcd_address, server, _etcd: etcd, client, runtime: Some(runtime) };
        started.ready();
        Ok(started)
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where the programs lie, `kubectl` among them.
    #[must_use]
    pub fn assets(&self) -> &Path {
        &self.assets
    }

    /// A client with every right.
    #[must_use]
    pub fn client(&self) -> kube::Client {
        self.client.clone()
    }

    /// Writes a kubeconfig with every right into `dir` and returns its path.
    pub fn kubeconfig(&self, dir: &Path) -> io::Result<PathBuf> {
        self.write_kubeconfig(&dir.join("admin.kubeconfig"), &json!({ "token": ADMIN }))
    }

    /// Writes a kubeconfig that acts as `user` (`system:serviceaccount:NAMESPACE:NAME`) with the rights RBAC gives
    /// it, and returns its path.
    pub fn kubeconfig_of(&self, dir: &Path, user: &str) -> io::Result<PathBuf> {
        let groups: Vec<String> = match user.strip_prefix("system:serviceaccount:").and_then(|it| it.split_once(':')) {
            Some((namespace, _)) => {
                vec!["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")]
            }
            None => Vec::new(),
        };
        let groups: Vec<String> = groups.into_iter().chain(["system:authenticated".to_owned()]).collect();
        let path = dir.join(format!("{}.kubeconfig", user.replace(':', "-")));
        self.write_kubeconfig(&path, &json!({ "token": ADMIN, "as": user, "as-groups": groups }))
    }

    fn write_kubeconfig(&self, path: &Path, user: &Value) -> io::Result<PathBuf> {
        let cluster = json!({ "server": format!("https://{}", self.address), "insecure-skip-tls-verify": true });
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "real", "preferences": {},
            "clusters": [{ "name": "real", "cluster": cluster }], "users": [{ "name": "real", "user": user }],
            "contexts": [{ "name": "real", "context": { "cluster": "real", "user": "real" } }],
        });
        std::fs::write(path, config.to_string())?;
        Ok(path.to_owned())
    }

    /// Ends the server as a power cut would; what `etcd` stored stays.
    pub fn go_away(&self) {
        drop(self.lock().take());
    }

    /// Comes back at the same address, on the same `etcd`, and waits until it is ready. What it remembered of the past
    /// to serve watches is lost.
    ///
    /// # Panics
    /// If it does not become ready.
    pub fn come_back(&self) {
        let command = kube_apiserver(&self.assets, self.folder.path(), self.address, self.etcd_address);
        *self.lock() = Some(Process::start(command));
        self.ready();
    }

    /// Forgets history, so that a watch from before is told "410 Gone": compacts `etcd` and starts the server anew,
    /// whose cache would know it otherwise.
    ///
    /// # Panics
    /// If `etcd` refuses, or the server does not come back.
    pub fn compact(&self) {
        let namespaces = self.request("GET", "/api/v1/namespaces", None).expect("namespaces can be listed");
        let revision = namespaces["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned();
        let body = json!({ "revision": revision }).to_string();
        let answer = post(self.etcd_address, "/v3/kv/compaction", &body).expect("etcd answers");
        assert!(answer.starts_with("HTTP/1.1 200"), "etcd does not compact to {revision}: {answer}");
        self.go_away();
        self.come_back();
    }

    /// Sends one request as administrator and waits for its answer, which is JSON; a patch is a merge patch (RFC 7386).
    pub fn request(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, RequestError> {
        let client = self.client.clone();
        let kind = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
        let request = http::Request::builder().method(method).uri(path).header("content-type", kind);
        let request = request.body(body.map(ToString::to_string).unwrap_or_default().into_bytes());
        let request = request.map_err(|error| RequestError::Unanswered(error.to_string()))?;
        let work = async move { tokio::time::timeout(LIMIT, client.request_text(request)).await };
        let (answer, answered) = std::sync::mpsc::channel();
        let runtime = self.runtime.as_ref().expect("it is there until the end");
        runtime.spawn(async move { answer.send(work.await) });
        match answered.recv() {
            Ok(Ok(Ok(text))) => serde_json::from_str(&text).or(Ok(Value::String(text))),
            Ok(Ok(Err(kube::Error::Api(status)))) => {
                Err(RequestError::Refused { code: status.code, message: status.message.clone() })
            }
            Ok(Ok(Err(error))) => Err(RequestError::Unanswered(error.to_string())),
            Ok(Err(_)) | Err(_) => Err(RequestError::Unanswered(format!("nothing within {LIMIT:?}"))),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Process>> {
        self.server.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Waits until `/readyz` says so and what the server makes for itself is there.
    fn ready(&self) {
        let watch = Stopwatch::start();
        loop {
            let answer = self.request("GET", "/readyz", None);
            let own = OWN.iter().map(|path| self.request("GET", path, None).map(drop));
            let Err(error) = answer.and_then(|_| own.collect::<Result<(), _>>()) else { return };
            let mut server = self.lock();
            let process = server.as_mut().expect("it was started");
            let ended = process.ended();
            if ended.is_some() || watch.elapsed() > START {
                let log = process.log();
                let lines: Vec<&str> = log.lines().collect();
                let tail = lines[lines.len().saturating_sub(30)..].join("\n");
                panic!("kube-apiserver is not ready: {error}; ended: {ended:?}; the end of its log:\n{tail}");
            }
            drop(server);
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for RealApiServer {
    fn drop(&mut self) {
        self.go_away();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// The key of service account tokens, and who has which token.
fn prepare(folder: &Path) -> io::Result<()> {
    let key = rcgen::KeyPair::generate().map_err(io::Error::other)?;
    std::fs::write(folder.join("accounts.key"), key.serialize_pem())?;
    std::fs::write(folder.join("accounts.pub"), key.public_key_pem())?;
    std::fs::write(folder.join("tokens.csv"), format!("{ADMIN},admin,admin,system:masters\n"))
}

/// A program that the kernel kills when the thread that started it ends (`PR_SET_PDEATHSIG`), if we can have that.
fn mortal(program: PathBuf) -> Command {
    let can = Command::new("setpriv").arg("--version").output().is_ok_and(|output| output.status.success());
    if !can {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]).arg(program);
    command
}

fn etcd(assets: &Path, folder: &Path, clients: SocketAddr, peers: SocketAddr) -> Command {
    let mut command = mortal(assets.join("etcd"));
    let (clients, peers) = (format!("http://{clients}"), format!("http://{peers}"));
    command.arg("--data-dir").arg(folder.join("etcd"));
    command.args(["--listen-client-urls", &clients, "--advertise-client-urls", &clients]);
    command.args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers]);
    command.args(["--initial-cluster", &format!("default={peers}"), "--log-level", "warn", "--unsafe-no-fsync"]);
    command
}

fn kube_apiserver(assets: &Path, folder: &Path, address: SocketAddr, etcd: SocketAddr) -> Command {
    let mut command = mortal(assets.join("kube-apiserver"));
    let (key, public) = (folder.join("accounts.key"), folder.join("accounts.pub"));
    command.args(["--etcd-servers", &format!("http://{etcd}"), "--bind-address", &address.ip().to_string()]);
    command.args(["--secure-port", &address.port().to_string(), "--service-cluster-ip-range", SERVICES]);
    command.args(["--advertise-address", "192.0.2.1", "--authorization-mode", "RBAC"]);
    command.args(["--service-account-issuer", "https://kubernetes.default.svc"]);
    command.arg("--service-account-key-file").arg(public).arg("--service-account-signing-key-file").arg(key);
    command.arg("--token-auth-file").arg(folder.join("tokens.csv")).arg("--cert-dir").arg(folder.join("pki"));
    command
}

/// Ports that nobody had a moment ago.
fn free_ports<const N: usize>() -> io::Result<[SocketAddr; N]> {
    let mut held = Vec::with_capacity(N);
    for _ in 0..N {
        held.push(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?);
    }
    let mut ports = [SocketAddr::from((Ipv4Addr::LOCALHOST, 0)); N];
    for (port, listener) in ports.iter_mut().zip(&held) {
        *port = listener.local_addr()?;
    }
    Ok(ports)
}

fn post(address: SocketAddr, path: &str, body: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(LIMIT))?;
    let length = body.len();
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nHost: etcd\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_goes_away_comes_back_with_what_it_stored() {
        let Some(assets) = assets() else {
            println!("skipped: {ASSETS} names no API server");
            return;
        };
        let server = RealApiServer::start(&assets).unwrap();
        let object =
            json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "kept" }, "data": { "a": "b" } });
        let path = "/api/v1/namespaces/default/configmaps";
        let stored = server.request("POST", path, Some(&object)).unwrap();
        server.go_away();
        let away = server.request("GET", path, None);
        assert!(matches!(away, Err(RequestError::Unanswered(_))), "{away:?}");
        server.come_back();
        let found = server.request("GET", &format!("{path}/kept"), None).unwrap();
        assert_eq!((&found["data"], &found["metadata"]["uid"]), (&object["data"], &stored["metadata"]["uid"]));
    }
}
