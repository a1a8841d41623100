//! Every name that ingress-nginx knows: what we do with it.

/// What becomes of an annotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// It is read.
    Used,
    /// It is not supported and would keep somebody out: nobody passes. With what to do instead.
    Guard(&'static str),
    /// It is not supported and has no effect. With what to do instead.
    Unsupported(&'static str),
}

/// The names that are read.
pub(super) const USED: &[&str] = &[
    "affinity",
    "affinity-canary-behavior",
    "affinity-mode",
    "allowlist-source-range",
    "app-root",
    "auth-always-set-cookie",
    "auth-cache-duration",
    "auth-cache-key",
    "auth-keepalive",
    "auth-keepalive-requests",
    "auth-keepalive-share-vars",
    "auth-keepalive-timeout",
    "auth-method",
    "auth-realm",
    "auth-request-redirect",
    "auth-response-headers",
    "auth-secret",
    "auth-secret-type",
    "auth-signin",
    "auth-signin-redirect-param",
    "auth-snippet",
    "auth-tls-error-page",
    "auth-tls-match-cn",
    "auth-tls-pass-certificate-to-upstream",
    "auth-tls-secret",
    "auth-tls-verify-client",
    "auth-tls-verify-depth",
    "auth-type",
    "auth-url",
    "backend-protocol",
    "canary",
    "canary-by-cookie",
    "canary-by-header",
    "canary-by-header-pattern",
    "canary-by-header-value",
    "canary-weight",
    "canary-weight-total",
    "client-body-buffer-size",
    "cors-allow-credentials",
    "cors-allow-headers",
    "cors-allow-methods",
    "cors-allow-origin",
    "cors-expose-headers",
    "cors-max-age",
    "custom-http-errors",
    "default-backend",
    "deny-paths",
    "denylist-source-range",
    "disable-proxy-intercept-errors",
    "enable-access-log",
    "enable-cors",
    "enable-global-auth",
    "enable-rewrite-log",
    "force-ssl-redirect",
    "from-to-www-redirect",
    "http2-push-preload",
    "limit-allowlist",
    "limit-burst-multiplier",
    "limit-connections",
    "limit-rate",
    "limit-rate-after",
    "limit-rpm",
    "limit-rps",
    "limit-whitelist",
    "load-balance",
    "mirror-host",
    "mirror-request-body",
    "mirror-target",
    "permanent-redirect",
    "permanent-redirect-code",
    "preserve-trailing-slash",
    "proxy-body-size",
    "proxy-buffer-size",
    "proxy-buffering",
    "proxy-buffers-number",
    "proxy-busy-buffers-size",
    "proxy-connect-timeout",
    "proxy-cookie-domain",
    "proxy-cookie-path",
    "proxy-http-version",
    "proxy-max-temp-file-size",
    "proxy-next-upstream",
    "proxy-next-upstream-timeout",
    "proxy-next-upstream-tries",
    "proxy-read-timeout",
    "proxy-redirect-from",
    "proxy-redirect-to",
    "proxy-request-buffering",
    "proxy-send-timeout",
    "proxy-ssl-ciphers",
    "proxy-ssl-name",
    "proxy-ssl-protocols",
    "proxy-ssl-secret",
    "proxy-ssl-server-name",
    "proxy-ssl-verify",
    "proxy-ssl-verify-depth",
    "request-headers",
    "response-headers",
    "return",
    "rewrite-target",
    "satisfy",
    "security-headers",
    "server-alias",
    "service-upstream",
    "session-cookie-change-on-failure",
    "session-cookie-conditional-samesite-none",
    "session-cookie-domain",
    "session-cookie-expires",
    "session-cookie-max-age",
    "session-cookie-name",
    "session-cookie-path",
    "session-cookie-samesite",
    "session-cookie-secure",
    "ssl-passthrough",
    "ssl-redirect",
    "temporal-redirect",
    "temporal-redirect-code",
    "upstream-hash-by",
    "upstream-hash-by-subset",
    "upstream-hash-by-subset-size",
    "upstream-vhost",
    "use-regex",
    "whitelist-source-range",
    "x-forwarded-prefix",
];

/// Names by which access is controlled, or that would send requests to the wrong place if they had no effect.
const GUARDS: &[&str] =
    &["enable-modsecurity", "modsecurity-snippet", "modsecurity-transaction-id", "enable-owasp-core-rules"];

/// Names without effect, and what to do instead.
const UNSUPPORTED: &[(&str, &str)] = &[
    ("auth-proxy-set-headers", "write the fields as lines of proxy_set_header in auth-snippet"),
    ("connection-proxy-header", "connections to endpoints are kept, and WebSocket needs nothing; remove it"),
    ("custom-headers", "write the fields in ferrogate.io/response-headers"),
    ("enable-opentelemetry", "requests are not traced; X-Request-ID names them in logs; remove it"),
    ("enable-opentracing", "requests are not traced; X-Request-ID names them in logs; remove it"),
    ("opentelemetry-operation-name", "requests are not traced; remove it"),
    ("opentelemetry-trust-incoming-span", "requests are not traced; remove it"),
    ("fastcgi-index", "put a web server in front of the FastCGI program"),
    ("fastcgi-params-configmap", "put a web server in front of the FastCGI program"),
    ("global-rate-limit", "limits are counted per replica; write limit-rps or limit-rpm"),
    ("global-rate-limit-window", "limits are counted per replica; write limit-rps or limit-rpm"),
    ("global-rate-limit-header", "limits are counted by address; write limit-rps or limit-rpm"),
    ("global-rate-limit-key", "limits are counted by address; write limit-rps or limit-rpm"),
    ("global-rate-limit-ignored-cidrs", "write limit-allowlist"),
    ("relative-redirects", "redirects name scheme and host; remove it"),
    ("ssl-ciphers", "TLS 1.2 and 1.3 are spoken with AEAD ciphers and forward secrecy; remove it"),
    ("ssl-prefer-server-ciphers", "the client's choice among good ciphers counts; remove it"),
    ("stream-snippet", "a snippet for streams is never run; remove it"),
    ("use-port-in-redirects", "redirects name the host without port; remove it"),
];

/// Names that people write and ingress-nginx never knew, or no longer knows, with the right one.
const MISTAKEN: &[(&str, &str)] = &[
    ("session-cookie-hash", "nothing depends on it any more; remove it"),
    ("client-max-body-size", "write proxy-body-size"),
    ("secure-backends", "write backend-protocol: HTTPS"),
    ("rate-limit", "write limit-rps"),
    ("preserve-host", "the host is passed on as it is; remove it"),
    ("websocket-services", "WebSocket needs no annotation; remove it"),
];

const SNIPPETS: [&str; 2] = ["configuration-snippet", "server-snippet"];

/// Names that do something else than in ingress-nginx, or nothing because nothing is needed, and how.
const DIFFERENT: &[(&str, &str)] = &[
    ("app-root", "counts for the rules of its own Ingress, not for others of the host"),
    ("auth-tls-secret", "a client in the clear is refused, and TLS sessions are not resumed"),
    ("client-body-buffer-size", "has no effect: bodies are streamed"),
    ("configuration-snippet", "is translated as a whole or refused, never run"),
    ("server-snippet", "is translated as a whole or refused, and counts for its own Ingress"),
    ("custom-http-errors", "replaces answers of endpoints, never what the door refuses"),
    ("http2-push-preload", "has no effect: browsers have given up on it"),
    ("mirror-target", "copies are sent once the request was answered, 64 at once, with at most 1 MiB of body"),
    ("proxy-buffer-size", "has no effect: answers are streamed"),
    ("proxy-buffering", "has no effect: answers are streamed"),
    ("proxy-buffers-number", "has no effect: answers are streamed"),
    ("proxy-busy-buffers-size", "has no effect: answers are streamed"),
    ("proxy-max-temp-file-size", "has no effect: answers are streamed"),
    ("proxy-request-buffering", "has no effect: bodies are streamed, and the first 64 KiB can be sent again"),
    ("x-forwarded-prefix", "is always sent, not only where a path is rewritten"),
];

/// How an annotation differs from that of ingress-nginx; `None` if it does not. With its whole key.
#[must_use]
pub fn differs(key: &str) -> Option<&'static str> {
    let name = key.strip_prefix(super::NGINX_PREFIX)?;
    DIFFERENT.iter().find(|(different, _)| *different == name).map(|(_, how)| *how)
}

