//! The `dns01` section of a solver, read and checked.

use super::dns::{
    AccessKey, Cloudflare, CloudflareLogin, CnameStrategy, Dns01, ExecHook, HttpHook, Provider, Rfc2136, Route53,
    SecretKey, TsigAlgorithm, TsigKey,
};
use super::read::{Source, ca_bundle};
use crate::legacy::section::{Field, Findings, Section};

const PROVIDERS: [&str; 5] = ["cloudflare", "exec", "http", "rfc2136", "route53"];

/// Providers of cert-manager that we have not.
const FOREIGN: [&str; 6] = ["acmeDNS", "akamai", "azureDNS", "cloudDNS", "digitalocean", "webhook"];

/// Reads a `dns01` section.
pub(super) fn dns01(field: &Field<'_>, source: &Source<'_>, findings: &mut Findings) -> Option<Dns01> {
    let known: Vec<&str> = PROVIDERS.into_iter().chain(FOREIGN).chain(["cnameStrategy"]).collect();
    let section = Section::open(field, &known, findings)?;
    if let Some(name) = FOREIGN.into_iter().find(|name| section.has(name)) {
        let message = format!("{name} is not supported; use one of {}", PROVIDERS.join(", "));
        findings.at(&section.field(name), message);
        return None;
    }
    let cname = section.field("cnameStrategy");
    let cname = match cname.text_or_empty(findings)? {
        "" | "None" => CnameStrategy::None,
        "Follow" => CnameStrategy::Follow,
        other => {
            findings.at(&cname, format!("{other:?} is not None or Follow"));
            return None;
        }
    };
    let given: Vec<&str> = PROVIDERS.into_iter().filter(|name| section.has(name)).collect();
    let [name] = given.as_slice() else {
        findings.at(field, format!("dns01 has exactly one of {}", PROVIDERS.join(", ")));
        return None;
    };
    let inner = section.field(name);
    let provider = match *name {
        "rfc2136" => Provider::Rfc2136(rfc2136(&inner, source, findings)?),
        "cloudflare" => Provider::Cloudflare(cloudflare(&inner, source, findings)?),
        "route53" => Provider::Route53(route53(&inner, source, findings)?),
        "http" => Provider::Http(http(&inner, source, findings)?),
        _ => Provider::Exec(exec(&inner, source, findings)?),
    };
    Some(Dns01 { cname, provider })
}

fn rfc2136(field: &Field<'_>, source: &Source<'_>, findings: &mut Findings) -> Option<Rfc2136> {
    let known = ["nameserver", "protocol", "tsigAlgorithm", "tsigKeyName", "tsigSecretSecretRef"];
    let section = Section::open(field, &known, findings)?;
    let server = section.field("nameserver");
    let text = server.required("give the name server as ADDRESS:PORT", findings)?;
    let Some((host, port)) = host_and_port(text) else {
        findings.at(&server, format!("{text:?} is not a name server; write it like 192.0.2.53:53 or [2001:db8::53]"));
        return None;
    };
    let (name, secret) = (section.field("tsigKeyName"), section.field("tsigSecretSecretRef"));
    let key = match (name.text_or_empty(findings)?, secret.is_absent()) {
        ("", true) => None,
        ("", false) => {
            findings.at(&name, "tsigKeyName is missing; give the name that the server knows the key by");
            return None;
        }
        (name, _) => {
            let algorithm = algorithm(&section.field("tsigAlgorithm"), findings)?;
            Some(TsigKey { name: name.to_owned(), algorithm, secret: source.secret(&secret, findings)? })
        }
    };
    Some(Rfc2136 { host, port, key })
}

fn algorithm(field: &Field<'_>, findings: &mut Findings) -> Option<TsigAlgorithm> {
    match field.text_or_empty(findings)? {
        "" | "HMACSHA256" => Some(TsigAlgorithm::Sha256),
        "HMACSHA384" => Some(TsigAlgorithm::Sha384),
        "HMACSHA512" => Some(TsigAlgorithm::Sha512),
        other => {
            findings.at(field, format!("{other:?} is not HMACSHA256, HMACSHA384 or HMACSHA512; older ones are broken"));
            None
        }
    }
}

/// Reads `192.0.2.53`, `[2001:db8::53]:53` or `ns.example.com:5353`; port 53 if there is none.
fn host_and_port(text: &str) -> Option<(String, u16)> {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        host.parse::<std::net::Ipv6Addr>().ok()?;
        (host, rest.strip_prefix(':').or_else(|| rest.is_empty().then_some("53"))?)
    } else {
        text.split_once(':').unwrap_or((text, "53"))
    };
    let is_host = !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_:".contains(&byte));
    Some((host.to_owned(), port.parse().ok()?)).filter(|_| is_host)
}

fn cloudflare(field: &Field<'_>, source: &Source<'_>, findings: &mut Findings) -> Option<Cloudflare> {
    let section = Section::open(field, &["apiKeySecretRef", "apiTokenSecretRef", "email", "endpoint"], findings)?;
    let (token, key) = (section.field("apiTokenSecretRef"), section.field("apiKeySecretRef"));
    let login = match (token.is_absent(), key.is_absent()) {
        (false, true) => CloudflareLogin::Token(source.secret(&token, findings)?),
        (true, false) => {
            let email =
                section.field("email").required("a global API key is used with the account's mail", findings)?;
            CloudflareLogin::Key { email: email.to_owned(), key: source.secret(&key, findings)? }
        }
        (true, true) | (false, false) => {
            findings.at(field, "cloudflare has exactly one of apiTokenSecretRef and apiKeySecretRef");
            return None;
        }
    };
    Some(Cloudflare { login, endpoint: url(&section.field("endpoint"), findings)? })
}

