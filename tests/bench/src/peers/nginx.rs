//! nginx as an ingress controller configures it: a server block and an upstream block for each site.

use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;

use super::{Logging, Place};
use crate::error::{Result, folder, write};
use crate::fleet::{Fleet, PREFIXES, Site};
use crate::process::{Background, PROXY_CORE, pinned};

pub(super) fn configure(program: &Path, place: &Place, fleet: &Fleet) -> Result<Command> {
    let (sites, certificates) = (folder(place.folder.join("sites"))?, folder(place.folder.join("certificates"))?);
    for site in &fleet.sites {
        let name = site.name();
        write(certificates.join(format!("{name}.pem")), site.certificate.certificate.clone() + &site.certificate.key)?;
        write(sites.join(format!("{name}.conf")), server(place, site))?;
    }
    let main = place.folder.join("nginx.conf");
    write(&main, http(place))?;
    let mut command = pinned(PROXY_CORE, program);
    command.arg("-p").arg(&place.folder).arg("-c").arg(main);
    Ok(command)
}

/// Writes the site's file anew and reloads.
pub(super) fn tell(place: &Place, site: &Site, process: &Background) -> Result<()> {
    write(place.folder.join("sites").join(format!("{}.conf", site.name())), server(place, site))?;
    process.signal(Signal::HUP)
}

/// Where it logs requests.
pub(super) fn access_log(place: &Place) -> PathBuf {
    place.folder.join("access.log")
}

fn http(place: &Place) -> String {
    let log = match place.logging {
        Logging::Off => "off".to_owned(),
        Logging::On => format!("{} combined", access_log(place).display()),
    };
    let folder = place.folder.display();
    format!(
        "user root;\ndaemon off;\nworker_processes 1;\nworker_rlimit_nofile 65536;\npid {folder}/nginx.pid;\nerror_log \
         stderr error;\nevents {{ worker_connections 32768; }}\nhttp {{\n  access_log {log};\n  \
         server_names_hash_max_size 65536;\n  server_names_hash_bucket_size 128;\n  keepalive_requests 1000000000;\n  \
         keepalive_timeout 300s;\n  client_max_body_size 0;\n  proxy_request_buffering off;\n  \
         proxy_max_temp_file_size 0;\n  client_body_temp_path {folder}/body;\n  proxy_temp_path {folder}/proxy;\n  \
         fastcgi_temp_path {folder}/fastcgi;\n  uwsgi_temp_path {folder}/uwsgi;\n  scgi_temp_path {folder}/scgi;\n  \
         ssl_protocols TLSv1.2 TLSv1.3;\n  ssl_prefer_server_ciphers off;\n  ssl_session_cache shared:bench:10m;\n  \
         proxy_http_version 1.1;\n  proxy_set_header Connection \"\";\n  proxy_set_header Host $host;\n  \
         proxy_set_header X-Request-ID $request_id;\n  proxy_set_header X-Real-IP $remote_addr;\n  proxy_set_header \
         X-Forwarded-For $remote_addr;\n  proxy_set_header X-Forwarded-Host $host;\n  proxy_set_header \
         X-Forwarded-Port $server_port;\n  proxy_set_header X-Forwarded-Proto $scheme;\n  include sites/*.conf;\n}}\n"
    )
}

fn server(place: &Place, site: &Site) -> String {
    let name = site.name();
    let locations: Vec<_> =
        PREFIXES.iter().map(|prefix| format!("  location {prefix} {{ proxy_pass http://{name}; }}\n")).collect();
    format!(
        "upstream {name} {{\n  server {};\n  keepalive {};\n  keepalive_requests 1000000000;\n  keepalive_timeout \
         300s;\n}}\nserver {{\n  listen {};\n  listen {} ssl http2;\n  server_name {};\n  ssl_certificate \
         certificates/{name}.pem;\n  ssl_certificate_key certificates/{name}.pem;\n{}}}\n",
        site.endpoint,
        site.kept_connections(),
        place.http,
        place.https,
        site.host,
        locations.concat()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_site_has_a_server_and_an_upstream_of_its_own() {
        let (_folder, place, fleet) = super::super::example();
        let text = server(&place, &fleet.sites[1]);
        for part in
            ["upstream site-00001 {", "server 127.96.0.2:8080;", "server_name h00001.bench.test;", "location /api {"]
        {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn the_access_log_is_off_unless_asked_for() {
        let (_folder, place, _) = super::super::example();
        assert!(http(&place).contains("access_log off;"));
        assert!(http(&Place { logging: Logging::On, ..place }).contains("access.log combined;"));
    }
}
