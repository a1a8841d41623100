//! `MetalLB`'s annotations of a Service, under each prefix that they may stand under.

use k8s_openapi::api::core::v1::Service;

/// Where annotations may stand; the first that is present wins.
pub const PREFIXES: [&str; 3] = ["ferrogate.io", "metallb.io", "metallb.universe.tf"];

/// One annotation: its full key under each of [`PREFIXES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Annotation {
    keys: [&'static str; 3],
}

macro_rules! annotation {
    ($name:literal) => {
        Annotation {
            keys: [
                concat!("ferrogate.io/", $name),
                concat!("metallb.io/", $name),
                concat!("metallb.universe.tf/", $name),
            ],
        }
    };
}

/// The addresses asked for, separated by commas; at most one per family.
pub const ASK_ADDRESSES: Annotation = annotation!("loadBalancerIPs");
/// The pool asked for.
pub const ASK_POOL: Annotation = annotation!("address-pool");
/// Services of one such key may share an address.
pub const SHARE: Annotation = annotation!("allow-shared-ip");

impl Annotation {
    /// The key as the Service writes it, and the value.
    #[must_use]
    pub fn of(self, service: &Service) -> Option<(&'static str, &str)> {
        let annotations = service.metadata.annotations.as_ref()?;
        self.keys.into_iter().find_map(|key| Some((key, annotations.get(key)?.as_str())))
    }
}

/// The annotations of ours that stand under the prefix `MetalLB` deprecated, each with the key to write instead.
#[must_use]
pub fn deprecated(service: &Service) -> Vec<(&'static str, &'static str)> {
    let Some(annotations) = &service.metadata.annotations else { return Vec::new() };
    let all = [ASK_ADDRESSES, ASK_POOL, SHARE];
    all.into_iter()
        .filter_map(|Annotation { keys: [_, new, old] }| annotations.contains_key(old).then_some((old, new)))
        .collect()
}
