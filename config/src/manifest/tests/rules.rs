//! The rules of the API server, each broken once.

use super::{SERVICE, problems};

/// Asserts that replacing `from` by `to` in a valid manifest gives exactly this problem: field and part of message.
fn breaks(valid: &str, cases: &[(&str, &str, &str, &str)]) {
    assert_eq!(problems(valid), Vec::<String>::new(), "{valid}");
    for (from, to, field, message) in cases {
        assert!(valid.contains(from), "{from:?} is not in the manifest");
        let found = problems(&valid.replacen(from, to, 1));
        let [only] = found.as_slice() else { panic!("{to:?}: one problem expected, found {found:#?}") };
        assert!(only.contains(&format!(" {field}: ")), "{to:?}: {only} is not about {field}");
        assert!(only.contains(message), "{to:?}: {only} does not say {message}");
    }
}

const INGRESS: &str = "\
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: web
  annotations: {kubernetes.io/ingress.class: ferrogate}
spec:
  ingressClassName: ferrogate
  tls:
    - hosts: ['*.example.com']
      secretName: web-tls
  rules:
    - host: a.example.com
      http:
        paths:
          - path: /a.b/%7B$
            pathType: Prefix
            backend: {service: {name: web, port: {number: 80}}}
          - pathType: ImplementationSpecific
            backend: {resource: {kind: Bucket, name: x}}
  defaultBackend: {service: {name: web, port: {name: http}}}
";

#[test]
fn metadata_is_checked() {
    breaks(
        SERVICE,
        &[
            ("name: web", "name: Web", "metadata.name", "no capital letters"),
            ("name: web", "name: web.x", "metadata.name", "\"web.x\" is not a name"),
            ("name: web", "name: web\n  namespace: a_b", "metadata.namespace", "\"a_b\" is not a name"),
            ("name: web", "name: web\n  labels: {a: b c}", "metadata.labels.a", "is not a label value"),
            ("name: web", "name: web\n  labels: {a b: c}", "metadata.labels[a b]", "is not a key"),
            ("name: web", "name: web\n  annotations: {/x: c}", "metadata.annotations[/x]", "the prefix of key \"/x\""),
            ("name: web", "name: web\n  creationTimestamp: now", "metadata.creationTimestamp", "expected "),
            ("name: web", "nam: web", "metadata.name", "name is missing; is \"nam\" a misspelling of it?"),
            ("name: web", "name: 7", "metadata.name", "expected text, found the number 7; quote it"),
            ("name: web", "name:", "metadata.name", "expected text, found nothing"),
            ("kind: Service", "Kind: Service", "kind", "kind is missing; is \"Kind\" a misspelling of it?"),
            ("apiVersion: v1\n", "", "apiVersion", "apiVersion is missing"),
            (
                "apiVersion: v1",
                "apiVersion: core/v1",
                "apiVersion",
                "Service is read as v1, not as \"core/v1\"; write apiVersion: v1",
            ),
        ],
    );
}

