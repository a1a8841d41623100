//! Redirects: `permanent-redirect`, `temporal-redirect`, `app-root`, `ssl-redirect`, `force-ssl-redirect`.

use super::read::Reader;
use super::value;

/// A redirect of every request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// 300 to 308.
    pub status: u16,
    /// Where to.
    pub to: RedirectTo,
}

/// The target of a redirect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedirectTo {
    /// This URL, as it is.
    Url(String),
    /// This text, then the path and query of the request, then this text (`https://new.example$request_uri`).
    WithRequest(String, String),
}

/// Whether HTTP requests are sent to HTTPS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SslRedirect {
    /// For hosts with TLS; `None` leaves it to the class.
    pub redirect: Option<bool>,
    /// For every host, since TLS may end before us.
    pub force: bool,
    /// Whether a trailing slash stays where ingress-nginx strips it.
    pub preserve_trailing_slash: bool,
}

pub(super) fn ssl(reader: &mut Reader<'_>) -> SslRedirect {
    SslRedirect {
        redirect: reader.value("ssl-redirect", value::boolean),
        force: reader.flag("force-ssl-redirect"),
        preserve_trailing_slash: reader.flag("preserve-trailing-slash"),
    }
}

pub(super) fn redirect(reader: &mut Reader<'_>) -> Option<Redirect> {
    let temporal = one(reader, "temporal-redirect", "temporal-redirect-code", 302, 307);
    let permanent = one(reader, "permanent-redirect", "permanent-redirect-code", 301, 308);
    temporal.or(permanent)
}

fn one(reader: &mut Reader<'_>, name: &str, code: &str, default: u16, last: u16) -> Option<Redirect> {
    let status = reader.value(code, |text| {
        let status = value::number(text).and_then(|number| u16::try_from(number).ok());
        let wrong = || format!("{text:?} is not a status from 300 to {last}; {default} is used");
        status.filter(|status| (300..=last).contains(status)).ok_or_else(wrong)
    });
    let to = reader.value(name, url)?;
    Some(Redirect { status: status.unwrap_or(default), to })
}

/// An absolute URL; of nginx's variables only `$request_uri`, which much of the world used.
fn url(text: &str) -> Result<RedirectTo, String> {
    let form = "write it like \"https://new.example/\"";
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    if rest.is_none_or(|rest| rest.is_empty() || rest.starts_with(['/', '?', '$'])) {
        return Err(format!("{text:?} is not an http or https URL; {form}"));
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"\\<>^`{|}".contains(&byte)) {
        return Err(format!("{text:?} holds characters that no URL has; percent-encode them"));
    }
    let (before, after) = text.split_once("$request_uri").map_or((text, None), |(one, two)| (one, Some(two)));
    if before.contains('$') || after.is_some_and(|after| after.contains('$')) {
        return Err(format!("{text:?} holds a variable; only one $request_uri is understood"));
    }
    Ok(match after {
        Some(after) => RedirectTo::WithRequest(before.to_owned(), after.to_owned()),
        None => RedirectTo::Url(text.to_owned()),
    })
}

pub(super) fn app_root(text: &str) -> Result<String, String> {
    let is_path = text.starts_with('/') && !text.starts_with("//") && text.bytes().all(|byte| byte.is_ascii_graphic());
    if is_path && text != "/" && !text.contains('\\') {
        return Ok(text.to_owned());
    }
    Err(format!("{text:?} is not an absolute path other than /; write it like \"/app\""))
}
