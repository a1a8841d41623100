//! Where ports lead that are not for HTTP: `tcp-services` and `udp-services`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use config::object::{FieldPath, Kind, ObjectName, ObjectRef};
use config::snapshot::Snapshot;
use config::streams::{self, StreamPort, StreamTarget};

use super::backends::Backends;
use super::finding::Finding;
use crate::backend::PortRef;
use crate::streams::{Carrier, Stream, Streams};

/// Which `ConfigMap`s say where ports lead.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamMaps {
    /// Ports of TCP.
    pub tcp: Option<ObjectName>,
    /// Ports of UDP.
    pub udp: Option<ObjectName>,
    /// Ports of TCP that we need ourselves.
    pub reserved: BTreeSet<u16>,
}

/// The ports, and the last good text of each.
#[derive(Clone, Debug, Default)]
pub(super) struct HeldStreams {
    good: BTreeMap<(Carrier, u16), StreamTarget>,
    pub(super) table: Arc<Streams>,
}

impl HeldStreams {
    /// Reads both maps; a value that is wrong stays as `previous` has it.
    pub(super) fn of(
        maps: &StreamMaps,
        snapshot: &Snapshot,
        backends: &Backends<'_>,
        previous: &Self,
        findings: &mut Vec<Finding>,
    ) -> Self {
        let mut good = BTreeMap::new();
        let mut table = BTreeMap::new();
        for (carrier, name) in [(Carrier::Tcp, &maps.tcp), (Carrier::Udp, &maps.udp)] {
            let Some(name) = name else { continue };
            let map = snapshot.config_maps.get(name);
            let mut wrong = |key: &str, why: String| {
                let object = ObjectRef::new(Kind::ConfigMap, name.clone());
                findings.push(Finding::at(object, FieldPath::of(["data"]).key(key), "Stream", why));
            };
            for (key, text) in map.iter().flat_map(|map| map.data.iter().flatten()) {
                let Some((port, target)) = maps.read(carrier, key, text, previous, &mut wrong) else { continue };
                let stream = resolve(carrier, &target, backends, previous.table.0.get(&(carrier, port)));
                if let Some(problem) = stream.endpoints.problem() {
                    wrong(key, format!("{problem}; connections to this port are closed at once"));
                }
                good.insert((carrier, port), target);
                table.insert((carrier, port), stream);
            }
        }
        let is_same = previous.table.0.len() == table.len()
            && previous.table.0.iter().zip(&table).all(|(one, other)| one.0 == other.0 && Arc::ptr_eq(one.1, other.1));
        let table = if is_same { Arc::clone(&previous.table) } else { Arc::new(Streams(table)) };
        Self { good, table }
    }
}

impl StreamMaps {
    fn read(
        &self,
        carrier: Carrier,
        key: &str,
        text: &str,
        previous: &HeldStreams,
        wrong: &mut impl FnMut(&str, String),
    ) -> Option<(u16, StreamTarget)> {
        let port = streams::port(key).map_err(|why| wrong(key, why)).ok()?;
        if carrier == Carrier::Tcp && self.reserved.contains(&port) {
            wrong(key, format!("port {port} is where we accept HTTP, HTTPS or administration; choose another"));
            return None;
        }
        let read = streams::target(text).and_then(|target| {
            let has_marker = carrier == Carrier::Udp && (target.decode || target.encode);
            if has_marker { Err("PROXY is for TCP; remove it".to_owned()) } else { Ok(target) }
        });
        let target = read.or_else(|why| {
            let last = previous.good.get(&(carrier, port)).cloned();
            let stays = if last.is_some() { "; the last good target stays in use" } else { "" };
            wrong(key, format!("{why}{stays}"));
            last.ok_or(())
        });
        Some((port, target.ok()?))
    }
}

/// The very same stream as before if nothing changed.
fn resolve(
    carrier: Carrier,
    target: &StreamTarget,
    backends: &Backends<'_>,
    previous: Option<&Arc<Stream>>,
) -> Arc<Stream> {
    let port = match &target.port {
        StreamPort::Number(number) => PortRef::Number(*number),
        StreamPort::Name(name) => PortRef::Name(name.as_str().into()),
    };
    let before = previous.map(|stream| &stream.endpoints);
    let endpoints = backends.resolve_stream(&target.service, &port, carrier, before);
    let stream = Stream { endpoints, decode: target.decode, encode: target.encode };
    let same = previous.filter(|previous| previous.is_same(&stream));
    same.map_or_else(|| Arc::new(stream), Arc::clone)
}
