//! What endpoints speak: `backend-protocol` and the `proxy-ssl-*` family.

use std::sync::Arc;

use super::read::Reader;
use super::value;
use crate::names;

/// What endpoints of a route speak.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// HTTP/1.1.
    #[default]
    Http,
    /// HTTP/1.1 over TLS.
    Https,
    /// HTTP/2 without TLS, from the first byte (RFC 9113 §3.3).
    Grpc,
    /// HTTP/2 over TLS.
    Grpcs,
}

impl Protocol {
    /// Whether over TLS.
    #[must_use]
    pub const fn is_tls(self) -> bool {
        matches!(self, Self::Https | Self::Grpcs)
    }

    /// Whether HTTP/2.
    #[must_use]
    pub const fn is_h2(self) -> bool {
        matches!(self, Self::Grpc | Self::Grpcs)
    }

    /// What the `appProtocol` of a Service port says; `None` if that is nothing we know (KEP-3726).
    #[must_use]
    pub fn of_app_protocol(name: &str) -> Option<Self> {
        match name {
            "http" | "kubernetes.io/ws" => Some(Self::Http),
            "https" | "kubernetes.io/wss" => Some(Self::Https),
            "grpc" | "kubernetes.io/h2c" => Some(Self::Grpc),
            "grpcs" => Some(Self::Grpcs),
            _ => None,
        }
    }
}

/// TLS towards endpoints, where [`Protocol`] says TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpstreamTls {
    /// The name of a Secret in the namespace of the Ingress: `tls.crt` and `tls.key` are shown to endpoints, `ca.crt`
    /// is whom we trust.
    pub secret: Option<SecretName>,
    /// Whether certificates of endpoints are checked.
    pub verify: bool,
    /// Whether endpoints are told the name (SNI).
    pub server_name: bool,
    /// The name that certificates are for.
    pub name: Option<String>,
}

/// A Secret as an annotation names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretName {
    /// `None` for that of the Ingress.
    pub namespace: Option<Arc<str>>,
    /// Its name.
    pub name: Arc<str>,
}

pub(super) fn protocol(text: &str) -> Result<Protocol, String> {
    match text.to_ascii_uppercase().as_str() {
        "HTTP" => Ok(Protocol::Http),
        "HTTPS" => Ok(Protocol::Https),
        "GRPC" => Ok(Protocol::Grpc),
        "GRPCS" => Ok(Protocol::Grpcs),
        "AUTO_HTTP" => Err("AUTO_HTTP is not supported; say HTTP or HTTPS, whichever the endpoints speak".to_owned()),
        "FCGI" => Err("FCGI is not supported; put a web server in front of the FastCGI program".to_owned()),
        _ => Err(format!("{text:?} is none of HTTP, HTTPS, GRPC and GRPCS")),
    }
}

pub(super) fn tls(reader: &mut Reader<'_>) -> UpstreamTls {
    // A chain may be as long as it needs to be; a wrong number is still worth telling.
    reader.value("proxy-ssl-verify-depth", depth);
    reader.value("proxy-ssl-protocols", protocols);
    reader.value("proxy-ssl-ciphers", ciphers);
    let read = UpstreamTls {
        // Endpoints that ask for our certificate, or are to be checked, must not be asked without.
        secret: reader.guard("proxy-ssl-secret", secret),
        verify: reader.guard("proxy-ssl-verify", switch).unwrap_or_default(),
        server_name: reader.value("proxy-ssl-server-name", switch).unwrap_or_default(),
        name: reader.value("proxy-ssl-name", name),
    };
    if read.verify && read.secret.is_none() {
        reader.deny(
            "proxy-ssl-verify",
            "there is nothing to check certificates against; name a Secret with ca.crt in proxy-ssl-secret",
        );
    }
    read
}

/// nginx's `on` and `off`.
pub(super) fn switch(text: &str) -> Result<bool, String> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(format!("{text:?} is neither \"on\" nor \"off\"")),
    }
}

fn depth(text: &str) -> Result<u64, String> {
    value::number(text).ok_or_else(|| format!("{text:?} is not a number of certificates"))
}

fn name(text: &str) -> Result<String, String> {
    let name = text.to_ascii_lowercase();
    names::subdomain(&name).map(|()| name)
}

