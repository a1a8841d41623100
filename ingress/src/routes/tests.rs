use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;
use crate::backend::BackendKey;
use crate::certs::generate_default;
use crate::path::normalise;

fn certs() -> Arc<CertTable> {
    static CERTS: LazyLock<Arc<CertTable>> = LazyLock::new(|| {
        let default = generate_default(jiff::Timestamp::UNIX_EPOCH).unwrap();
        Arc::new(CertTable::new(Arc::new(default)))
    });
    Arc::clone(&CERTS)
}

fn route(host: &str, path: &str, kind: PathType) -> Arc<Route> {
    let key = BackendKey { service: ObjectName::new("shop", "web"), port: PortRef::Number(80) };
    Arc::new(Route {
        stands_in_for: None,
        ingress: ObjectName::new("shop", format!("{host} {kind} {path}")),
        host: HostMatch::parse(host).unwrap(),
        path: PathMatch::new(path, kind).unwrap(),
        endpoints: Arc::new(Endpoints::new(key, [], Vec::new(), None)),
        plan: None,
        canary: None,
        upstream: Arc::default(),
    })
}

fn table(rules: &[(&str, &str, PathType)]) -> RouteTable {
    let mut hosts = std::collections::BTreeMap::<HostMatch, Vec<Arc<Route>>>::new();
    for (host, path, kind) in rules {
        let route = route(host, path, *kind);
        hosts.entry(route.host.clone()).or_default().push(route);
    }
    let changes = hosts.into_iter().map(|(host, routes)| (host, Some(Arc::new(HostTable::new(routes)))));
    RouteTable::empty(certs()).with(changes, certs())
}

/// `Exact /foo`, or nothing.
fn found(table: &RouteTable, host: &str, path: &str) -> Option<String> {
    table.find(host, path).map(|route| format!("{} {} {}", route.host, route.path.kind(), route.path))
}

#[test]
fn the_longest_path_wins_and_exact_before_prefix() {
    let table = table(&[
        ("", "/", PathType::Prefix),
        ("", "/foo", PathType::Prefix),
        ("", "/foo/", PathType::Prefix),
        ("", "/foo", PathType::Exact),
        ("", "/foo/bar/", PathType::Exact),
        ("", "/aaa/bbb", PathType::ImplementationSpecific),
    ]);
    for (path, expected) in [
        ("/", "* Prefix /"),
        ("/foo", "* Exact /foo"),
        ("/foo/", "* Prefix /foo/"),
        ("/foo/bar", "* Prefix /foo/"),
        ("/foo/bar/", "* Exact /foo/bar/"),
        ("/foo/bar/x", "* Prefix /foo/"),
        ("/foobar", "* Prefix /"),
        ("/aaa/bbb/ccc", "* ImplementationSpecific /aaa/bbb"),
        ("/aaa/bbbb", "* Prefix /"),
    ] {
        assert_eq!(found(&table, "any.example", path).as_deref(), Some(expected), "{path}");
    }
}

#[test]
fn the_chosen_host_owns_the_request() {
    let table = table(&[
        ("bar.foo.com", "/only", PathType::Prefix),
        ("*.foo.com", "/", PathType::Prefix),
        ("", "/", PathType::Exact),
    ]);
    for (host, path, expected) in [
        ("bar.foo.com", "/only/x", Some("bar.foo.com Prefix /only")),
        ("bar.foo.com", "/", None),
        ("baz.foo.com", "/x", Some("*.foo.com Prefix /")),
        ("a.b.foo.com", "/", Some("* Exact /")),
        ("foo.com", "/", Some("* Exact /")),
        ("foo.com", "/x", None),
    ] {
        assert_eq!(found(&table, host, path).as_deref(), expected, "{host}{path}");
    }
}

#[test]
fn a_change_copies_only_the_shard_it_falls_into() {
    let before = table(&[("a.example", "/", PathType::Prefix), ("b.example", "/", PathType::Prefix)]);
    let after = before.with([(HostMatch::parse("a.example").unwrap(), None)], certs());
    let shared = before.shards.iter().zip(&after.shards).filter(|(one, other)| Arc::ptr_eq(one, other)).count();
    assert_eq!(shared, SHARDS - 1);
    assert!(after.find("a.example", "/").is_none());
    assert!(after.find("b.example", "/").is_some() && before.find("a.example", "/").is_some());
}

/// A path of few and short elements, so that rules and requests meet.
fn path() -> impl Strategy<Value = String> {
    "(/[ab]{1,2}){0,3}/?".prop_map(|path| if path.is_empty() { "/".to_owned() } else { path })
}

fn kind() -> impl Strategy<Value = PathType> {
    prop_oneof![Just(PathType::Exact), Just(PathType::Prefix), Just(PathType::ImplementationSpecific)]
}

proptest! {
    #[test] // the order that matchers have is the order that the tree finds them in
    fn the_route_found_is_the_first_that_matches(
        rules in proptest::collection::vec((path(), kind()), 0..12).prop_shuffle(),
        request in path(),
    ) {
        let rules: Vec<_> = rules.iter().map(|(path, kind)| ("", path.as_str(), *kind)).collect();
        let mut matching: Vec<_> = rules.iter().map(|(_, path, kind)| PathMatch::new(path, *kind).unwrap()).collect();
        matching.retain(|rule| rule.matches(&request));
        matching.sort();
        let expected = matching.first().map(|rule| format!("* {} {rule}", rule.kind()));
        prop_assert_eq!(found(&table(&rules), "any.example", &request), expected);
    }

    #[test]
    fn no_request_makes_a_lookup_panic(host in "\\PC{0,20}", path in "\\PC{0,20}") {
        let table = table(&[("*.a.b", "/a", PathType::Prefix), ("", "/", PathType::Exact)]);
        let path = normalise(&path).map_or("", |_| path.as_str());
        let _ = table.find(&host, path);
    }
}
