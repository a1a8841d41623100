//! Which way a request would take, and why no other: `ferrogate explain`.
//!
//! The way is that of [`crate::way`], which the proxy takes as well. What depends on the moment, such as which endpoint
//! is chosen, whether a limit is used up, or what a service says that is asked, is told as open.
//!
//! Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;

use config::object::{Kind, ObjectName};
use config::snapshot::Snapshot;
use http::{HeaderMap, Request, Version};
use serde::Serialize;

use crate::answer::{Fault, reason};
use crate::compile::Compiled;
use crate::filter::{Admission, Check, Credentials, Guards, RoutePlan, Verdict};
use crate::host::HostMatch;
use crate::path;
use crate::routes::{HostTable, Route, RouteTable};
use crate::way::{Arrived, Found, Way};

/// A request to be explained.
#[derive(Clone, Debug)]
pub struct Question {
    request: http::request::Parts,
    tls: bool,
    host: String,
    /// Where it comes from; `None` if that is not said.
    pub client: Option<IpAddr>,
}

/// Why nothing can be explained.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuestionError {
    /// That is no URL.
    #[error("{0:?} is not an http or https URL; write it like https://shop.example/cart")]
    Url(String),
    /// That is no method.
    #[error("{0:?} is not a method; write it like GET")]
    Method(String),
    /// That is no field.
    #[error("{0:?} is not a field; write it like \"Name: value\"")]
    Field(String),
}

impl Question {
    /// A request for `url` with fields like `Name: value`.
    pub fn new<'a>(
        url: &str,
        method: &str,
        fields: impl IntoIterator<Item = &'a str>,
        client: Option<IpAddr>,
    ) -> Result<Self, QuestionError> {
        let wrong = || QuestionError::Url(url.to_owned());
        let uri: http::Uri = url.parse().map_err(|_| wrong())?;
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(wrong()),
        };
        let authority = uri.authority().ok_or_else(wrong)?.as_str().to_owned();
        let host = uri.host().ok_or_else(wrong)?.trim_end_matches('.').to_ascii_lowercase();
        let target = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        let method =
            http::Method::from_bytes(method.as_bytes()).map_err(|_| QuestionError::Method(method.to_owned()))?;
        let mut builder = Request::builder().method(method).uri(target).version(Version::HTTP_11);
        let mut names_host = false;
        for field in fields {
            let wrong = || QuestionError::Field(field.to_owned());
            let (name, value) = field.split_once(':').ok_or_else(wrong)?;
            let name = http::HeaderName::from_bytes(name.trim().as_bytes()).map_err(|_| wrong())?;
            let value = http::HeaderValue::from_str(value.trim()).map_err(|_| wrong())?;
            names_host |= name == http::header::HOST;
            builder = builder.header(name, value);
        }
        if !names_host {
            builder = builder.header(http::header::HOST, authority);
        }
        let (request, ()) = builder.body(()).map_err(|_| wrong())?.into_parts();
        Ok(Self { request, tls, host, client })
    }
}

/// The way of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// What becomes of it, in a sentence.
    pub outcome: String,
    /// The status of our answer; `None` if an endpoint answers.
    pub status: Option<u16>,
    /// Where the client is sent.
    pub location: Option<String>,
    /// The rule that it takes.
    pub rule: Option<Rule>,
    /// Who answers; of several, the balancer chooses.
    pub backend: Option<Backend>,
    /// Who says whether the client may pass, and what can be said of that here.
    pub guards: Vec<String>,
    /// What is shown in the handshake.
    pub certificate: Option<Shown>,
    /// Rules that it does not take though they are for this host.
    pub lost: Vec<Lost>,
    /// What is wrong with the Ingress of the rule.
    pub problems: Vec<String>,
}

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rule {
    /// Its Ingress.
    pub ingress: ObjectName,
    /// Its host; `*` for every host that has no rules.
    pub host: String,
    /// Its path.
    pub path: String,
    /// Its path type.
    pub path_type: String,
    /// The annotations of the Ingress.
    pub annotations: BTreeMap<String, String>,
}