/// Words of nginx's language by which a snippet keeps somebody out, or decides who is answered what.
const GUARDING: [&str; 10] =
    ["deny", "allow", "auth", "return", "limit", "satisfy", "secure_link", "internal", "lua", "ssl_"];

/// Whether a snippet may keep somebody out.
pub(super) fn guards(snippet: &str) -> bool {
    GUARDING.iter().any(|word| snippet.contains(word))
}

/// What becomes of an annotation; `None` if nobody knows the name.
pub(super) fn known(name: &str) -> Option<Known> {
    if SNIPPETS.contains(&name) {
        return Some(Known::Used);
    }
    if USED.contains(&name) {
        return Some(Known::Used);
    }
    if GUARDS.contains(&name) {
        return Some(Known::Guard("put a firewall in front, and remove it"));
    }
    if let Some((_, instead)) = MISTAKEN.iter().find(|(mistaken, _)| *mistaken == name) {
        return Some(Known::Unsupported(instead));
    }
    UNSUPPORTED.iter().find(|(known, _)| *known == name).map(|(_, instead)| Known::Unsupported(instead))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_read() {
        for (name, _) in DIFFERENT {
            assert_eq!(known(name), Some(Known::Used), "{name}");
        }
    }

    #[test]
    fn a_name_stands_in_one_list() {
        let lists = {
            let named = UNSUPPORTED.iter().chain(MISTAKEN).map(|(name, _)| name);
            USED.iter().chain(GUARDS).chain(&SNIPPETS).chain(named)
        };
        let mut all: Vec<_> = lists.collect();
        let count = all.len();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), count);
    }
}
