//! Which backend answers for a host and a path.
//!
//! ```text
//! host ──hash──> shard ──> HostTable ──segments──> Route
//! ```
//!
//! The host chosen first owns the request: a name of its own before a wildcard, a wildcard before the rules without a
//! host. A path that the chosen host has no rule for is not looked up under another host.
//!
//! A table is never changed. [`RouteTable::with`] makes the next one and shares every shard in which no host changed,
//! so one changed Ingress among 10 000 copies one shard of 256. A lookup allocates nothing and is linear in the path.
//!
//! Pure. How a table is made of a snapshot: [`crate::compile`].

use std::cmp::Reverse;
use std::sync::Arc;

use config::annotation::Canary;
use config::object::ObjectName;
use hashbrown::HashMap;
use http::HeaderMap;

use crate::backend::{BackendKey, BackendProblem, PortRef};
use crate::certs::CertTable;
use crate::client::ClientAuth;
use crate::endpoints::Endpoints;
use crate::filter::RoutePlan;
use crate::front::Front;
use crate::headers;
use crate::host::{HostMatch, parent};
use crate::path::{self, PathMatch, PathType};
use crate::upstream::UpstreamPlan;

const SHARDS: usize = 256;

/// One rule: host and path to a backend.
///
/// A rule whose backend cannot be served is a route nevertheless; it answers 503 ([`Self::problem`] says why).
#[derive(Debug)]
pub struct Route {
    /// The Ingress that the rule stands in.
    pub ingress: ObjectName,
    /// The host of the rule.
    pub host: HostMatch,
    /// The path of the rule.
    pub path: PathMatch,
    /// Who serves it.
    pub endpoints: Arc<Endpoints>,
    /// The Service port of the rule, if it has no endpoints and those of another serve it (`default-backend`).
    pub stands_in_for: Option<BackendKey>,
    /// What its annotations ask for; `None` if they ask for nothing.
    pub plan: Option<Arc<RoutePlan>>,
    /// How its endpoints are asked.
    pub upstream: Arc<UpstreamPlan>,
    /// Who gets some of its requests.
    pub canary: Option<CanaryRoute>,
}

/// A second Service for some requests of a route.
#[derive(Debug)]
pub struct CanaryRoute {
    /// The Ingress that says so.
    pub ingress: ObjectName,
    /// Which requests.
    pub rule: Canary,
    /// The same route, to the other Service.
    pub route: Arc<Route>,
}

impl Route {
    /// This route, or that of its canary if a request with these fields goes there; `random` is any number.
    ///
    /// A canary without endpoints gets nothing. A client whose cookie ties it to either stays there.
    #[must_use]
    pub fn or_canary<'a>(self: &'a Arc<Self>, headers: &HeaderMap, random: impl FnOnce() -> u64) -> &'a Arc<Self> {
        let canary = self.canary.as_ref().filter(|canary| !canary.route.endpoints.list().is_empty());
        let Some(canary) = canary else { return self };
        if let Some(cookie) = &self.upstream.cookie {
            if cookie.binds(headers, self.endpoints.key()) {
                return self;
            }
            if cookie.binds(headers, canary.route.endpoints.key()) {
                return &canary.route;
            }
        }
        let field = |name: &str| headers.get(name)?.to_str().ok();
        let takes = canary.rule.takes(field, |name| headers::cookie(headers, name), random());
        if takes { &canary.route } else { self }
    }

    /// The Service port that the rule names.
    #[must_use]
    pub fn backend(&self) -> &BackendKey {
        self.stands_in_for.as_ref().unwrap_or_else(|| self.endpoints.key())
    }

    /// The Service behind the rule.
    #[must_use]
    pub fn service(&self) -> &ObjectName {
        &self.backend().service
    }

    /// The port of that Service.
    #[must_use]
    pub fn port(&self) -> &PortRef {
        &self.backend().port
    }

    /// Why the rule answers 503; `None` if it has endpoints.
    #[must_use]
    pub fn problem(&self) -> Option<&BackendProblem> {
        self.endpoints.problem()
    }
}

/// All routes of one host.
#[derive(Debug, Default)]
pub struct HostTable {
    routes: Vec<Arc<Route>>,
    root: Node,
    /// Those whose path is an expression, the longest text first.
    patterns: Vec<Arc<Route>>,
    entrance: Entrance,
}

