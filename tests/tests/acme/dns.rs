//! Names that are proved in DNS, at a real name server.

use std::os::unix::fs::PermissionsExt as _;

use ferrogate_tests::appliance::Appliance;
use ferrogate_tests::name_server::{KEY, NameServer, SECRET};
use ferrogate_tests::upstream::Upstream;
use ferrogate_tests::wait::until;
use ferrogate_tests::{clouds, skip_unless_name_server, skip_unless_pebble};

use crate::scene::{Asks, Scene, managed, served, stands};

/// A scene in which everybody asks this name server.
async fn scene(server: &NameServer, slow: bool) -> Scene {
    let mut scene = Scene::prepare(|options| (options.dns, options.slow) = (Some(server.address), slow));
    scene.builder = scene.builder.clone().with(&["--dns-server", &server.address.to_string()]);
    scene.pebble.come_back().await;
    scene
}

/// A Secret beside the issuers.
fn keep(scene: &Scene, name: &str, text: &str) {
    let manifest = format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: metallb-system}}\nstringData: {{key: {text:?}}}\n"
    );
    scene.folder.write(&format!("secret-{name}.yaml"), &manifest);
}

/// A solver by updates to that server.
fn rfc2136(server: &NameServer, more: &str) -> String {
    format!(
        "    solvers:\n    - dns01:\n{more}        rfc2136:\n          nameserver: {}\n          tsigKeyName: {KEY}\n          tsigSecretSecretRef: {{name: tsig, key: key}}\n",
        server.address
    )
}

/// Waits until nothing is left of a challenge.
async fn tidy(server: &NameServer, owner: &str) {
    until("the records are removed", async || {
        let left = server.texts(owner);
        if left.is_empty() { Ok(()) } else { Err(left.join(" ")) }
    })
    .await;
}

const OWNER: &str = "_acme-challenge.example.com";
const WILDCARD: Asks<'_> =
    Asks { name: "web", hosts: &["example.com", "*.example.com"], secret: "shop-tls", annotations: &[] };

