//! Which endpoints are meant for where we are.
//!
//! The `EndpointSlice` controller turns `spec.trafficDistribution` (`PreferSameZone`, also written `PreferClose`, and
//! `PreferSameNode`) and the annotation `service.kubernetes.io/topology-mode` into hints at each endpoint: the nodes
//! and zones that are to use it. A hint is followed as kube-proxy does it: only if every endpoint has one, so that
//! nothing is cut off while hints are being written, and only if one of them names us, so that something is left.
//!
//! Source: KEP-2433 (zones), KEP-3015 (`PreferSameNode`).
//!
//! Pure. Which endpoints are ready: [`crate::backend`].

use std::sync::Arc;

use config::object::ObjectName;
use config::snapshot::Snapshot;
use k8s_openapi::api::discovery::v1::EndpointHints;

/// The label of a Node that names its zone.
const ZONE_LABEL: &str = "topology.kubernetes.io/zone";

/// Where we are; nothing in it for a part that is not known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Locality {
    node: Option<Arc<str>>,
    zone: Option<Arc<str>>,
}

impl Locality {
    /// The place of the Node called `node`; its zone is what the Node's label says.
    #[must_use]
    pub fn of(node: &Arc<str>, snapshot: &Snapshot) -> Self {
        let labels = snapshot.nodes.get(&ObjectName::cluster(Arc::clone(node)));
        let labels = labels.and_then(|node| node.metadata.labels.as_ref());
        let zone = labels.and_then(|labels| labels.get(ZONE_LABEL)).filter(|zone| !zone.is_empty());
        Self { node: Some(Arc::clone(node)), zone: zone.map(|zone| zone.as_str().into()) }
    }
}

/// Those of `all` that are meant for our node, else for our zone, else all of them.
pub(super) fn nearest<T: Copy>(all: &[(T, Option<&EndpointHints>)], here: &Locality) -> Vec<T> {
    let for_us = |names: fn(&EndpointHints) -> Vec<&str>, here: &Option<Arc<str>>| hinted(all, names, here.as_deref()?);
    let nearest = for_us(nodes, &here.node).or_else(|| for_us(zones, &here.zone));
    nearest.unwrap_or_else(|| all.iter().map(|(endpoint, _)| *endpoint).collect())
}

/// Those whose hints name `here`; `None` if some have no hint, or none names us.
fn hinted<T: Copy>(
    all: &[(T, Option<&EndpointHints>)],
    names: fn(&EndpointHints) -> Vec<&str>,
    here: &str,
) -> Option<Vec<T>> {
    let ours = all.iter().filter(|(_, hints)| hints.is_some_and(|hints| names(hints).contains(&here)));
    let ours: Vec<T> = ours.map(|(endpoint, _)| *endpoint).collect();
    let is_complete = all.iter().all(|(_, hints)| hints.is_some_and(|hints| !names(hints).is_empty()));
    (is_complete && !ours.is_empty()).then_some(ours)
}

fn nodes(hints: &EndpointHints) -> Vec<&str> {
    hints.for_nodes.iter().flatten().map(|node| node.name.as_str()).collect()
}

