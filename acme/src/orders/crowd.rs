//! Two thousand certificates that are due at once, at a CA that is well.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use config::issuer::{Issuer, Issuers, PRESETS, Solver, Way};
use config::object::ObjectName;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;

use super::{AT_ONCE, Answer, Done, Job, Orders, Seen};
use crate::held::{Found, Held, Owner};
use crate::inventory::{Hints, inventory};
use crate::name::CertName;
use crate::order::{Placed, Status, Step};
use crate::store::Account;
use crate::terms::Terms;
use crate::wanted::{self, Wanted};

const CROWD: usize = 2000;
const HOUR: i64 = 3600;

fn want(index: usize) -> Wanted {
    Wanted {
        secret: ObjectName::new("shop", format!("tls-{index:04}")),
        ingress: ObjectName::new("shop", "web"),
        issuer: wanted::Issuer::Cluster("le".to_owned()),
        names: [CertName::parse(&format!("a.example-{index}.com")).unwrap()].into(),
        terms: Terms::default(),
    }
}

fn issuers() -> Arc<Issuers> {
    let solver = Solver { dns_names: Vec::new(), dns_zones: Vec::new(), way: Way::Http01 };
    let issuer = Issuer {
        server: PRESETS[0].1.to_owned(),
        email: None,
        external_account: None,
        profile: None,
        preferred_chain: None,
        ca_bundle: None,
        solvers: vec![solver],
    };
    Arc::new(Issuers { by_name: [("le".to_owned(), issuer)].into(), ..Issuers::default() })
}

/// What a CA that is well makes of a job.
fn perform(job: Job, placed: &mut Vec<String>) -> Done {
    match job {
        Job::Make { id, mut order, .. } => {
            order.key = zeroize::Zeroizing::new(format!("key of {id}"));
            Done::Made(id, Ok(order))
        }
        Job::MakeAccount { id, server } => {
            Done::Account(id, Ok(Account { server, key: zeroize::Zeroizing::new("key".to_owned()), url: None }))
        }
        Job::Register { id, account, .. } => {
            let account = account.expect("no issuer here has customers");
            Done::Account(id, Ok(Account { url: Some("https://ca/1".to_owned()), ..account }))
        }
        Job::Take { id, step, order, .. } => {
            let answer = match step {
                Step::Place => {
                    placed.push(order.secret.clone());
                    Answer::Placed(Placed { url: format!("https://ca/{id}"), challenges: Vec::new() })
                }
                Step::Look if order.request.is_empty() => Answer::Seen(Status::Valid, None),
                Step::Download => Answer::Chain(format!("certificate of {id}")),
                _ => Answer::Done,
            };
            Done::Taken(id, step, Ok(answer))
        }
        Job::Clean { record, .. } => Done::Cleaned(record, Ok(())),
        Job::Suggest { .. } => unreachable!("nothing is held of which an id is known"),
    }
}

#[test]
fn two_thousand_at_once_are_ordered_by_urgency_within_the_budget_and_a_few_at_a_time() {
    let start = Timestamp::from_second(1_800_000_000).unwrap();
    let (mut now, mut orders) = (start, Orders::default());
    orders.lead(true, now);
    let wants: Vec<Wanted> = (0..CROWD).map(want).collect();
    // Every fourth has expired, every second of the others is there and due for renewal.
    let day = |days: i64| start.checked_add(SignedDuration::from_hours(24 * days)).unwrap();
    let held_of = |index: usize, want: &Wanted| {
        let (from, to) = match index % 4 {
            0 => (day(-91), day(-1)),
            2 => (day(-80), day(10)),
            _ => return None,
        };
        let names = want.names.iter().map(ToString::to_string).collect();
        let held = Held { names, not_before: from, not_after: to, id: None, key: None };
        let (issuer, version) = (Some("le".to_owned()), String::new());
        Some((want.secret.clone(), Found { owner: Owner::Us, certificate: Ok(held), issuer, version }))
    };
    let held: BTreeMap<_, _> = wants.iter().enumerate().filter_map(|(index, want)| held_of(index, want)).collect();
    let hints = Hints { issuers: issuers(), ..Hints::default() };
    let state = ObjectName::new("system", "ferrogate-acme");
    let (mut store, mut placed, mut times) = (None::<Secret>, Vec::new(), Vec::new());
    let mut done: BTreeSet<ObjectName> = BTreeSet::new();
    let (mut tls, mut longest) = (BTreeMap::new(), 0);
    while now.duration_since(start) < SignedDuration::from_hours(1) && placed.len() < 700 {
        let left: Vec<Wanted> = wants.iter().filter(|want| !done.contains(&want.secret)).cloned().collect();
        let due = inventory(&left, &held, &hints, now);
        let seen = Seen { store: store.as_ref(), secrets: tls.clone(), held: held.clone(), issuers: issuers() };
        orders.observe(seen, due, now);
        let jobs = orders.jobs(now);
        assert!(orders.running().count() <= AT_ONCE);
        let quiet = jobs.is_empty();
        for job in jobs {
            let before = placed.len();
            let outcome = perform(job, &mut placed);
            times.extend((before..placed.len()).map(|_| now.as_second()));
            orders.done(outcome, now, 0.5);
        }
        for (name, write) in orders.writes(&state) {
            let object = write.object(&name, None);
            if name == state {
                longest = longest.max(write.data.values().map(Vec::len).sum());
                store = Some(object);
            } else {
                tls.insert(name.clone(), Arc::new(object));
                done.insert(name);
            }
        }
        let next = orders.deadline().filter(|_| quiet).map_or(now, |at| at.max(now));
        now = next.checked_add(SignedDuration::from_secs(1)).unwrap();
    }
    assert!(placed.len() >= 700, "{} were ordered", placed.len());
    let class = |secret: &String| match secret.trim_start_matches("shop/tls-").parse::<usize>().unwrap() % 4 {
        0 => 0,
        2 => 2,
        _ => 1,
    };
    // Renewals are not counted by the CA, so they need not wait for those that are.
    let first: Vec<_> = placed.iter().take(500).map(class).collect();
    assert!(first.is_sorted(), "{first:?}");
    let new: Vec<i64> = placed.iter().zip(&times).filter(|(secret, _)| class(secret) == 1).map(|(_, at)| *at).collect();
    let most = new.iter().map(|from| new.iter().filter(|at| (*from..*from + 3 * HOUR).contains(*at)).count()).max();
    assert!(most.unwrap_or_default() <= 300, "{most:?} new orders in three hours");
    assert!(longest < 200_000, "the store has {longest} bytes");
}
