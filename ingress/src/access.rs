//! How a request reads in the access log.
//!
//! One line per request, in one of two spellings: JSON, or the default of ingress-nginx byte for byte, so that
//! whatever reads that log today goes on reading it:
//!
//! ```text
//! $remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent"
//! $request_length $request_time [$proxy_upstream_name] [$proxy_alternative_upstream_name] $upstream_addr
//! $upstream_response_length $upstream_response_time $upstream_status $req_id
//! ```
//!
//! `log-format-upstream` of the global `ConfigMap` asks for another line, of the same variables.
//!
//! Pure. Where the lines go: `io/access_writer`.

mod format;

use std::fmt::{self, Display, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use config::global::LogRules;
use http::HeaderMap;
use jiff::Timestamp;
use serde::Serialize;

/// Whether and how each request is logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AccessLog {
    /// Not at all.
    Off,
    /// In the default format of ingress-nginx.
    #[default]
    Text,
    /// As one JSON object per line.
    Json,
}

/// One attempt at an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The endpoint.
    pub addr: SocketAddr,
    /// What it answered; `None` if it did not.
    pub status: Option<u16>,
    /// From choosing the endpoint to the end of its answer.
    pub time: Duration,
    /// Bytes of body that it sent.
    pub bytes: u64,
}

/// Everything that a line can tell.
#[derive(Clone)]
pub struct Entry<'a> {
    /// When the request ended.
    pub time: Timestamp,
    /// The client.
    pub client: Option<IpAddr>,
    /// The method.
    pub method: &'a str,
    /// The request target as it came.
    pub target: &'a str,
    /// `HTTP/1.1`, `HTTP/2.0`.
    pub protocol: &'static str,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// The host that was asked for.
    pub host: &'a str,
    /// What was answered; 499 if the client left before.
    pub status: u16,
    /// Bytes of body sent to the client.
    pub bytes_sent: u64,
    /// Bytes of the request, as far as known.
    pub bytes_received: u64,
    /// From the complete head to the last byte.
    pub duration: Duration,
    /// The `Referer` field.
    pub referer: Option<&'a str>,
    /// The `User-Agent` field.
    pub user_agent: Option<&'a str>,
    /// The `X-Request-ID` that the endpoint was sent.
    pub request_id: &'a str,
    /// Namespace and name of the Ingress; `None` if none was found.
    pub ingress: Option<(&'a str, &'a str)>,
    /// Service and port behind it.
    pub service: Option<(&'a str, &'a dyn Display)>,
    /// The endpoints that were tried, in order.
    pub attempts: &'a [Attempt],
    /// Who opened the connection.
    pub peer: Option<IpAddr>,
    /// Whom a password was given for.
    pub user: Option<&'a str>,
    /// The port that was asked.
    pub port: u16,
    /// Version and cipher suite of TLS, as rustls calls them.
    pub tls: Option<(&'a str, &'a str)>,
    /// The path of the rule.
    pub rule: Option<&'a str>,
    /// This machine.
    pub node: &'a str,
    /// The fields of the request.
    pub fields: &'a HeaderMap,
    /// The fields of the answer.
    pub sent: Option<&'a HeaderMap>,
}

impl fmt::Debug for Entry<'_> {
    /// As the line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(text(self).trim_end())
    }
}

impl AccessLog {
    /// Whether a request is logged.
    #[must_use]
    pub fn wants(self, rules: &LogRules, target: &str) -> bool {
        self != Self::Off && !rules.off && !rules.skipped.iter().any(|skipped| skipped == target)
    }

    /// Appends the line of one request, newline included; nothing if the log is off.
    pub fn write(self, rules: &LogRules, entry: &Entry<'_>, out: &mut Vec<u8>) {
        match (self, &rules.format) {
            (Self::Off, _) => {}
            (Self::Text, Some(format)) => {
                let mut line = String::with_capacity(320);
                format::write(format, entry, &mut line);
                out.extend_from_slice(line.as_bytes());
            }
            (Self::Text, None) => out.extend_from_slice(text(entry).as_bytes()),
            (Self::Json, _) => json(entry, out),
        }
    }
}