async fn has_both(appliance: &Appliance) {
    let apex = served(appliance, "example.com").await;
    assert!(served(appliance, "any.example.com").await == apex);
    stands(appliance, "shop-tls", "valid").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wildcard_and_its_name_are_proved_by_signed_updates_and_nothing_is_left() {
    skip_unless_pebble!();
    skip_unless_name_server!();
    let server = NameServer::start(&[("example.com", "")]).await;
    let scene = scene(&server, false).await;
    keep(&scene, "tsig", "bm90IHRoZSBrZXkgdGhhdCB0aGUgc2VydmVyIGhhcw==");
    scene.configure(&rfc2136(&server, ""));
    scene.ask(&WILDCARD);
    // What somebody else has there stays.
    assert!(server.update(&format!("add {OWNER} 60 TXT \"of somebody else\"")));
    let appliance = scene.builder.start().await;
    until("word of the wrong key", async || {
        let entry = managed(&appliance, "shop-tls").await;
        let said =
            entry["error"].as_str().is_some_and(|error| error.contains("the TXT record _acme-challenge.example.com"));
        if said { Ok(()) } else { Err(entry) }
    })
    .await;
    drop(appliance);
    keep(&scene, "tsig", SECRET);
    let appliance = scene.builder.start().await;
    has_both(&appliance).await;
    until("our records are removed", async || {
        let left = server.texts(OWNER);
        if left == ["of somebody else"] { Ok(()) } else { Err(left.join(" ")) }
    })
    .await;
    assert_eq!(scene.pebble.issued(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alias_leads_to_the_name_that_is_written() {
    skip_unless_pebble!();
    skip_unless_name_server!();
    let alias = "_acme-challenge.shop CNAME shop.proofs.example.com.";
    let server = NameServer::start(&[("example.com", alias)]).await;
    let scene = scene(&server, false).await;
    keep(&scene, "tsig", SECRET);
    scene.configure(&rfc2136(&server, "        cnameStrategy: Follow\n"));
    scene.ask(&Asks::default());
    let appliance = scene.builder.start().await;
    served(&appliance, "shop.example.com").await;
    tidy(&server, "shop.proofs.example.com").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_killed_while_records_are_published_ends_the_order_and_removes_them_later() {
    skip_unless_pebble!();
    skip_unless_name_server!();
    let server = NameServer::start(&[("example.com", "")]).await;
    let scene = scene(&server, true).await;
    keep(&scene, "tsig", SECRET);
    scene.configure(&rfc2136(&server, ""));
    scene.ask(&WILDCARD);
    let mut appliance = scene.builder.start().await;
    until("both records", async || {
        let shown = server.texts(OWNER);
        if shown.len() == 2 { Ok(()) } else { Err(shown.join(" ")) }
    })
    .await;
    appliance.process().kill();
    drop(appliance);
    assert_eq!(server.texts(OWNER).len(), 2);
    let appliance = scene.builder.start().await;
    has_both(&appliance).await;
    tidy(&server, OWNER).await;
    assert_eq!(scene.pebble.issued(), 1, "the order was taken up, not made anew");
}

/// Orders a wildcard by a solver, with these secret values.
async fn proves(server: &NameServer, secrets: &[(&str, &str)], solver: &str) {
    let scene = scene(server, false).await;
    for (name, text) in secrets {
        keep(&scene, name, text);
    }
    scene.configure(&format!("    solvers:\n    - dns01: {solver}\n"));
    scene.ask(&WILDCARD);
    let appliance = scene.builder.start().await;
    has_both(&appliance).await;
    tidy(server, OWNER).await;
    let log = appliance.log();
    for (_, text) in secrets {
        assert!(!log.contains(text), "a secret value is logged");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_proved_by_the_apis_of_providers_and_by_hooks() {
    skip_unless_pebble!();
    skip_unless_name_server!();
    let zones = [("example.com", "")];
    let (one, two, three, four) = tokio::join!(
        NameServer::start(&zones),
        NameServer::start(&zones),
        NameServer::start(&zones),
        NameServer::start(&zones)
    );
    let cloudflare = clouds::cloudflare("example.com", one.address).await;
    let route53 = clouds::route53("example.com", two.address).await;
    let hook = hook(&three).await;
    let program = program(&four);
    let by_cloudflare = format!(
        "{{cloudflare: {{endpoint: 'http://{}', apiTokenSecretRef: {{name: cf, key: key}}}}}}",
        cloudflare.address
    );
    let by_route53 = format!(
        "{{route53: {{region: eu-central-1, endpoint: 'http://{}', accessKeyID: {}, secretAccessKeySecretRef: {{name: \
         aws, key: key}}}}}}",
        route53.address,
        clouds::ACCESS_KEY
    );
    let by_hook = format!("{{http: {{url: 'http://{}/'}}}}", hook.address);
    let by_program = format!("{{exec: {{command: [{program}, -v]}}}}");
    tokio::join!(
        proves(&one, &[("cf", clouds::TOKEN)], &by_cloudflare),
        proves(&two, &[("aws", clouds::SECRET_KEY)], &by_route53),
        proves(&three, &[], &by_hook),
        proves(&four, &[], &by_program),
    );
    assert!(hook.seen().iter().any(|request| request.target() == "/cleanup"));
}

/// A server that does as it is asked.
async fn hook(server: &NameServer) -> Upstream {
    use ferrogate_tests::upstream::Reply;
    let address = server.address;
    Upstream::start(move |request| {
        let body: serde_json::Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let (name, value) = (body["fqdn"].as_str().unwrap_or_default(), body["value"].as_str().unwrap_or_default());
        let change = match request.target() {
            "/present" => format!("add {name} 60 TXT \"{value}\""),
            _ => format!("delete {name} TXT \"{value}\""),
        };
        assert!(ferrogate_tests::name_server::update(address, &change), "{change}");
        Reply::Text(String::new())
    })
    .await
}

/// A program that does as it is told.
fn program(server: &NameServer) -> String {
    let text = format!(
        "#!/bin/sh\nset -e\n[ \"$1\" = -v ]\ncase $2 in present) c=\"add $3 60 TXT \\\"$4\\\"\";; cleanup) c=\"delete $3 TXT \\\"$4\\\"\";; esac\nprintf 'server {}\\nupdate %s\\nsend\\n' \"$c\" | nsupdate -y hmac-sha256:{KEY}:{SECRET}\n",
        server.address.ip()
    );
    let path = server.folder().join("hook");
    std::fs::write(&path, text).expect("the folder can be written");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("it is our file");
    path.display().to_string()
}
