//! Laws of the mirror: only the last state of the server counts, and what did not change is shared.

use k8s_openapi::api::core::v1::{Service, ServiceSpec};
use proptest::prelude::*;

use super::*;

/// What a server with Services 0 to 5 may do; a version is never used twice.
#[derive(Clone, Debug)]
enum Step {
    Apply(u8, u8),
    Delete(u8),
    /// A list is cut off after so many objects.
    BrokenList(usize),
    List,
    /// It is written again as it was.
    Touch(u8),
}

fn name(index: u8) -> ObjectName {
    ObjectName::new("shop", format!("s{index}"))
}

fn service(index: u8, content: u8, version: u64) -> Object {
    let spec = ServiceSpec { external_name: Some(content.to_string()), ..ServiceSpec::default() };
    let metadata = ObjectMeta {
        namespace: Some("shop".into()),
        name: Some(format!("s{index}")),
        resource_version: Some(version.to_string()),
        ..ObjectMeta::default()
    };
    Object::Service(Arc::new(Service { metadata, spec: Some(spec), status: None }))
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0_u8..6, 0_u8..3).prop_map(|(index, content)| Step::Apply(index, content)),
        (0_u8..6).prop_map(Step::Delete),
        (0_usize..6).prop_map(Step::BrokenList),
        Just(Step::List),
        (0_u8..6).prop_map(Step::Touch),
    ];
    proptest::collection::vec(step, 1..30)
}

fn source() -> Arc<Source> {
    Arc::new(Source::all(Kind::Service))
}

fn tell(mirror: &mut Mirror, change: Change) -> bool {
    mirror.take(News { source: source(), change })
}

fn listed(mirror: &mut Mirror, server: &BTreeMap<u8, (u8, u64)>) {
    for (index, (content, version)) in server {
        tell(mirror, Change::Listed(name(*index), service(*index, *content, *version)));
    }
}

fn content(snapshot: &Snapshot) -> BTreeMap<ObjectName, Option<String>> {
    let text = |service: &Service| service.spec.as_ref().and_then(|spec| spec.external_name.clone());
    snapshot.services.iter().map(|(name, service)| (name.clone(), text(service))).collect()
}

fn config_map() -> ObjectName {
    ObjectName::new("metallb-system", "config")
}

proptest! {
    /// The server changes while we look away as well: a step may or may not be heard, but a list shows all.
    #[test]
    fn after_a_list_the_snapshot_is_what_the_server_has(steps in steps(), heard in proptest::collection::vec(any::<bool>(), 30)) {
        let mut mirror = Mirror::new([source()], config_map());
        let (mut server, mut version) = (BTreeMap::<u8, (u8, u64)>::new(), 0);
        for (step, heard) in steps.into_iter().zip(heard) {
            version += 1;
            let before = mirror.snapshot().cloned();
            match step {
                Step::Apply(index, text) => {
                    server.insert(index, (text, version));
                    if heard {
                        tell(&mut mirror, Change::Applied(name(index), service(index, text, version)));
                    }
                }
                Step::Delete(index) => {
                    server.remove(&index);
                    if heard {
                        tell(&mut mirror, Change::Deleted(name(index)));
                    }
                }
                Step::Touch(index) => {
                    if let Some((text, old)) = server.get_mut(&index) {
                        *old = version;
                        let text = *text;
                        if heard {
                            let known = mirror.next.services.get(&name(index)).cloned();
                            let news = tell(&mut mirror, Change::Applied(name(index), service(index, text, version)));
                            let same = known.is_some_and(|known| {
                                known.spec.as_ref().and_then(|spec| spec.external_name.clone()) == Some(text.to_string())
                            });
                            prop_assert_eq!(news, !same, "a new version alone is no news");
                        }
                    }
                }
                Step::BrokenList(count) => {
                    tell(&mut mirror, Change::Begin);
                    let cut: BTreeMap<u8, (u8, u64)> = server.iter().take(count).map(|(key, it)| (*key, *it)).collect();
                    listed(&mut mirror, &cut);
                }
                Step::List => {
                    tell(&mut mirror, Change::Begin);
                    listed(&mut mirror, &server);
                    tell(&mut mirror, Change::End { epoch: version });
                    mirror.publish();
                    let now = content(mirror.snapshot().unwrap());
                    let expected = server.iter().map(|(index, (text, _))| (name(*index), Some(text.to_string())));
                    prop_assert_eq!(now, expected.collect::<BTreeMap<_, _>>());
                    prop_assert_eq!(mirror.epoch(Kind::Service), version);
                }
            }
            mirror.publish();
            if let (Some(old), Some(new)) = (before, mirror.snapshot()) {
                prop_assert!(Arc::ptr_eq(&old.ingresses, &new.ingresses));
                for (name, service) in old.services.iter() {
                    if let Some(now) = new.services.get(name) {
                        prop_assert!(Arc::ptr_eq(service, now) || service.metadata != now.metadata);
                    }
                }
            }
        }
    }
}

