//! The cores themselves, called.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use config::snapshot::Snapshot;
use ingress::certs::{self, Certificate};
use ingress::compile::{CompileOptions, Compiled, Publish, compile};
use ingress::resolve::Answers;
use jiff::Timestamp;
use lb_speaker::allocator::{OrphanPolicy, Terms, allocate};
use lb_speaker::claim::{Claim, Reading, Readings, Standing};
use lb_speaker::election;
use lb_speaker::plan::{PlanOptions, Planner, plan};
use lb_speaker::reserved::Reserved;

use super::fleet;
use super::timing::{Rows, time};

/// Times every core at `count` objects of each kind.
pub fn run(rows: &mut Rows, count: usize, rounds: usize) {
    for (what, held) in [("nothing is committed", false), ("all is committed", true)] {
        let snapshot = fleet::snapshot(count, held);
        addresses(rows, &snapshot, what, rounds);
        one_change(rows, &snapshot, what, count, rounds);
    }
    elect(rows, rounds);
    routes(rows, &fleet::snapshot(count, true), count, rounds);
}

fn addresses(rows: &mut Rows, snapshot: &Snapshot, what: &str, rounds: usize) {
    let mut readings = Readings::default();
    let readings = readings.update(&snapshot.services, None);
    let claim =
        |it: &Arc<Reading>| if let Standing::Claims(claim) = &it.result { Some(Claim::clone(claim)) } else { None };
    let claims: Vec<Claim> = readings.values().filter_map(claim).collect();
    let claims: Vec<&Claim> = claims.iter().collect();
    let (reserved, namespaces) = (Reserved::new(), Arc::default());
    let terms =
        Terms { config: &snapshot.pools, orphans: OrphanPolicy::Keep, reserved: &reserved, namespaces: &namespaces };
    let times = time(rounds, |_| (), |()| allocate(terms, &claims));
    rows.add(&format!("allocate, {what}"), &times);
    let times = time(rounds, |_| (), |()| plan(snapshot, &PlanOptions::default()));
    rows.add(&format!("plan from nothing, {what}"), &times);
}

fn one_change(rows: &mut Rows, snapshot: &Snapshot, what: &str, count: usize, rounds: usize) {
    let (mut snapshot, options, mut planner) = (snapshot.clone(), PlanOptions::default(), Planner::default());
    let mut before = planner.plan(&snapshot, &options);
    let change = |round: usize| {
        fleet::replace(&mut snapshot.services, fleet::service(count / 2, None, round + 1));
        snapshot.clone()
    };
    let times = time(rounds, change, |snapshot| {
        let next = planner.plan(&snapshot, &options);
        (std::mem::replace(&mut before, next), snapshot)
    });
    rows.add(&format!("plan after a change of one Service, {what}"), &times);
}

fn elect(rows: &mut Rows, rounds: usize) {
    let members: Vec<String> = (0..500).map(|number| format!("worker-{number}.example.com")).collect();
    let members: Vec<&str> = members.iter().map(String::as_str).collect();
    let vips: Vec<IpAddr> = (0..1000).map(|number: u32| Ipv4Addr::from(0x0a00_0000 + number).into()).collect();
    let owners = |()| vips.iter().map(|vip| election::owner(*vip, &members)).collect::<Vec<_>>();
    rows.add("elect owners of 1000 VIPs among 500 members", &time(rounds.min(20), |_| (), owners));
}

fn routes(rows: &mut Rows, snapshot: &Snapshot, count: usize, rounds: usize) {
    let now = Timestamp::UNIX_EPOCH;
    let default = Arc::new(certs::generate_default(now).expect("a certificate can be generated"));
    let compiled = |snapshot: &Snapshot, previous: Option<&Compiled>| table(snapshot, &default, previous, now);
    let times = time(rounds.min(20), |_| (), |()| compiled(snapshot, None));
    rows.add("compile routes from nothing", &times);
    for kind in ["Ingress", "EndpointSlice", "Service"] {
        let mut next = snapshot.clone();
        let mut before = compiled(&next, None);
        let prepare = |round: usize| {
            let (number, mark) = (count / 2, round + 1);
            match kind {
                "Ingress" => fleet::replace(&mut next.ingresses, fleet::ingress(number, mark)),
                "EndpointSlice" => fleet::replace(&mut next.endpoint_slices, fleet::slice(number, 0, mark)),
                _ => fleet::replace(&mut next.services, fleet::service(number, None, mark)),
            }
            next.clone()
        };
        let times = time(rounds, prepare, |snapshot| {
            let after = compiled(&snapshot, Some(&before));
            (std::mem::replace(&mut before, after), snapshot)
        });
        rows.add(&format!("compile routes after a change of one {kind}"), &times);
    }
}

fn table(snapshot: &Snapshot, default: &Arc<Certificate>, previous: Option<&Compiled>, now: Timestamp) -> Compiled {
    let options = CompileOptions {
        ingress_class: "ferrogate".to_owned(),
        controller: "ferrogate.io/ingress-controller".to_owned(),
        watch_without_class: false,
        publish: Publish::UsualService,
        loopback_endpoints: false,
        external_names: true,
        config_map: config::object::ObjectName::new("ingress-nginx", "ingress-nginx-controller"),
        streams: ingress::compile::StreamMaps::default(),
        node: None,
    };
    compile(snapshot, &Answers::new(), &options, default, previous, now)
}