/// Who answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Backend {
    /// `namespace/service:port`.
    pub service: String,
    /// Path and query that it is asked for.
    pub target: String,
    /// Its endpoints.
    pub endpoints: Vec<String>,
    /// Who else gets some of such requests, and which.
    pub canary: Option<String>,
    /// Whose Service has no endpoints, if another stands in.
    pub stands_in_for: Option<String>,
}

/// A certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Shown {
    /// The Secret that it is from; `None` for the generated one.
    pub secret: Option<ObjectName>,
    /// What it is for.
    pub names: Vec<String>,
    /// When its validity ends.
    pub not_after: String,
}

/// A rule that is not taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Lost {
    /// The Ingress.
    pub ingress: ObjectName,
    /// Host and path.
    pub rule: String,
    /// A clause that says why.
    pub why: String,
}

/// Explains the way of a request through a compiled table; `snapshot` is what that was made of.
#[must_use]
pub fn explain(compiled: &Compiled, snapshot: &Snapshot, question: &Question) -> Explanation {
    let table = &compiled.table;
    let target = question.request.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let arrived = Arrived {
        request: &question.request,
        target: target.as_bytes(),
        request_id: "0",
        tls: question.tls,
        https: question.tls,
        shown: None,
        client: question.client,
        visitor: None,
    };
    let (way, verdict) = Way::take(&arrived, |host, path| find(table, host, path, &question.request.headers));
    let route = way.route.as_deref();
    let mut explanation = Explanation {
        outcome: String::new(),
        status: None,
        location: None,
        rule: route.map(|route| rule(compiled, route)),
        backend: None,
        guards: Vec::new(),
        certificate: question.tls.then(|| shown(table, &question.host)),
        lost: lost(compiled, snapshot, question, route),
        problems: problems(compiled, route),
    };
    let admitted = way.prepared.as_ref().is_none_or(|prepared| prepared.admitted);
    let verdict = match (verdict, route.and_then(|route| route.plan.as_deref())) {
        (Ok(Verdict::Pass), Some(plan)) => guard(plan, question, admitted, &mut explanation.guards),
        (verdict, _) => verdict,
    };
    if let (Ok(Verdict::Pass), Some(route)) = (&verdict, route) {
        explanation.backend = Some(backend(route, way.rewritten.as_deref().unwrap_or(target)));
    }
    explanation.tell(&verdict, question);
    explanation
}

impl Explanation {
    fn tell(&mut self, verdict: &Result<Verdict, Fault>, question: &Question) {
        (self.status, self.location, self.outcome) = match verdict {
            Ok(Verdict::Pass) if question.tls && self.is_passed_through() => {
                (None, None, "TLS is ended by an endpoint".into())
            }
            Ok(Verdict::Pass) => {
                let service = self.backend.as_ref().map_or("", |backend| backend.service.as_str());
                (None, None, format!("it is passed on to {service}"))
            }
            Ok(Verdict::Redirect(status, to)) => {
                (Some(*status), Some(to.clone()), format!("it is redirected to {to} ({status})"))
            }
            Ok(Verdict::NoContent) => (Some(204), None, "a CORS preflight is answered with 204".into()),
            Ok(Verdict::Answer(status, text)) => {
                (Some(*status), None, format!("it is answered with {status} by an annotation: {text:?}"))
            }
            Err(fault) => {
                let status = fault.status();
                (Some(status), None, format!("it is answered with {status} {}: {fault}", reason(status)))
            }
        };
    }

    fn is_passed_through(&self) -> bool {
        let flag = |(key, text): (&String, &String)| key.ends_with("/ssl-passthrough") && text == "true";
        self.rule.as_ref().is_some_and(|rule| rule.annotations.iter().any(flag))
    }
}

/// What the proxy finds; a canary that chance alone chooses is told, not taken.
fn find(table: &RouteTable, host: &str, path: &str, headers: &HeaderMap) -> Found<std::sync::Arc<Route>> {
    let Some(host) = table.host(host) else { return Found::default() };
    let client = host.entrance().client.clone();
    let route = host.find(path).map(|route| std::sync::Arc::clone(route.or_canary(headers, || u64::MAX)));
    Found { client, route }
}

