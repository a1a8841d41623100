//! The scene that most tests play in: one host, one Service, one backend.

use std::net::SocketAddr;

use ferrogate_tests::appliance::Appliance;
use ferrogate_tests::manifests::{INGRESS_CLASS, Ingress, backend};
use ferrogate_tests::source::Source;
use serde_json::Value;

/// The host of the shop.
pub(crate) const HOST: &str = "shop.example";

/// The shop: [`HOST`] goes to the Service `shop/web`, which has these endpoints.
pub(crate) fn stock(source: &Source, endpoints: &[SocketAddr]) {
    source.write_all(&[
        ("class.yaml", INGRESS_CLASS),
        ("web.yaml", &backend("shop", "web", endpoints)),
        ("ingress.yaml", &Ingress::new("shop", "web").rule(HOST, "/", "web").yaml()),
    ]);
}

/// An appliance that serves it.
pub(crate) async fn open_on(source: &Source, endpoints: &[SocketAddr]) -> Appliance {
    stock(source, endpoints);
    source.builder().start().await
}

/// The same from a folder.
pub(crate) async fn open(endpoints: &[SocketAddr]) -> (Source, Appliance) {
    let source = Source::folder();
    let appliance = open_on(&source, endpoints).await;
    (source, appliance)
}

/// The one problem about this object, among all.
pub(crate) fn about<'a>(problems: &'a [Value], object: &str) -> Option<&'a Value> {
    problems.iter().find(|problem| problem["object"] == object)
}
