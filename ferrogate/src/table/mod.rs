//! What the appliance does right now, as a table for people; and a line to try it with.
//!
//! Pure: a [`Picture`] becomes [`Line`]s; [`crate::show`] prints them when they change.

mod columns;
mod tries;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use config::diagnostic::{Problem, Severity};
use config::object::ObjectName;
use config::report::{CertificateEntry, RouteEntry, VipEntry, VipState};
use jiff::Timestamp;

use self::columns::columns;

/// How many rows of one kind are shown; the rest is counted and is in the JSON API.
const ROWS: usize = 40;
/// How many routes are looked at: more than are shown, so that examples are found among them.
pub(crate) const LISTED: usize = 400;

/// How many problems are shown in full.
const PROBLEMS: usize = 10;

/// Everything that the table shows.
#[derive(Clone, Debug)]
pub(crate) struct Picture {
    /// `LoadBalancer` Services.
    pub(crate) vips: Arc<Vec<VipEntry>>,
    /// Hosts and paths, the first [`LISTED`] of them.
    pub(crate) routes: Vec<RouteEntry>,
    /// How many there are.
    pub(crate) route_count: usize,
    /// Certificates that are served.
    pub(crate) certificates: Vec<CertificateEntry>,
    /// What is wrong, errors first.
    pub(crate) problems: Vec<Problem>,
    /// Where we accept.
    pub(crate) listeners: Listeners,
    /// The Service whose addresses lead to the ingress.
    pub(crate) publish_service: Option<ObjectName>,
}

/// Where we accept connections.
#[derive(Clone, Debug, Default)]
pub(crate) struct Listeners {
    /// For HTTP.
    pub(crate) http: Vec<SocketAddr>,
    /// For HTTPS.
    pub(crate) https: Vec<SocketAddr>,
    /// For probes, metrics and JSON.
    pub(crate) admin: Option<SocketAddr>,
}

/// One line, and what it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Line {
    /// The head of a section.
    Head(String),
    /// A row, or nothing between two sections.
    Text(String),
    /// The first line of a problem.
    Problem(Severity, String),
}

impl Line {
    /// The line without colour.
    pub(crate) fn text(&self) -> &str {
        match self {
            Self::Head(text) | Self::Text(text) | Self::Problem(_, text) => text,
        }
    }
}

/// Draws the table as it is at `now`.
pub(crate) fn draw(picture: &Picture, now: Timestamp) -> Vec<Line> {
    let sections = [
        vips(&picture.vips),
        routes(&picture.routes, picture.route_count),
        certificates(&picture.certificates, now),
        listening(&picture.listeners),
        problems(&picture.problems, picture.listeners.admin),
        tries::section(picture),
    ];
    let shown: Vec<_> = sections.into_iter().filter(|section| !section.is_empty()).collect();
    shown.join(&Line::Text(String::new()))
}

fn vips(vips: &[VipEntry]) -> Vec<Line> {
    let row = |vip: &VipEntry| {
        let ips: Vec<_> = vip.ips.iter().map(ToString::to_string).collect();
        let ips = if ips.is_empty() { "<pending>".to_owned() } else { ips.join(",") };
        let name = format!("{}/{}", vip.namespace, vip.service);
        vec![name, ips, vip.pool.clone().unwrap_or_else(|| "-".to_owned()), state(vip)]
    };
    let mut lines = section(["SERVICE", "EXTERNAL-IP", "POOL", "STATE"], vips.len(), vips.iter().map(row));
    // One reason usually holds for many Services: it is said once.
    let mut reasons = BTreeMap::<&str, Vec<String>>::new();
    for vip in vips.iter().filter(|vip| vip.state == VipState::Assigned) {
        let Some(reason) = &vip.reason else { continue };
        reasons.entry(reason).or_default().extend(vip.ips.iter().map(ToString::to_string));
    }
    lines.extend(reasons.into_iter().map(|(reason, ips)| Line::Text(format!("{}: {reason}", abridged(&ips)))));
    lines
}

