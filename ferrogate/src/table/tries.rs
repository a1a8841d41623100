//! Commands that work as printed: one for each way to reach something.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use config::report::RouteEntry;
use config::settings;

use super::{Line, Picture};

/// How many commands are shown for each protocol.
const COMMANDS: usize = 3;

/// A head and the commands; nothing if nothing can be reached yet.
pub(super) fn section(picture: &Picture) -> Vec<Line> {
    let (mut secure, mut plain) = (Vec::new(), Vec::new());
    let with_secret = picture.certificates.iter().filter(|entry| entry.secret.is_some());
    let certified: HashSet<String> =
        with_secret.flat_map(|entry| &entry.hosts).map(|name| name.to_ascii_lowercase()).collect();
    for route in picture.routes.iter().filter(|route| route.endpoints > 0 && is_plain(&route.path)) {
        // A host with a certificate may well send plain HTTP away to HTTPS.
        if has_certificate(&certified, &route.host) { secure.push(route) } else { plain.push(route) }
    }
    let http = picture.listeners.http.first().map(|listener| commands(picture, "http", *listener, &plain));
    let https = picture.listeners.https.first().map(|listener| commands(picture, "https", *listener, &secure));
    let commands: Vec<_> = http.into_iter().chain(https).flatten().map(Line::Text).collect();
    if commands.is_empty() { commands } else { [vec![Line::Head("TRY".to_owned())], commands].concat() }
}

fn commands(picture: &Picture, scheme: &str, listener: SocketAddr, routes: &[&RouteEntry]) -> Vec<String> {
    let target = SocketAddr::new(target(picture, listener.ip()), listener.port());
    varied(routes).iter().take(COMMANDS).map(|route| command(scheme, target, route)).collect()
}

/// One route of each host before the second of any; what needs no name comes first.
fn varied<'a>(routes: &[&'a RouteEntry]) -> Vec<&'a RouteEntry> {
    let mut seen = HashMap::<&str, usize>::new();
    let mut ranked: Vec<_> = routes
        .iter()
        .map(|route| {
            let turn = seen.entry(&route.host).or_default();
            *turn += 1;
            ((*turn, route.host != "*"), *route)
        })
        .collect();
    ranked.sort_by_key(|(rank, _)| *rank);
    ranked.into_iter().map(|(_, route)| route).collect()
}

/// The address that leads to the ingress: that of its Service, if the listener takes every address.
fn target(picture: &Picture, listener: IpAddr) -> IpAddr {
    if !listener.is_unspecified() {
        return listener;
    }
    let named = picture.publish_service.as_ref().map(|service| (&*service.namespace, &*service.name));
    let wanted = named.unwrap_or(settings::PUBLISH_SERVICE);
    let published = picture.vips.iter().find(|vip| (&*vip.namespace, &*vip.service) == wanted);
    let mut ips = published.into_iter().chain(&*picture.vips).flat_map(|vip| &vip.ips).copied();
    ips.find(|ip| listener.is_ipv6() || ip.is_ipv4()).unwrap_or(match listener {
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    })
}

fn command(scheme: &str, target: SocketAddr, route: &RouteEntry) -> String {
    let port = match (scheme, target.port()) {
        ("http", 80) | ("https", 443) => String::new(),
        (_, port) => format!(":{port}"),
    };
    // Nobody but the operator can say whom to trust: `-k` takes any certificate.
    let flags = if scheme == "https" { " -k" } else { "" };
    let (ip, path) = (bracketed(target.ip()), &route.path);
    match route.host.as_str() {
        "*" => format!("curl{flags} {scheme}://{ip}{port}{path}"),
        host => {
            let host = host.replace('*', "any");
            format!("curl{flags} --resolve {host}:{}:{ip} {scheme}://{host}{port}{path}", target.port())
        }
    }
}

fn bracketed(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}

/// Whether one of the names, or a wildcard among them, covers a host.
fn has_certificate(certified: &HashSet<String>, host: &str) -> bool {
    let wildcard = || host.split_once('.').map(|(_, rest)| format!("*.{rest}"));
    certified.contains(host) || wildcard().is_some_and(|name| certified.contains(&name))
}

/// Whether a path can stand in a command line as it is.
fn is_plain(path: &str) -> bool {
    path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._~-".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::super::tests::picture;
    use super::*;

    fn lines(picture: &Picture) -> Vec<String> {
        section(picture).iter().skip(1).map(|line| line.text().to_owned()).collect()
    }

    #[test]
    fn the_usual_ports_are_left_out_and_any_host_needs_no_name() {
        let mut picture = picture();
        picture.routes[2].endpoints = 1;
        picture.routes.remove(1);
        picture.listeners.http = vec!["0.0.0.0:80".parse().unwrap()];
        picture.listeners.https = vec!["[::]:443".parse().unwrap()];
        let secure = "curl -k --resolve secure.example.test:443:127.0.10.2 https://secure.example.test/";
        assert_eq!(lines(&picture), ["curl http://127.0.10.2/", secure]);
    }

    #[test]
    fn a_listener_on_one_address_is_tried_there() {
        let mut picture = picture();
        picture.listeners.http = vec!["127.0.0.9:8080".parse().unwrap()];
        assert!(lines(&picture)[0].contains(":8080:127.0.0.9 http://"));
    }

    #[test]
    fn a_certificate_covers_one_label_under_its_wildcard() {
        let certified = ["*.example.test".to_owned()].into();
        for (host, expected) in [("a.example.test", true), ("a.b.example.test", false), ("example.test", false)] {
            assert_eq!(has_certificate(&certified, host), expected, "{host}");
        }
    }

    #[test]
    fn every_host_has_its_turn_before_another_path_of_the_first() {
        let picture = picture();
        let route = |host: &str, path: &str| RouteEntry {
            host: host.to_owned(),
            path: path.to_owned(),
            ..picture.routes[0].clone()
        };
        let routes = [
            route("a.example.test", "/1"),
            route("a.example.test", "/2"),
            route("b.example.test", "/"),
            route("*", "/"),
        ];
        let varied = varied(&routes.iter().collect::<Vec<_>>());
        let order: Vec<_> = varied.iter().map(|route| (route.host.as_str(), route.path.as_str())).collect();
        assert_eq!(order, [("*", "/"), ("a.example.test", "/1"), ("b.example.test", "/"), ("a.example.test", "/2")]);
    }

    #[test]
    fn what_cannot_be_reached_is_not_suggested() {
        let mut picture = picture();
        picture.routes.retain(|route| route.endpoints == 0);
        assert!(section(&picture).is_empty());
        picture.routes[0] = RouteEntry { endpoints: 1, path: "/$(reboot)".to_owned(), ..picture.routes[0].clone() };
        assert!(section(&picture).is_empty());
    }
}
