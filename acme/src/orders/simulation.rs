//! Orders against a CA, an API server and a leader that fail in any order.
//!
//! What must hold whatever happens: the CA is never asked for more than it allows, the key of a certificate that was
//! issued is always stored somewhere, and once everything is well there is a certificate.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use config::issuer::dns::{CnameStrategy, Dns01, ExecHook, Provider};
use config::issuer::{Issuer, Issuers, PRESETS, Solver, Way};
use config::object::ObjectName;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use proptest::prelude::*;

use super::{Answer, Done, Job, Orders, Seen};
use crate::dns::Record;
use crate::held::{Found, Held, Owner};
use crate::inventory::inventory;
use crate::name::CertName;
use crate::order::{Challenge, Placed, Status, Step};
use crate::retry::{Class, Failure};
use crate::store::Account;
use crate::terms::Terms;
use crate::wanted::{self, Wanted};

const WEEK: i64 = 7 * 24 * 3600;

/// What goes wrong in one round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    /// Requests do not reach the CA.
    Away,
    /// They do, and the answers are lost.
    Mute,
    /// Names cannot be validated.
    Invalid,
    /// The CA wants nothing for an hour.
    Wait,
    /// The leader dies before it could do anything with the answers.
    Crash,
    /// Nothing can be written.
    NoWrites,
    /// Somebody deletes the certificate.
    Deleted,
    /// The CA forgets its orders.
    Forgets,
    /// The CA forgets its orders and accounts.
    Anew,
    /// The snapshot is that of the round before.
    Blind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Pending,
    Ready,
    Valid,
    Invalid,
}

struct World {
    now: Timestamp,
    orders: Orders,
    store: Option<Secret>,
    tls: Option<(Secret, Held)>,
    /// Both, as the newest snapshot shows them.
    shown: (Option<Secret>, Option<(Secret, Held)>),
    /// What DNS says.
    zone: BTreeSet<Record>,
    /// The account that the CA knows.
    account: Option<String>,
    /// Accounts that it ever knew.
    accounts: u32,
    /// How often the store was written, and how much was done meanwhile.
    writes: usize,
    jobs: usize,
    /// The CA's orders by URL: their state, and the key of the request that it signed.
    ca: BTreeMap<String, (State, String)>,
    placed: Vec<i64>,
    issued: Vec<i64>,
    failed: Vec<i64>,
    /// Keys of certificates that were issued and not stored anywhere.
    lost: usize,
    made: u32,
}

fn secret() -> ObjectName {
    ObjectName::new("shop", "tls")
}

fn state() -> ObjectName {
    ObjectName::new("system", "ferrogate-acme")
}

fn wants() -> Wanted {
    Wanted {
        secret: secret(),
        ingress: ObjectName::new("shop", "web"),
        issuer: wanted::Issuer::Cluster("le".to_owned()),
        names: [CertName::parse("a.example.com").unwrap()].into(),
        terms: Terms::default(),
    }
}

