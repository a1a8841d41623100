//! What Services and `EndpointSlices` say about who is asked, in all their forms.
//!
//! Endpoints that leave while requests are under way: `rollout`.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use ferrogate_tests::appliance::{Appliance, Builder};
use ferrogate_tests::folder::Folder;
use ferrogate_tests::manifests::{INGRESS_CLASS, Ingress, documents};
use ferrogate_tests::upstream::Upstream;
use ferrogate_tests::wait::until;

use crate::shop::HOST;

/// One slice of the Service `shop/web` under construction.
struct Slice {
    ports: String,
    endpoints: String,
    family: &'static str,
}

impl Slice {
    /// With these ports, by name.
    fn new(ports: &[(&str, u16)]) -> Self {
        let ports = ports.iter().fold(String::new(), |mut text, (name, port)| {
            let _ = writeln!(text, "- name: {name:?}\n  port: {port}\n  protocol: TCP");
            text
        });
        Self { ports, endpoints: String::new(), family: "IPv4" }
    }

    /// With an endpoint, and what else is said of it.
    fn endpoint(mut self, ip: IpAddr, rest: &str) -> Self {
        let _ = writeln!(self.endpoints, "- addresses: [\"{ip}\"]{rest}");
        Self { family: if ip.is_ipv6() { "IPv6" } else { "IPv4" }, ..self }
    }

    fn yaml(&self, name: &str) -> String {
        format!(
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  namespace: shop\n  name: {name}\n  \
             labels:\n    kubernetes.io/service-name: web\naddressType: {}\nports:\n{}endpoints:\n{}",
            self.family, self.ports, self.endpoints
        )
    }
}

/// The Service `shop/web` with these lines in its `spec`.
fn service(spec: &str) -> String {
    format!("apiVersion: v1\nkind: Service\nmetadata:\n  namespace: shop\n  name: web\nspec:\n{spec}")
}

/// One port 80, called `http`.
const HTTP: &str = "  ports:\n  - name: http\n    port: 80\n    targetPort: web\n";

fn web(service: &str, slices: &[Slice]) -> String {
    let slices = slices.iter().enumerate().map(|(index, slice)| slice.yaml(&format!("web-{index}")));
    documents(&std::iter::once(service.to_owned()).chain(slices).collect::<Vec<_>>())
}

fn folder(web: &str) -> Folder {
    let ingress = Ingress::new("shop", "web").rule(HOST, "/", "web").yaml();
    Folder::with(&[("class.yaml", INGRESS_CLASS), ("web.yaml", web), ("ingress.yaml", &ingress)])
}

async fn open(service: &str, slices: &[Slice]) -> (Folder, Appliance) {
    let folder = folder(&web(service, slices));
    let appliance = Builder::new(folder.path()).start().await;
    (folder, appliance)
}

/// Waits until exactly these answer, and so many endpoints are counted.
async fn answered_by(appliance: &Appliance, names: &[&str]) {
    let expected: BTreeSet<_> = names.iter().map(ToString::to_string).collect();
    until(&format!("answers of {names:?}"), async || {
        let routes = appliance.api("routes").await;
        if routes[0]["endpoints"] != names.len() {
            return Err(format!("{routes:?}"));
        }
        let mut seen = BTreeSet::new();
        for _ in 0..64 {
            seen.insert(appliance.get(HOST, "/").await.map_err(|error| error.to_string())?.text());
        }
        if seen == expected { Ok(()) } else { Err(format!("{seen:?}")) }
    })
    .await;
}

