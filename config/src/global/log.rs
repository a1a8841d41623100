//! How requests are logged: `log-format-upstream`, `log-format-escape-json`, `disable-access-log`,
//! `skip-access-log-urls`.

use super::read::Reader;

/// How requests are logged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogRules {
    /// The line of a request; `None` for the default of ingress-nginx.
    pub format: Option<LogFormat>,
    /// Whether nothing is logged (`disable-access-log`, `disable-http-access-log`).
    pub off: bool,
    /// Requests for these paths are not logged (`skip-access-log-urls`).
    pub skipped: Vec<String>,
}

/// The line of a request, read once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFormat {
    /// Its parts, in their order.
    pub parts: Vec<LogPart>,
    /// How the values of variables are written.
    pub escape: Escape,
}

/// How the values of variables are written (nginx's `log_format escape=`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Escape {
    /// What could end a field as `\x22`, nothing as `-`.
    #[default]
    Default,
    /// As inside a string of JSON, nothing as nothing.
    Json,
    /// As they are, but for line ends.
    None,
}

/// A part of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogPart {
    /// Text as it is.
    Text(String),
    /// What a variable stands for.
    Variable(LogVariable),
}

/// What a line can tell, by nginx's names.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is documented by nginx or ingress-nginx under its name")]
pub enum LogVariable {
    RemoteAddr,
    RemoteUser,
    RealipRemoteAddr,
    TimeLocal,
    TimeIso8601,
    Msec,
    Request,
    RequestMethod,
    RequestUri,
    Uri,
    Args,
    Status,
    BodyBytesSent,
    RequestLength,
    RequestTime,
    ServerProtocol,
    Scheme,
    Host,
    ServerPort,
    UpstreamAddr,
    UpstreamResponseLength,
    UpstreamResponseTime,
    UpstreamStatus,
    ProxyUpstreamName,
    RequestId,
    Namespace,
    IngressName,
    ServiceName,
    ServicePort,
    LocationPath,
    SslProtocol,
    SslCipher,
    Hostname,
    /// What there never is here, such as `$proxy_alternative_upstream_name`.
    Nothing,
    /// `$http_NAME`: a field of the request, lower case with `-`.
    Field(String),
    /// `$sent_http_NAME`: a field of the answer.
    Sent(String),
    /// `$cookie_NAME`.
    Cookie(String),
    /// `$arg_NAME`.
    Argument(String),
}

impl LogVariable {
    /// The variable of this name, without the `$`.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "remote_addr" | "the_real_ip" | "proxy_add_x_forwarded_for" | "proxy_protocol_addr" => Self::RemoteAddr,
            "remote_user" => Self::RemoteUser,
            "realip_remote_addr" => Self::RealipRemoteAddr,
            "time_local" => Self::TimeLocal,
            "time_iso8601" => Self::TimeIso8601,
            "msec" => Self::Msec,
            "request" => Self::Request,
            "request_method" => Self::RequestMethod,
            "request_uri" => Self::RequestUri,
            "uri" | "document_uri" => Self::Uri,
            "args" | "query_string" => Self::Args,
            "status" => Self::Status,
            "body_bytes_sent" | "bytes_sent" => Self::BodyBytesSent,
            "request_length" => Self::RequestLength,
            "request_time" => Self::RequestTime,
            "server_protocol" => Self::ServerProtocol,
            "scheme" | "pass_access_scheme" => Self::Scheme,
            "host" | "server_name" | "best_http_host" => Self::Host,
            "server_port" | "pass_server_port" => Self::ServerPort,
            "upstream_addr" => Self::UpstreamAddr,
            "upstream_response_length" | "upstream_bytes_received" => Self::UpstreamResponseLength,
            "upstream_response_time" | "upstream_header_time" => Self::UpstreamResponseTime,
            "upstream_status" => Self::UpstreamStatus,
            "proxy_upstream_name" => Self::ProxyUpstreamName,
            "req_id" | "request_id" => Self::RequestId,
            "namespace" => Self::Namespace,
            "ingress_name" => Self::IngressName,
            "service_name" => Self::ServiceName,
            "service_port" => Self::ServicePort,
            "location_path" => Self::LocationPath,
            "ssl_protocol" => Self::SslProtocol,
            "ssl_cipher" => Self::SslCipher,
            "hostname" => Self::Hostname,
            "proxy_alternative_upstream_name"
            | "upstream_cache_status"
            | "upstream_connect_time"
            | "gzip_ratio"
            | "pipe"
            | "connection"
            | "connection_requests" => Self::Nothing,
            "content_type" => Self::Field("content-type".to_owned()),
            "content_length" => Self::Field("content-length".to_owned()),
            _ => return Self::named(name),
        })
    }

    fn named(name: &str) -> Option<Self> {
        let rest = |prefix: &str| name.strip_prefix(prefix).filter(|rest| !rest.is_empty());
        let field = |name: &str| name.to_ascii_lowercase().replace('_', "-");
        None.or_else(|| rest("http_").map(|name| Self::Field(field(name))))
            .or_else(|| rest("sent_http_").map(|name| Self::Sent(field(name))))
            .or_else(|| rest("upstream_http_").map(|name| Self::Sent(field(name))))
            .or_else(|| rest("cookie_").map(|name| Self::Cookie(name.to_owned())))
            .or_else(|| rest("arg_").map(|name| Self::Argument(name.to_owned())))
    }
}

impl LogFormat {
    /// Reads a format; an error names the variable that is not known.
    pub fn parse(text: &str, escape: Escape) -> Result<Self, String> {
        let mut parts = Vec::new();
        // A line of the log is one line.
        let plain = |text: &str| LogPart::Text(text.replace(['\n', '\r'], " "));
        let mut rest = text.trim();
        while let Some(at) = rest.find('$') {
            parts.push(plain(&rest[..at]));
            let (name, after) = name(&rest[at + 1..]).ok_or_else(|| "a $ stands without a name".to_owned())?;
            parts.push(LogPart::Variable(LogVariable::parse(name).ok_or_else(|| unknown(name))?));
            rest = after;
        }
        parts.push(plain(rest));
        parts.retain(|part| !matches!(part, LogPart::Text(text) if text.is_empty()));
        Ok(Self { parts, escape })
    }
}

fn unknown(name: &str) -> String {
    let why = if name.starts_with("geoip") { "; nothing is known here of where addresses are" } else { "" };
    format!("variable ${name} is not understood{why}")
}

/// `name rest` or `{name} rest`.
fn name(text: &str) -> Option<(&str, &str)> {
    if let Some(text) = text.strip_prefix('{') {
        return text.split_once('}').filter(|(name, _)| !name.is_empty());
    }
    let end = text.find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_').unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

pub(super) fn read(reader: &mut Reader<'_>) -> LogRules {
    let json = reader.flag("log-format-escape-json").unwrap_or_default();
    let none = reader.flag("log-format-escape-none").unwrap_or_default();
    let escape = match (json, none) {
        (true, _) => Escape::Json,
        (false, true) => Escape::None,
        (false, false) => Escape::Default,
    };
    let off = [reader.flag("disable-access-log"), reader.flag("disable-http-access-log")];
    LogRules {
        format: reader.value("log-format-upstream", |text| LogFormat::parse(text, escape)),
        off: off.contains(&Some(true)),
        skipped: reader.elements("skip-access-log-urls", |path| Ok(path.to_owned())),
    }
}
