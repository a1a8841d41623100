//! A small Kubernetes API server, so that tests of API mode need no cluster.
//!
//! It does list (selectors, pages), watch (resume, bookmarks, streaming lists, "410 Gone"), create, update, merge patch,
//! server-side apply, delete, `status` apart from the rest, optimistic concurrency, TLS and bearer tokens, for the
//! resources of [`kinds`]. Tests can inject [`faults`], cut watches, forget history, and count requests.
//!
//! What it is not: it validates nothing, defaults nothing, runs no admission, no RBAC and no controllers (nobody
//! gives a Service its cluster IP unless the test does), knows no JSON patch and no strategic merge patch, and keeps no finalizers. What
//! depends on these is tested against a real `kube-apiserver`: if `KUBEBUILDER_ASSETS` names one ([`crate::real`]), the
//! same [`ApiServer`] is only a face before it. Every request passes through, so that faults, counts and cut watches
//! work there as well; what is stored, validated, defaulted and merged is the real server's doing.

mod apply;
pub mod failure;
pub mod faults;
mod forward;
mod http;
pub mod kinds;
mod selector;
pub mod store;
mod watching;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener as Socket};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderMap, header};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use self::faults::{Faults, lock};
use self::kinds::Target;
use self::store::{Key, Store, Write};
use crate::netns::{self, Namespace};
use crate::real::{self, RealApiServer};

/// What every request needs.
pub(crate) struct Shared {
    store: Arc<Store>,
    /// Who stores instead.
    real: Option<Arc<RealApiServer>>,
    faults: Arc<Faults>,
    tokens: Mutex<Vec<String>>,
    dropped: watch::Sender<u64>,
    bookmarks: Duration,
}

impl Shared {
    /// A cluster with nothing in it: a real one, if there is one to be had.
    fn new() -> io::Result<Arc<Self>> {
        let real = real::assets().map(|assets| RealApiServer::start(&assets)).transpose()?;
        Ok(Arc::new(Self {
            store: Arc::default(),
            real: real.map(Arc::new),
            faults: Arc::default(),
            tokens: Mutex::new(vec![TOKEN.to_owned()]),
            dropped: watch::Sender::new(0),
            bookmarks: Duration::from_secs(1),
        }))
    }

    fn admits(&self, headers: &HeaderMap) -> bool {
        let token = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        token.is_some_and(|token| lock(&self.tokens).iter().any(|known| known == token))
    }
}

/// A running server; ends when dropped.
pub struct ApiServer {
    address: SocketAddr,
    ca: String,
    shared: Arc<Shared>,
    tls: TlsAcceptor,
    /// The network namespace it listens in, if not in ours.
    namespace: Option<String>,
    /// Everything that serves, so that it can end at once, connections included; `None` while the server is away.
    runtime: Option<Runtime>,
}

/// The token of [`ApiServer::kubeconfig`].
const TOKEN: &str = "test-token";

impl ApiServer {
    /// Starts on a free loopback port, before a real server if there is one.
    pub fn start() -> io::Result<Self> {
        Self::listening(Ipv4Addr::LOCALHOST, None)
    }

    /// The same inside a network namespace; a real server stays outside and is reached all the same.
    pub fn start_inside(namespace: &Namespace) -> io::Result<Self> {
        Self::start_at(namespace, Ipv4Addr::LOCALHOST)
    }

    /// The same at an address of that namespace, for others on its LAN.
    pub fn start_at(namespace: &Namespace, ip: Ipv4Addr) -> io::Result<Self> {
        Self::listening(ip, Some(namespace.name().to_owned()))
    }

    fn listening(ip: Ipv4Addr, namespace: Option<String>) -> io::Result<Self> {
        let (ca, tls) = identity(ip)?;
        let listener = bind((ip, 0).into(), namespace.as_deref())?;
        let (address, shared) = (listener.local_addr()?, Shared::new()?);
        let mut server = Self { address, ca, shared, tls, namespace, runtime: None };
        server.serve(listener)?;
        server.settle()?;
        Ok(server)
    }

    /// Makes the namespaces that tests use, and the one that names the cluster.
    fn settle(&self) -> io::Result<()> {
        let names: &[&str] = if self.real().is_some() { &["shop", "metallb-system"] } else { &["kube-system"] };
        for name in names {
            self.ensure_namespace(name).map_err(|failure| io::Error::other(failure.message))?;
        }
        Ok(())
    }

