//! Who may come by name and password (`auth-type: basic`), and how that goes together with addresses (`satisfy`).

use super::read::Reader;
use super::value;

/// Names and passwords are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BasicAuth {
    /// The namespace of the Secret that has them, if it is named; only that of the Ingress is allowed.
    pub namespace: Option<String>,
    /// The Secret.
    pub secret: String,
    /// How the Secret has them.
    pub format: PasswordFormat,
    /// What the client is told they are for.
    pub realm: String,
}

/// How a Secret holds names and passwords (`auth-secret-type`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PasswordFormat {
    /// The key `auth` holds a file as `htpasswd` writes it.
    #[default]
    File,
    /// Each key is a name, its value the hash of the password.
    Map,
}

pub(super) fn basic(reader: &mut Reader<'_>) -> Option<BasicAuth> {
    let realm = reader.guard("auth-realm", value::field_text).unwrap_or_default();
    let format = reader.guard("auth-secret-type", format).unwrap_or_default();
    let secret = reader.guard("auth-secret", object);
    let kind = reader.guard("auth-type", |text| match text {
        "basic" => Ok(()),
        _ => Err(format!("{text:?} is not supported; write \"basic\"")),
    });
    if kind.is_some() && !reader.has("auth-secret") {
        reader.deny("auth-type", "auth-secret is missing; name the Secret that has the passwords");
    }
    // ingress-nginx would let everybody in, which nobody means who names a Secret of passwords.
    if !reader.has("auth-type") && reader.has("auth-secret") {
        reader.deny("auth-secret", "auth-type is missing; write auth-type: basic");
    }
    let (namespace, secret) = secret?;
    kind.map(|()| BasicAuth { namespace, secret, format, realm })
}

fn format(text: &str) -> Result<PasswordFormat, String> {
    match text {
        "auth-file" => Ok(PasswordFormat::File),
        "auth-map" => Ok(PasswordFormat::Map),
        _ => Err(format!("{text:?} is neither \"auth-file\" nor \"auth-map\"")),
    }
}

/// A name, or `namespace/name`.
pub(super) fn object(text: &str) -> Result<(Option<String>, String), String> {
    let is_name = |text: &str| {
        let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
        !text.is_empty() && text.bytes().all(is_plain)
    };
    let (namespace, name) = text.split_once('/').map_or((None, text), |(namespace, name)| (Some(namespace), name));
    if !is_name(name) || !namespace.is_none_or(is_name) {
        return Err(format!("{text:?} is not the name of an object; write it like \"users\""));
    }
    Ok((namespace.map(str::to_owned), name.to_owned()))
}

/// Whether one of several guards is enough (`satisfy: any`).
pub(super) fn any_is_enough(reader: &mut Reader<'_>) -> bool {
    let any = |text: &str| match text {
        "all" => Ok(false),
        "any" => Ok(true),
        _ => Err(format!("{text:?} is neither \"all\" nor \"any\"")),
    };
    reader.guard("satisfy", any).unwrap_or_default()
}