#[test]
fn nothing_is_published_before_all_that_may_be_read_was_listed() {
    let nodes = Arc::new(Source::all(Kind::Node));
    let mut mirror = Mirror::new([source(), Arc::clone(&nodes)], config_map());
    tell(&mut mirror, Change::Begin);
    tell(&mut mirror, Change::Listed(name(1), service(1, 1, 1)));
    tell(&mut mirror, Change::End { epoch: 0 });
    assert!(mirror.publish().is_none());
    let reference = ObjectRef::new(Kind::Node, ObjectName::cluster("n1"));
    assert_eq!(mirror.presence(&reference), Presence::Unknown);
    mirror.take(News { source: Arc::clone(&nodes), change: Change::Trouble(Some(Trouble::Away("gone".into()))) });
    assert!(mirror.publish().is_none(), "it may come yet");
    mirror.take(News { source: nodes, change: Change::Trouble(Some(Trouble::Denied)) });
    let snapshot = mirror.publish().unwrap();
    assert_eq!((snapshot.services.len(), snapshot.problems.len()), (1, 1));
    assert_eq!(mirror.presence(&reference), Presence::Unknown, "what may not be read may be there");
    assert_eq!(mirror.presence(&ObjectRef::new(Kind::Service, name(2))), Presence::Absent);
}

#[test]
fn a_list_of_one_namespace_says_nothing_of_another() {
    let of = |namespace: &str| Arc::new(Source { namespace: Some(namespace.into()), ..Source::all(Kind::Service) });
    let (shop, bank) = (of("shop"), of("bank"));
    let mut mirror = Mirror::new([Arc::clone(&shop), Arc::clone(&bank)], config_map());
    let mut end = |source: &Arc<Source>, object: Option<Object>| {
        mirror.take(News { source: Arc::clone(source), change: Change::Begin });
        if let Some(object) = object {
            mirror.take(News { source: Arc::clone(source), change: Change::Listed(name(1), object) });
        }
        mirror.take(News { source: Arc::clone(source), change: Change::End { epoch: 0 } });
        mirror.publish().map(|snapshot| snapshot.services.len())
    };
    assert_eq!(end(&shop, Some(service(1, 1, 1))), None);
    assert_eq!(end(&bank, None), Some(1));
    assert_eq!(end(&bank, None), None, "nothing changed");
    assert_eq!(end(&shop, None), Some(0));
}

fn secret(name: &str, type_: &str, version: u64) -> Object {
    let metadata = ObjectMeta {
        namespace: Some("shop".into()),
        name: Some(name.into()),
        resource_version: Some(version.to_string()),
        ..ObjectMeta::default()
    };
    Object::Secret(Arc::new(Secret { metadata, type_: Some(type_.into()), ..Secret::default() }))
}

#[test]
fn a_list_of_certificates_leaves_secrets_alone_that_are_followed_by_name() {
    let collection = Arc::new(Source::all(Kind::Secret));
    let users = ObjectName::new("shop", "users");
    let named = Arc::new(Source::secret(&users, crate::api::kinds::Keys::Known));
    let mut mirror = Mirror::new([Arc::clone(&collection)], config_map());
    let tell = |mirror: &mut Mirror, source: &Arc<Source>, change| {
        mirror.take(News { source: Arc::clone(source), change });
    };
    mirror.follow(Arc::clone(&named));
    tell(&mut mirror, &collection, Change::Begin);
    tell(&mut mirror, &collection, Change::End { epoch: 0 });
    assert!(mirror.publish().is_none(), "the first snapshot has what is named as well");
    tell(&mut mirror, &named, Change::Listed(users.clone(), secret("users", "Opaque", 1)));
    tell(&mut mirror, &named, Change::End { epoch: 0 });
    tell(&mut mirror, &collection, Change::Begin);
    tell(&mut mirror, &collection, Change::End { epoch: 0 });
    assert!(mirror.publish().unwrap().secrets.contains_key(&users));
    // Made anew as a certificate: the collection tells of it, in whichever order the two are heard.
    tell(&mut mirror, &collection, Change::Applied(users.clone(), secret("users", TLS, 2)));
    tell(&mut mirror, &named, Change::Deleted(users.clone()));
    assert!(mirror.publish().unwrap().secrets.contains_key(&users));
    mirror.forget(&named);
    tell(&mut mirror, &named, Change::Applied(users.clone(), secret("users", "Opaque", 3)));
    assert_eq!(mirror.next().secrets[&users].type_.as_deref(), Some(TLS), "nobody listens to the last words");
}

#[test]
fn what_is_followed_no_longer_is_forgotten() {
    let users = ObjectName::new("shop", "users");
    let named = Arc::new(Source::secret(&users, crate::api::kinds::Keys::Known));
    let mut mirror = Mirror::new([], config_map());
    mirror.follow(Arc::clone(&named));
    mirror
        .take(News { source: Arc::clone(&named), change: Change::Listed(users.clone(), secret("users", "Opaque", 1)) });
    mirror.take(News { source: Arc::clone(&named), change: Change::End { epoch: 0 } });
    assert!(mirror.publish().unwrap().secrets.contains_key(&users));
    assert!(mirror.forget(&named) && !mirror.publish().unwrap().secrets.contains_key(&users));
}
