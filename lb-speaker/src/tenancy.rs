//! Who is on an address, and who may join.
//!
//! Services share an address when each names the same key, traffic is steered to them in the same way and no port is
//! wanted twice. Source: `MetalLB` `internal/allocator`, `sharing_rules`.
//!
//! Pure; lives for one run of [`crate::allocator::allocate`].

use std::collections::HashMap;
use std::net::IpAddr;

use config::object::ObjectName;

use crate::claim::{Claim, Port, Sharing};

/// Everybody who has an address so far.
#[derive(Debug, Default)]
pub(crate) struct Tenancies<'a> {
    by_ip: HashMap<IpAddr, Tenancy<'a>>,
}

/// The Services on one address.
#[derive(Debug)]
struct Tenancy<'a> {
    first: &'a ObjectName,
    /// What all of them agree on; `None` for one who does not share.
    sharing: Option<&'a Sharing>,
    ports: HashMap<&'a Port, &'a ObjectName>,
}

/// Why a Service may not join an address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rule {
    /// They do not have one key in common.
    #[error(
        "can't change sharing key for {joiner:?}, address also in use by {tenant}; give both Services the same \
         annotation metallb.io/allow-shared-ip, or ask for another address"
    )]
    Key {
        /// The Service that wants to join, as `namespace/name`.
        joiner: String,
        /// A Service that is there.
        tenant: ObjectName,
    },
    /// Same key, but traffic would have to be steered in two ways.
    #[error(
        "can't change sharing key for {joiner:?}, address also in use by {tenant} with another externalTrafficPolicy \
         (or selector); sharers need Cluster, or Local with equal selectors"
    )]
    Traffic {
        /// The Service that wants to join, as `namespace/name`.
        joiner: String,
        /// A Service that is there.
        tenant: ObjectName,
    },
    /// Same key, and a port is taken.
    #[error(
        "port {}/{} is already in use on {:?} by Service {tenant}; change the port of one, or ask for another address",
        port.protocol, port.number, ip.to_string()
    )]
    Port {
        /// The address.
        ip: IpAddr,
        /// The port both want.
        port: Port,
        /// The Service that has it.
        tenant: ObjectName,
    },
}

impl<'a> Tenancies<'a> {
    /// Whether nobody is on `ip`.
    pub(crate) fn is_free(&self, ip: IpAddr) -> bool {
        !self.by_ip.contains_key(&ip)
    }

    /// Whether the Service may be on `ip` together with those who are.
    pub(crate) fn check(&self, ip: IpAddr, claim: &Claim) -> Result<(), Rule> {
        let Some(tenancy) = self.by_ip.get(&ip) else { return Ok(()) };
        let joiner = || claim.service.to_string();
        let tenant = || tenancy.first.clone();
        match (&claim.sharing, tenancy.sharing) {
            (Some(mine), Some(theirs)) if mine.key == theirs.key => {
                if mine.traffic != theirs.traffic {
                    return Err(Rule::Traffic { joiner: joiner(), tenant: tenant() });
                }
            }
            _ => return Err(Rule::Key { joiner: joiner(), tenant: tenant() }),
        }
        match claim.ports.iter().find_map(|port| tenancy.ports.get(port).map(|tenant| (port, *tenant))) {
            Some((port, tenant)) => Err(Rule::Port { ip, port: port.clone(), tenant: tenant.clone() }),
            None => Ok(()),
        }
    }

    /// Puts the Service on `ip`, which [`Self::check`] allowed.
    pub(crate) fn admit(&mut self, ip: IpAddr, claim: &'a Claim) {
        let tenancy = self.by_ip.entry(ip).or_insert_with(|| Tenancy {
            first: &claim.service,
            sharing: claim.sharing.as_ref(),
            ports: HashMap::new(),
        });
        if tenancy.sharing.is_some() {
            tenancy.ports.extend(claim.ports.iter().map(|port| (port, &claim.service)));
        }
    }
}
