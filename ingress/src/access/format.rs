//! The line that `log-format-upstream` asks for.

use std::fmt::{self, Write as _};

use config::global::{Escape, LogFormat, LogPart, LogVariable};

use super::{Entry, Escaped, Seconds, list};
use crate::headers;

/// Appends the line of one request, newline included.
pub(super) fn write(format: &LogFormat, entry: &Entry<'_>, out: &mut String) {
    let mut value = String::with_capacity(64);
    for part in &format.parts {
        match part {
            LogPart::Text(text) => out.push_str(text),
            LogPart::Variable(variable) => {
                value.clear();
                // Writing to a `String` cannot fail.
                let _ = write_value(variable, entry, &mut value);
                escape(format.escape, &value, out);
            }
        }
    }
    out.push('\n');
}

fn escape(escape: Escape, value: &str, out: &mut String) {
    // Writing to a `String` cannot fail.
    let _ = match escape {
        Escape::Default if value.is_empty() => out.write_char('-'),
        Escape::Default => write!(out, "{}", Escaped(value)),
        Escape::Json => write!(out, "{}", Json(value)),
        // A line of the log is one line, whoever asks for what.
        Escape::None => value.chars().try_for_each(|c| out.write_char(if c.is_control() { ' ' } else { c })),
    };
}

/// As inside a string of JSON (RFC 8259 §7).
struct Json<'a>(&'a str);

impl fmt::Display for Json<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '"' => f.write_str("\\\"")?,
                '\\' => f.write_str("\\\\")?,
                '\n' => f.write_str("\\n")?,
                '\r' => f.write_str("\\r")?,
                '\t' => f.write_str("\\t")?,
                c if u32::from(c) < 0x20 => write!(f, "\\u{:04X}", u32::from(c))?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

fn write_value(variable: &LogVariable, entry: &Entry<'_>, out: &mut String) -> fmt::Result {
    use LogVariable as V;
    let (path, query) = entry.target.split_once('?').unwrap_or((entry.target, ""));
    match variable {
        V::RemoteAddr => text(entry.client, out),
        V::RealipRemoteAddr => text(entry.peer, out),
        V::RemoteUser => text(entry.user, out),
        V::TimeLocal => write!(out, "{}", entry.time.strftime("%d/%b/%Y:%H:%M:%S +0000")),
        V::TimeIso8601 => write!(out, "{}", entry.time.strftime("%Y-%m-%dT%H:%M:%S+00:00")),
        V::Msec => write!(out, "{}.{:03}", entry.time.as_second(), entry.time.subsec_millisecond()),
        V::Request => write!(out, "{} {} {}", entry.method, entry.target, entry.protocol),
        V::RequestMethod => text(Some(entry.method), out),
        V::RequestUri => text(Some(entry.target), out),
        V::Uri => text(Some(path), out),
        V::Args => text(Some(query), out),
        V::Status => write!(out, "{}", entry.status),
        V::BodyBytesSent => write!(out, "{}", entry.bytes_sent),
        V::RequestLength => write!(out, "{}", entry.bytes_received),
        V::RequestTime => write!(out, "{}", Seconds(entry.duration)),
        V::ServerProtocol => text(Some(entry.protocol), out),
        V::Scheme => text(Some(entry.scheme), out),
        V::Host => text(Some(entry.host.rsplit_once(':').map_or(entry.host, |(host, _)| host)), out),
        V::ServerPort => write!(out, "{}", entry.port),
        V::UpstreamAddr => list(entry.attempts, out, |attempt, out| write!(out, "{}", attempt.addr)),
        V::UpstreamResponseLength => list(entry.attempts, out, |attempt, out| write!(out, "{}", attempt.bytes)),
        V::UpstreamResponseTime => list(entry.attempts, out, |attempt, out| write!(out, "{}", Seconds(attempt.time))),
        V::UpstreamStatus => list(entry.attempts, out, |attempt, out| write!(out, "{}", attempt.status.unwrap_or(502))),
        V::ProxyUpstreamName => match (entry.ingress, entry.service) {
            (Some((namespace, _)), Some((service, port))) => write!(out, "{namespace}-{service}-{port}"),
            _ => Ok(()),
        },
        V::RequestId => text(Some(entry.request_id), out),
        V::Namespace => text(entry.ingress.map(|(namespace, _)| namespace), out),
        V::IngressName => text(entry.ingress.map(|(_, name)| name), out),
        V::ServiceName => text(entry.service.map(|(service, _)| service), out),
        V::ServicePort => text(entry.service.map(|(_, port)| port), out),
        V::LocationPath => text(entry.rule, out),
        V::SslProtocol => entry.tls.map_or(Ok(()), |(version, _)| out.write_str(&version.replace('_', "."))),
        V::SslCipher => entry.tls.map_or(Ok(()), |(_, cipher)| out.write_str(&openssl_name(cipher))),
        V::Hostname => text(Some(entry.node), out),
        V::Nothing => Ok(()),
        V::Field(name) if name == "host" => text(Some(entry.host), out),
        V::Field(name) => text(entry.fields.get(name.as_str()).and_then(|field| field.to_str().ok()), out),
        V::Sent(name) => {
            text(entry.sent.and_then(|sent| sent.get(name.as_str())).and_then(|field| field.to_str().ok()), out)
        }
        V::Cookie(name) => text(headers::cookie(entry.fields, name), out),
        V::Argument(name) => {
            let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            text(pairs.find(|(found, _)| found == name).map(|(_, value)| value), out)
        }
    }
}

fn text(value: Option<impl fmt::Display>, out: &mut String) -> fmt::Result {
    value.map_or(Ok(()), |value| write!(out, "{value}"))
}

/// `TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256` as OpenSSL calls it, `ECDHE-RSA-AES128-GCM-SHA256`.
fn openssl_name(suite: &str) -> String {
    if let Some(rest) = suite.strip_prefix("TLS13_") {
        return format!("TLS_{rest}");
    }
    let rest = suite.strip_prefix("TLS_").unwrap_or(suite).replace("WITH_", "");
    let rest = rest.replace("AES_128", "AES128").replace("AES_256", "AES256").replace("POLY1305_SHA256", "POLY1305");
    rest.replace('_', "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suites_are_called_as_nginx_calls_them() {
        for (ours, theirs) in [
            ("TLS13_AES_256_GCM_SHA384", "TLS_AES_256_GCM_SHA384"),
            ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "ECDHE-RSA-AES128-GCM-SHA256"),
            ("TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", "ECDHE-ECDSA-CHACHA20-POLY1305"),
        ] {
            assert_eq!(openssl_name(ours), theirs);
        }
    }
}