#[test]
fn services_are_checked() {
    let ports = "    - name: http\n      port: 80\n      targetPort: 8080\n";
    breaks(
        SERVICE,
        &[
            (
                "LoadBalancer",
                "Loadbalancer",
                "spec.type",
                "is not one of ClusterIP, NodePort, LoadBalancer, ExternalName",
            ),
            (
                "  ports:\n    - name: http\n      port: 80\n      targetPort: 8080\n",
                "",
                "spec.ports",
                "at least one port",
            ),
            ("name: http", "name: Http", "spec.ports[0].name", "is not a name"),
            ("port: 80\n", "port: 0\n", "spec.ports[0].port", "from 1 to 65535, not 0"),
            ("port: 80\n", "port: 65536\n", "spec.ports[0].port", "not 65536"),
            ("port: 80\n", "port: eighty\n", "spec.ports[0].port", "expected a number, found the text \"eighty\""),
            ("port: 80\n", "port: 80.5\n", "spec.ports[0].port", "expected a whole number, found the number 80.5"),
            ("port: 80\n", "port: 99999999999\n", "spec.ports[0].port", "expected a number from -2147483648"),
            ("targetPort: 8080", "targetPort: -1", "spec.ports[0].targetPort", "not -1"),
            ("targetPort: 8080", "targetPort: '8080'", "spec.ports[0].targetPort", "is not a port name"),
            ("targetPort: 8080", "nodePort: 70000", "spec.ports[0].nodePort", "not 70000"),
            ("targetPort: 8080", "protocol: http", "spec.ports[0].protocol", "is not one of TCP, UDP, SCTP"),
            ("targetPort: 8080", "appProtocol: 'a b'", "spec.ports[0].appProtocol", "is not a key"),
            (
                ports,
                &format!("{ports}    - {{port: 81}}\n"),
                "spec.ports[1].name",
                "with several ports each needs a name",
            ),
            (ports, &format!("{ports}    - {{port: 81, name: http}}\n"), "spec.ports[1].name", "port 0 has the name"),
            (ports, &format!("{ports}    - {{port: 80, name: x}}\n"), "spec.ports[1].port", "port 0 is TCP 80 too"),
            ("spec:", "spec:\n  clusterIP: x", "spec.clusterIP", "\"x\" is not an IP address"),
            ("spec:", "spec:\n  clusterIP: None", "spec.clusterIP", "cannot be headless"),
            ("spec:", "spec:\n  clusterIPs: [10.0.0.1, x]", "spec.clusterIPs[1]", "is not an IP address"),
            ("spec:", "spec:\n  externalIPs: [x]", "spec.externalIPs[0]", "is not an IP address"),
            (
                "spec:",
                "spec:\n  loadBalancerSourceRanges: [10.0.0.1]",
                "spec.loadBalancerSourceRanges[0]",
                "is not a prefix",
            ),
            ("spec:", "spec:\n  loadBalancerClass: 'a b'", "spec.loadBalancerClass", "is not a key"),
            ("LoadBalancer", "ClusterIP\n  loadBalancerClass: a/b", "spec.loadBalancerClass", "only a Service of type"),
            ("LoadBalancer", "ClusterIP\n  externalTrafficPolicy: Local", "spec.externalTrafficPolicy", "only for"),
            ("LoadBalancer", "ExternalName", "spec.externalName", "a name is missing"),
            ("spec:", "spec:\n  externalTrafficPolicy: Locl", "spec.externalTrafficPolicy", "is not one of"),
            ("spec:", "spec:\n  internalTrafficPolicy: x", "spec.internalTrafficPolicy", "is not one of"),
            ("spec:", "spec:\n  sessionAffinity: x", "spec.sessionAffinity", "is not one of None, ClientIP"),
            ("spec:", "spec:\n  ipFamilyPolicy: x", "spec.ipFamilyPolicy", "is not one of"),
            ("spec:", "spec:\n  ipFamilies: [IPv5]", "spec.ipFamilies[0]", "is not one of IPv4, IPv6"),
            ("spec:", "spec:\n  ipFamilies: [IPv4, IPv4]", "spec.ipFamilies[1]", "a second time"),
            ("spec:", "spec:\n  selector: {a: 'b c'}", "spec.selector.a", "is not a label value"),
            (
                "spec:",
                "spec:\n  allocateLoadBalancerNodePorts: 'no'",
                "spec.allocateLoadBalancerNodePorts",
                "expected true",
            ),
            ("port: 80\n", "port: 80\n      port: 81\n", "spec.ports[0].port", "stands here a second time"),
        ],
    );
}

