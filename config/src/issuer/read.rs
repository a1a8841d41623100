//! The `acme` section of our `ConfigMap`, read and checked.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::ConfigMap;

use super::{ExternalAccount, Issuer, Issuers, PRESETS, Solver, Way, read_dns};
use crate::diagnostic::Problem;
use crate::legacy::section::{Field, Finding, Findings, Section};
use crate::object::{FieldPath, ObjectRef};
use crate::settings::ISSUERS_KEY;
use crate::snapshot::{Origin, TextPlace};
use crate::yaml::{self, Mark, Node};

const TOP: [&str; 3] = ["clusterResourceNamespace", "defaultIssuer", "issuers"];
const ISSUER: [&str; 9] = [
    "caBundle",
    "email",
    "externalAccountBinding",
    "preferredChain",
    "preset",
    "profile",
    "server",
    "skipTLSVerify",
    "solvers",
];

/// The outcome of reading the section.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Read {
    /// What is right of it.
    pub issuers: Issuers,
    /// What is wrong, in the order of the text.
    pub problems: Vec<Problem>,
}

/// Where an issuer is written, and what it may ask for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source<'a> {
    /// The namespace of Secrets that are named without one.
    pub(super) namespace: &'a str,
    /// Whether it may name Secrets of other namespaces.
    pub(super) may_cross: bool,
    /// Whether it may have programs run.
    pub(super) may_run: bool,
}

/// Reads the data key `acme` of a `ConfigMap`; without that key there are no issuers.
///
/// A Secret that is named without a namespace is one beside the `ConfigMap`.
#[must_use]
pub fn parse_map(reference: &ObjectRef, map: &ConfigMap, origin: Option<&dyn Origin>) -> Read {
    let Some(text) = map.data.as_ref().and_then(|data| data.get(ISSUERS_KEY)) else { return Read::default() };
    let around = origin.and_then(|origin| origin.locate_text(&FieldPath::of(["data", ISSUERS_KEY])));
    let place = |mark: Mark| around.as_ref().map(|around: &TextPlace| around.place(mark.line, mark.column));
    let mut findings = Findings::default();
    let issuers = match yaml::documents(text).into_iter().next() {
        None => Issuers::default(),
        Some(Ok(document)) => {
            for fault in document.faults {
                findings.error(fault.mark, fault.path, fault.message);
            }
            let source = Source { namespace: &reference.name.namespace, may_cross: true, may_run: true };
            whole(&document.root, &source, &mut findings)
        }
        Some(Err(fault)) => {
            findings.error(fault.mark, fault.path, fault.message);
            Issuers::default()
        }
    };
    let problem = |Finding { mark, severity, field, message }| Problem {
        severity,
        object: Some(reference.clone()),
        field: in_section(&field),
        message,
        place: place(mark),
    };
    Read { issuers, problems: findings.in_order().into_iter().map(problem).collect() }
}

/// Reads one issuer from a text of its own, and what is wrong with it.
pub(super) fn parse_text(name: &str, text: &str, source: &Source<'_>) -> (Option<Issuer>, Vec<Finding>) {
    let mut findings = Findings::default();
    let issuer = match yaml::documents(text).into_iter().next() {
        None => None,
        Some(Ok(document)) => issuer(name, &Field::top(&document.root), source, &mut findings),
        Some(Err(fault)) => {
            findings.error(fault.mark, fault.path, fault.message);
            None
        }
    };
    (issuer, findings.in_order())
}

/// The path of a field of the section, as problems name it.
fn in_section(field: &FieldPath) -> FieldPath {
    field.steps().iter().fold(FieldPath::of([ISSUERS_KEY]), |path, step| path.with(step.clone()))
}

fn whole(root: &Node, source: &Source<'_>, findings: &mut Findings) -> Issuers {
    let Some(top) = Section::open(&Field::top(root), &TOP, findings) else { return Issuers::default() };
    let mut by_name = BTreeMap::new();
    for (name, field) in top.field("issuers").entries(findings) {
        if let Some(issuer) = issuer(name, &field, source, findings) {
            by_name.insert(name.to_owned(), issuer);
        }
    }
    let field = top.field("defaultIssuer");
    let named = field.text(findings).filter(|name| !name.is_empty());
    if let Some(name) = named.filter(|name| !by_name.contains_key(*name)) {
        findings.at(&field, format!("there is no usable issuer {name:?} in this section; name one of its issuers"));
    }
    // The only one there is needs no mention.
    let only = by_name.keys().next().filter(|_| by_name.len() == 1).map(String::as_str);
    let default = named.or(only).filter(|name| by_name.contains_key(*name)).map(str::to_owned);
    let cluster_resource_namespace = top.field("clusterResourceNamespace").text(findings).map(str::to_owned);
    let own = by_name.keys().cloned().collect();
    Issuers { by_name, default, cluster_resource_namespace, own }
}

