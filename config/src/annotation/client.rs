//! Who may come by a certificate of his own: the `auth-tls` family.

use super::protocol::{self, SecretName};
use super::read::Reader;
use super::value;
use crate::pattern::Pattern;

/// Clients of the hosts of an Ingress are asked for certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientAuth {
    /// The Secret whose `ca.crt` says whom to trust, and whose `ca.crl`, if it is there, whom no more
    /// (`auth-tls-secret`).
    pub secret: SecretName,
    /// Who passes (`auth-tls-verify-client`).
    pub verify: VerifyClient,
    /// How many certificates may stand between that of a client and one of `ca.crt` (`auth-tls-verify-depth`).
    pub depth: usize,
    /// Where clients are sent whose certificate is missing or wrong (`auth-tls-error-page`).
    pub error_page: Option<String>,
    /// What the client's name must hold (`auth-tls-match-cn`).
    pub name: Option<Pattern>,
    /// Whether endpoints are told the certificate (`auth-tls-pass-certificate-to-upstream`).
    pub passes_certificate: bool,
}

/// Who passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VerifyClient {
    /// Who has a good certificate.
    On,
    /// Also who has none.
    Optional,
    /// Also who has one of an issuer that nobody knows; endpoints judge.
    OptionalNoCa,
}

pub(super) fn read(reader: &mut Reader<'_>) -> Option<ClientAuth> {
    let secret = reader.guard("auth-tls-secret", protocol::secret);
    let verify = reader.guard("auth-tls-verify-client", verify);
    let depth = reader.guard("auth-tls-verify-depth", depth).unwrap_or(1);
    let error_page = reader.value("auth-tls-error-page", page);
    let name = reader.guard("auth-tls-match-cn", |text| Pattern::search(text).map_err(|error| error.to_string()));
    let passes_certificate = reader.flag("auth-tls-pass-certificate-to-upstream");
    let verify = verify.unwrap_or(Some(VerifyClient::On))?;
    if !reader.has("auth-tls-secret") {
        for name in ["auth-tls-verify-client", "auth-tls-match-cn"] {
            reader.deny(name, "auth-tls-secret is missing; name the Secret whose ca.crt says whom to trust");
        }
    }
    Some(ClientAuth { secret: secret?, verify, depth, error_page, name, passes_certificate })
}

/// `off` is `None`.
fn verify(text: &str) -> Result<Option<VerifyClient>, String> {
    match text {
        "on" => Ok(Some(VerifyClient::On)),
        "off" => Ok(None),
        "optional" => Ok(Some(VerifyClient::Optional)),
        "optional_no_ca" => Ok(Some(VerifyClient::OptionalNoCa)),
        _ => Err(format!("{text:?} is none of \"on\", \"off\", \"optional\" and \"optional_no_ca\"")),
    }
}

fn depth(text: &str) -> Result<usize, String> {
    let depth = value::number(text).and_then(|number| usize::try_from(number).ok());
    depth.filter(|depth| *depth <= 10).ok_or_else(|| format!("{text:?} is not a number of certificates up to 10"))
}

/// A URL, or a path of this host.
fn page(text: &str) -> Result<String, String> {
    let is_url = ["http://", "https://"].iter().any(|scheme| text.len() > scheme.len() && text.starts_with(scheme));
    let is_path = text.starts_with('/') && !text.starts_with("//");
    let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"\\<>^`{|}$".contains(&byte));
    if (is_url || is_path) && is_plain {
        return Ok(text.to_owned());
    }
    Err(format!("{text:?} is not an http or https URL; write it like \"https://www.example/no-certificate\""))
}
