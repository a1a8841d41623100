//! All objects at one moment.
//!
//! A source (API server or folder) publishes one complete, immutable [`Snapshot`] after every change; the cores read
//! it and cannot tell the source. Kinds and objects that did not change are shared with the snapshot before, so that
//! `Arc::ptr_eq` tells a core what it need not look at again.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Node, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};

use crate::diagnostic::{Place, Problem};
use crate::issuer::objects::{ClusterIssuerObject, IssuerObject};
use crate::object::{FieldPath, ObjectName, ObjectRef};
use crate::pool::PoolConfig;
use crate::shared::SharedMap;

/// All objects of one kind, in the order of their names.
pub type Objects<T> = Arc<SharedMap<ObjectName, Arc<T>>>;

/// All objects at one moment, with the last good address configuration.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Grows by one with every snapshot of a source.
    pub generation: u64,
    /// Address pools and BGP settings: the last version that was valid as a whole.
    pub pools: Arc<PoolConfig>,
    /// Whether the newest version of the address configuration was refused, so that [`Self::pools`] is an older one.
    pub pools_stale: bool,
    /// Services, with the status that a leader has committed.
    pub services: Objects<Service>,
    /// `EndpointSlice` objects.
    pub endpoint_slices: Objects<EndpointSlice>,
    /// Ingresses of every class.
    pub ingresses: Objects<Ingress>,
    /// Ingress classes of every controller.
    pub ingress_classes: Objects<IngressClass>,
    /// cert-manager's `Issuer` objects.
    pub issuers: Objects<IssuerObject>,
    /// cert-manager's `ClusterIssuer` objects.
    pub cluster_issuers: Objects<ClusterIssuerObject>,
    /// Secrets that may hold a certificate or are referenced.
    pub secrets: Objects<Secret>,
    /// Configuration maps that are ours to read.
    pub config_maps: Objects<ConfigMap>,
    /// Nodes; empty in folder mode unless a manifest declares some.
    pub nodes: Objects<Node>,
    /// Namespaces; empty in folder mode unless a manifest declares some.
    pub namespaces: Objects<Namespace>,
    /// What the source itself found wrong: unreadable files, objects that do not parse, a stale configuration.
    pub problems: Arc<Vec<Problem>>,
    /// When it was saved, if it comes from disk because the API server has not answered since the start.
    pub saved: Option<SystemTime>,
    /// Where each object stands in its source.
    pub origins: Arc<HashMap<ObjectRef, Arc<dyn Origin>>>,
}

impl Snapshot {
    /// Where `field` of `object` stands in its source: the place of the deepest step that exists there.
    ///
    /// `None` when the source has no lines, as the API server.
    #[must_use]
    pub fn locate(&self, object: &ObjectRef, field: &FieldPath) -> Option<Place> {
        self.origins.get(object)?.locate(field)
    }

    /// The same problem with its place filled in, if the source knows it and nobody has filled it in before.
    #[must_use]
    pub fn placed(&self, problem: Problem) -> Problem {
        if problem.place.is_some() {
            return problem;
        }
        let place = problem.object.as_ref().and_then(|object| self.locate(object, &problem.field));
        problem.at(place)
    }
}

/// The text that one object was read from; finds the place of a field on demand, so that no object keeps a map of
/// places in memory.
pub trait Origin: fmt::Debug + Send + Sync {
    /// The place of `field`, or of the deepest step towards it that is written down.
    fn locate(&self, field: &FieldPath) -> Option<Place>;

    /// Where the text stands that is the value of `field`, for a problem inside that text.
    fn locate_text(&self, field: &FieldPath) -> Option<TextPlace> {
        self.locate(field).map(TextPlace::opaque)
    }
}

/// Where a text stands that has lines of its own, such as the configuration inside a `ConfigMap`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextPlace {
    start: Place,
    verbatim: bool,
}

impl TextPlace {
    /// A text whose lines all stand in the source, indented as its first one, which begins at `start`.
    #[must_use]
    pub const fn verbatim(start: Place) -> Self {
        Self { start, verbatim: true }
    }

    /// A text whose lines are not those of the source; every place inside it counts as its beginning.
    #[must_use]
    pub const fn opaque(start: Place) -> Self {
        Self { start, verbatim: false }
    }

    /// The place in the source of a line and column of the text, both from 1.
    #[must_use]
    pub fn place(&self, line: u32, column: u32) -> Place {
        if !self.verbatim {
            return self.start.clone();
        }
        let file = Arc::clone(&self.start.file);
        let line = self.start.line.saturating_add(line).saturating_sub(1);
        Place { file, line, column: self.start.column.saturating_add(column).saturating_sub(1) }
    }
}
