//! Services of type `ExternalName`: a name out there, whose addresses DNS tells.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use ferrogate_tests::appliance::{Appliance, Builder};
use ferrogate_tests::client::Target;
use ferrogate_tests::dns::{Dns, Says};
use ferrogate_tests::folder::Folder;
use ferrogate_tests::load::{Load, Request};
use ferrogate_tests::loopback;
use ferrogate_tests::manifests::{INGRESS_CLASS, Ingress};
use ferrogate_tests::upstream::{Reply, Upstream};
use ferrogate_tests::wait::{throughout, until};

use crate::shop::{HOST, about};

const NAME: &str = "db.example.net";

/// A folder in which [`HOST`] goes to [`NAME`], on the port of a backend.
fn folder(name: &str, port: u16) -> Folder {
    let service = format!(
        "apiVersion: v1\nkind: Service\nmetadata:\n  namespace: shop\n  name: web\nspec:\n  type: ExternalName\n  \
         externalName: {name}\n  ports:\n  - name: http\n    port: 80\n    targetPort: {port}\n"
    );
    Folder::with(&[
        ("class.yaml", INGRESS_CLASS),
        ("web.yaml", &service),
        ("ingress.yaml", &Ingress::new("shop", "web").rule(HOST, "/", "web").yaml()),
    ])
}

fn asking(folder: &Folder, dns: &Dns) -> Builder {
    Builder::new(folder.path()).with(&["--dns-server", &dns.address.to_string()])
}

/// Waits until the problems of the Ingress say this; nothing for that there are none.
async fn says(appliance: &Appliance, word: &str) {
    until(&format!("a problem that says {word:?}"), async || {
        let problems = appliance.problems().await;
        let found = about(&problems, "Ingress shop/web").map(|problem| problem["message"].to_string());
        match found {
            None if word.is_empty() => Ok(()),
            Some(message) if !word.is_empty() && message.contains(word) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

/// Two backends on one port, as machines behind one name have it.
async fn pair() -> (Upstream, Upstream) {
    let one = Upstream::named("one").await;
    let ip = loopback::address();
    let two = Upstream::start_at((ip, one.address.port()).into(), |_| Reply::Text("two".to_owned())).await;
    (one, two)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_followed_as_its_addresses_change_and_no_request_fails() {
    let dns = Dns::start().await;
    let (one, two) = pair().await;
    dns.set_addresses(NAME, &[one.address.ip()]);
    let folder = folder(NAME, one.address.port());
    let appliance = asking(&folder, &dns).start().await;
    // Ready means that the names it had from the start are answered.
    assert_eq!(appliance.get(HOST, "/").await.expect("an answer").text(), "one");
    let load =
        Load::start(&[Request { target: Target::plain(appliance.http), host: HOST.to_owned(), path: "/".to_owned() }]);
    load.more(20).await;
    dns.set_addresses(NAME, &[two.address.ip()]);
    appliance.answers(HOST, "/", 200, "two").await;
    dns.set_addresses(NAME, &[one.address.ip(), two.address.ip()]);
    until("both", async || match appliance.api("routes").await[0]["endpoints"].as_u64() {
        Some(2) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    load.more(50).await;
    assert_eq!(load.finish().await.unexpected(&["one", "two"]), Vec::<String>::new());
    says(&appliance, "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_good_answer_is_used_while_dns_fails() {
    let dns = Dns::start().await;
    let web = Upstream::named("web").await;
    dns.set_addresses(NAME, &[web.address.ip()]);
    let folder = folder(NAME, web.address.port());
    let appliance = asking(&folder, &dns).start().await;
    for fault in [Says::Failure, Says::Silence] {
        dns.set(NAME, fault.clone());
        let before = dns.asked(NAME);
        let more = async || match dns.asked(NAME) {
            now if now > before + 1 => Ok(()),
            now => Err(format!("asked {} times", now - before)),
        };
        until("questions that fail", more).await;
        throughout(Duration::from_millis(500), "service", async || {
            let response = appliance.get(HOST, "/").await.map_err(|error| error.to_string())?;
            if response.status == 200 { Ok(()) } else { Err(format!("{} during {fault:?}", response.status)) }
        })
        .await;
        dns.set_addresses(NAME, &[web.address.ip()]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_does_not_exist_is_told_and_found_when_it_does() {
    let dns = Dns::start().await;
    let web = Upstream::named("web").await;
    let folder = folder(NAME, web.address.port());
    let appliance = asking(&folder, &dns).start().await;
    appliance.answers(HOST, "/", 503, "").await;
    says(&appliance, "DNS has no address for db.example.net").await;
    dns.set_addresses(NAME, &[web.address.ip()]);
    appliance.answers(HOST, "/", 200, "web").await;
    says(&appliance, "").await;
    dns.remove(NAME);
    appliance.answers(HOST, "/", 503, "").await;
    says(&appliance, "DNS has no address for db.example.net").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_name_leads_to_what_is_link_local_or_nowhere_or_to_a_wrong_name() {
    let dns = Dns::start().await;
    let web = Upstream::named("web").await;
    let nowhere = ["169.254.169.254", "0.0.0.0", "255.255.255.255", "224.0.0.1"];
    dns.set_addresses(NAME, &nowhere.map(|ip| IpAddr::V4(ip.parse::<Ipv4Addr>().expect("an address"))));
    for (name, word) in [(NAME, "169.254.169.254"), ("localhost", "this machine"), ("192.0.2.1", "is an address")] {
        let folder = folder(name, web.address.port());
        let appliance = asking(&folder, &dns).start().await;
        assert_eq!(appliance.get(HOST, "/").await.expect("an answer").status, 503, "{name}");
        let problems = appliance.problems().await;
        assert!(problems.iter().any(|problem| problem["message"].to_string().contains(word)), "{name}: {problems:?}");
    }
    assert_eq!(web.connections(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn names_can_be_turned_off() {
    let dns = Dns::start().await;
    let web = Upstream::named("web").await;
    dns.set_addresses(NAME, &[web.address.ip()]);
    let folder = folder(NAME, web.address.port());
    let appliance = asking(&folder, &dns).with(&["--disable-svc-external-name"]).start().await;
    assert_eq!(appliance.get(HOST, "/").await.expect("an answer").status, 503);
    says(&appliance, "--disable-svc-external-name=false").await;
    assert_eq!(dns.asked(NAME), 0);
}
