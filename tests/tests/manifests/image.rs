//! The image: an empty root with one static program in it, which finds its way without anything else.
//!
//! `FERROGATE_IMAGE` names the archive that `manifests/image/build` made; without it these tests are skipped.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ferrogate_tests::api_server::ApiServer;
use ferrogate_tests::appliance::Process;
use ferrogate_tests::client::Target;
use ferrogate_tests::manifests::{INGRESS_CLASS, Ingress, backend};
use ferrogate_tests::wait::until;
use ferrogate_tests::{binary, loopback};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::objects::{documents, read, run, text};

/// The archive; `None`, after saying so, where it is not named or nobody may change root.
fn archive() -> Option<PathBuf> {
    let Some(path) = std::env::var_os("FERROGATE_IMAGE") else {
        println!("skipped: FERROGATE_IMAGE names no archive made by manifests/image/build");
        return None;
    };
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root may change its root folder");
        return None;
    }
    Some(binary::checkout().join(path))
}

/// What a descriptor points to, if size and digest are right.
fn blob(layout: &Path, descriptor: &Value) -> PathBuf {
    let digest = text(&descriptor["digest"]).strip_prefix("sha256:").expect("a digest");
    let path = layout.join("blobs/sha256").join(digest);
    let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert_eq!(descriptor["size"], bytes.len(), "{descriptor}");
    assert_eq!(digest, format!("{:x}", Sha256::digest(&bytes)));
    path
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).expect("it was just found")).expect("JSON")
}

/// The image as a container runtime would unpack it, and its configuration.
fn unpack(archive: &Path) -> (TempDir, Value) {
    let (layout, root) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    run(Command::new("tar").arg("-xf").arg(archive).arg("-C").arg(layout.path()));
    let manifest = json(&blob(layout.path(), &json(&layout.path().join("index.json"))["manifests"][0]));
    let layer = blob(layout.path(), &manifest["layers"][0]);
    run(Command::new("tar").arg("-xzf").arg(&layer).arg("-C").arg(root.path()));
    let config = json(&blob(layout.path(), &manifest["config"]));
    let size = |path: &Path| std::fs::metadata(path).map_or(0, |it| it.len());
    println!("{} bytes of archive, {} of program", size(archive), size(&root.path().join("ferrogate")));
    std::fs::set_permissions(root.path(), std::fs::Permissions::from_mode(0o755)).expect("it is ours");
    let names: Vec<_> =
        std::fs::read_dir(root.path()).expect("it is ours").flatten().map(|it| it.file_name()).collect();
    assert_eq!(names, ["ferrogate"], "the image holds the program and nothing else");
    // Every runtime gives a container these (OCI Runtime Specification, Default Devices); random numbers come from the
    // last two.
    let devices = root.path().join("dev");
    std::fs::create_dir(&devices).expect("it is ours");
    for (name, minor) in [("null", "3"), ("zero", "5"), ("full", "7"), ("random", "8"), ("urandom", "9")] {
        run(Command::new("mknod").args(["-m", "666"]).arg(devices.join(name)).args(["c", "1", minor]));
    }
    (root, config)
}

/// A command of the image, as the image's user, with nothing of ours in its environment.
fn inside(root: &Path, config: &Value, arguments: &[&str]) -> Command {
    let mut command = Command::new("chroot");
    command.arg(format!("--userspec={}", text(&config["config"]["User"]))).arg(root);
    // What finds `chroot` is what a container runtime sets too.
    let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    command.arg(text(&config["config"]["Entrypoint"][0])).args(arguments).env_clear().env("PATH", path);
    command
}

fn write(root: &Path, name: &str, content: &str) {
    let path = root.join(name);
    std::fs::create_dir_all(path.parent().expect("it has a folder")).expect("it is ours");
    std::fs::write(path, content).expect("it is ours");
}