fn issuer(name: &str, field: &Field<'_>, source: &Source<'_>, findings: &mut Findings) -> Option<Issuer> {
    let mut found = Findings::default();
    let section = Section::open(field, &ISSUER, &mut found);
    let issuer = section.and_then(|section| {
        let server = server(name, &section, &mut found)?;
        let text = |key: &str, found: &mut Findings| {
            section.field(key).text(found).filter(|text| !text.is_empty()).map(str::to_owned)
        };
        let verify = section.field("skipTLSVerify");
        if verify.boolean(false, &mut found) {
            found.at(&verify, "the server's certificate is always verified; give the CA that signed it as caBundle");
        }
        Some(Issuer {
            server,
            email: email(&section.field("email"), &mut found),
            external_account: external_account(&section.field("externalAccountBinding"), source, &mut found),
            profile: text("profile", &mut found),
            preferred_chain: text("preferredChain", &mut found),
            ca_bundle: ca_bundle(&section.field("caBundle"), &mut found),
            solvers: solvers(&section.field("solvers"), source, &mut found),
        })
    });
    let valid = !found.has_errors();
    findings.extend(found);
    issuer.filter(|_| valid)
}

fn server(name: &str, section: &Section<'_>, findings: &mut Findings) -> Option<String> {
    let (server, preset) = (section.field("server"), section.field("preset"));
    let known = |name: &str| PRESETS.iter().find(|(preset, _)| *preset == name).map(|(_, server)| (*server).to_owned());
    let names = PRESETS.map(|(name, _)| name).join(", ");
    match (server.text(findings), preset.text(findings)) {
        (Some(_), Some(_)) => {
            findings.at(&preset, "both server and preset are set; remove one");
            None
        }
        (Some(url), None) => {
            let is_url = url.strip_prefix("https://").is_some_and(|rest| {
                !rest.is_empty() && !rest.starts_with('/') && rest.bytes().all(|byte| byte.is_ascii_graphic())
            });
            if !is_url {
                findings.at(&server, format!("{url:?} is not the https:// URL of an ACME directory"));
            }
            is_url.then(|| url.to_owned())
        }
        (None, Some(preset_name)) => {
            let url = known(preset_name);
            if url.is_none() {
                findings.at(&preset, format!("there is no preset {preset_name:?}; known are {names}"));
            }
            url
        }
        (None, None) => {
            let url = known(name);
            if url.is_none() {
                findings
                    .at(&server, format!("server is missing; give the URL of the ACME directory, or preset ({names})"));
            }
            url
        }
    }
}

fn email(field: &Field<'_>, findings: &mut Findings) -> Option<String> {
    let text = field.text(findings).filter(|text| !text.is_empty())?;
    let address = text.strip_prefix("mailto:").unwrap_or(text);
    let form = address.split_once('@').is_some_and(|(user, host)| {
        !user.is_empty() && host.contains('.') && address.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',')
    });
    if !form {
        findings.at(field, format!("{text:?} is not a mail address; write it like ops@example.com"));
    }
    form.then(|| address.to_owned())
}

pub(super) fn ca_bundle(field: &Field<'_>, findings: &mut Findings) -> Option<String> {
    let text = field.text(findings).filter(|text| !text.is_empty())?;
    let is_pem = text.contains("-----BEGIN CERTIFICATE-----");
    if !is_pem {
        findings.at(field, "caBundle holds no certificate; paste it in PEM, from -----BEGIN CERTIFICATE-----");
    }
    is_pem.then(|| text.to_owned())
}

fn external_account(field: &Field<'_>, source: &Source<'_>, findings: &mut Findings) -> Option<ExternalAccount> {
    if field.is_absent() {
        return None;
    }
    // cert-manager's `keyAlgorithm` is deprecated there, and was always HS256.
    let section = Section::open(field, &["keyAlgorithm", "keyID", "keySecretRef"], findings)?;
    let key_id = section.field("keyID").required("the CA gives it together with the key", findings)?.to_owned();
    let reference = section.field("keySecretRef");
    if reference.is_absent() {
        findings.at(&reference, "keySecretRef is missing; name the Secret that holds the key");
        return None;
    }
    Some(ExternalAccount { key_id, secret: source.secret(&reference, findings)? })
}

