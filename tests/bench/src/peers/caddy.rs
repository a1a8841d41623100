//! Caddy as its ingress controller configures it: JSON with a route for each host.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::{Logging, Place};
use crate::error::{Result, folder, write};
use crate::fleet::{Fleet, PREFIXES, Site};
use crate::process::{PROXY_CORE, pinned};

pub(super) fn configure(program: &Path, place: &Place, fleet: &Fleet) -> Result<Command> {
    let certificates = folder(place.folder.join("certificates"))?;
    for site in &fleet.sites {
        write(certificates.join(format!("{}.crt", site.name())), &site.certificate.certificate)?;
        write(certificates.join(format!("{}.key", site.name())), &site.certificate.key)?;
    }
    let path = place.folder.join("caddy.json");
    write(&path, text(place, fleet).to_string())?;
    let mut command = pinned(PROXY_CORE, program);
    command.env("GOMAXPROCS", "1").env("HOME", &place.folder);
    command.env("XDG_DATA_HOME", place.folder.join("data")).env("XDG_CONFIG_HOME", place.folder.join("config"));
    command.args(["run", "--config"]).arg(path);
    Ok(command)
}

fn text(place: &Place, fleet: &Fleet) -> Value {
    let file = |site: &Site, extension| {
        place.folder.join("certificates").join(format!("{}.{extension}", site.name())).display().to_string()
    };
    let files: Vec<_> =
        fleet.sites.iter().map(|site| json!({ "certificate": file(site, "crt"), "key": file(site, "key") })).collect();
    let routes: Vec<_> = fleet.sites.iter().map(route).collect();
    let mut http = json!({ "listen": [place.http], "automatic_https": { "disable": true }, "routes": routes });
    if place.logging == Logging::On {
        http["logs"] = json!({});
    }
    let mut https = http.clone();
    https["listen"] = json!([place.https]);
    https["tls_connection_policies"] = json!([{}]);
    let level = if place.logging == Logging::On { "INFO" } else { "ERROR" };
    json!({
        "admin": { "disabled": true, "config": { "persist": false } },
        "logging": { "logs": { "default": { "level": level } } },
        "apps": {
            "http": { "servers": { "http": http, "https": https } },
            "tls": { "certificates": { "load_files": files } },
        },
    })
}

fn route(site: &Site) -> Value {
    let paths: Vec<_> = PREFIXES.iter().map(|prefix| format!("{prefix}*")).collect();
    json!({
        "match": [{ "host": [site.host], "path": paths }],
        "terminal": true,
        "handle": [{
            "handler": "reverse_proxy",
            "upstreams": [{ "dial": site.endpoint.to_string() }],
            "transport": { "protocol": "http", "keep_alive": { "max_idle_conns_per_host": site.kept_connections() } },
        }],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_site_has_a_route_and_a_certificate() {
        let (_folder, place, fleet) = super::super::example();
        let text = text(&place, &fleet);
        assert_eq!(text["apps"]["http"]["servers"]["https"]["routes"][1]["match"][0]["host"][0], "h00001.bench.test");
        assert_eq!(text["apps"]["tls"]["certificates"]["load_files"].as_array().map(Vec::len), Some(3));
    }
}
