//! Ways to publish the TXT records of DNS-01 challenges (RFC 8555 §8.4), in the words of cert-manager.

use crate::object::ObjectName;

/// One value in a Secret.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SecretKey {
    /// The Secret.
    pub secret: ObjectName,
    /// The key of its data.
    pub key: String,
}

/// How records are published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dns01 {
    /// Where they belong.
    pub cname: CnameStrategy,
    /// Who publishes them.
    pub provider: Provider,
}

/// Where a record belongs if `_acme-challenge.NAME` is an alias.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CnameStrategy {
    /// At that name all the same.
    #[default]
    None,
    /// At the name it is an alias for, so that another zone can be written than the one of the certificate.
    Follow,
}

/// Who publishes records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Provider {
    /// A name server, by dynamic update.
    Rfc2136(Rfc2136),
    /// Cloudflare's API.
    Cloudflare(Cloudflare),
    /// Route 53 of Amazon.
    Route53(Route53),
    /// A server that is asked over HTTP.
    Http(HttpHook),
    /// A program that is run.
    Exec(ExecHook),
}

/// A name server that takes dynamic updates (RFC 2136).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rfc2136 {
    /// Its host, an address without brackets or a name.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The key that updates are signed with (RFC 8945).
    pub key: Option<TsigKey>,
}

/// A key for signed updates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TsigKey {
    /// Its name, which the server knows it by.
    pub name: String,
    /// What is signed with.
    pub algorithm: TsigAlgorithm,
    /// The key, in base64 as name servers write it.
    pub secret: SecretKey,
}

/// A way to sign updates (RFC 8945 §6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TsigAlgorithm {
    /// HMAC with SHA-256.
    #[default]
    Sha256,
    /// HMAC with SHA-384.
    Sha384,
    /// HMAC with SHA-512.
    Sha512,
}

/// Access to Cloudflare.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cloudflare {
    /// Who we are there.
    pub login: CloudflareLogin,
    /// The API without a final slash, if it is not Cloudflare's own.
    pub endpoint: Option<String>,
}

/// Who we are at Cloudflare.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CloudflareLogin {
    /// A token that may edit DNS records.
    Token(SecretKey),
    /// An account with its global key.
    Key {
        /// The mail address of the account.
        email: String,
        /// Its key.
        key: SecretKey,
    },
}

/// Access to Route 53.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route53 {
    /// The region to sign requests for.
    pub region: String,
    /// The public part of the access key.
    pub access_key: AccessKey,
    /// The secret part.
    pub secret_key: SecretKey,
    /// The hosted zone; found by name if it is not given.
    pub zone: Option<String>,
    /// The API without a final slash, if it is not Amazon's own.
    pub endpoint: Option<String>,
}

/// The public part of an access key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessKey {
    /// As text.
    Text(String),
    /// In a Secret.
    Secret(SecretKey),
}

/// A server that publishes records when it is asked: `POST URL/present` and `POST URL/cleanup` with
/// `{"fqdn": "_acme-challenge.example.com.", "value": "..."}`, as lego's provider `httpreq` does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpHook {
    /// Without a final slash.
    pub url: String,
    /// What is sent as `Authorization: Bearer`.
    pub token: Option<SecretKey>,
    /// Whom to trust besides the public CAs, PEM.
    pub ca_bundle: Option<String>,
}

/// A program that publishes records: run with `present` or `cleanup`, the name with its final dot and the value as
/// arguments, as lego's provider `exec` does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecHook {
    /// The program, and arguments before those.
    pub command: Vec<String>,
}

impl Dns01 {
    /// Every value in a Secret that is needed.
    #[must_use]
    pub fn secrets(&self) -> Vec<&SecretKey> {
        match &self.provider {
            Provider::Rfc2136(server) => server.key.iter().map(|key| &key.secret).collect(),
            Provider::Cloudflare(Cloudflare {
                login: CloudflareLogin::Token(key) | CloudflareLogin::Key { key, .. },
                ..
            }) => vec![key],
            Provider::Route53(route53) => {
                let public = match &route53.access_key {
                    AccessKey::Text(_) => None,
                    AccessKey::Secret(key) => Some(key),
                };
                public.into_iter().chain([&route53.secret_key]).collect()
            }
            Provider::Http(hook) => hook.token.iter().collect(),
            Provider::Exec(_) => Vec::new(),
        }
    }
}