fn solvers(field: &Field<'_>, source: &Source<'_>, findings: &mut Findings) -> Vec<Solver> {
    let solvers: Vec<Solver> = field.items(findings).iter().filter_map(|item| solver(item, source, findings)).collect();
    if field.is_absent() || solvers.is_empty() {
        return vec![Solver { dns_names: Vec::new(), dns_zones: Vec::new(), way: Way::Http01 }];
    }
    solvers
}

fn solver(field: &Field<'_>, source: &Source<'_>, findings: &mut Findings) -> Option<Solver> {
    let section = Section::open(field, &["dns01", "http01", "selector", "tlsalpn01"], findings)?;
    let selector = Section::open(&section.field("selector"), &["dnsNames", "dnsZones", "matchLabels"], findings)?;
    let labels = selector.field("matchLabels");
    if !labels.is_absent() {
        findings.at(&labels, "solvers cannot be selected by labels; use dnsNames or dnsZones");
    }
    let mut texts = |key: &str| -> Vec<String> {
        let items = selector.field(key).items(findings);
        items.iter().filter_map(|item| item.text(findings)).map(str::to_ascii_lowercase).collect()
    };
    let (dns_names, dns_zones) = (texts("dnsNames"), texts("dnsZones"));
    // `http01: {ingress: {...}}` is cert-manager's; which Ingress answers is not a question here.
    let way = match (section.has("http01"), section.has("tlsalpn01"), section.has("dns01")) {
        (true, false, false) => Way::Http01,
        (false, true, false) => Way::TlsAlpn01,
        (false, false, true) => Way::Dns01(Arc::new(read_dns::dns01(&section.field("dns01"), source, findings)?)),
        _ => {
            findings.at(field, "a solver has exactly one of http01, tlsalpn01 and dns01, such as {http01: {}}");
            return None;
        }
    };
    Some(Solver { dns_names, dns_zones, way })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::{Kind, ObjectName};

    fn read(text: &str) -> Read {
        let reference = ObjectRef::new(Kind::ConfigMap, ObjectName::new("metallb-system", "config"));
        let data = Some([(ISSUERS_KEY.to_owned(), text.to_owned())].into());
        parse_map(&reference, &ConfigMap { data, ..ConfigMap::default() }, None)
    }

    #[test]
    fn a_preset_needs_nothing_but_its_name_and_the_only_issuer_is_the_default() {
        let Read { issuers, problems } = read("issuers:\n  letsencrypt: {email: ops@example.com}\n");
        assert_eq!(problems, []);
        let issuer = &issuers.by_name["letsencrypt"];
        assert_eq!((&*issuer.server, issuer.email.as_deref()), (PRESETS[0].1, Some("ops@example.com")));
        assert_eq!(issuer.ways("any.example.com"), [&Way::Http01]);
        assert_eq!(issuers.default.as_deref(), Some("letsencrypt"));
    }

    #[test]
    fn every_field_is_read() {
        let text = "
defaultIssuer: corp
issuers:
  letsencrypt-staging: {}
  corp:
    server: https://ca.corp.example/dir
    profile: shortlived
    preferredChain: Root X
    caBundle: |
      -----BEGIN CERTIFICATE-----
    externalAccountBinding: {keyID: kid, keySecretRef: {name: eab, key: hmac}}
    solvers:
    - http01: {ingress: {ingressClassName: nginx}}
    - tlsalpn01: {}
      selector: {dnsZones: [A.example]}
";
        let Read { issuers, problems } = read(text);
        assert_eq!(problems, []);
        let corp = &issuers.by_name["corp"];
        assert_eq!(issuers.default.as_deref(), Some("corp"));
        assert_eq!((corp.profile.as_deref(), corp.preferred_chain.as_deref()), (Some("shortlived"), Some("Root X")));
        let account = corp.external_account.as_ref().unwrap();
        let secret = &account.secret;
        assert_eq!((secret.secret.to_string(), &*secret.key), ("metallb-system/eab".to_owned(), "hmac"));
        assert_eq!(corp.ways("x.a.example"), [&Way::TlsAlpn01]);
        assert_eq!(issuers.by_name["letsencrypt-staging"].server, PRESETS[1].1);
    }

    #[test]
    fn every_provider_of_records_is_read_and_names_its_secrets() {
        let text = "
issuers:
  letsencrypt:
    solvers:
    - selector: {dnsZones: [a.example]}
      dns01:
        cnameStrategy: Follow
        rfc2136: {nameserver: '192.0.2.53', tsigKeyName: k, tsigAlgorithm: HMACSHA512, tsigSecretSecretRef: {name: tsig}}
    - {selector: {dnsZones: [b.example]}, dns01: {cloudflare: {apiTokenSecretRef: {name: cf, key: token}}}}
    - {selector: {dnsZones: [c.example]}, dns01: {cloudflare: {email: me@c.example, apiKeySecretRef: {name: cfk, key: k}}}}
    - selector: {dnsZones: [d.example]}
      dns01: {route53: {region: eu-central-1, accessKeyID: AK, secretAccessKeySecretRef: {name: aws, key: s}}}
    - {selector: {dnsZones: [e.example]}, dns01: {http: {url: 'http://hook:8080/x/', tokenSecretRef: {name: h}}}}
    - {selector: {dnsZones: [f.example]}, dns01: {exec: {command: [/bin/hook, -v]}}}
";
        let Read { issuers, problems } = read(text);
        assert_eq!(problems, []);
        let issuer = &issuers.by_name["letsencrypt"];
        let names: Vec<_> = issuer.secrets().iter().map(|it| it.secret.to_string()).collect();
        assert_eq!(names, ["tsig", "cf", "cfk", "aws", "h"].map(|name| format!("metallb-system/{name}")));
        for zone in ["a", "b", "c", "d", "e", "f"] {
            assert!(issuer.dns(&format!("*.x.{zone}.example")).is_some(), "{zone}");
        }
    }

    #[test]
    fn a_wrong_issuer_is_left_out_and_says_why() {
        for (text, field, words) in [
            ("issuers: {a: {}}", "acme.issuers.a.server", "server is missing"),
            ("issuers: {a: {server: 'http://ca.example/'}}", "acme.issuers.a.server", "not the https:// URL"),
            ("issuers: {a: {preset: lets}}", "acme.issuers.a.preset", "known are letsencrypt"),
            ("issuers: {letsencrypt: {email: me}}", "acme.issuers.letsencrypt.email", "not a mail address"),
            ("issuers: {letsencrypt: {emial: me}}", "acme.issuers.letsencrypt.emial", "did you mean \"email\""),
            ("issuers: {letsencrypt: {skipTLSVerify: true}}", "acme.issuers.letsencrypt.skipTLSVerify", "caBundle"),
            ("issuers: {letsencrypt: {caBundle: x}}", "acme.issuers.letsencrypt.caBundle", "PEM"),
            ("issuers: {letsencrypt: {solvers: [{}]}}", "acme.issuers.letsencrypt.solvers[0]", "exactly one"),
            ("issuers: {letsencrypt: {solvers: [{dns01: {}}]}}", "acme.issuers.letsencrypt.solvers[0].dns01", "one of"),
            (
                "issuers: {letsencrypt: {solvers: [{dns01: {azureDNS: {}}}]}}",
                "acme.issuers.letsencrypt.solvers[0].dns01.azureDNS",
                "not supported; use one of",
            ),
            (
                "issuers: {letsencrypt: {solvers: [{dns01: {rfc2136: {nameserver: 'a b'}}}]}}",
                "acme.issuers.letsencrypt.solvers[0].dns01.rfc2136.nameserver",
                "not a name server",
            ),
            (
                "issuers: {letsencrypt: {solvers: [{dns01: {cloudflare: {}}}]}}",
                "acme.issuers.letsencrypt.solvers[0].dns01.cloudflare",
                "exactly one of apiTokenSecretRef",
            ),
            (
                "issuers: {letsencrypt: {solvers: [{dns01: {route53: {accessKeyID: A}}}]}}",
                "acme.issuers.letsencrypt.solvers[0].dns01.route53.secretAccessKeySecretRef",
                "reference to a Secret is missing",
            ),
            (
                "issuers: {letsencrypt: {solvers: [{dns01: {exec: {command: [hook]}}}]}}",
                "acme.issuers.letsencrypt.solvers[0].dns01.exec.command",
                "path of a program",
            ),
            (
                "issuers: {letsencrypt: {externalAccountBinding: {keyID: a}}}",
                "acme.issuers.letsencrypt.externalAccountBinding.keySecretRef",
                "is missing",
            ),
        ] {
            let Read { issuers, problems } = read(text);
            assert_eq!(problems[0].field.to_string(), field, "{text}: {problems:?}");
            assert!(problems[0].message.contains(words), "{text}: {}", problems[0].message);
            assert!(issuers.by_name.is_empty(), "{text}");
        }
        assert!(read("defaultIssuer: b\nissuers: {letsencrypt: {}}").issuers.default.is_none());
        assert!(read("[").problems[0].message.len() > 3);
    }
}