/// ingress-nginx's line.
fn text(entry: &Entry<'_>) -> String {
    let mut line = String::with_capacity(320);
    // Writing to a `String` cannot fail.
    let _ = write_text(entry, &mut line);
    line
}

fn write_text(entry: &Entry<'_>, out: &mut String) -> fmt::Result {
    match entry.client {
        Some(client) => write!(out, "{client}")?,
        None => out.push('-'),
    }
    write!(out, " - {} [{}] \"", Escaped(entry.user.unwrap_or("-")), entry.time.strftime("%d/%b/%Y:%H:%M:%S +0000"))?;
    write!(out, "{} {} {}", Escaped(entry.method), Escaped(entry.target), entry.protocol)?;
    write!(out, "\" {} {} \"", entry.status, entry.bytes_sent)?;
    write!(out, "{}\" \"", Escaped(entry.referer.unwrap_or("-")))?;
    write!(out, "{}\" {} ", Escaped(entry.user_agent.unwrap_or("-")), entry.bytes_received)?;
    write!(out, "{} [", Seconds(entry.duration))?;
    if let (Some((namespace, _)), Some((service, port))) = (entry.ingress, entry.service) {
        write!(out, "{namespace}-{service}-{port}")?;
    }
    out.push_str("] [] ");
    let mut column = |field: &dyn Fn(&Attempt, &mut String) -> fmt::Result| {
        let before = out.len();
        list(entry.attempts, out, field)?;
        out.push_str(if out.len() == before { "- " } else { " " });
        Ok(())
    };
    column(&|attempt, out| write!(out, "{}", attempt.addr))?;
    column(&|attempt, out| write!(out, "{}", attempt.bytes))?;
    column(&|attempt, out| write!(out, "{}", Seconds(attempt.time)))?;
    // As nginx: the status that the failure of this attempt stands for.
    column(&|attempt, out| write!(out, "{}", attempt.status.unwrap_or(502)))?;
    writeln!(out, "{}", Escaped(entry.request_id))
}

/// One field of all attempts.
fn list(attempts: &[Attempt], out: &mut String, field: impl Fn(&Attempt, &mut String) -> fmt::Result) -> fmt::Result {
    for (position, attempt) in attempts.iter().enumerate() {
        out.push_str(if position == 0 { "" } else { ", " });
        field(attempt, out)?;
    }
    Ok(())
}

/// Seconds with milliseconds, as nginx writes them.
struct Seconds(Duration);

impl Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}", self.0.as_secs(), self.0.subsec_millis())
    }
}

/// Text of a client, with what could end the field or the line written as nginx does, `\x22`.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in self.0.split_inclusive(needs_escape) {
            let plain = part.trim_end_matches(needs_escape);
            f.write_str(plain)?;
            for byte in part[plain.len()..].bytes() {
                write!(f, "\\x{byte:02X}")?;
            }
        }
        Ok(())
    }
}

fn needs_escape(c: char) -> bool {
    matches!(c, '"' | '\\') || c.is_control() || !c.is_ascii()
}

/// The JSON of one line, in nginx's names where it has one.
#[derive(Serialize)]
struct Line<'a> {
    time: String,
    remote_addr: Option<IpAddr>,
    request_method: &'a str,
    request_uri: &'a str,
    server_protocol: &'a str,
    scheme: &'a str,
    host: &'a str,
    status: u16,
    body_bytes_sent: u64,
    request_length: u64,
    request_time: f64,
    http_referer: Option<&'a str>,
    http_user_agent: Option<&'a str>,
    req_id: &'a str,
    namespace: Option<&'a str>,
    ingress_name: Option<&'a str>,
    service_name: Option<&'a str>,
    service_port: Option<String>,
    upstream: Vec<Upstream>,
}

#[derive(Serialize)]
struct Upstream {
    addr: SocketAddr,
    status: Option<u16>,
    response_time: f64,
    response_length: u64,
}