/// What happens at the door of a host, before any path is looked at.
#[derive(Clone, Debug, Default)]
pub struct Entrance {
    /// What clients are asked for over TLS.
    pub client: Option<Arc<ClientAuth>>,
    /// Who ends TLS in our place.
    pub passthrough: Option<Arc<Endpoints>>,
}

impl Entrance {
    const fn is_usual(&self) -> bool {
        self.client.is_none() && self.passthrough.is_none()
    }
}

impl HostTable {
    /// The table of these routes; of several with one path and path type, the first counts.
    #[must_use]
    pub fn new(mut routes: Vec<Arc<Route>>) -> Self {
        // Stable, so that the first of equals stays first.
        routes.sort_by(|one, other| one.path.cmp(&other.path));
        let (mut patterns, mut root) = (Vec::new(), Node::default());
        for route in &routes {
            match route.path.pattern() {
                Some(_) => patterns.push(Arc::clone(route)),
                None => root.insert(route),
            }
        }
        patterns.sort_by_key(|route| Reverse((length(route), Arc::<str>::from(route.path.as_written()))));
        Self { routes, root, patterns, entrance: Entrance::default() }
    }

    /// The same with a door of its own.
    #[must_use]
    pub fn behind(self, entrance: Entrance) -> Self {
        Self { entrance, ..self }
    }

    /// What happens before any path is looked at.
    #[must_use]
    pub const fn entrance(&self) -> &Entrance {
        &self.entrance
    }

    /// The routes in the order of their precedence.
    #[must_use]
    pub fn routes(&self) -> &[Arc<Route>] {
        &self.routes
    }

    /// The route for a normalised path.
    ///
    /// An expression is asked before all that have a shorter text.
    #[must_use]
    pub fn find(&self, path: &str) -> Option<&Arc<Route>> {
        let literal = self.literal(path);
        if self.patterns.is_empty() {
            return literal;
        }
        let least = literal.map_or(0, length);
        let readable = path::readable(path);
        let mut longer = self.patterns.iter().take_while(|route| length(route) >= least);
        let is_match = |route: &&Arc<Route>| route.path.pattern().is_some_and(|pattern| pattern.is_match(&readable));
        longer.find(is_match).or(literal)
    }

    fn literal(&self, path: &str) -> Option<&Arc<Route>> {
        let mut node = &self.root;
        let mut best = node.prefix.as_ref();
        let mut rest = path.strip_prefix('/')?;
        loop {
            if rest.is_empty() {
                return node.exact_folder.as_ref().or(best);
            }
            let (element, tail) = rest.split_once('/').map_or((rest, None), |(element, tail)| (element, Some(tail)));
            let Some(child) = node.child(element) else { return best };
            node = child;
            best = node.prefix.as_ref().or(best);
            match tail {
                None => return node.exact.as_ref().or(best),
                Some(tail) => rest = tail,
            }
        }
    }
}

/// The length of the text of a rule's path.
fn length(route: &Arc<Route>) -> usize {
    route.path.as_written().len()
}

/// The rules for one path, and below it the longer paths.
#[derive(Debug, Default)]
struct Node {
    /// `Exact` without a trailing slash.
    exact: Option<Arc<Route>>,
    /// `Exact` with one.
    exact_folder: Option<Arc<Route>>,
    /// The first of the element-wise rules, by precedence.
    prefix: Option<Arc<Route>>,
    /// By element, sorted.
    children: Vec<(Box<str>, Node)>,
}

impl Node {
    fn child(&self, element: &str) -> Option<&Self> {
        let at = self.children.binary_search_by(|(name, _)| (**name).cmp(element)).ok()?;
        Some(&self.children[at].1)
    }

    /// Adds a route; those that take precedence come first.
    fn insert(&mut self, route: &Arc<Route>) {
        let mut node = self;
        for element in route.path.stem().split('/').skip(1) {
            let at = match node.children.binary_search_by(|(name, _)| (**name).cmp(element)) {
                Ok(at) => at,
                Err(at) => {
                    node.children.insert(at, (element.into(), Self::default()));
                    at
                }
            };
            node = &mut node.children[at].1;
        }
        let slot = match route.path.kind() {
            PathType::Exact if route.path.canonical().ends_with('/') => &mut node.exact_folder,
            PathType::Exact => &mut node.exact,
            PathType::Prefix | PathType::ImplementationSpecific => &mut node.prefix,
        };
        slot.get_or_insert_with(|| Arc::clone(route));
    }
}