fn rule(compiled: &Compiled, route: &Route) -> Rule {
    Rule {
        ingress: route.ingress.clone(),
        host: shown_host(&route.host),
        path: route.path.as_written().to_owned(),
        path_type: route.path.kind().to_string(),
        annotations: compiled.annotations(&route.ingress),
    }
}

fn shown_host(host: &HostMatch) -> String {
    if *host == HostMatch::Any { "*".to_owned() } else { host.to_string() }
}

fn backend(route: &Route, target: &str) -> Backend {
    let canary = route.canary.as_ref().map(|canary| {
        let weight = canary.rule.weight;
        let share = if weight > 0 { format!(", and {weight} of {}", canary.rule.total) } else { String::new() };
        format!(
            "Ingress {} takes those of its header and cookie{share}, to {}",
            canary.ingress,
            canary.route.endpoints.key()
        )
    });
    Backend {
        service: route.endpoints.key().to_string(),
        target: target.to_owned(),
        endpoints: route.endpoints.list().iter().map(|endpoint| endpoint.addr.to_string()).collect(),
        canary,
        stands_in_for: route.stands_in_for.as_ref().map(ToString::to_string),
    }
}

/// Asks those guards that can be asked here; the others are told.
fn guard(plan: &RoutePlan, question: &Question, admitted: bool, told: &mut Vec<String>) -> Result<Verdict, Fault> {
    let client = question.client.map_or_else(|| "a client whose address is not said".to_owned(), |ip| ip.to_string());
    let Admission::Ask(Guards { password, external, any }) =
        plan.admit(question.client, admitted).inspect_err(|_| {
            told.push(format!("{client} is not among the addresses that may come"));
        })?
    else {
        return Ok(Verdict::Pass);
    };
    let mut refused = false;
    if let Some(password) = password {
        let right = Credentials::of(&question.request.headers).is_some_and(|who| match password.users.check(&who) {
            Check::Known(right) => right,
            Check::Costly => password.users.verify(&who),
        });
        told.push(format!("a name and a password are asked for: {}", if right { "right" } else { "missing or wrong" }));
        if right && any {
            return Ok(Verdict::Pass);
        }
        refused = !right;
    }
    if let Some(external) = external {
        let service = external.service();
        let scheme = if service.tls { "https" } else { "http" };
        told.push(format!("{scheme}://{} is asked, and what it says is not known here", service.authority));
        // One guard is enough, and this one may agree.
        refused &= !any;
    }
    if refused { Err(Fault::Unauthorized) } else { Ok(Verdict::Pass) }
}

fn shown(table: &RouteTable, host: &str) -> Shown {
    let certificate = table.certs().shown(host);
    Shown {
        secret: certificate.secret.clone(),
        names: certificate.names.clone(),
        not_after: certificate.not_after.to_string(),
    }
}

/// Who else has rules for the host, and why they are not taken.
fn lost(compiled: &Compiled, snapshot: &Snapshot, question: &Question, taken: Option<&Route>) -> Vec<Lost> {
    let mut lost = Vec::new();
    let mut hosts = compiled.table.candidates(&question.host);
    let path = path::normalise(question.request.uri.path()).ok();
    if let (Some(host), Some(path)) = (hosts.next(), &path) {
        lost.extend(longer_first(host, path.matched(), taken));
        let owner = host.routes().first().map(|route| shown_host(&route.host)).unwrap_or_default();
        for other in hosts {
            let why = || format!("{owner} has rules of its own, and a more precise host owns all its requests");
            let routes = other.routes().iter().filter(|route| route.path.matches(path.matched()));
            lost.extend(routes.map(|route| Lost { ingress: route.ingress.clone(), rule: written(route), why: why() }));
        }
    }
    lost.extend(shadowed(compiled, taken));
    lost.extend(foreign(compiled, snapshot, &question.host));
    lost
}

