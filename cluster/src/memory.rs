//! What a cluster remembers of its answers: the part of an API server's memory that folder mode needs.
//!
//! An address that stands here is committed: it comes back as `Service.status` in every later snapshot, over restarts
//! too. As text it is JSON for people to read, with a version in front:
//!
//! ```json
//! { "version": 1,
//!   "services": { "shop/web": { "ips": ["192.0.2.10"], "pool": "edge" } },
//!   "ingresses": { "shop/web": ["192.0.2.10"] } }
//! ```
//!
//! Pure. Where it is kept: `dir::state`. Who changes it: [`crate::outbox`].

use std::collections::BTreeMap;
use std::net::IpAddr;

use config::object::ObjectName;
use config::pool::PoolName;
use config::report::{IngressAddress, IngressAddressError, ServiceStatus};
use serde::{Deserialize, Serialize};

/// The version of the text that this program writes, and the highest it reads.
pub const VERSION: u32 = 1;

/// Every status that a leader has committed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Addresses of Services; one without an address is not in here.
    pub services: BTreeMap<ObjectName, ServiceStatus>,
    /// Addresses of Ingresses; one without an address is not in here.
    pub ingresses: BTreeMap<ObjectName, Vec<IngressAddress>>,
}

/// Why a text is no memory.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A newer program wrote it.
    #[error("it has version {version}, and this program knows only version {VERSION}; run the newer program again")]
    Newer {
        /// The version found.
        version: u32,
    },
    /// It is cut off, or was edited into something else.
    #[error("it is damaged: {0}")]
    Damaged(String),
}

#[derive(Deserialize)]
struct Version {
    version: u32,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    version: u32,
    services: BTreeMap<String, StoredService>,
    #[serde(default)]
    ingresses: BTreeMap<String, Vec<String>>,
}

#[derive(Serialize, Deserialize)]
struct StoredService {
    ips: Vec<IpAddr>,
    #[serde(default)]
    pool: Option<String>,
}

impl Memory {
    /// The text of this memory, ending in a newline.
    #[must_use]
    pub fn encode(&self) -> String {
        let service = |status: &ServiceStatus| StoredService {
            ips: status.ips.clone(),
            pool: status.pool.as_ref().map(|pool| pool.as_str().to_owned()),
        };
        let stored = Stored {
            version: VERSION,
            services: self.services.iter().map(|(name, status)| (name.to_string(), service(status))).collect(),
            ingresses: self.ingresses.iter().map(|(name, shown)| (name.to_string(), texts(shown))).collect(),
        };
        let mut text = serde_json::to_string_pretty(&stored).expect("text keys and plain values always encode");
        text.push('\n');
        text
    }

    /// Reads what [`Self::encode`] wrote, or what a person made of it.
    pub fn decode(text: &str) -> Result<Self, DecodeError> {
        let damaged = |error: serde_json::Error| DecodeError::Damaged(error.to_string());
        let Version { version } = serde_json::from_str(text).map_err(damaged)?;
        if version > VERSION {
            return Err(DecodeError::Newer { version });
        }
        let stored: Stored = serde_json::from_str(text).map_err(damaged)?;
        let services = stored.services.into_iter().map(|(name, service)| {
            let pool = service.pool.as_deref().and_then(PoolName::new);
            Ok((object_name(&name)?, ServiceStatus { ips: service.ips, pool }))
        });
        let ingresses = stored.ingresses.into_iter().map(|(name, shown)| Ok((object_name(&name)?, addresses(&shown)?)));
        Ok(Self { services: services.collect::<Result<_, _>>()?, ingresses: ingresses.collect::<Result<_, _>>()? })
    }
}

fn texts(addresses: &[IngressAddress]) -> Vec<String> {
    addresses.iter().map(ToString::to_string).collect()
}

fn addresses(texts: &[String]) -> Result<Vec<IngressAddress>, DecodeError> {
    let damaged = |error: IngressAddressError| DecodeError::Damaged(error.to_string());
    texts.iter().map(|text| text.parse().map_err(damaged)).collect()
}

fn object_name(text: &str) -> Result<ObjectName, DecodeError> {
    match text.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() => Ok(ObjectName::new(namespace, name)),
        _ => Err(DecodeError::Damaged(format!("{text:?} is not written namespace/name"))),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn memories() -> impl Strategy<Value = Memory> {
        let name = || ("[a-z][a-z0-9-]{0,8}", "[a-z][a-z0-9.-]{0,8}").prop_map(|(ns, name)| ObjectName::new(ns, name));
        let ips = || proptest::collection::vec(any::<IpAddr>(), 0..3);
        let pool = proptest::option::of("\\PC{1,8}").prop_map(|pool| pool.as_deref().and_then(PoolName::new));
        let status = (ips(), pool).prop_map(|(ips, pool)| ServiceStatus { ips, pool });
        let services = proptest::collection::btree_map(name(), status, 0..6);
        let address = prop_oneof![
            any::<IpAddr>().prop_map(IngressAddress::Ip),
            "[a-z]{1,8}\\.example".prop_map(|name| IngressAddress::Hostname(name.into())),
        ];
        let shown = proptest::collection::vec(address, 0..3);
        (services, proptest::collection::btree_map(name(), shown, 0..6))
            .prop_map(|(services, ingresses)| Memory { services, ingresses })
    }

    proptest! {
        #[test]
        fn decoding_gives_back_what_was_encoded(memory in memories()) {
            prop_assert_eq!(Memory::decode(&memory.encode()), Ok(memory));
        }

        #[test]
        fn a_text_cut_off_anywhere_is_refused(memory in memories(), at in any::<prop::sample::Index>()) {
            let text = memory.encode();
            let cut = at.index(text.trim_end().len());
            prop_assume!(text.is_char_boundary(cut));
            prop_assert!(matches!(Memory::decode(&text[..cut]), Err(DecodeError::Damaged(_))));
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,80}") {
            let _ = Memory::decode(&text);
        }
    }

    #[test]
    fn the_text_of_a_program_that_knew_only_addresses_is_read() {
        let old = r#"{"version":1,"services":{},"ingresses":{"shop/web":["192.0.2.10"]}}"#;
        let ingresses = Memory::decode(old).unwrap().ingresses;
        assert_eq!(ingresses[&ObjectName::new("shop", "web")], ["192.0.2.10".parse().unwrap()]);
        assert!(Memory::decode(&old.replace("192.0.2.10", "192.0.2.300")).is_err());
    }

    #[test]
    fn a_newer_text_is_told_from_a_damaged_one() {
        let newer = r#"{"version": 2, "services": ["shape we do not know"]}"#;
        assert_eq!(Memory::decode(newer), Err(DecodeError::Newer { version: 2 }));
        for damaged in ["", "{", r#"{"version":1}"#, r#"{"version":1,"services":{"web":{"ips":[]}}}"#] {
            assert!(matches!(Memory::decode(damaged), Err(DecodeError::Damaged(_))), "{damaged}");
        }
    }
}
