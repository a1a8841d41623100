//! Cross-origin requests: `enable-cors` and `cors-*` (Fetch standard §3.2).

use super::read::Reader;
use super::value;

/// What browsers are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cors {
    /// Who may ask.
    pub origins: Origins,
    /// Whether with cookies; never together with [`Origins::Any`].
    pub credentials: bool,
    /// `Access-Control-Allow-Methods`.
    pub methods: String,
    /// `Access-Control-Allow-Headers`.
    pub headers: String,
    /// `Access-Control-Expose-Headers`.
    pub expose: Option<String>,
    /// `Access-Control-Max-Age` in seconds.
    pub max_age: u64,
}

/// Origins that may ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origins {
    /// All, without cookies.
    Any,
    /// `scheme://host[:port]` in lower case; the host may begin with `*.`, which stands for one label.
    Listed(Vec<String>),
}

impl Origins {
    /// Whether a page of `origin` may ask. Whole origins are compared, upper and lower case alike.
    #[must_use]
    pub fn admit(&self, origin: &str) -> bool {
        let Self::Listed(origins) = self else { return true };
        let origin = origin.to_ascii_lowercase();
        origins.iter().any(|pattern| matches(pattern, &origin))
    }
}

fn matches(pattern: &str, origin: &str) -> bool {
    let Some((scheme, suffix)) = pattern.split_once("://*.") else { return pattern == origin };
    let Some((found, host)) = origin.split_once("://") else { return false };
    let is_label =
        |label: &str| !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    found == scheme && host.split_once('.').is_some_and(|(label, rest)| is_label(label) && rest == suffix)
}

pub(super) fn read(reader: &mut Reader<'_>) -> Option<Cors> {
    const METHODS: &str = "GET, PUT, POST, DELETE, PATCH, OPTIONS";
    const HEADERS: &str = "DNT,Keep-Alive,User-Agent,X-Requested-With,If-Modified-Since,Cache-Control,Content-Type,\
                           Range,Authorization";
    let origins = reader.value("cors-allow-origin", origins);
    // A list that cannot be read must not become "everybody".
    let unreadable = origins.is_none() && reader.has("cors-allow-origin");
    let cors = Cors {
        origins: origins.unwrap_or(Origins::Any),
        credentials: reader.value("cors-allow-credentials", value::boolean).unwrap_or(true),
        methods: reader.value("cors-allow-methods", tokens).unwrap_or_else(|| METHODS.to_owned()),
        headers: reader.value("cors-allow-headers", tokens).unwrap_or_else(|| HEADERS.to_owned()),
        expose: reader.value("cors-expose-headers", tokens),
        max_age: reader.value("cors-max-age", age).unwrap_or(1_728_000),
    };
    let enabled = reader.flag("enable-cors") && !unreadable;
    let credentials = cors.credentials && cors.origins != Origins::Any;
    enabled.then_some(Cors { credentials, ..cors })
}

fn age(text: &str) -> Result<u64, String> {
    value::number(text).ok_or_else(|| format!("{text:?} is not a number of seconds"))
}

fn tokens(text: &str) -> Result<String, String> {
    let is_token = |word: &str| word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_*".contains(&byte));
    match value::list(text).find(|word| !is_token(word)) {
        Some(word) => Err(format!("{word:?} is not a name; write a list such as \"GET, POST\"")),
        None => Ok(text.to_owned()),
    }
}

fn origins(text: &str) -> Result<Origins, String> {
    if value::list(text).any(|origin| origin == "*") {
        return Ok(Origins::Any);
    }
    value::list(text).filter(|origin| !origin.is_empty()).map(origin).collect::<Result<_, _>>().map(Origins::Listed)
}

fn origin(text: &str) -> Result<String, String> {
    let wrong = || format!("{text:?} is not an origin; write it like \"https://app.example\"");
    let (scheme, host) = text.split_once("://").ok_or_else(wrong)?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-.:[]_".contains(&byte);
    let name = host.strip_prefix("*.").unwrap_or(host);
    let is_scheme =
        !scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    if !is_scheme || name.is_empty() || !name.bytes().all(is_plain) {
        return Err(wrong());
    }
    Ok(text.to_ascii_lowercase())
}
