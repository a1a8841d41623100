//! Which addresses are not given yet, because it is not known whether somebody on the LAN has them.
//!
//! ```text
//! plan ──> review ──> targets: what to probe, and where ──> probe ──> Findings
//!            │                                                          │
//!            └──> waiting ──> hold_back: the plan without them          └──> PlanOptions::taken, the next plan
//! ```
//!
//! What stands in a status is never reviewed: an address that was given stays, and starts are not delayed. An address
//! that cannot be asked about, since no interface that is up leads to its LAN, is given unasked.
//!
//! Pure. The questions themselves: [`crate::probe`].

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use config::object::{Kind, ObjectName, ObjectRef};
use config::pool::Protocol;

use crate::plan::{Plan, Planned};
use crate::probe::Findings;

/// What is to be found out about the addresses of a plan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Probation {
    /// The addresses to probe, by the number of the interface.
    pub targets: BTreeMap<u32, BTreeSet<IpAddr>>,
    /// Those of them that are not known to be free.
    pub waiting: BTreeSet<IpAddr>,
}

/// Finds the addresses of `plan` that nobody has in its status yet; `ways` tells the interfaces that lead to one.
#[must_use]
pub fn review(plan: &Plan, findings: &Findings, ways: impl Fn(IpAddr) -> Vec<u32>) -> Probation {
    let mut probation = Probation::default();
    // What is committed is in a status, whole.
    let settling = plan.services.values().filter(|planned| !planned.committed);
    let mut newcomers: BTreeSet<IpAddr> = settling.flat_map(announced).collect();
    if !newcomers.is_empty() {
        for ip in plan.services.values().flat_map(|planned| &planned.live) {
            newcomers.remove(ip);
        }
    }
    for ip in &newcomers {
        let ways = ways(*ip);
        if !ways.is_empty() && !findings.free.contains(ip) {
            probation.waiting.insert(*ip);
        }
        for index in ways {
            probation.targets.entry(index).or_default().insert(*ip);
        }
    }
    probation
}

/// The addresses of a Service that are to be on a LAN.
fn announced(planned: &Planned) -> impl Iterator<Item = IpAddr> {
    let layer2 = planned.protocol != Some(Protocol::Bgp);
    planned.ips.iter().copied().filter(move |ip| layer2 && !ip.is_loopback())
}

/// Takes the addresses that wait out of what is written: their Services are pending until more is known.
pub fn hold_back(plan: &mut Plan, waiting: &BTreeSet<IpAddr>) {
    if waiting.is_empty() {
        return;
    }
    let waits = |planned: &Planned| planned.ips.iter().any(|ip| waiting.contains(ip));
    let concerned = plan.services.iter().filter(|(_, planned)| !planned.committed && waits(planned));
    for name in concerned.map(|(name, _)| name.clone()).collect::<Vec<ObjectName>>() {
        let Some(planned) = plan.services.get_mut(&name) else { continue };
        let (probing, ips) = planned.ips.iter().partition(|ip| waiting.contains(ip));
        (planned.probing, planned.ips) = (probing, ips);
        if let Some(status) = plan.report.services.get_mut(&name) {
            status.ips.clone_from(&planned.ips);
            status.pool = status.pool.take().filter(|_| !planned.ips.is_empty());
        }
        let object = ObjectRef::new(Kind::Service, name);
        let others = plan.report.events.of(&object).iter().filter(|event| event.reason != "IPAllocated").cloned();
        let others = others.collect();
        plan.report.events.set(&object, others);
    }
}

#[cfg(test)]
mod tests {
    use config::pool::PoolName;
    use config::report::{Event, ServiceStatus};

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// A Service with these addresses, the first `live` of which stand in its status.
    fn planned(ips: &[&str], live: usize) -> Planned {
        let ips: Vec<IpAddr> = ips.iter().map(|text| ip(text)).collect();
        let live = ips[..live].to_vec();
        Planned { committed: live == ips, live, ips, pool: PoolName::new("lan"), ..Planned::default() }
    }

    fn plan(services: &[(&str, Planned)]) -> Plan {
        let mut plan = Plan::default();
        for (name, planned) in services {
            let name = ObjectName::new("default", *name);
            let status = ServiceStatus { ips: planned.ips.clone(), pool: planned.pool.clone() };
            plan.report.services.insert(name.clone(), status);
            let object = ObjectRef::new(Kind::Service, name.clone());
            plan.report.events.push(Event { object, severity: None, reason: "IPAllocated", message: String::new() });
            plan.services.insert(name, planned.clone());
        }
        plan
    }

    /// Addresses of 192.0.2.0/24 and IPv6 ones are on interface 2, others nowhere.
    fn ways(ip: IpAddr) -> Vec<u32> {
        if ip.is_ipv6() || ip.to_string().starts_with("192.0.2.") { vec![2] } else { Vec::new() }
    }

    #[test]
    fn only_newcomers_on_a_lan_are_probed() {
        let bgp = Planned { protocol: Some(Protocol::Bgp), ..planned(&["192.0.2.7"], 0) };
        let plan = plan(&[
            ("committed", planned(&["192.0.2.1"], 1)),
            ("sharer", planned(&["192.0.2.1"], 0)),
            ("fresh", planned(&["192.0.2.2"], 0)),
            ("second-family", planned(&["192.0.2.3", "2001:db8::3"], 1)),
            ("elsewhere", planned(&["203.0.113.1"], 0)),
            ("loopback", planned(&["127.0.0.9"], 0)),
            ("bgp", bgp),
        ]);
        let both = BTreeSet::from([ip("192.0.2.2"), ip("2001:db8::3")]);
        let probation = review(&plan, &Findings::default(), ways);
        assert_eq!(probation, Probation { targets: BTreeMap::from([(2, both.clone())]), waiting: both.clone() });
        let findings = Findings { free: BTreeSet::from([ip("192.0.2.2")]), ..Findings::default() };
        let probation = review(&plan, &findings, ways);
        assert_eq!(probation.targets[&2], both, "what is known is still asked for, lest it be forgotten");
        assert_eq!(probation.waiting, BTreeSet::from([ip("2001:db8::3")]));
    }

    #[test]
    fn what_waits_is_not_written_and_what_is_held_stays() {
        let mut plan = plan(&[
            ("committed", planned(&["192.0.2.1"], 1)),
            ("fresh", planned(&["192.0.2.2"], 0)),
            ("second-family", planned(&["192.0.2.3", "2001:db8::3"], 1)),
        ]);
        let before = plan.clone();
        hold_back(&mut plan, &BTreeSet::new());
        assert_eq!(plan, before);
        hold_back(&mut plan, &BTreeSet::from([ip("192.0.2.2"), ip("2001:db8::3")]));
        let shown = |name: &str| {
            let (name, events) = (ObjectName::new("default", name), &plan.report.events);
            let status = &plan.report.services[&name];
            let told = events.iter().any(|event| event.object.name == name);
            (status.ips.clone(), status.pool.is_some(), plan.services[&name].probing.clone(), told)
        };
        assert_eq!(shown("committed"), (vec![ip("192.0.2.1")], true, vec![], true));
        assert_eq!(shown("fresh"), (vec![], false, vec![ip("192.0.2.2")], false));
        assert_eq!(shown("second-family"), (vec![ip("192.0.2.3")], true, vec![ip("2001:db8::3")], false));
    }
}
