//! The routes of every host, merged from all Ingresses that define it.
//!
//! As in ingress-nginx, one Ingress of class `nginx` whose paths are expressions makes all paths of its hosts
//! expressions. Ingresses of other classes speak for themselves only.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use config::annotation::{AnnotationProblem, Protocol};
use config::diagnostic::Severity;
use config::object::ObjectName;

use super::backends::{BackendId, Backends};
use super::finding::{Finding, Part};
use super::material::Material;
use super::plan::{Backend, IngressPlan, Rule};
use crate::backend::{BackendKey, BackendProblem, PortRef};
use crate::endpoints::Endpoints;
use crate::filter::{Gear, RoutePlan};
use crate::host::HostMatch;
use crate::path::{PathMatch, PathType};
use crate::routes::{CanaryRoute, Entrance, HostTable, Route};
use crate::upstream::UpstreamPlan;

/// An Ingress that speaks of a host, and what its annotations name, if anything.
pub(super) type Speaker = (Arc<IngressPlan>, Option<Arc<Material>>);

/// The routes of one host, and what they were made of.
#[derive(Debug)]
pub(super) struct HeldHost {
    claims: Vec<Claim>,
    endpoints: Vec<Arc<Endpoints>>,
    pub(super) table: Arc<HostTable>,
    shadowed: Vec<Finding>,
}

/// What an Ingress wants of a host.
#[derive(Clone, Debug)]
struct Claim {
    plan: Arc<IngressPlan>,
    /// What its annotations name, if anything.
    material: Option<Arc<Material>>,
    what: Wish,
}

/// Part of an Ingress.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Wish {
    /// The rule at this position.
    Rule(usize),
    /// The rule at this position, for some requests of another Ingress.
    Canary(usize),
    /// The default backend of a catch-all.
    Default,
    /// Everything is sent to this host.
    Move(Arc<str>),
}

impl Claim {
    fn is_same(&self, other: &Self) -> bool {
        let same_material = match (&self.material, &other.material) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        Arc::ptr_eq(&self.plan, &other.plan) && same_material && self.what == other.what
    }

    fn rule(&self) -> Option<&Rule> {
        match self.what {
            Wish::Rule(rule) | Wish::Canary(rule) => Some(&self.plan.rules[rule]),
            Wish::Default | Wish::Move(_) => None,
        }
    }

    /// The rules with a path of their own.
    fn paths(&self) -> impl Iterator<Item = (&PathMatch, &Backend)> {
        let rule = self.rule();
        rule.into_iter().flat_map(|rule| rule.paths.iter().map(|path| (&path.path, &path.backend)))
    }
}

/// Builds the routes of one host from the Ingresses that speak of it, in the order in which they are merged; takes over
/// those of `previous` if its inputs are the same. `None` if nobody serves the host.
pub(super) fn build(
    host: &HostMatch,
    speakers: &[Speaker],
    backends: &mut Backends<'_>,
    previous: Option<&Arc<HeldHost>>,
    findings: &mut Vec<Finding>,
) -> Option<Arc<HeldHost>> {
    let claims = claims(host, speakers, findings);
    if claims.is_empty() {
        return None;
    }
    let endpoints: Vec<_> =
        used(&claims).map(|(plan, backend)| backends.get(backend, plan.annotations.upstream.by_service)).collect();
    for ((plan, backend), endpoints) in used(&claims).zip(&endpoints) {
        findings.extend(findings_of(plan, backend, endpoints));
    }
    let held = match previous {
        Some(held) if held.is_made_of(&claims, &endpoints) => Arc::clone(held),
        _ => Arc::new(merge(host, claims, endpoints, backends.allow_loopback())),
    };
    findings.extend(held.shadowed.iter().cloned());
    findings.extend(held.claims.iter().filter_map(|claim| without_pages(&claim.plan)));
    Some(held)
}

impl HeldHost {
    /// The backends it uses.
    pub(super) fn backends(&self) -> BTreeSet<BackendId> {
        let by_service = used(&self.claims).map(|(plan, _)| plan.annotations.upstream.by_service);
        self.endpoints.iter().zip(by_service).map(|(it, by_service)| (it.key().clone(), by_service)).collect()
    }

    fn is_made_of(&self, claims: &[Claim], endpoints: &[Arc<Endpoints>]) -> bool {
        self.claims.len() == claims.len()
            && self.claims.iter().zip(claims).all(|(one, other)| one.is_same(other))
            && self.endpoints.len() == endpoints.len()
            && self.endpoints.iter().zip(endpoints).all(|(one, other)| Arc::ptr_eq(one, other))
    }
}

