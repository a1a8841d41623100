//! Whose pages clients see instead of errors: `custom-http-errors`, `default-backend`.

use super::read::Reader;
use super::{names_object, value};

/// Who answers where endpoints fail.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ErrorPages {
    /// The statuses of endpoints, and ours where they fail, that are answered by another Service
    /// (`custom-http-errors`), each once.
    pub statuses: Vec<u16>,
    /// That Service, of the same namespace, by its first port; it also stands in for one without endpoints
    /// (`default-backend`).
    pub service: Option<String>,
}

pub(super) fn read(reader: &mut Reader<'_>) -> ErrorPages {
    let statuses = reader.value("custom-http-errors", statuses).unwrap_or_default();
    let service = reader.value("default-backend", service);
    let is_off = reader.flag("disable-proxy-intercept-errors");
    ErrorPages { statuses: if is_off { Vec::new() } else { statuses }, service }
}

/// A list of statuses from 400 to 599.
pub(super) fn statuses(text: &str) -> Result<Vec<u16>, String> {
    let wrong = |one: &str| format!("{one:?} is not a status from 400 to 599; write them like \"404,503\"");
    let status = |one: &str| {
        let status = value::number(one).and_then(|number| u16::try_from(number).ok());
        status.filter(|status| (400..=599).contains(status)).ok_or_else(|| wrong(one))
    };
    let mut all: Vec<u16> = value::list(text).filter(|one| !one.is_empty()).map(status).collect::<Result<_, _>>()?;
    all.sort_unstable();
    all.dedup();
    if all.is_empty() { Err(wrong(text)) } else { Ok(all) }
}

/// The name of a Service of this namespace.
fn service(text: &str) -> Result<String, String> {
    match names_object(text) {
        Ok((None, name)) => Ok(name),
        Ok((Some(_), _)) => Err(format!("{text:?} names a namespace; the Service is that of the Ingress's own")),
        Err(why) => Err(why),
    }
}