fn written(route: &Route) -> String {
    format!("{}{} ({})", shown_host(&route.host), route.path.as_written(), route.path.kind())
}

/// The rules of the same host that fit the path as well.
fn longer_first(host: &HostTable, path: &str, taken: Option<&Route>) -> Vec<Lost> {
    let fits = |route: &&std::sync::Arc<Route>| {
        let is_taken = taken.is_some_and(|taken| taken.path == route.path && taken.ingress == route.ingress);
        !is_taken && route.path.matches(path)
    };
    let why = |route: &Route| match taken {
        Some(taken) if taken.path.pattern().is_some() && route.path.pattern().is_none() => {
            "an expression with a longer text goes before it"
        }
        Some(taken) if taken.path.stem().len() > route.path.stem().len() => "its path is shorter",
        Some(_) => "of paths of one length, Exact and the one with a slash at its end go first",
        None => "the host refuses before any path is looked at",
    };
    let lost = |route: &std::sync::Arc<Route>| Lost {
        ingress: route.ingress.clone(),
        rule: written(route),
        why: why(route).to_owned(),
    };
    host.routes().iter().filter(fits).map(lost).collect()
}

/// Rules of other Ingresses with the very same host, path and path type.
fn shadowed(compiled: &Compiled, taken: Option<&Route>) -> Vec<Lost> {
    let Some(taken) = taken else { return Vec::new() };
    let same = format!("routes {} {} of host {};", taken.path.kind(), taken.path, taken.host);
    let events = compiled.report.events.iter();
    let events = events.filter(|event| event.reason.ends_with("Shadowed") && event.message.contains(&same));
    events
        .map(|event| Lost { ingress: event.object.name.clone(), rule: written(taken), why: event.message.clone() })
        .collect()
}

/// Ingresses of other classes with rules for the host.
fn foreign(compiled: &Compiled, snapshot: &Snapshot, host: &str) -> Vec<Lost> {
    let rules = |ingress: &k8s_openapi::api::networking::v1::Ingress| {
        let rules = ingress.spec.iter().flat_map(|spec| spec.rules.iter().flatten());
        rules.filter_map(|rule| rule.host.clone()).collect::<Vec<_>>()
    };
    let is_for = |written: &String| HostMatch::parse(written).is_ok_and(|rule| rule.matches(host));
    let others = snapshot.ingresses.iter().filter(|(name, _)| !compiled.serves(name));
    let named = others.filter_map(|(name, ingress)| Some((name, rules(ingress).into_iter().find(is_for)?)));
    named.map(|(name, rule)| Lost { ingress: name.clone(), rule, why: "its class is not ours".to_owned() }).collect()
}

/// What is wrong with the Ingress of the rule.
fn problems(compiled: &Compiled, route: Option<&Route>) -> Vec<String> {
    let Some(route) = route else { return Vec::new() };
    let is_its = |object: &config::object::ObjectRef| object.kind == Kind::Ingress && object.name == route.ingress;
    let found = compiled.report.problems.iter().filter(|problem| problem.object.as_ref().is_some_and(is_its));
    found.map(|problem| format!("{}: {}", problem.field, problem.message)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_request_is_refused() {
        let none: [&str; 0] = [];
        for (url, method, fields, word) in [
            ("shop.example/x", "GET", &none[..], "URL"),
            ("ftp://shop.example/x", "GET", &none, "URL"),
            ("https:///x", "GET", &none, "URL"),
            ("https://a.example/", "G T", &none, "method"),
            ("https://a.example/", "GET", &["Cookie"], "field"),
            ("https://a.example/", "GET", &["A b: c"], "field"),
        ] {
            let error = Question::new(url, method, fields.iter().copied(), None).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
        let question = Question::new("https://A.Example:8443/x?y", "POST", ["X-A: 1"], None).unwrap();
        assert_eq!((&*question.host, question.tls), ("a.example", true));
        assert_eq!(question.request.headers[http::header::HOST], "A.Example:8443");
    }
}
