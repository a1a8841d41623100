//! What annotations ask for, through the proxy, beside nginx configured as ingress-nginx would.

mod answers;
mod canary;
mod certificates;
mod errors;
mod external;
mod guards;
mod mirror;
mod paths;
mod snippets;

use std::net::SocketAddr;

use crate::support::client::{Answer, Client};
use crate::support::objects::World;

/// What a request came to, as far as nginx and we are to agree on it.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    status: u16,
    location: Option<String>,
    /// The body, which tells which endpoint was asked for what.
    asked: Option<String>,
}

impl Outcome {
    fn of(answer: &Answer) -> Self {
        let asked = (answer.status == 200).then(|| answer.text().to_owned());
        Self { status: answer.status, location: answer.field("location").map(str::to_owned), asked }
    }

    /// Passed on as this.
    fn passed(asked: &str) -> Self {
        Self { status: 200, location: None, asked: Some(asked.to_owned()) }
    }

    fn redirected(status: u16, to: &str) -> Self {
        Self { status, location: Some(to.to_owned()), asked: None }
    }
}

/// One Ingress of class `nginx` for all of `a.example`, with these annotations, to one endpoint.
fn web(endpoint: SocketAddr, annotations: &[(&str, &str)]) -> World {
    World::default().service("web", &[endpoint]).annotated("web", "a.example", &["/"], "web", annotations)
}

/// The answer to a GET with these fields.
async fn ask(addr: SocketAddr, host: &str, target: &str, fields: &[(&str, &str)]) -> Answer {
    let fields: Vec<_> = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let fields = fields.concat();
    let mut client = Client::connect(addr).await;
    client.send(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n")).await;
    client.answer().await
}

/// What a GET comes to.
async fn outcome(addr: SocketAddr, host: &str, target: &str) -> Outcome {
    Outcome::of(&Client::connect(addr).await.get(host, target).await)
}
