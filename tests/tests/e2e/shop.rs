//! The scene that most tests play in: one host, one Service, one backend.

use std::net::SocketAddr;

use ferrogate_tests::appliance::{Appliance, Builder};
use ferrogate_tests::folder::Folder;
use ferrogate_tests::manifests::{INGRESS_CLASS, Ingress, backend};
use serde_json::Value;

/// The host of the shop.
pub(crate) const HOST: &str = "shop.example";

/// A folder where [`HOST`] goes to the Service `shop/web`, which has these endpoints.
pub(crate) fn folder(endpoints: &[SocketAddr]) -> Folder {
    Folder::with(&[
        ("class.yaml", INGRESS_CLASS),
        ("web.yaml", &backend("shop", "web", endpoints)),
        ("ingress.yaml", &Ingress::new("shop", "web").rule(HOST, "/", "web").yaml()),
    ])
}

/// An appliance on such a folder.
pub(crate) async fn open(endpoints: &[SocketAddr]) -> (Folder, Appliance) {
    let folder = folder(endpoints);
    let appliance = Builder::new(folder.path()).start().await;
    (folder, appliance)
}

/// The one problem about this object, among all.
pub(crate) fn about<'a>(problems: &'a [Value], object: &str) -> Option<&'a Value> {
    problems.iter().find(|problem| problem["object"] == object)
}
