//! The annotations of an Ingress, as types.
//!
//! ```text
//! nginx.ingress.kubernetes.io/NAME ─┐
//!                                   ├─> Reader: one value per NAME ─> a family each ─> Annotations + problems
//! ferrogate.io/NAME ────────────────┘
//! ```
//!
//! Names and meanings are those of ingress-nginx. Where both prefixes carry a name, `ferrogate.io/` counts. A value
//! that is wrong is reported at its key and has no effect, except where it controls access: then
//! [`Annotations::denied`] is set, and the paths of this Ingress, and of no other, are answered with 503.
//!
//! Pure.

mod answer;
mod auth;
mod balance;
mod canary;
mod client;
mod cors;
mod errors;
mod external;
mod limit;
mod mirror;
mod names;
mod own;
mod protocol;
mod read;
mod redirect;
mod retry;
mod rewrite;
mod secrets;
mod snippet;
mod source;
mod text;
mod upstream;
pub(crate) mod value;

use std::collections::BTreeMap;

use crate::diagnostic::Severity;

pub use answer::AnswerRewrites;
pub use auth::{BasicAuth, PasswordFormat};
pub use balance::{Affinity, Balance, HashBy, KeyPart, Method, SameSite};
pub use canary::{Canary, HeaderRule};
pub use client::{ClientAuth, VerifyClient};
pub use cors::{Cors, Origins};
pub use errors::ErrorPages;
pub use external::{AuthCache, ExternalAuth};
pub use limit::Limits;
pub use mirror::Mirror;
pub use names::differs;
pub use protocol::{Protocol, SecretName, UpstreamTls};
pub use redirect::{Redirect, RedirectTo, SslRedirect};
pub use retry::{Retry, RetryOn};
pub use rewrite::{Rewrite, Template};
pub use secrets::{NamedSecret, secrets};
pub(crate) use snippet::field_of;
pub use snippet::{Action, Condition, Level, Step, Test};
pub use source::Sources;
pub(crate) use source::{network, networks};
pub use text::{Text, Variable};
pub use upstream::{Upstream, UpstreamTimeouts};

use auth::object as names_object;
use read::Reader;

/// What annotations of ingress-nginx begin with.
pub const NGINX_PREFIX: &str = "nginx.ingress.kubernetes.io/";

/// What the annotations of one Ingress ask for; the default is that of an Ingress without any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is an annotation of its own")]
pub struct Annotations {
    /// The largest request body in bytes, 0 for any (`proxy-body-size`).
    pub body_size: Option<u64>,
    /// Redirects from HTTP to HTTPS.
    pub ssl: SslRedirect,
    /// A redirect of every request (`temporal-redirect`, else `permanent-redirect`).
    pub redirect: Option<Redirect>,
    /// Where requests for `/` are sent (`app-root`), an absolute path.
    pub app_root: Option<String>,
    /// Other names of the hosts (`server-alias`), lower case.
    pub aliases: Vec<String>,
    /// Who may come (`allowlist-source-range`, `denylist-source-range`).
    pub sources: Sources,
    /// What browsers are told about other origins (`enable-cors`).
    pub cors: Option<Cors>,
    /// How long endpoints may take.
    pub timeouts: UpstreamTimeouts,
    /// How endpoints are chosen and spoken to.
    pub upstream: Upstream,
    /// The `Host` that endpoints are told (`upstream-vhost`).
    pub upstream_vhost: Option<String>,
    /// `X-Forwarded-Prefix` for endpoints.
    pub forwarded_prefix: Option<Template>,
    /// How paths are matched and rewritten.
    pub rewrite: Rewrite,
    /// Whether the hosts with `www.` in front are redirected to those without, and the other way round
    /// (`from-to-www-redirect`).
    pub www: bool,
    /// Names and passwords (`auth-type: basic`).
    pub basic: Option<BasicAuth>,
    /// Clients of these hosts are asked for certificates (`auth-tls-secret`).
    pub client: Option<ClientAuth>,
    /// Whether TLS of these hosts is for their endpoints to end (`ssl-passthrough`).
    pub passthrough: bool,
    /// A service that says who may come (`auth-url`).
    pub external: Option<ExternalAuth>,
    /// Who answers where endpoints fail.
    pub errors: ErrorPages,
    /// Who gets a copy of each request.
    pub mirror: Option<Mirror>,
    /// What is rewritten in answers of endpoints.
    pub answers: AnswerRewrites,
    /// What our own annotations, `server-snippet`, then `configuration-snippet` ask for.
    pub steps: Vec<Step>,
    /// Whether one of several guards is enough (`satisfy: any`).
    pub any_guard: bool,
    /// How much one client may ask for.
    pub limits: Limits,
    /// Which requests of a route of another Ingress go here (`canary`).
    pub canary: Option<Canary>,
    /// Whether requests are not to be logged (`enable-access-log: "false"`).
    pub unlogged: bool,
    /// Whether something that guards these paths could not be understood or is not supported, so that nobody may pass.
    pub denied: bool,
}

