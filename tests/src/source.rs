//! Where the appliance under test takes its objects from: a folder or an API server, the same to a test.
//!
//! A test writes manifests under file names, as into a folder; before an API server each object of such a text is
//! created or replaced, and what the text of that name no longer has is deleted. So one body of test code proves both
//! ways. What only a folder can do (files renamed, unreadable, in two places) is for [`Source::as_folder`].

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::api_server::ApiServer;
use crate::appliance::{Appliance, Builder};
use crate::folder::Folder;
use crate::loopback;
use crate::upstream::{Received, Reply, Upstream};

/// A source and what was written into it; ends with the test.
pub struct Source {
    place: Place,
    texts: Mutex<BTreeMap<String, String>>,
}

enum Place {
    Folder(Folder),
    Cluster {
        server: Box<ApiServer>,
        /// Where its kubeconfig lies.
        folder: TempDir,
        /// Where backends are, since no endpoint of a cluster may be at a loopback address.
        ip: Ipv4Addr,
    },
}

/// What tells one object from another.
type Identity = (String, String, String);

impl Source {
    /// An empty folder.
    #[must_use]
    pub fn folder() -> Self {
        Self::of(Place::Folder(Folder::new()))
    }

    /// An empty cluster: a real API server, if there is one to be had. `None`, after saying so, where this machine has no
    /// address that an endpoint may have.
    ///
    /// # Panics
    /// If no server can be started.
    #[must_use]
    pub fn cluster() -> Option<Self> {
        let Some(ip) = own_address() else {
            println!("skipped: this machine has no address that an endpoint may have");
            return None;
        };
        let server = Box::new(ApiServer::start().expect("a free loopback port"));
        let folder = tempfile::tempdir().expect("a temporary folder");
        Some(Self::of(Place::Cluster { server, folder, ip }))
    }

    fn of(place: Place) -> Self {
        Self { place, texts: Mutex::default() }
    }

    /// Whether it is a folder: problems name files and lines there, and nobody waits for a Lease.
    #[must_use]
    pub const fn is_folder(&self) -> bool {
        matches!(self.place, Place::Folder(_))
    }

    /// An appliance that takes its objects from here.
    ///
    /// # Panics
    /// If the temporary folder cannot be written.
    #[must_use]
    pub fn builder(&self) -> Builder {
        match &self.place {
            Place::Folder(folder) => Builder::new(folder.path()),
            Place::Cluster { server, folder, .. } => {
                Builder::cluster(&server.kubeconfig(folder.path()).expect("a writable folder"))
            }
        }
    }

    /// Makes these objects, and no others, those of the file `name`.
    ///
    /// # Panics
    /// If the API server does not take one of them.
    pub fn write(&self, name: &str, text: &str) {
        let before = self.texts().insert(name.to_owned(), text.to_owned());
        match &self.place {
            Place::Folder(folder) => folder.write(name, text),
            Place::Cluster { server, .. } => {
                let now = documents(text);
                for object in &now {
                    put(server, object);
                }
                let stays: BTreeSet<Identity> = now.iter().map(identity).collect();
                let before = before.as_deref().map(documents).unwrap_or_default();
                let goes = before.iter().map(identity).filter(|object| !stays.contains(object));
                goes.for_each(|object| delete(server, &object));
            }
        }
    }

    /// Several at once.
    pub fn write_all(&self, files: &[(&str, &str)]) {
        for (name, text) in files {
            self.write(name, text);
        }
    }

    /// Takes away the objects of the file `name`.
    ///
    /// # Panics
    /// If there is no such file.
    pub fn remove(&self, name: &str) {
        let text = self.texts().remove(name).expect("it was written before");
        match &self.place {
            Place::Folder(folder) => folder.remove(name),
            Place::Cluster { server, .. } => {
                documents(&text).iter().map(identity).for_each(|object| delete(server, &object));
            }
        }
    }

    /// What was written under this name.
    ///
    /// # Panics
    /// If nothing was.
    #[must_use]
    pub fn text(&self, name: &str) -> String {
        self.texts().get(name).cloned().expect("it was written before")
    }

    /// Makes the `spec` of the first object of this file one that nobody understands; [`Self::mend`] ends it.
    pub fn break_spec(&self, name: &str) {
        let text = self.text(name);
        match &self.place {
            Place::Folder(folder) => folder.write(name, &text.replacen("spec:", "spec: 7\nspecs:", 1)),
            Place::Cluster { server, .. } => {
                let (kind, namespace, object) = identity(&documents(&text)[0]);
                server.garble(&kind, &namespace, &object, "/spec", json!(7));
            }
        }
    }