fn json(entry: &Entry<'_>, out: &mut Vec<u8>) {
    let upstream = entry.attempts.iter().map(|attempt| Upstream {
        addr: attempt.addr,
        status: attempt.status,
        response_time: milliseconds(attempt.time),
        response_length: attempt.bytes,
    });
    let line = Line {
        time: format!("{:.3}", entry.time),
        remote_addr: entry.client,
        request_method: entry.method,
        request_uri: entry.target,
        server_protocol: entry.protocol,
        scheme: entry.scheme,
        host: entry.host,
        status: entry.status,
        body_bytes_sent: entry.bytes_sent,
        request_length: entry.bytes_received,
        request_time: milliseconds(entry.duration),
        http_referer: entry.referer,
        http_user_agent: entry.user_agent,
        req_id: entry.request_id,
        namespace: entry.ingress.map(|(namespace, _)| namespace),
        ingress_name: entry.ingress.map(|(_, name)| name),
        service_name: entry.service.map(|(service, _)| service),
        service_port: entry.service.map(|(_, port)| port.to_string()),
        upstream: upstream.collect(),
    };
    let start = out.len();
    match serde_json::to_writer(&mut *out, &line) {
        Ok(()) => out.push(b'\n'),
        // Nothing in a line can fail to serialise; half a line must not stay in any case.
        Err(_) => out.truncate(start),
    }
}

/// Seconds, cut to milliseconds so that the text is short.
fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1000.0).trunc() / 1000.0
}

#[cfg(test)]
mod tests {
    use config::global::{Escape, LogFormat};

    use super::*;

    fn entry<'a>(attempts: &'a [Attempt], port: &'a dyn Display) -> Entry<'a> {
        Entry {
            time: "2026-11-21T05:41:28.25Z".parse().unwrap(),
            client: Some([203, 0, 113, 9].into()),
            method: "GET",
            target: "/cart?id=1",
            protocol: "HTTP/1.1",
            scheme: "https",
            host: "shop.example.com",
            status: 200,
            bytes_sent: 612,
            bytes_received: 78,
            duration: Duration::from_millis(1042),
            referer: None,
            user_agent: Some("curl/8.5 \"quoted\"\n"),
            request_id: "0123456789abcdef0123456789abcdef",
            ingress: Some(("shop", "web")),
            service: Some(("cart", port)),
            attempts,
            peer: Some([203, 0, 113, 9].into()),
            user: None,
            port: 443,
            tls: Some(("TLSv1_3", "TLS13_AES_128_GCM_SHA256")),
            rule: Some("/cart"),
            node: "n1",
            fields: nothing(),
            sent: None,
        }
    }

