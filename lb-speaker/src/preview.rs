//! What a change of pools or Services would do to addresses, before it is made.
//!
//! ```text
//! live ──> plan ──> settled: live, once what is due is written ──┬──────────────> plan ──> now  ─┐
//!                                                                └─ candidate ──> plan ──> then ─┴─> effects
//! ```
//!
//! The same plan that runs the appliance, twice; what differs for a Service is an [`Effect`]. Both start from settled
//! statuses, so that what the cluster is about to do anyway is not taken for a consequence of the change.
//!
//! Pure. Who asks: `ferrogate check --against-cluster`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use config::object::ObjectName;
use config::pool::{PoolConfig, PoolName, Protocol};
use config::report;
use config::snapshot::{Objects, Snapshot};
use k8s_openapi::api::core::v1::{LoadBalancerIngress, LoadBalancerStatus, Service, ServiceStatus};

use crate::apply;
use crate::plan::{self, Plan, PlanOptions, Planned};

/// What is to be changed.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// The new address configuration; `None` leaves it as it is.
    pub pools: Option<&'a Arc<PoolConfig>>,
    /// Services that are new or replace those of the same name; no Service goes.
    pub services: &'a Objects<Service>,
}

/// What a change means for one Service.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each field is what the message shows")]
pub enum Effect {
    /// It gets addresses and loses none.
    Served { ips: Vec<IpAddr>, pool: Option<PoolName> },
    /// It gets addresses instead of others.
    Renumbered { from: Vec<IpAddr>, to: Vec<IpAddr>, pool: Option<PoolName> },
    /// It loses addresses and gets none.
    Freed { ips: Vec<IpAddr> },
    /// It keeps addresses that no pool has any more.
    Orphaned { ips: Vec<IpAddr> },
    /// It keeps its addresses; their pool is another.
    Repooled { from: Option<PoolName>, to: PoolName, protocol: Option<Protocol> },
    /// It is refused something, for a reason that is new.
    Refused { why: String },
}

impl Effect {
    /// Whether somebody who uses the Service may notice to their disadvantage, now or later.
    #[must_use]
    pub const fn is_harm(&self) -> bool {
        match self {
            Self::Renumbered { .. } | Self::Freed { .. } | Self::Orphaned { .. } | Self::Refused { .. } => true,
            Self::Served { .. } | Self::Repooled { .. } => false,
        }
    }

    /// One word for it.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Served { .. } => "served",
            Self::Renumbered { .. } => "renumbered",
            Self::Freed { .. } => "freed",
            Self::Orphaned { .. } => "orphaned",
            Self::Repooled { .. } => "repooled",
            Self::Refused { .. } => "refused",
        }
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let joined = |ips: &[IpAddr]| ips.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(" and ");
        let of = |pool: &Option<PoolName>| pool.as_ref().map(|pool| format!(" of pool {pool}")).unwrap_or_default();
        match self {
            Self::Served { ips, pool } => write!(f, "gets {}{}", joined(ips), of(pool)),
            Self::Renumbered { from, to, pool } => {
                write!(f, "gets {}{} instead of {}", joined(to), of(pool), joined(from))
            }
            Self::Freed { ips } => write!(f, "loses {}", joined(ips)),
            Self::Orphaned { ips } => write!(f, "keeps {}, which no pool has any more", joined(ips)),
            Self::Repooled { from, to, protocol } => {
                let from = from.as_ref().map_or_else(|| "none".to_owned(), |from| format!("pool {from}"));
                let silent = if *protocol == Some(Protocol::Bgp) { " (bgp, which is not announced)" } else { "" };
                write!(f, "keeps its addresses, in pool {to}{silent} instead of {from}")
            }
            Self::Refused { why } => write!(f, "is refused: {why}"),
        }
    }
}

/// What each Service would notice of `candidate`; one that is not in here notices nothing.
#[must_use]
pub fn preview(live: &Snapshot, candidate: Candidate<'_>, options: &PlanOptions) -> BTreeMap<ObjectName, Vec<Effect>> {
    let settled = settled(live, &plan::plan(live, options));
    let now = plan::plan(&settled, options);
    let then = plan::plan(&changed(&settled, candidate), options);
    let names: BTreeSet<&ObjectName> = now.services.keys().chain(then.services.keys()).collect();
    let told = names.into_iter().map(|name| (name.clone(), effects(name, &now, &then, live.pools_stale)));
    told.filter(|(_, effects)| !effects.is_empty()).collect()
}