fn zones(hints: &EndpointHints) -> Vec<&str> {
    hints.for_zones.iter().flatten().map(|zone| zone.name.as_str()).collect()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::discovery::v1::{ForNode, ForZone};
    use proptest::prelude::*;

    use super::*;

    /// Written `nodes/zones`, each a list with commas; `-` for an endpoint without hints.
    fn hints(text: &str) -> Option<EndpointHints> {
        let (nodes, zones) = text.split_once('/')?;
        let list = |text: &str| text.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect::<Vec<_>>();
        Some(EndpointHints {
            for_nodes: Some(list(nodes).into_iter().map(|name| ForNode { name }).collect()),
            for_zones: Some(list(zones).into_iter().map(|name| ForZone { name }).collect()),
        })
    }

    fn chosen(endpoints: &[&str], here: &Locality) -> Vec<usize> {
        let hints: Vec<_> = endpoints.iter().map(|text| hints(text)).collect();
        nearest(&hints.iter().enumerate().map(|(at, hints)| (at, hints.as_ref())).collect::<Vec<_>>(), here)
    }

    fn at(node: &str, zone: &str) -> Locality {
        let known = |name: &str| (!name.is_empty()).then(|| name.into());
        Locality { node: known(node), zone: known(zone) }
    }

    #[test]
    fn hints_are_followed_if_all_have_them_and_one_names_us() {
        for (endpoints, node, zone, expected) in [
            (&["/a", "/b", "/a,b"][..], "n1", "a", &[0, 2][..]),
            (&["/a", "/b"], "n1", "c", &[0, 1]),
            (&["/a", "/b"], "n1", "", &[0, 1]),
            (&["/a", "-"], "n1", "a", &[0, 1]),
            (&["/a", "/"], "n1", "a", &[0, 1]),
            (&["-", "-"], "n1", "a", &[0, 1]),
            (&["n1/a", "n2/a", "n3/b"], "n1", "a", &[0]),
            (&["n1/a", "n2/a", "n3/b"], "n9", "a", &[0, 1]),
            (&["n1/a", "/a", "n3/b"], "n1", "a", &[0, 1]),
            (&["n1/a", "n2/b"], "n9", "c", &[0, 1]),
            (&["n1/", "n2/"], "n2", "", &[1]),
            (&["n1/a", "n2/b"], "", "", &[0, 1]),
            (&[], "n1", "a", &[]),
        ] {
            assert_eq!(chosen(endpoints, &at(node, zone)), expected, "{endpoints:?} at {node:?} in {zone:?}");
        }
    }

    #[test]
    fn our_zone_is_what_our_node_says() {
        let node = |zone: &str| {
            let labels = serde_json::json!({ "metadata": { "name": "n1", "labels": { ZONE_LABEL: zone } } });
            Arc::new(serde_json::from_value::<k8s_openapi::api::core::v1::Node>(labels).unwrap())
        };
        for (name, zone, expected) in [("n1", "a", at("n1", "a")), ("n1", "", at("n1", "")), ("n2", "a", at("n2", ""))]
        {
            let nodes = Arc::new([(ObjectName::cluster("n1"), node(zone))].into());
            let snapshot = Snapshot { nodes, ..Snapshot::default() };
            assert_eq!(Locality::of(&name.into(), &snapshot), expected, "{name} in {zone:?}");
        }
    }

    proptest! {
        #[test] // or a wrong hint would be an outage
        fn hints_never_leave_nothing_and_never_send_past_what_is_meant_for_us(
            endpoints in proptest::collection::vec(("[12]{0,2}", "[ab]{0,2}", any::<bool>()), 0..6),
            node in proptest::option::of("[123]"),
            zone in proptest::option::of("[abc]"),
        ) {
            let list = |text: &str| text.chars().map(String::from).collect::<Vec<_>>().join(",");
            let written: Vec<_> = endpoints
                .iter()
                .map(|(nodes, zones, has)| if *has { format!("{}/{}", list(nodes), list(zones)) } else { "-".into() })
                .collect();
            let written: Vec<_> = written.iter().map(String::as_str).collect();
            let here = Locality { node: node.as_deref().map(Into::into), zone: zone.as_deref().map(Into::into) };
            let chosen = chosen(&written, &here);
            prop_assert_eq!(chosen.is_empty(), endpoints.is_empty());
            let names_us = |at: &usize| {
                let (nodes, zones, has) = &endpoints[*at];
                *has && (node.as_ref().is_some_and(|node| nodes.contains(node))
                    || zone.as_ref().is_some_and(|zone| zones.contains(zone)))
            };
            prop_assert!(chosen.len() == endpoints.len() || chosen.iter().all(names_us));
            if endpoints.iter().any(|(_, _, has)| !has) {
                prop_assert_eq!(chosen.len(), endpoints.len());
            }
        }
    }
}