pub(super) fn secret(text: &str) -> Result<SecretName, String> {
    let (namespace, name) = text.split_once('/').map_or((None, text), |(namespace, name)| (Some(namespace), name));
    if let Some(namespace) = namespace {
        names::label(namespace)?;
    }
    names::subdomain(name)?;
    Ok(SecretName { namespace: namespace.map(Into::into), name: name.into() })
}

/// TLS 1.2 and 1.3 are what there is; a list must have both, or say so.
fn protocols(text: &str) -> Result<(), String> {
    let mut known = text.split_ascii_whitespace();
    if let Some(word) = known.find(|word| !matches!(*word, "TLSv1.2" | "TLSv1.3")) {
        return Err(format!("{word} is not spoken; endpoints are offered TLSv1.2 and TLSv1.3"));
    }
    let has = |version| text.split_ascii_whitespace().any(|word| word == version);
    if has("TLSv1.2") && has("TLSv1.3") {
        return Ok(());
    }
    Err("endpoints are offered both TLSv1.2 and TLSv1.3 and take the best they know; write both, or remove it"
        .to_owned())
}

fn ciphers(text: &str) -> Result<(), String> {
    match text {
        "DEFAULT" | "HIGH" => Ok(()),
        _ => Err("ciphers cannot be chosen; endpoints are offered AEAD ciphers with forward secrecy only".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::read;
    use super::*;

    #[test]
    fn what_endpoints_speak_is_read() {
        for (text, expected) in
            [("HTTP", Protocol::Http), ("https", Protocol::Https), ("Grpc", Protocol::Grpc), ("GRPCS", Protocol::Grpcs)]
        {
            let (read, problems) = read(&[("backend-protocol", text)]);
            assert_eq!((read.upstream.protocol, problems.len()), (Some(expected), 0), "{text}");
        }
        let (read, problems) = read(&[
            ("proxy-ssl-secret", "endpoint-ca"),
            ("proxy-ssl-verify", "on"),
            ("proxy-ssl-verify-depth", "2"),
            ("proxy-ssl-server-name", "on"),
            ("proxy-ssl-name", "Web.Internal"),
            ("proxy-ssl-protocols", "TLSv1.2 TLSv1.3"),
            ("proxy-ssl-ciphers", "DEFAULT"),
        ]);
        let secret = Some(SecretName { namespace: None, name: "endpoint-ca".into() });
        let expected = UpstreamTls { secret, verify: true, server_name: true, name: Some("web.internal".into()) };
        assert_eq!((read.upstream.tls, problems), (expected, vec![]));
    }

    #[test]
    fn what_cannot_be_done_is_told() {
        for (name, value, word, denied) in [
            ("backend-protocol", "FCGI", "FastCGI", false),
            ("backend-protocol", "AUTO_HTTP", "not supported", false),
            ("backend-protocol", "ajp", "none of", false),
            ("proxy-ssl-verify", "on", "proxy-ssl-secret", true),
            ("proxy-ssl-verify", "true", "neither", true),
            ("proxy-ssl-secret", "A B", "not a name", true),
            ("proxy-ssl-verify-depth", "-1", "number", false),
            ("proxy-ssl-server-name", "yes", "neither", false),
            ("proxy-ssl-name", "a b", "not a name", false),
            ("proxy-ssl-protocols", "TLSv1", "TLSv1 is not spoken", false),
            ("proxy-ssl-protocols", "TLSv1.2", "both", false),
            ("proxy-ssl-ciphers", "AES128-SHA", "cannot be chosen", false),
        ] {
            let (read, problems) = read(&[(name, value)]);
            assert_eq!((problems.len(), read.denied), (1, denied), "{name}: {value}: {problems:?}");
            assert!(problems[0].message.contains(word), "{}", problems[0].message);
        }
    }

    #[test]
    fn a_port_may_say_what_it_speaks() {
        for (name, expected) in [
            ("kubernetes.io/h2c", Some(Protocol::Grpc)),
            ("kubernetes.io/wss", Some(Protocol::Https)),
            ("https", Some(Protocol::Https)),
            ("kubernetes.io/ws", Some(Protocol::Http)),
            ("example.com/own", None),
        ] {
            assert_eq!(Protocol::of_app_protocol(name), expected, "{name}");
        }
    }
}
