//! How addresses are given: for the speaker that gives them and for `check`, which says beforehand what it would give.

use std::collections::BTreeMap;

use clap::{Args, ValueEnum};
use config::object::ObjectName;
use lb_speaker::allocator::OrphanPolicy;
use lb_speaker::plan::{PlanOptions, ReservedPolicy};
use lb_speaker::reserved::Lan;

/// Which Services get addresses, and which addresses are given.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Addresses")]
pub(crate) struct AddressArgs {
    /// Serve only Services of this loadBalancerClass [default: those without one]
    #[arg(long, value_name = "CLASS", env = "FERROGATE_LB_CLASS")]
    pub(crate) lb_class: Option<String>,
    /// What becomes of addresses whose pool was edited away: keep (and say so) or reassign
    #[arg(long, value_enum, default_value_t = Orphans::Keep, value_name = "POLICY", env = "FERROGATE_ORPHAN_POLICY", hide_possible_values = true)]
    pub(crate) orphan_policy: Orphans,
    /// Also give addresses of nodes and gateways, and those that subnets keep for themselves, if a pool has them
    /// [default: only of pools with allow-reserved-addresses: true]
    #[arg(long, env = "FERROGATE_ALLOW_RESERVED_ADDRESSES")]
    pub(crate) allow_reserved_addresses: bool,
}

/// What becomes of addresses whose pool was edited away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Orphans {
    Keep,
    Reassign,
}

impl From<Orphans> for OrphanPolicy {
    fn from(orphans: Orphans) -> Self {
        match orphans {
            Orphans::Keep => Self::Keep,
            Orphans::Reassign => Self::Reassign,
        }
    }
}

impl AddressArgs {
    /// The same for the plan, with pools from the `ConfigMap` of that name. What the LAN is like, only a speaker on it
    /// can say.
    pub(crate) fn plan(&self, namespace: &str, name: &str) -> PlanOptions {
        PlanOptions {
            lb_class: self.lb_class.clone(),
            orphans: self.orphan_policy.into(),
            reserved: if self.allow_reserved_addresses { ReservedPolicy::Give } else { ReservedPolicy::Refuse },
            lan: Lan::default(),
            taken: BTreeMap::new(),
            config_map: ObjectName::new(namespace, name),
        }
    }
}