    /// Makes a namespace, if it is not there.
    pub fn ensure_namespace(&self, name: &str) -> Result<(), failure::Failure> {
        if self.get("Namespace", "", name).is_ok() {
            return Ok(());
        }
        self.put(&json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } })).map(drop)
    }

    /// While it is away: what comes back at this address is another cluster, with the same certificate and token.
    pub fn become_another(&mut self) -> io::Result<()> {
        assert!(self.runtime.is_none(), "it has to be away");
        self.shared = Shared::new()?;
        self.settle()
    }

    fn serve(&mut self, listener: Socket) -> io::Result<()> {
        listener.set_nonblocking(true)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let router = Router::new().fallback(http::answer).with_state(Arc::clone(&self.shared));
        let tls = self.tls.clone();
        runtime.spawn(async move {
            let listener = TcpListener::from_std(listener)?;
            axum::serve(Secured { listener, tls }, router).await
        });
        self.runtime = Some(runtime);
        Ok(())
    }

    /// Goes away as a server does that is killed: every connection ends. What it stored stays.
    pub fn go_away(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    /// Comes back at the same address.
    pub async fn come_back(&mut self) -> io::Result<()> {
        let listener =
            crate::wait::until("the port is free", async || bind(self.address, self.namespace.as_deref())).await;
        self.serve(listener)
    }

    /// The real server that stores, if one does.
    #[must_use]
    pub fn real(&self) -> Option<&RealApiServer> {
        self.shared.real.as_deref()
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The faults to inject and the requests seen.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.shared.faults
    }

    /// Writes a kubeconfig into `dir`, with its CA and token beside it, and returns its path.
    pub fn kubeconfig(&self, dir: &Path) -> io::Result<PathBuf> {
        let (config, ca, token) = (dir.join("kubeconfig"), dir.join("ca.crt"), dir.join("token"));
        std::fs::write(&ca, &self.ca)?;
        std::fs::write(&token, TOKEN)?;
        let cluster = json!({ "server": format!("https://{}", self.address), "certificate-authority": ca });
        let text = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test", "preferences": {},
            "clusters": [{ "name": "test", "cluster": cluster }],
            "users": [{ "name": "test", "user": { "tokenFile": token } }],
            "contexts": [{ "name": "test", "context": { "cluster": "test", "user": "test" } }],
        });
        std::fs::write(&config, text.to_string())?;
        Ok(config)
    }

    /// From now on only this token is accepted.
    pub fn rotate_token(&self, token: &str) {
        *lock(&self.shared.tokens) = vec![token.to_owned()];
    }

    /// Ends every watch that is open.
    pub fn drop_watches(&self) {
        self.shared.dropped.send_modify(|count| *count += 1);
    }

    /// Forgets history, so that a watch from before is told "410 Gone".
    pub fn compact(&self) {
        match self.real() {
            Some(real) => real.compact(),
            None => self.shared.store.compact(),
        }
    }

    /// Creates or replaces an object, as `kubectl replace --force` would, keeping its status.
    pub fn put(&self, object: &Value) -> Result<Value, failure::Failure> {
        let (key, write) = (key_of(object)?, Write { manager: "kubectl", subresource: "" });
        if let Some(real) = self.real() {
            return forward::put(real, &target(&key), object);
        }
        let mut object = object.clone();
        if self.shared.store.get(&key).is_err() {
            return self.shared.store.create(key, object, write);
        }
        if let Some(metadata) = object["metadata"].as_object_mut() {
            metadata.remove("resourceVersion");
        }
        self.shared.store.update(&key, &object, write)
    }

    /// Creates an object as it is. A real server gives cluster IPs one after the other; of many Services that bring
    /// their own it takes several at a time.
    pub fn create(&self, object: &Value) -> Result<Value, failure::Failure> {
        let key = key_of(object)?;
        if let Some(real) = self.real() {
            let target = target(&key);
            let collection = target.resource.collection(target.namespace.as_deref());
            return forward::ask(real, "POST", &collection, Some(object));
        }
        self.shared.store.create(key, object.clone(), Write { manager: "kubectl", subresource: "" })
    }

    /// Replaces an object's status, as another controller would.
    pub fn put_status(&self, object: &Value) -> Result<Value, failure::Failure> {
        let key = key_of(object)?;
        if let Some(real) = self.real() {
            let path = format!("{}/status?fieldManager=another", forward::path(&target(&key)));
            return forward::ask(real, "PUT", &path, Some(object));
        }
        self.shared.store.update(&key, object, Write { manager: "another", subresource: "status" })
    }

    /// The object of that kind and name as it is now.
    pub fn get(&self, kind: &str, namespace: &str, name: &str) -> Result<Value, failure::Failure> {
        let key = key(kind, namespace, name)?;
        match self.real() {
            Some(real) => forward::ask(real, "GET", &forward::path(&target(&key)), None),
            None => self.shared.store.get(&key),
        }
    }

    /// From now on watches tell `instead` at `pointer` of this object, if it is there or comes, as a server with other
    /// ideas of its kind would.
    pub fn garble(&self, kind: &str, namespace: &str, name: &str, pointer: &str, instead: Value) {
        let known = kinds::by_kind(kind).expect("a kind it serves").kind;
        self.shared.faults.lie(known, name, pointer, instead);
        self.touch(kind, namespace, name);
    }

    /// Watches tell the truth of this object again.
    pub fn mend(&self, kind: &str, namespace: &str, name: &str) {
        self.shared.faults.tell_the_truth(kind, name);
        self.touch(kind, namespace, name);
    }

    /// Changes an object in a way that means nothing to anybody, so that watches tell of it.
    fn touch(&self, kind: &str, namespace: &str, name: &str) {
        let Ok(object) = self.get(kind, namespace, name) else { return };
        let version = &object["metadata"]["resourceVersion"];
        let patch = json!({ "metadata": { "annotations": { "example.com/touched-at": version } } });
        let key = key(kind, namespace, name).expect("a kind it serves");
        let touched = match self.real() {
            Some(real) => forward::ask(real, "PATCH", &forward::path(&target(&key)), Some(&patch)),
            None => self.shared.store.patch(&key, &patch, Write { manager: "kubectl", subresource: "" }),
        };
        touched.expect("it can be annotated");
    }

    /// Removes an object.
    pub fn delete(&self, kind: &str, namespace: &str, name: &str) -> Result<Value, failure::Failure> {
        let key = key(kind, namespace, name)?;
        match self.real() {
            Some(real) => forward::ask(real, "DELETE", &forward::path(&target(&key)), None),
            None => self.shared.store.delete(&key),
        }
    }

    /// Every object of a kind.
    #[must_use]
    pub fn all(&self, kind: &str) -> Vec<Value> {
        let Some(resource) = kinds::by_kind(kind) else { return Vec::new() };
        let Some(real) = self.real() else { return self.shared.store.list(resource, None).0 };
        let list = forward::ask(real, "GET", &resource.collection(None), None).unwrap_or_default();
        list["items"].as_array().cloned().unwrap_or_default()
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.go_away();
    }
}