/// The hosts whose names hash alike.
#[derive(Clone, Debug, Default)]
struct Shard {
    exact: HashMap<Arc<str>, Arc<HostTable>>,
    wildcard: HashMap<Arc<str>, Arc<HostTable>>,
}

/// All routes and certificates, as one value.
#[derive(Clone, Debug)]
pub struct RouteTable {
    shards: Box<[Arc<Shard>]>,
    any: Option<Arc<HostTable>>,
    /// How many hosts have a door of their own.
    special: usize,
    certs: Arc<CertTable>,
    front: Arc<Front>,
}

impl RouteTable {
    /// The table without a route.
    #[must_use]
    pub fn empty(certs: Arc<CertTable>) -> Self {
        let (shards, front) = (vec![Arc::default(); SHARDS].into(), Arc::default());
        Self { shards, any: None, special: 0, certs, front }
    }

    /// The table after some hosts changed (`None`: has no rules any more); everything else is shared with this one.
    #[must_use]
    pub fn with(
        &self,
        changes: impl IntoIterator<Item = (HostMatch, Option<Arc<HostTable>>)>,
        certs: Arc<CertTable>,
    ) -> Self {
        let mut next = Self { certs, ..self.clone() };
        for (host, table) in changes {
            next.set(&host, table);
        }
        next
    }

    /// The same table where clients are met so.
    #[must_use]
    pub fn meeting(self, front: Arc<Front>) -> Self {
        Self { front, ..self }
    }

    /// How clients are met.
    #[must_use]
    pub const fn front(&self) -> &Arc<Front> {
        &self.front
    }

    /// The route for a request; `host` is lower case, without port and trailing dot, `path` is normalised.
    #[must_use]
    pub fn find(&self, host: &str, path: &str) -> Option<&Arc<Route>> {
        self.host(host)?.find(path)
    }

    /// The rules that own requests for `host`.
    #[must_use]
    pub fn host(&self, host: &str) -> Option<&Arc<HostTable>> {
        let exact = self.shards[shard_of(host)].exact.get(host);
        exact.or_else(|| self.wildcard(host)).or(self.any.as_ref())
    }

    /// The rules that could own requests for `host`, those that do first.
    pub fn candidates(&self, host: &str) -> impl Iterator<Item = &Arc<HostTable>> {
        let exact = self.shards[shard_of(host)].exact.get(host);
        exact.into_iter().chain(self.wildcard(host)).chain(self.any.as_ref())
    }

    /// Whether any host has a door of its own.
    #[must_use]
    pub const fn has_entrances(&self) -> bool {
        self.special > 0
    }

    /// Which certificate to show whom.
    #[must_use]
    pub const fn certs(&self) -> &Arc<CertTable> {
        &self.certs
    }

    fn wildcard(&self, host: &str) -> Option<&Arc<HostTable>> {
        let suffix = parent(host)?;
        self.shards[shard_of(suffix)].wildcard.get(suffix)
    }

    fn set(&mut self, host: &HostMatch, table: Option<Arc<HostTable>>) {
        let after = doors(table.as_deref());
        let before = self.put(host, table);
        self.special = (self.special + after).saturating_sub(doors(before.as_deref()));
    }

    /// Puts a table in the place of another.
    fn put(&mut self, host: &HostMatch, table: Option<Arc<HostTable>>) -> Option<Arc<HostTable>> {
        let (name, is_exact) = match host {
            HostMatch::Any => return std::mem::replace(&mut self.any, table),
            HostMatch::Exact(name) => (name, true),
            HostMatch::Wildcard(suffix) => (suffix, false),
        };
        let shard = Arc::make_mut(&mut self.shards[shard_of(name)]);
        let names = if is_exact { &mut shard.exact } else { &mut shard.wildcard };
        match table {
            Some(table) => names.insert(Arc::clone(name), table),
            None => names.remove(name),
        }
    }
}

/// How many doors of its own a host has: one or none.
fn doors(table: Option<&HostTable>) -> usize {
    usize::from(table.is_some_and(|table| !table.entrance.is_usual()))
}

/// The shard of a name: FNV-1a, folded.
fn shard_of(name: &str) -> usize {
    let step = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    let hash = name.bytes().fold(0x811C_9DC5, step);
    usize::from((hash ^ (hash >> 16)).to_le_bytes()[0])
}

#[cfg(test)]
mod tests;