fn ready(slice: Slice, address: SocketAddr) -> Slice {
    slice.endpoint(address.ip(), "")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_without_cluster_ip_or_selector_is_served_by_its_slices() {
    let one = Upstream::named("one").await;
    for spec in ["  clusterIP: None\n  selector: {app: web}\n", "  clusterIP: None\n", "  type: ClusterIP\n"] {
        let slice = ready(Slice::new(&[("http", one.address.port())]), one.address);
        let (_folder, appliance) = open(&service(&format!("{spec}{HTTP}")), &[slice]).await;
        answered_by(&appliance, &["one"]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_is_found_by_number_name_or_target_and_each_slice_has_its_own_number() {
    let (one, two, admin) =
        (Upstream::named("one").await, Upstream::named("two").await, Upstream::named("admin").await);
    let slices = |one: &Upstream, two: &Upstream| {
        let ports = |port| Slice::new(&[("metrics", admin.address.port()), ("http", port)]);
        [ready(ports(one.address.port()), one.address), ready(ports(two.address.port()), two.address)]
    };
    let spec = format!("{HTTP}  - name: metrics\n    port: 90\n    targetPort: 9000\n");
    let (folder, appliance) = open(&service(&spec), &slices(&one, &two)).await;
    for port in ["number: 80", "name: http", "name: web"] {
        let ingress = Ingress::new("shop", "web").rule(HOST, "/", "web").yaml().replace("number: 80", port);
        folder.write("ingress.yaml", &ingress);
        answered_by(&appliance, &["one", "two"]).await;
    }
    let ingress = Ingress::new("shop", "web").rule(HOST, "/", "web").yaml().replace("number: 80", "name: nope");
    folder.write("ingress.yaml", &ingress);
    appliance.answers(HOST, "/", 503, "").await;
    let problems = appliance.problems().await;
    assert!(problems[0]["message"].to_string().contains("80 (http), 90 (metrics)"), "{problems:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_stands_in_several_slices_is_one_endpoint() {
    let (one, two) = (Upstream::named("one").await, Upstream::named("two").await);
    let of = |upstream: &Upstream| Slice::new(&[("http", upstream.address.port())]);
    // While Pods move between slices, one is ready in the old slice and not yet in the new one.
    let unready = of(&one).endpoint(one.address.ip(), "\n  conditions: {ready: false, serving: false}");
    let slices = [ready(of(&one), one.address), unready, ready(of(&two), two.address), ready(of(&two), two.address)];
    let (_folder, appliance) = open(&service(HTTP), &slices).await;
    answered_by(&appliance, &["one", "two"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slices_of_both_families_are_used_together() {
    let four = Upstream::named("four").await;
    let Ok(probe) = std::net::TcpListener::bind((Ipv6Addr::LOCALHOST, 0)) else {
        println!("skipped: this machine has no IPv6 loopback address");
        return;
    };
    drop(probe);
    let six = Upstream::start_at((Ipv6Addr::LOCALHOST, 0).into(), |_| {
        ferrogate_tests::upstream::Reply::Text("six".to_owned())
    })
    .await;
    let of = |upstream: &Upstream| ready(Slice::new(&[("http", upstream.address.port())]), upstream.address);
    let spec = format!("  ipFamilyPolicy: PreferDualStack\n  ipFamilies: [IPv4, IPv6]\n{HTTP}");
    let (_folder, appliance) = open(&service(&spec), &[of(&four), of(&six)]).await;
    answered_by(&appliance, &["four", "six"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_published_before_it_is_ready_is_asked() {
    let (one, two) = (Upstream::named("one").await, Upstream::named("two").await);
    let of = |upstream: &Upstream, conditions: &str| {
        let conditions = format!("\n  conditions: {conditions}");
        Slice::new(&[("http", upstream.address.port())]).endpoint(upstream.address.ip(), &conditions)
    };
    // What Kubernetes writes for publishNotReadyAddresses: ready whatever the probes say.
    let published = [
        of(&one, "{ready: true, serving: false, terminating: false}"),
        of(&two, "{ready: true, serving: false, terminating: true}"),
    ];
    let (folder, appliance) = open(&service(&format!("  publishNotReadyAddresses: true\n{HTTP}")), &published).await;
    answered_by(&appliance, &["one", "two"]).await;
    let unpublished = [
        of(&one, "{ready: false, serving: false, terminating: false}"),
        of(&two, "{ready: false, serving: false, terminating: true}"),
    ];
    folder.write("web.yaml", &web(&service(HTTP), &unpublished));
    appliance.answers(HOST, "/", 503, "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_without_conditions_is_ready_and_one_that_leaves_waits_until_no_other_is() {
    let pods = [Upstream::named("ready").await, Upstream::named("leaving").await, Upstream::named("unready").await];
    let slice = |pod: &Upstream, conditions: &str| {
        Slice::new(&[("http", pod.address.port())]).endpoint(pod.address.ip(), conditions)
    };
    let leaving = "\n  conditions: {ready: false, terminating: true, serving: true}";
    let unready = "\n  conditions: {ready: false}";
    let (folder, appliance) =
        open(&service(HTTP), &[slice(&pods[0], ""), slice(&pods[1], leaving), slice(&pods[2], unready)]).await;
    answered_by(&appliance, &["ready"]).await;
    folder.write("web.yaml", &web(&service(HTTP), &[slice(&pods[1], leaving), slice(&pods[2], unready)]));
    answered_by(&appliance, &["leaving"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hints_keep_requests_on_the_node_or_in_the_zone_if_they_are_followed() {
    let pods = [Upstream::named("here").await, Upstream::named("near").await, Upstream::named("far").await];
    let slices = |hints: [&str; 3]| -> Vec<Slice> {
        let hints = hints.map(|hints| if hints.is_empty() { String::new() } else { format!("\n  hints: {hints}") });
        let slice = |(pod, hints): (&Upstream, &String)| {
            Slice::new(&[("http", pod.address.port())]).endpoint(pod.address.ip(), hints)
        };
        pods.iter().zip(&hints).map(slice).collect()
    };
    let node = "apiVersion: v1\nkind: Node\nmetadata:\n  name: n1\n  labels: {topology.kubernetes.io/zone: a}\n";
    let zones = ["{forZones: [{name: a}]}", "{forZones: [{name: a}]}", "{forZones: [{name: b}]}"];
    let nodes = [
        "{forNodes: [{name: n1}], forZones: [{name: a}]}",
        "{forNodes: [{name: n2}], forZones: [{name: a}]}",
        "{forNodes: [{name: n3}], forZones: [{name: b}]}",
    ];
    let partly = ["{forZones: [{name: a}]}", "{forZones: [{name: a}]}", ""];
    for (distribution, hints, flags, expected) in [
        ("PreferClose", zones, &[][..], &["here", "near"][..]),
        ("PreferSameZone", zones, &[], &["here", "near"]),
        ("PreferSameNode", nodes, &[], &["here"]),
        ("PreferSameZone", partly, &[], &["far", "here", "near"]),
        ("PreferSameZone", zones, &["--enable-topology-aware-routing=false"], &["far", "here", "near"]),
    ] {
        let spec = format!("  trafficDistribution: {distribution}\n{HTTP}");
        let folder = folder(&web(&service(&spec), &slices(hints)));
        folder.write("node.yaml", node);
        let appliance = Builder::new(folder.path()).with(&["--node-name", "n1"]).with(flags).start().await;
        answered_by(&appliance, expected).await;
    }
}
