//! Which nodes may own the addresses of a Service.
//!
//! Every speaker reads the same objects and comes to the same answer: a node that is labelled or reported to be out of
//! the network is left out, unless that left nobody; with external traffic policy `Local` only nodes with a ready
//! endpoint are in. A node may be preferred by annotation.
//!
//! Pure. Source: `MetalLB` `speaker/layer2_controller.go`; KEP-1143 (the exclude label).

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use config::object::ObjectName;
use config::snapshot::Snapshot;
use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::Endpoint;

use crate::claim::PREFIXES;
use crate::members::Eligible;

/// A node with this label gets no load balancer traffic.
pub const EXCLUDE: &str = "node.kubernetes.io/exclude-from-external-load-balancers";
/// The node that shall announce a Service's addresses if it can.
pub const PREFER: &str = "preferred-node";

/// Nodes by name.
type Nodes = BTreeSet<Arc<str>>;

/// What a snapshot says of nodes, read once for all Services.
#[derive(Debug)]
pub struct Candidates {
    usable: Option<Arc<Nodes>>,
    /// The nodes with a ready endpoint, by namespace and name of each Service to which only those matter.
    serving: HashMap<ObjectName, Nodes>,
}

impl Candidates {
    /// Reads nodes and endpoints.
    #[must_use]
    pub fn of(snapshot: &Snapshot) -> Self {
        Self { usable: usable(snapshot).map(Arc::new), serving: serving(snapshot) }
    }

    /// Who may own the addresses of `service`; any member when the snapshot knows no nodes.
    #[must_use]
    pub fn eligible(&self, name: &ObjectName, service: &Service) -> Eligible {
        let nodes = if is_local(service) {
            let serving = self.serving.get(name).cloned().unwrap_or_default();
            let both = |usable: &Arc<Nodes>| usable.intersection(&serving).cloned().collect();
            Some(Arc::new(self.usable.as_ref().map_or_else(|| serving.clone(), both)))
        } else {
            self.usable.clone()
        };
        let annotations = service.metadata.annotations.as_ref();
        let preferred = PREFIXES.iter().find_map(|prefix| annotations?.get(&format!("{prefix}/{PREFER}")));
        Eligible { nodes, preferred: preferred.map(|node| node.as_str().into()) }
    }
}

/// The nodes in the network; all of them when none is, since an address on a doubtful node beats none.
fn usable(snapshot: &Snapshot) -> Option<BTreeSet<Arc<str>>> {
    let named = |all: bool| {
        let nodes = snapshot.nodes.values().filter(move |node| all || is_usable(node));
        nodes.filter_map(|node| node.metadata.name.as_deref()).map(Arc::from).collect::<BTreeSet<Arc<str>>>()
    };
    let usable = named(false);
    let nodes = if usable.is_empty() { named(true) } else { usable };
    (!nodes.is_empty()).then_some(nodes)
}

/// Whether any node is in the network and not excluded.
#[must_use]
pub fn any_usable(snapshot: &Snapshot) -> bool {
    snapshot.nodes.values().any(|node| is_usable(node))
}

fn is_usable(node: &Node) -> bool {
    let excluded = node.metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(EXCLUDE));
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref()).into_iter().flatten();
    !excluded && conditions.into_iter().all(|it| it.type_ != "NetworkUnavailable" || it.status != "True")
}

fn is_local(service: &Service) -> bool {
    service.spec.as_ref().is_some_and(|spec| spec.external_traffic_policy.as_deref() == Some("Local"))
}

