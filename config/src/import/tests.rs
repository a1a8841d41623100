use super::*;

fn texts(text: &str) -> Vec<(Arc<str>, Arc<str>)> {
    vec![("in.yaml".into(), text.into())]
}

fn fates(import: &Import) -> Vec<(&str, Fate)> {
    import.objects.iter().map(|verdict| (verdict.object.as_str(), verdict.fate)).collect()
}

#[test]
fn pools_of_metallb_become_entries_that_our_reader_takes() {
    let import = metallb(&texts(
        "apiVersion: metallb.io/v1beta1\nkind: IPAddressPool\nmetadata: {name: edge, namespace: metallb-system}\n\
         spec:\n  addresses: [192.0.2.0/28, 192.0.2.20-192.0.2.30]\n  autoAssign: false\n  serviceAllocation:\n\
         \x20   priority: 5\n    namespaceSelectors: [{matchLabels: {myTeam: aB}}]\n---\n\
         apiVersion: metallb.io/v1beta1\nkind: IPAddressPool\nmetadata: {name: routed}\nspec: {addresses: [198.51.100.0/24]}\n---\n\
         apiVersion: metallb.io/v1beta1\nkind: IPAddressPool\nmetadata: {name: quiet}\nspec: {addresses: [203.0.113.0/24]}\n---\n\
         apiVersion: metallb.io/v1beta1\nkind: IPAddressPool\nmetadata: {name: bad}\nspec: {addresses: [192.0.2.9-192.0.2.1]}\n---\n\
         apiVersion: metallb.io/v1beta1\nkind: L2Advertisement\nmetadata: {name: l2}\nspec: {ipAddressPools: [edge, bad], interfaces: [eth0]}\n---\n\
         apiVersion: metallb.io/v1beta1\nkind: BGPAdvertisement\nmetadata: {name: bgp}\nspec: {ipAddressPools: [routed]}\n---\n\
         apiVersion: metallb.io/v1beta2\nkind: BGPPeer\nmetadata: {name: tor}\nspec: {myASN: 1}\n",
    ));
    assert_eq!(
        fates(&import),
        [
            ("IPAddressPool metallb-system/edge", Fate::Works),
            ("IPAddressPool routed", Fate::Unsupported),
            ("IPAddressPool quiet", Fate::Differs),
            ("IPAddressPool bad", Fate::Unsupported),
            ("L2Advertisement l2", Fate::Differs),
            ("BGPAdvertisement bgp", Fate::Unsupported),
            ("BGPPeer tor", Fate::Unsupported),
        ]
    );
    let apply = import.apply.unwrap();
    assert!(apply.starts_with("apiVersion: v1\nkind: ConfigMap\n"), "{apply}");
    assert!(apply.contains("    - name: \"edge\"\n      protocol: \"layer2\"\n"), "{apply}");
    assert!(
        apply
            .contains(r#"service-allocation: {"namespace-selectors":[{"match-labels":{"myTeam":"aB"}}],"priority":5}"#),
        "{apply}"
    );
    assert!(import.objects[3].notes[0].contains("runs backwards"), "{:?}", import.objects[3]);
}

#[test]
fn the_old_configuration_works_unchanged_but_for_bgp() {
    let map =
        |text: &str| format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: config}}\ndata:\n  config: |\n{text}");
    for (text, fate) in [
        ("    address-pools:\n    - {name: a, protocol: layer2, addresses: [192.0.2.0/28]}\n", Fate::Works),
        ("    address-pools:\n    - {name: a, protocol: bgp, addresses: [192.0.2.0/28]}\n", Fate::Unsupported),
        ("    address-pools:\n    - {name: a, protocol: layer2, addresses: [nonsense]}\n", Fate::Unsupported),
    ] {
        let import = metallb(&texts(&map(text)));
        assert_eq!(fates(&import), [("ConfigMap config", fate)], "{text}");
        assert!(import.apply.is_some());
    }
    assert_eq!(metallb(&texts(&map("    color: red\n"))), Import::default());
}

#[test]
fn issuers_become_a_section_that_our_reader_takes() {
    let import = cert_manager(&texts(
        "apiVersion: v1\nkind: List\nitems:\n\
         - apiVersion: cert-manager.io/v1\n  kind: ClusterIssuer\n  metadata: {name: letsencrypt}\n  spec:\n    acme:\n\
         \x20     server: https://acme-v02.api.letsencrypt.org/directory\n      email: ops@example.com\n\
         \x20     privateKeySecretRef: {name: key}\n      solvers:\n      - http01: {ingress: {class: nginx}}\n\
         \x20       selector: {dnsZones: [example.com]}\n      - dns01: {cloudflare: {}}\n\
         - apiVersion: cert-manager.io/v1\n  kind: Issuer\n  metadata: {name: own, namespace: shop}\n  spec: {selfSigned: {}}\n\
         - apiVersion: cert-manager.io/v1\n  kind: ClusterIssuer\n  metadata: {name: odd}\n  spec: {acme: {server: 'ftp://x'}}\n\
         - apiVersion: cert-manager.io/v1\n  kind: Certificate\n  metadata: {name: web, namespace: shop}\n\
         \x20 spec: {secretName: web-tls, dnsNames: [a.example], issuerRef: {name: letsencrypt}}\n\
         - apiVersion: cert-manager.io/v1\n  kind: Certificate\n  metadata: {name: i, ownerReferences: [{kind: Ingress, name: i}]}\n",
    ));
    assert_eq!(
        fates(&import),
        [
            ("ClusterIssuer letsencrypt", Fate::Unsupported),
            ("Issuer shop/own", Fate::Unsupported),
            ("ClusterIssuer odd", Fate::Unsupported),
            ("Certificate shop/web", Fate::Unsupported),
            ("Certificate i", Fate::Differs),
        ]
    );
    let apply = import.apply.unwrap();
    let zone = r#""solvers":[{"http01":{},"selector":{"dnsZones":["example.com"]}}]"#;
    assert!(apply.contains("  acme: |\n    issuers:\n") && apply.contains(zone), "{apply}");
    assert!(import.objects[0].notes.iter().any(|note| note.starts_with("solvers[1]")), "{:?}", import.objects[0]);
    let note = &import.objects[3].notes[0];
    assert!(note.contains("web-tls") && note.contains("cluster-issuer: letsencrypt"), "{note}");
}