/// The hosts that an Ingress speaks of: those of its rules, its other names, those that lead to them.
pub(super) fn spoken_of(plan: &Arc<IngressPlan>) -> BTreeSet<HostMatch> {
    let own = plan.rules.iter().map(|rule| rule.host.clone());
    let others = aliases(plan).map(|(host, _)| host).chain(moved(plan).map(|(host, _)| host));
    own.chain(others).chain(plan.is_catch_all().then_some(HostMatch::Any)).collect()
}

/// Who defines a host, in the order of precedence; canaries follow the rules that they are for, catch-alls the rules
/// without a host.
fn claims(host: &HostMatch, speakers: &[Speaker], findings: &mut Vec<Finding>) -> Vec<Claim> {
    let (canaries, mains): (Vec<&Speaker>, Vec<&Speaker>) =
        speakers.iter().partition(|(plan, _)| plan.annotations.canary.is_some());
    let claim = |(plan, material): &Speaker, what| Claim { plan: Arc::clone(plan), material: material.clone(), what };
    let rules = |(plan, _): &Speaker| {
        let ours = plan.rules.iter().enumerate().filter(|(_, rule)| rule.host == *host);
        ours.map(|(at, _)| at).collect::<Vec<usize>>()
    };
    let mut claims: Vec<Claim> =
        mains.iter().flat_map(|it| rules(it).into_iter().map(|at| claim(it, Wish::Rule(at)))).collect();
    // A name of its own is worth more than an alias.
    if claims.is_empty() {
        let named = |it: &Speaker| aliases(&it.0).filter(|(alias, _)| alias == host).map(|(_, wish)| wish).collect();
        let all = mains.iter().flat_map(|it| Vec::into_iter(named(it)).map(|wish| claim(it, wish)));
        claims = all.collect();
    }
    if claims.is_empty() {
        let first = mains.iter().find_map(|it| Some((it, moved(&it.0).find(|(from, _)| from == host)?.1)));
        claims.extend(first.map(|(it, wish)| claim(it, wish)));
    }
    let is_served = !claims.is_empty();
    for it in canaries {
        for at in rules(it) {
            if is_served {
                claims.push(claim(it, Wish::Canary(at)));
            } else {
                findings.extend(it.0.rules[at].paths.iter().map(|path| without_main(&it.0, &path.backend)));
            }
        }
    }
    if *host == HostMatch::Any {
        claims.extend(mains.iter().filter(|(plan, _)| plan.is_catch_all()).map(|it| claim(it, Wish::Default)));
    }
    claims
}

/// That errors are to be replaced, and by whose pages nobody says.
fn without_pages(plan: &IngressPlan) -> Option<Finding> {
    // What the global settings say of it is told there.
    let is_own = !plan.ground.global.annotations.contains_key("custom-http-errors");
    let is_missing = plan.standby.is_none() && is_own && !plan.annotations.errors.statuses.is_empty();
    let message = "this has no effect, since default-backend does not name the Service whose pages are to be shown";
    let problem = AnnotationProblem {
        key: plan.key_of("custom-http-errors"),
        severity: Severity::Error,
        message: message.to_owned(),
    };
    is_missing.then(|| Finding::annotation(plan.object(), problem))
}

/// That a canary has nothing to be a canary of.
fn without_main(plan: &IngressPlan, backend: &Backend) -> Finding {
    let message = "this canary is not used, because no other Ingress has this host, path and path type; create it";
    Finding::warning(plan.object(), &backend.rule_field(), "CanaryWithoutMain", message)
}

/// The rules of an Ingress under its other names.
fn aliases(plan: &IngressPlan) -> impl Iterator<Item = (HostMatch, Wish)> {
    let hosts = plan.annotations.aliases.iter().filter_map(|alias| HostMatch::parse(alias).ok());
    hosts.flat_map(|host| (0..plan.rules.len()).map(move |rule| (host.clone(), Wish::Rule(rule))))
}

/// The names with and without `www.` that are not served and lead to those that are.
fn moved(plan: &IngressPlan) -> impl Iterator<Item = (HostMatch, Wish)> {
    let rules = plan.rules.iter().filter(|_| plan.annotations.www);
    rules.filter_map(|rule| {
        let HostMatch::Exact(to) = &rule.host else { return None };
        let from = HostMatch::parse(&other_name(to)).ok()?;
        Some((from, Wish::Move(Arc::clone(to))))
    })
}

