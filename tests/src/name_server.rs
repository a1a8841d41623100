//! A real name server: Knot DNS, authoritative for a few zones, which takes signed updates.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::appliance::Process;
use crate::loopback;
use crate::wait::until;

/// The name of the key that may update every zone.
pub const KEY: &str = "ferrogate";
/// That key, in base64.
pub const SECRET: &str = "c2VjcmV0IG9mIHRlc3RzLCAzMiBieXRlcyBsb25nLi4=";

/// Returns from the test, saying so, if there is no Knot DNS, or its port cannot be had.
#[macro_export]
macro_rules! skip_unless_name_server {
    () => {
        if let Some(why) = $crate::name_server::missing() {
            println!("skipped: {why}");
            return;
        }
    };
}

/// Why there cannot be a name server.
#[must_use]
pub fn missing() -> Option<&'static str> {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let has = |tool: &str| std::env::split_paths(&paths).any(|folder| folder.join(tool).is_file());
    if !has("knotd") || !has("nsupdate") || !has("dig") {
        return Some("Knot DNS is not installed (apt-get install knot bind9-dnsutils)");
    }
    (!rustix::process::geteuid().is_root()).then_some("only root may listen on port 53")
}

/// A running name server on port 53 of a loopback address of its own.
pub struct NameServer {
    /// Where it listens.
    pub address: SocketAddr,
    _process: Process,
    folder: TempDir,
}

impl NameServer {
    /// Starts one for these zones, each with these lines besides its SOA and name server.
    pub async fn start(zones: &[(&str, &str)]) -> Self {
        let ip = loopback::address();
        let folder = tempfile::Builder::new().prefix("ferrogate-knot-").tempdir().expect("a temporary folder");
        let path = folder.path().display();
        let mut config = format!(
            "server:\n  listen: {ip}@53\n  rundir: {path}\n  user: root\n  udp-workers: 1\n  tcp-workers: 1\n\
             \x20 background-workers: 1\ndatabase:\n  storage: {path}\nlog:\n- target: stderr\n  any: info\n\
             key:\n- id: {KEY}\n  algorithm: hmac-sha256\n  secret: {SECRET}\n\
             acl:\n- id: update\n  key: {KEY}\n  action: update\nzone:\n"
        );
        for (zone, lines) in zones {
            write_zone(&folder, zone, ip, lines);
            let _ =
                writeln!(config, "- domain: {zone}\n  file: {path}/{zone}.zone\n  acl: update\n  zonefile-sync: -1");
        }
        let file = folder.path().join("knot.conf");
        std::fs::write(&file, config).expect("the folder can be written");
        let mut command = Command::new("knotd");
        command.arg("-c").arg(&file);
        let process = Process::start(command);
        let server = Self { address: (ip, 53).into(), _process: process, folder };
        until("the name server answers", async || {
            let answer = server.dig(zones[0].0, "SOA");
            if answer.is_empty() { Err("nothing") } else { Ok(()) }
        })
        .await;
        server
    }

    /// What it says of a name, a line for each record.
    #[must_use]
    pub fn dig(&self, name: &str, kind: &str) -> Vec<String> {
        let server = format!("@{}", self.address.ip());
        let output =
            Command::new("dig").args([&server, "+short", "+time=1", "+tries=1", "+norecurse", name, kind]).output();
        let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        text.lines().filter(|line| !line.starts_with(';')).map(str::to_owned).collect()
    }

    /// The texts of the TXT records of a name.
    #[must_use]
    pub fn texts(&self, name: &str) -> Vec<String> {
        self.dig(name, "TXT").into_iter().map(|line| line.trim_matches('"').to_owned()).collect()
    }

    /// Changes a record, by `add NAME 60 TXT "..."` or `delete NAME TXT "..."`; whether it was done.
    #[must_use]
    pub fn update(&self, change: &str) -> bool {
        update(self.address, change)
    }

    /// The folder that it keeps its zones in.
    #[must_use]
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }
}

/// As [`NameServer::update`], of one at this address.
#[must_use]
pub fn update(server: SocketAddr, change: &str) -> bool {
    let mut command = Command::new("nsupdate");
    command.args(["-y", &format!("hmac-sha256:{KEY}:{SECRET}")]).stdin(Stdio::piped());
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("nsupdate can be run");
    let text = format!("server {}\nupdate {change}\nsend\n", server.ip());
    let mut stdin = child.stdin.take().expect("its input is a pipe");
    stdin.write_all(text.as_bytes()).expect("it reads its input");
    drop(stdin);
    child.wait().is_ok_and(|status| status.success())
}

fn write_zone(folder: &TempDir, zone: &str, ip: Ipv4Addr, lines: &str) {
    let text = format!("$TTL 60\n@ SOA ns.{zone}. root.{zone}. 1 60 60 60 1\n@ NS ns.{zone}.\nns A {ip}\n{lines}\n");
    std::fs::write(folder.path().join(format!("{zone}.zone")), text).expect("the folder can be written");
}
