//! Where a VIP is announced, or why it is not.
//!
//! A VIP belongs on the interfaces whose subnet holds it; interfaces named by the operator replace that rule. The
//! answer for every address of a plan is a [`Layout`]: VIPs per interface, and a [`Silence`] for each that is on none.
//! Of those that could be announced here, the ones that another member owns are silenced last, by [`elect`].
//!
//! Pure. Where links come from: [`crate::io`]. Who owns a VIP: [`crate::members`].

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use config::pool::Protocol;
use config::report::{VipEntry, VipMoves, VipState};

use crate::choice::Choice;
use crate::link::{Link, Unfit};
use crate::members::View;
use crate::plan::{Plan, Planned};

/// Why an address is not announced here, for an operator to read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each field is what the message shows")]
pub enum Silence {
    /// Not in the status yet.
    #[error("waiting for the address to be written to the Service's status")]
    Uncommitted,
    /// Its pool wants BGP.
    #[error("BGP announcing is not built yet; give pool {pool} the protocol layer2 to have its addresses announced")]
    Bgp { pool: String },
    /// 127.0.0.0/8 or `::1`.
    #[error("loopback address: reachable on this machine only")]
    Loopback,
    /// In `fe80::/10`: the same address may be on every LAN.
    #[error("link-local address: it has no meaning beyond one cable; use a pool of other addresses")]
    LinkLocal,
    /// Another member owns it.
    #[error("node {owner} announces it")]
    Elsewhere { owner: String },
    /// Nobody owns it yet.
    #[error("nobody announces it yet: the speakers are finding out who is there")]
    Undecided,
    /// We hear nobody.
    #[error("this node hears no other node and no gateway, so it announces nothing; check its network")]
    Isolated,
    /// No raw sockets.
    #[error("not announced: {why}")]
    NoSocket { why: String },
    /// No interface is on its subnet.
    #[error(
        "no interface is on a subnet with {vip}; name the interface to announce it on with --interface{}{}",
        beside(near, "it is virtual"),
        beside(excluded, "--exclude-interface says so")
    )]
    NoSubnet { vip: IpAddr, near: Vec<String>, excluded: Vec<String> },
    /// The named interfaces are not there.
    #[error("interface {} does not exist (yet)", names.join(", "))]
    NoInterface { names: Vec<String> },
    /// The named interface will never do.
    #[error("interface {name} cannot announce: {why}")]
    UnfitInterface { name: String, why: Unfit },
    /// The interface is down.
    #[error("interface {} is down or has no carrier", names.join(", "))]
    Down { names: Vec<String> },
    /// It could not be made local.
    #[error("not announced, because it could not be added to lo: {why}")]
    NotDelivered { why: String },
}

fn beside(near: &[String], why: &str) -> String {
    if near.is_empty() { String::new() } else { format!(" ({} was left out: {why})", near.join(", ")) }
}

/// Where everything is announced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// The VIPs that each interface could announce, by its number; interfaces without VIPs are not in here.
    pub ports: BTreeMap<u32, BTreeSet<IpAddr>>,
    /// What becomes of each address of the plan: the interfaces it is announced on, or why it is not.
    pub verdicts: BTreeMap<IpAddr, Result<Vec<String>, Silence>>,
}

/// What this node may and must do.
#[derive(Clone, Copy, Debug)]
pub struct Standpoint<'a> {
    /// The interfaces that the operator chose.
    pub choice: &'a Choice,
    /// Why there are no raw sockets; `None` when there are.
    pub no_socket: Option<&'a str>,
}

/// Lays the addresses of `plan` out over `links`.
#[must_use]
pub fn layout(plan: &Plan, links: &[Link], from: Standpoint<'_>) -> Layout {
    let mut layout = Layout::default();
    for planned in plan.services.values() {
        for ip in &planned.ips {
            let silence = silence(planned, *ip, from);
            // Of Services that share an address, one with it in its status is enough.
            if matches!(layout.verdicts.get(ip), None | Some(Err(Silence::Uncommitted))) {
                layout.verdicts.insert(*ip, silence.map_or_else(|| Ok(Vec::new()), Err));
            }
        }
    }
    for (vip, verdict) in layout.verdicts.iter_mut().filter(|(_, verdict)| verdict.is_ok()) {
        *verdict = candidates(*vip, links, from.choice).and_then(|on| {
            for link in &on {
                layout.ports.entry(link.index).or_default().insert(*vip);
            }
            let names = |ready| on.iter().filter(|link| link.ready == ready).map(|link| link.name.clone()).collect();
            let ready: Vec<String> = names(true);
            if ready.is_empty() { Err(Silence::Down { names: names(false) }) } else { Ok(ready) }
        });
    }
    layout
}