/// The nodes with a ready endpoint, for each Service with policy `Local`; a missing `ready` means yes (KEP-752).
fn serving(snapshot: &Snapshot) -> HashMap<ObjectName, Nodes> {
    let local = snapshot.services.iter().filter(|(_, service)| is_local(service));
    let mut serving: HashMap<ObjectName, Nodes> = local.map(|(name, _)| (name.clone(), Nodes::new())).collect();
    if serving.is_empty() {
        return serving;
    }
    for (name, slice) in snapshot.endpoint_slices.iter() {
        let labels = slice.metadata.labels.as_ref();
        let Some(service) = labels.and_then(|labels| labels.get("kubernetes.io/service-name")) else { continue };
        let is_ready = |endpoint: &&Endpoint| endpoint.conditions.as_ref().and_then(|it| it.ready).unwrap_or(true);
        let nodes = slice.endpoints.iter().filter(is_ready).filter_map(|endpoint| endpoint.node_name.as_deref());
        let service = ObjectName::new(Arc::clone(&name.namespace), service.as_str());
        if let Some(serving) = serving.get_mut(&service) {
            serving.extend(nodes.map(Arc::from));
        }
    }
    serving
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{NodeCondition, NodeStatus, ServiceSpec};
    use k8s_openapi::api::discovery::v1::{EndpointConditions, EndpointSlice};

    use super::*;

    fn node(name: &str, label: Option<&str>, unavailable: &str) -> (ObjectName, Arc<Node>) {
        let mut node = Node::default();
        node.metadata.name = Some(name.to_owned());
        node.metadata.labels = label.map(|label| [(label.to_owned(), String::new())].into());
        let status = unavailable.to_owned();
        let condition = NodeCondition { type_: "NetworkUnavailable".to_owned(), status, ..NodeCondition::default() };
        node.status = Some(NodeStatus { conditions: Some(vec![condition]), ..NodeStatus::default() });
        (ObjectName::new("", name), Arc::new(node))
    }

    fn slice(service: &str, endpoints: &[(&str, Option<bool>)]) -> (ObjectName, Arc<EndpointSlice>) {
        let mut slice = EndpointSlice::default();
        slice.metadata.labels = Some([("kubernetes.io/service-name".to_owned(), service.to_owned())].into());
        let endpoint = |(node, ready): &(&str, Option<bool>)| Endpoint {
            node_name: Some((*node).to_owned()),
            conditions: Some(EndpointConditions { ready: *ready, ..EndpointConditions::default() }),
            ..Endpoint::default()
        };
        slice.endpoints = endpoints.iter().map(endpoint).collect();
        (ObjectName::new("shop", format!("{service}-1")), Arc::new(slice))
    }

    fn eligible_nodes(snapshot: &Snapshot, policy: &str) -> Option<Vec<String>> {
        let spec = ServiceSpec { external_traffic_policy: Some(policy.to_owned()), ..ServiceSpec::default() };
        let service = Arc::new(Service { spec: Some(spec), ..Service::default() });
        let name = ObjectName::new("shop", "web");
        let services = Arc::new([(name.clone(), Arc::clone(&service))].into());
        let nodes = Candidates::of(&Snapshot { services, ..snapshot.clone() }).eligible(&name, &service).nodes?;
        Some(nodes.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn excluded_and_unreachable_nodes_are_left_out_but_never_everybody() {
        let mut snapshot = Snapshot::default();
        assert_eq!(eligible_nodes(&snapshot, "Cluster"), None, "no nodes known: any member");
        snapshot.nodes =
            Arc::new([node("a", None, "False"), node("b", Some(EXCLUDE), "False"), node("c", None, "True")].into());
        assert_eq!(eligible_nodes(&snapshot, "Cluster").unwrap(), ["a"]);
        snapshot.nodes = Arc::new([node("b", Some(EXCLUDE), "False"), node("c", None, "True")].into());
        assert_eq!(eligible_nodes(&snapshot, "Cluster").unwrap(), ["b", "c"]);
    }

    #[test]
    fn with_policy_local_only_nodes_with_a_ready_endpoint_are_in() {
        let endpoints = [("a", Some(true)), ("b", Some(false)), ("c", None)];
        let slices = Arc::new([slice("web", &endpoints), slice("other", &[("b", Some(true))])].into());
        let mut snapshot = Snapshot { endpoint_slices: slices, ..Snapshot::default() };
        assert_eq!(eligible_nodes(&snapshot, "Local").unwrap(), ["a", "c"]);
        snapshot.nodes = Arc::new([node("a", None, "False"), node("c", Some(EXCLUDE), "False")].into());
        assert_eq!(eligible_nodes(&snapshot, "Local").unwrap(), ["a"]);
    }

    #[test]
    fn a_node_is_preferred_by_annotation() {
        let mut service = Service::default();
        service.metadata.annotations = Some([("ferrogate.io/preferred-node".to_owned(), "b".to_owned())].into());
        let found = Candidates::of(&Snapshot::default()).eligible(&ObjectName::new("shop", "web"), &service);
        assert_eq!(found.preferred.as_deref(), Some("b"));
    }
}
