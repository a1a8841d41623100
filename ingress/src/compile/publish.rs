//! Which addresses our Ingresses show, and which former ones are to show them no more.

use std::collections::BTreeSet;
use std::net::IpAddr;

use config::object::{Kind, ObjectName, ObjectRef};
use config::report::IngressAddress;
use config::settings;
use config::shared::SharedMap;
use config::snapshot::Snapshot;
use k8s_openapi::api::core::v1::{Service, ServiceSpec};

use super::Plans;
use super::finding::Finding;

/// Where the addresses come from that clients reach us by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Publish {
    /// From the Service [`settings::PUBLISH_SERVICE`], where it exists; else Ingresses show what others write.
    #[default]
    UsualService,
    /// From this Service.
    Service(ObjectName),
    /// These.
    Addresses(Vec<IngressAddress>),
}

/// The addresses that clients reach us by.
#[derive(Debug, Default)]
pub(super) struct Published {
    /// Those that Ingresses show.
    shown: BTreeSet<IngressAddress>,
    /// Those that nobody else can have, so that a request to them would come back to us.
    pub(super) own: BTreeSet<IpAddr>,
}

impl Published {
    /// What `publish` means now; `None` if that is somebody else's to say.
    pub(super) fn new(snapshot: &Snapshot, publish: &Publish, findings: &mut Vec<Finding>) -> Option<Self> {
        match publish {
            Publish::UsualService => {
                let (namespace, name) = settings::PUBLISH_SERVICE;
                snapshot.services.get(&ObjectName::new(namespace, name)).map(|service| Self::of(service))
            }
            Publish::Service(name) => Some(snapshot.services.get(name).map_or_else(
                || {
                    findings.push(missing(name));
                    Self::default()
                },
                |service| Self::of(service),
            )),
            // They may be those of nodes, where endpoints live too: none of them is refused as an endpoint.
            Publish::Addresses(all) => Some(Self { shown: all.iter().cloned().collect(), own: BTreeSet::new() }),
        }
    }

    /// The addresses of a Service, by its type, as ingress-nginx finds them.
    fn of(service: &Service) -> Self {
        let none = ServiceSpec::default();
        let spec = service.spec.as_ref().unwrap_or(&none);
        let balancer = service.status.as_ref().and_then(|status| status.load_balancer.as_ref()?.ingress.as_ref());
        let entries = || balancer.into_iter().flatten();
        let external = || parsed(spec.external_ips.iter().flatten());
        let cluster = || parsed(spec.cluster_ip.iter().chain(spec.cluster_ips.iter().flatten()));
        let shown = match spec.type_.as_deref() {
            Some("LoadBalancer") => {
                let mut shown = parsed(entries().filter_map(|entry| entry.ip.as_ref().or(entry.hostname.as_ref())));
                shown.extend(external());
                shown
            }
            Some("NodePort") => Some(external()).filter(|external| !external.is_empty()).unwrap_or_else(cluster),
            Some("ExternalName") => parsed(spec.external_name.iter()),
            _ => cluster(),
        };
        let own = entries().filter_map(|entry| entry.ip.as_deref()?.parse().ok()).collect();
        Self { shown, own }
    }

    /// The status of our Ingresses, and of those that were ours and still show what we wrote; `touched` are the
    /// Ingresses of which something may have changed since `before`, when `were_ours` were.
    ///
    /// Only who was ours a moment ago is cleared: another controller may share our addresses, and would write them
    /// again.
    pub(super) fn status(
        &self,
        snapshot: &Snapshot,
        plans: &Plans,
        touched: &BTreeSet<ObjectName>,
        were_ours: &Plans,
        before: &HeldStatus,
    ) -> HeldStatus {
        let shown: Vec<IngressAddress> = self.shown.iter().cloned().collect();
        let mut next = before.clone();
        if next.shown.as_ref() != Some(&shown) {
            next.all = plans.keys().map(|name| (name.clone(), shown.clone())).collect();
            next.shown = Some(shown.clone());
        }
        for name in touched {
            if plans.contains_key(name) {
                next.all.insert(name.clone(), shown.clone());
            } else {
                next.all.remove(name);
                next.left.extend(were_ours.contains_key(name).then(|| name.clone()));
            }
        }
        for name in std::mem::take(&mut next.left).into_iter().filter(|name| !plans.contains_key(name)) {
            let found = snapshot.ingresses.get(&name).and_then(|ingress| IngressAddress::shown(ingress));
            if found.is_some_and(|found| !found.is_empty() && found == shown) {
                next.all.insert(name.clone(), Vec::new());
                next.left.insert(name);
            } else {
                next.all.remove(&name);
            }
        }
        next
    }
}

/// What Ingresses are to show.
#[derive(Clone, Debug, Default)]
pub(super) struct HeldStatus {
    /// What ours do; `None` if that is somebody else's to say.
    shown: Option<Vec<IngressAddress>>,
    /// The status of each.
    pub(super) all: SharedMap<ObjectName, Vec<IngressAddress>>,
    /// Those of them that were ours and still show our addresses.
    left: BTreeSet<ObjectName>,
}

/// Those that are addresses or names; `None` as the cluster IP of a headless Service is a name in form only.
fn parsed<'a>(texts: impl Iterator<Item = &'a String>) -> BTreeSet<IngressAddress> {
    texts.filter(|text| *text != "None").filter_map(|text| text.parse().ok()).collect()
}

fn missing(name: &ObjectName) -> Finding {
    let message = "the Service whose address Ingresses are to show does not exist; create it, or name another";
    Finding::warning(ObjectRef::new(Kind::Service, name.clone()), &[], "PublishServiceNotFound", message)
}
