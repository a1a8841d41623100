//! HAProxy as an ingress controller configures it: one frontend, a map from host and path to a backend for each site.

use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;

use super::{Logging, Place};
use crate::error::{BenchError, Result, folder, write};
use crate::fleet::{Fleet, PREFIXES, Site};
use crate::process::{Background, PROXY_CORE, open_files, pinned};

pub(super) fn configure(program: &Path, place: &Place, fleet: &Fleet) -> Result<Command> {
    let certificates = folder(place.folder.join("certificates"))?;
    let mut map = String::new();
    for site in &fleet.sites {
        let name = site.name();
        write(certificates.join(format!("{name}.pem")), site.certificate.certificate.clone() + &site.certificate.key)?;
        for prefix in PREFIXES {
            let _ = writeln!(map, "{}{prefix} {name}", site.host);
        }
    }
    write(place.folder.join("routes.map"), map)?;
    write(main(place), text(place, fleet, None))?;
    let mut command = pinned(PROXY_CORE, program);
    // In the foreground, with a master that can reload.
    command.arg("-W").arg("-f").arg(main(place));
    Ok(command)
}

/// Writes the configuration anew and reloads.
pub(super) fn reload(place: &Place, fleet: &Fleet, site: &Site, process: &Background) -> Result<()> {
    write(main(place), text(place, fleet, Some(site)))?;
    process.signal(Signal::USR2)
}

/// Changes a server's address through the runtime API.
pub(super) fn set_server(place: &Place, site: &Site) -> Result<()> {
    let mut stream = UnixStream::connect(socket(place))?;
    let (ip, port) = (site.endpoint.ip(), site.endpoint.port());
    writeln!(stream, "set server {}/s addr {ip} port {port}", site.name())?;
    let mut output = String::new();
    stream.read_to_string(&mut output)?;
    if output.contains("changed from") {
        return Ok(());
    }
    Err(BenchError::Output { program: "haproxy".to_owned(), what: "confirmation", output })
}

fn main(place: &Place) -> PathBuf {
    place.folder.join("haproxy.cfg")
}

fn socket(place: &Place) -> PathBuf {
    place.folder.join("admin.sock")
}

/// As many connections as there are descriptors for, two to each; it refuses to start with more.
fn max_connections() -> u32 {
    (open_files() / 2).saturating_sub(100).min(30_000)
}

/// The configuration; `moved` replaces the site of the same index.
fn text(place: &Place, fleet: &Fleet, moved: Option<&Site>) -> String {
    let log = match place.logging {
        Logging::Off => ("", ""),
        Logging::On => ("  log stdout format raw local0\n", "  log global\n  option httplog\n"),
    };
    let folder = place.folder.display();
    let mut text = format!(
        "global\n  nbthread 1\n  maxconn {}\n  stats socket {} level admin\n{}defaults\n  mode http\n{}  timeout \
         connect 5s\n  timeout client 300s\n  timeout server 300s\n  timeout http-keep-alive 300s\n  http-reuse \
         always\nfrontend ingress\n  bind {}\n  bind {} ssl crt {folder}/certificates alpn h2,http/1.1 ssl-min-ver \
         TLSv1.2\n  http-request set-header X-Request-ID %[uuid()]\n  http-request set-header X-Real-IP %[src]\n  \
         http-request set-header X-Forwarded-For %[src]\n  http-request set-header X-Forwarded-Host %[req.hdr(host)]\n  \
         http-request set-header X-Forwarded-Port %[dst_port]\n  http-request set-header X-Forwarded-Proto \
         %[ssl_fc,iif(https,http)]\n  http-request set-var(txn.path) path\n  use_backend \
         %[req.hdr(host),field(1,:),lower,concat(,txn.path),map_beg({folder}/routes.map)]\n",
        max_connections(),
        socket(place).display(),
        log.0,
        log.1,
        place.http,
        place.https,
    );
    for site in &fleet.sites {
        let site = moved.filter(|moved| moved.index == site.index).unwrap_or(site);
        let _ = writeln!(text, "backend {}\n  server s {}", site.name(), site.endpoint);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moved_site_replaces_itself_and_no_other() {
        let (_folder, place, fleet) = super::super::example();
        let moved = text(&place, &fleet, Some(&fleet.sites[1].moved(1)));
        assert!(moved.contains("backend site-00001\n  server s 127.97.0.2:8080\n"), "{moved}");
        assert!(moved.contains("backend site-00002\n  server s 127.96.0.3:8080\n"), "{moved}");
        assert_eq!(moved.matches("\nbackend ").count(), 3);
    }

    #[test]
    fn the_access_log_is_off_unless_asked_for() {
        let (_folder, place, fleet) = super::super::example();
        assert!(!text(&place, &fleet, None).contains("log"));
        assert!(text(&Place { logging: Logging::On, ..place }, &fleet, None).contains("option httplog"));
    }
}