#[test]
fn ingresses_are_checked() {
    let service = "{service: {name: web, port: {number: 80}}}";
    let at = "spec.rules[0].http.paths[0]";
    let path = |name: &str| format!("{at}.{name}");
    breaks(
        INGRESS,
        &[
            ("path: /a.b/%7B$", "path: a", &path("path"), "must begin with \"/\""),
            ("path: /a.b/%7B$", "path: ''", &path("path"), "must begin with \"/\""),
            ("path: /a.b/%7B$", "path: /a//b", &path("path"), "must not contain \"//\""),
            ("path: /a.b/%7B$", "path: /a/./b", &path("path"), "must not contain \"/./\""),
            ("path: /a.b/%7B$", "path: /a/../b", &path("path"), "must not contain \"/../\""),
            ("path: /a.b/%7B$", "path: /a%2Fb", &path("path"), "must not contain \"%2F\""),
            ("path: /a.b/%7B$", "path: /a/..", &path("path"), "must not end in \"/..\""),
            ("path: /a.b/%7B$", "path: /a/.", &path("path"), "must not end in \"/.\""),
            ("pathType: Prefix", "pathType: prefix", &path("pathType"), "is not one of Exact, Prefix"),
            ("            pathType: Prefix\n", "", &path("pathType"), "pathType is missing; write Prefix"),
            (
                "- pathType: Imp",
                "- path: a\n            pathType: Imp",
                "spec.rules[0].http.paths[1].path",
                "must begin",
            ),
            ("kind: Bucket, ", "", "spec.rules[0].http.paths[1].backend.resource.kind", "is missing"),
            ("host: a.example.com", "host: 10.0.0.1", "spec.rules[0].host", "not the address 10.0.0.1"),
            ("host: a.example.com", "host: '*'", "spec.rules[0].host", "not the whole first label"),
            ("host: a.example.com", "host: a.*.com", "spec.rules[0].host", "not the whole first label"),
            ("host: a.example.com", "host: A.example.com", "spec.rules[0].host", "no capital letters"),
            ("host: a.example.com", "host: a.example.com:80", "spec.rules[0].host", "is not a name"),
            ("'*.example.com'", "'*.*.com'", "spec.tls[0].hosts[0]", "is not a name"),
            ("web-tls", "web_tls", "spec.tls[0].secretName", "is not a name"),
            (service, "{}", &path("backend"), "a backend needs a service"),
            (service, "{service: {name: web}}", &path("backend.service.port"), "the port of the Service is missing"),
            (service, "{service: {port: {number: 80}}}", &path("backend.service.name"), "is missing"),
            (service, "{service: {name: a.b, port: {number: 80}}}", &path("backend.service.name"), "is not a name"),
            (service, "{service: {name: web, port: {number: 0}}}", &path("backend.service.port.number"), "not 0"),
            (
                service,
                "{service: {name: web, port: {name: 'a b'}}}",
                &path("backend.service.port.name"),
                "is not a port",
            ),
            (service, "{service: {name: web, port: {name: a, number: 1}}}", &path("backend.service.port"), "not both"),
            (
                service,
                "{service: {name: a, port: {number: 1}}, resource: {kind: a, name: b}}",
                &path("backend"),
                "not both",
            ),
            ("name: http", "name: 80x!", "spec.defaultBackend.service.port.name", "is not a port name"),
            (
                "ingressClassName: ferrogate",
                "ingressClassName: other",
                "metadata.annotations[kubernetes.io/ingress.class]",
                "differs from ingressClassName",
            ),
            (
                "networking.k8s.io/v1",
                "extensions/v1beta1",
                "apiVersion",
                "write apiVersion: networking.k8s.io/v1, give each path a pathType",
            ),
            (
                "networking.k8s.io/v1",
                "networking.k8s.io/v1beta1",
                "apiVersion",
                "Ingress is read as networking.k8s.io/v1",
            ),
        ],
    );
    let bare = "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: web}\nspec: {defaultBackend: {service: {name: web, port: {number: 80}}}}\n";
    breaks(
        bare,
        &[
            (
                "defaultBackend: {service: {name: web, port: {number: 80}}}",
                "",
                "spec",
                "an Ingress needs rules or a defaultBackend",
            ),
            (
                "defaultBackend: {service: {name: web, port: {number: 80}}}",
                "rules: [{http: {paths: []}}]",
                "spec.rules[0].http.paths",
                "at least one path is needed",
            ),
        ],
    );
}