/// `www.a.example` for `a.example`, and the other way round.
pub(super) fn other_name(host: &str) -> String {
    host.strip_prefix("www.").map_or_else(|| format!("www.{host}"), str::to_owned)
}

/// The backends that a host uses: those that stand in for others, those of its paths, then the default backends in
/// question.
fn used(claims: &[Claim]) -> impl Iterator<Item = (&IngressPlan, &Backend)> {
    let standbys = claims.iter().filter_map(|claim| Some((&*claim.plan, claim.plan.standby.as_ref()?)));
    let paths = claims.iter().flat_map(|claim| claim.paths().map(|(_, backend)| (&*claim.plan, backend)));
    let own = standbys.chain(paths);
    own.chain(defaults(claims).filter_map(|claim| Some((&*claim.plan, claim.plan.default.as_ref()?))))
}

/// Whose default backend receives path misses: the first Ingress that defines the host, then catch-alls.
fn defaults(claims: &[Claim]) -> impl Iterator<Item = &Claim> {
    let first = claims.first().filter(|claim| claim.rule().is_some());
    first.into_iter().chain(claims.iter().filter(|claim| claim.what == Wish::Default))
}

/// Makes the table of one host; `endpoints` are those of [`used`], in its order.
fn merge(host: &HostMatch, claims: Vec<Claim>, endpoints: Vec<Arc<Endpoints>>, allow_loopback: bool) -> HeldHost {
    // A name with TLS; the certificate may be the default one (ingress-nginx redirects then as well).
    let has_tls = *host != HostMatch::Any && claims.iter().any(|claim| !claim.plan.tls.is_empty());
    let by_regex = claims.iter().any(|claim| claim.plan.rules_by_regex());
    let mut merged = Merged {
        host,
        has_tls,
        by_regex,
        allow_loopback,
        taken: HashMap::new(),
        shadowed: Vec::new(),
        standbys: HashMap::new(),
    };
    merged.add_moved(&claims);
    let mut remaining = endpoints.iter();
    merged.standbys = standbys(&claims, &mut remaining);
    for claim in &claims {
        for ((path, backend), endpoints) in claim.paths().zip(&mut remaining) {
            let key = (path.canonical().to_owned(), path.kind());
            if let (Wish::Canary(_), Some(rule)) = (&claim.what, &claim.plan.annotations.canary) {
                merged.add_canary(claim, rule, backend, path, endpoints);
                continue;
            }
            merged.add(claim, backend, path, endpoints, key);
        }
    }
    // A rule for `/` leaves nothing to a default backend, and one default backend nothing to the next.
    let everything = PathMatch::everything();
    let prefix = ("/".to_owned(), PathType::Prefix);
    let own = (everything.canonical().to_owned(), everything.kind());
    let with_default = defaults(&claims).filter_map(|claim| Some((claim, claim.plan.default.as_ref()?)));
    for ((claim, backend), endpoints) in with_default.zip(&mut remaining) {
        let key = if merged.taken.contains_key(&prefix) { &prefix } else { &own };
        merged.add(claim, backend, &everything, endpoints, key.clone());
    }
    let Merged { taken, shadowed, .. } = merged;
    let routes: Vec<_> = taken.into_values().map(Arc::new).collect();
    let entrance = entrance(&claims, &routes);
    HeldHost { table: Arc::new(HostTable::new(routes).behind(entrance)), claims, endpoints, shadowed }
}

/// What the first Ingress that says so wants at the door; TLS that an endpoint ends is that of the path `/`.
fn entrance(claims: &[Claim], routes: &[Arc<Route>]) -> Entrance {
    let mains = || claims.iter().filter(|claim| matches!(claim.what, Wish::Rule(_) | Wish::Default));
    let client = mains().find_map(|claim| claim.material.as_ref()?.client.clone());
    let passing = mains().find(|claim| claim.plan.annotations.passthrough);
    let is_root = |route: &&Arc<Route>, claim: &Claim| {
        route.ingress == claim.plan.name && matches!(route.path.as_written(), "/" | "")
    };
    let passthrough = passing.and_then(|claim| routes.iter().find(|route| is_root(route, claim)));
    Entrance { client, passthrough: passthrough.map(|route| Arc::clone(&route.endpoints)) }
}