async fn ready(process: &mut Process, admin: SocketAddr) {
    until("readiness", async || {
        assert!(process.ended().is_none(), "it ended:\n{}", process.log());
        match Target::plain(admin).get("admin", "/readyz").await {
            Ok(response) if response.status == 200 => Ok(()),
            Ok(response) => Err(response.text()),
            Err(error) => Err(error.to_string()),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_image_is_one_program_that_runs_in_an_empty_root_as_nobody() {
    let Some(archive) = archive() else { return };
    let (root, config) = unpack(&archive);
    assert_eq!(config["config"]["User"], "65532:65532");
    let version = run(&mut inside(root.path(), &config, &["--version"]));
    let base = read(&crate::objects::folder().join("base/kustomization.yaml"));
    assert!(version.contains(text(&base[0]["images"][0]["newTag"])), "the base asks for another version: {version}");

    let ip = loopback::address();
    let [http, https, admin] = [(); 3].map(|()| loopback::port(ip));
    let class = documents(INGRESS_CLASS).remove(0);
    write(root.path(), "manifests/class.yaml", &class.to_string());
    write(root.path(), "manifests/web.yaml", &backend("shop", "web", &[SocketAddr::from((ip, 7777))]));
    write(root.path(), "manifests/ingress.yaml", &Ingress::new("shop", "web").rule("web.example", "/", "web").yaml());
    let listeners = [http, https, admin].map(|it| it.to_string());
    let mut arguments = vec!["run", "--manifests", "/manifests", "--interface", "lo", "--with-echo"];
    arguments.extend(["--http", &listeners[0], "--https", &listeners[1], "--admin", &listeners[2]]);
    let mut process = Process::start(inside(root.path(), &config, &arguments));
    ready(&mut process, admin).await;
    until("an answer of the echo page", async || match Target::plain(http).get("web.example", "/").await {
        Ok(response) if response.status == 200 => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}

/// A name server that knows `localhost` alone: how often it was asked for it.
fn name_server(ip: Ipv4Addr) -> Arc<AtomicUsize> {
    let socket = UdpSocket::bind((ip, 53)).expect("root may answer on a loopback address of its own");
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    std::thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((length, asker)) = socket.recv_from(&mut buffer) {
            if let Some(answer) = name_answer(&buffer[..length]) {
                count.fetch_add(1, Ordering::Relaxed);
                // Whoever does not hear it asks again.
                let _ = socket.send_to(&answer, asker);
            }
        }
    });
    asked
}

/// 127.0.0.1 for the A record of `localhost`, nothing for other records of it (RFC 1035 §4.1).
fn name_answer(question: &[u8]) -> Option<Vec<u8>> {
    const NAME: &[u8] = b"\x09localhost\x00";
    let asked = question.get(12..12 + NAME.len() + 4)?;
    let (name, kind) = asked.split_at(NAME.len());
    if name != NAME {
        return None;
    }
    let is_a = kind.starts_with(&[0, 1]);
    let mut answer = question[..2].to_vec();
    // A response, recursion desired and available; one question, at most one answer.
    answer.extend([0x81, 0x80, 0, 1, 0, u8::from(is_a), 0, 0, 0, 0]);
    answer.extend(asked);
    if is_a {
        // The name of the question, type A, class IN, a minute, four bytes.
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1]);
    }
    Some(answer)
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_pod_the_image_finds_the_api_server_by_name_and_trusts_its_ca_alone() {
    let Some(archive) = archive() else { return };
    let (root, config) = unpack(&archive);
    // Without a real server behind it: this is about the way there.
    let server = ApiServer::start().expect("a free loopback port");
    let account = root.path().join("var/run/secrets/kubernetes.io/serviceaccount");
    std::fs::create_dir_all(&account).expect("it is ours");
    server.kubeconfig(&account).expect("it is ours");
    write(root.path(), "var/run/secrets/kubernetes.io/serviceaccount/namespace", "ferrogate-system");
    let ip = loopback::address();
    let asked = name_server(ip);
    write(root.path(), "etc/resolv.conf", &format!("nameserver {ip}\n"));
    let [http, https, admin] = [(); 3].map(|()| loopback::port(ip));
    let start = || {
        let mut command = inside(root.path(), &config, &["ingress"]);
        command.env("KUBERNETES_SERVICE_HOST", "localhost");
        command.env("KUBERNETES_SERVICE_PORT", server.address().port().to_string());
        for (name, address) in [("HTTP", http), ("HTTPS", https), ("ADMIN", admin)] {
            command.env(format!("FERROGATE_{name}"), address.to_string());
        }
        Process::start(command)
    };
    let mut process = start();
    ready(&mut process, admin).await;
    assert!(asked.load(Ordering::Relaxed) > 0, "the name was asked for");
    assert_eq!(server.address().ip(), IpAddr::V4(Ipv4Addr::LOCALHOST));
    process.kill();

    let stranger = ferrogate_tests::certificate::issue(&["localhost"]);
    write(root.path(), "var/run/secrets/kubernetes.io/serviceaccount/ca.crt", &stranger.certificate);
    let process = start();
    until("a complaint about the certificate", async || {
        let log = process.log().to_lowercase();
        if log.contains("certificate") { Ok(()) } else { Err(log) }
    })
    .await;
}