fn route53(field: &Field<'_>, source: &Source<'_>, findings: &mut Findings) -> Option<Route53> {
    let known = [
        "accessKeyID",
        "accessKeyIDSecretRef",
        "auth",
        "endpoint",
        "hostedZoneID",
        "region",
        "role",
        "secretAccessKeySecretRef",
    ];
    let section = Section::open(field, &known, findings)?;
    for name in ["auth", "role"] {
        if section.has(name) {
            findings.at(&section.field(name), "roles cannot be assumed; give an access key");
            return None;
        }
    }
    let text = |name: &str, findings: &mut Findings| {
        section.field(name).text_or_empty(findings).map(|text| (!text.is_empty()).then(|| text.to_owned()))
    };
    let (plain, reference) = (text("accessKeyID", findings)?, section.field("accessKeyIDSecretRef"));
    let access_key = match (plain, reference.is_absent()) {
        (Some(text), true) => AccessKey::Text(text),
        (None, false) => AccessKey::Secret(source.secret(&reference, findings)?),
        (None, true) | (Some(_), false) => {
            findings.at(field, "route53 has exactly one of accessKeyID and accessKeyIDSecretRef");
            return None;
        }
    };
    Some(Route53 {
        region: text("region", findings)?.unwrap_or_else(|| "us-east-1".to_owned()),
        access_key,
        secret_key: source.secret(&section.field("secretAccessKeySecretRef"), findings)?,
        zone: text("hostedZoneID", findings)?,
        endpoint: url(&section.field("endpoint"), findings)?,
    })
}

fn http(field: &Field<'_>, source: &Source<'_>, findings: &mut Findings) -> Option<HttpHook> {
    let section = Section::open(field, &["caBundle", "tokenSecretRef", "url"], findings)?;
    let address = section.field("url");
    address.required("give the URL that records are posted to", findings)?;
    let token = section.field("tokenSecretRef");
    Some(HttpHook {
        url: url(&address, findings)??,
        token: if token.is_absent() { None } else { Some(source.secret(&token, findings)?) },
        ca_bundle: ca_bundle(&section.field("caBundle"), findings),
    })
}

fn exec(field: &Field<'_>, source: &Source<'_>, findings: &mut Findings) -> Option<ExecHook> {
    if !source.may_run {
        findings.at(field, "programs can be run only by issuers of our own ConfigMap");
        return None;
    }
    let section = Section::open(field, &["command"], findings)?;
    let command = section.field("command");
    let words: Vec<String> =
        command.items(findings).iter().filter_map(|item| item.text(findings)).map(str::to_owned).collect();
    if words.first().is_none_or(|program| !program.starts_with('/')) {
        findings.at(&command, "command is a list that begins with the path of a program, such as [/usr/bin/hook]");
        return None;
    }
    Some(ExecHook { command: words })
}

/// An optional URL, without a final slash; `None` if it is wrong.
#[expect(clippy::option_option, reason = "absent is right, wrong is not")]
fn url(field: &Field<'_>, findings: &mut Findings) -> Option<Option<String>> {
    let text = field.text_or_empty(findings)?;
    if text.is_empty() {
        return Some(None);
    }
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let is_url = rest
        .is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/') && rest.bytes().all(|it| it.is_ascii_graphic()));
    if !is_url {
        findings.at(field, format!("{text:?} is not an http:// or https:// URL"));
        return None;
    }
    Some(Some(text.trim_end_matches('/').to_owned()))
}

impl Source<'_> {
    /// A reference to a value in a Secret.
    pub(super) fn secret(&self, field: &Field<'_>, findings: &mut Findings) -> Option<SecretKey> {
        if field.is_absent() {
            findings.at(field, "the reference to a Secret is missing; give its name and key");
            return None;
        }
        let known: &[&str] = if self.may_cross { &["key", "name", "namespace"] } else { &["key", "name"] };
        let section = Section::open(field, known, findings)?;
        let name = section.field("name").required("name the Secret", findings)?;
        let key = section.field("key").text(findings).filter(|key| !key.is_empty()).unwrap_or("secret");
        let namespace = section.field("namespace").text(findings).filter(|it| !it.is_empty());
        let namespace = namespace.unwrap_or(self.namespace);
        Some(SecretKey { secret: crate::object::ObjectName::new(namespace, name), key: key.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_server_is_an_address_or_a_name_with_or_without_a_port() {
        for (text, expected) in [
            ("192.0.2.53", Some(("192.0.2.53", 53))),
            ("192.0.2.53:5353", Some(("192.0.2.53", 5353))),
            ("[2001:db8::53]", Some(("2001:db8::53", 53))),
            ("[2001:db8::53]:54", Some(("2001:db8::53", 54))),
            ("ns.example.com:53", Some(("ns.example.com", 53))),
            ("2001:db8::53", None),
            ("[2001:db8::53]54", None),
            (":53", None),
            ("a b", None),
        ] {
            let expected = expected.map(|(host, port)| (host.to_owned(), port));
            assert_eq!(host_and_port(text), expected, "{text}");
        }
    }
}
