//! Serves the loopback endpoints that the manifests name, as they come and go.
//!
//! Which addresses those are is pure ([`wanted`]). An address that is no longer named is served a little longer, as a
//! pod that terminates would, because requests to it may be on their way.
#![expect(clippy::disallowed_methods, reason = "an address is served a little longer than it is named")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use config::snapshot::Snapshot;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

/// How long an address is served after the manifests stopped naming it.
const LINGER: Duration = Duration::from_secs(5);

/// Addresses that are served, and until when if they are no longer named.
type Served = BTreeMap<SocketAddr, (CancellationToken, Option<Instant>)>;

/// Serves what the newest snapshot names until `shutdown`.
pub(crate) async fn run(
    mut snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
    node: Arc<str>,
    shutdown: CancellationToken,
) {
    let mut served = Served::new();
    // Somebody else's addresses, warned about once.
    let mut taken = BTreeSet::new();
    loop {
        let wanted = snapshots.borrow_and_update().as_deref().map(wanted).unwrap_or_default();
        taken.retain(|address| wanted.contains(address));
        retire(&mut served, &wanted, Instant::now());
        start(&mut served, &mut taken, &wanted, &node, &shutdown).await;
        let next = served.values().filter_map(|(_, until)| *until).min();
        tokio::select! {
            changed = snapshots.changed() => if changed.is_err() { return },
            () = async { sleep_until(next.unwrap_or_else(Instant::now)).await }, if next.is_some() => {}
            () = shutdown.cancelled() => return,
        }
    }
}

/// Stops what has lingered long enough and lets linger what is no longer wanted.
fn retire(served: &mut Served, wanted: &BTreeSet<SocketAddr>, now: Instant) {
    served.retain(|address, (stop, until)| {
        *until = if wanted.contains(address) { None } else { Some(until.unwrap_or(now + LINGER)) };
        let stays = until.is_none_or(|until| until > now);
        if !stays {
            debug!(%address, "echo stops");
            stop.cancel();
        }
        stays
    });
}

/// Starts a server on each wanted address that has none.
async fn start(
    served: &mut Served,
    taken: &mut BTreeSet<SocketAddr>,
    wanted: &BTreeSet<SocketAddr>,
    node: &Arc<str>,
    shutdown: &CancellationToken,
) {
    let new: Vec<_> = wanted.iter().filter(|address| !served.contains_key(address)).copied().collect();
    for address in &new {
        let stop = shutdown.child_token();
        match TcpListener::bind(address).await {
            Ok(listener) => {
                tokio::spawn(super::serve(listener, Arc::clone(node), stop.clone()));
                served.insert(*address, (stop, None));
            }
            Err(error) if taken.insert(*address) => {
                warn!(%address, %error, "echo leaves this endpoint to whoever serves it");
            }
            Err(_) => {}
        }
    }
    if !new.is_empty() {
        info!(addresses = served.len(), "echo serves the loopback endpoints of the manifests");
    }
}

/// Every loopback address and port that ready endpoints name.
fn wanted(snapshot: &Snapshot) -> BTreeSet<SocketAddr> {
    let slices = snapshot.endpoint_slices.values();
    slices
        .flat_map(|slice| {
            let ready = slice.endpoints.iter().filter(|endpoint| {
                endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true)
            });
            let addresses: Vec<IpAddr> = ready
                .filter_map(|endpoint| endpoint.addresses.first()?.parse().ok())
                .filter(IpAddr::is_loopback)
                .collect();
            let ports = slice.ports.iter().flatten().filter_map(|port| u16::try_from(port.port?).ok());
            ports.flat_map(move |port| addresses.clone().into_iter().map(move |ip| SocketAddr::new(ip, port)))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use config::object::ObjectName;
    use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};

    use super::*;

    fn snapshot(endpoints: &[(&str, Option<bool>)]) -> Snapshot {
        let endpoint = |(address, ready): &(&str, Option<bool>)| Endpoint {
            addresses: vec![(*address).to_owned()],
            conditions: Some(EndpointConditions { ready: *ready, ..EndpointConditions::default() }),
            ..Endpoint::default()
        };
        let ports = vec![EndpointPort { port: Some(8080), ..EndpointPort::default() }];
        let endpoints = endpoints.iter().map(endpoint).collect();
        let slice = EndpointSlice { endpoints, ports: Some(ports), ..EndpointSlice::default() };
        let endpoint_slices = Arc::new([(ObjectName::new("a", "b"), Arc::new(slice))].into());
        Snapshot { endpoint_slices, ..Snapshot::default() }
    }

    #[test]
    fn only_ready_loopback_endpoints_are_served() {
        let snapshot = snapshot(&[
            ("127.0.0.1", None),
            ("127.0.0.2", Some(true)),
            ("127.0.0.3", Some(false)),
            ("192.0.2.1", None),
        ]);
        let expected = ["127.0.0.1:8080", "127.0.0.2:8080"].map(|address| address.parse().unwrap());
        assert_eq!(wanted(&snapshot), BTreeSet::from(expected));
    }

    #[test]
    fn an_address_lingers_after_it_is_no_longer_named_and_returns_if_named_again() {
        let (address, now) = ("127.0.0.1:8080".parse().unwrap(), Instant::now());
        let stop = CancellationToken::new();
        let mut served = Served::from([(address, (stop.clone(), None))]);
        retire(&mut served, &BTreeSet::new(), now);
        retire(&mut served, &BTreeSet::from([address]), now + LINGER);
        assert!(served.contains_key(&address) && !stop.is_cancelled());
        retire(&mut served, &BTreeSet::new(), now + LINGER);
        retire(&mut served, &BTreeSet::new(), now + LINGER * 2);
        assert!(served.is_empty() && stop.is_cancelled());
    }
}
