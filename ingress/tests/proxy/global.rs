//! What the global settings ask for, through the proxy, beside nginx configured as ingress-nginx would.

mod answers;
mod clients;

use std::net::SocketAddr;

use crate::support::client::{Answer, Client};
use crate::support::objects::World;

/// A host `a.example` of class `nginx` with these global settings.
fn world(endpoint: SocketAddr, global: &[(&str, &str)]) -> World {
    World::default().service("web", &[endpoint]).annotated("web", "a.example", &["/"], "web", &[]).global(global)
}

/// The answer to a GET for `a.example` with these fields, on a connection of its own that begins with `opening`.
async fn ask(addr: SocketAddr, opening: &str, target: &str, fields: &[(&str, &str)]) -> Answer {
    let fields: Vec<_> = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let fields = fields.concat();
    let mut client = Client::connect(addr).await;
    client.send(format!("{opening}GET {target} HTTP/1.1\r\nHost: a.example\r\n{fields}\r\n")).await;
    client.answer().await
}
