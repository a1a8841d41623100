//! Every key that ingress-nginx knows: what we do with it.

/// What becomes of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// It is read.
    Used,
    /// It is the default of an annotation.
    Annotation(&'static str),
    /// It asks for nothing that would be done otherwise here. With why.
    Idle(&'static str),
    /// It is not supported. With what to do instead.
    Refused(&'static str),
}

/// The keys that are read.
const USED: &[&str] = &[
    "add-headers",
    "allow-backend-server-header",
    "block-cidrs",
    "block-referers",
    "block-user-agents",
    "brotli-level",
    "brotli-min-length",
    "brotli-types",
    "client-body-timeout",
    "client-header-buffer-size",
    "client-header-timeout",
    "compute-full-forwarded-for",
    "disable-access-log",
    "disable-http-access-log",
    "enable-brotli",
    "enable-real-ip",
    "enable-underscores-in-headers",
    "enable-zstd",
    "forwarded-for-header",
    "generate-request-id",
    "gzip-level",
    "gzip-min-length",
    "gzip-types",
    "hide-headers",
    "hsts",
    "hsts-include-subdomains",
    "hsts-max-age",
    "hsts-preload",
    "http-redirect-code",
    "keep-alive",
    "keep-alive-requests",
    "large-client-header-buffers",
    "limit-conn-status-code",
    "limit-req-status-code",
    "log-format-escape-json",
    "log-format-escape-none",
    "log-format-upstream",
    "no-auth-locations",
    "no-tls-redirect-locations",
    "proxy-add-original-uri-header",
    "proxy-protocol-header-timeout",
    "proxy-real-ip-cidr",
    "proxy-set-headers",
    "server-tokens",
    "skip-access-log-urls",
    "ssl-ciphers",
    "ssl-protocols",
    "ssl-reject-handshake",
    "upstream-keepalive-connections",
    "upstream-keepalive-timeout",
    "use-forwarded-headers",
    "use-gzip",
    "use-http2",
    "use-proxy-protocol",
    "zstd-level",
    "zstd-min-length",
    "zstd-types",
];

/// Keys that are defaults of annotations, and which.
const ANNOTATIONS: &[(&str, &str)] = &[
    ("allowlist-source-range", "allowlist-source-range"),
    ("client-body-buffer-size", "client-body-buffer-size"),
    ("custom-http-errors", "custom-http-errors"),
    ("denylist-source-range", "denylist-source-range"),
    ("disable-proxy-intercept-errors", "disable-proxy-intercept-errors"),
    ("force-ssl-redirect", "force-ssl-redirect"),
    ("global-auth-always-set-cookie", "auth-always-set-cookie"),
    ("global-auth-method", "auth-method"),
    ("global-auth-request-redirect", "auth-request-redirect"),
    ("global-auth-response-headers", "auth-response-headers"),
    ("global-auth-signin", "auth-signin"),
    ("global-auth-signin-redirect-param", "auth-signin-redirect-param"),
    ("global-auth-snippet", "auth-snippet"),
    ("global-auth-url", "auth-url"),
    ("limit-rate", "limit-rate"),
    ("limit-rate-after", "limit-rate-after"),
    ("load-balance", "load-balance"),
    ("preserve-trailing-slash", "preserve-trailing-slash"),
    ("proxy-body-size", "proxy-body-size"),
    ("proxy-buffer-size", "proxy-buffer-size"),
    ("proxy-buffering", "proxy-buffering"),
    ("proxy-buffers-number", "proxy-buffers-number"),
    ("proxy-connect-timeout", "proxy-connect-timeout"),
    ("proxy-cookie-domain", "proxy-cookie-domain"),
    ("proxy-cookie-path", "proxy-cookie-path"),
    ("proxy-http-version", "proxy-http-version"),
    ("proxy-max-temp-file-size", "proxy-max-temp-file-size"),
    ("proxy-next-upstream", "proxy-next-upstream"),
    ("proxy-next-upstream-timeout", "proxy-next-upstream-timeout"),
    ("proxy-next-upstream-tries", "proxy-next-upstream-tries"),
    ("proxy-read-timeout", "proxy-read-timeout"),
    ("proxy-redirect-from", "proxy-redirect-from"),
    ("proxy-redirect-to", "proxy-redirect-to"),
    ("proxy-request-buffering", "proxy-request-buffering"),
    ("proxy-send-timeout", "proxy-send-timeout"),
    ("service-upstream", "service-upstream"),
    ("ssl-redirect", "ssl-redirect"),
    ("whitelist-source-range", "whitelist-source-range"),
];

const FLAG: &str = "this is a matter of flags here (--http, --https, --workers, --drain-timeout, --access-log)";
const NGINX: &str = "it is a matter of nginx's own memory and processes; remove it";
const BUFFERS: &str = "answers are streamed and heads of 64k are read; remove it";
const OUTPUT: &str = "lines go to standard output and standard error; remove it";
const TICKETS: &str = "sessions are resumed by tickets whose keys change by themselves; remove it";
const TRACING: &str = "requests are not traced; let the application do it, and remove it";
const WAF: &str = "put a firewall in front, and remove it";
const SNIPPET: &str =
    "nothing is ever written into a configuration; use the annotations of single Ingresses, and remove it";
const GEO: &str = "nothing is known here of where addresses are; remove it";
const STREAM: &str = "streams have fixed times; remove it";

/// Keys that ask for nothing that would be done otherwise here.
const IDLE: &[(&str, &str)] = &[
    ("access-log-params", "lines are buffered for 50 ms at most and written together; remove it"),
    ("access-log-path", OUTPUT),
    ("allow-cross-namespace-resources", "Secrets of other namespaces are never used; copy them"),
    ("allow-snippet-annotations", "snippets are translated, never run, so they need no permission; remove it"),
    ("annotation-value-word-blocklist", "values of annotations are never part of a configuration; remove it"),
    ("annotations-risk-level", "no annotation can do more than its kind says; remove it"),
    ("bind-address", FLAG),
    ("debug-connections", NGINX),
    ("default-type", "answers are never given a type; remove it"),
    ("disable-ipv6", FLAG),
    ("disable-ipv6-dns", "IPv6 addresses are asked for only where this machine has a route to them; remove it"),
    ("disable-stream-access-log", "streams are not logged; remove it"),
    ("enable-access-log-for-default-backend", "requests for the default backend are always logged; remove it"),
    ("enable-aio-write", NGINX),
    ("enable-multi-accept", NGINX),
    ("enable-serial-reloads", "nothing is ever loaded again; remove it"),
    ("error-log-level", "set RUST_LOG instead"),
    ("error-log-path", OUTPUT),
    ("grpc-buffer-size-kb", BUFFERS),
    ("gzip-disable", "the browsers that it is for are gone; remove it"),
    ("http-access-log-path", OUTPUT),
    ("http2-max-concurrent-streams", "a client may have 100 streams on a connection; remove it"),
    ("http2-max-field-size", "32 KiB of fields are read; remove it"),
    ("http2-max-header-size", "32 KiB of fields are read; remove it"),
    ("http2-max-requests", "a connection is not closed for its age; remove it"),
    ("ignore-invalid-headers", "a request with a field that is none is refused; remove it"),
    ("limit-conn-zone-variable", "clients are told apart by their address; remove it"),
    ("lua-shared-dicts", NGINX),
    ("map-hash-bucket-size", NGINX),
    ("max-worker-connections", "the limit on open files counts (ulimit -n); remove it"),
    ("max-worker-open-files", "the limit on open files counts (ulimit -n); remove it"),
    ("nginx-status-ipv4-whitelist", "figures are at the admin listener; remove it"),
    ("nginx-status-ipv6-whitelist", "figures are at the admin listener; remove it"),
    ("proxy-busy-buffers-size", BUFFERS),
    ("proxy-headers-hash-bucket-size", NGINX),
    ("proxy-headers-hash-max-size", NGINX),
    ("proxy-ssl-location-only", NGINX),
    ("reuse-port", "every worker has a socket of its own; remove it"),
    ("server-name-hash-bucket-size", NGINX),
    ("server-name-hash-max-size", NGINX),
    ("ssl-buffer-size", NGINX),
    ("ssl-dh-param", "no cipher with DHE is spoken; remove it"),
    ("ssl-early-data", "0-RTT is never taken, since it can be played back; remove it"),
    ("ssl-ecdh-curve", "X25519MLKEM768, X25519, P-256 and P-384 are spoken; remove it"),
    ("ssl-session-cache", TICKETS),
    ("ssl-session-cache-size", TICKETS),
    ("ssl-session-ticket-key", TICKETS),
    ("ssl-session-tickets", TICKETS),
    ("ssl-session-timeout", TICKETS),
    ("stream-access-log-path", OUTPUT),
    ("strict-validate-path-type", "a path is data, whatever characters it has; remove it"),
    ("upstream-keepalive-requests", "connections to endpoints end by their age, not by a count; remove it"),
    ("upstream-keepalive-time", "connections to endpoints end when they are not used; see upstream-keepalive-timeout"),
    ("use-geoip", GEO),
    ("use-geoip2", GEO),
    ("geoip2-autoreload-in-minutes", GEO),
    ("variables-hash-bucket-size", NGINX),
    ("variables-hash-max-size", NGINX),
    ("worker-cpu-affinity", NGINX),
    ("worker-processes", FLAG),
    ("worker-shutdown-timeout", FLAG),
    ("log-format-stream", "streams are not logged; remove it"),
    ("proxy-stream-next-upstream", STREAM),
    ("proxy-stream-next-upstream-timeout", STREAM),
    ("proxy-stream-next-upstream-tries", STREAM),
    ("proxy-stream-responses", "UDP answers are passed on for as long as a session lives; remove it"),
    ("proxy-stream-timeout", STREAM),
];

/// Keys that are not supported.
const REFUSED: &[(&str, &str)] = &[
    ("enable-modsecurity", WAF),
    ("enable-ocsp", "public CAs are giving up OCSP; remove it"),
    ("enable-opentelemetry", TRACING),
    ("enable-opentracing", TRACING),
    ("enable-owasp-modsecurity-crs", WAF),
    ("global-allowed-response-headers", "use ferrogate.io/response-headers, and remove it"),
    ("global-auth-cache-duration", "the service is asked about every request; remove it"),
    ("global-auth-cache-key", "the service is asked about every request; remove it"),
    ("http-snippet", SNIPPET),
    ("location-snippet", SNIPPET),
    ("main-snippet", SNIPPET),
    ("modsecurity-snippet", WAF),
    ("opentelemetry-config", TRACING),
    ("opentelemetry-operation-name", TRACING),
    ("opentelemetry-trust-incoming-span", TRACING),
    ("otel-max-export-batch-size", TRACING),
    ("otel-max-queuesize", TRACING),
    ("otel-sampler", TRACING),
    ("otel-sampler-parent-based", TRACING),
    ("otel-sampler-ratio", TRACING),
    ("otel-schedule-delay-millis", TRACING),
    ("otel-service-name", TRACING),
    ("otlp-collector-host", TRACING),
    ("otlp-collector-port", TRACING),
    ("plugins", "Lua is not run; let the application do it, and remove it"),
    ("relative-redirects", "redirects name the whole address; remove it"),
    ("retry-non-idempotent", "write non_idempotent into proxy-next-upstream"),
    ("server-snippet", SNIPPET),
    ("stream-snippet", SNIPPET),
];

/// What becomes of a key; `None` if nobody knows it.
pub(super) fn known(key: &str) -> Option<Known> {
    let in_list = |list: &[(&str, &'static str)]| list.iter().find(|(name, _)| *name == key).map(|(_, word)| *word);
    None.or_else(|| USED.contains(&key).then_some(Known::Used))
        .or_else(|| in_list(ANNOTATIONS).map(Known::Annotation))
        .or_else(|| in_list(IDLE).map(Known::Idle))
        .or_else(|| in_list(REFUSED).map(Known::Refused))
}

/// The keys that do something, for who misspelled one.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    USED.iter().copied().chain(ANNOTATIONS.iter().map(|(key, _)| *key))
}

/// The keys that are defaults of annotations, and which.
pub(super) fn annotations() -> impl Iterator<Item = (&'static str, &'static str)> {
    ANNOTATIONS.iter().copied()
}

/// Whether an annotation guards access.
pub(super) fn is_guard(annotation: &str) -> bool {
    annotation.starts_with("auth-") || annotation.ends_with("list-source-range")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_stands_in_one_list() {
        let pairs = ANNOTATIONS.iter().chain(IDLE).chain(REFUSED).map(|(key, _)| key);
        let mut all: Vec<_> = USED.iter().chain(pairs).collect();
        let count = all.len();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), count);
    }
}