fn state(vip: &VipEntry) -> String {
    match (vip.state, &vip.reason, &vip.interface) {
        (VipState::Announcing, _, Some(interface)) => format!("announcing on {interface}"),
        (VipState::Announcing, _, None) => "announcing".to_owned(),
        (VipState::Assigned, ..) => "assigned".to_owned(),
        (VipState::Pending, Some(reason), _) => format!("pending: {reason}"),
        (VipState::Pending, None, _) => "pending".to_owned(),
    }
}

/// The first few of a list.
fn abridged(names: &[String]) -> String {
    match names {
        [a, b, c, _, ..] => format!("{a}, {b}, {c} and {} more", names.len() - 3),
        _ => names.join(", "),
    }
}

fn routes(routes: &[RouteEntry], count: usize) -> Vec<Line> {
    let row = |route: &RouteEntry| {
        let ready = if route.endpoints == 0 { "none".to_owned() } else { route.endpoints.to_string() };
        vec![
            route.host.clone(),
            route.path.clone(),
            route.path_type.clone(),
            route.backend.clone(),
            ready,
            route.ingress.to_string(),
        ]
    };
    section(["HOST", "PATH", "TYPE", "BACKEND", "READY", "INGRESS"], count, routes.iter().map(row))
}

fn certificates(certificates: &[CertificateEntry], now: Timestamp) -> Vec<Line> {
    let row = |entry: &CertificateEntry| {
        let secret = entry.secret.as_ref().map_or_else(|| "(made by us, default)".to_owned(), ToString::to_string);
        vec![secret, abridged(&entry.hosts), expiry(&entry.not_after, now)]
    };
    section(["CERTIFICATE", "HOSTS", "EXPIRES"], certificates.len(), certificates.iter().map(row))
}

/// A date and how far away it is.
fn expiry(not_after: &str, now: Timestamp) -> String {
    let Ok(moment) = not_after.parse::<Timestamp>() else { return not_after.to_owned() };
    let days = moment.duration_since(now).as_hours() / 24;
    let away = match days {
        _ if moment <= now => "EXPIRED".to_owned(),
        0 => "today".to_owned(),
        1 => "in 1 day".to_owned(),
        2..730 => format!("in {days} days"),
        _ => format!("in {} years", days / 365),
    };
    format!("{} ({away})", moment.strftime("%Y-%m-%d"))
}

fn listening(listeners: &Listeners) -> Vec<Line> {
    let http = listeners.http.iter().map(|address| ("http", address.to_string()));
    let https = listeners.https.iter().map(|address| ("https", address.to_string()));
    let admin = listeners.admin.iter().map(|address| ("admin", format!("http://{address}/")));
    let rows: Vec<_> = http.chain(https).chain(admin).map(|(name, address)| vec![name.to_owned(), address]).collect();
    section(["LISTENING", ""], rows.len(), rows.into_iter())
}

fn problems(problems: &[Problem], admin: Option<SocketAddr>) -> Vec<Line> {
    let mut lines = Vec::new();
    for problem in problems.iter().take(PROBLEMS) {
        let text = problem.to_string();
        let mut text = text.lines().map(str::to_owned);
        lines.extend(text.next().map(|first| Line::Problem(problem.severity, first)));
        lines.extend(text.map(Line::Text));
    }
    if let Some(rest) = problems.len().checked_sub(PROBLEMS).filter(|rest| *rest > 0) {
        let place = admin.map(|address| format!(": http://{address}/api/v1/problems")).unwrap_or_default();
        lines.push(Line::Text(format!("and {rest} more{place}")));
    }
    lines
}