    fn nothing() -> &'static HeaderMap {
        static NOTHING: std::sync::LazyLock<HeaderMap> = std::sync::LazyLock::new(HeaderMap::new);
        &NOTHING
    }

    fn attempt(last: u8, status: Option<u16>) -> Attempt {
        Attempt { addr: SocketAddr::from(([10, 0, 0, last], 8080)), status, time: Duration::from_millis(5), bytes: 612 }
    }

    fn line(log: AccessLog, entry: &Entry<'_>) -> String {
        let mut out = Vec::new();
        log.write(&LogRules::default(), entry, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_format_of_ones_own_is_written_as_nginx_would() {
        let mut fields = HeaderMap::new();
        fields.insert("x-a", http::HeaderValue::from_static("say \"hi\""));
        fields.insert("cookie", http::HeaderValue::from_static("a=b; c=d"));
        let attempts = [attempt(7, None), attempt(8, Some(200))];
        let entry = Entry { fields: &fields, user: Some("ann"), ..entry(&attempts, &80) };
        for (escape, format, expected) in [
            (Escape::Default, "$remote_user $http_x_a|$http_nothing|$cookie_c", "ann say \\x22hi\\x22|-|d"),
            (Escape::Json, "{\"a\":\"$http_x_a\",\"n\":\"$http_nothing\"}", "{\"a\":\"say \\\"hi\\\"\",\"n\":\"\"}"),
            (Escape::None, "$http_x_a", "say \"hi\""),
            (Escape::Default, "$upstream_addr;$upstream_status", "10.0.0.7:8080, 10.0.0.8:8080;502, 200"),
            (Escape::Default, "$time_iso8601 $msec $request_time", "2026-11-21T05:41:28+00:00 1795239688.250 1.042"),
            (Escape::Default, "$uri $args $arg_id $request", "/cart id=1 1 GET /cart?id=1 HTTP/1.1"),
            (Escape::Default, "$ssl_protocol $ssl_cipher $server_port", "TLSv1.3 TLS_AES_128_GCM_SHA256 443"),
            (
                Escape::Default,
                "$namespace/$ingress_name $proxy_upstream_name $location_path",
                "shop/web shop-cart-80 /cart",
            ),
            (Escape::Default, "$hostname $proxy_alternative_upstream_name", "n1 -"),
        ] {
            let format = LogFormat::parse(format, escape).unwrap();
            let rules = LogRules { format: Some(format.clone()), ..LogRules::default() };
            let mut out = Vec::new();
            AccessLog::Text.write(&rules, &entry, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), format!("{expected}\n"), "{format:?}");
        }
    }

    #[test]
    fn what_is_not_to_be_logged_is_not() {
        let skipping = LogRules { skipped: vec!["/healthz".to_owned()], ..LogRules::default() };
        let off = LogRules { off: true, ..LogRules::default() };
        for (rules, target, wanted) in
            [(&skipping, "/healthz", false), (&skipping, "/healthz?x", true), (&off, "/", false)]
        {
            assert_eq!(AccessLog::Text.wants(rules, target), wanted, "{target}");
        }
        assert!(!AccessLog::Off.wants(&LogRules::default(), "/"));
    }

    #[test]
    fn the_text_line_is_the_one_of_ingress_nginx() {
        assert_eq!(
            line(AccessLog::Text, &entry(&[attempt(7, Some(200))], &80)),
            "203.0.113.9 - - [21/Nov/2026:05:41:28 +0000] \"GET /cart?id=1 HTTP/1.1\" 200 612 \"-\" \
             \"curl/8.5 \\x22quoted\\x22\\x0A\" 78 1.042 [shop-cart-80] [] 10.0.0.7:8080 612 0.005 200 \
             0123456789abcdef0123456789abcdef\n"
        );
    }

    #[test]
    fn retried_endpoints_are_listed_with_commas() {
        let attempts = [attempt(7, None), attempt(8, Some(200))];
        let line = line(AccessLog::Text, &entry(&attempts, &80));
        assert!(line.contains(" 10.0.0.7:8080, 10.0.0.8:8080 612, 612 0.005, 0.005 502, 200 "), "{line}");
    }

    #[test]
    fn a_request_without_a_route_has_dashes() {
        let entry = Entry { ingress: None, service: None, status: 404, ..entry(&[], &80) };
        assert!(line(AccessLog::Text, &entry).contains(" 1.042 [] [] - - - - 0123"));
    }

    #[test]
    fn json_is_one_object_a_line() {
        let line = line(AccessLog::Json, &entry(&[attempt(7, Some(200))], &"http"));
        assert_eq!(line.matches('\n').count(), 1);
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        for (key, expected) in [
            ("time", serde_json::json!("2026-11-21T05:41:28.250Z")),
            ("status", serde_json::json!(200)),
            ("request_time", serde_json::json!(1.042)),
            ("service_port", serde_json::json!("http")),
            ("http_user_agent", serde_json::json!("curl/8.5 \"quoted\"\n")),
        ] {
            assert_eq!(value[key], expected, "{key}");
        }
        assert_eq!(value["upstream"][0]["addr"], "10.0.0.7:8080");
    }

    #[test]
    fn a_log_that_is_off_writes_nothing() {
        assert_eq!(line(AccessLog::Off, &entry(&[], &80)), "");
    }

    proptest::proptest! {
        #[test]
        fn no_text_of_a_client_can_end_the_line(target: String, agent: String) {
            let entry = Entry { target: &target, user_agent: Some(&agent), ..entry(&[], &80) };
            for log in [AccessLog::Text, AccessLog::Json] {
                proptest::prop_assert_eq!(line(log, &entry).matches('\n').count(), 1);
            }
        }
    }
}