/// Why `ip` is not announced, whatever the interfaces.
fn silence(planned: &Planned, ip: IpAddr, from: Standpoint<'_>) -> Option<Silence> {
    if ip.is_loopback() {
        return Some(Silence::Loopback);
    }
    if planned.protocol == Some(Protocol::Bgp) {
        let pool = planned.pool.as_ref().map(ToString::to_string).unwrap_or_default();
        return Some(Silence::Bgp { pool });
    }
    if !planned.live.contains(&ip) {
        return Some(Silence::Uncommitted);
    }
    if matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local()) {
        return Some(Silence::LinkLocal);
    }
    if let Some(why) = from.no_socket {
        return Some(Silence::NoSocket { why: why.to_owned() });
    }
    None
}

/// Silences what this node could announce and does not own.
pub fn elect(layout: &mut Layout, members: &View) {
    for (vip, verdict) in &mut layout.verdicts {
        if verdict.is_ok() && !members.owned.contains(vip) {
            *verdict = Err(match members.owners.get(vip) {
                Some(owner) => Silence::Elsewhere { owner: owner.to_string() },
                None if members.isolated => Silence::Isolated,
                None => Silence::Undecided,
            });
        }
    }
}

/// The interfaces for `vip`: those named, or those on its subnet.
pub(crate) fn candidates<'a>(vip: IpAddr, links: &'a [Link], choice: &Choice) -> Result<Vec<&'a Link>, Silence> {
    let (excluded, links): (Vec<&Link>, Vec<&Link>) = links.iter().partition(|link| choice.excludes(&link.name));
    let holds = |link: &&&Link| link.unfit.is_none() && link.holds(vip);
    if choice.only.is_empty() {
        let (near, found): (Vec<&Link>, Vec<&Link>) = links.iter().filter(holds).partition(|link| link.is_virtual());
        if !found.is_empty() {
            return Ok(found);
        }
        let near = near.iter().map(|link| format!("{} ({})", link.name, link.kind.as_deref().unwrap_or_default()));
        let excluded = excluded.iter().filter(holds).map(|link| link.name.clone()).collect();
        return Err(Silence::NoSubnet { vip, near: near.collect(), excluded });
    }
    let found: Vec<&Link> = links.iter().copied().filter(|link| choice.names(&link.name)).collect();
    let fit: Vec<&Link> = found.iter().copied().filter(|link| link.unfit.is_none()).collect();
    match (fit.is_empty(), found.first().and_then(|link| Some((link, link.unfit?)))) {
        (false, _) => Ok(fit),
        (true, Some((link, why))) => Err(Silence::UnfitInterface { name: link.name.clone(), why }),
        (true, None) => Err(Silence::NoInterface { names: choice.only.iter().map(ToString::to_string).collect() }),
    }
}

/// One entry for each Service of `plan`, as the admin API shows it.
#[must_use]
pub fn entries(plan: &Plan, layout: &Layout, node: &str) -> Vec<VipEntry> {
    plan.services
        .iter()
        .map(|(name, planned)| {
            let (interfaces, mut reasons) = interfaces_and_reasons(planned, layout);
            reasons.extend(planned.probing.iter().map(|ip| format!("making sure that nobody on the LAN has {ip}")));
            reasons.extend(planned.refusal.iter().map(ToString::to_string));
            let state = match (planned.ips.is_empty(), interfaces.is_empty()) {
                (true, _) => VipState::Pending,
                (false, true) => VipState::Assigned,
                (false, false) => VipState::Announcing,
            };
            let announcing = state == VipState::Announcing;
            VipEntry {
                namespace: name.namespace.to_string(),
                service: name.name.to_string(),
                ips: planned.ips.clone(),
                pool: planned.pool.as_ref().map(ToString::to_string),
                state,
                reason: (!reasons.is_empty()).then(|| reasons.join("; ")),
                node: if announcing { Some(node.to_owned()) } else { owner_elsewhere(planned, layout) },
                interface: announcing.then(|| interfaces.into_iter().collect::<Vec<_>>().join(",")),
                moving: VipMoves::default(),
            }
        })
        .collect()
}

/// The other node that announces an address of a Service.
fn owner_elsewhere(planned: &Planned, layout: &Layout) -> Option<String> {
    planned.ips.iter().find_map(|ip| match layout.verdicts.get(ip) {
        Some(Err(Silence::Elsewhere { owner })) => Some(owner.clone()),
        _ => None,
    })
}

/// The interfaces that announce any address of a Service, and why others are not announced.
fn interfaces_and_reasons(planned: &Planned, layout: &Layout) -> (BTreeSet<String>, Vec<String>) {
    let (mut interfaces, mut reasons) = (BTreeSet::new(), Vec::new());
    for ip in &planned.ips {
        match layout.verdicts.get(ip) {
            Some(Ok(on)) if planned.live.contains(ip) => interfaces.extend(on.iter().cloned()),
            Some(Err(silence)) if planned.ips.len() > 1 => reasons.push(format!("{ip}: {silence}")),
            Some(Err(silence)) => reasons.push(silence.to_string()),
            Some(Ok(_)) | None => reasons.push(Silence::Uncommitted.to_string()),
        }
    }
    (interfaces, reasons)
}

#[cfg(test)]
#[path = "reach_tests.rs"]
mod tests;