/// The snapshot once all that `plan` wants stands in the statuses.
fn settled(live: &Snapshot, plan: &Plan) -> Snapshot {
    let mut services = live.services.clone();
    for (name, wanted) in &plan.report.services {
        if plan.services.get(name).is_some_and(|planned| planned.committed) {
            continue;
        }
        if let Some(service) = Arc::make_mut(&mut services).get_mut(name) {
            Arc::make_mut(service).status = Some(status(wanted));
        }
    }
    Snapshot { services, ..live.clone() }
}

fn status(wanted: &report::ServiceStatus) -> ServiceStatus {
    let entry = |ip: &IpAddr| LoadBalancerIngress { ip: Some(ip.to_string()), ..LoadBalancerIngress::default() };
    let ingress = Some(wanted.ips.iter().map(entry).collect());
    ServiceStatus { load_balancer: Some(LoadBalancerStatus { ingress }), ..ServiceStatus::default() }
}

/// The snapshot once `candidate` is applied.
fn changed(settled: &Snapshot, candidate: Candidate<'_>) -> Snapshot {
    let mut next = settled.clone();
    if let Some(pools) = candidate.pools {
        (next.pools, next.pools_stale) = (Arc::clone(pools), false);
    }
    for (name, service) in candidate.services.iter() {
        let applied = applied(service, settled.services.get(name));
        Arc::make_mut(&mut next.services).insert(name.clone(), Arc::new(applied));
    }
    next
}

/// A manifest as it would be stored once it is applied over `live`: with the status, with what others than the manifest
/// have set, and with the cluster addresses unless the manifest wants other families.
fn applied(manifest: &Service, live: Option<&Arc<Service>>) -> Service {
    let Some(live) = live else { return Service { status: None, ..manifest.clone() } };
    let annotations = live.metadata.annotations.as_ref();
    let last = annotations.and_then(|it| serde_json::from_str(it.get(apply::LAST_APPLIED)?).ok()).unwrap_or_default();
    let value = |service: &Service| serde_json::to_value(service).unwrap_or_default();
    let merged = apply::merge(&value(live), &last, &value(manifest));
    // Two Services make one; were it not so, what the manifest says would count.
    let mut service: Service = serde_json::from_value(merged).unwrap_or_else(|_| manifest.clone());
    service.status.clone_from(&live.status);
    if let (Some(spec), Some(before), Some(wanted)) = (&mut service.spec, &live.spec, &manifest.spec) {
        let other_policy = wanted.ip_family_policy.is_some() && wanted.ip_family_policy != before.ip_family_policy;
        let other_families = wanted.ip_families.is_some() && wanted.ip_families != before.ip_families;
        if other_policy || other_families {
            spec.cluster_ip.clone_from(&wanted.cluster_ip);
            spec.cluster_ips.clone_from(&wanted.cluster_ips);
        }
    }
    service
}

/// What differs for one Service. Where the configuration in force is unknown (`stale`), no orphan is an old one.
fn effects(name: &ObjectName, now: &Plan, then: &Plan, stale: bool) -> Vec<Effect> {
    let nothing = Planned::default();
    let (before, after) = (now.services.get(name).unwrap_or(&nothing), then.services.get(name).unwrap_or(&nothing));
    let missing = |from: &[IpAddr], of: &[IpAddr]| of.iter().copied().filter(|ip| !from.contains(ip)).collect();
    let (lost, gained): (Vec<_>, Vec<_>) = (missing(&after.ips, &before.ips), missing(&before.ips, &after.ips));
    let pool = after.pool.clone();
    let mut effects = Vec::new();
    match (lost.is_empty(), gained.is_empty()) {
        (true, true) => {}
        (true, false) => effects.push(Effect::Served { ips: gained, pool }),
        (false, true) => effects.push(Effect::Freed { ips: lost }),
        (false, false) => effects.push(Effect::Renumbered { from: lost, to: gained, pool }),
    }
    let orphaned = |plan: &Plan| plan.orphaned.get(name).cloned().unwrap_or_default();
    let known = if stale { Vec::new() } else { orphaned(now) };
    let orphaned: Vec<IpAddr> = missing(&known, &orphaned(then));
    if !orphaned.is_empty() {
        effects.push(Effect::Orphaned { ips: orphaned });
    }
    let kept = before.ips.first().is_some_and(|ip| after.ips.contains(ip));
    if let (true, Some(to)) = (kept && before.pool != after.pool, &after.pool) {
        let (from, to) = (before.pool.clone(), to.clone());
        effects.push(Effect::Repooled { from, to, protocol: after.protocol });
    }
    if let Some(refusal) = after.refusal.as_ref().filter(|refusal| Some(*refusal) != before.refusal.as_ref()) {
        effects.push(Effect::Refused { why: refusal.to_string() });
    }
    effects
}

#[cfg(test)]
#[path = "preview_tests.rs"]
mod tests;