/// A head and its aligned rows; nothing if there is no row.
/// A head and the first rows of `count`.
fn section<const N: usize>(head: [&str; N], count: usize, rows: impl Iterator<Item = Vec<String>>) -> Vec<Line> {
    let head = head.map(str::to_owned).to_vec();
    let mut lines = columns(std::iter::once(head).chain(rows.take(ROWS)).collect()).into_iter();
    if count == 0 {
        return Vec::new();
    }
    let mut section: Vec<_> = lines.next().map(Line::Head).into_iter().collect();
    section.extend(lines.map(Line::Text));
    if count > ROWS {
        section.push(Line::Text(format!("and {} more", count - ROWS)));
    }
    section
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn picture() -> Picture {
        let vip = |service: &str, ip: &str| VipEntry {
            namespace: "edge".to_owned(),
            service: service.to_owned(),
            ips: vec![ip.parse().unwrap()],
            pool: Some("lan".to_owned()),
            state: VipState::Assigned,
            reason: Some("no raw socket".to_owned()),
            node: None,
            interface: None,
            moving: config::report::VipMoves::default(),
        };
        let route = |host: &str, path: &str, endpoints: usize| RouteEntry {
            host: host.to_owned(),
            path: path.to_owned(),
            path_type: "Prefix".to_owned(),
            ingress: ObjectName::new("shop", "web"),
            backend: "shop/web:80".to_owned(),
            endpoints,
        };
        let certificate = CertificateEntry {
            secret: Some(ObjectName::new("shop", "tls")),
            hosts: vec!["secure.example.test".to_owned()],
            not_after: "2030-01-01T00:00:00Z".to_owned(),
            issuer: "CN=us".to_owned(),
        };
        Picture {
            vips: Arc::new(vec![vip("other", "127.0.10.1"), vip("ingress", "127.0.10.2")]),
            routes: vec![
                route("secure.example.test", "/", 2),
                route("shop.example.test", "/cart", 1),
                route("*", "/", 0),
            ],
            route_count: 3,
            certificates: vec![certificate],
            problems: Vec::new(),
            listeners: Listeners {
                http: vec!["0.0.0.0:8080".parse().unwrap()],
                https: vec!["0.0.0.0:8443".parse().unwrap()],
                admin: Some("127.0.0.1:9100".parse().unwrap()),
            },
            publish_service: Some(ObjectName::new("edge", "ingress")),
        }
    }

    #[test]
    fn the_table_reads_like_this() {
        let lines = draw(&picture(), "2026-01-01T00:00:00Z".parse().unwrap());
        let text: Vec<_> = lines.iter().map(Line::text).collect();
        let expected = "\
SERVICE       EXTERNAL-IP  POOL  STATE
edge/other    127.0.10.1   lan   assigned
edge/ingress  127.0.10.2   lan   assigned
127.0.10.1, 127.0.10.2: no raw socket

HOST                 PATH   TYPE    BACKEND      READY  INGRESS
secure.example.test  /      Prefix  shop/web:80  2      shop/web
shop.example.test    /cart  Prefix  shop/web:80  1      shop/web
*                    /      Prefix  shop/web:80  none   shop/web

CERTIFICATE  HOSTS                EXPIRES
shop/tls     secure.example.test  2030-01-01 (in 4 years)

LISTENING
http       0.0.0.0:8080
https      0.0.0.0:8443
admin      http://127.0.0.1:9100/

TRY
curl --resolve shop.example.test:8080:127.0.10.2 http://shop.example.test:8080/cart
curl -k --resolve secure.example.test:8443:127.0.10.2 https://secure.example.test:8443/";
        assert_eq!(text.join("\n"), expected);
    }

    #[test]
    fn a_long_list_is_cut_and_counted() {
        let routes = vec![picture().routes[0].clone(); ROWS + 5];
        let picture = Picture { route_count: routes.len(), routes, ..picture() };
        let lines = draw(&picture, Timestamp::UNIX_EPOCH);
        assert!(lines.contains(&Line::Text("and 5 more".to_owned())));
    }

    #[test]
    fn an_expired_certificate_says_so() {
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        assert_eq!(expiry("2025-12-31T23:59:59Z", now), "2025-12-31 (EXPIRED)");
        assert_eq!(expiry("2026-01-01T12:00:00Z", now), "2026-01-01 (today)");
        assert_eq!(expiry("2026-01-03T00:00:00Z", now), "2026-01-03 (in 2 days)");
    }
}
