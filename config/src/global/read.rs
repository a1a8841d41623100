//! One value per key, and what is wrong with it.

use std::collections::BTreeMap;

use super::KeyProblem;
use super::keys::{self, Known};
use crate::annotation::{Annotations, NGINX_PREFIX};
use crate::diagnostic::Severity;
use crate::suggest;

/// The keys of one `ConfigMap`.
pub(super) struct Reader<'a> {
    written: &'a BTreeMap<String, String>,
    last: &'a BTreeMap<String, String>,
    good: BTreeMap<String, String>,
    problems: Vec<KeyProblem>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(written: &'a BTreeMap<String, String>, last: &'a BTreeMap<String, String>) -> Self {
        let mut reader = Self { written, last, good: BTreeMap::new(), problems: Vec::new() };
        for key in written.keys() {
            match keys::known(key) {
                Some(Known::Used | Known::Annotation(_)) => {}
                Some(Known::Idle(why)) => reader.warn(key, format!("{key} has no effect: {why}")),
                Some(Known::Refused(instead)) => {
                    reader.error(key, format!("{key} is not supported and has no effect; {instead}"));
                }
                None => {
                    let hint = suggest::hint(key, keys::names(), "remove it if it is a leftover");
                    reader.warn(key, format!("key {key} is unknown and has no effect; {hint}"));
                }
            }
        }
        reader
    }

    /// The value of `key` if it is there; one that is wrong is reported, and the last good one counts.
    ///
    /// Empty text is no value, as in ingress-nginx.
    pub(super) fn value<T>(&mut self, key: &str, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let text = self.text(key)?;
        match parse(text) {
            Ok(value) => {
                self.good.insert(key.to_owned(), text.to_owned());
                Some(value)
            }
            Err(why) => self.fall_back(key, &why, parse),
        }
    }

    /// A boolean.
    pub(super) fn flag(&mut self, key: &str) -> Option<bool> {
        self.value(key, super::unit::boolean)
    }

    /// The elements of a comma list that are right; each that is not is reported and left out.
    pub(super) fn elements<T>(&mut self, key: &str, parse: impl Fn(&str) -> Result<T, String>) -> Vec<T> {
        let Some(text) = self.text(key) else { return Vec::new() };
        let mut all = Vec::new();
        for element in super::unit::list(text) {
            match parse(element) {
                Ok(element) => all.push(element),
                Err(why) => self.error(key, format!("{why}; this element is left out")),
            }
        }
        all
    }

    /// Values for annotations that an Ingress does not have.
    ///
    /// One that guards access, is wrong and never was right stays as it is: nobody passes then.
    pub(super) fn annotations(&mut self) -> BTreeMap<String, String> {
        let mut all = BTreeMap::new();
        for (key, name) in keys::annotations() {
            let read = self.value(key, |text| self::annotation(self.written, name, text).map(|()| text.to_owned()));
            let guarded = || self.text(key).filter(|_| keys::is_guard(name)).map(str::to_owned);
            if let Some(text) = read.or_else(guarded) {
                all.insert(name.to_owned(), text);
            }
        }
        all
    }

    /// Reports something about `key` that is done otherwise than meant.
    pub(super) fn warn(&mut self, key: &str, message: String) {
        self.problems.push(KeyProblem { key: key.to_owned(), severity: Severity::Warning, message });
    }

    /// Reports something about `key` that is not done.
    pub(super) fn error(&mut self, key: &str, message: String) {
        self.problems.push(KeyProblem { key: key.to_owned(), severity: Severity::Error, message });
    }

    /// The last good text of every key, and what is wrong.
    pub(super) fn finish(self) -> (BTreeMap<String, String>, Vec<KeyProblem>) {
        (self.good, self.problems)
    }

    fn text(&self, key: &str) -> Option<&'a str> {
        self.written.get(key).map(|text| text.trim()).filter(|text| !text.is_empty())
    }

    fn fall_back<T>(&mut self, key: &str, why: &str, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let last = self.last.get(key).and_then(|text| Some((text.clone(), parse(text).ok()?)));
        let Some((text, value)) = last else {
            self.error(key, format!("{why}; the default is used"));
            return None;
        };
        self.error(key, format!("{why}; the last good value {text:?} stays in use"));
        self.good.insert(key.to_owned(), text);
        Some(value)
    }
}

/// Whether an annotation may say `text`, as the reader of annotations has it.
fn annotation(written: &BTreeMap<String, String>, name: &str, text: &str) -> Result<(), String> {
    // Some mean nothing without another one.
    let company = match name {
        "auth-url" => None,
        name if name.starts_with("auth-") => Some(("auth-url", "global-auth-url")),
        "proxy-redirect-from" => Some(("proxy-redirect-to", "proxy-redirect-to")),
        _ => None,
    };
    let company = company.and_then(|(name, key)| Some((format!("{NGINX_PREFIX}{name}"), written.get(key)?.clone())));
    let key = format!("{NGINX_PREFIX}{name}");
    let asked = company.into_iter().chain([(key.clone(), text.to_owned())]).collect();
    let (_, problems) = Annotations::read(&asked);
    problems.into_iter().find(|problem| problem.key == key).map_or(Ok(()), |problem| {
        // What it says of single paths is not what happens here.
        let why = problem.message.split("; these paths are").next().unwrap_or_default();
        Err(why.to_owned())
    })
}
