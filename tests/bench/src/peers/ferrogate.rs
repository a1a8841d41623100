//! Ferrogate: a folder with one file per site.

use std::path::Path;
use std::process::Command;

use ferrogate_tests::manifests::{INGRESS_CLASS, Ingress, backend, documents, pool, tls_secret};

use super::{Logging, Place};
use crate::error::{BenchError, Result, folder, write};
use crate::fleet::{Fleet, PREFIXES, Site};
use crate::process::{PROXY_CORE, pinned};

/// The namespace of everything.
const NAMESPACE: &str = "bench";

pub(super) fn configure(program: &Path, place: &Place, fleet: &Fleet) -> Result<Command> {
    let manifests = folder(place.folder.join("manifests"))?;
    write(manifests.join("class.yaml"), documents(&[INGRESS_CLASS, &pool(&["127.98.0.0/24"])]))?;
    for site in &fleet.sites {
        write(manifests.join(format!("{}.yaml", site.name())), manifest(site))?;
    }
    let mut command = pinned(PROXY_CORE, program);
    command.arg("ingress").arg("--manifests").arg(manifests).arg("--state").arg(place.folder.join("state"));
    for (flag, address) in [("--http", place.http), ("--https", place.https), ("--admin", place.admin)] {
        command.args([flag, &address.to_string()]);
    }
    let log = if place.logging == Logging::On { "text" } else { "off" };
    command.args(["--workers", "1", "--access-log", log, "--log-level", "warn", "--log-format", "json"]);
    Ok(command)
}

/// Writes the site's file anew, by rename, as a careful operator does.
pub(super) fn tell(place: &Place, site: &Site) -> Result<()> {
    let path = place.folder.join("manifests").join(format!("{}.yaml", site.name()));
    let new = path.with_extension("new");
    write(&new, manifest(site))?;
    std::fs::rename(&new, &path).map_err(|source| BenchError::File { path, source })
}

fn manifest(site: &Site) -> String {
    let name = site.name();
    let ingress = Ingress::new(NAMESPACE, &name).tls(&name, &[&site.host]);
    let ingress = PREFIXES.iter().fold(ingress, |ingress, prefix| ingress.rule(&site.host, prefix, &name));
    documents(&[
        tls_secret(NAMESPACE, &name, &site.certificate),
        backend(NAMESPACE, &name, &[site.endpoint]),
        ingress.yaml(),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_site_is_a_secret_a_service_with_its_slice_and_an_ingress() {
        let (_folder, _, fleet) = super::super::example();
        let text = manifest(&fleet.sites[2]);
        for kind in ["kind: Secret", "kind: Service\n", "kind: EndpointSlice", "kind: Ingress\n"] {
            assert_eq!(text.matches(kind).count(), 1, "{kind}");
        }
        assert!(text.contains("addresses: [127.96.0.3]"), "{text}");
    }

    #[test]
    fn a_move_replaces_the_file_whole() {
        let (_folder, place, fleet) = super::super::example();
        configure(Path::new("ferrogate"), &place, &fleet).unwrap();
        tell(&place, &fleet.sites[1].moved(1)).unwrap();
        let text = std::fs::read_to_string(place.folder.join("manifests/site-00001.yaml")).unwrap();
        assert!(text.contains("addresses: [127.97.0.2]"), "{text}");
        assert_eq!(std::fs::read_dir(place.folder.join("manifests")).unwrap().count(), 4);
    }
}
