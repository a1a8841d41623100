//! One value per name, and what is wrong with it.

use std::collections::BTreeMap;

use super::names::{self, Known};
use super::{AnnotationProblem, NGINX_PREFIX, snippet, value};
use crate::diagnostic::Severity;
use crate::settings::ANNOTATION_PREFIX;
use crate::suggest;

/// The annotations of one object by name, whatever their prefix.
pub(super) struct Reader<'a> {
    /// Name to whole key and value.
    values: BTreeMap<&'a str, (&'a str, &'a str)>,
    /// What counts where nothing is written, by name.
    defaults: BTreeMap<&'a str, &'a str>,
    problems: Vec<AnnotationProblem>,
    denied: bool,
}

impl<'a> Reader<'a> {
    pub(super) fn new(written: &'a BTreeMap<String, String>, defaults: &'a BTreeMap<String, String>) -> Self {
        let defaults = defaults.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
        let mut reader = Self { values: BTreeMap::new(), defaults, problems: Vec::new(), denied: false };
        for prefix in [NGINX_PREFIX, ANNOTATION_PREFIX] {
            for (key, value) in written {
                if let Some(name) = key.strip_prefix(prefix) {
                    reader.add(name, key, value);
                }
            }
        }
        reader.leave_out_defaults();
        reader
    }

    /// A service of its own, or none, leaves nothing of that which is asked for everybody (`global-auth-url`).
    fn leave_out_defaults(&mut self) {
        let opts_out =
            self.values.get("enable-global-auth").is_some_and(|(_, text)| value::boolean(text.trim()) == Ok(false));
        if opts_out || self.values.contains_key("auth-url") {
            self.defaults.retain(|name, _| !name.starts_with("auth-"));
        }
    }

    fn add(&mut self, name: &'a str, key: &'a str, value: &'a str) {
        match names::known(name) {
            Some(Known::Used) => {}
            Some(Known::Guard(instead)) => return self.unsupported_guard(key, instead),
            Some(Known::Unsupported(instead)) => {
                return self.error(key, format!("{name} is not supported and has no effect; {instead}"));
            }
            None => {
                let hint = suggest::hint(name, names::USED.iter().copied(), "remove it if it is a leftover");
                return self.warn(key, format!("annotation {name} is unknown and has no effect; {hint}"));
            }
        }
        let before = self.values.insert(name, (key, value));
        if let Some((other, differs)) = before.filter(|(_, before)| *before != value) {
            self.warn(other, format!("{key} says {value:?} and counts, so {differs:?} has no effect; remove one"));
        }
    }

    /// The value of `name` if it is there and right; a wrong one is reported and has no effect.
    pub(super) fn value<T>(&mut self, name: &str, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let read = self
            .values
            .get(name)
            .copied()
            .and_then(|(key, value)| parse(value.trim()).map_err(|why| self.error(key, why)).ok());
        read.or_else(|| parse(self.defaults.get(name)?.trim()).ok())
    }

    /// As [`Self::value`] for what controls access: if it is wrong, nobody passes.
    pub(super) fn guard<T>(&mut self, name: &str, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let Some((key, value)) = self.values.get(name).copied() else {
            // What is wrong with a default is told where it is written.
            return parse(self.defaults.get(name)?.trim()).map_err(|_| self.denied = true).ok();
        };
        let deny = |why| {
            self.denied = true;
            self.error(key, format!("{why}; these paths are answered with 503 until it is right"));
        };
        parse(value.trim()).map_err(deny).ok()
    }

    /// The translation of a snippet. One that cannot be translated has no effect at all; if it may keep somebody out,
    /// nobody passes.
    pub(super) fn snippet(&mut self, name: &str, level: snippet::Level) -> snippet::Snippet {
        let text = self.values.get(name).map_or("", |(_, text)| *text);
        let parse = |text: &str| snippet::read(text, level);
        let read = if names::guards(text) { self.guard(name, parse) } else { self.value(name, parse) };
        read.unwrap_or_default()
    }

    /// A boolean that is false unless said otherwise.
    pub(super) fn flag(&mut self, name: &str) -> bool {
        self.value(name, value::boolean).unwrap_or_default()
    }

    /// Whether `name` is there.
    pub(super) fn has(&self, name: &str) -> bool {
        self.values.contains_key(name) || self.defaults.contains_key(name)
    }

    /// Lets nobody pass, since something is missing beside `name`.
    pub(super) fn deny(&mut self, name: &str, why: &str) {
        let Some((key, _)) = self.values.get(name).copied() else { return };
        self.denied = true;
        self.error(key, format!("{why}; these paths are answered with 503 until it is right"));
    }

    /// Reports `name` if it is there.
    pub(super) fn complain(&mut self, name: &str, why: &str) {
        if let Some((key, _)) = self.values.get(name).copied() {
            self.error(key, why.to_owned());
        }
    }

    pub(super) fn finish(self) -> (Vec<AnnotationProblem>, bool) {
        (self.problems, self.denied)
    }

    fn unsupported_guard(&mut self, key: &str, instead: &str) {
        self.denied = true;
        let message = format!(
            "this guards access and is not supported, so these paths are answered with 503 and not served unguarded; \
             {instead}"
        );
        self.error(key, message);
    }

    fn error(&mut self, key: &str, message: String) {
        self.problems.push(AnnotationProblem { key: key.to_owned(), severity: Severity::Error, message });
    }

    fn warn(&mut self, key: &str, message: String) {
        self.problems.push(AnnotationProblem { key: key.to_owned(), severity: Severity::Warning, message });
    }
}