#[test]
fn ingress_classes_are_checked() {
    let valid = "\
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: ferrogate}
spec:
  controller: ferrogate.io/ingress-controller
  parameters: {kind: ConfigMap, name: c, scope: Namespace, namespace: x}
";
    breaks(
        valid,
        &[
            ("ferrogate.io/ingress-controller", "ferrogate", "spec.controller", "is not a domain and a path"),
            ("  controller: ferrogate.io/ingress-controller\n", "", "spec.controller", "the controller is missing"),
            ("{name: ferrogate}", "{name: ferrogate, namespace: x}", "metadata.namespace", "lives in no namespace"),
            ("kind: ConfigMap, ", "", "spec.parameters.kind", "is missing"),
            ("Namespace, namespace: x", "Namespace", "spec.parameters.namespace", "needs a namespace"),
            ("scope: Namespace", "scope: Cluster", "spec.parameters.namespace", "has no namespace"),
            ("scope: Namespace", "scope: All", "spec.parameters.scope", "is not one of Cluster, Namespace"),
        ],
    );
}

#[test]
fn endpoint_slices_are_checked() {
    let valid = "\
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
endpoints: [{addresses: [127.0.0.1], conditions: {ready: true}}]
ports: [{name: http, port: 8080}, {port: 9090}]
";
    breaks(
        valid,
        &[
            ("addressType: IPv4\n", "", "addressType", "addressType is missing; write IPv4 or IPv6"),
            ("addressType: IPv4", "addressType: ipv4", "addressType", "is not one of IPv4, IPv6, FQDN"),
            ("addressType: IPv4", "addressType: IPv6", "endpoints[0].addresses[0]", "is not an IPv6 address"),
            ("127.0.0.1", "'::1'", "endpoints[0].addresses[0]", "is not an IPv4 address"),
            ("[127.0.0.1]", "[]", "endpoints[0].addresses", "an endpoint has 1 to 100 addresses"),
            ("ready: true", "ready: 1", "endpoints[0].conditions.ready", "expected true or false, found the number 1"),
            ("{port: 9090}", "{name: http, port: 9090}", "ports[1].name", "names must differ"),
            ("name: http", "name: HTTP", "ports[0].name", "is not a name"),
            ("port: 9090", "port: 0", "ports[1].port", "from 1 to 65535"),
            ("port: 9090", "protocol: QUIC", "ports[1].protocol", "is not one of TCP"),
            ("discovery.k8s.io/v1", "discovery.k8s.io/v1beta1", "apiVersion", "`topology` became nodeName and zone"),
        ],
    );
}

#[test]
fn secrets_and_config_maps_are_checked() {
    let secret = "\
apiVersion: v1
kind: Secret
metadata: {name: s}
type: kubernetes.io/tls
data: {tls.crt: QQ==, other: ''}
stringData: {tls.key: plain}
";
    breaks(
        secret,
        &[
            ("tls.crt: QQ==, ", "", "data[tls.crt]", "a Secret of type kubernetes.io/tls needs the key tls.crt"),
            ("stringData: {tls.key: plain}\n", "", "data[tls.key]", "needs the key tls.key"),
            ("QQ==", "Q!==", "data[tls.crt]", "expected a base64-encoded string: "),
            ("QQ==", "[1]", "data[tls.crt]", "expected text, found a list"),
            ("tls.key: plain", "tls.key: plain, a/b: c", "stringData[a/b]", "is not a data key"),
            ("other: ''", "'': ''", "data[]", "is not a data key"),
        ],
    );
    let map = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {a: b}\nbinaryData: {c: QQ==}\n";
    breaks(
        map,
        &[
            ("{c: QQ==}", "{a: QQ==}", "binaryData.a", "also stands under data"),
            ("{a: b}", "{a: on}", "data.a", "expected text, found the boolean on; quote it"),
            ("{a: b}", "{..: b}", "data[..]", "is not a data key"),
            ("QQ==", "Q", "binaryData.c", "expected a base64-encoded string"),
        ],
    );
}