fn key(kind: &str, namespace: &str, name: &str) -> Result<Key, failure::Failure> {
    let resource = kinds::by_kind(kind).ok_or_else(|| failure::Failure::new(404, format!("no kind {kind:?} here")))?;
    Ok((resource, namespace.to_owned(), name.to_owned()))
}

fn target((resource, namespace, name): &Key) -> Target {
    let namespace = (resource.namespaced && !namespace.is_empty()).then(|| namespace.clone());
    Target { resource, namespace, name: Some(name.clone()), subresource: None }
}

fn key_of(object: &Value) -> Result<Key, failure::Failure> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let metadata = &object["metadata"];
    key(&text(&object["kind"]), &text(&metadata["namespace"]), &text(&metadata["name"]))
}

fn bind(address: SocketAddr, namespace: Option<&str>) -> io::Result<Socket> {
    match namespace {
        Some(name) => netns::enter(name, move || Socket::bind(address)),
        None => Socket::bind(address),
    }
}

fn identity(ip: Ipv4Addr) -> io::Result<(String, TlsAcceptor)> {
    let names = vec![ip.to_string(), "localhost".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).map_err(io::Error::other)?;
    let key = rustls_pki_types::PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key))
        .map_err(io::Error::other)?;
    Ok((made.cert.pem(), TlsAcceptor::from(Arc::new(config))))
}

/// A listener whose connections speak TLS.
struct Secured {
    listener: TcpListener,
    tls: TlsAcceptor,
}

impl axum::serve::Listener for Secured {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let Ok((stream, peer)) = self.listener.accept().await else { continue };
            if let Ok(stream) = self.tls.accept(stream).await {
                return (stream, peer);
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}
