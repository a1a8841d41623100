//! What is taken from and added to answers: the `hsts` family, `hide-headers`, `server-tokens`.

use super::read::Reader;
use super::unit;
use crate::annotation::value;

/// What is taken from and added to answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AnswerRules {
    /// `Strict-Transport-Security` for hosts with TLS.
    pub hsts: Hsts,
    /// Fields of endpoints that clients do not see, lower case (`hide-headers`).
    pub hidden: Vec<String>,
    /// Whether the `Server` of endpoints passes (`allow-backend-server-header`).
    pub server: bool,
    /// Whether we say `Server: ferrogate` (`server-tokens`).
    pub tokens: bool,
}

/// `Strict-Transport-Security` (RFC 6797 §6.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hsts {
    /// Whether it is sent (`hsts`); `None` leaves it to the class, which is `nginx` where it is.
    pub sent: Option<bool>,
    /// Its value.
    pub value: String,
}

impl Default for Hsts {
    fn default() -> Self {
        Self { sent: None, value: "max-age=31536000; includeSubDomains".to_owned() }
    }
}

pub(super) fn read(reader: &mut Reader<'_>) -> AnswerRules {
    let age = reader.value("hsts-max-age", |text| match value::number(text) {
        Some(seconds) => Ok(seconds),
        None => unit::time(text).map(|age| age.as_secs()),
    });
    let subdomains = reader.flag("hsts-include-subdomains").unwrap_or(true);
    let preload = reader.flag("hsts-preload").unwrap_or_default();
    let mut value = format!("max-age={}", age.unwrap_or(31_536_000));
    value.push_str(if subdomains { "; includeSubDomains" } else { "" });
    value.push_str(if preload { "; preload" } else { "" });
    AnswerRules {
        hsts: Hsts { sent: reader.flag("hsts"), value },
        hidden: reader.elements("hide-headers", unit::field),
        server: reader.flag("allow-backend-server-header").unwrap_or_default(),
        tokens: reader.flag("server-tokens").unwrap_or_default(),
    }
}