    /// Ends what [`Self::break_spec`] did.
    pub fn mend(&self, name: &str) {
        let text = self.text(name);
        match &self.place {
            Place::Folder(folder) => folder.write(name, &text),
            Place::Cluster { server, .. } => {
                let (kind, namespace, object) = identity(&documents(&text)[0]);
                server.mend(&kind, &namespace, &object);
            }
        }
    }

    /// The addresses of every Service that last, by `namespace/name`: what stands in the statuses of a cluster, which is
    /// more than what the appliance intends; of a folder, what it shows.
    pub async fn addresses(&self, appliance: &Appliance) -> Vec<(String, String)> {
        let Place::Cluster { server, .. } = &self.place else { return appliance.addresses().await };
        let shown = |service: &Value| {
            let entries = service["status"]["loadBalancer"]["ingress"].as_array().cloned().unwrap_or_default();
            let ips: Vec<&str> = entries.iter().filter_map(|entry| entry["ip"].as_str()).collect();
            let (_, namespace, name) = identity(service);
            (format!("{namespace}/{name}"), ips.join(","))
        };
        let mut all: Vec<_> =
            server.all("Service").iter().filter(|it| it["spec"]["type"] == "LoadBalancer").map(shown).collect();
        all.sort();
        all
    }

    /// A path beside the manifests or the kubeconfig, for what the test itself wants to keep.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        match &self.place {
            Place::Folder(folder) => folder.file(name),
            Place::Cluster { folder, .. } => folder.path().join(name),
        }
    }

    /// The folder, for what only a folder can do.
    ///
    /// # Panics
    /// If it is none.
    #[must_use]
    pub fn as_folder(&self) -> &Folder {
        match &self.place {
            Place::Folder(folder) => folder,
            Place::Cluster { .. } => panic!("this scenario is one of folders"),
        }
    }

    /// An address that a backend may have; in a folder's case one of its own.
    #[must_use]
    pub fn ip(&self) -> Ipv4Addr {
        match &self.place {
            Place::Folder(_) => loopback::address(),
            Place::Cluster { ip, .. } => *ip,
        }
    }

    /// Where nobody listens.
    #[must_use]
    pub fn closed(&self) -> SocketAddr {
        loopback::port(self.ip())
    }

    /// A backend that answers everything with its name.
    pub async fn named(&self, name: &str) -> Upstream {
        let name = name.to_owned();
        self.upstream(move |_| Reply::Text(name.clone())).await
    }

    /// A backend that asks `behave` what to do with each request.
    pub async fn upstream(&self, behave: impl Fn(&Received) -> Reply + Send + Sync + 'static) -> Upstream {
        Upstream::start_on(self.ip(), behave).await
    }

    fn texts(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, String>> {
        self.texts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The address by which this machine would reach others; asking sends nothing.
#[must_use]
pub fn own_address() -> Option<Ipv4Addr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    match socket.local_addr().ok()?.ip() {
        IpAddr::V4(ip) if !ip.is_loopback() && !ip.is_link_local() && !ip.is_unspecified() => Some(ip),
        _ => None,
    }
}

fn documents(text: &str) -> Vec<Value> {
    serde_yaml::from_multiple(text).unwrap_or_else(|error| panic!("{error} in\n{text}"))
}

fn identity(object: &Value) -> Identity {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let metadata = &object["metadata"];
    (text(&object["kind"]), text(&metadata["namespace"]), text(&metadata["name"]))
}

/// As `kubectl replace --force` would, with the namespace made first.
fn put(server: &ApiServer, object: &Value) {
    let (_, namespace, _) = identity(object);
    if server.real().is_some() && !namespace.is_empty() {
        server.ensure_namespace(&namespace).expect("a namespace can be made");
    }
    server.put(&allocated(object)).unwrap_or_else(|failure| panic!("{}: {object}", failure.message));
}

/// What a real server would fill in: a Service has an address inside the cluster.
fn allocated(object: &Value) -> Value {
    let mut object = object.clone();
    if object["kind"] == "Service" && object["spec"]["clusterIP"].is_null() {
        object["spec"]["clusterIP"] = json!("10.96.0.10");
        object["spec"]["clusterIPs"] = json!(["10.96.0.10"]);
    }
    object
}

fn delete(server: &ApiServer, (kind, namespace, name): &Identity) {
    server.delete(kind, namespace, name).unwrap_or_else(|failure| panic!("{}", failure.message));
}