fn issuers() -> Arc<Issuers> {
    let provider = Provider::Exec(ExecHook { command: vec!["/hook".to_owned()] });
    let way = Way::Dns01(Arc::new(Dns01 { cname: CnameStrategy::None, provider }));
    let solver = Solver { dns_names: Vec::new(), dns_zones: Vec::new(), way };
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

impl World {
    fn new() -> Self {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let mut orders = Orders::default();
        orders.lead(true, now);
        let (ca, placed, issued, failed) = (BTreeMap::new(), Vec::new(), Vec::new(), Vec::new());
        let (shown, account, accounts, writes, jobs) = ((None, None), None, 0, 0, 0);
        let (store, tls, zone, lost, made) = (None, None, BTreeSet::new(), 0, 0);
        Self {
            now,
            orders,
            store,
            tls,
            shown,
            zone,
            account,
            accounts,
            writes,
            jobs,
            ca,
            placed,
            issued,
            failed,
            lost,
            made,
        }
    }

    fn observe(&mut self) {
        let (store, tls) = &self.shown;
        let found = tls.as_ref().map(|(found, held)| {
            let version = config::report::data_digest(found);
            Found { owner: Owner::Us, certificate: Ok(held.clone()), issuer: Some("le".to_owned()), version }
        });
        let held: BTreeMap<_, _> = found.into_iter().map(|found| (secret(), found)).collect();
        let secrets = tls.iter().map(|(found, _)| (secret(), Arc::new(found.clone()))).collect();
        let inventory = inventory(&[wants()], &held, self.orders.hints(), self.now);
        let seen = Seen { store: store.as_ref(), secrets, held, issuers: issuers() };
        self.orders.observe(seen, inventory, self.now);
    }

    /// One round; a few seconds, or until something is due.
    fn round(&mut self, fault: Fault) {
        if fault == Fault::Deleted {
            self.tls = None;
        }
        if fault == Fault::Forgets {
            self.ca.clear();
        }
        if fault == Fault::Anew {
            self.ca.clear();
            self.account = None;
        }
        if fault != Fault::Blind {
            self.shown = (self.store.clone(), self.tls.clone());
        }
        self.observe();
        let jobs = self.orders.jobs(self.now);
        self.jobs += jobs.len();
        if fault != Fault::NoWrites {
            self.write();
        }
        let done: Vec<Done> = jobs.into_iter().map(|job| self.perform(job, fault)).collect();
        if fault == Fault::Crash {
            self.orders = Orders::default();
            self.shown = (self.store.clone(), self.tls.clone());
            self.observe();
            self.orders.lead(true, self.now);
        } else {
            for done in done {
                self.orders.done(done, self.now, 0.5);
            }
        }
        let soon = self.now.checked_add(SignedDuration::from_secs(2)).unwrap();
        let week = self.now.checked_add(SignedDuration::from_hours(24)).unwrap();
        self.now = self.orders.deadline().map_or(soon, |deadline| deadline.clamp(soon, week));
    }

    fn write(&mut self) {
        for (name, write) in self.orders.writes(&state()) {
            let found = if name == state() { self.store.as_ref() } else { self.tls.as_ref().map(|(found, _)| found) };
            if !write.may_replace(found) {
                continue;
            }
            let object = write.object(&name, found);
            if name == state() {
                self.writes += 1;
                self.store = Some(object);
            } else {
                let after = |hours| self.now.checked_add(SignedDuration::from_hours(hours)).unwrap();
                let names = ["a.example.com".to_owned()].into();
                let held = Held { names, not_before: self.now, not_after: after(90 * 24), id: None, key: None };
                self.tls = Some((object, held));
            }
        }
    }

    fn perform(&mut self, job: Job, fault: Fault) -> Done {
        match job {
            Job::Make { id, mut order, .. } => {
                self.made += 1;
                order.key = zeroize::Zeroizing::new(format!("key {}", self.made));
                Done::Made(id, Ok(order))
            }
            Job::MakeAccount { id, server } => {
                let key = zeroize::Zeroizing::new("account key".to_owned());
                Done::Account(id, Ok(Account { server, key, url: None }))
            }
            Job::Register { id, account, .. } => {
                assert!(self.holds("account key"), "an account is registered only with a key that is stored");
                if fault == Fault::Away {
                    return Done::Account(id, Err(Failure::new(Class::Transient, "away".to_owned())));
                }
                if self.account.is_none() {
                    self.accounts += 1;
                    self.account = Some(format!("https://ca/{}", self.accounts));
                }
                let account = account.expect("no issuer here has customers");
                Done::Account(id, Ok(Account { url: self.account.clone(), ..account }))
            }
            Job::Clean { record, .. } if fault == Fault::Away => {
                Done::Cleaned(record, Err(Failure::new(Class::Transient, "away".to_owned())))
            }
            Job::Clean { record, .. } => {
                self.zone.remove(&record);
                Done::Cleaned(record, Ok(()))
            }
            Job::Suggest { certificate, .. } => {
                Done::Suggested(certificate, Err(Failure::new(Class::Refused, "no ARI".to_owned())))
            }
            Job::Take { id, step, account, .. } if step != Step::Confirm && account.url != self.account => {
                Done::Taken(id, step, Err(Failure::new(Class::Account, "no such account".to_owned())))
            }
            Job::Take { id, step, order, .. } => {
                if fault == Fault::Away && step != Step::Confirm {
                    return Done::Taken(id, step, Err(Failure::new(Class::Transient, "away".to_owned())));
                }
                let result = self.step(step, &order, fault);
                let mute = fault == Fault::Mute && step != Step::Confirm;
                let lost = || Failure::new(Class::Transient, "the answer was lost".to_owned());
                Done::Taken(id, step, if mute { Err(lost()) } else { result })
            }
        }
    }

    fn step(&mut self, step: Step, order: &crate::order::Order, fault: Fault) -> Result<Answer, Failure> {
        let url = order.placed.as_ref().map(|placed| placed.url.clone()).unwrap_or_default();
        let gone = || Failure::new(Class::Gone, "no such order".to_owned());
        match step {
            Step::Place => {
                if fault == Fault::Wait {
                    let until = self.now.checked_add(SignedDuration::from_hours(1)).ok();
                    return Err(Failure { until, ..Failure::new(Class::Wait, "later".to_owned()) });
                }
                assert!(self.holds(&order.key), "an order is placed only with a key that is stored");
                self.placed.push(self.now.as_second());
                let url = format!("https://ca/order/{}", self.placed.len());
                self.ca.insert(url.clone(), (State::Pending, String::new()));
                let text = |text: &str| text.to_owned();
                let challenge = Challenge {
                    name: text("a.example.com"),
                    method: text("dns-01"),
                    token: url.clone(),
                    authorization: format!("{url}.x"),
                };
                Ok(Answer::Placed(Placed { url, challenges: vec![challenge] }))
            }
            Step::Tell => {
                assert!(self.holds(&url), "the CA is told to look only when the tokens are stored");
                let (state, _) = self.ca.get_mut(&url).ok_or_else(gone)?;
                if *state == State::Pending && fault == Fault::Invalid {
                    *state = State::Invalid;
                    self.failed.push(self.now.as_second());
                } else if *state == State::Pending {
                    *state = State::Ready;
                }
                Ok(Answer::Done)
            }
            Step::Look => match self.ca.get(&url).ok_or_else(gone)?.0 {
                State::Pending => Ok(Answer::Seen(Status::Pending, None)),
                State::Ready => Ok(Answer::Seen(Status::Ready, None)),
                State::Valid => Ok(Answer::Seen(Status::Valid, None)),
                State::Invalid => {
                    let names = vec!["a.example.com".to_owned()];
                    Err(Failure { names, ..Failure::new(Class::Validation, "404".to_owned()) })
                }
            },
            Step::Finalize => {
                let stored = self.holds(&order.key);
                let (state, key) = self.ca.get_mut(&url).ok_or_else(gone)?;
                if *state == State::Ready {
                    (*state, *key) = (State::Valid, order.key.to_string());
                    self.issued.push(self.now.as_second());
                    self.lost += usize::from(!stored);
                }
                Ok(Answer::Done)
            }
            Step::Download => {
                let (_, key) = self.ca.get(&url).ok_or_else(gone)?;
                assert_eq!(*key, *order.key, "the certificate is for the key of the order");
                Ok(Answer::Chain(format!("certificate {url}")))
            }
            Step::Confirm => {
                for record in order.records() {
                    assert!(self.holds(&record.value), "a record is published only when it is stored");
                    self.zone.insert(record);
                }
                Ok(Answer::Done)
            }
            Step::Store | Step::Write | Step::Drop => Ok(Answer::Done),
        }
    }

    /// Whether a text is stored.
    fn holds(&self, text: &str) -> bool {
        let data = self.store.iter().flat_map(|store| store.data.iter().flatten());
        data.into_iter().any(|(_, value)| String::from_utf8_lossy(&value.0).contains(text))
    }

    fn is_valid(&self) -> bool {
        let tidy = self.zone.is_empty() && self.orders.store().journal.records.is_empty();
        self.tls.is_some() && self.orders.running().next().is_none() && tidy
    }
}

/// The most that happened in any span of `seconds`.
fn most(times: &[i64], seconds: i64) -> usize {
    let within = |from: &i64| times.iter().filter(|time| (*from..*from + seconds).contains(*time)).count();
    times.iter().map(within).max().unwrap_or_default()
}

fn faults() -> impl Strategy<Value = Fault> {
    prop_oneof![
        6 => Just(Fault::None),
        1 => Just(Fault::Away),
        1 => Just(Fault::Mute),
        1 => Just(Fault::Invalid),
        1 => Just(Fault::Wait),
        2 => Just(Fault::Crash),
        1 => Just(Fault::NoWrites),
        1 => Just(Fault::Deleted),
        1 => Just(Fault::Forgets),
        1 => Just(Fault::Anew),
        1 => Just(Fault::Blind),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]
    #[test]
    fn no_fault_costs_a_key_or_a_limit_and_all_end_well(script in proptest::collection::vec(faults(), 0..120)) {
        let mut world = World::new();
        for fault in script {
            world.round(fault);
        }
        let mut rounds = 0;
        while !world.is_valid() {
            world.round(Fault::None);
            rounds += 1;
            prop_assert!(rounds < 100, "it never ends: {:?}", world.orders.entries());
        }
        prop_assert_eq!(world.lost, 0);
        // Every write tells of something that was done, or of what it used up and that came back: none is a reply to
        // another.
        prop_assert!(world.writes <= 3 * world.jobs + 2, "{} writes, {} jobs", world.writes, world.jobs);
        // Let's Encrypt: 5 certificates for one set of names in 7 days, and one more each 33.6 hours; 300 orders in 3
        // hours; 5 failures in an hour, and one more each 12 minutes.
        prop_assert!(most(&world.issued, WEEK) <= 5 + 5, "{:?}", world.issued);
        prop_assert!(most(&world.issued, 3600) <= 5);
        prop_assert!(most(&world.placed, 3 * 3600) <= 300);
        prop_assert!(most(&world.failed, 3600) <= 5, "{:?}", world.failed);
    }
}

#[test]
fn an_account_that_the_ca_has_forgotten_is_made_anew_and_what_an_operator_asked_for_is_still_done() {
    let mut world = World::new();
    while !world.is_valid() {
        world.round(Fault::None);
    }
    let (before, writes) = (world.issued.len(), world.writes);
    world.orders.ask(secret());
    world.round(Fault::Anew);
    let mut rounds = 0;
    while world.issued.len() == before || !world.is_valid() {
        world.round(Fault::None);
        rounds += 1;
        assert!(rounds < 30, "{:?}", world.orders.entries());
    }
    assert_eq!((world.accounts, world.issued.len()), (2, before + 1));
    assert!(world.writes - writes < 12, "{}", world.writes - writes);
}

#[test]
fn a_certificate_takes_one_order_if_nothing_fails() {
    let mut world = World::new();
    let mut rounds = 0;
    while !world.is_valid() {
        world.round(Fault::None);
        rounds += 1;
        assert!(rounds < 30, "{:?}", world.orders.entries());
    }
    assert_eq!((world.placed.len(), world.issued.len(), world.made), (1, 1, 1));
    let events: BTreeSet<&str> = world.orders.events().iter().map(|event| event.reason).collect();
    assert!(events.contains("CertificateIssued") && events.contains("OrderCreated"), "{events:?}");
    // It is renewed by itself.
    for _ in 0..120 {
        world.round(Fault::None);
    }
    assert!(world.issued.len() >= 2, "{:?}", world.issued);
}