/// Who stands in for the Services of which Ingress; takes their endpoints.
fn standbys<'a>(
    claims: &[Claim],
    remaining: &mut impl Iterator<Item = &'a Arc<Endpoints>>,
) -> HashMap<ObjectName, Arc<Endpoints>> {
    let with_standby = claims.iter().filter(|claim| claim.plan.standby.is_some());
    with_standby.zip(remaining).map(|(claim, endpoints)| (claim.plan.name.clone(), Arc::clone(endpoints))).collect()
}

/// The routes of one host so far.
struct Merged<'a> {
    host: &'a HostMatch,
    has_tls: bool,
    /// Whether all paths are expressions.
    by_regex: bool,
    /// Whether services may be asked at loopback addresses.
    allow_loopback: bool,
    taken: HashMap<(String, PathType), Route>,
    shadowed: Vec<Finding>,
    /// Who stands in for the Services of an Ingress.
    standbys: HashMap<ObjectName, Arc<Endpoints>>,
}

impl Merged<'_> {
    /// Adds a route unless an earlier one has its key.
    fn add(
        &mut self,
        claim: &Claim,
        backend: &Backend,
        path: &PathMatch,
        endpoints: &Arc<Endpoints>,
        key: (String, PathType),
    ) {
        match self.taken.entry(key) {
            // That an Ingress with a rule for `/` has a default backend as well is no mistake.
            Entry::Occupied(_) if backend.is_default() && claim.rule().is_some() => {}
            Entry::Occupied(first) => self.shadowed.push(shadowed_by(claim, backend, first.get())),
            Entry::Vacant(free) => {
                let (host, ingress) = (self.host.clone(), claim.plan.name.clone());
                let standby = self.standbys.get(&ingress);
                let (endpoints, stands_in_for) = in_place_of(endpoints, standby);
                let is_expression = self.by_regex && !backend.is_default();
                let path = if is_expression { path.as_regex() } else { path.clone() };
                let plan = {
                    let (asked, is_compat) = (&claim.plan.annotations, claim.plan.is_compat);
                    RoutePlan::within(&claim.plan.ground.global, asked, is_compat, self.has_tls, &path)
                };
                let users = claim.material.as_ref().and_then(|material| material.users.as_ref());
                let gear = Gear { users, zone: &claim.plan.zone, allow_loopback: self.allow_loopback, pages: standby };
                let plan = plan.map(|plan| Arc::new(plan.equipped(&gear)));
                let upstream = upstream(claim, &path, &endpoints);
                free.insert(Route { ingress, host, path, endpoints, stands_in_for, plan, upstream, canary: None });
            }
        }
    }

    /// Adds the other endpoints of a route; of several canaries the first counts, as in ingress-nginx.
    fn add_canary(
        &mut self,
        claim: &Claim,
        rule: &config::annotation::Canary,
        backend: &Backend,
        path: &PathMatch,
        endpoints: &Arc<Endpoints>,
    ) {
        let is_same =
            |main: &&mut Route| main.path.as_written() == path.as_written() && main.path.kind() == path.kind();
        let Some(main) = self.taken.values_mut().find(is_same) else {
            return self.shadowed.push(without_main(&claim.plan, backend));
        };
        if let Some(first) = &main.canary {
            let message =
                format!("this canary is not used, because Ingress {} is one already; remove one", first.ingress);
            let field = backend.rule_field();
            return self.shadowed.push(Finding::warning(claim.plan.object(), &field, "CanaryShadowed", message));
        }
        let route = Route {
            ingress: main.ingress.clone(),
            host: main.host.clone(),
            path: main.path.clone(),
            endpoints: Arc::clone(endpoints),
            stands_in_for: None,
            plan: main.plan.clone(),
            upstream: Arc::clone(&main.upstream),
            canary: None,
        };
        main.canary =
            Some(CanaryRoute { ingress: claim.plan.name.clone(), rule: rule.clone(), route: Arc::new(route) });
    }

    /// Adds the route that sends everything to another name; only a host without rules has one.
    fn add_moved(&mut self, claims: &[Claim]) {
        let Some(Claim { plan, what: Wish::Move(to), .. }) = claims.first() else { return };
        let path = PathMatch::everything();
        let key = BackendKey { service: plan.name.clone(), port: PortRef::Unset };
        let route = Route {
            ingress: plan.name.clone(),
            host: self.host.clone(),
            endpoints: Arc::new(Endpoints::broken(key, BackendProblem::Unset)),
            stands_in_for: None,
            plan: Some(Arc::new(RoutePlan::moved(to, plan.ground.global.routes.redirect))),
            upstream: Arc::default(),
            path: path.clone(),
            canary: None,
        };
        self.taken.insert((path.canonical().to_owned(), path.kind()), route);
    }
}