/// What is wrong with one annotation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnnotationProblem {
    /// The whole key, prefix included.
    pub key: String,
    /// `Error` if something asked for is not done.
    pub severity: Severity,
    /// A clause that says what was found and what to do.
    pub message: String,
}

impl Annotations {
    /// Reads the annotations of an Ingress; those under other prefixes are nobody's business here.
    #[must_use]
    pub fn read(written: &BTreeMap<String, String>) -> (Self, Vec<AnnotationProblem>) {
        Self::read_with(written, &BTreeMap::new())
    }

    /// As [`Self::read`]; what is not written, or wrong, is as `defaults` has it, by name without prefix.
    ///
    /// A default that is wrong itself is none, or keeps everybody out if it guards access; it is not reported here.
    #[must_use]
    pub fn read_with(
        written: &BTreeMap<String, String>,
        defaults: &BTreeMap<String, String>,
    ) -> (Self, Vec<AnnotationProblem>) {
        let mut reader = Reader::new(written, defaults);
        let mut read = Self {
            body_size: reader.value("proxy-body-size", value::size),
            ssl: redirect::ssl(&mut reader),
            redirect: redirect::redirect(&mut reader),
            app_root: reader.value("app-root", redirect::app_root),
            aliases: reader.value("server-alias", upstream::aliases).unwrap_or_default(),
            sources: source::read(&mut reader),
            cors: cors::read(&mut reader),
            timeouts: upstream::timeouts(&mut reader),
            upstream: upstream::read(&mut reader),
            upstream_vhost: reader.value("upstream-vhost", upstream::vhost),
            forwarded_prefix: reader.value("x-forwarded-prefix", rewrite::prefix),
            rewrite: rewrite::read(&mut reader),
            www: reader.flag("from-to-www-redirect"),
            basic: auth::basic(&mut reader),
            client: client::read(&mut reader),
            passthrough: reader.flag("ssl-passthrough"),
            external: external::read(&mut reader),
            errors: errors::read(&mut reader),
            mirror: mirror::read(&mut reader),
            answers: answer::read(&mut reader),
            steps: steps(&mut reader),
            any_guard: auth::any_is_enough(&mut reader),
            limits: limit::read(&mut reader),
            canary: canary::read(&mut reader),
            unlogged: reader.value("enable-access-log", value::boolean) == Some(false),
            denied: false,
        };
        reader.value("proxy-http-version", |text| match text {
            "1.1" => Ok(()),
            _ => Err(format!("endpoints are asked with HTTP/1.1; {text:?} has no effect, remove it")),
        });
        let (problems, denied) = reader.finish();
        read.denied = denied;
        (read, problems)
    }
}

/// Our own annotations, then both snippets, in the order of nginx.
fn steps(reader: &mut Reader<'_>) -> Vec<Step> {
    let mut steps = own::steps(reader);
    steps.extend(reader.snippet("server-snippet", snippet::Level::Server).steps);
    steps.extend(reader.snippet("configuration-snippet", snippet::Level::Location).steps);
    steps
}

#[cfg(test)]
mod tests;
