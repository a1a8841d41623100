//! Header fields for every request or answer: the `ConfigMap`s that `proxy-set-headers` and `add-headers` name.

use std::collections::BTreeMap;

use super::KeyProblem;
use crate::annotation::{Action, Level, Step, field_of};
use crate::diagnostic::Severity;

/// The steps that set these fields: of requests `for_endpoints`, else of answers. One that is wrong is left out.
#[must_use]
pub fn fields(data: &BTreeMap<String, String>, for_endpoints: bool) -> (Vec<Step>, Vec<KeyProblem>) {
    let (mut steps, mut problems) = (Vec::new(), Vec::new());
    for (name, text) in data {
        match field_of(&format!("{name}: {text}")) {
            Ok((name, text)) if for_endpoints => steps.push(Action::Request(name, text)),
            Ok((name, text)) => steps.push(Action::Answer { name, text, adds: false, always: true }),
            Err(why) => {
                let message = format!("{why}; this field is left out");
                problems.push(KeyProblem { key: name.clone(), severity: Severity::Error, message });
            }
        }
    }
    let step = |action| Step { when: Vec::new(), action, level: Level::Location };
    (steps.into_iter().map(step).collect(), problems)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_have_names_and_texts_with_variables() {
        let data = [("X-Host", "$host"), ("Connection", "close"), ("a b", "x"), ("X-Odd", "$nonsense")];
        let data = data.map(|(name, text)| (name.to_owned(), text.to_owned())).into();
        let (steps, problems) = fields(&data, true);
        assert!(matches!(&steps[..], [Step { action: Action::Request(name, _), .. }] if name == "X-Host"), "{steps:?}");
        let keys: Vec<_> = problems.iter().map(|problem| &*problem.key).collect();
        assert_eq!(keys, ["Connection", "X-Odd", "a b"]);
        let (steps, _) = fields(&data, false);
        assert!(matches!(&steps[0].action, Action::Answer { adds: false, always: true, .. }), "{steps:?}");
    }
}