/// Those who serve: the endpoints, or, if there are none, those of the Service that stands in, and for whom.
fn in_place_of(endpoints: &Arc<Endpoints>, standby: Option<&Arc<Endpoints>>) -> (Arc<Endpoints>, Option<BackendKey>) {
    match standby.filter(|standby| endpoints.list().is_empty() && !standby.list().is_empty()) {
        Some(standby) => (Arc::clone(standby), Some(endpoints.key().clone())),
        None => (Arc::clone(endpoints), None),
    }
}

/// How the endpoints of a rule are asked.
fn upstream(claim: &Claim, path: &PathMatch, endpoints: &Endpoints) -> Arc<UpstreamPlan> {
    let (plan, asked) = (&claim.plan, &claim.plan.annotations);
    let service = &endpoints.key().service;
    // What certificates of endpoints are for where no other name is given.
    let told = asked.upstream_vhost.as_deref().and_then(|host| host.split(':').next());
    let name = told.map_or_else(|| format!("{}.{}.svc", service.name, service.namespace), str::to_owned);
    let identity = plan.credentials.clone().unwrap_or_default();
    // The text of an expression is no path for a cookie.
    let cookie_path = if path.pattern().is_some() { "/" } else { path.as_written() };
    if asked.passthrough && asked.upstream.protocol.is_none() {
        // What comes in the clear reaches the same endpoints, and they speak TLS.
        let over_tls = config::annotation::Upstream { protocol: Some(Protocol::Https), ..asked.upstream.clone() };
        return UpstreamPlan::new(&over_tls, identity, plan.is_compat, cookie_path, &name);
    }
    UpstreamPlan::new(&asked.upstream, identity, plan.is_compat, cookie_path, &name)
}

fn shadowed_by(claim: &Claim, backend: &Backend, first: &Route) -> Finding {
    let message = format!(
        "this is not used, because Ingress {} already routes {} {} of host {}; remove one of them",
        first.ingress,
        first.path.kind(),
        first.path,
        first.host
    );
    Finding::warning(claim.plan.object(), &backend.rule_field(), "RouteShadowed", message)
}

/// What is wrong with one backend of an Ingress.
fn findings_of(plan: &IngressPlan, backend: &Backend, endpoints: &Endpoints) -> Vec<Finding> {
    let mut findings = Vec::new();
    // What DNS is being asked for is known in a moment.
    let problem = endpoints.problem().filter(|problem| !matches!(problem, BackendProblem::NamePending { .. }));
    if let Some(problem) = problem {
        let (field, object) = (backend.field(problem), plan.object());
        findings.push(match problem {
            BackendProblem::NoEndpoints { .. }
            | BackendProblem::NameMissing { .. }
            | BackendProblem::NameUnknown { .. } => Finding::warning(object, &field, reason(problem), problem),
            _ => Finding::error(object, &field, reason(problem), problem),
        });
    }
    if !endpoints.refused().is_empty() {
        let refused: Vec<String> = endpoints.refused().iter().map(ToString::to_string).collect();
        let message = format!(
            "endpoints of Service {} are not used, since they lead nowhere or back to this machine: {}",
            endpoints.key().service,
            refused.join(", ")
        );
        let field = [backend.rule_field(), vec![Part::Key("backend")]].concat();
        findings.push(Finding::warning(plan.object(), &field, "EndpointRefused", message));
    }
    findings
}

const fn reason(problem: &BackendProblem) -> &'static str {
    match problem {
        BackendProblem::ServiceMissing { .. } => "ServiceNotFound",
        BackendProblem::ExternalName { .. } => "ExternalName",
        BackendProblem::NameInvalid { .. } => "InvalidExternalName",
        BackendProblem::NamePending { .. }
        | BackendProblem::NameMissing { .. }
        | BackendProblem::NameUnknown { .. } => "NameNotResolved",
        BackendProblem::PortMissing { .. } | BackendProblem::PortUnset { .. } | BackendProblem::PortUnknown { .. } => {
            "PortNotFound"
        }
        BackendProblem::NoEndpoints { .. } => "NoEndpoints",
        BackendProblem::Resource { .. } => "ResourceBackend",
        BackendProblem::Unset => "InvalidBackend",
    }
}
