//! Watches which certificates are due. Ordering them (RFC 8555) comes with the ACME part; until then a certificate
//! that is due is reported on its Ingress, so that nobody waits for one in vain.
#![expect(clippy::disallowed_methods, reason = "a renewal is due at a moment")]

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use acme::inventory::{Due, Inventory, inventory};
use acme::{held, wanted};
use config::diagnostic::Problem;
use config::object::{FieldPath, Kind, ObjectRef};
use config::report::{Report, RouteEntry};
use config::snapshot::Snapshot;
use jiff::Timestamp;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

/// The longest sleep: timers stop while a machine is suspended, the wall clock does not.
const RECHECK: Duration = Duration::from_mins(1);

/// What is looked at.
#[derive(Debug)]
pub(crate) struct Inputs {
    /// All objects.
    pub(crate) snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
    /// What is served: certificates are ordered for these Ingresses only.
    pub(crate) routes: watch::Receiver<Arc<Vec<RouteEntry>>>,
}

/// Reports what is due until `shutdown`.
pub(crate) async fn run(
    mut inputs: Inputs,
    reports: watch::Sender<Arc<Report>>,
    ready: oneshot::Sender<()>,
    shutdown: CancellationToken,
) -> Result<(), Infallible> {
    let mut ready = Some(ready);
    loop {
        let snapshot = inputs.snapshots.borrow_and_update().clone();
        if let Some(snapshot) = snapshot {
            let routes = Arc::clone(&inputs.routes.borrow_and_update());
            let report = Arc::new(report(&snapshot, &routes, Timestamp::now()));
            reports.send_if_modified(|current| {
                let is_new = *current != report;
                *current = report;
                is_new
            });
            // Whoever waited for it may be gone by now.
            let _ = ready.take().map(|ready| ready.send(()));
        }
        tokio::select! {
            changed = inputs.snapshots.changed() => if changed.is_err() { return Ok(()) },
            changed = inputs.routes.changed() => if changed.is_err() { return Ok(()) },
            () = tokio::time::sleep(RECHECK) => {}
            () = shutdown.cancelled() => return Ok(()),
        }
    }
}

/// What is wrong with what is wanted, and what is due.
fn report(snapshot: &Snapshot, routes: &[RouteEntry], now: Timestamp) -> Report {
    let served: BTreeSet<_> = routes.iter().map(|route| &route.ingress).collect();
    let ours = snapshot.ingresses.iter().filter(|(name, _)| served.contains(name));
    let wants = wanted::wanted(ours.map(|(name, ingress)| (name, &**ingress)));
    let secrets = wants.certificates.iter().filter_map(|want| snapshot.secrets.get_key_value(&want.secret));
    let held: BTreeMap<_, _> = secrets.map(|(name, secret)| (name.clone(), held::read(secret))).collect();
    let Inventory { due, .. } = inventory(&wants.certificates, &held, now);
    let problems = wants.problems.into_iter().chain(due.iter().map(problem));
    let problems = problems.map(|problem| snapshot.placed(problem)).collect();
    Report { generation: snapshot.generation, problems, ..Report::default() }
}

fn problem(due: &Due) -> Problem {
    let names: Vec<_> = due.names.iter().map(ToString::to_string).collect();
    let message = format!(
        "the certificate for {} is due ({}), but this version cannot order certificates yet; put one into Secret {}",
        names.join(", "),
        due.reason,
        due.secret
    );
    let field = FieldPath::of(["spec", "tls"]);
    Problem::warning(ObjectRef::new(Kind::Ingress, due.ingress.clone()), field, message)
}

#[cfg(test)]
mod tests {
    use config::object::ObjectName;
    use k8s_openapi::api::networking::v1::{Ingress, IngressSpec, IngressTLS};

    use super::*;

    fn snapshot() -> Snapshot {
        let block = IngressTLS { hosts: Some(vec!["a.example.com".to_owned()]), secret_name: Some("tls".to_owned()) };
        let spec = IngressSpec { tls: Some(vec![block]), ..IngressSpec::default() };
        let mut ingress = Ingress { spec: Some(spec), ..Ingress::default() };
        ingress.metadata.annotations = Some([(wanted::TLS_ACME.to_owned(), "true".to_owned())].into());
        let ingresses = Arc::new([(ObjectName::new("shop", "web"), Arc::new(ingress))].into());
        Snapshot { ingresses, ..Snapshot::default() }
    }

    fn route(ingress: &str) -> RouteEntry {
        RouteEntry {
            host: "a.example.com".to_owned(),
            path: "/".to_owned(),
            path_type: "Prefix".to_owned(),
            ingress: ObjectName::new("shop", ingress),
            backend: "shop/web:80".to_owned(),
            endpoints: 1,
        }
    }

    #[test]
    fn a_certificate_that_nobody_will_order_is_a_warning_on_its_ingress() {
        let report = report(&snapshot(), &[route("web")], Timestamp::UNIX_EPOCH);
        assert_eq!(
            report.problems[0].to_string(),
            "warning: the certificate for a.example.com is due (there is no such Secret yet), but this version cannot \
             order certificates yet; put one into Secret shop/tls\n  --> Ingress shop/web, spec.tls"
        );
    }

    #[test]
    fn an_ingress_that_is_not_served_needs_no_certificate() {
        assert_eq!(report(&snapshot(), &[route("other")], Timestamp::UNIX_EPOCH).problems, []);
    }
}
