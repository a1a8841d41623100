//! Secrets that are read because an Ingress names them.

use cluster::{ApiOptions, Cluster};
use config::diagnostic::Problem;
use config::snapshot::Snapshot;
use ferrogate_tests::api_server::failure::Failure;
use ferrogate_tests::api_server::faults::{Fault, Match};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::harness::{Process, World, ingress, name};

fn opaque(name: &str, keys: &[&str]) -> Value {
    let data: serde_json::Map<_, _> = keys.iter().map(|key| ((*key).to_owned(), json!("YQ=="))).collect();
    json!({ "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
        "metadata": { "namespace": "shop", "name": name }, "data": data })
}

fn guarded(annotations: &[(&str, &str)]) -> Value {
    let mut web = ingress("web");
    for (key, text) in annotations {
        web["metadata"]["annotations"][format!("nginx.ingress.kubernetes.io/{key}")] = json!(text);
    }
    web
}

fn keys(snapshot: &Snapshot, secret: &str) -> Vec<String> {
    let data = snapshot.secrets.get(&name(secret)).and_then(|it| it.data.clone());
    data.into_iter().flatten().map(|(key, _)| key).collect()
}

/// The problem at the Ingress that speaks of this Secret.
fn about<'a>(snapshot: &'a Snapshot, secret: &str) -> Option<&'a Problem> {
    let ours = |it: &&Problem| it.object.as_ref().is_some_and(|object| object.name == name("web"));
    snapshot.problems.iter().filter(ours).find(|it| it.message.contains(&format!("Secret shop/{secret} is not read")))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_an_ingress_names_is_read_as_long_as_it_is_named_and_no_other() {
    let world = World::new();
    let mut web = guarded(&[("auth-secret", "users"), ("auth-tls-secret", "shop/ca")]);
    web["spec"]["tls"] = json!([{ "secretName": "cert" }]);
    for object in [
        web,
        opaque("users", &["auth", "other"]),
        opaque("ca", &["ca.crt", "ca.crl"]),
        opaque("cert", &["tls.crt", "tls.key", "other"]),
        opaque("private", &["auth"]),
    ] {
        world.put(&object);
    }
    let process = world.watcher().await;
    let first = process.sees("a snapshot", |_| true).await;
    assert_eq!(first.secrets.keys().collect::<Vec<_>>(), [&name("ca"), &name("cert"), &name("users")]);
    let kept = ["users", "ca", "cert"].map(|secret| keys(&first, secret));
    assert_eq!(kept, [vec!["auth"], vec!["ca.crl", "ca.crt"], vec!["tls.crt", "tls.key"]]);

    // The keys of a map are users.
    world.put(&guarded(&[("auth-secret", "users"), ("auth-secret-type", "auth-map")]));
    let second = process.sees("the users", |snapshot| keys(snapshot, "users") == ["auth", "other"]).await;
    process.sees("the others gone", |snapshot| snapshot.secrets.len() == 1).await;
    assert!(second.problems.is_empty(), "{:?}", second.problems);
    world.put(&opaque("users", &["anna"]));
    process.sees("a change", |snapshot| keys(snapshot, "users") == ["anna"]).await;
    world.put(&guarded(&[("auth-secret", "later")]));
    process.sees("it gone", |snapshot| snapshot.secrets.is_empty()).await;
    world.put(&opaque("later", &["auth"]));
    process.sees("it there", |snapshot| keys(snapshot, "later") == ["auth"]).await;
    world.server.delete("Ingress", "shop", "web").unwrap();
    process.sees("nothing", |snapshot| snapshot.secrets.is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_may_not_be_read_is_told_at_the_ingress_that_names_it() {
    let world = World::new();
    world.put(&opaque("users", &["auth"]));
    let process = world.watcher().await;
    process.sees("a snapshot", |_| true).await;
    let forbidden = Fault::Refuse(Failure::new(403, "secrets is forbidden"));
    world.server.faults().inject(Match { verb: "", resource: "secrets" }, forbidden, usize::MAX);
    world.put(&guarded(&[("auth-secret", "users")]));
    let told = process.sees("the problem", |snapshot| about(snapshot, "users").is_some()).await;
    let problem = about(&told, "users").unwrap();
    assert_eq!(problem.field.to_string(), "metadata.annotations[nginx.ingress.kubernetes.io/auth-secret]");
    assert!(problem.message.contains("grant the verbs list and watch for secrets in namespace shop"), "{problem:?}");
    world.server.faults().clear();
    process.sees("it read", |it| about(it, "users").is_none() && keys(it, "users") == ["auth"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_outside_of_the_namespaces_asked_for_names_the_flag() {
    let world = World::new();
    world.put(&opaque("users", &["auth"]));
    world.put(&guarded(&[("auth-secret", "users")]));
    let options = ApiOptions { secret_namespaces: Some(vec!["elsewhere".into()]), ..world.options("narrow") };
    let shutdown = CancellationToken::new();
    let process = Process { cluster: Cluster::api(options, shutdown.clone()).await.unwrap(), shutdown };
    let seen = process.sees("the problem", |snapshot| about(snapshot, "users").is_some()).await;
    assert!(about(&seen, "users").unwrap().message.contains("--secret-namespaces leaves out namespace shop"));
    assert!(seen.secrets.is_empty());
}
