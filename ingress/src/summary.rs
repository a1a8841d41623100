//! What operators and tools are shown of a table.

use std::collections::BTreeMap;
use std::sync::Arc;

use config::report::{CertificateEntry, RouteEntry};

use crate::certs::{CertTable, Certificate};
use crate::routes::Route;

/// The first `count` entries of `GET /api/v1/routes`, in the order of the routes.
pub fn routes<'a>(routes: impl IntoIterator<Item = &'a Arc<Route>>, count: usize) -> Vec<RouteEntry> {
    let entry = |route: &Arc<Route>| RouteEntry {
        host: route.host.to_string(),
        path: route.path.as_written().to_owned(),
        path_type: route.path.kind().to_string(),
        ingress: route.ingress.clone(),
        backend: route.endpoints.key().to_string(),
        endpoints: route.endpoints.list().len(),
    };
    routes.into_iter().take(count).map(entry).collect()
}

/// The first `count` entries of `GET /api/v1/certificates`: each certificate that is shown for some name, then the
/// default one.
#[must_use]
pub fn certificates(table: &CertTable, count: usize) -> Vec<CertificateEntry> {
    let entry = |certificate: &Certificate| CertificateEntry {
        secret: certificate.secret.clone(),
        hosts: certificate.names.clone(),
        not_after: certificate.not_after.to_string(),
        issuer: certificate.issuer.clone(),
    };
    let by_secret: BTreeMap<_, _> = table.iter().map(|certificate| (&certificate.secret, certificate)).collect();
    by_secret
        .into_values()
        .chain([table.default_certificate()])
        .take(count)
        .map(|certificate| entry(certificate))
        .collect()
}
